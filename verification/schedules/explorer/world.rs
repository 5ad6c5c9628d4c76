//! A heap under the schedule, with marks of who owns which granule.

#![allow(dead_code, reason = "each test binary uses a part")]

use super::linear::Span;
use super::turns::{Scheduled, moment, unseen};
use atomic_matrix::backend::Word;
use atomic_matrix::backend::orderings::{HAZARD_LOOK, HINT_CLEAR, OP_READ, SLOT_WRITE};
use atomic_matrix::matrix::block_header::State;
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::matrix::operation::Op;
use atomic_matrix::matrix::size_class::EXACT;
use atomic_matrix::segment::layout::{CHUNK, Granule, Layout, Params, SlotWord};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use atomic_matrix::segment::size_class::Larges;
use std::cell::{Cell, RefCell};

/// The heap of a scenario, and what its players know of their blocks.
pub(crate) struct World {
    pub(crate) heap: Heap<BoxedRegion<Scheduled>>,
    /// The owner of each granule; 0 is nobody (S1).
    marks: RefCell<Vec<u16>>,
    /// Granules that are live or not wholly freed yet (L2).
    live: Cell<u32>,
    /// Every block that there was, and every request that was refused, with the moments.
    lives: RefCell<Vec<Life>>,
    /// Size and alignment of each such request.
    refusals: RefCell<Vec<Span<(u32, u32)>>>,
}

/// Granules that were not free for a while: from when their allocation began to when their free had ended.
struct Life {
    granules: std::ops::Range<usize>,
    from: u64,
    to: Option<u64>,
    /// Who was merging the block when its free had ended: it may be hidden until that one's operation ends.
    merging: Option<u16>,
}

impl World {
    /// Every third size has biased parking.
    pub(crate) fn of(granules: u32, granule_shift: u32) -> Self {
        Self::with(granules, granules.is_multiple_of(3), granule_shift)
    }

    /// With biased parking or without, with granules of `1 << granule_shift` bytes: below 64, several share a header.
    pub(crate) fn with(granules: u32, biased: bool, granule_shift: u32) -> Self {
        Self::with_larges(granules, biased, granule_shift, Larges::USUAL)
    }

    /// The same, with blocks that are large from fewer granules on.
    pub(crate) fn with_larges(granules: u32, biased: bool, granule_shift: u32, larges: Larges) -> Self {
        super::turns::begin();
        let params = Params {
            granule_shift,
            participants: 8,
            batches: 1,
            directory: 3,
            header_words: 2,
            line_words: 1,
            biased,
            larges,
        };
        let heap = Heap::format(BoxedRegion::new(Layout::new(granules, params)));
        Self {
            heap,
            marks: RefCell::new(vec![0; granules as usize]),
            live: Cell::new(0),
            lives: RefCell::default(),
            refusals: RefCell::default(),
        }
    }

    /// With biased parking, and a live block behind the granules: within them the quick ways serve, which
    /// stand back where the largest of their sizes would not fit.
    pub(crate) fn roomy(granules: u32, granule_shift: u32) -> Self {
        let world = Self::with(granules + EXACT - 1, true, granule_shift);
        let behind = world.heap.allocate(&mut ThreadCache::with_ceiling(8, 0), EXACT - 1, 1, Kind::Raw);
        assert_eq!(behind.map(|live| live.at.0), Ok(granules));
        world
    }

    /// Participants from 1 on are of these processes.
    pub(crate) fn set_processes(&self, processes: &[u64]) {
        for (number, &process) in (1..).zip(processes) {
            self.heap.region().word(self.heap.layout().slot(number, SlotWord::Process)).store(process, &SLOT_WRITE);
        }
    }

    /// Whoever looks for a free block by the hints does not find the one that begins here.
    pub(crate) fn lose_hint(&self, g: Granule) {
        let span = self.heap.layout().span(g) as usize;
        let leaf = self.heap.region().word(self.heap.layout().leaf(span / CHUNK));
        leaf.fetch_and(!(1 << (span % CHUNK)), &HINT_CLEAR);
    }

    pub(crate) fn granules(&self) -> u32 {
        self.heap.layout().granules
    }
    /// Granules that are live or not wholly freed yet.
    pub(crate) fn live(&self) -> u32 {
        self.live.get()
    }

