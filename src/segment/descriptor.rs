//! Files that come as descriptors: opened anew for a description of our own, and their seals looked at.

use crate::error::{Error, Result};
use crate::kernel::open_off_streams;
use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::io::{Errno, FdFlags};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// An open file description of our own for the descriptor's file: locks belong to descriptions, and the one
/// passed on is the giver's too, so that a living giver could not be told from a dead one.
pub(super) fn own_description(fd: &OwnedFd) -> Result<File> {
    let failed = |what: &str, e| Error::io(format!("{what} descriptor {}", fd.as_raw_fd()), e);
    rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC).map_err(|e| failed("set close-on-exec with fcntl(2) on", e))?;
    let mode = rustix::fs::fcntl_getfl(fd).map_err(|e| failed("look with fcntl(2) at", e))? & OFlags::ACCMODE;
    if mode != OFlags::RDWR {
        let (found, allowed) = ("not open for reading and writing".to_owned(), "open it with O_RDWR");
        return Err(Error::BadOption { option: "from_fd", found, allowed });
    }
    let by_number = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let own = open_off_streams(&mut || rustix::fs::open(by_number.as_str(), flags, Mode::empty()))
        .map_err(|e| failed("open anew with open(2), through /proc, the file of", e))?;
    Ok(own.into())
}

/// Whether nobody can cut the file, whoever has it open. Seals are never taken off again, so what is found holds.
pub(super) fn check_seals(fd: &OwnedFd, name: &Path) -> Result<()> {
    let needed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    // Files that know no seals (all but memory files and those of a tmpfs) answer EINVAL.
    let found = match rustix::fs::fcntl_get_seals(fd) {
        Ok(found) => found,
        Err(Errno::INVAL) => SealFlags::empty(),
        Err(errno) => return Err(Error::io(format!("look at the seals of {} with fcntl(2)", name.display()), errno)),
    };
    let missing: Vec<&str> = needed.difference(found).iter_names().map(|(name, _)| name).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::NotSealed { name: name.into(), missing: missing.join(", ") }) }
}
