//! [`AtomicMatrix`]: one mapped segment with its heap, and the lanes of this process's threads.

use super::heap::{Heap, Lane};
use super::recovery::{Policy, Recovered};
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::kernel::nap;
use crate::segment::directory::{Directory, Entry};
use crate::segment::layout::Granule;
use crate::segment::region::MappedRegion;
use crate::segment::{Joined, Options, Participant, Segment};
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

/// How long a slot is waited for that is changing hands; and by a participant that leaves, others that are just adopting blocks of its
/// own, and may give them back. Then its slot stays, as if it had died.
const SLOT_WAIT: Duration = Duration::from_millis(200);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

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
    /// The instance if this matrix is of the usual sort, which the quickest paths are compiled for: biased, with the default granule, and
    /// offsets in bytes. Else no lane's.
    usual: u64,
    /// Whether a forked child finds its parent's lanes zeroed.
    wiped: bool,
    tag: u32,
    offset_shift: u32,
    /// The sector's own offset, and log2 of a granule in steps of an offset.
    sector_offset: u32,
    granule_steps: u32,
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

/// What was recovered, to be told when nothing is locked or borrowed any more: whoever listens may use the matrix.
#[derive(Debug, Default)]
struct Told {
    all: Recovered,
    each: Vec<(u16, Policy, Recovered)>,
    /// Slots of the dead that this process has taken.
    taken_over: Vec<u16>,
    /// Whether there was none to be had.
    no_slot: bool,
}

impl Told {
    /// Walks over one number in turn are one recovery, whose last walk says what is open.
    fn recovered(&mut self, dead: u16, policy: Policy, found: Recovered) {
        match self.each.iter_mut().find(|(number, ..)| *number == dead) {
            Some((.., before)) => {
                before.add(found);
                before.open_adoptions = found.open_adoptions;
            }
            None => self.each.push((dead, policy, found)),
        }
    }
}

/// A lane that this thread used, and of which matrix.
#[derive(Clone, Copy)]
struct Last {
    instance: u64,
    page: *mut LanePage,
}

const NOBODY: Last = Last { instance: 0, page: std::ptr::null_mut() };
const NOT_USUAL: u64 = u64::MAX;

thread_local! {
    /// The lane that was used last. Without a destructor, so that reading it is one load.
    static LAST: Cell<Last> = const { Cell::new(NOBODY) };
    /// One for each of four matrices, by the last bits of the instance.
    static RECENT: [Cell<Last>; 4] = const { [const { Cell::new(NOBODY) }; 4] };
    /// All lanes of this thread, to give them back when it ends.
    static MINE: RefCell<Mine> = const { RefCell::new(Mine(Vec::new())) };
}

struct Mine(Vec<(Last, Weak<AtomicMatrix>)>);

