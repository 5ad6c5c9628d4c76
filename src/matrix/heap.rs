//! The heap as a whole: how it is made, the names under which it is used, and the map of its calls.
//!
//! The quick steps are compiled into the caller and use no locked instruction; where one does not serve,
//! nothing was done, and the next step does it all.
//!
//! What a `Heap` has itself is making (here), words (words.rs), allocating (allocate.rs), freeing (free.rs) and
//! sweeping (sweep.rs). The rest are views of it, each with one duty and in a file of its own: `hints()`, `bias()`,
//! `large()`, `runs()`, `transfer_cache()`, `adoption()`, `ownership()`, `news()`, `made()` in the files of those
//! names; `operations()` in operation.rs, `stealing()` in steal.rs, `parking()` in parked.rs, `resizing()` in
//! resize.rs, `remote_frees()` in outbox.rs, `refusing()` in refusals.rs, `recoveries()` in recovery.rs, `mending()` in
//! mend.rs, `auditing()` in audit.rs.
//!
//! ```text
//! allocate ── quick     allocate_own      newest index on the own stack: revive, plain stores   allocate.rs, bias.rs
//!          ├─ second    allocate_next     the same for larger sizes; a large one by 1 CAS          large.rs
//!          └─ thorough  allocate
//!             ├─ parked      allocate_parked   each index: revive, or claim_parked (1 CAS)         bias.rs
//!             │              pop_large         from the own pool                                   large.rs
//!             ├─ a batch     take_batch        own homes, then transfer slots: onto the stack      parked.rs
//!             │              take_large_home   own homes: into the pool                            large.rs
//!             ├─ free memory carve             a run that is cut up, else find_and_take            runs.rs
//!             │                 ├─ find           class, tree, leaf, header                        hints.rs
//!             │                 └─ take           whole, or cut from the tail                      operation.rs
//!             └─ nothing     last_try          as much was refused, and nothing given back: recall refusals.rs
//!                                              else flush_near, then sweep_for:
//!                                              help, steal, coalesce, take                         sweep.rs, steal.rs
//!
//! free ────── quick     free_own          own block onto the own stack, plain stores              free.rs, bias.rs
//!          │                              (who has an offset alone looks first: look_to_free)
//!          ├─ second    free_next         the same for larger sizes; a large one by 1 CAS          large.rs
//!          │                              and free_remote, for another cache's small one           free.rs
//!          └─ thorough  free_live         live_of, or refuse (S5); then by whose it is, anew if that changed
//!             ├─ own         free_local        own stack, plain stores; full: flush_half           parked.rs
//!             │                                to own homes, a transfer slot, or merge_batch       transfer_cache.rs
//!             ├─ remote      free_remote       1 CAS; the index goes to the outbox        free.rs, outbox.rs
//!             │                                a full batch: to its owner's homes, or it waits     transfer_cache.rs
//!             ├─ large       free_large        1 CAS; own pool, or its owner's homes               large.rs
//!             └─ unowned     free_shared       1 CAS; the own stack, or coalesce                   operation.rs
//!                                              (and all that is neither parkable nor biased)
//! ```

use super::block_header::{Header, State};
pub use super::thread_cache::ThreadCache;
pub use super::words::{Exhausted, Heap, Kind, Live, Refusal};
use crate::backend::Word;
use crate::backend::orderings::FORMAT;
use crate::segment::layout::Granule;
use crate::segment::region::Region;
use crate::segment::size_class::of_size;

/// Behind the last span: a live block that is unowned, and that no call accepts.
const SENTINEL: Header = Header::new(State::Allocated, 0, 0, 1);

impl<R: Region> Heap<R> {
    /// Makes one free block of a zeroed region that nobody else uses yet.
    pub fn format(region: R) -> Self {
        let heap = Self { region };
        let granules = heap.layout().granules;
        heap.header(Granule(granules)).store(SENTINEL.0, &FORMAT);
        let last = heap.layout().spans() - 1;
        if last > 0 {
            let at = heap.layout().first_of(last);
            heap.header(at).store(Header::new(State::Inside, 0, 0, last).0, &FORMAT);
        }
        heap.header(Granule(0)).store(Header::new(State::Free, 0, 0, granules).0, &FORMAT);
        heap.hints().hint(Granule(0), of_size(granules), true);
        heap
    }

    /// Whether the sentinel behind the last granule stands as [`Heap::format`] left it; everything out of
    /// range reads it (C2).
    pub fn has_sentinel(&self) -> bool {
        self.look(Granule(self.layout().granules)) == SENTINEL
    }
}
