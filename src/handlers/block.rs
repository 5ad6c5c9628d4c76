//! Blocks are allocated and freed.

use super::handler::Handler;
use super::pointer::{Block, RelativePtr};
use crate::backend::{Native, Reach};
use crate::error::{Error, Result};
use crate::matrix::block_header::Header;
use crate::matrix::heap::{Exhausted, Kind, Live, ThreadCache};
use crate::segment::layout::{Geometry, Granule, SECTOR_ALIGN, SPAN_BYTES, Usual};
use crate::shared::{Shared, room};
use std::marker::PhantomData;

/// Every block is aligned to the smallest granule.
const LEAST_ALIGN: usize = 16;
/// Blocks that an allocation looks at in a recovery before it sees whether it can be served: a fraction of a
/// millisecond's work.
const RECOVERED_AT_ONCE: u32 = 4096;
/// Spans of a sector whose walk takes longer than to ask who is dead: that is a microsecond or two for each process.
const LONG_WALK: u32 = 1 << 20;

/// The four basic calls: allocate, write, read, free.
pub trait HandlerFunctions {
    /// Allocates a block for a `T`, uninitialised (whatever bytes were there before); a `T` of no bytes has one, too.
    /// O(1) amortised: as [`Handler::allocate_raw`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::NoMembarrier`], [`Error::TooLarge`], [`Error::BadAlignment`],
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    fn allocate<T: Shared>(&self) -> Result<Block<T>>;

    /// Writes a value. For a copy that checks the block first, see [`Handler::store`].
    ///
    /// # Panics
    /// If the block is another segment's.
    ///
    /// # Safety
    /// The block is live, and nobody else reads or writes its payload meanwhile.
    unsafe fn write<T: Shared>(&self, block: &mut Block<T>, value: T);

    /// Reads the value. For a copy that checks the block first, see [`Handler::load`].
    ///
    /// # Panics
    /// If the block is another segment's.
    ///
    /// # Safety
    /// The block is live, and nobody writes its payload meanwhile.
    unsafe fn read<T: Shared>(&self, block: &Block<T>) -> T;

    /// Frees a block: ALLOCATED → ACKED, and merged at once or when parked blocks flush. Any refusal is ignored (it
    /// was freed already through its offset, is another segment's or a structure's by now, or this is a forked
    /// child): [`Handler::try_free`] tells.
    fn free<T>(&self, block: Block<T>);
}

impl HandlerFunctions for Handler {
    #[inline]
    fn allocate<T: Shared>(&self) -> Result<Block<T>> {
        let pointer = self.allocate_bytes(room::<T>(), align_of::<T>(), Kind::Typed(T::FINGERPRINT))?;
        Ok(Block { pointer })
    }
    #[inline]
    unsafe fn write<T: Shared>(&self, block: &mut Block<T>, value: T) {
        // SAFETY: the caller vouches for the block; it was allocated for a T, at T's alignment.
        unsafe { self.own(block).write(value) }
    }
    #[inline]
    unsafe fn read<T: Shared>(&self, block: &Block<T>) -> T {
        // SAFETY: the caller vouches for the block; it was allocated for a T, at T's alignment, and any bytes
        // are a valid T.
        unsafe { self.own(block).read() }
    }
    #[inline]
    fn free<T>(&self, block: Block<T>) {
        let _ = self.try_free(block);
    }
}

impl Handler {
    /// Allocates `size` bytes, aligned to the granule at least (16 bytes by default). O(1) amortised; before it
    /// answers [`Error::OutOfMemory`] it looks at every block once (O(blocks)), and may wait milliseconds for a
    /// barrier.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when nothing fits, after everything parked anywhere was merged and the dead were
    /// recovered (a participant that is stopped inside an operation can keep its own block, or one of at most
    /// 4.5 KiB by default, from the others, no more). In its place [`Error::NoMembarrier`], if membarrier(2) was
    /// allowed when this process attached, is refused now, and blocks that other threads have parked could not be
    /// looked through. [`Error::ZeroSize`]; [`Error::TooLarge`]; [`Error::NoParticipantSlot`]; [`Error::ForkedChild`].
    #[inline]
    pub fn allocate_raw(&self, size: usize) -> Result<RelativePtr<u8>> {
        self.allocate_bytes(size, 1, Kind::Raw)
    }

