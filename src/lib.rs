//! AtomicMatrix: a lock-free allocator in shared memory.

pub mod backend;
pub mod matrix;
pub mod segment;
