//! Channels: each message goes to one receiver.

use crate::aio::{self, Bell, Source};
use crate::error::{Closed, raised, unreceived};
use crate::message::{Message, give};
use crate::open::Open;
use crate::wait::Timeout;
use atomic_matrix::Handler;
use atomic_matrix::ipc::{self, Unreceived};
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::time::Duration;

/// A bounded queue of messages between processes.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Channel {
    channel: ipc::Channel<[u8]>,
}

impl Channel {
    pub fn open(handler: &Handler, name: &str, capacity: usize, create: bool) -> PyResult<Self> {
        let options = handler.channel::<[u8]>(name).capacity(capacity);
        let channel = if create { options.open_or_create() } else { options.open() };
        Ok(Self { channel: channel.map_err(raised)? })
    }
}

#[pymethods]
impl Channel {
    fn sender(&self) -> PyResult<Sender> {
        Ok(Sender { sender: Open::of(self.channel.sender().map_err(raised)?) })
    }
    fn receiver(&self) -> PyResult<Receiver> {
        Ok(Receiver { receiver: Open::of(self.channel.receiver().map_err(raised)?) })
    }
    #[getter]
    fn capacity(&self) -> usize {
        self.channel.capacity()
    }
    fn __len__(&self) -> usize {
        self.channel.len()
    }
    fn ends(&self) -> (u64, u64) {
        self.channel.ends()
    }
    fn close(&self) {
        self.channel.close();
    }
    fn remove(&self) -> PyResult<()> {
        self.channel.remove().map_err(raised)
    }
}

/// Puts messages in.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Sender {
    sender: Open<ipc::Sender<[u8]>>,
}

#[pymethods]
impl Sender {
    #[pyo3(signature = (data, timeout=None))]
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let (sender, timeout) = (self.sender.get()?, Timeout::of(timeout)?);
        give(py, sender.handler(), data, &timeout, &|message, wait| match wait {
            None => Ok(sender.try_send(message)?),
            Some(wait) => Ok(sender.send_timeout(message, wait)?),
        })
    }
    fn send_async(slf: Bound<'_, Self>, data: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "send", (slf, data))
    }
    fn _bell(&self) -> PyResult<Bell> {
        Bell::of(Source::Sender(self.sender.get()?))
    }
    fn close(&self) {
        self.sender.close();
    }
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
}

/// Takes messages out.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Receiver {
    receiver: Open<ipc::Receiver<[u8]>>,
}

#[pymethods]
impl Receiver {
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        let (receiver, timeout) = (self.receiver.get()?, Timeout::of(timeout)?);
        if let Some(message) = self.try_recv()? {
            return Ok(message);
        }
        let received = timeout.patiently(py, |slice: Duration| match receiver.recv_timeout(slice) {
            Err(Unreceived::Timeout | Unreceived::Empty) => None,
            other => Some(other.map(|message| Message::of(message, false))),
        })?;
        received.unwrap_or(Err(Unreceived::Timeout)).map_err(unreceived)
    }
    fn try_recv(&self) -> PyResult<Option<Message>> {
        match self.receiver.get()?.try_recv() {
            Ok(message) => Ok(Some(Message::of(message, false))),
            Err(Unreceived::Empty) => Ok(None),
            Err(why) => Err(unreceived(why)),
        }
    }
    fn recv_async(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "get", (slf,))
    }
    fn _try(&self) -> PyResult<Option<Message>> {
        self.try_recv()
    }
    fn _bell(&self) -> PyResult<Bell> {
        Bell::of(Source::Receiver(self.receiver.get()?))
    }
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Message> {
        self.recv(py, None)
            .map_err(|why| if why.is_instance_of::<Closed>(py) { PyStopIteration::new_err(()) } else { why })
    }
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __anext__(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "following", (slf,))
    }
    fn close(&self) {
        self.receiver.close();
    }
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
}
