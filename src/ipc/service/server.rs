//! The side that answers.

use super::client::responses_of;
use super::error::{RespondError, Unanswered};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::ipc::Unreceived;
use crate::ipc::call::{Attempt, Caller, NotAnswered, Part, TAIL_WORDS};
use crate::ipc::channel::attached::{Attached, End};
use crate::ipc::link::Taken;
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::ring::{NotReceived, Ring};
use crate::ipc::structure::{Role, Structure};
use crate::ipc::wait::{NAP, deadline};
use crate::matrix::heap::{Kind, ThreadCache};
use crate::segment::region::MappedRegion;
use crate::shared::InPlace;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a response waits for a caller that has not taken those before it, if nobody says.
const PATIENCE: Duration = Duration::from_secs(1);

/// Receives requests of a service. Any thread may use it, and several at once: each request goes to one of them.
pub struct Server<Q: ?Sized, A: ?Sized> {
    end: End,
    of: PhantomData<fn(Box<Q>) -> Box<A>>,
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Server<Q, A> {
    pub(super) fn new(end: End) -> Self {
        Self { end, of: PhantomData }
    }

    /// The segment's handler.
    pub fn handler(&self) -> &Handler {
        &self.end.attached.handler
    }

    /// The oldest request that somebody waits for, if there is one now. Lock-free.
    ///
    /// # Errors
    /// [`Unreceived`].
    pub fn try_next(&self) -> std::result::Result<Request<'_, Q, A>, Unreceived> {
        match self.get() {
            Err(Unreceived::Empty) => match self.end.has_lost_the_others() {
                None => Err(Unreceived::Empty),
                // The last request may have come between the looks at the ring and at the clients.
                Some(died) => match self.get() {
                    Err(Unreceived::Empty) => Err(Unreceived::Disconnected { died }),
                    got => got,
                },
            },
            got => got,
        }
    }

    /// The oldest request, which is waited for as long as it takes.
    ///
    /// # Errors
    /// [`Unreceived`]: [`Unreceived::Disconnected`] once there is no client any more.
    pub fn next(&self) -> std::result::Result<Request<'_, Q, A>, Unreceived> {
        self.wait(None)
    }

    /// The oldest request, which is waited for until the time is over.
    ///
    /// # Errors
    /// [`Unreceived`]: not [`Unreceived::Empty`].
    pub fn next_timeout(&self, timeout: Duration) -> std::result::Result<Request<'_, Q, A>, Unreceived> {
        self.wait(deadline(timeout))
    }

    fn wait(&self, until: Option<Instant>) -> std::result::Result<Request<'_, Q, A>, Unreceived> {
        self.end.attached.get_patiently(until, || self.try_next())
    }

    pub(in crate::ipc) fn attached(&self) -> &Arc<Attached> {
        &self.end.attached
    }

    /// One try. Requests that nobody waits for are freed.
    fn get(&self) -> std::result::Result<Request<'_, Q, A>, Unreceived> {
        let handler = self.handler();
        let heap = handler.matrix().heap();
        let get = |cache: &mut ThreadCache,
                   structure: Structure<'_, MappedRegion>|
         -> std::result::Result<(Taken, Caller), NotReceived> {
            loop {
                let taken = Ring::of(structure).receive(cache.owner())?;
                structure.bell(Role::Sender).ring(1);
                let caller = heap.caller(taken.live);
                if heap.is_awaited(cache, caller, responses_of::<A>()) {
                    return Ok((taken, caller));
                }
                let _ = heap.free(cache, taken.live.at, Some(taken.live.header.generation()));
            }
        };
        let got = self.end.attached.with(get).map_err(|_| Unreceived::NoParticipant)?;
        let (taken, caller) = got.map_err(Unreceived::from)?;
        let message = Message::received(handler, taken).ok_or_else(|| {
            let _ = handler.free_message(&handler.pointer(taken.live));
            Unreceived::OfAnotherType
        })?;
        Ok(Request { server: self, message: ManuallyDrop::new(message), caller, answered: false })
    }
}

