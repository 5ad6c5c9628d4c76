//! The peers, behind one adapter.

use super::{ARENA, Outcome};
use atomic_matrix::handlers::{Handler, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use memmap2::{MmapMut, MmapOptions};
use spinning_top::RawSpinlock;
use std::alloc::{GlobalAlloc, Layout, System};
use talc::TalcLock;
use talc::source::Manual;

/// What a workload does with an allocator.
pub(crate) trait Peer: Sync {
    /// Whether a message to another worker takes 64 bits; offsets take 32.
    const WIDE: bool = false;
    /// A live block, as its allocator's users hold it.
    type Block: Copy;

    fn allocate(&self, size: usize) -> Option<Self::Block>;
    /// Writes the first 8 bytes.
    fn touch(&self, block: Self::Block, value: u64);
    fn free(&self, block: Self::Block, size: usize);
    /// What to tell another worker, so that it can free the block.
    fn pass(&self, block: Self::Block) -> u64;
    fn free_passed(&self, message: u64, size: usize);
    /// All bytes that this peer takes, and those that can become blocks; none if there is no such bound.
    fn arena(&self) -> Option<(usize, usize)> {
        None
    }
}

/// The harness alone: what a workload costs without an allocator.
pub(crate) struct Nothing;

impl Peer for Nothing {
    type Block = u32;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<u32> {
        Some(std::hint::black_box(size as u32))
    }
    #[inline(always)]
    fn touch(&self, _: u32, value: u64) {
        std::hint::black_box(value);
    }
    #[inline(always)]
    fn free(&self, block: u32, _: usize) {
        std::hint::black_box(block);
    }
    #[inline(always)]
    fn pass(&self, block: u32) -> u64 {
        block as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, _: usize) {
        std::hint::black_box(message);
    }
}

/// A segment of our own; its name is removed in any case, also by a panic.
pub(crate) struct Matrix(pub(crate) Handler);

impl Matrix {
    pub(crate) fn create(strict: bool) -> Outcome<Self> {
        Ok(Self(AtomicMatrix::options().size(ARENA).strict(strict).populate(true).create()?))
    }
    /// Nobody else will attach: the name can go already, lest a killed benchmark leave it.
    pub(crate) fn hide(self) -> Outcome<Self> {
        self.0.unlink()?;
        Ok(self)
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        let _ = self.0.unlink(); // Gone already: fine.
    }
}

impl Peer for Matrix {
    type Block = RelativePtr<u8>;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<RelativePtr<u8>> {
        self.0.allocate_raw(size).ok()
    }
    #[inline(always)]
    fn touch(&self, block: RelativePtr<u8>, value: u64) {
        // SAFETY: a live block of 32 bytes at least, aligned to a granule, and this worker's alone.
        unsafe { self.0.resolve(&block).cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: RelativePtr<u8>, _: usize) {
        self.0.free_raw(block).expect("the block is live");
    }
    #[inline(always)]
    fn pass(&self, block: RelativePtr<u8>) -> u64 {
        block.offset() as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, _: usize) {
        self.0.free_at(message as u32).expect("the block is live");
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((ARENA, self.0.stats().ok()?.sector_bytes as usize))
    }
}

/// The layout that the in-process allocators are asked for: less alignment than a granule, in their favour.
#[inline(always)]
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small power of two")
}

/// talc 5 behind the spin lock that its documentation uses.
pub(crate) struct Talc {
    talc: TalcLock<RawSpinlock, Manual>,
    arena: MmapMut,
}

impl Talc {
    pub(crate) fn create() -> Outcome<Self> {
        let mut arena = MmapOptions::new().len(ARENA).populate().map_anon()?;
        let talc = TalcLock::new(Manual);
        // SAFETY: the arena is ours alone, and lives as long as the allocator.
        unsafe { talc.lock().claim(arena.as_mut_ptr(), ARENA) }.ok_or("talc refused its arena")?;
        Ok(Self { talc, arena })
    }
}

impl Peer for Talc {
    type Block = *mut u8;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<*mut u8> {
        // SAFETY: the size is not 0.
        let block = unsafe { self.talc.alloc(layout(size)) };
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
        unsafe { self.talc.dealloc(block, layout(size)) }
    }
    #[inline(always)]
    fn pass(&self, block: *mut u8) -> u64 {
        (block.addr() - self.arena.as_ptr().addr()) as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.free(self.arena.as_ptr().cast_mut().wrapping_add(message as usize), size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((ARENA, ARENA))
    }
}

/// The C library's allocator.
pub(crate) struct Malloc;

impl Peer for Malloc {
    const WIDE: bool = true;
    type Block = *mut u8;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<*mut u8> {
        // SAFETY: the size is not 0.
        let block = unsafe { System.alloc(layout(size)) };
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
        unsafe { System.dealloc(block, layout(size)) }
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
