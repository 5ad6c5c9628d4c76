//! Names that mean another block from one instant to the next, and names of what is untyped or has a length.
//!
//! A name that is replaced always means something: the old block before the one step that takes effect, the
//! new one after it. *Killed* before that step: nothing has happened. Killed after it: the name means the new
//! block; the old one is unowned, as it was, and whoever was to get it is dead: it stays until somebody frees
//! it. For a value that changes often, a board is better: it keeps a few and frees the older ones itself.

use super::message::{Message, Ref};
use super::payload::Payload;
use crate::error::Result;
use crate::handlers::{Block, Handler, RelativePtr};
use crate::segment::directory::NamedBlock;

#[cfg(doc)]
use crate::error::Error;

impl Handler {
    /// Publishes a live block under a name that may stand for another one: that one's position, if there was
    /// one. As [`Handler::publish`] the block is unowned then.
    ///
    /// ```
    /// # use atomic_matrix::handlers::HandlerFunctions;
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let (old, mut new) = (handler.allocate::<u64>()?, handler.allocate::<u64>()?);
    /// handler.store(&mut new, 7)?;
    /// handler.publish("settings", &old)?;
    /// if let Some(old) = handler.replace("settings", &new)? {
    ///     handler.free_raw(old)?;
    /// }
    /// assert_eq!(handler.load(&handler.lookup::<u64>("settings")?)?, 7);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::publish`], but for [`Error::NameTaken`]. A replacement needs an entry of its own for a
    /// moment: [`Error::DirectoryFull`] says that there is none.
    pub fn replace<T>(&self, name: &str, block: &Block<T>) -> Result<Option<RelativePtr<u8>>> {
        Ok(self.publish_as(name, &block.pointer().cast(), true)?.and_then(|old| self.pointer_of(old)))
    }

    /// Publishes an untyped block, or one of any type, by its position. As [`Handler::publish`].
    ///
    /// # Errors
    /// As [`Handler::publish`].
    pub fn publish_raw(&self, name: &str, pointer: &RelativePtr<u8>) -> Result<()> {
        self.publish_as(name, pointer, false).map(|_| ())
    }

    /// As [`Handler::replace`], for an untyped block or one of any type.
    ///
    /// # Errors
    /// As [`Handler::replace`].
    pub fn replace_raw(&self, name: &str, pointer: &RelativePtr<u8>) -> Result<Option<RelativePtr<u8>>> {
        Ok(self.publish_as(name, pointer, true)?.and_then(|old| self.pointer_of(old)))
    }

    /// A reference to the message that is published under a name.
    ///
    /// # Errors
    /// [`Error::NameUnknown`]; as [`Handler::read_ref`] if it is not a `T` any more.
    pub fn lookup_ref<T: Payload + ?Sized>(&self, name: &str) -> Result<Ref<T>> {
        let found = self.published_under(name)?;
        let reference = Ref::new(self, found.offset, found.generation);
        self.find_ref(reference).map(|_| reference).map_err(|error| error.of_name(name))
    }

    /// Takes the message that is published under a name: of all who try, one gets it. The name is free again.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// handler.message_from(&[1_u16, 2, 3])?.publish("first")?;
    /// assert_eq!(*handler.take_message::<[u16]>("first")?, [1, 2, 3]);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NameUnknown`], also if somebody else takes it at the same moment; as [`Handler::take_ref`] if
    /// it is not a `T`, or was freed.
    pub fn take_message<T: Payload + ?Sized>(&self, name: &str) -> Result<Message<'_, T>> {
        let pointer =
            self.take_checked(name, |live| self.items_of::<T>(live).map(|_| ()).map_err(|error| error.of_name(name)))?;
        // Nobody changes it any more: now what it says of itself counts.
        let (offset, generation) = (pointer.offset(), pointer.generation());
        let whole = self.whole_message(Ref::new(self, offset, generation), pointer);
        whole.inspect_err(|_| drop(self.hand_over(&pointer)))
    }

    /// What was published, if it is live still.
    fn pointer_of(&self, entry: NamedBlock) -> Option<RelativePtr<u8>> {
        let live = self.live_at(entry.offset).ok().filter(|live| live.header.generation() == entry.generation)?;
        Some(self.pointer(live))
    }
}

impl<T: Payload + ?Sized> Message<'_, T> {
    /// Publishes the message under a name; it is unowned then, and whoever looks it up may copy it, or one take it.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// handler.message_text("first")?.publish("motd")?;
    /// let old = handler.message_text("second")?.replace("motd")?;
    /// assert_eq!(handler.read_text(handler.lookup_ref("motd")?)?, "second");
    /// handler.free_raw(old.expect("there was one"))?;
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::publish`]; the block is freed then.
    pub fn publish(self, name: &str) -> Result<Ref<T>> {
        self.handler().publish_as(name, &self.pointer(), false)?;
        Ok(self.given())
    }

    /// Publishes the message under a name that may stand for another one: that one's position, if there was one.
    ///
    /// # Errors
    /// As [`Handler::replace`]; the block is freed then.
    pub fn replace(self, name: &str) -> Result<Option<RelativePtr<u8>>> {
        let handler = self.handler();
        let old = handler.publish_as(name, &self.pointer(), true)?;
        self.given();
        Ok(old.and_then(|old| handler.pointer_of(old)))
    }
}
