//! System calls as this crate makes them: an interrupted call is made again, but not for ever.
//!
//! The standard library repeats an interrupted call until it comes through, and takes a refused sleep for a
//! fault of its own. A timer that fires faster than a call can be made, or a sandbox, must neither hold a
//! caller up for ever nor end it.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{NanosleepRelativeResult, nanosleep};
use rustix::time::Timespec;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// How often an interrupted call is made.
pub(crate) const TRIES: u32 = 64;
/// The first descriptor that is no standard stream's.
const BEHIND_STREAMS: RawFd = 3;
/// More bytes than any file of the kernel's has that is read here.
const LONGEST: usize = 1 << 20;

/// Makes a call until it is not interrupted, [`TRIES`] times at most.
pub(crate) fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRIES {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
    call()
}

/// Opens a file that is to be written, as [`again`] makes a call. It does not get the number of a standard stream:
/// where a program has closed those, whatever it prints or logs would go into the segment's first bytes.
pub(crate) fn open_off_streams(open: &mut dyn FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    // Closed streams' numbers go to descriptors that can't be written meanwhile: what other threads print now goes
    // nowhere, as before.
    let mut kept = vec![];
    while let Ok(place) = again(|| rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())) {
        let behind = place.as_raw_fd() >= BEHIND_STREAMS;
        kept.push(place);
        if behind {
            // It is given back first: the file gets this number.
            kept.pop();
            break;
        }
    }
    let opened = again(open)?;
    if opened.as_raw_fd() >= BEHIND_STREAMS {
        return Ok(opened);
    }
    again(|| rustix::io::fcntl_dupfd_cloexec(&opened, BEHIND_STREAMS))
}

/// Sleeps for this time, or less: if the call is refused or interrupted, it is not made again. Whoever waits
/// looks at the clock.
pub(crate) fn nap(time: Duration) {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    match nanosleep(&time) {
        NanosleepRelativeResult::Ok => {}
        // Others shall run at least.
        NanosleepRelativeResult::Interrupted(_) | NanosleepRelativeResult::Err(_) => std::thread::yield_now(),
    }
}

/// Whose rights this process has: its effective user id.
pub(crate) fn user() -> u32 {
    // SAFETY: it takes nothing and can't fail.
    unsafe { libc::geteuid() }
}

/// Whether the kernel knows no process of this number, as far as this process can see. (0 and below are groups.)
pub(crate) fn is_no_process(pid: i32) -> bool {
    // SAFETY: signal 0 is sent to nobody; the call only says whether it could be.
    pid > 0 && unsafe { libc::kill(pid, 0) } != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Fills `into` with the file's bytes from `offset` on; false if the file ends before.
pub(crate) fn read_at(file: impl AsFd, into: &mut [u8], offset: u64) -> Result<bool, Errno> {
    let mut done = 0;
    while done < into.len() {
        match again(|| rustix::io::pread(&file, &mut into[done..], offset + done as u64))? {
            0 => return Ok(false),
            more => done += more,
        }
    }
    Ok(true)
}

/// Writes `from` at `offset`.
pub(crate) fn write_at(file: impl AsFd, from: &[u8], offset: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < from.len() {
        match again(|| rustix::io::pwrite(&file, &from[done..], offset + done as u64))? {
            0 => return Err(Errno::IO),
            more => done += more,
        }
    }
    Ok(())
}

/// A text of the kernel's (`/proc`, `/sys`); none if it can't be had.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = File::from(again(|| rustix::fs::open(path.as_ref(), flags, Mode::empty())).ok()?);
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    while bytes.len() < LONGEST {
        match again(|| rustix::io::read(&file, &mut part)).ok()? {
            0 => break,
            more => bytes.extend_from_slice(&part[..more]),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again_and_not_for_ever() {
        let mut calls = 0;
        let mut interrupted = |until| {
            calls += 1;
            if calls < until { Err(Errno::INTR) } else { Ok(calls) }
        };
        assert_eq!(again(|| interrupted(10)), Ok(10));
        assert_eq!(again(|| interrupted(u32::MAX)), Err(Errno::INTR));
        assert_eq!(calls, 10 + TRIES);
    }

    #[test]
    fn a_process_that_is_waited_for_is_none() {
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let (own, pid) = (std::process::id() as i32, child.id() as i32);
        assert!(!is_no_process(own) && !is_no_process(pid), "a zombie has its number");
        child.wait().expect("it ends");
        assert!(is_no_process(pid));
        assert!(!is_no_process(0) && !is_no_process(-1), "no process's numbers");
    }

    #[test]
    fn texts_are_read_to_their_end() {
        let status = text("/proc/self/status").expect("there is a /proc");
        assert!(status.starts_with("Name:") && status.ends_with('\n'), "{status}");
        assert_eq!(text("/proc/self/nothing"), None);
    }
}
