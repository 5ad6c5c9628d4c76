//! Locks on single bytes of a file that belong to the open file description (`F_OFD_SETLK`, fcntl(2)).
//!
//! rustix does not have these calls.

use rustix::io::{Errno, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Locks the byte at `offset` for writing. An error if another description holds it.
pub(crate) fn lock(file: BorrowedFd<'_>, offset: u64) -> Result<()> {
    control(file, libc::F_OFD_SETLK, libc::F_WRLCK, offset).map(drop)
}

/// Lets go of it.
pub(crate) fn unlock(file: BorrowedFd<'_>, offset: u64) -> Result<()> {
    control(file, libc::F_OFD_SETLK, libc::F_UNLCK, offset).map(drop)
}

/// Whether another description holds the byte at `offset`. Locks nothing.
pub(crate) fn is_locked_elsewhere(file: BorrowedFd<'_>, offset: u64) -> Result<bool> {
    control(file, libc::F_OFD_GETLK, libc::F_WRLCK, offset).map(|found| found != libc::F_UNLCK)
}

/// One call about one byte; the kind of lock that the kernel leaves in its answer.
fn control(file: BorrowedFd<'_>, command: libc::c_int, kind: libc::c_int, offset: u64) -> Result<libc::c_int> {
    let mut range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset as libc::off_t,
        l_len: 1,
        l_pid: 0, // The kernel wants it so.
    };
    // SAFETY: the descriptor is open while it is borrowed, and these commands read and write one `flock`,
    // which is ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(range.l_type.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_byte_is_held_by_one_description() {
        let path = std::env::temp_dir().join(format!("atomic-matrix-lock-{}", std::process::id()));
        let open = || std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let (one, other) = (open().unwrap(), open().unwrap());
        std::fs::remove_file(&path).unwrap();
        let (one, other) = (one.as_fd(), other.as_fd());
        lock(one, 7).unwrap();
        lock(one, 7).unwrap();
        assert!(lock(other, 7).is_err());
        assert!(is_locked_elsewhere(other, 7).unwrap() && !is_locked_elsewhere(one, 7).unwrap());
        assert!(!is_locked_elsewhere(other, 6).unwrap() && !is_locked_elsewhere(other, 8).unwrap());
        unlock(one, 7).unwrap();
        lock(other, 7).unwrap();
        assert!(is_locked_elsewhere(one, 7).unwrap());
    }
}
