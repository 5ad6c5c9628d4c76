//! Types that may live in a segment, and their fingerprints.

use const_fnv1a_hash::{fnv1a_hash_32, fnv1a_hash_str_32};

/// A type whose values may lie in shared memory: plain bytes with the same meaning in every process.
///
/// It is implemented for integers of fixed size, floats and arrays, and by [`shared!`](crate::shared!) for structs
/// whose fields all implement it. A type of no bytes is one, too: its values have blocks as others have, so that a
/// message may say nothing but that it has come. Not for `usize`, addresses and file descriptors, which mean nothing
/// to another process, nor for `bool`, `char` and enums, of which not all bytes are a value.
///
/// ```compile_fail
/// fn only_shared<T: atomic_matrix::Shared>() {}
/// only_shared::<usize>(); // differs between processes
/// ```
/// ```compile_fail
/// fn only_shared<T: atomic_matrix::Shared>() {}
/// only_shared::<&'static str>(); // an address of this process
/// ```
///
/// # Safety
/// - Any bytes, as many as the type has, are a value of it.
/// - Every byte of a value is one of its fields': there is no padding.
/// - Nothing in it can change behind a shared reference: no `UnsafeCell`. (What has atomics is [`InPlace`].)
/// - A value means the same in every process that maps the segment: no addresses, no `usize`, no descriptors.
/// - The fingerprint is the same in every binary, and differs from that of types with another meaning.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in shared memory: a type there is plain bytes that mean the same in every process",
    note = "declare a struct of your own by `shared!`; use u64 instead of usize, u8 instead of bool or an enum",
    note = "text and slices have calls of their own: `message_text`, `message_slice`, `channel::<[u8]>`"
)]
pub unsafe trait Shared: Copy + Sync + 'static {
    /// Tells types apart across binaries: 25 bits, computed from names and fields, not from `type_name`.
    const FINGERPRINT: u32;
}

/// A type whose values several processes use at once *where they lie*: plain bytes, and atomics.
///
/// Every [`Shared`] type is one. So are `AtomicU8` to `AtomicU64`, `AtomicI8` to `AtomicI64`, arrays of these, and the
/// structs that [`in_place!`](crate::in_place!) declares. Messages, topics and maps carry them
/// ([`Payload`](crate::ipc::Payload)), and [`Common`](crate::ipc::Common) is one that has a name. Whoever is the only
/// one to have such a value writes all of it (`&mut`); those who share it write its atomics alone.
///
/// What has atomics is never copied as a value: it is not `Copy`, and each call that gives or takes a copy
/// (`load`, `read_ref`, boards, lossy subscribers, `get_value`) asks for [`Shared`]. Its own copy of a counter would be
/// another counter.
///
/// ```compile_fail,E0277
/// fn copied<T: atomic_matrix::Shared>() {}
/// copied::<std::sync::atomic::AtomicU64>(); // used where it lies, or not at all
/// ```
/// ```compile_fail,E0277
/// fn in_place<T: atomic_matrix::InPlace>() {}
/// in_place::<std::sync::atomic::AtomicBool>(); // not any byte is a bool
/// ```
/// ```compile_fail,E0277
/// fn in_place<T: atomic_matrix::InPlace>() {}
/// in_place::<std::cell::Cell<u64>>(); // two processes would write it at once
/// ```
///
/// # Safety
/// - Any bytes, as many as the type has, are a value of it, and every byte is one of its fields': there is no padding.
/// - What can change behind a shared reference is an atomic, at its alignment: no other `UnsafeCell`.
/// - A value means the same in every process that maps the segment, and nothing happens when it is dropped: that may
///   be never.
/// - The fingerprint is the same in every binary, and differs from that of types with another meaning.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used in shared memory: a type there is plain bytes that mean the same in every \
               process, or atomics",
    note = "declare a struct of your own by `shared!`, or by `in_place!` if it has atomics",
    note = "use AtomicU8 instead of AtomicBool, AtomicU64 instead of AtomicUsize, and no addresses"
)]
pub unsafe trait InPlace: Sync + 'static {
    /// Tells types apart across binaries, as [`Shared::FINGERPRINT`].
    const PRINT: u32;
}

