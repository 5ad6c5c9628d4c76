//! zenoh's shared memory: its allocator alone (talc 4 behind a mutex), and the provider that its users hold.

use crate::list::SINGLE;
use crate::support::peers::Peer;
use crate::support::registry::Entry;
use crate::support::{Arena, Outcome};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use zenoh_core::Wait;
use zenoh_shm::api::buffer::zshmmut::ZShmMut;
use zenoh_shm::api::protocol_implementations::posix::posix_shm_provider_backend_talc::PosixShmProviderBackendTalc;
use zenoh_shm::api::provider::chunk::AllocatedChunk;
use zenoh_shm::api::provider::memory_layout::MemoryLayout;
use zenoh_shm::api::provider::shm_provider::{GarbageCollect, ShmProvider, ShmProviderBuilder};
use zenoh_shm::api::provider::shm_provider_backend::ShmProviderBackend;
use zenoh_shm::api::provider::types::AllocAlignment;

/// Twice what the ring and both its sides hold.
const HELD: u64 = 4096;

/// Blocks on their way from one producer to one consumer: what is passed is the place of a handle that is no
/// plain number.
struct Passed<T> {
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
    next: AtomicU64,
}

// SAFETY: a place is written by the one producer, and read by the one consumer after the ring, with release
// and acquire, has passed its number on; it is written again only when the ring has passed HELD more, and it
// holds but a part of these.
unsafe impl<T: Send> Sync for Passed<T> {}

impl<T> Passed<T> {
    fn new() -> Self {
        let places = (0..HELD).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        Self { places, next: AtomicU64::new(0) }
    }
    #[inline(always)]
    fn put(&self, block: T) -> u64 {
        let place = self.next.load(Ordering::Relaxed) % HELD;
        self.next.store(place + 1, Ordering::Relaxed);
        // SAFETY: see `Sync`.
        unsafe { (*self.places[place as usize].get()).write(block) };
        place
    }
    /// Once for each number.
    #[inline(always)]
    fn take(&self, place: u64) -> T {
        // SAFETY: see `Sync`; it was put there, and is taken once.
        unsafe { (*self.places[place as usize].get()).assume_init_read() }
    }
}

fn layout(size: usize) -> Option<MemoryLayout> {
    (size.next_multiple_of(8), AllocAlignment::ALIGN_8_BYTES).try_into().ok()
}

fn backend(Arena { bytes, warm }: Arena) -> Outcome<PosixShmProviderBackendTalc> {
    let all = layout(bytes).ok_or("zenoh refused the arena's layout")?;
    let backend = PosixShmProviderBackendTalc::builder(all).wait().map_err(|error| format!("no arena: {error}"))?;
    // The pages come with the first touch: touch them before the start.
    if warm
        && let Some(whole) = layout(bytes / 10 * 9)
        && let Ok(chunk) = backend.alloc(&whole)
    {
        // SAFETY: a live chunk of that size, this thread's alone.
        unsafe { chunk.data.ptr().cast_mut().write_bytes(0, bytes / 10 * 9) };
        backend.free(&chunk.descriptor);
    }
    Ok(backend)
}

struct Backend {
    bytes: usize,
    backend: PosixShmProviderBackendTalc,
    passed: Passed<AllocatedChunk>,
}

impl Peer for Backend {
    type Block = AllocatedChunk;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<AllocatedChunk> {
        self.backend.alloc(&layout(size)?).ok()
    }
    #[inline(always)]
    fn touch(&self, block: &mut AllocatedChunk, value: u64) {
        // SAFETY: a live chunk of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.data.ptr_mut().cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: AllocatedChunk, _: usize) {
        self.backend.free(&block.descriptor);
    }
    #[inline(always)]
    fn pass(&self, block: AllocatedChunk) -> u64 {
        self.passed.put(block)
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.free(self.passed.take(message), size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((self.bytes, self.bytes))
    }
}

struct Provider {
    bytes: usize,
    provider: ShmProvider<PosixShmProviderBackendTalc>,
    passed: Passed<ZShmMut>,
}

impl Peer for Provider {
    type Block = ZShmMut;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<ZShmMut> {
        self.provider.alloc(layout(size)?).with_policy::<GarbageCollect>().wait().ok()
    }
    #[inline(always)]
    fn touch(&self, block: &mut ZShmMut, value: u64) {
        // SAFETY: a live buffer of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.as_mut_ptr().cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: ZShmMut, _: usize) {
        drop(block);
    }
    #[inline(always)]
    fn pass(&self, block: ZShmMut) -> u64 {
        self.passed.put(block)
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.free(self.passed.take(message), size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((self.bytes, self.bytes))
    }
}

/// Removes the segments that no process holds any more: a process that ends leaves some to the next.
pub(crate) fn clean() {
    zenoh_shm::api::cleanup::cleanup_orphaned_shm_segments();
}

pub(crate) fn entries() -> Vec<Entry> {
    let alone = Entry::threads("zenoh-shm 1.10 back end", SINGLE, |arena| {
        Ok(Backend { bytes: arena.bytes, backend: backend(arena)?, passed: Passed::new() })
    });
    let provider = Entry::threads("zenoh-shm 1.10 provider", SINGLE, |arena| {
        Ok(Provider {
            bytes: arena.bytes,
            provider: ShmProviderBuilder::backend(backend(arena)?).wait(),
            passed: Passed::new(),
        })
    });
    // Their mutexes sleep.
    vec![alone.sleeping(), provider.sleeping()]
}
