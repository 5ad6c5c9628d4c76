//! Why a call failed, or a response was not sent.

use crate::error::{Error, errors};
use crate::ipc::Unsent;
use crate::ipc::call::NotAnswered;
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;

errors! {
/// Why a call has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failed {
    /// The request was not sent.
    #[error("the request was not sent: {why}")]
    Unsent {
        /// Why.
        why: Unsent,
    },
    /// No response came in time. A server may work at it still, and will be told that nobody waits.
    #[error("no response came until the time was over; wait longer, or see whether the servers keep up")]
    Timeout,
    /// No server is there any more. `died`: one was killed during the call, rather than left.
    #[error("the service has no server any more (one died: {died}); start one, and call again")]
    NoServer {
        /// Whether a server was killed during the call.
        died: bool,
    },
    /// The server that had the request was killed (`died`), or dropped it.
    #[error("the request was not answered: its server dropped it, or died (one died: {died}); call again if it \
        may be done twice")]
    Unanswered {
        /// Whether a server was killed during the call.
        died: bool,
    },
    /// This client is just making a call, or has its responses still.
    #[error("this client makes a call already; drop its responses, or make a client for each thread")]
    Busy,
    /// There is no memory for the copy of a message that has no room for what goes with it.
    #[error("no memory is free to copy the message to where it has room for what goes with it; free blocks, or \
        make a larger segment")]
    OutOfMemory,
    /// The response is not of the service's type; it was freed.
    #[error("a response of another type was received and freed; a process sends what it should not, by another way")]
    OfAnotherType,
    /// This process has no right or no room to take part: it was forked, or every participant slot is taken.
    #[error("this thread cannot become a participant: the process was forked, or every slot is taken; attach \
        anew, or make a segment with more")]
    NoParticipant,
}
}

impl std::error::Error for Failed {}

impl From<Failed> for Error {
    fn from(why: Failed) -> Self {
        Self::CallFailed { why }
    }
}

/// A call that failed, and its request, if that was not sent.
pub struct CallError<'h, Q: Payload + ?Sized> {
    /// The request, if no server can have it: nothing is lost.
    pub request: Option<Message<'h, Q>>,
    /// Why.
    pub why: Failed,
}

impl<Q: Payload + ?Sized> std::fmt::Debug for CallError<'_, Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallError").field("returned", &self.request.is_some()).field("why", &self.why).finish()
    }
}
impl<Q: Payload + ?Sized> std::fmt::Display for CallError<'_, Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.why.fmt(f)
    }
}
impl<Q: Payload + ?Sized> std::error::Error for CallError<'_, Q> {}

/// The request is freed, if it came back.
impl<Q: Payload + ?Sized> From<CallError<'_, Q>> for Error {
    fn from(error: CallError<'_, Q>) -> Self {
        error.why.into()
    }
}

errors! {
/// Why a response was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unanswered {
    /// The caller did not take its responses as fast as they came, until the time was over.
    #[error("the caller has as many responses as it keeps, and took none until the time was over; wait longer, \
        or drop the request")]
    Full,
    /// The caller has died, or has left.
    #[error("the caller has died or left; drop the response, or use it otherwise")]
    Gone,
    /// The caller waits for this call no more.
    #[error("the caller waits for this call no more; drop the response, or use it otherwise")]
    GivenUp,
    /// The message is another segment's, or is not its handle's any more.
    #[error("the message is not of this service's segment, or was freed by its offset; allocate it with the \
        service's handler")]
    NotOwn,
    /// There is no memory for the copy of a message that has no room for what goes with it.
    #[error("no memory is free to copy the message to where it has room for what goes with it; free blocks, or \
        make a larger segment")]
    OutOfMemory,
    /// This process has no right or no room to take part: it was forked, or every participant slot is taken.
    #[error("this thread cannot become a participant: the process was forked, or every slot is taken; attach \
        anew, or make a segment with more")]
    NoParticipant,
}
}

impl std::error::Error for Unanswered {}

impl From<NotAnswered> for Unanswered {
    fn from(why: NotAnswered) -> Self {
        match why {
            NotAnswered::Full => Self::Full,
            NotAnswered::Gone => Self::Gone,
            NotAnswered::GivenUp => Self::GivenUp,
            NotAnswered::NotOwn => Self::NotOwn,
        }
    }
}

/// A response that was not sent, and why.
pub struct RespondError<'h, A: Payload + ?Sized> {
    /// The response: nothing is lost.
    pub message: Message<'h, A>,
    /// Why.
    pub why: Unanswered,
}

impl<A: Payload + ?Sized> std::fmt::Debug for RespondError<'_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RespondError").field("message", &self.message.offset()).field("why", &self.why).finish()
    }
}
impl<A: Payload + ?Sized> std::fmt::Display for RespondError<'_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.why.fmt(f)
    }
}
impl<A: Payload + ?Sized> std::error::Error for RespondError<'_, A> {}

/// The response is freed.
impl<A: Payload + ?Sized> From<RespondError<'_, A>> for Error {
    fn from(error: RespondError<'_, A>) -> Self {
        Self::NotAnswered { why: error.why }
    }
}