// SAFETY: plain bytes, which nothing changes behind a shared reference (`Shared`).
unsafe impl<T: Shared> InPlace for T {
    const PRINT: u32 = <T as Shared>::FINGERPRINT;
}

/// Bytes that a value takes in a block: what has none itself takes one, so that each value has a block, and a block has
/// no more values than bytes.
pub(crate) const fn room<T>() -> usize {
    if size_of::<T>() == 0 { 1 } else { size_of::<T>() }
}

/// The value whose bytes are all zero.
pub(crate) fn zeroed<T: Shared>() -> T {
    // SAFETY: any bytes are a value (`Shared`).
    unsafe { std::mem::zeroed() }
}

/// A value's bytes.
pub(crate) fn bytes<T: Shared>(value: &T) -> &[u8] {
    // SAFETY: the same extent, borrowed as it was. Without padding every byte is initialised, and none can change
    // behind a shared reference (`Shared`).
    unsafe { std::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
}

/// The values' bytes, to be overwritten.
pub(crate) fn bytes_mut<T: Shared>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: the same extent, borrowed as it was. Without padding every byte is initialised, and any bytes that are
    // written are values (`Shared`).
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// Mixes parts into a fingerprint; for [`shared!`](crate::shared!).
#[doc(hidden)]
pub const fn mix(name: &str, parts: &[u32]) -> u32 {
    let mut hash = fnv1a_hash_str_32(name);
    let mut i = 0;
    while i < parts.len() {
        let (a, b) = (hash.to_le_bytes(), parts[i].to_le_bytes());
        hash = fnv1a_hash_32(&[a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]], None);
        i += 1;
    }
    hash &= crate::matrix::block_header::FINGERPRINT_MASK;
    // The last sixteen are reserved for structures of the library.
    if hash > crate::matrix::block_header::FINGERPRINT_MASK - RESERVED { hash - RESERVED } else { hash }
}

const RESERVED: u32 = 16;

macro_rules! plain {
    ($($type:ident)*) => {$(
        // SAFETY: a number of fixed size: any bytes are one, and all of them, without addresses; its name is the same
        // in every binary.
        unsafe impl Shared for $type {
            const FINGERPRINT: u32 = mix(stringify!($type), &[]);
        }
    )*};
}
plain!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

// SAFETY: elements one after the other, without gaps, each of a shared type.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {
    const FINGERPRINT: u32 = mix("array", &[T::FINGERPRINT, N as u32, (N as u64 >> 32) as u32]);
}

macro_rules! atomics {
    ($($type:ident)*) => {$(
        #[allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]
        // SAFETY: an atomic number of fixed size: any bytes are one, and all of them, without addresses; its name is
        // the same in every binary.
        unsafe impl InPlace for std::sync::atomic::$type {
            const PRINT: u32 = mix(stringify!($type), &[]);
        }
        #[allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]
        // SAFETY: elements one after the other, without gaps, each of a type that is used in place.
        unsafe impl<const N: usize> InPlace for [std::sync::atomic::$type; N] {
            const PRINT: u32 = mix("array", &[mix(stringify!($type), &[]), N as u32, (N as u64 >> 32) as u32]);
        }
    )*};
}
atomics!(AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64);

/// Fails to compile if a struct has other fields than these, or padding.
#[doc(hidden)]
#[macro_export]
macro_rules! __whole {
    ($name:ident { $($field:ident: $type:ty),* }) => {
        const _: () = {
            ::core::assert!(
                ::core::mem::size_of::<$name>() == 0 $(+ ::core::mem::size_of::<$type>())*,
                ::core::concat!(
                    "`", ::core::stringify!($name), "` has padding: order its fields by size, and fill up with bytes"
                ),
            );
            ::core::assert!(
                !::core::mem::needs_drop::<$name>(),
                ::core::concat!("`", ::core::stringify!($name), "` has a Drop: blocks are freed without one"),
            );
            // The fields are those named here and no others, whatever an attribute has made of the struct.
            let _ = |value: $name| {
                let $name { $($field),* } = value;
                $(let _: $type = $field;)*
            };
        };
    };
}

