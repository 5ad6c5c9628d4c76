//! [`AtomicMatrix`]: one mapped segment with its heap, and the lanes of this process's threads.

use super::heap::{Heap, Lane};
use crate::backend::orderings::{SLOT_CLAIM, SLOT_LOOK, SLOT_WRITE};
use crate::backend::{Native, Word};
use crate::error::{Error, Result};
use crate::segment::layout::SlotWord;
use crate::segment::region::{MappedRegion, Region};
use crate::segment::{Options, Segment};
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// A mapped segment, its heap, and what this process keeps for it.
///
/// Users hold it through [`Handler`](crate::handlers::Handler)s; this is where they come from:
/// [`AtomicMatrix::bootstrap`], [`AtomicMatrix::attach`], [`AtomicMatrix::options`].
pub struct AtomicMatrix {
    // The heap's region points into the segment's mapping: declared first, dropped first.
    heap: Heap<MappedRegion>,
    segment: Segment,
    /// Tells this mapping from every other one that this process ever made.
    instance: u64,
    opener: u32,
    tag: u32,
    offset_shift: u32,
    lanes: Mutex<Lanes>,
}

/// A lane in memory that a forked child finds zeroed.
struct LaneCell {
    memory: memmap2::MmapMut,
}

/// What stands in that memory.
struct LanePage {
    /// The matrix's instance; 0 in a forked child.
    instance: u64,
    lane: Lane,
}

/// This process's lanes: all that exist, and those that no thread uses just now.
#[derive(Default)]
struct Lanes {
    all: Vec<LaneCell>,
    idle: Vec<*mut LanePage>,
}

// SAFETY: the pointers go to memory that `all` owns; each is used by one thread at a time.
unsafe impl Send for Lanes {}

/// The lane that this thread used last, and of which matrix.
#[derive(Clone, Copy)]
struct Last {
    instance: u64,
    page: *mut LanePage,
}

thread_local! {
    /// Without a destructor, so that reading it is one load.
    static LAST: Cell<Last> = const { Cell::new(Last { instance: 0, page: std::ptr::null_mut() }) };
    /// All lanes of this thread, to give them back when it ends.
    static MINE: RefCell<Mine> = const { RefCell::new(Mine(Vec::new())) };
}

struct Mine(Vec<(Last, Weak<AtomicMatrix>)>);

impl Drop for Mine {
    fn drop(&mut self) {
        LAST.set(Last { instance: 0, page: std::ptr::null_mut() });
        for (last, matrix) in self.0.drain(..) {
            if let Some(matrix) = matrix.upgrade() {
                matrix.lanes().idle.push(last.page);
            }
        }
    }
}

impl AtomicMatrix {
    /// What a creator or an attacher may choose.
    pub fn options() -> Options {
        Options::new()
    }

    pub(crate) fn format(region: &MappedRegion) {
        Heap::format(region);
    }

    /// Wraps a segment that has been formatted.
    pub(crate) fn open(segment: Segment) -> Arc<Self> {
        // SAFETY: the segment is kept in the same struct and dropped after the heap.
        let region = unsafe { segment.region() };
        Arc::new(Self {
            heap: Heap::new(region),
            instance: Native::serial(),
            opener: segment.opener(),
            tag: segment.id().as_u128() as u32,
            offset_shift: segment.offset_unit().trailing_zeros(),
            segment,
            lanes: Mutex::default(),
        })
    }

