//! Waiting for several things at once.
//!
//! ```
//! use atomic_matrix::ipc::{Select, Unreceived};
//! use std::time::Duration;
//!
//! enum Got { Order(u64), Gone(Unreceived), Stop }
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! # let (orders, stop) = (handler.channel::<u64>("orders").create()?, handler.event("stop")?);
//! # let (sender, receiver) = (orders.sender()?, orders.receiver()?);
//! sender.send_value(7)?;
//! let mut select = Select::new()
//!     .recv(&receiver, |got| got.map_or_else(Got::Gone, |order| Got::Order(*order)))
//!     .set(&stop, |_| Got::Stop);
//! assert!(matches!(select.wait(Duration::from_secs(1)), Some(Got::Order(7))));
//! stop.set()?;
//! assert!(matches!(select.wait(Duration::from_secs(1)), Some(Got::Stop)));
//! assert!(matches!(select.try_now(), Some(Got::Stop))); // it stays set
//! # Ok(())
//! # }
//! ```
//!
//! What is waited for is taken where it is found, in the thread that waits: of several that are there one is,
//! the others stay. Which one goes round, so that none starves. Waiting sleeps on all of them (FUTEX_WAITV,
//! Linux 5.16; without it, or for more than 128, it looks once a millisecond), 50 ms at the longest without
//! looking again, and then also whether somebody has died. A try is lock-free, and takes O(sources). *Closed,
//! disconnected, removed*: each source says so by its own error, again and again: make another `Select`
//! without it. *Killed* while it waits: nothing is taken; what it was woken for another finds after its nap.

use super::board::Board;
use super::channel::attached::Attached;
use super::channel::{Delivery, Mode, Receiver, Unreceived, Worker};
use super::lossy::{Copied, LossySubscriber};
use super::message::Message;
use super::named::{Event, Semaphore};
use super::payload::Payload;
use super::service::{Request, Responses, Server};
use super::several::wait_for_any;
use super::structure::Role;
use super::topic::{Reading, Subscriber};
use super::wait::{Look, deadline};
use crate::error::Result;
use crate::shared::Shared;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Things to wait for, and what to make of each. See the module's page for an example.
#[must_use = "it waits in `wait`"]
pub struct Select<'a, R> {
    attached: Vec<Arc<Attached>>,
    attempts: Vec<Box<dyn FnMut() -> Option<R> + 'a>>,
    /// Which is tried first.
    first: usize,
}

impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Self { attached: vec![], attempts: vec![], first: 0 }
    }
}

