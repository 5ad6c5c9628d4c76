//! What a live block holds: checked against type, alignment and size, and copied out while others may change it.
//!
//! Each function is told where the block begins: `first` is the address of its first byte, inside the mapping of the
//! heap's segment.

use super::payload::{LENGTH_BYTES, Payload};
use crate::backend::payload;
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::matrix::heap::{Heap, Live};
use crate::segment::layout::Granule;
use crate::segment::region::Region;
use crate::shared::{Shared, bytes_mut, zeroed};

impl Handler {
    /// How many items a live block says that it has: checked against type, alignment and size.
    #[inline]
    pub(super) fn items_of<T: Payload + ?Sized>(&self, live: Live) -> Result<usize> {
        let offset = self.matrix().offsets().offset(live.at);
        items_in::<T, _>(self.matrix().heap(), live, offset, self.address(offset))
    }

    /// A copy of a live block's value. Others may free the block meanwhile: then it is whatever it is.
    pub(super) fn copy_value<T: Shared>(&self, live: Live) -> Result<T> {
        let mut value = zeroed::<T>();
        self.copy_value_into(live, &mut value)?;
        Ok(value)
    }

    /// As [`Handler::copy_value`], to where it is wanted.
    #[inline]
    pub(super) fn copy_value_into<T: Shared>(&self, live: Live, value: &mut T) -> Result<()> {
        let offset = self.matrix().offsets().offset(live.at);
        copied_value_into(self.matrix().heap(), live, offset, self.address(offset), value)
    }

    /// As [`Handler::copy_value_into`], of a block that was found to be a `T` before.
    ///
    /// # Safety
    /// That function has copied from the block that began here, at some time.
    #[inline]
    pub(super) unsafe fn copy_value_again<T: Shared>(&self, at: Granule, value: &mut T) {
        let first = self.address(self.matrix().offsets().offset(at));
        // SAFETY: a `T`'s bytes begin here, inside the mapping, which stays as long as the handler.
        unsafe { copy_value_from(first, value) };
    }

    /// A copy of the items of `T` that a live block has one after the other, as [`Handler::copy_value`].
    pub(super) fn copy_items<T: Shared, P: Payload + ?Sized>(&self, live: Live) -> Result<Vec<T>> {
        let offset = self.matrix().offsets().offset(live.at);
        copied_items::<T, P, _>(self.matrix().heap(), live, offset, self.address(offset))
    }
}

/// Copies a value byte for byte atomic.
///
/// # Safety
/// So many bytes lie there inside a mapping, as a `T` is aligned.
#[inline(always)]
unsafe fn copy_value_from<T: Shared>(first: *mut u8, value: &mut T) {
    let bytes = bytes_mut(std::slice::from_mut(value));
    // SAFETY: the caller's; all who use payload meanwhile do so atomically, or from another process.
    unsafe {
        match align_of::<T>().is_multiple_of(8) {
            true => payload::copy_aligned_out(first, bytes),
            false => payload::copy_out(first, bytes),
        }
    }
}

/// A copy of a live block's value.
pub(super) fn copied_value<T: Shared, R: Region>(heap: &Heap<R>, live: Live, offset: u32, first: *mut u8) -> Result<T> {
    let mut value = zeroed::<T>();
    copied_value_into(heap, live, offset, first, &mut value)?;
    Ok(value)
}

/// As [`copied_value`], to where it is wanted.
#[inline]
fn copied_value_into<T: Shared, R: Region>(
    heap: &Heap<R>,
    live: Live,
    offset: u32,
    first: *mut u8,
    value: &mut T,
) -> Result<()> {
    items_in::<T, _>(heap, live, offset, first)?;
    // SAFETY: the block was live and has a `T`'s bytes, inside the mapping, and is aligned as that.
    unsafe { copy_value_from(first, value) };
    Ok(())
}

/// A copy of the items of `T` that a live block has one after the other.
pub(super) fn copied_items<T: Shared, P: Payload + ?Sized, R: Region>(
    heap: &Heap<R>,
    live: Live,
    offset: u32,
    first: *mut u8,
) -> Result<Vec<T>> {
    let mut items = vec![zeroed::<T>(); items_in::<P, _>(heap, live, offset, first)?];
    // SAFETY: the block was live and has so many items, inside the mapping; copies are atomic byte for byte.
    unsafe { payload::copy_out(first.wrapping_add(P::HEAD), bytes_mut(&mut items)) };
    Ok(items)
}

/// How many items a live block at an offset says that it has, whose first byte is at `first`: checked against type,
/// alignment and size.
#[inline]
fn items_in<T: Payload + ?Sized, R: Region>(heap: &Heap<R>, live: Live, offset: u32, first: *mut u8) -> Result<usize> {
    let found = heap.fingerprint(live);
    if found != Some(T::FINGERPRINT) {
        return Err(Error::type_mismatch::<T>(offset, T::FINGERPRINT, found));
    }
    if !first.addr().is_multiple_of(T::ALIGN) {
        return Err(Error::BadOffset { offset, why: "the block there is not aligned as the type has to be" });
    }
    let usable = (live.header.size() as usize) << heap.layout().params.granule_shift;
    let items = if T::HEAD == 0 { 1 } else { read_length(first, usable) };
    match T::bytes(items).filter(|&needed| needed <= usable) {
        Some(_) => Ok(items),
        None => Err(Error::TooSmall {
            offset,
            needed: T::bytes(items).map_or(u64::MAX, |needed| needed as u64),
            usable: usable as u64,
        }),
    }
}

/// The number of items in front of a value, whatever stands there.
fn read_length(first: *mut u8, usable: usize) -> usize {
    let mut length = [0; 8];
    if usable < LENGTH_BYTES {
        return usize::MAX;
    }
    // SAFETY: the block has as many bytes, inside the mapping; the copy is atomic byte for byte.
    unsafe { payload::copy_out(first, &mut length) };
    usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX)
}
