//! The heap: allocate and free, composed of tokens, hints, operations and parking.

use super::operation::Held;
pub use super::parking::Lane;
use super::parking::is_parkable;
use super::recovery::is_nobody;
use super::size_class::{Bin, EXACT, of_size};
use super::token::{FINGERPRINT_MASK, State, Token, is_adopter, place};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{Geometry, Granule, Layout};
use crate::segment::region::{Region, WordIndex};

/// A lock-free heap of granules over any region.
///
/// All sizes here are in granules. What users hold, [`crate::handlers::Handler`], speaks bytes and offsets.
#[derive(Debug)]
pub struct Heap<R: Region> {
    region: R,
}

/// Behind the last span: a live block that is nobody's, and that no call accepts.
const SENTINEL: Token = Token::new(State::Allocated, 0, 0, 1);

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

/// What is looked for: so many granules at a multiple of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) size: u32,
    pub(super) align: u32,
}

/// No block fits; what there is, in granules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Free or parked.
    pub free: u64,
    /// The largest free block.
    pub largest: u64,
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
    Stale(Token),
    /// Outside the sector.
    OutOfRange,
}

impl<R: Region> Heap<R> {
    /// A heap over a region that has been formatted by [`Heap::format`], here or in another process.
    pub fn new(region: R) -> Self {
        Self { region }
    }

    /// Makes one free block of a zeroed region that nobody else uses yet.
    pub fn format(region: R) -> Self {
        let heap = Self { region };
        let granules = heap.layout().granules;
        heap.token(Granule(granules)).store(SENTINEL.0, &FORMAT);
        let last = heap.layout().spans() - 1;
        if last > 0 {
            let at = heap.layout().first_of(last);
            heap.token(at).store(Token::new(State::Inside, 0, 0, last).0, &FORMAT);
        }
        heap.token(Granule(0)).store(Token::new(State::Free, 0, 0, granules).0, &FORMAT);
        heap.hint(Granule(0), of_size(granules), true);
        heap
    }

