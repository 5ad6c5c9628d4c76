//! The heap's own words: what it is, and how its tokens are looked at. The ground of everything else in this folder.

use super::thread_cache::ThreadCache;
use super::token::{FINGERPRINT_MASK, State, Token, is_adopter, place};
use crate::backend::orderings::TOKEN_LOOK;
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

/// What an allocation is for: fixes the live token's form.
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
            Self::Typed(fingerprint) if spans == 1 => (State::TypedSmall, Token::small(place, fingerprint)),
            Self::Typed(_) => (State::Typed, place),
        }
    }
}

/// A live block: where it begins and its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Where it begins.
    pub at: Granule,
    /// Its token.
    pub token: Token,
}

impl Live {
    /// The same block as somebody else's.
    pub(crate) fn of(self, owner: u16) -> Self {
        let Self { at, token } = self;
        Self { at, token: Token::new(token.state(), owner, token.generation(), token.low()) }
    }
    /// Whether somebody is just adopting it.
    pub(crate) fn is_changing_hands(self) -> bool {
        is_adopter(self.token.owner())
    }
    /// Whether this token is of the same live block, whoever has it by now.
    pub(crate) fn is_still(self, found: Token) -> bool {
        found.is_live() && found.generation() == self.token.generation()
    }
}

/// Why a free was refused (S5). Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No live block begins there; this is what stands there.
    NotLive(Token),
    /// A live block begins there, but it is not the one that the caller holds.
    Stale {
        /// The generation that the caller holds, or the one that the block had when this free began.
        held: u32,
        /// What stands there.
        found: Token,
    },
    /// A structure has it.
    Linked(Token),
    /// Outside the sector.
    OutOfRange,
}

/// No block fits; what there is, in granules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Free, parked, or in the hands of an operation.
    pub free: u64,
    /// The largest free block.
    pub largest: u64,
}

/// Tokens in a cache line.
pub(super) const TOKEN_LINE: u32 = 8;

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
    pub(crate) fn token(&self, g: Granule) -> &<R::Backend as Backend>::Word {
        self.region.token(g)
    }

    /// The next tag of a cache, for a FREE or INSIDE word that it writes.
    #[inline]
    pub(super) fn tag(&self, cache: &mut ThreadCache) -> u16 {
        if R::Backend::mutated(Mutant::TagDropped) { 0 } else { cache.next_tag() }
    }

    /// The inside word that follows another.
    #[inline(always)]
    pub(super) fn next_inside(&self, before: Token, low: u32) -> Token {
        let next = before.next_inside(low);
        if R::Backend::mutated(Mutant::TagDropped) {
            Token::new(State::Inside, 0, next.generation(), low)
        } else {
            next
        }
    }

    /// What begins at `g`, read to act on it.
    #[inline(always)]
    pub fn look(&self, g: Granule) -> Token {
        self.said_of(g, Token(self.token(g).load(&TOKEN_LOOK)))
    }

    /// What the token of `g`'s span says of `g`: where a block begins at another granule of the span, nothing begins at `g`.
    #[inline(always)]
    pub(super) fn said_of(&self, g: Granule, token: Token) -> Token {
        let elsewhere = token.position() != g.0 & self.layout().span_mask && token.state() != State::Inside;
        if elsewhere && !R::Backend::mutated(Mutant::PositionUnchecked) { Token(0) } else { token }
    }

    /// The token of a span, whatever begins there, read to act on it.
    #[inline(always)]
    pub(super) fn look_span(&self, span: u32) -> Token {
        Token(self.token(self.layout().first_of(span)).load(&TOKEN_LOOK))
    }

    /// Where the block begins whose token is `token`, that of this span.
    #[inline]
    pub(super) fn head_of(&self, span: u32, token: Token) -> Granule {
        self.layout().first_of(span).plus(token.position() & self.layout().span_mask)
    }

    /// The low field of the token of a block of `size` granules at `g`.
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

    /// Granules whose tokens share a cache line.
    #[inline(always)]
    pub(super) fn token_line(&self) -> u32 {
        TOKEN_LINE << self.layout().span_shift
    }

    /// Whether a block of this size can begin at `g`: sizes read from shared memory are checked before use (C2).
    #[inline(always)]
    pub(super) fn fits_sector(&self, g: Granule, token: Token) -> bool {
        self.fits_granules(g, token.size())
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
    pub(super) fn tile_in(&self, span: u32) -> Option<(Granule, Token)> {
        let token = self.look_span(span);
        let g = self.head_of(span, token);
        (token.state() != State::Inside && self.fits_sector(g, token)).then_some((g, token))
    }

    /// Visits each tile; a visit that returns false is repeated with the tile as it is then.
    pub(crate) fn each_tile(&self, mut visit: impl FnMut(Granule, Token) -> bool) {
        let mut at = 0;
        while at < self.layout().spans() {
            match self.tile_in(at) {
                // Merged into the tile before, meanwhile.
                None => at += 1,
                Some((g, token)) if visit(g, token) => at = self.layout().span(g.plus(token.size())),
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
        let token = self.look(g);
        if token.is_live() && self.fits_sector(g, token) {
            Ok(Live { at: g, token })
        } else {
            Err(Refusal::NotLive(token))
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
            Some(held) if held != live.token.generation() && !R::Backend::mutated(Mutant::GenerationIgnored) => {
                Err(Refusal::Stale { held, found: live.token })
            }
            _ => Ok(live),
        }
    }

    /// The fingerprint that a typed block was allocated with.
    pub fn fingerprint(&self, live: Live) -> Option<u32> {
        match live.token.state() {
            State::TypedSmall => Some(live.token.low() & FINGERPRINT_MASK),
            State::Typed => {
                Some(self.look_span(self.layout().span(live.at.plus(self.least()))).low() & FINGERPRINT_MASK)
            }
            _ => None,
        }
    }
}
