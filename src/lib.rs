//! AtomicMatrix: a lock-free, general-purpose allocator in shared memory.
//!
//! Independent processes map one segment and allocate, read and free blocks of any size, without copying and without
//! a kernel call on the hot path. Start with [`handlers`].
//!
//! The house, from the ground up: [`backend`] (words, fences, the table of orderings), [`segment`] (layout, creating and
//! attaching, directory), [`matrix`] (token, hint, ripple), [`handlers`] (what a user holds).

extern crate self as atomic_matrix;

#[macro_use]
mod trace;
pub mod backend;
mod error;
pub mod handlers;
pub mod matrix;
pub mod segment;
mod shared;
#[doc = include_str!("../papers/promises.md")]
pub mod promises {}
#[doc = include_str!("../papers/misuse.md")]
pub mod misuse {}

pub use error::{Error, Result};
#[doc(hidden)]
pub use shared::mix as fingerprint;
pub use shared::{Shared, zerocopy};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
