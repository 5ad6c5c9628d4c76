//! iceoryx2: its pool allocator, buckets of one size; and what its users hold, a publisher's loans.

use crate::list::{A, B, FIXED};
use crate::support::peers::Peer;
use crate::support::registry::Entry;
use crate::support::{ARENA, Outcome};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::prelude::{Alignment, NodeBuilder, ipc};
use iceoryx2::sample_mut_uninit::SampleMutUninit;
use iceoryx2_bb_elementary::bump_allocator::BumpAllocator;
use iceoryx2_bb_memory::pool_allocator::{Allocate, Deallocate, PoolAllocator};
use memmap2::{MmapMut, MmapOptions};
use std::alloc::Layout;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// The largest size of the mix, in whole lines.
const BUCKET: usize = 576;
/// The largest size of the mix.
const LARGEST: usize = 544;

struct Pool {
    /// In a box: it must not move once it is initialised.
    pool: Box<PoolAllocator>,
    arena: MmapMut,
}

// SAFETY: by its documentation the pool is safe to use from any number of threads.
unsafe impl Sync for Pool {}

impl Pool {
    fn create() -> Outcome<Self> {
        let mut arena = MmapOptions::new().len(ARENA).populate().map_anon()?;
        let bucket = Layout::from_size_align(BUCKET, 64)?;
        // Its list of free buckets comes out of the same arena.
        let list = PoolAllocator::memory_size(bucket, ARENA).next_multiple_of(4096);
        let start = NonNull::new(arena.as_mut_ptr()).ok_or("no arena")?;
        // SAFETY: within the arena.
        let payload = unsafe { start.add(list) };
        // SAFETY: that many bytes are there, ours alone, as long as the pool lives: they are dropped together.
        let mut pool = Box::new(unsafe { PoolAllocator::new_uninit(bucket, payload, ARENA - list) });
        // SAFETY: once, before anything else, and the box stays where it is.
        unsafe { pool.init(&BumpAllocator::new(start, list)) }.map_err(|error| format!("no pool: {error:?}"))?;
        Ok(Self { pool, arena })
    }
}

impl Peer for Pool {
    type Block = NonNull<u8>;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<NonNull<u8>> {
        if size > BUCKET {
            return None; // It would say so in its log.
        }
        self.pool.allocate(crate::support::peers::layout(size)).ok()
    }
    #[inline(always)]
    fn touch(&self, block: &mut NonNull<u8>, value: u64) {
        // SAFETY: a live bucket of 576 bytes, aligned to 64, and this worker's alone.
        unsafe { block.cast::<u64>().as_ptr().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: the bucket is live.
        unsafe { self.pool.deallocate(block, crate::support::peers::layout(size)) }
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
        Some((ARENA, ARENA))
    }
}

type Loan = SampleMutUninit<ipc::Service, [MaybeUninit<u8>], ()>;

thread_local! {
    /// A publisher belongs to one thread.
    static PUBLISHER: RefCell<Option<Publisher<ipc::Service, [u8], ()>>> = const { RefCell::new(None) };
}

/// Each worker borrows of a publisher of its own and gives back unsent.
struct Loans;

fn publisher() -> Outcome<Publisher<ipc::Service, [u8], ()>> {
    let name = format!("atomic-matrix-peers/{}", uuid::Uuid::new_v4());
    let node = NodeBuilder::new().create::<ipc::Service>().map_err(|error| format!("no node: {error:?}"))?;
    let service = node
        .service_builder(&name.as_str().try_into().map_err(|error| format!("{name}: {error:?}"))?)
        .publish_subscribe::<[u8]>()
        .payload_alignment(Alignment::new(8).ok_or("8 is a power of two")?)
        .create()
        .map_err(|error| format!("no service: {error:?}"))?;
    let builder = service.publisher_builder().initial_max_slice_len(LARGEST).max_loaned_samples(256);
    Ok(builder.create().map_err(|error| format!("no publisher: {error:?}"))?)
}

impl Peer for Loans {
    type Block = Loan;
    fn enter(&self) {
        PUBLISHER.set(Some(publisher().expect("a publisher for each worker")));
    }
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<Loan> {
        PUBLISHER.with_borrow(|publisher| publisher.as_ref()?.loan_slice_uninit(size).ok())
    }
    #[inline(always)]
    fn touch(&self, block: &mut Loan, value: u64) {
        // SAFETY: a loan of 32 bytes at least, aligned to 8, and this worker's alone.
        unsafe { block.payload_mut().as_mut_ptr().cast::<u64>().write_volatile(value) }
    }
    #[inline(always)]
    fn free(&self, block: Loan, _: usize) {
        drop(block);
    }
    fn pass(&self, _: Loan) -> u64 {
        unreachable!("a loan belongs to its thread: no hand-over")
    }
    fn free_passed(&self, _: u64, _: usize) {
        unreachable!("a loan belongs to its thread: no hand-over")
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry::threads("iceoryx2 0.10 pool", FIXED, Pool::create),
        Entry::threads("iceoryx2 0.10 loan and drop", "shared, one size; own memory for each worker", || Ok(Loans))
            .only(&[A, B]),
    ]
}
