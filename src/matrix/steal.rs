//! Stealing: a thief takes blocks that other caches have parked, many behind one heavy fence (matrix::bias).
//!
//! Heavy fences are of two kinds ([`Reach`]): membarrier(2) reaches owners of the thief's own process in
//! microseconds, others in some milliseconds. (What would reach those in microseconds, too, misses some:
//! `verification/orders/membarrier`.) So blocks of other processes are taken last, when nothing else serves,
//! and all of them behind one dear fence ([`FarSteal`]); what it has taken is unowned, so that the next thief
//! needs none. For blocks of the dead none is needed: a thief that reads in a slot that its holder has been declared
//! dead sees what that holder stored. What this cache was to merge for other processes waits in its *limbo* for
//! such a fence.

use super::block_header::{Header, State};
use super::thread_cache::ThreadCache;
use super::words::{Heap, view};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Reach, Word};
use crate::segment::layout::Granule;
use crate::segment::region::Region;

/// Blocks of other processes' caches that wait in a cache's limbo, at most, until one fence serves them all.
const LIMBO: usize = 4096;

/// Blocks of this process's caches that one heavy fence serves at most.
const STEAL_MOST: usize = 64;
/// Tiles that a thief looks at for them.
const BATCH_REACH: usize = 4 * STEAL_MOST;
/// A block, and the mark on it as it was read.
type Marked = (Granule, Header);

/// Blocks that a thief wants, before the fence.
struct StealBatch {
    most: usize,
    /// Whether other processes' are among them.
    far: bool,
    /// Blocks with this thief's marks.
    marked: Vec<Marked>,
    /// Blocks with another thief's marks.
    anothers: Vec<Marked>,
}

impl StealBatch {
    const fn new(most: usize, far: bool) -> Self {
        Self { most, far, marked: vec![], anothers: vec![] }
    }
    const fn is_full(&self) -> bool {
        self.marked.len() + self.anothers.len() >= self.most
    }
    const fn is_empty(&self) -> bool {
        self.marked.is_empty() && self.anothers.is_empty()
    }
}

/// What one call may yet take of what other processes' caches have parked: a fence that reaches them takes
/// milliseconds. There is one for all of it; and a second only for blocks on which another thief's marks have
/// stood through the first: that thief stands still, and may be dead.
#[derive(Debug)]
pub(super) enum FarSteal {
    /// The call does not look for them: it can do something else first.
    PutOff,
    /// No fence was made yet.
    Ahead,
    /// One was made; these were marked by others before it.
    Made(Vec<Marked>),
}

impl FarSteal {
    /// For a call whose fences may reach so far.
    pub(super) const fn of(reach: Reach) -> Self {
        match reach {
            Reach::Process => Self::PutOff,
            Reach::System => Self::Ahead,
        }
    }
}

view! {
    /// What a thief takes of what others have parked.
    pub(super) struct Stealing, stealing
}

