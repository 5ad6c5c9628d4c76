//! Calls: a request in one ring, its responses in another, and the end of either side told by the request's header.
//!
//! Requests go through a channel that all clients and servers of a service share. Each client has a ring of
//! its own for responses, *hidden*: it has no name, and is freed after the client. A request says where that
//! is, and which of the client's calls it is; so does a response. Both stand at the end of the block, behind
//! the value: `place and generation of the ring | call | part`.
//!
//! ```text
//! client, A                                         server, S
//!  1 awaited ← call                                  1 receives the request: its header is (S, g)
//!  2 sends the request, whose header is (LINKED, g)   2 visits the client's ring: is it there, awaited = call?
//!  3 receives from its own ring:                        sends the response there, rings
//!     a response to the call → it                    3 frees the request, once the last one is sent
//!     to an earlier call     → freed, again
//!     nothing: the request's header is
//!       (LINKED, g)  → it waits in the channel
//!       (S, g)       → S works at it
//!       another      → 3 once more; nothing → nobody answers
//! ```
//!
//! **Who is told.** A client, exactly: as long as the request's header is (LINKED, g) or (S, g), an answer
//! may come; it is neither once S has answered and freed it, has dropped it, or is dead and recovered. A
//! response is in the ring before its request is freed, by S or by its recovery, which completes S's links
//! first (L-c). So whoever finds the request gone, and then no response, gets none. A server: a visit to the
//! ring of a client that is dead and recovered, or has left, finds nothing, or a sealed cell; the response is
//! S's still.
//!
//! **Killed.** A client: its ring is freed with the responses in it, its requests are dropped by whoever
//! receives them. A server: the request that it worked at is freed with its blocks; a response that stands in
//! the ring is sent. Nothing is shared but rings and headers, and both calls are **lock-free** but for
//! waiting.

use super::link::Taken;
use super::ring::{NotSent, Ring};
use super::structure::{AWAITED, Role, Sort, Structure};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::block_header::{KEPT, LINKED};
use crate::matrix::heap::{Heap, Live, ThreadCache};
use crate::segment::layout::Granule;
use crate::segment::region::Region;

/// Words at the end of the block of a request or a response.
pub const TAIL_WORDS: usize = 3;

/// Which of the responses to a call one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// More will come.
    More,
    /// It is the last one.
    Last,
    /// There is none any more; this one's value does not count.
    End,
}

impl Part {
    fn of(word: u64) -> Self {
        match word {
            1 => Self::More,
            2 => Self::Last,
            _ => Self::End,
        }
    }
    const fn word(self) -> u64 {
        match self {
            Self::More => 1,
            Self::Last => 2,
            Self::End => 3,
        }
    }
}

/// What a request says of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The block of its ring, and that block's generation.
    at: Granule,
    generation: u32,
    /// Which of its calls.
    pub call: u64,
}

impl Caller {
    /// Whether this is its ring.
    pub fn has(&self, ring: Live) -> bool {
        (self.at, self.generation) == (ring.at, ring.header.generation())
    }
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    at: Granule,
    generation: u32,
    /// Which of the caller's calls.
    pub call: u64,
}

/// What a caller finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    /// A response, which is the caller's.
    Response(Taken, Part),
    /// The request waits for a server.
    Waits,
    /// This participant works at it.
    Worked(u16),
    /// Nobody answers: the request was dropped, or its server is dead.
    Unanswered,
}

/// Why a response was not sent. It is still the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAnswered {
    /// The caller has as many responses as its ring has room for.
    Full,
    /// The caller is gone.
    Gone,
    /// The caller waits for this call no more.
    GivenUp,
    /// The block is not the server's own live block.
    NotOwn,
}

impl From<NotSent> for NotAnswered {
    fn from(why: NotSent) -> Self {
        match why {
            NotSent::Full => Self::Full,
            NotSent::NotOwn => Self::NotOwn,
            NotSent::Closed | NotSent::Damaged => Self::Gone,
        }
    }
}

