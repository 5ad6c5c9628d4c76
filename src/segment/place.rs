//! Where a segment's file has its name: a directory, and an entry in it.
//!
//! All name operations go through the directory's descriptor, so that they mean the same directory from the
//! first to the last, whatever becomes of the path. It is held while a segment is made or attached to.
//! Afterwards the directory is opened again when it is needed, and must be the same one: a segment in use
//! holds one descriptor, its file's.

use super::options::{Home, Options};
use crate::error::{Error, Result};
use crate::kernel::{again, open_off_streams};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const SHARED_MEMORY: &str = "/dev/shm";
/// A new file is its user's alone until mode and group are set.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// What to do where a file can't be.
const ELSEWHERE: &str = " (Options::path chooses another directory, Options::memfd needs none)";

/// Which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(file: &rustix::fs::Stat) -> Self {
        Self { device: file.st_dev, inode: file.st_ino }
    }
    /// Its device's number and its own.
    pub(crate) fn numbers(self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// A directory's descriptor.
enum Folder<'a> {
    Held(BorrowedFd<'a>),
    Again(OwnedFd),
}

impl AsFd for Folder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Held(fd) => *fd,
            Self::Again(fd) => fd.as_fd(),
        }
    }
}

fn open_directory(dir: &Path) -> Result<(OwnedFd, Identity)> {
    let failed = |verb: &str, call: &str, e| {
        Error::file(format!("{verb} the directory {} with {call}(2){ELSEWHERE}", dir.display()), e)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = again(|| rustix::fs::open(dir, flags, Mode::empty())).map_err(|e| failed("open", "open", e))?;
    let which = Identity::of(&rustix::fs::fstat(&opened).map_err(|e| failed("look at", "fstat", e))?);
    Ok((opened, which))
}

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct Place {
    held: Option<OwnedFd>,
    dir: PathBuf,
    which: Identity,
    name: OsString,
    path: PathBuf,
    /// The name in plain words that the segment was asked for by.
    asked: Option<String>,
}

impl Place {
    /// The place that the options mean, or none if they mean a file without a name.
    pub(crate) fn of(options: &Options, id: Option<Uuid>) -> Result<Option<Self>> {
        let new = |dir: &Path, file: &OsStr| Self::new(dir, file, options.name.clone()).map(Some);
        let named = |dir: &Path| match id {
            Some(id) => new(dir, OsStr::new(&format!("atomic-matrix-{id}"))),
            None => {
                let allowed = "give the segment's name with Options::name, its id with Options::id, or its file \
                    with Options::path";
                Err(Error::BadOption { option: "id", found: "not given".to_owned(), allowed })
            }
        };
        match &options.home {
            Home::MemoryFile | Home::Descriptor(_) => Ok(None),
            Home::SharedMemory => named(Path::new(SHARED_MEMORY)),
            Home::Path(path) => {
                let path = std::path::absolute(path)
                    .map_err(|e| Error::io(format!("resolve {} with getcwd(2)", path.display()), e))?;
                match (is_directory(&path)?, path.parent(), path.file_name()) {
                    (true, ..) => named(&path),
                    (false, Some(parent), Some(name)) => new(parent, name),
                    _ => {
                        let allowed = "give a directory, or the path of a file";
                        Err(Error::BadOption { option: "path", found: path.display().to_string(), allowed })
                    }
                }
            }
        }
    }

    fn new(dir: &Path, name: &OsStr, asked: Option<String>) -> Result<Self> {
        let (held, which) = open_directory(dir)?;
        Ok(Self { held: Some(held), dir: dir.to_owned(), which, name: name.to_owned(), path: dir.join(name), asked })
    }

    /// The same place, for who will seldom need it: without a descriptor.
    pub(crate) fn settled(&self) -> Self {
        let Self { dir, which, name, path, asked, .. } = self;
        let (dir, name, path, asked) = (dir.clone(), name.clone(), path.clone(), asked.clone());
        Self { held: None, dir, which: *which, name, path, asked }
    }

    /// The directory.
    fn dir(&self) -> Result<Folder<'_>> {
        if let Some(held) = &self.held {
            return Ok(Folder::Held(held.as_fd()));
        }
        let (again, which) = open_directory(&self.dir)?;
        if which == self.which {
            return Ok(Folder::Again(again));
        }
        let what = format!("find the directory of {}: another one has its name now", self.path.display());
        Err(Error::io(what, Errno::STALE))
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The device of its directory.
    pub(crate) fn device(&self) -> u64 {
        self.which.device
    }

    fn failed(&self, verb: &str, call: &str, errno: Errno) -> Error {
        Error::file(format!("{verb} {} with {call}(2)", self.path.display()), errno)
    }

    fn not_created(&self, errno: Errno) -> Error {
        let why = if errno == Errno::NOSPC { ": there is no room for another file (df -i)" } else { "" };
        Error::file(format!("create {} with openat(2){why}{ELSEWHERE}", self.path.display()), errno)
    }

    /// Opens the existing file. Links are not followed, and nothing but a regular file is opened for good.
    pub(crate) fn open(&self) -> Result<File> {
        self.open_for(OFlags::RDWR)
    }

    /// As [`Place::open`], with this access.
    pub(crate) fn open_for(&self, access: OFlags) -> Result<File> {
        let name = || self.path.clone();
        // Non-blocking, so that a device or a pipe under this name can't hold the caller up.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let dir = self.dir()?;
        match open_off_streams(&mut || rustix::fs::openat(&dir, &self.name, flags, Mode::empty())) {
            Ok(file) => Ok(file.into()),
            Err(Errno::NOENT) => Err(Error::NotFound { asked: self.asked.clone(), name: name() }),
            Err(Errno::LOOP) => Err(Error::Symlink { name: name() }),
            Err(Errno::ISDIR) => Err(Error::NotAFile { name: name(), kind: "directory" }),
            Err(Errno::NXIO | Errno::NODEV) => Err(Error::NotAFile { name: name(), kind: "socket or device" }),
            Err(errno) => Err(self.failed("open", "openat", errno)),
        }
    }

    /// A new file without a name, or none where the file system has no such thing.
    pub(crate) fn open_unnamed(&self) -> Result<Option<File>> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let dir = self.dir()?;
        match open_off_streams(&mut || rustix::fs::openat(&dir, ".", flags, PRIVATE)) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.not_created(errno)),
        }
    }

    fn exists(&self) -> Error {
        Error::AlreadyExists { asked: self.asked.clone(), name: self.path.clone() }
    }

    /// A new file under the name.
    pub(crate) fn open_new(&self) -> Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = self.dir()?;
        let mut made = false;
        let new =
            open_off_streams(&mut || rustix::fs::openat(&dir, &self.name, flags, PRIVATE).inspect(|_| made = true));
        match new {
            Ok(file) => Ok(file.into()),
            Err(Errno::EXIST) => Err(self.exists()),
            Err(errno) => {
                if made {
                    self.remove_new();
                }
                Err(self.not_created(errno))
            }
        }
    }

    /// Removes the name of a file that this call's caller has just made.
    pub(crate) fn remove_new(&self) {
        // The error that brought us here is the one to report.
        let _ = self.dir().map(|dir| rustix::fs::unlinkat(&dir, &self.name, AtFlags::empty()));
    }

    /// Gives an unnamed file the name. Fails if there is something under it, even a dangling link.
    pub(crate) fn link(&self, file: &File) -> Result<()> {
        let by_number = format!("/proc/self/fd/{}", file.as_raw_fd());
        let dir = self.dir()?;
        let mut linked = rustix::fs::linkat(rustix::fs::CWD, by_number, &dir, &self.name, AtFlags::SYMLINK_FOLLOW);
        if linked == Err(Errno::NOENT) {
            // No /proc here: by descriptor, where the kernel permits it.
            linked = rustix::fs::linkat(file, "", &dir, &self.name, AtFlags::EMPTY_PATH);
        }
        match linked {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(self.exists()),
            Err(errno) => Err(self.failed("name", "linkat", errno)),
        }
    }

    /// Which file has the name now, if any.
    pub(crate) fn identity(&self) -> Result<Option<Identity>> {
        match rustix::fs::statat(self.dir()?, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Identity::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("look at", "newfstatat", errno)),
        }
    }

    /// Removes the name if it still means that file. True if there is nothing under it any more.
    pub(crate) fn remove(&self, identity: Identity) -> Result<bool> {
        match self.identity()? {
            None => Ok(true),
            Some(other) if other != identity => Ok(false),
            Some(_) => match rustix::fs::unlinkat(self.dir()?, &self.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(true),
                Err(errno) => Err(self.failed("unlink", "unlinkat", errno)),
            },
        }
    }
}

