//! Messages without their handler: what a binding to another language keeps, whose objects have no
//! lifetimes.

use super::message::Message;
use super::payload::Payload;
use crate::error::{Error, Result};
use crate::handlers::{Handler, RelativePtr};
use crate::matrix::block_header::LINKED;
use std::marker::PhantomData;

/// A message that borrows no handler. It is this participant's still: what becomes of it is as
/// before, but that nothing frees it when it is dropped. So [`Unbound::bind`] it again, or its
/// block stays until its owner dies.
///
/// ```
/// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
/// let kept = handler.message_text("kept")?.unbind();
/// assert_eq!(&*kept.bind(&handler)?, "kept");
/// # Ok::<(), atomic_matrix::Error>(())
/// ```
#[must_use = "nothing frees the block of an unbound message, unless its owner dies"]
pub struct Unbound<T: ?Sized> {
    pointer: RelativePtr<u8>,
    giver: u16,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: Payload + ?Sized> Message<'_, T> {
    /// The message without its handler: see [`Unbound`].
    pub fn unbind(self) -> Unbound<T> {
        let giver = self.giver();
        let (_, pointer) = self.forget();
        Unbound { pointer, giver, of: PhantomData }
    }
}

impl<T: ?Sized> Unbound<T> {
    /// The block's position, as plain data.
    pub fn pointer(&self) -> RelativePtr<u8> {
        self.pointer
    }
}

impl<T: Payload + ?Sized> Unbound<T> {
    /// The message, bound to a handler of its segment, which may be another one than before. What
    /// the block says of itself is checked again, as for a reference: a copy that another language
    /// kept of what was sent or freed is refused, in most cases. O(1).
    ///
    /// # Errors
    /// [`Error::ForeignBlock`]; [`Error::NotLive`] or [`Error::Stale`] if it was freed by its
    /// offset; [`Error::InStructure`] if it was sent; [`Error::Owned`] if it is unowned;
    /// [`Error::TypeMismatch`], [`Error::TooSmall`]. The block stays what it is then.
    pub fn bind(self, handler: &Handler) -> Result<Message<'_, T>> {
        let Self { pointer, giver, .. } = self;
        let offset = pointer.offset();
        let live = handler.live(&pointer)?;
        match live.header.owner() {
            LINKED => return Err(Error::InStructure { offset }),
            0 => return Err(Error::Owned { offset, participant: 0 }),
            _ => {}
        }
        let items = handler.items_of::<T>(live)?;
        Ok(Message::<T>::over(handler, pointer, items).with_giver(giver))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::testing::handler;

    /// A copy that another language kept of what is in a structure by now, under whatever generation.
    #[test]
    fn s5_what_was_sent_is_bound_no_more() {
        let made = handler();
        let channel = made.channel::<u64>("channel").create().expect("made");
        let message = made.message_of(7_u64).expect("room");
        let before = message.offset();
        channel.sender().expect("a sender").send(message).expect("room");
        let linked = made.pointer(made.live_at(before).expect("it is linked"));
        let kept = Unbound::<u64> { pointer: linked, giver: 0, of: PhantomData };
        assert!(matches!(kept.bind(&made).map(drop), Err(Error::InStructure { offset }) if offset == before));
    }
}
