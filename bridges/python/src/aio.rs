//! What asyncio needs: a descriptor that says when there may be something.

use crate::error::{Closed, raised};
use atomic_matrix::ipc::{Board, Client, Readable, Receiver, Sender, Server, Topic};
use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use self_cell::self_cell;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

/// What is waited for.
pub enum Source {
    Receiver(Arc<Receiver<[u8]>>),
    Sender(Arc<Sender<[u8]>>),
    Topic(Arc<Topic<[u8]>>),
    Board(Arc<Board<[u8]>>),
    Client(Arc<Client<[u8], [u8]>>),
    Server(Arc<Server<[u8], [u8]>>),
}

self_cell!(
    struct Armed {
        owner: Source,
        #[not_covariant]
        dependent: Readable,
    }
);

/// A descriptor that is readable when there may be something.
#[pyclass(frozen, module = "atomic_matrix._native")]
pub struct Bell(Mutex<Option<Armed>>);

impl Bell {
    pub fn of(source: Source) -> PyResult<Self> {
        let armed = Armed::try_new(source, |source| match source {
            Source::Receiver(receiver) => receiver.readable(),
            Source::Sender(sender) => sender.readable(),
            Source::Topic(topic) => topic.readable(),
            Source::Board(board) => board.readable(),
            Source::Client(client) => client.readable(),
            Source::Server(server) => server.readable(),
        });
        Ok(Self(Mutex::new(Some(armed.map_err(raised)?))))
    }

    fn with<A>(&self, call: impl FnOnce(&mut Armed) -> PyResult<A>) -> PyResult<A> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(armed) => call(armed),
            None => Err(Closed::new_err("the descriptor was closed")),
        }
    }
}

#[pymethods]
impl Bell {
    fn fileno(&self) -> PyResult<i32> {
        self.with(|armed| Ok(armed.with_dependent(|_, readable| readable.as_raw_fd())))
    }
    /// It is not readable any more, until something comes from now on.
    fn arm(&self) -> PyResult<()> {
        self.with(|armed| armed.with_dependent_mut(|_, readable| readable.arm()).map_err(raised))
    }
    fn close(&self) {
        let closed = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(closed);
    }
}

/// A coroutine of `atomic_matrix._aio`.
pub fn coroutine<'py>(py: Python<'py>, name: &str, arguments: impl PyCallArgs<'py>) -> PyResult<Py<PyAny>> {
    Ok(py.import("atomic_matrix._aio")?.getattr(name)?.call1(arguments)?.unbind())
}