    /// Allocates for a layout: its size, at its alignment (up to 4096 bytes).
    ///
    /// # Errors
    /// As [`Handler::allocate_raw`], and [`Error::BadAlignment`].
    pub fn allocate_layout(&self, layout: std::alloc::Layout) -> Result<RelativePtr<u8>> {
        self.allocate_bytes(layout.size(), layout.align(), Kind::Raw)
    }

    #[inline(always)]
    pub(crate) fn allocate_bytes<T>(&self, size: usize, align: usize, kind: Kind) -> Result<RelativePtr<T>> {
        let quick = match kind {
            Kind::Raw if align > LEAST_ALIGN => self.allocate_aligned(size, align),
            Kind::Raw | Kind::Typed(_) => self.allocate_quick(size, align, kind),
        };
        let usual = |live: Live| {
            let offset = self.matrix.offsets().usual().offset(live.at);
            RelativePtr { header: live.header, offset, segment: self.matrix.serial(), of: PhantomData }
        };
        if let Some(live) = quick {
            return Ok(usual(live));
        }
        let next = match kind {
            Kind::Raw if align > LEAST_ALIGN => self.allocate_aligned_next(size, align),
            Kind::Raw => self.allocate_raw_next(size),
            Kind::Typed(fingerprint) => self.allocate_typed_next(size, align, fingerprint),
        };
        match next.some() {
            Some(live) => Ok(usual(live)),
            None => Ok(self.pointer(self.allocate_slow(size, align, kind)?)),
        }
    }

    /// The quick step for layouts, whose alignment is not known when they are compiled: not inlined everywhere.
    #[inline(never)]
    fn allocate_aligned(&self, size: usize, align: usize) -> Option<Live> {
        self.allocate_quick(size, align, Kind::Raw)
    }

    /// A parked block of this thread's, if the newest one of the size serves. (Where nothing is optimised, what is
    /// inlined would keep its room on the stack while the thorough step runs, and some threads have little.)
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn allocate_quick(&self, size: usize, align: usize, kind: Kind) -> Option<Live> {
        let matrix = &*self.matrix;
        let shift = Usual.granule_shift();
        // A span at least. A size of 0 becomes the largest of all.
        let granules = (size.wrapping_sub(1).max(SPAN_BYTES - 1) >> shift).wrapping_add(1);
        if align > SECTOR_ALIGN {
            return None;
        }
        let mask = if align <= LEAST_ALIGN { 0 } else { ((align - 1) >> shift) as u32 };
        let cache = matrix.usual_cache()?;
        // SAFETY: a cache is used with one matrix's heap alone; where there is a usual cache, the heap is of
        // the usual sort.
        unsafe { matrix.heap().allocate_own(cache, granules, mask, kind, &Usual) }
    }

    #[inline(never)]
    fn allocate_raw_next(&self, size: usize) -> Live {
        self.allocate_next(size, LEAST_ALIGN, Kind::Raw)
    }

    #[inline(never)]
    fn allocate_aligned_next(&self, size: usize, align: usize) -> Live {
        self.allocate_next(size, align, Kind::Raw)
    }

    #[inline(never)]
    fn allocate_typed_next(&self, size: usize, align: usize, fingerprint: u32) -> Live {
        self.allocate_next(size, align, Kind::Typed(fingerprint))
    }

    /// The second step, for sizes above the quickest ones: a parked block of this thread's, if the newest one serves.
    #[inline(always)]
    fn allocate_next(&self, size: usize, align: usize, kind: Kind) -> Live {
        let matrix = &*self.matrix;
        let shift = Usual.granule_shift();
        // A size of 0 becomes the largest of all.
        let granules = (size.wrapping_sub(1) >> shift).wrapping_add(1);
        if align > SECTOR_ALIGN || !align.is_power_of_two() {
            return Live::NONE;
        }
        let Some(cache) = matrix.usual_cache() else { return Live::NONE };
        // SAFETY: as in `allocate_quick`.
        unsafe { matrix.heap().allocate_next(cache, granules, ((align - 1) >> shift) as u32, kind, &Usual) }
    }

