//! Which process this is: a number that a forked child does not share.
//!
//! A process id does not do: a parent may be number 1 of its PID namespace, and its child number 1 of a
//! nested one; and asking costs a kernel call. The number stands in a page that the kernel zeroes in a child
//! (`MADV_WIPEONFORK`, Linux 4.14). Emulators and sandboxes may refuse that, or only say that they do it:
//! whoever accepts advice that does not exist is not believed (as BoringSSL does it). Then the number is kept
//! beside the process id, and a handler of the C library's `fork` takes it back: not for a child made by a
//! bare `clone` that also has its parent's process id.
#![allow(clippy::disallowed_types, reason = "this folder is where raw atomics live")]

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The page's word; null until somebody asks, [`KEPT`] where the page is not to be had.
static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
/// The number where no page is wiped: drawn at random, and in the low half the process id.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// Advice that does not exist.
const NO_ADVICE: libc::c_int = 0x7FFF;

/// The number of this process, never 0: a child that is forked has another one.
#[inline]
pub(super) fn number() -> u64 {
    let word = WORD.load(Ordering::Acquire);
    if !word.is_null() && !std::ptr::eq(word, &KEPT) {
        // SAFETY: a page of `wiped_page`, never unmapped.
        let found = unsafe { &*word }.load(Ordering::Acquire);
        if found != 0 {
            return found;
        }
    }
    find()
}

/// Whether memory can be had that a forked child finds zeroed.
pub(super) fn wipes() -> bool {
    number();
    !std::ptr::eq(WORD.load(Ordering::Acquire), &KEPT)
}

#[cold]
fn find() -> u64 {
    let word = WORD.load(Ordering::Acquire);
    let word = if word.is_null() { make() } else { word };
    if std::ptr::eq(word, &KEPT) {
        return kept();
    }
    // SAFETY: as in `number`.
    let word = unsafe { &*word };
    let drawn = draw();
    word.compare_exchange(0, drawn, Ordering::AcqRel, Ordering::Acquire).map_or_else(|found| found, |_| drawn)
}

/// Decides for good where the number stands. Waits for nobody: a child may be forked meanwhile.
fn make() -> *mut AtomicU64 {
    let page = wiped_page();
    let word = page.unwrap_or((&raw const KEPT).cast_mut());
    if page.is_none() {
        // SAFETY: the handler stores a word, which is sound in a child of whatever process.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    }
    match WORD.compare_exchange(std::ptr::null_mut(), word, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => word,
        // Two threads at once: a page too many, once.
        Err(found) => found,
    }
}

extern "C" fn forget() {
    KEPT.store(0, Ordering::Release);
}

fn kept() -> u64 {
    const ID: u64 = 0xFFFF_FFFF;
    let pid = u64::from(std::process::id());
    let mut found = KEPT.load(Ordering::Acquire);
    while found & ID != pid {
        let drawn = draw() & !ID | pid;
        match KEPT.compare_exchange(found, drawn, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return drawn,
            Err(now) => found = now,
        }
    }
    found
}

/// A word that is 0 in a child that is forked; none if the system does not offer it.
fn wiped_page() -> Option<*mut AtomicU64> {
    let mut memory = memmap2::MmapMut::map_anon(size_of::<AtomicU64>()).ok()?;
    let page: *mut u8 = memory.as_mut_ptr();
    // SAFETY: an anonymous mapping of ours alone, page aligned, as long as asked for; nothing stands in it yet.
    let believed = unsafe { libc::madvise(page.cast(), memory.len(), NO_ADVICE) } != 0
        // SAFETY: the same mapping, in which nothing stands yet.
        && unsafe { rustix::mm::madvise(page.cast(), memory.len(), rustix::mm::Advice::LinuxWipeOnFork) }.is_ok();
    believed.then(|| {
        std::mem::forget(memory);
        page.cast()
    })
}

/// A number that no other process is likely to draw.
fn draw() -> u64 {
    super::random::random().map_or_else(|_| without_random(), |drawn| drawn as u64).max(1)
}

/// A number where the kernel gives no random ones: of the process id and the time. Another process may have the same
/// process id only in another PID namespace, and then was hardly made in the same nanosecond.
fn without_random() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    of_time_and_process(now, std::process::id())
}

fn of_time_and_process(now: u64, process: u32) -> u64 {
    now.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(process) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn s1_processes_and_moments_have_numbers_of_their_own() {
        let numbers: HashSet<_> =
            (1..65).flat_map(|now| (1..65).map(move |process| of_time_and_process(now, process))).collect();
        assert_eq!(numbers.len(), 64 * 64);
        let before = without_random();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert_ne!(without_random(), before);
    }

    /// Where the number is kept beside the process id: a child forgets it, and has another.
    #[test]
    fn s1_a_number_that_was_forgotten_is_another() {
        if !wipes() {
            // It is this process's number.
            return;
        }
        let before = kept();
        assert_eq!((kept(), before as u32), (before, std::process::id()));
        forget();
        assert_ne!(kept(), before);
    }
}
