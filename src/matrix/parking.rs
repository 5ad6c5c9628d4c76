//! Parking: freed blocks of small classes wait unmerged for the next request of their size.
//!
//! A parked block is in state ACKED: open to everybody, so nothing is hidden (L2) and a killed process takes nothing
//! with it. What a lane keeps is only a memory aid: the granule's index on a small stack. Parking is one
//! compare-and-swap (ALLOCATED → ACKED), taking a parked block again is one more (ACKED → ALLOCATED), whose expected
//! value is the block's whole meaning: an index that has gone stale is simply dropped.
//!
//! Batches of indices change hands through the *exchange*, a few slots for each class in the segment. A consumer's
//! full stack fills them, a producer's empty one takes them: blocks that are allocated here and freed there come
//! back without a ripple and a split. A batch that is lost (its filler stopped half-way) costs nothing but the aid.

use super::heap::Heap;
use super::operation::Held;
use super::size_class::{Class, of_size};
use super::token::{State, Token};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{BATCH, Granule, PARKED_CLASSES};
use crate::segment::region::Region;

/// Indices that a stack can hold.
pub const STACK: usize = 30;

/// One class's parked blocks, as indices; the newest is on top.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
struct Stack {
    length: u8,
    ceiling: u8,
    /// Refills that will leave other lanes' batches alone, since this lane has spilt.
    spilt: u8,
    items: [u32; STACK],
}

/// What one thread keeps to itself: its participant number and its parked blocks.
///
/// A lane is plain process memory; losing it loses nothing.
#[derive(Debug)]
pub struct Lane {
    owner: u16,
    stacks: [Stack; PARKED_CLASSES],
}

impl Lane {
    /// An empty lane of the participant `owner` (1 or more), which no other lane uses at the same time.
    pub fn new(owner: u16) -> Self {
        Self::with_ceiling(owner, STACK)
    }
    /// A lane whose stacks hold at most `ceiling` blocks (models want small ones); 0 parks nothing.
    pub fn with_ceiling(owner: u16, ceiling: usize) -> Self {
        let stack = Stack { length: 0, ceiling: ceiling.min(STACK) as u8, spilt: 0, items: [0; STACK] };
        Self { owner, stacks: std::array::from_fn(|_| stack.clone()) }
    }
    /// The participant's number.
    #[inline(always)]
    pub fn owner(&self) -> u16 {
        self.owner
    }
    /// Whether blocks of a class are parked here.
    #[inline(always)]
    pub(super) fn parks(&self, class: Class) -> bool {
        class.is_parked() && self.stacks[0].ceiling != 0
    }
    /// Indices on the stacks; some may be stale.
    pub fn parked(&self) -> usize {
        self.stacks.iter().map(|stack| stack.length as usize).sum()
    }
}

impl Stack {
    #[inline(always)]
    fn pop(&mut self) -> Option<Granule> {
        let top = self.length.checked_sub(1)?;
        self.length = top;
        self.items.get(top as usize).map(|&g| Granule(g))
    }
    /// False if the stack is full.
    #[inline(always)]
    fn push(&mut self, g: Granule) -> bool {
        if self.length >= self.ceiling {
            return false;
        }
        let Some(item) = self.items.get_mut(self.length as usize) else { return false };
        *item = g.0;
        self.length += 1;
        true
    }
    /// Takes the oldest half, at most a batch.
    fn oldest_half(&mut self, into: &mut [u32; BATCH]) -> usize {
        let length = self.length as usize;
        let count = length.div_ceil(2).min(BATCH);
        into[..count].copy_from_slice(&self.items[..count]);
        self.items.copy_within(count..length, 0);
        self.length -= count as u8;
        count
    }
}

/// Tokens in a cache line.
const TOKEN_LINE: u32 = 8;
/// Granules that a run has at most, unless it takes more to end at a token line (15 granules eight times).
const RUN: u32 = 64;
/// Granules that an operation may hide while it cuts up a run (L2).
pub const LARGEST_RUN: u32 = 128;

/// Blocks in a run of blocks of `size` granules, for a stack of `ceiling`: whole token lines if the stack has room for them.
const fn run_of(size: u32, ceiling: u32) -> u32 {
    let lines = TOKEN_LINE >> if size.trailing_zeros() < 3 { size.trailing_zeros() } else { 3 };
    let wanted = if RUN / size < ceiling { RUN / size } else { ceiling };
    let whole = if wanted < lines { lines } else { wanted / lines * lines };
    if whole <= ceiling { whole } else { ceiling }
}

