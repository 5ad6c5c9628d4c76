//! What a creator or an attacher may choose.

use super::descriptor::own_description;
use super::header::{HEADER_WORDS, LINE_WORDS};
use super::layout::{Layout, MAX_GRANULES, MAX_PARTICIPANTS, Params};
use crate::backend::Native;
use crate::error::{Error, Result};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Smallest and largest granule, in bytes.
const GRANULES: std::ops::RangeInclusive<usize> = 16..=65_536;

/// log2 of the largest.
const LARGEST_SHIFT: u32 = GRANULES.end().trailing_zeros();

/// Where the segment's file lives.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// `/dev/shm/atomic-matrix-<id>`.
    SharedMemory,
    /// A directory, or the file itself.
    Path(PathBuf),
    /// Nowhere: a memory file known by its descriptor.
    MemoryFile,
    /// An existing file, by its descriptor.
    Descriptor(Arc<OwnedFd>),
}

/// How to create a segment or to attach to one.
///
/// ```
/// use atomic_matrix::segment::Options;
///
/// let handler = Options::new().size(1 << 20).create()?;
/// let other = Options::new().id(handler.id()).attach()?; // in this process or in another
/// assert_eq!(handler.id(), other.id());
/// handler.unlink()?;
/// # Ok::<(), atomic_matrix::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until a segment is created or attached"]
pub struct Options {
    pub(crate) size: Option<usize>,
    pub(crate) id: Option<Uuid>,
    pub(crate) home: Home,
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
    pub(crate) populate: bool,
    pub(crate) huge_pages: bool,
    pub(crate) granule: Option<usize>,
    pub(crate) participants: Option<usize>,
    pub(crate) reserve: bool,
    pub(crate) strict: Option<bool>,
    pub(crate) biased: Option<bool>,
    pub(crate) keep: Option<bool>,
    pub(crate) sealed: bool,
    pub(crate) trusted: Vec<u32>,
    pub(crate) patience: Duration,
    pub(crate) rejoin: bool,
    /// The name in plain words that the id stands for.
    pub(crate) name: Option<String>,
    pub(crate) in_core_dumps: bool,
    pub(crate) named: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: None,
            id: None,
            home: Home::SharedMemory,
            mode: 0o600,
            group: None,
            populate: false,
            huge_pages: false,
            granule: None,
            participants: None,
            reserve: true,
            strict: None,
            biased: None,
            keep: None,
            sealed: false,
            trusted: Vec::new(),
            patience: Duration::from_secs(5),
            rejoin: false,
            name: None,
            in_core_dumps: false,
            named: false,
        }
    }
}

impl Options {
    /// The namespace of [`Options::name`].
    pub const NAMES: Uuid = uuid::uuid!("6d1c5f0e-2b0a-4f43-9d0e-7a3c1b8e5a64");
    /// The most participant slots that a segment can have.
    pub const MAX_PARTICIPANTS: usize = MAX_PARTICIPANTS;

    /// The defaults: a file in `/dev/shm`, mode 0600, space reserved, 16-byte granules.
    pub fn new() -> Self {
        Self::default()
    }

    /// The segment behind a descriptor that another process passed on, a memory file for instance; to attach only.
    ///
    /// The descriptor must be open for reading and writing. The file is opened anew, close-on-exec, for these
    /// options and their copies, and the descriptor closed: the giver's locks, which tell whether it lives,
    /// would last as long as it.
    pub fn from_fd(fd: OwnedFd) -> Self {
        // What can't be opened anew is kept, for the attempt to attach to say why.
        let fd = own_description(&fd).map_or(fd, OwnedFd::from);
        Self { home: Home::Descriptor(Arc::new(fd)), ..Self::default() }
    }

    /// As [`Options::from_fd`], for a descriptor from a peer that is not trusted: attaching fails unless the
    /// file is sealed against shrinking, growing and further seals ([`Options::memfd`] makes such files), so
    /// that no peer can cut it under its users.
    ///
    /// Seals protect from SIGBUS, not from lies: who has the descriptor may write anything into the segment.
    pub fn from_sealed_fd(fd: OwnedFd) -> Self {
        Self { sealed: true, ..Self::from_fd(fd) }
    }

