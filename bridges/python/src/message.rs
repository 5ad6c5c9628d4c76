//! Messages: blocks that are this process's alone, and how they are given away.

use crate::error::{MatrixError, raised, unsent};
use crate::held::{Held, bytes_like};
use crate::wait::Timeout;
use atomic_matrix::Handler;
use atomic_matrix::ipc::{self, SendError, Unbound, Unsent};
use pyo3::ffi;
use pyo3::prelude::*;
use std::time::Duration;

pub type Bytes<'h> = ipc::Message<'h, [u8]>;

/// A message's block: freed when it is dropped.
pub struct Block {
    handler: Handler,
    unbound: Option<Unbound<[u8]>>,
}

impl Block {
    fn of(message: Bytes<'_>) -> Self {
        Self { handler: message.handler().clone(), unbound: Some(message.unbind()) }
    }

    /// Does something with the message, which comes back if it was refused.
    fn attempt(&mut self, put: impl for<'h> FnOnce(Bytes<'h>) -> Result<(), (Bytes<'h>, PyErr)>) -> Result<(), PyErr> {
        let message = self.unbound.take().ok_or_else(gone)?;
        let message = message.bind(&self.handler).map_err(raised)?;
        put(message).map_err(|(message, why)| {
            self.unbound = Some(message.unbind());
            why
        })
    }
}

fn gone() -> PyErr {
    MatrixError::new_err("the message was freed by its offset; keep no offsets of messages")
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(unbound) = self.unbound.take() {
            // Refused if it was freed by its offset; the message, if it is one, is dropped.
            let _ = unbound.bind(&self.handler);
        }
    }
}

/// A block of the segment that is this process's alone.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Message {
    held: Held<Block>,
}

bytes_like!(Message
    fn writable(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().held.make_writable()?;
        Ok(slf)
    }
);

impl Message {
    pub fn of(message: Bytes<'_>, writable: bool) -> Self {
        let (address, bytes) = (message.as_ptr().addr(), message.len());
        // SAFETY: the message's bytes, which are there until its block is freed or given away; it is its only handle.
        Self { held: unsafe { Held::new(address, bytes, Block::of(message), writable) } }
    }

    /// Gives the message away by `put`, unless it is refused.
    ///
    /// # Errors
    /// What `put` says; and if there are views of it.
    pub fn give(&self, put: impl for<'h> FnOnce(Bytes<'h>) -> Result<(), (Bytes<'h>, PyErr)>) -> PyResult<()> {
        let mut block = self.held.take()?;
        block.attempt(put).inspect_err(|_| self.held.put_back(block))
    }

    /// Gives the message away by `put`, which frees it if it is refused.
    ///
    /// # Errors
    /// As [`Message::give`].
    pub fn give_up(&self, put: impl FnOnce(Bytes<'_>) -> PyResult<()>) -> PyResult<()> {
        let mut block = self.held.take()?;
        let unbound = block.unbound.take().ok_or_else(gone)?;
        put(unbound.bind(&block.handler).map_err(raised)?)
    }
}

/// A new message with the bytes of an object.
///
/// # Errors
/// If the object has no bytes one after the other, or there is no memory.
pub fn copied<'h>(handler: &'h Handler, data: &Bound<'_, PyAny>) -> PyResult<Bytes<'h>> {
    let source = Source::of(data)?;
    let mut message = handler.message_slice(source.bytes().len()).map_err(raised)?;
    message.copy_from_slice(source.bytes());
    Ok(message)
}

/// A way to give messages away: tries once if it is told no time, else waits for so long at most.
pub type Put<'p> = &'p (dyn for<'h> Fn(Bytes<'h>, Option<Duration>) -> Result<(), Refusal<'h>> + Sync);

/// What was not given away, and why: none if there was no room for it in time.
pub struct Refusal<'h> {
    pub message: Bytes<'h>,
    pub why: Option<PyErr>,
}

impl<'h> From<SendError<'h, [u8]>> for Refusal<'h> {
    fn from(SendError { message, why }: SendError<'h, [u8]>) -> Self {
        let full = matches!(why, Unsent::Full | Unsent::Timeout);
        Self { message, why: (!full).then(|| unsent(why)) }
    }
}

/// Gives a message away, or a copy of an object's bytes, and waits for room.
///
/// # Errors
/// What `put` says. The message is its object's still.
pub fn give(
    py: Python<'_>,
    handler: &Handler,
    data: &Bound<'_, PyAny>,
    timeout: &Timeout,
    put: Put<'_>,
) -> PyResult<()> {
    match data.cast::<Message>() {
        Ok(message) => {
            let message = message.get();
            let mut block = message.held.take()?;
            patiently(py, &mut block, timeout, put).inspect_err(|_| message.held.put_back(block))
        }
        Err(_) => patiently(py, &mut Block::of(copied(handler, data)?), timeout, put),
    }
}

fn patiently(py: Python<'_>, block: &mut Block, timeout: &Timeout, put: Put<'_>) -> PyResult<()> {
    let mut once = |wait| {
        let mut full = false;
        let outcome = block.attempt(|message| {
            put(message, wait).map_err(|Refusal { message, why }| {
                full = why.is_none();
                (message, why.unwrap_or_else(|| unsent(Unsent::Timeout)))
            })
        });
        if full { None } else { Some(outcome) }
    };
    let outcome = match once(None) {
        Some(outcome) => Some(outcome),
        None => timeout.patiently(py, |slice| once(Some(slice)))?,
    };
    outcome.unwrap_or_else(|| Err(unsent(Unsent::Timeout)))
}

/// An object's bytes, as they are while nobody else runs Python code.
pub struct Source(ffi::Py_buffer);

impl Source {
    /// # Errors
    /// If it has none, or they are not one after the other.
    pub fn of(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = ffi::Py_buffer::new();
        // SAFETY: the view is to be filled, and is released when this is dropped.
        match unsafe { ffi::PyObject_GetBuffer(data.as_ptr(), &mut view, ffi::PyBUF_SIMPLE) } {
            0 => Ok(Self(view)),
            _ => Err(PyErr::fetch(data.py())),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: so many bytes are there until the view is released; who holds the interpreter's lock is not
        // disturbed by other Python code.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.0.len as usize) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: it was filled, and is released once, by a thread that holds the interpreter's lock, as all
        // who have one do.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}
