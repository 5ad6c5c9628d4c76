//! Size classes of the two-level bitmap: a power of two (first level), then 8 linear steps (second level).
//!
//! Sizes are in granules. Below 16 granules each size is a class of its own; above, a class is an eighth of a
//! power of two wide. This is the mapping of TLSF (Masmano, Ripoll, Crespo, Real: "TLSF: a new dynamic memory
//! allocator for real-time systems", ECRTS 2004) with a second level of 8.

/// log2 of the linear steps in a power of two.
const STEPS_LOG2: u32 = 3;
const STEPS: u32 = 1 << STEPS_LOG2;

/// Index of a size class: row of the first level times 8, plus the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class(pub usize);

impl Class {
    /// Row of the first level.
    #[inline(always)]
    pub const fn row(self) -> usize {
        self.0 >> STEPS_LOG2
    }
    /// Step of the second level.
    #[inline(always)]
    pub const fn step(self) -> usize {
        self.0 & (STEPS as usize - 1)
    }
    /// The smallest size of the class, in granules.
    #[inline(always)]
    pub const fn size(self) -> u32 {
        if self.row() <= 1 { self.0 as u32 } else { (STEPS + self.step() as u32) << (self.row() - 1) }
    }
}

/// The class that a block of `size` granules is filed under.
#[inline(always)]
pub const fn of_size(size: u32) -> Class {
    // Below two rows every size is a class of its own, under its own number.
    if size < 2 * STEPS {
        Class(size as usize)
    } else {
        let log = 31 - size.leading_zeros();
        let row = log - STEPS_LOG2 + 1;
        Class(((row << STEPS_LOG2) + ((size >> (log - STEPS_LOG2)) & (STEPS - 1))) as usize)
    }
}

/// The first class whose every block has at least `size` granules.
#[inline(always)]
pub const fn at_least(size: u32) -> Class {
    if size < 2 * STEPS {
        return Class(size as usize);
    }
    let class = of_size(size);
    if class.size() == size { class } else { Class(class.0 + 1) }
}

const _: () = assert!(of_size(1).0 == 1 && of_size(8).0 == 8 && of_size(15).0 == 15 && of_size(17).0 == 16);
const _: () = assert!(at_least(17).size() == 18);

/// Index of a *bin*: a size of the small blocks that are parked when they are freed, in granules. Small blocks of other
/// sizes are merged; those above the bins' sizes are parked as [`Large`] ones.
///
/// Up to 40 granules each size has a bin, under its own number; then each fourth up to 64, and each eighth up to 120.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bin(pub usize);

/// Sizes below this have a bin each.
pub const EXACT: u32 = 41;
/// Bins; number 0 has no blocks.
pub const BINS: usize = 54;
/// The size of the last bin's blocks, the largest that are biased.
pub const LARGEST_BIN: u32 = Bin(BINS - 1).size();

impl Bin {
    /// The size of the bin's blocks.
    #[inline(always)]
    pub const fn size(self) -> u32 {
        match self.0 as u32 {
            at @ 0..=40 => at,
            at @ 41..=46 => 40 + (at - 40) * 4,
            at => 64 + (at - 46) * 8,
        }
    }
    /// The bin of blocks of exactly this size, if there is one.
    #[inline(always)]
    pub const fn of(size: u32) -> Option<Self> {
        Some(Self(match size {
            1..=40 => size,
            41..=64 if size.is_multiple_of(4) => 40 + (size - 40) / 4,
            65..=120 if size.is_multiple_of(8) => 46 + (size - 64) / 8,
            _ => return None,
        } as usize))
    }
    /// The first bin whose blocks have at least this size, if there is one.
    #[inline(always)]
    pub const fn at_least(size: u32) -> Option<Self> {
        Some(Self(match size {
            1..=40 => size,
            41..=64 => 40 + (size - 40).div_ceil(4),
            65..=120 => 46 + (size - 64).div_ceil(8),
            _ => return None,
        } as usize))
    }
}

const _: () = assert!(LARGEST_BIN == 120 && EXACT as usize <= BINS);

