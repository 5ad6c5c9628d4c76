//! The segment as its user holds it: the mapping, the file behind it, and what its header says.

use super::header::{self, SegmentHeader};
use super::layout::{Granule, Layout, SlotWord};
use super::life::{Descriptor, Life, NO_LIFE, life_in};
use super::options::Options;
use super::place::Place;
use super::region::{MappedRegion, Region, WordIndex};
use super::space::FileSystem;
use crate::backend::identities::serial_of;
use crate::backend::orderings::SLOT_LOOK;
use crate::backend::{Native, NativeWord, Word};
use crate::error::{Error, Result};
use crate::kernel::{nap, open_off_streams};
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// Looks at a busy unlink lock, 1 ms apart, before going on without it.
const LOCK_LOOKS: u32 = 200;

/// A mapped segment: memory that any process may map, its file, and its layout.
///
/// It is a [`Region`], so a heap can be built on the segment itself. Dropping it unmaps the memory in this process and
/// closes the file; the segment stays until [`Segment::unlink`] and the last user's end.
pub struct Segment {
    /// Over `map`, which never moves its memory and is dropped with it.
    region: MappedRegion,
    map: MmapRaw,
    descriptor: Descriptor,
    place: Option<Place>,
    header: SegmentHeader,
    /// Of what tells this segment from every other one, in this process.
    serial: u32,
    opener: u32,
    /// The opener, told from its forked children.
    process: u64,
    created: bool,
    /// What tells others that this attachment lives; taken when it is needed first, or as soon as it can be.
    life: Mutex<Option<Life>>,
    /// Whether this segment has removed its name.
    unlinked: Mutex<bool>,
}

impl Segment {
    /// `map` has `header.total` bytes, and `header.layout` fits into them.
    pub(crate) fn new(map: MmapRaw, file: File, header: SegmentHeader, created: bool) -> Result<Self> {
        let descriptor = Descriptor::new(file)?;
        let aligned = |base: &NonNull<u8>| base.addr().get().is_multiple_of(align_of::<NativeWord>());
        let base = NonNull::new(map.as_mut_ptr()).filter(aligned);
        let (Some(base), true) = (base, header.layout.bytes() <= map.len() as u64) else {
            return Err(Error::Corrupt { what: "the mapping is shorter than the layout".to_owned() });
        };
        let (id_high, id_low) = header.id.as_u64_pair();
        // The file as well: whoever copies a segment's file copies what its header says.
        let (device, inode) = descriptor.identity().numbers();
        let Some(serial) = serial_of([id_high, id_low, header.creation.get(), device, inode]) else {
            let what =
                "this process has used 2^32 - 1 segments; their pointers can't be told apart any more".to_owned();
            return Err(Error::Corrupt { what });
        };
        // SAFETY: the mapping is page-aligned (checked above for 8 bytes), shared, readable and writable, and
        // has at least `layout.bytes() > layout.words * 8` bytes (checked above). It lives as long as the
        // region, in the same struct, and dropping or moving that struct doesn't move the memory. Other
        // processes access the words through regions only (they may die, they don't lie), and the file is
        // never cut: attaching never resizes, memory files are sealed, and only trusted owners may write the
        // others.
        let region = unsafe { MappedRegion::new(base, header.layout.clone()) };
        Ok(Self {
            region,
            map,
            descriptor,
            place: None,
            header,
            serial,
            opener: std::process::id(),
            process: Native::process(),
            created,
            life: Mutex::new(None),
            unlinked: Mutex::new(false),
        })
    }

