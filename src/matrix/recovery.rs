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

use super::heap::{Heap, Lane, Live};
use super::operation::{Held, Op};
use super::size_class::of_size;
use super::token::{State, Token, is_adopter};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::directory::{Directory, Entry, Published, Refused};
use crate::segment::layout::{Granule, MAX_PARTICIPANTS, SlotWord};
use crate::segment::region::Region;

/// How often a block's owner is changed anew when another change came first.
const GIVE_TRIES: u32 = 16;

/// What happens to live blocks of a participant that has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// They are freed. Blocks that a living process has adopted or that are published are not the dead one's any more.
    #[default]
    GiveBack,
    /// They stay allocated and belong to [`KEPT`] until somebody adopts or frees them.
    Keep,
}

/// The owner of blocks that a dead participant left and [`Policy::Keep`] kept: no participant has this number.
pub const KEPT: u16 = MAX_PARTICIPANTS as u16 + 1;

/// Whether an owner's number is no participant's: such a block changes hands by compare-and-swap alone.
#[inline(always)]
pub(super) const fn is_nobody(owner: u16) -> bool {
    matches!(owner, 0 | KEPT)
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
        if R::Backend::mutated(Mutant::OpenAdoptionIgnored) {
            recovered.open_adoptions = 0;
        }
        recovered.participants = (recovered.open_adoptions == 0) as u64;
        recovered
    }

    /// Visits each tile; a visit that returns false is repeated with the tile as it is then.
    fn each_tile(&self, mut visit: impl FnMut(Granule, Token) -> bool) {
        let granules = self.layout().granules;
        let mut at = 0;
        while at < granules {
            let token = self.look(Granule(at));
            let size = token.size();
            if token.state() == State::Inside || !self.fits_sector(Granule(at), token) {
                // Merged into the tile before, meanwhile.
                at += 1;
            } else if visit(Granule(at), token) {
                at += size;
            }
        }
    }

    /// Participants leave in good order: their live blocks stay, and belong to nobody, before their numbers are used again. O(blocks).
    ///
    /// Those of them from whom others are just adopting blocks, which may yet become theirs again: their numbers must not be used again
    /// until another walk finds none.
    #[must_use]
    pub fn disown(&self, leaving: &[u16]) -> Vec<u16> {
        let mut open = vec![];
        self.each_tile(|g, token| {
            if token.is_live() && leaving.contains(&token.owner()) {
                return self.rename(g, token, 0).is_some();
            }
            let from = self.adopted_from(g, token);
            open.extend(from.filter(|from| leaving.contains(from)));
            from.is_some()
        });
        if R::Backend::mutated(Mutant::OpenAdoptionIgnored) {
            open.clear();
        }
        open
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

    /// Gives the live block read as `token` another owner. None if it has changed. For the lane that owns it, and for the blocks
    /// of nobody and of the dead; see [`Heap::rename_from`].
    pub fn rename(&self, g: Granule, token: Token, owner: u16) -> Option<Token> {
        let renamed = Token::new(token.state(), owner, token.generation(), token.low());
        self.token(g).cas(token.0, renamed.0, &ADOPT).is_ok().then_some(renamed)
    }

    /// Gives a live block another owner, whoever has it, as long as it is this block. Else what stands there instead.
    ///
    /// # Errors
    /// The token found, if the block is not live any more.
    pub fn give_to(&self, mut live: Live, owner: u16) -> Result<(), Token> {
        while self.rename(live.at, live.token, owner).is_none() {
            // Somebody else adopted it at the same moment, or it was freed.
            let found = self.look(live.at);
            if !found.is_live() || found.generation() != live.token.generation() {
                return Err(found);
            }
            live.token = found;
        }
        Ok(())
    }

    /// The same for a lane that need not be the owner: `me` gives the block to `to`. Waits for nobody.
    ///
    /// # Errors
    /// The token found: of another block or of none, if this one is not live any more; of this one if its owner is just freeing it or
    /// another is adopting it, and whoever wants to wait for them tries again.
    pub fn give_from(&self, me: u16, mut live: Live, to: u16) -> Result<(), Token> {
        for _ in 0..GIVE_TRIES {
            if self.rename_from(me, live.at, live.token, to).is_some() {
                return Ok(());
            }
            let found = self.look(live.at);
            // Unchanged: its owner names it.
            if !live.is_still(found) || is_adopter(found.owner()) || found == live.token {
                return Err(found);
            }
            live.token = found;
        }
        Err(live.token)
    }

    /// Publishes a live block under a name; it then belongs to nobody, unless somebody else adopts or takes it meanwhile.
    /// False if it is still its owner's, and [`Heap::publish_given`] has to be asked for that.
    ///
    /// # Errors
    /// [`Refused`], and nothing has changed.
    pub fn publish(&self, owner: u16, name: &[u8], live: Live, block: Entry) -> Result<bool, Refused> {
        Directory(self.region()).publish(owner, name, block)?;
        if R::Backend::mutated(Mutant::PublishedFromAnybody) {
            let _ = self.give_to(live, 0);
            return Ok(true);
        }
        Ok(self.publish_given(owner, live))
    }

    /// Makes a published block nobody's if it is still that owner's to whom it belonged before: whoever takes it as soon as it is
    /// published keeps it. Freed meanwhile, the entry says so to whoever looks it up. False if its owner is just freeing it, or
    /// another adopting it; or was when `live` was read: then it can't be told whose it was.
    pub fn publish_given(&self, me: u16, live: Live) -> bool {
        if live.is_changing_hands() {
            return !live.is_still(self.look(live.at));
        }
        if live.token.owner() == 0 || self.rename_from(me, live.at, live.token, 0).is_some() {
            return true;
        }
        let found = self.look(live.at);
        !live.is_still(found) || found.owner() != live.token.owner() && !is_adopter(found.owner())
    }

    /// Takes nobody's live block and the publication that led to it: of all who try, one gets it. The name is given up last: who
    /// dies in between leaves a block of its own and the name of a dead block.
    pub fn take_published(&self, owner: u16, live: Live, found: Published) -> bool {
        if !is_nobody(live.token.owner()) {
            return false;
        }
        let Some(ours) = self.rename(live.at, live.token, owner) else { return false };
        let won = Directory(self.region()).withdraw_this(found);
        if !won {
            // Withdrawn meanwhile: whoever did that was first, and the block is nobody's, as it was.
            let _ = self.rename(live.at, ours, live.token.owner());
        }
        won
    }

    /// Batches that `dead` was filling or emptying: their indices are lost, the blocks are in the tokens.
    fn empty_batches(&self, dead: u16) {
        let busy = super::parking::busy(dead);
        for control in self.layout().batch_controls() {
            let control = self.word(control);
            if control.load(&BATCH_LOOK) == busy {
                let _ = control.cas(busy, 0, &BATCH_CLAIM);
            }
        }
    }
}
