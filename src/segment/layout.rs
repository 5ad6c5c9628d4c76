//! Layout arithmetic: where each word and the allocation sector lie in a segment.
//!
//! ```text
//! [ guard 16 B | header ] [ slots ] [ transfer cache ] [ directory ]
//!   [ class bitmaps ] [ class trees ] [ leaves ] [ headers ] pad [ sector ]
//! ```
//!
//! Everything before the sector is an array of 64-bit words, addressed by index. One arithmetic serves the
//! mapped segment and the models, which only choose smaller [`Params`].
//!
//! In a line each (`matrix` has the essays):
//!
//! - *granule*: the step of sizes (16 bytes); *span*: 64 bytes, which share one *header* word (not the segment's
//!   header, which comes first); *sector*: all spans.
//! - *leaf*, *tree*: bitmaps that hint where free blocks begin.
//! - *participant*: a number and a *slot*, one for each thread.
//! - *batch*: up to 14 indices of freed blocks. It waits in a *transfer slot* (unowned blocks) or in a *home* (blocks
//!   of one participant, whose homes for one bin are its *ring*).

use super::size_class::{BINS, Bin, LARGES, Large, Larges};

/// Index of a 64-bit word of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordIndex(pub usize);

/// Index of a granule of the allocation sector. The one behind the last is the sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Granule(pub u32);

impl Granule {
    /// This granule's index, as an array index.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
    /// The granule `n` further on (saturating, so that garbage stays garbage and out of range).
    #[inline(always)]
    pub const fn plus(self, n: u32) -> Self {
        Self(self.0.saturating_add(n))
    }
}

/// Spans whose hints share one leaf word.
pub const CHUNK: usize = 64;
/// The most granules a sector can have: a size takes 28 bits of a header. Whole spans, whatever the granule.
pub const MAX_GRANULES: usize = (1 << 28) - 4;
/// The most participants a segment can have: an owner takes 11 bits of a header, one bit of which says that this is
/// not the owner but its adopter; 0 is nobody.
pub const MAX_PARTICIPANTS: usize = (1 << 10) - 2;
/// Indices in one batch of the transfer cache.
pub const BATCH: usize = 14;
/// Batches of unowned blocks of one bin at most: each has a bit of one word.
pub const MAX_BATCHES: usize = 64;
/// Homes in which a participant looks for its batches of one bin, at most.
const RING: usize = 64;
/// Words of one batch: control, then two indices each.
pub const BATCH_WORDS: usize = 1 + BATCH / 2;
/// Words of one directory entry.
pub const DIRECTORY_WORDS: usize = 16;
/// Levels of a class tree at most: 64^5 chunks are more than a sector can have.
pub const MAX_LEVELS: usize = 5;
/// The sector begins at a multiple of this many bytes, the smallest page.
pub const SECTOR_ALIGN: usize = 4096;

/// Bytes of a span, unless a granule has more.
pub const SPAN_BYTES: usize = 1 << SPAN_SHIFT;
const SPAN_SHIFT: u32 = 6;
/// log2 of the granules of a span at most: a header has 2 bits for where in its span a block begins.
const MAX_SPAN_SHIFT: u32 = 2;

/// What a creator chooses; stored in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// log2 of the granule in bytes.
    pub granule_shift: u32,
    /// Participant slots.
    pub participants: usize,
    /// Batches of unowned blocks that the transfer cache holds, for each bin. For batches on their way home
    /// it has as many slots, which all bins share.
    pub batches: usize,
    /// Entries of the directory.
    pub directory: usize,
    /// Words before the first array (guard and header).
    pub header_words: usize,
    /// Whether parked blocks are biased to the cache that parked them: it takes them and gives them without a locked
    /// instruction, and whoever else takes them pays for a barrier (matrix::bias).
    pub biased: bool,
    /// Words of a cache line: arrays written by different participants are padded to it. 1 in models.
    pub line_words: usize,
    /// Which blocks are large.
    pub larges: Larges,
}

