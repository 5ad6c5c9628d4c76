//! Copies between private memory and payload that another process may be changing: byte for byte atomic, so that a race
//! yields torn values, never undefined behaviour.
#![allow(clippy::disallowed_types, reason = "this folder is where raw atomics live")]

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Bytes before the first 8-byte boundary at or after `at`, at most `length`.
fn unaligned(at: *const u8, length: usize) -> usize {
    at.align_offset(8).min(length)
}

/// Sixteen bytes by one load and one store, so that whoever moves the copy on by as many waits for none of them to come
/// back from the store buffer. The processor reads each byte as one.
///
/// # Safety
/// `from` is valid for reads of 16 bytes; nobody writes them other than atomically or from another process.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
unsafe fn pair_out(from: *const u8, into: &mut [u8; 16]) {
    let pair: std::arch::x86_64::__m128i;
    // SAFETY: the load is in range by the caller's word, and a race with it no concern of the compiler's, which knows
    // nothing of what is read here; the store is to memory of the caller's own.
    unsafe {
        std::arch::asm!("movdqu {pair}, [{from}]", pair = lateout(xmm_reg) pair, from = in(reg) from,
            options(nostack, preserves_flags, readonly));
        std::arch::x86_64::_mm_storeu_si128(into.as_mut_ptr().cast(), pair);
    }
}

/// Sixteen bytes, by two words.
///
/// # Safety
/// As for the other; and `from` is 8-byte aligned.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
unsafe fn pair_out(from: *const u8, into: &mut [u8; 16]) {
    for (i, word) in into.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // SAFETY: in range and aligned by the caller's word.
        *word = unsafe { AtomicU64::from_ptr(from.add(i * 8).cast_mut().cast()) }.load(Relaxed).to_ne_bytes();
    }
}

/// Copies `into.len()` bytes out of payload.
///
/// # Safety
/// `from` is valid for reads of that many bytes; nobody writes them other than atomically or from another process.
pub unsafe fn copy_out(from: *const u8, into: &mut [u8]) {
    let (head, rest) = into.split_at_mut(unaligned(from, into.len()));
    // SAFETY: in range by the caller's word; behind the head `from` is 8-byte aligned, unless there is nothing.
    unsafe {
        copy_bytes_out(from, head);
        copy_aligned_out(from.add(head.len()), rest);
    }
}

/// As [`copy_out`], compiled into the caller.
///
/// # Safety
/// As for [`copy_out`]; and `from` is 8-byte aligned, unless no bytes are copied.
#[inline(always)]
pub unsafe fn copy_aligned_out(from: *const u8, into: &mut [u8]) {
    let (pairs, rest) = into.as_chunks_mut::<16>();
    let (words, tail) = rest.as_chunks_mut::<8>();
    let behind_pairs = pairs.len() * 16;
    let behind = behind_pairs + words.len() * 8;
    for (i, pair) in pairs.iter_mut().enumerate() {
        // SAFETY: in range and aligned by the caller's word.
        unsafe { pair_out(from.add(i * 16), pair) };
    }
    if let Some(word) = words.first_mut() {
        // SAFETY: in range and aligned by the caller's word.
        *word = unsafe { AtomicU64::from_ptr(from.add(behind_pairs).cast_mut().cast()) }.load(Relaxed).to_ne_bytes();
    }
    // SAFETY: in range by the caller's word.
    unsafe { copy_bytes_out(from.add(behind), tail) };
}

/// Copies so few bytes that each goes alone.
///
/// # Safety
/// As for [`copy_out`].
#[inline(always)]
unsafe fn copy_bytes_out(from: *const u8, into: &mut [u8]) {
    for (i, byte) in into.iter_mut().enumerate() {
        // SAFETY: in range by the caller's word; u8 has no alignment.
        *byte = unsafe { AtomicU8::from_ptr(from.add(i).cast_mut()) }.load(Relaxed);
    }
}

/// Copies bytes into payload.
///
/// # Safety
/// `to` is valid for writes of that many bytes; nobody accesses them other than atomically or from another process.
pub unsafe fn copy_in(from: &[u8], to: *mut u8) {
    let (head, rest) = from.split_at(unaligned(to, from.len()));
    let middle = head.len();
    let (words, tail) = rest.as_chunks::<8>();
    for (i, byte) in head.iter().enumerate() {
        // SAFETY: in range by the caller's word; u8 has no alignment.
        unsafe { AtomicU8::from_ptr(to.add(i)) }.store(*byte, Relaxed);
    }
    let end = middle + words.len() * 8;
    for (i, word) in words.iter().enumerate() {
        // SAFETY: in range by the caller's word, and `to + middle` is 8-byte aligned.
        unsafe { AtomicU64::from_ptr(to.add(middle + i * 8).cast()) }.store(u64::from_ne_bytes(*word), Relaxed);
    }
    for (i, byte) in tail.iter().enumerate() {
        // SAFETY: in range by the caller's word; u8 has no alignment.
        unsafe { AtomicU8::from_ptr(to.add(end + i)) }.store(*byte, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_every_byte_at_every_alignment() {
        for start in 0..8 {
            for length in 0..40 {
                let mut shared = [0xAAu8; 64];
                let source: Vec<u8> = (0..length as u8).map(|b| b + 1).collect();
                let mut back = vec![0; length];
                // SAFETY: within the array, which only this thread uses.
                unsafe {
                    copy_in(&source, shared.as_mut_ptr().add(start));
                    copy_out(shared.as_ptr().add(start), &mut back);
                }
                assert_eq!(back, source);
                assert!(shared[..start].iter().chain(&shared[start + length..]).all(|&b| b == 0xAA));
            }
        }
    }
}