/// Defines a struct that may live in a segment.
///
/// The struct gets `#[repr(C)]` and `Copy`. Every field must be [`Shared`] itself, and padding is refused: order the
/// fields by size, and fill what is left with an array of bytes. Its fingerprint covers its name, its size and
/// alignment, and its fields' names and types.
///
/// ```
/// atomic_matrix::shared! {
///     /// One trade.
///     #[derive(Debug, PartialEq)]
///     pub struct Trade { pub price: f64, pub quantity: u32, pub flags: [u8; 4] }
/// }
/// assert_eq!(size_of::<Trade>(), 16);
/// ```
///
/// In place of an enum, of which not all bytes are a value: a number with names, which is matched in the same way.
///
/// ```
/// atomic_matrix::shared! {
///     #[derive(PartialEq, Eq)]
///     pub struct Command { code: u32 }
/// }
/// impl Command {
///     pub const PAUSE: Self = Self { code: 1 };
///     pub const STOP: Self = Self { code: 2 };
/// }
/// # let received = Command::STOP;
/// match received {
///     Command::PAUSE => println!("paused"),
///     Command::STOP => println!("stopped"),
///     Command { code } => println!("nobody knows command {code}"),
/// }
/// ```
/// ```compile_fail,E0277
/// atomic_matrix::shared! { pub struct Bad { pub length: usize } }
/// ```
/// ```compile_fail,E0080
/// atomic_matrix::shared! { pub struct Padded { pub price: f64, pub quantity: u32 } }
/// ```
#[macro_export]
macro_rules! shared {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty),* $(,)?
    }) => {
        #[derive(Clone, Copy)]
        #[repr(C)]
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),* }
        $crate::__whole!($name { $($field: $type),* });
        // SAFETY: every field is Shared (the constant below names each one's fingerprint), there are no others and
        // there is no padding (`__whole!`); so any bytes are a value, as they are of every field.
        unsafe impl $crate::Shared for $name {
            const FINGERPRINT: u32 = $crate::fingerprint(
                ::core::stringify!($name),
                &[
                    ::core::mem::size_of::<Self>() as u32,
                    ::core::mem::align_of::<Self>() as u32,
                    $($crate::fingerprint(::core::stringify!($field), &[<$type as $crate::Shared>::FINGERPRINT])),*
                ],
            );
        }
    };
}