impl Params {
    /// The default for a segment of `bytes`.
    pub fn for_segment(bytes: u64) -> Self {
        let scaled = |per: u64, low: u64, high: u64| (bytes / per).clamp(low, high) as usize;
        Self {
            granule_shift: 4,
            participants: scaled(64 << 10, 32, MAX_PARTICIPANTS as u64),
            batches: scaled(2 << 20, 1, MAX_BATCHES as u64),
            directory: scaled(64 << 10, 16, 256),
            header_words: 512,
            biased: false,
            line_words: 8,
            larges: Larges::USUAL,
        }
    }
    /// Bytes of a granule.
    pub const fn granule(&self) -> usize {
        1 << self.granule_shift
    }
    /// log2 of the granules of a span, which share a header: a span has 64 bytes, or one granule if that has more.
    pub const fn span_shift(&self) -> u32 {
        match SPAN_SHIFT.checked_sub(self.granule_shift) {
            Some(shift) if shift <= MAX_SPAN_SHIFT => shift,
            Some(_) => MAX_SPAN_SHIFT,
            None => 0,
        }
    }
}

/// How granules and spans lie, as far as the quickest paths ask: a [`Layout`] knows it when it is made,
/// [`Usual`] when it is compiled.
pub trait Geometry {
    /// log2 of the granule in bytes.
    fn granule_shift(&self) -> u32;
    /// log2 of the granules of a span.
    fn span_shift(&self) -> u32;
    /// Granules from which on a block is large.
    fn larges_from(&self) -> u32;
}

/// The default geometry: granules of 16 bytes, spans of four.
#[derive(Debug, Clone, Copy)]
pub struct Usual;

impl Geometry for Usual {
    #[inline(always)]
    fn granule_shift(&self) -> u32 {
        4
    }
    #[inline(always)]
    fn span_shift(&self) -> u32 {
        2
    }
    #[inline(always)]
    fn larges_from(&self) -> u32 {
        Larges::USUAL.from
    }
}

impl Geometry for Layout {
    #[inline(always)]
    fn granule_shift(&self) -> u32 {
        self.params.granule_shift
    }
    #[inline(always)]
    fn span_shift(&self) -> u32 {
        self.span_shift
    }
    #[inline(always)]
    fn larges_from(&self) -> u32 {
        self.params.larges.from
    }
}

/// Where everything lies. Sizes are in words unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What it was made from.
    pub params: Params,
    /// Granules of the sector: whole spans.
    pub granules: u32,
    /// log2 of the granules of a span.
    pub span_shift: u32,
    /// Granules of a span, less one.
    pub span_mask: u32,
    /// Size classes that a block of this sector can have.
    pub classes: usize,
    /// Bins that a block of this sector can be parked in.
    pub bins: usize,
    /// Large bins that a block of this sector can be parked in.
    pub large_bins: usize,
    /// Sizes in them: so many from `params.larges.from` on.
    large_sizes: u32,
    /// Words of level `i` of a class tree, the leaves' parents first; 0 above the root.
    pub level_words: [usize; MAX_LEVELS],
    /// Levels in use.
    pub levels: usize,
    level_base: [usize; MAX_LEVELS],
    tree_stride: usize,
    slot_stride: usize,
    batch_stride: usize,
    slots: usize,
    transfer: usize,
    homes: usize,
    batch_maps: usize,
    directory: usize,
    directory_turn: usize,
    first_level: usize,
    second_level: usize,
    trees: usize,
    leaves: usize,
    headers: usize,
    /// Words altogether.
    pub words: usize,
    /// Byte offset of the allocation sector.
    pub sector: u64,
}

const fn up(n: usize, to: usize) -> usize {
    n.div_ceil(to) * to
}

/// The levels of a class's tree, from the lowest: their words, and where each begins.
struct Tree {
    levels: usize,
    level_words: [usize; MAX_LEVELS],
    level_base: [usize; MAX_LEVELS],
    words: usize,
}

