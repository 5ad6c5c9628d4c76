//! Operations on free blocks that anybody can finish: the *cut* takes a part off a free block, the *join* makes one
//! of two free neighbours, and the *free* is that of a parked block too large to be hidden.
//!
//! Nearly all free memory is often one block. If taking a few granules off it hid the whole block for a moment, a
//! participant stopped in that moment would make an almost empty heap look full (L2). So no participant ever owns a
//! free block that it does not take whole. It *announces* instead what it wants done, and every *helper* that meets
//! the announcement does it, the announcer included:
//!
//! 1. The participant A writes the operation into its slot, then announces it with one compare-and-swap on the
//!    block's head: FREE → COALESCING(A). The new word T is unique (owner and generation).
//! 2. A helper reads T, then A's slot (the operation before the quoted header), then the head again. If T
//!    still stands, the slot's words belong to T: A writes them in the other order, only while none of its
//!    operations is in force, and had it gone on to the next one, the release of that later write would show
//!    the reader a head past T.
//! 3. The steps under T are compare-and-swaps on inside words, prepared from a reading that T is known to outlive
//!    (read the word, then the head: T). Each such word changes only under T and advances its generation, so a
//!    helper that comes too late changes nothing.
//! 4. One compare-and-swap on the head, T → FREE, commits. It succeeds once.
//!
//! **Cut** of `n` granules from the tail of a block of `s`: footer of the remainder, the tail's head
//! (COALESCING(A), hidden under T's extent), commit FREE(s − n). The tail is then A's alone.
//!
//! **Join** of a block with its right-hand neighbour, whose header the slot quotes: *freeze* (the neighbour's
//! head, exactly as quoted, becomes an inside word), footer, commit FREE(both). If the neighbour's head is
//! neither as quoted nor frozen, another got it first: the commit gives the left block back unchanged.
//! That decision is safe, because the quoted word never returns: once it is gone without having been frozen,
//! no late helper can freeze it; and once it is frozen, it stays so until the commit (only T's helpers write
//! inside T's extent).
//!
//! **Free** of a parked block too large to be hidden for a moment: footer, commit FREE.
//!
//! S4: at every instruction the sizes tile the sector, where a block under a join counts its right neighbour as its
//! own from the freeze on. C1: a participant that stops for ever leaves at worst an announced operation, which others
//! finish, and one block that it held alone: what it asked for, what it was freeing, or a run that it cuts up
//! (matrix::runs, 72 spans at most).
//! L1: an announced operation ends after a bounded number of any helper's steps, without waiting.

use super::block_header::{Header, State};
use super::made::Vicinity;
use super::thread_cache::ThreadCache;
use super::words::{Heap, view};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::packed::packed;
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::Region;
use crate::segment::size_class::{Class, LARGEST_BIN, of_size};

/// An operation as it stands in a slot's word: kind (2 bits), granule (30), size or tag (30).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Nothing in force.
    None,
    /// Cut the last `size` granules off the block at `at`.
    Cut {
        /// Head of the block.
        at: Granule,
        /// Granules to cut off.
        size: u32,
    },
    /// Make the block at `at`, which was parked, FREE.
    Free {
        /// Head of the block.
        at: Granule,
        /// The tag of the free block.
        tag: u16,
    },
    /// Join the block at `at` with its right neighbour, whose header is quoted in [`SlotWord::Right`].
    Join {
        /// Head of the left block.
        at: Granule,
        /// The tag of the frozen word and of the free block: all helpers write the same.
        tag: u16,
    },
}

packed! {
    /// An operation as a word.
    struct Encoded {
        /// A cut's size, or another's tag.
        SIZE: 30,
        AT: 30,
        UNUSED: 2,
        KIND: 2,
    }
}

impl Op {
    /// As a word.
    pub const fn encode(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Cut { at, size } => Self::word(1, at, size),
            Self::Join { at, tag } => Self::word(2, at, tag as u32),
            Self::Free { at, tag } => Self::word(3, at, tag as u32),
        }
    }

    const fn word(kind: u64, at: Granule, size: u32) -> u64 {
        Encoded::KIND.of(kind) | Encoded::AT.of(at.0 as u64) | Encoded::SIZE.of(size as u64)
    }

    /// From a word, whatever it holds.
    pub const fn decode(word: u64) -> Self {
        let at = Granule(Encoded::AT.get(word) as u32);
        let tag = Encoded::SIZE.get(word) as u16;
        match Encoded::KIND.get(word) {
            1 => Self::Cut { at, size: Encoded::SIZE.get(word) as u32 },
            2 => Self::Join { at, tag },
            3 => Self::Free { at, tag },
            _ => Self::None,
        }
    }
}

