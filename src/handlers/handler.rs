//! The handler: a process's way into one segment, and what stands there at an offset.

use super::pointer::RelativePtr;
use crate::error::{Error, Result};
use crate::matrix::block_header::LINKED;
use crate::matrix::core::AtomicMatrix;
use crate::matrix::heap::{Live, Refusal};
use crate::segment::layout::Granule;
use crate::segment::{Options, Segment};
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::Arc;
use uuid::Uuid;

/// A process's access to one segment. Clones are cheap and may go to other threads; each thread parks its own blocks.
///
/// Operations are lock-free and make no kernel call on the quick path. A thread's first does (which takes a
/// participant slot and a page of memory). They are not for signal handlers that interrupt one, nor for a
/// program's global allocator: the slow paths allocate themselves, and a call from inside one of them would
/// wait for itself. A forked child cannot use its parent's handlers ([`Error::ForkedChild`]): it attaches
/// anew.
///
/// Dropping a process's last handler is leaving in good order: its blocks stay, and are unowned. A process
/// that ends with a live handler counts as dead, also where it returns from `main` or calls `exit(0)` with
/// the handler in a `static`: its blocks are given back.
#[derive(Debug, Clone)]
pub struct Handler {
    pub(super) matrix: Arc<AtomicMatrix>,
}

impl AtomicMatrix {
    /// Creates a segment of `size` bytes in `/dev/shm`, or attaches to it if it exists, however many
    /// processes call this at the same moment. Without an id, a fresh one is made ([`Handler::id`] tells it).
    ///
    /// # Errors
    /// As [`Options::open_or_create`]; an existing segment of another size is [`Error::SizeMismatch`] and stays as it
    /// is.
    pub fn bootstrap(id: Option<Uuid>, size: usize) -> Result<Handler> {
        let options = Options::new().size(size);
        // Without an id, creating makes a fresh one.
        match id {
            Some(id) => options.id(id).open_or_create(),
            None => options.create(),
        }
    }

    /// Attaches to an existing segment in `/dev/shm`; never creates one.
    ///
    /// # Errors
    /// As [`Options::attach`].
    pub fn attach(id: Uuid) -> Result<Handler> {
        Options::new().id(id).attach()
    }
}

