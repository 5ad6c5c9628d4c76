//! DPDK's mempool: elements of one size. Without huge pages, and in threads: its processes would need a
//! configuration shared in files.

#[cfg(not(dpdk))]
use crate::list::FIXED;
use crate::support::registry::Entry;

const CACHED: &str = "DPDK mempool, cache 256";
const BARE: &str = "DPDK mempool, no cache";

#[cfg(not(dpdk))]
pub(crate) fn entries() -> Vec<Entry> {
    [CACHED, BARE].map(|name| Entry::missing(name, FIXED, env!("WITHOUT_DPDK"))).into()
}

#[cfg(dpdk)]
pub(crate) fn entries() -> Vec<Entry> {
    use crate::list::{A, B, C, D};
    const KIND: &str = concat!("shared, one size (", env!("VERSION_DPDK"), ")");
    let pool = |name, cache| Entry::threads(name, KIND, move |_| there::Pool::create(cache)).only(&[A, B, C, D]);
    vec![pool(CACHED, 256), pool(BARE, 0)]
}

#[cfg(dpdk)]
mod there {
    use crate::support::peers::Peer;
    use crate::support::{ARENA, Outcome};
    use std::ffi::{c_int, c_uint, c_void};
    use std::ptr::NonNull;

    /// The largest size of the mix.
    const ELEMENT: usize = 544;

    /// Its type is C's.
    type Mempool = c_void;

    // SAFETY: these are the functions of shims/dpdk.c.
    unsafe extern "C" {
        fn dpdk_start() -> c_int;
        fn dpdk_bytes(count: c_uint, size: c_uint) -> usize;
        fn dpdk_create(count: c_uint, size: c_uint, cache: c_uint) -> *mut Mempool;
        fn dpdk_enter() -> c_int;
        fn dpdk_leave();
        fn dpdk_get(pool: *mut Mempool) -> *mut u8;
        fn dpdk_put(pool: *mut Mempool, element: *mut u8);
    }

    pub(crate) struct Pool {
        pool: NonNull<Mempool>,
        bytes: usize,
    }

    // SAFETY: a mempool may be used by any number of threads.
    unsafe impl Sync for Pool {}

    impl Pool {
        /// The library can be started once in a process.
        pub(crate) fn create(cache: u32) -> Outcome<Self> {
            // SAFETY: no conditions but that.
            if unsafe { dpdk_start() } != 0 {
                return Err("DPDK did not start".into());
            }
            // SAFETY: only computes.
            let bytes = |count: usize| unsafe { dpdk_bytes(count as c_uint, ELEMENT as c_uint) };
            let mut count = ARENA / ELEMENT;
            while bytes(count) > ARENA {
                count -= 64;
            }
            // SAFETY: the library is started.
            let pool = NonNull::new(unsafe { dpdk_create(count as c_uint, ELEMENT as c_uint, cache) });
            Ok(Self { pool: pool.ok_or("DPDK refused to make the mempool")?, bytes: bytes(count) })
        }
    }

    /// A thread that has a number of DPDK's, and with it a cache in each mempool, until it ends.
    struct Registered;

    impl Drop for Registered {
        fn drop(&mut self) {
            // SAFETY: this thread was registered.
            unsafe { dpdk_leave() }
        }
    }

    thread_local! {
        static REGISTERED: Registered = {
            // SAFETY: the library is started.
            assert_eq!(unsafe { dpdk_enter() }, 0, "DPDK has no number left for a thread");
            Registered
        };
    }

    impl Peer for Pool {
        const WIDE: bool = true;
        type Block = *mut u8;
        fn enter(&self) {
            REGISTERED.with(|_| ());
        }
        #[inline(always)]
        fn allocate(&self, size: usize) -> Option<*mut u8> {
            if size > ELEMENT {
                return None;
            }
            // SAFETY: the pool lives as long as the process.
            let block = unsafe { dpdk_get(self.pool.as_ptr()) };
            (!block.is_null()).then_some(block)
        }
        #[inline(always)]
        fn touch(&self, block: &mut *mut u8, value: u64) {
            // SAFETY: a live element of 544 bytes, aligned to 8 at least, and this worker's alone.
            unsafe { block.cast::<u64>().write_volatile(value) }
        }
        #[inline(always)]
        fn free(&self, block: *mut u8, _: usize) {
            // SAFETY: the element is live, and this pool's.
            unsafe { dpdk_put(self.pool.as_ptr(), block) }
        }
        #[inline(always)]
        fn pass(&self, block: *mut u8) -> u64 {
            block.expose_provenance() as u64
        }
        #[inline(always)]
        fn free_passed(&self, message: u64, size: usize) {
            self.free(std::ptr::with_exposed_provenance_mut(message as usize), size);
        }
        fn arena(&self) -> Option<(usize, usize)> {
            Some((self.bytes, self.bytes))
        }
    }
}