    /// The allocation has returned: nobody else has any of it (S1), and it is what was asked for (S2).
    pub(crate) fn claim(&self, block: Live, owner: u16, size: u32, align: u32) {
        assert!(block.header.size() >= size && block.at.0.is_multiple_of(align), "S2: {block:?} for {size} at {align}");
        for mark in &mut self.marks.borrow_mut()[block.at.index()..][..block.header.size() as usize] {
            assert_eq!(std::mem::replace(mark, owner), 0, "S1: {block:?}");
        }
        self.live.set(self.live.get() + block.header.size());
    }

    /// Allocates and claims.
    pub(crate) fn allocate(&self, cache: &mut ThreadCache, size: u32, align: u32, kind: Kind) -> Option<Live> {
        let from = moment();
        let block = self.heap.allocate(cache, size, align, kind);
        self.operation_ends(cache.owner());
        let Ok(block) = block else {
            let call = (size.max(self.heap.layout().span_mask + 1), align);
            self.refusals.borrow_mut().push(Span { call, from, to: moment() });
            return None;
        };
        self.claim(block, cache.owner(), size, align);
        let granules = block.at.index()..block.at.index() + block.header.size() as usize;
        // Where spans have several granules, less than a span behind it may have been taken with it, and given back; and
        // for the alignment as much on both sides as it may take.
        let room = self.heap.layout().span_mask as usize;
        let behind = align as usize - 1 + room;
        let front = if align > 1 { behind } else { 0 };
        let besides = granules.start.saturating_sub(front)..(granules.end + behind).min(self.granules() as usize);
        let in_flight = Life { granules: besides, from, to: Some(moment()), merging: None };
        let life = Life { granules, from, to: None, merging: None };
        self.lives.borrow_mut().extend([in_flight, life]);
        Some(block)
    }

    /// Heals.
    pub(crate) fn heal(&self, cache: &mut ThreadCache) {
        self.heap.heal(cache);
        self.operation_ends(cache.owner());
    }

    fn operation_ends(&self, owner: u16) {
        let mut lives = self.lives.borrow_mut();
        for life in lives.iter_mut().filter(|life| life.merging == Some(owner)) {
            (life.to, life.merging) = (Some(moment()), None);
        }
    }

    /// L2, in strict mode, where nobody has stopped: no request was refused while room that fits, size and alignment,
    /// was free from the request's beginning to its end.
    pub(crate) fn no_refusal_was_wrong(&self) {
        let lives = self.lives.borrow();
        for refusal in self.refusals.borrow().iter() {
            let mut taken = vec![false; self.granules() as usize];
            let during = |life: &&Life| life.from < refusal.to && life.to.is_none_or(|to| to > refusal.from);
            lives.iter().filter(during).for_each(|life| taken[life.granules.clone()].fill(true));
            let (size, align) = refusal.call;
            // What is left in front has a span at least, where several granules share a header.
            let front =
                if align > 1 && self.heap.layout().span_mask > 0 { self.heap.layout().span_mask + 1 } else { 0 };
            let aligned = (0..taken.len().saturating_sub(size as usize - 1)).step_by(align as usize);
            let free = |at: usize| Some(&taken[at.checked_sub(front as usize)?..at + size as usize]);
            let mut fits = aligned.filter(|&at| free(at).is_some_and(|room| !room.contains(&true)));
            assert_eq!(fits.next(), None, "L2: {size} at a multiple of {align} refused while room for it was free");
        }
    }

    /// The block is about to be freed: from now on somebody else may have it.
    pub(crate) fn give_up(&self, block: Live, owner: u16) {
        for mark in &mut self.marks.borrow_mut()[block.at.index()..][..block.header.size() as usize] {
            assert_eq!(std::mem::replace(mark, 0), owner, "S1: {block:?}");
        }
    }

    /// Whether large blocks are parked that this participant has parked, or others for it.
    pub(crate) fn keeps_large(&self, owner: u16) -> bool {
        let mut found = false;
        let large = |size| self.heap.layout().large_bin(size).is_some();
        self.heap
            .walk(|_, header| found |= header.is_given_up() && header.parked_by() == owner && large(header.size()))
            .expect("S4");
        found
    }

