//! The published design, as a model: why this project's heap has another shape.
//!
//! Blocks carry a header inside the sector (size, state, left neighbour, next of its list); free blocks of a
//! class form a stack whose head is a bare offset; two levels of bitmap say which stacks are not empty; a
//! free takes the block's size and swallows free neighbours to its left. The steps, their order and their
//! memory orderings are those of release 0.4.1 of the crate; the code is not. What it checks or writes beside
//! (signature, time stamps, bounds of the file) is left out, and an allocation tries three times, not 512.
//!
//! [`Repair`] mends one step at a time, so that a failure can be traced to the step that causes it. The model says
//! nothing about this crate's heap.

pub(crate) mod trace;

use atomic_matrix::backend::{Backend, Site, Word};
use std::sync::atomic::Ordering;
use trace::{Done, Op, Place};

/// Bytes of a header.
pub(crate) const HEADER: u32 = 48;
/// The offset of the first block: 0 means no block.
pub(crate) const ORIGIN: u32 = 16;
/// Rows of classes: sizes below 128, then one for each power of two. Enough for sectors below 1 KiB.
const ROWS: usize = 4;
/// Attempts of an allocation.
const ATTEMPTS: usize = 3;

pub(crate) const FREE: u32 = 0;
pub(crate) const ALLOCATED: u32 = 1;
pub(crate) const ACKED: u32 = 2;
pub(crate) const COALESCING: u32 = 3;
/// The states' names.
pub(crate) const STATES: [&str; 4] = ["FREE", "ALLOCATED", "ACKED", "COALESCING"];

/// A size class: row and column.
pub(crate) type Class = (usize, usize);

/// The class of a size: 16-byte steps below 128, then eight steps for each power of two.
pub(crate) fn class(size: u32) -> Class {
    if size < 128 {
        return (0, (size / 16) as usize);
    }
    let power = size.ilog2();
    (((power - 6) as usize).min(ROWS - 1), (size >> (power - 3) & 7) as usize)
}

const fn site(name: &'static str, order: Ordering, fail: Ordering) -> Site {
    Site { name, index: 63, order, fail, pairs: "", serves: "" }
}
static LOOK: Site = site("LOOK", Ordering::Acquire, Ordering::Relaxed);
static PUT: Site = site("PUT", Ordering::Release, Ordering::Relaxed);
static SWAP: Site = site("SWAP", Ordering::AcqRel, Ordering::Relaxed);
static SEIZE: Site = site("SEIZE", Ordering::Acquire, Ordering::Relaxed);
static FULL: Site = site("FULL", Ordering::SeqCst, Ordering::Relaxed);

/// A step that is done otherwise than the published design does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Each change of a head advances a tag in it.
    TagHeads,
    /// Who has cleared a bit looks at the head again, and sets the bit again if a block has come.
    LookAgain,
    /// A popped block is claimed by compare-and-swap from FREE.
    ClaimState,
    /// The same, from the state word that was read before the pop, in which each change advances a tag.
    ClaimWhole,
    /// A free is one compare-and-swap from ALLOCATED to COALESCING, so that nobody else merges a block being freed.
    FreeBySwap,
    /// A block becomes FREE after it is listed, not before.
    ListThenFree,
    /// A merge takes the merged block out of its list. Sequential: a stack has no removal from its middle.
    Unlink,
    /// The search is by total size, rounded up to a class all of whose blocks fit.
    SearchByTotal,
    /// Only a remainder with room for a header and 16 bytes is split off.
    SplitWithRoom,
    /// A split tells the right-hand neighbour about its new left neighbour.
    LinkRight,
    /// A free merges to the right as well. Sequential.
    MergeRight,
    /// A size that cannot be rounded up is refused.
    CheckSize,
    /// A size stays in its header while its block is being merged.
    KeepSize,
}

/// A block of a scenario's start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) name: &'static str,
    /// Bytes, header included.
    pub(crate) size: u32,
    /// FREE or ALLOCATED.
    pub(crate) state: u32,
}

/// A free block of a scenario's start.
pub(crate) const fn free(name: &'static str, size: u32) -> Block {
    Block { name, size, state: FREE }
}

/// A live block of a scenario's start.
pub(crate) const fn live(name: &'static str, size: u32) -> Block {
    Block { name, size, state: ALLOCATED }
}

/// A live block: what an allocation answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) at: u32,
    /// Bytes asked for.
    pub(crate) asked: u32,
    /// Bytes of the block, header included.
    pub(crate) size: u32,
}

