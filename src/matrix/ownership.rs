//! Transfer: a live block changes its owner. It is given, handed over by a leaving participant, published
//! under a name, and taken.

use super::block_header::{Header, State, is_adopter, is_nobody};
use super::words::{Heap, Live, view};
use crate::backend::{Backend, Mutant};
use crate::segment::directory::{Directory, NamedBlock, NotPublished, Published};
use crate::segment::layout::Granule;
use crate::segment::region::Region;

/// How often a block's owner is changed anew when another change came first.
const GIVE_TRIES: u32 = 16;

view! {
    /// How a live block changes its owner.
    pub struct Ownership, ownership
}

impl<R: Region> Ownership<'_, R> {
    /// Gives a live block another owner, whatever its owner is, as long as it is this block. Else what stands there
    /// instead.
    ///
    /// # Errors
    /// The header found, if the block is not live any more.
    pub fn give_to(self, mut live: Live, owner: u16) -> Result<(), Header> {
        while self.heap.adoption().rename(live.at, live.header, owner).is_none() {
            // Another adopted it at the same moment, or it was freed.
            let found = self.heap.look(live.at);
            if !found.is_live() || found.generation() != live.header.generation() {
                return Err(found);
            }
            live.header = found;
        }
        Ok(())
    }

    /// The same for a cache that need not be the owner: `me` gives the block to `to`. Does not wait.
    ///
    /// # Errors
    /// The header found: of another block or of none, if this one is not live any more; of this one if its
    /// owner is just freeing it or another is adopting it: a caller that can wait for them tries again.
    pub fn give_from(self, me: u16, mut live: Live, to: u16) -> Result<(), Header> {
        for _ in 0..GIVE_TRIES {
            if self.heap.adoption().is_named(me, live) {
                break;
            }
            if self.heap.adoption().rename_from(me, live.at, live.header, to).is_some() {
                return Ok(());
            }
            let found = self.heap.look(live.at);
            // Unchanged: its owner names it.
            if !live.is_still(found) || is_adopter(found.owner()) || found == live.header {
                return Err(found);
            }
            live.header = found;
        }
        Err(live.header)
    }

    /// Publishes a live block under a name. It is unowned then, unless an adopter or a taker has it meanwhile. False
    /// if it is still its owner's, and `Ownership::publish_given` has to be asked for that.
    ///
    /// # Errors
    /// [`NotPublished`], and nothing has changed.
    pub fn publish(self, owner: u16, name: &[u8], live: Live, block: NamedBlock) -> Result<bool, NotPublished> {
        Directory(self.heap.region()).publish(owner, name, block)?;
        if R::Backend::mutated(Mutant::PublishedFromAnybody) {
            let _ = self.give_to(live, 0);
            return Ok(true);
        }
        Ok(self.publish_given(owner, live))
    }

    /// As `Ownership::publish`, whatever stands under the name: also what that was.
    ///
    /// # Errors
    /// [`NotPublished::Full`], and nothing has changed.
    pub fn replace(
        self,
        owner: u16,
        name: &[u8],
        live: Live,
        block: NamedBlock,
    ) -> Result<(bool, Option<NamedBlock>), NotPublished> {
        let old = Directory(self.heap.region()).replace(owner, name, block)?;
        Ok((self.publish_given(owner, live), old))
    }

    /// Makes a published block unowned if its owner is still the one that published it: a taker that came as soon as
    /// it was published keeps it. If it was freed meanwhile, the entry leads to no live block. False if its owner is
    /// just freeing it, or another adopting it; or was when `live` was read: then its owner can't be told.
    pub fn publish_given(self, me: u16, live: Live) -> bool {
        if live.is_changing_hands() || self.heap.adoption().is_named(me, live) {
            return !live.is_still(self.heap.look(live.at));
        }
        if live.header.owner() == 0 || self.heap.adoption().rename_from(me, live.at, live.header, 0).is_some() {
            return true;
        }
        let found = self.heap.look(live.at);
        !live.is_still(found) || found.owner() != live.header.owner() && !is_adopter(found.owner())
    }

    /// Takes an unowned live block, and the publication that led to it: of several takers one gets it. The name is
    /// given up last: a taker that dies in between leaves a block of its own and the name of a dead block.
    pub fn take_published(self, owner: u16, live: Live, found: Published) -> bool {
        if !is_nobody(live.header.owner()) {
            return false;
        }
        let Some(ours) = self.heap.adoption().rename(live.at, live.header, owner) else { return false };
        let won = Directory(self.heap.region()).withdraw_this(found);
        if !won {
            // Withdrawn meanwhile: that came first, and the block is unowned, as it was.
            let _ = self.heap.adoption().rename(live.at, ours, live.header.owner());
        }
        won
    }

    /// Participants leave in good order: their live blocks stay, and are unowned, before their numbers are used
    /// again. O(blocks).
    ///
    /// Returns those from which others are just adopting blocks, which may yet become theirs again: these numbers
    /// must not be used again until another walk finds no such block.
    #[must_use]
    pub fn disown(self, leaving: &[u16]) -> Vec<u16> {
        self.pass_on(leaving, 0, u32::MAX).unwrap_or_default()
    }

    /// As `Ownership::disown`, but their live blocks become `to`'s: another participant of their own process,
    /// which frees them if that dies. None if there are more than `most` blocks of any kind; some may have
    /// been passed on then.
    ///
    /// `to` may be at work meanwhile: it stores headers of its own alone, and these become its own by
    /// compare-and-swap. Those that leave are not at work.
    #[must_use]
    pub fn pass_on(self, leaving: &[u16], to: u16, most: u32) -> Option<Vec<u16>> {
        let (mut open, mut at, mut seen) = (vec![], 0, 0);
        while at < self.heap.layout().granules {
            let g = Granule(at);
            let header = self.heap.look(g);
            if header.state() == State::Inside || !self.heap.fits_sector(g, header) {
                // Merged into the tile before, meanwhile.
                at += 1;
                continue;
            }
            seen += 1;
            if seen > most {
                return None;
            }
            let done = if header.is_live() && leaving.contains(&header.owner()) {
                self.heap.adoption().rename(g, header, to).is_some()
            } else {
                let from = self.heap.adoption().adopted_from(g, header);
                open.extend(from.filter(|from| leaving.contains(from)));
                from.is_some()
            };
            // Another changed it: look again.
            at += if done { header.size() } else { 0 };
        }
        if R::Backend::mutated(Mutant::OpenAdoptionIgnored) {
            open.clear();
        }
        Some(open)
    }
}
