//! What a user holds: handlers, typed blocks, relative pointers.
//!
//! ```
//! use atomic_matrix::handlers::HandlerFunctions;
//! use atomic_matrix::matrix::core::AtomicMatrix;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = AtomicMatrix::bootstrap(None, 1 << 20)?; // a fresh segment of 1 MiB
//! let mut block = handler.allocate::<[u8; 128]>()?;
//! handler.store(&mut block, [7; 128])?;
//! let offset = block.offset(); // pass it on: it means the same in every process
//! assert_eq!(handler.load(&handler.get_block::<[u8; 128]>(offset)?)?, [7; 128]);
//! handler.free(block);
//! handler.unlink()
//! # }
//! ```

use crate::backend::{Native, payload};
use crate::error::{Error, Result};
use crate::kernel::nap;
use crate::matrix::core::AtomicMatrix;
use crate::matrix::heap::{Exhausted, Kind, Known, Live, Refusal};
pub use crate::matrix::recovery::{KEPT, Policy, Recovered};
use crate::matrix::size_class::of_size;
use crate::matrix::stats::Tally;
use crate::matrix::token::{Token, is_adopter};
pub use crate::segment::Participant;
use crate::segment::directory::{Directory, Entry, NAME_LIMIT, Published, Refused};
use crate::segment::layout::{Geometry, Granule, SECTOR_ALIGN, SPAN_BYTES, Usual};
use crate::segment::{Options, Segment};
use crate::shared::Shared;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Every block is aligned to the smallest granule.
const LEAST_ALIGN: usize = 16;

/// A position in a segment, the same in every process: an offset, and the generation of the block it was made for.
///
/// It is plain data and may be copied; using it after the block is freed is an error that is detected by its generation
/// (20 bits: a pointer kept through exactly a multiple of 2^20 reuses of its granule would go unnoticed).
pub struct RelativePtr<T> {
    /// The block's, when the pointer was made: its generation counts, and whoever frees it needs not wait for the rest.
    token: Token,
    offset: u32,
    /// Which segment it points into: the serial of this process for its id and its creation.
    segment: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for RelativePtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for RelativePtr<T> {}
impl<T> PartialEq for RelativePtr<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.offset, self.generation(), self.segment) == (other.offset, other.generation(), other.segment)
    }
}
impl<T> Eq for RelativePtr<T> {}
impl<T> std::fmt::Debug for RelativePtr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelativePtr({}, generation {})", self.offset, self.generation())
    }
}

impl<T> RelativePtr<T> {
    /// The offset from the segment's start, in steps of [`Handler::offset_unit`]: bytes in segments up to 4 GiB, granules above.
    pub const fn offset(&self) -> u32 {
        self.offset
    }
    /// The generation of the block.
    pub const fn generation(&self) -> u32 {
        self.token.generation()
    }
    /// The same position as another type. The bytes are not looked at.
    pub const fn cast<U>(self) -> RelativePtr<U> {
        RelativePtr { token: self.token, offset: self.offset, segment: self.segment, of: PhantomData }
    }
}

/// A live block that holds a `T`. Dropping it does not free it: it is shared memory, and somebody else may have its offset.
#[derive(Debug)]
#[must_use = "a block stays allocated until it is freed, here or by whoever gets its offset"]
pub struct Block<T> {
    pointer: RelativePtr<T>,
}

impl<T> Block<T> {
    /// A block whose type has been checked.
    pub(crate) const fn at(pointer: RelativePtr<T>) -> Self {
        Self { pointer }
    }
    /// The offset from the segment's start, to pass on; see [`RelativePtr::offset`].
    pub const fn offset(&self) -> u32 {
        self.pointer.offset
    }
    /// The generation of the block.
    pub const fn generation(&self) -> u32 {
        self.pointer.generation()
    }
    /// The block's position, as plain data.
    pub const fn pointer(&self) -> RelativePtr<T> {
        self.pointer
    }
}

/// The state of a block, as its token tells it.
pub use crate::matrix::token::State as BlockState;

/// What is in a segment at one moment. Bytes, unless a field says otherwise. Exact at rest; under load each block is
/// seen before or after whatever changes it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of the allocation sector.
    pub sector_bytes: u64,
    /// Bytes of a granule, the step of sizes.
    pub granule_bytes: u64,
    /// Live blocks.
    pub live_blocks: u64,
    /// Bytes in live blocks.
    pub live_bytes: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Bytes in free blocks.
    pub free_bytes: u64,
    /// Parked blocks: freed, and waiting unmerged for the next request of their size. They count as free.
    pub parked_blocks: u64,
    /// Bytes in parked blocks.
    pub parked_bytes: u64,
    /// Blocks in the hands of an operation in flight.
    pub in_flight_blocks: u64,
    /// Bytes in them.
    pub in_flight_bytes: u64,
    /// The largest free block.
    pub largest_free: u64,
    /// External fragmentation: 1 − largest free / free; 0 when one block remains.
    pub fragmentation: f64,
    /// Shannon entropy of the free memory, in bits: −Σ p·log2 p over the free blocks' shares; 0 when one block remains.
    pub entropy_bits: f64,
    /// Pairs of free neighbours that are not merged: 0 at rest.
    pub missed_merges: u64,
}

