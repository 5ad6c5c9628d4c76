//! Maps: values under keys.

use crate::error::{BadOption, raised, refused};
use crate::held::{Held, bytes_like};
use crate::message::{Message, Source};
use atomic_matrix::ipc::{self, Displaced, Entry, InsertError};
use atomic_matrix::{Error, Handler};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use self_cell::self_cell;
use std::sync::Arc;

type Values = ipc::Map<[u8]>;

/// Values under keys, for any number of processes.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Map {
    map: Arc<Values>,
}

/// A key's bytes: a text's are UTF-8.
fn key(key: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(text.to_cow()?.as_bytes().to_vec());
    }
    match Source::of(key) {
        Ok(source) => Ok(source.bytes().to_vec()),
        Err(_) => {
            Err(BadOption::new_err("a key is bytes, or a str, which stands for its UTF-8 bytes; give one of them"))
        }
    }
}

impl Map {
    pub fn open(handler: &Handler, name: &str, capacity: usize, guards: u16) -> PyResult<Self> {
        let map = handler.map::<[u8]>(name).capacity(capacity).guards(guards).open_or_create();
        Ok(Self { map: Arc::new(map.map_err(raised)?) })
    }

    fn find(&self, key: &[u8]) -> PyResult<Option<Value>> {
        Value::of(&self.map, |map| Ok(map.get(key)?.map(Guard::Entry)))
    }
    fn take(&self, key: &[u8]) -> PyResult<Option<Value>> {
        Value::of(&self.map, |map| Ok(map.take(key)?.map(Guard::Displaced)))
    }
}

#[pymethods]
impl Map {
    fn message(&self, name: &Bound<'_, PyAny>, nbytes: usize) -> PyResult<Message> {
        Ok(Message::of(self.map.message_slice(&key(name)?, nbytes).map_err(raised)?, true))
    }
    fn insert(&self, name: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = key(name)?;
        if let Ok(message) = data.cast::<Message>() {
            // What was there before is freed.
            return message.get().give(|message| match self.map.insert(&key, message) {
                Ok(_before) => Ok(()),
                Err(InsertError { message, why }) => Err((message, refused(why))),
            });
        }
        let source = Source::of(data)?;
        let mut message = self.map.message_slice(&key, source.bytes().len()).map_err(raised)?;
        message.copy_from_slice(source.bytes());
        self.map.insert(&key, message).map(drop).map_err(|InsertError { why, .. }| refused(why))
    }
    fn __setitem__(&self, name: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.insert(name, data)
    }
    fn get(&self, name: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
        self.find(&key(name)?)
    }
    fn __getitem__(&self, name: &Bound<'_, PyAny>) -> PyResult<Value> {
        self.get(name)?.ok_or_else(|| PyKeyError::new_err(name.clone().unbind()))
    }
    fn pop(&self, name: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
        self.take(&key(name)?)
    }
    fn __delitem__(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        self.pop(name)?.map(drop).ok_or_else(|| PyKeyError::new_err(name.clone().unbind()))
    }
    fn __contains__(&self, name: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.map.contains(&key(name)?).map_err(raised)
    }
    fn __len__(&self) -> usize {
        self.map.len()
    }
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        Ok(self.map.keys().map_err(raised)?.iter().map(|key| PyBytes::new(py, key)).collect())
    }
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.keys(py)?.into_pyobject(py)?.try_iter()?.into_any())
    }
    fn remove(&self) -> PyResult<()> {
        self.map.remove().map_err(raised)
    }
}

enum Guard<'m> {
    Entry(Entry<'m, [u8]>),
    Displaced(Displaced<'m, [u8]>),
}

self_cell!(
    struct Guarded {
        owner: Arc<Values>,
        #[not_covariant]
        dependent: Guard,
    }
);

/// A value that is in a map, or was taken out of it: it stays as it is until it is released.
#[pyclass(frozen, module = "atomic_matrix")]
pub struct Value {
    held: Held<Guarded>,
}

bytes_like!(Value);

impl Value {
    fn of(
        map: &Arc<Values>,
        look: impl for<'m> FnOnce(&'m Values) -> Result<Option<Guard<'m>>, Error>,
    ) -> PyResult<Option<Self>> {
        let guarded = Guarded::try_new(map.clone(), |map| look(map).map_err(Some)?.ok_or(None));
        let guarded = match guarded {
            Ok(guarded) => guarded,
            Err(None) => return Ok(None),
            Err(Some(error)) => return Err(raised(error)),
        };
        let (address, bytes) = guarded.with_dependent(|_, guard| {
            let value: &[u8] = match guard {
                Guard::Entry(entry) => entry,
                Guard::Displaced(displaced) => displaced,
            };
            (value.as_ptr().addr(), value.len())
        });
        // SAFETY: the value's bytes, which nobody writes until the guard is dropped.
        Ok(Some(Self { held: unsafe { Held::new(address, bytes, guarded, false) } }))
    }
}
