//! Topics: every subscriber sees every publication, where it lies.

use crate::aio::{self, Bell, Source};
use crate::error::{Closed, Timeout as TimedOut, raised};
use crate::held::{Held, bytes_like};
use crate::message::give;
use crate::open::Open;
use crate::wait::Timeout;
use atomic_matrix::Handler;
use atomic_matrix::ipc;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use std::sync::Arc;

/// What is published goes to all who have subscribed.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Topic {
    topic: Arc<ipc::Topic<[u8]>>,
}

impl Topic {
    pub fn open(handler: &Handler, name: &str, cells: usize, subscribers: u16) -> PyResult<Self> {
        let topic = handler.topic::<[u8]>(name).cells(cells).subscribers(subscribers).open_or_create();
        Ok(Self { topic: Arc::new(topic.map_err(raised)?) })
    }
}

#[pymethods]
impl Topic {
    #[pyo3(signature = (data, timeout=None))]
    fn publish(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let (topic, timeout) = (&self.topic, Timeout::of(timeout)?);
        give(py, topic.handler(), data, &timeout, &|message, wait| match wait {
            None => Ok(topic.try_publish(message)?),
            Some(wait) => Ok(topic.publish_timeout(message, wait)?),
        })
    }
    #[pyo3(signature = (history=0))]
    fn subscribe(&self, history: u64) -> PyResult<Subscriber> {
        let samples = self.topic.subscribe(history).map_err(raised)?.into_samples();
        Ok(Subscriber { samples: Open::of(samples), topic: self.topic.clone() })
    }
    #[getter]
    fn published(&self) -> u64 {
        self.topic.published()
    }
    fn __iter__(&self) -> PyResult<Subscriber> {
        self.subscribe(0)
    }
    fn __aiter__(&self) -> PyResult<Subscriber> {
        self.subscribe(0)
    }
    fn remove(&self) -> PyResult<()> {
        self.topic.remove().map_err(raised)
    }
}

/// Reads what is published.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Subscriber {
    samples: Open<ipc::Samples<[u8]>>,
    topic: Arc<ipc::Topic<[u8]>>,
}

#[pymethods]
impl Subscriber {
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Sample> {
        let (samples, timeout) = (self.samples.get()?, Timeout::of(timeout)?);
        if let Some(sample) = self.try_next()? {
            return Ok(sample);
        }
        match timeout.patiently(py, |slice| samples.next_timeout(slice).transpose())? {
            Some(sample) => Ok(Sample::of(sample.map_err(raised)?)),
            None => Err(TimedOut::new_err(
                "nothing was published until the time was over; wait longer, or see whether a publisher is there",
            )),
        }
    }
    fn try_next(&self) -> PyResult<Option<Sample>> {
        Ok(self.samples.get()?.try_next().map_err(raised)?.map(Sample::of))
    }
    fn next_async(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "get", (slf,))
    }
    fn _try(&self) -> PyResult<Option<Sample>> {
        self.try_next()
    }
    fn _bell(&self) -> PyResult<Bell> {
        self.samples.get()?;
        Bell::of(Source::Topic(self.topic.clone()))
    }
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Sample> {
        self.next(py, None)
            .map_err(|why| if why.is_instance_of::<Closed>(py) { PyStopIteration::new_err(()) } else { why })
    }
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __anext__(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        aio::coroutine(slf.py(), "following", (slf,))
    }
    fn close(&self) {
        self.samples.close();
    }
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
}

/// A publication, which stays as it is until it is released.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Sample {
    held: Held<ipc::Sample<[u8]>>,
}

bytes_like!(Sample);

impl Sample {
    fn of(sample: ipc::Sample<[u8]>) -> Self {
        let (address, bytes) = (sample.as_ptr().addr(), sample.len());
        // SAFETY: the publication's bytes, which nobody writes until the sample is dropped.
        Self { held: unsafe { Held::new(address, bytes, sample, false) } }
    }
}
