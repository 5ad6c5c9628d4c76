//! Creating a segment: reserve, format, and only then give it a name.
//!
//! The file begins without a name (`O_TMPFILE`), so whatever goes wrong, and whenever the creator dies, nothing stays
//! behind: a name appears when the segment is ready, and a second creator gets "exists". Where the file system has no
//! unnamed files, the name comes first and the init guard tells attachers to wait (see [`super::attach`]).

use super::header::{self, Header};
use super::mapping::{Segment, map};
use super::options::{Home, Options, Plan};
use super::place::{Identity, Place};
use super::region::MappedRegion;
use crate::error::{Error, Result};
use rustix::fs::{FallocateFlags, FlockOperation, MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Rounds of "attach, else create" before a name that comes and goes is given up.
const ROUNDS: u32 = 64;
/// Rounds in which a lack of space is put down to another creator of the same segment; they take 127 ms.
const SPACE_ROUNDS: u32 = 7;
/// Bytes reserved in one call: few enough that a timer signal can't interrupt every attempt.
const RESERVE_STEP: u64 = 64 << 20;
/// The kernel's number for tmpfs.
const TMPFS: u64 = 0x0102_1994;
/// The kernel's number for hugetlbfs.
const HUGETLBFS: u64 = 0x9584_58f6;

impl Options {
    /// Creates the segment. [`Options::size`] is needed.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if the name is taken, [`Error::NoSpace`] if it doesn't fit, [`Error::SegmentTooSmall`] and
    /// others. No error leaves a file behind.
    pub fn create_segment(&self) -> Result<Segment> {
        self.create_segment_with(|_| ())
    }

    /// Creates the segment and runs `format` on it, alone, before anybody else can see it.
    ///
    /// # Errors
    /// As [`Options::create_segment`].
    pub fn create_segment_with(&self, format: impl FnOnce(&MappedRegion)) -> Result<Segment> {
        self.check()?;
        Maker::new(self, format)?.make()
    }

    /// Attaches to the segment, or creates it if there is none, however many processes do so at the same moment.
    ///
    /// # Errors
    /// As [`Options::create_segment`] and [`Options::attach_segment`]; [`Error::Raced`] if the name kept coming and going.
    pub fn open_or_create_segment(&self) -> Result<Segment> {
        self.open_or_create_segment_with(|_| ())
    }

    /// As [`Options::open_or_create_segment`]; a creator runs `format` before anybody else can see the segment.
    ///
    /// `format` may have run although the segment returned is another's ([`Segment::created`] tells).
    ///
    /// # Errors
    /// As [`Options::open_or_create_segment`].
    pub fn open_or_create_segment_with(&self, format: impl FnOnce(&MappedRegion)) -> Result<Segment> {
        self.check()?;
        if let Home::Descriptor(_) = self.home {
            return self.attach_segment();
        }
        let mut maker = Maker::new(self, format)?;
        for round in 0..ROUNDS {
            if let Some(place) = maker.place.clone() {
                match self.attach_at(place) {
                    Err(Error::NotFound { .. }) => {}
                    done => return done,
                }
            }
            match maker.make() {
                Err(Error::AlreadyExists { .. }) => {}
                // Perhaps another creator has just taken the space, for this very segment.
                Err(Error::NoSpace { .. }) if round < SPACE_ROUNDS && maker.place.is_some() => {
                    std::thread::sleep(Duration::from_millis(1 << round));
                }
                done => return done,
            }
        }
        let name = maker.place.map(|place| place.path().to_owned()).unwrap_or_default();
        Err(Error::Raced { name, attempts: ROUNDS })
    }
}

/// One creation, which may take several attempts at the name.
struct Maker<'a, F> {
    options: &'a Options,
    id: Uuid,
    place: Option<Arc<Place>>,
    format: Option<F>,
    /// Formatted already, waiting for its name.
    ready: Option<Segment>,
}

