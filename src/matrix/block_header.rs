//! Header words: the only truth about which blocks exist.
//!
//! Each *span* of the sector (one granule, or up to four small ones) has one 64-bit header. Where a block
//! begins in the span, it holds the block's whole meaning (state, owner, generation, the granule of the span
//! at which it begins, size), so that one compare-and-swap checks and changes everything at once. Everywhere
//! else it is an *inside* word, whose low field may serve as a footer or as a type fingerprint.
//!
//! At most one block begins in a span. So a block is as good as a tile of whole spans, from the one in which
//! it begins to the one before that in which the next block begins, and the bytes of both ends follow from
//! the positions in the two heads: eight bytes of metadata for 64 bytes of payload, and sizes in steps of 16.
//! A block that can be handed out has as many granules as a span at least; a free one may be shorter, where
//! it has its span to itself.
//!
//! A word's generation advances whenever a block begins, ends, changes size, is taken out of parking or marked.
//! It stands still where a live block is parked (the state tells the two apart), and where a block only changes hands:
//! a live one is adopted or given, a parked one becomes unowned. So A's word may come back, by way of another owner.
//! Whoever expects such a word, a recoverer, pins the number first (segment::slot). (A cache that remembers the
//! words of large blocks needs no more than that a block is parked so by now, matrix::large.) Any other value does not
//! return within 2^20 changes of that one word, and a compare-and-swap prepared long ago fails.
//!
//! Words without an owner, FREE and INSIDE, have a *tag* of 11 bits where others name their owner. An inside
//! word that follows an inside word counts generation and tag as one number of 31 bits. All others of them
//! are given the next tag of the cache that writes them, which counts them modulo a prime: so a cache that
//! repeats itself brings a word back after 2^20 · 2039 of its rounds, and of many caches one in 2039 brings
//! back what another wrote 2^20 changes ago. That is for the accesses of late helpers, which expect such
//! words (FREEZE, CARVE, FOOTER).
//!
//! # Who may write what
//!
//! - B1, *owner store*: a cache stores plainly the header of a parkable block of its own, while its slot
//!   names the granule.
//! - B2, *theft*: mark, heavy fence, look at the owner's slot, take over or give back. Each step is a compare-and-swap.
//! - B3, *remote free*: one compare-and-swap, which keeps the owner. The owner's own free at that moment
//!   writes the same word.
//! - B4, *adoption*: the header names the adopter, heavy fence, look at the owner's slot, then it is the new
//!   owner's, or its owner's again.
//!
//! The table is for the second reading:
//!
//! | state | owner field | written by | at the sites | becomes |
//! |---|---|---|---|---|
//! | FREE | (a tag) | any helper, at the end of an announced operation; the holder | COMMIT; HELD_STORE | COALESCING, INSIDE |
//! | COALESCING, held | its holder | one claimer; the holder | CLAIM, CARVE; HELD_STORE | FREE, ALLOCATED, ACKED, INSIDE; unowned ACKED by its holder's recovery |
//! | COALESCING, announced | the announcer | the announcer | ANNOUNCE | FREE |
//! | ALLOCATED, typed or not | its owner; its adopter; 0; KEPT; LINKED | the holder; the owner (B1); a claimer; a giver (B4); a link's giver or taker; mending | HELD_STORE; OWN_STORE; CLAIM; ADOPT; LET_GO, TAKE; ERASE | ACKED; ALLOCATED of another owner (B4, a link); COALESCING, held by its owner, which resizes it |
//! | ACKED | the cache whose stack or pool it is for; 0 | the holder; the owner (B1); a freer (B3), a recovery; a thief (B2); the end of an adoption (B4) | HELD_STORE; OWN_STORE; PARK; TAKE_OVER; ADOPT | ALLOCATED, MARKED, COALESCING; ACKED and unowned |
//! | MARKED | the thief | a thief (B2) | MARK | ACKED; MARKED by another thief; ALLOCATED or COALESCING by its owner |
//! | INSIDE | (a tag) | the holder; helpers of an announced operation; a recovery, mending | HELD_STORE; FREEZE, FOOTER; ERASE | COALESCING; ALLOCATED (KEPT) by mending |
//!
//! Only B1 is a plain store on a word that others may write; HELD_STORE is one on a word that no other may.
//! All others are compare-and-swaps. B1 is in `matrix::bias`, B2 in `matrix::steal`, B3 in `matrix::free`, B4 in
//! `matrix::adoption`, the rest in `matrix::operation`.

use crate::packed::packed;
use crate::segment::layout::MAX_PARTICIPANTS;