/// One block of the sector, as [`Handler::blocks`] sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockInfo {
    /// Its offset, as [`RelativePtr::offset`] says it.
    pub offset: u32,
    /// Bytes from the beginning of the sector to the block.
    pub position: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The smallest size of its size class, in bytes: all blocks of a class have the same.
    pub class_bytes: u64,
    /// Its state.
    pub state: BlockState,
    /// The participant that owns, parked or works on it; 0 is nobody, [`KEPT`] a dead one whose blocks were kept.
    pub owner: u16,
    /// Its generation.
    pub generation: u32,
    /// The fingerprint of its type, if it is live and typed.
    pub fingerprint: Option<u32>,
}

/// A published name, as [`Handler::names`] sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Name {
    /// The name.
    pub name: String,
    /// The block's offset, as [`RelativePtr::offset`] says it.
    pub offset: u32,
    /// The block's generation.
    pub generation: u32,
    /// The fingerprint of its type, if it is typed.
    pub fingerprint: Option<u32>,
    /// Whether that block is still live: not freed since it was published.
    pub live: bool,
}

/// A process's access to one segment. Clones are cheap and may go to other threads; each thread parks its own blocks.
///
/// Operations are lock-free and make no kernel call on the quick path. A thread's first does (which takes a participant slot and a page
/// of memory). They are not for signal handlers that interrupt one. A forked child cannot use its parent's
/// handlers ([`Error::ForkedChild`]): it attaches anew.
///
/// Dropping a process's last handler is leaving in good order: its blocks stay, and are nobody's. A process that ends with a live handler
/// counts as dead, also where it returns from `main` or calls `exit(0)` with the handler in a `static`: its blocks are given back.
#[derive(Debug, Clone)]
pub struct Handler {
    matrix: Arc<AtomicMatrix>,
}

/// The four basic calls: allocate, write, read, free.
pub trait HandlerFunctions {
    /// Allocates a block for a `T`, uninitialised (whatever bytes were there before). O(1).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::ZeroSize`], [`Error::TooLarge`], [`Error::BadAlignment`], [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    fn allocate<T: Shared>(&self) -> Result<Block<T>>;

    /// Writes a value. For a copy that checks the block first, see [`Handler::store`].
    ///
    /// # Panics
    /// If the block is another segment's.
    ///
    /// # Safety
    /// The block is live, and nobody else reads or writes its payload meanwhile.
    unsafe fn write<T: Shared>(&self, block: &mut Block<T>, value: T);

    /// Reads the value. For a copy that checks the block first, see [`Handler::load`].
    ///
    /// # Panics
    /// If the block is another segment's.
    ///
    /// # Safety
    /// The block is live, and nobody writes its payload meanwhile.
    unsafe fn read<T: Shared>(&self, block: &Block<T>) -> T;

    /// Frees a block: ALLOCATED → ACKED, and merged at once or when parked blocks flush. If the block was freed
    /// already through its offset, nothing happens; [`Handler::try_free`] tells.
    fn free<T>(&self, block: Block<T>);
}

impl HandlerFunctions for Handler {
    #[inline]
    fn allocate<T: Shared>(&self) -> Result<Block<T>> {
        let pointer = self.allocate_bytes(size_of::<T>(), align_of::<T>(), Kind::Typed(T::FINGERPRINT))?;
        Ok(Block { pointer })
    }
    #[inline]
    unsafe fn write<T: Shared>(&self, block: &mut Block<T>, value: T) {
        // SAFETY: the caller vouches for the block; it was allocated for a T, at T's alignment.
        unsafe { self.own(block).write(value) }
    }
    #[inline]
    unsafe fn read<T: Shared>(&self, block: &Block<T>) -> T {
        // SAFETY: as above; any bytes are a valid T.
        unsafe { self.own(block).read() }
    }
    #[inline]
    fn free<T>(&self, block: Block<T>) {
        let _ = self.try_free(block);
    }
}

impl AtomicMatrix {
    /// Creates a segment of `size` bytes in `/dev/shm`, or attaches to it if it exists, however many processes call this
    /// at the same moment. Without an id, a fresh one is made ([`Handler::id`] tells it).
    ///
    /// # Errors
    /// See [`Error`]; an existing segment of another size is [`Error::SizeMismatch`] and stays as it is.
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
    /// [`Error::NotFound`], and whatever may be wrong with a file.
    pub fn attach(id: Uuid) -> Result<Handler> {
        Options::new().id(id).attach()
    }
}

impl Options {
    /// Creates the segment; it must not exist yet.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::NoSpace`] and others.
    pub fn create(&self) -> Result<Handler> {
        Handler::of(self.create_segment_with(AtomicMatrix::format)?)
    }
    /// Attaches to an existing segment.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others.
    pub fn attach(&self) -> Result<Handler> {
        Handler::of(self.attach_segment()?)
    }
    /// Attaches to look: takes no participant slot, recovers nobody, and writes nothing, as long as nothing is called on the
    /// handler that does. [`Handler::stats`], [`Handler::verify`], [`Handler::blocks`], [`Handler::participants`] and
    /// the calls that read one block only read. The file is opened for reading and writing all the same.
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
    /// See [`Error`].
    pub fn open_or_create(&self) -> Result<Handler> {
        Handler::of(self.open_or_create_segment_with(AtomicMatrix::format)?)
    }
}

/// How long who is just freeing or adopting a block is waited for, by whoever wants to give it another owner. (Publishing waits for
/// the one, and then perhaps for the other.)
const GIVE_WAIT: Duration = Duration::from_millis(500);
const BETWEEN_GIVES: Duration = Duration::from_micros(100);

