//! Why a map refuses.

use crate::error::{Error, errors};
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::table::{MAX_KEY, NotPut};

errors! {
/// Why a map refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// There is no place for this key now.
    #[error("the map has no place for this key; take something out, or make it for more entries \
        (MapOptions::capacity)")]
    Full,
    /// The key is there.
    #[error("the key is in the map already; replace what is there, or take another key")]
    Exists,
    /// The key is not there.
    #[error("the key is not in the map; insert it")]
    Unknown,
    /// The key is too long.
    #[error("the key has more than {} bytes; use a hash of it, or keep it in the value", MAX_KEY)]
    KeyTooLong,
    /// There is no memory for the copy of a message that has no room for its key.
    #[error("no memory is free to copy the message to where it has room for its key; allocate it by the map, \
        free blocks, or make a larger segment")]
    OutOfMemory,
    /// As many guards and calls as the map was made for are at work.
    #[error("as many read the map as it was made for; drop a guard, or make it for more (MapOptions::guards)")]
    NoGuard,
    /// Somebody has removed the map.
    #[error("the map was removed; open or create it anew")]
    Closed,
    /// The message is another segment's, or is not its handle's any more.
    #[error("the message is not of this map's segment, or was freed by its offset; allocate it with the map's handler")]
    NotOwn,
    /// This process has no right or no room to take part: it was forked, or every participant slot is taken.
    #[error("this thread cannot become a participant: the process was forked, or every slot is taken; attach \
        anew, or make a segment with more")]
    NoParticipant,
}
}

impl std::error::Error for Refused {}

impl From<NotPut> for Refused {
    fn from(why: NotPut) -> Self {
        match why {
            NotPut::Full => Self::Full,
            NotPut::Exists => Self::Exists,
            NotPut::Unknown => Self::Unknown,
            NotPut::Closed => Self::Closed,
            NotPut::NotOwn => Self::NotOwn,
        }
    }
}

/// A message that was not put in, and why.
pub struct InsertError<'h, T: Payload + ?Sized> {
    /// The message: nothing is lost.
    pub message: Message<'h, T>,
    /// Why.
    pub why: Refused,
}

impl<T: Payload + ?Sized> std::fmt::Debug for InsertError<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InsertError").field("message", &self.message.offset()).field("why", &self.why).finish()
    }
}
impl<T: Payload + ?Sized> std::fmt::Display for InsertError<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.why.fmt(f)
    }
}
impl<T: Payload + ?Sized> std::error::Error for InsertError<'_, T> {}

/// The message is freed.
impl<T: Payload + ?Sized> From<InsertError<'_, T>> for Error {
    fn from(error: InsertError<'_, T>) -> Self {
        Self::MapRefused { why: error.why }
    }
}
