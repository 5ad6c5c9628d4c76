//! Segments: the memory that processes share, and where everything else is opened.

use crate::board::Board;
use crate::channel::Channel;
use crate::error::{BadOption, Closed, forked, raised};
use crate::map::Map;
use crate::message::{Message, copied};
use crate::process::Process;
use crate::service::Service;
use crate::topic::Topic;
use atomic_matrix::uuid::Uuid;
use atomic_matrix::{Handler, Options};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Memory that several processes share.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Segment {
    handler: Mutex<Option<Handler>>,
    process: Process,
    place: Option<PathBuf>,
    memfd: bool,
}

/// What is called with what to attach where it is unpickled.
type Pickled<'py> = (Bound<'py, PyAny>, (String, Option<PathBuf>));

/// What a segment is made or found by.
struct Place {
    options: Options,
    path: Option<PathBuf>,
    memfd: bool,
}

impl Place {
    fn of(name: Option<&str>, id: Option<&str>, path: Option<PathBuf>, memfd: bool) -> PyResult<Self> {
        let mut options = Options::new();
        if name.is_some() && id.is_some() {
            return Err(BadOption::new_err("name and id were given, and a name stands for an id; give one of them"));
        }
        if let Some(name) = name {
            options = options.name(name);
        }
        if let Some(id) = id {
            let wrong = |_| BadOption::new_err(format!("id: {id:?} is no UUID; give one as Segment.id tells it"));
            options = options.id(Uuid::try_parse(id).map_err(wrong)?);
        }
        if let Some(path) = &path {
            options = options.path(path);
        }
        if memfd {
            options = options.memfd();
        }
        Ok(Self { options, path, memfd })
    }

    fn with(self, open: impl FnOnce(Options) -> atomic_matrix::Result<Handler>) -> PyResult<Segment> {
        let handler = open(self.options).map_err(raised)?;
        Ok(Segment {
            handler: Mutex::new(Some(handler)),
            process: Process::this(),
            place: self.path,
            memfd: self.memfd,
        })
    }
}

/// The options of who makes one.
fn sized(options: Options, size: usize, participants: Option<usize>, mode: u32, keep_orphans: bool) -> Options {
    let options = options.size(size).mode(mode);
    let options = if keep_orphans { options.keep_orphans(true) } else { options };
    match participants {
        Some(participants) => options.participants(participants),
        None => options,
    }
}

impl Segment {
    fn handler(&self) -> PyResult<Handler> {
        if !self.process.is_this() {
            return Err(forked());
        }
        let handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner).clone();
        handler.ok_or_else(|| Closed::new_err("this segment was closed in this process; attach anew"))
    }
}

