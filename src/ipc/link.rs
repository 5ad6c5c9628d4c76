//! The link: a word of a structure that names a block which the structure owns, or is about to.
//!
//! ```text
//! link  = 1 | lap 5 | giver 10 | generation 20 | granule 28
//! empty = 0 | 0 | ticket 62        sealed = 0 | 1 | ticket 62
//! ```
//!
//! Who has the block is told by its *header* alone. For a link (giver A, generation g, block B):
//!
//! | B's header | the link is | who may do what |
//! |---|---|---|
//! | live, owner A, g − 1 | *pending*: put in, A has not let go yet | anyone: let go for A, → (LINKED, g); a taker: → (R, g) |
//! | live, LINKED, g | *present*: the structure's | a taker: → (R, g) |
//! | anything else | *void*: taken (or freed, or adopted, by misuse) | anyone: empty the word |
//!
//! - **L-a** The giver puts the link in first, by compare-and-swap from an exact empty word, and lets go second.
//! - **L-b** A block leaves by being taken (its header); then its word is emptied; only then is it freed or given on.
//! - **L-c** A recovery of D completes D's pending links and empties void words; then it frees D's blocks;
//!   then D's number may be used again.
//! - **L-d** The giver owns the block.
//!
//! LINKED is an owner's number that no participant has: no call but a structure's own takes or frees such a block,
//! whatever offset or reference leads to it, so that who reads it where it lies, as a topic's subscribers do,
//! may count on it.
//!
//! Header and word never need to change together. Before the word's compare-and-swap B is the sender's, whose
//! death frees it; after it, B is the structure's whatever the sender does, since its death completes the
//! link. Before the header's, the message is in the structure; after it, it is the taker's. So each party's
//! one compare-and-swap is the whole transfer (Q1).
//!
//! A link has a generation that its block has never had, because letting go advances it; so a pointer from
//! before the send is refused afterwards (S5), and a word that names a block that was taken stays void. The
//! limit is the one of all generations: a taker that is stopped between its look at a link and its
//! compare-and-swap for exactly a multiple of 2^20 generations of that one block may take what has become
//! another structure's by then (S3 in `verification/OBLIGATIONS.md`).

use crate::backend::orderings::{CELL_LOOK, LET_GO, OWN_STORE, TAKE};
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::block_header::{Header, LINKED};
use crate::matrix::heap::{Heap, Live};
use crate::packed::packed;
use crate::segment::layout::{Granule, MAX_GRANULES, MAX_PARTICIPANTS};
use crate::segment::region::Region;

packed! {
    /// A link's bits.
    struct Linked {
        /// The block.
        GRANULE: 28,
        GENERATION: 20,
        GIVER: 10,
        LAP: 5,
        IS_LINK: 1,
    }
}
packed! {
    /// The bits of a cell that has no link.
    struct Unlinked { TICKET: 62, IS_SEALED: 1, IS_LINK: 1 }
}
const LINK: u64 = Linked::IS_LINK.mask();
const SEALED: u64 = Unlinked::IS_SEALED.mask();
/// Tickets have so many bits.
const TICKET: u64 = Unlinked::TICKET.mask();
/// Laps are told apart modulo this.
pub const LAPS: u64 = Linked::LAP.max() + 1;
const _: () = assert!(MAX_PARTICIPANTS as u64 <= Linked::GIVER.max() && MAX_GRANULES as u64 <= Linked::GRANULE.max());

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Nothing: it waits for this ticket.
    Empty(u64),
    /// Nothing, and never again: whoever has this ticket finds the end.
    Sealed(u64),
    /// A link.
    Link(Link),
}

impl Cell {
    /// From a word.
    #[inline(always)]
    pub const fn of(word: u64) -> Self {
        match word & (LINK | SEALED) {
            0 => Self::Empty(word & TICKET),
            SEALED => Self::Sealed(word & TICKET),
            _ => Self::Link(Link(word)),
        }
    }
    /// As a word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        match self {
            Self::Empty(ticket) => ticket & TICKET,
            Self::Sealed(ticket) => SEALED | ticket & TICKET,
            Self::Link(link) => link.0,
        }
    }
}

