//! The caller's side.

use super::error::{CallError, Failed};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::ipc::Unsent;
use crate::ipc::call::{Asked, CallStatus, Calls, Part, TAIL_WORDS};
use crate::ipc::channel::attached::{Attached, End};
use crate::ipc::link::Taken;
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::structure::{Role, Shape, Sort, Structure};
use crate::ipc::wait::{Look, deadline};
use crate::matrix::heap::{Live, ThreadCache};
use crate::segment::region::MappedRegion;
use crate::shared::{InPlace, mix};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// log2 of the responses of a stream that a caller need not have taken yet.
const RESPONSES_SHIFT: u32 = 4;

/// What a ring of responses of `A` holds.
pub(super) const fn responses_of<A: Payload + ?Sized>() -> u32 {
    mix("responses", &[A::FINGERPRINT])
}

/// Calls a service: one call at a time. Another thread makes a client of its own.
pub struct Client<Q: ?Sized, A: ?Sized> {
    end: End,
    ring: Arc<Attached>,
    calls: Mutex<Numbered>,
    of: PhantomData<fn(Box<Q>) -> Box<A>>,
}

/// The calls of a client, one after the other.
#[derive(Default)]
struct Numbered {
    /// The last one's number.
    last: u64,
    /// Whether that one is made now, or its responses are there still.
    busy: bool,
}

/// The call that a client makes now. It ends with this, on whatever thread.
struct Calling<'c> {
    ring: &'c Attached,
    calls: &'c Mutex<Numbered>,
    number: u64,
}

impl<'c> Calling<'c> {
    fn begin(ring: &'c Attached, calls: &'c Mutex<Numbered>) -> std::result::Result<Self, Failed> {
        // Before the lock, which a forked child finds as another thread may have left it.
        ring.structure().map_err(|_| Failed::NoParticipant)?;
        let mut numbered = locked(calls);
        if std::mem::replace(&mut numbered.busy, true) {
            return Err(Failed::Busy);
        }
        numbered.last += 1;
        Ok(Self { ring, calls, number: numbered.last })
    }
}
impl Drop for Calling<'_> {
    fn drop(&mut self) {
        // In a forked child it is the parent's call, and the lock may be held for ever.
        if self.ring.structure().is_ok() {
            locked(self.calls).busy = false;
        }
    }
}