impl Drop for Mine {
    fn drop(&mut self) {
        LAST.set(NOBODY);
        RECENT.with(|recent| recent.iter().for_each(|last| last.set(NOBODY)));
        for (last, matrix) in self.0.drain(..) {
            // A forked child has none of them, and finds the lock as another thread may have left it.
            if let Some(matrix) = matrix.upgrade().filter(|matrix| matrix.check_process().is_ok()) {
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
        let heap = Heap::new(unsafe { segment.region() });
        let (layout, offset_shift) = (heap.layout(), segment.offset_unit().trailing_zeros());
        let instance = Native::serial();
        // A lane that a forked child would not find zeroed is not used before a look at who we are.
        let wiped = Native::wipes_on_fork();
        let is_usual = layout.is_usual() && layout.params.biased && offset_shift == 0 && wiped;
        // Now if it can be: descriptors and rights may be given up later. If not, the first call that needs it says why.
        let _ = segment.life();
        Arc::new(Self {
            sector_offset: (layout.sector >> offset_shift) as u32,
            granule_steps: layout.params.granule_shift - offset_shift,
            heap,
            instance,
            usual: if is_usual { instance } else { NOT_USUAL },
            wiped,
            tag: segment.serial(),
            offset_shift,
            segment,
            lanes: Mutex::default(),
        })
    }

    /// The heap.
    #[cfg(feature = "internals")]
    #[inline(always)]
    pub fn heap(&self) -> &Heap<MappedRegion> {
        &self.heap
    }
    #[cfg(not(feature = "internals"))]
    #[inline(always)]
    pub(crate) fn heap(&self) -> &Heap<MappedRegion> {
        &self.heap
    }
    /// The segment.
    #[inline(always)]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Marks this segment's pointers in this process: another segment's have another mark.
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

    /// This thread's lane, if this matrix is of the usual sort and the thread used it last; or what the fork of this process has left of
    /// it: zeros, a lane that has nothing parked and is bound to no heap.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the lane is not part of the matrix: it is this thread's own page")]
    pub(crate) fn usual_lane(&self) -> Option<&mut Lane> {
        let last = LAST.get();
        if last.instance != self.usual {
            return None;
        }
        // SAFETY: as in `lane`; and a lane of zeros is a lane.
        Some(unsafe { &mut (*last.page).lane })
    }

    /// This thread's lane, if this matrix is one of those that it used lately.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the lane is not part of the matrix: it is this thread's own page")]
    pub(crate) fn lane(&self) -> Option<&mut Lane> {
        let last = RECENT.with(|recent| recent[self.instance as usize % 4].get());
        if last.instance != self.instance {
            return None;
        }
        LAST.set(last);
        // SAFETY: the instance is this matrix's, so the page is alive (`self.lanes` owns it), and it is this thread's alone. The
        // reference is used for one operation, and operations do not nest (no user code runs inside them).
        let page = unsafe { &mut *last.page };
        (page.instance == self.instance && (self.wiped || self.check_process().is_ok())).then_some(&mut page.lane)
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
        let mut told = Told::default();
        let last = match known {
            Ok(Some(last)) => last,
            _ => match self.idle_lane(&mut told) {
                Ok(page) => Last { instance: self.instance, page },
                Err(error) => {
                    told.no_slot = matches!(error, Error::NoParticipantSlot { .. });
                    self.tell(&told);
                    return Err(error);
                }
            },
        };
        let keep = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            mine.0.retain(|(_, matrix)| matrix.strong_count() > 0);
            if !mine.0.iter().any(|(other, _)| other.instance == last.instance) {
                mine.0.push((last, Arc::downgrade(self)));
            }
            LAST.set(last);
            RECENT.with(|recent| recent[self.instance as usize % 4].set(last));
        });
        // The lane is on record: who listens may use it, and may panic.
        self.tell(&told);
        // SAFETY: the page is this thread's: it is in its list, or was just taken from the idle ones.
        let result = operation(unsafe { &mut (*last.page).lane });
        if keep.is_err() {
            // The thread is ending and keeps nothing any more.
            self.lanes().idle.push(last.page);
        }
        Ok(result)
    }

