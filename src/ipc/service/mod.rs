//! Services: requests and responses between processes, any number of clients and of servers.
//!
//! ```
//! use atomic_matrix::segment::Options;
//! use std::time::Duration;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = Options::new().memfd().size(4 << 20).create()?;
//! let squares = handler.service::<u64, u64>("squares").open_or_create()?;
//! let server = squares.server()?; // in another process, perhaps
//! std::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let request = server.next_timeout(Duration::from_secs(10))?;
//!         let answer = handler.message_of(*request * *request)?;
//!         request.respond(answer)?;
//!         Ok::<(), atomic_matrix::Error>(())
//!     });
//!     let client = squares.client()?;
//!     let answer = client.call(handler.message_of(7)?, Duration::from_secs(10))?;
//!     assert_eq!(*answer, 49);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Requests go through one channel, each to one of the servers; responses go to the client's own ring.
//! Neither is copied, if it has room for a few bytes behind its value ([`Client::request`],
//! [`Client::request_slice`], [`Request::response`], [`Request::response_slice`]).
//!
//! **Whoever ends is missed.** A caller is told at once if its server drops the request, and no later than a
//! nap (50 ms) after it was killed: by the request's own header, not by a time that is over
//! ([`Failed::Unanswered`]). It is never told so if a response was sent. A server finds out by
//! [`Request::is_awaited`], and by its response, which comes back ([`Unanswered::Gone`],
//! [`Unanswered::GivenUp`]). Requests that nobody waits for are dropped unseen.
//!
//! **Progress.** [`Client::call`] and [`Server::next`] wait, no longer than they are told; a response waits
//! only if the caller has sixteen of a stream that it has not taken. The steps between are lock-free.
//! **Killed**: nothing is lost or left, whoever dies (`ipc::call`): the requests that a dead server worked at
//! are freed with it, its responses that stand in a ring are received; a dead client's ring is freed with
//! what is in it.
//!
//! **Limits.** 1 to 2^20 requests that wait. A client makes one call at a time, and takes about a kilobyte,
//! and 8 bytes for each participant slot.

mod client;
mod error;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, Responses};
pub use error::{CallError, Failed, RespondError, Unanswered};
pub use server::{Request, Server};

use super::channel::attached::{Attached, End};
use super::payload::Payload;
use super::structure::{MAX_CELLS_SHIFT, Role, Sort};
use super::topic::{find, open};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::shared::mix;
use std::marker::PhantomData;
use std::sync::Arc;

/// What tells services of these types apart.
pub(super) const fn content_of<Q: Payload + ?Sized, A: Payload + ?Sized>() -> u32 {
    mix("service", &[Q::FINGERPRINT, A::FINGERPRINT])
}

/// What a service's maker may choose; from [`Handler::service`].
#[must_use = "a service is opened by `open_or_create`"]
pub struct ServiceOptions<'h, 'n, Q: ?Sized, A: ?Sized> {
    handler: &'h Handler,
    name: Option<&'n str>,
    capacity: usize,
    of: PhantomData<fn(Box<Q>) -> Box<A>>,
}

impl Handler {
    /// The service of that name, with requests of `Q` and answers of `A`, to be made or opened.
    pub fn service<'h, 'n, Q: Payload + ?Sized, A: Payload + ?Sized>(
        &'h self,
        name: &'n str,
    ) -> ServiceOptions<'h, 'n, Q, A> {
        ServiceOptions { handler: self, name: Some(name), capacity: 64, of: PhantomData }
    }

    /// A service without a name, to be made: [`Handler::open_ref`] says what leads to it, and how long it stays.
    pub fn unnamed_service<Q: Payload + ?Sized, A: Payload + ?Sized>(&self) -> ServiceOptions<'_, 'static, Q, A> {
        ServiceOptions { handler: self, name: None, capacity: 64, of: PhantomData }
    }
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> ServiceOptions<'_, '_, Q, A> {
    /// How many requests may wait for a server, if it is made: rounded up to a power of two, 2^20 at most; 64 by
    /// default.
    pub fn capacity(mut self, requests: usize) -> Self {
        self.capacity = requests;
        self
    }
    /// Makes the service, or opens it if there is one of its name, whatever its capacity.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if what has that name is no service of these types; [`Error::BadOption`] for the
    /// capacity or the empty name; [`Error::OutOfMemory`],
    /// [`Error::DirectoryFull`], [`Error::NameTooLong`], [`Error::ChangingHands`],
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn open_or_create(self) -> Result<Service<Q, A>> {
        if !(1..=1 << MAX_CELLS_SHIFT).contains(&self.capacity) {
            let found = self.capacity.to_string();
            return Err(Error::BadOption { option: "capacity", found, allowed: "1 to 1048576 requests" });
        }
        let content = content_of::<Q, A>();
        let attached = open::<Service<Q, A>>(self.handler, self.name, Sort::Channel, self.capacity, 0, content)?;
        Ok(Service { attached, of: PhantomData })
    }

    /// Opens the service; it must be there.
    ///
    /// # Errors
    /// [`Error::NameUnknown`]; others as [`ServiceOptions::open_or_create`].
    pub fn open(self) -> Result<Service<Q, A>> {
        let attached = find::<Service<Q, A>>(self.handler, self.name, Sort::Channel, content_of::<Q, A>())?;
        Ok(Service { attached, of: PhantomData })
    }
}

/// A service that this process has open.
pub struct Service<Q: ?Sized, A: ?Sized> {
    pub(super) attached: Arc<Attached>,
    pub(super) of: PhantomData<fn(Box<Q>) -> Box<A>>,
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Service<Q, A> {
    /// A client. It counts as one until it is dropped, or its process ends.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::TooManyHandles`], [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn client(&self) -> Result<Client<Q, A>> {
        Client::new(End::new(&self.attached, Role::Sender)?)
    }
    /// A server. It counts as one until it is dropped, or its process ends.
    ///
    /// # Errors
    /// [`Error::TooManyHandles`], [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn server(&self) -> Result<Server<Q, A>> {
        Ok(Server::new(End::new(&self.attached, Role::Receiver)?))
    }
    /// Removes the service: its name is free, nobody calls any more, and its memory is freed after the last user.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn remove(&self) -> Result<()> {
        self.attached.remove()
    }
}