fn locked(calls: &Mutex<Numbered>) -> MutexGuard<'_, Numbered> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Client<Q, A> {
    pub(super) fn new(end: End) -> Result<Self> {
        let content = responses_of::<A>();
        let shape = Shape { sort: Sort::Channel, cells_shift: RESPONSES_SHIFT, readers: 0, content };
        let ring = Attached::make_hidden(&end.attached.handler, shape)?;
        Ok(Self { end, ring, calls: Mutex::default(), of: PhantomData })
    }

    /// The segment's handler.
    pub fn handler(&self) -> &Handler {
        &self.ring.handler
    }

    /// Sends the request, and waits for the first response to it until the time is over.
    ///
    /// # Errors
    /// [`CallError`], with the request if no server can have it.
    pub fn call<'m>(
        &self,
        request: Message<'m, Q>,
        timeout: Duration,
    ) -> std::result::Result<Message<'_, A>, CallError<'m, Q>> {
        let until = deadline(timeout);
        let mut responses = self.ask(request, until)?;
        let response = match responses.until(until) {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(Failed::Unanswered { died: false }),
            Err(why) => Err(why),
        };
        response.map_err(|why| CallError { request: None, why })
    }

    /// Sends the request, and waits for room for it until the time is over. The responses come one after the other.
    ///
    /// # Errors
    /// [`CallError`] with the request.
    pub fn stream<'m>(
        &self,
        request: Message<'m, Q>,
        timeout: Duration,
    ) -> std::result::Result<Responses<'_, Q, A>, CallError<'m, Q>> {
        self.ask(request, deadline(timeout))
    }

    fn ask<'m>(
        &self,
        request: Message<'m, Q>,
        until: Option<Instant>,
    ) -> std::result::Result<Responses<'_, Q, A>, CallError<'m, Q>> {
        match self.asked(&request, until) {
            Ok((responses, copied)) => {
                // The original of a copy is freed.
                if !copied {
                    request.forget();
                }
                Ok(responses)
            }
            Err(why) => Err(CallError { request: Some(request), why }),
        }
    }

    fn asked(
        &self,
        request: &Message<'_, Q>,
        until: Option<Instant>,
    ) -> std::result::Result<(Responses<'_, Q, A>, bool), Failed> {
        let calling = Calling::begin(&self.ring, &self.calls)?;
        if request.handler().creation() != self.handler().creation() {
            return Err(Failed::Unsent { why: Unsent::NotOwn });
        }
        let copy = self.handler().copy_with_room(request, TAIL_WORDS * 8).map_err(|error| match error {
            Error::OutOfMemory { .. } | Error::TooLarge { .. } => Failed::OutOfMemory,
            Error::NotLive { .. } => Failed::Unsent { why: Unsent::NotOwn },
            _ => Failed::NoParticipant,
        })?;
        let deaths = self.deaths();
        let (number, asked) = (calling.number, Cell::new(None));
        let put = || match &copy {
            Some(copy) => self.put(copy, number, &asked),
            None => self.put(request, number, &asked),
        };
        let put = match put() {
            Err(Unsent::Full) => {
                let in_vain = || self.end.has_lost_the_others().map(|died| Unsent::Disconnected { died });
                self.end.attached.put_patiently(until, put, in_vain)
            }
            put => put,
        };
        put.map_err(|why| Failed::Unsent { why })?;
        let copied = copy.map(Message::forget).is_some();
        let asked = asked.get().ok_or(Failed::NoParticipant)?;
        Ok((Responses { client: self, _calling: calling, asked, deaths, over: false }, copied))
    }

    fn put(
        &self,
        request: &Message<'_, Q>,
        number: u64,
        asked: &Cell<Option<Asked>>,
    ) -> std::result::Result<(), Unsent> {
        let ring = self.ring.structure().map_err(|_| Unsent::NoParticipant)?;
        self.end.attached.put(request, 1, |cache, structure, live| {
            asked.set(Some(Calls::of(structure, ring, self.ring.live).ask(cache.owner(), live, number)?));
            Ok(())
        })
    }

    /// Where responses come.
    pub(in crate::ipc) fn responses(&self) -> &Arc<Attached> {
        &self.ring
    }

    /// How many servers have died.
    fn deaths(&self) -> u32 {
        self.end.attached.structure().map_or(0, |structure| structure.deaths(Role::Receiver))
    }

    fn with_calls<T>(&self, act: impl FnOnce(&Calls<'_, MappedRegion>, &mut ThreadCache) -> T) -> Result<T> {
        let requests = self.end.attached.structure()?;
        self.ring
            .with(|cache, ring: Structure<'_, MappedRegion>| act(&Calls::of(requests, ring, self.ring.live), cache))
    }
}

impl<Q: InPlace, A: Payload + ?Sized> Client<Q, A> {
    /// A request, whatever bytes were there before, that is not copied when it is sent.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn request(&self) -> Result<Message<'_, Q>> {
        self.handler().filled_message_with(1, TAIL_WORDS * 8, |_| ())
    }

    /// Calls with this value, as [`Client::call`].
    ///
    /// # Errors
    /// [`Error::CallFailed`], and as [`Handler::message`].
    pub fn call_value(&self, value: Q, timeout: Duration) -> Result<Message<'_, A>> {
        let mut request = self.request()?;
        *request = value;
        Ok(self.call(request, timeout)?)
    }
}
impl<Q: InPlace, A: Payload + ?Sized> Client<[Q], A> {
    /// A request of so many items, whatever bytes were there before, that is not copied when it is sent.
    ///
    /// # Errors
    /// As [`Handler::message_slice`].
    pub fn request_slice(&self, items: usize) -> Result<Message<'_, [Q]>> {
        self.handler().filled_message_with(items, TAIL_WORDS * 8, |_| ())
    }
}

