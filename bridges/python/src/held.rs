//! What a Python object holds of the segment, and the views of it.
//!
//! Bytes have an address as long as their *holder* is there: a message's block, a sample's cursor, a map's
//! guard. A view (a memoryview, or an array over one) has a reference to the Python object, and is counted.
//! While there are views the holder is neither given away nor dropped, whatever is called; so no view ever
//! shows memory that is not its own.

use crate::error::{Released, Viewed, forked};
use crate::process::Process;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyMemoryView;
use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of the segment, and what keeps them.
pub struct Held<H> {
    /// The first byte's address, as a number: it is read through views alone.
    address: usize,
    bytes: usize,
    process: Process,
    state: Mutex<State<H>>,
}

struct State<H> {
    holder: Option<H>,
    views: usize,
    writable: bool,
    /// Nobody gets a view any more.
    released: bool,
}

impl<H> Held<H> {
    /// So many bytes from an address on, which are there as long as the holder is.
    ///
    /// # Safety
    /// They are in fact, wherever the holder is moved to; nobody writes them meanwhile, and if they are
    /// writable nobody reads them either, but through this value's views.
    pub unsafe fn new(address: usize, bytes: usize, holder: H, writable: bool) -> Self {
        let state = State { holder: Some(holder), views: 0, writable, released: false };
        Self { address, bytes, process: Process::this(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
    pub fn address(&self) -> usize {
        self.address
    }
    pub fn is_writable(&self) -> bool {
        self.state().writable
    }
    pub fn is_released(&self) -> bool {
        let state = self.state();
        state.released || state.holder.is_none()
    }
    pub fn make_writable(&self) -> PyResult<()> {
        if self.is_released() {
            return Err(released());
        }
        self.state().writable = true;
        Ok(())
    }

    /// Fills in a view of the bytes.
    ///
    /// # Safety
    /// `owner` is the Python object that has this value, and `view` is to be filled: what Python's buffer
    /// protocol promises.
    pub unsafe fn view(&self, owner: *mut ffi::PyObject, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if !self.process.is_this() {
            return Err(forked());
        }
        let mut state = self.state();
        if state.released || state.holder.is_none() {
            return Err(PyBufferError::new_err(RELEASED));
        }
        let (bytes, readonly) = (self.bytes as ffi::Py_ssize_t, c_int::from(!state.writable));
        // SAFETY: the caller's; the bytes stay until the view is released, as it is counted below.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, owner, self.address as *mut _, bytes, readonly, flags) };
        if filled != 0 {
            // Asked for more than there is: to write what is read-only.
            return Err(Python::attach(PyErr::fetch));
        }
        state.views += 1;
        Ok(())
    }

    /// A view is no more; what was released before is dropped with the last one.
    pub fn unview(&self) {
        let mut state = self.state();
        state.views -= 1;
        let over = state.released && state.views == 0;
        let dropped = if over { state.holder.take() } else { None };
        drop(state);
        self.give_back(dropped);
    }

    /// Drops a holder, but not in a forked child: its parent has it, and what it locks may have been locked when the
    /// child was forked, by a thread that the child has not.
    fn give_back(&self, holder: Option<H>) {
        match self.process.is_this() {
            true => drop(holder),
            false => std::mem::forget(holder),
        }
    }

    /// No new views; the holder is dropped, as soon as there is no view.
    pub fn release(&self) {
        let mut state = self.state();
        state.released = true;
        let dropped = if state.views == 0 { state.holder.take() } else { None };
        drop(state);
        self.give_back(dropped);
    }

    /// Does something with the holder, if it is there.
    pub fn with<T>(&self, act: impl FnOnce(&mut H) -> PyResult<T>) -> PyResult<T> {
        if !self.process.is_this() {
            return Err(forked());
        }
        let mut state = self.state();
        if state.released {
            return Err(released());
        }
        state.holder.as_mut().map_or_else(|| Err(released()), act)
    }

    /// The holder, for somebody who gives it away.
    pub fn take(&self) -> PyResult<H> {
        let mut state = self.state();
        if state.released {
            return Err(released());
        }
        if state.views > 0 {
            return Err(Viewed::new_err(format!(
                "{} views of this message are still there; release its memoryviews (view.release()) and delete \
                 its arrays (del array), then send it",
                state.views
            )));
        }
        state.holder.take().ok_or_else(released)
    }
    /// It was not given away.
    pub fn put_back(&self, holder: H) {
        self.state().holder = Some(holder);
    }
}

impl<H> Drop for Held<H> {
    fn drop(&mut self) {
        let holder = self.state().holder.take();
        self.give_back(holder);
    }
}

const RELEASED: &str =
    "it was sent, released or is being sent; ask for views before that, and keep those that are needed";

fn released() -> PyErr {
    Released::new_err(RELEASED)
}

/// The bytes of an object with a buffer as a NumPy array.
pub fn array<'py>(
    of: &Bound<'py, PyAny>,
    dtype: Option<Bound<'py, PyAny>>,
    shape: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static FROMBUFFER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let (py, view) = (of.py(), PyMemoryView::from(of)?);
    let frombuffer =
        FROMBUFFER.get_or_try_init(py, || Ok::<_, PyErr>(py.import("numpy")?.getattr("frombuffer")?.unbind()));
    let frombuffer = frombuffer?.bind(py);
    let flat = match dtype {
        Some(dtype) => frombuffer.call1((view, dtype)),
        None => frombuffer.call1((view, intern!(py, "B"))),
    }?;
    match shape {
        Some(shape) => flat.call_method1("reshape", (shape,)),
        None => Ok(flat),
    }
}

/// DLPack's kind and number of the device that has the bytes: the processor's memory (kDLCPU).
pub(crate) const PROCESSOR: (i32, i32) = (1, 0);

/// What all objects with bytes have.
macro_rules! bytes_like {
    ($class:ident $($more:tt)*) => {
        #[pymethods]
        impl $class {
            $($more)*

            fn __len__(&self) -> usize {
                self.held.bytes()
            }
            #[getter]
            fn nbytes(&self) -> usize {
                self.held.bytes()
            }
            /// Where the bytes lie in this process.
            #[getter]
            fn address(&self) -> usize {
                self.held.address()
            }
            #[getter]
            fn readonly(&self) -> bool {
                !self.held.is_writable()
            }
            #[getter]
            fn released(&self) -> bool {
                self.held.is_released()
            }
            fn release(&self) {
                self.held.release();
            }
            fn __enter__(slf: Py<Self>) -> Py<Self> {
                slf
            }
            fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
                self.held.release();
            }
            fn __bytes__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                pyo3::types::PyMemoryView::from(slf.as_any())?.call_method0("tobytes")
            }
            #[pyo3(signature = (dtype=None, shape=None))]
            fn array<'py>(
                slf: &Bound<'py, Self>,
                dtype: Option<Bound<'py, PyAny>>,
                shape: Option<Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                $crate::held::array(slf.as_any(), dtype, shape)
            }
            /// As `array()` of bytes, for whatever takes tensors by DLPack, which keeps the view.
            #[pyo3(signature = (**options))]
            fn __dlpack__<'py>(
                slf: &Bound<'py, Self>,
                options: Option<&Bound<'py, pyo3::types::PyDict>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                $crate::held::array(slf.as_any(), None, None)?.call_method("__dlpack__", (), options)
            }
            fn __dlpack_device__(&self) -> (i32, i32) {
                $crate::held::PROCESSOR
            }
            fn __repr__(&self) -> String {
                let state = if self.held.is_released() { ", released" } else { "" };
                let access = if self.held.is_writable() { "writable" } else { "read-only" };
                format!("<{} of {} bytes, {access}{state}>", stringify!($class), self.held.bytes())
            }
            /// # Safety
            /// What Python's buffer protocol promises.
            unsafe fn __getbuffer__(
                slf: Bound<'_, Self>,
                view: *mut pyo3::ffi::Py_buffer,
                flags: std::ffi::c_int,
            ) -> PyResult<()> {
                // SAFETY: what the protocol promises of the view; the object has these bytes.
                unsafe { slf.get().held.view(slf.as_ptr(), view, flags) }
            }
            /// # Safety
            /// What Python's buffer protocol promises.
            unsafe fn __releasebuffer__(&self, _view: *mut pyo3::ffi::Py_buffer) {
                self.held.unview();
            }
        }
    };
}
pub(crate) use bytes_like;