/// Index of a *large bin*: parked blocks of more than the bins' sizes, sixteen bins to each power of two
/// (matrix::large).
///
/// A block is in the bin whose smallest size it has at least, whatever its own: no size is rounded to be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Large(pub usize);

/// Large bins at most.
pub const LARGES: usize = 256;

/// Which blocks are large, and how much of the sector they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Larges {
    /// Granules from which on a block is large: it is in no bin, and not biased.
    pub from: u32,
    /// Blocks of more than this part of the sector are not parked.
    pub part: u32,
}

impl Larges {
    /// What sizes every mapped segment has. Models choose smaller ones.
    pub const USUAL: Self = Self { from: LARGEST_BIN + 1, part: 32 };
}

/// log2 of the large bins of a power of two.
const SIXTEENTHS_LOG2: u32 = 4;
const SIXTEENTHS: u32 = 1 << SIXTEENTHS_LOG2;

impl Large {
    /// The number of a size among all sixteenths of powers of two; below 32 each size has its own.
    #[inline(always)]
    pub const fn sixteenth(size: u32) -> u32 {
        if size < 2 * SIXTEENTHS { size } else { Self::sixteenth_of_more(size) }
    }
    /// The same for a size of 16 or more.
    #[inline(always)]
    const fn sixteenth_of_more(size: u32) -> u32 {
        // As processors find the highest bit.
        let log = 31 ^ size.leading_zeros();
        // 16 to 31.
        let leading = ((size as u64) << SIXTEENTHS_LOG2 >> log) as u32;
        (log - SIXTEENTHS_LOG2) * SIXTEENTHS + leading
    }
    /// How far a size's sixteenth is above that of the first large size, which is often known when this is compiled.
    #[inline(always)]
    pub(super) const fn above(size: u32, from: u32) -> u32 {
        let of_size = if from < SIXTEENTHS { Self::sixteenth(size) } else { Self::sixteenth_of_more(size) };
        of_size.wrapping_sub(Self::sixteenth(from))
    }
    /// The smallest size of a sixteenth.
    #[inline(always)]
    pub const fn smallest(sixteenth: u32) -> u32 {
        if sixteenth < 2 * SIXTEENTHS {
            return sixteenth;
        }
        (SIXTEENTHS + sixteenth % SIXTEENTHS) << (sixteenth / SIXTEENTHS - 1)
    }
    /// The smallest size, from this one on, that begins a sixteenth.
    #[inline(always)]
    pub const fn round_up(size: u32) -> u32 {
        let smallest = Self::smallest(Self::sixteenth(size));
        if smallest == size { size } else { Self::smallest(Self::sixteenth(size) + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_found_by_their_sizes() {
        for bin in (1..BINS).map(Bin) {
            assert_eq!(Bin::of(bin.size()), Some(bin));
            assert_eq!(Bin::at_least(bin.size()), Some(bin));
            assert_eq!(Bin::at_least(bin.size() + 1), (bin.0 + 1 < BINS).then_some(Bin(bin.0 + 1)));
        }
        assert_eq!((Bin::of(0), Bin::at_least(0), Bin::of(41), Bin::at_least(u32::MAX)), (None, None, None, None));
    }

    #[test]
    fn sixteenths_tile_the_sizes() {
        for size in (1..100_000u32).chain((1 << 28) - 100..1 << 28) {
            let at = Large::sixteenth(size);
            assert!(Large::smallest(at) <= size && size < Large::smallest(at + 1), "{size}");
            let up = Large::round_up(size);
            assert!(up >= size && up - size <= size / 16 && Large::smallest(Large::sixteenth(up)) == up, "{size}");
        }
    }

    #[test]
    fn classes_tile_the_sizes() {
        for size in 1..100_000u32 {
            let class = of_size(size);
            assert!(class.size() <= size && size < Class(class.0 + 1).size(), "{size}");
            let up = at_least(size);
            assert!(up.size() >= size && (up == class || up.0 == class.0 + 1), "{size}");
            assert_eq!(of_size(up.size()), up);
        }
    }
}
