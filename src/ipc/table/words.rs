//! The words of a table, what it is asked, and what it answers.

use crate::ipc::link::Link;
use crate::matrix::heap::{Live, ThreadCache};
use crate::packed::packed;
use crate::segment::layout::Granule;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 4096;
/// Words of a label beside the key's own: its hash, its length.
pub(super) const LABEL_WORDS: usize = 2;

const TAG_SHIFT: u32 = 60;

/// What a key is looked for by.
#[derive(Debug, Clone, Copy)]
pub struct Key<'k> {
    /// Its hash, the same in all processes.
    pub hash: u64,
    /// Itself.
    pub bytes: &'k [u8],
}

/// Words that a block must have behind its value for a key of these bytes.
pub fn label_words(key: &[u8]) -> usize {
    key.len().div_ceil(8) + LABEL_WORDS
}

impl Key<'_> {
    /// Words that a block must have behind its value.
    pub fn label_words(&self) -> usize {
        label_words(self.bytes)
    }
    /// Its whole words; and the last one, if there are bytes behind them.
    #[inline]
    pub(super) fn words(&self) -> (impl ExactSizeIterator<Item = u64>, Option<u64>) {
        let (whole, rest) = self.bytes.as_chunks::<8>();
        let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        (whole.iter().map(|bytes| u64::from_le_bytes(*bytes)), (!rest.is_empty()).then_some(last))
    }
    /// The bits of the hash that a link shows.
    pub(super) fn tag(&self) -> u64 {
        self.hash >> TAG_SHIFT
    }
}

/// A bucket's last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BucketTurn(pub(super) u64);

packed! {
    /// A turn's bits.
    struct Change {
        /// The place in the bucket that is emptied.
        OLD: 4,
        /// And the one that is filled.
        NEW: 4,
        NUMBER: 56,
    }
}

impl BucketTurn {
    pub(super) const fn new_place(self) -> usize {
        Change::NEW.get(self.0) as usize
    }
    pub(super) const fn old_place(self) -> usize {
        Change::OLD.get(self.0) as usize
    }
    pub(super) const fn next(self, new: usize, old: usize) -> Self {
        let number = Change::NUMBER.get(self.0) + 1;
        Self(Change::NUMBER.of(number) | Change::NEW.of(new as u64) | Change::OLD.of(old as u64))
    }
}

/// When a block is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Whether the key is there or not.
    Always,
    /// If the key is not there.
    Absent,
    /// If the key is there.
    Present,
}

/// Why a block was not put in. It is still its giver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPut {
    /// The key's bucket has no empty place.
    Full,
    /// The key is there.
    Exists,
    /// The key is not there.
    Unknown,
    /// The table was removed.
    Closed,
    /// The block is not the giver's own live block.
    NotOwn,
}

/// What a cursor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Nobody's.
    None,
    /// It is somebody's, and names nothing.
    Held,
    /// Its block stays as it is.
    Names,
    /// Its holder has done with the block, and looks whether it is the last.
    Leaves,
}

packed! {
    /// A cursor's word.
    struct GuardCursor {
        /// The block that it names.
        GRANULE: 28,
        /// And that one's generation.
        GENERATION: 20,
        OWNER: 10,
        USE: 2,
        UNUSED: 4,
    }
}
/// The block and its generation.
pub(super) const NAMED: u64 = GuardCursor::GRANULE.mask() | GuardCursor::GENERATION.mask();

pub(super) const fn cursor(usage: Use, owner: u16, named: u64) -> u64 {
    GuardCursor::USE.of(usage as u64) | GuardCursor::OWNER.of(owner as u64) | named & NAMED
}
pub(super) const fn usage(word: u64) -> Use {
    match GuardCursor::USE.get(word) {
        0 => Use::None,
        1 => Use::Held,
        2 => Use::Names,
        _ => Use::Leaves,
    }
}
pub(super) const fn owner(word: u64) -> u16 {
    GuardCursor::OWNER.get(word) as u16
}
pub(super) const fn named(link: Link) -> u64 {
    GuardCursor::GENERATION.of(link.generation() as u64) | GuardCursor::GRANULE.of(link.at().0 as u64)
}
/// The block that a cursor names, and the generation behind the one that it names.
pub(super) const fn block(named: u64) -> (Granule, u32) {
    (Granule(GuardCursor::GRANULE.get(named) as u32), after(GuardCursor::GENERATION.get(named) as u32))
}
/// The generation behind this one.
pub(super) const fn after(generation: u32) -> u32 {
    GuardCursor::GENERATION.get(GuardCursor::GENERATION.of(generation as u64 + 1)) as u32
}

/// Whether a block that was displaced is the caller's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owned {
    /// It is, and is named no more.
    Mine(Live),
    /// Others still name it.
    Shared,
    /// Somebody has freed it who had no right to.
    Gone,
}

/// Who calls, and with which of the cursors.
pub struct By<'l> {
    /// The caller's cache.
    pub cache: &'l mut ThreadCache,
    /// A cursor that the caller holds.
    pub cursor: usize,
    /// Who holds it: the participant of the caller's process that stays as long as this.
    pub home: u16,
}