const _: () = {
    let mut class = 1;
    while class < PARKED_CLASSES {
        let size = Class(class).size();
        let run = run_of(size, STACK as u32) * size;
        assert!(run.is_multiple_of(TOKEN_LINE) && run <= LARGEST_RUN);
        class += 1;
    }
};

/// The control word of a batch: 0 empty, FULL | participant that filled it | count, or BUSY | participant.
const FULL: u64 = 1 << 32;
const BUSY: u64 = 2 << 32;
const FILLER_AT: u32 = 8;

/// The control word of a batch that a participant is filling or emptying.
pub(super) const fn busy(owner: u16) -> u64 {
    BUSY | owner as u64
}

impl<R: Region> Heap<R> {
    /// A parked block of the class from the own stack, taken as `live`'s kind: one compare-and-swap.
    #[inline(always)]
    pub(super) fn pop(
        &self,
        lane: &mut Lane,
        class: Class,
        state: State,
        fingerprint: u32,
    ) -> Option<(Granule, Token)> {
        let (owner, size) = (lane.owner, class.size());
        let stack = &mut lane.stacks[class.0];
        while let Some(g) = stack.pop() {
            let word = self.token(g);
            let token = Token(word.load(&TOKEN_HINT));
            let fits = token.is_parked(size)
                || (R::Backend::mutated(Mutant::PopSizeUnchecked) && token.state() == State::Acked);
            if !fits {
                continue;
            }
            let low = if matches!(state, State::TypedSmall) { fingerprint } else { size };
            let live = Token::new(state, owner, token.next_generation(), low);
            if word.cas(token.0, live.0, &CLAIM).is_ok() {
                return Some((g, live));
            }
        }
        None
    }

    /// Parks the live block at `g` if that takes one compare-and-swap and no more. False: nothing was done.
    #[inline(always)]
    pub(super) fn park(&self, lane: &mut Lane, g: Granule, token: Token) -> bool {
        let size = token.size();
        let class = of_size(size);
        if !class.is_parked() || class.size() != size {
            return false;
        }
        let stack = &mut lane.stacks[class.0];
        if stack.length >= stack.ceiling {
            return false;
        }
        let acked = Token::new(State::Acked, lane.owner, token.generation(), size);
        self.token(g).cas(token.0, acked.0, &PARK).is_ok() && stack.push(g)
    }

    /// Remembers a block that this lane has just parked. Full: half of the stack goes to the exchange, or is merged.
    #[inline]
    pub(super) fn remember(&self, lane: &mut Lane, class: Class, g: Granule) {
        if !lane.stacks[class.0].push(g) {
            self.spill(lane, class);
            lane.stacks[class.0].push(g);
        }
    }

    #[cold]
    #[inline(never)]
    fn spill(&self, lane: &mut Lane, class: Class) {
        let mut batch = [0; BATCH];
        let count = lane.stacks[class.0].oldest_half(&mut batch);
        lane.stacks[class.0].spilt = 8;
        if !self.give_batch(lane, class, &batch[..count]) {
            for &g in &batch[..count] {
                self.merge_parked(lane, Granule(g));
            }
        }
    }

    /// Puts a batch into the exchange; false if every slot of the class is in use.
    fn give_batch(&self, lane: &Lane, class: Class, batch: &[u32]) -> bool {
        let layout = self.layout();
        let batches = layout.params.batches;
        for i in 0..batches {
            let slot = (i + lane.owner as usize) % batches;
            let control = self.word(layout.batch(class.0, slot, 0));
            if control.load(&BATCH_LOOK) != 0 || control.cas(0, busy(lane.owner), &BATCH_CLAIM).is_err() {
                continue;
            }
            for (word, pair) in batch.chunks(2).enumerate() {
                let both = pair[0] as u64 | (*pair.get(1).unwrap_or(&0) as u64) << 32;
                self.word(layout.batch(class.0, slot, 1 + word)).store(both, &BATCH_INDEX);
            }
            control.store(FULL | (lane.owner as u64) << FILLER_AT | batch.len() as u64, &BATCH_PASS);
            return true;
        }
        false
    }

    /// Takes a batch from the exchange onto the own stack; false if there is none for this lane.
    ///
    /// Its own batches come first: blocks that wander between lanes make them write each other's token lines. A lane that
    /// frees blocks of the class itself leaves the others' batches to those that only allocate, for a while.
    pub(super) fn take_batch(&self, lane: &mut Lane, class: Class) -> bool {
        if self.take_batch_of(lane, class, true) {
            return true;
        }
        let stack = &mut lane.stacks[class.0];
        if stack.spilt > 0 {
            stack.spilt -= 1;
            return false;
        }
        self.take_batch_of(lane, class, false)
    }

