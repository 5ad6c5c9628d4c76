//! What processes talk with: structures in the segment that no death can break.
//!
//! - [`Channel`], [`Sender`], [`Receiver`]: a bounded queue of messages, for any number of processes;
//! - [`Worker`], [`Delivery`]: what a worker holds when it dies is delivered again;
//! - [`Topic`], [`Subscriber`]: every subscriber sees every publication, where it lies ([`Samples`]: several
//!   at once); [`Board`]: the latest value;
//! - [`LossySubscriber`]: copies of what is published, for who must hold nobody up;
//! - [`Map`]: values under keys, inserted, replaced and taken in one step;
//! - [`Service`], [`Client`], [`Server`]: requests and responses, each side told of the other's end;
//! - [`Mutex`], [`Event`], [`Semaphore`], [`Barrier`]: with a bound on each wait, and poisoning;
//! - [`Common`]: a value with atomics, which all who have it open use where it lies;
//! - [`Message`]: a block without `unsafe`, filled where it lies; [`Ref`]: what leads to it, in 64 bits;
//!   [`Framed`]: a header in front of items; [`Ref::to`]: what leads to a structure, which then needs no name;
//! - [`Text`], [`Slice`] and a [`Builder`] that grows: values of any length;
//! - [`ReadOnly`]: a segment that can be looked at and not be changed;
//! - [`Unbound`]: a message without its handler, for bindings to other languages;
//! - [`ParticipantId`]: who is alive; [`Watch`]: notice of a death;
//! - [`Select`]: waiting for several of them; `recv_async` and its like, for any runtime; [`Readable`], for epoll.
//!
//! Where one starts: [`Handler::message`](crate::Handler::message).
//!
//! From the ground up; each file uses those above it:
//!
//! - `sort`: what sorts of structures there are; `wait`: sleeping until somebody has put something, with a bound;
//! - `link`: the lemma that carries every structure: ownership of a block moves *with* the operation, by one
//!   compare-and-swap;
//! - `structure`: how a structure is made, and who uses it;
//! - `ring`: the bounded queue with many senders and receivers; `held`: what its receivers hold; `single`: the
//!   ring of one sender and one receiver;
//! - `log`: the last publications, which all read; `table`: blocks under keys;
//! - `reclaim`: who may write a structure, and when its block is freed; `settle`: what a recovery does with it;
//! - `call`: requests and responses; `sync`: locks, events, semaphores, barriers;
//! - `payload`: what a message can hold; `message`: a block without `unsafe`; `unbound`: one without its handler;
//! - `text`, `containers`: values of any length; `room`: what stands behind a value; `copied`, `iteration`, `names`:
//!   values read, visited, and under names;
//! - `channel`; `topic`, `board`, `sample`, `lossy`: what is published, in order, the latest, held, copied; `map`;
//!   `service`;
//! - `liveness`: who is alive; `named`: locks and their like by name; `common`: values with atomics; `reference`:
//!   structures by reference; `inspect`, `read_only`: looking without changing;
//! - `several`: waiting at several bells; `helper`: the thread that sleeps for `future`; `select`, `descriptor`;
//!   `watch`: notice of a death.

