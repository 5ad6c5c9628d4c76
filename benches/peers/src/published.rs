//! The published crate, atomic-matrix 0.4.1, through its untyped calls. It corrupts its memory after some
//! operations: see its end.

use crate::list::{A, B, C, D, SHARED, W};
use crate::support::peers::Peer;
use crate::support::registry::{self, Entry};
use crate::support::{ARENA, Outcome, work};
use published::core::handlers::{HandlerFunctions, MatrixHandler, SharedHandler};
use published::core::matrix::{AtomicMatrix, BlockHeader, RelativePtr, helpers};
use std::sync::atomic::{AtomicU64, Ordering};

/// No value that a workload writes.
const UNTOUCHED: u64 = u64::MAX;

/// Counts the blocks whose first bytes were overwritten while they were live: such a run has no figure.
struct Published {
    broken: AtomicU64,
    bytes: usize,
    handler: SharedHandler,
    base: *const u8,
    /// Keeps the mapping.
    _whole: MatrixHandler,
}

// SAFETY: by its documentation the segment may be used by any number of threads through such handlers.
unsafe impl Sync for Published {}

impl Published {
    fn create(bytes: usize) -> Outcome<Self> {
        let id = format!("peers-{}", std::process::id());
        let whole = AtomicMatrix::bootstrap(Some(id), bytes - helpers::METADATA_SPACE as usize)
            .map_err(|error| format!("the segment was refused: {error:?}"))?;
        // SAFETY: nobody else will attach; what is mapped stays. It may crash, so the name goes first.
        unsafe { whole.die() }.map_err(|error| format!("the name was not removed: {error:?}"))?;
        let handler = whole.share();
        Ok(Self { broken: AtomicU64::new(0), bytes, base: handler.base_ptr(), handler, _whole: whole })
    }
}

#[derive(Clone, Copy)]
struct Block {
    /// The payload's.
    offset: u32,
    /// What was written there.
    value: u64,
}

impl Published {
    /// The first bytes.
    #[inline(always)]
    fn head(&self, offset: u32) -> *mut [u8; 8] {
        self.base.cast_mut().wrapping_add(offset as usize).cast()
    }
    #[inline(always)]
    fn ack(&self, offset: u32) {
        let header = RelativePtr::<BlockHeader>::new(offset - helpers::HEADER_SPACE);
        self.handler.matrix().ack(&header, self.base);
    }
    /// What a run gave, if no block was broken in it.
    fn checked<T>(&self, result: T) -> Outcome<T> {
        match self.broken.load(Ordering::Relaxed) {
            0 => Ok(result),
            broken => Err(format!("no figure: {broken} live blocks were overwritten through others").into()),
        }
    }
}

impl Peer for Published {
    type Block = Block;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<Block> {
        let block = self.handler.allocate_raw(size as u32).ok()?;
        Some(Block { offset: block.offset(), value: UNTOUCHED })
    }
    #[inline(always)]
    fn touch(&self, block: &mut Block, value: u64) {
        block.value = value;
        // SAFETY: what the allocator gave out; if it lies outside the mapping, this process ends here, as a
        // user's would.
        unsafe { self.head(block.offset).write_volatile(value.to_ne_bytes()) }
    }
    #[inline(always)]
    fn free(&self, Block { offset, value }: Block, _: usize) {
        // SAFETY: as in `touch`.
        if value != UNTOUCHED && unsafe { self.head(offset).read_volatile() } != value.to_ne_bytes() {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
        self.ack(offset);
    }
    #[inline(always)]
    fn pass(&self, block: Block) -> u64 {
        block.offset as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, _: usize) {
        self.ack(message as u32);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((self.bytes, self.bytes - helpers::METADATA_SPACE as usize))
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    let measure = |roles: &[_], seconds: f64| {
        let peer = Published::create(registry::arena_of(roles).bytes)?;
        peer.checked(registry::threads(&peer, roles, seconds)?)
    };
    let pack = || {
        let peer = Published::create(ARENA)?;
        peer.checked(work::pack(&peer))
    };
    vec![Entry::own("published crate 0.4.1, threads", SHARED, measure).packing(pack).only(&[A, B, C, D, W])]
}
