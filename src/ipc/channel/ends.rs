//! The two ends of a channel.

use super::attached::{Attached, End};
use super::{Many, Mode, Of, SendError, Unreceived, Unsent};
use crate::error::Result;
use crate::handlers::Handler;
use crate::ipc::link::Taken;
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::ring::{NotReceived, Ring};
use crate::ipc::structure::{Role, Structure};
use crate::ipc::wait::deadline;
use crate::matrix::heap::ThreadCache;
use crate::segment::region::MappedRegion;
use crate::shared::InPlace;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sends messages of `T`. Any thread may use it, and several at once; a thread at a time, if it is the only
/// sender (`ChannelOptions::single`).
pub struct Sender<T: ?Sized, M = Many> {
    pub(super) end: End,
    pub(super) of: Of<T, M>,
}

impl<T: Payload + ?Sized, M: Mode> Sender<T, M> {
    /// The segment's handler, to allocate messages with.
    pub fn handler(&self) -> &Handler {
        &self.end.attached.handler
    }

    /// Sends, if there is room now. Lock-free; the message is not copied.
    ///
    /// A message that another thread has allocated is made this thread's first, which takes microseconds.
    ///
    /// # Errors
    /// [`SendError`] with the message.
    #[inline]
    pub fn try_send<'h>(&self, message: Message<'h, T>) -> std::result::Result<(), SendError<'h, T>> {
        let put = self.put(&message);
        message.sent(put)
    }

    /// Sends, and waits for room as long as it takes.
    ///
    /// # Errors
    /// [`SendError`] with the message: not [`Unsent::Full`], nor [`Unsent::Timeout`].
    #[inline]
    pub fn send<'h>(&self, message: Message<'h, T>) -> std::result::Result<(), SendError<'h, T>> {
        self.send_until(message, None)
    }

    /// Sends, and waits for room until the time is over.
    ///
    /// # Errors
    /// [`SendError`] with the message: not [`Unsent::Full`].
    pub fn send_timeout<'h>(
        &self,
        message: Message<'h, T>,
        timeout: Duration,
    ) -> std::result::Result<(), SendError<'h, T>> {
        self.send_until(message, deadline(timeout))
    }

    /// Sends, and waits for room until then, if that is given.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`].
    pub fn send_until<'h>(
        &self,
        message: Message<'h, T>,
        until: Option<Instant>,
    ) -> std::result::Result<(), SendError<'h, T>> {
        let in_vain = || self.in_vain();
        let put = match self.put(&message) {
            Err(Unsent::Full) => self.end.attached.put_patiently(until, || self.put(&message), in_vain),
            put => put,
        };
        message.sent(put)
    }

    /// Sends messages in their order, from the first on, as many as there is room for now: how many. They are
    /// taken out of the vector; the others stay in it. Lock-free; O(messages), and one wake-up for all of
    /// them.
    ///
    /// # Errors
    /// [`Unsent`], if none was sent and there is one.
    pub fn try_send_many(&self, messages: &mut Vec<Message<'_, T>>) -> std::result::Result<usize, Unsent> {
        let (sent, why) = self.put_many(messages);
        match why {
            Err(why) if sent == 0 => Err(why),
            _ => Ok(sent),
        }
    }

    /// Sends all of these messages in their order, and waits for room as long as it takes.
    ///
    /// # Errors
    /// [`Unsent`]: not [`Unsent::Full`], nor [`Unsent::Timeout`]. Those that were not sent are in the vector still.
    pub fn send_many(&self, messages: &mut Vec<Message<'_, T>>) -> std::result::Result<(), Unsent> {
        self.send_many_until(messages, None)
    }

    /// As [`Sender::send_many`], and waits for room until then, if that is given.
    ///
    /// # Errors
    /// As [`Sender::send_many`], and [`Unsent::Timeout`].
    pub fn send_many_until(
        &self,
        messages: &mut Vec<Message<'_, T>>,
        until: Option<Instant>,
    ) -> std::result::Result<(), Unsent> {
        match self.put_many(messages).1 {
            Err(Unsent::Full) => {
                let in_vain = || self.in_vain();
                self.end.attached.put_patiently(until, || self.put_many(messages).1, in_vain)
            }
            sent => sent,
        }
    }

    /// One try; wakes as many receivers as there are messages.
    fn put_many(&self, messages: &mut Vec<Message<'_, T>>) -> (usize, std::result::Result<(), Unsent>) {
        let attached = &self.end.attached;
        let (sent, why) = attached.put_many(messages);
        messages.drain(..sent).for_each(|message| _ = message.forget());
        (sent, why)
    }

    /// Why nobody will make room, if that is so.
    pub(in crate::ipc) fn in_vain(&self) -> Option<Unsent> {
        self.end.has_lost_the_others().map(|died| Unsent::Disconnected { died })
    }
    pub(in crate::ipc) fn attached(&self) -> &Arc<Attached> {
        &self.end.attached
    }

    /// One try; wakes a receiver.
    #[inline]
    pub(super) fn put(&self, message: &Message<'_, T>) -> std::result::Result<(), Unsent> {
        self.end.attached.put(message, 1, |cache, structure, live| Ring::of(structure).send(cache.owner(), live))
    }
}