    fn take_batch_of(&self, lane: &mut Lane, class: Class, own: bool) -> bool {
        let layout = self.layout();
        let batches = layout.params.batches;
        for i in 0..batches {
            let slot = (i + lane.owner as usize) % batches;
            let control = self.word(layout.batch(class.0, slot, 0));
            let found = control.load(&BATCH_LOOK);
            if found & FULL == 0 || own && found >> FILLER_AT & 0x7FF != lane.owner as u64 {
                continue;
            }
            if control.cas(found, busy(lane.owner), &BATCH_CLAIM).is_err() {
                continue;
            }
            let count = ((found & 0xFF) as usize).min(BATCH);
            for i in 0..count {
                let both = self.word(layout.batch(class.0, slot, 1 + i / 2)).load(&BATCH_INDEX);
                let g = Granule((both >> (32 * (i % 2))) as u32);
                // Read from shared memory: checked before it enters a stack (C2).
                if (g.0 as u64 + class.size() as u64) <= layout.granules as u64 {
                    lane.stacks[class.0].push(g);
                }
            }
            control.store(0, &BATCH_PASS);
            return count > 0;
        }
        false
    }

    /// Cuts one contiguous run from a free block, keeps the first block and parks the rest. The run begins and ends
    /// at a cache line of tokens: a lane's parked blocks lie in token lines that no other lane writes.
    pub(super) fn carve(&self, lane: &mut Lane, class: Class) -> Option<Held> {
        let size = class.size();
        let blocks = run_of(size, lane.stacks[class.0].ceiling as u32);
        if blocks > 1
            && let Some(run) = self.take_run(lane, blocks * size)
        {
            return Some(self.cut_up(lane, class, run, blocks));
        }
        self.find_and_take(lane, size)
    }

    /// Takes `size` granules that begin at a token line.
    fn take_run(&self, lane: &mut Lane, size: u32) -> Option<Held> {
        loop {
            let (g, token) = self.find(lane, size + TOKEN_LINE - 1)?;
            let beyond = (g.0 + token.size() - size) % TOKEN_LINE;
            if let Some(run) = self.take(lane, g, token, size + beyond) {
                if beyond == 0 {
                    return Some(run);
                }
                let (run, rest) = self.split_held(lane, run, size);
                self.ripple(lane, rest);
                return Some(run);
            }
            R::Backend::pause();
        }
    }

    /// Cuts a held run into `blocks` equal blocks: the first stays held, the others are parked.
    ///
    /// All heads are COALESCING until the run's own word has shrunk: an ACKED head under it could be taken by a stale
    /// index while the run still covers it (S1 after a crash).
    fn cut_up(&self, lane: &mut Lane, class: Class, run: Held, blocks: u32) -> Held {
        let (size, owner) = (class.size(), lane.owner);
        let early = R::Backend::mutated(Mutant::CarveAckedEarly);
        for i in 1..blocks {
            let word = self.token(run.at.plus(i * size));
            let generation = Token(word.load(&HELD_LOOK)).next_generation();
            let state = if early { State::Acked } else { State::Coalescing };
            word.store(Token::new(state, owner, generation, size).0, &HELD_STORE);
        }
        let first = Token::new(State::Coalescing, owner, run.token.next_generation(), size);
        self.token(run.at).store(first.0, &HELD_STORE);
        for i in (1..blocks).rev() {
            let g = run.at.plus(i * size);
            if !early {
                let generation = Token(self.token(g).load(&HELD_LOOK)).generation();
                self.token(g).store(Token::new(State::Acked, owner, generation, size).0, &HELD_STORE);
            }
            self.remember(lane, class, g);
        }
        Held { at: run.at, token: first }
    }

    /// Merges the block at `g` if it is parked.
    pub(super) fn merge_parked(&self, lane: &mut Lane, g: Granule) {
        let token = self.look(g);
        if token.state() == State::Acked && self.fits_sector(g, token) {
            self.coalesce(lane, g, token);
        }
    }

    /// Merges everything that this lane has parked.
    pub fn flush(&self, lane: &mut Lane) {
        for class in 0..PARKED_CLASSES {
            while let Some(g) = lane.stacks[class].pop() {
                self.merge_parked(lane, g);
            }
        }
    }

    /// Whether blocks of `size` granules are parked in this lane when freed: the size must be the class's own.
    #[inline(always)]
    pub(super) fn parking_class(&self, lane: &Lane, size: u32) -> Option<Class> {
        let class = of_size(size);
        (lane.parks(class) && class.size() == size).then_some(class)
    }
}
