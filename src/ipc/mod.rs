//! What processes talk with: structures in the segment that no death can break.
//!
//! - `wait`: sleeping until somebody has put something, with a bound;
//! - `sync`: locks, events, semaphores, barriers.

#[cfg(feature = "internals")]
pub mod sync;
#[cfg(not(feature = "internals"))]
pub(crate) mod sync;
#[cfg(feature = "internals")]
pub mod wait;
#[cfg(not(feature = "internals"))]
pub(crate) mod wait;
