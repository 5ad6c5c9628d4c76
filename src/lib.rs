//! AtomicMatrix: memory that several processes allocate, pass on and free, in one shared segment.
//!
//! Independent processes on a Linux host map one segment in `/dev/shm`. Each of them allocates, reads and
//! frees blocks of any size in it, without copies and without a kernel call on the hot path. No allocation
//! and no free waits for another process, which may be stopped or killed at any moment. What a killed one held
//! comes back.
//!
//! # Two programs that talk
//!
//! The sender (`examples/sender.rs`) makes the segment, fills a message where it lies, and sends it through a
//! channel:
//!
#![doc = concat!("```no_run\n", include_str!("../examples/sender.rs"), "```")]
//!
//! The receiver (`examples/receiver.rs`) finds both by their names, and owns the message, which has not moved:
//!
#![doc = concat!("```no_run\n", include_str!("../examples/receiver.rs"), "```")]
//!
//! # Whose a block is
//!
//! A block belongs to the process that allocated it, until that process frees it or gives it away. If its
//! owner dies, it is freed, or kept if so asked ([`Options::keep_orphans`]). If its owner leaves in good order
//! (drops its last handler), it stays, unowned, until somebody takes or frees it: while a block is unowned no
//! death frees it. What was sent or published into a structure is the structure's: taken there, and by no call
//! that is given its offset ([`Error::InStructure`]).
//!
//! Ownership is counted by thread. When a thread ends, its blocks pass to its process.
//!
//! ```text
//!            allocate              send; publish                      receive; take               drop, free
//!  (free) ──────────────▶ sender's ──────────────▶ channel's; unowned ──────────────▶ receiver's ─────────────▶ (free)
//!                             │                                                           │
//!                             └─ it dies: freed, or kept if so asked; it leaves: unowned ─┘
//! ```
//!
//! # The names
//!
//! - [`Options`]: where a segment is, what it is called, how large it is; makes it or attaches to it.
//!   [`AtomicMatrix`] has two short ways, [`AtomicMatrix::bootstrap`] and [`AtomicMatrix::attach`], by id
//!   ([`uuid`]).
//! - [`Handler`]: a process's way into the segment, cheap to clone. [`HandlerFunctions`] are its four basic
//!   calls.
//! - [`Block`]: a live block that holds a type. [`Shared`] are the types that may stand in one: plain bytes,
//!   with the same meaning everywhere ([`shared!`] declares such a type). [`InPlace`]: with atomics as well
//!   ([`in_place!`]). [`RelativePtr`]: a position that
//!   means the same in every process.
//! - [`Stats`], [`BlockInfo`], [`Participant`], [`Name`]: what is in the segment, who uses it, what is
//!   published.
//! - [`Policy`] and [`Recovered`]: what becomes of a dead process's blocks, and what became of them.
//!   [`Repaired`]: what was damaged.
//! - [`ipc`]: what processes talk with, on top of that: [`Message`](ipc::Message) and
//!   [`Channel`](ipc::Channel), and what they wait with.
//! - [`memory`]: what structures of one's own are written on, so that they can be checked.
//! - [`Error`] and [`Result`]: every message says what would help.
//!
//! What each misuse does: [`misuse`]. What is promised when who dies: [`promises`].
//!
//! # Features
//!
//! - `cli`: the program `matrix`, which looks into segments. The library is the same without it.
//! - `tracing`: events of creation, recovery and exhaustion for the crate tracing.
//! - `allocator-api2`: Rust's own containers in a segment: `&Handler` is an allocator for `Vec`, `Box` and
//!   hashbrown, and [`ipc`] has a vector that becomes a message where it lies.
//! - `check`: the module `check`, which puts structures of one's own under the checks that this library's are under.
//! - `internals`: makes public what models and checks stand on. It may change with every commit, and safe
//!   code can break a heap with it. `loom` and `shuttle` add the model checkers' backends.

#![cfg_attr(
    not(feature = "internals"),
    allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        rustdoc::private_intra_doc_links,
        reason = "what the checks stand on is public with the feature internals, and checked with it"
    )
)]

extern crate self as atomic_matrix;

#[macro_use]
mod trace;
#[cfg(feature = "internals")]
pub mod backend;
#[cfg(not(feature = "internals"))]
mod backend;
#[cfg(feature = "check")]
pub mod check;
mod error;
#[doc(hidden)]
pub mod handlers;
pub mod ipc;
mod kernel;
#[doc(hidden)]
pub mod matrix;
pub mod memory;
mod packed;
#[doc(hidden)]
pub mod segment;
mod shared;
#[doc = include_str!("../papers/promises.md")]
pub mod promises {}
#[doc = include_str!("../papers/misuse.md")]
pub mod misuse {}

pub use error::{Error, Result};
#[doc(inline)]
pub use handlers::{
    Block, BlockInfo, BlockState, Handler, HandlerFunctions, KEPT, LINKED, Name, Participant, Policy, Recovered,
    RelativePtr, Repaired, Stats,
};
#[doc(inline)]
pub use matrix::core::AtomicMatrix;
#[doc(inline)]
pub use segment::{Options, Segment};
#[doc(hidden)]
pub use shared::mix as fingerprint;
pub use shared::{InPlace, Shared};
pub use uuid;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = concat!("```\n", include_str!("../examples/quickstart.rs"), "```")]
struct Quickstart;