impl Tree {
    /// A tree whose lowest level has a bit for each chunk.
    fn over(chunks: usize) -> Self {
        let mut tree = Self { levels: 0, level_words: [0; MAX_LEVELS], level_base: [0; MAX_LEVELS], words: 0 };
        let mut below = chunks;
        loop {
            below = below.div_ceil(64);
            tree.level_words[tree.levels] = below;
            tree.level_base[tree.levels] = tree.words;
            tree.words += below;
            tree.levels += 1;
            if below == 1 {
                return tree;
            }
        }
    }
}

impl Layout {
    /// The layout of a sector of `granules` granules (1 to [`MAX_GRANULES`]), rounded up to whole spans.
    pub fn new(granules: u32, params: Params) -> Self {
        let span_shift = params.span_shift();
        let granules = granules.next_multiple_of(1 << span_shift);
        let n = (granules >> span_shift) as usize;
        debug_assert!((1..=MAX_GRANULES).contains(&(granules as usize)));
        let line = params.line_words;
        let classes = super::size_class::of_size(granules).0 + 1;
        let chunks = n.div_ceil(CHUNK);

        let Tree { levels, level_words, level_base, words } = Tree::over(chunks);
        let tree_stride = up(words, line);
        let slot_stride = up(SLOT_WORDS, line * 2);
        let batch_stride = up(BATCH_WORDS, line);

        let mut at = up(params.header_words, line);
        let mut take = |words: usize| {
            let here = at;
            at = up(at + words, line);
            here
        };
        let slots = take((params.participants + 1) * slot_stride);
        let bins = (0..BINS).take_while(|&bin| Bin(bin).size() <= granules).count();
        let first_large = Large::sixteenth(params.larges.from);
        let beyond = Large::sixteenth(granules / params.larges.part) + 1;
        let large_bins = (beyond.saturating_sub(first_large) as usize).min(LARGES);
        let large_sizes = Large::smallest(first_large + large_bins as u32).saturating_sub(params.larges.from);
        let transfer = take(2 * bins * params.batches * batch_stride);
        let homes = transfer + bins * params.batches * batch_stride;
        let batch_maps = take(bins * line);
        let directory = take(params.directory * DIRECTORY_WORDS);
        let directory_turn = take(1);
        let first_level = take(1);
        let second_level = take(classes.div_ceil(8));
        let trees = take(classes * tree_stride);
        let leaves = take(chunks);
        let headers = take(n + 1);
        Self {
            params,
            granules,
            span_shift,
            span_mask: (1 << span_shift) - 1,
            classes,
            bins,
            large_bins,
            large_sizes: if large_bins == 0 { 0 } else { large_sizes },
            level_words,
            levels,
            level_base,
            tree_stride,
            slot_stride,
            batch_stride,
            slots,
            transfer,
            homes,
            batch_maps,
            directory,
            directory_turn,
            first_level,
            second_level,
            trees,
            leaves,
            headers,
            words: at,
            sector: (at as u64 * 8).next_multiple_of(SECTOR_ALIGN.max(params.granule()) as u64),
        }
    }

    /// Words of payload in a granule.
    pub const fn granule_words(&self) -> usize {
        self.params.granule() / size_of::<u64>()
    }

    /// How many structures were ever made here (ipc::structure): a word of nobody's slot. A recovery looks
    /// for none where there were none.
    pub fn structures(&self) -> WordIndex {
        self.slot(0, SlotWord::Visiting)
    }

    /// The highest number that a participant ever had: a word of nobody's slot. 0 where nobody has joined, as in
    /// models.
    pub fn highest(&self) -> WordIndex {
        self.slot(0, SlotWord::Pid)
    }

    /// Whether this is how [`Usual`] has it.
    pub fn is_usual(&self) -> bool {
        self.params.granule_shift == Usual.granule_shift()
            && self.span_shift == Usual.span_shift()
            && self.params.larges.from == Usual.larges_from()
    }