    /// Whether the sentinel behind the last granule stands as [`Heap::format`] left it; everything out of range reads it (C2).
    pub fn has_sentinel(&self) -> bool {
        self.look(Granule(self.layout().granules)) == SENTINEL
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
    #[inline(always)]
    pub(super) fn token(&self, g: Granule) -> &<R::Backend as Backend>::Word {
        self.region.token(g)
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
    fn least(&self) -> u32 {
        self.layout().span_mask + 1
    }
    /// The granules to cut off the tail of a free block so that they begin with what is looked for, if the block has it.
    pub(super) fn tail_for(&self, asked: Fit, at: Granule, size: u32) -> Option<u32> {
        let end = at.0 + size;
        let last = end.checked_sub(asked.size).filter(|&last| last >= at.0)?;
        let first = Granule(last - last % asked.align);
        // What would remain in front must have a span of its own.
        let first = if self.layout().span(first) == self.layout().span(at) { at } else { first };
        (first >= at && first.0.is_multiple_of(asked.align)).then(|| end - first.0)
    }

    /// Allocates at least `size` granules at a multiple of `align` granules (a power of two).
    ///
    /// O(1) where a parked or a hinted block serves. When nothing fits, the own stack is flushed and the sector swept,
    /// and only then is the answer no.
    ///
    /// # Errors
    /// [`Exhausted`] when no block fits.
    #[inline]
    pub fn allocate(&self, lane: &mut Lane, size: u32, align: u32, kind: Kind) -> Result<Live, Exhausted> {
        let size = size.max(self.least());
        if align <= 1
            && let Some(live) = self.allocate_parked(lane, size, kind)
        {
            return Ok(live);
        }
        self.allocate_slowly(lane, size, align, kind)
    }

    /// The lane's own block of `size` granules (a span's at least) from its own stack, without a locked instruction, if the newest
    /// there is one at a multiple of `mask` + 1 granules; else nothing was done.
    ///
    /// # Safety
    /// The lane was never used with another heap, and the geometry is this heap's.
    #[inline(always)]
    pub unsafe fn allocate_own(
        &self,
        lane: &mut Lane,
        size: usize,
        mask: u32,
        kind: Kind,
        geometry: &impl Geometry,
    ) -> Option<Live> {
        if size >= EXACT as usize {
            return None;
        }
        // SAFETY: the caller's.
        let (at, token) = unsafe { self.pop_own(lane, size as u32, mask, kind, geometry) }?;
        Some(Live { at, token })
    }

    /// A block of at least `size` granules from the lane's own stack: at most one read-modify-write.
    #[inline]
    pub fn allocate_parked(&self, lane: &mut Lane, size: u32, kind: Kind) -> Option<Live> {
        let bin = Bin::at_least(size)?;
        if !lane.has_parked(bin) {
            return None;
        }
        let (at, token) = self.pop(lane, bin, kind)?;
        Some(Live { at, token })
    }

    #[cold]
    #[inline(never)]
    fn allocate_slowly(&self, lane: &mut Lane, size: u32, align: u32, kind: Kind) -> Result<Live, Exhausted> {
        self.bind(lane);
        // A block cut at a multiple of its alignment begins a span: what is in front has its own.
        let align = if align > 1 { align.max(self.least()) } else { 1 };
        let asked = Fit { size, align };
        let granules = self.layout().granules;
        if size > granules {
            return Err(self.exhausted());
        }
        let bin = Bin::at_least(size).filter(|bin| lane.parks() && bin.size() <= granules);
        let parks = bin.filter(|_| align == 1);
        let size = parks.map_or(size, Bin::size);
        while let Some(bin) = parks
            && self.take_batch(lane, bin)
        {
            if let Some(live) = self.allocate_parked(lane, size, kind) {
                return Ok(live);
            }
        }
        let room = size.saturating_add(asked.align - 1);
        let held = match (parks, bin) {
            (Some(bin), _) => self.carve(lane, bin),
            // All blocks of such a run are at multiples.
            (None, Some(bin)) if align <= self.least() && bin.size() == size && size.is_multiple_of(align) => {
                self.carve_run(lane, bin).or_else(|| self.find_and_take(lane, room))
            }
            _ => self.find_and_take(lane, room),
        };
        let held = match held {
            Some(held) => held,
            None => self.last_try(lane, room, asked)?,
        };
        let held = self.trim(lane, held, size, asked.align);
        Ok(self.retype(lane, held.at, held.token, kind))
    }

    /// A block of `size` granules through the hints, held.
    pub(super) fn find_and_take(&self, lane: &mut Lane, size: u32) -> Option<Held> {
        loop {
            let (g, token) = self.find(lane, size)?;
            if let Some(held) = self.take(lane, g, token, size) {
                return Some(held);
            }
            R::Backend::pause();
        }
    }

    /// Nothing was hinted that surely fits: merge what this lane has parked, then everything, and take the first block that
    /// fits at all, without room to spare for alignment or class (L2). Twice, because blocks may have been freed behind the
    /// first sweep.
    #[cold]
    fn last_try(&self, lane: &mut Lane, room: u32, asked: Fit) -> Result<Held, Exhausted> {
        self.flush(lane);
        let again = |lane: &mut Lane| self.sweep(lane, Some(asked));
        let held = self.find_and_take(lane, room).or_else(|| again(lane)).or_else(|| again(lane));
        held.ok_or_else(|| self.exhausted())
    }

    fn exhausted(&self) -> Exhausted {
        let tally = self.tally().unwrap_or_default();
        Exhausted { free: tally.free.granules + tally.parked.granules, largest: tally.largest_free }
    }

    /// Gives back what a held block has before the first multiple of `align` and behind `size`, as far as it has spans of its own.
    fn trim(&self, lane: &mut Lane, mut held: Held, size: u32, align: u32) -> Held {
        let before = held.at.0.next_multiple_of(align) - held.at.0;
        if before > 0 {
            let (front, rest) = self.split_held(lane, held, before);
            self.ripple(lane, front);
            held = rest;
        }
        self.shorten(lane, held, size)
    }

    /// Gives back what a held block has behind `size`, if that has a span of its own.
    pub(super) fn shorten(&self, lane: &mut Lane, held: Held, size: u32) -> Held {
        let rest = held.token.size().saturating_sub(size);
        if rest == 0 || self.spans(held.at.plus(size), rest) == 0 {
            return held;
        }
        let (block, rest) = self.split_held(lane, held, size);
        self.ripple(lane, rest);
        block
    }

    /// Hands out a held block, in the form of `kind`.
    fn retype(&self, lane: &Lane, at: Granule, token: Token, kind: Kind) -> Live {
        let (state, low) = kind.state_of(self.place(at, token.size()), self.spans(at, token.size()));
        let live = Token::new(state, lane.owner(), token.generation(), low);
        self.label(at, state, kind);
        self.token(at).store(live.0, &HELD_STORE);
        Live { at, token: live }
    }

    /// Writes the fingerprint beside the head of a block that will be live in this state. Nobody else may have the block yet: it might be
    /// freed and merged, and a head stand here.
    #[inline(always)]
    pub(super) fn label(&self, at: Granule, state: State, kind: Kind) {
        if let (Kind::Typed(fingerprint), State::Typed) = (kind, state) {
            let second = self.token(at.plus(self.least()));
            let old = Token(second.load(&HELD_LOOK));
            second.store(Token::new(State::Inside, 0, old.next_generation(), fingerprint).0, &HELD_STORE);
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

    /// The block at `g` will be freed soon: its token's line may come. No access.
    #[inline(always)]
    pub fn will_free(&self, g: Granule) {
        self.token(g).expect_write();
    }

    /// Frees the live block that begins at `g`: one compare-and-swap where it is parked, else the Ripple.
    ///
    /// With a `generation`, only the block of that generation.
    ///
    /// # Errors
    /// [`Refusal`], and nothing has changed (S5).
    #[inline]
    pub fn free(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> Result<(), Refusal> {
        if self.free_quickly(lane, g, generation) {
            return Ok(());
        }
        self.free_slowly(lane, g, generation)
    }

    /// Frees a block where that takes one read-modify-write at most. False: nothing was done.
    #[inline]
    pub fn free_quickly(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> bool {
        let anothers = self.biased() && Token(self.token(g).load(&TOKEN_HINT)).owner() != lane.owner();
        if anothers { self.free_homeward(lane, g, generation) } else { self.free_to_stack(lane, g, generation) }
    }

    #[cold]
    #[inline(never)]
    fn free_slowly(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> Result<(), Refusal> {
        self.bind(lane);
        if g.0 >= self.layout().granules {
            return Err(Refusal::OutOfRange);
        }
        let token = self.look(g);
        if !token.is_live() || !self.fits_sector(g, token) {
            return Err(Refusal::NotLive(token));
        }
        if generation.is_some_and(|held| held != token.generation()) && !R::Backend::mutated(Mutant::GenerationIgnored)
        {
            return Err(Refusal::Stale(token));
        }
        let size = token.size();
        // A block that its lane stores plainly stays that lane's: it was refused above only because it changed meanwhile.
        if self.biased() && is_parkable(size) && !is_nobody(token.owner()) && token.owner() != lane.owner() {
            if self.free_homeward(lane, g, generation) {
                return Ok(());
            }
            return self.free_anew(lane, g, token, self.look(g));
        }
        let acked = Token::new(State::Acked, lane.owner(), token.generation(), self.place(g, size));
        if let Err(found) = self.token(g).cas(token.0, acked.0, &PARK) {
            return self.free_anew(lane, g, token, self.said_of(g, Token(found)));
        }
        match self.parking_bin(lane, size) {
            Some(bin) => self.remember(lane, bin, g),
            None => drop(self.coalesce(lane, g, acked)),
        }
        Ok(())
    }

    /// The block read as `token` has become `found` before it could be freed. If it only changed hands (adopted, handed over, its
    /// owner left), it is the same block all the same.
    fn free_anew(&self, lane: &mut Lane, g: Granule, token: Token, found: Token) -> Result<(), Refusal> {
        let same = found.is_live() && found.generation() == token.generation();
        if same && !R::Backend::mutated(Mutant::NewOwnerRefused) {
            return self.free_slowly(lane, g, Some(token.generation()));
        }
        Err(Refusal::NotLive(found))
    }
}
