//! What a message can hold, and how it lies in its block.
//!
//! A value of fixed size begins its block, which has a byte at least. What has a length has it in front: `items (8
//! bytes) | 8 bytes | value`, or more where the value is aligned to more than 16 bytes.

use crate::shared::{InPlace, mix, room};

/// Bytes in front of what has a length: the length, and what keeps 16-byte types aligned.
pub(super) const LENGTH_BYTES: usize = 16;

/// What a message can hold: an [`InPlace`] value (every [`Shared`](crate::Shared) one is), a slice of them, or a header
/// and a slice ([`Framed`]).
///
/// # Safety
/// As for [`InPlace`]; and `raw` gives a pointer to a value of `layout(items)` bytes less `HEAD`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a message: that is a `Shared` or `InPlace` value, a slice of them, or `Framed`",
    note = "declare a struct of your own by `shared!`, or by `in_place!` if it has atomics",
    note = "text is `channel::<str>` and `message_text`"
)]
pub unsafe trait Payload {
    /// Tells types apart across binaries, as [`Shared::FINGERPRINT`](crate::Shared::FINGERPRINT).
    const FINGERPRINT: u32;
    /// Bytes in front of the value: 0 if it has no length.
    const HEAD: usize;
    /// The alignment of the block.
    const ALIGN: usize;
    /// Bytes of a block for so many items, `HEAD` included; none if they are too many. Values without a
    /// length have one item.
    fn bytes(items: usize) -> Option<usize>;
    /// The value of so many items that begins at an address.
    fn raw(first: *mut u8, items: usize) -> *mut Self;
    /// Whether the bytes are a value: any are, unless the type says otherwise.
    ///
    /// # Safety
    /// `first` is valid for reads of so many items, which nobody writes.
    unsafe fn is_whole(_first: *const u8, _items: usize) -> bool {
        true
    }
}

// SAFETY: a type that is used in place, without a length.
unsafe impl<T: InPlace> Payload for T {
    const FINGERPRINT: u32 = <T as InPlace>::PRINT;
    const HEAD: usize = 0;
    const ALIGN: usize = align_of::<T>();
    fn bytes(_: usize) -> Option<usize> {
        Some(room::<T>())
    }
    fn raw(first: *mut u8, _: usize) -> *mut T {
        first.cast()
    }
}

/// What a [`Ref`](super::Ref) can lead to: a message, or a structure.
pub trait Referred {
    /// Tells them apart across binaries.
    #[doc(hidden)]
    const LEADS_TO: u32;
}

impl<T: Payload + ?Sized> Referred for T {
    const LEADS_TO: u32 = T::FINGERPRINT;
}

pub(super) const fn head(align: usize) -> usize {
    if align > LENGTH_BYTES { align } else { LENGTH_BYTES }
}

// SAFETY: elements of a type that is used in place, one after the other, behind their number.
unsafe impl<T: InPlace> Payload for [T] {
    const FINGERPRINT: u32 = mix("slice", &[<T as InPlace>::PRINT]);
    const HEAD: usize = head(align_of::<T>());
    const ALIGN: usize = align_of::<T>();
    fn bytes(items: usize) -> Option<usize> {
        items.checked_mul(room::<T>())?.checked_add(Self::HEAD)
    }
    fn raw(first: *mut u8, items: usize) -> *mut [T] {
        std::ptr::slice_from_raw_parts_mut(first.cast(), items)
    }
}

/// A header, and as many items as the message was made for.
#[repr(C)]
#[derive(Debug)]
pub struct Framed<H, T> {
    /// What stands in front.
    pub header: H,
    /// The items.
    pub items: [T],
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

// SAFETY: header and elements behind it are of types that are used in place, as repr(C) lays them out, behind their
// number. Bytes between header and items, and behind the last item, mean nothing.
unsafe impl<H: InPlace, T: InPlace> Payload for Framed<H, T> {
    const FINGERPRINT: u32 = mix("framed", &[<H as InPlace>::PRINT, <T as InPlace>::PRINT]);
    const HEAD: usize = head(Self::ALIGN);
    const ALIGN: usize = max(align_of::<H>(), align_of::<T>());
    fn bytes(items: usize) -> Option<usize> {
        let first = size_of::<H>().checked_next_multiple_of(align_of::<T>())?;
        let value = items.checked_mul(room::<T>())?.checked_add(first)?;
        value.checked_next_multiple_of(Self::ALIGN)?.checked_add(Self::HEAD)
    }
    fn raw(first: *mut u8, items: usize) -> *mut Self {
        std::ptr::slice_from_raw_parts_mut(first.cast::<T>(), items) as *mut Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_a_value_has_its_bytes_and_its_alignment() {
        assert_eq!((<[u64; 6]>::bytes(1), u8::bytes(1)), (Some(48), Some(1)));
        assert_eq!((<[u64; 0]>::bytes(1), <[[u64; 0]]>::bytes(9)), (Some(1), Some(16 + 9)), "each takes a byte");
        assert_eq!(Framed::<[u64; 0], [u8; 0]>::bytes(8), Some(16 + 8));
        assert_eq!((head(8), head(16), head(64)), (16, 16, 64));
        assert_eq!((max(1, 2), max(2, 1), max(2, 2)), (2, 2, 2));
        assert_eq!((Framed::<u8, u64>::ALIGN, Framed::<u64, u8>::ALIGN), (8, 8));
    }
}
