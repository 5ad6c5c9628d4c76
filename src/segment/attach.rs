//! Attaching to a segment: everything is checked on a copy before a byte of it is mapped (C2).
//!
//! The file is never changed and never resized. Where a name appears only with a ready segment, nothing is
//! waited for; on other file systems the init guard says "formatting", and the wait is bounded (L1): a
//! creator that died is named in the error at once.

use super::descriptor::{check_seals, own_description};
use super::header::{self, Guard, SegmentHeader};
use super::mapping::{Segment, map};
use super::options::{Home, Options};
use super::orphan;
use super::place::{Place, kind};
use super::space::FileSystem;
use super::view::View;
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::kernel::{is_no_process, nap, read_at, user};
use rustix::fs::{FileType, FlockOperation, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at a guard that says "formatting".
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Options {
    /// Attaches to an existing segment; never creates, changes or resizes a file.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Symlink`], [`Error::NotAFile`] and [`Error::WrongOwner`] for what is not
    /// opened at all; [`Error::NotASegment`], [`Error::WrongVersion`], [`Error::SizeMismatch`],
    /// [`Error::LayoutMismatch`] and others for a file that is not the segment asked for.
    pub fn attach_segment(&self) -> Result<Segment> {
        self.check()?;
        match &self.home {
            Home::Descriptor(fd) => {
                let name = PathBuf::from(format!("descriptor {}", fd.as_raw_fd()));
                if self.sealed {
                    check_seals(fd, &name)?;
                }
                self.attach_file(own_description(fd)?, &name, &|| false)
            }
            Home::MemoryFile => {
                let (found, allowed) =
                    ("it has no name to attach by".to_owned(), "pass its descriptor to Options::from_fd");
                Err(Error::BadOption { option: "memfd", found, allowed })
            }
            Home::SharedMemory | Home::Path(_) => match Place::of(self, self.id)? {
                Some(place) => self.attach_at(Arc::new(place)),
                None => Err(Error::NotFound { asked: None, name: PathBuf::new() }),
            },
        }
    }

    pub(crate) fn attach_at(&self, place: Arc<Place>) -> Result<Segment> {
        let file = match place.open() {
            Err(gone @ Error::NotFound { .. }) if self.rejoin => orphan::find(self, &place)?.ok_or(gone)?,
            opened => opened?,
        };
        // A name may come before its segment only where there are no unnamed files (or in tests).
        let early = || self.named || matches!(place.open_unnamed(), Ok(None));
        let segment = self.attach_file(file, place.path(), &early)?;
        Ok(segment.named(&place))
    }

    fn attach_file(&self, file: File, name: &Path, early: &dyn Fn() -> bool) -> Result<Segment> {
        self.check_owner(&file, name)?;
        let words = self.await_ready(&file, name, early)?;
        let length = stat(&file, name)?.st_size as u64;
        let header = SegmentHeader::decode(&words, length, name)?;
        self.compare(&header)?;
        if header.layout.params.biased && !Native::join_heavy_fences() {
            return Err(Error::NoMembarrier);
        }
        let huge = FileSystem::of(&file)?.huge;
        let segment = Segment::new(map(&file, header.total)?, file, header, false)?;
        segment.settle(self, huge)?;
        Ok(segment)
    }

    /// Maps an existing segment for reading alone.
    pub(crate) fn view(&self) -> Result<View> {
        self.check()?;
        let place = match &self.home {
            Home::SharedMemory | Home::Path(_) => Place::of(self, self.id)?,
            Home::Descriptor(_) | Home::MemoryFile => {
                let allowed = "attach to it by its name, id or path";
                return Err(Error::BadOption { option: "from_fd", found: "a descriptor".to_owned(), allowed });
            }
        };
        let place = place.ok_or(Error::NotFound { asked: None, name: PathBuf::new() })?;
        let file = place.open_for(OFlags::RDONLY)?;
        self.check_owner(&file, place.path())?;
        let early = || self.named || matches!(place.open_unnamed(), Ok(None));
        let words = self.await_ready(&file, place.path(), &early)?;
        let length = stat(&file, place.path())?.st_size as u64;
        let header = SegmentHeader::decode(&words, length, place.path())?;
        self.compare(&header)?;
        View::new(file, header)
    }

    /// An owner can cut or overwrite the file under its users: strangers are not trusted unasked.
    fn check_owner(&self, file: &File, name: &Path) -> Result<()> {
        let stat = stat(file, name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::NotAFile { name: name.into(), kind: kind(stat.st_mode) });
        }
        let (owner, user) = (stat.st_uid, user());
        if owner != user && owner != 0 && !self.trusted.contains(&owner) {
            return Err(Error::WrongOwner { name: name.into(), owner, user });
        }
        Ok(())
    }

    /// Waits until the guard says ready, if there is somebody to wait for; returns the copy of guard and header.
    ///
    /// `early`: whether a name may be there before its segment; asked once, and only if it matters.
    fn await_ready(&self, file: &File, name: &Path, early: &dyn Fn() -> bool) -> Result<header::Copy> {
        let (start, mut may_be_early) = (Instant::now(), None);
        loop {
            let creator = match look(file, name)? {
                Readiness::Ready(words) => return Ok(words),
                Readiness::Formatting { pid } if died(pid, file) => {
                    // It may have got ready between our look at the guard and its end.
                    match look(file, name)? {
                        Readiness::Ready(words) => return Ok(words),
                        _ => return Err(Error::CreatorDied { name: name.into(), pid }),
                    }
                }
                Readiness::Formatting { pid } => Some(pid),
                Readiness::Raw(problem) if !*may_be_early.get_or_insert_with(early) => return Err(problem),
                Readiness::Raw(_) => None,
            };
            let waited = start.elapsed();
            if waited >= self.patience {
                return Err(Error::NotReady { name: name.into(), pid: creator, waited_ms: waited.as_millis() as u64 });
            }
            nap(LOOK_EVERY.min(self.patience - waited));
        }
    }

    /// What the caller asked for against what the creator chose.
    fn compare(&self, header: &SegmentHeader) -> Result<()> {
        if let Some(asked) = self.id
            && asked != header.id
        {
            return Err(Error::IdMismatch { name: self.name.clone(), asked, found: header.id });
        }
        if let Some(asked) = self.size.map(|size| size as u64)
            && asked != header.requested
            && asked != header.total
        {
            return Err(Error::SizeMismatch { asked, found: header.requested });
        }
        let params = header.layout.params;
        let same = |what, asked: Option<usize>, found: usize| match asked {
            Some(asked) if asked != found => {
                Err(Error::LayoutMismatch { what, expected: asked as u64, found: found as u64 })
            }
            _ => Ok(()),
        };
        same("granule in bytes", self.granule, params.granule())?;
        same("number of participants", self.participants, params.participants)?;
        same("strict mode (0 off, 1 on)", self.strict.map(usize::from), header.strict.into())?;
        same("biased parking (0 off, 1 on)", self.biased.map(usize::from), params.biased.into())?;
        same("keeping of orphans (0 off, 1 on)", self.keep.map(usize::from), header.keep.into())
    }
}