/// What a header says about its granule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No block begins here.
    Inside = 0,
    /// A free block begins here, hinted in its size class.
    Free = 1,
    /// A live block of untyped bytes.
    Allocated = 2,
    /// Freed and parked: not merged yet, and open to everybody.
    Acked = 3,
    /// In the hands of an operation in flight, which the owner field names.
    Coalescing = 4,
    /// A live block with a type fingerprint in the header of its second span.
    Typed = 5,
    /// A live block of one span, with a type fingerprint beside its size.
    TypedSmall = 6,
    /// Parked, and marked by a thief (the owner field) that takes it from the cache that parked it. Still
    /// open to everybody.
    Marked = 7,
}

impl State {
    /// The state's name in messages and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inside => "inside a block or never allocated",
            Self::Free => "FREE",
            Self::Allocated | Self::Typed | Self::TypedSmall => "ALLOCATED",
            Self::Acked => "ACKED",
            Self::Coalescing => "COALESCING",
            Self::Marked => "ACKED, being taken over",
        }
    }
}

packed! {
    /// A header's bits.
    struct HeaderBits {
        /// In granules; a typed block's fingerprint is in its place.
        SIZE: 28,
        /// Of the block's first granule within the span.
        POSITION: 2,
        GENERATION: 20,
        OWNER: 11,
        STATE: 3,
    }
}
const POSITION_AT: u32 = HeaderBits::POSITION.at;
const GENERATION_AT: u32 = HeaderBits::GENERATION.at;
const OWNER_AT: u32 = HeaderBits::OWNER.at;
const STATE_AT: u32 = HeaderBits::STATE.at;
const SIZE_MASK: u32 = HeaderBits::SIZE.mask() as u32;
const POSITION_MASK: u32 = HeaderBits::POSITION.mask() as u32;
const LOW_MASK: u64 = HeaderBits::SIZE.mask() | HeaderBits::POSITION.mask();
const GENERATION_MASK: u64 = HeaderBits::GENERATION.max();
const OWNER_MASK: u64 = HeaderBits::OWNER.max();
const _: () = assert!(State::Inside as u64 >> 1 == 0 && State::Free as u64 >> 1 == 0);
const _: () = assert!(State::Acked as u64 == State::Allocated as u64 | 1);

/// Tags that caches give: 1 to this prime. Tag 0 is given by who has no cache.
pub(super) const TAGS: u16 = 2039;
const _: () = assert!((TAGS as u64) < OWNER_MASK);

/// Beside a participant's number: it is adopting the block from another, and no cache's number is this.
const ADOPTER: u16 = 1 << (HeaderBits::OWNER.bits - 1);
const _: () = assert!(MAX_PARTICIPANTS + 1 < ADOPTER as usize);

/// The owner of a block that the participant is just adopting from another.
#[inline(always)]
pub(super) const fn adopter(participant: u16) -> u16 {
    participant | ADOPTER
}
/// Whether an owner's number is an adopter's.
#[inline(always)]
pub(crate) const fn is_adopter(owner: u16) -> bool {
    owner & ADOPTER != 0 && owner != LINKED
}

/// The owner of blocks that a dead participant left and a recovery kept (`Policy::Keep`): no participant has
/// this number.
pub const KEPT: u16 = MAX_PARTICIPANTS as u16 + 1;

/// The owner of blocks that a structure has (ipc::link). No participant has this number, nor is it that of
/// one who adopts a block. Whoever has no link to such a block neither takes nor frees it.
pub const LINKED: u16 = OWNER_MASK as u16;
const _: () = assert!(LINKED > adopter(MAX_PARTICIPANTS as u16));

/// Whether an owner's number is no participant's: such a block changes hands by compare-and-swap alone.
#[inline(always)]
pub(super) const fn is_nobody(owner: u16) -> bool {
    matches!(owner, 0 | KEPT | LINKED)
}

/// Bits of the size of a marked block: only blocks of bins are marked, since large ones are in nobody's bias.
const MARKED_SIZE_BITS: u32 = 8;
const MARKED_SIZE: u32 = (1 << MARKED_SIZE_BITS) - 1;

/// Type fingerprints have 25 bits: what a size leaves, where a block of one span says its size beside it, 1
/// to 8 granules.
pub const FINGERPRINT_MASK: u32 = (1 << FINGERPRINT_BITS) - 1;
const FINGERPRINT_BITS: u32 = 25;
const SMALL_MASK: u32 = 7;
const _: () = assert!(FINGERPRINT_BITS + 3 == HeaderBits::SIZE.bits);