/// A try to put a response into its caller's ring.
pub type Attempt<'a> = &'a mut dyn FnMut() -> Result<(), NotAnswered>;

type Tail<'h, R> = &'h [<<R as Region>::Backend as Backend>::Word];

impl<R: Region> Heap<R> {
    /// The last words of a live block.
    fn tail(&self, live: Live) -> Option<Tail<'_, R>> {
        let count = live.header.size() as usize * self.layout().granule_words();
        let words = self.region().payload(live.at, count)?;
        words.get(count.checked_sub(TAIL_WORDS)?..)
    }
    fn write_tail(&self, live: Live, values: [u64; TAIL_WORDS]) -> bool {
        let Some(tail) = self.tail(live) else { return false };
        tail.iter().zip(values).for_each(|(word, value)| word.store(value, &LABEL_WRITE));
        true
    }
    fn read_tail(&self, live: Live) -> [u64; TAIL_WORDS] {
        let mut values = [0; TAIL_WORDS];
        if let Some(tail) = self.tail(live) {
            values.iter_mut().zip(tail).for_each(|(value, word)| *value = word.load(&LABEL_LOOK));
        }
        values
    }

    /// What a request that `live`'s owner has received says of its caller.
    pub fn caller(&self, live: Live) -> Caller {
        let [place, call, _] = self.read_tail(live);
        Caller { at: Granule(place as u32), generation: (place >> 32) as u32, call }
    }

    /// The caller's ring, if it is there still.
    fn ring_of(&self, caller: Caller) -> Option<Live> {
        let live = self.live_at(caller.at).ok()?;
        (live.header.owner() == 0 && live.header.generation() == caller.generation).then_some(live)
    }

    /// Visits a caller's ring, if it is there still.
    fn visit_ring<T>(
        &self,
        cache: &mut ThreadCache,
        caller: Caller,
        act: impl FnOnce(Structure<'_, R>) -> T,
    ) -> Option<T> {
        let ring = self.ring_of(caller)?;
        let result = Structure::visit(self, cache.owner(), ring, act);
        // The caller may have left meanwhile, or have been recovered, and have left the ring to this visit.
        if R::Backend::takes(Mutant::RingLeft)
            && Structure::at(self, ring).is_some_and(|ring| ring.is_removed() && !ring.is_used())
        {
            Structure::drain_removed(self, cache, ring);
            Structure::free_if_unused(self, cache, ring);
        }
        result
    }

    /// Whether a caller waits for the call still. If not, nobody needs to answer.
    pub fn is_awaited(&self, cache: &mut ThreadCache, caller: Caller, content: u32) -> bool {
        self.visit_ring(cache, caller, |ring| awaits(&ring, caller, content)).unwrap_or(false)
    }

    /// The caller looks again.
    pub fn wake_caller(&self, cache: &mut ThreadCache, caller: Caller) {
        self.visit_ring(cache, caller, |ring| ring.bell(Role::Receiver).ring_after_store(u32::MAX));
    }

    /// Sends a response: a live block of the cache's own, at whose end nothing stands. `content` is what the
    /// caller's ring has to hold; `wait` is called in a visit of it, and tries as often as it likes.
    ///
    /// # Errors
    /// [`NotAnswered`], and the block is still the cache's.
    pub fn answer(
        &self,
        cache: &mut ThreadCache,
        caller: Caller,
        content: u32,
        (block, part): (Live, Part),
        wait: impl FnOnce(&Structure<'_, R>, Attempt<'_>) -> Result<(), NotAnswered>,
    ) -> Result<(), NotAnswered> {
        let me = cache.owner();
        if block.header.owner() != me || !self.write_tail(block, [0, caller.call, part.word()]) {
            return Err(NotAnswered::NotOwn);
        }
        let sent = self.visit_ring(cache, caller, |ring| {
            // Each time: who waits for room is called when the caller gives up.
            let mut attempt = || {
                if !awaits(&ring, caller, content) {
                    return Err(NotAnswered::GivenUp);
                }
                Ok(Ring::of(ring).send(me, block)?)
            };
            wait(&ring, &mut attempt)
        });
        sent.unwrap_or(Err(NotAnswered::Gone))
    }
}

