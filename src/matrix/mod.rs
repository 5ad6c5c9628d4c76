//! The heap's three ideas (header, hint, ripple) and the allocator that composes them.
//!
//! Its words, and where the field has them from:
//!
//! - *granule*: the step of sizes, 16 bytes. *Span*: 64 bytes, which share one header.
//! - *tile*: a block of any state, as a stretch of whole spans; tiles cover the sector. *Footer*: how far back a tile's
//!   head is, in its last span's header.
//! - *header*: the word that describes the block that begins in a span (boundary tag, anchor). It stands apart
//!   from the block.
//! - *generation*: 20 bits of a header that tell a block from the earlier ones in its place. *Tag*: 11 bits that do the
//!   same for words that nobody owns.
//! - *thread cache*, or *cache*: what one thread keeps to itself (tcmalloc). A processor's is named by its lines.
//!   *Bin*: the size class of the blocks in one of its stacks. *Large*: above the bins' sizes; such blocks are parked
//!   in a *pool*, taken by compare-and-swap, and never biased.
//! - *parked*: freed and kept for the next request of its size, unmerged; its state is ACKED.
//! - *bias*: an owner changes the headers of its own blocks without a locked instruction (biased locking). Who
//!   takes another's parked block is a *thief*.
//! - *hazard slot*: where an owner names the granule whose header it is about to store (hazard pointer).
//! - *mark*, *revoke*: a thief announces that it takes a parked block, and takes it behind a heavy fence.
//! - *adoption*: a live block gets another owner. *Unowned*: it has none. *KEPT*, *LINKED*: its owner is a dead one
//!   whose blocks are kept, or a structure.
//! - *remote free*: of another thread cache's block. A *way* is where a cache collects what it frees for one other; a
//!   full batch goes to a *home* of its owner, or waits in an *outbox*. *Ring*: a cache's homes of one bin.
//! - *limbo*: parked blocks of other processes that a cache is to merge wait there, for one fence of milliseconds.
//! - *transfer slots*: where batches of unowned blocks change caches (transfer cache).
//! - *cut*, *join*, *ripple*: split off a free block's tail, merge two neighbours, free and merge (coalescing).
//! - *announce*, *help*, *commit*: an operation on a free block is written down, anybody may finish it, one
//!   compare-and-swap ends it.
//! - *held*: in the hands of one participant alone. *Freeze*: a join's right-hand head becomes an inside word.
//! - *hint*: a bit that says where a free block may begin (TLSF's bitmaps). It may be wrong.
//! - *recheck*: after a block became free, a look at both neighbours, so that no two of them stay unmerged. *Settle*: a
//!   free block's hints and recheck are seen to, since a dead one may have owed them.
//! - *run*: free memory that is cut into parked blocks of one bin at once.
//! - *participant*: a holder of a slot of the segment, one for each thread cache. *Recovery*: what a dead one
//!   left is given back. *Pin*: a recoverer keeps the dead one's number from being used again.
//! - *strict*: nothing is parked. *Usual*: biased, with the default granule, and offsets in bytes, as the quickest
//!   steps are compiled for.
//!
//! From the ground up; each file uses those above it:
//!
//! - [`block_header`]: the only truth about which blocks exist; [`stats`]: how what is in the sector is counted;
//! - `pool`: what a cache remembers of its large blocks; `thread_cache`: what one thread keeps to itself;
//! - `words`: the heap's own words, how they are looked at, and what is written into a block that is held;
//! - `hints`: where to look;
//! - `news`: how much each participant has given back; `made`: what a refused cache has made free itself;
//! - [`operation`]: two free neighbours become one, and a tail is cut off, by steps that anybody can finish (cut, join,
//!   Ripple); `mend`: the tiling is restored;
//! - `bias`: the owner's plain stores; `steal`: what a thief pays to take what others have parked;
//! - `adoption`: a live block's owner changes while it may be about to free it; `ownership`: giving,
//!   publishing, taking;
//! - `transfer_cache`: batches change hands; `outbox`: what was freed for others goes home; `large`: large
//!   blocks wait as well; `parked`: what waits, and for how long;
//! - [`runs`]: free memory is cut to size; [`resize`]: a live block grows or shrinks where it is;
//! - `audit`: what only performance would notice; [`sweep`]: healing, and the look at every block;
//! - `recovered`, `walk`: what a recovery finds, and one walker's way; [`recovery`]: what the dead leave;
//! - `refusals`: the last try, and what is remembered of one that was in vain;
//! - `allocate` and `free`: the roof; [`heap`]: the whole, under one name;
//! - `threads`: which cache a thread has; [`core`]: a mapped segment with its heap, and the caches of this
//!   process's threads.
//!
//! Two call each other: who looks for memory (`hints`) finishes the operation that it meets, and an operation hints
//! what it has made free. And one call goes up: `recovery` and `core` have links of the dead settled before their
//! blocks are freed, by what [`crate::ipc`] adds to [`heap::Heap`] (`settle_links`, `is_structure`). The classes of
//! sizes ([`size_class`]) are the segment's.

mod adoption;
mod allocate;
mod audit;
mod bias;
pub mod core;
mod free;
#[cfg(feature = "internals")]
pub mod heap;
#[cfg(not(feature = "internals"))]
pub(crate) mod heap;
mod hints;
mod large;
mod made;
mod mend;
mod news;
#[cfg(feature = "internals")]
pub mod operation;
#[cfg(not(feature = "internals"))]
pub(crate) mod operation;
mod outbox;
mod parked;
mod pool;
mod recovered;
#[cfg(feature = "internals")]
pub mod recovery;
#[cfg(not(feature = "internals"))]
pub(crate) mod recovery;
mod refusals;
#[cfg(feature = "internals")]
pub mod resize;
#[cfg(not(feature = "internals"))]
pub(crate) mod resize;
#[cfg(feature = "internals")]
pub mod runs;
#[cfg(not(feature = "internals"))]
pub(crate) mod runs;
mod thread_cache;
mod transfer_cache;
#[cfg(feature = "internals")]
pub use crate::segment::size_class;
#[cfg(not(feature = "internals"))]
pub(crate) use crate::segment::size_class;
#[cfg(feature = "internals")]
pub mod block_header;
#[cfg(not(feature = "internals"))]
pub(crate) mod block_header;
mod ownership;
#[cfg(feature = "internals")]
pub mod stats;
#[cfg(not(feature = "internals"))]
pub(crate) mod stats;
mod steal;
#[cfg(feature = "internals")]
pub mod sweep;
#[cfg(not(feature = "internals"))]
pub(crate) mod sweep;
mod threads;
mod walk;
mod words;

#[cfg(test)]
mod stalled;
#[cfg(test)]
mod tests;