/// The published heap.
pub(crate) struct Published<B: Backend> {
    repairs: &'static [Repair],
    first: B::Word,
    second: Vec<B::Word>,
    heads: Vec<B::Word>,
    /// Size, state, left neighbour, next: at every place where a header may begin.
    headers: Vec<[B::Word; 4]>,
    end: u32,
    names: Vec<(u32, &'static str)>,
}

impl<B: Backend> Published<B> {
    /// A sector of the given blocks, the free ones listed: of a class, the first is the head.
    pub(crate) fn new(blocks: &[Block], repairs: &'static [Repair]) -> Self {
        let end = ORIGIN + blocks.iter().map(|block| block.size).sum::<u32>();
        let mut headers = vec![[0; 4]; (end / 16) as usize + 2];
        let (mut first, mut second, mut heads) = (0, [0; ROWS], [0; ROWS * 8]);
        let (mut names, mut at, mut prev) = (Vec::new(), ORIGIN, 0);
        for block in blocks {
            headers[(at / 16) as usize] = [block.size.into(), block.state.into(), prev.into(), 0];
            names.push((at, block.name));
            prev = at;
            at += block.size;
        }
        for ((at, _), block) in names.iter().zip(blocks).rev().filter(|(_, block)| block.state == FREE) {
            let (row, column) = class(block.size);
            headers[(at / 16) as usize][3] = heads[row * 8 + column];
            heads[row * 8 + column] = (*at).into();
            second[row] |= 1 << column;
            first |= 1 << row;
        }
        Self {
            repairs,
            first: B::word(first),
            second: second.map(B::word).into(),
            heads: heads.map(B::word).into(),
            headers: headers.into_iter().map(|words| words.map(B::word)).collect(),
            end,
            names,
        }
    }

    /// The offset of a block by its name.
    pub(crate) fn at(&self, name: &str) -> u32 {
        self.names.iter().find(|(_, known)| *known == name).expect("a block's name").0
    }

    fn has(&self, repair: Repair) -> bool {
        self.repairs.contains(&repair)
    }

    fn word(&self, place: Place) -> &B::Word {
        let header = |at: u32, field: usize| &self.headers[(at / 16) as usize][field];
        match place {
            Place::First => &self.first,
            Place::Second(row) => &self.second[row],
            Place::Head((row, column)) => &self.heads[row * 8 + column],
            Place::Size(at) => header(at, 0),
            Place::State(at) => header(at, 1),
            Place::Prev(at) => header(at, 2),
            Place::Next(at) => header(at, 3),
        }
    }

    fn load(&self, op: Op, place: Place) -> u64 {
        let value = self.word(place).load(&LOOK);
        op.note(place, Done::Read(value));
        value
    }
    fn store(&self, op: Op, place: Place, value: u32) {
        self.word(place).store(value.into(), &PUT);
        op.note(place, Done::Wrote(value.into()));
    }
    fn swap(&self, op: Op, place: Place, old: u64, new: u64, site: &'static Site) -> bool {
        let result = self.word(place).cas(old, new, site);
        op.note(place, result.map_or_else(|found| Done::Refused(old, found), |_| Done::Swapped(old, new)));
        result.is_ok()
    }
    fn set_bits(&self, op: Op, place: Place, bits: u64) {
        let old = self.word(place).fetch_or(bits, &PUT);
        op.note(place, Done::Changed(old, old | bits));
    }
    fn clear_bits(&self, op: Op, place: Place, bits: u64) {
        let old = self.word(place).fetch_and(!bits, &PUT);
        op.note(place, Done::Changed(old, old & !bits));
    }

    /// A value to follow `old`, under a tag one higher if the repair is on.
    fn follow(&self, old: u64, value: u32, repair: Repair) -> u64 {
        let tag = if self.has(repair) { (old >> 32) + 1 } else { 0 };
        tag << 32 | u64::from(value)
    }

    /// Writes a state whatever it was before.
    fn set_state(&self, op: Op, at: u32, state: u32) {
        if self.has(Repair::ClaimWhole) {
            let old = self.word(Place::State(at)).load(&LOOK);
            let new = self.follow(old, state, Repair::ClaimWhole);
            self.word(Place::State(at)).store(new, &PUT);
            op.note(Place::State(at), Done::Wrote(new));
        } else {
            self.store(op, Place::State(at), state);
        }
    }

    /// Changes a state from one of those given: whether it did.
    fn claim(&self, op: Op, at: u32, from: &[u32], to: u32, site: &'static Site) -> bool {
        let place = Place::State(at);
        loop {
            let old = self.load(op, place);
            if !from.contains(&(old as u32)) {
                return false;
            }
            if self.swap(op, place, old, self.follow(old, to, Repair::ClaimWhole), site) {
                return true;
            }
            B::pause();
        }
    }

    fn hint(&self, op: Op, (row, column): Class) {
        self.set_bits(op, Place::First, 1 << row);
        self.set_bits(op, Place::Second(row), 1 << column);
    }

