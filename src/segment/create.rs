//! Creating a segment: reserve, format, and only then give it a name.
//!
//! The file begins without a name (`O_TMPFILE`), so whatever goes wrong, and whenever the creator dies, nothing stays
//! behind: a name appears when the segment is ready, and a second creator gets "exists". Where the file system has no
//! unnamed files, the name comes first and the init guard tells attachers to wait (see [`super::attach`]).

use super::header::{self, SegmentHeader};
use super::mapping::{Segment, map};
use super::options::{Home, Options, Plan};
use super::place::{Identity, Place};
use super::region::MappedRegion;
use super::space::{FileSystem, reserve};
use crate::backend::random::random;
use crate::error::{Error, Result};
use crate::kernel::{again, nap, open_off_streams};
use rustix::fs::{FlockOperation, MemfdFlags, Mode, SealFlags};
use rustix::io::Errno;
use std::fs::File;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Rounds of "attach, else create" before a name that comes and goes is given up.
const ROUNDS: u32 = 64;
/// Rounds in which a lack of space is put down to another creator of the same segment; they take 127 ms.
const SPACE_ROUNDS: u32 = 7;

impl Options {
    /// Creates the segment. [`Options::size`] is needed.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if the name is taken, [`Error::NoSpace`] if it doesn't fit,
    /// [`Error::SegmentTooSmall`] and others. No error leaves a file behind.
    pub fn create_segment(&self) -> Result<Segment> {
        self.create_segment_with(|_| ())
    }

    /// Creates the segment and runs `format` on it, alone, before anybody else can see it.
    ///
    /// # Errors
    /// As [`Options::create_segment`].
    #[doc(hidden)]
    pub fn create_segment_with(&self, mut format: impl FnMut(&MappedRegion)) -> Result<Segment> {
        self.check()?;
        Maker::new(self, &mut format)?.make()
    }

    /// Attaches to the segment, or creates it if there is none, however many processes do so at the same moment.
    ///
    /// # Errors
    /// As [`Options::create_segment`] and [`Options::attach_segment`]; [`Error::Raced`] if the name kept
    /// coming and going.
    pub fn open_or_create_segment(&self) -> Result<Segment> {
        self.open_or_create_segment_with(|_| ())
    }

    /// As [`Options::open_or_create_segment`]; a creator runs `format` before anybody else can see the segment.
    ///
    /// `format` may have run although the segment returned is another's ([`Segment::created`] tells).
    ///
    /// # Errors
    /// As [`Options::open_or_create_segment`].
    #[doc(hidden)]
    pub fn open_or_create_segment_with(&self, mut format: impl FnMut(&MappedRegion)) -> Result<Segment> {
        self.attach_or_make(&mut format)
    }

    fn attach_or_make(&self, format: &mut dyn FnMut(&MappedRegion)) -> Result<Segment> {
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
                    nap(Duration::from_millis(1 << round));
                }
                done => return done,
            }
        }
        let name = maker.place.map(|place| place.path().to_owned()).unwrap_or_default();
        Err(Error::Raced { name, attempts: ROUNDS })
    }
}

/// An id that no segment has.
pub(crate) fn fresh_id() -> Result<Uuid> {
    Ok(uuid::Builder::from_random_bytes(draw("the segment's id")?.to_ne_bytes()).into_uuid())
}

/// A number that no segment has had, nor will have.
fn creation() -> Result<NonZeroU64> {
    Ok(NonZeroU64::new(draw("the segment's creation number")? as u64).unwrap_or(NonZeroU64::MAX))
}

fn draw(what: &str) -> Result<u128> {
    random().map_err(|e| {
        Error::io(format!("draw {what} at random with getrandom(2), or with open(2) and read(2) from /dev/urandom"), e)
    })
}

/// One creation, which may take several attempts at the name.
struct Maker<'a> {
    options: &'a Options,
    id: Uuid,
    place: Option<Arc<Place>>,
    format: &'a mut dyn FnMut(&MappedRegion),
    /// Formatted already, waiting for its name.
    ready: Option<Segment>,
}