    /// A forked child shares the parent's lanes and participant numbers, so it may use none of them.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        self.segment.check_process()
    }

    /// A lane that no thread uses: an idle one, or a new participant's. Where every slot is held, but one is changing hands, or
    /// is a dead one's whose blocks others are just adopting, that is waited for, no longer than [`SLOT_WAIT`] (L1).
    fn idle_lane(&self, told: &mut Told) -> Result<*mut LanePage> {
        if let Some(page) = self.lanes().idle.pop() {
            return Ok(page);
        }
        let failed =
            |call: &str, source| Error::io(format!("get memory for a thread's parked blocks with {call}(2)"), source);
        let mut memory = memmap2::MmapMut::map_anon(size_of::<LanePage>()).map_err(|e| failed("mmap", e))?;
        let page: *mut LanePage = memory.as_mut_ptr().cast();
        if self.wiped {
            // SAFETY: an anonymous mapping of ours alone, page aligned, as long as asked for; nothing stands in it yet.
            unsafe { rustix::mm::madvise(page.cast(), memory.len(), rustix::mm::Advice::LinuxWipeOnFork) }
                .map_err(|e| failed("madvise", e.into()))?;
        }
        let begun = Instant::now();
        loop {
            if let Some(page) = self.lanes().idle.pop() {
                return Ok(page);
            }
            if let Some(lane) = self.new_lane(begun.elapsed() < SLOT_WAIT, told)? {
                // SAFETY: as above.
                unsafe { page.write(LanePage { instance: self.instance, lane }) };
                self.lanes().all.push(LaneCell { memory });
                return Ok(page);
            }
            nap(BETWEEN_LOOKS);
        }
    }

    /// Takes a participant slot, and recovers whose it was, if that one is dead. None if there may be one soon, and `patient`.
    fn new_lane(&self, patient: bool, told: &mut Told) -> Result<Option<Lane>> {
        let mut tried = vec![];
        loop {
            match self.segment.join(&tried)? {
                Joined::Free(owner) => return Ok(Some(self.lane_of(owner))),
                Joined::TakenOver(owner) => {
                    let mut lane = self.lane_of(owner);
                    if self.recover_predecessor(&mut lane, told) {
                        told.taken_over.push(owner);
                        return Ok(Some(lane));
                    }
                    self.segment.abandon(owner);
                    tried.push(owner);
                }
                Joined::AllHeld if tried.is_empty() => break,
                Joined::Changing | Joined::AllHeld if patient => return Ok(None),
                Joined::Changing | Joined::AllHeld => break,
            }
        }
        Err(Error::NoParticipantSlot { participants: self.heap.layout().params.participants })
    }

    fn lane_of(&self, owner: u16) -> Lane {
        if self.segment.strict() { Lane::with_ceiling(owner, 0) } else { Lane::new(owner) }
    }

    /// The first thing that a lane does whose slot was a dead participant's: recovers it, under the number that both have. To others this
    /// is one participant, which may die again, half-way: what it leaves is in every word what the dead one left, or what
    /// a participant leaves that does one thing after another. False if the number can't be used yet.
    fn recover_predecessor(&self, lane: &mut Lane, told: &mut Told) -> bool {
        let me = lane.owner();
        let inherited = self.segment.inherit(me, me);
        let found = self.recover_one(lane, me, self.policy(), told);
        told.all.add(found);
        self.recover_all(lane, inherited, || None, self.policy(), told);
        found.open_adoptions == 0
    }

    /// What happens to live blocks of the dead in this segment, unless somebody asks otherwise.
    pub(crate) fn policy(&self) -> Policy {
        if self.segment.keeps_orphans() { Policy::Keep } else { Policy::GiveBack }
    }

    /// Recovers every participant that has died (C1).
    pub(crate) fn reap(self: &Arc<Self>, policy: Policy) -> Result<Recovered> {
        let mut told = Told::default();
        let recovered = self.with_lane(|lane| {
            let me = lane.owner();
            let next = || self.segment.take_dead(me);
            self.recover_all(lane, vec![], next, policy, &mut told);
            told.all
        });
        self.tell(&told);
        recovered
    }

    /// Recovers those taken already, and whomever `next` takes.
    fn recover_all(
        &self,
        lane: &mut Lane,
        mut taken: Vec<u16>,
        next: impl Fn() -> Option<u16>,
        policy: Policy,
        told: &mut Told,
    ) {
        let mut open = vec![];
        while let Some(dead) = taken.pop().or_else(&next) {
            taken.extend(self.segment.inherit(dead, lane.owner()));
            let found = self.recover_one(lane, dead, policy, told);
            match found.open_adoptions {
                0 => self.segment.release_dead(dead),
                _ => open.push(dead),
            }
            told.all.add(Recovered { open_adoptions: 0, ..found });
        }
        for dead in open {
            // The adopter may have been among the dead.
            let found = self.recover_one(lane, dead, policy, told);
            match found.open_adoptions {
                0 => self.segment.release_dead(dead),
                _ => self.segment.put_back(dead),
            }
            told.all.add(found);
        }
    }

    /// Recovers one dead participant; its slot is the caller's affair.
    fn recover_one(&self, lane: &mut Lane, dead: u16, policy: Policy, told: &mut Told) -> Recovered {
        let found = self.heap.recover(lane, dead, policy);
        let directory = Directory(&self.segment);
        directory.recover(dead);
        directory.retain(|entry| self.published(entry));
        told.recovered(dead, policy, found);
        found
    }

    /// Tells what was recovered. Not under a lock, nor inside an operation.
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "without it there is nobody to tell"))]
    fn tell(&self, told: &Told) {
        for &(participant, policy, found) in &told.each {
            event!(
                INFO,
                "participant recovered",
                id = %self.segment.id(),
                participant = participant,
                kept = policy == Policy::Keep,
                live_blocks = found.live_blocks,
                live_granules = found.live_granules,
                in_flight_blocks = found.in_flight_blocks,
                in_flight_granules = found.in_flight_granules,
                open_adoptions = found.open_adoptions
            );
        }
        for &participant in &told.taken_over {
            event!(
                INFO,
                "participant slot taken over from the dead",
                id = %self.segment.id(),
                participant = participant,
                recovered = told.all.participants
            );
        }
        if told.no_slot {
            let participants = self.heap.layout().params.participants;
            event!(WARN, "no participant slot", id = %self.segment.id(), participants = participants);
        }
    }

    /// Whether the block that a directory entry names is live.
    fn published(&self, entry: Entry) -> bool {
        let live = self.granule_of(entry.offset).and_then(|g| self.heap.live_at(g).ok());
        live.is_some_and(|live| live.token.generation() == entry.generation)
    }

    /// The granule at an offset, if it is in the sector and a block can begin there.
    #[inline(always)]
    pub(crate) fn granule_of(&self, offset: u32) -> Option<Granule> {
        let g = self.granule_at(offset);
        (g.0 < self.heap.layout().granules).then_some(g)
    }

    /// The granule at an offset: one out of range for offsets in front of the sector, behind it or between granules.
    ///
    /// Granules and their steps fill at most 2^32, so what is in front wraps around behind the last granule, and what
    /// is between granules has a high bit after the rotation.
    #[inline(always)]
    pub(crate) fn granule_at(&self, offset: u32) -> Granule {
        self.granule_in_steps(offset, self.granule_steps)
    }

    /// As [`AtomicMatrix::granule_at`], for who knows log2 of a granule in steps of an offset.
    #[inline(always)]
    pub(crate) fn granule_in_steps(&self, offset: u32, steps: u32) -> Granule {
        Granule(offset.wrapping_sub(self.sector_offset).rotate_right(steps))
    }

    /// The offset of a granule. Never 0: the sector does not begin the segment.
    #[inline(always)]
    pub(crate) fn offset_of(&self, g: Granule) -> u32 {
        self.offset_in_steps(g, self.granule_steps)
    }

    /// As [`AtomicMatrix::offset_of`], for who knows log2 of a granule in steps of an offset.
    #[inline(always)]
    pub(crate) fn offset_in_steps(&self, g: Granule, steps: u32) -> u32 {
        (g.0 << steps).wrapping_add(self.sector_offset)
    }

    /// Who holds a slot.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        self.segment.participants()
    }
}

impl Drop for AtomicMatrix {
    fn drop(&mut self) {
        // A forked child leaves everything to its parent.
        if self.check_process().is_err() {
            return;
        }
        let lanes = self.lanes.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut leaving = vec![];
        for cell in &mut lanes.all {
            // SAFETY: no handler is left, so no thread is inside an operation, and none will find the page again: it
            // would have to come with a handler of this instance.
            let page = unsafe { &mut *cell.memory.as_mut_ptr().cast::<LanePage>() };
            self.heap.flush(&mut page.lane);
            leaving.push(page.lane.owner());
        }
        // Whoever only looked leaves nothing behind, and walks nothing.
        let mut open = if leaving.is_empty() { vec![] } else { self.heap.disown(&leaving) };
        let begun = Instant::now();
        while !open.is_empty() && begun.elapsed() < SLOT_WAIT {
            nap(BETWEEN_LOOKS);
            open = self.heap.disown(&leaving);
        }
        for number in leaving {
            match open.contains(&number) {
                true => self.segment.abandon(number),
                false => self.segment.leave(number),
            }
        }
    }
}

impl std::fmt::Debug for AtomicMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtomicMatrix").field("id", &self.segment.id()).field("bytes", &self.segment.len()).finish()
    }
}
