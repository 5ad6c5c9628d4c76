//! Boards: the latest value of something, written by any number of processes, and read as a copy that is never torn.
//!
//! ```
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let limits = handler.board::<[u32; 2]>("limits")?;
//! assert_eq!(limits.get()?, None);
//! limits.set([10, 20])?;
//! limits.set([11, 21])?;
//! assert_eq!(limits.get()?, Some([11, 21]));
//! limits.remove()
//! # }
//! ```
//!
//! Setting is lock-free, and never refused for want of a reader. So is reading: it copies the newest value
//! and looks whether that is still there; it begins anew only if seven others were set meanwhile. *Killed*
//! while it sets a value: the board has the old one or the new one, and takes others as before; while it
//! reads: nothing. The last eight values lie in the segment, as blocks of the common heap.
//!
//! A `Board<[T]>` shows items of any number: it is set by a message, and read as a vector.

use super::channel::attached::Attached;
use super::link::Link;
use super::log::{Log, Lowest};
use super::message::Message;
use super::payload::Payload;
use super::structure::{Role, Sort};
use super::topic::{open, put};
use super::wait::deadline;
use crate::backend::orderings::WHOLE_SEEN;
use crate::backend::{Backend, Native, NativeWord, Word};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::matrix::heap::Live;
use crate::shared::{Shared, zeroed};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Values that a board keeps: so many are set before a reader has to begin anew.
const KEPT: usize = 8;

/// A board that this process has open. Any thread may read and write it.
pub struct Board<T: ?Sized> {
    pub(super) attached: Arc<Attached>,
    /// The word of the link whose value was copied last: its block is a `T`, and need not be looked at again.
    whole: NativeWord,
    of: PhantomData<fn() -> Box<T>>,
}

impl Handler {
    /// The board of that name, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] if what has that name is no board of this type; [`Error::OutOfMemory`],
    /// [`Error::DirectoryFull`], [`Error::NameTooLong`], [`Error::BadOption`] for the empty name,
    /// [`Error::ChangingHands`], [`Error::NoParticipantSlot`], [`Error::TooManyHandles`], [`Error::ForkedChild`].
    pub fn board<T: Payload + ?Sized>(&self, name: &str) -> Result<Board<T>> {
        self.board_of(Some(name))
    }

    /// A board without a name: [`Handler::open_ref`] says what leads to it, and how long it stays.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn unnamed_board<T: Payload + ?Sized>(&self) -> Result<Board<T>> {
        self.board_of(None)
    }

    fn board_of<T: Payload + ?Sized>(&self, name: Option<&str>) -> Result<Board<T>> {
        open::<Board<T>>(self, name, Sort::Board, KEPT, 0, T::FINGERPRINT).map(Board::over)
    }
}

impl<T: Payload + ?Sized> Board<T> {
    /// Sets the value to a message's, which was filled where it lies.
    ///
    /// # Errors
    /// [`Error::NotSent`]: the board was removed, or the message is another segment's.
    pub fn set_message(&self, message: Message<'_, T>) -> Result<()> {
        put(&self.attached, &message, &mut Lowest::default()).map_err(|why| Error::NotSent { why })?;
        message.forget();
        Ok(())
    }

