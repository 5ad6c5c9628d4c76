//! Recovery: what a dead participant left is given back, and its number may be used again (C1).
//!
//! Who is dead is decided below this file's callers (segment::participant); here a participant that will never take another
//! step is cleaned up by one survivor at a time, which the slot's state word names. If the survivor dies as well,
//! another takes the slot over and starts again: every step is a compare-and-swap that finds its work done or
//! undone.
//!
//! 1. The operation that the dead one had announced is finished, as anybody may (matrix::operation).
//! 2. A walk over the tiles. What the dead one held alone (COALESCING with its number) is taken over, heads that it had written
//!    ahead inside are erased, and the Ripple frees it. Its live blocks are given back, or kept for whoever adopts them, by
//!    policy. Its parked blocks are anybody's already. Every free block is hinted again: the dead one may have stopped
//!    between a clear and its second look.
//! 3. Batches of the exchange and directory entries that it was filling become empty.
//! 4. The slot is released. Not before: a new holder's blocks bear the same number. And not while another is adopting a block of the
//!    dead one's, which may yet give it back: the slot stays a dead one's, for the next recovery.

use super::lane::Lane;
use super::operation::{Held, Op};
pub use super::token::KEPT;
use super::token::{State, Token};
use super::words::Heap;
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::Region;
use crate::segment::size_class::of_size;

/// What happens to live blocks of a participant that has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// They are freed. Blocks that a living process has adopted or that are published are not the dead one's any more.
    #[default]
    GiveBack,
    /// They stay allocated and belong to [`KEPT`] until somebody adopts or frees them.
    Keep,
}

/// What a recovery found, in blocks and granules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Participants recovered.
    pub participants: u64,
    /// Live blocks of the dead, freed or kept by policy.
    pub live_blocks: u64,
    /// Granules in them.
    pub live_granules: u64,
    /// Blocks in flight, given back.
    pub in_flight_blocks: u64,
    /// Granules in them.
    pub in_flight_granules: u64,
    /// Live blocks that others were just adopting from the dead. Such a dead participant does not count as recovered: it keeps its
    /// slot until a recovery finds those adoptions ended, and whatever has become its own again by then.
    pub open_adoptions: u64,
}

impl Recovered {
    /// Adds another recovery's counts.
    pub fn add(&mut self, other: Self) {
        self.participants += other.participants;
        self.live_blocks += other.live_blocks;
        self.live_granules += other.live_granules;
        self.in_flight_blocks += other.in_flight_blocks;
        self.in_flight_granules += other.in_flight_granules;
        self.open_adoptions += other.open_adoptions;
    }
}

impl<R: Region> Heap<R> {
    /// Cleans up after the participant `dead`, which takes no more steps, and which only this lane recovers.
    ///
    /// Its slot's state is the caller's affair: it may be released if no adoption is open. O(blocks).
    pub fn recover(&self, lane: &mut Lane, dead: u16, policy: Policy) -> Recovered {
        let late = R::Backend::mutated(Mutant::BlocksBeforeLinks);
        if !late {
            self.settle_links(lane, dead);
        }
        self.finish_announced(lane, dead);
        let mut recovered = Recovered::default();
        self.each_tile(|g, token| {
            let size = token.size();
            match self.adopted_from(g, token) {
                None => return false,
                Some(from) => recovered.open_adoptions += (from == dead) as u64,
            }
            if token.owner() == dead && (token.state() == State::Coalescing || token.is_live()) {
                match self.give_back(lane, g, token, policy) {
                    // Somebody else changed it: look again.
                    false => return false,
                    true if token.is_live() => {
                        recovered.live_blocks += 1;
                        recovered.live_granules += size as u64;
                    }
                    true => {
                        recovered.in_flight_blocks += 1;
                        recovered.in_flight_granules += size as u64;
                    }
                }
            }
            true
        });
        if !R::Backend::mutated(Mutant::RecoveryUnsettled) {
            self.settle_all(lane);
        }
        self.empty_batches(dead);
        if late {
            self.settle_links(lane, dead);
        }
        if R::Backend::mutated(Mutant::OpenAdoptionIgnored) {
            recovered.open_adoptions = 0;
        }
        recovered.participants = (recovered.open_adoptions == 0) as u64;
        recovered
    }

    /// Every free block gets the second look and the hints that the dead one may have owed it (L3).
    fn settle_all(&self, lane: &mut Lane) {
        self.each_tile(|g, token| {
            if token.is_free() {
                let at = self.settle_free(lane, g, token.size(), Some(of_size(token.size())));
                let now = self.look(at);
                if now.is_free() && self.fits_sector(at, now) && !self.is_hinted(at, of_size(now.size())) {
                    self.hint(at, of_size(now.size()), true);
                }
            }
            true
        });
    }

    /// Finishes what `dead` had announced, and takes the announcement down.
    fn finish_announced(&self, lane: &mut Lane, dead: u16) {
        let word = self.word(self.layout().slot(dead, SlotWord::Op));
        if let Op::Cut { at, .. } | Op::Join { at } | Op::Free { at } = Op::decode(word.load(&OP_READ)) {
            let token = self.look(at);
            if token.state() == State::Coalescing && token.owner() == dead && at.0 < self.layout().granules {
                self.help(lane, at, token);
            }
        }
        word.store(Op::None.encode(), &OP_WRITE);
        // It stores nothing any more.
        self.word(self.layout().slot(dead, SlotWord::Busy)).store(0, &BUSY_CLEAR);
        self.finish_adoption(dead);
    }

    /// Frees (or keeps) one block of a dead participant; false if it changed under our hands.
    fn give_back(&self, lane: &mut Lane, g: Granule, token: Token, policy: Policy) -> bool {
        if token.is_live() && policy == Policy::Keep {
            return self.rename(g, token, KEPT).is_some();
        }
        if token.is_live() {
            let acked = Token::new(State::Acked, lane.owner(), token.generation(), self.place(g, token.size()));
            let parked = self.token(g).cas(token.0, acked.0, &PARK).is_ok();
            if parked {
                self.coalesce(lane, g, acked);
            }
            return parked;
        }
        let held = Token::new(State::Coalescing, lane.owner(), token.next_generation(), self.place(g, token.size()));
        if self.token(g).cas(token.0, held.0, &CLAIM).is_err() {
            return false;
        }
        self.erase_inside(g, token.size());
        self.ripple(lane, Held { at: g, token: held });
        true
    }

    /// Erases heads that were written ahead inside a block that this lane holds: a run that was being cut up.
    fn erase_inside(&self, g: Granule, size: u32) {
        let first = self.layout().span(g);
        for span in first + 1..first + self.spans(g, size) {
            let word = self.token(self.layout().first_of(span));
            let token = Token(word.load(&HELD_LOOK));
            if token.state() != State::Inside {
                word.store(Token::new(State::Inside, 0, token.next_generation(), 0).0, &HELD_STORE);
            }
        }
    }
}