/// Defines a struct with atomics, which several processes use where it lies: see [`InPlace`].
///
/// The struct gets `#[repr(C)]`, and is not `Copy`. Every field must be [`InPlace`] itself: a [`Shared`](trait@Shared)
/// type, an atomic, an array of either, or such a struct. Padding is refused, as by [`shared!`](crate::shared!), and so
/// is a `Drop`: blocks are freed without one. (An array of such structs is no field: slices have them, such as a
/// `Message<[T]>`.)
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// atomic_matrix::in_place! {
///     /// What has been done; the limit is set by who makes it.
///     struct Work { limit: u64, done: AtomicU64, by_size: [AtomicU64; 6] }
/// }
/// # let handler = atomic_matrix::Options::new().memfd().size(1 << 20).create()?;
/// let work = handler.common_with::<Work>("work", |work| work.limit = 100)?;
/// work.get()?.done.fetch_add(1, Relaxed); // in any process
/// assert_eq!((work.get()?.limit, work.get()?.done.load(Relaxed)), (100, 1));
/// # Ok::<(), atomic_matrix::Error>(())
/// ```
/// ```compile_fail,E0277
/// atomic_matrix::in_place! { struct Bad { ready: std::sync::atomic::AtomicBool } }
/// ```
/// ```compile_fail,E0080
/// atomic_matrix::in_place! { struct Padded { done: std::sync::atomic::AtomicU64, last: u32 } }
/// ```
/// ```compile_fail,E0509
/// atomic_matrix::in_place! { struct Counted { done: std::sync::atomic::AtomicU64 } }
/// impl Drop for Counted { fn drop(&mut self) {} }
/// ```
/// ```compile_fail,E0080
/// atomic_matrix::in_place! { struct Plain { done: u64 } }
/// impl Drop for Plain { fn drop(&mut self) {} }
/// ```
/// ```compile_fail,E0080
/// const fn size_of<T>() -> usize { 0 } // not the macro's
/// atomic_matrix::in_place! { struct Padded { done: u64, last: u32 } }
/// ```
#[macro_export]
macro_rules! in_place {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty),* $(,)?
    }) => {
        #[repr(C)]
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),* }
        $crate::__whole!($name { $($field: $type),* });
        // SAFETY: every field is InPlace (the constant below names each one's fingerprint), there are no others and
        // there is no padding, and the struct has no Drop (`__whole!`); so any bytes are a value, and what changes
        // behind a shared reference is an atomic, as it is in every field.
        unsafe impl $crate::InPlace for $name {
            const PRINT: u32 = $crate::fingerprint(
                ::core::stringify!($name),
                &[
                    ::core::mem::size_of::<Self>() as u32,
                    ::core::mem::align_of::<Self>() as u32,
                    $($crate::fingerprint(::core::stringify!($field), &[<$type as $crate::InPlace>::PRINT])),*
                ],
            );
        }
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]

    use super::*;

    crate::shared! {
        #[derive(Debug, PartialEq)]
        struct One { a: u32, b: [u16; 2] }
    }
    crate::shared! {
        #[derive(Debug, PartialEq)]
        struct Two { a: u32, c: [u16; 2] }
    }
    mod aligned {
        crate::shared! {
            #[derive(Debug, PartialEq)]
            #[repr(align(8))]
            pub(super) struct One { a: u32, b: [u16; 2] }
        }
    }

    #[test]
    fn fingerprints_differ_by_type_length_and_field() {
        let prints = [
            u8::FINGERPRINT,
            u64::FINGERPRINT,
            f64::FINGERPRINT,
            <[u8; 128]>::FINGERPRINT,
            <[u8; 129]>::FINGERPRINT,
            One::FINGERPRINT,
            Two::FINGERPRINT,
            aligned::One::FINGERPRINT,
        ];
        let distinct: std::collections::HashSet<_> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
        assert!(prints.iter().all(|&print| print <= crate::matrix::block_header::FINGERPRINT_MASK));
    }

    crate::in_place! {
        struct Counters { limit: u64, done: std::sync::atomic::AtomicU32, failed: std::sync::atomic::AtomicU32 }
    }
    mod plain {
        crate::shared! {
            pub(super) struct Counters { limit: u64, done: u32, failed: u32 }
        }
    }

    /// Who takes a counter for a number, or the other way round, is refused.
    #[test]
    fn an_atomic_is_not_its_number() {
        use std::sync::atomic::{AtomicI32, AtomicU16};
        let prints = [
            <AtomicU16 as InPlace>::PRINT,
            <u16 as InPlace>::PRINT,
            <AtomicI32 as InPlace>::PRINT,
            <[AtomicU16; 4] as InPlace>::PRINT,
            <[AtomicU16; 5] as InPlace>::PRINT,
            <[u16; 4] as InPlace>::PRINT,
            <Counters as InPlace>::PRINT,
            <plain::Counters as InPlace>::PRINT,
        ];
        let distinct: std::collections::HashSet<_> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
        assert_eq!(<plain::Counters as InPlace>::PRINT, <plain::Counters as Shared>::FINGERPRINT);
        assert_eq!((size_of::<Counters>(), align_of::<Counters>()), (16, 8));
    }

    /// Two binaries compute the same: what would be one of the library's own is the one sixteen below.
    #[test]
    fn no_type_has_a_fingerprint_of_the_librarys_own() {
        let all = |part: u32| {
            let (name, part) = (fnv1a_hash_str_32("type").to_le_bytes(), part.to_le_bytes());
            fnv1a_hash_32(&[name, part].concat(), None) & crate::matrix::block_header::FINGERPRINT_MASK
        };
        let last = crate::matrix::block_header::FINGERPRINT_MASK - RESERVED;
        let reserved: Vec<u32> = (0..1 << 24).filter(|&part| all(part) > last).take(3).collect();
        assert_eq!(reserved.len(), 3, "of so many some are among the last sixteen");
        for part in reserved {
            assert_eq!(mix("type", &[part]), all(part) - RESERVED);
        }
        let ordinary = (0..9).filter(|&part| all(part) <= last);
        ordinary.for_each(|part| assert_eq!(mix("type", &[part]), all(part)));
    }
}
