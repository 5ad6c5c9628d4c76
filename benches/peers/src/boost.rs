//! Boost.Interprocess: managed shared memory, its default algorithm (a tree of free blocks, best fit) behind
//! its mutex in the segment.

#[cfg(not(boost))]
use crate::list::SHARED;
use crate::support::Outcome;
use crate::support::control::Control;
use crate::support::registry::Entry;
use crate::support::work::{Done, Role};

const THREADS: &str = "Boost.Interprocess, threads";
const PROCESSES: &str = "Boost.Interprocess, processes";
/// What worker processes call this.
pub(crate) const PEER: &str = "boost";

#[cfg(not(boost))]
pub(crate) fn entries() -> Vec<Entry> {
    [THREADS, PROCESSES].map(|name| Entry::missing(name, SHARED, env!("WITHOUT_BOOST"))).into()
}

/// A worker process.
#[cfg(not(boost))]
pub(crate) fn worker(_: &str, _: &Control, _: Role, _: u64) -> Outcome<Done> {
    Err(env!("WITHOUT_BOOST").into())
}

#[cfg(boost)]
pub(crate) use there::{entries, worker};

#[cfg(boost)]
mod there {
    use super::*;
    use crate::list::{A, B, C, H, W};
    use crate::support::peers::Peer;
    use crate::support::registry::arena_of;
    use crate::support::{processes, work};
    use std::ffi::{CString, c_char, c_void};
    use std::ptr::NonNull;

    /// Its type is C++'s.
    type Memory = c_void;

    // SAFETY: these are the functions of shims/boost.cpp.
    unsafe extern "C" {
        fn boost_create(name: *const c_char, size: usize) -> *mut Memory;
        fn boost_open(name: *const c_char) -> *mut Memory;
        fn boost_remove(name: *const c_char);
        fn boost_close(memory: *mut Memory);
        fn boost_allocate(memory: *mut Memory, size: usize) -> *mut u8;
        fn boost_free(memory: *mut Memory, block: *mut u8);
        fn boost_offset(memory: *mut Memory, block: *mut u8) -> usize;
        fn boost_address(memory: *mut Memory, offset: usize) -> *mut u8;
    }

    pub(crate) struct Boost {
        memory: NonNull<Memory>,
        /// Not known to those who only open it.
        bytes: Option<usize>,
    }

    // SAFETY: the segment's allocator may be called by any number of threads: it locks.
    unsafe impl Sync for Boost {}

    /// A segment's name; it goes with this.
    struct Name(CString);

    impl Name {
        fn new() -> Outcome<Self> {
            Ok(Self(CString::new(format!("atomic-matrix-peers-{}", std::process::id()))?))
        }
    }

    impl Drop for Name {
        fn drop(&mut self) {
            // SAFETY: a name that ends with 0; what is mapped stays mapped.
            unsafe { boost_remove(self.0.as_ptr()) }
        }
    }

    impl Boost {
        fn create(name: &Name, bytes: usize) -> Outcome<Self> {
            // SAFETY: a name that ends with 0.
            let memory = NonNull::new(unsafe { boost_create(name.0.as_ptr(), bytes) });
            Ok(Self { memory: memory.ok_or("Boost refused to create its segment")?, bytes: Some(bytes) })
        }
        fn open(name: &str) -> Outcome<Self> {
            let name = CString::new(name)?;
            // SAFETY: a name that ends with 0.
            let memory = NonNull::new(unsafe { boost_open(name.as_ptr()) });
            Ok(Self { memory: memory.ok_or("Boost refused to open the segment")?, bytes: None })
        }
    }

    impl Drop for Boost {
        fn drop(&mut self) {
            // SAFETY: made by `create` or `open`, and used no more.
            unsafe { boost_close(self.memory.as_ptr()) }
        }
    }

    impl Peer for Boost {
        type Block = *mut u8;
        #[inline(always)]
        fn allocate(&self, size: usize) -> Option<*mut u8> {
            // SAFETY: the memory is open as long as this lives.
            let block = unsafe { boost_allocate(self.memory.as_ptr(), size) };
            (!block.is_null()).then_some(block)
        }
        #[inline(always)]
        fn touch(&self, block: &mut *mut u8, value: u64) {
            // SAFETY: a live block of 32 bytes at least, aligned to 16, and this worker's alone.
            unsafe { block.cast::<u64>().write_volatile(value) }
        }
        #[inline(always)]
        fn free(&self, block: *mut u8, _: usize) {
            // SAFETY: the block is live, and this segment's.
            unsafe { boost_free(self.memory.as_ptr(), block) }
        }
        #[inline(always)]
        fn pass(&self, block: *mut u8) -> u64 {
            // SAFETY: the block is this segment's.
            unsafe { boost_offset(self.memory.as_ptr(), block) as u64 }
        }
        #[inline(always)]
        fn free_passed(&self, message: u64, size: usize) {
            // SAFETY: an offset that `pass` gave, of a live block.
            self.free(unsafe { boost_address(self.memory.as_ptr(), message as usize) }, size);
        }
        fn arena(&self) -> Option<(usize, usize)> {
            self.bytes.map(|bytes| (bytes, bytes))
        }
    }

    const KIND: &str = concat!("shared, any size (", env!("VERSION_BOOST"), ")");

    pub(crate) fn entries() -> Vec<Entry> {
        let threads = Entry::threads(THREADS, KIND, |arena| {
            let name = Name::new()?;
            Boost::create(&name, arena.bytes) // Nobody else will open it: the name goes.
        });
        let processes = Entry::own(PROCESSES, KIND, |roles, seconds| {
            let name = Name::new()?;
            let _creator = Boost::create(&name, arena_of(roles).bytes)?;
            let arena = name.0.to_str()?.to_owned();
            processes::run(roles, seconds, PEER, &arena, move || {
                drop(name);
                Ok(())
            })
        });
        // Its mutex sleeps.
        vec![threads.sleeping(), processes.sleeping().only(&[A, B, C, W, H])]
    }

    /// A worker process.
    pub(crate) fn worker(arena: &str, control: &Control, role: Role, number: u64) -> Outcome<Done> {
        Ok(work::run(&Boost::open(arena)?, control, role, number))
    }
}