    /// Bytes of a segment with this layout.
    pub fn bytes(&self) -> u64 {
        self.sector + ((self.granules as u64) << self.params.granule_shift)
    }

    /// The layout with the largest sector that fits into a segment of `bytes`, or none if not even one granule does.
    pub fn fit(bytes: u64, params: Params) -> Option<Self> {
        let shift = params.span_shift();
        let most = ((bytes >> params.granule_shift).min(MAX_GRANULES as u64) >> shift) as u32;
        // In spans.
        let fits = |n: u32| n >= 1 && Self::new(n << shift, params).bytes() <= bytes;
        if !fits(1) {
            return None;
        }
        let (mut low, mut high) = (1, most);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        Some(Self::new(low << shift, params))
    }

    /// The bin of blocks of exactly this size, if there is one.
    #[inline(always)]
    pub const fn bin_of(&self, size: u32) -> Option<Bin> {
        if size < self.params.larges.from { Bin::of(size) } else { None }
    }
    /// The first bin whose blocks have at least this size, if there is one.
    #[inline(always)]
    pub const fn bin_at_least(&self, size: u32) -> Option<Bin> {
        match Bin::at_least(size) {
            Some(bin) if bin.size() < self.params.larges.from => Some(bin),
            _ => None,
        }
    }
    /// The large bin that a block of this size is parked in, if there is one.
    #[inline(always)]
    pub fn large_bin(&self, size: u32) -> Option<Large> {
        self.large_bin_of(size as usize, self)
    }
    /// The same for any number of granules, where the geometry is the layout's.
    #[inline(always)]
    pub fn large_bin_of(&self, size: usize, geometry: &impl Geometry) -> Option<Large> {
        let from = geometry.larges_from();
        if size.wrapping_sub(from as usize) >= self.large_sizes as usize {
            return None;
        }
        let bin = Large::above(size as u32, from) as usize;
        // There are no more than `LARGES`: so that whoever uses it as an index needs no look at its range.
        Some(Large(bin % LARGES))
    }

