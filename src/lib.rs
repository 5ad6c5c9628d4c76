//! AtomicMatrix: a lock-free allocator in shared memory.

pub mod backend;
pub mod error;
pub mod matrix;
pub mod segment;

pub use error::{Error, Result};
