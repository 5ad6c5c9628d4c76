//! What a user holds: handlers, typed blocks, relative pointers.
//!
//! From the ground up; each file uses those above it:
//!
//! - `pointer`: positions and blocks; `handler`: the way into a segment, and what stands at an offset;
//! - `block`: allocate and free; `resize`: grow and shrink; `payload`: read and write;
//! - `inspect`: what is in the segment; `ownership`: whose a block is, and what the dead leave;
//! - `names`: publish and take; `containers`: Rust's own, in the segment.
//!
//! ```
//! use atomic_matrix::handlers::HandlerFunctions;
//! use atomic_matrix::matrix::core::AtomicMatrix;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = AtomicMatrix::bootstrap(None, 1 << 20)?; // a fresh segment of 1 MiB
//! let mut block = handler.allocate::<[u8; 128]>()?;
//! handler.store(&mut block, [7; 128])?;
//! let offset = block.offset(); // pass it on: it means the same in every process
//! assert_eq!(handler.load(&handler.get_block::<[u8; 128]>(offset)?)?, [7; 128]);
//! handler.free(block);
//! handler.unlink()
//! # }
//! ```

mod block;
#[cfg(feature = "allocator-api2")]
mod containers;
mod handler;
mod inspect;
mod names;
mod ownership;
mod payload;
mod pointer;
mod resize;

pub use crate::matrix::block_header::LINKED;
pub use crate::matrix::block_header::State as BlockState;
pub use crate::matrix::recovery::{KEPT, Policy, Recovered};
pub use crate::segment::Participant;
pub use block::HandlerFunctions;
pub use handler::Handler;
pub(crate) use handler::refused;
pub use inspect::{BlockInfo, Repaired, Stats};
pub(crate) use inspect::{each_block, look_patiently};
pub use names::Name;
pub(crate) use names::check_name;
pub use pointer::{Block, RelativePtr};
