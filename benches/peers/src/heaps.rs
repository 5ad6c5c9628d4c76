//! Peers that work within one process.

use crate::support::peers::Peer;
use crate::support::{ARENA, Outcome};
use memmap2::{MmapMut, MmapOptions};
use rlsf::Tlsf;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;
use std::sync::Mutex;

/// Less alignment than a granule of AtomicMatrix, in their favour.
#[inline(always)]
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small power of two")
}

/// An allocator for Rust programs; it has all the memory that it wants.
pub(crate) struct Heap<G>(pub(crate) G);

impl<G: GlobalAlloc + Sync> Peer for Heap<G> {
    const WIDE: bool = true;
    type Block = *mut u8;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<*mut u8> {
        // SAFETY: the size is not 0.
        let block = unsafe { self.0.alloc(layout(size)) };
        (!block.is_null()).then_some(block)
    }
    #[inline(always)]
    fn touch(&self, block: *mut u8, value: u64) {
        // SAFETY: a live block of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: *mut u8, size: usize) {
        // SAFETY: the block is live and was allocated with this size.
        unsafe { self.0.dealloc(block, layout(size)) }
    }
    #[inline(always)]
    fn pass(&self, block: *mut u8) -> u64 {
        block.expose_provenance() as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.free(std::ptr::with_exposed_provenance_mut(message as usize), size);
    }
}

/// Of 32 size classes of first and second level each, which has room for a block of the whole arena.
type Bare = Tlsf<'static, u32, u32, 28, 32>;

/// rlsf, the TLSF in Rust, behind the standard library's Mutex.
pub(crate) struct Rlsf {
    tlsf: Mutex<Bare>,
    arena: MmapMut,
}

impl Rlsf {
    pub(crate) fn create() -> Outcome<Self> {
        let mut arena = MmapOptions::new().len(ARENA).populate().map_anon()?;
        let mut tlsf = Bare::new();
        let room = NonNull::slice_from_raw_parts(NonNull::new(arena.as_mut_ptr()).ok_or("no arena")?, ARENA);
        // SAFETY: the arena is ours alone, and lives as long as the allocator.
        unsafe { tlsf.insert_free_block_ptr(room) }.ok_or("rlsf refused its arena")?;
        Ok(Self { tlsf: Mutex::new(tlsf), arena })
    }
}

impl Peer for Rlsf {
    type Block = NonNull<u8>;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        self.tlsf.lock().expect("no worker panics while it holds the lock").allocate(layout(size))
    }
    #[inline(always)]
    fn touch(&self, block: NonNull<u8>, value: u64) {
        // SAFETY: a live block of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.cast::<u64>().as_ptr().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: NonNull<u8>, _: usize) {
        let mut tlsf = self.tlsf.lock().expect("no worker panics while it holds the lock");
        // SAFETY: the block is live and was allocated with this alignment.
        unsafe { tlsf.deallocate(block, 8) }
    }
    #[inline(always)]
    fn pass(&self, block: NonNull<u8>) -> u64 {
        (block.addr().get() - self.arena.as_ptr().addr()) as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        let block = self.arena.as_ptr().cast_mut().wrapping_add(message as usize);
        self.free(NonNull::new(block).expect("within the arena"), size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((ARENA, ARENA))
    }
}