    /// Frees a block of `cache`'s.
    pub(crate) fn free(&self, cache: &mut ThreadCache, block: Live) {
        self.free_of(cache, block, cache.owner());
    }

    /// Frees a block of `owner`'s.
    pub(crate) fn free_of(&self, cache: &mut ThreadCache, block: Live, owner: u16) {
        self.give_up(block, owner);
        self.heap.free(cache, block.at, Some(block.header.generation())).expect("S5: it is live and ours");
        self.operation_ends(cache.owner());
        self.live.set(self.live.get() - block.header.size());
        let now = unseen(|| self.heap.look(block.at));
        let mut lives = self.lives.borrow_mut();
        let life = lives
            .iter_mut()
            .find(|life| life.to.is_none() && life.merging.is_none() && life.granules.start == block.at.index());
        if let Some(life) = life {
            let merges = now.state() == State::Coalescing && now.owner() != cache.owner();
            (life.to, life.merging) = if merges { (None, Some(now.owner())) } else { (Some(moment()), None) };
        }
    }

    /// Resizes a block of `cache`'s: nobody else has what it grows over, and others may have what it gives back.
    pub(crate) fn resize(&self, cache: &mut ThreadCache, block: Live, size: u32) -> Live {
        let (owner, has) = (cache.owner(), block.header.size());
        let kept = size.max(self.heap.layout().span_mask + 1).min(has);
        let mark = |range: std::ops::Range<u32>, from: u16, to: u16| {
            for mark in &mut self.marks.borrow_mut()[block.at.index()..][range.start as usize..range.end as usize] {
                assert_eq!(std::mem::replace(mark, to), from, "S1: {block:?} to {size}");
            }
        };
        mark(kept..has, owner, 0);
        let resized = self.heap.resizing().resize(cache, block, size);
        assert!(resized.is_none_or(|now| now.at == block.at && now.header.size() >= size), "S2: {resized:?}");
        let now = resized.unwrap_or(block);
        mark(kept..now.header.size(), 0, owner);
        self.live.set(self.live.get() + now.header.size() - has);
        now
    }

    /// A block goes from one owner to another.
    pub(crate) fn change_hands(&self, block: Live, from: u16, to: u16) {
        self.give_up(block, from);
        self.marks.borrow_mut()[block.at.index()..][..block.header.size() as usize].fill(to);
        self.heap.ownership().give_to(block, to).expect("it is live");
    }

    /// The owner has died: its blocks may be given to others from now on.
    pub(crate) fn bury(&self, owner: u16) {
        self.marks.borrow_mut().iter_mut().filter(|mark| **mark == owner).for_each(|mark| *mark = 0);
    }

    /// L2: with everybody at rest but those who have stopped for ever, whatever is free can be had: the
    /// largest run of neighbours that are not live is allocated and freed. A stopped participant may hide a
    /// block of `hidden` granules.
    pub(crate) fn nothing_is_hidden(&self, cache: &mut ThreadCache, hidden: u32) {
        let (mut hole, mut largest) = (0, 0);
        let walked = self.heap.walk(|g, header| {
            let held = header.state() == State::Coalescing;
            // A parked block that its stopped owner was about to store stays with that one.
            let hazard = self
                .heap
                .region()
                .word(self.heap.layout().slot(header.parked_by(), SlotWord::Hazard))
                .load(&HAZARD_LOOK);
            let named = header.is_given_up() && hazard == g.0 as u64 + 1;
            if header.is_live() || named || held && header.size() <= hidden {
                hole = 0;
                return;
            }
            let op = self.heap.region().word(self.heap.layout().slot(header.owner(), SlotWord::Op)).load(&OP_READ);
            match Op::decode(op) {
                // Its tail is the stopped one's.
                Op::Cut { at, size } if held && at == g => {
                    largest = largest.max(hole + header.size() - size);
                    hole = 0;
                }
                _ => hole += header.size(),
            }
            largest = largest.max(hole);
        });
        walked.unwrap_or_else(|fault| panic!("S4: {fault}"));
        // A fragment shorter than a span serves nobody until it is merged.
        if largest > self.heap.layout().span_mask {
            let block = self.allocate(cache, largest, 1, Kind::Raw);
            let block = block.unwrap_or_else(|| panic!("L2: {largest} granules are free, and refused"));
            self.free(cache, block);
        }
    }
}