/// Whether there is a directory under this path, or a link to one.
fn is_directory(path: &Path) -> Result<bool> {
    match rustix::fs::stat(path) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        // What is wrong with the path is said where it is opened.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(Error::file(format!("look at {} with newfstatat(2)", path.display()), errno)),
    }
}

/// What a file is, for a message.
pub(crate) fn kind(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_called_by_its_name() {
        let kinds = [
            (FileType::Directory, "directory"),
            (FileType::Symlink, "symbolic link"),
            (FileType::Fifo, "pipe"),
            (FileType::Socket, "socket"),
            (FileType::CharacterDevice, "character device"),
            (FileType::BlockDevice, "block device"),
            (FileType::RegularFile, "special file"),
        ];
        for (file, name) in kinds {
            assert_eq!(kind(file.as_raw_mode() | 0o640), name);
        }
    }

    /// A name that was made in vain is taken back; a file is not taken for the directory of one.
    #[test]
    fn a_place_is_made_and_taken_back() {
        let dir = std::env::temp_dir().join(format!("atomic-matrix-place-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).expect("a temporary directory");
        let place = Place::new(&dir, OsStr::new("segment"), None).expect("a directory");
        drop(place.open_new().expect("the name is free"));
        let made = place.identity().expect("it can be looked at");
        let under = Place::new(place.path(), OsStr::new("segment"), None).map(drop).map_err(|error| error.to_string());
        place.remove_new();
        let left = place.identity().expect("it can be looked at");
        std::fs::remove_dir(&dir).expect("removed, and empty");
        assert_eq!((made.is_some(), left), (true, None));
        assert!(under.is_err_and(|error| error.contains("open the directory") && error.contains("with open(2)")));
    }
}
