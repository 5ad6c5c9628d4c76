//! Receiving work: what a worker holds when it dies is delivered again, to another
//! ([`ChannelOptions::redeliver`] has an example).

#[cfg(doc)]
use super::ChannelOptions;
use super::attached::{Attached, End};
use super::ends::Sender;
use super::{Channel, Mode, Redelivering, Unreceived, Unsent};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::ipc::held::Hold;
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::ring::{NotReceived, Ring};
use crate::ipc::structure::{Role, Structure};
use crate::ipc::wait::deadline;
use crate::matrix::heap::ThreadCache;
use crate::segment::region::MappedRegion;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl<T: Payload + ?Sized> Channel<T, Redelivering> {
    /// A worker, which counts as a receiver until it is dropped, or its process ends.
    ///
    /// # Errors
    /// [`Error::NoParticipantSlot`], [`Error::TooManyHandles`], [`Error::ForkedChild`].
    pub fn worker(&self) -> Result<Worker<T>> {
        Ok(Worker { end: End::new(&self.attached, Role::Receiver)?, of: PhantomData })
    }

    /// Messages that were received and not acknowledged: those that workers hold, and those that
    /// wait to be delivered again. About so many; none in a forked child, which has no part in it.
    pub fn unacknowledged(&self) -> (u64, u64) {
        self.attached.structure().map_or((0, 0), |structure| Ring::of(structure).holds())
    }
}

/// Receives messages of `T`, each of which is delivered again unless it is acknowledged. Any thread
/// may use it, and several at once. From [`Channel::worker`].
///
/// **At least once.** A message is in the channel until it is received, and its worker's until it
/// is acknowledged: by [`Delivery::ack`], [`Delivery::take`] or [`Delivery::forward`]. While its
/// worker lives nobody else gets it, however long that takes: no clock decides. If the delivery is
/// dropped, by a panic perhaps, or its worker's process dies at any instruction, it is delivered
/// again, before what is in the channel. [`Delivery::deliveries`] says that it is not the first
/// time.
///
/// **Sent on once.** Killed in [`Delivery::forward`], a worker has sent the message on, or it is
/// delivered again; never both.
///
/// **Poison.** A message that kills whoever works on it comes back for ever: look at
/// [`Delivery::deliveries`] first, and put it aside.
pub struct Worker<T: ?Sized> {
    end: End,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: Payload + ?Sized> Worker<T> {
    /// The segment's handler.
    pub fn handler(&self) -> &Handler {
        &self.end.attached.handler
    }

    /// Receives what is to be delivered again, or else the oldest message, if there is one now and
    /// fewer are held than the channel allows. Lock-free.
    ///
    /// # Errors
    /// [`Unreceived`]. [`Unreceived::AllHeld`] while as many are held as the channel allows; a worker
    /// that is stopped just before it receives counts as holding one. [`Unreceived::Closed`] and
    /// [`Unreceived::Disconnected`] only once no other thread holds anything: it may have to be delivered
    /// again.
    pub fn try_recv(&self) -> std::result::Result<Delivery<'_, T>, Unreceived> {
        match self.get() {
            Err(Unreceived::Empty) => match self.end.has_lost_the_others() {
                None => Err(Unreceived::Empty),
                // The last message may have come between the looks, or one may have been given
                // back.
                Some(died) => match self.get() {
                    Err(Unreceived::Empty) if self.others_hold()? => Err(Unreceived::Empty),
                    Err(Unreceived::Empty) => Err(Unreceived::Disconnected { died }),
                    got => got,
                },
            },
            got => got,
        }
    }

    /// As [`Worker::try_recv`], and waits for a message as long as it takes.
    ///
    /// A thread that waits while it holds deliveries does not wait for those; two that wait for
    /// each other's wait for ever, at the end of the channel. So does one that holds as many as the
    /// channel allows, while another message is there.
    ///
    /// # Errors
    /// As [`Worker::try_recv`]: neither [`Unreceived::Empty`] nor [`Unreceived::AllHeld`].
    pub fn recv(&self) -> std::result::Result<Delivery<'_, T>, Unreceived> {
        self.recv_until(None)
    }

    /// As [`Worker::recv`], until the time is over.
    ///
    /// # Errors
    /// As [`Worker::recv`], and [`Unreceived::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> std::result::Result<Delivery<'_, T>, Unreceived> {
        self.recv_until(deadline(timeout))
    }

    /// As [`Worker::recv`], until then, if that is given.
    ///
    /// # Errors
    /// As [`Worker::recv_timeout`].
    pub fn recv_until(&self, until: Option<Instant>) -> std::result::Result<Delivery<'_, T>, Unreceived> {
        match self.get() {
            Err(why) if why.may_come() => self.end.attached.get_patiently(until, || self.try_recv()),
            got => got,
        }
    }

    /// Deliveries as they come, until the channel is closed, or has no sender any more, and nothing
    /// is held by others.
    pub fn iter(&self) -> impl Iterator<Item = Delivery<'_, T>> {
        std::iter::from_fn(|| self.recv().ok())
    }

    pub(in crate::ipc) fn attached(&self) -> &Arc<Attached> {
        &self.end.attached
    }

    fn others_hold(&self) -> std::result::Result<bool, Unreceived> {
        let attached = &self.end.attached;
        let look = |cache: &mut ThreadCache, structure: Structure<'_, MappedRegion>| {
            Ring::of(structure).others_hold(cache.owner())
        };
        attached.with(look).map_err(|_| Unreceived::NoParticipant)
    }

    /// One try; wakes a sender.
    fn get(&self) -> std::result::Result<Delivery<'_, T>, Unreceived> {
        let attached = &self.end.attached;
        let get = |cache: &mut ThreadCache, structure: Structure<'_, MappedRegion>| {
            let got = Ring::of(structure).receive_held(cache.owner())?;
            structure.bell(Role::Sender).ring(1);
            Ok::<_, NotReceived>(got)
        };
        let (taken, hold) = attached.with(get).map_err(|_| Unreceived::NoParticipant)??;
        match Message::received(&attached.handler, taken) {
            Some(message) => Ok(Delivery { message: ManuallyDrop::new(message), hold, attached }),
            None => {
                if let Ok(structure) = attached.structure() {
                    Ring::of(structure).acknowledge(hold);
                }
                let _ = attached.handler.free_message(&attached.handler.pointer(taken.live));
                Err(Unreceived::OfAnotherType)
            }
        }
    }
}