impl<R: Region> Stealing<'_, R> {
    /// Marks the block at `g` if it is parked by another cache, and not being adopted, and keeps it for
    /// `Stealing::revoke`.
    fn mark(self, cache: &ThreadCache, g: Granule, batch: &mut StealBatch) {
        let header = self.heap.look(g);
        let parked =
            header.is_given_up() && self.heap.fits_sector(g, header) && !self.heap.bias().may_take(cache.owner, header);
        if !parked
            || self.heap.bias().is_adopting(header.parked_by())
            || batch.is_full()
            || !batch.far && self.heap.bias().is_far(cache.owner, header.parked_by())
        {
            return;
        }
        let is_marked = header.state() == State::Marked;
        if is_marked && header.owner() != cache.owner && R::Backend::takes(Mutant::AnothersMarkUsed) {
            batch.anothers.push((g, header));
            return;
        }
        // One of its own number's is as good: its last holder is dead, and that one's compare-and-swap never comes.
        let marked = if is_marked { header } else { header.marked(cache.owner) };
        let unmarked = R::Backend::mutated(Mutant::MarkDropped);
        if is_marked || unmarked || self.heap.header(g).cas(header.0, marked.0, &MARK).is_ok() {
            batch.marked.push((g, if unmarked { header } else { marked }));
        }
    }

    /// Behind one heavy fence: blocks that this thief has marked, and whose owners do not name them, become
    /// unowned, the others their owners' again.
    fn revoke(self, cache: &ThreadCache, marked: &[Marked]) {
        let reach = || self.heap.bias().reach(cache.owner, marked.iter().map(|(_, mark)| mark.parked_by()));
        let fenced = R::Backend::mutated(Mutant::ThiefFenceDropped) || R::Backend::heavy_fence(&THIEF_FENCE, reach());
        for &(g, mark) in marked {
            let owner = mark.parked_by();
            let free_to_go =
                fenced && R::Backend::check(!self.heap.bias().is_hazardous(owner, g), Mutant::HazardIgnored);
            let whose = if free_to_go { 0 } else { owner };
            let acked = Header::new(State::Acked, whose, mark.generation(), self.heap.place(g, mark.size()));
            let _ = self.heap.header(g).cas(mark.0, acked.0, &TAKE_OVER);
        }
    }

    /// Another thief's marks that have stood for the time of a fence are replaced by this thief's, for a
    /// second fence: of several thieves, the last to mark a block gets it (L1, L2).
    fn mark_again(self, cache: &ThreadCache, anothers: Vec<Marked>) -> Vec<Marked> {
        let mine = |(g, mark): Marked| {
            let marked = mark.marked(cache.owner);
            self.heap.header(g).cas(mark.0, marked.0, &MARK).is_ok().then_some((g, marked))
        };
        anothers.into_iter().filter_map(mine).collect()
    }

    /// Takes parked blocks of this process's other caches over, from the one at `g` on, as many as one fence
    /// may serve. None: another process's cache has parked it ([`Stealing::steal_far`]). Else whether the block at
    /// `g` may be taken now, or has changed.
    pub(super) fn steal(self, cache: &ThreadCache, g: Granule) -> Option<bool> {
        let before = self.heap.look(g);
        if self.heap.bias().is_far(cache.owner, before.parked_by()) {
            return None;
        }
        let (mut at, mut batch) = (g, StealBatch::new(STEAL_MOST, false));
        for _ in 0..BATCH_REACH {
            let header = self.heap.look(at);
            if header.state() == State::Inside || !self.heap.fits_sector(at, header) || batch.is_full() {
                break;
            }
            self.mark(cache, at, &mut batch);
            at = at.plus(header.size());
        }
        if !batch.is_empty() {
            self.revoke(cache, &batch.marked);
            let again = self.mark_again(cache, batch.anothers);
            if !again.is_empty() {
                self.revoke(cache, &again);
            }
        }
        let now = self.heap.look(g);
        Some(now.size() != before.size() || !now.is_given_up() || self.heap.bias().may_take(cache.owner, now))
    }

    /// Takes over all that is parked by other processes' caches, and this process's, behind one fence. False
    /// if there is nothing, or the call has made its fence: then nothing was done. What is parked by others
    /// meanwhile stays theirs.
    pub(super) fn steal_far(self, cache: &mut ThreadCache, far: &mut FarSteal) -> bool {
        let mut batch = StealBatch::new(usize::MAX, true);
        match std::mem::replace(far, FarSteal::Made(vec![])) {
            FarSteal::PutOff => {
                *far = FarSteal::PutOff;
                return false;
            }
            FarSteal::Ahead if R::Backend::mutated(Mutant::FarLeftOut) => return false,
            FarSteal::Ahead => self.heap.each_tile(|g, _| {
                self.mark(cache, g, &mut batch);
                true
            }),
            FarSteal::Made(stood) => batch.marked = self.mark_again(cache, stood),
        }
        if batch.is_empty() {
            return false;
        }
        self.revoke(cache, &batch.marked);
        *far = FarSteal::Made(batch.anothers);
        for (g, _) in batch.marked {
            self.merge_parked(cache, g);
        }
        true
    }

    /// Merges the blocks of a batch that are still parked, whoever parked them. Other processes' wait, with
    /// their likes, for one fence.
    pub(super) fn merge_batch(self, cache: &mut ThreadCache, batch: &[u32]) {
        let (me, biased) = (cache.owner, self.heap.biased());
        let is_far = |&g: &u32| biased && self.heap.bias().is_far(me, self.heap.look(Granule(g)).parked_by());
        let (far, near): (Vec<u32>, Vec<u32>) = batch.iter().partition(|g| is_far(g));
        self.merge_all(cache, &near);
        let forgets = !me.is_multiple_of(2) && R::Backend::mutated(Mutant::LimboForgotten);
        if !far.is_empty() && !forgets {
            cache.limbo.get_or_insert_default().0.extend(far);
        }
    }

    /// Where so many wait for a fence that reaches other processes that it is worth it: makes it. For a free,
    /// which does this once. Those of the dead need none by now.
    #[inline]
    pub(super) fn empty_full_limbo(self, cache: &mut ThreadCache) {
        let full = cache.limbo.take_if(|limbo| limbo.0.len() >= LIMBO);
        if let Some(full) = full {
            self.merge_batch(cache, &full.0);
            if cache.limbo.as_ref().is_some_and(|limbo| limbo.0.len() >= LIMBO / 2) {
                self.empty_limbo(cache);
            }
        }
    }

    /// Merges the blocks that wait for a fence which reaches other processes.
    pub(super) fn empty_limbo(self, cache: &mut ThreadCache) {
        if let Some(limbo) = cache.limbo.take() {
            self.merge_all(cache, &limbo.0);
        }
    }

    /// Merges those of these blocks that are still parked, whoever parked them.
    fn merge_all(self, cache: &mut ThreadCache, blocks: &[u32]) {
        if self.heap.biased() {
            let mut batch = StealBatch::new(blocks.len(), true);
            blocks.iter().for_each(|&g| self.mark(cache, Granule(g), &mut batch));
            // What another thief has marked is that one's to merge.
            if !batch.marked.is_empty() {
                self.revoke(cache, &batch.marked);
            }
        }
        for &g in blocks {
            self.merge_parked(cache, Granule(g));
        }
    }

    /// Merges the block at `g` if it is parked and this cache may take it.
    pub(super) fn merge_parked(self, cache: &mut ThreadCache, g: Granule) {
        let header = self.heap.look(g);
        if !header.is_given_up() || !self.heap.fits_sector(g, header) {
            return;
        }
        if self.heap.bias().may_take(cache.owner, header) {
            self.heap.operations().coalesce(cache, g, header);
        } else {
            self.heap.made().sent(cache);
        }
    }
}