impl Options {
    /// Creates the segment; it must not exist yet.
    ///
    /// # Errors
    /// What was asked for: [`Error::BadOption`], [`Error::SegmentTooSmall`], [`Error::SegmentTooLarge`],
    /// [`Error::NoMembarrier`] (with [`Options::biased`] alone), [`Error::HugePagesRefused`], [`Error::NotPopulated`].
    /// What is there: [`Error::AlreadyExists`], [`Error::NoSpace`], [`Error::FileSizeLimit`],
    /// [`Error::PermissionDenied`], [`Error::NoDescriptor`], [`Error::Io`]. No error leaves a file behind.
    pub fn create(&self) -> Result<Handler> {
        Handler::of(self.create_segment_with(AtomicMatrix::format)?)
    }
    /// Attaches to an existing segment.
    ///
    /// # Errors
    /// No segment there: [`Error::NotFound`], [`Error::Symlink`], [`Error::NotAFile`], [`Error::NotASegment`],
    /// [`Error::WrongLength`], [`Error::HeaderDamaged`], [`Error::Corrupt`]. Another than asked for:
    /// [`Error::IdMismatch`], [`Error::SizeMismatch`], [`Error::LayoutMismatch`], [`Error::WrongVersion`],
    /// [`Error::WrongEndianness`]. Not to be trusted: [`Error::WrongOwner`], [`Error::NotSealed`]. Not ready:
    /// [`Error::NotReady`], [`Error::CreatorDied`]. And [`Error::BadOption`], [`Error::PermissionDenied`],
    /// [`Error::NoMembarrier`], [`Error::NoDescriptor`], [`Error::HugePagesRefused`], [`Error::NotPopulated`],
    /// [`Error::Io`].
    pub fn attach(&self) -> Result<Handler> {
        Handler::of(self.attach_segment()?)
    }
    /// Attaches to look: takes no participant slot, recovers nobody, and writes nothing, as long as nothing
    /// is called on the handler that does. [`Handler::stats`], [`Handler::verify`], [`Handler::blocks`],
    /// [`Handler::participants`] and the calls that read one block only read. The file is opened for reading
    /// and writing all the same.
    ///
    /// ```
    /// # use atomic_matrix::segment::Options;
    /// # let options = Options::new().size(1 << 20);
    /// # let handler = options.create()?;
    /// # let options = options.id(handler.id());
    /// let looking = options.inspect()?;
    /// assert_eq!((looking.stats()?.free_blocks, looking.participants().len()), (1, 0));
    /// # handler.unlink()?;
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Options::attach`].
    pub fn inspect(&self) -> Result<Handler> {
        Handler::unreaped(self.attach_segment()?)
    }
    /// Creates the segment, or attaches to it if it exists.
    ///
    /// # Errors
    /// As [`Options::attach`] and [`Options::create`], but for [`Error::NotFound`] and [`Error::AlreadyExists`];
    /// [`Error::Raced`] if the name kept coming and going.
    pub fn open_or_create(&self) -> Result<Handler> {
        Handler::of(self.open_or_create_segment_with(AtomicMatrix::format)?)
    }
}

impl Handler {
    /// Wraps a segment, reading only.
    fn unreaped(segment: Segment) -> Result<Self> {
        let handler = Self { matrix: AtomicMatrix::open(segment) };
        if handler.matrix.heap().has_sentinel() {
            return Ok(handler);
        }
        Err(Error::Corrupt { what: "the header behind the last granule is not as it was made".to_owned() })
    }

    /// Wraps a segment; whoever attaches recovers the dead.
    fn of(segment: Segment) -> Result<Self> {
        let attached = !segment.created();
        let handler = Self::unreaped(segment)?;
        let how = if attached { "segment attached" } else { "segment created" };
        event!(INFO, how, id = %handler.id(), bytes = handler.matrix.segment().len());
        if attached && handler.participants().iter().any(|participant| !participant.alive) {
            match handler.reap() {
                // Who attaches need not become a participant, and may only look.
                Ok(_) | Err(Error::NoParticipantSlot { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(handler)
    }

    /// Removes the segment's name. Processes that have it mapped go on; nobody new can attach. Does nothing
    /// if the name is gone already.
    ///
    /// # Errors
    /// [`Error::NameReplaced`], [`Error::ForkedChild`], [`Error::PermissionDenied`].
    pub fn unlink(&self) -> Result<()> {
        self.matrix.segment().unlink()
    }

    /// The segment's id.
    pub fn id(&self) -> Uuid {
        self.matrix.segment().id()
    }

    /// A number that was drawn when the segment was made: it tells this segment from every other one, those
    /// included that had its id before or will have it later. Pointers and blocks carry it in this process;
    /// an offset does not. Send it along with offsets where the name may be removed and made anew while it is
    /// in use, and compare it with the receiver's.
    pub fn creation(&self) -> NonZeroU64 {
        self.matrix.segment().creation()
    }

    /// Bytes of one step of an offset: 1 in segments up to 4 GiB, the granule above.
    #[inline(always)]
    pub fn offset_unit(&self) -> usize {
        self.matrix.segment().offset_unit()
    }

    /// The matrix behind this handler.
    pub fn matrix(&self) -> &Arc<AtomicMatrix> {
        &self.matrix
    }

    /// Whether a pointer is of this segment: another segment's are refused.
    #[inline(always)]
    pub(super) fn points_here<T>(&self, pointer: &RelativePtr<T>) -> bool {
        pointer.segment == self.matrix.serial()
    }

    #[inline(always)]
    pub(crate) fn pointer<T>(&self, live: Live) -> RelativePtr<T> {
        RelativePtr {
            header: live.header,
            offset: self.matrix.offsets().offset(live.at),
            segment: self.matrix.serial(),
            of: PhantomData,
        }
    }

    pub(super) fn granule(&self, offset: u32) -> Result<Granule> {
        let g = self.matrix.offsets().granule(offset);
        if g.0 < self.matrix.heap().layout().granules { Ok(g) } else { Err(self.bad_offset(offset)) }
    }

    #[cold]
    fn bad_offset(&self, offset: u32) -> Error {
        let layout = self.matrix.heap().layout();
        let bytes = (offset as u64) << self.matrix.offset_shift();
        let why = if bytes < layout.sector {
            "it lies before the allocation sector"
        } else if bytes >= layout.bytes() {
            "it lies behind the allocation sector"
        } else {
            "no block can begin there: it is not at a granule"
        };
        Error::BadOffset { offset, why }
    }

    #[inline]
    pub(crate) fn live_at(&self, offset: u32) -> Result<Live> {
        self.live_of(offset, None)
    }

    pub(crate) fn live<T>(&self, pointer: &RelativePtr<T>) -> Result<Live> {
        if !self.points_here(pointer) {
            return Err(Error::ForeignBlock { offset: pointer.offset, segment: self.id() });
        }
        self.live_of(pointer.offset, Some(pointer.generation()))
    }

    /// The live block at an offset, of this generation if one is given.
    #[inline]
    pub(super) fn live_of(&self, offset: u32, generation: Option<u32>) -> Result<Live> {
        let live = self.matrix.heap().live_of(self.granule(offset)?, generation);
        live.map_err(|refusal| self.refusal(offset, refusal))
    }

    /// Refuses a block that is in a structure, or is a structure itself.
    #[inline]
    pub(crate) fn refuse_structures(&self, offset: u32, live: Live) -> Result<()> {
        let refused = match live.header.owner() {
            LINKED => true,
            0 => self.matrix.heap().is_structure(live),
            _ => false,
        };
        if refused { Err(Error::InStructure { offset }) } else { Ok(()) }
    }

    #[cold]
    pub(super) fn refusal(&self, offset: u32, refusal: Refusal) -> Error {
        refused(offset, refusal)
    }
}

/// Why the block at an offset is not what was asked for.
#[cold]
pub(crate) fn refused(offset: u32, refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotLive(header) => Error::NotLive { offset, state: header.state().name() },
        Refusal::Stale { held, found } => Error::Stale { offset, expected: held, found: found.generation() },
        Refusal::Linked(_) => Error::InStructure { offset },
        Refusal::OutOfRange => Error::BadOffset { offset, why: "it lies behind the sector" },
    }
}
