//! Python's way into AtomicMatrix: the extension module `atomic_matrix._native`.
//!
//! Every call is one of the library's. What is added is lifetimes without a borrow checker (`held`), waiting
//! without the interpreter's lock (`wait`), and descriptors for asyncio (`aio`). The documentation of classes
//! and methods is in `_native.pyi`.
#![allow(missing_docs, reason = "what Python sees is documented in _native.pyi")]
#![allow(unsafe_op_in_unsafe_fn, reason = "what pyo3's macros make of the buffer protocol's two calls")]

mod aio;
mod board;
mod channel;
mod error;
mod held;
mod map;
mod message;
mod open;
mod process;
mod segment;
mod service;
mod topic;
mod wait;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::aio::Bell;
    #[pymodule_export]
    use super::board::Board;
    #[pymodule_export]
    use super::channel::{Channel, Receiver, Sender};
    #[pymodule_export]
    use super::map::{Map, Value};
    #[pymodule_export]
    use super::message::Message;
    #[pymodule_export]
    use super::segment::Segment;
    #[pymodule_export]
    use super::service::{Client, Request, Responses, Server, Service};
    #[pymodule_export]
    use super::topic::{Sample, Subscriber, Topic};
}
