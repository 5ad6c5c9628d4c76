//! Boost's message_queue: bytes, copied in and out behind a mutex in the segment; and its unordered_map there.

use super::{In, Out, Peer};
use crate::Outcome;
use crate::boards::Value;
use crate::maps::{Key, Maps, Store};
use crate::run::Task;

/// Whether Boost was there when this was built.
pub(crate) const THERE: bool = cfg!(boost);

#[cfg(boost)]
pub(crate) use there::{Queues, Tables};

#[cfg(not(boost))]
pub(crate) struct Queues;
#[cfg(not(boost))]
pub(crate) struct None;
#[cfg(not(boost))]
pub(crate) struct Tables;

#[cfg(not(boost))]
impl Maps for Tables {
    type Store = None;
    fn make(_: &Task) -> Outcome<Self> {
        Err("built without it: benches/peers/install".into())
    }
    fn open(_: &Task) -> Outcome<Self> {
        Ok(Self)
    }
    fn store(&self) -> Outcome<None> {
        Ok(None)
    }
}
#[cfg(not(boost))]
impl Store for None {
    fn get(&mut self, _: &Key) -> Outcome<u64> {
        Ok(0)
    }
    fn put(&mut self, _: &Key, _: Value) -> Outcome<()> {
        Ok(())
    }
}

#[cfg(not(boost))]
impl Peer for Queues {
    type Out = None;
    type In = None;
    fn make(_: &Task) -> Outcome<Self> {
        Err("built without it: benches/peers/install".into())
    }
    fn output(&self, _: usize) -> Outcome<None> {
        Ok(None)
    }
    fn input(&self, _: usize) -> Outcome<None> {
        Ok(None)
    }
}
#[cfg(not(boost))]
impl Out for None {
    fn send(&mut self, _: usize, _: u64) -> Outcome<bool> {
        Ok(false)
    }
}
#[cfg(not(boost))]
impl In for None {
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        Ok(Option::None)
    }
}

#[cfg(boost)]
mod there {
    use super::*;
    use crate::maps::{KEYS, sum};
    use crate::peers::{BOUND, fill, read};
    use std::ffi::{CString, c_char, c_void};

    // SAFETY: these are the functions of shims/message_queue.cpp and of shims/unordered_map.cpp.
    unsafe extern "C" {
        fn queue_open(name: *const c_char, messages: usize, size: usize) -> *mut c_void;
        fn queue_close(queue: *mut c_void);
        fn queue_send(queue: *mut c_void, bytes: *const u8, size: usize) -> bool;
        fn queue_receive(queue: *mut c_void, bytes: *mut u8, size: usize) -> bool;
        fn queue_wait(queue: *mut c_void, bytes: *mut u8, size: usize, milliseconds: u32) -> bool;
        fn map_open(name: *const c_char, size: usize, keys: usize) -> *mut c_void;
        fn map_close(map: *mut c_void);
        fn map_get(map: *mut c_void, key: *const u8, value: *mut u64) -> bool;
        fn map_put(map: *mut c_void, key: *const u8, value: *const u64) -> bool;
    }

    pub(crate) struct Queues(Task);
    pub(crate) struct End(*mut c_void, Vec<u64>);

    impl Queues {
        fn end(&self, way: usize) -> Outcome<End> {
            let name = CString::new(format!("{}-{way}", self.0.name))?;
            let setting = &self.0.setting;
            // SAFETY: a name that ends with 0.
            let queue = unsafe { queue_open(name.as_ptr(), setting.cells, setting.size) };
            if queue.is_null() {
                return Err("Boost refused its queue".into());
            }
            Ok(End(queue, vec![0; setting.size / 8]))
        }
    }

    impl Peer for Queues {
        type Out = End;
        type In = End;
        fn make(task: &Task) -> Outcome<Self> {
            Ok(Self(task.clone()))
        }
        fn open(task: &Task) -> Outcome<Self> {
            Self::make(task)
        }
        fn output(&self, way: usize) -> Outcome<End> {
            self.end(way)
        }
        fn input(&self, way: usize) -> Outcome<End> {
            self.end(way)
        }
    }

    impl Drop for End {
        fn drop(&mut self) {
            // SAFETY: made by `end`, and used no more.
            unsafe { queue_close(self.0) }
        }
    }

    impl Out for End {
        #[inline(always)]
        fn send(&mut self, size: usize, value: u64) -> Outcome<bool> {
            fill(&mut self.1, value);
            // SAFETY: an open queue, and as many bytes as the buffer has.
            Ok(unsafe { queue_send(self.0, self.1.as_ptr().cast(), size) })
        }
    }

    impl In for End {
        #[inline(always)]
        fn receive(&mut self, size: usize) -> Outcome<Option<u64>> {
            // SAFETY: an open queue, and as many bytes as the buffer has.
            let got = unsafe { queue_receive(self.0, self.1.as_mut_ptr().cast(), size) };
            Ok(got.then(|| read(&self.1)))
        }
        fn wait(&mut self, size: usize) -> Outcome<Option<u64>> {
            let bound = BOUND.as_millis() as u32;
            // SAFETY: an open queue, and as many bytes as the buffer has.
            let got = unsafe { queue_wait(self.0, self.1.as_mut_ptr().cast(), size, bound) };
            Ok(got.then(|| read(&self.1)))
        }
    }

    pub(crate) struct Tables(CString);
    pub(crate) struct Table(*mut c_void);

    impl Maps for Tables {
        type Store = Table;
        fn make(task: &Task) -> Outcome<Self> {
            Ok(Self(CString::new(format!("{}-map", task.name))?))
        }
        fn open(task: &Task) -> Outcome<Self> {
            Self::make(task)
        }
        fn store(&self) -> Outcome<Table> {
            // SAFETY: a name that ends with 0.
            let table = unsafe { map_open(self.0.as_ptr(), 64 << 20, KEYS) };
            if table.is_null() { Err("Boost refused its map".into()) } else { Ok(Table(table)) }
        }
    }

    impl Drop for Table {
        fn drop(&mut self) {
            // SAFETY: made by `store`, and used no more.
            unsafe { map_close(self.0) }
        }
    }

    impl Store for Table {
        #[inline(always)]
        fn get(&mut self, key: &Key) -> Outcome<u64> {
            let mut value = [0; 8];
            // SAFETY: an open map, a key's bytes, and room for a value.
            let found = unsafe { map_get(self.0, key.as_ptr(), value.as_mut_ptr()) };
            if found { Ok(sum(&value)) } else { Err("a key is missing".into()) }
        }
        #[inline(always)]
        fn put(&mut self, key: &Key, value: Value) -> Outcome<()> {
            // SAFETY: an open map, a key's bytes, and a value.
            let put = unsafe { map_put(self.0, key.as_ptr(), value.as_ptr()) };
            if put { Ok(()) } else { Err("Boost's segment is full".into()) }
        }
    }
}
