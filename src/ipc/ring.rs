//! The ring: a bounded first-in-first-out queue of blocks, for any number of senders and receivers, of which
//! any may be killed at any step.
//!
//! Ticket t has cell t mod n, which begins as empty(t) and becomes empty(t + n) when its block is taken.
//! `tail` and `head` are tickets that may lag; whoever meets a cell that is further helps them on.
//!
//! ```text
//! send(B), A owns (A, g)                             receive, R
//!  1 t ← tail                                         1 h ← head
//!  2 c ← cell[t mod n]                                2 c ← cell[h mod n]
//!     empty(t)    → 3                                    empty(h)     → Empty
//!     filled: t   → tail t → t + 1, again                later ticket → head h → h + 1, again
//!     filled: t−n → tail still t? its header:             filled: h    → head still h? its header:
//!       not void → Full                                    not void → header → (R, g')       ◀ takes effect
//!       void     → c → empty(t), help head, again          void     → c → empty(h + n), head, again
//!  3 cell empty(t) → link(A, g+1, B)  ◀ takes effect   3 c → empty(h + n)
//!  4 header (A, g) → (LINKED, g+1)                      4 head h → h + 1
//!  5 tail t → t + 1
//! ```
//!
//! Each arrow is one compare-and-swap on an exact word. **Lock-free**: a call repeats a step only because
//! somebody else's took effect, and nobody waits for one that has stopped. **Killed** before 3, a sender's
//! block is its own, and freed with it; after 3 the message is sent, and 4 and 5 are anybody's. Before the
//! header's change a receiver's message is in the queue; after it, it is the receiver's, freed with its
//! blocks, and 3 and 4 are anybody's. Its **order** is that of the cells' changes; Full and Empty are exact
//! (Q2): there was an instant within the call at which it was so.
//!
//! **The end**: once the structure is CLOSED, whoever finds the ring empty seals the cell. A sender that
//! looked before finds the seal there and keeps its block, so nothing is behind the end (Q6).

use super::link::{Cell, Cells, Link, Standing, Taken};
use super::structure::{CHANGES_AT, CLOSED, HEAD, STATE, Settled, Sort, Structure, TAIL};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::heap::{Heap, Live, ThreadCache};
use crate::segment::region::Region;

/// Why nothing was sent. The block is still its sender's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// As many messages as there are cells are in the ring.
    Full,
    /// Nobody sends here any more.
    Closed,
    /// The block is not the sender's own live block.
    NotOwn,
    /// The words are not a ring's (C2).
    Damaged,
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReceived {
    /// There is nothing in the ring.
    Empty,
    /// There is nothing in the ring, and never will be.
    Closed,
    /// As many messages as there are holds were received and are not acknowledged.
    AllHeld,
    /// The words are not a ring's (C2).
    Damaged,
}

/// A structure's ring.
pub struct Ring<'a, R: Region> {
    pub(super) structure: Structure<'a, R>,
    pub(super) heap: &'a Heap<R>,
    pub(super) cells: Cells<'a, R::Backend>,
}

impl<'a, R: Region> Ring<'a, R> {
    /// The ring of a structure. Who calls what writes is counted among its users, or visits it.
    #[inline(always)]
    pub fn of(structure: Structure<'a, R>) -> Self {
        let Structure { heap, words, shape, cells, .. } = structure;
        Self { structure, heap, cells: Cells::of(&words[cells..], shape.cells_shift) }
    }

