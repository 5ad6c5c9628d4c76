//! Sweeps: walks over the headers, for healing, for the last try of an allocation, and for statistics.

use super::block_header::{Header, State, is_nobody};
pub use super::mend::Mended;
use super::operation::Held;
use super::runs::Fit;
use super::stats::{Fault, Tally};
use super::steal::FarSteal;
use super::thread_cache::ThreadCache;
use super::words::{Exhausted, Heap};
use crate::backend::orderings::HEADER_WALK;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::Granule;
use crate::segment::region::Region;
use crate::segment::size_class::of_size;

/// New starts of one sweep that tiles in flight explain at most: in a damaged segment there may be any number of them.
const EXPLAINED: usize = 1024;

#[cfg(test)]
thread_local! {
    /// Sweeps that this thread has begun.
    pub(crate) static SWEPT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What a sweep has seen.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// Words that are damaged: left out.
    pub(super) broken: bool,
    /// A parked block that its owner was about to take: left out.
    pub(super) owned: bool,
    /// A block that another process's cache has parked: left out.
    pub(super) far: bool,
    /// What is free by now, or in somebody's hands, and the largest free block. Exact if nobody else does anything.
    pub(super) room: Exhausted,
    /// The last free block that is counted there: one that is merged with it begins where it did.
    last: (u32, u32),
    /// The last free tile that was passed, as it was read.
    passed: Option<(Granule, Header)>,
    /// Tiles in flight that have explained a new start: each does once.
    explained: Vec<(Granule, Header)>,
}

/// What a sweep has found of a free tile, and of the one that it passed before.
enum PassedOver {
    /// Both stand, and are no neighbours.
    Whole,
    /// The block that contains it begins here now.
    Changed(Granule),
    /// Somebody else's operation is in force on the one before, or over.
    LeftChanged,
}

impl Swept {
    fn count_free(&mut self, at: u32, size: u32) {
        let (before, counted) = self.last;
        let again = if at <= before { counted } else { 0 };
        self.room.free = self.room.free + u64::from(size) - u64::from(again);
        self.room.largest = self.room.largest.max(size.into());
        self.last = (at, size);
    }

    /// Whether an operation in flight on the tile before explains that none begins behind it.
    fn explains(&mut self, tile: (Granule, Header)) -> bool {
        let in_flight =
            tile.1.state() == State::Coalescing && self.explained.len() < EXPLAINED && !self.explained.contains(&tile);
        if in_flight {
            self.explained.push(tile);
        }
        in_flight
    }

    /// The sweep starts again.
    fn forget(&mut self) {
        (self.room, self.last, self.passed) = (Exhausted::default(), (0, 0), None);
    }
}

