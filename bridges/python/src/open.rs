//! What may be closed while others use it.

use crate::error::{Closed, forked};
use crate::process::Process;
use pyo3::PyResult;
use std::sync::{Arc, Mutex, PoisonError};

/// Open until it is closed; who is inside a call then goes on to its end.
pub struct Open<T> {
    value: Mutex<Option<Arc<T>>>,
    process: Process,
}

impl<T> Open<T> {
    pub fn of(value: T) -> Self {
        Self { value: Mutex::new(Some(Arc::new(value))), process: Process::this() }
    }

    /// # Errors
    /// If it was closed, or this process was forked.
    pub fn get(&self) -> PyResult<Arc<T>> {
        if !self.process.is_this() {
            return Err(forked());
        }
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner).clone();
        value.ok_or_else(|| Closed::new_err("it was closed in this process; open it anew"))
    }

    pub fn close(&self) {
        let closed = self.value.lock().unwrap_or_else(PoisonError::into_inner).take();
        match self.process.is_this() {
            true => drop(closed),
            // Its parent has it; and what it locks may have been locked when the child was forked.
            false => std::mem::forget(closed),
        }
    }
}

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        self.close();
    }
}
