//! Who may write a structure, and when its block may be freed: safe reclamation, by counts and by visits.
//!
//! **Who writes.** A late store to a block that was freed would hit whoever has the memory by then. So a
//! structure is written only by who is *counted* among its users (a word for each participant), or *visits*
//! it: its slot says so, and behind a full fence header and state were as they should be. A visitor writes
//! only words that it has read since, and that have not reached their last value.
//!
//! **Who frees.** The block of a structure is freed once it is REMOVED (which is for ever, and turns away
//! whoever comes), its ring is sealed and drained, and nobody is counted; then comes a full fence, then the
//! looks that nobody visits it and still nobody is counted, then one compare-and-swap on its header. Of one
//! who visits and one who frees, one sees the other's word: either the visitor is seen, and somebody who
//! comes, leaves or recovers later frees it; or the visitor finds it REMOVED, or its words at their last
//! values, and writes nothing. The memory is read after that at most, by atomic loads, and what was read is
//! not used.

use super::log::Log;
use super::ring::Ring;
use super::structure::{REMOVED, Sort, Structure};
use super::table::Table;
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::heap::{Heap, Live, ThreadCache};
use crate::segment::layout::SlotWord;
use crate::segment::region::Region;

impl<'a, R: Region> Structure<'a, R> {
    /// Visits the structure in the block `live` as `me`: calls `act`, which may write it. None if it is not
    /// there any more, or not everybody's yet.
    pub fn visit<T>(heap: &'a Heap<R>, me: u16, live: Live, act: impl FnOnce(Self) -> T) -> Option<T> {
        let visiting = heap.region().word(heap.layout().slot(me, SlotWord::Visiting));
        visiting.store((live.header.generation() as u64) << 32 | (live.at.0 as u64 + 1), &VISIT);
        R::Backend::fence(&VISIT_FENCE);
        // The header as it was read: unowned, and this block.
        let still = live.header.owner() == 0 && heap.look(live.at) == live.header;
        // The header may have changed, and the memory may be another's, before the words were read. Unless it is over,
        // whoever would free it sees this visit: he looks at the same words before his fence. Only then may what is
        // read here be believed, and written.
        let there = |structure: &Self| !structure.is_over() && heap.look(live.at) == live.header;
        let result = still.then(|| Self::at(heap, live)).flatten().filter(there).map(act);
        visiting.store(0, &VISIT);
        // Between the end of the visit and the look whether it may be freed: whoever found it visited may
        // have left that to us.
        R::Backend::fence(&VISIT_FENCE);
        result
    }

    /// Whether it is REMOVED, sealed and drained, and nobody is counted: nothing is written any more.
    fn is_over(&self) -> bool {
        self.is_removed() && !self.is_used() && (*self).is_drained()
    }

    /// Whether it holds no block any more, and never will.
    fn is_drained(self) -> bool {
        match self.shape.sort {
            Sort::Channel | Sort::Single | Sort::Redelivering => Ring::of(self).is_drained(),
            Sort::Topic | Sort::Board => Log::of(self).is_drained(),
            Sort::Map => Table::of(self).is_drained(),
            Sort::Event | Sort::Semaphore | Sort::Barrier | Sort::Lock => true,
        }
    }

    /// Takes out and frees what is left in a structure that is REMOVED and that nobody uses. Its messages go with it.
    pub fn drain_removed(heap: &'a Heap<R>, cache: &mut ThreadCache, live: Live) {
        let me = cache.owner();
        Structure::visit(heap, me, live, |structure| {
            if structure.state() & REMOVED == 0 || structure.is_used() {
                return;
            }
            // A hidden one is not closed yet.
            structure.remove();
            match structure.shape.sort {
                Sort::Channel | Sort::Single | Sort::Redelivering => Ring::of(structure).drain(cache),
                Sort::Topic | Sort::Board => Log::of(structure).drain(cache),
                Sort::Map => Table::of(structure).drain(cache),
                Sort::Event | Sort::Semaphore | Sort::Barrier | Sort::Lock => {}
            }
        });
    }

    /// Frees the block of a structure that is REMOVED and that nobody uses, once it is sealed and drained.
    /// For who has read `live` while it was counted among the users, or visited it; it is neither any more.
    /// True if this call freed it.
    pub fn free_if_unused(heap: &'a Heap<R>, cache: &mut ThreadCache, live: Live) -> bool {
        let now = heap.look(live.at);
        let whole = (now == live.header).then(|| Self::at(heap, live)).flatten();
        let Some(structure) = whole else { return false };
        let layout = heap.layout();
        let visits = |number: u16| {
            let visiting = heap.region().word(layout.slot(number, SlotWord::Visiting)).load(&VISIT_LOOK);
            // A dead one's own visit holds no structure back.
            visiting as u32 == live.at.0 + 1 && !heap.recoveries().slots().is_abandoned(number)
        };
        let may_be_freed = || {
            let over = structure.is_over();
            R::Backend::fence(&VISIT_FENCE);
            let visited = (1..=layout.params.participants as u16).any(visits);
            over && R::Backend::check(!visited, Mutant::VisitIgnored)
        };
        // Twice: whoever came before it was REMOVED is counted, or gone, behind the first looks, and nobody comes any
        // more; so it is over for good at the second, and who visits it behind that finds it so.
        if !(may_be_freed() && may_be_freed()) {
            return false;
        }
        heap.free(cache, live.at, Some(live.header.generation())).is_ok()
    }
}
