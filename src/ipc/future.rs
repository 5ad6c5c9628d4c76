//! Futures: what waits, for any runtime.
//!
//! ```
//! # use std::task::{Context, Poll, Waker};
//! # fn block_on<F: Future>(future: F) -> F::Output {
//! #     struct Unpark(std::thread::Thread);
//! #     impl std::task::Wake for Unpark { fn wake(self: std::sync::Arc<Self>) { self.0.unpark() } }
//! #     let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
//! #     let mut future = std::pin::pin!(future);
//! #     loop {
//! #         if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) { return done }
//! #         std::thread::park();
//! #     }
//! # }
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! # let orders = handler.channel::<u64>("orders").create()?;
//! # let (sender, receiver) = (orders.sender()?, orders.receiver()?);
//! # block_on(async {
//! sender.send_async(handler.message_of(7)?).await?;
//! let order = receiver.recv_async().await?;
//! assert_eq!(*order, 7);
//! # Ok::<(), atomic_matrix::Error>(())
//! # })?;
//! # Ok::<(), atomic_matrix::Error>(())
//! ```
//!
//! They need no runtime of their own and no timer: a helper thread of this process sleeps for them
//! (`ipc::helper`), which is started when the first one has to wait.
//!
//! **Cancelling.** A future takes something only in the poll that returns it. So one that is dropped has
//! taken nothing: a message is in the channel still, a permit is there still, and if it had just been woken
//! the call goes to another. A message that was to be sent is freed with its future, unless it is asked back
//! ([`Sending::into_message`]).
//!
//! **Progress.** A poll is as the call that tries (`try_recv` and its like), and adds or removes a wait:
//! O(log waits), under a lock of this process. Dropping a future that waits takes as long as the helper needs
//! to begin another round: some microseconds, if it gets a processor. Nothing is awaited for longer than 50
//! ms without another look, so that each pending future is polled twenty times a second; so often one of each
//! segment looks whether somebody has died.
//!
//! **After a fork** they are refused in the child, as everything is. *Closed, removed, left, or died*: as the
//! calls that wait.

use super::board::Board;
use super::channel::attached::Attached;
use super::channel::{Delivery, Many, Mode, Receiver, SendError, Sender, Unreceived, Unsent, Worker};
use super::helper::{Helper, Rings, Sleeper, poll};
use super::lossy::{Copied, LossySubscriber, copy_next};
use super::message::Message;
use super::named::{Event, Mutex, MutexGuard, Semaphore};
use super::payload::Payload;
use super::service::{Request, Responses, Server};
use super::structure::{Places, Role, Shape, Structure};
use super::topic::{Reading, Subscriber, Topic};
use super::wait::{Bell, Look};
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::segment::layout::Granule;
use crate::shared::Shared;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The helper of a segment, which ends with its mapping here.
struct KeptHelper(Option<Arc<Helper<Native>>>, u64);

impl Drop for KeptHelper {
    fn drop(&mut self) {
        // A forked child's parent has it; and who knows who had the lock.
        if let Some(helper) = self.0.as_ref().filter(|_| self.1 == Native::process()) {
            helper.end();
        }
    }
}

/// The segment's helper thread, started if there is none yet. None if the system has no thread to give.
pub(super) fn helper(handler: &Handler) -> Option<&Arc<Helper<Native>>> {
    let start = || {
        let helper = Arc::new(Helper::default());
        let running = Arc::clone(&helper);
        let started = std::thread::Builder::new().name("matrix-wait".to_owned()).spawn(move || running.run());
        Box::new(KeptHelper(started.is_ok().then_some(helper), Native::process())) as _
    };
    handler.matrix().kept.get_or_init(start).downcast_ref::<KeptHelper>()?.0.as_ref()
}

/// A bell of a structure, for as long as the segment is mapped.
struct BellOf {
    handler: Handler,
    at: Granule,
    shape: Shape,
    places: Places,
    role: Role,
}

