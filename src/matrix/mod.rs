//! The heap's three ideas (token, hint, ripple) and the allocator that composes them.
//!
//! - [`token`]: the only truth about which blocks exist;
//! - `hints`: where to look; [`size_class`]: what is filed where;
//! - [`operation`]: cut, join and the Ripple, which anybody can finish;
//! - [`parking`]: freed blocks that wait for the next request of their size;
//! - [`recovery`]: what the dead leave;
//! - [`sweep`] and [`stats`]: healing, the last try, and what is in the sector;
//! - [`heap`]: allocate and free;
//! - [`core`]: a mapped segment with its heap, and the lanes of this process's threads.

pub mod core;
pub mod heap;
mod hints;
pub mod operation;
pub mod parking;
pub mod recovery;
pub use crate::segment::size_class;
pub mod stats;
pub mod sweep;
pub mod token;

#[cfg(test)]
mod tests;