#[pymethods]
impl Segment {
    #[staticmethod]
    #[pyo3(signature = (
        name=None, *, size, id=None, path=None, memfd=false, participants=None, mode=0o600, keep_orphans=false
    ))]
    #[allow(clippy::too_many_arguments, reason = "they have names in Python")]
    fn create(
        name: Option<&str>,
        size: usize,
        id: Option<&str>,
        path: Option<PathBuf>,
        memfd: bool,
        participants: Option<usize>,
        mode: u32,
        keep_orphans: bool,
    ) -> PyResult<Self> {
        let place = Place::of(name, id, path, memfd)?;
        place.with(|options| sized(options, size, participants, mode, keep_orphans).create())
    }

    #[staticmethod]
    #[pyo3(signature = (name=None, *, size, id=None, path=None, participants=None, mode=0o600, keep_orphans=false))]
    #[allow(clippy::too_many_arguments, reason = "they have names in Python")]
    fn open_or_create(
        name: Option<&str>,
        size: usize,
        id: Option<&str>,
        path: Option<PathBuf>,
        participants: Option<usize>,
        mode: u32,
        keep_orphans: bool,
    ) -> PyResult<Self> {
        let place = Place::of(name, id, path, false)?;
        place.with(|options| sized(options, size, participants, mode, keep_orphans).open_or_create())
    }

    #[staticmethod]
    #[pyo3(signature = (name=None, *, id=None, path=None))]
    fn attach(name: Option<&str>, id: Option<&str>, path: Option<PathBuf>) -> PyResult<Self> {
        Place::of(name, id, path, false)?.with(|options| options.attach())
    }

    #[getter]
    fn id(&self) -> PyResult<String> {
        Ok(self.handler()?.id().to_string())
    }
    #[getter]
    fn mapping(&self) -> PyResult<(usize, usize)> {
        let handler = self.handler()?;
        let segment = handler.matrix().segment();
        Ok((segment.base().as_ptr().addr(), segment.len()))
    }
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let handler = self.handler()?;
        let stats = handler.stats().map_err(raised)?;
        let dict = PyDict::new(py);
        dict.set_item("free_bytes", stats.free_bytes)?;
        dict.set_item("free_blocks", stats.free_blocks)?;
        dict.set_item("largest_free", stats.largest_free)?;
        dict.set_item("live_blocks", stats.live_blocks)?;
        dict.set_item("live_bytes", stats.live_bytes)?;
        dict.set_item("participants", handler.participants().iter().filter(|one| one.alive).count())?;
        Ok(dict)
    }

    fn message(&self, nbytes: usize) -> PyResult<Message> {
        Ok(Message::of(self.handler()?.message_slice(nbytes).map_err(raised)?, true))
    }
    fn message_from(&self, data: &Bound<'_, PyAny>) -> PyResult<Message> {
        Ok(Message::of(copied(&self.handler()?, data)?, true))
    }
    #[pyo3(signature = (name, *, capacity=64, create=true))]
    fn channel(&self, name: &str, capacity: usize, create: bool) -> PyResult<Channel> {
        Channel::open(&self.handler()?, name, capacity, create)
    }
    #[pyo3(signature = (name, *, cells=64, subscribers=16))]
    fn topic(&self, name: &str, cells: usize, subscribers: u16) -> PyResult<Topic> {
        Topic::open(&self.handler()?, name, cells, subscribers)
    }
    fn board(&self, name: &str) -> PyResult<Board> {
        Board::open(&self.handler()?, name)
    }
    #[pyo3(signature = (name, *, capacity=256, guards=64))]
    fn map(&self, name: &str, capacity: usize, guards: u16) -> PyResult<Map> {
        Map::open(&self.handler()?, name, capacity, guards)
    }
    #[pyo3(signature = (name, *, capacity=64))]
    fn service(&self, name: &str, capacity: usize) -> PyResult<Service> {
        Service::open(&self.handler()?, name, capacity)
    }

    fn reap(&self) -> PyResult<usize> {
        let handler = self.handler()?;
        let dead = handler.participants().iter().filter(|participant| !participant.alive).count();
        handler.reap().map_err(raised)?;
        Ok(dead)
    }
    fn unlink(&self) -> PyResult<()> {
        self.handler()?.unlink().map_err(raised)
    }
    fn close(&self) {
        let closed = self.handler.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(closed);
    }
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
    fn __repr__(&self) -> String {
        match self.handler() {
            Ok(handler) => format!("<Segment {} of {} bytes>", handler.id(), handler.matrix().segment().len()),
            Err(_) => "<Segment, closed>".to_owned(),
        }
    }

    /// For another process, which attaches.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Pickled<'py>> {
        let (py, this) = (slf.py(), slf.get());
        if this.memfd {
            return Err(PyTypeError::new_err(
                "a segment without a name can't be found by another process; give it one",
            ));
        }
        let attach = PyType::new::<Self>(py).getattr("_attach")?;
        Ok((attach, (this.id()?, this.place.clone())))
    }
    #[staticmethod]
    fn _attach(id: &str, path: Option<PathBuf>) -> PyResult<Self> {
        Self::attach(None, Some(id), path)
    }
}
