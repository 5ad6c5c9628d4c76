//! Room behind a message's value, for what a structure writes there.

use super::link::Taken;
use super::message::Message;
use super::payload::Payload;
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::matrix::heap::Kind;

impl Handler {
    /// A copy of a message that has so many bytes behind its value, at the end of its block; none if it has
    /// them itself. O(bytes).
    pub(super) fn copy_with_room<'h, T: Payload + ?Sized>(
        &'h self,
        message: &Message<'_, T>,
        room: usize,
    ) -> Result<Option<Message<'h, T>>> {
        let at = self.matrix().offsets().granule(message.offset());
        let stale = || Error::NotLive { offset: message.offset(), state: "freed by its offset" };
        let live = self.matrix().heap().live_of(at, Some(message.generation())).map_err(|_| stale())?;
        let needed = T::HEAD + size_of_val::<T>(message);
        let with_room = needed.next_multiple_of(8) + room;
        if with_room <= self.bytes(live) {
            return Ok(None);
        }
        let pointer = self.allocate_bytes::<u8>(with_room, T::ALIGN, Kind::Typed(T::FINGERPRINT))?;
        let (from, to) = (self.address(message.offset()), self.address(pointer.offset()));
        // SAFETY: both blocks are live, have as many bytes, are this call's alone, and do not overlap (S1).
        unsafe { std::ptr::copy_nonoverlapping(from, to, needed) };
        let live = self.live_at(pointer.offset())?;
        Message::received(self, Taken { live, giver: 0 }).map(Some).ok_or_else(stale)
    }
}