impl<'a> Maker<'a> {
    fn new(options: &'a Options, format: &'a mut dyn FnMut(&MappedRegion)) -> Result<Self> {
        if let Home::Descriptor(_) = options.home {
            let (found, allowed) = ("an existing file".to_owned(), "attach to it, or create with Options::memfd");
            return Err(Error::BadOption { option: "from_fd", found, allowed });
        }
        let id = options.id.map_or_else(fresh_id, Ok)?;
        let place = Place::of(options, Some(id))?.map(Arc::new);
        Ok(Self { options, id, place, format, ready: None })
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
        let segment = self.ready.take().map(|segment| segment.named(&place));
        segment.ok_or_else(|| Error::Corrupt { what: "a segment was made twice".to_owned() })
    }

    /// Where there are no unnamed files: the name first. It goes away again unless the segment gets ready.
    fn make_named(&mut self, place: Arc<Place>) -> Result<Segment> {
        let file = place.open_new()?;
        let stat = rustix::fs::fstat(&file).map_err(|e| {
            // It is the one that has just been made: so fresh a name is nobody else's.
            place.remove_new();
            Error::io("look at the new file with fstat(2)", e)
        })?;
        let mut claim = Claim { place: Some(place.clone()), identity: Identity::of(&stat) };
        // Held until the end: an attacher that can't see our process (another pid namespace) can see the lock.
        let lock = file.try_clone().map_err(|e| Error::io("duplicate the new file's descriptor with fcntl(2)", e))?;
        let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let segment = self.fill(file, place.path())?;
        if locked {
            // The description lives on in the segment, and its lock with it.
            let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
        }
        claim.place = None;
        Ok(segment.named(&place))
    }

    fn make_memory_file(&mut self) -> Result<Segment> {
        let name = format!("atomic-matrix-{}", self.id);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let made = open_off_streams(&mut || match rustix::fs::memfd_create(&name, flags | MemfdFlags::NOEXEC_SEAL) {
            // Linux before 6.3.
            Err(Errno::INVAL) => rustix::fs::memfd_create(&name, flags),
            made => made,
        });
        let file =
            made.map_err(|e| Error::io(format!("create the memory file {name} with memfd_create(2)"), e))?.into();
        let segment = self.fill(file, Path::new(&name))?;
        rustix::fs::fcntl_add_seals(segment.file(), SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(|e| Error::io(format!("seal the memory file {name} with fcntl(2)"), e))?;
        header::named(segment.mapped());
        Ok(segment)
    }

    /// Makes an empty file a segment: rights, space, header, heap. If the file has a name already, others wait from the
    /// moment the guard is written.
    fn fill(&mut self, file: File, name: &Path) -> Result<Segment> {
        let system = FileSystem::of(&file)?;
        let Plan { layout, requested, total } = self.options.plan(system.page)?;
        system.check_room(total, self.options.reserve)?;
        self.set_rights(&file, name)?;
        let no_room = |errno| system.no_room("fallocate(2) or pwrite64(2)", errno, total, name);
        again(|| rustix::fs::ftruncate(&file, total))
            .map_err(|errno| system.no_room("ftruncate(2)", errno, total, name))?;
        // The metadata's first page in any case, so that writing the guard can't die of a full file system.
        reserve(&file, 0, system.page).map_err(no_room)?;
        let strict = self.options.strict.unwrap_or(false);
        let keep = self.options.keep.unwrap_or(false);
        let header = SegmentHeader { layout, total, requested, id: self.id, creation: creation()?, strict, keep };
        let segment = Segment::new(map(&file, total)?, file, header, true)?;
        header::formatting(segment.mapped());
        if self.options.reserve {
            reserve(segment.file(), system.page, total).map_err(no_room)?;
        }
        segment.settle(self.options, system.huge)?;
        segment.header().write(segment.mapped());
        (self.format)(segment.mapped());
        header::ready(segment.mapped());
        Ok(segment)
    }

    /// Group first, while the mode is still 0600.
    fn set_rights(&self, file: &File, name: &Path) -> Result<()> {
        if let Some(group) = self.options.group {
            let group = rustix::fs::Gid::from_raw(group);
            rustix::fs::fchown(file, None, Some(group)).map_err(|e| {
                Error::file(
                    format!(
                        "give {} to group {} with fchown(2) (only its members and root may)",
                        name.display(),
                        group.as_raw()
                    ),
                    e,
                )
            })?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.options.mode)).map_err(|e| {
            Error::file(format!("set the mode of {} to {:#o} with fchmod(2)", name.display(), self.options.mode), e)
        })
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