impl<T: InPlace, M: Mode> Sender<T, M> {
    /// Allocates a message for the value and sends it, and waits for room as long as it takes.
    ///
    /// # Errors
    /// As [`Sender::send`] and [`Handler::message`].
    #[inline]
    pub fn send_value(&self, value: T) -> Result<()> {
        Ok(self.send(self.handler().message_of(value)?)?)
    }

    /// As [`Sender::send_value`], if there is room now. Lock-free.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// # let orders = handler.channel::<u64>("orders").capacity(1).create()?;
    /// # let (sender, _receiver) = (orders.sender()?, orders.receiver()?);
    /// use atomic_matrix::{Error, ipc::Unsent};
    /// sender.try_send_value(7)?;
    /// assert!(matches!(sender.try_send_value(8), Err(Error::NotSent { why: Unsent::Full })));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Sender::try_send`] and [`Handler::message`].
    #[inline]
    pub fn try_send_value(&self, value: T) -> Result<()> {
        Ok(self.try_send(self.handler().message_of(value)?)?)
    }

    /// As [`Sender::send_value`], and waits for room until the time is over.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`] and [`Handler::message`].
    pub fn send_value_timeout(&self, value: T, timeout: Duration) -> Result<()> {
        Ok(self.send_timeout(self.handler().message_of(value)?, timeout)?)
    }
}

impl<'h, T: Payload + ?Sized> Message<'h, T> {
    /// Sends it on, as it lies: [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn forward<M: Mode>(self, to: &Sender<T, M>) -> std::result::Result<(), SendError<'h, T>> {
        to.send(self)
    }
}

/// Receives messages of `T`. Any thread may use it, and several at once: each message goes to one of them. A
/// thread at a time, if it is the only receiver (`ChannelOptions::single`).
pub struct Receiver<T: ?Sized, M = Many> {
    pub(super) end: End,
    pub(super) of: Of<T, M>,
}

impl<T: Payload + ?Sized, M: Mode> Receiver<T, M> {
    /// The segment's handler.
    pub fn handler(&self) -> &Handler {
        &self.end.attached.handler
    }

