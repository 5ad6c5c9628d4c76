//! Boards: the latest value, read as a copy.

use crate::aio::{self, Bell, Source};
use crate::error::{Timeout as TimedOut, raised};
use crate::message::{Message, copied};
use crate::wait::Timeout;
use atomic_matrix::{Error, Handler, ipc};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The latest value of something.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Board {
    board: Arc<ipc::Board<[u8]>>,
    handler: Handler,
    /// Which of all values was the last that `changed` gave.
    seen: Mutex<u64>,
}

impl Board {
    pub fn open(handler: &Handler, name: &str) -> PyResult<Self> {
        let board = handler.board::<[u8]>(name).map_err(raised)?;
        Ok(Self { board: Arc::new(board), handler: handler.clone(), seen: Mutex::new(0) })
    }

    fn unseen(&self, wait: Duration) -> Result<Option<Vec<u8>>, Error> {
        let mut seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let value = self.board.changed_items(&mut seen, wait)?;
        let mut newest = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = seen.max(*newest);
        Ok(value)
    }
}

#[pymethods]
impl Board {
    fn set(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        match data.cast::<Message>() {
            // Refused, it is freed: the board was removed.
            Ok(message) => message.get().give_up(|message| self.board.set_message(message).map_err(raised)),
            Err(_) => self.board.set_message(copied(&self.handler, data)?).map_err(raised),
        }
    }
    fn get<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self.board.get_items().map_err(raised)?.map(|value| PyBytes::new(py, &value)))
    }
    #[pyo3(signature = (timeout=None))]
    fn changed<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let changed = Timeout::of(timeout)?.patiently(py, |slice| self.unseen(slice).transpose())?;
        let missed = || TimedOut::new_err("no other value was set until the time was over; wait longer");
        Ok(PyBytes::new(py, &changed.ok_or_else(missed)?.map_err(raised)?))
    }
    fn changed_async(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "get", (slf,))
    }
    fn _try<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self.unseen(Duration::ZERO).map_err(raised)?.map(|value| PyBytes::new(py, &value)))
    }
    fn _bell(&self) -> PyResult<Bell> {
        Bell::of(Source::Board(self.board.clone()))
    }
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __anext__(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "following", (slf,))
    }
    fn remove(&self) -> PyResult<()> {
        self.board.remove().map_err(raised)
    }
}
