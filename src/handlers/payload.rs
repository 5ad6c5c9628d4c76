//! What stands in a block: addresses, and copies that are safe whatever others do.

use super::handler::Handler;
use super::pointer::{Block, RelativePtr};
use crate::backend::payload;
use crate::error::{Error, Result};
use crate::matrix::heap::Live;
use crate::shared::{Shared, bytes, bytes_mut, zeroed};

impl Handler {
    /// The address of a block in this process. It is valid while the block is live and a handler of this
    /// segment exists.
    ///
    /// A pointer of another segment gets a null pointer.
    #[inline]
    pub fn resolve<T>(&self, pointer: &RelativePtr<T>) -> *mut T {
        if !self.points_here(pointer) {
            return std::ptr::null_mut();
        }
        self.address(pointer.offset).cast()
    }

    /// The address, in this process, of the live block at an offset that another process passed on.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`].
    #[inline]
    pub fn resolve_at(&self, offset: u32) -> Result<*mut u8> {
        self.live_at(offset)?;
        Ok(self.address(offset))
    }

    /// The address of this segment's block. A null pointer for another's would not do here: to access it is
    /// undefined, so that a compiler may leave the check out, and the block at the same offset here would be
    /// accessed.
    #[inline(always)]
    pub(super) fn own<T>(&self, block: &Block<T>) -> *mut T {
        if !self.points_here(&block.pointer) {
            self.foreign(block.offset());
        }
        self.address(block.offset()).cast()
    }

    #[cold]
    #[inline(never)]
    fn foreign(&self, offset: u32) -> ! {
        panic!("{}", Error::ForeignBlock { offset, segment: self.id() })
    }

    #[inline(always)]
    pub(crate) fn address(&self, offset: u32) -> *mut u8 {
        let bytes = (offset as usize) << self.matrix.offset_shift();
        self.matrix.segment().base().as_ptr().wrapping_add(bytes)
    }

    /// Bytes that the block really has: the size asked for, rounded up to granules, 64 bytes at least; from
    /// 640 to 1920 bytes up to a ninth more; above that, where blocks of about the size were freed before, up
    /// to an eighth more.
    ///
    /// # Errors
    /// As [`Handler::free_raw`].
    pub fn usable_size<T>(&self, pointer: &RelativePtr<T>) -> Result<usize> {
        Ok(self.bytes(self.live(pointer)?))
    }

    /// Bytes that the live block at an offset has.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`].
    pub fn usable_size_at(&self, offset: u32) -> Result<usize> {
        Ok(self.bytes(self.live_at(offset)?))
    }

    pub(crate) fn bytes(&self, live: Live) -> usize {
        (live.header.size() as usize) << self.matrix.heap().layout().params.granule_shift
    }