    /// The heap.
    #[inline(always)]
    pub fn heap(&self) -> &Heap<MappedRegion> {
        &self.heap
    }
    /// The segment.
    #[inline(always)]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Marks this segment's pointers: the last 32 bits of its id.
    #[inline(always)]
    pub(crate) fn tag(&self) -> u32 {
        self.tag
    }
    /// log2 of the bytes in a step of an offset.
    #[inline(always)]
    pub(crate) fn offset_shift(&self) -> u32 {
        self.offset_shift
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// This thread's lane, if it used this matrix last.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the lane is not part of the matrix: it is this thread's own page")]
    pub(crate) fn lane(&self) -> Option<&mut Lane> {
        let last = LAST.get();
        if last.instance != self.instance {
            return None;
        }
        // SAFETY: the instance is this matrix's, so the page is alive (`self.lanes` owns it), and it is this thread's alone. The
        // reference is used for one operation, and operations do not nest (no user code runs inside them).
        let page = unsafe { &mut *last.page };
        (page.instance == self.instance).then_some(&mut page.lane)
    }

    /// Runs `operation` with this thread's lane, which it gets at its first call.
    pub(crate) fn with_lane<T>(self: &Arc<Self>, operation: impl FnOnce(&mut Lane) -> T) -> Result<T> {
        match self.lane() {
            Some(lane) => Ok(operation(lane)),
            None => self.with_lane_slowly(operation),
        }
    }

    #[cold]
    #[inline(never)]
    fn with_lane_slowly<T>(self: &Arc<Self>, operation: impl FnOnce(&mut Lane) -> T) -> Result<T> {
        self.check_process()?;
        let known = MINE.try_with(|mine| {
            let mine = mine.borrow();
            mine.0.iter().find(|(last, _)| last.instance == self.instance).map(|(last, _)| *last)
        });
        let last = match known {
            Ok(Some(last)) => last,
            _ => Last { instance: self.instance, page: self.idle_lane()? },
        };
        let keep = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            mine.0.retain(|(_, matrix)| matrix.strong_count() > 0);
            if !mine.0.iter().any(|(other, _)| other.instance == last.instance) {
                mine.0.push((last, Arc::downgrade(self)));
            }
            LAST.set(last);
        });
        // SAFETY: the page is this thread's: it is in its list, or was just taken from the idle ones.
        let result = operation(unsafe { &mut (*last.page).lane });
        if keep.is_err() {
            // The thread is ending and keeps nothing any more.
            self.lanes().idle.push(last.page);
        }
        Ok(result)
    }

    /// A forked child shares the parent's lanes and participant numbers, so it may use none of them.
    pub(crate) fn check_process(&self) -> Result<()> {
        let caller = std::process::id();
        if caller == self.opener { Ok(()) } else { Err(Error::ForkedChild { opener: self.opener, caller }) }
    }

    /// A lane that no thread uses: an idle one, or a new participant's.
    fn idle_lane(&self) -> Result<*mut LanePage> {
        let mut lanes = self.lanes();
        if let Some(page) = lanes.idle.pop() {
            return Ok(page);
        }
        let owner = self.claim_slot()?;
        let lane = if self.segment.strict() { Lane::with_ceiling(owner, 0) } else { Lane::new(owner) };
        let io = |source: std::io::Error| Error::io("get memory for a thread's parked blocks", source);
        let mut memory = memmap2::MmapMut::map_anon(size_of::<LanePage>()).map_err(io)?;
        let page: *mut LanePage = memory.as_mut_ptr().cast();
        // SAFETY: an anonymous mapping of ours alone, page aligned, as long as asked for; nothing stands in it yet.
        unsafe { rustix::mm::madvise(page.cast(), memory.len(), rustix::mm::Advice::LinuxWipeOnFork) }
            .map_err(|error| io(error.into()))?;
        // SAFETY: as above.
        unsafe { page.write(LanePage { instance: self.instance, lane }) };
        lanes.all.push(LaneCell { memory });
        Ok(page)
    }

    /// Takes a free participant slot.
    fn claim_slot(&self) -> Result<u16> {
        let layout = self.heap.layout();
        let region = self.heap.region();
        let holder = self.opener as u64;
        for owner in 1..=layout.params.participants as u16 {
            let state = region.word(layout.slot(owner, SlotWord::State));
            if state.load(&SLOT_LOOK) == 0 && state.cas(0, holder, &SLOT_CLAIM).is_ok() {
                return Ok(owner);
            }
        }
        Err(Error::NoParticipantSlot { participants: layout.params.participants })
    }
}

impl Drop for AtomicMatrix {
    fn drop(&mut self) {
        // A forked child leaves everything to its parent.
        if self.check_process().is_err() {
            return;
        }
        let layout = self.heap.layout().clone();
        let lanes = self.lanes.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for cell in &mut lanes.all {
            // SAFETY: no handler is left, so no thread is inside an operation, and none will find the page again: it
            // would have to come with a handler of this instance.
            let page = unsafe { &mut *cell.memory.as_mut_ptr().cast::<LanePage>() };
            self.heap.flush(&mut page.lane);
            let state = layout.slot(page.lane.owner(), SlotWord::State);
            self.heap.region().word(state).store(0, &SLOT_WRITE);
        }
    }
}

impl std::fmt::Debug for AtomicMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtomicMatrix").field("id", &self.segment.id()).field("bytes", &self.segment.len()).finish()
    }
}
