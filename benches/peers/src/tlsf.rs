//! rlsf: two-level segregated fit, in process, behind the standard library's mutex.

use crate::list::PRIVATE;
use crate::support::peers::{Peer, layout, memory};
use crate::support::registry::Entry;
use crate::support::{Arena, Outcome};
use memmap2::MmapMut;
use rlsf::Tlsf;
use std::ptr::NonNull;
use std::sync::Mutex;

/// Sizes up to 2 GiB, each power of two in 32 steps.
type Pool = Tlsf<'static, u32, u32, 26, 32>;

struct Locked {
    pool: Mutex<Pool>,
    arena: MmapMut,
}

impl Locked {
    fn create(Arena { bytes, warm }: Arena) -> Outcome<Self> {
        let mut arena = memory(bytes, warm)?;
        let mut pool = Pool::new();
        let whole = NonNull::slice_from_raw_parts(NonNull::new(arena.as_mut_ptr()).ok_or("no arena")?, bytes);
        // SAFETY: the arena is ours alone, and lives as long as the pool: they are dropped together.
        unsafe { pool.insert_free_block_ptr(whole) }.ok_or("rlsf refused its arena")?;
        Ok(Self { pool: Mutex::new(pool), arena })
    }
    #[inline(always)]
    fn with<T>(&self, operation: impl FnOnce(&mut Pool) -> T) -> T {
        operation(&mut self.pool.lock().expect("no worker panics while it holds the lock"))
    }
}

impl Peer for Locked {
    type Block = NonNull<u8>;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        self.with(|pool| pool.allocate(layout(size)))
    }
    #[inline(always)]
    fn touch(&self, block: &mut NonNull<u8>, value: u64) {
        // SAFETY: a live block of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.cast::<u64>().as_ptr().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: NonNull<u8>, _: usize) {
        // SAFETY: the block is live and was allocated with this alignment.
        self.with(|pool| unsafe { pool.deallocate(block, layout(1).align()) })
    }
    #[inline(always)]
    fn pass(&self, block: NonNull<u8>) -> u64 {
        (block.addr().get() - self.arena.as_ptr().addr()) as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        let block = self.arena.as_ptr().cast_mut().wrapping_add(message as usize);
        self.free(NonNull::new(block).expect("an offset that was passed"), size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((self.arena.len(), self.arena.len()))
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry::threads("rlsf 0.2 + Mutex", PRIVATE, Locked::create).sleeping()]
}
