//! Positions in a segment, and the blocks that stand there.

use crate::matrix::block_header::Header;
use std::marker::PhantomData;

/// A position in a segment, the same in every process: an offset, and the generation of the block it was made for.
///
/// It is plain data and may be copied; using it after the block is freed is an error that is detected by its generation
/// (20 bits: a pointer kept through exactly a multiple of 2^20 reuses of its granule would go unnoticed).
pub struct RelativePtr<T> {
    /// The block's, when the pointer was made: its generation counts, and whoever frees it needs not wait for the rest.
    pub(super) header: Header,
    pub(super) offset: u32,
    /// Which segment it points into: the serial of this process for its id and its creation.
    pub(super) segment: u32,
    pub(super) of: PhantomData<fn() -> T>,
}

impl<T> Clone for RelativePtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for RelativePtr<T> {}
impl<T> PartialEq for RelativePtr<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.offset, self.generation(), self.segment) == (other.offset, other.generation(), other.segment)
    }
}
impl<T> Eq for RelativePtr<T> {}
impl<T> std::fmt::Debug for RelativePtr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelativePtr({}, generation {})", self.offset, self.generation())
    }
}

impl<T> RelativePtr<T> {
    /// The offset from the segment's start, in steps of
    /// [`Handler::offset_unit`](crate::Handler::offset_unit): bytes in segments up to 4 GiB, granules above.
    pub const fn offset(&self) -> u32 {
        self.offset
    }
    /// The generation of the block.
    pub const fn generation(&self) -> u32 {
        self.header.generation()
    }
    /// The same position as another type. The bytes are not looked at.
    pub const fn cast<U>(self) -> RelativePtr<U> {
        RelativePtr { header: self.header, offset: self.offset, segment: self.segment, of: PhantomData }
    }
}

/// A live block that holds a `T`. Dropping it does not free it: it is shared memory, and somebody else may
/// have its offset.
#[derive(Debug)]
#[must_use = "a block stays allocated until it is freed, here or by whoever gets its offset"]
pub struct Block<T> {
    pub(super) pointer: RelativePtr<T>,
}

impl<T> Block<T> {
    /// A block whose type has been checked.
    pub(crate) const fn at(pointer: RelativePtr<T>) -> Self {
        Self { pointer }
    }
    /// The offset from the segment's start, to pass on; see [`RelativePtr::offset`].
    pub const fn offset(&self) -> u32 {
        self.pointer.offset
    }
    /// The generation of the block.
    pub const fn generation(&self) -> u32 {
        self.pointer.generation()
    }
    /// The block's position, as plain data.
    pub const fn pointer(&self) -> RelativePtr<T> {
        self.pointer
    }
}
