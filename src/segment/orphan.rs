//! A segment that has lost its name, found again through a process that has it open.
//!
//! Somebody may remove the name while the segment is in use. Its users hold descriptors of the file, and
//! `/proc/PID/fd` opens the file anew for everybody who may look into such a process (ptrace(2): its own
//! user, or root). The kernel gives a file that has lost its last name no other one (linkat(2)), so the
//! segment stays without a name, and each newcomer has to find it in this way.

use super::header::{self, Guard};
use super::options::Options;
use super::place::{Identity, Place};
use crate::error::{Error, Result};
use crate::kernel::{again, open_off_streams, read_at};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The nameless segment with the options' id that was in this place, if a process that may be looked into has it open.
///
/// # Errors
/// [`Error::BadOption`] if there is no id to look for, or if more than one segment has it.
pub(super) fn find(options: &Options, place: &Place) -> Result<Option<File>> {
    let Some(id) = options.id else {
        let allowed = "give the segment's id with Options::id";
        return Err(Error::BadOption { option: "rejoin", found: "no id to look for".to_owned(), allowed });
    };
    let device = place.device();
    let mut found: Option<(Identity, File)> = None;
    let mut descriptors = vec![];
    for process in numbers(Path::new("/proc"))? {
        descriptors.append(&mut numbers(&process.join("fd"))?);
    }
    for descriptor in descriptors {
        let Some((identity, file)) = nameless(&descriptor, device, id)? else { continue };
        match &found {
            Some((other, _)) if *other != identity => {
                let found = format!("more than one nameless segment {id} is in use");
                return Err(Error::BadOption { option: "rejoin", found, allowed: "end the users of all but one" });
            }
            Some(_) => {}
            None => found = Some((identity, file)),
        }
    }
    Ok(found.map(|(_, file)| file))
}

/// Entries of a directory whose names are numbers; none if it is gone, or another user's.
///
/// # Errors
/// [`Error::Io`] if it can't be read otherwise: to go on as if nothing were there would make a second segment.
fn numbers(directory: &Path) -> Result<Vec<PathBuf>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let read = || {
        let opened = again(|| rustix::fs::open(directory, flags, Mode::empty()))?;
        // Not std's, which panics where a sandbox refuses to close the directory.
        let names = Dir::new(opened)?.map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()));
        names.collect::<std::result::Result<Vec<_>, Errno>>()
    };
    let names = seen(read()).map_err(|errno| {
        let what = format!("look through {} with open(2), openat(2) and getdents64(2)", directory.display());
        Error::io(what, errno)
    })?;
    let names = names.unwrap_or_default();
    let numbers = names.into_iter().filter(|name| name.first().is_some_and(u8::is_ascii_digit));
    Ok(numbers.map(|name| directory.join(OsString::from_vec(name))).collect())
}

/// The file behind a descriptor of a process, opened anew, if it is such a segment. What is gone, or may not
/// be opened, is none.
///
/// # Errors
/// [`Error::Io`] if it can't be looked at otherwise, as for [`numbers`].
fn nameless(descriptor: &Path, device: u64, id: Uuid) -> Result<Option<(Identity, File)>> {
    let failed = |call: &str, errno| Error::io(format!("look at {} with {call}", descriptor.display()), errno);
    let stat = again(|| rustix::fs::stat(descriptor));
    let Some(stat) = seen(stat).map_err(|errno| failed("newfstatat(2)", errno))? else { return Ok(None) };
    let may_be_ours = |stat: &Stat| {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file && stat.st_nlink == 0 && stat.st_dev == device
    };
    if !may_be_ours(&stat) {
        return Ok(None);
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = open_off_streams(&mut || rustix::fs::open(descriptor, flags, Mode::empty()));
    let opened = match opened {
        // By now another file has that number, or it is a program that runs.
        Err(Errno::ISDIR | Errno::NXIO | Errno::TXTBSY) => None,
        opened => seen(opened).map_err(|errno| failed("open(2)", errno))?,
    };
    let Some(opened) = opened else { return Ok(None) };
    let file = File::from(opened);
    // The number may have become another file's between the two calls.
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed("fstat(2)", errno))?;
    if !may_be_ours(&stat) {
        return Ok(None);
    }
    let mut bytes = [0; header::BYTES];
    if !read_at(&file, &mut bytes, 0).map_err(|errno| failed("pread64(2)", errno))? {
        return Ok(None);
    }
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    // One that never had a name is just being made, and may be thrown away yet.
    let ours = Guard::of(&words) == Guard::Ready && header::had_name(&words) && header::says_id(&words, id);
    Ok(ours.then_some((Identity::of(&stat), file)))
}

/// What a call saw of another process: nothing, where that has gone or may not be looked into, or where it has a
/// file of a network's file system that is out of reach, which can't be ours.
fn seen<T>(answer: std::result::Result<T, Errno>) -> std::result::Result<Option<T>, Errno> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::NOTCONN | Errno::STALE) => Ok(None),
        Err(errno) => Err(errno),
    }
}