    /// Bytes of the segment, metadata included; rounded up to a page. Needed to create. An attacher that gives a size
    /// gets an error if the segment was made with another (the rounded size is accepted as well).
    ///
    /// Metadata takes half of 64 KiB, a seventh of 1 MiB and an eighth of much more. A channel takes 1.5 KiB and more:
    /// with less than 64 KiB there is hardly room for anything. The largest has 2^28 granules and their metadata: some
    /// 4.5 GiB with granules of 16 bytes, 16 TiB with those of 64 KiB (unless [`Options::granule`] says which, the
    /// least that reaches is chosen).
    ///
    /// # Errors
    /// Creating says [`Error::SegmentTooSmall`] and [`Error::SegmentTooLarge`], with the least and the most.
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = Some(bytes);
        self
    }
    /// The segment's name in plain words, which stands for an id: every process that says the same name means
    /// the same segment.
    ///
    /// The id is the name's UUID of version 5 in the namespace [`Options::NAMES`], so other languages can
    /// compute it as well. Names are told apart by each byte. Who may attach is not the name's business: see
    /// [`Options::mode`].
    ///
    /// ```
    /// use atomic_matrix::{Options, uuid::Uuid};
    ///
    /// # let name = format!("example {}", std::process::id());
    /// # let name = name.as_str();
    /// let camera = Options::new().name(name).size(1 << 20).create()?;
    /// let same = Options::new().name(name).attach()?;
    /// assert_eq!(same.id(), Uuid::new_v5(&Options::NAMES, name.as_bytes()));
    /// camera.unlink()?;
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// Creating and attaching refuse the empty name ([`Error::BadOption`]).
    pub fn name(self, name: &str) -> Self {
        let id = Uuid::new_v5(&Self::NAMES, name.as_bytes());
        Self { name: Some(name.to_owned()), ..self.id(id) }
    }
    /// The segment's id, and its file's name: `atomic-matrix-<id>`. Without it, creating makes a fresh one. Of this and
    /// [`Options::name`], what was said last counts.
    pub fn id(mut self, id: Uuid) -> Self {
        (self.id, self.name) = (Some(id), None);
        self
    }
    /// Where the file lives instead of `/dev/shm`: an existing directory (the file is `atomic-matrix-<id>` in it), or
    /// the path of the file itself, which a new segment is made as; an attacher's name or id must then be that
    /// segment's. A hugetlbfs or DAX mount, for instance.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.home = Home::Path(path.into());
        self
    }
    /// No name at all: a sealed memory file, which others get by its descriptor ([`Options::from_fd`]). It can't be
    /// cut by anybody, and vanishes with its last user.
    pub fn memfd(mut self) -> Self {
        self.home = Home::MemoryFile;
        self
    }
    /// Permission bits of the file (default 0600: this user only), whatever the umask. The owner must keep 0600.
    /// Who attaches reads and writes (0660, 0666); who may read alone (0640, 0644) may look
    /// ([`Options::attach_read_only`]).
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = bits;
        self
    }
    /// The file's group (default: the process's). With [`Options::mode`] 0660, members of the group may attach.
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }
    /// Brings all pages into memory when the segment is mapped, so that no access faults later (default off).
    pub fn populate(mut self, on: bool) -> Self {
        self.populate = on;
        self
    }
    /// Advises the kernel to back the mapping with huge pages (default off). In `/dev/shm` it follows the
    /// advice only if `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says `advise` or more; on hugetlbfs
    /// pages are huge anyway.
    pub fn huge_pages(mut self, on: bool) -> Self {
        self.huge_pages = on;
        self
    }
    /// Bytes of a granule, the step of sizes and the least alignment: a power of two from 16 to 65536. By
    /// default 16, and in segments of more than 4 GiB the least that reaches.
    ///
    /// A block takes 64 bytes at least (or a granule, if that is more): so much has one header. With 16 a
    /// segment holds most; with 64, no two blocks ever share a cache line, whatever their sizes. (With 16,
    /// blocks whose size is a multiple of 64 begin at a line where they come from a run, as nearly all do; a
    /// type's or a layout's alignment is always kept.)
    pub fn granule(mut self, bytes: usize) -> Self {
        self.granule = Some(bytes);
        self
    }
    /// Participant slots: threads that use the segment at the same time, over all processes (1 to 1022; the
    /// default grows with the size, from 32 to as many).
    pub fn participants(mut self, slots: usize) -> Self {
        self.participants = Some(slots);
        self
    }
    /// Whether all space is reserved when the segment is made (default on). Off, the file is sparse: a segment may be
    /// larger than memory, but an access dies of SIGBUS when the file system is full.
    pub fn reserve(mut self, on: bool) -> Self {
        self.reserve = on;
        self
    }
    /// Strict mode (default off): freed blocks are merged at once, none is parked. Stored in the segment; an
    /// attacher that asks for the opposite gets an error.
    pub fn strict(mut self, on: bool) -> Self {
        self.strict = Some(on);
        self
    }
    /// Biased parking (default on where the kernel has membarrier(2), private expedited and global: Linux
    /// 4.14, no `nohz_full`): a thread takes and frees blocks of its own without a locked instruction, and
    /// whoever else takes its parked blocks of at most 1920 bytes, or adopts its live ones, pays for a barrier: some
    /// microseconds within a process, some milliseconds (13 were measured) between two. Stored in the segment: all who
    /// attach need the call. Off in strict mode, where nothing is parked.
    pub fn biased(mut self, on: bool) -> Self {
        self.biased = Some(on);
        self
    }
    /// Whether live blocks of participants that died stay allocated (default off: they are freed). Stored in
    /// the segment, so that everybody who recovers does the same; an attacher that asks for the opposite gets
    /// an error. [`Handler::orphans`](crate::handlers::Handler::orphans) lists them; they can be adopted or
    /// freed like any block.
    pub fn keep_orphans(mut self, on: bool) -> Self {
        self.keep = Some(on);
        self
    }
    /// Trusts segments that this user owns. Not for the overflow user (65534): in a user namespace that
    /// number stands for every user whom the namespace does not know. Without it, only those of the own
    /// (effective) user and of root are attached to: an owner can cut the file under its users. May be given
    /// several times.
    pub fn trust_owner(mut self, uid: u32) -> Self {
        self.trusted.push(uid);
        self
    }
    /// How long an attacher waits for a creator that is still formatting (default 5 s). It matters only on file systems
    /// without unnamed files (`O_TMPFILE`): elsewhere a name appears when the segment is ready.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }
    /// Whether to attach to a segment of this id that has lost its name while it is in use, before a new one
    /// is made (default off). It is looked for among the open files of all processes that this one may look
    /// into (`/proc/PID/fd`: those of the same user, or all for root), which takes some milliseconds; those
    /// that run where this process can't see them are not found.
    ///
    /// The kernel gives such a file no name again, so every newcomer has to ask for it. See
    /// [`Segment::creation`](super::Segment::creation) for what tells the two segments apart otherwise.
    pub fn rejoin(mut self, on: bool) -> Self {
        self.rejoin = on;
        self
    }
    /// Whether the segment is part of this process's core files (default off: `MADV_DONTDUMP`). On, the core
    /// of a process that uses a memory file, or a file that has lost its name, holds the whole segment: its
    /// pages are all brought into memory and written, those of a sparse file as well. (Named files are left
    /// out by the kernel's own default, see `coredump_filter` in core(5).)
    pub fn in_core_dumps(mut self, on: bool) -> Self {
        self.in_core_dumps = on;
        self
    }
    /// Creates under the name at once, as on file systems without unnamed files. For tests.
    #[doc(hidden)]
    pub fn named_creation(mut self, on: bool) -> Self {
        self.named = on;
        self
    }

    /// What is wrong with the options, whatever they are used for.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |option, found: String, allowed| Err(Error::BadOption { option, found, allowed });
        if self.name.as_deref() == Some("") {
            return bad("name", "the empty name".to_owned(), "give one character at least");
        }
        if let Some(granule) = self.granule
            && !(granule.is_power_of_two() && GRANULES.contains(&granule))
        {
            return bad("granule", format!("{granule} bytes"), "it is a power of two from 16 to 65536");
        }
        if let Some(slots) = self.participants
            && !(1..=MAX_PARTICIPANTS).contains(&slots)
        {
            return bad("participants", slots.to_string(), "there can be 1 to 1022");
        }
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            let allowed = "permission bits up to 0777 can be set, and the owner's 0600 must be";
            return bad("mode", format!("{:#o}", self.mode), allowed);
        }
        if [self.mode >> 3 & 6, self.mode & 6].contains(&2) {
            let allowed = "who writes reads as well, so group and others may not have the right to write alone: 0640, \
                0660 or 0666, for instance";
            return bad("mode", format!("{:#o}", self.mode), allowed);
        }
        if self.group == Some(u32::MAX) {
            return bad("group", u32::MAX.to_string(), "this number stands for no group; give a group's id");
        }
        Ok(())
    }

    /// Whether parking is to be biased.
    fn bias(&self) -> Result<bool> {
        let wanted = self.biased.unwrap_or(!self.strict.unwrap_or(false));
        match wanted && Native::join_heavy_fences() {
            false if self.biased == Some(true) => Err(Error::NoMembarrier),
            biased => Ok(biased),
        }
    }

    /// The layout of the segment that these options ask for, its bytes asked for, and its total bytes.
    pub(crate) fn plan(&self, page: u64) -> Result<Plan> {
        let Some(size) = self.size else {
            let allowed = "give the segment's bytes with Options::size";
            return Err(Error::BadOption { option: "size", found: "not given".to_owned(), allowed });
        };
        let asked = size as u64;
        let mut params = Params { header_words: HEADER_WORDS, line_words: LINE_WORDS, ..Params::for_segment(asked) };
        params.biased = self.bias()?;
        params.participants = self.participants.unwrap_or(params.participants);
        let usual = || least_that_reaches(asked, params).unwrap_or(LARGEST_SHIFT);
        params.granule_shift = self.granule.map_or_else(usual, usize::trailing_zeros);

        let minimum = Layout::new(1, params).bytes().next_multiple_of(page);
        if asked == 0 || asked.checked_next_multiple_of(page).is_some_and(|total| total < minimum) {
            return Err(Error::SegmentTooSmall { asked, minimum });
        }
        let total = asked.checked_next_multiple_of(page).filter(|total| *total <= maximum(params));
        match total.and_then(|total| Some((total, Layout::fit(total, params)?))) {
            Some((total, layout)) => Ok(Plan { layout, requested: asked, total }),
            None => Err(too_large(asked, params)),
        }
    }
}