impl<R: Region> Heap<R> {
    /// Merges every parked block of every cache, finishes operations in flight, hints every free block again.
    ///
    /// With something `wanted` it stops at the first free block that has it, and takes that part. It walks
    /// tile by tile: a block that moves behind the walker by a merge was the right-hand neighbour of the
    /// walker's own tile, so the walker finds an inside word where it expects a head, and starts again (L2).
    /// Each new start is somebody else's finished operation (L1): the tile before has changed, or its join
    /// can be seen now, which the next pass finishes. Where neither is so, the words are damaged (C2), and
    /// the sweep goes on granule by granule. Says what it has seen, and whether it has left anything out: such
    /// words, a block whose owner was about to store its header, or one that needs a fence that reaches other
    /// processes.
    pub(super) fn sweep(&self, cache: &mut ThreadCache, wanted: Option<Fit>, seen: &mut Swept) -> Option<Held> {
        #[cfg(test)]
        SWEPT.set(SWEPT.get() + 1);
        let granules = self.layout().granules;
        let (mut at, mut last) = (0, None); // The tile before, as it was read.
        while at < granules {
            let g = Granule(at);
            let header = self.header_at(g, Header(self.header(g).load(&HEADER_WALK)));
            let size = header.size();
            if header.state() == State::Inside || !self.fits_sector(g, header) {
                let changed = |(before, was)| seen.explains((before, was)) || self.look(before) != was;
                let moved = last.is_some_and(changed);
                at = if moved && R::Backend::takes(Mutant::SweepGoesOn) { 0 } else { at + 1 };
                seen.broken |= !moved;
                if at == 0 {
                    seen.forget();
                }
                last = None;
                continue;
            }
            last = Some((g, header));
            match header.state() {
                State::Acked | State::Marked if self.bias().may_take(cache.owner(), header) => {
                    at = self.operations().coalesce(cache, g, header).map_or(at, |merged| merged.0);
                    continue;
                }
                State::Acked | State::Marked => {
                    match self.stealing().steal(cache, g) {
                        Some(true) => continue,
                        // Its owner is about to store it: it stays with that one, and this cache's mark has
                        // changed it, no other operation.
                        Some(false) => seen.owned = true,
                        None => seen.far = true,
                    }
                    seen.room.free += u64::from(size);
                    last = Some((g, self.look(g)));
                }
                State::Coalescing if self.operations().help(cache, g, header) => continue,
                State::Free => {
                    // Before it is taken: what remains of it keeps its hints.
                    self.hints().see_to(g, size);
                    if let Some(tail) = wanted.and_then(|asked| self.runs().tail_for(asked, g, size)) {
                        match self.operations().take(cache, g, header, tail) {
                            Some(held) => return Some(held),
                            None => continue,
                        }
                    }
                    match self.recheck_passed(cache, g, header, seen) {
                        PassedOver::Whole => seen.count_free(at, size),
                        PassedOver::Changed(now) => {
                            at = now.0;
                            continue;
                        }
                        PassedOver::LeftChanged => {
                            (at, last) = (0, None);
                            seen.forget();
                            continue;
                        }
                    }
                }
                State::Coalescing => seen.room.free += u64::from(size),
                _ => {}
            }
            at += size;
        }
        None
    }

    /// Merges the free tile at `g` with what is free beside it. An operation that was in force on a neighbour may be
    /// over by the time that the walk comes there, and who announced it still owe its recheck: so the tile that was
    /// passed before counts as well as the next one.
    fn recheck_passed(&self, cache: &mut ThreadCache, g: Granule, header: Header, seen: &mut Swept) -> PassedOver {
        let (size, end) = (header.size(), g.plus(header.size()));
        let left = seen.passed.filter(|(left, was)| left.plus(was.size()) == g);
        let left = left.filter(|_| R::Backend::takes(Mutant::PassedIgnored));
        let right = end.0 < self.layout().granules && matches!(self.look(end).state(), State::Free | State::Inside);
        if right || left.is_some() {
            let at = self.operations().publish_free(cache, g, size, Some(of_size(size)));
            if self.look(at) != header {
                return PassedOver::Changed(at);
            }
        }
        if left.is_some_and(|(left, was)| self.look(left) != was) {
            return PassedOver::LeftChanged;
        }
        seen.passed = Some((g, header));
        PassedOver::Whole
    }

    /// Heals: merges all that is free or parked, whoever parked it, and mends the tiling where it is broken.
    pub fn heal(&self, cache: &mut ThreadCache) {
        let _ = self.repair(cache);
    }

    /// Heals, and tells what was damaged. Bounded by the number of blocks; what is broken is mended by a look
    /// at all spans.
    pub fn repair(&self, cache: &mut ThreadCache) -> Mended {
        self.parking().flush_near(cache);
        self.made().forget(cache);
        // What waits for a fence is parked, and so among what is taken now.
        cache.limbo = None;
        let (mut far, mut seen) = (FarSteal::Ahead, Swept::default());
        let _ = self.sweep(cache, None, &mut seen);
        while seen.far && self.stealing().steal_far(cache, &mut far) {
            seen = Swept::default();
            let _ = self.sweep(cache, None, &mut seen);
        }
        if seen.broken { self.mending().mend(cache) } else { Mended::default() }
    }