    fn insert(&self, op: Op, at: u32, class: Class) {
        loop {
            let head = self.load(op, Place::Head(class));
            self.store(op, Place::Next(at), head as u32);
            if self.swap(op, Place::Head(class), head, self.follow(head, at, Repair::TagHeads), &SWAP) {
                break;
            }
            B::pause();
        }
        self.hint(op, class);
    }

    /// Takes the first block of a class: its offset, and its state as it was before.
    fn pop(&self, op: Op, class: Class) -> Option<(u32, u64)> {
        loop {
            let head = self.load(op, Place::Head(class));
            let at = head as u32;
            if at == 0 {
                return None;
            }
            let state = if self.has(Repair::ClaimWhole) { self.load(op, Place::State(at)) } else { 0 };
            let next = self.load(op, Place::Next(at)) as u32;
            if self.swap(op, Place::Head(class), head, self.follow(head, next, Repair::TagHeads), &SWAP) {
                if next == 0 {
                    self.unhint(op, class);
                }
                return Some((at, state));
            }
            B::pause();
        }
    }

    fn unhint(&self, op: Op, class: Class) {
        let (row, column) = class;
        self.clear_bits(op, Place::Second(row), 1 << column);
        if self.load(op, Place::Second(row)) == 0 {
            self.clear_bits(op, Place::First, 1 << row);
        }
        if self.has(Repair::LookAgain) && self.load(op, Place::Head(class)) as u32 != 0 {
            self.hint(op, class);
        }
    }

    /// Takes a merged block out of the list of its class: as published, whatever block is the first.
    fn unlist(&self, op: Op, at: u32, class: Class) {
        if !self.has(Repair::Unlink) {
            self.pop(op, class);
            return;
        }
        let mut place = Place::Head(class);
        loop {
            match self.load(op, place) as u32 {
                0 => break,
                found if found == at => {
                    let next = self.load(op, Place::Next(at)) as u32;
                    self.store(op, place, next);
                    if self.load(op, Place::Head(class)) == 0 {
                        self.unhint(op, class);
                    }
                    break;
                }
                other => place = Place::Next(other),
            }
        }
    }

    fn find(&self, op: Op, (row, column): Class) -> Option<Class> {
        let columns = self.load(op, Place::Second(row)) & !0 << column;
        if columns != 0 {
            return Some((row, columns.trailing_zeros() as usize));
        }
        let rows = self.load(op, Place::First) & !0 << (row + 1);
        if rows == 0 {
            return None;
        }
        let row = rows.trailing_zeros() as usize;
        let columns = self.load(op, Place::Second(row));
        (columns != 0).then(|| (row, columns.trailing_zeros() as usize))
    }

    /// The class to search for a payload of `size`.
    fn wanted(&self, size: u32) -> Class {
        if !self.has(Repair::SearchByTotal) {
            return class(size);
        }
        let total = size + HEADER;
        class(if total < 128 { total } else { total + (1 << (total.ilog2() - 3)) - 1 })
    }

    /// Allocates.
    pub(crate) fn allocate(&self, thread: u8, asked: u32) -> Option<Live> {
        let op = Op::begin(thread, format!("allocate({asked})"));
        let live = self.try_allocate(op, asked).map(|(at, size)| Live { at, asked, size });
        op.end(match live {
            Some(live) => format!("= {}, {} bytes with header", self.name(live.at), live.size),
            None => "= out of memory".into(),
        });
        live
    }

    fn try_allocate(&self, op: Op, asked: u32) -> Option<(u32, u32)> {
        if self.has(Repair::CheckSize) && asked > u32::MAX - 15 - HEADER {
            return None;
        }
        let size = (asked.wrapping_add(15) & !15).max(HEADER);
        let wanted = if size > self.end { (ROWS - 1, 7) } else { self.wanted(size) };
        for _ in 0..ATTEMPTS {
            if let Some(at) = self.find(op, wanted).and_then(|class| self.take(op, class)) {
                return Some((at, self.split(op, at, size)));
            }
            B::pause();
        }
        None
    }

    /// Pops a block of a class and makes it ALLOCATED.
    fn take(&self, op: Op, class: Class) -> Option<u32> {
        let (at, state) = self.pop(op, class)?;
        if self.has(Repair::ClaimWhole) {
            let new = self.follow(state, ALLOCATED, Repair::ClaimWhole);
            return (state as u32 == FREE && self.swap(op, Place::State(at), state, new, &SWAP)).then_some(at);
        }
        if self.has(Repair::ClaimState) {
            return self.swap(op, Place::State(at), FREE.into(), ALLOCATED.into(), &SWAP).then_some(at);
        }
        self.store(op, Place::State(at), ALLOCATED);
        Some(at)
    }