/// A block in the hands of one participant alone: its header is COALESCING with that participant's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Where it begins.
    pub at: Granule,
    /// Its header.
    pub header: Header,
}

/// Spans of a block that may be held while it is merged: those of the largest bin's, where a span has four granules.
const LARGEST_HELD: u32 = 30;
const _: () = assert!(LARGEST_BIN.div_ceil(4) == LARGEST_HELD);

/// How a join ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// The left block now has this size.
    Whole(u32),
    /// Another got the right-hand block first; the left one is FREE as before.
    Aborted,
    /// A helper finished the operation; if it was not aborted, the left block now has this size.
    Elsewhere(u32),
    /// The left block changed before the operation was announced.
    NotAnnounced,
}

/// What a helper has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Helped {
    /// The header announces nothing.
    NotAnnounced,
    /// It has changed.
    Changed,
    /// Its operation is over; the block that begins there was FREE with this size.
    Finished(u32),
}

view! {
    /// Cut, join and the Ripple, which anybody can finish.
    pub(crate) struct Operations, operations
}

impl<R: Region> Operations<'_, R> {
    /// Takes `size` granules from the free block read as `header` at `g`: all of it, or its tail. All of it
    /// also where what would remain has no span of its own, which is less than a span.
    pub(super) fn take(self, cache: &mut ThreadCache, g: Granule, header: Header, size: u32) -> Option<Held> {
        debug_assert!(header.is_free() && header.size() >= size && size > 0 && self.heap.is_participant(cache.owner()));
        if self.heap.spans(g, header.size() - size) == 0 {
            let place = self.heap.place(g, header.size());
            let held = Header::new(State::Coalescing, cache.owner(), header.next_generation(), place);
            let taken = self.heap.header(g).cas(header.0, held.0, &CLAIM).is_ok();
            return taken.then_some(Held { at: g, header: held });
        }
        self.cut(cache, g, header, size)
    }

    /// Cuts `size` granules off the tail of the free block read as `header` at `g`, or nothing if the block
    /// has changed.
    fn cut(self, cache: &mut ThreadCache, g: Granule, header: Header, size: u32) -> Option<Held> {
        let owner = cache.owner();
        self.write_op(owner, Op::Cut { at: g, size });
        let place = self.heap.place(g, header.size());
        let announced = Header::new(State::Coalescing, owner, header.next_generation(), place);
        if self.heap.header(g).cas(header.0, announced.0, &ANNOUNCE).is_err() {
            self.write_op(owner, Op::None);
            return None;
        }
        let tag = self.heap.tag(cache);
        self.finish_cut(g, announced, size, tag);
        self.write_op(owner, Op::None);
        let rest = header.size() - size;
        let tail = g.plus(rest);
        let held = Header(self.heap.header(tail).load(&HELD_LOOK));
        if held.state() != State::Coalescing || held.owner() != owner || held.low() != self.heap.place(tail, size) {
            // Only a damaged segment (C2), or a generation that wrapped, leads here.
            return None;
        }
        self.publish_free(cache, g, rest, Some(of_size(header.size())));
        Some(Held { at: tail, header: held })
    }

    /// The steps of an announced cut; anybody's, each with a tag of its own.
    fn finish_cut(self, g: Granule, announced: Header, size: u32, tag: u16) {
        let rest = announced.size() - size;
        let tail = g.plus(rest);
        if R::Backend::takes(Mutant::FooterDropped) && !self.write_footer(g, announced, rest) {
            return;
        }
        let inside = self.heap.look_at_span(self.heap.layout().span(tail));
        if !self.still(g, announced) {
            return;
        }
        if inside.state() == State::Inside {
            let place = self.heap.place(tail, size);
            let head = Header::new(State::Coalescing, announced.owner(), inside.next_generation(), place);
            let _ = self.heap.header(tail).cas(inside.0, head.0, &CARVE);
        }
        let free = Header::new(State::Free, tag, announced.next_generation(), self.heap.place(g, rest));
        let _ = self.heap.header(g).cas(announced.0, free.0, &COMMIT);
    }

    /// Joins the free block read as `left` at `g` with its right neighbour read as `right` (FREE, ACKED, or
    /// held by this cache).
    fn join(self, cache: &mut ThreadCache, g: Granule, left: Header, right: Header) -> Joined {
        let owner = cache.owner();
        debug_assert!(left.is_free() && (right.is_free() || self.is_held_by(cache, right)), "{left:?} {right:?}");
        let place = self.heap.place(g, left.size());
        let announced = Header::new(State::Coalescing, owner, left.next_generation(), place);
        let tag = self.heap.tag(cache);
        self.heap.word(self.heap.layout().slot(owner, SlotWord::Right)).store(right.0, &OP_WRITE);
        self.write_op(owner, Op::Join { at: g, tag });
        if self.heap.header(g).cas(left.0, announced.0, &ANNOUNCE).is_err() {
            self.write_op(owner, Op::None);
            return Joined::NotAnnounced;
        }
        let joined = self.finish_join(g, announced, right, tag);
        self.write_op(owner, Op::None);
        joined
    }

    /// The steps of an announced join; anybody's.
    pub(super) fn finish_join(self, g: Granule, announced: Header, quoted: Header, tag: u16) -> Joined {
        let left = announced.size();
        let both = left.saturating_add(quoted.size());
        let right = g.plus(left);
        let frozen = self.frozen(g, left, quoted, tag);
        let froze = match self.heap.header(right).cas(quoted.0, frozen.0, &FREEZE) {
            Ok(_) => true,
            Err(found) => found == frozen.0,
        };
        let next = announced.next_generation();
        if !froze && R::Backend::takes(Mutant::CommitUnfrozen) {
            let free = Header::new(State::Free, tag, next, self.heap.place(g, left));
            return match self.heap.header(g).cas(announced.0, free.0, &COMMIT) {
                Ok(_) => Joined::Aborted,
                Err(_) => Joined::Elsewhere(both),
            };
        }
        if self.heap.spans(right, quoted.size()) > 1 && !self.write_footer(g, announced, both) {
            return Joined::Whole(both);
        }
        let free = Header::new(State::Free, tag, next, self.heap.place(g, both));
        let _ = self.heap.header(g).cas(announced.0, free.0, &COMMIT);
        Joined::Whole(both)
    }

    /// Finishes the operation that `header` at `g` announces, if it announces one. True if the header may have changed.
    pub(super) fn help(self, cache: &mut ThreadCache, g: Granule, header: Header) -> bool {
        let tag = self.heap.tag(cache);
        match self.finish(g, header, tag) {
            Helped::NotAnnounced => false,
            Helped::Changed => true,
            Helped::Finished(size) => {
                // The helper that finishes an operation also does what comes after: the announcer may have stopped
                // for ever.
                self.give(cache, g, size, None);
                true
            }
        }
    }

    /// The steps of the operation that `header` at `g` announces, without what comes after. A cut gets the tag.
    pub(super) fn finish(self, g: Granule, header: Header, tag: u16) -> Helped {
        let owner = header.owner();
        let op = Op::decode(self.heap.word(self.heap.layout().slot(owner, SlotWord::Op)).load(&OP_READ));
        let quoted = Header(self.heap.word(self.heap.layout().slot(owner, SlotWord::Right)).load(&OP_READ));
        if !self.still(g, header) && R::Backend::takes(Mutant::HelperRecheckDropped) {
            return Helped::Changed;
        }
        if !self.heap.fits_sector(g, header) {
            return Helped::NotAnnounced;
        }
        Helped::Finished(match op {
            Op::Cut { at, size } if at == g && self.may_be_cut(g, header, size) => {
                self.finish_cut(g, header, size, tag);
                header.size() - size
            }
            Op::Free { at, tag } if at == g => {
                self.finish_free(g, header, tag);
                header.size()
            }
            Op::Join { at, tag } if at == g && self.heap.fits_sector(g.plus(header.size()), quoted) => {
                match self.finish_join(g, header, quoted, tag) {
                    Joined::Whole(size) | Joined::Elsewhere(size) => size,
                    Joined::Aborted | Joined::NotAnnounced => header.size(),
                }
            }
            _ => return Helped::NotAnnounced,
        })
    }

    /// Whether both parts have a span of their own if so much is cut off.
    fn may_be_cut(self, g: Granule, header: Header, size: u32) -> bool {
        let rest = header.size().saturating_sub(size);
        self.heap.spans(g, rest) > 0 && self.heap.spans(g.plus(rest), size) > 0
    }

    /// What the head of a join's right-hand block becomes, behind a left-hand block of `left` granules at `g`.
    fn frozen(self, g: Granule, left: u32, quoted: Header, tag: u16) -> Header {
        // A right-hand block of one span: its frozen head is the footer of the whole.
        let small = self.heap.spans(g.plus(left), quoted.size()) == 1;
        let back = if small { self.heap.spans(g, left) } else { 0 };
        Header::new(State::Inside, tag, quoted.next_generation(), back)
    }

    /// The granules that the tile read as `header` at `g` stands for: under a join, from the freeze on, the
    /// right-hand block counts as its own (S4).
    pub(super) fn extent(self, g: Granule, header: Header) -> u32 {
        let size = header.size();
        if header.state() != State::Coalescing {
            return size;
        }
        let slot = |word| self.heap.word(self.heap.layout().slot(header.owner(), word)).load(&OP_READ);
        let (op, quoted) = (Op::decode(slot(SlotWord::Op)), Header(slot(SlotWord::Right)));
        if let Op::Join { at, tag } = op
            && at == g
            && self.heap.look(g.plus(size)) == self.frozen(g, size, quoted, tag)
            && R::Backend::check(self.still(g, header), Mutant::JoinRecheckDropped)
        {
            return size.saturating_add(quoted.size());
        }
        size
    }

    /// Writes the footer of the first `size` granules of a block under an announced operation, or of a held block.
    /// False if the operation is over. A block of one span needs none: its head is its last word.
    fn write_footer(self, g: Granule, head: Header, size: u32) -> bool {
        let back = self.heap.spans(g, size).saturating_sub(1);
        if back == 0 {
            return true;
        }
        let last = self.heap.layout().span(g) + back;
        let word = self.heap.look_at_span(last);
        if !self.still(g, head) {
            return false;
        }
        if word.state() == State::Inside && word.low() != back {
            let footer = self.heap.next_inside(word, back);
            let _ = self.heap.header(self.heap.layout().first_of(last)).cas(word.0, footer.0, &FOOTER);
        }
        true
    }

    /// Whether a header says that a cache holds the block alone, or has announced an operation on it.
    fn is_held_by(self, cache: &ThreadCache, header: Header) -> bool {
        header.state() == State::Coalescing
            && header.owner() == cache.owner()
            && self.heap.is_participant(cache.owner())
    }

    /// Whether the head at `g` is still `header`: what was read before belongs to it.
    #[inline]
    pub(super) fn still(self, g: Granule, header: Header) -> bool {
        self.heap.header(g).load(&HEADER_RECHECK) == header.0
    }

    fn write_op(self, owner: u16, op: Op) {
        self.heap.word(self.heap.layout().slot(owner, SlotWord::Op)).store(op.encode(), &OP_WRITE);
    }

    /// Frees a parked block, merging it with free neighbours. None if another was quicker, else where
    /// the free block now begins.
    ///
    /// A small block is held on the way: that saves its publication where a neighbour takes it in. A large one is
    /// announced, so that a participant stopped in between does not hide it (L2): anybody frees it then.
    pub(super) fn coalesce(self, cache: &mut ThreadCache, g: Granule, acked: Header) -> Option<Granule> {
        self.heap.made().merges(cache, acked.size());
        debug_assert!(
            acked.is_given_up() && self.heap.fits_sector(g, acked) && self.heap.is_participant(cache.owner()),
            "{acked:?}"
        );
        if R::Backend::check(self.heap.spans(g, acked.size()) <= LARGEST_HELD, Mutant::LargeHeld) {
            let Some(held) = self.hold(cache, g, acked) else { return self.heap.made().dropped(cache) };
            return Some(self.ripple(cache, held));
        }
        let (owner, size) = (cache.owner(), acked.size());
        let announced = Header::new(State::Coalescing, owner, acked.next_generation(), self.heap.place(g, size));
        let tag = self.heap.tag(cache);
        self.write_op(owner, Op::Free { at: g, tag });
        let announce = self.heap.header(g).cas(acked.0, announced.0, &ANNOUNCE);
        if announce.is_ok() {
            self.finish_free(g, announced, tag);
        }
        self.write_op(owner, Op::None);
        match announce {
            Ok(_) => Some(self.give(cache, g, size, None)),
            Err(_) => self.heap.made().dropped(cache),
        }
    }

    /// The steps of an announced free; anybody's.
    fn finish_free(self, g: Granule, announced: Header, tag: u16) {
        if self.write_footer(g, announced, announced.size()) {
            let place = self.heap.place(g, announced.size());
            let free = Header::new(State::Free, tag, announced.next_generation(), place);
            let _ = self.heap.header(g).cas(announced.0, free.0, &COMMIT);
        }
    }

    /// Takes a parked block into this cache's hands, to merge it. None if another was quicker.
    pub(super) fn hold(self, cache: &ThreadCache, g: Granule, acked: Header) -> Option<Held> {
        debug_assert!(acked.is_given_up());
        let place = self.heap.place(g, acked.size());
        let held = Header::new(State::Coalescing, cache.owner(), acked.next_generation(), place);
        let taken = self.heap.header(g).cas(acked.0, held.0, &CLAIM).is_ok();
        taken.then_some(Held { at: g, header: held })
    }

    /// The **Ripple**: frees a held block, merging it with free neighbours. Returns where the free block now begins.
    ///
    /// To the left by a join in which the held block is the right-hand one; else to the right by a join in
    /// which it is the left-hand one; else it becomes FREE alone. Then the recheck of `Operations::publish_free`.
    pub(super) fn ripple(self, cache: &mut ThreadCache, held: Held) -> Granule {
        let Held { at, header } = held;
        debug_assert!(self.is_held_by(cache, header) && self.heap.fits_sector(at, header), "{held:?}");
        self.heap.news().will_give(cache);
        while let Some((l, left)) = self.left_of(at) {
            match self.join(cache, l, left, header) {
                // No other can take a held block: a join with it is never aborted.
                Joined::Whole(size) | Joined::Elsewhere(size) => {
                    return self.give(cache, l, size, Some(of_size(left.size())));
                }
                Joined::Aborted => unreachable_state("a held block was taken"),
                Joined::NotAnnounced => R::Backend::pause(),
            }
        }
        self.write_footer(at, header, header.size());
        let beyond = at.plus(header.size());
        let right = self.heap.look(beyond);
        if right.is_free() && self.heap.fits_sector(beyond, right) {
            return match self.join_held(cache, held, right) {
                Joined::Whole(size) | Joined::Elsewhere(size) => self.give(cache, at, size, None),
                Joined::Aborted | Joined::NotAnnounced => self.give(cache, at, header.size(), None),
            };
        }
        let (tag, place) = (self.heap.tag(cache), self.heap.place(at, header.size()));
        let free = Header::new(State::Free, tag, header.next_generation(), place);
        self.heap.header(at).store(free.0, &HELD_STORE);
        self.give(cache, at, header.size(), None)
    }

    /// Joins a held block with the free block to its right. The held block's header is announcement enough: no other
    /// changes it, and from the moment the slot names it, any helper may finish.
    fn join_held(self, cache: &mut ThreadCache, held: Held, right: Header) -> Joined {
        debug_assert!(self.is_held_by(cache, held.header) && right.is_free(), "{held:?} {right:?}");
        let (owner, tag) = (cache.owner(), self.heap.tag(cache));
        self.heap.word(self.heap.layout().slot(owner, SlotWord::Right)).store(right.0, &OP_WRITE);
        self.write_op(owner, Op::Join { at: held.at, tag });
        let joined = self.finish_join(held.at, held.header, right, tag);
        self.write_op(owner, Op::None);
        joined
    }

    /// What follows where a block has become FREE that was not: it is counted (matrix::news), and published.
    fn give(&self, cache: &mut ThreadCache, g: Granule, size: u32, hinted: Option<Class>) -> Granule {
        self.heap.news().gave(cache);
        self.publish_free(cache, g, size, hinted)
    }

    /// What follows every transition to FREE: hints, and the **recheck** at both neighbours.
    ///
    /// `size` is the size with which the block at `g` became FREE, `hinted` the class that it is hinted in
    /// already. Returns where the block that contains it now begins.
    ///
    /// L3, by cases: let two neighbours L and R be FREE at rest, and take the last transition to FREE of
    /// each. Behind each comes a sequentially consistent fence and then a look at both neighbours. If L's
    /// fence comes first, R's look sees L's footer and header and joins them; else L's look sees R's header.
    /// Either way they are one block: a contradiction. A look that meets an operation in flight may leave it:
    /// that operation ends with a transition of its own.
    pub(super) fn publish_free(self, cache: &mut ThreadCache, g: Granule, size: u32, hinted: Option<Class>) -> Granule {
        let (at, seen) = self.recheck(cache, g, size, hinted);
        self.heap.made().add(cache, at, seen);
        at
    }

    /// Where the block begins at the end, and what the last look saw: none if somebody else has taken it by then.
    fn recheck(
        self,
        cache: &mut ThreadCache,
        mut g: Granule,
        size: u32,
        mut hinted: Option<Class>,
    ) -> (Granule, Option<Vicinity>) {
        let hint = |g: Granule, size: u32, hinted: &mut Option<Class>| {
            let class = of_size(size);
            if *hinted != Some(class) {
                self.heap.hints().hint(g, class, false);
                *hinted = Some(class);
            }
        };
        hint(g, size, &mut hinted);
        if R::Backend::mutated(Mutant::RecheckDropped) {
            return (g, None);
        }
        loop {
            if R::Backend::takes(Mutant::LookFenceDropped) {
                R::Backend::fence(&LOOK_FENCE);
            }
            let header = self.heap.look(g);
            if !header.is_free() || !self.heap.fits_sector(g, header) {
                return (g, None);
            }
            hint(g, header.size(), &mut hinted);
            let beyond = g.plus(header.size());
            let right = self.heap.look(beyond);
            if right.is_free() && self.heap.fits_sector(beyond, right) {
                if let Joined::Whole(size) | Joined::Elsewhere(size) = self.join(cache, g, header, right) {
                    hint(g, size, &mut hinted);
                }
                R::Backend::pause();
                continue;
            }
            let footed = self.heap.footed_before(g);
            let Some((l, left)) = footed.filter(|(_, left)| left.is_free()) else {
                return (g, Some(Vicinity { block: header, right, left: footed.map(|(_, left)| left) }));
            };
            match self.join(cache, l, left, header) {
                Joined::Whole(size) | Joined::Elsewhere(size) => {
                    hinted = Some(of_size(left.size()));
                    g = l;
                    hint(g, size, &mut hinted);
                }
                // The left block became FREE again: its neighbours want a look, too, this one among them.
                Joined::Aborted => {
                    hinted = Some(of_size(left.size()));
                    g = l;
                }
                Joined::NotAnnounced => {}
            }
            R::Backend::pause();
        }
    }

    /// The free block that ends where `g` begins, found through its footer. A footer is a hint: head and size decide.
    fn left_of(self, g: Granule) -> Option<(Granule, Header)> {
        self.heap.footed_before(g).filter(|(_, header)| header.is_free())
    }

    /// Cuts a held block in two held ones after `size` granules; both have a span of their own.
    pub(super) fn split_held(self, cache: &ThreadCache, held: Held, size: u32) -> (Held, Held) {
        debug_assert!(size > 0 && size < held.header.size() && self.is_held_by(cache, held.header), "{held:?}");
        let at = held.at.plus(size);
        let old = Header(self.heap.header(at).load(&HELD_LOOK));
        let rest = self.heap.place(at, held.header.size() - size);
        let right = Header::new(State::Coalescing, cache.owner(), old.next_generation(), rest);
        // Hidden under the block's own extent until its word shrinks (S4).
        self.heap.header(at).store(right.0, &HELD_STORE);
        let place = self.heap.place(held.at, size);
        let left = Header::new(State::Coalescing, cache.owner(), held.header.next_generation(), place);
        self.heap.header(held.at).store(left.0, &HELD_STORE);
        (Held { at: held.at, header: left }, Held { at, header: right })
    }
}

/// A state that the protocol rules out. Checked in debug builds; in a release build the caller carries on safely.
#[cold]
fn unreachable_state(what: &str) {
    debug_assert!(false, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_the_word() {
        for op in [
            Op::None,
            Op::Free { at: Granule(9), tag: 2039 },
            Op::Cut { at: Granule(7), size: 3 },
            Op::Join { at: Granule((1 << 30) - 2), tag: 1 },
        ] {
            assert_eq!(Op::decode(op.encode()), op);
        }
    }
}