    pub(crate) fn named(mut self, place: &Place) -> Self {
        if self.created {
            header::named(&self.region);
        }
        self.place = Some(place.settled());
        self
    }
    /// Gives the kernel the advice that the options ask for. `huge`: the file's pages are huge without advice.
    pub(crate) fn settle(&self, options: &Options, huge: bool) -> Result<()> {
        if !options.in_core_dumps {
            // Refused, a core file is larger: nothing that an attempt should fail for.
            let _ = self.map.advise(Advice::DontDump);
        }
        if options.huge_pages && !huge {
            self.map.advise(Advice::HugePage).map_err(|source| Error::HugePagesRefused { source })?;
        }
        if options.populate {
            let failed = |source| Error::NotPopulated { bytes: self.header.total, source };
            self.map.advise(Advice::PopulateWrite).map_err(failed)?;
        }
        Ok(())
    }
    pub(crate) fn file(&self) -> &File {
        self.descriptor.file()
    }
    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }
    pub(crate) fn mapped(&self) -> &MappedRegion {
        &self.region
    }

    /// Where the segment begins in this process, page-aligned. Valid for [`Segment::len`] bytes as long as the segment
    /// lives.
    #[inline]
    pub fn base(&self) -> NonNull<u8> {
        // SAFETY: `new` has checked that the mapping's address is not null, and it never changes.
        unsafe { NonNull::new_unchecked(self.map.as_mut_ptr()) }
    }

    /// Bytes of the segment: the size asked for, rounded up to a page.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Bytes that the creator asked for.
    pub fn requested_len(&self) -> u64 {
        self.header.requested
    }

    /// Where everything lies in it.
    #[inline]
    #[doc(hidden)]
    pub fn layout(&self) -> &Layout {
        self.region.layout()
    }

    /// Another region over the same words.
    ///
    /// # Safety
    /// The region must not be used once this segment is dropped. (The segment is a [`Region`] itself: prefer that.)
    #[doc(hidden)]
    pub unsafe fn region(&self) -> MappedRegion {
        // SAFETY: as in `new`; that the mapping outlives the region is the caller's promise.
        unsafe { MappedRegion::new(self.base(), self.layout().clone()) }
    }

    /// The segment's id.
    pub fn id(&self) -> Uuid {
        self.header.id
    }

    /// A number that was drawn when the segment was made: it tells this segment from every other one, those
    /// included that had its id before or will have it later. To be sent along with offsets where a name may
    /// come to mean another segment.
    pub fn creation(&self) -> NonZeroU64 {
        self.header.creation
    }

    /// Equal for all mappings of this segment in this process, different for those of every other one.
    #[inline(always)]
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// The path that it was created or attached under; none for a memory file.
    pub fn path(&self) -> Option<&Path> {
        self.place.as_ref().map(|place| place.path())
    }

    /// Whether the segment is in strict mode: freed blocks are merged at once, none is parked.
    pub fn strict(&self) -> bool {
        self.header.strict
    }

    /// Whether live blocks of participants that died stay allocated ([`Options::keep_orphans`]).
    pub fn keeps_orphans(&self) -> bool {
        self.header.keep
    }

    /// Whether this call created the segment (and did not attach to another's).
    pub fn created(&self) -> bool {
        self.created
    }

    /// The process that created or attached to the segment through this value. Another one has inherited it by a fork.
    pub fn opener(&self) -> u32 {
        self.opener
    }

    /// The segment's file: open for reading and writing, close-on-exec. Whether this process lives does not
    /// hang on it: a program that closes descriptors which it does not know (`close_range`) may close it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.descriptor.file().as_fd()
    }

    /// A forked child shares its parent's caches, participant numbers and name: it may use none of them.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process == Native::process() { Ok(()) } else { Err(self.forked()) }
    }

    #[cold]
    fn forked(&self) -> Error {
        Error::ForkedChild { opener: self.opener, caller: std::process::id() }
    }

    /// The life that a slot names.
    pub(super) fn life_at(&self, number: u16) -> u32 {
        life_in(self.slot(number, SlotWord::State).load(&SLOT_LOOK))
    }

    /// The number of this attachment's life, which begins here if it has not yet.
    pub(crate) fn life(&self) -> Result<u32> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match life.take() {
            Some(begun) => begun,
            None => {
                let named =
                    |number| (1..=self.layout().params.participants as u16).any(|slot| self.life_at(slot) == number);
                let file = File::from(self.open_again()?);
                let page = FileSystem::of(&file)?.page as usize;
                Life::begin(file.into(), page, named)?
            }
        };
        Ok(life.insert(begun).number())
    }

    /// Ends this attachment's life, as the death of its process would: tests of the dead need it. A child that
    /// another thread forked just as this life began keeps it until it runs its program: that is waited for,
    /// ten seconds at most.
    ///
    /// # Safety
    /// Nothing is done with the segment through this attachment any more.
    #[doc(hidden)]
    pub unsafe fn end_life(&self) {
        let ended = self.life.lock().unwrap_or_else(PoisonError::into_inner).take().map(|life| life.number());
        let since = std::time::Instant::now();
        while ended.is_some_and(|life| !self.is_over(life)) && since.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
    }

    /// Another open file description of the segment's file: through its descriptor, or by its name.
    fn open_again(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let by_number = PathBuf::from(format!("/proc/self/fd/{}", self.file().as_raw_fd()));
        let mut failed = Errno::BADF;
        for (path, flags) in [(Some(&*by_number), flags - OFlags::NOFOLLOW), (self.path(), flags)] {
            match path.map(|path| open_off_streams(&mut || rustix::fs::open(path, flags, Mode::empty()))) {
                Some(Ok(again)) if self.descriptor.is_same(&again) => return Ok(again),
                Some(Err(Errno::MFILE | Errno::NFILE)) => failed = Errno::MFILE,
                _ => {}
            }
        }
        let what = "open the segment's file again with open(2) and fstat(2), neither through /proc/self/fd nor by \
            its name (where a program closes all descriptors that it does not know, let it do that before it attaches)";
        Err(Error::io(what, failed))
    }

    /// Whether whoever had this life is dead. Where it can't be told, it lives.
    pub(crate) fn is_over(&self, life: u32) -> bool {
        life == NO_LIFE
            || self.descriptor.tells_dead(life).unwrap_or_else(|| {
                let again = self.open_again().and_then(|again| Descriptor::new(again.into()));
                again.ok().and_then(|again| again.tells_dead(life)).unwrap_or(false)
            })
    }

    /// Bytes of one step of an offset: 1 in segments of up to 4 GiB, the granule in larger ones.
    pub fn offset_unit(&self) -> usize {
        if self.header.total <= 1 << 32 { 1 } else { self.layout().params.granule() }
    }

    /// Removes the segment's name, so that nobody can attach any more; those attached go on. Does nothing if
    /// the name is gone already (by this segment or by another), or if there never was one.
    ///
    /// # Errors
    /// [`Error::NameReplaced`] if the name means another file by now, which is left alone; [`Error::ForkedChild`] in a
    /// process that inherited the segment by a fork; [`Error::PermissionDenied`] and [`Error::Io`].
    pub fn unlink(&self) -> Result<()> {
        self.check_process()?;
        let Some(place) = &self.place else { return Ok(()) };
        let mut unlinked = self.unlinked.lock().unwrap_or_else(PoisonError::into_inner);
        if *unlinked {
            return Ok(());
        }
        // Looking at the name and removing it are two steps. Whoever unlinks this file holds its lock for both, so the
        // name can't have passed to another segment in between. Others' carelessness is not defended against.
        let locked = self.descriptor.is_ours().then(|| UnlinkLock::take(self.file()));
        if !place.remove(self.descriptor.identity())? {
            return Err(Error::NameReplaced { name: place.path().to_owned() });
        }
        *unlinked = true;
        // Whoever is told may use the segment.
        drop((locked, unlinked));
        event!(INFO, "segment unlinked", id = %self.id(), path = %place.path().display());
        Ok(())
    }
}