    #[inline(always)]
    pub(super) fn head(&self) -> &'a <R::Backend as Backend>::Word {
        self.structure.field(HEAD)
    }
    #[inline(always)]
    pub(super) fn tail(&self) -> &'a <R::Backend as Backend>::Word {
        self.structure.field(TAIL)
    }
    #[inline(always)]
    pub(super) fn is_single(&self) -> bool {
        self.structure.shape.sort == Sort::Single
    }
    /// One ticket on, unless somebody was quicker.
    #[inline(always)]
    pub(super) fn step(&self, word: &<R::Backend as Backend>::Word, ticket: u64) {
        let _ = word.cas(ticket, ticket.wrapping_add(1), &TICKET_STEP);
    }
    /// The ticket that a ticket's cell waits for next. Whatever the words say (C2').
    #[inline(always)]
    pub(super) fn next_lap(&self, ticket: u64) -> u64 {
        ticket.wrapping_add(self.cells.n())
    }
    /// The cell of a ticket, read as this link, is emptied for its next ticket, unless somebody was quicker.
    #[inline(always)]
    fn clear(&self, ticket: u64, link: Link) {
        let _ =
            self.cells.at(ticket).cas(Cell::Link(link).word(), Cell::Empty(self.next_lap(ticket)).word(), &CELL_CLEAR);
    }

    /// Sends a live block of `me`'s, whatever it holds.
    ///
    /// # Errors
    /// [`NotSent`], and the block is still `me`'s.
    #[inline]
    pub fn send(&self, me: u16, block: Live) -> Result<(), NotSent> {
        if self.is_single() {
            return self.send_alone(me, block);
        }
        self.may_send(me, block)?;
        loop {
            if let Some(ended) = self.send_at_tail(me, block) {
                return ended;
            }
            R::Backend::pause();
        }
    }

    /// Whether a block may be sent.
    #[inline(always)]
    pub(super) fn may_send(&self, me: u16, block: Live) -> Result<(), NotSent> {
        if block.header.owner() != me || !block.header.is_live() {
            return Err(NotSent::NotOwn);
        }
        if self.structure.state() & CLOSED != 0 {
            return Err(NotSent::Closed);
        }
        Ok(())
    }

    /// The link with which `me` puts a block in at a ticket.
    #[inline(always)]
    pub(super) fn link(&self, ticket: u64, me: u16, block: Live) -> Link {
        Link::new(self.cells.lap(ticket), me, Heap::<R>::linked_generation(block.header), block.at)
    }

    /// One look at the tail's cell, and what follows from it. None if that did not end the call.
    #[inline(always)]
    fn send_at_tail(&self, me: u16, block: Live) -> Option<Result<(), NotSent>> {
        let t = self.tail().load(&TICKET_LOOK);
        let cell = self.cells.at(t);
        let word = cell.load(&CELL_LOOK);
        match Cell::of(word) {
            Cell::Empty(ticket) if ticket == t => {
                let link = self.link(t, me, block);
                if R::Backend::mutated(Mutant::HeaderBeforeCell) {
                    self.heap.let_go(link, block.header);
                }
                if cell.cas(word, Cell::Link(link).word(), &CELL_PUT).is_ok() {
                    self.heap.let_go(link, block.header);
                    self.step(self.tail(), t);
                    return Some(Ok(()));
                }
            }
            // Sent with this ticket, and taken already.
            Cell::Empty(ticket) if ticket == self.next_lap(t) => self.step(self.tail(), t),
            Cell::Link(link) if link.lap() == self.cells.lap(t) => self.step(self.tail(), t),
            Cell::Link(link) if link.lap() == self.cells.lap(t.wrapping_sub(self.cells.n())) => {
                if self.has_moved(self.tail(), t, Mutant::TailUnvalidated) {
                    return None;
                }
                if self.heap.standing(link) != Standing::Void {
                    return Some(Err(NotSent::Full));
                }
                // Taken by one that has not emptied the cell yet.
                let before = t.wrapping_sub(self.cells.n());
                self.clear(before, link);
                self.step(self.head(), before);
            }
            Cell::Sealed(_) => return Some(Err(NotSent::Closed)),
            // Read long after the tail; or no ring at all.
            Cell::Empty(_) | Cell::Link(_) => {
                let damaged = !self.has_moved(self.tail(), t, Mutant::TailUnvalidated);
                return damaged.then_some(Err(NotSent::Damaged));
            }
        }
        None
    }

    /// Receives the oldest message: its block is `me`'s.
    ///
    /// # Errors
    /// [`NotReceived`].
    #[inline]
    pub fn receive(&self, me: u16) -> Result<Taken, NotReceived> {
        if self.is_single() {
            return self.receive_alone(me);
        }
        self.receive_noting(me, &mut |_| true)
    }

    /// The same, where `note` hears of each link before its block is taken, and may refuse.
    #[inline(always)]
    pub(super) fn receive_noting(&self, me: u16, note: &mut impl FnMut(Link) -> bool) -> Result<Taken, NotReceived> {
        loop {
            if let Some(ended) = self.receive_at_head(me, note) {
                return ended;
            }
            R::Backend::pause();
        }
    }

    /// One look at the head's cell, and what follows from it. None if that did not end the call.
    #[inline(always)]
    fn receive_at_head(&self, me: u16, note: &mut impl FnMut(Link) -> bool) -> Option<Result<Taken, NotReceived>> {
        let h = self.head().load(&TICKET_LOOK);
        let cell = self.cells.at(h);
        let word = cell.load(&CELL_LOOK);
        match Cell::of(word) {
            Cell::Empty(ticket) if ticket == h => {
                if self.structure.state() & CLOSED == 0 {
                    return Some(Err(NotReceived::Empty));
                }
                let _ = cell.cas(word, Cell::Sealed(h).word(), &CELL_SEAL);
            }
            Cell::Sealed(_) => return Some(Err(NotReceived::Closed)),
            Cell::Link(link) if link.lap() == self.cells.lap(h) => {
                if self.has_moved(self.head(), h, Mutant::HeadUnvalidated) {
                    return None;
                }
                let taken = match self.heap.standing(link) {
                    Standing::Pending(header) | Standing::Present(header) => {
                        if !note(link) {
                            return Some(Err(NotReceived::AllHeld));
                        }
                        let taken = self.heap.take_link(me, link, header)?;
                        self.expect_next(h);
                        Some(taken)
                    }
                    Standing::Void => None,
                };
                if taken.is_none() || R::Backend::takes(Mutant::TakenBeforeCleared) {
                    self.clear(h, link);
                    self.step(self.head(), h);
                }
                return taken.map(Ok);
            }
            // Taken with this ticket, and perhaps filled again.
            Cell::Empty(ticket) if ticket == self.next_lap(h) => self.step(self.head(), h),
            Cell::Link(link) if link.lap() == self.cells.lap(self.next_lap(h)) => self.step(self.head(), h),
            // Read long after the head; or no ring at all.
            Cell::Empty(_) | Cell::Link(_) => {
                let damaged = !self.has_moved(self.head(), h, Mutant::HeadUnvalidated);
                return damaged.then_some(Err(NotReceived::Damaged));
            }
        }
        None
    }

    /// The message behind a ticket that was taken is asked for before long: its lines come meanwhile.
    #[inline(always)]
    pub(super) fn expect_next(&self, taken: u64) {
        if let Cell::Link(link) = Cell::of(self.cells.at(taken.wrapping_add(1)).guess())
            && link.lap() == self.cells.lap(taken.wrapping_add(1))
        {
            self.heap.region().expect_take(link.at());
        }
    }

    /// Sends the blocks that `next` gives, in their order, as long as there is room: how many, and why no more if
    /// there were more. `next` is told how many were sent so far; the block that it gives then is sent, or is `me`'s
    /// still. One change of the tail for all that one call finds room for.
    pub fn send_many(&self, me: u16, mut next: impl FnMut(usize) -> Option<Live>) -> (usize, Result<(), NotSent>) {
        if self.is_single() {
            return self.send_many_alone(me, next);
        }
        let (mut sent, mut block) = (0, next(0));
        while let Some(live) = block {
            if let Err(why) = self.may_send(me, live) {
                return (sent, Err(why));
            }
            let first = self.tail().load(&TICKET_LOOK);
            let mut t = first;
            while let Some(live) = block
                && t.wrapping_sub(first) < self.cells.n()
                && self.may_send(me, live).is_ok()
                && self.put(t, me, live)
            {
                (t, sent) = (t + 1, sent + 1);
                block = next(sent);
            }
            self.move_on(self.tail(), t);
            if t == first {
                match self.send_at_tail(me, live) {
                    Some(Ok(())) => {
                        sent += 1;
                        block = next(sent);
                    }
                    Some(Err(why)) => return (sent, Err(why)),
                    None => R::Backend::pause(),
                }
            }
        }
        (sent, Ok(()))
    }

    /// Puts a block into a ticket's cell, if it is empty. Behind the tail, or behind a cell that the caller has filled.
    fn put(&self, t: u64, me: u16, block: Live) -> bool {
        let (cell, link) = (self.cells.at(t), self.link(t, me, block));
        let empty = Cell::Empty(t).word();
        let put = cell.load(&CELL_LOOK) == empty && cell.cas(empty, Cell::Link(link).word(), &CELL_PUT).is_ok();
        if put {
            self.heap.let_go(link, block.header);
        }
        put
    }

    /// Head or tail goes to this ticket at least, to which the caller has seen all cells filled, or taken.
    fn move_on(&self, word: &<R::Backend as Backend>::Word, to: u64) {
        let mut now = word.load(&TICKET_LOOK);
        while now < to {
            match word.cas(now, to, &TICKET_STEP) {
                Ok(_) => return,
                Err(found) => now = found,
            }
        }
    }

    /// Receives as many as `most` of the oldest messages, at least one: `take` gets each as soon as it is `me`'s. One
    /// change of the head for all that one look finds there.
    ///
    /// # Errors
    /// [`NotReceived`], if there is none.
    pub fn receive_many(&self, me: u16, most: usize, mut take: impl FnMut(Taken)) -> Result<usize, NotReceived> {
        if self.is_single() {
            return self.receive_many_alone(me, most, take);
        }
        loop {
            let first = self.head().load(&TICKET_LOOK);
            let most = (most as u64).min(self.cells.n());
            let taken = (0..most).map_while(|k| self.take_at(me, first.wrapping_add(k))).map(&mut take).count();
            if taken > 0 {
                self.move_on(self.head(), first.wrapping_add(taken as u64));
                return Ok(taken);
            }
            match self.receive_at_head(me, &mut |_| true) {
                Some(Ok(taken)) => {
                    take(taken);
                    return Ok(1);
                }
                Some(Err(why)) => return Err(why),
                None => R::Backend::pause(),
            }
        }
    }

    /// Takes the message of a ticket, to which the caller has seen all others taken, if it is there.
    fn take_at(&self, me: u16, h: u64) -> Option<Taken> {
        let Cell::Link(link) = Cell::of(self.cells.at(h).load(&CELL_LOOK)) else { return None };
        // Others may have helped the head on to this ticket; once it is behind it, the link is a later one.
        if link.lap() != self.cells.lap(h) || self.head().load(&TICKET_RECHECK) > h {
            return None;
        }
        let (Standing::Pending(header) | Standing::Present(header)) = self.heap.standing(link) else { return None };
        let taken = self.heap.take_link(me, link, header)?;
        self.expect_next(h);
        self.clear(h, link);
        Some(taken)
    }

    /// Whether head or tail has left the ticket at which its cell was read.
    #[inline(always)]
    pub(super) fn has_moved(&self, word: &<R::Backend as Backend>::Word, ticket: u64, unvalidated: Mutant) -> bool {
        !R::Backend::mutated(unvalidated) && word.load(&TICKET_RECHECK) != ticket
    }

    /// Nobody sends any more, from now on; what is in the ring is received first.
    pub fn close(&self) {
        let state = self.structure.field(STATE);
        if state.fetch_or(CLOSED, &STRUCTURE_CHANGE) & CLOSED == 0 {
            state.fetch_add(1 << CHANGES_AT, &STRUCTURE_CHANGE);
        }
    }

    /// Whether there is nothing in it, and never will be.
    pub(super) fn is_drained(&self) -> bool {
        let h = self.head().load(&TICKET_LOOK);
        let sealed = matches!(Cell::of(self.cells.at(h).load(&CELL_LOOK)), Cell::Sealed(_));
        sealed && !(self.structure.shape.has_holds() && self.has_returned())
    }

    /// About how many messages there are: exact when nobody is inside a call.
    pub fn len(&self) -> u64 {
        let h = self.head().load(&TICKET_LOOK);
        self.tail().load(&TICKET_LOOK).saturating_sub(h).min(self.cells.n())
    }

    /// Whether there is about none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The links that stand in the ring just now, with what their blocks' headers say, in no particular order.
    /// Reads only.
    pub fn links(&self) -> impl Iterator<Item = (Link, Standing)> + use<'a, R> {
        let (heap, cells, single) = (self.heap, self.cells, self.is_single());
        let head = self.head().load(&TICKET_LOOK);
        let tickets = (0..cells.n()).map(move |k| head.wrapping_add(k));
        let tickets = tickets.map(move |ticket| (cells.at(ticket), cells.lap(ticket)));
        let link = move |(cell, lap): (&<R::Backend as Backend>::Word, u64)| match Cell::of(cell.load(&CELL_LOOK)) {
            // Before the head a single sender's ring keeps the links of what was taken.
            Cell::Link(link) if !single || link.lap() == lap => Some((link, heap.standing(link))),
            _ => None,
        };
        tickets.filter_map(link)
    }

    /// L-c, for one ring: the dead one's pending links are completed, and void words at the head emptied.
    pub(super) fn settle(&self, dead: u16, settled: &mut Settled) {
        if R::Backend::takes(Mutant::LinksUnsettled) {
            for (link, standing) in self.links() {
                if link.giver() == dead
                    && let Standing::Pending(header) = standing
                {
                    settled.links += self.heap.let_go(link, header) as u64;
                }
            }
        }
        if R::Backend::mutated(Mutant::VoidWordsKept) {
            return;
        }
        if self.is_single() {
            return self.settle_head(settled);
        }
        loop {
            let h = self.head().load(&TICKET_LOOK);
            let word = self.cells.at(h).load(&CELL_LOOK);
            match Cell::of(word) {
                Cell::Link(link) if link.lap() == self.cells.lap(h) => {
                    if self.head().load(&TICKET_RECHECK) != h {
                        R::Backend::pause();
                        continue;
                    }
                    if self.heap.standing(link) != Standing::Void {
                        return;
                    }
                    settled.void_words += 1;
                    self.clear(h, link);
                }
                // Of a batch the dead one may have taken several, and the first cells may be filled again by now.
                Cell::Empty(ticket) if ticket == self.next_lap(h) => {}
                Cell::Link(link) if link.lap() == self.cells.lap(self.next_lap(h)) => {}
                _ => return,
            }
            self.step(self.head(), h);
        }
    }

    /// Receives and frees what is left in the ring of a structure that is REMOVED and that nobody uses, and seals it.
    pub(super) fn drain(&self, cache: &mut ThreadCache) {
        let me = cache.owner();
        let take = || match self.structure.shape.sort {
            Sort::Single => self.receive_beside_others(me).ok(),
            Sort::Redelivering => self.take_any_returned(me).or_else(|| self.receive(me).ok()),
            _ => self.receive(me).ok(),
        };
        while let Some(taken) = take() {
            let _ = self.heap.free(cache, taken.live.at, Some(taken.live.header.generation()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::ipc::structure::Shape;
    use crate::ipc::testing::heap;
    use crate::matrix::heap::Kind;
    use crate::segment::region::BoxedRegion;

    /// A ring of two cells.
    fn ring<'a>(
        heap: &'a Heap<BoxedRegion<Native>>,
        cache: &mut ThreadCache,
        sort: Sort,
    ) -> Ring<'a, BoxedRegion<Native>> {
        let made = Structure::make(heap, cache, Shape { sort, cells_shift: 1, readers: 0, content: 7 }).expect("room");
        Ring::of(Structure::at(heap, made).expect("it was made"))
    }

    /// A link of this lap was put in, and the tail is one behind; of the lap before, it is full; of another, nobody has
    /// put it there.
    #[test]
    fn c2_a_link_of_no_lap_that_can_be_is_damage() {
        let (heap, mut cache) = (heap(), ThreadCache::new(1));
        let ring = ring(&heap, &mut cache, Sort::Channel);
        let mut block = || heap.allocate(&mut cache, 4, 1, Kind::Raw).expect("room");
        let (first, second, third) = (block(), block(), block());
        ring.send(1, first).and_then(|()| ring.send(1, second)).expect("room for two");
        assert_eq!(ring.send(1, third), Err(NotSent::Full));
        let link = ring.link(ring.cells.n() * 7, 1, third);
        ring.cells.at(2).store(Cell::Link(link).word(), &STRUCTURE_WRITE);
        assert_eq!(ring.send(1, third), Err(NotSent::Damaged));
    }

    /// Somebody has written the last ticket to head and tail, and a message into its cell: the first comes next.
    #[test]
    fn c2p_behind_the_last_ticket_comes_the_first() {
        const LAST: u64 = u64::MAX;
        for sort in [Sort::Channel, Sort::Single] {
            for many in [false, true] {
                let (heap, mut cache) = (heap(), ThreadCache::new(1));
                let ring = ring(&heap, &mut cache, sort);
                let mut block = || heap.allocate(&mut cache, 4, 1, Kind::Raw).expect("room");
                let (first, second) = (block(), block());
                let link = ring.link(LAST, 1, first);
                ring.cells.at(LAST).store(Cell::Link(link).word(), &STRUCTURE_WRITE);
                assert!(heap.let_go(link, first.header));
                ring.head().store(LAST, &STRUCTURE_WRITE);
                ring.tail().store(LAST, &STRUCTURE_WRITE);
                // Sent by somebody who did not say so.
                ring.send(1, second).expect("room for two");
                assert_eq!(ring.tail().load(&TICKET_LOOK), 1);
                let mut taken = vec![];
                while taken.len() < 2 {
                    let receive = match (many, sort) {
                        (true, _) => ring.receive_many(1, 2, |it| taken.push(it.live.at)).map(drop),
                        (false, Sort::Single) => ring.receive_beside_others(1).map(|it| taken.push(it.live.at)),
                        (false, _) => ring.receive(1).map(|it| taken.push(it.live.at)),
                    };
                    receive.expect("sent");
                }
                assert_eq!(taken, [first.at, second.at]);
                assert_eq!(ring.head().load(&TICKET_LOOK), 1);
            }
        }
    }
}
