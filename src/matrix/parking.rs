//! Parking: freed blocks of small sizes wait unmerged for the next request of their size.
//!
//! A parked block is in state ACKED: open to everybody, so nothing is hidden (L2) and a killed process takes nothing
//! with it. What a lane keeps is only a memory aid: the granule's index on a small stack. An index that has gone stale is
//! simply dropped.
//!
//! # Biased parking
//!
//! A parked block keeps its lane's number, and that lane alone may change the token by a plain store, under one rule:
//! *A plain-stores a token whose owner is A, and only while A's slot names that granule* ([`SlotWord::Busy`]).
//!
//! - The owner A: name the granule, light fence, look at the token, store it (ACKED by A → ALLOCATED by A, or back), clear the
//!   name. No locked instruction. If the token is not what it should be, nothing is stored.
//! - A thief T (healing, the last try of an allocation): mark the token by compare-and-swap (ACKED by A → *marked* by T, a new
//!   generation), for many blocks at once; one heavy fence (`membarrier`); then look at each owner's slot. If A's
//!   slot names the block, A gets it back; else a compare-and-swap from exactly the mark makes it T's. Behind the
//!   fence A's look sees the mark, or its name was in the slot for T to see, or its store was done and the mark is gone.
//!   Nobody waits: another thief's mark that has stood for the time of a fence is replaced by one's own; an owner that meets a mark
//!   on its block takes it back by compare-and-swap. A stopped owner keeps from others the one block that its slot names.
//! - Who adopts A's live block: a compare-and-swap makes the token say who adopts it (a number that is nobody's lane, so that
//!   nobody stores it plainly and nobody else adopts it), the slot says from whom; heavy fence; if A's slot does not name the block, it
//!   goes to its new owner, else back to A. A stopped adopter keeps from others that one block.
//! - Whoever frees another lane's block gives it back to that lane, ALLOCATED by A → ACKED by A, one compare-and-swap. If A frees it at
//!   the same moment, both write the same. (Both are told that they freed it: of two racing frees without a generation in
//!   between, the second is refused only where it comes after the first.) The indices go home in batches.
//! - Nobody's blocks (owner 0) are taken by compare-and-swap, whoever comes.
//!
//! Dice, Huang, Yang: "Asymmetric Dekker Synchronization" (2001) has the idea of the unequal fences; membarrier(2) the call, in two
//! kinds ([`Reach`]): owners of the thief's own process are reached in microseconds, others in some milliseconds. (What
//! would reach those in microseconds, too, misses some: `verification/membarrier`.) So blocks of other processes are collected until
//! one dear fence is worth it. Where the call is not to be had, the segment is made without bias, and every step is a compare-and-swap.
//!
//! # The exchange
//!
//! Batches of indices change hands through the *exchange* in the segment. A batch that is lost (its filler stopped half-way) costs nothing
//! but the aid.
//!
//! What a lane has freed for another goes to that lane's *homes*: a producer's empty stack finds there what its consumer has freed,
//! without a ripple and a split. A lane has up to 64 homes for each bin, its ring. Who fills them and who empties them go round it the
//! same way, so that each finds the next one at the first look, no map is asked or told, and the two are seldom at one home at once. The
//! rings of all lanes and bins lie in one array, scattered: where a home is in use by another, the next one serves. What finds no
//! home free waits with the lane that freed it, and goes home later; more than an eighth of all homes could hold is merged, all behind one
//! heavy fence.
//!
//! A full stack's older half goes to the lane's own homes: it comes back to the same token lines. Without room there it becomes nobody's
//! and goes to one of up to 64 *open slots* of its bin, where any lane in need takes it. A word for each bin tells which of them are
//! full, so that nobody walks them; a bit may lie, and whoever meets a wrong one mends it. What finds no open slot is merged.

use super::heap::{Heap, Kind, Live};
use super::operation::Held;
use super::recovery::is_nobody;
use super::size_class::{BINS, Bin, EXACT};
use super::token::{State, Token, adopter, is_adopter, place};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Reach, Word};
use crate::segment::layout::{BATCH, Geometry, Granule, MAX_BATCHES, SlotWord};
use crate::segment::region::{Region, WordIndex};

/// Indices that a stack can hold.
pub const STACK: usize = 30;
/// No granule's index: out of every sector's range.
const NOTHING: u32 = u32::MAX;

/// One bin's parked blocks, as indices; the newest is on top.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
struct Stack {
    /// Where the next index goes. A word: where a store is soon followed by a load of it, processors forward words (or foresee that they
    /// will) several times as fast as bytes.
    top: u32,
    /// Where the oldest one is: what is below never holds any, so that a stack of few is full where the others are.
    bottom: u8,
    /// Refills that will leave other lanes' batches alone, since this lane has spilt.
    spilt: u8,
    /// Where the next batch is expected in the ring of homes.
    next_home: u8,
    /// Where the next batch of its own goes there.
    next_spill: u8,
    items: [u32; STACK],
}

/// What one thread keeps to itself: its participant number and its parked blocks.
///
/// A lane is plain process memory; losing it loses nothing.
#[derive(Debug)]
pub struct Lane {
    owner: u16,
    /// Index of the word that names the granule whose token is about to be stored plainly; 0 without bias, and before the lane is
    /// bound.
    busy: u32,
    /// Granules of the heap that the lane is bound to; 0 as above.
    granules: u32,
    /// Where every small block fits: granules before this one.
    roomy: u32,
    /// The token of an untyped live block of this lane's, generation and size left out.
    live_bits: u64,
    /// Refills that will look at [`FEW`] homes only, and how many it will be after the next look at all in vain.
    short_looks: u8,
    patience: u8,
    stacks: [Stack; BINS],
    /// Freed blocks of other lanes on their way home, [`WAYS`] for each bin; none until there is one.
    homeward: Option<Box<[Homeward]>>,
    /// Those of them that found no home free.
    backlog: Option<Box<Backlog>>,
    /// Parked blocks of other processes' lanes that this one is to merge.
    limbo: Option<Box<Limbo>>,
}

/// Indices of parked blocks that wait for a fence which reaches other processes.
#[derive(Debug, Default)]
struct Limbo(Vec<u32>);

/// How many wait.
const LIMBO: usize = 4096;

/// Other lanes whose blocks of one bin are collected at a time; a lane's place is its number's last bits.
const WAYS: usize = 4;

/// Batches that found no home free: they wait for one, or for a fence that serves them all.
#[derive(Debug, Default)]
struct Backlog(std::collections::VecDeque<Homeward>);

/// All homes of a ring are looked at.
const ALL: usize = usize::MAX;
/// Homes that a lane looks at which has lately found none by looking at all: a look at one that has left the cache costs as much as a split.
const FEW: usize = 8;
/// How often, at most, until it looks at all again.
const MOST_SHORT_LOOKS: u8 = 15;
/// Homes for each batch that a lane's backlog may have.
const HOMES_PER_BACKLOG: usize = 8;

/// Indices of blocks that this lane has freed for their owner.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Homeward {
    owner: u16,
    bin: u8,
    length: u8,
    /// Where the next batch goes in the owner's ring of homes.
    next_home: u8,
    items: [u32; BATCH],
}

impl Homeward {
    fn batch(&self) -> &[u32] {
        &self.items[..(self.length as usize).min(BATCH)]
    }
}