    /// A pointer to the live block of this generation at an offset, whoever's it is: what [`RelativePtr::offset`] and
    /// [`RelativePtr::generation`] said, here or elsewhere. Nothing changes. Whoever writes, resizes or frees through
    /// it vouches that nobody holds the block as a [`Message`](crate::ipc::Message).
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let block = handler.allocate_raw(100)?;
    /// let again = handler.pointer_at(block.offset(), block.generation())?;
    /// handler.free_raw(again)?;
    /// assert!(handler.pointer_at(block.offset(), block.generation()).is_err());
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`], [`Error::Stale`].
    pub fn pointer_at(&self, offset: u32, generation: u32) -> Result<RelativePtr<u8>> {
        Ok(self.pointer(self.live_of(offset, Some(generation))?))
    }

    /// The typed block at an offset that another process passed on.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`], [`Error::TypeMismatch`] (checked by fingerprint; untyped
    /// blocks match no type), [`Error::TooSmall`]. A type that lies about its fingerprint is never given a
    /// block that is too small or not aligned for it.
    pub fn get_block<T: Shared>(&self, offset: u32) -> Result<Block<T>> {
        let live = self.live_at(offset)?;
        let found = self.matrix.heap().fingerprint(live);
        if found != Some(T::FINGERPRINT) {
            return Err(Error::type_mismatch::<T>(offset, T::FINGERPRINT, found));
        }
        let usable = self.bytes(live) as u64;
        if usable < size_of::<T>() as u64 {
            return Err(Error::TooSmall { offset, needed: size_of::<T>() as u64, usable });
        }
        if !self.address(offset).addr().is_multiple_of(align_of::<T>()) {
            return Err(Error::BadOffset { offset, why: "the block there is not aligned as the type has to be" });
        }
        Ok(Block { pointer: self.pointer(live) })
    }

    /// Copies the value out. Memory-safe whatever others do: a writer at the same moment makes the copy a mixture.
    ///
    /// Best effort: the block is looked at, and then the bytes are copied. If somebody else frees it in
    /// between, and its place is allocated anew, the copy is of the new block's bytes. So share a block for
    /// reading only while nobody frees it: one owner at a time, who passes it on and keeps no copy of its
    /// offset.
    ///
    /// # Errors
    /// As [`Handler::free_raw`], and [`Error::TooSmall`] if the block has fewer bytes than a `T`.
    pub fn load<T: Shared>(&self, block: &Block<T>) -> Result<T> {
        self.has_room(&block.pointer, size_of::<T>())?;
        let mut value = zeroed();
        // SAFETY: the block is live and has size_of::<T>() bytes inside the mapping; copies are atomic byte for byte.
        unsafe { payload::copy_out(self.address(block.offset()), bytes_mut(std::slice::from_mut(&mut value))) };
        Ok(value)
    }

    /// Copies a value in. Memory-safe whatever others do: a reader at the same moment gets a mixture.
    ///
    /// Best effort: the block is looked at, and then the bytes are copied. If somebody else frees it in
    /// between, and its place is allocated anew, the value goes into the new block, which may be another
    /// process's. So share a block for writing only while nobody frees it: one owner at a time, who passes it
    /// on and keeps no copy of its offset. A [`Message`](crate::ipc::Message) is that by its type: nobody else
    /// frees it, and it is written in place. The caller of this vouches that nobody holds the block as one.
    ///
    /// # Errors
    /// As [`Handler::free_raw`], [`Error::TooSmall`] if the block has fewer bytes than a `T`, and
    /// [`Error::ForkedChild`].
    pub fn store<T: Shared>(&self, block: &mut Block<T>, value: T) -> Result<()> {
        self.matrix.check_process()?;
        self.may_write(&block.pointer)?;
        self.has_room(&block.pointer, size_of::<T>())?;
        // SAFETY: as in `load`.
        unsafe { payload::copy_in(bytes(&value), self.address(block.offset())) };
        Ok(())
    }

    /// Copies bytes out of a block, from its start on. Best effort, as [`Handler::load`].
    ///
    /// # Errors
    /// As [`Handler::free_raw`], and [`Error::TooSmall`].
    pub fn load_bytes(&self, pointer: &RelativePtr<u8>, into: &mut [u8]) -> Result<()> {
        self.has_room(pointer, into.len())?;
        // SAFETY: the block is live and has that many bytes; copies are atomic byte for byte.
        unsafe { payload::copy_out(self.address(pointer.offset), into) };
        Ok(())
    }

    /// Copies bytes into a block, from its start on. Best effort, as [`Handler::store`].
    ///
    /// # Errors
    /// As [`Handler::free_raw`], [`Error::TooSmall`] and [`Error::ForkedChild`].
    pub fn store_bytes(&self, pointer: &RelativePtr<u8>, from: &[u8]) -> Result<()> {
        self.matrix.check_process()?;
        self.may_write(pointer)?;
        self.has_room(pointer, from.len())?;
        // SAFETY: as in `load_bytes`.
        unsafe { payload::copy_in(from, self.address(pointer.offset)) };
        Ok(())
    }

    /// Not what is in a structure, which others read where it lies, nor the structure itself.
    fn may_write<T>(&self, pointer: &RelativePtr<T>) -> Result<()> {
        self.refuse_structures(pointer.offset, self.live(pointer)?)
    }

    fn has_room<T>(&self, pointer: &RelativePtr<T>, needed: usize) -> Result<()> {
        let usable = self.usable_size(pointer)?;
        if needed <= usable {
            return Ok(());
        }
        Err(Error::TooSmall { offset: pointer.offset, needed: needed as u64, usable: usable as u64 })
    }
}
