//! A descriptor of the own process, for epoll and its like, that says when something may be there.
//!
//! ```
//! use rustix::event::{PollFd, PollFlags, poll};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! # let orders = handler.channel::<u64>("orders").create()?;
//! # let (sender, receiver) = (orders.sender()?, orders.receiver()?);
//! let mut readable = receiver.readable()?;
//! sender.send_value(7)?;
//! poll(&mut [PollFd::new(&readable, PollFlags::IN)], None)?;
//! readable.arm()?; // first,
//! while let Ok(order) = receiver.try_recv() {
//!     assert_eq!(*order, 7); // then take what is there
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It is an eventfd(2), one for each [`Readable`], written by the helper thread of this process
//! (`ipc::helper`); no descriptor is passed between processes. Armed, it becomes readable as soon as
//! something was put since, or its structure was closed, or a peer has left or died; and after 50 ms in any
//! case, for a look around. Nothing is lost, whatever the order: what was put before is found by the tries
//! behind [`Readable::arm`], what is put later makes it readable. Whoever does not arm it again finds it
//! readable for ever. It delays nobody: who waits for the same in another way is called for what was put as well,
//! whether or not somebody looks at the descriptor (but where one of both processes has a real-time priority: there
//! it may be called 50 ms later). One call makes a descriptor readable once at most. *Forked child*: refused.

use super::board::Board;
use super::channel::attached::Attached;
use super::channel::{Mode, Receiver, Sender, Worker};
use super::future::{Waiting, helper, rings};
use super::helper::Sleeper;
use super::named::{Event, Semaphore};
use super::payload::Payload;
use super::service::{Client, Server};
use super::structure::Role;
use super::topic::Topic;
use super::wait::Look;
use crate::error::{Error, Result};
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Readable when something may be there; from `readable` of what can be waited for.
pub struct Readable<'a> {
    waiting: Waiting<'a>,
    call: Arc<WakeFd>,
    waker: Waker,
    /// Behind `waiting`. Where this is forgotten, the structure stays: the helper may write its bell still.
    _stays: Arc<Attached>,
}

struct WakeFd(OwnedFd);

impl Wake for WakeFd {
    fn wake(self: Arc<Self>) {
        // Full after 2^64 - 2 of them: readable in any case.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl<'a> Readable<'a> {
    pub(super) fn of(attached: &'a Arc<Attached>, role: Role) -> Result<Self> {
        attached.structure()?;
        let fd = crate::kernel::open_off_streams(&mut || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK));
        let call = Arc::new(WakeFd(fd.map_err(|errno| Error::io("create an eventfd", errno))?));
        let waker = Waker::from(Arc::clone(&call));
        let mut this = Self { waiting: Waiting::at(attached, role), call, waker, _stays: Arc::clone(attached) };
        this.arm()?;
        Ok(this)
    }

    /// It is not readable any more, until something is put from now on. Call it before you take what is
    /// there, not behind.
    ///
    /// # Errors
    /// [`Error::ForkedChild`]; [`Error::Io`] if the system has no thread to give.
    pub fn arm(&mut self) -> Result<()> {
        let Waiting { attached, role, asleep } = &mut self.waiting;
        let bell = attached.structure()?.bell(*role);
        let refused = std::io::ErrorKind::WouldBlock;
        let no_thread = || Error::io("start a thread (see `ulimit -u`, and pids.max of the control group)", refused);
        let helper = helper(&attached.handler).ok_or_else(no_thread)?;
        let _ = rustix::io::read(&self.call.0, &mut [0; 8]);
        if let Some(sleeper) = asleep.as_ref() {
            match sleeper.over(&self.waker) {
                None => return Ok(()),
                Some(Look::Thorough) => attached.look_after_the_dead(),
                Some(Look::Quick | Look::Spinning) => {}
            }
        }
        if let Some(sleeper) = asleep.take() {
            sleeper.leave(&bell);
        }
        *asleep = Some(Sleeper::watch(helper, &bell, || rings(attached, *role), &self.waker));
        Ok(())
    }
}

impl AsFd for Readable<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.call.0.as_fd()
    }
}
impl AsRawFd for Readable<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.call.0.as_raw_fd()
    }
}

impl<T: Payload + ?Sized, M: Mode> Receiver<T, M> {
    /// A descriptor that becomes readable when there may be a message.
    ///
    /// # Errors
    /// [`Error::ForkedChild`]; [`Error::Io`] if there is no descriptor or thread to be had.
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Receiver)
    }
}
impl<T: Payload + ?Sized> Worker<T> {
    /// A descriptor that becomes readable when there may be something to receive.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Receiver)
    }
}
impl<T: Payload + ?Sized, M: Mode> Sender<T, M> {
    /// A descriptor that becomes readable when there may be room.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Sender)
    }
}
impl<T: Payload + ?Sized> Topic<T> {
    /// A descriptor that becomes readable when something may have been published: for any of its subscribers.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Receiver)
    }
}
impl<T: Payload + ?Sized> Board<T> {
    /// A descriptor that becomes readable when the value may be another.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Receiver)
    }
}
impl<Q: Payload + ?Sized, A: Payload + ?Sized> Server<Q, A> {
    /// A descriptor that becomes readable when there may be a request.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Receiver)
    }
}
impl<Q: Payload + ?Sized, A: Payload + ?Sized> Client<Q, A> {
    /// A descriptor that becomes readable when there may be a response to the call that is made: no response is taken
    /// by a look, and [`Responses::next_timeout`](super::service::Responses::next_timeout) of no time takes one.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.responses(), Role::Receiver)
    }
}
impl Event {
    /// A descriptor that becomes readable when it may be set.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Receiver)
    }
}
impl Semaphore {
    /// A descriptor that becomes readable when there may be a permit.
    ///
    /// # Errors
    /// As [`Receiver::readable`].
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(self.attached(), Role::Receiver)
    }
}