impl Lane {
    /// An empty lane of the participant `owner` (1 or more), which no other lane uses at the same time.
    pub fn new(owner: u16) -> Self {
        Self::with_ceiling(owner, STACK)
    }
    /// A lane whose stacks hold at most `ceiling` blocks (models want small ones); 0 parks nothing.
    pub fn with_ceiling(owner: u16, ceiling: usize) -> Self {
        let bottom = STACK - ceiling.min(STACK);
        let stack = Stack {
            top: bottom as u32,
            bottom: bottom as u8,
            spilt: 0,
            next_home: 0,
            next_spill: 0,
            items: [NOTHING; STACK],
        };
        let live_bits = Token::new(State::Allocated, owner, 0, 0).0;
        Self {
            owner,
            busy: 0,
            granules: 0,
            roomy: 0,
            live_bits,
            short_looks: MOST_SHORT_LOOKS,
            patience: MOST_SHORT_LOOKS,
            stacks: std::array::from_fn(|_| stack.clone()),
            homeward: None,
            backlog: None,
            limbo: None,
        }
    }
    /// The participant's number.
    #[inline(always)]
    pub fn owner(&self) -> u16 {
        self.owner
    }
    /// Whether this lane looks for free blocks from the sector's end: half of the lanes do, so that they keep out of the others' way.
    #[inline(always)]
    pub(super) fn searches_from_above(&self) -> bool {
        !self.owner.is_multiple_of(2)
    }
    fn way(&mut self, at: usize) -> &mut Homeward {
        let ways = self.homeward.get_or_insert_with(|| vec![Homeward::default(); WAYS * BINS].into());
        &mut ways[at]
    }
    /// Whether blocks are parked here at all.
    #[inline(always)]
    pub(super) fn parks(&self) -> bool {
        self.stacks[0].ceiling() != 0
    }
    /// Whether there are indices of a bin's blocks, stale ones perhaps.
    #[inline(always)]
    pub(super) fn has_parked(&self, bin: Bin) -> bool {
        self.stacks[bin.0].length() != 0
    }
    /// Indices on the stacks; some may be stale.
    pub fn parked(&self) -> usize {
        self.stacks.iter().map(|stack| stack.length() as usize).sum()
    }
}

impl Stack {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.top - u32::from(self.bottom)
    }
    fn ceiling(&self) -> usize {
        STACK - self.bottom as usize
    }
    #[inline(always)]
    fn has_room(&self) -> bool {
        (self.top as usize) < STACK
    }
    #[inline(always)]
    fn pop(&mut self) -> Option<Granule> {
        let newest = self.top.checked_sub(1).filter(|&newest| newest >= u32::from(self.bottom))?;
        self.top = newest;
        self.items.get(newest as usize).map(|&g| Granule(g))
    }
    /// False if the stack is full.
    #[inline(always)]
    fn push(&mut self, g: Granule) -> bool {
        let Some(item) = self.items.get_mut(self.top as usize) else { return false };
        *item = g.0;
        self.top += 1;
        true
    }
    /// Takes the oldest half, at most a batch.
    fn oldest_half(&mut self, into: &mut [u32; BATCH]) -> usize {
        let (first, count) = (self.bottom as usize, self.length().div_ceil(2).min(BATCH as u32) as usize);
        into[..count].copy_from_slice(&self.items[first..first + count]);
        self.items.copy_within(first + count..self.top as usize, first);
        self.top -= count as u32;
        count
    }
}

/// Tokens in a cache line.
const TOKEN_LINE: u32 = 8;
/// Token lines of a run at most.
const RUN_LINES: u32 = 8;
/// Spans that an operation may hide while it cuts up a run (L2): with what lies between its end and the free block's, less than a line.
pub const LARGEST_RUN: u32 = (RUN_LINES + 1) * TOKEN_LINE;

/// A run of blocks of `size` granules, for a stack of `ceiling`, where a token line has the tokens of `line` granules: its blocks
/// and its granules. It ends where a token line ends, unless it is shorter than one.
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
    let (mut bin, line) = (4, TOKEN_LINE << 2);
    while bin < BINS {
        let size = Bin(bin).size();
        let (blocks, run) = run_of(size, STACK as u32, line);
        assert!(run.is_multiple_of(line) && run <= RUN_LINES * line && run - blocks * size < line && line < EXACT);
        bin += 1;
    }
};

/// The control word of a slot: 0 empty, FULL | count (and in a home, whose blocks they are, of which bin), or BUSY | participant.
const FULL: u64 = 1 << 32;
const BUSY: u64 = 2 << 32;
const FILLER_AT: u32 = 8;
const BIN_AT: u32 = 24;

/// The control word of a batch that a participant is filling or emptying.
pub(super) const fn busy(owner: u16) -> u64 {
    BUSY | owner as u64
}

/// The control word of a full batch, as far as it tells whose blocks they are and of which bin.
const fn full(owner: u16, bin: Bin) -> u64 {
    FULL | (bin.0 as u64) << BIN_AT | (owner as u64) << FILLER_AT
}

/// Open slots that a lane in need looks at.
const OPEN_LOOKS: usize = 8;

/// One bit for each of so many open slots.
const fn all_open(slots: usize) -> u64 {
    if slots >= MAX_BATCHES { u64::MAX } else { (1 << slots) - 1 }
}

/// Where a lane begins among the open slots: different lanes' beginnings lie apart.
fn beginning(owner: u16, slots: usize) -> usize {
    let spread = (owner as u32).wrapping_mul(0x9E37_79B9);
    ((spread as u64 * slots as u64) >> 32) as usize
}

/// A ring's places, from `first` on and round to those before it.
fn places(first: u8, ring: usize) -> impl Iterator<Item = usize> {
    let first = if (first as usize) < ring { first as usize } else { 0 };
    (first..ring).chain(0..first)
}

/// The set bits' numbers, from `first` on and round to those before it.
fn bits_from(bits: u64, first: usize) -> impl Iterator<Item = usize> {
    let mut left = bits.rotate_right(first as u32);
    std::iter::from_fn(move || {
        let next = left.trailing_zeros();
        (left != 0).then(|| {
            left &= left - 1;
            (next as usize + first) % 64
        })
    })
}

/// Blocks of this process's lanes that one heavy fence serves at most.
const LOOT: usize = 64;
/// Tiles that a thief looks at for them.
const LOOT_REACH: usize = 4 * LOOT;
/// Blocks that a fence serves at most which reaches other processes, and takes a thousand times as long.
const FAR_LOOT: usize = 4096;

/// Blocks that a thief wants, before the fence.
struct Loot {
    most: usize,
    /// Whether other processes' are among them.
    far: bool,
    /// Blocks with this thief's marks.
    marked: Vec<(Granule, Token)>,
    /// Blocks with another thief's marks.
    anothers: Vec<(Granule, Token)>,
}

impl Loot {
    const fn new(most: usize, far: bool) -> Self {
        Self { most, far, marked: vec![], anothers: vec![] }
    }
    const fn is_full(&self) -> bool {
        self.marked.len() + self.anothers.len() >= self.most
    }
}

/// How often an adopter's slot is read that does not say what the token says: as often it has ended one adoption and begun the
/// same one again, or the token is forged.
const ADOPTION_LOOKS: u32 = 1000;

/// Whether blocks of `size` granules are parked when freed: the size must be a bin's own.
#[inline(always)]
pub(super) const fn is_parkable(size: u32) -> bool {
    Bin::of(size).is_some()
}

impl<R: Region> Heap<R> {
    #[inline(always)]
    pub(super) fn biased(&self) -> bool {
        self.layout().params.biased
    }

    fn slot(&self, owner: u16, word: SlotWord) -> &<R::Backend as Backend>::Word {
        self.word(self.layout().slot(owner, word))
    }

    /// Whether the participant `owner` is another process's than `me`. A slot that nobody holds is nobody's: whoever takes it passes a
    /// full fence before it looks at a token.
    fn is_far(&self, me: u16, owner: u16) -> bool {
        let process = |number| self.slot(number, SlotWord::Process).load(&SLOT_LOOK);
        let other = process(owner);
        other != 0 && other != process(me)
    }

    /// What a heavy fence of `me` has to reach, for what it has marked to be seen by these owners.
    pub(super) fn reach(&self, me: u16, mut owners: impl Iterator<Item = u16>) -> Reach {
        R::Backend::fence(&REACH_FENCE);
        let far = owners.any(|owner| self.is_far(me, owner)) && !R::Backend::mutated(Mutant::ReachTooShort);
        if far { Reach::System } else { Reach::Process }
    }

    /// Whether `owner` may be about to store the token at `g` plainly; asked behind a heavy fence.
    fn names(&self, owner: u16, g: Granule) -> bool {
        self.slot(owner, SlotWord::Busy).load(&BUSY_LOOK) == g.0 as u64 + 1
    }

