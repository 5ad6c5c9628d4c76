//! Runs: free memory is cut to size. One block, or a run of blocks of one bin, which a cache parks.

use super::block_header::{Header, State};
use super::operation::Held;
use super::thread_cache::{STACK, ThreadCache};
use super::words::view;
use super::words::{HEADER_LINE, Heap};
use crate::backend::orderings::{HELD_LOOK, HELD_STORE};
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::Granule;
use crate::segment::region::Region;
use crate::segment::size_class::{BINS, Bin, EXACT};

/// What is looked for: so many granules at a multiple of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) size: u32,
    pub(super) align: u32,
}

impl Fit {
    /// Granules that surely have it, wherever they begin.
    pub(super) fn room(self) -> u32 {
        self.size.saturating_add(self.align - 1)
    }
}

/// Header lines of a run at most.
const RUN_LINES: u32 = 8;
/// Spans that an operation may hide while it cuts up a run (L2): with what lies between its end and the free
/// block's, less than a line.
pub const LARGEST_RUN: u32 = (RUN_LINES + 1) * HEADER_LINE;

/// Runs come before smaller free blocks while one free block has this part of the sector.
const RUNS_PART: u32 = 3;

/// A run of blocks of `size` granules, for a stack of `ceiling`, where a header line has the headers of
/// `line` granules: its blocks and its granules. It ends where a header line ends, unless it is shorter than
/// one.
const fn run_of(size: u32, ceiling: u32, line: u32) -> (u32, u32) {
    let most = RUN_LINES * line / size;
    let wanted = if most < ceiling { most } else { ceiling };
    let even =
        if size.trailing_zeros() < line.trailing_zeros() { size.trailing_zeros() } else { line.trailing_zeros() };
    // So many blocks fill whole lines.
    let whole = line >> even;
    let blocks = if wanted >= whole { wanted / whole * whole } else { wanted };
    let granules = blocks * size;
    (blocks, if granules > line { granules.next_multiple_of(line) } else { granules })
}

const _: () = {
    let (mut bin, line) = (4, HEADER_LINE << 2);
    while bin < BINS {
        let size = Bin(bin).size();
        let (blocks, run) = run_of(size, STACK as u32, line);
        assert!(run.is_multiple_of(line) && run <= RUN_LINES * line && run - blocks * size < line && line < EXACT);
        bin += 1;
    }
};

view! {
    /// How free memory is cut to size.
    pub(crate) struct Runs, runs
}