impl Rings<Native> for BellOf {
    fn bell(&self) -> Bell<'_, Native> {
        let heap = self.handler.matrix().heap();
        let words = Structure::words_at(heap, self.at, self.places);
        Structure::known(heap, words, self.at, self.shape, self.places).bell(self.role)
    }
}

pub(super) fn rings(attached: &Attached, role: Role) -> Box<dyn Rings<Native>> {
    let (handler, at) = (attached.handler.clone(), attached.live.at);
    Box::new(BellOf { handler, at, shape: attached.shape, places: attached.places, role })
}

/// One who waits at a bell of a structure, whoever sleeps for it.
pub(super) struct Waiting<'a> {
    pub(super) attached: &'a Attached,
    pub(super) role: Role,
    pub(super) asleep: Option<Sleeper<Native>>,
}

impl<'a> Waiting<'a> {
    pub(super) fn at(attached: &'a Attached, role: Role) -> Self {
        Self { attached, role, asleep: None }
    }

    /// One poll. What is refused in a forked child `attempt` says itself.
    fn poll<T>(&mut self, waker: &Waker, mut attempt: impl FnMut() -> Option<T>) -> Poll<T> {
        let Self { attached, role, asleep } = self;
        let Ok(structure) = attached.structure() else {
            return attempt().map_or(Poll::Pending, Poll::Ready);
        };
        if asleep.is_none()
            && let Some(found) = attempt()
        {
            return Poll::Ready(found);
        }
        let Some(helper) = helper(&attached.handler) else {
            // No thread to be had: whoever polls does the waiting.
            waker.wake_by_ref();
            return attempt().map_or(Poll::Pending, Poll::Ready);
        };
        let attempt = |look| {
            if look == Look::Thorough {
                attached.look_after_the_dead();
            }
            attempt()
        };
        let found = poll(helper, structure.bell(*role), || rings(attached, *role), asleep, waker, attempt);
        found.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        match self.attached.structure() {
            Ok(structure) => {
                if let Some(asleep) = self.asleep.take() {
                    asleep.give_up(&structure.bell(self.role));
                }
            }
            // Its helper is the parent's, and the lock may be held for ever.
            Err(_) => std::mem::forget(self.asleep.take()),
        }
    }
}

/// A future that waits until `attempt` has something.
struct Until<'a, F> {
    waiting: Waiting<'a>,
    attempt: F,
}

impl<F> Unpin for Until<'_, F> {}

/// Waits at a structure's bell until `attempt` has something.
pub(super) fn until<'a, T>(
    attached: &'a Attached,
    role: Role,
    attempt: impl FnMut() -> Option<T> + 'a,
) -> impl Future<Output = T> + 'a {
    Until { waiting: Waiting::at(attached, role), attempt }
}

impl<T, F: FnMut() -> Option<T>> Future for Until<'_, F> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Self { waiting, attempt } = &mut *self;
        waiting.poll(context.waker(), attempt)
    }
}

impl<T: Payload + ?Sized, M: Mode> Receiver<T, M> {
    /// Receives the oldest message, once there is one.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn recv_async(&self) -> impl Future<Output = std::result::Result<Message<'_, T>, Unreceived>> {
        let attempt = || match self.try_recv() {
            Err(Unreceived::Empty) => None,
            got => Some(got),
        };
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt }
    }
}

impl<T: Payload + ?Sized> Worker<T> {
    /// Receives as [`Worker::recv`], once there is something.
    ///
    /// # Errors
    /// As [`Worker::recv`].
    pub fn recv_async(&self) -> impl Future<Output = std::result::Result<Delivery<'_, T>, Unreceived>> {
        let attempt = || match self.try_recv() {
            Err(why) if why.may_come() => None,
            got => Some(got),
        };
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt }
    }
}

/// Sends a message, once there is room: from [`Sender::send_async`].
#[must_use = "nothing is sent before it is awaited"]
pub struct Sending<'s, 'h, T: Payload + ?Sized, M = Many> {
    sender: &'s Sender<T, M>,
    waiting: Waiting<'s>,
    message: Option<Message<'h, T>>,
}