/// Whether a segment's name still means it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// It does.
    Still,
    /// There is no such name any more: nobody new can attach.
    Removed,
    /// The name means another file by now.
    Replaced,
    /// It never had one: a memory file.
    Never,
}

impl Segment {
    /// Whether the name still means this segment.
    pub(crate) fn named_now(&self) -> Result<Named> {
        let Some(place) = &self.place else { return Ok(Named::Never) };
        Ok(match place.identity()? {
            None => Named::Removed,
            Some(found) if found == self.descriptor.identity() => Named::Still,
            Some(_) => Named::Replaced,
        })
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("id", &self.id())
            .field("path", &self.path())
            .field("base", &self.base())
            .field("len", &self.len())
            .field("params", &self.layout().params)
            .field("granules", &self.layout().granules)
            .field("strict", &self.strict())
            .finish_non_exhaustive()
    }
}

impl Region for Segment {
    type Backend = Native;
    #[inline(always)]
    fn layout(&self) -> &Layout {
        self.region.layout()
    }
    #[inline(always)]
    fn word(&self, index: WordIndex) -> &NativeWord {
        self.region.word(index)
    }
    #[inline(always)]
    fn touch(&self, first: Granule, granules: u32) {
        self.region.touch(first, granules);
    }
    #[inline(always)]
    fn payload(&self, first: Granule, count: usize) -> Option<&[NativeWord]> {
        self.region.payload(first, count)
    }
}

