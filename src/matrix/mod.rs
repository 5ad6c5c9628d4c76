//! The heap's three ideas (token, hint, ripple) and the allocator that composes them.
//!
//! From the ground up; each file uses those above it:
//!
//! - [`token`]: the only truth about which blocks exist;
//! - `lane`: what one thread keeps to itself;
//! - `words`: the heap's own words, and how they are looked at;
//! - `hints`: where to look; [`size_class`]: what is filed where;
//! - [`operation`]: cut, join and the Ripple, which anybody can finish;
//! - `bias`: the owner's plain stores, and what a thief pays instead;
//! - `adoption`: a live block's owner changes while it may be about to free it; `transfer`: giving, publishing, taking;
//! - `exchange`: batches change hands; `outbox`: what was freed for others goes home; `cache`: what waits, and for how long;
//! - [`runs`]: free memory is cut to size;
//! - [`sweep`] and [`stats`]: healing, the last try, and what is in the sector; [`recovery`]: what the dead leave;
//! - `allocate` and `free`: the roof; [`heap`]: the whole, under one name;
//! - `threads`: which lane a thread has; [`core`]: a mapped segment with its heap, and the lanes of this process's threads.

mod adoption;
mod allocate;
mod bias;
mod cache;
pub mod core;
mod exchange;
mod free;
#[cfg(feature = "internals")]
pub mod heap;
#[cfg(not(feature = "internals"))]
pub(crate) mod heap;
mod hints;
mod lane;
#[cfg(feature = "internals")]
pub mod operation;
#[cfg(not(feature = "internals"))]
pub(crate) mod operation;
mod outbox;
#[cfg(feature = "internals")]
pub mod recovery;
#[cfg(not(feature = "internals"))]
pub(crate) mod recovery;
#[cfg(feature = "internals")]
pub mod runs;
#[cfg(not(feature = "internals"))]
pub(crate) mod runs;
#[cfg(feature = "internals")]
pub use crate::segment::size_class;
#[cfg(not(feature = "internals"))]
pub(crate) use crate::segment::size_class;
#[cfg(feature = "internals")]
pub mod stats;
#[cfg(not(feature = "internals"))]
pub(crate) mod stats;
#[cfg(feature = "internals")]
pub mod sweep;
#[cfg(not(feature = "internals"))]
pub(crate) mod sweep;
mod threads;
#[cfg(feature = "internals")]
pub mod token;
#[cfg(not(feature = "internals"))]
pub(crate) mod token;
mod transfer;
mod words;

#[cfg(test)]
mod tests;