    /// Receives the oldest message, if there is one now. Lock-free.
    ///
    /// # Errors
    /// [`Unreceived`].
    #[inline]
    pub fn try_recv(&self) -> std::result::Result<Message<'_, T>, Unreceived> {
        self.unless_disconnected(|| self.get())
    }

    /// What `get` finds, or that nothing will come any more.
    #[inline]
    fn unless_disconnected<V>(
        &self,
        mut get: impl FnMut() -> std::result::Result<V, Unreceived>,
    ) -> std::result::Result<V, Unreceived> {
        match get() {
            Err(Unreceived::Empty) => match self.end.has_lost_the_others() {
                None => Err(Unreceived::Empty),
                // The last message may have come between the looks at the ring and at the senders.
                Some(died) => match get() {
                    Err(Unreceived::Empty) => Err(Unreceived::Disconnected { died }),
                    got => got,
                },
            },
            got => got,
        }
    }

    /// Receives the oldest message, and waits for one as long as it takes.
    ///
    /// # Errors
    /// [`Unreceived`]: not [`Unreceived::Empty`], nor [`Unreceived::Timeout`].
    #[inline]
    pub fn recv(&self) -> std::result::Result<Message<'_, T>, Unreceived> {
        self.recv_until(None)
    }

    /// Receives the oldest message, and waits for one until the time is over.
    ///
    /// # Errors
    /// [`Unreceived`]: not [`Unreceived::Empty`].
    pub fn recv_timeout(&self, timeout: Duration) -> std::result::Result<Message<'_, T>, Unreceived> {
        self.recv_until(deadline(timeout))
    }

    /// Receives the oldest message, and waits for one until then, if that is given.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    pub fn recv_until(&self, until: Option<Instant>) -> std::result::Result<Message<'_, T>, Unreceived> {
        match self.get() {
            Err(Unreceived::Empty) => self.wait(until),
            got => got,
        }
    }

    /// Messages as they come, until the channel is closed, or has no sender any more.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_, T>> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The messages that there are now, from the oldest on, and those that come while they are looked at; it
    /// ends where there is none.
    pub fn try_iter(&self) -> impl Iterator<Item = Message<'_, T>> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Receives as many as `most` of the oldest messages that there are now, behind what is in the vector:
    /// how many. Lock-free; O(messages).
    ///
    /// # Errors
    /// [`Unreceived`], if none was received. A message of another type is freed, and counts as none.
    pub fn try_recv_many<'r>(
        &'r self,
        most: usize,
        into: &mut Vec<Message<'r, T>>,
    ) -> std::result::Result<usize, Unreceived> {
        self.unless_disconnected(|| self.get_many(most, into))
    }

    /// Receives as many as `most` of the oldest messages, and waits for the first one as long as it takes.
    ///
    /// # Errors
    /// As [`Receiver::recv`]. With `most` 0: none is received, at once.
    pub fn recv_many<'r>(
        &'r self,
        most: usize,
        into: &mut Vec<Message<'r, T>>,
    ) -> std::result::Result<usize, Unreceived> {
        self.recv_many_until(most, into, None)
    }

    /// As [`Receiver::recv_many`], and waits for the first one until then, if that is given.
    ///
    /// # Errors
    /// As [`Receiver::recv_many`], and [`Unreceived::Timeout`].
    pub fn recv_many_until<'r>(
        &'r self,
        most: usize,
        into: &mut Vec<Message<'r, T>>,
        until: Option<Instant>,
    ) -> std::result::Result<usize, Unreceived> {
        match self.get_many(most, into) {
            Err(Unreceived::Empty) => self.end.attached.get_patiently(until, || self.try_recv_many(most, into)),
            got => got,
        }
    }

    /// One try; wakes as many senders as there is room for.
    fn get_many<'r>(&'r self, most: usize, into: &mut Vec<Message<'r, T>>) -> std::result::Result<usize, Unreceived> {
        if most == 0 {
            return Ok(0);
        }
        let mut taken = Vec::with_capacity(most.min(self.end.attached.shape.cells()));
        let get = |cache: &mut ThreadCache, structure: Structure<'_, MappedRegion>| {
            let got = Ring::of(structure).receive_many(cache.owner(), most, |one| taken.push(one))?;
            structure.bell(Role::Sender).ring(got as u32);
            Ok::<_, NotReceived>(())
        };
        let got = self.end.attached.with(get).map_err(|_| Unreceived::NoParticipant)?;
        got?;
        let before = into.len();
        into.extend(taken.into_iter().filter_map(|taken| self.message(taken).ok()));
        if into.len() == before { Err(Unreceived::OfAnotherType) } else { Ok(into.len() - before) }
    }

    fn wait(&self, until: Option<Instant>) -> std::result::Result<Message<'_, T>, Unreceived> {
        self.end.attached.get_patiently(until, || self.try_recv())
    }

    pub(in crate::ipc) fn attached(&self) -> &Arc<Attached> {
        &self.end.attached
    }

    /// One try; wakes a sender.
    #[inline]
    fn get(&self) -> std::result::Result<Message<'_, T>, Unreceived> {
        let get = |cache: &mut ThreadCache, structure: Structure<'_, MappedRegion>| {
            let taken = Ring::of(structure).receive(cache.owner())?;
            structure.bell(Role::Sender).ring(1);
            Ok::<_, NotReceived>(taken)
        };
        let got = self.end.attached.with(get).map_err(|_| Unreceived::NoParticipant)?;
        self.message(got?)
    }

    #[inline]
    fn message(&self, taken: Taken) -> std::result::Result<Message<'_, T>, Unreceived> {
        let handler = &self.end.attached.handler;
        Message::received(handler, taken).ok_or_else(|| {
            let _ = handler.free_message(&handler.pointer(taken.live));
            Unreceived::OfAnotherType
        })
    }
}

impl<'r, T: Payload + ?Sized, M: Mode> IntoIterator for &'r Receiver<T, M> {
    type Item = Message<'r, T>;
    type IntoIter = Messages<'r, T, M>;
    fn into_iter(self) -> Messages<'r, T, M> {
        Messages(self)
    }
}

/// Messages as they come: see [`Receiver::iter`].
pub struct Messages<'r, T: ?Sized, M = Many>(&'r Receiver<T, M>);

impl<'r, T: Payload + ?Sized, M: Mode> Iterator for Messages<'r, T, M> {
    type Item = Message<'r, T>;
    fn next(&mut self) -> Option<Message<'r, T>> {
        self.0.recv().ok()
    }
}