fn stat(file: &File, name: &Path) -> Result<Stat> {
    rustix::fs::fstat(file).map_err(|e| Error::io(format!("look at {} with fstat(2)", name.display()), e))
}

/// What one look at a file's guard tells.
enum Readiness {
    Ready(header::Copy),
    Formatting {
        pid: u64,
    },
    /// Nothing written yet; what is wrong if nobody is about to.
    Raw(Error),
}

fn look(file: &File, name: &Path) -> Result<Readiness> {
    let short = |found| Error::WrongLength { name: name.into(), expected: header::BYTES as u64, found };
    let not_a_segment = |why| Error::NotASegment { name: name.into(), why };
    let Some(words) = read_header(file, name)? else {
        let length = stat(file, name)?.st_size as u64;
        let mut first = [0; 8];
        let begun = read_at(file, &mut first, 0).is_ok_and(|whole| whole);
        if begun && Guard::of(&[u64::from_ne_bytes(first), 0]) == Guard::Garbage {
            return Err(not_a_segment("it is too short for one, and does not begin with an init guard"));
        }
        return Ok(Readiness::Raw(short(length)));
    };
    match Guard::of(&words) {
        // What the guard announces was written before it: read the header after having seen it.
        Guard::Ready => match read_header(file, name)? {
            Some(words) => Ok(Readiness::Ready(words)),
            None => Err(short(0)),
        },
        Guard::Formatting { pid } => Ok(Readiness::Formatting { pid }),
        Guard::Raw => Ok(Readiness::Raw(not_a_segment("it begins with zeros: nobody has formatted it"))),
        Guard::Garbage => Err(not_a_segment("it does not begin with an init guard")),
        Guard::OtherEndian => Err(header::wrong_endianness(name)),
    }
}

