//! Who may write a structure, and when its block may be freed: safe reclamation, by counts and by visits.
//!
//! A late store to a block that was freed would hit the memory's next owner. Two rules exclude it.
//!
//! **W, writing.** Two sorts of participants write a structure. A *user* is counted: the structure has a word for
//! each participant. A *visitor* has named the structure in its slot, and behind a full fence found header and state
//! as they should be. It writes only words that it has read since, and that have not reached their last value.
//!
//! **F, freeing.** The block is freed in this order:
//!
//! 1. the structure is REMOVED, which is for ever and turns newcomers away; its ring is sealed and drained; no user
//!    is counted;
//! 2. full fence;
//! 3. no slot names it, and still no user is counted;
//! 4. one compare-and-swap on its header.
//!
//! A structure that no name leads to becomes REMOVED when a visitor finds it without a user: each that leaves visits
//! it behind that, and so does a recovery that has found it used by the dead. Of two that leave at once the later one
//! finds no user.
//!
//! **Proof.** Visitor and freer each write, fence, and look. One of the two fences comes first. If it is the
//! visitor's, the freer sees the visit and leaves the block to a later newcomer, leaver or recoverer. If it is the
//! freer's, the visitor finds the structure REMOVED, or its words at their last values, and writes nothing. At most
//! it reads the memory, by atomic loads, and does not use what it read.

use super::log::Log;
use super::ring::Ring;
use super::structure::{Role, Sort, Structure};
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
        // The header may have changed, and the memory may be another's, before the words were read. Unless the
        // structure is over, its freer sees this visit: it looks at the same words before its fence. Only then may
        // what is read here be believed, and written.
        let there = |structure: &Self| !structure.is_over() && heap.look(live.at) == live.header;
        let result = still.then(|| Self::at(heap, live)).flatten().filter(there).map(act);
        visiting.store(0, &VISIT);
        // Between the end of the visit and the look whether it may be freed: a freer that saw the visit has left that
        // to this visitor.
        R::Backend::fence(&VISIT_FENCE);
        result
    }

    /// Whether it is REMOVED, sealed and drained, and no user is counted: nothing is written any more.
    fn is_over(&self) -> bool {
        self.is_removed() && !self.is_used() && (*self).is_drained()
    }

    /// Whether it holds no block any more, and never will.
    fn is_drained(self) -> bool {
        match self.shape.sort {
            Sort::Channel | Sort::Single | Sort::Redelivering => Ring::of(self).is_drained(),
            Sort::Topic | Sort::Board => Log::of(self).is_drained(),
            Sort::Map => Table::of(self).is_drained(),
            Sort::Event | Sort::Semaphore | Sort::Barrier | Sort::Lock | Sort::Common => true,
        }
    }

    /// Takes out and frees what is left in a structure that is REMOVED and has no user. Its messages go with it. One
    /// that no name leads to is REMOVED here, by a visitor that finds it without a user.
    pub fn drain_removed(heap: &'a Heap<R>, cache: &mut ThreadCache, live: Live) {
        let me = cache.owner();
        Structure::visit(heap, me, live, |structure| {
            if !structure.ends_with_users() || !structure.remove_if_unused() {
                return;
            }
            match structure.shape.sort {
                Sort::Channel | Sort::Single | Sort::Redelivering => {
                    Ring::of(structure).drain(cache);
                    // A visitor that waits for room finds the seal.
                    structure.bell(Role::Sender).ring(u32::MAX);
                }
                Sort::Topic | Sort::Board => Log::of(structure).drain(cache),
                Sort::Map => Table::of(structure).drain(cache),
                Sort::Event | Sort::Semaphore | Sort::Barrier | Sort::Lock | Sort::Common => {}
            }
        });
    }

    /// Frees the block of a structure that is REMOVED and has no user, once it is sealed and drained. The caller has
    /// read `live` as a user or as a visitor, and is neither any more.
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
        // Twice: a newcomer from before it was REMOVED is counted, or gone, behind the first looks, and there are no
        // others. So it is over for good at the second, and a later visitor finds it so.
        if !(may_be_freed() && may_be_freed()) {
            return false;
        }
        heap.free(cache, live.at, Some(live.header.generation())).is_ok()
    }
}