impl<R: Region> Runs<'_, R> {
    /// A block of `size` granules through the hints, held.
    pub(super) fn find_and_take(self, cache: &mut ThreadCache, size: u32) -> Option<Held> {
        loop {
            let (g, header) = self.heap.hints().find(cache, size)?;
            if let Some(held) = self.heap.operations().take(cache, g, header, size) {
                return Some(held);
            }
            R::Backend::pause();
        }
    }

    /// A block that begins well, through the hints, held: where no block has room for it wherever that begins.
    pub(super) fn find_and_take_aligned(self, cache: &mut ThreadCache, asked: Fit) -> Option<Held> {
        if asked.align == 1 {
            return None;
        }
        loop {
            let fits = |g, size| self.tail_for(asked, g, size);
            let (g, header, tail) = self.heap.hints().find_fitting(asked.size, asked.room(), fits)?;
            if let Some(held) = self.heap.operations().take(cache, g, header, tail) {
                return Some(held);
            }
            R::Backend::pause();
        }
    }

    /// The granules to cut off the tail of a free block so that they begin with what is looked for, if the
    /// block has it.
    pub(super) fn tail_for(self, asked: Fit, at: Granule, size: u32) -> Option<u32> {
        let end = at.0 + size;
        let last = end.checked_sub(asked.size).filter(|&last| last >= at.0)?;
        let first = Granule(last - last % asked.align);
        // What would remain in front must have a span of its own.
        let first = if self.heap.layout().span(first) == self.heap.layout().span(at) { at } else { first };
        (first >= at && first.0.is_multiple_of(asked.align)).then(|| end - first.0)
    }

    /// Gives back what a held block has before the first multiple of `align` and behind `size`, as far as it
    /// has spans of its own.
    pub(super) fn trim(self, cache: &mut ThreadCache, mut held: Held, size: u32, align: u32) -> Held {
        let before = held.at.0.next_multiple_of(align) - held.at.0;
        if before > 0 {
            let (front, rest) = self.heap.operations().split_held(cache, held, before);
            self.heap.operations().ripple(cache, front);
            held = rest;
        }
        self.shorten(cache, held, size)
    }

    /// Gives back what a held block has behind `size`, if that has a span of its own.
    pub(super) fn shorten(self, cache: &mut ThreadCache, held: Held, size: u32) -> Held {
        let rest = held.header.size().saturating_sub(size);
        if rest == 0 || self.heap.spans(held.at.plus(size), rest) == 0 {
            return held;
        }
        let (block, rest) = self.heap.operations().split_held(cache, held, size);
        self.heap.operations().ripple(cache, rest);
        block
    }

    /// Cuts one contiguous run from a free block, keeps the first block and parks the rest; or one block of `room`
    /// granules where no run is to be had. The run begins and ends at a cache line of headers: a cache's parked blocks
    /// lie in header lines that no other cache writes.
    ///
    /// Where no free block has a third of the sector, one of the smallest that have room for one block serves, and
    /// is cut for that alone if it has none for a run. Else small free blocks would be passed by while runs take
    /// large ones to pieces.
    pub(super) fn carve(self, cache: &mut ThreadCache, bin: Bin, room: u32) -> Option<Held> {
        let (hints, line) = (self.heap.hints(), self.heap.header_line());
        let (blocks, run) = run_of(bin.size(), cache.stacks[bin.0].ceiling() as u32, line);
        if blocks < 2 {
            return self.find_and_take(cache, room);
        }
        loop {
            let one_is_large = hints.find(cache, self.heap.layout().granules / RUNS_PART).is_some();
            let for_run = if one_is_large { hints.find(cache, run + line - 1) } else { None };
            let (g, header) = for_run.or_else(|| hints.find(cache, room))?;
            let has_run = header.size() >= run + line - 1;
            // From the tail, and so much more that the run begins where a header line does.
            let size = if has_run { run + (g.0 + header.size() - run) % line } else { room };
            match self.heap.operations().take(cache, g, header, size) {
                Some(held) if has_run => {
                    let held = self.shorten(cache, held, run);
                    return Some(self.cut_up(cache, bin, held, blocks));
                }
                Some(held) => return Some(held),
                None => R::Backend::pause(),
            }
        }
    }

    /// Cuts a held run into `blocks` blocks of the bin: the first stays held, the others are parked. What is
    /// left over is parked as a block of its own size, or merged where that size's stack is full; less than a span
    /// makes the last block larger.
    ///
    /// All heads are COALESCING until the run's own word has shrunk: an ACKED head under it could be taken by a stale
    /// index while the run still covers it (S1 after a crash).
    fn cut_up(self, cache: &mut ThreadCache, bin: Bin, run: Held, blocks: u32) -> Held {
        let (size, owner) = (bin.size(), cache.owner);
        let early = R::Backend::mutated(Mutant::CarveAckedEarly);
        let over = run.header.size() - blocks * size;
        let pieces = blocks + (over > self.heap.layout().span_mask) as u32;
        let piece = |i: u32| {
            let at = i * size;
            let length = if i + 1 == pieces { run.header.size() - at } else { size };
            (run.at.plus(at), length)
        };
        for i in 1..pieces {
            let (g, length) = piece(i);
            let word = self.heap.header(g);
            let generation = Header(word.load(&HELD_LOOK)).next_generation();
            let state = if early { State::Acked } else { State::Coalescing };
            word.store(Header::new(state, owner, generation, self.heap.place(g, length)).0, &HELD_STORE);
        }
        let (_, length) = piece(0);
        let first =
            Header::new(State::Coalescing, owner, run.header.next_generation(), self.heap.place(run.at, length));
        self.heap.header(run.at).store(first.0, &HELD_STORE);
        for i in (1..pieces).rev() {
            let (g, length) = piece(i);
            let generation = Header(self.heap.header(g).load(&HELD_LOOK)).generation();
            let held = |state| Header::new(state, owner, generation, self.heap.place(g, length));
            match self.heap.layout().bin_of(length).filter(|&own| own == bin || cache.stacks[own.0].has_room()) {
                Some(own) => {
                    if !early {
                        self.heap.header(g).store(held(State::Acked).0, &HELD_STORE);
                    }
                    self.heap.parking().remember(cache, own, g);
                }
                None => drop(self.heap.operations().ripple(cache, Held { at: g, header: held(State::Coalescing) })),
            }
        }
        self.heap.news().gave(cache);
        Held { at: run.at, header: first }
    }
}
