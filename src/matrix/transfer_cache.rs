//! The transfer cache: batches of parked blocks' indices change hands through slots in the segment.
//!
//! A batch that is lost (its filler stopped half-way) costs nothing but the aid: the blocks are in their headers.
//!
//! What a cache has freed for another goes to that cache's *homes*: a producer's empty stack finds there what
//! its consumer has freed, without a ripple and a split. A cache has up to 64 homes for each bin, its ring.
//! Its fillers and the cache that empties it go round it the same way, so that each finds the next one at the first
//! look, no map is asked or told, and they are seldom at one home at once. The rings of all caches and
//! bins lie in one array, scattered: where a home is in use by another, the next one serves.
//!
//! Unowned blocks go to one of up to 64 *transfer slots* of their bin, where any cache in need takes them. A
//! word for each bin tells which of them are full, so that no cache has to walk them. A bit may lie; a cache that
//! meets a wrong one mends it.

use super::thread_cache::{RemoteBatch, ThreadCache};
use super::words::{Heap, view};
use crate::backend::Word;
use crate::backend::orderings::{BATCH_CLAIM, BATCH_INDEX, BATCH_LOOK, BATCH_MAP, BATCH_PASS};
use crate::packed::packed;
use crate::segment::layout::{BATCH, Granule, MAX_BATCHES};
use crate::segment::region::{Region, WordIndex};
use crate::segment::size_class::Bin;

packed! {
    /// The control word of a full slot: how many blocks are in it, and in a home, their owner and bin.
    struct Full { COUNT: 8, OWNER: 16, BIN: 8, KIND: 32 }
}
packed! {
    /// The control word of a slot that a participant is filling or emptying.
    struct Claimed { BY: 32, KIND: 32 }
}
/// Of an empty slot it is 0.
const FULL: u64 = Full::KIND.of(1);
const CLAIMED: u64 = Claimed::KIND.of(2);

/// The control word of a batch that a participant is filling or emptying.
const fn claimed(owner: u16) -> u64 {
    CLAIMED | Claimed::BY.of(owner as u64)
}

/// The participant that fills or empties a batch, or for which it waits in a home, by its control word.
pub(super) const fn filler_of(control: u64) -> Option<u16> {
    let owner = match Full::KIND.get(control) {
        2 => Claimed::BY.get(control) as u16,
        1 => Full::OWNER.get(control) as u16,
        _ => 0,
    };
    if owner == 0 { None } else { Some(owner) }
}

/// The control word of a full batch, as far as it tells the blocks' owner and bin.
pub(super) const fn full(owner: u16, bin: Bin) -> u64 {
    FULL | Full::BIN.of(bin.0 as u64) | Full::OWNER.of(owner as u64)
}

/// All homes of a ring are looked at.
pub(super) const ALL: usize = usize::MAX;
/// Transfer slots that a cache in need looks at.
const OPEN_LOOKS: usize = 8;

/// One bit for each of so many transfer slots.
const fn all_open(slots: usize) -> u64 {
    if slots >= MAX_BATCHES { u64::MAX } else { (1 << slots) - 1 }
}

/// Where a cache begins among the transfer slots: different caches' beginnings lie apart.
fn beginning(owner: u16, slots: usize) -> usize {
    let spread = (owner as u32).wrapping_mul(0x9E37_79B9);
    ((spread as u64 * slots as u64) >> 32) as usize
}