/// The responses to one call, as they come. Dropped before the last one, the server is told that nobody waits.
pub struct Responses<'c, Q: Payload + ?Sized, A: Payload + ?Sized> {
    client: &'c Client<Q, A>,
    _calling: Calling<'c>,
    asked: Asked,
    /// How many servers had died when it was asked.
    deaths: u32,
    over: bool,
}

impl<'c, Q: Payload + ?Sized, A: Payload + ?Sized> Responses<'c, Q, A> {
    /// The next response; none behind the last one.
    ///
    /// # Errors
    /// [`Error::CallFailed`]: after [`Failed::Timeout`] and [`Failed::NoParticipant`] it may be tried again.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'c, A>>> {
        Ok(self.until(deadline(timeout))?)
    }

    fn until(&mut self, until: Option<Instant>) -> std::result::Result<Option<Message<'c, A>>, Failed> {
        if self.over {
            return Ok(None);
        }
        let attempt = |look| {
            if look == Look::Thorough {
                self.client.ring.look_after_the_dead();
            }
            self.look()
        };
        let ring = self.client.ring.structure().map_err(|_| Failed::NoParticipant)?;
        let found = ring.bell(Role::Receiver).wait(until, attempt).unwrap_or(Err(Failed::Timeout));
        self.take_up(found)
    }

    /// The next response, if it is there now, or why none comes any more; behind the last one, that there is none.
    pub(in crate::ipc) fn try_next(&mut self) -> Option<Result<Option<Message<'c, A>>>> {
        if self.over {
            return Some(Ok(None));
        }
        let found = self.look()?;
        Some(self.take_up(found).map_err(Error::from))
    }
    pub(in crate::ipc) fn attached(&self) -> &'c Arc<Attached> {
        self.client.responses()
    }

    /// One look: the response is the caller's.
    fn look(&self) -> Option<std::result::Result<(Taken, Part), Failed>> {
        let client = self.client;
        match client.with_calls(|calls, cache| calls.look(cache, self.asked)) {
            Ok(CallStatus::Response(taken, part)) => Some(Ok((taken, part))),
            Ok(CallStatus::Waits) => client.end.has_lost_the_others().map(|died| Err(Failed::NoServer { died })),
            Ok(CallStatus::Worked(_)) => None,
            Ok(CallStatus::Unanswered) => Some(Err(Failed::Unanswered { died: client.deaths() != self.deaths })),
            Err(_) => Some(Err(Failed::NoParticipant)),
        }
    }

    fn take_up(
        &mut self,
        found: std::result::Result<(Taken, Part), Failed>,
    ) -> std::result::Result<Option<Message<'c, A>>, Failed> {
        let (taken, part) =
            found.inspect_err(|&why| self.over = !matches!(why, Failed::Timeout | Failed::NoParticipant))?;
        // There is room for another.
        if let Ok(ring) = self.client.ring.structure() {
            ring.bell(Role::Sender).ring(1);
        }
        self.over = part != Part::More;
        self.message(taken, part)
    }

    fn message(&self, taken: Taken, part: Part) -> std::result::Result<Option<Message<'c, A>>, Failed> {
        let handler = self.client.handler();
        let free = |live: Live| _ = handler.free_message(&handler.pointer(live));
        if part == Part::End {
            free(taken.live);
            return Ok(None);
        }
        let message = Message::received(handler, taken);
        if message.is_none() {
            free(taken.live);
        }
        message.map(Some).ok_or(Failed::OfAnotherType)
    }
}

impl<Q: Payload + ?Sized, A: Payload + ?Sized> Drop for Responses<'_, Q, A> {
    fn drop(&mut self) {
        // The process is counted as a user: a thread without a number gives up, too.
        let (requests, ring) = (self.client.end.attached.structure(), self.client.ring.structure());
        if let (Ok(requests), Ok(ring)) = (requests, ring) {
            Calls::of(requests, ring, self.client.ring.live).give_up();
            // A server that waits for room looks again.
            ring.bell(Role::Sender).ring_after_store(u32::MAX);
        }
    }
}
