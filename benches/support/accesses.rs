//! What the memory costs that a heap of this kind has to touch, without a heap: a bound where there are many blocks.

use super::peers::{Peer, fetch};
use super::{Arena, Outcome};
use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, memfd_create};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes for which there is a header of eight.
const SPAN: usize = 64;
const GRANULE: usize = 16;
/// Blocks of more bytes are given and taken by a compare-and-swap, others by a plain store, as the crate does.
const SMALL: usize = 1920;
const BINS: usize = 1024;
/// A sender looks for a block that has been freed again where so many are on their way.
const ON_THEIR_WAY: usize = 64;

thread_local! {
    /// A worker's free blocks by size, the newest last. Nobody else can have them.
    static FREE: RefCell<Vec<Vec<u32>>> = const { RefCell::new(vec![]) };
    /// What a worker has handed over, the newest last. It comes back by its header alone.
    static PASSED: RefCell<VecDeque<u32>> = const { RefCell::new(VecDeque::new()) };
}

/// Memory that others may map, and for each block a header apart from it. A worker takes its own newest free block of
/// a size, or new memory: nothing is searched, merged, cut or given to others, and nothing would survive a death.
pub(crate) struct Accesses {
    memory: MmapMut,
    headers: usize,
    next: AtomicUsize,
}

impl Accesses {
    pub(crate) fn create(Arena { bytes, warm }: Arena) -> Outcome<Self> {
        let file = File::from(memfd_create("accesses-alone", MemfdFlags::CLOEXEC)?);
        file.set_len(bytes as u64)?;
        let mut options = MmapOptions::new();
        if warm {
            options.populate();
        }
        // SAFETY: the file has no name, and nobody else its descriptor.
        let memory = unsafe { options.len(bytes).map_mut(&file) }?;
        let headers = bytes / (SPAN + 8) * 8 / SPAN * SPAN;
        Ok(Self { memory, headers, next: AtomicUsize::new(headers) })
    }

    /// The bytes that a request gets, and its bin: each size up to the small ones, sixteen to a power of two above.
    #[inline(always)]
    fn bin(size: usize) -> (usize, usize) {
        let granules = size.div_ceil(GRANULE).max(SPAN / GRANULE);
        if granules * GRANULE <= SMALL {
            return (granules * GRANULE, granules);
        }
        let step = granules.ilog2() - 4;
        let granules = granules.next_multiple_of(1 << step);
        let step = granules.ilog2() as usize - 4;
        (granules * GRANULE, 128 + step * 16 + (granules >> step) % 16)
    }

    #[inline(always)]
    fn header(&self, block: u32) -> &AtomicU64 {
        let span = (block as usize * GRANULE - self.headers) / SPAN;
        let at = (span * 8).min(self.headers - 8);
        // SAFETY: within the headers, which are a part of the memory and used through atomics alone.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(at).cast::<u64>().cast_mut()) }
    }

    #[inline(always)]
    fn change(&self, block: u32, size: usize, from: u64, to: u64) {
        let header = self.header(block);
        if size <= SMALL {
            assert_eq!(header.load(Ordering::Acquire), from, "its header");
            header.store(to, Ordering::Release);
        } else {
            header.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).expect("its header");
        }
    }

    /// The oldest block that was handed over, if it is free again; all are of one size.
    #[inline(always)]
    fn come_back(&self) -> Option<u32> {
        PASSED.with_borrow_mut(|passed| {
            let oldest = *passed.front().filter(|_| passed.len() > ON_THEIR_WAY)?;
            let is_free = self.header(oldest).load(Ordering::Acquire) == 0;
            if is_free { passed.pop_front() } else { None }
        })
    }
}

impl Peer for Accesses {
    type Block = u32;

    fn enter(&self) {
        FREE.set(vec![vec![]; BINS]);
        PASSED.take();
    }
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<u32> {
        let (bytes, bin) = Self::bin(size);
        let newest = FREE.with_borrow_mut(|free| free[bin].pop());
        let block = newest.or_else(|| self.come_back()).or_else(|| {
            let at = self.next.fetch_add(bytes, Ordering::Relaxed);
            (at + bytes <= self.memory.len()).then_some((at / GRANULE) as u32)
        })?;
        self.change(block, bytes, 0, 1);
        Some(block)
    }
    #[inline(always)]
    fn touch(&self, block: &mut u32, value: u64) {
        let at = *block as usize * GRANULE;
        // SAFETY: a block of this memory, aligned to a granule, and this worker's alone.
        unsafe { self.memory.as_ptr().cast_mut().add(at).cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: u32, size: usize) {
        let (bytes, bin) = Self::bin(size);
        self.change(block, bytes, 1, 0);
        FREE.with_borrow_mut(|free| free[bin].push(block));
    }
    #[inline(always)]
    fn pass(&self, block: u32) -> u64 {
        PASSED.with_borrow_mut(|passed| passed.push_back(block));
        block.into()
    }
    #[inline(always)]
    fn expect_passed(&self, message: u64) {
        fetch(self.header(message as u32).as_ptr().addr() as u64);
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.change(message as u32, Self::bin(size).0, 1, 0);
    }
}
