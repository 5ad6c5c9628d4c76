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
use crate::kernel::{again, read_at};
use rustix::fs::{Dir, FileType, Mode, OFlags};
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
        let Some((identity, file)) = nameless(&descriptor, device, id) else { continue };
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
    let names = match read() {
        Ok(names) => names,
        Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS) => vec![],
        Err(errno) => {
            let what = format!("look through {} with open(2), openat(2) and getdents64(2)", directory.display());
            return Err(Error::io(what, errno));
        }
    };
    let numbers = names.into_iter().filter(|name| name.first().is_some_and(u8::is_ascii_digit));
    Ok(numbers.map(|name| directory.join(OsString::from_vec(name))).collect())
}

/// The file behind a descriptor of a process, opened anew, if it is such a segment. What is gone, or may not
/// be opened, is none.
fn nameless(descriptor: &Path, device: u64, id: Uuid) -> Option<(Identity, File)> {
    let stat = rustix::fs::stat(descriptor).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || stat.st_nlink != 0 || stat.st_dev != device {
        return None;
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(descriptor, flags, Mode::empty()).ok()?);
    let mut bytes = [0; header::BYTES];
    read_at(&file, &mut bytes, 0).ok().filter(|whole| *whole)?;
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    // One that never had a name is just being made, and may be thrown away yet.
    let ours = Guard::of(&words) == Guard::Ready && header::had_name(&words) && header::says_id(&words, id);
    ours.then_some((Identity::of(&stat), file))
}