    #[inline(never)]
    fn allocate_slow(&self, size: usize, align: usize, kind: Kind) -> Result<Live> {
        let shift = self.matrix.heap().layout().params.granule_shift;
        let sector = self.sector_bytes();
        if size == 0 {
            return Err(Error::ZeroSize);
        }
        if size as u64 > sector {
            return Err(Error::TooLarge { requested: size as u64, largest: sector });
        }
        // Large granules are aligned within the segment, but a mapping begins at any page.
        if align > SECTOR_ALIGN || !align.is_power_of_two() {
            return Err(Error::BadAlignment { requested: align, largest: SECTOR_ALIGN });
        }
        let granules = (size as u64).div_ceil(1 << shift) as u32;
        let multiple = (align >> shift).max(1) as u32;
        let heap = self.matrix.heap();
        let unswept = |cache: &mut ThreadCache| heap.allocate_unswept(cache, granules, multiple, kind);
        let recover = || self.matrix.reap_until(self.matrix.policy(), RECOVERED_AT_ONCE, unswept);
        // The last try walks over all blocks. Where there may be millions, the dead are looked for before it: what
        // they hold is found sooner.
        if heap.layout().spans() > LONG_WALK {
            if let Some(live) = self.matrix.with_cache(unswept)? {
                return Ok(live);
            }
            if let (_, Some(live)) = recover()? {
                return Ok(live);
            }
        }
        let allocate =
            |reach| self.matrix.with_cache(|cache| heap.allocate_within(reach, cache, granules, multiple, kind));
        if let Ok(live) = allocate(Reach::Process)? {
            return Ok(live);
        }
        // What the dead hold is free memory, too (L2), whether or not their numbers can be released already.
        // Another may just have recovered them. Behind all that comes what takes milliseconds: what the living
        // of other processes have parked.
        let recover = || match recover()? {
            (_, Some(live)) => Ok(Ok(live)),
            _ => allocate(Reach::System),
        };
        match Native::noting_refused_fences(recover) {
            (Ok(Err(_)), true) => Err(Error::NoMembarrier),
            (found, _) => found?.map_err(|exhausted| self.out_of_memory(size, exhausted)),
        }
    }

    /// Bytes of all blocks together.
    pub(crate) fn sector_bytes(&self) -> u64 {
        let layout = self.matrix.heap().layout();
        (layout.granules as u64) << layout.params.granule_shift
    }

    #[cold]
    pub(crate) fn out_of_memory(&self, size: usize, exhausted: Exhausted) -> Error {
        let shift = self.matrix.heap().layout().params.granule_shift;
        let (free, largest) = (exhausted.free << shift, exhausted.largest << shift);
        event!(WARN, "out of memory", id = %self.id(), requested = size, free = free, largest = largest);
        Error::OutOfMemory { requested: size as u64, free, largest }
    }

    /// Frees a block that [`Handler::allocate_raw`] gave. The caller vouches that nobody holds it as a
    /// [`Message`](crate::ipc::Message). O(1) amortised. Of two frees of one block at the same instant both may
    /// succeed: it is freed once.
    ///
    /// # Errors
    /// [`Error::NotLive`], [`Error::Stale`], [`Error::BadOffset`], [`Error::ForeignBlock`];
    /// [`Error::InStructure`]; [`Error::ForkedChild`]. Nothing has changed then (S5).
    #[inline]
    pub fn free_raw(&self, pointer: RelativePtr<u8>) -> Result<()> {
        self.free_pointer(&pointer, false)
    }

    /// Frees a typed block and says whether it was live. The caller vouches that nobody holds it as a
    /// [`Message`](crate::ipc::Message).
    ///
    /// # Errors
    /// As [`Handler::free_raw`].
    #[inline]
    pub fn try_free<T>(&self, block: Block<T>) -> Result<()> {
        self.free_pointer(&block.pointer, true)
    }

    /// Another name for freeing: ALLOCATED → ACKED, merged at once or when parked blocks flush.
    ///
    /// # Errors
    /// As [`Handler::free_raw`].
    pub fn ack<T>(&self, block: Block<T>) -> Result<()> {
        self.try_free(block)
    }

    /// Frees a message's block.
    #[inline]
    pub(crate) fn free_message(&self, pointer: &RelativePtr<u8>) -> Result<()> {
        self.free_pointer(pointer, true)
    }

    /// Frees a message's block into the hands of the participant that it came from, if that is this thread's
    /// to do. False: nothing was done.
    #[inline]
    pub(crate) fn free_message_to(&self, pointer: &RelativePtr<u8>, giver: u16) -> bool {
        let live = Live { at: self.matrix.offsets().granule(pointer.offset), header: pointer.header };
        self.matrix.cache().is_some_and(|cache| self.matrix.heap().free_to(cache, live, giver))
    }

    #[inline(always)]
    pub(super) fn free_pointer<T>(&self, pointer: &RelativePtr<T>, typed: bool) -> Result<()> {
        if !self.points_here(pointer) {
            return Err(Error::ForeignBlock { offset: pointer.offset, segment: self.id() });
        }
        self.free_known(pointer.offset, Some(pointer.header), typed)
    }

