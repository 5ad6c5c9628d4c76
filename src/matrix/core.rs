//! [`AtomicMatrix`]: one mapped segment with its heap, and the lanes of this process's threads.

use super::heap::{Heap, Lane, Refusal};
use super::lane::STACK;
use super::recovery::{Policy, Recovered, Recovery};
use super::threads::{self, Keeper, LanePage, Last};
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::kernel::nap;
use crate::segment::directory::{Directory, Entry};
use crate::segment::layout::Granule;
use crate::segment::offsets::Offsets;
use crate::segment::region::MappedRegion;
use crate::segment::slot::Dead;
use crate::segment::{Joined, Options, Participant, Segment};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// How long a slot is waited for that is changing hands; and by a participant that leaves, others that are just adopting blocks of its
/// own, and may give them back. Then its slot stays, as if it had died.
const SLOT_WAIT: Duration = Duration::from_millis(200);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
/// Blocks, of any kind, that an ending thread walks over to give its slot back at once: some microseconds.
const QUICK_WALK: u32 = 4096;
/// Where there are more blocks, a process keeps one in so many of the segment's slots for its next threads, before it walks for all of them.
const SPARE: usize = 16;

/// A mapped segment, its heap, and what this process keeps for it.
///
/// Users hold it through [`Handler`](crate::handlers::Handler)s; this is where they come from:
/// [`AtomicMatrix::bootstrap`], [`AtomicMatrix::attach`], [`AtomicMatrix::options`].
pub struct AtomicMatrix {
    // The heap's region points into the segment's mapping: declared first, dropped first.
    heap: Heap<MappedRegion>,
    segment: Segment,
    /// Tells this mapping from every other one that this process ever made; never 0.
    instance: u64,
    /// The instance if this matrix is of the usual sort, which the quickest paths are compiled for: biased, with the default granule, and
    /// offsets in bytes. Else no lane's.
    usual: u64,
    /// Whether a forked child finds its parent's lanes zeroed.
    wiped: bool,
    tag: u32,
    offset_shift: u32,
    offsets: Offsets,
    lanes: Mutex<Lanes>,
    /// What the layers above keep for as long as the segment is mapped. A forked child does not touch it.
    pub(crate) kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A lane in memory that a forked child finds zeroed.
struct LaneCell {
    _memory: memmap2::MmapMut,
    page: *mut LanePage,
    /// The lane's participant number, which never changes.
    owner: u16,
}

/// Bytes of a page, and of a cache line.
const PAGE: usize = 4096;
const LINE: usize = 64;

impl LaneCell {
    /// Where the lane stands. All lanes at the beginning of a page would share a few sets of the processor's cache: one thread's
    /// lanes of many matrices begin a line further on each.
    fn page_of(memory: &mut memmap2::MmapMut, instance: u64) -> *mut LanePage {
        memory.as_mut_ptr().wrapping_add(instance as usize * LINE % PAGE).cast()
    }
}

/// This process's lanes: all that exist, and those that no thread uses just now.
#[derive(Default)]
struct Lanes {
    /// The first one is the process's home: blocks of ended threads become that lane's, and it stays.
    all: Vec<LaneCell>,
    idle: Vec<*mut LanePage>,
    /// Lanes whose slots are just being given back.
    leaving: usize,
    /// When somebody was told last that there is no slot.
    refused: Option<Instant>,
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
    /// What a recovery found, if it found or ended anything.
    fn recovered(&mut self, policy: Policy, recovery: &Recovery) {
        self.all.add(recovery.total());
        let found = recovery.found().filter(|(_, found)| *found != Recovered::default());
        self.each.extend(found.map(|(dead, found)| (dead, policy, found)));
    }
}

const NOT_USUAL: u64 = u64::MAX;

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
            offsets: Offsets::new(layout, offset_shift),
            heap,
            instance,
            usual: if is_usual { instance } else { NOT_USUAL },
            wiped,
            tag: segment.serial(),
            offset_shift,
            segment,
            lanes: Mutex::default(),
            kept: OnceLock::new(),
        })
    }

    /// Tells this mapping from every other one that this process ever made.
    #[cfg(test)]
    pub(super) fn instance(&self) -> u64 {
        self.instance
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
    /// What its offsets mean.
    #[inline(always)]
    pub(crate) fn offsets(&self) -> Offsets {
        self.offsets
    }
    /// log2 of the bytes in a step of an offset.
    #[inline(always)]
    pub(crate) fn offset_shift(&self) -> u32 {
        self.offset_shift
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// This thread's lane, if this matrix is of the usual sort and the thread has one; or what the fork of this process has left of
    /// it: zeros, a lane that has nothing parked and is bound to no heap.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the lane is not part of the matrix: it is this thread's own page")]
    pub(crate) fn usual_lane(&self) -> Option<&mut Lane> {
        let page = threads::find(self.usual);
        // SAFETY: as in `lane`; and a lane of zeros is a lane.
        (!page.is_null()).then(|| unsafe { &mut (*page).lane })
    }

    /// This thread's lane in this matrix, if it has one.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the lane is not part of the matrix: it is this thread's own page")]
    pub(crate) fn lane(&self) -> Option<&mut Lane> {
        let page = threads::find(self.instance);
        if page.is_null() {
            return None;
        }
        // SAFETY: the instance is this matrix's, so the page is alive (`self.lanes` owns it), and it is this thread's alone. The
        // reference is used for one operation, and operations do not nest (no user code runs inside them).
        let page = unsafe { &mut *page };
        (page.instance == self.instance && (self.wiped || self.check_process().is_ok())).then_some(&mut page.lane)
    }

    /// The number that this process keeps as long as it has the segment mapped: what it is counted as among the users of a structure.
    pub(crate) fn home(self: &Arc<Self>) -> Result<u16> {
        // Before the lock, which a forked child finds as another thread may have left it.
        self.check_process()?;
        let first = || self.lanes().all.first().map(|cell| cell.owner);
        match first() {
            Some(home) => Ok(home),
            None => {
                let own = self.with_lane(|lane| lane.owner())?;
                Ok(first().unwrap_or(own))
            }
        }
    }

    /// Runs `operation` with this thread's lane, which it gets at its first call.
    pub(crate) fn with_lane<T>(self: &Arc<Self>, operation: impl FnOnce(&mut Lane) -> T) -> Result<T> {
        match self.lane() {
            Some(lane) => Ok(operation(lane)),
            None => self.with_lane_slowly(SLOT_WAIT, operation),
        }
    }

    /// Frees a block: without a lane, if this thread has none and can't have one at once.
    pub(crate) fn free(
        self: &Arc<Self>,
        g: Granule,
        generation: Option<u32>,
    ) -> Result<std::result::Result<(), Refusal>> {
        if let Some(lane) = self.lane() {
            return Ok(self.heap.free(lane, g, generation));
        }
        self.check_process()?;
        let refused_lately = self.lanes().refused.is_some_and(|when| when.elapsed() < SLOT_WAIT);
        if !refused_lately
            && let Ok(freed) = self.with_lane_slowly(Duration::ZERO, |lane| self.heap.free(lane, g, generation))
        {
            return Ok(freed);
        }
        Ok(self.heap.free_unaided(g, generation))
    }

    #[cold]
    #[inline(never)]
    fn with_lane_slowly<T>(self: &Arc<Self>, wait: Duration, operation: impl FnOnce(&mut Lane) -> T) -> Result<T> {
        self.check_process()?;
        let mut told = Told::default();
        let last = match self.idle_lane(wait, &mut told) {
            Ok(page) => Last { instance: self.instance, page },
            Err(error) => {
                told.no_slot = matches!(error, Error::NoParticipantSlot { .. });
                self.lanes().refused = Some(Instant::now());
                self.tell(&told);
                return Err(error);
            }
        };
        let keeper = Arc::downgrade(self);
        let kept = threads::keep(last, keeper);
        // The lane is on record: who listens may use it, and may panic.
        self.tell(&told);
        // SAFETY: the page is this thread's: it was just taken from the idle ones, or made.
        let result = operation(unsafe { &mut (*last.page).lane });
        if !kept {
            // The thread is ending and keeps nothing any more.
            self.give_back_lane(last.page);
        }
        Ok(result)
    }

    /// A thread of this process has no use for its lane any more. Its slot goes back to the segment, unless it is the process's home,
    /// or there are many blocks and few idle slots: then the next thread takes it.
    fn give_back_lane(&self, page: *mut LanePage) {
        // SAFETY: the page is this thread's until it is idle, and `lanes` has it mapped.
        let lane = unsafe { &mut (*page).lane };
        if lane.has_large() {
            self.heap.flush_large(lane);
        }
        self.lanes().idle.push(page);
        self.leave_idle_slots(QUICK_WALK);
        // Others that ended at the same moment may have found too many blocks, too.
        if self.spare_slots() > self.heap.layout().params.participants / SPARE {
            self.leave_idle_slots(u32::MAX);
        }
    }

    /// Idle slots besides the home, which stays in any case.
    fn spare_slots(&self) -> usize {
        let lanes = self.lanes();
        let home = lanes.all.first().map(|home| home.page);
        lanes.idle.iter().filter(|&&page| Some(page) != home).count()
    }

    /// Gives all idle slots back but the home, if there are no more than `most` blocks.
    fn leave_idle_slots(&self, most: u32) {
        let mut lanes = self.lanes();
        let Some((home, others)) = lanes.all.split_first() else { return };
        let leaving = others.iter().filter(|cell| lanes.idle.contains(&cell.page));
        let leaving: Vec<_> = leaving.map(|cell| (cell.page, cell.owner)).collect();
        if leaving.is_empty() {
            return;
        }
        let home = home.owner;
        lanes.idle.retain(|page| leaving.iter().all(|(leaving, _)| leaving != page));
        lanes.leaving += leaving.len();
        drop(lanes);
        // SAFETY: this thread has taken them from the idle ones.
        let left = unsafe { self.leave_for_home(&leaving, home, most) };
        let mut lanes = self.lanes();
        lanes.leaving -= leaving.len();
        lanes.idle.extend(leaving.iter().map(|(page, _)| *page).filter(|page| !left.contains(page)));
        lanes.all.retain(|cell| !left.contains(&cell.page));
    }

    /// Gives slots of lanes back that this process does not use, as far as that is possible; tells which.
    ///
    /// # Safety
    /// They are lanes of this matrix, and the caller's alone.
    unsafe fn leave_for_home(&self, leaving: &[(*mut LanePage, u16)], home: u16, most: u32) -> Vec<*mut LanePage> {
        let numbers: Vec<u16> = leaving.iter().map(|(_, number)| *number).collect();
        let Some(open) = self.heap.pass_on(&numbers, home, most) else { return vec![] };
        let mut left = vec![];
        for &(page, number) in leaving.iter().filter(|(_, number)| !open.contains(number)) {
            // SAFETY: the caller's.
            self.heap.retire(unsafe { &mut (*page).lane });
            self.segment.leave(number);
            left.push(page);
        }
        left
    }

    /// A forked child shares the parent's lanes and participant numbers, so it may use none of them.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        self.segment.check_process()
    }

    /// A lane that no thread uses: an idle one, or a new participant's. Where every slot is held, but one is changing hands, or
    /// is a dead one's whose blocks others are just adopting, that is waited for, no longer than `wait` (L1).
    fn idle_lane(&self, wait: Duration, told: &mut Told) -> Result<*mut LanePage> {
        if let Some(page) = self.lanes().idle.pop() {
            return Ok(page);
        }
        let failed =
            |call: &str, source| Error::io(format!("get memory for a thread's parked blocks with {call}(2)"), source);
        let mut memory = memmap2::MmapMut::map_anon(size_of::<LanePage>() + PAGE).map_err(|e| failed("mmap", e))?;
        let page = LaneCell::page_of(&mut memory, self.instance);
        if self.wiped {
            let (start, length) = (memory.as_mut_ptr().cast(), memory.len());
            // SAFETY: an anonymous mapping of ours alone, page aligned, as long as asked for; nothing stands in it yet.
            unsafe { rustix::mm::madvise(start, length, rustix::mm::Advice::LinuxWipeOnFork) }
                .map_err(|e| failed("madvise", e.into()))?;
        }
        let (begun, mut tried) = (Instant::now(), vec![]);
        loop {
            if let Some(page) = self.lanes().idle.pop() {
                return Ok(page);
            }
            let owner = match self.segment.join(&tried)? {
                Joined::Free(owner) => owner,
                Joined::Dead(dead) => {
                    if !self.succeed(dead, told)? {
                        tried.push(dead.number);
                        continue;
                    }
                    dead.number
                }
                joined => {
                    let may_change = joined == Joined::Changing || !tried.is_empty() || self.lanes().leaving > 0;
                    if !may_change || begun.elapsed() >= wait {
                        let participants = self.heap.layout().params.participants;
                        return Err(Error::NoParticipantSlot { participants });
                    }
                    tried.clear();
                    nap(BETWEEN_LOOKS);
                    continue;
                }
            };
            let ceiling = if self.segment.strict() { 0 } else { STACK };
            // SAFETY: the mapping is ours alone and as long as a page's; nobody else has been told of it.
            let lane = unsafe { LanePage::write(page, self.instance, owner, ceiling) };
            if told.taken_over.contains(&owner) {
                self.heap.settle_all(lane);
                // What it has visited without a lane it may free now.
                let _ = self.heap.settle_links(lane, owner);
            }
            self.lanes().all.push(LaneCell { _memory: memory, page, owner });
            return Ok(page);
        }
    }

    /// Recovers a dead participant whose number is reserved for this process, and takes the number. Others may help. False if it can't be
    /// used yet; then it is anybody's again.
    fn succeed(&self, dead: Dead, told: &mut Told) -> Result<bool> {
        let policy = self.policy();
        let mut recovery = Recovery::of(vec![dead], policy);
        let may_be_taken = self.heap.recover_predecessor(&mut recovery);
        self.retain_names();
        told.recovered(policy, &recovery);
        let taken = may_be_taken && self.segment.succeed(dead.number)?;
        match taken {
            true => told.taken_over.push(dead.number),
            false => self.segment.give_up(dead.number),
        }
        Ok(taken)
    }

    /// What happens to live blocks of the dead in this segment, unless somebody asks otherwise.
    pub(crate) fn policy(&self) -> Policy {
        if self.segment.keeps_orphans() { Policy::Keep } else { Policy::GiveBack }
    }

    /// Recovers every participant that has died (C1), and helps recoveries that others have begun. Waits for nobody.
    pub(crate) fn reap(self: &Arc<Self>, policy: Policy) -> Result<Recovered> {
        let (recovered, _) = self.reap_until(policy, u32::MAX, |_| None::<()>)?;
        Ok(recovered)
    }

    /// The same, so many tiles at a time, until `serve` is served: then the rest is for whoever needs it. (A walk that has not come to its end
    /// leaves the recovery in force, and the next one begins anew: what has been given back is merged, and soon walked over.)
    pub(crate) fn reap_until<T>(
        self: &Arc<Self>,
        policy: Policy,
        tiles: u32,
        mut serve: impl FnMut(&mut Lane) -> Option<T>,
    ) -> Result<(Recovered, Option<T>)> {
        let mut told = Told::default();
        let result = self.with_lane(|lane| {
            let dead = self.segment.take_dead(lane.owner());
            if dead.is_empty() {
                return (told.all, None);
            }
            let mut recovery = Recovery::of(dead, policy);
            self.heap.begin_recovery(Some(lane), &mut recovery);
            // A name is free again as soon as its block is known to be gone.
            self.retain_names();
            let served = loop {
                let whole = self.heap.recover_tiles(Some(lane), &mut recovery, tiles);
                if whole {
                    self.heap.end_recovery(lane, &mut recovery);
                    self.retain_names();
                    break serve(lane);
                }
                let served = serve(lane);
                if served.is_some() {
                    self.heap.pause_recovery(lane, &mut recovery);
                    break served;
                }
            };
            told.recovered(policy, &recovery);
            (told.all, served)
        });
        self.tell(&told);
        result
    }

    /// Withdraws the names of blocks that are not live any more.
    fn retain_names(&self) {
        Directory(&self.segment).retain(|entry| self.published(entry));
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
        let live = self.heap.live_at(self.offsets.granule(entry.offset));
        live.is_ok_and(|live| live.token.generation() == entry.generation)
    }

    /// Whether a participant is alive.
    pub(crate) fn is_alive(&self, number: u16) -> bool {
        self.segment.participant(number).is_some_and(|participant| participant.alive)
    }

    /// Who holds a slot.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        self.segment.participants()
    }
}

impl Keeper for AtomicMatrix {
    fn thread_ends(&self, page: *mut LanePage) {
        // A forked child has none of them, and finds the locks as other threads may have left them.
        if self.check_process().is_ok() {
            self.give_back_lane(page);
        }
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
            let page = unsafe { &mut *cell.page };
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
