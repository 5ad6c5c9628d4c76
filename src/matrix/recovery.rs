//! Recovery: what the dead left is given back, and their numbers may be used again (C1).
//!
//! Which participants are dead is decided below this file's callers (segment::participant). Here those that will
//! never take another step are cleaned up, all of them in one walk. Nothing is locked: each step is a
//! compare-and-swap that finds its work done or undone, and leaves what the dead one had to all at once. So any
//! number of recoverers may walk for the same dead at the same time, each for itself: a participant that needs memory
//! or a number helps a recovery that stands still, and need not ask whether its recoverer has died (L2).
//!
//! 1. Links that they had half given are completed (ipc::structure). The operations that the dead had
//!    announced are finished, as by any helper (matrix::operation), and so are their adoptions. Batches of the
//!    transfer cache and directory entries that they were filling become empty.
//! 2. A walk over the tiles. Live blocks of the dead become unowned parked blocks, or are kept for an adopter, by
//!    policy. What they had parked, and what they held alone (COALESCING with their number), always becomes unowned
//!    parked blocks, the latter once the heads that they had written ahead inside are erased. The recoverer whose
//!    compare-and-swap it was merges the block, as any parked one. Every free block is looked at and hinted again: the
//!    dead may have stopped between a commit or a clear and its recheck.
//! 3. Clients whose requests the dead had are told that those are gone (ipc::settle).
//! 4. The first recoverer to come to the end ends the recovery and releases the numbers (segment::slot). Not before:
//!    a new holder's blocks bear the same number. And not while another is adopting a block of the dead one's,
//!    which may yet give it back: that recovery stays in force, and the next one walks for it again.
//!
//! A newcomer that has no number yet merges nothing on its walk: it only makes unowned what the dead one left. It does
//! the merging and the looking when it has the number.

pub use super::block_header::KEPT;
use super::block_header::{Header, State};
use super::operation::Op;
pub use super::recovered::{Policy, Recovered};
use super::thread_cache::ThreadCache;
use super::transfer_cache::filler_of;
pub use super::walk::Recovery;
use super::words::{Heap, Live, view};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::directory::Directory;
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::Region;
use crate::segment::slot::Slots;

view! {
    /// What the dead leave, and how it is given back.
    pub struct Recoveries, recoveries
}