/// A message that a [`Worker`] has received. Dropped, it is delivered again: acknowledge it when it
/// is done.
///
/// It is not written where it lies, since whoever gets it next has to find it as it was sent: see
/// [`Delivery::take`].
#[must_use = "dropped, it is delivered again"]
pub struct Delivery<'w, T: Payload + ?Sized> {
    message: ManuallyDrop<Message<'w, T>>,
    hold: Hold,
    attached: &'w Arc<Attached>,
}

impl<T: Payload + ?Sized> Deref for Delivery<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.message
    }
}
impl<T: Payload + ?Sized + std::fmt::Debug> std::fmt::Debug for Delivery<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Delivery").field(&&**self).finish()
    }
}

/// A delivery that was not sent on, and why.
pub struct ForwardError<'w, T: Payload + ?Sized> {
    /// The delivery: nothing is lost, and it is not acknowledged.
    pub delivery: Delivery<'w, T>,
    /// Why.
    pub why: Unsent,
}

impl<T: Payload + ?Sized> std::fmt::Debug for ForwardError<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardError").field("why", &self.why).finish_non_exhaustive()
    }
}

/// The delivery is dropped, and so delivered again.
impl<T: Payload + ?Sized> From<ForwardError<'_, T>> for Error {
    fn from(error: ForwardError<'_, T>) -> Self {
        Self::NotSent { why: error.why }
    }
}

impl<'w, T: Payload + ?Sized> Delivery<'w, T> {
    /// How often it was received, this time included: more than once if a worker has died with it,
    /// or dropped it. 31 is so often or more.
    pub fn deliveries(&self) -> u64 {
        self.hold.deliveries()
    }

    /// It is done: nobody gets it again, and it is freed.
    pub fn ack(self) {
        drop(self.take());
    }

    /// It is done, and the message is the caller's own from now on, to be written, kept or sent:
    /// nobody gets it again, and if its process dies it is freed.
    pub fn take(self) -> Message<'w, T> {
        let mut own = ManuallyDrop::new(self);
        own.acknowledge();
        // SAFETY: the delivery is never dropped, so the message is taken out once.
        unsafe { ManuallyDrop::take(&mut own.message) }
    }

    /// Sends it on as it lies, and waits for room as long as it takes: sent, it is done. Killed on
    /// the way, it is sent or delivered again, not both.
    ///
    /// # Errors
    /// [`ForwardError`] with the delivery: as [`Sender::send`].
    pub fn forward<M: Mode>(self, to: &Sender<T, M>) -> std::result::Result<(), ForwardError<'w, T>> {
        self.forward_until(to, None)
    }

    /// As [`Delivery::forward`], and waits for room until then, if that is given.
    ///
    /// # Errors
    /// [`ForwardError`] with the delivery: as [`Sender::send_until`].
    pub fn forward_until<M: Mode>(
        self,
        to: &Sender<T, M>,
        until: Option<Instant>,
    ) -> std::result::Result<(), ForwardError<'w, T>> {
        let put = || to.put(&self.message);
        let put = match put() {
            Err(Unsent::Full) => to.attached().put_patiently(until, put, || to.in_vain()),
            put => put,
        };
        match put {
            Ok(()) => {
                // The message is the other channel's by now.
                ManuallyDrop::new(self).acknowledge();
                Ok(())
            }
            Err(why) => Err(ForwardError { delivery: self, why }),
        }
    }

    fn acknowledge(&self) {
        // A forked child has no delivery: its parent has.
        if let Ok(structure) = self.attached.structure() {
            Ring::of(structure).acknowledge(self.hold);
        }
    }
}

impl<T: Payload + ?Sized> Drop for Delivery<'_, T> {
    fn drop(&mut self) {
        if let Ok(structure) = self.attached.structure() {
            Ring::of(structure).give_back(self.hold);
        }
    }
}
