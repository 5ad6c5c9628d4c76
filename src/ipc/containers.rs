//! Messages that are built in Rust's own containers, and go on without a copy.

use super::message::{Message, write_length};
use super::payload::{Payload, head};
use crate::error;
use crate::handlers::{Handler, RelativePtr};
use crate::matrix::heap::Kind;
use crate::shared::Shared;
use allocator_api2::alloc::{AllocError, Allocator};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// An allocator whose blocks have room in front for what a message of a length says of itself.
#[derive(Debug, Clone, Copy)]
pub struct MessageAllocator<'h>(&'h Handler);

/// A vector in the segment that [becomes a message](Message::from_vec) where it lies.
///
/// It grows where it is while there is room behind it, else it is moved; `try_reserve` tells when the segment
/// is full, where `push` ends the process. Dropped, it is freed.
pub type MessageVec<'h, T> = Vec<T, MessageAllocator<'h>>;

/// What a block has for so much, and bytes in front of it.
fn framed(layout: Layout) -> Result<(Layout, usize), AllocError> {
    let front = head(layout.align());
    let size = layout.size().checked_add(front).ok_or(AllocError)?;
    let framed = Layout::from_size_align(size, layout.align()).map_err(|_| AllocError)?;
    Ok((framed, front))
}

/// What is behind the first `front` bytes of a block.
fn behind(block: NonNull<[u8]>, front: usize) -> NonNull<[u8]> {
    // SAFETY: `framed` asked for so many bytes more.
    let first = unsafe { block.cast::<u8>().add(front) };
    NonNull::slice_from_raw_parts(first, block.len() - front)
}

// SAFETY: as the handler's, whose blocks these are, from behind the first bytes on. What has no bytes has no
// block.
unsafe impl Allocator for MessageAllocator<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return self.0.allocate(layout);
        }
        let (framed, front) = framed(layout)?;
        Ok(behind(self.0.allocate(framed)?, front))
    }

    unsafe fn deallocate(&self, first: NonNull<u8>, layout: Layout) {
        if layout.size() > 0
            && let Ok((framed, front)) = framed(layout)
        {
            // SAFETY: the caller's; so many bytes in front of it its block begins.
            unsafe { self.0.deallocate(first.sub(front), framed) };
        }
    }

    unsafe fn grow(&self, first: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let ((was, front), (framed, new_front)) = (framed(old)?, framed(new)?);
        if old.size() > 0 && front == new_front {
            // SAFETY: the caller's; so many bytes in front of it its block begins.
            return Ok(behind(unsafe { self.0.grow(first.sub(front), was, framed) }?, front));
        }
        let grown = self.allocate(new)?;
        // SAFETY: the caller's; two blocks, of as many bytes at least.
        unsafe {
            grown.cast::<u8>().copy_from_nonoverlapping(first, old.size());
            self.deallocate(first, old);
        }
        Ok(grown)
    }

    unsafe fn grow_zeroed(&self, first: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's.
        let grown = unsafe { self.grow(first, old, new) }?;
        // SAFETY: so many bytes are behind those that there were, and the caller's alone.
        unsafe { grown.cast::<u8>().add(old.size()).write_bytes(0, grown.len() - old.size()) };
        Ok(grown)
    }

    unsafe fn shrink(&self, first: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let ((was, front), (framed, new_front)) = (framed(old)?, framed(new)?);
        if new.size() > 0 && front == new_front {
            // SAFETY: the caller's; so many bytes in front of it its block begins.
            return Ok(behind(unsafe { self.0.shrink(first.sub(front), was, framed) }?, front));
        }
        let shrunk = self.allocate(new)?;
        // SAFETY: the caller's; two blocks, of as many bytes at least.
        unsafe {
            shrunk.cast::<u8>().copy_from_nonoverlapping(first, new.size());
            self.deallocate(first, old);
        }
        Ok(shrunk)
    }
}