/// The lock on a file that its unlinkers share. Advisory: after a while one goes on without it.
struct UnlinkLock<'a>(&'a File);

impl<'a> UnlinkLock<'a> {
    fn take(file: &'a File) -> Option<Self> {
        for _ in 0..LOCK_LOOKS {
            match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(Self(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) => nap(Duration::from_millis(1)),
                Err(_) => return None,
            }
        }
        None
    }
}

impl Drop for UnlinkLock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// Maps `total` bytes of the file, shared.
pub(crate) fn map(file: &File, total: u64) -> Result<MmapRaw> {
    let failed = |source: std::io::Error| {
        let help = match source.kind() {
            ErrorKind::OutOfMemory => {
                " (is the address space limited, ulimit -v? on hugetlbfs: are enough pages set aside?)"
            }
            _ => "",
        };
        Error::io(format!("map {total} bytes with mmap(2){help}"), source)
    };
    let length = usize::try_from(total).map_err(|_| failed(ErrorKind::OutOfMemory.into()))?;
    MmapOptions::new().len(length).map_raw(file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_does_not_unlink() {
        let mut segment = Options::new().size(1 << 20).create_segment().expect("there is room for a megabyte");
        let us = std::mem::replace(&mut segment.process, 1);
        assert!(matches!(segment.unlink(), Err(Error::ForkedChild { caller, .. }) if caller == std::process::id()));
        assert!(segment.path().is_some_and(Path::exists));
        segment.process = us;
        segment.unlink().expect("the opener may");
        assert!(!segment.path().is_some_and(Path::exists));
    }

    /// Huge pages are asked for where the file has none of itself: the kernel notes that of the mapping, or refuses.
    #[test]
    fn huge_pages_are_asked_for() {
        let asked = |on| Options::new().memfd().size(4 << 20).huge_pages(on).create_segment();
        let noted = |segment: &Segment| {
            let maps = std::fs::read_to_string("/proc/self/smaps").expect("it can be read");
            let begins = format!("{:x}-", segment.base().addr());
            let flags =
                maps.lines().skip_while(|line| !line.starts_with(&begins)).find(|line| line.starts_with("VmFlags"));
            flags.is_some_and(|flags| flags.contains(" hg"))
        };
        assert!(!noted(&asked(false).expect("created")));
        match asked(true) {
            Ok(segment) => assert!(noted(&segment)),
            Err(refused) => assert!(matches!(refused, Error::HugePagesRefused { .. })),
        }
    }
}