    /// A newcomer has taken the number of a dead one, for whom it has walked without a cache: it merges what
    /// is unowned, and every free block gets the recheck and the hints that the dead one may have owed it
    /// (L3). O(blocks).
    pub fn settle_all(&self, cache: &mut ThreadCache) {
        self.each_tile(|g, header| match header.state() {
            State::Free | State::Coalescing => self.settle(cache, g, header),
            State::Acked if is_nobody(header.owner()) => self.operations().coalesce(cache, g, header).is_some(),
            _ => true,
        });
    }

    /// What the dead may have owed a free block: its hints, and the recheck. The hints come first, and an operation in
    /// force is finished: whoever has announced one hints nothing where the block's class stays. False if the tile has
    /// to be looked at again.
    pub(super) fn settle(&self, cache: &mut ThreadCache, g: Granule, header: Header) -> bool {
        if !header.is_free() {
            return R::Backend::mutated(Mutant::InFlightUnsettled) || !self.operations().help(cache, g, header);
        }
        self.hints().see_to(g, header.size());
        let at = self.operations().publish_free(cache, g, header.size(), Some(of_size(header.size())));
        let now = self.look(at);
        if now.is_free() && self.fits_sector(at, now) {
            self.hints().see_to(at, now.size());
        }
        true
    }

    /// Calls `visit` for each tile, in order, reading only. What changes meanwhile is seen before or after its change.
    ///
    /// # Errors
    /// [`Fault::NotAHead`] if the sizes do not tile the sector and no operation explains it (S4).
    pub fn walk(&self, mut visit: impl FnMut(Granule, Header)) -> Result<(), Fault> {
        let granules = self.layout().granules;
        let read = |at: u32| self.header_at(Granule(at), Header(self.header(Granule(at)).load(&HEADER_WALK)));
        let (mut at, mut last) = (0, None);
        while at < granules {
            let header = read(at);
            if header.state() == State::Inside || !self.fits_sector(Granule(at), header) {
                // A merge took this granule in, unless the tile before still stands as it was seen.
                let explained = last.is_some_and(|(before, seen): (u32, Header)| {
                    seen.state() == State::Coalescing || read(before) != seen
                });
                if !explained {
                    return Err(Fault::NotAHead { granule: at, header });
                }
                at += 1;
                continue;
            }
            let size = self.operations().extent(Granule(at), header).min(granules - at);
            let tile = match header.state() {
                State::Coalescing => {
                    Header::new(State::Coalescing, header.owner(), header.generation(), self.place(Granule(at), size))
                }
                _ => header,
            };
            visit(Granule(at), tile);
            last = Some((at, header));
            at += size;
        }
        Ok(())
    }

    /// Counts the blocks of every state. Exact at rest.
    pub fn tally(&self) -> Result<Tally, Fault> {
        let mut tally = Tally::default();
        self.walk(|_, header| tally.add(header))?;
        Ok(tally)
    }

    /// Checks that the tiles cover the sector, that every free block is hinted on every level, that no two
    /// free neighbours were left unmerged, and that nothing is kept for nobody (matrix::audit). To be called
    /// at rest: an operation in flight may look like a fault.
    pub fn verify(&self) -> Result<Tally, Fault> {
        let mut tally = Tally::default();
        let mut fault = None;
        self.walk(|g, header| {
            tally.add(header);
            if fault.is_none() && !self.auditing().has_owner(header) && self.look(g) == header {
                fault = Some(Fault::OfNobody { granule: g.0, header });
            }
            if fault.is_none()
                && header.is_free()
                && !self.hints().is_hinted(g, of_size(header.size()))
                && self.look(g) == header
            {
                fault = Some(Fault::NotHinted { granule: g.0, header });
            }
        })?;
        match fault {
            Some(fault) => Err(fault),
            None if tally.missed_merges > 0 => Err(Fault::MissedMerge { pairs: tally.missed_merges }),
            None if tally.granules != self.layout().granules as u64 => {
                Err(Fault::Uncovered { covered: tally.granules, granules: self.layout().granules })
            }
            None => self.auditing().audit().map(|()| tally),
        }
    }
}