fn awaits<R: Region>(ring: &Structure<'_, R>, caller: Caller, content: u32) -> bool {
    ring.shape.sort == Sort::Channel
        && ring.shape.content == content
        && ring.field(AWAITED).load(&AWAITED_LOOK) == caller.call
}

/// A client's side: the service's channel, and its own ring.
pub struct Calls<'a, R: Region> {
    requests: Structure<'a, R>,
    responses: Structure<'a, R>,
    heap: &'a Heap<R>,
    /// Where the ring is.
    ring: Live,
}

impl<'a, R: Region> Calls<'a, R> {
    /// Of two structures that the caller is counted among the users of; the second is its own.
    pub fn of(requests: Structure<'a, R>, responses: Structure<'a, R>, ring: Live) -> Self {
        Self { requests, responses, heap: responses.heap, ring }
    }

    /// Sends a request, a live block of `me`'s own at whose end nothing stands, as a call that this client
    /// has not made before (and not 0).
    ///
    /// # Errors
    /// [`NotSent`], and the block is still `me`'s.
    pub fn ask(&self, me: u16, block: Live, call: u64) -> Result<Asked, NotSent> {
        let place = (self.ring.header.generation() as u64) << 32 | self.ring.at.0 as u64;
        if block.header.owner() != me || !self.heap.write_tail(block, [place, call, 0]) {
            return Err(NotSent::NotOwn);
        }
        self.responses.field(AWAITED).store(call, &AWAITED_WRITE);
        Ring::of(self.requests).send(me, block)?;
        Ok(Asked { at: block.at, generation: Heap::<R>::linked_generation(block.header), call })
    }

    /// Nothing is waited for any more.
    pub fn give_up(&self) {
        self.responses.field(AWAITED).store(0, &AWAITED_WRITE);
    }

    /// What there is of a call.
    pub fn look(&self, cache: &mut ThreadCache, asked: Asked) -> CallStatus {
        if let Some((taken, part)) = self.response(cache, asked) {
            return CallStatus::Response(taken, part);
        }
        match self.heap.live_at(asked.at) {
            // What is kept of a dead server's nobody works at. Whoever adopts it before this looks is taken for a
            // server: the owner may change while the request is worked at, too, where the server's thread ends.
            Ok(live) if live.header.generation() == asked.generation && live.header.owner() != KEPT => {
                match live.header.owner() {
                    LINKED => CallStatus::Waits,
                    owner => CallStatus::Worked(owner),
                }
            }
            // A response was sent before that, if one was.
            _ if R::Backend::mutated(Mutant::GoneUnchecked) => CallStatus::Unanswered,
            _ => match self.response(cache, asked) {
                Some((taken, part)) => CallStatus::Response(taken, part),
                None => CallStatus::Unanswered,
            },
        }
    }

    /// The next response to a call. Those to earlier calls are freed.
    fn response(&self, cache: &mut ThreadCache, asked: Asked) -> Option<(Taken, Part)> {
        loop {
            let taken = match Ring::of(self.responses).receive(cache.owner()) {
                Ok(taken) => taken,
                Err(_) => return None,
            };
            let [_, call, part] = self.heap.read_tail(taken.live);
            if R::Backend::check(call == asked.call, Mutant::CallUnchecked) {
                return Some((taken, Part::of(part)));
            }
            let _ = self.heap.free(cache, taken.live.at, Some(taken.live.header.generation()));
            // There is room for one to this call.
            self.responses.bell(Role::Sender).ring(1);
            if R::Backend::mutated(Mutant::LateEndsLook) {
                return None;
            }
        }
    }
}