    /// Removes the board: its name is free, nobody sets it any more, and its memory is freed after the last user.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn remove(&self) -> Result<()> {
        self.attached.remove()
    }

    /// What `copy` makes of the newest value, and which of those that were ever set that is, from 1 on.
    /// Others may free the block while it is copied: then the copy is dropped, whatever it is, and the next
    /// one made.
    fn newest<V>(&self, mut copy: impl FnMut(&Handler, Live, Link) -> Result<V>) -> Result<Option<(V, u64)>> {
        let log = Log::of(self.attached.structure()?);
        while let Some((live, link, ticket)) = log.newest() {
            let copied = copy(&self.attached.handler, live, link);
            if log.is_still_at(ticket, link) {
                return copied.map(|value| Some((value, ticket + 1)));
            }
        }
        Ok(None)
    }

    /// The newest value, unless it is the one that `seen` says.
    fn unless_seen<V>(&self, seen: &mut u64, newest: Result<Option<(V, u64)>>) -> Option<Result<V>> {
        match newest {
            Ok(None) => None,
            Ok(Some((_, number))) if number == *seen => None,
            Ok(Some((value, number))) => {
                *seen = number;
                Some(Ok(value))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Waits for what `unseen` gives until the time is over.
    fn await_change<V>(&self, timeout: Duration, mut unseen: impl FnMut() -> Option<Result<V>>) -> Result<Option<V>> {
        let bell = self.attached.structure()?.bell(Role::Receiver);
        bell.wait(deadline(timeout), |_| unseen()).transpose()
    }
}

impl<T: ?Sized> Board<T> {
    pub(super) fn over(attached: Arc<Attached>) -> Self {
        Self { attached, whole: Native::word(0), of: PhantomData }
    }
    pub(super) fn attached(&self) -> &Arc<Attached> {
        &self.attached
    }
}

impl<T: Shared> Board<T> {
    /// Sets the value.
    ///
    /// # Errors
    /// As [`Board::set_message`] and [`Handler::message`].
    pub fn set(&self, value: T) -> Result<()> {
        self.set_message(self.attached.handler.message_of(value)?)
    }

    /// A copy of the newest value, if any was set.
    ///
    /// # Errors
    /// As [`Handler::read_ref`], if what was set is not a `T`; [`Error::ForkedChild`].
    #[inline]
    pub fn get(&self) -> Result<Option<T>> {
        let mut value = zeroed::<T>();
        Ok(self.newest_into(&mut value)?.map(|_| value))
    }

    /// A copy of the newest value once it is not the one that `seen` says, or none if there was no other
    /// until the time is over. `seen` is 0 at first, and says of what is returned that it was seen.
    ///
    /// # Errors
    /// As [`Board::get`].
    pub fn changed(&self, seen: &mut u64, timeout: Duration) -> Result<Option<T>> {
        self.await_change(timeout, || self.unseen(seen))
    }

    /// The newest value, unless it is the one that `seen` says.
    pub(super) fn unseen(&self, seen: &mut u64) -> Option<Result<T>> {
        let mut value = zeroed::<T>();
        let newest = self.newest_into(&mut value).map(|newest| newest.map(|number| (value, number)));
        self.unless_seen(seen, newest)
    }

    /// Copies the newest value to where it is wanted, and says which of those that were ever set it is: none, if none
    /// was.
    #[inline(always)]
    fn newest_into(&self, value: &mut T) -> Result<Option<u64>> {
        let log = Log::of(self.attached.structure()?);
        match log.newest_link() {
            None => return Ok(None),
            // The same as the last time, and so is its block, as long as the cell names it.
            Some((link, ticket)) if link.word() == self.whole.load(&WHOLE_SEEN) => {
                // SAFETY: a value of this link's block was copied before it was kept.
                unsafe { self.attached.handler.copy_value_again(link.at(), value) };
                if log.is_still_at(ticket, link) {
                    return Ok(Some(ticket + 1));
                }
            }
            Some(_) => {}
        }
        self.another_into(value)
    }

    /// As [`Board::newest_into`], of a block that is looked at.
    #[inline(never)]
    fn another_into(&self, value: &mut T) -> Result<Option<u64>> {
        let newest = self.newest(|handler, live, link| handler.copy_value_into(live, value).map(|()| link))?;
        Ok(newest.map(|(link, number)| {
            self.whole.store(link.word(), &WHOLE_SEEN);
            number
        }))
    }
}

impl<T: Shared> Board<[T]> {
    /// A copy of the newest items, if any were set.
    ///
    /// ```
    /// # fn main() -> atomic_matrix::Result<()> {
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let route = handler.board::<[u32]>("route")?;
    /// route.set_message(handler.message_from(&[1, 2, 3])?)?;
    /// assert_eq!(route.get_items()?, Some(vec![1, 2, 3]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Handler::read_slice`], if what was set is no `[T]`; [`Error::ForkedChild`].
    pub fn get_items(&self) -> Result<Option<Vec<T>>> {
        Ok(self.newest_items()?.map(|(items, _)| items))
    }

    fn newest_items(&self) -> Result<Option<(Vec<T>, u64)>> {
        self.newest(|handler, live, _| handler.copy_items::<T, [T]>(live))
    }

    /// A copy of the newest items once they are not those that `seen` says: as [`Board::changed`].
    ///
    /// # Errors
    /// As [`Board::get_items`].
    pub fn changed_items(&self, seen: &mut u64, timeout: Duration) -> Result<Option<Vec<T>>> {
        self.await_change(timeout, || self.unless_seen(seen, self.newest_items()))
    }
}