impl<'a, R> Select<'a, R> {
    /// Nothing to wait for yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, attached: &Arc<Attached>, attempt: impl FnMut() -> Option<R> + 'a) -> Self {
        self.attached.push(Arc::clone(attached));
        self.attempts.push(Box::new(attempt));
        self
    }

    /// Also waits for a message.
    pub fn recv<T: Payload + ?Sized, M: Mode>(
        self,
        receiver: &'a Receiver<T, M>,
        mut then: impl FnMut(std::result::Result<Message<'a, T>, Unreceived>) -> R + 'a,
    ) -> Self {
        self.with(receiver.attached(), move || match receiver.try_recv() {
            Err(Unreceived::Empty) => None,
            got => Some(then(got)),
        })
    }

    /// Also waits for something to work on.
    pub fn work<T: Payload + ?Sized>(
        self,
        worker: &'a Worker<T>,
        mut then: impl FnMut(std::result::Result<Delivery<'a, T>, Unreceived>) -> R + 'a,
    ) -> Self {
        self.with(worker.attached(), move || match worker.try_recv() {
            Err(why) if why.may_come() => None,
            got => Some(then(got)),
        })
    }

    /// Also waits for the next publication.
    pub fn next<T: Payload + ?Sized>(
        self,
        subscriber: &'a mut Subscriber<T>,
        mut then: impl FnMut(Result<Reading<'_, T>>) -> R + 'a,
    ) -> Self {
        let attached = Arc::clone(subscriber.attached());
        self.with(&attached, move || subscriber.try_next().transpose().map(&mut then))
    }

    /// Also waits for a copy of the next publication, or for how many were missed.
    pub fn next_copy<T: Copied + ?Sized>(
        self,
        subscriber: &'a mut LossySubscriber<T>,
        mut then: impl FnMut(Result<T::Copy>) -> R + 'a,
    ) -> Self {
        let attached = Arc::clone(subscriber.parts().0);
        self.with(&attached, move || subscriber.try_next().transpose().map(&mut then))
    }

    /// Also waits for a request.
    pub fn request<Q: Payload + ?Sized, A: Payload + ?Sized>(
        self,
        server: &'a Server<Q, A>,
        mut then: impl FnMut(std::result::Result<Request<'a, Q, A>, Unreceived>) -> R + 'a,
    ) -> Self {
        self.with(server.attached(), move || match server.try_next() {
            Err(Unreceived::Empty) => None,
            got => Some(then(got)),
        })
    }

    /// Also waits for the next response to a call; behind the last one there is none, at once.
    pub fn response<'c: 'a, Q: Payload + ?Sized, A: Payload + ?Sized>(
        self,
        responses: &'a mut Responses<'c, Q, A>,
        mut then: impl FnMut(Result<Option<Message<'c, A>>>) -> R + 'a,
    ) -> Self {
        let attached = responses.attached();
        self.with(attached, move || responses.try_next().map(&mut then))
    }

    /// Also waits until a board's value is not the one that `seen` says ([`Board::changed`]).
    pub fn changed<T: Shared>(
        self,
        board: &'a Board<T>,
        seen: &'a mut u64,
        mut then: impl FnMut(Result<T>) -> R + 'a,
    ) -> Self {
        self.with(board.attached(), move || board.unseen(seen).map(&mut then))
    }

    /// Also waits until an event is set. It stays set.
    pub fn set(self, event: &'a Event, mut then: impl FnMut(Result<()>) -> R + 'a) -> Self {
        let set = || event.is_set().map(|set| set.then_some(())).transpose();
        self.with(event.attached(), move || set().map(&mut then))
    }

    /// Also waits until an event is set, and clears it.
    pub fn set_and_clear(self, event: &'a Event, mut then: impl FnMut(Result<()>) -> R + 'a) -> Self {
        self.with(event.attached(), move || event.try_clear().transpose().map(&mut then))
    }

    /// Also waits for a permit, and takes it.
    pub fn take(self, semaphore: &'a Semaphore, mut then: impl FnMut(Result<()>) -> R + 'a) -> Self {
        let take = || semaphore.try_take().map(|taken| taken.then_some(())).transpose();
        self.with(semaphore.attached(), move || take().map(&mut then))
    }

    /// One of those that are there now. Lock-free.
    pub fn try_now(&mut self) -> Option<R> {
        let sources = self.attempts.len();
        let found = (0..sources).find_map(|k| {
            let at = (self.first + k) % sources;
            (self.attempts[at])().map(|found| (at, found))
        });
        self.found(found)
    }

    /// Waits for one of them; none if none is there until the time is over.
    pub fn wait(&mut self, timeout: Duration) -> Option<R> {
        self.wait_until(deadline(timeout))
    }

    /// Waits for one of them until then, or as long as it takes. With nothing to wait for: none, at once.
    pub fn wait_until(&mut self, until: Option<Instant>) -> Option<R> {
        if self.attempts.is_empty() {
            return None;
        }
        let structures: Result<Vec<_>> = self.attached.iter().map(|attached| attached.structure()).collect();
        let Ok(structures) = structures else {
            // A forked child: each source says so itself.
            return self.try_now();
        };
        let bells: Vec<_> = structures.iter().map(|structure| structure.bell(Role::Receiver)).collect();
        let (attached, attempts) = (&self.attached, &mut self.attempts);
        let found = wait_for_any(&bells, self.first, until, |at, look| {
            if look == Look::Thorough {
                attached[at].look_after_the_dead();
            }
            (attempts[at])()
        });
        self.found(found)
    }

    fn found(&mut self, found: Option<(usize, R)>) -> Option<R> {
        let (at, found) = found?;
        self.first = (at + 1) % self.attempts.len();
        Some(found)
    }
}
