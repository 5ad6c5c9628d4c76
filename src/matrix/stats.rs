//! What is in a sector: counts, fragmentation, entropy, faults.

use super::block_header::{Header, State};

/// Blocks and granules by state, added up in the order of the sector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Granules covered by the tiles seen.
    pub granules: u64,
    /// Live blocks and granules.
    pub live: Count,
    /// Free blocks and granules.
    pub free: Count,
    /// Parked blocks and granules.
    pub parked: Count,
    /// Blocks in the hands of an operation, and their granules.
    pub in_flight: Count,
    /// The largest free block, in granules.
    pub largest_free: u64,
    /// Neighbouring pairs of free blocks: 0 at rest (L3).
    pub missed_merges: u64,
    entropy_sum: f64,
    last_free: bool,
}

/// A number of blocks and of their granules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Blocks.
    pub blocks: u64,
    /// Granules.
    pub granules: u64,
}

impl Tally {
    pub(super) fn add(&mut self, header: Header) {
        let size = header.size() as u64;
        let free = header.is_free();
        let count = match header.state() {
            State::Free => &mut self.free,
            State::Acked | State::Marked => &mut self.parked,
            State::Coalescing => &mut self.in_flight,
            _ => &mut self.live,
        };
        count.blocks += 1;
        count.granules += size;
        self.granules += size;
        if free {
            self.largest_free = self.largest_free.max(size);
            self.missed_merges += self.last_free as u64;
            self.entropy_sum += size as f64 * (size as f64).log2();
        }
        self.last_free = free;
    }

    /// External fragmentation: 1 − largest free block / free granules; 0 when nothing is free.
    pub fn fragmentation(&self) -> f64 {
        if self.free.granules == 0 { 0.0 } else { 1.0 - self.largest_free as f64 / self.free.granules as f64 }
    }

    /// Shannon entropy of the free memory in bits: −Σ p·log2 p, p a free block's share of the free granules. 0 when
    /// one block remains.
    pub fn entropy_bits(&self) -> f64 {
        let free = self.free.granules as f64;
        if free == 0.0 { 0.0 } else { (free.log2() - self.entropy_sum / free).max(0.0) }
    }
}

/// The first fault that a walk over the headers meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No block begins where the one before ends.
    NotAHead {
        /// Where.
        granule: u32,
        /// What stands there.
        header: Header,
    },
    /// A free block that the bitmaps do not lead to.
    NotHinted {
        /// Where.
        granule: u32,
        /// Its header.
        header: Header,
    },
    /// Free neighbours that were not merged.
    MissedMerge {
        /// How many pairs.
        pairs: u64,
    },
    /// A block that is parked by, held by or live for a number that no participant has.
    OfNobody {
        /// Where.
        granule: u32,
        /// Its header.
        header: Header,
    },
    /// A word beside the headers names what does not exist.
    Stray {
        /// Which.
        what: &'static str,
        /// What it says.
        word: u64,
    },
    /// The tiles do not cover the sector.
    Uncovered {
        /// Granules covered.
        covered: u64,
        /// Granules of the sector.
        granules: u32,
    },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAHead { granule, header } => {
                write!(f, "granule {granule} should begin a block but holds {header:?}")
            }
            Self::NotHinted { granule, header } => {
                write!(f, "the free block at granule {granule} ({} granules) is missing in the bitmaps", header.size())
            }
            Self::MissedMerge { pairs } => write!(f, "{pairs} pairs of neighbouring free blocks are not merged"),
            Self::OfNobody { granule, header } => {
                write!(f, "the block at granule {granule} is of a number that no participant has: {header:?}")
            }
            Self::Stray { what, word } => write!(f, "{what} says {word:#x}, which stands for nothing"),
            Self::Uncovered { covered, granules } => write!(f, "the blocks cover {covered} of {granules} granules"),
        }
    }
}
