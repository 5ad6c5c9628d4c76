//! Boost's message_queue: bytes, copied in and out behind a mutex in the segment.

use super::{In, Out, Peer};
use crate::Outcome;
use crate::run::Task;

/// Whether Boost was there when this was built.
pub(crate) const THERE: bool = cfg!(boost);

#[cfg(boost)]
pub(crate) use there::Queues;

#[cfg(not(boost))]
pub(crate) struct Queues;
#[cfg(not(boost))]
pub(crate) struct None;

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
    use crate::peers::{fill, read};
    use std::ffi::{CString, c_char, c_void};

    // SAFETY: these are the functions of shims/message_queue.cpp.
    unsafe extern "C" {
        fn queue_open(name: *const c_char, messages: usize, size: usize) -> *mut c_void;
        fn queue_close(queue: *mut c_void);
        fn queue_send(queue: *mut c_void, bytes: *const u8, size: usize) -> bool;
        fn queue_receive(queue: *mut c_void, bytes: *mut u8, size: usize) -> bool;
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
    }
}
