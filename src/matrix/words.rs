//! The heap's own words: what it is, how its headers are looked at, and what is written into a block that is held.
//! The ground of everything else in this folder.

use super::block_header::{FINGERPRINT_MASK, Header, State, is_adopter, place};
use super::thread_cache::ThreadCache;
use crate::backend::orderings::{HEADER_LOOK, HELD_LOOK, HELD_STORE};
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{Granule, Layout, SlotWord};
use crate::segment::region::{Region, WordIndex};

/// A lock-free heap of granules over any region.
///
/// All sizes here are in granules. What users hold, [`crate::handlers::Handler`], speaks bytes and offsets.
#[derive(Debug)]
pub struct Heap<R: Region> {
    pub(super) region: R,
}

/// What an allocation is for: fixes the live header's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Untyped bytes.
    Raw,
    /// A value of a type with this fingerprint (25 bits).
    Typed(u32),
}

impl Kind {
    /// The state and the low field of a live block at `place`, of so many spans.
    #[inline(always)]
    pub(super) const fn state_of(self, place: u32, spans: u32) -> (State, u32) {
        match self {
            Self::Raw => (State::Allocated, place),
            Self::Typed(fingerprint) if spans == 1 => (State::TypedSmall, Header::small(place, fingerprint)),
            Self::Typed(_) => (State::Typed, place),
        }
    }
}

/// A live block: where it begins and its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Where it begins.
    pub at: Granule,
    /// Its header.
    pub header: Header,
}

impl Live {
    /// No block: what the steps between a caller and the heap hand on in registers, where an `Option` would take
    /// memory.
    pub const NONE: Self = Self { at: Granule(0), header: Header(0) };

    /// The block, if this is one.
    #[inline(always)]
    pub fn some(self) -> Option<Self> {
        (self.header != Self::NONE.header).then_some(self)
    }
    /// The same block as somebody else's.
    pub(crate) fn of(self, owner: u16) -> Self {
        let Self { at, header } = self;
        Self { at, header: Header::new(header.state(), owner, header.generation(), header.low()) }
    }
    /// Whether somebody is just adopting it.
    pub(crate) fn is_changing_hands(self) -> bool {
        is_adopter(self.header.owner())
    }
    /// Whether this header is of the same live block, whoever has it by now.
    pub(crate) fn is_still(self, found: Header) -> bool {
        found.is_live() && found.generation() == self.header.generation()
    }
}

/// Why a free was refused (S5). Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No live block begins there; this is what stands there.
    NotLive(Header),
    /// A live block begins there, but it is not the one that the caller holds.
    Stale {
        /// The generation that the caller holds, or the one that the block had when this free began.
        held: u32,
        /// What stands there.
        found: Header,
    },
    /// A structure has it.
    Linked(Header),
    /// Outside the sector.
    OutOfRange,
}

/// No block fits; what there is, in granules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exhausted {
    /// Free, parked, or in the hands of an operation.
    pub free: u64,
    /// The largest free block.
    pub largest: u64,
}

/// Headers in a cache line.
pub(super) const HEADER_LINE: u32 = 8;

