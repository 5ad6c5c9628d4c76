//! Channels: bounded queues of messages between processes, found by name, any number of senders and receivers.
//!
//! ```
//! use atomic_matrix::matrix::core::AtomicMatrix;
//! use std::time::Duration;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = AtomicMatrix::options().memfd().size(1 << 20).create()?;
//! let orders = handler.channel::<[u64; 4]>("orders").capacity(1024).open_or_create()?;
//! let (sender, receiver) = (orders.sender()?, orders.receiver()?); // in this process or in another
//! sender.send_value([1, 2, 3, 4])?;
//! let order = receiver.recv_timeout(Duration::from_secs(1))?; // mine alone, where it lies; dropped, it is freed
//! assert_eq!(*order, [1, 2, 3, 4]);
//! # Ok(())
//! # }
//! ```
//!
//! A message is a block of the common heap, of any size that its type has ([`Message`](super::Message)):
//! `channel::<[u8]>` carries slices of any length. Sending and receiving moves its ownership, never its
//! bytes; so does sending it on.
//!
//! **Progress.** [`Sender::try_send`] and [`Receiver::try_recv`] are lock-free and need nobody else's step: a
//! process that is stopped or killed anywhere holds nobody up. The others sleep until there is room or a
//! message, 50 ms at the longest without looking again.
//!
//! **Killed.** A sender: its message is sent, or it is not and is freed, by a recovery, which any process
//! does in passing. A receiver: its message is in the channel, or it was the receiver's and is freed with it.
//! Nothing is lost or delivered twice otherwise, and nobody needs to do anything (`ipc::ring`, obligations Q1
//! to Q4).
//!
//! **One and one.** [`ChannelOptions::single`] makes a channel that has one sender and one receiver at a
//! time, each used by one thread at a time. A message then costs three locked instructions between its two
//! ends, where it costs six otherwise (`ipc::single`). Whoever comes second is refused
//! ([`Error::RoleTaken`](crate::Error::RoleTaken)) as long as the first one lives, and takes over when that
//! one has left or has died: what was sent and not received is there still, whoever died and where.
//!
//! ```
//! # use atomic_matrix::Error;
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let line = handler.channel::<u64>("line").capacity(256).single().open_or_create()?;
//! let (sender, receiver) = (line.sender()?, line.receiver()?);
//! assert!(matches!(line.sender(), Err(Error::RoleTaken { role: "sender", .. })));
//! let mut batch: Vec<_> = (0..3).map(|k| handler.message_of(k)).collect::<Result<_, _>>()?;
//! sender.send_many(&mut batch)?; // one call wakes the receiver for all of them
//! assert_eq!(receiver.try_iter().map(|message| *message).sum::<u64>(), 3);
//! # Ok::<(), atomic_matrix::Error>(())
//! ```
//!
//! **Batches** ([`Sender::send_many`], [`Receiver::recv_many`]) ring once and move the tail or the head once
//! for all that they find room for, or find there; each message is sent or received by a step of its own, so
//! a batch whose sender or receiver is killed is sent or received as far as it came.
//!
//! **Work that must be done** although who does it may die: [`ChannelOptions::redeliver`]. What a
//! [`Worker`] has received and not acknowledged when its process dies is delivered again, to another, and
//! so is what it drops; see the example there.
//!
//! **Limits.** 1 to 2^20 messages (a power of two), 8 bytes each and 8 for each participant slot; 65 535
//! senders and as many receivers in one process.

pub(super) mod attached;
mod ends;
mod error;
#[cfg(test)]
mod tests;
mod worker;
#[cfg(test)]
mod worker_tests;

pub use ends::{Messages, Receiver, Sender};
pub use error::{SendError, Unreceived, Unsent};
pub use worker::{Delivery, ForwardError, Worker};

use super::payload::Payload;
use super::ring::Ring;
use super::structure::{MAX_CELLS_SHIFT, Role, Shape};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use attached::{Attached, End, MAKING_WAIT};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

mod mode {
    use crate::ipc::structure::Sort;

    /// How many may send and receive at a time.
    pub trait Mode {
        /// What structure that is.
        #[doc(hidden)]
        const SORT: Sort;
    }
    impl Mode for super::Many {
        const SORT: Sort = Sort::Channel;
    }
    impl Mode for super::Single {
        const SORT: Sort = Sort::Single;
    }
    impl Mode for super::Redelivering {
        const SORT: Sort = Sort::Redelivering;
    }

    /// Where whoever receives a message is the only one who ever does.
    #[diagnostic::on_unimplemented(
        message = "a channel that redelivers has workers, not receivers",
        note = "`channel.worker()` gives one; its deliveries are acknowledged"
    )]
    pub trait Once: Mode {}
    impl Once for super::Many {}
    impl Once for super::Single {}
}
pub(in crate::ipc) use mode::{Mode, Once};