/// Tries until it is settled; false if it is not for [`GIVE_WAIT`].
fn patiently(mut settled: impl FnMut() -> bool) -> bool {
    let mut begun = None;
    loop {
        if settled() {
            return true;
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > GIVE_WAIT {
            return false;
        }
        nap(BETWEEN_GIVES);
    }
}

impl Handler {
    /// Wraps a segment, reading only.
    fn unreaped(segment: Segment) -> Result<Self> {
        let handler = Self { matrix: AtomicMatrix::open(segment) };
        if handler.matrix.heap().has_sentinel() {
            return Ok(handler);
        }
        Err(Error::Corrupt { what: "the token behind the last granule is not as it was made".to_owned() })
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

    /// Allocates `size` bytes, aligned to the granule at least (16 bytes by default). O(1).
    ///
    /// # Errors
    /// [`Error::NoMembarrier`] instead where the call is refused by now, and other threads' parked blocks could not be looked through;
    /// [`Error::OutOfMemory`] when nothing fits, after everything parked anywhere was merged and the dead were recovered
    /// (a participant that is stopped inside an operation can keep its own block, or one of at most 4.5 KiB by default, from the
    /// others, no more); [`Error::ZeroSize`];
    /// [`Error::TooLarge`]; [`Error::NoParticipantSlot`]; [`Error::ForkedChild`].
    #[inline]
    pub fn allocate_raw(&self, size: usize) -> Result<RelativePtr<u8>> {
        self.allocate_bytes(size, 1, Kind::Raw)
    }

    /// Allocates for a layout: its size, at its alignment (up to 4096 bytes).
    ///
    /// # Errors
    /// As [`Handler::allocate_raw`], and [`Error::BadAlignment`].
    pub fn allocate_layout(&self, layout: std::alloc::Layout) -> Result<RelativePtr<u8>> {
        self.allocate_bytes(layout.size(), layout.align(), Kind::Raw)
    }

    #[inline(always)]
    pub(crate) fn allocate_bytes<T>(&self, size: usize, align: usize, kind: Kind) -> Result<RelativePtr<T>> {
        let quick = match kind {
            Kind::Raw if align > LEAST_ALIGN => self.allocate_aligned(size, align),
            Kind::Raw | Kind::Typed(_) => self.allocate_quick(size, align, kind),
        };
        match quick {
            Some(live) => {
                let offset = self.matrix.offset_in_steps(live.at, Usual.granule_shift());
                Ok(RelativePtr { token: live.token, offset, segment: self.tag(), of: PhantomData })
            }
            None => Ok(self.pointer(self.allocate_slow(size, align, kind)?)),
        }
    }

    /// The quick step for layouts, whose alignment is not known when they are compiled: not inlined everywhere.
    #[inline(never)]
    fn allocate_aligned(&self, size: usize, align: usize) -> Option<Live> {
        self.allocate_quick(size, align, Kind::Raw)
    }

    /// A parked block of this thread's, if the newest one of the size serves.
    #[inline(always)]
    fn allocate_quick(&self, size: usize, align: usize, kind: Kind) -> Option<Live> {
        let matrix = &*self.matrix;
        let shift = Usual.granule_shift();
        // A span at least. A size of 0 becomes the largest of all.
        let granules = (size.wrapping_sub(1).max(SPAN_BYTES - 1) >> shift).wrapping_add(1);
        if align > SECTOR_ALIGN {
            return None;
        }
        let mask = if align <= LEAST_ALIGN { 0 } else { ((align - 1) >> shift) as u32 };
        let lane = matrix.usual_lane()?;
        // SAFETY: a lane is used with one matrix's heap alone; where there is a usual lane, the heap is of the usual sort.
        unsafe { matrix.heap().allocate_own(lane, granules, mask, kind, &Usual) }
    }

    #[inline(never)]
    fn allocate_slow(&self, size: usize, align: usize, kind: Kind) -> Result<Live> {
        let layout = self.matrix.heap().layout();
        let shift = layout.params.granule_shift;
        let sector = (layout.granules as u64) << shift;
        if size == 0 {
            return Err(Error::ZeroSize);
        }
        if size as u64 > sector {
            return Err(Error::TooLarge { requested: size as u64, largest: sector });
        }
        // Large granules are aligned within the segment, but a mapping begins at any page.
        if align > SECTOR_ALIGN || !align.is_power_of_two() {
            return Err(Error::BadAlignment { requested: align, largest: SECTOR_ALIGN });
        }
        let granules = (size as u64).div_ceil(1 << shift) as u32;
        let multiple = (align >> shift).max(1) as u32;
        let allocate = || self.matrix.with_lane(|lane| self.matrix.heap().allocate(lane, granules, multiple, kind));
        if let Ok(live) = allocate()? {
            return Ok(live);
        }
        // What the dead hold is free memory, too (L2), whether or not their numbers can be released already. Another may just have
        // recovered them.
        let recover = || {
            self.matrix.reap(self.matrix.policy())?;
            allocate()
        };
        match Native::noting_refused_fences(recover) {
            (Ok(Err(_)), true) => Err(Error::NoMembarrier),
            (found, _) => found?.map_err(|exhausted| self.out_of_memory(size, exhausted)),
        }
    }

    #[cold]
    fn out_of_memory(&self, size: usize, exhausted: Exhausted) -> Error {
        let shift = self.matrix.heap().layout().params.granule_shift;
        let (free, largest) = (exhausted.free << shift, exhausted.largest << shift);
        event!(WARN, "out of memory", id = %self.id(), requested = size, free = free, largest = largest);
        Error::OutOfMemory { requested: size as u64, free, largest }
    }

    /// Frees a block that [`Handler::allocate_raw`] gave.
    ///
    /// # Errors
    /// [`Error::NotLive`], [`Error::Stale`], [`Error::BadOffset`], [`Error::ForeignBlock`]; nothing has changed then (S5).
    #[inline]
    pub fn free_raw(&self, pointer: RelativePtr<u8>) -> Result<()> {
        self.free_pointer(&pointer, Known::Raw(pointer.token))
    }

    /// Frees a typed block and says whether it was live.
    ///
    /// # Errors
    /// As [`Handler::free_raw`].
    #[inline]
    pub fn try_free<T>(&self, block: Block<T>) -> Result<()> {
        self.free_pointer(&block.pointer, Known::Typed(block.pointer.token))
    }

    /// Another name for freeing: ALLOCATED → ACKED, merged at once or when parked blocks flush.
    ///
    /// # Errors
    /// As [`Handler::free_raw`].
    pub fn ack<T>(&self, block: Block<T>) -> Result<()> {
        self.try_free(block)
    }

    /// Frees a message's block.
    #[inline]
    pub(crate) fn free_message(&self, pointer: &RelativePtr<u8>) -> Result<()> {
        self.free_pointer(pointer, Known::Typed(pointer.token))
    }

    #[inline(always)]
    fn free_pointer<T>(&self, pointer: &RelativePtr<T>, known: Known) -> Result<()> {
        if pointer.segment != self.tag() {
            return Err(Error::ForeignBlock { offset: pointer.offset, segment: self.id() });
        }
        if self.free_quick(pointer.offset, known) {
            return Ok(());
        }
        self.free_slow(pointer.offset, Some(pointer.generation()))
    }

    /// Frees the live block at an offset that another process passed on.
    ///
    /// An offset alone cannot tell a block from a later one in the same place: free each offset once. A free needs no participant slot: where
    /// there is none, the block is freed all the same.
    ///
    /// # Errors
    /// [`Error::NotLive`], [`Error::BadOffset`]; [`Error::Stale`] if another frees it at the same moment, and its place is allocated anew.
    /// Nothing has changed then (S5).
    #[inline]
    pub fn free_at(&self, offset: u32) -> Result<()> {
        if self.free_quick(offset, Known::Offset) { Ok(()) } else { self.free_slow(offset, None) }
    }

    /// Tells that the block at an offset will be freed here soon: fetches the cache line of its token, which may be in another
    /// core's cache. A hint, which changes nothing, whatever the offset. For whoever drains a queue: a call for the message that is a dozen
    /// further on, before this one is freed, hides the way that the line has to go.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let queue: Vec<u32> = (0..100).map(|_| Ok(handler.allocate_raw(128)?.offset())).collect::<atomic_matrix::Result<_>>()?;
    /// for (at, &offset) in queue.iter().enumerate() {
    ///     if let Some(&later) = queue.get(at + 12) {
    ///         handler.will_free_at(later);
    ///     }
    ///     handler.free_at(offset)?;
    /// }
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    #[inline]
    pub fn will_free_at(&self, offset: u32) {
        self.matrix.heap().will_free(self.matrix.granule_at(offset));
    }

    /// Parks a block of this thread's own, if that is all it takes.
    #[inline(always)]
    fn free_quick(&self, offset: u32, known: Known) -> bool {
        let matrix = &*self.matrix;
        let Some(lane) = matrix.usual_lane() else { return false };
        let g = matrix.granule_in_steps(offset, Usual.granule_shift());
        // SAFETY: as in `allocate_quick`; and pointers keep the token that an allocation gave with their offset.
        unsafe { matrix.heap().free_own(lane, g, known, &Usual) }
    }

    #[inline(never)]
    fn free_slow(&self, offset: u32, generation: Option<u32>) -> Result<()> {
        let g = self.granule(offset)?;
        self.matrix.free(g, generation)?.map_err(|refusal| self.refusal(offset, refusal))
    }

    #[cold]
    fn refusal(&self, offset: u32, refusal: Refusal) -> Error {
        match refusal {
            Refusal::NotLive(token) => Error::NotLive { offset, state: token.state().name() },
            Refusal::Stale { held, found } => Error::Stale { offset, expected: held, found: found.generation() },
            Refusal::OutOfRange => Error::BadOffset { offset, why: "it lies behind the sector" },
        }
    }

    /// Gives a live block to `to`, as the participant `me`. Whoever is just freeing or adopting it is waited for, but not for long.
    fn give(&self, me: u16, offset: u32, live: Live, to: u16) -> Result<()> {
        let (mut now, mut given) = (live, Ok(()));
        let give = || {
            patiently(|| {
                given = self.matrix.heap().give_from(me, now, to);
                match given {
                    Err(found) if live.is_still(found) => now.token = found,
                    _ => return true,
                }
                // Without a fence nobody gets it, however long that is waited for.
                Native::fence_was_refused()
            })
        };
        let (_, refused) = Native::noting_refused_fences(give);
        given.map_err(|found| match found.is_live() {
            _ if live.is_still(found) && refused => Error::NoMembarrier,
            _ if live.is_still(found) => Error::ChangingHands { offset, participant: found.holder() },
            true => self.refusal(offset, Refusal::Stale { held: live.token.generation(), found }),
            false => self.refusal(offset, Refusal::NotLive(found)),
        })
    }

    /// The address of a block in this process. It is valid while the block is live and a handler of this segment exists.
    ///
    /// A pointer of another segment gets a null pointer.
    #[inline]
    pub fn resolve<T>(&self, pointer: &RelativePtr<T>) -> *mut T {
        if pointer.segment != self.tag() {
            return std::ptr::null_mut();
        }
        self.address(pointer.offset).cast()
    }

    /// The address, in this process, of the live block at an offset that another process passed on.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`].
    #[inline]
    pub fn resolve_at(&self, offset: u32) -> Result<*mut u8> {
        self.live_at(offset)?;
        Ok(self.address(offset))
    }

    /// The address of this segment's block. A null pointer for another's would not do here: to access it is undefined, so that a
    /// compiler may leave the check out, and the block at the same offset here would be accessed.
    #[inline(always)]
    fn own<T>(&self, block: &Block<T>) -> *mut T {
        if block.pointer.segment != self.tag() {
            self.foreign(block.offset());
        }
        self.address(block.offset()).cast()
    }

    #[cold]
    #[inline(never)]
    fn foreign(&self, offset: u32) -> ! {
        panic!("{}", Error::ForeignBlock { offset, segment: self.id() })
    }

    #[inline(always)]
    pub(crate) fn address(&self, offset: u32) -> *mut u8 {
        let bytes = (offset as usize) << self.matrix.offset_shift();
        self.matrix.segment().base().as_ptr().wrapping_add(bytes)
    }

    /// Bytes that the block really has: the size asked for, rounded up to granules, 64 bytes at least; from 640 to 1920 bytes up to
    /// a ninth more.
    ///
    /// # Errors
    /// As [`Handler::free_raw`].
    pub fn usable_size<T>(&self, pointer: &RelativePtr<T>) -> Result<usize> {
        Ok(self.bytes(self.live(pointer)?))
    }

    /// Bytes that the live block at an offset has.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`].
    pub fn usable_size_at(&self, offset: u32) -> Result<usize> {
        Ok(self.bytes(self.live_at(offset)?))
    }

    /// The state of the block that begins at an offset: FREE → ALLOCATED → ACKED → COALESCING → FREE.
    ///
    /// # Errors
    /// [`Error::BadOffset`].
    pub fn state_at(&self, offset: u32) -> Result<BlockState> {
        Ok(self.matrix.heap().look(self.granule(offset)?).state())
    }

    fn bytes(&self, live: Live) -> usize {
        (live.token.size() as usize) << self.matrix.heap().layout().params.granule_shift
    }

    fn granule(&self, offset: u32) -> Result<Granule> {
        self.matrix.granule_of(offset).ok_or_else(|| self.bad_offset(offset))
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

    fn live<T>(&self, pointer: &RelativePtr<T>) -> Result<Live> {
        if pointer.segment != self.tag() {
            return Err(Error::ForeignBlock { offset: pointer.offset, segment: self.id() });
        }
        self.live_of(pointer.offset, Some(pointer.generation()))
    }

    /// The live block at an offset, of this generation if one is given.
    #[inline]
    fn live_of(&self, offset: u32, generation: Option<u32>) -> Result<Live> {
        let live = self.matrix.heap().live_of(self.granule(offset)?, generation);
        live.map_err(|refusal| self.refusal(offset, refusal))
    }

    /// The typed block at an offset that another process passed on.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`], [`Error::TypeMismatch`] (checked by fingerprint; untyped blocks match no type), [`Error::TooSmall`].
    /// A type that lies about its fingerprint is never given a block that is too small or not aligned for it.
    pub fn get_block<T: Shared>(&self, offset: u32) -> Result<Block<T>> {
        let live = self.live_at(offset)?;
        let found = self.matrix.heap().fingerprint(live);
        if found != Some(T::FINGERPRINT) {
            return Err(Error::TypeMismatch {
                offset,
                expected: std::any::type_name::<T>(),
                expected_fingerprint: T::FINGERPRINT,
                found_fingerprint: found,
            });
        }
        let usable = self.bytes(live) as u64;
        if usable < size_of::<T>() as u64 {
            return Err(Error::TooSmall { offset, needed: size_of::<T>() as u64, usable });
        }
        if !self.address(offset).addr().is_multiple_of(align_of::<T>()) {
            return Err(Error::BadOffset { offset, why: "the block there is not aligned as the type has to be" });
        }
        Ok(Block { pointer: self.pointer(live) })
    }

    /// Copies the value out. Memory-safe whatever others do: a writer at the same moment makes the copy a mixture.
    ///
    /// Best effort: the block is looked at, and then the bytes are copied. If somebody else frees it in between, and its place is
    /// allocated anew, the copy is of the new block's bytes. So share a block for reading only while nobody frees it: one owner at a time, who passes it
    /// on and keeps no copy of its offset.
    ///
    /// # Errors
    /// As [`Handler::free_raw`], and [`Error::TooSmall`] if the block has fewer bytes than a `T`.
    pub fn load<T: Shared>(&self, block: &Block<T>) -> Result<T> {
        self.has_room(&block.pointer, size_of::<T>())?;
        let mut value = T::new_zeroed();
        // SAFETY: the block is live and has size_of::<T>() bytes inside the mapping; copies are atomic byte for byte.
        unsafe { payload::copy_out(self.address(block.offset()), value.as_mut_bytes()) };
        Ok(value)
    }

    /// Copies a value in. Memory-safe whatever others do: a reader at the same moment gets a mixture.
    ///
    /// Best effort: the block is looked at, and then the bytes are copied. If somebody else frees it in between, and its place is
    /// allocated anew, the value goes into the new block, which may be another process's. So share a block for writing only while nobody frees it: one owner at a time, who passes it
    /// on and keeps no copy of its offset.
    ///
    /// # Errors
    /// As [`Handler::free_raw`], [`Error::TooSmall`] if the block has fewer bytes than a `T`, and [`Error::ForkedChild`].
    pub fn store<T: Shared>(&self, block: &mut Block<T>, value: T) -> Result<()> {
        self.matrix.check_process()?;
        self.has_room(&block.pointer, size_of::<T>())?;
        // SAFETY: as in `load`.
        unsafe { payload::copy_in(value.as_bytes(), self.address(block.offset())) };
        Ok(())
    }

    /// Copies bytes out of a block, from its start on. Best effort, as [`Handler::load`].
    ///
    /// # Errors
    /// As [`Handler::free_raw`], and [`Error::TooSmall`].
    pub fn load_bytes(&self, pointer: &RelativePtr<u8>, into: &mut [u8]) -> Result<()> {
        self.has_room(pointer, into.len())?;
        // SAFETY: the block is live and has that many bytes; copies are atomic byte for byte.
        unsafe { payload::copy_out(self.address(pointer.offset), into) };
        Ok(())
    }

    /// Copies bytes into a block, from its start on. Best effort, as [`Handler::store`].
    ///
    /// # Errors
    /// As [`Handler::free_raw`], [`Error::TooSmall`] and [`Error::ForkedChild`].
    pub fn store_bytes(&self, pointer: &RelativePtr<u8>, from: &[u8]) -> Result<()> {
        self.matrix.check_process()?;
        self.has_room(pointer, from.len())?;
        // SAFETY: as in `load_bytes`.
        unsafe { payload::copy_in(from, self.address(pointer.offset)) };
        Ok(())
    }

    fn has_room<T>(&self, pointer: &RelativePtr<T>, needed: usize) -> Result<()> {
        let usable = self.usable_size(pointer)?;
        if needed <= usable {
            return Ok(());
        }
        Err(Error::TooSmall { offset: pointer.offset, needed: needed as u64, usable: usable as u64 })
    }

    /// Merges all that is free or parked, whoever parked it. O(blocks).
    ///
    /// # Errors
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`]; [`Error::NoMembarrier`] if blocks that other threads have parked could not be
    /// taken, because the call is refused by now: the others are merged.
    pub fn heal(&self) -> Result<()> {
        match Native::noting_refused_fences(|| self.matrix.with_lane(|lane| self.matrix.heap().heal(lane))) {
            (Ok(()), true) => Err(Error::NoMembarrier),
            (healed, _) => healed,
        }
    }

    /// Counts what is in the segment. O(blocks); reads only.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the blocks do not tile the sector.
    pub fn stats(&self) -> Result<Stats> {
        let tally = self.matrix.heap().tally().map_err(|fault| Error::Corrupt { what: fault.to_string() })?;
        Ok(self.stats_of(&tally))
    }

    /// Calls `visit` for each block, in the order of the sector; O(blocks), reads only. Under load each block is seen before or
    /// after whatever changes it, and blocks may overlap or leave gaps where they were merged or cut meanwhile.
    ///
    /// ```
    /// # use atomic_matrix::handlers::HandlerFunctions;
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let block = handler.allocate::<[u8; 100]>()?;
    /// let mut found = None;
    /// handler.blocks(|info| if info.offset == block.offset() { found = Some(info) })?;
    /// assert_eq!(found.map(|info| info.bytes), Some(112));
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the blocks do not tile the sector; those before the fault have been visited.
    pub fn blocks(&self, mut visit: impl FnMut(BlockInfo)) -> Result<()> {
        let heap = self.matrix.heap();
        let (shift, first) = (heap.layout().params.granule_shift, heap.layout().sector);
        let walked = heap.walk(|at, token| {
            let position = (at.0 as u64) << shift;
            visit(BlockInfo {
                offset: ((first + position) >> self.matrix.offset_shift()) as u32,
                position,
                bytes: (token.size() as u64) << shift,
                class_bytes: (of_size(token.size()).size() as u64) << shift,
                state: token.state(),
                owner: token.holder(),
                generation: token.generation(),
                fingerprint: heap.fingerprint(Live { at, token }),
            });
        });
        walked.map_err(|fault| Error::Corrupt { what: fault.to_string() })
    }

    /// Walks the sector and checks it: blocks tile it, every free block is hinted on every level, no two free neighbours are
    /// left unmerged. O(blocks); reads only. To be called at rest: operations in flight may look like faults.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first fault.
    pub fn verify(&self) -> Result<Stats> {
        let tally = self.matrix.heap().verify().map_err(|fault| Error::Corrupt { what: fault.to_string() })?;
        Ok(self.stats_of(&tally))
    }

    fn stats_of(&self, tally: &Tally) -> Stats {
        let layout = self.matrix.heap().layout();
        let bytes = |granules: u64| granules << layout.params.granule_shift;
        Stats {
            sector_bytes: bytes(layout.granules as u64),
            granule_bytes: layout.params.granule() as u64,
            live_blocks: tally.live.blocks,
            live_bytes: bytes(tally.live.granules),
            free_blocks: tally.free.blocks,
            free_bytes: bytes(tally.free.granules),
            parked_blocks: tally.parked.blocks,
            parked_bytes: bytes(tally.parked.granules),
            in_flight_blocks: tally.in_flight.blocks,
            in_flight_bytes: bytes(tally.in_flight.granules),
            largest_free: bytes(tally.largest_free),
            fragmentation: tally.fragmentation(),
            entropy_bits: tally.entropy_bits(),
            missed_merges: tally.missed_merges,
        }
    }

    /// Gives a live block up before its offset is passed on: it belongs to nobody until somebody adopts it, so that its
    /// maker's death does not free a block that is on its way.
    ///
    /// # Errors
    /// As [`Handler::free_raw`], and [`Error::ChangingHands`]; [`Error::NoMembarrier`] if the block is another thread's and the call is
    /// refused by now.
    pub fn hand_over<T>(&self, pointer: &RelativePtr<T>) -> Result<()> {
        let live = self.live(pointer)?;
        self.matrix.with_lane(|lane| self.give(lane.owner(), pointer.offset, live, 0))?
    }

    /// Makes this process the owner of the live block at an offset that another one passed on. A block belongs to whoever
    /// allocated it until it is handed over or adopted. When an owner dies, its blocks are given back; when it leaves in
    /// good order (its last handler is dropped), they stay and belong to nobody.
    ///
    /// A block that another process owns costs 8 to 20 ms: a barrier has to reach every processor. One of the same process costs some
    /// microseconds, and one that was handed over or published costs a compare-and-swap.
    ///
    /// `generation` is what [`RelativePtr::generation`] said on the other side: without it, an offset that was freed
    /// meanwhile could mean another block by now.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`], [`Error::Stale`], [`Error::ChangingHands`], [`Error::NoParticipantSlot`],
    /// [`Error::ForkedChild`]; [`Error::NoMembarrier`] if the call is refused by now.
    pub fn adopt_at(&self, offset: u32, generation: Option<u32>) -> Result<RelativePtr<u8>> {
        let live = self.live_of(offset, generation)?;
        self.matrix.with_lane(|lane| {
            self.give(lane.owner(), offset, live, lane.owner())?;
            Ok(self.pointer(live.of(lane.owner())))
        })?
    }

    /// Recovers participants that have died: finishes what they had begun, frees their blocks (or keeps them, with
    /// [`Options::keep_orphans`]), releases their slots (but not before others have ended adoptions from them:
    /// [`Recovered::open_adoptions`]). It happens by itself when somebody attaches, and before an allocation fails.
    ///
    /// # Errors
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn reap(&self) -> Result<Recovered> {
        self.reap_with(self.matrix.policy())
    }

    /// As [`Handler::reap`], with a choice of what happens to the live blocks of the dead.
    ///
    /// # Errors
    /// As [`Handler::reap`].
    pub fn reap_with(&self, policy: Policy) -> Result<Recovered> {
        self.matrix.reap(policy)
    }

    /// Live blocks that the dead left: of participants that nobody has recovered yet, and those that a recovery kept
    /// ([`Policy::Keep`], [`Options::keep_orphans`]). O(blocks); reads only.
    ///
    /// ```
    /// # use atomic_matrix::segment::Options;
    /// let handler = Options::new().memfd().size(1 << 20).keep_orphans(true).create()?;
    /// for orphan in handler.orphans()? {
    ///     match handler.adopt_at(orphan.offset, Some(orphan.generation)) { // or free_at(orphan.offset)
    ///         Ok(mine) => println!("{} is mine", mine.offset()),
    ///         Err(error) => eprintln!("{error}"), // somebody else was first, or it is changing hands
    ///     }
    /// }
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::blocks`].
    pub fn orphans(&self) -> Result<Vec<BlockInfo>> {
        let dead: Vec<u16> = self.participants().iter().filter(|p| !p.alive).map(|p| p.number).collect();
        let mut orphans = vec![];
        self.blocks(|block| {
            let live = matches!(block.state, BlockState::Allocated | BlockState::Typed | BlockState::TypedSmall);
            let left = |owner| owner == KEPT || dead.contains(&owner);
            if live
                && left(block.owner)
                && self.whose_after_adoption(&block).is_none_or(|owner| owner == 0 || left(owner))
            {
                orphans.push(block);
            }
        })?;
        Ok(orphans)
    }

    /// Whose a live block becomes that a dead participant was adopting: its recovery gives it back (C1). None if nobody adopts it.
    fn whose_after_adoption(&self, block: &BlockInfo) -> Option<u16> {
        let heap = self.matrix.heap();
        let g = self.matrix.granule_of(block.offset)?;
        let token = heap.look(g);
        is_adopter(token.owner()).then(|| heap.adopted_from(g, token)).flatten()
    }

    /// The segment's participants, the dead ones that nobody has recovered yet included. Reads only.
    pub fn participants(&self) -> Vec<Participant> {
        self.matrix.participants()
    }

    /// Publishes a live block under a name of at most 96 bytes, so that other processes find it. The block then belongs
    /// to nobody: it survives its maker, until somebody adopts or frees it. Publish what is your own or nobody's: a block that
    /// another process owns would be taken from it.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NameTooLong`], [`Error::DirectoryFull`]; for the block [`Error::ForeignBlock`],
    /// [`Error::NotLive`], [`Error::Stale`] or [`Error::ChangingHands`] (after half a second, twice at most); [`Error::NoParticipantSlot`] and
    /// [`Error::ForkedChild`].
    pub fn publish<T>(&self, name: &str, block: &Block<T>) -> Result<()> {
        self.publish_as(name, &block.pointer.cast(), false).map(|_| ())
    }

    /// Publishes a live block under a name that is free, or `replaces` what it stands for: what that was.
    pub(crate) fn publish_as(&self, name: &str, block: &RelativePtr<u8>, replaces: bool) -> Result<Option<Entry>> {
        self.check_name(name)?;
        // Whose it is has to be known, so that nobody else's is taken.
        let mut found = self.live(block);
        patiently(|| {
            found = self.live(block);
            !found.as_ref().is_ok_and(|live| live.is_changing_hands())
        });
        let live = found?;
        if live.is_changing_hands() {
            return Err(Error::ChangingHands { offset: block.offset(), participant: live.token.holder() });
        }
        let fingerprint = self.matrix.heap().fingerprint(live);
        let entry = Entry { offset: block.offset(), generation: block.generation(), fingerprint };
        let heap = self.matrix.heap();
        let publish = |owner| {
            let (mut given, old) = match replaces {
                true => heap.replace(owner, name.as_bytes(), live, entry)?,
                false => (heap.publish(owner, name.as_bytes(), live, entry)?, None),
            };
            // Without a fence it stays its owner's, however long that is waited for.
            let settled = || {
                given = given || heap.publish_given(owner, live);
                given || Native::fence_was_refused()
            };
            patiently(settled);
            Ok((given, old))
        };
        let publish = || self.matrix.with_lane(|lane| publish(lane.owner()));
        let (given, no_fence) = Native::noting_refused_fences(publish);
        let (given, old) = given?.map_err(|refused| match refused {
            Refused::Taken => Error::NameTaken { name: name.to_owned() },
            Refused::Full => Error::DirectoryFull { entries: heap.layout().params.directory },
        })?;
        if given {
            return Ok(old);
        }
        if let Some(found) = self.directory().lookup(name.as_bytes()).filter(|found| found.block == entry) {
            self.directory().withdraw_this(found);
        }
        if no_fence {
            return Err(Error::NoMembarrier);
        }
        Err(Error::ChangingHands { offset: entry.offset, participant: heap.look(live.at).holder() })
    }

    /// The block published under a name.
    ///
    /// # Errors
    /// [`Error::NameUnknown`], [`Error::TypeMismatch`], and [`Error::NotLive`] or [`Error::Stale`] if the block was freed since.
    pub fn lookup<T: Shared>(&self, name: &str) -> Result<Block<T>> {
        self.find_published(name).map(|(block, _)| block)
    }

    /// What is published under a name.
    pub(crate) fn published_under(&self, name: &str) -> Result<Entry> {
        self.check_name(name)?;
        let found = self.directory().lookup(name.as_bytes());
        found.map(|found| found.block).ok_or_else(|| Error::NameUnknown { name: name.to_owned() })
    }

    fn find_published<T: Shared>(&self, name: &str) -> Result<(Block<T>, Published)> {
        self.check_name(name)?;
        let found = self.directory().lookup(name.as_bytes());
        let found = found.ok_or_else(|| Error::NameUnknown { name: name.to_owned() })?;
        let Entry { offset, generation: expected, .. } = found.block;
        let block = self.get_block::<T>(offset)?;
        if block.generation() != expected {
            return Err(Error::Stale { offset, expected, found: block.generation() });
        }
        Ok((block, found))
    }

    /// Takes the block published under a name: of all who try, one gets it, and owns it from then on. The name is free again.
    ///
    /// # Errors
    /// As [`Handler::lookup`]; [`Error::NameUnknown`] also if somebody else takes it at the same moment.
    pub fn take<T: Shared>(&self, name: &str) -> Result<Block<T>> {
        let (block, found) = self.find_published::<T>(name)?;
        let live = self.live(&block.pointer)?;
        let take = |owner| self.matrix.heap().take_published(owner, live, found).then(|| live.of(owner));
        let won = self.matrix.with_lane(|lane| take(lane.owner()))?;
        let ours = won.ok_or_else(|| Error::NameUnknown { name: name.to_owned() })?;
        Ok(Block { pointer: self.pointer(ours) })
    }

    /// Withdraws a name. The block stays allocated.
    ///
    /// # Errors
    /// [`Error::NameUnknown`].
    pub fn withdraw(&self, name: &str) -> Result<()> {
        self.matrix.check_process()?;
        self.check_name(name)?;
        let withdrawn = self.directory().withdraw(name.as_bytes());
        if withdrawn { Ok(()) } else { Err(Error::NameUnknown { name: name.to_owned() }) }
    }

    /// Everything that is published just now, in no particular order. Reads only.
    pub fn names(&self) -> Vec<Name> {
        let mut names = vec![];
        self.directory().each(|name, entry| {
            let live = self.live_at(entry.offset).is_ok_and(|live| live.token.generation() == entry.generation);
            let Entry { offset, generation, fingerprint } = entry;
            names.push(Name {
                name: String::from_utf8_lossy(name).into_owned(),
                offset,
                generation,
                fingerprint,
                live,
            });
        });
        names
    }

    fn directory(&self) -> Directory<'_, crate::segment::region::MappedRegion> {
        Directory(self.matrix.heap().region())
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if name.len() <= NAME_LIMIT && !name.is_empty() {
            return Ok(());
        }
        Err(Error::NameTooLong { name: name.to_owned(), length: name.len(), limit: NAME_LIMIT })
    }

    /// Removes the segment's name. Processes that have it mapped go on; nobody new can attach. Does nothing if the name is gone
    /// already.
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

    /// A number that was drawn when the segment was made: it tells this segment from every other one, those included that had its id
    /// before or will have it later. Pointers and blocks carry it in this process; an offset does not. Send it along with offsets where the
    /// name may be removed and made anew while it is in use, and compare it with the receiver's.
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

    /// Marks this segment's pointers, so that another segment's are refused.
    #[inline(always)]
    fn tag(&self) -> u32 {
        self.matrix.tag()
    }

    #[inline(always)]
    pub(crate) fn pointer<T>(&self, live: Live) -> RelativePtr<T> {
        RelativePtr { token: live.token, offset: self.matrix.offset_of(live.at), segment: self.tag(), of: PhantomData }
    }
}
