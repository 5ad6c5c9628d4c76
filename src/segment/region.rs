//! Regions: the memory that a heap lives in, as words addressed by index.

use crate::backend::{Backend, Native, NativeWord};
pub use crate::segment::layout::WordIndex;
use crate::segment::layout::{Geometry, Granule, Layout};
use std::ptr::NonNull;

/// The memory of one heap: words of a [`Backend`], and a stand-in for each granule's payload.
pub trait Region: Send + Sync {
    /// Whose words they are.
    type Backend: Backend;
    /// The arithmetic of this region.
    fn layout(&self) -> &Layout;
    /// A word. Indices come from [`Layout`], so they are in range.
    ///
    /// # Panics
    /// If the region has no such word.
    fn word(&self, index: WordIndex) -> &<Self::Backend as Backend>::Word;
    /// As [`Region::word`], without a look at the range.
    ///
    /// # Safety
    /// The region has this word.
    #[inline(always)]
    unsafe fn word_in_range(&self, index: WordIndex) -> &<Self::Backend as Backend>::Word {
        self.word(index)
    }
    /// The header of a granule's span, or the sentinel's for granules out of range.
    #[inline(always)]
    fn header(&self, g: Granule) -> &<Self::Backend as Backend>::Word {
        self.word(self.layout().header(g))
    }
    /// As [`Region::header`], without a look at the range.
    ///
    /// # Safety
    /// The sector has this granule, and the geometry is the layout's.
    #[inline(always)]
    unsafe fn header_in_range(&self, g: Granule, _geometry: &impl Geometry) -> &<Self::Backend as Backend>::Word {
        self.header(g)
    }
    /// Notes an exclusive access to `granules` granules of payload from `first` on (S1, S3). Free in production.
    fn touch(&self, first: Granule, granules: u32);
    /// The payload that begins here will be written before long, by whoever gets the block next: fetches its first
    /// line. A hint, for any granule.
    #[inline(always)]
    fn expect_payload(&self, _first: Granule, _geometry: &impl Geometry) {}
    /// The block that begins here will be read before long: fetches its header and its first lines. A hint, for any
    /// granule.
    #[inline(always)]
    fn expect_look(&self, _first: Granule) {}
    /// The block that begins here will be taken before long, and read: its header's line may come to be written, and
    /// its first one. A hint, for any granule.
    #[inline(always)]
    fn expect_take(&self, _first: Granule) {}
    /// The first `count` words of the payload that begins at `first`, for structures that lie in a block of
    /// their own. None where the sector has not so many there, or the region has no payload.
    ///
    /// They are atomic words whoever uses them. Who writes them without owning the block follows `ipc::structure`.
    fn payload(&self, _first: Granule, _count: usize) -> Option<&[<Self::Backend as Backend>::Word]> {
        None
    }
}

impl<R: Region> Region for &R {
    type Backend = R::Backend;
    #[inline(always)]
    fn layout(&self) -> &Layout {
        R::layout(self)
    }
    #[inline(always)]
    fn word(&self, index: WordIndex) -> &<Self::Backend as Backend>::Word {
        R::word(self, index)
    }
    #[inline(always)]
    unsafe fn word_in_range(&self, index: WordIndex) -> &<Self::Backend as Backend>::Word {
        // SAFETY: the caller's.
        unsafe { R::word_in_range(self, index) }
    }
    #[inline(always)]
    fn header(&self, g: Granule) -> &<Self::Backend as Backend>::Word {
        R::header(self, g)
    }
    #[inline(always)]
    unsafe fn header_in_range(&self, g: Granule, geometry: &impl Geometry) -> &<Self::Backend as Backend>::Word {
        // SAFETY: the caller's.
        unsafe { R::header_in_range(self, g, geometry) }
    }
    #[inline(always)]
    fn touch(&self, first: Granule, granules: u32) {
        R::touch(self, first, granules);
    }
    #[inline(always)]
    fn payload(&self, first: Granule, count: usize) -> Option<&[<Self::Backend as Backend>::Word]> {
        R::payload(self, first, count)
    }
}

