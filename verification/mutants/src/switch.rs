//! Which mutant is at work: the one whose number MATRIX_MUTANT has when the process first asks. This file is put into
//! the copy of the sources that has all mutants; with MATRIX_REACHED, which names a file of a byte for each mutant, it
//! notes there which of them a run has come by.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

const NOBODY: u32 = u32::MAX - 2;
const NOTING: u32 = u32::MAX - 1;
const UNREAD: u32 = u32::MAX;

static AT_WORK: AtomicU32 = AtomicU32::new(UNREAD);
static REACHED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Whether this mutant is at work. None is where a constant is computed: a build of its own has to try those.
#[inline]
pub const fn on(mutant: u32) -> bool {
    core::intrinsics::const_eval_select((mutant,), never, now)
}

const fn never(_: u32) -> bool {
    false
}

#[inline]
fn now(mutant: u32) -> bool {
    let at_work = AT_WORK.load(Relaxed);
    if at_work < NOTING { at_work == mutant } else { asked(at_work, mutant) }
}

#[cold]
#[inline(never)]
fn asked(at_work: u32, mutant: u32) -> bool {
    let at_work = if at_work == UNREAD { read() } else { at_work };
    if at_work == NOTING {
        // SAFETY: the file has a byte for each mutant, and stays mapped; other processes write nothing but ones, too.
        unsafe { REACHED.load(Relaxed).add(mutant as usize).write_volatile(1) };
    }
    at_work == mutant
}

fn read() -> u32 {
    let number = std::env::var("MATRIX_MUTANT").ok().and_then(|number| number.parse().ok());
    let at_work = number.unwrap_or_else(|| match std::env::var_os("MATRIX_REACHED").and_then(map) {
        Some(bytes) => {
            REACHED.store(bytes, Relaxed);
            NOTING
        }
        None => NOBODY,
    });
    AT_WORK.store(at_work, Relaxed);
    at_work
}

fn map(path: std::ffi::OsString) -> Option<*mut u8> {
    let file = std::fs::File::options().read(true).write(true).open(path).ok()?;
    let length = file.metadata().ok()?.len() as usize;
    let (may, kind) = (rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE, rustix::mm::MapFlags::SHARED);
    // SAFETY: a new mapping of a file that nobody shortens.
    unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, may, kind, file, 0) }.ok().map(|at| at.cast())
}