impl<T: Payload + ?Sized, M> Unpin for Sending<'_, '_, T, M> {}

impl<'h, T: Payload + ?Sized, M> Sending<'_, 'h, T, M> {
    /// The message, if it was not sent: whoever has waited long enough keeps it.
    pub fn into_message(mut self) -> Option<Message<'h, T>> {
        self.message.take()
    }
}

impl<'h, T: Payload + ?Sized, M: Mode> Future for Sending<'_, 'h, T, M> {
    type Output = std::result::Result<(), SendError<'h, T>>;
    /// # Panics
    /// If it is polled after it has returned.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { sender, waiting, message } = &mut *self;
        waiting.poll(context.waker(), || {
            let (back, why) = match sender.try_send(message.take().expect("not polled after it has returned")) {
                Err(SendError { message: back, why: Unsent::Full }) => (back, sender.in_vain()),
                sent => return Some(sent),
            };
            match why {
                Some(why) => Some(Err(SendError { message: back, why })),
                None => {
                    *message = Some(back);
                    None
                }
            }
        })
    }
}

impl<T: Payload + ?Sized, M: Mode> Sender<T, M> {
    /// Sends, once there is room.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send_async<'s, 'h>(&'s self, message: Message<'h, T>) -> Sending<'s, 'h, T, M> {
        Sending { sender: self, waiting: Waiting::at(self.attached(), Role::Sender), message: Some(message) }
    }
}

/// What was published next: from [`Subscriber::next_async`].
struct Next<'s, T: ?Sized> {
    subscriber: Option<&'s mut Subscriber<T>>,
    asleep: Option<Sleeper<Native>>,
}

impl<T: ?Sized> Unpin for Next<'_, T> {}

impl<'s, T: Payload + ?Sized> Future for Next<'s, T> {
    type Output = Result<Reading<'s, T>>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { subscriber, asleep } = &mut *self;
        let waits = subscriber.as_deref().expect("not polled after it has returned");
        let mut waiting = Waiting { attached: waits.attached(), role: Role::Receiver, asleep: asleep.take() };
        let there = waiting.poll(context.waker(), || waits.has_next().then_some(()));
        *asleep = waiting.asleep.take();
        drop(waiting);
        match (there, subscriber.take()) {
            (Poll::Ready(()), Some(subscriber)) => {
                // It is there for this subscriber alone, and stays.
                Poll::Ready(subscriber.try_next().and_then(|next| next.ok_or(Error::TopicClosed)))
            }
            (_, waits) => {
                *subscriber = waits;
                Poll::Pending
            }
        }
    }
}

impl<T: ?Sized> Drop for Next<'_, T> {
    fn drop(&mut self) {
        if let (Some(subscriber), Some(asleep)) = (&self.subscriber, self.asleep.take()) {
            drop(Waiting { attached: subscriber.attached(), role: Role::Receiver, asleep: Some(asleep) });
        }
    }
}

impl<T: Payload + ?Sized> Subscriber<T> {
    /// What is published next, once it is.
    ///
    /// # Errors
    /// As [`Subscriber::try_next`].
    pub fn next_async(&mut self) -> impl Future<Output = Result<Reading<'_, T>>> {
        Next { subscriber: Some(self), asleep: None }
    }
}

impl<T: Copied + ?Sized> LossySubscriber<T> {
    /// A copy of what is published next, once it is, or how many were missed.
    ///
    /// # Errors
    /// As [`LossySubscriber::try_next`].
    pub fn next_async(&mut self) -> impl Future<Output = Result<T::Copy>> {
        let (attached, next) = self.parts();
        let attempt = move || copy_next::<T>(attached, next).transpose();
        Until { waiting: Waiting::at(attached, Role::Receiver), attempt }
    }
}

/// Publishes a message, once the slowest subscriber has made room: from [`Topic::publish_async`].
#[must_use = "nothing is published before it is awaited"]
pub struct Publish<'t, 'h, T: Payload + ?Sized> {
    topic: &'t Topic<T>,
    waiting: Waiting<'t>,
    message: Option<Message<'h, T>>,
}