/// A region of boxed words: for models, property tests and heaps private to a process.
pub struct BoxedRegion<B: Backend> {
    layout: Layout,
    words: Box<[B::Word]>,
    cells: Box<[B::Cell]>,
    /// Payload of the last granules.
    payload: Box<[B::Word]>,
}

impl<B: Backend> BoxedRegion<B> {
    /// All words zero.
    pub fn new(layout: Layout) -> Self {
        Self::with_payload(layout, 0)
    }

    /// The same, with payload in the last granules of the sector, which the first blocks are cut off.
    pub fn with_payload(layout: Layout, granules: u32) -> Self {
        let words = (0..layout.words).map(|_| B::word(0)).collect();
        let cells = (0..layout.granules).map(|_| B::cell()).collect();
        let payload = (0..granules as usize * layout.granule_words()).map(|_| B::word(0)).collect();
        Self { layout, words, cells, payload }
    }
}

impl<B: Backend> Region for BoxedRegion<B> {
    type Backend = B;
    fn layout(&self) -> &Layout {
        &self.layout
    }
    #[inline(always)]
    fn word(&self, index: WordIndex) -> &B::Word {
        &self.words[index.0]
    }
    #[inline]
    fn touch(&self, first: Granule, granules: u32) {
        if size_of::<B::Cell>() > 0 {
            for cell in &self.cells[first.index()..(first.0 + granules) as usize] {
                B::touch(cell);
            }
        }
    }
    fn payload(&self, first: Granule, count: usize) -> Option<&[B::Word]> {
        let each = self.layout.granule_words();
        let begins = self.layout.granules as usize - self.payload.len() / each;
        let at = first.index().checked_sub(begins)? * each;
        self.payload.get(at..at.checked_add(count)?)
    }
}

/// A region over mapped memory, shared with whoever maps the same file.
///
/// It does not own the mapping: whoever makes it keeps the mapping alive for as long.
#[derive(Debug)]
pub struct MappedRegion {
    layout: Layout,
    words: NonNull<NativeWord>,
    headers: NonNull<NativeWord>,
}

// SAFETY: it gives out shared references to atomic words only; the mapping is valid in every thread.
unsafe impl Send for MappedRegion {}
// SAFETY: it gives out shared references to atomic words only.
unsafe impl Sync for MappedRegion {}

impl MappedRegion {
    /// A region over the words at `base`.
    ///
    /// # Safety
    /// `base` is 8-byte aligned, valid for reads and writes of `layout.bytes()` bytes for as long as the
    /// region lives, and every process accesses the first `layout.words` words atomically, through a region.
    pub unsafe fn new(base: NonNull<u8>, layout: Layout) -> Self {
        let words = base.cast();
        // SAFETY: the first header is one of the region's words.
        let headers = unsafe { words.add(layout.header(Granule(0)).0) };
        Self { layout, words, headers }
    }

    /// Where the payload of a granule begins, for hints: of any granule.
    #[inline(always)]
    fn payload_at(&self, first: Granule, geometry: &impl Geometry) -> *mut u8 {
        let bytes = self.layout.sector as usize + (first.index() << geometry.granule_shift());
        self.words.as_ptr().cast::<u8>().wrapping_add(bytes)
    }
}