/// A ring's places, from `first` on and round to those before it.
pub(super) fn places(first: u8, ring: usize) -> impl Iterator<Item = usize> {
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

view! {
    /// Where batches of parked blocks change hands.
    pub(crate) struct TransferCache, transfer_cache
}

impl<R: Region> TransferCache<'_, R> {
    /// Puts a batch of unowned blocks into the transfer cache; false if every transfer slot of the bin is in use.
    pub(super) fn put_batch(self, cache: &ThreadCache, bin: Bin, batch: &[u32]) -> bool {
        let layout = self.heap.layout();
        let first = beginning(cache.owner, layout.params.batches);
        let map = self.heap.word(layout.batch_map(bin.0));
        let empty = !map.load(&BATCH_MAP) & all_open(layout.params.batches);
        for slot in bits_from(empty, first) {
            let filled = self.fill(cache, layout.transfer_slot(bin.0, slot), batch, FULL);
            if filled.is_ok() || filled.is_err_and(|found| found & FULL != 0) {
                map.fetch_or(1 << slot, &BATCH_MAP);
            }
            if filled.is_ok() {
                return true;
            }
        }
        false
    }

    /// Puts a batch where its owner looks for it: behind the one that this cache put there last, or further
    /// on where others have been. No map is asked, or told. False if none of so many homes of that ring is
    /// free.
    pub(super) fn give_home(self, cache: &ThreadCache, way: &mut RemoteBatch, looks: usize) -> bool {
        let (layout, bin) = (self.heap.layout(), Bin(way.bin as usize));
        for at in places(way.next_home, layout.ring()).take(looks) {
            let home = layout.home_of(way.owner, bin.0, at);
            // A compare-and-swap in vain would take the line from its users.
            if self.heap.word(home).load(&BATCH_LOOK) == 0
                && self.fill(cache, home, way.batch(), full(way.owner, bin)).is_ok()
            {
                way.next_home = at as u8 + 1;
                return true;
            }
        }
        false
    }

    /// Puts a batch into the slot with this control word if it is empty; else what the word says comes back.
    pub(super) fn fill(self, cache: &ThreadCache, slot: WordIndex, batch: &[u32], full: u64) -> Result<(), u64> {
        let control = self.heap.word(slot);
        control.cas(0, claimed(cache.owner), &BATCH_CLAIM)?;
        for (word, pair) in batch.chunks(2).enumerate() {
            let both = pair[0] as u64 | (*pair.get(1).unwrap_or(&0) as u64) << 32;
            self.heap.word(WordIndex(slot.0 + 1 + word)).store(both, &BATCH_INDEX);
        }
        control.store(full | batch.len() as u64, &BATCH_PASS);
        Ok(())
    }

    /// Takes a batch of the cache's own from so many of its homes: from where the next one is expected, or further on.
    pub(super) fn take_home(self, cache: &mut ThreadCache, bin: Bin, looks: usize) -> bool {
        let layout = self.heap.layout();
        let next = cache.stacks[bin.0].next_home;
        for at in places(next, layout.ring()).take(looks) {
            let home = layout.home_of(cache.owner, bin.0, at);
            let control = self.heap.word(home);
            if at == next as usize {
                control.expect_write();
            }
            let found = control.load(&BATCH_LOOK);
            if found & !0xFF == full(cache.owner, bin)
                && let Some(any) = self.unload(cache, bin, home, found)
            {
                cache.stacks[bin.0].next_home = at as u8 + 1;
                return any;
            }
        }
        false
    }

    /// Takes a batch of unowned blocks.
    pub(super) fn get_batch(self, cache: &mut ThreadCache, bin: Bin) -> bool {
        let layout = self.heap.layout();
        let first = beginning(cache.owner, layout.params.batches);
        let map = self.heap.word(layout.batch_map(bin.0));
        let full = map.load(&BATCH_MAP) & all_open(layout.params.batches);
        for slot in bits_from(full, first).take(OPEN_LOOKS) {
            let at = layout.transfer_slot(bin.0, slot);
            let control = self.heap.word(at);
            let found = control.load(&BATCH_LOOK);
            if found & FULL == 0 {
                map.fetch_and(!(1 << slot), &BATCH_MAP);
                if control.load(&BATCH_LOOK) & FULL != 0 {
                    map.fetch_or(1 << slot, &BATCH_MAP);
                }
                continue;
            }
            if let Some(any) = self.unload(cache, bin, at, found) {
                map.fetch_and(!(1 << slot), &BATCH_MAP);
                return any;
            }
        }
        false
    }

    /// Takes the batch of the slot whose control word says `found`, onto the own stack; None if somebody else did.
    fn unload(self, cache: &mut ThreadCache, bin: Bin, slot: WordIndex, found: u64) -> Option<bool> {
        let granules = self.heap.layout().granules;
        let (items, count) = self.open_batch(cache, slot, found)?;
        for g in items[..count].iter().map(|&g| Granule(g)) {
            // Read from shared memory: checked before it enters a stack (C2).
            if (g.0 as u64 + bin.size() as u64) <= granules as u64 {
                cache.stacks[bin.0].push(g);
            }
        }
        Some(count > 0)
    }

    /// Takes the batch of the slot whose control word says `found`, and how many there are; None if somebody
    /// else did. Their headers' lines may come.
    pub(super) fn open_batch(self, cache: &ThreadCache, slot: WordIndex, found: u64) -> Option<([u32; BATCH], usize)> {
        let control = self.heap.word(slot);
        control.cas(found, claimed(cache.owner), &BATCH_CLAIM).ok()?;
        let (mut items, count) = ([0; BATCH], ((found & 0xFF) as usize).min(BATCH));
        for (i, item) in items[..count].iter_mut().enumerate() {
            let both = self.heap.word(WordIndex(slot.0 + 1 + i / 2)).load(&BATCH_INDEX);
            *item = (both >> (32 * (i % 2))) as u32;
            self.heap.header(Granule(*item)).expect_write();
        }
        control.store(0, &BATCH_PASS);
        Some((items, count))
    }
}