/// Where a block begins in its span, and its size in granules: the low field of its header.
#[inline(always)]
pub const fn place(position: u32, size: u32) -> u32 {
    position << POSITION_AT | size
}

/// One header word: `state | owner | generation | position | size`, 3 + 11 + 20 + 2 + 28 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header(pub u64);

impl Header {
    /// A header; fields that are too large are cut off. FREE and INSIDE words have a tag where others have their owner.
    #[inline(always)]
    pub const fn new(state: State, owner: u16, generation: u32, low: u32) -> Self {
        Self(
            (state as u64) << STATE_AT
                | (owner as u64 & OWNER_MASK) << OWNER_AT
                | (generation as u64 & GENERATION_MASK) << GENERATION_AT
                | (low as u64 & LOW_MASK),
        )
    }
    /// The state.
    #[inline(always)]
    pub const fn state(self) -> State {
        match self.0 >> STATE_AT {
            0 => State::Inside,
            1 => State::Free,
            2 => State::Allocated,
            3 => State::Acked,
            4 => State::Coalescing,
            5 => State::Typed,
            6 => State::TypedSmall,
            _ => State::Marked,
        }
    }
    /// The participant that owns, parked or works on the block; 0 is nobody.
    #[inline(always)]
    pub const fn owner(self) -> u16 {
        if self.has_tag() { 0 } else { self.tag() }
    }
    /// Whether this is a word that nobody ever owns, and has a tag instead: FREE or INSIDE.
    #[inline(always)]
    pub const fn has_tag(self) -> bool {
        self.0 >> (STATE_AT + 1) == 0
    }
    /// The tag of a FREE or INSIDE word.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.0 >> OWNER_AT & OWNER_MASK) as u16
    }
    /// The inside word that follows this one: generation and tag count as one number.
    #[inline(always)]
    pub const fn next_inside(self, low: u32) -> Self {
        let count = self.0.wrapping_add(1 << GENERATION_AT) & ((1 << STATE_AT) - (1 << GENERATION_AT));
        Self(count | low as u64 & LOW_MASK)
    }
    /// The participant that has the block, or is just adopting it; 0 is nobody, as KEPT and LINKED are.
    #[inline(always)]
    pub const fn holder(self) -> u16 {
        let owner = self.owner();
        if is_adopter(owner) { owner & !ADOPTER } else { owner }
    }
    /// The generation.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> GENERATION_AT & GENERATION_MASK) as u32
    }
    /// The next generation (it wraps).
    #[inline(always)]
    pub const fn next_generation(self) -> u32 {
        (self.generation() + 1) & GENERATION_MASK as u32
    }
    /// The low field as it is: position and size, footer distance or fingerprint.
    #[inline(always)]
    pub const fn low(self) -> u32 {
        (self.0 & LOW_MASK) as u32
    }
    /// The granule of the span at which the block begins.
    #[inline(always)]
    pub const fn position(self) -> u32 {
        self.low() >> POSITION_AT
    }
    /// The size that stands in the low field, where that has one.
    #[inline(always)]
    pub const fn low_size(self) -> u32 {
        self.low() & SIZE_MASK
    }
    /// Whether a live typed block begins here.
    #[inline(always)]
    pub const fn is_typed(self) -> bool {
        matches!(self.state(), State::Typed | State::TypedSmall)
    }
    /// The size of the block that begins here, in granules.
    #[inline(always)]
    pub const fn size(self) -> u32 {
        match self.state() {
            State::TypedSmall => (self.low() >> FINGERPRINT_BITS & SMALL_MASK) + 1,
            State::Marked => self.low() & MARKED_SIZE,
            _ => self.low_size(),
        }
    }
    /// A parked block, marked by `thief`: the cache that parked it is kept beside the size.
    #[inline]
    pub const fn marked(self, thief: u16) -> Self {
        let cache = (self.parked_by() as u32) << MARKED_SIZE_BITS;
        let low = self.low() & POSITION_MASK | self.size() & MARKED_SIZE | cache;
        Self::new(State::Marked, thief, self.next_generation(), low)
    }
    /// The cache that parked this block, which may be marked since; 0 is nobody.
    #[inline]
    pub const fn parked_by(self) -> u16 {
        match self.state() {
            State::Marked => (self.low() >> MARKED_SIZE_BITS) as u16 & OWNER_MASK as u16,
            _ => self.owner(),
        }
    }
    /// Whether the block is parked, marked or not.
    #[inline]
    pub const fn is_given_up(self) -> bool {
        matches!(self.state(), State::Acked | State::Marked)
    }
    /// What to add to a parked block's word so that it is live in `state` with `low` instead of its `place`,
    /// and one generation on. Where the generation wraps, it is 0, and the sum counts the owner up: no such header is
    /// taken (S1).
    #[inline(always)]
    pub const fn becoming_live(state: State, place: u32, low: u32) -> u64 {
        Self::new(state, 0, 1, low).0.wrapping_sub(Self::new(State::Acked, 0, 0, place).0)
    }
    /// The low field of a typed block of one span.
    #[inline(always)]
    pub const fn small(place: u32, fingerprint: u32) -> u32 {
        let size = (place & SIZE_MASK).wrapping_sub(1) & SMALL_MASK;
        place & POSITION_MASK | size << FINGERPRINT_BITS | fingerprint & FINGERPRINT_MASK
    }
    /// Whether state and owner are those of `other`.
    #[inline(always)]
    pub const fn held_by_same(self, other: Self) -> bool {
        self.0 >> OWNER_AT == other.0 >> OWNER_AT
    }
    /// The size of a live block, where it is known whether it is typed.
    #[inline(always)]
    pub const fn live_size(self, typed: bool) -> u32 {
        if typed { self.size() } else { self.low_size() }
    }
    /// A live block's word once its owner has parked it, where it is known whether it is typed.
    #[inline(always)]
    pub const fn parked(self, typed: bool) -> Self {
        if typed {
            Self::new(State::Acked, self.owner(), self.generation(), place(self.position(), self.size()))
        } else {
            Self(self.0 | (State::Acked as u64 ^ State::Allocated as u64) << STATE_AT)
        }
    }
    /// The word without its generation.
    #[inline(always)]
    pub const fn meaning(self) -> u64 {
        self.0 & !(GENERATION_MASK << GENERATION_AT)
    }
    /// Whether a free block begins here.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        matches!(self.state(), State::Free)
    }
    /// Whether a block begins here that a user holds.
    #[inline(always)]
    pub const fn is_live(self) -> bool {
        matches!(self.state(), State::Allocated | State::Typed | State::TypedSmall)
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (state, owner, generation) = (self.state(), self.owner(), self.generation());
        match state {
            State::Inside => write!(f, "{state:?}(tag {}, generation {generation}, low {})", self.tag(), self.low()),
            State::Free => {
                let (tag, size, position) = (self.tag(), self.size(), self.position());
                write!(f, "{state:?}(tag {tag}, generation {generation}, position {position}, size {size})")
            }
            _ => {
                let (size, position) = (self.size(), self.position());
                write!(f, "{state:?}(owner {owner}, generation {generation}, position {position}, size {size})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let full = Header::new(State::Allocated, OWNER_MASK as u16, GENERATION_MASK as u32, LOW_MASK as u32);
        assert_eq!(full.state(), State::Allocated);
        assert_eq!((full.owner(), full.generation(), full.low()), (2047, (1 << 20) - 1, (1 << 30) - 1));
        assert_eq!((full.position(), full.size()), (3, (1 << 28) - 1));
        assert_eq!(full.next_generation(), 0);
        let inside = Header::new(State::Inside, 7, GENERATION_MASK as u32, 5).next_inside(9);
        assert_eq!(inside, Header::new(State::Inside, 8, 0, 9));
        let last = Header::new(State::Inside, OWNER_MASK as u16, GENERATION_MASK as u32, 5).next_inside(9);
        assert_eq!((last, last.owner()), (Header::new(State::Inside, 0, 0, 9), 0));
        assert_eq!((inside.owner(), inside.tag(), full.owner()), (0, 8, 2047));
        let held = |owner| Header::new(State::Allocated, owner, 1, 1).holder();
        assert_eq!([7, adopter(7), 0, KEPT, LINKED].map(held), [7, 7, 0, KEPT, LINKED]);
        for (position, size) in [(0, 1), (3, 4), (1, 6), (0, 7), (2, 120)] {
            let parked = Header::new(State::Acked, 5, 9, place(position, size));
            let marked = parked.marked(2047);
            assert_eq!((marked.state(), marked.owner(), marked.parked_by()), (State::Marked, 2047, 5));
            assert_eq!((marked.generation(), marked.position(), marked.size()), (10, position, size));
            let print = FINGERPRINT_MASK - 3;
            let small = Header::new(State::TypedSmall, 5, 9, Header::small(place(position, size), print));
            assert_eq!((small.position(), small.low() & FINGERPRINT_MASK), (position, print));
            assert_eq!(small.size(), if size <= 8 { size } else { (size - 1) % 8 + 1 });
        }
    }
}