impl Handler {
    /// A vector that will be a message: empty, and without a block until something is pushed.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// use atomic_matrix::ipc::Message;
    /// let mut points = handler.message_vec::<[f32; 2]>();
    /// for at in 0..1000 {
    ///     points.push([at as f32, 0.5]); // in the segment, and as long as it will be
    /// }
    /// let message = Message::from_vec(points)?; // not copied: send it, publish it
    /// assert_eq!((message.len(), message[999]), (1000, [999.0, 0.5]));
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    pub fn message_vec<T: Shared>(&self) -> MessageVec<'_, T> {
        Vec::new_in(MessageAllocator(self))
    }
}

impl<'h, T: Shared> Message<'h, [T]> {
    /// The vector's elements as a message, where they lie. O(1); an empty vector's is allocated.
    ///
    /// # Errors
    /// As [`Handler::message`](Handler::message_slice), and as [`Handler::adopt_at`] for a vector that another
    /// thread has filled. Its block is freed then.
    pub fn from_vec(vec: MessageVec<'h, T>) -> error::Result<Self> {
        let MessageAllocator(handler) = *vec.allocator();
        if vec.capacity() == 0 || size_of::<T>() == 0 {
            return handler.message_slice(vec.len());
        }
        let items = vec.len();
        let first = vec.as_ptr().cast::<u8>().wrapping_sub(Self::FRONT).cast_mut();
        let pointer = handler.pointer_to(first)?;
        write_length(first, items);
        let pointer = handler.label(&pointer, Kind::Typed(<[T]>::FINGERPRINT))?;
        let _forgotten = ManuallyDrop::new(vec);
        Ok(Self::over(handler, pointer, items))
    }

    /// Bytes of a block in front of the items.
    const FRONT: usize = <[T]>::HEAD;

    /// The items as a vector where they lie, which may grow. O(1).
    ///
    /// # Errors
    /// [`Error::NotLive`](crate::Error::NotLive) if somebody has freed the block by its offset.
    pub fn into_vec(self) -> error::Result<MessageVec<'h, T>> {
        let (handler, items) = (self.handler(), self.len());
        if size_of::<T>() == 0 {
            let mut vec = handler.message_vec();
            // SAFETY: a vector of what has no bytes has room for any number, and all of them are a value.
            unsafe { vec.set_len(items) };
            return Ok(vec);
        }
        let room = (handler.usable_size(&self.pointer())? - Self::FRONT) / size_of::<T>();
        let (_, pointer) = self.forget();
        let first = handler.resolve(&pointer).wrapping_add(Self::FRONT).cast();
        // SAFETY: the block was this message's alone, is of this allocator's form, and has room for so many,
        // `items` of which are values.
        Ok(unsafe { Vec::from_raw_parts_in(first, items, room, MessageAllocator(handler)) })
    }
}

impl<'h, T: Shared> Message<'h, T> {
    /// The box's value as a message, where it lies; from there [`Message::into_block`]. O(1).
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// use allocator_api2::boxed::Box;
    /// use atomic_matrix::ipc::Message;
    /// let built = Box::new_in([7u8; 4096], &handler);
    /// let block = Message::from_box(built)?.into_block();
    /// assert_eq!(handler.load(&block)?, [7; 4096]);
    /// # use atomic_matrix::HandlerFunctions;
    /// # handler.free(block);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Message::from_vec`].
    pub fn from_box(built: Box<T, &'h Handler>) -> error::Result<Self> {
        let handler = *Box::allocator(&built);
        if size_of::<T>() == 0 {
            return handler.message();
        }
        let pointer: RelativePtr<u8> = handler.pointer_to((&raw const *built).cast())?;
        let pointer = handler.label(&pointer, Kind::Typed(T::FINGERPRINT))?;
        let _ = Box::into_raw(built);
        Ok(Self::over(handler, pointer, 1))
    }
}