/// Messages of `T`, with so many senders and receivers.
pub(super) type Of<T, M> = PhantomData<(fn() -> Box<T>, M)>;

/// Of a [`Channel`]: any number of senders and receivers, each of which any number of threads may use.
#[derive(Debug)]
pub struct Many;

/// Of a [`Channel`]: one sender and one receiver at a time, each of which one thread uses at a time.
#[derive(Debug)]
pub struct Single {
    _one_thread: PhantomData<std::cell::Cell<()>>,
}

/// Of a [`Channel`]: any number of senders, and of [`Worker`]s, of which each has to acknowledge what it receives.
#[derive(Debug)]
pub struct Redelivering;

/// How a channel is opened; from [`Handler::channel`].
#[must_use = "a channel is opened by `open`, `create` or `open_or_create`"]
pub struct ChannelOptions<'h, T: ?Sized, M = Many> {
    handler: &'h Handler,
    name: Option<String>,
    capacity: usize,
    holds: u16,
    of: Of<T, M>,
}

impl Handler {
    /// The channel of that name, for messages of `T`: to be opened or created.
    pub fn channel<T: Payload + ?Sized>(&self, name: &str) -> ChannelOptions<'_, T> {
        ChannelOptions { handler: self, name: Some(name.to_owned()), capacity: 64, holds: 0, of: PhantomData }
    }

    /// A channel without a name, to be created: [`Handler::open_ref`] says what leads to it, and how long it stays.
    pub fn unnamed_channel<T: Payload + ?Sized>(&self) -> ChannelOptions<'_, T> {
        ChannelOptions { handler: self, name: None, capacity: 64, holds: 0, of: PhantomData }
    }
}

impl<'h, T: Payload + ?Sized> ChannelOptions<'h, T> {
    /// For one sender and one receiver at a time, which need fewer locked instructions: see the module's page.
    pub fn single(self) -> ChannelOptions<'h, T, Single> {
        self.of_mode(0)
    }

    /// For work that must be done although workers die: what a [`Worker`] has received and not acknowledged is
    /// delivered again if it dies (at least once). So many messages may be held at a time, by all workers together,
    /// if the channel is created: 1 to 65 535, 8 bytes each. Receiving costs two accesses more, one of them locked, and
    /// acknowledging one.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let jobs = handler.channel::<u64>("jobs").redeliver(64).open_or_create()?;
    /// jobs.sender()?.send_value(7)?;
    /// let worker = jobs.worker()?; // in this process or in another, as many as you like
    /// let job = worker.recv()?;
    /// assert_eq!((*job, job.deliveries()), (7, 1));
    /// drop(job); // not acknowledged, as if its worker had been killed here
    /// let job = worker.recv()?;
    /// assert_eq!((*job, job.deliveries()), (7, 2), "the second try");
    /// job.ack(); // done: nobody gets it again
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    pub fn redeliver(self, held: u16) -> ChannelOptions<'h, T, Redelivering> {
        self.of_mode(held)
    }

    fn of_mode<M>(self, holds: u16) -> ChannelOptions<'h, T, M> {
        let Self { handler, name, capacity, .. } = self;
        ChannelOptions { handler, name, capacity, holds, of: PhantomData }
    }
}

