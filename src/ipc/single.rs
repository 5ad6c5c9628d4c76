//! The ring of one sender and one receiver at a time: fewer locked instructions, and no line that both write but the
//! cells and the messages.
//!
//! Sender and receiver are *roles*, a word each, taken and given up by compare-and-swap; the recovery of a dead
//! holder gives it up. The holder alone moves its ticket, by a plain store, and needs no helper.
//!
//! ```text
//! send(B), A owns (A, g), is the sender              receive, R is the receiver
//!  1 t = tail, c ← cell[t mod n]                      1 h = head, c ← cell[h mod n]
//!     empty(t)       → 2                                 empty(h), filled: h−n → Empty
//!     filled: t      → tail = t + 1, again               filled: h     → its header: not void → 2
//!     filled: t−n    → head > t−n, or header void → 2                     void → head = h + 1, again
//!                      else Full                         filled: h+n   → head = h + 1, again
//!  2 cell c → link(A, g+1, B)   ◀ takes effect         2 header → (R, g')   ◀ takes effect
//!  3 tail = t + 1                                     3 head = h + 1
//!  4 header (A, g) → (LINKED, g+1)
//! ```
//!
//! Each arrow is a compare-and-swap, each equals sign a load or a plain store: a send has two, a receipt one,
//! where the ring of many has three each. The cell is not emptied: a receiver that has passed a ticket never
//! looks at its cell again for it, and the sender puts the next link over the old one. Before the head, links
//! mean nothing (L-b: the *head* has passed a word before its block is freed or given on; by a recovery,
//! before the dead one's blocks are freed).
//!
//! **Killed.** The sender before 2: the block is its own. After 2 the message is sent: any participant may do 4, and
//! the next sender does 3, since it finds the cell filled. The receiver before 2: the message is in the ring. After 2
//! it is the receiver's, freed with its blocks; its recovery does 3, or the next receiver, which finds the header
//! void, or the cell filled a lap later. So both tickets may lag: they say where to begin to look, and are exact
//! again with the next call.
//!
//! **Progress.** A send and a receipt are wait-free but for the end: a compare-and-swap fails only against a seal
//! (`close`). A participant that wants a *role* waits until its holder leaves or is recovered: a stopped process keeps
//! it. Full and Empty are exact (Q2).

use super::link::{Cell, Standing, Taken};
use super::ring::{NotReceived, NotSent, Ring};
use super::structure::{CLOSED, RECEIVER, Role, SEEN, SENDER, Settled, Structure};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::heap::Live;
use crate::segment::region::Region;

impl<'a, R: Region> Structure<'a, R> {
    /// The holder of a role of which there is one at a time.
    fn holder(&self, role: Role) -> &'a <R::Backend as Backend>::Word {
        self.field(if role == Role::Sender { SENDER } else { RECEIVER })
    }

    /// Becomes the one sender or the one receiver.
    ///
    /// # Errors
    /// Who is that already.
    pub fn take_role(&self, me: u16, role: Role) -> Result<(), u16> {
        let taken = self.holder(role).cas(0, me.into(), &STRUCTURE_CHANGE);
        taken.map(|_| ()).map_err(|holder| holder as u16)
    }

    /// Is that no more: everything that it did as such is done.
    pub fn drop_role(&self, me: u16, role: Role) {
        let _ = self.holder(role).cas(me.into(), 0, &STRUCTURE_CHANGE);
    }
}

impl<'a, R: Region> Ring<'a, R> {
    /// [`Ring::send`] by the one sender.
    #[inline]
    pub(super) fn send_alone(&self, me: u16, block: Live) -> Result<(), NotSent> {
        self.may_send(me, block)?;
        let mut t = self.tail().load(&TICKET_LOOK);
        self.put_alone(&mut t, me, block)
    }

    /// [`Ring::send_many`] by the one sender, which says once how far it is.
    pub(super) fn send_many_alone(
        &self,
        me: u16,
        mut next: impl FnMut(usize) -> Option<Live>,
    ) -> (usize, Result<(), NotSent>) {
        let mut t = self.tail().load(&TICKET_LOOK);
        let mut sent = 0;
        while let Some(block) = next(sent) {
            if let Err(why) = self.may_send(me, block).and_then(|()| self.put_alone(&mut t, me, block)) {
                return (sent, Err(why));
            }
            sent += 1;
        }
        (sent, Ok(()))
    }