/// A copy of guard and header, or none if the file is too short.
fn read_header(file: &File, name: &Path) -> Result<Option<header::Copy>> {
    let mut bytes = [0; header::BYTES];
    match read_at(file, &mut bytes, 0) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(e) => return Err(Error::io(format!("read {} with pread64(2)", name.display()), e)),
    }
    let mut words = [0; header::WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(Some(words))
}

/// Whether the creator is gone: there is no such process, and (if it is only invisible, in another pid
/// namespace) nobody holds the lock under which a file is formatted. A number that can't be a process's
/// counts as alive: the wait is bounded anyway.
fn died(pid: u64, file: &File) -> bool {
    let gone = i32::try_from(pid).is_ok_and(is_no_process);
    gone && match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => rustix::fs::flock(file, FlockOperation::Unlock).is_ok(),
        Err(errno) => errno != Errno::WOULDBLOCK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    const SOON: Duration = Duration::from_millis(20);

    /// A file that is gone with this.
    struct Begun(PathBuf);
    impl Begun {
        /// Whoever formats it, as its guard says, is this process.
        fn by(pid: Option<u32>) -> Self {
            let path = std::env::temp_dir().join(format!("atomic-matrix-begun-{}", uuid::Uuid::new_v4()));
            let file = File::create_new(&path).expect("a temporary file");
            if let Some(pid) = pid {
                let mut words = [0; header::BYTES];
                words[..8].copy_from_slice(&header::guard::FORMATTING.to_ne_bytes());
                words[8..16].copy_from_slice(&u64::from(pid).to_ne_bytes());
                file.write_all_at(&words, 0).expect("written");
            }
            Self(path)
        }
        fn options(&self) -> Options {
            Options::new().path(&self.0).patience(SOON)
        }
    }
    impl Drop for Begun {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// C2: a creator is dead that has no process any more, nor holds the lock under which it formats.
    #[test]
    fn c2_a_creator_is_dead_that_has_neither_process_nor_lock() {
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let dead = child.id();
        child.wait().expect("it ends");
        let attached = |begun: &Begun| begun.options().attach_segment().map(drop);
        let lives = Begun::by(Some(std::process::id()));
        assert!(matches!(attached(&lives), Err(Error::NotReady { .. })), "it lives, and has no lock yet");
        let invisible = Begun::by(Some(dead));
        let lock = File::open(&invisible.0).expect("it is there");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("a lock");
        assert!(matches!(attached(&invisible), Err(Error::NotReady { .. })), "it has the lock");
        drop(lock);
        assert!(matches!(attached(&invisible), Err(Error::CreatorDied { pid, .. }) if pid == dead.into()));
    }

    /// Where a name may come before its segment, whoever only looks waits for that as well.
    #[test]
    fn c2_an_early_name_is_waited_for_by_whoever_looks() {
        let empty = Begun::by(None);
        let viewed = |named| empty.options().named_creation(named).view().map(drop);
        assert!(matches!(viewed(true), Err(Error::NotReady { .. })));
        let unnamed = Place::of(&empty.options(), None).expect("a place").expect("a path").open_unnamed();
        if matches!(unnamed, Ok(Some(_))) {
            assert!(matches!(viewed(false), Err(Error::WrongLength { .. })), "here a name comes when it is ready");
        }
    }
}