impl<T: Payload + ?Sized> Unpin for Publish<'_, '_, T> {}

impl<'h, T: Payload + ?Sized> Publish<'_, 'h, T> {
    /// The message, if it was not published: whoever has waited long enough keeps it.
    pub fn into_message(mut self) -> Option<Message<'h, T>> {
        self.message.take()
    }
}

impl<'h, T: Payload + ?Sized> Future for Publish<'_, 'h, T> {
    type Output = std::result::Result<(), SendError<'h, T>>;
    /// # Panics
    /// If it is polled after it has returned.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { topic, waiting, message } = &mut *self;
        waiting.poll(context.waker(), || {
            match topic.try_publish(message.take().expect("not polled after it has returned")) {
                Err(SendError { message: back, why: Unsent::Full }) => {
                    *message = Some(back);
                    None
                }
                published => Some(published),
            }
        })
    }
}

impl<T: Payload + ?Sized> Topic<T> {
    /// Publishes, once the slowest subscriber has made room.
    ///
    /// # Errors
    /// As [`Topic::try_publish`], but not [`Unsent::Full`].
    pub fn publish_async<'t, 'h>(&'t self, message: Message<'h, T>) -> Publish<'t, 'h, T> {
        Publish { topic: self, waiting: Waiting::at(self.attached(), Role::Sender), message: Some(message) }
    }
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Server<Q, A> {
    /// The oldest request, once there is one.
    ///
    /// # Errors
    /// As [`Server::next`].
    pub fn next_async(&self) -> impl Future<Output = std::result::Result<Request<'_, Q, A>, Unreceived>> {
        let attempt = || match self.try_next() {
            Err(Unreceived::Empty) => None,
            got => Some(got),
        };
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt }
    }
}

impl<'c, Q: Payload + ?Sized, A: Payload + ?Sized> Responses<'c, Q, A> {
    /// The next response, once it is there; none behind the last one.
    ///
    /// # Errors
    /// [`Error::CallFailed`].
    pub fn next_async(&mut self) -> impl Future<Output = Result<Option<Message<'c, A>>>> {
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt: || self.try_next() }
    }
}

impl<T: Shared> Mutex<T> {
    /// Locks it, once it is free or its holder is found dead. Unlike [`Mutex::lock`] it also waits for a guard of
    /// this thread's, which another of its tasks may have: a task that locks what it has locked waits for ever.
    ///
    /// The lock is the thread's that gets it. So the guard stays there, and a task that keeps it over an `await`
    /// is one for a runtime of this thread alone (a `LocalSet` of tokio's).
    ///
    /// # Errors
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn lock_async(&self) -> impl Future<Output = Result<MutexGuard<'_, T>>> {
        let attempt = || match self.try_lock() {
            Err(Error::LockedByCaller) => None,
            locked => locked.transpose(),
        };
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt }
    }
}

impl<T: Shared> Board<T> {
    /// A copy of the newest value, once it is not the one that `seen` says: as [`Board::changed`].
    ///
    /// # Errors
    /// As [`Board::get`].
    pub fn changed_async(&self, seen: &mut u64) -> impl Future<Output = Result<T>> {
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt: || self.unseen(seen) }
    }
}

impl Event {
    /// Waits until it is set.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn wait_async(&self) -> impl Future<Output = Result<()>> {
        let attempt = || self.is_set().map(|set| set.then_some(())).transpose();
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt }
    }
    /// Waits until it is set, and clears it, as [`Event::wait_and_clear`].
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn wait_and_clear_async(&self) -> impl Future<Output = Result<()>> {
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt: || self.try_clear().transpose() }
    }
}

impl Semaphore {
    /// Takes a permit, once there is one.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn take_async(&self) -> impl Future<Output = Result<()>> {
        let attempt = || self.try_take().map(|taken| taken.then_some(())).transpose();
        Until { waiting: Waiting::at(self.attached(), Role::Receiver), attempt }
    }
}
