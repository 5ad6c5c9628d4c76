//! Transfer: a live block changes its owner. It is given, handed over by a leaving participant, published under a name, and taken.

use super::token::{Token, is_adopter, is_nobody};
use super::words::{Heap, Live};
use crate::backend::{Backend, Mutant};
use crate::segment::directory::{Directory, Entry, Published, Refused};
use crate::segment::region::Region;

/// How often a block's owner is changed anew when another change came first.
const GIVE_TRIES: u32 = 16;

impl<R: Region> Heap<R> {
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
}
