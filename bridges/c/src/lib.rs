//! AtomicMatrix for C: each function of the header is one of this crate, which checks its
//! arguments, calls the library, and turns what comes back into a code with a text.
//!
//! Each file is one theme: `segment` (attach and create), `block` and `message` (memory), `name`,
//! `channel`, `topic`, `board`, `map`, `service`, `stream`, `event` (what processes talk with), `readable` (descriptors for
//! epoll), `status` (errors), `call` (the boundary).
//!
//! **The boundary.** Arguments are references and boxes that may be null: `Option<&T>`,
//! `Option<Box<T>>`. So a null pointer is refused with [`amx_status::AmxBadArgument`], and the
//! caller in C vouches for the others, as the header's first page says: they come from this
//! library, are used no more after their `close`, and what is written to is the caller's. A panic
//! ends at the boundary, as [`amx_status::AmxPanic`].
#![allow(non_camel_case_types, reason = "the names are C's")]

mod block;
mod board;
mod call;
mod channel;
mod event;
mod map;
mod message;
mod name;
mod readable;
mod segment;
mod service;
mod status;
mod stream;
mod topic;

pub use block::*;
pub use board::*;
pub use channel::*;
pub use event::*;
pub use map::*;
pub use message::*;
pub use name::*;
pub use readable::*;
pub use segment::*;
pub use service::*;
pub use status::*;
pub use stream::*;
pub use topic::*;