impl<'a, R: Region> Recoveries<'a, R> {
    /// The participants' slots.
    pub fn slots(self) -> Slots<'a, R> {
        Slots(self.heap.region())
    }

    /// Cleans up after the participant `dead`, which takes no more steps, and releases its number if no
    /// adoption from it is open. O(blocks).
    pub fn recover(self, cache: &mut ThreadCache, dead: u16, policy: Policy) -> Recovered {
        let mut recovery = Recovery::of(vec![self.slots().bury(dead, cache.owner())], policy);
        self.recover_all(cache, &mut recovery);
        recovery.total()
    }

    /// As a newcomer without a cache, the only one that may take the number: walks for the dead participant
    /// `number`. True if the number may be taken now ([`Slots::take`]); then its new cache has to
    /// [settle](Heap::settle_all).
    pub fn recover_predecessor(self, recovery: &mut Recovery) -> bool {
        self.begin_recovery(None, recovery);
        while !self.recover_tiles(None, recovery, u32::MAX) {}
        self.heap.news().gave_unaided();
        self.ring_clients(None, recovery);
        self.end_walked(recovery);
        recovery.total().open_adoptions == 0
    }

    /// The whole of a recovery, or what is left of it.
    pub fn recover_all(self, cache: &mut ThreadCache, recovery: &mut Recovery) {
        self.begin_recovery(Some(cache), recovery);
        while !self.recover_tiles(Some(cache), recovery, u32::MAX) {}
        self.end_recovery(cache, recovery);
    }

    /// What comes before the walk: operations, adoptions, batches and entries that the dead had begun.
    pub fn begin_recovery(self, mut cache: Option<&mut ThreadCache>, recovery: &mut Recovery) {
        let me = cache.as_deref().map(ThreadCache::owner);
        if R::Backend::takes(Mutant::BlocksBeforeLinks) {
            self.recover_links(cache.as_deref_mut(), recovery);
        }
        let directory = Directory(self.heap.region());
        for at in 0..recovery.dead.len() {
            let number = recovery.dead[at].number;
            if self.pins(me, recovery, number) {
                self.finish_announced(cache.as_deref_mut(), number);
                self.heap.adoption().finish_adoption(number);
                directory.recover(number);
            }
        }
        self.empty_batches(me, recovery);
        if recovery.by_number.iter().all(Option::is_none) {
            // Others have walked for all of them.
            recovery.at = self.heap.layout().spans();
        }
    }

    /// The links of the dead, in all structures. A newcomer, which has no number yet, visits them as the
    /// number that it has reserved.
    fn recover_links(self, cache: Option<&mut ThreadCache>, recovery: &mut Recovery) {
        let dead: Vec<u16> = recovery.dead.iter().map(|dead| dead.number).collect();
        let me = cache.as_deref().map(ThreadCache::owner);
        let Some(visitor) = me.or(dead.first().copied()) else { return };
        let settled = self.heap.settle_links_of(visitor, cache, &dead, |number| self.pins(me, recovery, number));
        recovery.clients = settled.clients;
    }

    /// Who waits until blocks of the dead are freed looks again, behind the walk. A newcomer visits as above.
    fn ring_clients(self, cache: Option<&mut ThreadCache>, recovery: &Recovery) {
        let me = cache.as_deref().map(ThreadCache::owner);
        if let Some(visitor) = me.or(recovery.dead.first().map(|dead| dead.number)) {
            self.heap.ring_clients(visitor, cache, &recovery.clients);
        }
    }

    /// Walks on, over so many tiles at most; true at the end. Without a cache nothing is merged: see
    /// [`Heap::settle_all`].
    pub fn recover_tiles(self, mut cache: Option<&mut ThreadCache>, recovery: &mut Recovery, tiles: u32) -> bool {
        let spans = self.heap.layout().spans();
        for _ in 0..tiles {
            if recovery.at >= spans {
                break;
            }
            let Some((g, header)) = self.heap.tile_in(recovery.at) else {
                recovery.at = self.beyond_merged(recovery);
                continue;
            };
            if self.recover_tile(cache.as_deref_mut(), recovery, g, header) {
                recovery.at = self.heap.layout().span(g.plus(header.size()));
            }
        }
        recovery.at >= spans
    }

    /// What comes behind the walk: the numbers are released, as far as no block of their holders' is being adopted, and
    /// no pin is on them. The releaser of a number that a newcomer without a cache has walked for owes the recheck:
    /// `cache`'s own number is held until they are done.
    pub fn end_recovery(self, cache: &mut ThreadCache, recovery: &mut Recovery) {
        if R::Backend::mutated(Mutant::BlocksBeforeLinks) {
            self.recover_links(Some(cache), recovery);
        }
        let slots = self.slots();
        self.unpin(cache, recovery);
        let unlooked = recovery.dead.iter().any(|dead| dead.is_recovered());
        // The dead may have stopped between giving something back and counting it.
        self.heap.news().gave(cache);
        self.heap.made().forget(cache);
        self.ring_clients(Some(&mut *cache), recovery);
        self.end_walked(recovery);
        let walked = recovery.dead.iter().filter(|dead| recovery.found[dead.number as usize].open_adoptions == 0);
        slots.release(cache.owner(), &walked.copied().collect::<Vec<_>>());
        if unlooked {
            self.heap.settle_all(cache);
        }
    }

    /// Sets a recovery aside that may go on later, or never: it keeps no number back meanwhile, and clients look
    /// again whose requests it has freed so far.
    pub fn pause_recovery(self, cache: &mut ThreadCache, recovery: &mut Recovery) {
        self.unpin(cache, recovery);
        self.ring_clients(Some(cache), recovery);
    }

    fn unpin(self, cache: &ThreadCache, recovery: &mut Recovery) {
        self.slots().unpin(cache.owner());
        recovery.pinned = 0;
    }

    /// Ends the recoveries of a complete walk that has found no open adoption.
    pub fn end_walked(self, recovery: &mut Recovery) {
        for dead in &recovery.dead {
            let found = &mut recovery.found[dead.number as usize];
            if R::Backend::mutated(Mutant::OpenAdoptionIgnored) {
                found.open_adoptions = 0;
            }
            found.participants = (found.open_adoptions == 0 && self.slots().end(*dead)) as u64;
        }
    }

    /// Whether the recovery of `number` is in force, and stays so until the next pin: then no header that
    /// bears the number is another holder's. A newcomer, which has no cache, has locked the one number that
    /// it recovers.
    fn pins(self, me: Option<u16>, recovery: &mut Recovery, number: u16) -> bool {
        let Some(dead) = recovery.of_number(number) else { return false };
        if let Some(me) = me
            && recovery.pinned != number
        {
            self.slots().pin(me, number);
            recovery.pinned = number;
        }
        let stands = self.slots().stands(dead);
        if !stands {
            // Another has walked through.
            recovery.by_number[number as usize] = None;
        }
        stands
    }

    /// One tile of the walk; false if it has to be looked at again.
    fn recover_tile(
        self,
        mut cache: Option<&mut ThreadCache>,
        recovery: &mut Recovery,
        g: Granule,
        header: Header,
    ) -> bool {
        if header.is_free() {
            recovery.behind = g;
        }
        if matches!(header.state(), State::Free | State::Coalescing)
            && let Some(cache) = cache.as_deref_mut()
            && R::Backend::takes(Mutant::RecoveryUnsettled)
            && !self.heap.settle(cache, g, header)
        {
            return false;
        }
        if header.is_free() {
            return true;
        }
        match self.heap.adoption().adopted_from(g, header) {
            None => return false,
            Some(from) => {
                if let Some(dead) = recovery.of_number(from) {
                    recovery.found[dead.number as usize].open_adoptions += 1;
                }
            }
        }
        let number = header.parked_by();
        if recovery.of_number(number).is_none()
            || !self.pins(cache.as_deref().map(ThreadCache::owner), recovery, number)
        {
            return true;
        }
        let Some(given) = self.give_back(g, header, recovery.policy) else { return false };
        match cache.as_deref_mut() {
            Some(cache) => {
                self.heap.news().gave(cache);
                self.heap.made().forget(cache);
            }
            None => self.heap.news().gave_unaided(),
        }
        let (size, found) = (header.size() as u64, &mut recovery.found[number as usize]);
        if header.is_live() {
            (found.live_blocks, found.live_granules) = (found.live_blocks + 1, found.live_granules + size);
        } else if header.state() == State::Coalescing {
            (found.in_flight_blocks, found.in_flight_granules) =
                (found.in_flight_blocks + 1, found.in_flight_granules + size);
        }
        if let Some(cache) = cache
            && given.is_given_up()
            && let Some(merged) = self.heap.operations().coalesce(cache, g, given)
        {
            recovery.behind = merged;
        }
        true
    }

    /// Where a walk goes on that has met no tile: another has merged it, with the free block that was met last perhaps.
    fn beyond_merged(self, recovery: &Recovery) -> u32 {
        let behind = self.heap.look(recovery.behind);
        let end = match behind.is_free() && self.heap.fits_sector(recovery.behind, behind) {
            true => self.heap.layout().span(recovery.behind.plus(behind.size())),
            false => 0,
        };
        end.max(recovery.at + 1)
    }

    /// Finishes what `dead` had announced. Its slot's words stay as they are: the number's next holder clears them.
    fn finish_announced(self, cache: Option<&mut ThreadCache>, dead: u16) {
        let word = self.heap.word(self.heap.layout().slot(dead, SlotWord::Op));
        if let Op::Cut { at, .. } | Op::Join { at, .. } | Op::Free { at, .. } = Op::decode(word.load(&OP_READ)) {
            let header = self.heap.look(at);
            if header.state() == State::Coalescing && header.owner() == dead && at.0 < self.heap.layout().granules {
                match cache {
                    Some(cache) => drop(self.heap.operations().help(cache, at, header)),
                    None => drop(self.heap.operations().finish(at, header, 0)),
                }
            }
        }
    }

    /// Makes one block of a dead participant's an unowned parked one, or keeps it; what its header is now.
    /// None if it has changed.
    fn give_back(self, g: Granule, header: Header, policy: Policy) -> Option<Header> {
        // A structure that is its maker's still is no data, but half of a call.
        if header.is_live() && policy == Policy::Keep && !self.heap.is_structure(Live { at: g, header }) {
            return self.heap.adoption().rename(g, header, KEPT);
        }
        if header.state() == State::Coalescing && !self.erase_inside(g, header) {
            return None;
        }
        // Under the generation of a live block it stays parked; a parked word must not come back.
        let generation = if header.is_live() { header.generation() } else { header.next_generation() };
        let parked = Header::new(State::Acked, 0, generation, self.heap.place(g, header.size()));
        self.heap.header(g).cas(header.0, parked.0, &PARK).is_ok().then_some(parked)
    }

    /// Erases heads that were written ahead inside a block that a dead one held alone: a run that was being
    /// cut up. False if another has given the block back meanwhile.
    fn erase_inside(self, g: Granule, header: Header) -> bool {
        let first = self.heap.layout().span(g);
        for span in first + 1..first + self.heap.spans(g, header.size()) {
            let head = self.heap.look_at_span(span);
            if head.state() == State::Inside {
                continue;
            }
            // As long as the block's own word stands, what stands inside is a dead one's.
            if !self.heap.operations().still(g, header) {
                return false;
            }
            let erased = Header::new(State::Inside, head.tag(), head.next_generation(), 0);
            let _ = self.heap.header(self.heap.layout().first_of(span)).cas(head.0, erased.0, &ERASE);
        }
        true
    }

    /// Batches that the dead were filling or emptying, and those that wait for them: their indices are lost,
    /// the blocks are in the headers.
    fn empty_batches(self, me: Option<u16>, recovery: &mut Recovery) {
        for control in self.heap.layout().batch_controls() {
            let control = self.heap.word(control);
            let found = control.load(&BATCH_LOOK);
            if let Some(number) = filler_of(found)
                && self.pins(me, recovery, number)
            {
                let _ = control.cas(found, 0, &BATCH_CLAIM);
            }
        }
    }
}