    /// The header of a granule's span. Out-of-range granules get the sentinel's, a live block that is unowned,
    /// so that garbage read from a segment can never lead outside it (C2).
    #[inline(always)]
    pub fn header(&self, g: Granule) -> WordIndex {
        WordIndex(self.headers + (g.0.min(self.granules) >> self.span_shift) as usize)
    }
    /// The span of a granule.
    #[inline(always)]
    pub const fn span(&self, g: Granule) -> u32 {
        g.0 >> self.span_shift
    }
    /// The first granule of a span.
    #[inline(always)]
    pub const fn first_of(&self, span: u32) -> Granule {
        Granule(span << self.span_shift)
    }
    /// Spans of the sector.
    #[inline(always)]
    pub const fn spans(&self) -> u32 {
        self.granules >> self.span_shift
    }
    /// The leaf word that hints a granule.
    #[inline(always)]
    pub fn leaf(&self, chunk: usize) -> WordIndex {
        WordIndex(self.leaves + chunk.min(self.chunks() - 1))
    }
    /// Leaf words.
    #[inline(always)]
    pub fn chunks(&self) -> usize {
        (self.spans() as usize).div_ceil(CHUNK)
    }
    /// A word of a class tree; level 0 has one bit for each chunk.
    #[inline(always)]
    pub fn tree(&self, class: usize, level: usize, word: usize) -> WordIndex {
        debug_assert!(class < self.classes && level < self.levels && word < self.level_words[level]);
        WordIndex(self.trees + class * self.tree_stride + self.level_base[level] + word)
    }
    /// The second-level word of a first-level row.
    #[inline(always)]
    pub fn second_level(&self, row: usize) -> WordIndex {
        debug_assert!(row < self.classes.div_ceil(8));
        WordIndex(self.second_level + row)
    }
    /// The first-level word.
    #[inline(always)]
    pub fn first_level(&self) -> WordIndex {
        WordIndex(self.first_level)
    }
    /// A word of a participant's slot. Slot 0 stands for nobody.
    #[inline(always)]
    pub fn slot(&self, owner: u16, word: SlotWord) -> WordIndex {
        // A number that no participant has stands for nobody, too (C2).
        let owner = if owner as usize > self.params.participants { 0 } else { owner as usize };
        WordIndex(self.slots + owner * self.slot_stride + word as usize)
    }
    /// The control word of a slot of the transfer cache that holds unowned blocks of a bin; the words behind
    /// it are the batch's.
    #[inline(always)]
    pub fn transfer_slot(&self, bin: usize, slot: usize) -> WordIndex {
        debug_assert!(bin < self.bins && slot < self.params.batches);
        WordIndex(self.transfer + (bin * self.params.batches + slot) * self.batch_stride)
    }
    /// Homes: slots in which batches wait for their owners. All owners and bins share them.
    #[inline(always)]
    pub const fn homes(&self) -> usize {
        self.bins * self.params.batches
    }
    /// The control word of a home.
    #[inline(always)]
    pub fn home(&self, home: usize) -> WordIndex {
        debug_assert!(home < self.homes());
        WordIndex(self.homes + home * self.batch_stride)
    }
    /// How many homes a participant looks at for its batches of a bin.
    #[inline(always)]
    pub const fn ring(&self) -> usize {
        if 2 * self.params.batches < RING { 2 * self.params.batches } else { RING }
    }
    /// The control word of the home at place `at` of a participant's ring for a bin. The places of a ring lie
    /// anywhere, and rings may share some: so each meets others' batches about as often as there are any, and
    /// none is shut out by a neighbour's.
    #[inline(always)]
    pub fn home_of(&self, owner: u16, bin: usize, at: usize) -> WordIndex {
        let key = (u32::from(owner) * BINS as u32 + bin as u32) * RING as u32 + at as u32;
        // Mixed as in the finaliser of MurmurHash3 (Appleby), shortened.
        let key = (key ^ key >> 15).wrapping_mul(0x9E37_79B9);
        let key = (key ^ key >> 13).wrapping_mul(0x85EB_CA6B);
        self.home(((u64::from(key) * self.homes() as u64) >> 32) as usize)
    }
    /// The control words of all slots of the transfer cache.
    pub fn batch_controls(&self) -> impl Iterator<Item = WordIndex> {
        let slots = self.bins * self.params.batches + self.homes();
        (0..slots).map(|slot| WordIndex(self.transfer + slot * self.batch_stride))
    }
    /// The map of a bin's batches: which of them are full, as a hint.
    #[inline(always)]
    pub fn batch_map(&self, bin: usize) -> WordIndex {
        debug_assert!(bin < self.bins);
        WordIndex(self.batch_maps + bin * self.params.line_words)
    }
    /// The word that orders the directory's publications.
    #[inline(always)]
    pub fn directory_turn(&self) -> WordIndex {
        WordIndex(self.directory_turn)
    }
    /// A word of a directory entry.
    #[inline(always)]
    pub fn directory(&self, entry: usize, word: usize) -> WordIndex {
        debug_assert!(entry < self.params.directory && word < DIRECTORY_WORDS);
        WordIndex(self.directory + entry * DIRECTORY_WORDS + word)
    }
}