impl Region for MappedRegion {
    type Backend = Native;
    #[inline(always)]
    fn layout(&self) -> &Layout {
        &self.layout
    }
    #[inline(always)]
    fn word(&self, index: WordIndex) -> &NativeWord {
        assert!(index.0 < self.layout.words, "word {} of {}", index.0, self.layout.words);
        // SAFETY: in range, and `new`'s caller vouches for that many words.
        unsafe { self.words.add(index.0).as_ref() }
    }
    #[inline(always)]
    unsafe fn word_in_range(&self, index: WordIndex) -> &NativeWord {
        debug_assert!(index.0 < self.layout.words);
        // SAFETY: in range, says the caller, and `new`'s vouches for that many words.
        unsafe { self.words.add(index.0).as_ref() }
    }
    #[inline(always)]
    fn header(&self, g: Granule) -> &NativeWord {
        // SAFETY: there are headers for all spans and one more, the sentinel; see `word`.
        unsafe { self.headers.add((g.0.min(self.layout.granules) >> self.layout.span_shift) as usize).as_ref() }
    }
    #[inline(always)]
    unsafe fn header_in_range(&self, g: Granule, geometry: &impl Geometry) -> &NativeWord {
        let span_shift = geometry.span_shift();
        debug_assert!(g < Granule(self.layout.granules) && span_shift == self.layout.span_shift);
        // SAFETY: there are headers for all spans; the granule is the sector's, says the caller.
        unsafe { self.headers.add((g.0 >> span_shift) as usize).as_ref() }
    }
    #[inline(always)]
    fn touch(&self, _: Granule, _: u32) {}
    #[inline(always)]
    fn expect_payload(&self, first: Granule, geometry: &impl Geometry) {
        crate::backend::native::expect_write(self.payload_at(first, geometry));
    }
    #[inline(always)]
    fn expect_look(&self, first: Granule) {
        /// Of the processors that have the hint.
        const LINE: usize = 64;
        let begins = self.payload_at(first, &self.layout).cast_const();
        crate::backend::native::expect_look(std::ptr::from_ref(self.header(first)).cast());
        crate::backend::native::expect_look(begins);
        crate::backend::native::expect_look(begins.wrapping_add(LINE));
    }
    #[inline(always)]
    fn expect_take(&self, first: Granule) {
        crate::backend::native::expect_write(std::ptr::from_ref(self.header(first)).cast());
        crate::backend::native::expect_look(self.payload_at(first, &self.layout));
    }
    #[inline(always)]
    fn payload(&self, first: Granule, count: usize) -> Option<&[NativeWord]> {
        let each = self.layout.granule_words();
        let room = (self.layout.granules as usize).checked_sub(first.index())? * each;
        if count > room {
            return None;
        }
        // SAFETY: the sector lies within the mapping, whose bytes `new`'s caller vouches for; the range lies
        // within the sector, by the look above, and is 8-byte aligned, as the sector and its granules are.
        // The words are atomic.
        unsafe {
            let sector = self.words.as_ptr().cast::<u8>().add(self.layout.sector as usize).cast::<NativeWord>();
            Some(std::slice::from_raw_parts(sector.add(first.index() * each), count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Options;
    use crate::segment::layout::Params;

    /// A region that says nothing of payload.
    struct WithoutPayload(BoxedRegion<Native>);
    impl Region for WithoutPayload {
        type Backend = Native;
        fn layout(&self) -> &Layout {
            self.0.layout()
        }
        fn word(&self, index: WordIndex) -> &NativeWord {
            self.0.word(index)
        }
        fn touch(&self, _: Granule, _: u32) {}
    }

    /// C2: payload is given where a region has it, as far as it has it, and the same by whatever leads to the region.
    #[test]
    fn c2_payload_is_what_lies_there_or_none() {
        let params = Params { participants: 4, ..Params::for_segment(64 << 10) };
        let layout = Layout::fit(64 << 10, params).expect("room for a sector");
        let last = Granule(layout.granules - 1);
        let region = BoxedRegion::<Native>::with_payload(layout.clone(), 2);
        let words = |region: &dyn Fn(Granule, usize) -> Option<(*const NativeWord, usize)>| {
            [(last, 2), (Granule(last.0 - 1), 4), (Granule(last.0 - 2), 1), (last, 3)]
                .map(|(at, count)| region(at, count))
        };
        let plain = words(&|at, count| region.payload(at, count).map(|words| (words.as_ptr(), words.len())));
        assert_eq!(plain.map(|words| words.map(|(_, count)| count)), [Some(2), Some(4), None, None]);
        let by_reference = &region;
        let led =
            words(&|at, count| Region::payload(&by_reference, at, count).map(|words| (words.as_ptr(), words.len())));
        assert_eq!(led, plain);
        assert!(WithoutPayload(BoxedRegion::new(layout)).payload(last, 0).is_none());
        let segment = Options::new().memfd().size(1 << 20).create_segment().expect("created");
        let first = segment.payload(Granule(0), 3).expect("it has so many words");
        let sector = segment.base().as_ptr().wrapping_add(segment.layout().sector as usize);
        assert_eq!((first.as_ptr().cast(), first.len()), (sector.cast_const(), 3));
        assert!(segment.payload(Granule(segment.layout().granules), 1).is_none());
    }
}