    /// Binds a lane to this heap: it parks with bias if the heap does.
    #[inline]
    pub(super) fn bind(&self, lane: &mut Lane) {
        if self.biased() {
            lane.busy = self.layout().slot(lane.owner, SlotWord::Busy).0 as u32;
            lane.granules = self.layout().granules;
            lane.roomy = (lane.granules + 1).saturating_sub(EXACT);
        }
    }

    /// Where a bound lane names granules in this heap, or 0: in range, even if the lane was bound to another heap.
    fn busy_of(&self, lane: &Lane) -> u32 {
        if lane.busy == 0 { 0 } else { self.layout().slot(lane.owner, SlotWord::Busy).0 as u32 }
    }

    /// The owner's way to change a token of its own without a locked instruction: stores what `change` makes of it, if
    /// anything. No other thread uses the lane's number; the lane is bound. `word` is the token of `g`. Once `change` has found the token as
    /// it should be, the block is this lane's alone until the store.
    ///
    /// # Safety
    /// `busy` is the index of a word of this heap's region.
    #[inline(always)]
    unsafe fn change_own<T>(
        &self,
        busy: u32,
        g: Granule,
        word: &<R::Backend as Backend>::Word,
        change: impl FnOnce(Token) -> Option<(Token, T)>,
    ) -> Option<T> {
        // SAFETY: the caller's.
        let busy = unsafe { self.region().word_in_range(WordIndex(busy as usize)) };
        if !R::Backend::mutated(Mutant::BusyUnset) {
            busy.store(g.0 as u64 + 1, &BUSY_SET);
        }
        if !R::Backend::mutated(Mutant::OwnFenceDropped) {
            R::Backend::light_fence(&OWN_FENCE);
        }
        let changed = change(Token(word.load(&OWN_LOOK))).map(|(token, result)| {
            word.store(token.0, &OWN_STORE);
            result
        });
        busy.store(0, &BUSY_CLEAR);
        changed
    }

    /// The newest parked block of `size` granules (less than `EXACT`) from the own stack, if it is the lane's own as it should
    /// be; else nothing was done. No locked instruction.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(always)]
    pub(super) unsafe fn pop_own(
        &self,
        lane: &mut Lane,
        size: u32,
        mask: u32,
        kind: Kind,
        geometry: &impl Geometry,
    ) -> Option<(Granule, Token)> {
        const RAW: u64 = Token::new(State::Allocated, 0, 0, 0).0;
        let (busy, shift) = (lane.busy, geometry.span_shift());
        let stack = lane.stacks.get_mut(size as usize)?;
        let newest = stack.top.wrapping_sub(1);
        let g = Granule(*stack.items.get(newest as usize)?);
        // Indices on stacks are in range, and what is below the oldest is not: a branch costs less than a clamp.
        if g.0 >= lane.granules || g.0 & mask != 0 {
            return None;
        }
        let at = place(g.0 & ((1 << shift) - 1), 0);
        // The live token, but for the generation.
        let (revival, expected) = match kind {
            Kind::Raw => (const { Token::revival(State::Allocated, 0, 0) }, lane.live_bits | u64::from(at | size)),
            Kind::Typed(_) => {
                let spans = (g.plus(size).0 >> shift) - (g.0 >> shift);
                let (state, low) = kind.state_of(at | size, spans);
                let other_state = Token::new(state, 0, 0, 0).0.wrapping_sub(RAW);
                let expected = lane.live_bits.wrapping_add(other_state) | u64::from(low);
                (Token::revival(state, at | size, low), expected)
            }
        };
        // SAFETY: the lane is bound, to this heap, says the caller: it has as many granules, spans like these, and this word.
        let word = unsafe { self.region().token_in_range(g, shift) };
        let change = |token: Token| {
            let live = token.0.wrapping_add(revival);
            let generation = live ^ expected;
            (Token(generation).meaning() == 0 && generation != 0).then(|| {
                // Put together anew, so that whoever asks it for its size need not wait for the word from memory.
                let handed_out = Token(expected | generation);
                self.label(g, handed_out.state(), kind);
                (Token(live), handed_out)
            })
        };
        // SAFETY: as above.
        let live = unsafe { self.change_own(busy, g, word, change) }?;
        stack.top = newest;
        Some((g, live))
    }

    /// A parked block of the bin from the own stack, taken in the given live state, whatever has become of the indices there.
    #[inline(never)]
    pub(super) fn pop(&self, lane: &mut Lane, bin: Bin, kind: Kind) -> Option<(Granule, Token)> {
        let (owner, size, busy) = (lane.owner, bin.size(), self.busy_of(lane));
        while let Some(g) = lane.stacks[bin.0].pop() {
            let place = self.place(g, size);
            let (state, low) = kind.state_of(place, self.spans(g, size));
            if busy != 0 {
                let (revival, expected) = (Token::revival(state, place, low), Token::new(state, owner, 0, low));
                let change = |token: Token| {
                    let live = Token(token.0.wrapping_add(revival));
                    (live.meaning() == expected.0 && live.is_revived()).then(|| {
                        self.label(g, state, kind);
                        (live, live)
                    })
                };
                // SAFETY: `busy_of` is in range.
                if let Some(live) = unsafe { self.change_own(busy, g, self.token(g), change) } {
                    return Some((g, live));
                }
            }
            if let Some(live) = self.pop_shared(owner, g, size, kind) {
                return Some((g, live));
            }
        }
        None
    }

    /// Takes the parked block at `g` by compare-and-swap: the way without bias, and for nobody's and marked blocks.
    #[inline]
    fn pop_shared(&self, owner: u16, g: Granule, size: u32, kind: Kind) -> Option<Token> {
        let (state, low) = kind.state_of(self.place(g, size), self.spans(g, size));
        let word = self.token(g);
        let token = self.said_of(g, Token(word.load(&TOKEN_HINT)));
        let right_size = token.size() == size || R::Backend::mutated(Mutant::PopSizeUnchecked);
        let live = Token::new(state, owner, token.next_generation(), low);
        // Held first where it is to be labelled.
        let labelled = state == State::Typed;
        let taken = if labelled { Token::new(State::Coalescing, owner, live.generation(), low) } else { live };
        let free_to_take = token.is_given_up() && right_size && self.may_take(owner, token);
        if !free_to_take || word.cas(token.0, taken.0, &CLAIM).is_err() {
            return None;
        }
        if labelled {
            self.label(g, state, kind);
            word.store(live.0, &HELD_STORE);
        }
        Some(live)
    }

    /// Whether `owner` may take a parked block by one compare-and-swap: nobody else stores its token plainly.
    #[inline]
    pub(super) fn may_take(&self, owner: u16, token: Token) -> bool {
        !self.biased() || token.parked_by() == owner || is_nobody(token.parked_by()) || !is_parkable(token.size())
    }

    /// Frees a live block onto the lane's own stack, if it is still the lane's own, of less than `EXACT` granules, typed as told or untyped,
    /// and there is room: no locked instruction. False: nothing was done.
    ///
    /// What is stored, and where, follows from the token that the caller has: nothing waits for the one in memory, which is only compared.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`], and the token's position is that of the granule in its span, as an allocation gave them.
    #[inline(always)]
    pub unsafe fn free_live(&self, lane: &mut Lane, live: Live, typed: bool, geometry: &impl Geometry) -> bool {
        let Live { at: g, token } = live;
        let (busy, owners) = (lane.busy, Token(lane.live_bits));
        let own = if typed { token.is_typed() && token.owner() == owners.owner() } else { token.held_by_same(owners) };
        let size = if typed { token.size() } else { token.low_size() };
        if g.0 >= lane.roomy || !own || size >= EXACT {
            return false;
        }
        // SAFETY: as in `pop_own`.
        let word = unsafe { self.region().token_in_range(g, geometry.span_shift()) };
        let change = |now: Token| {
            let blind = R::Backend::mutated(Mutant::GenerationIgnored) && now.meaning() == token.meaning();
            let live = if blind { now } else { token };
            // Another segment's pointer with this one's tag fits no token here.
            debug_assert!(now != token || token.position() == g.0 & ((1 << geometry.span_shift()) - 1));
            let parked = match typed {
                true => Token::new(State::Acked, live.owner(), live.generation(), place(live.position(), size)),
                false => live.parked(),
            };
            ((now == token || blind) && lane.stacks.get_mut(size as usize)?.push(g)).then_some((parked, ()))
        };
        // SAFETY: as above.
        unsafe { self.change_own(busy, g, word, change) }.is_some()
    }