/// The words of a participant's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum SlotWord {
    /// Who holds the slot: 0 free, else kind, epoch, recoverer and life (segment::slot).
    State = 0,
    /// The holder's process id, as its own PID namespace calls it: to be told, not to be believed. Of nobody's
    /// slot: the highest number that a participant ever had.
    Pid = 1,
    /// The operation in force: kind, granule, size (matrix::operation).
    Op = 2,
    /// The right-hand header of a join in force.
    Right = 3,
    /// The structure that the holder writes although it is not counted among its users: its granule + 1, and
    /// above 32 bits its generation; or 0. Of nobody's slot: how many structures were ever made
    /// (ipc::structure).
    Visiting = 4,
    /// Tells the holder's process from every other one: drawn at random (matrix::bias).
    Process = 5,
    /// The live block of another that the holder is about to give another owner: its granule + 1, and above
    /// 32 bits whose it was; or 0 (matrix::adoption).
    Adopting = 6,
    /// The number of a dead participant that the holder walks for, and that must not be released just now, or
    /// 0 (segment::slot).
    Pin = 7,
    /// The granule + 1 whose header the holder is about to store plainly, or 0 (matrix::bias).
    Hazard = 8,
    /// How often its holders have given a block back: never set back (matrix::news). Of nobody's slot: the same
    /// of those without a number.
    Given = 9,
}
/// Words of a slot before padding.
pub const SLOT_WORDS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// The homes of caches that are in use together are theirs alone, nearly all, however many caches and
    /// bins there are.
    #[test]
    fn l4_rings_of_homes_are_scattered() {
        let layout = Layout::fit(64 << 20, Params::for_segment(64 << 20)).expect("room for a sector");
        for bin in [4, 8, 20] {
            for step in [1, 2, 4] {
                let mut used = vec![0; layout.words];
                (1..=16).for_each(|i| (0..layout.ring()).for_each(|at| used[layout.home_of(i * step, bin, at).0] += 1));
                let alone = used.iter().filter(|&&rings| rings == 1).count();
                let shared = used.iter().filter(|&&rings| rings > 1).count();
                assert!(
                    alone > 2 * shared && used.iter().all(|&rings| rings < 6),
                    "bin {bin}, each {step}: {alone}, {shared}"
                );
            }
        }
    }

    #[test]
    fn a_large_size_has_the_bin_of_its_sixteenth() {
        for (from, bytes) in
            [(2, 1 << 20), (16, 1 << 20), (Larges::USUAL.from, 64 << 10), (Larges::USUAL.from, 64 << 20)]
        {
            let params = Params { larges: Larges { from, ..Larges::USUAL }, ..Params::for_segment(bytes) };
            let layout = Layout::fit(bytes, params).expect("room for a sector");
            for size in (0..=layout.granules).chain([u32::MAX]) {
                let bin = Large::sixteenth(size).wrapping_sub(Large::sixteenth(from)) as usize;
                let expected = (size >= from && bin < layout.large_bins).then_some(bin);
                assert_eq!(layout.large_bin(size).map(|large| large.0), expected, "{size}");
                let quick =
                    [0, 1 << 32].map(|more| layout.large_bin_of(more + size as usize, &Usual).map(|large| large.0));
                assert!(!layout.is_usual() || quick == [expected, None], "{size}");
            }
        }
    }

    #[test]
    fn transfer_slots_lie_apart_and_before_their_maps() {
        for bytes in [64 << 10, 1 << 20, 5 << 20, 64 << 20, 1 << 30] {
            let layout = Layout::fit(bytes, Params::for_segment(bytes)).expect("room for a sector");
            let open = (0..layout.bins).flat_map(|bin| (0..layout.params.batches).map(move |slot| (bin, slot)));
            let mut all: Vec<usize> = open.map(|(bin, slot)| layout.transfer_slot(bin, slot).0).collect();
            all.extend((0..layout.homes()).map(|home| layout.home(home).0));
            assert!(all.is_sorted_by(|one, next| one + BATCH_WORDS <= *next), "{bytes}");
            assert!(layout.batch_controls().map(|control| control.0).eq(all.iter().copied()), "{bytes}");
            assert!(all.last().is_none_or(|last| last + BATCH_WORDS <= layout.batch_map(0).0), "{bytes}");
            let homes = |owner| (0..layout.ring()).map(move |at| (owner, at));
            let places = (1..=MAX_PARTICIPANTS as u16).flat_map(homes);
            assert!(
                places.map(|(owner, at)| layout.home_of(owner, 8, at).0).all(|home| all.binary_search(&home).is_ok())
            );
        }
    }
}