    /// Puts a block into the next cell, from this ticket on.
    #[inline(always)]
    fn put_alone(&self, t: &mut u64, me: u16, block: Live) -> Result<(), NotSent> {
        loop {
            let cell = self.cells.at(*t);
            let word = cell.load(&CELL_LOOK);
            match Cell::of(word) {
                Cell::Empty(ticket) if ticket == *t => {}
                // Sent by one that died before it said so.
                Cell::Link(link) if link.lap() == self.cells.lap(*t) => {
                    *t = t.wrapping_add(1);
                    self.tail().store(*t, &TICKET_TELL);
                    continue;
                }
                Cell::Link(link) if link.lap() == self.cells.lap(t.wrapping_sub(self.cells.n())) => {
                    // Taken by one that has not said so yet, or died before it did.
                    let is_taken = self.has_passed(t.wrapping_sub(self.cells.n()))
                        || self.heap.standing(link) == Standing::Void
                        || R::Backend::mutated(Mutant::OldLinkIgnored);
                    if !is_taken {
                        return Err(NotSent::Full);
                    }
                }
                Cell::Sealed(_) => return Err(NotSent::Closed),
                Cell::Empty(_) | Cell::Link(_) => return Err(NotSent::Damaged),
            }
            let link = self.link(*t, me, block);
            // Refused by a seal alone.
            if cell.cas(word, Cell::Link(link).word(), &CELL_PUT).is_ok() {
                *t = t.wrapping_add(1);
                self.tail().store(*t, &TICKET_TELL);
                // Behind the put, a read-modify-write: the ring that follows sees the sleepers (`Bell::ring`).
                self.heap.let_go(link, block.header);
                return Ok(());
            }
        }
    }

    /// Whether the receiver has passed a ticket, as far as it has said: asked only where what was seen last
    /// does not do.
    #[inline(always)]
    fn has_passed(&self, ticket: u64) -> bool {
        let seen = self.structure.field(SEEN);
        if seen.load(&TICKET_SEEN) > ticket {
            return true;
        }
        let head = self.head().load(&TICKET_LOOK);
        seen.store(head, &TICKET_SEEN);
        head > ticket
    }

    /// [`Ring::receive`] by the one receiver.
    #[inline]
    pub(super) fn receive_alone(&self, me: u16) -> Result<Taken, NotReceived> {
        self.take_alone(me, |h| self.head().store(h, &TICKET_TELL))
    }

    /// The same by several at once, to empty a ring that has no user.
    pub(super) fn receive_beside_others(&self, me: u16) -> Result<Taken, NotReceived> {
        self.take_alone(me, |h| self.step(self.head(), h.wrapping_sub(1)))
    }

    /// [`Ring::receive_many`] by the one receiver.
    pub(super) fn receive_many_alone(
        &self,
        me: u16,
        most: usize,
        mut take: impl FnMut(Taken),
    ) -> Result<usize, NotReceived> {
        take(self.receive_alone(me)?);
        Ok(1 + (1..most).map_while(|_| self.receive_alone(me).ok()).map(take).count())
    }

    /// Takes the message at the head, where `tell` says to which ticket the head goes.
    #[inline(always)]
    fn take_alone(&self, me: u16, tell: impl Fn(u64)) -> Result<Taken, NotReceived> {
        let mut h = self.head().load(&TICKET_LOOK);
        loop {
            let cell = self.cells.at(h);
            let word = cell.load(&CELL_LOOK);
            match Cell::of(word) {
                Cell::Sealed(_) => return Err(NotReceived::Closed),
                Cell::Link(link) if link.lap() == self.cells.lap(h) => {
                    let early = R::Backend::mutated(Mutant::HeadToldEarly);
                    if early {
                        tell(h.wrapping_add(1));
                    }
                    match self.heap.standing(link) {
                        Standing::Pending(header) | Standing::Present(header) => {
                            // Only the sender that lets go is quicker, or another that empties the ring.
                            if let Some(taken) = self.heap.take_link(me, link, header) {
                                self.expect_next(h);
                                if !early {
                                    tell(h.wrapping_add(1));
                                }
                                return Ok(taken);
                            }
                        }
                        // Taken by one that died before it said so.
                        Standing::Void => {
                            h = h.wrapping_add(1);
                            tell(h);
                        }
                    }
                }
                // Taken, and filled again, before it was said.
                Cell::Link(link) if link.lap() == self.cells.lap(self.next_lap(h)) => {
                    h = h.wrapping_add(1);
                    tell(h);
                }
                Cell::Empty(ticket) if ticket != h => return Err(NotReceived::Damaged),
                Cell::Link(link) if link.lap() != self.cells.lap(h.wrapping_sub(self.cells.n())) => {
                    return Err(NotReceived::Damaged);
                }
                Cell::Empty(_) | Cell::Link(_) => {
                    if self.structure.state() & CLOSED == 0 {
                        return Err(NotReceived::Empty);
                    }
                    let _ = cell.cas(word, Cell::Sealed(h).word(), &CELL_SEAL);
                }
            }
            R::Backend::pause();
        }
    }

    /// L-c: the head passes what the dead receiver has taken. A living one that is just about to say so says the same.
    pub(super) fn settle_head(&self, settled: &mut Settled) {
        loop {
            let h = self.head().load(&TICKET_LOOK);
            let Cell::Link(link) = Cell::of(self.cells.at(h).load(&CELL_LOOK)) else { return };
            let lapped = link.lap() == self.cells.lap(self.next_lap(h));
            let taken = link.lap() == self.cells.lap(h) && self.heap.standing(link) == Standing::Void;
            if !(lapped || taken) {
                return;
            }
            settled.void_words += u64::from(taken);
            self.step(self.head(), h);
            R::Backend::pause();
        }
    }
}