/// The cells of a structure, found by ticket: ticket t has cell t mod n, and n is a power of two.
pub(super) struct Cells<'a, B: Backend> {
    words: &'a [B::Word],
    shift: u32,
}

impl<B: Backend> Clone for Cells<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Cells<'_, B> {}

impl<'a, B: Backend> Cells<'a, B> {
    /// The first 2^shift of these words.
    #[inline(always)]
    pub(super) fn of(words: &'a [B::Word], shift: u32) -> Self {
        Self { words: &words[..1 << shift], shift }
    }
    /// How many there are.
    #[inline(always)]
    pub(super) const fn n(self) -> u64 {
        1 << self.shift
    }
    /// A ticket's cell.
    #[inline(always)]
    pub(super) fn at(self, ticket: u64) -> &'a B::Word {
        &self.words[(ticket & (self.n() - 1)) as usize]
    }
    /// A ticket's lap, modulo [`LAPS`].
    #[inline(always)]
    pub(super) const fn lap(self, ticket: u64) -> u64 {
        ticket >> self.shift & (LAPS - 1)
    }
    /// All of them, from ticket 0 on.
    pub(super) fn iter(self) -> std::slice::Iter<'a, B::Word> {
        self.words.iter()
    }
    /// The links that stand in them, each with its cell and the word that was read.
    pub(super) fn links(self) -> impl Iterator<Item = (&'a B::Word, u64, Link)> + use<'a, B> {
        self.iter().filter_map(|cell| {
            let word = cell.load(&CELL_LOOK);
            match Cell::of(word) {
                Cell::Link(link) => Some((cell, word, link)),
                Cell::Empty(_) | Cell::Sealed(_) => None,
            }
        })
    }
}

/// A word that names a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link(u64);

impl Link {
    /// For who looks for a lap by the bits of words: those that count, of the lap's those of the mask; and what
    /// they are.
    #[inline(always)]
    pub(super) const fn bits_of_lap(mask: u64, lap: u64) -> (u64, u64) {
        (LINK | Linked::LAP.of(mask & Linked::LAP.max()), LINK | Linked::LAP.of(lap & mask & Linked::LAP.max()))
    }

    /// The link with which `giver` puts `block` in, in this lap (modulo [`LAPS`]).
    #[inline(always)]
    pub const fn new(lap: u64, giver: u16, generation: u32, at: Granule) -> Self {
        Self(
            LINK | Linked::LAP.of(lap)
                | Linked::GIVER.of(giver as u64)
                | Linked::GENERATION.of(generation as u64)
                | Linked::GRANULE.of(at.0 as u64),
        )
    }
    /// Its word, which is not 0.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }
    /// The lap, modulo [`LAPS`].
    #[inline(always)]
    pub const fn lap(self) -> u64 {
        Linked::LAP.get(self.0)
    }
    /// Who put it in.
    #[inline(always)]
    pub const fn giver(self) -> u16 {
        Linked::GIVER.get(self.0) as u16
    }
    /// The generation that the block has once it is let go.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        Linked::GENERATION.get(self.0) as u32
    }
    /// The block.
    #[inline(always)]
    pub const fn at(self) -> Granule {
        Granule(Linked::GRANULE.get(self.0) as u32)
    }
}

/// What a block's header says of a link to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its giver has not let go yet.
    Pending(Header),
    /// It is the structure's.
    Present(Header),
    /// It was taken.
    Void,
}

/// A block that was taken, and who had put it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The block, the taker's own now.
    pub live: Live,
    /// Whose it was.
    pub giver: u16,
}

impl<R: Region> Heap<R> {
    /// The generation with which a block read as `header` is linked.
    #[inline(always)]
    pub(super) fn linked_generation(header: Header) -> u32 {
        match R::Backend::mutated(Mutant::SentUnderOneGeneration) {
            true => header.generation(),
            false => header.next_generation(),
        }
    }