    /// Frees the untyped live block at `g`, whichever it is, onto the lane's own stack, if it is the lane's own, of less than `EXACT`
    /// granules, and there is room: no locked instruction. False: nothing was done.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(always)]
    pub unsafe fn free_own(&self, lane: &mut Lane, g: Granule, geometry: &impl Geometry) -> bool {
        let (live_bits, busy, shift) = (lane.live_bits, lane.busy, geometry.span_shift());
        if g.0 >= lane.roomy {
            return false;
        }
        // SAFETY: as in `pop_own`.
        let word = unsafe { self.region().token_in_range(g, shift) };
        // Another lane may have written it last, or may own it: then one transfer of its line serves the look and the change.
        word.expect_write();
        let expected = live_bits | u64::from(place(g.0 & ((1 << shift) - 1), 0));
        let change = |token: Token| {
            // The size, if everything else is as it should be.
            let size = token.meaning() ^ expected;
            if size.wrapping_sub(1) >= EXACT as u64 - 1 {
                return None;
            }
            lane.stacks.get_mut(size as usize)?.push(g).then(|| (token.parked(), ()))
        };
        // SAFETY: as above.
        unsafe { self.change_own(busy, g, word, change) }.is_some()
    }

    /// Frees the live block at `g` onto the lane's own stack, if it is the lane's own (or, without bias, anybody's) and there
    /// is room: no locked instruction, without bias one. False: nothing was done.
    #[inline(never)]
    pub fn free_to_stack(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> bool {
        let (owner, busy) = (lane.owner, self.busy_of(lane));
        let may_park = |token: Token| {
            let token = self.said_of(g, token);
            let size = token.size();
            let bin = Bin::of(size)?;
            let current = generation.is_none_or(|held| held == token.generation());
            let fits = token.is_live()
                && self.fits_sector(g, token)
                && (current || R::Backend::mutated(Mutant::GenerationIgnored));
            (fits && lane.stacks[bin.0].has_room())
                .then(|| (Token::new(State::Acked, owner, token.generation(), self.place(g, size)), bin))
        };
        let parked = if busy == 0 {
            let token = Token(self.token(g).load(&TOKEN_HINT));
            may_park(token)
                .filter(|(acked, _)| !self.biased() && self.token(g).cas(token.0, acked.0, &PARK).is_ok())
                .map(|(_, bin)| bin)
        } else {
            let change = |token: Token| may_park(token).filter(|_| token.owner() == owner);
            // SAFETY: `busy_of` is in range.
            unsafe { self.change_own(busy, g, self.token(g), change) }
        };
        parked.is_some_and(|bin| lane.stacks[bin.0].push(g))
    }

    /// Frees another lane's block: it goes back to that lane's parked blocks by one compare-and-swap. False: nothing was done.
    #[inline(never)]
    pub fn free_homeward(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> bool {
        let token = self.look(g);
        let (owner, size) = (token.owner(), token.size());
        let current = generation.is_none_or(|held| held == token.generation());
        if !self.biased()
            || !token.is_live()
            || !self.fits_sector(g, token)
            || !is_parkable(size)
            || !(current || R::Backend::mutated(Mutant::GenerationIgnored))
            || is_nobody(owner)
            || owner == lane.owner
        {
            return false;
        }
        let acked = Token::new(State::Acked, owner, token.generation(), self.place(g, size));
        if self.token(g).cas(token.0, acked.0, &PARK).is_err() {
            return false;
        }
        match self.parking_bin(lane, size) {
            // Whoever adopts it says what becomes of it.
            _ if self.is_adopting(owner) => {}
            Some(bin) => self.send_home(lane, bin, owner, g),
            None => self.merge_batch(lane, &[g.0]),
        }
        true
    }

    /// Collects the index of a block for its owner; a full batch goes to the exchange.
    #[inline]
    fn send_home(&self, lane: &mut Lane, bin: Bin, owner: u16, g: Granule) {
        let full = BATCH.min(lane.stacks[bin.0].ceiling());
        let at = bin.0 * WAYS + owner as usize % WAYS;
        let way = lane.way(at);
        if way.length as usize >= full || way.length > 0 && way.owner != owner {
            self.dispatch(lane, at);
        }
        let way = lane.way(at);
        if way.length as usize + 4 == BATCH
            && let Some(next) = places(way.next_home, self.layout().ring()).next()
        {
            self.word(self.layout().home_of(owner, bin.0, next)).expect_write();
        }
        if way.length > 0 {
            self.expect_next(way.items[(way.length as usize - 1) % BATCH], g);
        }
        (way.owner, way.bin) = (owner, bin.0 as u8);
        way.items[way.length as usize % BATCH] = g.0;
        way.length += 1;
    }

    /// Blocks of one run come back in a row, up or down, as their lane handed them out: fetches the token line behind this
    /// one's before it is asked for. A line comes from another core's cache: it costs more than all else here.
    #[inline(always)]
    fn expect_next(&self, before: u32, g: Granule) {
        let step = g.0.wrapping_sub(before) as i32;
        let line = self.token_line();
        if step.unsigned_abs() <= 2 * line {
            let next = g.0.wrapping_add_signed(step.signum() * line as i32);
            if next < self.layout().granules {
                self.token(Granule(next)).expect_write();
            }
        }
    }

    /// Sends a batch home. Without room in the exchange it waits, with its likes, until there is some; too many of them are merged.
    #[cold]
    #[inline(never)]
    fn dispatch(&self, lane: &mut Lane, at: usize) {
        let mut way = *lane.way(at);
        let new = (way.owner, way.bin);
        let mut backlog = lane.backlog.take().unwrap_or_default();
        if backlog.0.is_empty() {
            if !self.give_home(lane, &mut way, ALL) {
                backlog.0.push_back(way);
            }
        } else {
            // The oldest first, which keeps to the order in which their owner handed them out. Two each time: a lane that has caught up is
            // soon rid of them.
            backlog.0.push_back(way);
            for looks in [ALL, 1] {
                let Some(mut oldest) = backlog.0.pop_front() else { break };
                let own = (oldest.owner, oldest.bin) == new;
                if own {
                    oldest.next_home = way.next_home;
                }
                let given = self.give_home(lane, &mut oldest, looks);
                if own {
                    way.next_home = oldest.next_home;
                }
                match given {
                    true => {}
                    // Another owner's may be for one that takes nothing any more.
                    false if own => backlog.0.push_front(oldest),
                    false => backlog.0.push_back(oldest),
                }
            }
        }
        *lane.way(at) = Homeward { length: 0, ..way };
        let full = backlog.0.len() > self.layout().homes() / HOMES_PER_BACKLOG;
        lane.backlog = Some(backlog);
        if full {
            self.merge_backlog(lane);
        }
    }

    /// Merges what waits for a home.
    fn merge_backlog(&self, lane: &mut Lane) {
        if let Some(backlog) = lane.backlog.take() {
            let blocks: Vec<u32> = backlog.0.iter().flat_map(Homeward::batch).copied().collect();
            self.merge_batch(lane, &blocks);
        }
    }

    /// Remembers a block that this lane has just parked. Full: half of the stack goes to the exchange, or is merged.
    #[inline]
    pub(super) fn remember(&self, lane: &mut Lane, bin: Bin, g: Granule) {
        if !lane.stacks[bin.0].push(g) {
            self.spill(lane, bin);
            lane.stacks[bin.0].push(g);
        }
    }

    #[cold]
    #[inline(never)]
    fn spill(&self, lane: &mut Lane, bin: Bin) {
        let stack = &mut lane.stacks[bin.0];
        let mut spilt =
            Homeward { owner: lane.owner, bin: bin.0 as u8, next_home: stack.next_spill, ..Homeward::default() };
        spilt.length = stack.oldest_half(&mut spilt.items) as u8;
        stack.spilt = 8;
        if self.biased() && self.give_home(lane, &mut spilt, ALL) {
            lane.stacks[bin.0].next_spill = spilt.next_home;
            return;
        }
        if self.biased() {
            spilt.batch().iter().for_each(|&g| self.renounce(lane, bin, Granule(g)));
        }
        if !self.give_open(lane, bin, spilt.batch()) {
            self.merge_batch(lane, spilt.batch());
        }
    }

    /// Makes a parked block of this lane nobody's, so that anybody may take it by compare-and-swap.
    fn renounce(&self, lane: &Lane, bin: Bin, g: Granule) {
        let place = self.place(g, bin.size());
        let parked = Token::new(State::Acked, lane.owner, 0, place);
        let change = |token: Token| {
            let nobodys = Token::new(State::Acked, 0, token.generation(), place);
            (token.meaning() == parked.0).then_some((nobodys, ()))
        };
        // SAFETY: `busy_of` is in range.
        let _ = unsafe { self.change_own(self.busy_of(lane), g, self.token(g), change) };
    }

    /// Puts a batch of nobody's blocks into the exchange; false if every open slot of the bin is in use.
    fn give_open(&self, lane: &Lane, bin: Bin, batch: &[u32]) -> bool {
        let layout = self.layout();
        let first = beginning(lane.owner, layout.params.batches);
        let map = self.word(layout.batch_map(bin.0));
        let empty = !map.load(&BATCH_MAP) & all_open(layout.params.batches);
        for slot in bits_from(empty, first) {
            let filled = self.fill(lane, layout.open_slot(bin.0, slot), batch, FULL);
            if filled.is_ok() || filled.is_err_and(|found| found & FULL != 0) {
                map.fetch_or(1 << slot, &BATCH_MAP);
            }
            if filled.is_ok() {
                return true;
            }
        }
        false
    }

    /// Puts a batch where its owner looks for it: behind the one that this lane put there last, or further on where others have been.
    /// No map is asked, or told. False if none of so many homes of that ring is free.
    fn give_home(&self, lane: &Lane, way: &mut Homeward, looks: usize) -> bool {
        let (layout, bin) = (self.layout(), Bin(way.bin as usize));
        for at in places(way.next_home, layout.ring()).take(looks) {
            let home = layout.home_of(way.owner, bin.0, at);
            // A compare-and-swap in vain would take the line from those who use it.
            if self.word(home).load(&BATCH_LOOK) == 0
                && self.fill(lane, home, way.batch(), full(way.owner, bin)).is_ok()
            {
                way.next_home = at as u8 + 1;
                return true;
            }
        }
        false
    }

    /// Puts a batch into the slot with this control word if it is empty; else what the word says comes back.
    fn fill(&self, lane: &Lane, slot: WordIndex, batch: &[u32], full: u64) -> Result<(), u64> {
        let control = self.word(slot);
        control.cas(0, busy(lane.owner), &BATCH_CLAIM)?;
        for (word, pair) in batch.chunks(2).enumerate() {
            let both = pair[0] as u64 | (*pair.get(1).unwrap_or(&0) as u64) << 32;
            self.word(WordIndex(slot.0 + 1 + word)).store(both, &BATCH_INDEX);
        }
        control.store(full | batch.len() as u64, &BATCH_PASS);
        Ok(())
    }

    /// Takes a batch from the exchange onto the own stack; false if there is none for this lane.
    ///
    /// Its own batches come first: blocks that wander between lanes make them write each other's token lines. A lane that
    /// frees blocks of the size itself leaves nobody's to those that only allocate, for a while.
    pub(super) fn take_batch(&self, lane: &mut Lane, bin: Bin) -> bool {
        let looks = if lane.short_looks > 0 { FEW } else { ALL };
        if self.take_home(lane, bin, looks) {
            (lane.short_looks, lane.patience) = (0, 0);
            return true;
        }
        match looks {
            FEW => lane.short_looks -= 1,
            _ => {
                lane.patience = (2 * lane.patience + 1).min(MOST_SHORT_LOOKS);
                lane.short_looks = lane.patience;
            }
        }
        let stack = &mut lane.stacks[bin.0];
        if stack.spilt > 0 {
            stack.spilt -= 1;
            return false;
        }
        self.take_open(lane, bin)
    }

    /// Takes a batch of the lane's own from so many of its homes: from where the next one is expected, or further on.
    fn take_home(&self, lane: &mut Lane, bin: Bin, looks: usize) -> bool {
        let layout = self.layout();
        let next = lane.stacks[bin.0].next_home;
        for at in places(next, layout.ring()).take(looks) {
            let home = layout.home_of(lane.owner, bin.0, at);
            let control = self.word(home);
            if at == next as usize {
                control.expect_write();
            }
            let found = control.load(&BATCH_LOOK);
            if found & !0xFF == full(lane.owner, bin)
                && let Some(any) = self.empty(lane, bin, home, found)
            {
                lane.stacks[bin.0].next_home = at as u8 + 1;
                return any;
            }
        }
        false
    }

    /// Takes a batch of nobody's blocks.
    fn take_open(&self, lane: &mut Lane, bin: Bin) -> bool {
        let layout = self.layout();
        let first = beginning(lane.owner, layout.params.batches);
        let map = self.word(layout.batch_map(bin.0));
        let full = map.load(&BATCH_MAP) & all_open(layout.params.batches);
        for slot in bits_from(full, first).take(OPEN_LOOKS) {
            let at = layout.open_slot(bin.0, slot);
            let control = self.word(at);
            let found = control.load(&BATCH_LOOK);
            if found & FULL == 0 {
                map.fetch_and(!(1 << slot), &BATCH_MAP);
                if control.load(&BATCH_LOOK) & FULL != 0 {
                    map.fetch_or(1 << slot, &BATCH_MAP);
                }
                continue;
            }
            if let Some(any) = self.empty(lane, bin, at, found) {
                map.fetch_and(!(1 << slot), &BATCH_MAP);
                return any;
            }
        }
        false
    }

    /// Takes the batch of the slot whose control word says `found`, onto the own stack; None if somebody else did.
    fn empty(&self, lane: &mut Lane, bin: Bin, slot: WordIndex, found: u64) -> Option<bool> {
        let layout = self.layout();
        let control = self.word(slot);
        control.cas(found, busy(lane.owner), &BATCH_CLAIM).ok()?;
        let count = ((found & 0xFF) as usize).min(BATCH);
        for i in 0..count {
            let both = self.word(WordIndex(slot.0 + 1 + i / 2)).load(&BATCH_INDEX);
            let g = Granule((both >> (32 * (i % 2))) as u32);
            // Read from shared memory: checked before it enters a stack (C2).
            if (g.0 as u64 + bin.size() as u64) <= layout.granules as u64 {
                self.token(g).expect_write();
                lane.stacks[bin.0].push(g);
            }
        }
        control.store(0, &BATCH_PASS);
        Some(count > 0)
    }

    /// Granules whose tokens share a cache line.
    #[inline(always)]
    fn token_line(&self) -> u32 {
        TOKEN_LINE << self.layout().span_shift
    }

    /// Cuts one contiguous run from a free block, keeps the first block and parks the rest. The run begins and ends
    /// at a cache line of tokens: a lane's parked blocks lie in token lines that no other lane writes.
    pub(super) fn carve(&self, lane: &mut Lane, bin: Bin) -> Option<Held> {
        self.carve_run(lane, bin).or_else(|| self.find_and_take(lane, bin.size()))
    }

    /// As [`Heap::carve`], or none where no run is to be had.
    pub(super) fn carve_run(&self, lane: &mut Lane, bin: Bin) -> Option<Held> {
        let (blocks, granules) = run_of(bin.size(), lane.stacks[bin.0].ceiling() as u32, self.token_line());
        if blocks < 2 {
            return None;
        }
        let run = self.take_run(lane, granules)?;
        Some(self.cut_up(lane, bin, run, blocks))
    }

    /// Takes `size` granules, or a few more, that begin at a token line.
    fn take_run(&self, lane: &mut Lane, size: u32) -> Option<Held> {
        let line = self.token_line();
        loop {
            let (g, token) = self.find(lane, size + line - 1)?;
            let beyond = (g.0 + token.size() - size) % line;
            if let Some(run) = self.take(lane, g, token, size + beyond) {
                return Some(self.shorten(lane, run, size));
            }
            R::Backend::pause();
        }
    }

    /// Cuts a held run into `blocks` blocks of the bin: the first stays held, the others are parked. What is left over is parked
    /// as a block of its own size; less than a span makes the last block larger.
    ///
    /// All heads are COALESCING until the run's own word has shrunk: an ACKED head under it could be taken by a stale
    /// index while the run still covers it (S1 after a crash).
    fn cut_up(&self, lane: &mut Lane, bin: Bin, run: Held, blocks: u32) -> Held {
        let (size, owner) = (bin.size(), lane.owner);
        let early = R::Backend::mutated(Mutant::CarveAckedEarly);
        let over = run.token.size() - blocks * size;
        let pieces = blocks + (over > self.layout().span_mask) as u32;
        let piece = |i: u32| {
            let at = i * size;
            let length = if i + 1 == pieces { run.token.size() - at } else { size };
            (run.at.plus(at), length)
        };
        for i in 1..pieces {
            let (g, length) = piece(i);
            let word = self.token(g);
            let generation = Token(word.load(&HELD_LOOK)).next_generation();
            let state = if early { State::Acked } else { State::Coalescing };
            word.store(Token::new(state, owner, generation, self.place(g, length)).0, &HELD_STORE);
        }
        let (_, length) = piece(0);
        let first = Token::new(State::Coalescing, owner, run.token.next_generation(), self.place(run.at, length));
        self.token(run.at).store(first.0, &HELD_STORE);
        for i in (1..pieces).rev() {
            let (g, length) = piece(i);
            let generation = Token(self.token(g).load(&HELD_LOOK)).generation();
            let held = |state| Token::new(state, owner, generation, self.place(g, length));
            match Bin::of(length).filter(|&own| own == bin || lane.stacks[own.0].has_room()) {
                Some(own) => {
                    if !early {
                        self.token(g).store(held(State::Acked).0, &HELD_STORE);
                    }
                    self.remember(lane, own, g);
                }
                None => drop(self.ripple(lane, Held { at: g, token: held(State::Coalescing) })),
            }
        }
        Held { at: run.at, token: first }
    }

    /// Merges the blocks of a batch that are still parked, whoever parked them. Other processes' wait, with their likes, for one fence.
    fn merge_batch(&self, lane: &mut Lane, batch: &[u32]) {
        let (me, biased) = (lane.owner, self.biased());
        let is_far = |&g: &u32| biased && self.is_far(me, self.look(Granule(g)).parked_by());
        let (far, near): (Vec<u32>, Vec<u32>) = batch.iter().partition(|g| is_far(g));
        self.merge_all(lane, &near);
        if !far.is_empty() {
            let limbo = lane.limbo.get_or_insert_default();
            limbo.0.extend(far);
            if limbo.0.len() >= LIMBO {
                self.empty_limbo(lane);
            }
        }
    }

    /// Merges the blocks that wait for a fence which reaches other processes.
    fn empty_limbo(&self, lane: &mut Lane) {
        if let Some(limbo) = lane.limbo.take() {
            self.merge_all(lane, &limbo.0);
        }
    }

    /// Merges those of these blocks that are still parked, whoever parked them.
    fn merge_all(&self, lane: &mut Lane, blocks: &[u32]) {
        if self.biased() {
            let mut loot = Loot::new(blocks.len(), true);
            blocks.iter().for_each(|&g| self.mark(lane, Granule(g), &mut loot));
            self.take_over(lane, loot);
        }
        for &g in blocks {
            self.merge_parked(lane, Granule(g));
        }
    }

    /// Merges the block at `g` if it is parked and this lane may take it.
    fn merge_parked(&self, lane: &mut Lane, g: Granule) {
        let token = self.look(g);
        if token.is_given_up() && self.fits_sector(g, token) && self.may_take(lane.owner, token) {
            self.coalesce(lane, g, token);
        }
    }

    /// Merges everything that this lane has parked, or has on its way home to other lanes.
    pub fn flush(&self, lane: &mut Lane) {
        for bin in (0..self.layout().bins).map(Bin) {
            loop {
                while let Some(g) = lane.stacks[bin.0].pop() {
                    self.merge_parked(lane, g);
                }
                if !self.take_home(lane, bin, ALL) {
                    break;
                }
            }
            for at in bin.0 * WAYS..(bin.0 + 1) * WAYS {
                if lane.homeward.is_some() && lane.way(at).length > 0 {
                    self.dispatch(lane, at);
                }
            }
        }
        lane.homeward = None;
        self.merge_backlog(lane);
        self.empty_limbo(lane);
    }

    /// Marks the block at `g` if it is parked by another lane, and nobody adopts it, and keeps it for [`Heap::take_over`].
    fn mark(&self, lane: &Lane, g: Granule, loot: &mut Loot) {
        let token = self.look(g);
        let parked = token.is_given_up() && self.fits_sector(g, token) && !self.may_take(lane.owner, token);
        if !parked
            || self.is_adopting(token.parked_by())
            || loot.is_full()
            || !loot.far && self.is_far(lane.owner, token.parked_by())
        {
            return;
        }
        let is_marked = token.state() == State::Marked;
        if is_marked && token.owner() != lane.owner && !R::Backend::mutated(Mutant::AnothersMarkUsed) {
            loot.anothers.push((g, token));
            return;
        }
        // One of its own number's is as good: its last holder is dead, and that one's compare-and-swap never comes.
        let marked = if is_marked { token } else { token.marked(lane.owner) };
        let unmarked = R::Backend::mutated(Mutant::MarkDropped);
        if is_marked || unmarked || self.token(g).cas(token.0, marked.0, &MARK).is_ok() {
            loot.marked.push((g, if unmarked { token } else { marked }));
        }
    }

    /// Behind the heavy fence: marked blocks whose owners do not name them become this lane's parked blocks, the others
    /// their owners' again. Another thief's mark that has stood for the time of a fence is replaced by one of this thief's, for a second
    /// fence: of all who want a block, the last to mark it gets it (L1, L2).
    fn take_over(&self, lane: &Lane, loot: Loot) {
        let Loot { mut marked, mut anothers, .. } = loot;
        while !marked.is_empty() || !anothers.is_empty() {
            let reach = || self.reach(lane.owner, marked.iter().map(|(_, mark)| mark.parked_by()));
            let fenced =
                R::Backend::mutated(Mutant::ThiefFenceDropped) || R::Backend::heavy_fence(&THIEF_FENCE, reach());
            for (g, mark) in marked {
                let owner = mark.parked_by();
                let free_to_go = fenced && (!self.names(owner, g) || R::Backend::mutated(Mutant::BusyIgnored));
                let whose = if free_to_go { lane.owner } else { owner };
                let acked = Token::new(State::Acked, whose, mark.generation(), self.place(g, mark.size()));
                let _ = self.token(g).cas(mark.0, acked.0, &TAKE_OVER);
            }
            let mine = |(g, mark): (Granule, Token)| {
                let marked = mark.marked(lane.owner);
                self.token(g).cas(mark.0, marked.0, &MARK).is_ok().then_some((g, marked))
            };
            marked = std::mem::take(&mut anothers).into_iter().filter_map(mine).collect();
        }
    }

    /// Gives, as `me`, the live block read as `token` another owner, whosever it is. None if it has changed, if its owner is freeing it, or
    /// if another is just adopting it.
    ///
    /// One compare-and-swap where it is this lane's or nobody's, else two and a heavy fence.
    pub fn rename_from(&self, me: u16, g: Granule, token: Token, to: u16) -> Option<Token> {
        let owner = token.owner();
        if !self.biased() || is_nobody(owner) || owner == me || !is_parkable(token.size()) {
            return self.rename(g, token, to);
        }
        if self.is_adopting(owner) {
            return None;
        }
        // First the token says that we adopt it: its owner may be about to store that it is parked, and nobody may build on it before
        // that is ruled out. The slot says whose it was, for whoever ends this if we do not.
        let adopting = self.slot(me, SlotWord::Adopting);
        adopting.store((owner as u64) << 32 | (g.0 as u64 + 1), &ADOPTING);
        let ours = self.rename(g, token, adopter(me));
        let given = ours.and_then(|_| {
            let other = self.still_names(me, owner, g);
            self.end_adoption(me, g, other, to).filter(|_| other.is_none())
        });
        adopting.store(0, &ADOPTING);
        given
    }

    /// Whether an owner's number says that a participant is adopting the block and has not yet ruled out that whose it was stores
    /// its token.
    fn is_adopting(&self, owner: u16) -> bool {
        is_adopter(owner) && !R::Backend::mutated(Mutant::AdoptingIgnored)
    }

    /// Fences, and says whether `owner`, whose block at `g` is being adopted, may be about to store its token. Nobody else may, whatever
    /// slots name it: a stale index or an offset leads many to a block that was never theirs. Where there is no fence to be had, it may.
    fn still_names(&self, caller: u16, owner: u16, g: Granule) -> Option<u16> {
        let fenced = R::Backend::heavy_fence(&THIEF_FENCE, self.reach(caller, std::iter::once(owner)));
        if R::Backend::mutated(Mutant::BystanderBelieved) {
            return (1..=self.layout().params.participants as u16).find(|&other| self.names(other, g));
        }
        (!fenced || self.names(owner, g)).then_some(owner)
    }

    /// What `me` is adopting at `g` goes back to `other`, if there is one. Else it becomes `to`'s; or nobody's, if it is parked or marked by
    /// now. The token of a live block.
    fn end_adoption(&self, me: u16, g: Granule, other: Option<u16>, to: u16) -> Option<Token> {
        loop {
            let now = self.look(g);
            if now.parked_by() != adopter(me) {
                return None;
            }
            let ended = match now.is_given_up() {
                true => Token::new(State::Acked, other.unwrap_or(0), now.generation(), self.place(g, now.size())),
                false if now.is_live() => Token::new(now.state(), other.unwrap_or(to), now.generation(), now.low()),
                false => return None,
            };
            if self.token(g).cas(now.0, ended.0, &ADOPT).is_ok() {
                return ended.is_live().then_some(ended);
            }
            R::Backend::pause();
        }
    }

    /// The dead participant's adoption comes to its end: the block is whose it was. That takes no fence: its owner may store the token.
    pub(super) fn finish_adoption(&self, dead: u16) {
        let adopting = self.slot(dead, SlotWord::Adopting);
        let named = adopting.load(&BUSY_LOOK);
        if let Some(g) = (named as u32).checked_sub(1).map(Granule)
            && g.0 < self.layout().granules
            && self.look(g).parked_by() == adopter(dead)
        {
            // A number that is no participant's was not written by an adoption (C2).
            let owner = Some((named >> 32) as u16).filter(|&owner| self.is_participant(owner));
            self.end_adoption(dead, g, owner, dead);
        }
        adopting.store(0, &ADOPTING);
    }

    fn is_participant(&self, owner: u16) -> bool {
        (1..=self.layout().params.participants).contains(&(owner as usize))
    }

    /// Whose the live block at `g` was, read as `token`, that another is just adopting, and whose it may yet become again; 0 if nobody
    /// adopts it. None if it has changed meanwhile.
    ///
    /// An adopter's slot names the block for as long as its token says that it adopts it.
    pub(crate) fn adopted_from(&self, g: Granule, token: Token) -> Option<u16> {
        if !token.is_live() || !is_adopter(token.owner()) || !self.is_participant(token.holder()) {
            return Some(0);
        }
        for _ in 0..ADOPTION_LOOKS {
            let named = self.slot(token.holder(), SlotWord::Adopting).load(&BUSY_LOOK);
            if named as u32 == g.0 + 1 {
                return Some((named >> 32) as u16);
            }
            // Each time it has ended and begun anew, or no adoption wrote that.
            if self.look(g) != token {
                return None;
            }
        }
        Some(0)
    }

    /// Takes parked blocks of other lanes over, from the one at `g` on, as many as one fence may serve. True if the block
    /// at `g` may be taken now, or has changed.
    pub(super) fn steal(&self, lane: &Lane, g: Granule) -> bool {
        let before = self.look(g);
        let (most, reach, far) = match self.is_far(lane.owner, before.parked_by()) {
            true => (FAR_LOOT, usize::MAX, true),
            false => (LOOT, LOOT_REACH, false),
        };
        let (mut at, mut loot) = (g, Loot::new(most, far));
        for _ in 0..reach {
            let token = self.look(at);
            if token.state() == State::Inside || !self.fits_sector(at, token) || loot.is_full() {
                break;
            }
            self.mark(lane, at, &mut loot);
            at = at.plus(token.size());
        }
        self.take_over(lane, loot);
        let now = self.look(g);
        now.size() != before.size() || !now.is_given_up() || self.may_take(lane.owner, now)
    }

    /// The bin in which blocks of `size` granules are parked by this lane when freed, if they are.
    #[inline(always)]
    pub(super) fn parking_bin(&self, lane: &Lane, size: u32) -> Option<Bin> {
        Bin::of(size).filter(|_| lane.parks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::decorators::{Counts, Probe, stopped_at};
    use crate::matrix::recovery::Policy;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    fn heap(bytes: u64, participants: usize) -> Heap<BoxedRegion<Native>> {
        let params = Params { biased: true, participants, ..Params::for_segment(bytes) };
        Heap::format(BoxedRegion::new(Layout::fit(bytes, params).expect("room for a sector")))
    }

    /// A lane of a large heap, used with a small one by mistake, names granules within the small one's words.
    #[test]
    fn s5_a_lane_of_another_heap_stays_within_this_ones_words() {
        let (large, small) = (heap(4 << 20, 1024), heap(64 << 10, 4));
        let mut lane = Lane::new(1000);
        large.allocate(&mut lane, 8, 1, Kind::Raw).expect("room");
        let mut other = Lane::new(1);
        let block = small.allocate(&mut other, 8, 1, Kind::Raw).expect("room");
        assert!(lane.busy as usize > small.layout().words, "the case is met");
        assert!(!small.free_to_stack(&mut lane, block.at, None), "it is another lane's");
    }

    /// The quick ways to free leave what the thorough one leaves, typed or not, whatever the size and wherever in its span.
    #[test]
    fn s4_a_quick_free_leaves_what_a_thorough_one_leaves() {
        let (quick, thorough) = (heap(1 << 20, 4), heap(1 << 20, 4));
        let (mut lane, mut other) = (Lane::new(1), Lane::new(1));
        let layout = quick.layout();
        let mut positions = std::collections::BTreeSet::new();
        for (round, size) in (0..4).flat_map(|round| (layout.span_mask + 1..EXACT).map(move |size| (round, size))) {
            for kind in [Kind::Raw, Kind::Typed(0x1FF_FFFF), Kind::Typed(round)] {
                let mut made = vec![];
                for _ in 0..4 {
                    let block = quick.allocate(&mut lane, size, 1, kind).expect("room");
                    assert_eq!(thorough.allocate(&mut other, size, 1, kind), Ok(block));
                    made.push(block);
                }
                for block in made {
                    let typed = kind != Kind::Raw;
                    assert_eq!(typed, block.token.is_typed());
                    let stale = Live { token: Token(block.token.0 ^ Token::new(State::Inside, 0, 1, 0).0), ..block };
                    // SAFETY: one heap for each lane, and its own geometry.
                    unsafe {
                        assert!(!quick.free_live(&mut lane, stale, typed, layout), "S5: another generation");
                        assert!(!quick.free_live(&mut lane, block, !typed, layout), "S5: of another kind");
                        let freed = quick.free_live(&mut lane, block, typed, layout);
                        assert!(freed || !lane.stacks[size as usize].has_room(), "{size} {kind:?}");
                        if !freed {
                            quick.free(&mut lane, block.at, Some(block.token.generation())).expect("live");
                        }
                    }
                    thorough.free(&mut other, block.at, Some(block.token.generation())).expect("live");
                    assert_eq!(quick.look(block.at), thorough.look(block.at), "{size} {kind:?}");
                    positions.insert(block.token.position());
                }
            }
        }
        assert_eq!(positions.len(), 4, "everywhere in a span: {positions:?}");
    }

    /// An adopter is killed at each of its accesses, beside an owner that names the block or does not, and a third that frees it then or does
    /// not; its recoverer as well, at each of its own. The block is its owner's or freed, and no byte is lost.
    #[test]
    fn c1_an_adoption_is_ended_wherever_it_stops() {
        const CASES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];
        let params = Params { biased: true, participants: 8, ..Params::for_segment(64 << 10) };
        let layout = Layout::fit(64 << 10, params).expect("room for a sector");
        let mut stops = 0;
        for (named, freed) in CASES {
            let (mut adopter_ends, mut k) = (false, 0);
            while !adopter_ends {
                let (mut recoverer_ends, mut deep) = (false, 0);
                while !recoverer_ends {
                    let what = format!("stopped at {k} and {deep}, named {named}, freed {freed}");
                    let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(layout.clone()));
                    let (mut owner, mut third) = (Lane::new(1), Lane::new(3));
                    let block = heap.allocate(&mut owner, 8, 1, Kind::Raw).expect("room");
                    let (at, generation) = (block.at, block.token.generation());
                    let busy = heap.slot(1, SlotWord::Busy);
                    busy.store(if named { at.0 as u64 + 1 } else { 0 }, &BUSY_SET);
                    adopter_ends = stopped_at(k, || heap.rename_from(2, at, block.token, 2)).is_some();
                    if freed {
                        heap.free(&mut third, at, Some(generation)).expect(&what);
                    }
                    let adopted = heap.look(at).owner() == 2;
                    let recover = |by: u16, dead| heap.recover(&mut Lane::new(by), dead, Policy::GiveBack);
                    recoverer_ends = stopped_at(deep, || recover(4, 2)).is_some();
                    if !recoverer_ends {
                        recover(5, 4);
                        recover(5, 2);
                    }
                    let now = heap.look(at);
                    match now.is_live() {
                        true => assert_eq!((now.owner(), now.generation(), freed), (1, generation, false), "{what}"),
                        false => assert!(freed || adopted, "S1: its owner may be about to store it, {what}"),
                    }
                    busy.store(0, &BUSY_CLEAR);
                    if now.is_live() {
                        heap.free(&mut owner, at, Some(generation)).expect(&what);
                    }
                    heap.heal(&mut third);
                    let tally = heap.verify().expect(&what);
                    assert_eq!((tally.free.blocks, tally.free.granules), (1, layout.granules as u64), "{what}");
                    stops += 1;
                    deep += 1;
                }
                k += 1;
            }
        }
        println!("{stops} stops");
        assert!(stops > 500, "{stops}");
    }

    /// A block that is live has its fingerprint, at whichever access its allocation stopped, on whichever way it was found: whoever frees it
    /// by its offset may have merged it before the allocation goes on.
    #[test]
    fn s4_no_block_is_live_before_its_fingerprint_stands() {
        const FINGERPRINT: u32 = 0x123_4567;
        let params = Params { biased: true, participants: 4, ..Params::for_segment(64 << 10) };
        let layout = Layout::fit(64 << 10, params).expect("room for a sector");
        let mut stops = 0;
        for way in 0..4 {
            let (mut ends, mut k) = (false, 0);
            while !ends {
                let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(layout.clone()));
                let mut lane = Lane::with_ceiling(1, if way == 0 { 0 } else { STACK });
                if way > 0 {
                    let block = heap.allocate(&mut lane, 12, 1, Kind::Raw).expect("room");
                    heap.free(&mut lane, block.at, None).expect("live");
                }
                if way == 3 {
                    let at = Granule(lane.stacks[12].items[lane.stacks[12].top as usize - 1]);
                    heap.token(at).store(Token::new(State::Acked, 0, 5, heap.place(at, 12)).0, &HELD_STORE);
                }
                ends = stopped_at(k, || {
                    let quick = match way {
                        // SAFETY: one heap, and its own geometry.
                        1 => unsafe { heap.allocate_own(&mut lane, 12, 0, Kind::Typed(FINGERPRINT), heap.layout()) },
                        _ => None,
                    };
                    quick.is_some() || heap.allocate(&mut lane, 12, 1, Kind::Typed(FINGERPRINT)).is_ok()
                })
                .is_some();
                let mut live = 0;
                heap.walk(|at, token| {
                    if token.is_live() {
                        live += 1;
                        assert_eq!(heap.fingerprint(Live { at, token }), Some(FINGERPRINT), "{way}, stopped at {k}");
                    }
                })
                .expect("S4");
                assert!(live == 1 || !ends, "{way}");
                stops += live;
                k += 1;
            }
        }
        assert!(stops >= 4, "{stops}");
    }

    /// What is freed for a lane that takes nothing waits, without a fence, and is cut no second time when that lane takes again; more than
    /// that is merged, many blocks behind one fence.
    #[test]
    fn l4_what_finds_no_home_waits_and_goes_home_later() {
        const BYTES: u64 = 16 << 20;
        let params = Params { biased: true, ..Params::for_segment(BYTES) };
        let layout = Layout::fit(BYTES, params).expect("room for a sector");
        let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(layout));
        let (mut producer, mut consumer) = (Lane::new(1), Lane::new(2));
        let mut send = |count: usize| -> Vec<Live> {
            (0..count).map(|_| heap.allocate(&mut producer, 8, 1, Kind::Raw).expect("room")).collect()
        };
        let mut receive = |sent: Vec<Live>| {
            Counts::reset();
            sent.iter()
                .for_each(|live| heap.free(&mut consumer, live.at, Some(live.token.generation())).expect("live"));
            (Counts::get().heavy_fences, consumer.backlog.as_ref().map_or(0, |backlog| backlog.0.len()))
        };
        let ring = heap.layout().ring();
        let burst = send(2 * ring * BATCH);
        let mut seen: std::collections::BTreeSet<u32> = burst.iter().map(|live| live.at.0).collect();
        let (fences, waiting) = receive(burst);
        assert_eq!(fences, 0);
        assert!(waiting >= ring / 2, "half of them find no home: {waiting}");
        for _ in 0..4 * ring {
            let sent = send(2 * BATCH);
            seen.extend(sent.iter().map(|live| live.at.0));
            let (fences, _) = receive(sent);
            assert_eq!(fences, 0);
        }
        assert!(seen.len() <= 2 * ring * BATCH + STACK, "cut once more: {}", seen.len());
        let many = send(20_000);
        let (fences, waiting) = receive(many);
        assert!((1..200).contains(&fences), "{fences} fences");
        assert!(waiting <= heap.layout().homes() / HOMES_PER_BACKLOG, "{waiting} batches wait");
        heap.flush(&mut consumer);
        heap.flush(&mut producer);
        heap.heal(&mut producer);
        let tally = heap.verify().expect("at rest");
        assert_eq!((tally.free.blocks, tally.free.granules), (1, heap.layout().granules as u64));
    }

