//! Hints: bitmaps that say where to look for a free block of a size.
//!
//! From below: a *leaf* word has a bit for each of 64 spans where a FREE block may begin (all classes). Each
//! class has a *tree* whose lowest level has a bit for each leaf word that may hold a block of the class. Above the
//! trees' roots stand the second-level words (a bit for each of 8 steps) and the first-level word (a bit for each
//! power of two).
//!
//! A hint may lie: it costs time, never safety. None is lost (L2), for this reason. A publisher writes the header
//! first and then sets hints from below, each with a read-modify-write, and goes up where it made a word nonzero. A
//! searcher that finds nothing of its class behind a hint clears it, and looks *once more* behind it; if something
//! has appeared, it sets the hint again. On each word the read-modify-writes are totally ordered: either the
//! publisher's set comes after the searcher's clear, and the hint stands; or before it, and then the searcher's
//! clear acquires the publisher's release, so that its recheck sees what was published, and it sets the hint
//! itself. Clears go upward by the same rule. A participant that stops between its clear and its recheck can hide a
//! hint, not a block: whoever finds nothing sweeps the headers (matrix::sweep), which hints what it meets again.

use super::block_header::{Header, State};
use super::thread_cache::ThreadCache;
use super::words::Heap;
use super::words::view;
use crate::backend::orderings::{HINT_CLEAR, HINT_LOOK, HINT_SET};
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{CHUNK, Granule};
use crate::segment::region::{Region, WordIndex};
use crate::segment::size_class::{Class, at_least, of_size};
use std::ops::Range;

/// The bits of a second-level word that stand for something.
const STEPS: u64 = 0xFF;

/// Chunks of a size's own class that a search looks at from each end, where no larger class has a block.
const OWN_CLASS_LOOKS: u32 = 8;
/// Of so many classes at most, where it depends on where a block begins whether it serves...
const FITTING_CLASSES: usize = 8;
/// ...it looks at so many chunks from each end.
const FITTING_LOOKS: u32 = 4;

/// A bit on the path from a leaf word to the first level: `level` counts from the lowest tree level.
#[derive(Clone, Copy)]
struct TreeStep {
    level: usize,
    /// Position at this level: which child.
    at: usize,
}

view! {
    /// Where to look for free memory: class, tree, leaf.
    pub(crate) struct Hints, hints
}

