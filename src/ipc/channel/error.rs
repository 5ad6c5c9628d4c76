//! Why a message was not sent, or none received.

use crate::error::{Error, errors};
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::ring::{NotReceived, NotSent};

errors! {
/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsent {
    /// There is no room now.
    #[error("it is full; wait with `send` or `publish_timeout`, or receive more")]
    Full,
    /// There was no room for as long as was to be waited.
    #[error("the channel was full until the time was over; receive faster, or make it larger")]
    Timeout,
    /// Somebody has closed or removed the channel.
    #[error("it was closed or removed; open or create it anew")]
    Closed,
    /// There is no room, and no receiver any more. `died`: one was killed, rather than left.
    #[error("the channel is full and has no receiver any more (one died: {died}); wait for one to come, or drop \
        the message")]
    Disconnected {
        /// Whether a receiver was killed since this sender was made.
        died: bool,
    },
    /// The message is another segment's, or is not its handle's any more.
    #[error("the message is not of this channel's segment, or was freed by its offset; allocate it with the \
        channel's handler")]
    NotOwn,
    /// This process has no right or no room to take part: it was forked, or every participant slot is taken.
    #[error("this thread cannot become a participant: the process was forked, or every slot is taken; attach \
        anew, or make a segment with more")]
    NoParticipant,
    /// The channel's memory is damaged.
    #[error("the channel is damaged; stop its users and make it anew")]
    Damaged,
}
}

errors! {
/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreceived {
    /// There is no message now.
    #[error("the channel is empty; wait with `recv`")]
    Empty,
    /// As many messages are held as the channel allows
    /// ([`ChannelOptions::redeliver`](super::ChannelOptions::redeliver)).
    #[error("as many messages are held as the channel allows; acknowledge one, or make the channel with more \
        (`redeliver`)")]
    AllHeld,
    /// There was none for as long as was to be waited.
    #[error("no message came until the time was over; wait longer, or see whether a sender is there")]
    Timeout,
    /// Somebody has closed or removed the channel, and every message was received.
    #[error("the channel is closed and empty; open or create it anew")]
    Closed,
    /// There is no message, and no sender any more. `died`: one was killed, rather than left.
    #[error("the channel is empty and has no sender any more (one died: {died}); wait for one to come, or end")]
    Disconnected {
        /// Whether a sender was killed since this receiver was made.
        died: bool,
    },
    /// The message that was received is not of the channel's type; it was freed.
    #[error("a message of another type was received and freed; a process sends what it should not, by another way")]
    OfAnotherType,
    /// This process has no right or no room to take part: it was forked, or every participant slot is taken.
    #[error("this thread cannot become a participant: the process was forked, or every slot is taken; attach \
        anew, or make a segment with more")]
    NoParticipant,
    /// The channel's memory is damaged.
    #[error("the channel is damaged; stop its users and make it anew")]
    Damaged,
}
}

impl From<NotSent> for Unsent {
    fn from(why: NotSent) -> Self {
        match why {
            NotSent::Full => Self::Full,
            NotSent::Closed => Self::Closed,
            NotSent::NotOwn => Self::NotOwn,
            NotSent::Damaged => Self::Damaged,
        }
    }
}

impl From<NotReceived> for Unreceived {
    fn from(why: NotReceived) -> Self {
        match why {
            NotReceived::Empty => Self::Empty,
            NotReceived::AllHeld => Self::AllHeld,
            NotReceived::Closed => Self::Closed,
            NotReceived::Damaged => Self::Damaged,
        }
    }
}

impl Unreceived {
    /// Whether there may be something later: whoever waits goes on.
    pub(in crate::ipc) const fn may_come(self) -> bool {
        matches!(self, Self::Empty | Self::AllHeld)
    }
}

impl std::error::Error for Unsent {}
impl std::error::Error for Unreceived {}

/// A message that was not sent, and why.
///
/// Its message borrows the handler. Where the function returns `Box<dyn Error>`, which borrows nothing, say
/// `.map_err(atomic_matrix::Error::from)?`: the message is freed then.
pub struct SendError<'h, T: Payload + ?Sized> {
    /// The message: nothing is lost.
    pub message: Message<'h, T>,
    /// Why.
    pub why: Unsent,
}

impl<'h, T: Payload + ?Sized> Message<'h, T> {
    /// What became of a try to put it in somewhere: sent, it is its handle's no more.
    #[inline(always)]
    pub(in crate::ipc) fn sent(self, put: Result<(), Unsent>) -> Result<(), SendError<'h, T>> {
        match put {
            Ok(()) => {
                self.forget();
                Ok(())
            }
            Err(why) => Err(SendError { message: self, why }),
        }
    }
}

impl<T: Payload + ?Sized> std::fmt::Debug for SendError<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendError").field("message", &self.message.offset()).field("why", &self.why).finish()
    }
}
impl<T: Payload + ?Sized> std::fmt::Display for SendError<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.why.fmt(f)
    }
}
impl<T: Payload + ?Sized> std::error::Error for SendError<'_, T> {}

/// The message is freed.
impl<T: Payload + ?Sized> From<SendError<'_, T>> for Error {
    fn from(error: SendError<'_, T>) -> Self {
        Self::NotSent { why: error.why }
    }
}
impl From<Unsent> for Error {
    fn from(why: Unsent) -> Self {
        Self::NotSent { why }
    }
}
impl From<Unreceived> for Error {
    fn from(why: Unreceived) -> Self {
        Self::NotReceived { why }
    }
}