    /// A parked block of the last generation, one generation on, looks like a live one of the next lane: S1 if that lane has a stale index.
    #[test]
    fn s1_a_generation_that_wraps_makes_nobody_else_the_owner() {
        let heap = heap(1 << 20, 16);
        for (of, next) in [(4, 5), (0, 1)] {
            let (mut lane, mut first) = (Lane::new(next), Lane::new(of.max(1) + 7));
            heap.bind(&mut lane);
            let block = heap.allocate(&mut first, 8, 1, Kind::Raw).expect("room");
            let last = Token(u64::MAX).generation();
            let parked = Token::new(State::Acked, of, last, heap.place(block.at, 8));
            heap.token(block.at).store(parked.0, &HELD_STORE);
            assert!(lane.stacks[8].push(block.at));
            // SAFETY: one heap, and its own geometry.
            let quick = unsafe { heap.allocate_own(&mut lane, 8, 0, Kind::Raw, heap.layout()) };
            assert_eq!(quick, None, "S1: a block of {of}'s");
            let slow = heap.pop(&mut lane, Bin(8), Kind::Raw);
            match of {
                0 => assert_eq!(slow.map(|(_, token)| (token.owner(), token.generation())), Some((next, 0))),
                _ => assert_eq!(slow, None, "S1: a block of {of}'s"),
            }
        }
    }
}