    /// Frees the live block at an offset, whose header is known to whoever has a pointer.
    #[inline(always)]
    fn free_known(&self, offset: u32, known: Option<Header>, typed: bool) -> Result<()> {
        if let Some(cache) = self.matrix.usual_cache() {
            let g = self.matrix.offsets().usual().granule(offset);
            match self.free_quick(cache, g, known, typed) {
                Ok(()) => return Ok(()),
                Err(header) if self.free_next(cache, g, header) => return Ok(()),
                Err(_) => {}
            }
        }
        self.free_thorough(offset, known.map(Header::generation))
    }

    /// Frees the live block at an offset that another process passed on.
    ///
    /// An offset alone cannot tell a block from a later one in the same place: free each offset once. The
    /// caller vouches that nobody holds the block as a [`Message`](crate::ipc::Message), which would go on
    /// reading and writing what is somebody else's by then; [`Handler::free_ref`] asks. A structure's own
    /// block, and what is in a structure, is refused. A free needs no participant slot: where there is none,
    /// the block is freed all the same.
    ///
    /// # Errors
    /// [`Error::NotLive`], [`Error::BadOffset`]; [`Error::InStructure`]; [`Error::Stale`] if another frees it
    /// at the same moment, and its place is allocated anew; [`Error::ForkedChild`]. Nothing has changed then (S5).
    #[inline]
    pub fn free_at(&self, offset: u32) -> Result<()> {
        self.free_known(offset, None, false)
    }

    /// Tells that the block at an offset will be freed here soon: fetches the cache line of its header, which
    /// may be in another core's cache. A hint, which changes nothing, whatever the offset. For whoever drains
    /// a queue: a call for the message that is a dozen further on, before this one is freed, hides the way
    /// that the line has to go.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let block = || Ok(handler.allocate_raw(128)?.offset());
    /// let queue: Vec<u32> = (0..100).map(|_| block()).collect::<atomic_matrix::Result<_>>()?;
    /// for (at, &offset) in queue.iter().enumerate() {
    ///     if let Some(&later) = queue.get(at + 12) {
    ///         handler.will_free_at(later);
    ///     }
    ///     handler.free_at(offset)?;
    /// }
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    #[inline]
    pub fn will_free_at(&self, offset: u32) {
        self.matrix.heap().will_free(self.matrix.offsets().granule(offset));
    }

    /// Parks a block of this thread's own, if that is all it takes. Else its header, as it was known or found.
    /// (Inlined as in `allocate_quick`.)
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn free_quick(
        &self,
        cache: &mut ThreadCache,
        g: Granule,
        known: Option<Header>,
        typed: bool,
    ) -> std::result::Result<(), Header> {
        let heap = self.matrix.heap();
        // SAFETY: as in `allocate_quick`.
        unsafe {
            let header = known.unwrap_or_else(|| heap.look_to_free(cache, g, &Usual));
            if heap.free_own(cache, g, header, typed, &Usual) { Ok(()) } else { Err(header) }
        }
    }

    /// The second step, for larger sizes and for another's small block.
    #[inline(never)]
    fn free_next(&self, cache: &mut ThreadCache, g: Granule, header: Header) -> bool {
        // SAFETY: as in `allocate_quick`.
        unsafe { self.matrix.heap().free_next(cache, g, header, &Usual) }
    }

    #[inline(never)]
    fn free_thorough(&self, offset: u32, generation: Option<u32>) -> Result<()> {
        let g = self.granule(offset)?;
        let found = self.matrix.heap().live_of(g, generation);
        // A structure's block is unowned and typed: no quicker step frees it.
        if let Ok(live) = found
            && live.header.is_typed()
        {
            self.refuse_structures(offset, live)?;
        }
        self.matrix.free(found)?.map_err(|refusal| self.refusal(offset, refusal))
    }
}

#[cfg(test)]
mod tests {
    use crate::matrix::sweep::SWEPT;
    use crate::segment::Options;
    use std::alloc::Layout;

