//! A map.

use super::{Segment, Small};
use crate::Outcome;
use crate::maps::{KEYS, Key, Maps, Store, sum};
use crate::run::Task;
use atomic_matrix::ipc::Map;

pub(crate) struct Tables(Segment);

impl Maps for Tables {
    type Store = Map<Small>;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self(Segment::make(task)?))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Ok(Self(Segment::open(task)?))
    }
    fn store(&self) -> Outcome<Map<Small>> {
        Ok(self.0.handler.map("keys").capacity(KEYS).open_or_create()?)
    }
}

impl Store for Map<Small> {
    #[inline(always)]
    fn get(&mut self, key: &Key) -> Outcome<u64> {
        // Copied out, as from Boost's: so small a value costs less than a guard of it.
        Ok(self.get_value(key)?.as_ref().map_or(0, sum))
    }
    #[inline(always)]
    fn put(&mut self, key: &Key, value: Small) -> Outcome<()> {
        let mut message = self.message(key)?;
        *message = value;
        let put = self.insert(key, message).map(drop);
        Ok(put.map_err(|error| format!("not put: {:?}", error.why))?)
    }
}
