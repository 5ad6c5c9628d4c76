//! Life: what decides whether a participant lives.
//!
//! Whoever is alive must never be recovered (S1), and what may be believed of another process depends on who
//! looks. So there is one piece of evidence, which is the kernel's and the same in every view: a lock on a
//! byte of the segment's file.
//!
//! An attachment takes its lock before it takes its first slot. The lock belongs to an open file description
//! of its own (`F_OFD_SETLK`, fcntl(2)), and that description is held by nothing but a page of this process's
//! address space: the page is mapped, its descriptor is closed, and `MADV_DONTFORK` keeps the page from
//! children. So the lock ends when the address space does, however that ends (return, kill, exec), and by
//! nothing else: descriptors may be closed and used again, children may live on. Which byte it is, the
//! *life's number*, stands in the state word of every slot that the attachment takes, so that word and
//! evidence are one. The kernel gives one byte to one description; and a newcomer passes over numbers that a
//! slot still names.
//!
//! | evidence | whose view | believed | what decides instead |
//! |---|---|---|---|
//! | the life's byte is locked (`F_OFD_GETLK`) | the kernel's: the same in every process, user, PID, time and mount namespace | always: alive | – |
//! | it is not locked | the kernel's, if the descriptor asked is this segment's file | if `fstat` says so before and after: dead | else the file is opened again by its name; else alive |
//! | the kernel does not answer (an errno) | – | never | alive |
//! | the life is number 0 | the segment's: written by the holder when it gave the slot up half-way | always: dead | – |
//! | a lock on the slot's byte, of the descriptor's description | a forked child has it, too; and the number may be another file's by now | never | the life's byte |
//! | a process lock (`F_SETLK`) | the kernel's, but any close of the file in the process ends it | never | the life's byte |
//! | a robust futex's word | the kernel's, but of one thread, not of a process; its list belongs to the C library | never | the life's byte |
//! | the process id is gone (`kill`, `ESRCH`) | the reader's PID namespace | never | the life's byte |
//! | the process is a zombie, or has another start time (`/proc/PID/stat`) | of the PID namespace that this `/proc` was mounted in, and of the reader's time namespace; changed by a restore | never | the life's byte |
//! | equal namespace ids, the boot id | `/proc`'s, where there is one | never | the life's byte |
//! | a heartbeat | the reader's clock: a stopped process is not dead | never | the life's byte |
//!
//! What is assumed: the kernel keeps `F_OFD` locks for this file, among all who map it (one machine); and
//! nobody unmaps others' pages in his own process. What errs, errs to the living side: where `MADV_DONTFORK`
//! is refused or ignored, or another thread forks between this module's open and close and the child does not
//! execute a program, that child keeps its dead parent's lock as long as it lives.

use super::lock;
use super::place::Identity;
use crate::backend::Native;
use crate::error::{Error, Result};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::ffi::c_void;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

/// The bits of a slot's state word that name its holder's life.
pub(super) const LIFE: u64 = 0xFFFF_FFFF;
/// The life that a slot's state word names.
pub(super) const fn life_in(state: u64) -> u32 {
    (state & LIFE) as u32
}

/// The lives' bytes: far behind the end of every file, out of the way of other locks.
const FIRST_BYTE: u64 = 1 << 62;
/// Numbers tried: there are a thousand lives at most among four thousand million numbers.
const TRIES: u32 = 64;
/// No attachment has this number: the life of whoever has given up.
pub(crate) const NO_LIFE: u32 = 0;

/// A life's byte.
fn byte(number: u32) -> u64 {
    FIRST_BYTE + u64::from(number)
}

/// This attachment's life: a locked byte, as long as this process's memory is there.
#[derive(Debug)]
pub(super) struct Life {
    number: u32,
    page: NonNull<c_void>,
    length: usize,
    /// Whose memory it is: a forked child has another page there, or none.
    process: u64,
}

// SAFETY: the page is never accessed: it is an address and a length.
unsafe impl Send for Life {}

impl Life {
    /// Takes a life's byte in the name of a fresh open file description, which is given up to a page of
    /// memory of `length` bytes. `named` tells the numbers that slots still name.
    pub(super) fn begin(description: OwnedFd, length: usize, named: impl Fn(u32) -> bool) -> Result<Self> {
        let number = lock_one(description.as_fd(), named)?;
        let failed = |errno: Errno| Error::io("map the page that holds this process's lock with mmap(2)", errno);
        // SAFETY: a new mapping at an address of the kernel's choice, which nobody may access.
        let mapped = unsafe {
            let (protection, flags) = (ProtFlags::empty(), MapFlags::SHARED);
            rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, &description, 0)
        };
        let page = NonNull::new(mapped.map_err(failed)?).ok_or_else(|| failed(Errno::NOMEM))?;
        // Refused, children keep the lock: that errs to the living side.
        // SAFETY: the mapping is ours alone.
        let _ = unsafe { rustix::mm::madvise(page.as_ptr(), length, Advice::LinuxDontFork) };
        Ok(Self { number, page, length, process: Native::process() })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.process == Native::process() {
            // SAFETY: mapped in `begin`, by this process, and unmapped once.
            let _ = unsafe { rustix::mm::munmap(self.page.as_ptr(), self.length) };
        }
    }
}