    /// Parked blocks of every place are asked for again, at multiples that not all of them have.
    #[test]
    fn what_was_parked_is_handed_out_aligned() {
        let handler = Options::new().memfd().size(16 << 20).create().expect("created");
        for size in [100, 640, 700, 1000, 1900, 6000, 40_000] {
            for align in (5..=12).map(|log| 1 << log) {
                let raw = |size| handler.allocate_raw(size).expect("room");
                let blocks: Vec<_> = (0..24).map(|k| (raw(64 * (1 + k % 3)), raw(size))).collect();
                let (spacers, parked): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
                parked.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
                let layout = Layout::from_size_align(size, align).expect("a power of two");
                let aligned: Vec<_> = (0..24).map(|_| handler.allocate_layout(layout).expect("room")).collect();
                for block in &aligned {
                    assert_eq!(handler.resolve(block) as usize % align, 0, "{size} bytes at {align}");
                }
                aligned.into_iter().chain(spacers).for_each(|block| handler.free_raw(block).expect("live"));
            }
        }
    }

    /// A thread whose first operation is a free gets its slot, as by any other.
    #[test]
    fn who_frees_first_takes_part() {
        let handler = Options::new().memfd().size(1 << 20).create().expect("created");
        let block = handler.allocate_raw(100).expect("room");
        let there = || handler.participants().len();
        let before = there();
        let free = || handler.free_raw(block).map(|()| there()).expect("live");
        assert_eq!(std::thread::scope(|scope| scope.spawn(free).join().expect("it ends")), before + 1);
    }

    /// In a large heap the dead are looked for before all blocks are walked over, which takes seconds there. In
    /// any heap what they hold is found.
    #[test]
    fn what_the_dead_hold_is_found_before_a_long_walk() {
        for (bytes, swept) in [(1 << 20, true), (1 << 30, false)] {
            let dead = Options::new().memfd().size(bytes).create().expect("created");
            let passed = dead.matrix().segment().fd().try_clone_to_owned().expect("a descriptor");
            let alive = Options::from_fd(passed).attach().expect("attached");
            while dead.allocate_raw(bytes / 64).is_ok() {}
            let number = dead.matrix().with_cache(|cache| cache.owner()).expect("it has a slot");
            alive.matrix().segment().abandon(number);
            // It ends nothing in order: it is dead.
            std::mem::forget(dead);
            let before = SWEPT.get();
            let block = alive.allocate_raw(bytes / 64).expect("what the dead one held is free");
            assert_eq!(SWEPT.get() > before, swept, "{bytes} bytes");
            alive.free_raw(block).expect("live");
        }
    }

    /// Of larger blocks, too: whichever was freed last serves only where it lies at the multiple that is asked for.
    #[test]
    fn a_larger_block_that_was_freed_last_is_handed_out_aligned() {
        let handler = Options::new().memfd().size(4 << 20).create().expect("created");
        for size in [2300, 4000] {
            let mut blocks: Vec<_> = std::iter::from_fn(|| handler.allocate_raw(size).ok()).collect();
            for align in [128, 4096] {
                let layout = Layout::from_size_align(size, align).expect("a power of two");
                for block in &mut blocks {
                    handler.free_raw(*block).expect("live");
                    let aligned = handler.allocate_layout(layout).ok();
                    let at = aligned.as_ref().map(|aligned| handler.resolve(aligned) as usize % align);
                    assert!(at.unwrap_or(0) == 0, "{size} bytes at {align}");
                    aligned.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
                    *block = handler.allocate_raw(size).expect("it was freed");
                }
            }
            blocks.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
        }
    }

    #[test]
    fn s1_a_value_lies_in_its_block() {
        use crate::handlers::HandlerFunctions;
        let handler = Options::new().memfd().size(1 << 20).create().expect("created");
        let mut block = handler.allocate::<u64>().expect("room");
        // SAFETY: the block is this test's alone, and was written.
        let (written, lies) = unsafe {
            handler.write(&mut block, 7);
            (handler.read(&block), handler.own(&block))
        };
        assert_eq!((written, lies.cast()), (7, handler.resolve_at(block.offset()).expect("live")));
        handler.free(block);
    }

    /// A small request is not served with a large block that was freed last.
    #[test]
    fn what_was_parked_serves_its_own_size() {
        let handler = Options::new().memfd().size(4 << 20).create().expect("created");
        let raw = |size| handler.allocate_raw(size).expect("room");
        let (parked, _between): (Vec<_>, Vec<_>) = (10..160).map(|spans| (raw(64 * spans), raw(64))).unzip();
        parked.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
        for size in (1..80).chain([600, 640, 641, 1920]) {
            let block = handler.allocate_raw(size).expect("room");
            let has = handler.usable_size(&block).expect("live");
            assert!(has >= size && has <= (size + size / 9).next_multiple_of(64), "{has} bytes for {size}");
        }
    }
}