/// A request that this server works at. Dropped without an answer, its caller is told so.
pub struct Request<'s, Q: Payload + ?Sized, A: Payload + ?Sized> {
    server: &'s Server<Q, A>,
    message: ManuallyDrop<Message<'s, Q>>,
    caller: Caller,
    answered: bool,
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Deref for Request<'_, Q, A> {
    type Target = Q;
    fn deref(&self) -> &Q {
        &self.message
    }
}
impl<Q: Payload + ?Sized, A: Payload + ?Sized> DerefMut for Request<'_, Q, A> {
    fn deref_mut(&mut self) -> &mut Q {
        &mut self.message
    }
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Request<'_, Q, A> {
    /// Whether the caller is alive, as far as anybody has found out, and waits for this call.
    pub fn is_awaited(&self) -> bool {
        let heap = self.server.handler().matrix().heap();
        let awaited = |cache: &mut ThreadCache, _| heap.is_awaited(cache, self.caller, responses_of::<A>());
        self.server.end.attached.with(awaited).unwrap_or(false)
    }

    /// Sends the last response. A caller of a stream that has not taken those before it is waited for, no
    /// longer than a second.
    ///
    /// # Errors
    /// [`RespondError`] with the response; then the caller is told that nobody answers, if it is there.
    pub fn respond<'m>(mut self, response: Message<'m, A>) -> std::result::Result<(), RespondError<'m, A>> {
        self.respond_and_keep(response)
    }

    /// As [`Request::respond`], but the request's bytes stay until it is dropped, and what is not sent may be tried
    /// again. To be called once, as far as it is sent: the caller takes nothing behind the last response.
    ///
    /// # Errors
    /// [`RespondError`] with the response.
    pub fn respond_and_keep<'m>(&mut self, response: Message<'m, A>) -> std::result::Result<(), RespondError<'m, A>> {
        let sent = self.put(response, Part::Last, PATIENCE);
        self.answered |= sent.is_ok();
        sent
    }

    /// Sends a response behind which others will come, and waits for room until the time is over.
    ///
    /// # Errors
    /// [`RespondError`] with the response.
    pub fn send<'m>(
        &self,
        response: Message<'m, A>,
        timeout: Duration,
    ) -> std::result::Result<(), RespondError<'m, A>> {
        self.put(response, Part::More, timeout)
    }

    /// Ends a stream without another response. Waits as [`Request::respond`].
    ///
    /// # Errors
    /// [`Error::NotAnswered`]; [`Error::OutOfMemory`] where there is not even a small block. Then the caller
    /// is told that nobody answers any more.
    pub fn finish(mut self) -> Result<()> {
        self.finish_and_keep()
    }

    /// As [`Request::finish`], but the request's bytes stay until it is dropped, and it may be tried again.
    ///
    /// # Errors
    /// As [`Request::finish`].
    pub fn finish_and_keep(&mut self) -> Result<()> {
        let handler = self.server.handler();
        let pointer = handler.allocate_bytes::<u8>(TAIL_WORDS * 8, 1, Kind::Raw)?;
        let end = self.answer(pointer.offset(), pointer.generation(), Part::End, PATIENCE);
        self.answered |= end.is_ok();
        end.map_err(|why| {
            let _ = handler.free_raw(pointer);
            Error::NotAnswered { why }
        })
    }

    fn put<'m>(
        &self,
        response: Message<'m, A>,
        part: Part,
        timeout: Duration,
    ) -> std::result::Result<(), RespondError<'m, A>> {
        let handler = self.server.handler();
        if response.handler().creation() != handler.creation() {
            return Err(RespondError { message: response, why: Unanswered::NotOwn });
        }
        let copy = match handler.copy_with_room(&response, TAIL_WORDS * 8) {
            Ok(copy) => copy,
            Err(error) => {
                let why = match error {
                    Error::OutOfMemory { .. } | Error::TooLarge { .. } => Unanswered::OutOfMemory,
                    Error::NotLive { .. } => Unanswered::NotOwn,
                    _ => Unanswered::NoParticipant,
                };
                return Err(RespondError { message: response, why });
            }
        };
        let (offset, generation) = match &copy {
            Some(copy) => (copy.offset(), copy.generation()),
            None => (response.offset(), response.generation()),
        };
        match self.answer(offset, generation, part, timeout) {
            Ok(()) => {
                // The original of a copy is freed.
                match copy {
                    Some(copy) => _ = copy.forget(),
                    None => _ = response.forget(),
                }
                Ok(())
            }
            Err(why) => Err(RespondError { message: response, why }),
        }
    }

    /// Sends a block of this process's own.
    fn answer(
        &self,
        offset: u32,
        generation: u32,
        part: Part,
        timeout: Duration,
    ) -> std::result::Result<(), Unanswered> {
        let attached = &self.server.end.attached;
        let until = deadline(timeout);
        let left = || until.map_or(NAP, |until| until.saturating_duration_since(Instant::now()));
        // In a visit of the caller's ring, which is not freed meanwhile: so no longer than a nap each time.
        let wait = |ring: &Structure<'_, MappedRegion>, attempt: Attempt<'_>| {
            let patient = |_| match attempt() {
                Err(NotAnswered::Full) => None,
                other => Some(other),
            };
            let sent = ring.bell(Role::Sender).wait(deadline(left().min(NAP)), patient);
            ring.bell(Role::Receiver).ring(1);
            sent.unwrap_or(Err(NotAnswered::Full))
        };
        loop {
            let answer = |cache: &mut ThreadCache, _| {
                let live = attached.own_at(cache, offset, generation).map_err(|_| NotAnswered::NotOwn)?;
                let heap = attached.handler.matrix().heap();
                heap.answer(cache, self.caller, responses_of::<A>(), (live, part), wait)
            };
            match attached.with(answer) {
                Err(_) => return Err(Unanswered::NoParticipant),
                Ok(Err(NotAnswered::Full)) if !left().is_zero() => attached.look_after_the_dead(),
                Ok(answered) => return Ok(answered?),
            }
        }
    }
}

impl<'s, Q: Payload + ?Sized, A: InPlace> Request<'s, Q, A> {
    /// A response, whatever bytes were there before, that is not copied when it is sent.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn response(&self) -> Result<Message<'s, A>> {
        self.server.handler().filled_message_with(1, TAIL_WORDS * 8, |_| ())
    }

    /// Responds with this value, as [`Request::respond`].
    ///
    /// # Errors
    /// [`Error::NotAnswered`], and as [`Handler::message`].
    pub fn respond_value(self, value: A) -> Result<()> {
        let mut response = self.response()?;
        *response = value;
        Ok(self.respond(response)?)
    }
}
impl<'s, Q: Payload + ?Sized, A: InPlace> Request<'s, Q, [A]> {
    /// A response of so many items, whatever bytes were there before, that is not copied when it is sent.
    ///
    /// # Errors
    /// As [`Handler::message_slice`].
    pub fn response_slice(&self, items: usize) -> Result<Message<'s, [A]>> {
        self.server.handler().filled_message_with(items, TAIL_WORDS * 8, |_| ())
    }
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Drop for Request<'_, Q, A> {
    fn drop(&mut self) {
        // SAFETY: it is not used any more.
        unsafe { ManuallyDrop::drop(&mut self.message) };
        if !self.answered {
            let heap = self.server.handler().matrix().heap();
            let _ = self.server.end.attached.with(|cache, _| heap.wake_caller(cache, self.caller));
        }
    }
}
