//! Synchronisation between processes: what waits by nature, each with a bound, and each saying what a death does to it.
//!
//! Each is a few words of shared memory over any [`Backend`](crate::backend::Backend), so that the checkers
//! run the code that is shipped.

pub mod barrier;
pub mod event;
pub mod lock;
pub mod semaphore;