/// A segment to be made.
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) requested: u64,
    pub(crate) total: u64,
}

/// The most bytes that a segment with these parameters can use.
fn maximum(params: Params) -> u64 {
    Layout::new(MAX_GRANULES as u32, params).bytes().min(isize::MAX as u64)
}

/// log2 of the smallest granule, from this one on, with which a segment of `asked` bytes can be used whole.
fn least_that_reaches(asked: u64, params: Params) -> Option<u32> {
    (params.granule_shift..=LARGEST_SHIFT).find(|&granule_shift| maximum(Params { granule_shift, ..params }) >= asked)
}

#[cold]
fn too_large(asked: u64, params: Params) -> Error {
    let hint = match least_that_reaches(asked, params) {
        Some(shift) => format!("granules of {} bytes would do (Options::granule)", 1 << shift),
        None => "no granule reaches that far: split the data over several segments".to_owned(),
    };
    Error::SegmentTooLarge { asked, maximum: maximum(params), granule: params.granule(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_and_bounded() {
        let plan = |options: Options| options.plan(4096);
        let made = plan(Options::new().size(1_000_000)).expect("fits");
        assert_eq!((made.requested, made.total), (1_000_000, 1_003_520));
        for granule in [16, 64, 4096, 65_536] {
            let Err(Error::SegmentTooSmall { minimum, .. }) = plan(Options::new().granule(granule).size(1)) else {
                panic!("one byte is too small")
            };
            let least = plan(Options::new().granule(granule).size(minimum as usize)).expect("the minimum fits");
            assert!(least.layout.granules >= 1 && least.total == minimum);
            assert!(plan(Options::new().granule(granule).size(minimum as usize - 4096)).is_err());
        }
        for size in [usize::MAX, usize::MAX - 4096, 1 << 62] {
            assert!(matches!(plan(Options::new().size(size)), Err(Error::SegmentTooLarge { .. })));
        }
        let Err(Error::SegmentTooLarge { hint, .. }) = plan(Options::new().granule(16).size(16 << 30)) else {
            panic!("16-byte granules reach 4 GiB and their metadata")
        };
        assert!(hint.contains("64 bytes"), "{hint}");
        for (size, granule) in [(1 << 20, 16), (4 << 30, 16), (6 << 30, 32), (16 << 30, 64), (1 << 40, 4096)] {
            assert_eq!(plan(Options::new().size(size)).expect("reaches").layout.params.granule(), granule, "{size}");
        }
    }
}