impl<R: Region> Hints<'_, R> {
    /// The word and the bit that stand for child `at` of a class at `level`.
    #[inline]
    fn step(self, class: Class, step: TreeStep) -> (WordIndex, u64) {
        let layout = self.heap.layout();
        // A size that no block of this sector has was not written by the allocator (C2).
        let class = Class(class.0.min(layout.classes - 1));
        if step.level < layout.levels {
            (layout.tree(class.0, step.level, step.at / 64), 1 << (step.at % 64))
        } else if step.level == layout.levels {
            (layout.second_level(class.row()), 1 << class.step())
        } else {
            (layout.first_level(), 1 << class.row())
        }
    }

    /// Hints a block at `g` in `class`. `whole` sets the whole chain, whatever is found (after a crash).
    pub(super) fn hint(self, g: Granule, class: Class, whole: bool) {
        let span = self.heap.layout().span(g) as usize;
        let chunk = span / CHUNK;
        self.heap.word(self.heap.layout().leaf(chunk)).fetch_or(1 << (span % CHUNK), &HINT_SET);
        self.hint_upward(class, TreeStep { level: 0, at: chunk }, whole);
    }

    /// Hints a free block of `size` granules, the whole chain, if a part of that is missing.
    pub(super) fn see_to(self, g: Granule, size: u32) {
        let class = of_size(size);
        if !self.is_hinted(g, class) {
            self.hint(g, class, true);
        }
    }

    fn hint_upward(self, class: Class, mut step: TreeStep, whole: bool) {
        let top = self.heap.layout().levels + 1;
        let mut first = true;
        while step.level <= top {
            let (word, bit) = self.step(class, step);
            // Whoever makes a word nonzero sets the word above, always. Above that a look is enough: a bit
            // missing there was left by one that stopped half-way.
            let broken =
                || self.heap.word(word).load(&HINT_LOOK) & bit == 0 && R::Backend::takes(Mutant::ChainUnrepaired);
            if whole || first || broken() {
                first = self.heap.word(word).fetch_or(bit, &HINT_SET) == 0;
            }
            step = TreeStep { level: step.level + 1, at: step.at / 64 };
        }
    }

    /// Clears the hint for child `step` of a class, behind which `look` finds nothing, and upward while words
    /// become empty.
    fn unhint(self, class: Class, mut step: TreeStep, mut look: impl FnMut() -> bool) {
        let top = self.heap.layout().levels + 1;
        loop {
            let (word, bit) = self.step(class, step);
            let before = self.heap.word(word).fetch_and(!bit, &HINT_CLEAR);
            if R::Backend::takes(Mutant::HintRelookDropped) {
                let something = if step.level == 0 { look() } else { self.child_nonzero(class, step) };
                if something {
                    return self.hint_upward(class, step, false);
                }
            }
            if before & !bit != 0 || step.level == top {
                return;
            }
            step = TreeStep { level: step.level + 1, at: step.at / 64 };
        }
    }

    /// Whether the word below `step` (a level above the lowest) has a bit set.
    fn child_nonzero(self, class: Class, step: TreeStep) -> bool {
        let layout = self.heap.layout();
        let class = Class(class.0.min(layout.classes - 1));
        let below = if step.level <= layout.levels {
            let at = if step.level == layout.levels { 0 } else { step.at };
            if at >= layout.level_words[step.level - 1] {
                return false;
            }
            layout.tree(class.0, step.level - 1, at)
        } else {
            layout.second_level(class.row())
        };
        let steps = if step.level > layout.levels { STEPS } else { !0 };
        self.heap.word(below).load(&HINT_LOOK) & steps != 0
    }

    /// A free block of at least `size` granules, found through the hints: two bitmap operations to the class,
    /// one word a level to the leaf. O(1), plus two looks at a chunk's blocks for each stale hint, which its publisher
    /// has paid for (L4), and as the last resort at sixteen chunks of the size's own class.
    ///
    /// A hint does not stand for blocks of larger classes. A large block leaves hints behind in all the classes through
    /// which it grew or shrank: if it served whoever follows them, small requests would take it to pieces while
    /// there are small blocks enough. It is the last resort only, since its own hint may be on the way.
    pub(super) fn find(self, cache: &mut ThreadCache, size: u32) -> Option<(Granule, Header)> {
        let wanted = at_least(size);
        let mut spare = None;
        loop {
            let Some(class) = self.first_class(wanted) else {
                return self.find_in_own_class(size).or(spare);
            };
            let Some(chunk) = self.end_chunk(class, cache.searches_from_above()) else { continue };
            let beyond = Class(class.0 + 1).size();
            let found = self.find_in_chunk(cache, chunk, size..beyond);
            if found.is_some_and(|(_, header)| header.size() < beyond) {
                return found;
            }
            spare = found.or(spare);
            let look = || self.chunk_has(chunk, class);
            self.unhint(class, TreeStep { level: 0, at: chunk }, look);
        }
    }

    /// The first class from `wanted` on that has a hint. Stale first-level bits on the way are cleared.
    fn first_class(self, wanted: Class) -> Option<Class> {
        let layout = self.heap.layout();
        if wanted.0 >= layout.classes {
            return None;
        }
        let steps = self.heap.word(layout.second_level(wanted.row())).load(&HINT_LOOK) & STEPS & (!0 << wanted.step());
        let last_row = layout.classes.div_ceil(8) - 1;
        let in_range = |row: usize, steps: u64| {
            let class = row * 8 + steps.trailing_zeros() as usize;
            (steps != 0 && class < layout.classes).then_some(Class(class))
        };
        if let Some(class) = in_range(wanted.row(), steps) {
            return Some(class);
        }
        loop {
            let rows = self.heap.word(layout.first_level()).load(&HINT_LOOK);
            let rows = rows & (!0u64).checked_shl(wanted.row() as u32 + 1).unwrap_or(0);
            let row = rows.trailing_zeros() as usize;
            if rows == 0 || row > last_row {
                return None;
            }
            let steps = self.heap.word(layout.second_level(row)).load(&HINT_LOOK) & STEPS;
            if steps != 0 {
                return in_range(row, steps);
            }
            self.unhint(Class(row * 8), TreeStep { level: layout.levels + 1, at: 0 }, || false);
        }
    }

    /// What the largest free block has, in granules, as far as hints tell: 0 where they tell of none. Stale hints on
    /// the way are cleared.
    pub(super) fn largest(self, cache: &mut ThreadCache) -> u32 {
        let layout = self.heap.layout();
        let in_range = |bits: u64, from: usize, end: usize| {
            let bits = bits & !(!0u64).checked_shl((end - from) as u32).unwrap_or(0);
            bits.checked_ilog2().map(|bit| from + bit as usize)
        };
        loop {
            let rows = self.heap.word(layout.first_level()).load(&HINT_LOOK);
            let Some(row) = in_range(rows, 0, layout.classes.div_ceil(8)) else { return 0 };
            let steps = self.heap.word(layout.second_level(row)).load(&HINT_LOOK) & STEPS;
            if steps == 0 {
                self.unhint(Class(row * 8), TreeStep { level: layout.levels + 1, at: 0 }, || false);
                continue;
            }
            // Else not written by the allocator (C2).
            let Some(class) = in_range(steps, row * 8, layout.classes).map(Class) else { return 0 };
            let Some(chunk) = self.end_chunk(class, cache.searches_from_above()) else { continue };
            let sizes = class.size()..Class(class.0 + 1).size();
            if let Some((_, header)) = self.find_in_chunk(cache, chunk, sizes) {
                return header.size();
            }
            self.unhint(class, TreeStep { level: 0, at: chunk }, || self.chunk_has(chunk, class));
        }
    }

    /// The first chunk hinted in `class` or the last, or none after clearing the stale hint met on the way down.
    fn end_chunk(self, class: Class, from_above: bool) -> Option<usize> {
        let layout = self.heap.layout();
        let mut at = 0;
        for level in (0..layout.levels).rev() {
            let word = self.heap.word(layout.tree(class.0, level, at)).load(&HINT_LOOK);
            if word == 0 {
                self.unhint(class, TreeStep { level: level + 1, at }, || false);
                return None;
            }
            at = at * 64 + if from_above { 63 - word.leading_zeros() } else { word.trailing_zeros() } as usize;
            let children = if level > 0 { layout.level_words[level - 1] } else { layout.chunks() };
            if at >= children {
                // Not written by the allocator (C2): a bit that stands for nothing.
                self.unhint(class, TreeStep { level, at }, || false);
                return None;
            }
        }
        Some(at)
    }

    /// A free block of one of the `sizes` that begins in `chunk`, or else a larger one. Operations in force are helped
    /// to their end, and hints of granules where nothing free begins are cleared.
    fn find_in_chunk(self, cache: &mut ThreadCache, chunk: usize, sizes: Range<u32>) -> Option<(Granule, Header)> {
        let mut larger = None;
        let leaf = self.heap.word(self.heap.layout().leaf(chunk));
        let mut bits = leaf.load(&HINT_LOOK);
        while bits != 0 {
            let bit =
                if cache.searches_from_above() { 1 << (63 - bits.leading_zeros()) } else { bits & bits.wrapping_neg() };
            let span = (chunk * CHUNK) as u32 + bit.trailing_zeros();
            let (g, header) = self.settled(cache, span);
            if header.is_free() && self.heap.fits_sector(g, header) {
                if sizes.contains(&header.size()) {
                    return Some((g, header));
                }
                if header.size() >= sizes.end {
                    larger = Some((g, header));
                }
                bits &= !bit;
                continue;
            }
            leaf.fetch_and(!bit, &HINT_CLEAR);
            // Once more, and after helping: a block under an announced operation is free, and whoever commits
            // it in its old class does not hint it again. The whole chain is set, since others may have found
            // this leaf empty meanwhile.
            let (g, now) = self.settled(cache, span);
            if now.is_free() && self.heap.fits_sector(g, now) && R::Backend::takes(Mutant::HintRelookDropped) {
                if R::Backend::mutated(Mutant::LeafAloneRehinted) {
                    leaf.fetch_or(bit, &HINT_SET);
                } else {
                    self.hint(g, of_size(now.size()), false);
                }
            } else {
                bits &= !bit;
            }
        }
        larger
    }

    /// What begins in a span, and where.
    #[inline(always)]
    fn begins_in(self, span: u32) -> (Granule, Header) {
        let header = self.heap.look_at_span(span);
        (self.heap.head_of(span, header), header)
    }

    /// What begins in a span, and where, after helping whatever operation is in force there.
    fn settled(self, cache: &mut ThreadCache, span: u32) -> (Granule, Header) {
        loop {
            let (g, header) = self.begins_in(span);
            if header.state() != State::Coalescing || !self.heap.operations().help(cache, g, header) {
                return (g, header);
            }
            R::Backend::pause();
        }
    }

    /// Whether a free block of `class` begins in `chunk`, or one that an operation or its holder has in hand.
    fn chunk_has(self, chunk: usize, class: Class) -> bool {
        let mut bits = self.heap.word(self.heap.layout().leaf(chunk)).load(&HINT_LOOK);
        while bits != 0 {
            let (g, header) = self.begins_in((chunk * CHUNK) as u32 + bits.trailing_zeros());
            let possibly = matches!(header.state(), State::Free | State::Coalescing);
            if possibly && of_size(header.size()) == class && self.heap.fits_sector(g, header) {
                return true;
            }
            bits &= bits - 1;
        }
        false
    }

    /// The last resort of a search, bounded: a few chunks of the size's own class, from both ends, whose blocks may or
    /// may not fit. Stale hints on the way are cleared.
    fn find_in_own_class(self, size: u32) -> Option<(Granule, Header)> {
        let class = of_size(size);
        if class == at_least(size) {
            return None;
        }
        let fits = |_, found| (found >= size).then_some(());
        self.find_in_class(class, OWN_CLASS_LOOKS, fits).map(|(g, header, ())| (g, header))
    }

    /// The same for a block that `fits`, of at least `least` granules, where no block has the `room` that is enough
    /// wherever it begins: in the classes between. With what `fits` says.
    pub(super) fn find_fitting<T>(
        self,
        least: u32,
        room: u32,
        fits: impl Fn(Granule, u32) -> Option<T>,
    ) -> Option<(Granule, Header, T)> {
        let classes = (of_size(least).0..at_least(room).0).map(Class);
        let hinted = classes.filter(|&class| self.has_class(class)).take(FITTING_CLASSES);
        hinted.filter_map(|class| self.find_in_class(class, FITTING_LOOKS, &fits)).next()
    }

    /// Whether a class is hinted at all.
    fn has_class(self, class: Class) -> bool {
        let layout = self.heap.layout();
        let (word, bit) = self.step(class, TreeStep { level: layout.levels, at: 0 });
        class.0 < layout.classes && self.heap.word(word).load(&HINT_LOOK) & bit != 0
    }

    /// A free block that `fits`, of those in so many chunks of a class from each of its ends, and what that says.
    fn find_in_class<T>(
        self,
        class: Class,
        looks: u32,
        fits: impl Fn(Granule, u32) -> Option<T>,
    ) -> Option<(Granule, Header, T)> {
        // Nothing to clear on the way where nothing is hinted.
        if !self.has_class(class) {
            return None;
        }
        for from_above in [false, true] {
            let mut next = self.end_chunk(class, from_above);
            for _ in 0..looks {
                let Some(chunk) = next else { break };
                let found = self.first_that_fits(chunk, &fits);
                if found.is_some() {
                    return found;
                }
                next = self.next_chunk(class, chunk, from_above);
                if !self.chunk_has(chunk, class) {
                    self.unhint(class, TreeStep { level: 0, at: chunk }, || self.chunk_has(chunk, class));
                }
            }
        }
        None
    }

    /// The next chunk hinted in `class` beyond this one, or none where a stale hint stands between, which is cleared.
    fn next_chunk(self, class: Class, chunk: usize, from_above: bool) -> Option<usize> {
        let layout = self.heap.layout();
        let word = |level, at| self.heap.word(layout.tree(class.0, level, at)).load(&HINT_LOOK);
        let end = |bits: u64| if from_above { bits.ilog2() } else { bits.trailing_zeros() } as usize;
        let mut at = chunk;
        for level in 0..layout.levels {
            let (index, bit) = (at / 64, at % 64);
            let beyond = word(level, index) & if from_above { (1 << bit) - 1 } else { !1 << bit };
            if beyond == 0 {
                at = index;
                continue;
            }
            at = index * 64 + end(beyond);
            for below in (0..level).rev() {
                // Else not written by the allocator (C2).
                let bits = if at < layout.level_words[below] { word(below, at) } else { 0 };
                if bits == 0 {
                    self.unhint(class, TreeStep { level: below + 1, at }, || false);
                    return None;
                }
                at = at * 64 + end(bits);
            }
            return (at < layout.chunks()).then_some(at);
        }
        None
    }

    /// A free block that begins in `chunk` and `fits`. Nothing changes.
    fn first_that_fits<T>(
        self,
        chunk: usize,
        fits: &impl Fn(Granule, u32) -> Option<T>,
    ) -> Option<(Granule, Header, T)> {
        let mut bits = self.heap.word(self.heap.layout().leaf(chunk)).load(&HINT_LOOK);
        while bits != 0 {
            let (g, header) = self.begins_in((chunk * CHUNK) as u32 + bits.trailing_zeros());
            if header.is_free()
                && self.heap.fits_sector(g, header)
                && let Some(how) = fits(g, header.size())
            {
                return Some((g, header, how));
            }
            bits &= bits - 1;
        }
        None
    }

    /// Whether every hint on the way to a free block at `g` stands.
    pub(crate) fn is_hinted(self, g: Granule, class: Class) -> bool {
        let span = self.heap.layout().span(g) as usize;
        let chunk = span / CHUNK;
        let leaf = self.heap.word(self.heap.layout().leaf(chunk)).load(&HINT_LOOK) >> (span % CHUNK) & 1;
        let mut step = TreeStep { level: 0, at: chunk };
        while step.level <= self.heap.layout().levels + 1 {
            let (word, bit) = self.step(class, step);
            if self.heap.word(word).load(&HINT_LOOK) & bit == 0 {
                return false;
            }
            step = TreeStep { level: step.level + 1, at: step.at / 64 };
        }
        leaf == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::matrix::heap::Kind;
    use crate::matrix::tests::heap;

    /// Of a size's own class some blocks are too small: the last resort looks on in other chunks.
    #[test]
    fn l2_a_block_of_the_own_class_is_found_behind_some_that_are_too_small() {
        let heap = heap::<Native>(4000);
        let mut cache = ThreadCache::with_ceiling(1, 0);
        let blocks = [70, 97, 70, 98, 70, 103, 70, 99, 70, 97, 70]
            .map(|size| heap.allocate(&mut cache, size, 1, Kind::Raw).expect("room"));
        for live in blocks.iter().skip(1).step_by(2) {
            heap.free(&mut cache, live.at, None).expect("live");
        }
        assert_eq!(heap.tally().map(|tally| tally.free.blocks), Ok(6), "five, and the rest");
        let fits = blocks[5].at;
        assert_eq!(heap.hints().find_in_own_class(100).map(|(g, header)| (g, header.size())), Some((fits, 103)));
        assert_eq!(heap.hints().find_in_own_class(103).map(|(g, _)| g), Some(fits));
    }
}