    /// What the header of a link's block says of it.
    #[inline(always)]
    pub(super) fn standing(&self, link: Link) -> Standing {
        // Out of range, or of a size that does not fit: no structure has put that in (C2).
        self.live_at(link.at()).map_or(Standing::Void, |live| Self::standing_of(link, live.header))
    }

    /// The same, of a live block's header that was read.
    #[inline(always)]
    pub(super) fn standing_of(link: Link, header: Header) -> Standing {
        let (owner, generation) = (header.owner(), link.generation());
        if owner == LINKED && header.generation() == generation {
            Standing::Present(header)
        } else if owner == link.giver() && owner != 0 && Self::linked_generation(header) == generation {
            match R::Backend::mutated(Mutant::PendingTakenForVoid) {
                true => Standing::Void,
                false => Standing::Pending(header),
            }
        } else {
            Standing::Void
        }
    }

    /// Makes a pending link's block the structure's; the giver, or whoever meets it.
    #[inline(always)]
    pub(super) fn let_go(&self, link: Link, pending: Header) -> bool {
        let gone = Header::new(pending.state(), LINKED, link.generation(), pending.low());
        if R::Backend::mutated(Mutant::LetGoPlain) {
            self.header(link.at()).store(gone.0, &OWN_STORE);
            return true;
        }
        self.header(link.at()).cas(pending.0, gone.0, &LET_GO).is_ok()
    }

    /// Takes a link's block, read as `header`, for `me`. None if another was quicker.
    #[inline(always)]
    pub(super) fn take_link(&self, me: u16, link: Link, header: Header) -> Option<Taken> {
        let ours = Header::new(header.state(), me, link.generation(), header.low());
        let taken = self.header(link.at()).cas(header.0, ours.0, &TAKE).is_ok();
        taken.then_some(Taken { live: Live { at: link.at(), header: ours }, giver: link.giver() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::matrix::block_header::State;
    use crate::segment::region::BoxedRegion;

    #[test]
    fn q1_fields_of_a_link_do_not_touch_each_other() {
        let full = Link::new(LAPS - 1, u16::MAX, u32::MAX, Granule(u32::MAX));
        assert_eq!(full.0, u64::MAX);
        let none = Link::new(0, 0, 0, Granule(0));
        assert_eq!((none.lap(), none.giver(), none.generation(), none.at()), (0, 0, 0, Granule(0)));
        let some = Link::new(33, 1022, 77, Granule(4_000_000));
        assert_eq!((some.lap(), some.giver(), some.generation(), some.at()), (1, 1022, 77, Granule(4_000_000)));
        for cell in [Cell::Empty(0), Cell::Empty(TICKET), Cell::Sealed(0), Cell::Sealed(7), Cell::Link(none)] {
            assert_eq!(Cell::of(cell.word()), cell);
        }
    }

    #[test]
    fn q1_a_links_block_is_there_is_its_givers_still_or_is_none_of_it() {
        const GIVER: u16 = 5;
        let link = Link::new(3, GIVER, 8, Granule(7));
        let read = |owner, generation| Header::new(State::Allocated, owner, generation, 1);
        let present = read(LINKED, 8);
        let pending = read(GIVER, 7);
        let of = |header| Heap::<BoxedRegion<Native>>::standing_of(link, header);
        assert_eq!((of(present), of(pending)), (Standing::Present(present), Standing::Pending(pending)));
        for (owner, generation) in
            [(LINKED, 7), (LINKED, 9), (GIVER, 8), (GIVER, 6), (GIVER + 1, 7), (GIVER + 1, 8), (0, 7), (0, 8)]
        {
            assert_eq!(of(read(owner, generation)), Standing::Void, "of {owner}, generation {generation}");
        }
        let nobodys = Link::new(3, 0, 8, Granule(7));
        assert_eq!(Heap::<BoxedRegion<Native>>::standing_of(nobodys, read(0, 7)), Standing::Void);
    }
}