impl<T: Payload + ?Sized, M: Mode> ChannelOptions<'_, T, M> {
    /// How many messages it has room for, if it is created: rounded up to a power of two, at most 2^20; 64
    /// unless said otherwise.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    fn shape(&self) -> Result<Shape> {
        let cells_shift = self.capacity.checked_next_power_of_two().map_or(u32::MAX, usize::trailing_zeros);
        if self.capacity == 0 || cells_shift > MAX_CELLS_SHIFT {
            let found = self.capacity.to_string();
            return Err(Error::BadOption { option: "capacity", found, allowed: "1 to 1048576 messages" });
        }
        let shape = Shape { sort: M::SORT, cells_shift, readers: self.holds, content: T::FINGERPRINT };
        if shape.has_holds() && self.holds == 0 {
            let found = self.holds.to_string();
            return Err(Error::BadOption { option: "redeliver", found, allowed: "1 to 65535 messages held" });
        }
        Ok(shape)
    }

    /// Opens it; it must be there.
    ///
    /// # Errors
    /// [`Error::NameUnknown`]; [`Error::TypeMismatch`] if what has that name is no channel of this type;
    /// [`Error::ChangingHands`] if it is just being made for half a second; [`Error::NameTooLong`];
    /// [`Error::BadOption`] for the empty name or an option that [`ChannelOptions::create`] refuses;
    /// [`Error::NoParticipantSlot`], [`Error::TooManyHandles`], [`Error::ForkedChild`].
    pub fn open(self) -> Result<Channel<T, M>> {
        let name = self.name.as_deref().unwrap_or_default();
        let found = Attached::find::<Channel<T, M>>(self.handler, name, self.shape()?)?;
        found.map(Channel::of).ok_or_else(|| Error::NameUnknown { name: name.to_owned() })
    }

    /// Creates it; the name, if it has one, must be free.
    ///
    /// # Errors
    /// [`Error::NameTaken`], and others as [`Handler::publish`] and [`Handler::allocate_raw`];
    /// [`Error::BadOption`] for the capacity.
    pub fn create(self) -> Result<Channel<T, M>> {
        Attached::make(self.handler, self.name.as_deref(), self.shape()?).map(Channel::of)
    }

    /// Opens it, or creates it if it is not there, however many processes call this at the same moment.
    ///
    /// # Errors
    /// As [`ChannelOptions::open`] and [`ChannelOptions::create`], but for [`Error::NameUnknown`] and
    /// [`Error::NameTaken`].
    pub fn open_or_create(self) -> Result<Channel<T, M>> {
        let shape = self.shape()?;
        let begun = Instant::now();
        loop {
            if let Some(name) = &self.name
                && let Some(found) = Attached::find::<Channel<T, M>>(self.handler, name, shape)?
            {
                return Ok(Channel::of(found));
            }
            match Attached::make(self.handler, self.name.as_deref(), shape) {
                Err(Error::NameTaken { .. }) if begun.elapsed() < MAKING_WAIT => {}
                made => return made.map(Channel::of),
            }
        }
    }
}

/// A channel that this process has open. Clones and its senders and receivers share it; the last one to be
/// dropped leaves it.
///
/// It stays in the segment, with its messages, when nobody has it open: until it is removed
/// ([`Channel::remove`]) or the segment is.
pub struct Channel<T: ?Sized, M = Many> {
    pub(in crate::ipc) attached: Arc<Attached>,
    of: PhantomData<fn() -> Of<T, M>>,
}

impl<T: ?Sized, M> Clone for Channel<T, M> {
    fn clone(&self) -> Self {
        Self { attached: self.attached.clone(), of: PhantomData }
    }
}

impl<T: Payload + ?Sized, M: Mode> Channel<T, M> {
    pub(in crate::ipc) fn of(attached: Arc<Attached>) -> Self {
        Self { attached, of: PhantomData }
    }

    /// A sender. It counts as one until it is dropped, or its process ends.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] if the channel has one sender at a time, and that one lives; [`Error::NoParticipantSlot`],
    /// [`Error::TooManyHandles`], [`Error::ForkedChild`].
    pub fn sender(&self) -> Result<Sender<T, M>> {
        Ok(Sender { end: End::new(&self.attached, Role::Sender)?, of: PhantomData })
    }
    /// A receiver. It counts as one until it is dropped, or its process ends.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] if the channel has one receiver at a time, and that one lives;
    /// [`Error::NoParticipantSlot`], [`Error::TooManyHandles`], [`Error::ForkedChild`].
    pub fn receiver(&self) -> Result<Receiver<T, M>>
    where
        M: Once,
    {
        Ok(Receiver { end: End::new(&self.attached, Role::Receiver)?, of: PhantomData })
    }

    /// Messages that it has room for.
    pub fn capacity(&self) -> usize {
        self.attached.shape.cells()
    }
    /// Messages in it: exact when nobody is inside a call. 0 in a forked child, which has no part in it.
    pub fn len(&self) -> usize {
        self.attached.structure().map_or(0, |structure| Ring::of(structure).len() as usize)
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Senders that there are now, in all processes, and receivers. None in a forked child, which has no part in it.
    pub fn ends(&self) -> (u64, u64) {
        let count = |role| self.attached.structure().map_or(0, |structure| structure.count(role));
        (count(Role::Sender), count(Role::Receiver))
    }

    /// Nobody sends any more, in any process: sends are refused, receivers get what is in it, then
    /// [`Unreceived::Closed`]. It can't be opened again: remove it. Nothing happens in a forked child, which
    /// has no part in it.
    pub fn close(&self) {
        let Ok(structure) = self.attached.structure() else { return };
        Ring::of(structure).close();
        [Role::Sender, Role::Receiver].iter().for_each(|&role| structure.bell(role).ring(u32::MAX));
    }

    /// Takes its name away and closes it. Whoever has it open may receive what is in it; the last one to
    /// leave frees it, with what nobody received. A channel of the same name may be created at once.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn remove(&self) -> Result<()> {
        // First: a name of what is REMOVED is withdrawn by whoever finds it, but what has no name is found by nobody.
        self.attached.structure()?.remove();
        self.close();
        self.attached.withdraw()?;
        Ok(())
    }
}