/// Makes a view of the heap: methods of one duty, which stand on those of the heap and of other views. It is
/// one pointer, and passed by value.
macro_rules! view {
    ($(#[$doc:meta])* $vis:vis struct $View:ident, $get:ident) => {
        $(#[$doc])*
        $vis struct $View<'a, R: Region> {
            heap: &'a Heap<R>,
        }

        impl<R: Region> Clone for $View<'_, R> {
            #[inline(always)]
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<R: Region> Copy for $View<'_, R> {}

        impl<R: Region> Heap<R> {
            $(#[$doc])*
            #[inline(always)]
            #[must_use]
            $vis fn $get(&self) -> $View<'_, R> {
                $View { heap: self }
            }
        }
    };
}
pub(super) use view;

impl<R: Region> Heap<R> {
    /// A heap over a region that has been formatted by [`Heap::format`], here or in another process.
    pub fn new(region: R) -> Self {
        Self { region }
    }

    /// The region.
    #[inline(always)]
    pub fn region(&self) -> &R {
        &self.region
    }

    /// The layout.
    #[inline(always)]
    pub fn layout(&self) -> &Layout {
        self.region.layout()
    }

    #[inline(always)]
    pub(super) fn word(&self, index: WordIndex) -> &<R::Backend as Backend>::Word {
        self.region.word(index)
    }

    pub(super) fn slot(&self, owner: u16, word: SlotWord) -> &<R::Backend as Backend>::Word {
        self.word(self.layout().slot(owner, word))
    }

    #[inline(always)]
    pub(super) fn biased(&self) -> bool {
        self.layout().params.biased
    }

    #[inline(always)]
    pub(crate) fn header(&self, g: Granule) -> &<R::Backend as Backend>::Word {
        self.region.header(g)
    }

    /// The next tag of a cache, for a FREE or INSIDE word that it writes.
    #[inline]
    pub(super) fn tag(&self, cache: &mut ThreadCache) -> u16 {
        if R::Backend::mutated(Mutant::TagDropped) { 0 } else { cache.next_tag() }
    }

    /// The inside word that follows another.
    #[inline(always)]
    pub(super) fn next_inside(&self, before: Header, low: u32) -> Header {
        let next = before.next_inside(low);
        if R::Backend::mutated(Mutant::TagDropped) {
            Header::new(State::Inside, 0, next.generation(), low)
        } else {
            next
        }
    }

    /// What begins at `g`, read to act on it.
    #[inline(always)]
    pub fn look(&self, g: Granule) -> Header {
        self.header_at(g, Header(self.header(g).load(&HEADER_LOOK)))
    }

    /// What the header of `g`'s span says of `g`: where a block begins at another granule of the span,
    /// nothing begins at `g`.
    #[inline(always)]
    pub(super) fn header_at(&self, g: Granule, header: Header) -> Header {
        let elsewhere = header.position() != g.0 & self.layout().span_mask && header.state() != State::Inside;
        if elsewhere && R::Backend::takes(Mutant::PositionUnchecked) { Header(0) } else { header }
    }

    /// The header of a span, whatever begins there, read to act on it.
    #[inline(always)]
    pub(super) fn look_at_span(&self, span: u32) -> Header {
        Header(self.header(self.layout().first_of(span)).load(&HEADER_LOOK))
    }

    /// Where the block begins whose header is `header`, that of this span.
    #[inline]
    pub(super) fn head_of(&self, span: u32, header: Header) -> Granule {
        self.layout().first_of(span).plus(header.position() & self.layout().span_mask)
    }

    /// The low field of the header of a block of `size` granules at `g`.
    #[inline(always)]
    pub(super) fn place(&self, g: Granule, size: u32) -> u32 {
        place(g.0 & self.layout().span_mask, size)
    }

    /// The spans of a block of `size` granules at `g`.
    #[inline(always)]
    pub(super) fn spans(&self, g: Granule, size: u32) -> u32 {
        self.layout().span(g.plus(size)).saturating_sub(self.layout().span(g))
    }

    /// Granules that a block has at least, so that the next one begins in another span.
    #[inline(always)]
    pub(super) fn least(&self) -> u32 {
        self.layout().span_mask + 1
    }

    /// Granules whose headers share a cache line.
    #[inline(always)]
    pub(super) fn header_line(&self) -> u32 {
        HEADER_LINE << self.layout().span_shift
    }

    /// Whether a block of this size can begin at `g`: sizes read from shared memory are checked before use (C2).
    #[inline(always)]
    pub(super) fn fits_sector(&self, g: Granule, header: Header) -> bool {
        self.fits_granules(g, header.size())
    }

    /// Whether `size` granules fit from `g` on, and reach into the next span at least.
    #[inline(always)]
    pub(super) fn fits_granules(&self, g: Granule, size: u32) -> bool {
        let granules = self.layout().granules;
        g.0 < granules && size <= granules - g.0 && self.spans(g, size) > 0
    }

    pub(super) fn is_participant(&self, owner: u16) -> bool {
        (1..=self.layout().params.participants).contains(&(owner as usize))
    }

    /// The tile that begins in a span, if one does.
    pub(super) fn tile_in(&self, span: u32) -> Option<(Granule, Header)> {
        let header = self.look_at_span(span);
        let g = self.head_of(span, header);
        (header.state() != State::Inside && self.fits_sector(g, header)).then_some((g, header))
    }

    /// The block that ends where `g` begins, if it has a footer: it is FREE, or was.
    pub(super) fn footed_before(&self, g: Granule) -> Option<(Granule, Header)> {
        let last = self.layout().span(g).checked_sub(1)?;
        let word = self.look_at_span(last);
        let (span, header) = match word.state() {
            State::Inside if word.low() == 0 => return None,
            State::Inside => {
                let span = last.checked_sub(word.low())?;
                (span, self.look_at_span(span))
            }
            _ => (last, word),
        };
        let at = self.head_of(span, header);
        let adjacent = R::Backend::check(at.plus(header.size()) == g, Mutant::AdjacencyUnchecked);
        adjacent.then_some((at, header))
    }

    /// Visits each tile; a visit that returns false is repeated with the tile as it is then.
    pub(crate) fn each_tile(&self, mut visit: impl FnMut(Granule, Header) -> bool) {
        let mut at = 0;
        while at < self.layout().spans() {
            match self.tile_in(at) {
                // Merged into the tile before, meanwhile.
                None => at += 1,
                Some((g, header)) if visit(g, header) => at = self.layout().span(g.plus(header.size())),
                Some(_) => {}
            }
        }
    }

    /// The live block that begins at `g`.
    ///
    /// # Errors
    /// [`Refusal`] if none does.
    pub fn live_at(&self, g: Granule) -> Result<Live, Refusal> {
        if g.0 >= self.layout().granules {
            return Err(Refusal::OutOfRange);
        }
        let header = self.look(g);
        if header.is_live() && self.fits_sector(g, header) {
            Ok(Live { at: g, header })
        } else {
            Err(Refusal::NotLive(header))
        }
    }

    /// The live block that begins at `g`, of this generation if one is given.
    ///
    /// # Errors
    /// [`Refusal`] if none does.
    #[inline]
    pub(crate) fn live_of(&self, g: Granule, generation: Option<u32>) -> Result<Live, Refusal> {
        let live = self.live_at(g)?;
        match generation {
            Some(held) if held != live.header.generation() && R::Backend::takes(Mutant::GenerationIgnored) => {
                Err(Refusal::Stale { held, found: live.header })
            }
            _ => Ok(live),
        }
    }

    /// Hands out a held block, in the form of `kind`.
    pub(super) fn retype(&self, cache: &ThreadCache, at: Granule, header: Header, kind: Kind) -> Live {
        let (state, low) = kind.state_of(self.place(at, header.size()), self.spans(at, header.size()));
        let live = Header::new(state, cache.owner(), header.generation(), low);
        self.label(at, state, kind);
        self.header(at).store(live.0, &HELD_STORE);
        Live { at, header: live }
    }

    /// Writes the fingerprint beside the head of a block that will be live in this state. Nobody else may
    /// have the block yet: it might be freed and merged, and a head stand here.
    #[inline(always)]
    pub(super) fn label(&self, at: Granule, state: State, kind: Kind) {
        if let (Kind::Typed(fingerprint), State::Typed) = (kind, state) {
            let second = self.header(at.plus(self.least()));
            let old = Header(second.load(&HELD_LOOK));
            second.store(self.next_inside(old, fingerprint).0, &HELD_STORE);
        }
    }

    /// The fingerprint that a typed block was allocated with.
    #[inline]
    pub fn fingerprint(&self, live: Live) -> Option<u32> {
        match live.header.state() {
            State::TypedSmall => Some(live.header.low() & FINGERPRINT_MASK),
            State::Typed => {
                Some(self.look_at_span(self.layout().span(live.at.plus(self.least()))).low() & FINGERPRINT_MASK)
            }
            _ => None,
        }
    }
}