impl<'a, F: FnOnce(&MappedRegion)> Maker<'a, F> {
    fn new(options: &'a Options, format: F) -> Result<Self> {
        if let Home::Descriptor(_) = options.home {
            let (found, allowed) = ("an existing file".to_owned(), "attach to it, or create with Options::memfd");
            return Err(Error::BadOption { option: "from_fd", found, allowed });
        }
        let id = options.id.unwrap_or_else(Uuid::new_v4);
        let place = Place::of(options, Some(id))?.map(Arc::new);
        Ok(Self { options, id, place, format: Some(format), ready: None })
    }

    fn make(&mut self) -> Result<Segment> {
        let Some(place) = self.place.clone() else { return self.make_memory_file() };
        if self.ready.is_none() {
            match if self.options.named { None } else { place.open_unnamed()? } {
                Some(file) => self.ready = Some(self.fill(file, place.path())?),
                None => return self.make_named(place),
            }
        }
        if let Some(segment) = &self.ready {
            place.link(segment.file())?;
        }
        let segment = self.ready.take().map(|segment| segment.named(place));
        segment.ok_or_else(|| Error::Corrupt { what: "a segment was made twice".to_owned() })
    }

    /// Where there are no unnamed files: the name first. It goes away again unless the segment gets ready.
    fn make_named(&mut self, place: Arc<Place>) -> Result<Segment> {
        let file = place.open_new()?;
        let stat = rustix::fs::fstat(&file).map_err(|e| Error::io("look at the new file", e))?;
        let mut claim = Claim { place: Some(place.clone()), identity: Identity::of(&stat) };
        // Held until the end: an attacher that can't see our process (another pid namespace) can see the lock.
        let lock = file.try_clone().map_err(|e| Error::io("duplicate the new file's descriptor", e))?;
        let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let segment = self.fill(file, place.path())?;
        if locked {
            // The description lives on in the segment, and its lock with it.
            let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
        }
        claim.place = None;
        Ok(segment.named(place))
    }

    fn make_memory_file(&mut self) -> Result<Segment> {
        let name = format!("atomic-matrix-{}", self.id);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let made = match rustix::fs::memfd_create(&name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3.
            Err(Errno::INVAL) => rustix::fs::memfd_create(&name, flags),
            made => made,
        };
        let file = made.map_err(|e| Error::io(format!("create the memory file {name}"), e))?.into();
        let segment = self.fill(file, Path::new(&name))?;
        rustix::fs::fcntl_add_seals(segment.file(), SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|e| Error::io(format!("seal the memory file {name}"), e))?;
        Ok(segment)
    }

    /// Makes an empty file a segment: rights, space, header, heap. If the file has a name already, others wait from the
    /// moment the guard is written.
    fn fill(&mut self, file: File, name: &Path) -> Result<Segment> {
        let system = FileSystem::of(&file)?;
        let Plan { layout, requested, total } = self.options.plan(system.page)?;
        system.check_room(total, self.options.reserve)?;
        self.set_rights(&file, name)?;
        let no_room = |errno| system.no_room(errno, total, name);
        rustix::fs::ftruncate(&file, total).map_err(no_room)?;
        // The metadata's first page in any case, so that writing the guard can't die of a full file system.
        reserve(&file, 0, system.page).map_err(no_room)?;
        let strict = self.options.strict.unwrap_or(false);
        let header = Header { layout, total, requested, id: self.id, strict };
        let segment = Segment::new(map(&file, total)?, file, header, true)?;
        header::formatting(segment.mapped());
        if self.options.reserve {
            reserve(segment.file(), system.page, total).map_err(no_room)?;
        }
        segment.settle(self.options, system.huge)?;
        segment.header().write(segment.mapped());
        if let Some(format) = self.format.take() {
            format(segment.mapped());
        }
        header::ready(segment.mapped());
        Ok(segment)
    }

    /// Group first, while the mode is still 0600.
    fn set_rights(&self, file: &File, name: &Path) -> Result<()> {
        if let Some(group) = self.options.group {
            let group = rustix::fs::Gid::from_raw(group);
            rustix::fs::fchown(file, None, Some(group))
                .map_err(|e| Error::io(format!("give {} to group {}", name.display(), group.as_raw()), e))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.options.mode))
            .map_err(|e| Error::io(format!("set the mode of {} to {:#o}", name.display(), self.options.mode), e))
    }
}

