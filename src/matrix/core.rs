//! [`AtomicMatrix`]: one mapped segment with its heap, and the caches of this process's threads.

use super::heap::{Heap, Live, Refusal, ThreadCache};
use super::recovery::{Policy, Recovered, Recovery};
use super::thread_cache::STACK;
use super::threads::{self, CachePage, Keeper, Seats};
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::kernel::nap;
use crate::segment::directory::{Directory, NamedBlock};
use crate::segment::offsets::Offsets;
use crate::segment::region::MappedRegion;
use crate::segment::slot::Dead;
use crate::segment::{Options, Participant, Segment, SlotFound};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

/// How long a slot is waited for that is changing hands; and by a participant that leaves, others that are
/// just adopting blocks of its own, and may give them back. Then its slot stays, as if it had died.
const SLOT_WAIT: Duration = Duration::from_millis(200);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
/// Blocks, of any kind, that an ending thread walks over to give its slot back at once: some microseconds.
const QUICK_WALK: u32 = 4096;
/// Where there are more blocks, a process keeps one in so many of the segment's slots for its next threads,
/// before it walks for all of them.
const SPARE: usize = 16;

/// A mapped segment, its heap, and what this process keeps for it.
///
/// Users hold it through [`Handler`](crate::handlers::Handler)s; this is where they come from:
/// [`AtomicMatrix::bootstrap`], [`AtomicMatrix::attach`], [`AtomicMatrix::options`].
pub struct AtomicMatrix {
    // The heap's region points into the segment's mapping: declared first, dropped first.
    heap: Heap<MappedRegion>,
    serial: u32,
    offset_shift: u32,
    offsets: Offsets,
    /// Its threads' caches. The quickest steps find them in a matrix of the usual sort, which they are compiled
    /// for: biased, with the default granule, and offsets in bytes.
    seats: Seats,
    segment: Segment,
    /// Tells this mapping from every other one that this process ever made; never 0.
    instance: u64,
    /// Whether a forked child finds its parent's caches zeroed.
    wiped: bool,
    caches: Mutex<ThreadCaches>,
    /// What the layers above keep for as long as the segment is mapped. A forked child does not touch it.
    pub(crate) kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// A cache in memory that a forked child finds zeroed.
struct CacheCell {
    _memory: memmap2::MmapMut,
    page: *mut CachePage,
    /// The cache's participant number, which never changes.
    owner: u16,
}

/// Bytes of a page, and of a cache line.
const PAGE: usize = 4096;
const LINE: usize = 64;

impl CacheCell {
    /// Where the cache stands. All caches at the beginning of a page would share a few sets of the
    /// processor's cache: one thread's caches of many matrices begin a line further on each.
    fn page_of(memory: &mut memmap2::MmapMut, instance: u64) -> *mut CachePage {
        memory.as_mut_ptr().wrapping_add(instance as usize * LINE % PAGE).cast()
    }
}

/// This process's caches: all that exist, and those that no thread uses just now.
#[derive(Default)]
struct ThreadCaches {
    /// The first one is the process's home: blocks of ended threads become that cache's, and it stays.
    all: Vec<CacheCell>,
    idle: Vec<*mut CachePage>,
    /// Caches whose slots are just being given back.
    leaving: usize,
    /// When somebody was told last that there is no slot.
    refused: Option<Instant>,
}

// SAFETY: the pointers go to memory that `all` owns; each is used by one thread at a time.
unsafe impl Send for ThreadCaches {}

impl ThreadCaches {
    /// The idle ones but the home: their slots may go back to the segment.
    fn spare(&self) -> impl Iterator<Item = &CacheCell> {
        self.all.iter().skip(1).filter(|cell| self.idle.contains(&cell.page))
    }
}

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
        // A cache that a forked child would not find zeroed is not used before a look at who we are.
        let wiped = Native::wipes_on_fork();
        let is_usual = layout.is_usual() && layout.params.biased && offset_shift == 0 && wiped;
        // Now if it can be: descriptors and rights may be given up later. If not, the first call that needs
        // it says why.
        let _ = segment.life();
        Arc::new(Self {
            offsets: Offsets::new(layout, offset_shift),
            heap,
            instance,
            seats: Seats::new(is_usual),
            wiped,
            serial: segment.serial(),
            offset_shift,
            segment,
            caches: Mutex::default(),
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

    /// Marks this segment's pointers in this process: another segment's have another.
    #[inline(always)]
    pub(crate) fn serial(&self) -> u32 {
        self.serial
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

    fn caches(&self) -> MutexGuard<'_, ThreadCaches> {
        self.caches.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// This thread's cache, if this matrix is of the usual sort and the thread has one; or what the fork of
    /// this process has left of it: zeros, a cache that has nothing parked and is bound to no heap.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the cache is not part of the matrix: it is this thread's own page")]
    pub(crate) fn usual_cache(&self) -> Option<&mut ThreadCache> {
        let page = self.seats.usual(self.instance)?;
        // SAFETY: as in `cache`; and a cache of zeros is a cache.
        Some(unsafe { &mut (*page.as_ptr()).cache })
    }

    /// This thread's cache in this matrix, if it has one.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the cache is not part of the matrix: it is this thread's own page")]
    pub(crate) fn cache(&self) -> Option<&mut ThreadCache> {
        let page = self.seats.find(self.instance);
        if page.is_null() {
            return None;
        }
        // SAFETY: the instance is this matrix's, so the page is alive (`self.caches` owns it), and it is this
        // thread's alone. The reference is used for one operation, and operations do not nest (no user code
        // runs inside them).
        let page = unsafe { &mut *page };
        (page.instance == self.instance && (self.wiped || self.check_process().is_ok())).then_some(&mut page.cache)
    }

    /// The number that this process keeps as long as it has the segment mapped: what it is counted as among
    /// the users of a structure.
    pub(crate) fn home(self: &Arc<Self>) -> Result<u16> {
        // Before the lock, which a forked child finds as another thread may have left it.
        self.check_process()?;
        let first = || self.caches().all.first().map(|cell| cell.owner);
        match first() {
            Some(home) => Ok(home),
            None => {
                let own = self.with_cache(|cache| cache.owner())?;
                Ok(first().unwrap_or(own))
            }
        }
    }

    /// Runs `operation` with this thread's cache, which it gets at its first call.
    pub(crate) fn with_cache<T>(self: &Arc<Self>, operation: impl FnOnce(&mut ThreadCache) -> T) -> Result<T> {
        match self.cache() {
            Some(cache) => Ok(operation(cache)),
            None => self.with_new_cache(SLOT_WAIT, operation),
        }
    }

    /// Frees a block, as it was found: without a cache, if this thread has none and can't have one at once.
    pub(crate) fn free(
        self: &Arc<Self>,
        found: std::result::Result<Live, Refusal>,
    ) -> Result<std::result::Result<(), Refusal>> {
        let free = |cache: &mut ThreadCache| found.and_then(|live| self.heap.free_live(cache, live));
        if let Some(cache) = self.cache() {
            return Ok(free(cache));
        }
        self.check_process()?;
        let refused_lately = self.caches().refused.is_some_and(|when| when.elapsed() < SLOT_WAIT);
        if !refused_lately && let Ok(freed) = self.with_new_cache(Duration::ZERO, free) {
            return Ok(freed);
        }
        Ok(found.and_then(|live| self.heap.free_unaided(live.at, Some(live.header.generation()))))
    }

    #[cold]
    #[inline(never)]
    fn with_new_cache<T>(self: &Arc<Self>, wait: Duration, operation: impl FnOnce(&mut ThreadCache) -> T) -> Result<T> {
        let (page, kept) = self.new_cache(wait)?;
        // SAFETY: the page is this thread's, says `new_cache`.
        let result = operation(unsafe { &mut (*page).cache });
        if !kept {
            // The thread is ending and keeps nothing any more.
            self.give_back_cache(page);
        }
        Ok(result)
    }

    /// A cache for this thread alone, and whether the thread keeps it.
    fn new_cache(self: &Arc<Self>, wait: Duration) -> Result<(*mut CachePage, bool)> {
        self.check_process()?;
        let mut told = Told::default();
        let page = match self.idle_cache(wait, &mut told) {
            Ok(page) => page,
            Err(error) => {
                told.no_slot = matches!(error, Error::NoParticipantSlot { .. });
                self.caches().refused = Some(Instant::now());
                self.tell(&told);
                return Err(error);
            }
        };
        let keeper = Arc::downgrade(self);
        let kept = threads::keep(self.instance, page, keeper);
        // The cache is on record: who listens may use it, and may panic.
        self.tell(&told);
        // The page is this thread's: it was just taken from the idle ones, or made.
        Ok((page, kept))
    }

    /// A thread of this process has no use for its cache any more. Its slot goes back to the segment, unless
    /// it is the process's home, or there are many blocks and few idle slots: then the next thread takes it.
    fn give_back_cache(&self, page: *mut CachePage) {
        // SAFETY: the page is this thread's until it is idle, and `caches` has it mapped.
        let cache = unsafe { &mut (*page).cache };
        if cache.has_large() {
            self.heap.large().flush_large(cache);
        }
        self.caches().idle.push(page);
        self.leave_idle_slots(QUICK_WALK);
        // Others that ended at the same moment may have found too many blocks, too.
        if self.caches().spare().count() > self.heap.layout().params.participants / SPARE {
            self.leave_idle_slots(u32::MAX);
        }
    }

    /// Gives all idle slots back but the home, if there are no more than `most` blocks.
    fn leave_idle_slots(&self, most: u32) {
        let mut caches = self.caches();
        let Some(home) = caches.all.first().map(|home| home.owner) else { return };
        let leaving: Vec<_> = caches.spare().map(|cell| (cell.page, cell.owner)).collect();
        if leaving.is_empty() {
            return;
        }
        caches.idle.retain(|page| leaving.iter().all(|(leaving, _)| leaving != page));
        caches.leaving += leaving.len();
        drop(caches);
        // SAFETY: this thread has taken them from the idle ones.
        let left = unsafe { self.leave_for_home(&leaving, home, most) };
        let mut caches = self.caches();
        caches.leaving -= leaving.len();
        caches.idle.extend(leaving.iter().map(|(page, _)| *page).filter(|page| !left.contains(page)));
        caches.all.retain(|cell| !left.contains(&cell.page));
    }

    /// Gives slots of caches back that this process does not use, as far as that is possible; tells which.
    ///
    /// # Safety
    /// They are caches of this matrix, and the caller's alone.
    unsafe fn leave_for_home(&self, leaving: &[(*mut CachePage, u16)], home: u16, most: u32) -> Vec<*mut CachePage> {
        let numbers: Vec<u16> = leaving.iter().map(|(_, number)| *number).collect();
        let Some(open) = self.heap.ownership().pass_on(&numbers, home, most) else { return vec![] };
        let mut left = vec![];
        for &(page, number) in leaving.iter().filter(|(_, number)| !open.contains(number)) {
            // SAFETY: the caller's.
            self.heap.parking().retire(unsafe { &mut (*page).cache });
            self.segment.leave(number);
            left.push(page);
        }
        left
    }

    /// A forked child shares the parent's caches and participant numbers, so it may use none of them.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<()> {
        self.segment.check_process()
    }

    /// A cache that no thread uses: an idle one, or a new participant's. Where every slot is held, but one is
    /// changing hands, or is a dead one's whose blocks others are just adopting, that is waited for, no
    /// longer than `wait` (L1).
    fn idle_cache(&self, wait: Duration, told: &mut Told) -> Result<*mut CachePage> {
        if let Some(page) = self.caches().idle.pop() {
            return Ok(page);
        }
        let failed =
            |call: &str, source| Error::io(format!("get memory for a thread's parked blocks with {call}(2)"), source);
        let mut memory = memmap2::MmapMut::map_anon(size_of::<CachePage>() + PAGE).map_err(|e| failed("mmap", e))?;
        let page = CacheCell::page_of(&mut memory, self.instance);
        if self.wiped {
            let (start, length) = (memory.as_mut_ptr().cast(), memory.len());
            // SAFETY: an anonymous mapping of ours alone, page aligned, as long as asked for; nothing stands in it yet.
            unsafe { rustix::mm::madvise(start, length, rustix::mm::Advice::LinuxWipeOnFork) }
                .map_err(|e| failed("madvise", e.into()))?;
        }
        let (begun, mut tried) = (Instant::now(), vec![]);
        loop {
            if let Some(page) = self.caches().idle.pop() {
                return Ok(page);
            }
            let owner = match self.segment.find_slot(&tried)? {
                SlotFound::Free(owner) => owner,
                SlotFound::Dead(dead) => {
                    if !self.succeed(dead, told)? {
                        tried.push(dead.number);
                        continue;
                    }
                    dead.number
                }
                found => {
                    let may_change = found == SlotFound::Changing || !tried.is_empty() || self.caches().leaving > 0;
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
            let cache = unsafe { CachePage::write(page, self.instance, owner, ceiling) };
            if told.taken_over.contains(&owner) {
                self.heap.settle_all(cache);
                // What it has visited without a cache it may free now.
                let _ = self.heap.settle_links(cache, owner);
            }
            self.caches().all.push(CacheCell { _memory: memory, page, owner });
            return Ok(page);
        }
    }

    /// Recovers a dead participant whose number is reserved for this process, and takes the number. Others
    /// may help. False if it can't be used yet; then it is anybody's again.
    fn succeed(&self, dead: Dead, told: &mut Told) -> Result<bool> {
        let policy = self.policy();
        let mut recovery = Recovery::of(vec![dead], policy);
        let may_be_taken = self.heap.recoveries().recover_predecessor(&mut recovery);
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

    /// The same, so many tiles at a time, until `serve` is served: then the rest is for whoever needs it. (A
    /// walk that has not come to its end leaves the recovery in force, and the next one begins anew: what has
    /// been given back is merged, and soon walked over.)
    pub(crate) fn reap_until<T>(
        self: &Arc<Self>,
        policy: Policy,
        tiles: u32,
        mut serve: impl FnMut(&mut ThreadCache) -> Option<T>,
    ) -> Result<(Recovered, Option<T>)> {
        let mut told = Told::default();
        let result = self.with_cache(|cache| {
            let dead = self.segment.take_dead(cache.owner());
            if dead.is_empty() {
                return (told.all, None);
            }
            let mut recovery = Recovery::of(dead, policy);
            self.heap.recoveries().begin_recovery(Some(cache), &mut recovery);
            // A name is free again as soon as its block is known to be gone.
            self.retain_names();
            let served = loop {
                let whole = self.heap.recoveries().recover_tiles(Some(cache), &mut recovery, tiles);
                if whole {
                    self.heap.recoveries().end_recovery(cache, &mut recovery);
                    self.retain_names();
                    break serve(cache);
                }
                let served = serve(cache);
                if served.is_some() {
                    self.heap.recoveries().pause_recovery(cache, &mut recovery);
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
    fn published(&self, entry: NamedBlock) -> bool {
        let live = self.heap.live_at(self.offsets.granule(entry.offset));
        live.is_ok_and(|live| live.header.generation() == entry.generation)
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
    fn seats(&self) -> &Seats {
        &self.seats
    }
    fn thread_ends(&self, page: *mut CachePage) {
        // A forked child has none of them, and finds the locks as other threads may have left them.
        if self.check_process().is_ok() {
            self.give_back_cache(page);
        }
    }
}

impl Drop for AtomicMatrix {
    fn drop(&mut self) {
        // A forked child leaves everything to its parent.
        if self.check_process().is_err() {
            return;
        }
        let caches = self.caches.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut leaving = vec![];
        for cell in &mut caches.all {
            // SAFETY: no handler is left, so no thread is inside an operation, and none will find the page again: it
            // would have to come with a handler of this instance.
            let page = unsafe { &mut *cell.page };
            self.heap.parking().flush_near(&mut page.cache);
            page.cache.forget();
            leaving.push(page.cache.owner());
        }
        // Whoever only looked leaves nothing behind, and walks nothing.
        let mut open = if leaving.is_empty() { vec![] } else { self.heap.ownership().disown(&leaving) };
        let begun = Instant::now();
        while !open.is_empty() && begun.elapsed() < SLOT_WAIT {
            nap(BETWEEN_LOOKS);
            open = self.heap.ownership().disown(&leaving);
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
