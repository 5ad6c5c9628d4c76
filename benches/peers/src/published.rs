//! The published crate, atomic-matrix 0.4.1, through its untyped calls. It corrupts its memory after some operations: see its end.

use crate::list::{A, B, C, D, SHARED};
use crate::support::peers::Peer;
use crate::support::registry::Entry;
use crate::support::{ARENA, Outcome};
use published::core::handlers::{HandlerFunctions, MatrixHandler, SharedHandler};
use published::core::matrix::{AtomicMatrix, BlockHeader, RelativePtr, helpers};

struct Published {
    handler: SharedHandler,
    base: *const u8,
    /// Keeps the mapping.
    _whole: MatrixHandler,
}

// SAFETY: by its documentation the segment may be used by any number of threads through such handlers.
unsafe impl Sync for Published {}

impl Published {
    fn create() -> Outcome<Self> {
        let id = format!("peers-{}", std::process::id());
        let whole = AtomicMatrix::bootstrap(Some(id), ARENA - helpers::METADATA_SPACE as usize)
            .map_err(|error| format!("the segment was refused: {error:?}"))?;
        // SAFETY: nobody else will attach; what is mapped stays. It may crash, so the name goes first.
        unsafe { whole.die() }.map_err(|error| format!("the name was not removed: {error:?}"))?;
        let handler = whole.share();
        Ok(Self { base: handler.base_ptr(), handler, _whole: whole })
    }
}

impl Peer for Published {
    /// The payload's offset.
    type Block = u32;
    #[inline(always)]
    fn allocate(&self, size: usize) -> Option<u32> {
        self.handler.allocate_raw(size as u32).ok().map(|block| block.offset())
    }
    #[inline(always)]
    fn touch(&self, block: &mut u32, value: u64) {
        // SAFETY: what the allocator gave out; if it lies outside the mapping, this process ends here, as a user's would.
        unsafe { self.base.cast_mut().add(*block as usize).cast::<[u8; 8]>().write_volatile(value.to_ne_bytes()) }
    }
    #[inline(always)]
    fn free(&self, block: u32, _: usize) {
        let header = RelativePtr::<BlockHeader>::new(block - helpers::HEADER_SPACE);
        self.handler.matrix().ack(&header, self.base);
    }
    #[inline(always)]
    fn pass(&self, block: u32) -> u64 {
        block as u64
    }
    #[inline(always)]
    fn free_passed(&self, message: u64, size: usize) {
        self.free(message as u32, size);
    }
    fn arena(&self) -> Option<(usize, usize)> {
        Some((ARENA, ARENA - helpers::METADATA_SPACE as usize))
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![Entry::threads("published crate 0.4.1, threads", SHARED, Published::create).only(&[A, B, C, D])]
}
