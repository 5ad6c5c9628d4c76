//! Whoever publishes: zenoh's shared memory, allocated in a segment of AtomicMatrix.

use crate::{id, sweep};
use atomic_matrix::{Error, Handler, Options, Result};
use std::alloc::Layout;
use std::sync::Arc;
use zenoh::shm::{
    AllocatedChunk, ChunkAllocResult, ChunkDescriptor, MemoryLayout, ProtocolID, PtrInSegment, SegmentID,
    ShmProviderBackend, WithProtocolID, ZAllocError, ZLayoutError,
};

/// How zenoh's processes know this sort of shared memory: both ends need it. (`AMx` and a version.)
pub const PROTOCOL: ProtocolID = 0x414d_7801;

/// The largest alignment of a block, in bytes.
const LARGEST_ALIGN: usize = 4096;

/// A provider back end: `ShmProviderBuilder::backend(Provider::new(bytes)?)`.
///
/// Any thread may allocate and free; no thread waits for another.
#[derive(Debug)]
pub struct Provider {
    segment: SegmentID,
    /// Zenoh's buffers keep it, and so the mapping, beside the provider.
    handler: Arc<Handler>,
}

impl Provider {
    /// A provider with a segment of so many bytes, which its user's processes may receive from.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn new(bytes: usize) -> Result<Self> {
        Self::with(&Options::new().size(bytes))
    }

    /// The same with a choice of mode, group, huge pages and so on: whoever receives has to have the right to write
    /// as well, as zenoh gives buffers that nobody else holds to be changed. The id and [`Options::keep_orphans`] are
    /// this call's. Names that killed providers have left are removed.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn with(options: &Options) -> Result<Self> {
        sweep();
        loop {
            let segment = fresh();
            match options.clone().id(id(segment)).keep_orphans(true).create() {
                Err(Error::AlreadyExists { .. }) => {}
                made => {
                    let provider = Self { segment, handler: Arc::new(made?) };
                    // From here on its process is known to live (`abandoned`).
                    let first = provider.handler.allocate_raw(1)?;
                    provider.handler.free_raw(first)?;
                    return Ok(provider);
                }
            }
        }
    }

    /// The handler of the segment, to look into it. What is allocated with it is this process's, and no buffer of
    /// zenoh's.
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Zenoh's number for the segment.
    pub fn segment(&self) -> SegmentID {
        self.segment
    }
}

/// A random number, without a generator of one's own.
fn fresh() -> SegmentID {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) as SegmentID
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Zenoh has invalidated what is on its way: nobody has to attach any more. In a forked child it is refused.
        let _ = self.handler.unlink();
    }
}

impl WithProtocolID for Provider {
    fn id(&self) -> ProtocolID {
        PROTOCOL
    }
}

impl ShmProviderBackend for Provider {
    fn alloc(&self, layout: &MemoryLayout) -> ChunkAllocResult {
        let (size, align) = (layout.size(), layout.alignment().get_alignment_value());
        let wanted = Layout::from_size_align(size.get(), align.get()).map_err(|_| ZAllocError::Other)?;
        let block = self.handler.allocate_layout(wanted).map_err(refused)?;
        let chunk = ChunkDescriptor::new(self.segment, block.offset(), size);
        Ok(AllocatedChunk::new(chunk, PtrInSegment::new(self.handler.resolve(&block), self.handler.clone())))
    }

    fn free(&self, chunk: &ChunkDescriptor) {
        // Zenoh frees each chunk once. What is no live block is refused, and changes nothing.
        let _ = self.handler.free_at(chunk.chunk);
    }

    /// Merges what is free, and says how large the largest free block is. O(blocks).
    fn defragment(&self) -> usize {
        let _ = self.handler.heal();
        self.handler.stats().map_or(0, |stats| stats.largest_free as usize)
    }

    /// Free bytes, in one block or in many. O(blocks).
    fn available(&self) -> usize {
        self.handler.stats().map_or(0, |stats| (stats.free_bytes + stats.parked_bytes) as usize)
    }

    fn layout_for(&self, layout: MemoryLayout) -> std::result::Result<MemoryLayout, ZLayoutError> {
        let aligned = layout.alignment().get_alignment_value().get() <= LARGEST_ALIGN;
        if aligned { Ok(layout) } else { Err(ZLayoutError::ProviderIncompatibleLayout) }
    }
}

/// Zenoh's word for it. Its policies free what nobody holds, and then try again only if one buffer of those was
/// large enough; `Defragment` tries again if what was merged of them is.
fn refused(error: Error) -> ZAllocError {
    match error {
        Error::OutOfMemory { .. } => ZAllocError::NeedDefragment,
        Error::TooLarge { .. } => ZAllocError::OutOfMemory,
        _ => ZAllocError::Other,
    }
}
