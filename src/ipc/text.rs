//! Values of any length that are built once and then shared: [`Slice`], [`Text`], and a [`Builder`] that grows.
//!
//! They are messages: one block, `length | items`, with one owner; whoever has only the reference copies
//! ([`Handler::read_slice`], [`Handler::read_text`]). A vector that several processes push to at the same
//! time does not exist here: that is a channel, or a topic with history.
//!
//! ```
//! use atomic_matrix::ipc::text::Builder;
//! use std::fmt::Write;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let mut line = Builder::<u8>::new(&handler);
//! for degrees in [7, 15, 30] {
//!     write!(line, "{degrees}° ").expect("there is room");
//! }
//! let text = line.freeze_text().expect("what was written is text");
//! assert_eq!(&*text, "7° 15° 30° ");
//! let reference = text.into_ref()?; // for others
//! assert_eq!(handler.read_text(reference)?, "7° 15° 30° ");
//! handler.free_ref(reference)
//! # }
//! ```

use super::message::{Message, Ref};
use super::payload::{Payload, head};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::shared::{Shared, mix};

/// Items one after the other, in a block of their own.
pub type Slice<'h, T> = Message<'h, [T]>;
/// UTF-8 text in a block of its own.
pub type Text<'h> = Message<'h, str>;

// SAFETY: bytes behind their number, as for `[u8]`. That they are UTF-8 is known when they are written, and
// looked at when they are taken.
unsafe impl Payload for str {
    const FINGERPRINT: u32 = mix("text", &[]);
    const HEAD: usize = head(1);
    const ALIGN: usize = 1;
    fn bytes(items: usize) -> Option<usize> {
        items.checked_add(Self::HEAD)
    }
    fn raw(first: *mut u8, items: usize) -> *mut str {
        std::ptr::slice_from_raw_parts_mut(first, items) as *mut str
    }
    unsafe fn is_whole(first: *const u8, items: usize) -> bool {
        // SAFETY: the caller's.
        std::str::from_utf8(unsafe { std::slice::from_raw_parts(first, items) }).is_ok()
    }
}

impl Handler {
    /// A message with this text.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn message_text(&self, text: &str) -> Result<Text<'_>> {
        let bytes = text.as_bytes();
        // SAFETY: the bytes are those of a text.
        self.filled_message::<str>(bytes.len(), |first| unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), first, bytes.len());
        })
    }

    /// A message with these items.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn message_from<T: Shared>(&self, items: &[T]) -> Result<Slice<'_, T>> {
        let mut message = self.message_slice(items.len())?;
        message.copy_from_slice(items);
        Ok(message)
    }

    /// A copy of the text that a reference leads to, whoever has it.
    ///
    /// # Errors
    /// As [`Handler::read_ref`]; [`Error::NotText`] if the bytes are no UTF-8, or were written meanwhile.
    pub fn read_text(&self, reference: Ref<str>) -> Result<String> {
        let bytes = self.read_items(reference)?;
        String::from_utf8(bytes).map_err(|_| Error::NotText { offset: reference.offset() })
    }
}

/// Items that are pushed one after the other, in a block that is made anew, twice as large, where they have
/// no more room. Nobody else sees it until [`Builder::freeze`]. Dropped, it is freed.
///
/// Pushing is O(1), amortised; the items are moved within the segment.
#[derive(Debug)]
pub struct Builder<'h, T: Shared> {
    handler: &'h Handler,
    block: Option<Slice<'h, T>>,
    items: usize,
}

/// Items of a builder's first block.
const FIRST: usize = 16;

impl<'h, T: Shared> Builder<'h, T> {
    /// Nothing; no block is allocated yet.
    pub fn new(handler: &'h Handler) -> Self {
        Self { handler, block: None, items: 0 }
    }

    /// Makes room for so many more items.
    ///
    /// # Errors
    /// As [`Handler::message`]; what is there stays.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        let room = self.block.as_ref().map_or(0, |block| block.len());
        let needed = self.items.saturating_add(more);
        if needed <= room {
            return Ok(());
        }
        let mut larger = self.handler.message_slice(needed.max(room.saturating_mul(2)).max(FIRST))?;
        larger[..self.items].copy_from_slice(self);
        self.block = Some(larger);
        Ok(())
    }

    /// Puts an item behind the others.
    ///
    /// # Errors
    /// As [`Builder::reserve`].
    pub fn push(&mut self, item: T) -> Result<()> {
        self.extend_from_slice(&[item])
    }

    /// Puts items behind the others.
    ///
    /// # Errors
    /// As [`Builder::reserve`].
    pub fn extend_from_slice(&mut self, items: &[T]) -> Result<()> {
        self.reserve(items.len())?;
        if let Some(block) = &mut self.block {
            block[self.items..][..items.len()].copy_from_slice(items);
            self.items += items.len();
        }
        Ok(())
    }

    /// The items as a message: the same block, with no more growth.
    ///
    /// # Errors
    /// As [`Handler::message`], if nothing was pushed: then a block is made for nothing.
    pub fn freeze(mut self) -> Result<Slice<'h, T>> {
        let mut block = match self.block.take() {
            Some(block) => block,
            None => self.handler.message_slice(0)?,
        };
        block.truncate(self.items);
        Ok(block)
    }
}

impl<'h> Builder<'h, u8> {
    /// What was written as a text.
    ///
    /// # Errors
    /// As [`Builder::freeze`]; [`Error::NotText`] if the bytes are no UTF-8.
    pub fn freeze_text(self) -> Result<Text<'h>> {
        // The block's type is another one.
        match std::str::from_utf8(&self) {
            Ok(text) => self.handler.message_text(text),
            Err(_) => Err(Error::NotText { offset: self.block.as_ref().map_or(0, Message::offset) }),
        }
    }
}

impl<T: Shared> std::ops::Deref for Builder<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.block.as_ref().map_or(&[], |block| &block[..self.items])
    }
}
impl<T: Shared> std::ops::DerefMut for Builder<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.block.as_mut().map_or(&mut [], |block| &mut block[..self.items])
    }
}

impl std::fmt::Write for Builder<'_, u8> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.extend_from_slice(text.as_bytes()).map_err(|_| std::fmt::Error)
    }
}
impl std::io::Write for Builder<'_, u8> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend_from_slice(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