/// Locks a byte that nobody holds and no slot names. The lock comes first: while it is held nobody alive can
/// write that number.
fn lock_one(fd: BorrowedFd<'_>, named: impl Fn(u32) -> bool) -> Result<u32> {
    let mut number = (Native::process() ^ Native::serial().wrapping_mul(0x9E37_79B9_7F4A_7C15)) as u32;
    for _ in 0..TRIES {
        number = number.wrapping_add(0x9E37_79B9);
        if number == NO_LIFE {
            continue;
        }
        match lock::lock(fd, byte(number)) {
            Ok(()) if !named(number) => return Ok(number),
            Ok(()) => drop(lock::unlock(fd, byte(number))),
            Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) => {}
            Err(errno) => {
                let what = "lock a byte of the segment's file (fcntl(2), F_OFD_SETLK), by which others tell that \
                    this process lives; \
                            use a file system and a sandbox that have such locks";
                return Err(Error::io(what, errno));
            }
        }
    }
    let what = format!(
        "lock a byte of the segment's file with fcntl(2) (F_OFD_SETLK): others hold all {TRIES} that were tried"
    );
    Err(Error::io(what, rustix::io::Errno::AGAIN))
}

/// The segment's descriptor. A host program may close descriptors that it does not know, and open its own
/// files under their numbers: before each use that matters it is asked whether it is still the segment's
/// file, and if not, it is left alone.
#[derive(Debug)]
pub(super) struct Descriptor {
    file: ManuallyDrop<File>,
    identity: Identity,
}

impl Descriptor {
    pub(super) fn new(file: File) -> Result<Self> {
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::io("look at the segment's file with fstat(2)", e))?;
        Ok(Self { file: ManuallyDrop::new(file), identity: Identity::of(&stat) })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether a descriptor means this file.
    pub(super) fn is_same(&self, other: &impl AsFd) -> bool {
        rustix::fs::fstat(other).is_ok_and(|stat| Identity::of(&stat) == self.identity)
    }

    /// Whether the number still means the segment's file.
    pub(super) fn is_ours(&self) -> bool {
        self.is_same(self.file())
    }

    /// Whether a life has ended. Never a guess: false if this descriptor can't tell.
    pub(super) fn tells_dead(&self, life: u32) -> Option<bool> {
        if !self.is_ours() {
            return None;
        }
        let locked = lock::is_locked_elsewhere(self.file.as_fd(), byte(life)).ok()?;
        // A free byte of another file would say nothing.
        (locked || self.is_ours()).then_some(!locked)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A memory file, and a way to open it again.
    fn file() -> (Descriptor, impl Fn() -> OwnedFd) {
        let made = rustix::fs::memfd_create("lives", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
        rustix::fs::ftruncate(&made, 4096).expect("memory");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&made));
        let again = move || {
            rustix::fs::open(&path, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
                .expect("there")
        };
        (Descriptor::new(made.into()).expect("open"), again)
    }

    #[test]
    fn s1_a_life_is_seen_by_everybody_until_it_ends() {
        let (descriptor, again) = file();
        let life = Life::begin(again(), 4096, |_| false).expect("a lock");
        let other = Life::begin(again(), 4096, |_| false).expect("a lock");
        assert_ne!(life.number(), other.number());
        let (one, two) = (life.number(), other.number());
        assert_eq!((descriptor.tells_dead(one), descriptor.tells_dead(two)), (Some(false), Some(false)));
        drop(life);
        assert_eq!((descriptor.tells_dead(one), descriptor.tells_dead(two)), (Some(true), Some(false)));
    }

    /// A dead one's slot still names its number: nobody else may live under it, or the dead one would live with him.
    #[test]
    fn c1_a_number_that_a_slot_names_is_passed_over() {
        let (descriptor, again) = file();
        let named = RefCell::new(vec![]);
        let life = Life::begin(again(), 4096, |number| {
            let mut named = named.borrow_mut();
            named.push(number);
            named.len() < 5
        });
        let life = life.expect("a lock");
        let named = named.into_inner();
        let (chosen, passed) = named.split_last().expect("asked");
        assert_eq!((*chosen, passed.len()), (life.number(), 4));
        assert!(passed.iter().all(|&number| descriptor.tells_dead(number) == Some(true)), "let go again");
        assert!(!named.contains(&NO_LIFE));
    }

    /// A descriptor that means another file by now tells nothing, and is not closed.
    #[test]
    fn s1_anothers_file_is_not_believed() {
        let (descriptor, again) = file();
        let life = Life::begin(again(), 4096, |_| false).expect("a lock");
        let other = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
        // The number is taken from the segment, as a program does that opens its log under it.
        let number = std::os::fd::AsRawFd::as_raw_fd(descriptor.file());
        // SAFETY: the descriptor's number means another file from here on, and is closed below.
        let mut foreign = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
        rustix::io::dup2(&other, &mut foreign).expect("open");
        assert_eq!(descriptor.tells_dead(life.number()), None);
        drop(descriptor);
        rustix::fs::fstat(&foreign).expect("it is open still");
    }
}