    /// Cuts off what is too much: the bytes that are left.
    fn split(&self, op: Op, at: u32, size: u32) -> u32 {
        let total = self.load(op, Place::Size(at)) as u32;
        let least = if self.has(Repair::SplitWithRoom) { HEADER + 16 } else { 0 };
        if total < size + HEADER + least {
            return total;
        }
        let (rest, remainder) = (at + size + HEADER, total - size - HEADER);
        if rest < self.end {
            self.store(op, Place::Size(rest), remainder);
            self.set_state(op, rest, FREE);
            self.store(op, Place::Prev(rest), at);
            self.store(op, Place::Next(rest), 0);
        }
        if self.has(Repair::LinkRight) && rest + remainder < self.end {
            self.store(op, Place::Prev(rest + remainder), rest);
        }
        self.store(op, Place::Size(at), size + HEADER);
        B::fence(&FULL);
        self.insert(op, rest, class(remainder));
        size + HEADER
    }

    /// Frees: whether it was accepted. As published it always is.
    pub(crate) fn free(&self, thread: u8, at: u32) -> bool {
        let op = Op::begin(thread, format!("free({})", self.name(at)));
        let accepted = if self.has(Repair::FreeBySwap) {
            self.claim(op, at, &[ALLOCATED], COALESCING, &SWAP)
        } else {
            self.set_state(op, at, ACKED);
            true
        };
        if accepted {
            self.coalesce(op, at);
        }
        op.end(if accepted { "is done".into() } else { "is refused".into() });
        accepted
    }

    fn take_size(&self, op: Op, at: u32) -> u32 {
        if self.has(Repair::KeepSize) {
            return self.load(op, Place::Size(at)) as u32;
        }
        let size = self.word(Place::Size(at)).fetch_and(0, &SWAP);
        op.note(Place::Size(at), Done::Changed(size, 0));
        size as u32
    }

    /// The ripple: swallows free neighbours to the left, and lists what comes of it.
    fn coalesce(&self, op: Op, at: u32) {
        let mut total = self.take_size(op, at);
        if total < HEADER {
            return;
        }
        let mut first = at;
        loop {
            if at == ORIGIN {
                break;
            }
            let prev = self.load(op, Place::Prev(first)) as u32;
            if prev == 0 || !self.claim(op, prev, &[ACKED, FREE], COALESCING, &SEIZE) {
                break;
            }
            let size = self.take_size(op, prev);
            if size == 0 || prev >= at || size > self.end {
                break;
            }
            total += size;
            first = prev;
            self.unlist(op, prev, class(size));
        }
        if self.has(Repair::MergeRight) {
            while first + total < self.end && self.claim(op, first + total, &[FREE], COALESCING, &SEIZE) {
                let right = first + total;
                let size = self.take_size(op, right);
                self.unlist(op, right, class(size));
                total += size;
            }
        }
        if first + total < self.end {
            self.store(op, Place::Prev(first + total), first);
        }
        self.store(op, Place::Size(first), total);
        if self.has(Repair::ListThenFree) {
            self.insert(op, first, class(total));
            self.set_state(op, first, FREE);
        } else {
            self.set_state(op, first, FREE);
            self.insert(op, first, class(total));
        }
    }
}

/// What an observer sees of a heap at rest.
#[derive(Debug)]
pub(crate) struct View {
    /// The blocks of each list that is not empty, at most eight of each, and whether the bitmaps show it.
    pub(crate) lists: Vec<(Class, Vec<u32>, bool)>,
    /// Offset, size and state of the blocks, from the origin on, size by size.
    pub(crate) blocks: Vec<(u32, u32, u32)>,
    /// Bytes that the sizes do not reach.
    pub(crate) unreached: u32,
}

impl<B: Backend> Published<B> {
    /// Looks at everything.
    pub(crate) fn view(&self) -> View {
        let look = |place| self.load(Op::OBSERVER, place) as u32;
        let mut lists = Vec::new();
        for class in (0..ROWS).flat_map(|row| (0..8).map(move |column| (row, column))) {
            let mut list = Vec::new();
            let mut at = look(Place::Head(class));
            while at != 0 && list.len() < 8 {
                list.push(at);
                at = look(Place::Next(at));
            }
            if !list.is_empty() {
                lists.push((class, list, look(Place::Second(class.0)) >> class.1 & 1 != 0));
            }
        }
        let (mut blocks, mut at) = (Vec::new(), ORIGIN);
        while at < self.end {
            let size = look(Place::Size(at));
            if size == 0 || size > self.end - at {
                break;
            }
            blocks.push((at, size, look(Place::State(at))));
            at += size;
        }
        View { lists, blocks, unreached: self.end - at }
    }
}
