//! The peers, behind one adapter.

use super::drift::Walked;
use super::{Arena, Outcome};
use atomic_matrix::handlers::{Handler, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use memmap2::{MmapMut, MmapOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::NonNull;
use talc::DefaultBinning;
use talc::source::Manual;

/// What a workload does with an allocator.
pub(crate) trait Peer: Sync {
    /// Whether a message to another worker takes 64 bits; offsets take 32.
    const WIDE: bool = false;
    /// A live block, as its allocator's users hold it.
    type Block;

    /// What a worker does before its first operation.
    fn enter(&self) {}
    fn allocate(&self, size: usize) -> Option<Self::Block>;
    /// Writes the first 8 bytes.
    fn touch(&self, block: &mut Self::Block, value: u64);
    fn free(&self, block: Self::Block, size: usize);
    /// What to tell another worker, so that it can free the block.
    fn pass(&self, block: Self::Block) -> u64;
    fn free_passed(&self, message: u64, size: usize);
    /// The message will be freed here soon: what that needs may be fetched.
    #[inline(always)]
    fn expect_passed(&self, _message: u64) {}
    /// All bytes that this peer takes, and those that can become blocks; none if there is no such bound.
    fn arena(&self) -> Option<(usize, usize)> {
        None
    }
    /// What a walk over its blocks says, if there is such a walk.
    fn walked(&self) -> Option<Walked> {
        None
    }
}

/// Slots that the harness alone hands out.
const SLOTS: usize = 256;

thread_local! {
    /// A line for each slot.
    static MEMORY: [[Cell<u64>; 8]; SLOTS] = const { [const { [const { Cell::new(0) }; 8] }; SLOTS] };
    static NEXT: Cell<u32> = const { Cell::new(0) };
}

/// The harness alone: what a workload costs without an allocator. Hands out the slots of an array in turn,
/// whether live or not.
pub(crate) struct Nothing;

impl Peer for Nothing {
    type Block = u32;
    #[inline(always)]
    fn allocate(&self, _: usize) -> Option<u32> {
        Some(NEXT.replace((NEXT.get() + 1) % SLOTS as u32))
    }
    #[inline(always)]
    fn touch(&self, block: &mut u32, value: u64) {
        // SAFETY: the pointer comes from a cell of this thread's, and is used at once.
        MEMORY.with(|memory| unsafe { memory[*block as usize % SLOTS][0].as_ptr().write_volatile(value) });
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
    pub(crate) fn create(size: usize, strict: bool) -> Outcome<Self> {
        Self::within(Arena { bytes: size, warm: true }, strict)
    }
    pub(crate) fn within(Arena { bytes, warm }: Arena, strict: bool) -> Outcome<Self> {
        Ok(Self(AtomicMatrix::options().size(bytes).strict(strict).populate(warm).create()?))
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
    fn touch(&self, block: &mut RelativePtr<u8>, value: u64) {
        // SAFETY: a live block of 32 bytes at least, aligned to a granule, and this worker's alone.
        unsafe { self.0.resolve(block).cast::<u64>().write_volatile(value) }
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
    #[inline(always)]
    fn expect_passed(&self, message: u64) {
        self.0.will_free_at(message as u32);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((self.0.matrix().segment().len(), self.0.stats().ok()?.sector_bytes as usize))
    }
    fn walked(&self) -> Option<Walked> {
        let stats = self.0.stats().ok()?;
        let (entropy_bits, largest_free) = (stats.entropy_bits, stats.largest_free);
        Some(Walked { entropy_bits, largest_free, parked_bytes: stats.parked_bytes })
    }
}

/// The layout that the in-process allocators are asked for: less alignment than a granule, in their favour.
#[inline(always)]
pub(crate) fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small power of two")
}

/// Fetches the line of a block and that of the header in front of it, to be written.
#[inline(always)]
pub(crate) fn fetch(block: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        let block = block as *const i8;
        // SAFETY: hints, which may be about any address.
        unsafe {
            _mm_prefetch::<_MM_HINT_ET0>(block);
            _mm_prefetch::<_MM_HINT_ET0>(block.wrapping_sub(8));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

/// Memory for a peer that brings none.
pub(crate) fn memory(bytes: usize, warm: bool) -> std::io::Result<MmapMut> {
    let mut options = MmapOptions::new();
    if warm {
        options.populate();
    }
    options.len(bytes).map_anon()
}

/// The allocator of talc 5, which needs a lock.
type Bare = talc::base::Talc<Manual, DefaultBinning>;

/// A lock around it.
pub(crate) trait Lock: Sync {
    fn new(talc: Bare) -> Self;
    fn with<T>(&self, operation: impl FnOnce(&mut Bare) -> T) -> T;
}

/// The spin lock that talc's documentation uses.
pub(crate) type Spin = spinning_top::Spinlock<Bare>;

impl Lock for Spin {
    fn new(talc: Bare) -> Self {
        Spin::new(talc)
    }
    #[inline(always)]
    fn with<T>(&self, operation: impl FnOnce(&mut Bare) -> T) -> T {
        operation(&mut self.lock())
    }
}

pub(crate) type Mutex = std::sync::Mutex<Bare>;

impl Lock for Mutex {
    fn new(talc: Bare) -> Self {
        Mutex::new(talc)
    }
    #[inline(always)]
    fn with<T>(&self, operation: impl FnOnce(&mut Bare) -> T) -> T {
        operation(&mut self.lock().expect("no worker panics while it holds the lock"))
    }
}

/// talc 5 behind a lock.
pub(crate) struct Talc<L> {
    talc: L,
    arena: MmapMut,
}

impl<L: Lock> Talc<L> {
    pub(crate) fn create(Arena { bytes, warm }: Arena) -> Outcome<Self> {
        let mut arena = memory(bytes, warm)?;
        let mut talc = Bare::new(Manual);
        // SAFETY: the arena is ours alone, and lives as long as the allocator.
        unsafe { talc.claim(arena.as_mut_ptr(), bytes) }.ok_or("talc refused its arena")?;
        Ok(Self { talc: L::new(talc), arena })
    }
}

impl<L: Lock> Peer for Talc<L> {
    type Block = *mut u8;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<*mut u8> {
        // SAFETY: the size is not 0.
        self.talc.with(|talc| unsafe { talc.allocate(layout(size)) }).map(NonNull::as_ptr)
    }
    #[inline(always)]
    fn touch(&self, block: &mut *mut u8, value: u64) {
        // SAFETY: a live block of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: *mut u8, size: usize) {
        // SAFETY: the block is live and was allocated with this size.
        self.talc.with(|talc| unsafe { talc.deallocate(block, layout(size)) })
    }
    #[inline(always)]
    fn pass(&self, block: *mut u8) -> u64 {
        (block.addr() - self.arena.as_ptr().addr()) as u64
    }
    #[inline(always)]
    fn expect_passed(&self, message: u64) {
        fetch(self.arena.as_ptr().addr() as u64 + message);
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.free(self.arena.as_ptr().cast_mut().wrapping_add(message as usize), size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((self.arena.len(), self.arena.len()))
    }
}

/// An allocator that could be the whole program's.
pub(crate) struct Global<A>(pub(crate) A);

/// The C library's.
pub(crate) fn malloc() -> Global<System> {
    Global(System)
}

impl<A: GlobalAlloc + Sync> Peer for Global<A> {
    const WIDE: bool = true;
    type Block = *mut u8;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<*mut u8> {
        // SAFETY: the size is not 0.
        let block = unsafe { self.0.alloc(layout(size)) };
        (!block.is_null()).then_some(block)
    }
    #[inline(always)]
    fn touch(&self, block: &mut *mut u8, value: u64) {
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
    fn expect_passed(&self, message: u64) {
        fetch(message);
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.free(std::ptr::with_exposed_provenance_mut(message as usize), size);
    }
}