#[cfg(test)]
mod bells;
#[doc(hidden)]
pub mod board;
#[cfg(feature = "internals")]
pub mod call;
#[cfg(not(feature = "internals"))]
pub(crate) mod call;
#[doc(hidden)]
pub mod channel;
#[doc(hidden)]
pub mod common;
#[cfg(feature = "allocator-api2")]
#[doc(hidden)]
pub mod containers;
mod copied;
#[doc(hidden)]
pub mod descriptor;
#[doc(hidden)]
pub mod future;
#[cfg(feature = "internals")]
pub mod held;
#[cfg(not(feature = "internals"))]
pub(crate) mod held;
#[cfg(feature = "internals")]
pub mod helper;
#[cfg(not(feature = "internals"))]
pub(crate) mod helper;
#[doc(hidden)]
pub mod inspect;
mod iteration;
#[cfg(feature = "internals")]
pub mod link;
#[cfg(not(feature = "internals"))]
pub(crate) mod link;
#[doc(hidden)]
pub mod liveness;
#[cfg(feature = "internals")]
pub mod log;
#[cfg(not(feature = "internals"))]
pub(crate) mod log;
#[doc(hidden)]
pub mod lossy;
#[doc(hidden)]
pub mod map;
#[doc(hidden)]
pub mod message;
#[doc(hidden)]
pub mod named;
mod names;
#[cfg(test)]
mod nap_tests;
#[doc(hidden)]
pub mod payload;
#[doc(hidden)]
pub mod read_only;
mod reclaim;
#[doc(hidden)]
pub mod reference;
#[cfg(feature = "internals")]
pub mod ring;
#[cfg(not(feature = "internals"))]
pub(crate) mod ring;
mod room;
#[doc(hidden)]
pub mod sample;
#[doc(hidden)]
pub mod select;
#[doc(hidden)]
pub mod service;
#[cfg(feature = "internals")]
pub mod settle;
#[cfg(not(feature = "internals"))]
pub(crate) mod settle;
#[cfg(feature = "internals")]
pub mod several;
#[cfg(not(feature = "internals"))]
pub(crate) mod several;
mod single;
pub(crate) mod sort;
#[cfg(test)]
mod steps_tests;
#[cfg(feature = "internals")]
pub mod structure;
#[cfg(not(feature = "internals"))]
pub(crate) mod structure;
#[cfg(feature = "internals")]
pub mod sync;
#[cfg(not(feature = "internals"))]
pub(crate) mod sync;
#[cfg(feature = "internals")]
pub mod table;
#[cfg(not(feature = "internals"))]
pub(crate) mod table;
#[cfg(test)]
mod testing;
#[doc(hidden)]
pub mod text;
#[doc(hidden)]
pub mod topic;
#[doc(hidden)]
pub mod unbound;
#[cfg(test)]
mod values_tests;
#[cfg(feature = "internals")]
pub mod wait;
#[cfg(not(feature = "internals"))]
pub(crate) mod wait;
#[cfg(test)]
mod waiting_tests;
#[doc(hidden)]
pub mod watch;

#[doc(inline)]
pub use board::Board;
#[doc(inline)]
pub use channel::{
    Channel, ChannelOptions, Delivery, ForwardError, Many, Messages, Receiver, Redelivering, SendError, Sender, Single,
    Unreceived, Unsent, Worker,
};
#[doc(inline)]
pub use common::Common;
#[cfg(feature = "allocator-api2")]
#[doc(inline)]
pub use containers::{MessageAllocator, MessageVec};
#[doc(inline)]
pub use descriptor::Readable;
#[doc(inline)]
pub use future::{Publish, Sending};
#[doc(inline)]
pub use inspect::{ContentInfo, StructureInfo, Users};
#[doc(inline)]
pub use liveness::ParticipantId;
#[doc(inline)]
pub use lossy::{Copied, LossySubscriber};
#[doc(inline)]
pub use map::{Displaced, Entry, InsertError, Map, MapOptions, Refused};
#[doc(inline)]
pub use message::{Message, Ref};
#[doc(inline)]
pub use named::{Barrier, Event, Mutex, MutexGuard, Semaphore};
#[doc(inline)]
pub use payload::{Framed, Payload, Referred};
#[doc(inline)]
pub use read_only::{ReadOnly, SegmentInfo};
#[doc(inline)]
pub use reference::Structural;
#[doc(inline)]
pub use sample::{Sample, Samples};
#[doc(inline)]
pub use select::Select;
#[doc(inline)]
pub use service::{
    CallError, Client, Failed, Request, RespondError, Responses, Server, Service, ServiceOptions, Unanswered,
};
#[doc(inline)]
pub use text::{Builder, Slice, Text};
#[doc(inline)]
pub use topic::{Reading, Subscriber, Topic, TopicOptions};
#[doc(inline)]
pub use unbound::Unbound;
#[doc(inline)]
pub use watch::Watch;

#[doc(inline)]
pub use crate::segment::Ended;