/// A name that goes away again, even in a panic, unless the claim is cleared.
struct Claim {
    place: Option<Arc<Place>>,
    identity: Identity,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            // The error that brought us here is the one to report.
            let _ = place.remove(self.identity);
        }
    }
}

/// What matters about the file system that a file is on. Sizes are in bytes.
pub(crate) struct FileSystem {
    page: u64,
    pub(crate) huge: bool,
    in_memory: bool,
    /// Free space and all space, if it is limited.
    room: Option<(u64, u64)>,
}

impl FileSystem {
    pub(crate) fn of(file: &File) -> Result<Self> {
        let failed = |e| Error::io("look at the segment's file system", e);
        let kind = rustix::fs::fstatfs(file).map_err(failed)?.f_type as u64;
        let space = rustix::fs::fstatvfs(file).map_err(failed)?;
        let huge = kind == HUGETLBFS;
        let small = rustix::param::page_size() as u64;
        let room = (space.f_blocks != 0).then(|| {
            let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
            (bytes(space.f_bavail), bytes(space.f_blocks))
        });
        let page = if huge { space.f_bsize.max(small) } else { small };
        Ok(Self { page, huge, in_memory: kind == TMPFS, room })
    }

    /// Refuses what can't work before anything is taken: the kernel would answer with a signal, or with the out-of-memory
    /// killer.
    fn check_room(&self, total: u64, reserve: bool) -> Result<()> {
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Fsize).current
            && total > limit
        {
            return Err(Error::FileSizeLimit { needed: total, limit });
        }
        if !reserve {
            return Ok(());
        }
        match (self.room, self.in_memory.then(available_memory).flatten()) {
            (Some((free, _)), _) if free < total => Err(self.full(total, free)),
            (_, Some(free)) if free < total => {
                let hint = "that is what memory and swap have left: make a smaller segment, stop something else, or \
                    switch Options::reserve off";
                Err(Error::NoSpace { needed: total, free, hint: hint.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Translates a failed reservation.
    #[cold]
    fn no_room(&self, errno: Errno, total: u64, name: &Path) -> Error {
        match errno {
            Errno::NOSPC | Errno::NOMEM | Errno::DQUOT => self.full(total, self.room.map_or(0, |(free, _)| free)),
            _ => Error::io(format!("reserve {total} bytes for {}", name.display()), errno),
        }
    }

    #[cold]
    fn full(&self, needed: u64, free: u64) -> Error {
        let size = self.room.map_or_else(|| "without a limit".to_owned(), |(_, all)| format!("of {all} bytes"));
        let hint = match (self.huge, self.in_memory) {
            (true, _) => format!("the hugetlbfs {size} needs more huge pages (/proc/sys/vm/nr_hugepages)"),
            (_, true) => format!(
                "the tmpfs {size} is too small or full: remove stale atomic-matrix-* files, enlarge it (mount -o \
                 remount,size=...; docker run --shm-size=...), raise the memory limit of the control group, or choose \
                 another place with Options::path"
            ),
            _ => format!("the file system {size} is too small or full: choose another place with Options::path"),
        };
        Error::NoSpace { needed, free, hint }
    }
}

/// Takes the space of the file's bytes `from..to`.
fn reserve(file: &File, from: u64, to: u64) -> std::result::Result<(), Errno> {
    let mut done = from;
    while done < to {
        let step = RESERVE_STEP.min(to - done);
        match rustix::fs::fallocate(file, FallocateFlags::empty(), done, step) {
            Ok(()) => done += step,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return write_zeros(file, done, to),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// What fallocate does, on file systems that can't: the file is new, so zeros change nothing.
fn write_zeros(file: &File, from: u64, to: u64) -> std::result::Result<(), Errno> {
    let zeros = vec![0; 1 << 20];
    let mut done = from;
    while done < to {
        let step = (to - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], done).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        done += step;
    }
    Ok(())
}

/// Bytes of memory and swap that could still be had, if the kernel says.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kib("MemAvailable:")? + kib("SwapFree:").unwrap_or(0)) << 10)
}
