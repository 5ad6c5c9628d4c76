//! The words of a table, what it is asked, and what it answers.

use crate::ipc::link::Link;
use crate::matrix::heap::{Live, ThreadCache};

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

impl Key<'_> {
    /// Words that a block must have behind its value.
    pub fn label_words(&self) -> usize {
        self.bytes.len().div_ceil(8) + LABEL_WORDS
    }
    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        self.bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        })
    }
    /// The bits of the hash that a link shows.
    pub(super) fn tag(&self) -> u64 {
        self.hash >> TAG_SHIFT
    }
}

/// A bucket's last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(pub(super) u64);

impl Turn {
    pub(super) const fn new_place(self) -> usize {
        (self.0 >> 4 & 15) as usize
    }
    pub(super) const fn old_place(self) -> usize {
        (self.0 & 15) as usize
    }
    pub(super) const fn next(self, new: usize, old: usize) -> Self {
        Self(((self.0 >> 8) + 1) << 8 | (new as u64 & 15) << 4 | old as u64 & 15)
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

const USE_AT: u32 = 58;
const OWNER_AT: u32 = 48;
pub(super) const GENERATION_AT: u32 = 28;
pub(super) const GENERATIONS: u32 = (1 << (OWNER_AT - GENERATION_AT)) - 1;
pub(super) const GRANULES: u32 = (1 << GENERATION_AT) - 1;
/// The block and its generation.
pub(super) const NAMED: u64 = (1 << OWNER_AT) - 1;

pub(super) const fn cursor(usage: Use, owner: u16, named: u64) -> u64 {
    (usage as u64) << USE_AT | (owner as u64) << OWNER_AT | named & NAMED
}
pub(super) const fn usage(word: u64) -> Use {
    match word >> USE_AT & 3 {
        0 => Use::None,
        1 => Use::Held,
        2 => Use::Names,
        _ => Use::Leaves,
    }
}
pub(super) const fn owner(word: u64) -> u16 {
    (word >> OWNER_AT & 0x3FF) as u16
}
pub(super) const fn named(link: Link) -> u64 {
    (link.generation() as u64) << GENERATION_AT | link.at().0 as u64
}
/// The generation behind this one.
pub(super) const fn after(generation: u32) -> u32 {
    (generation + 1) & GENERATIONS
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
