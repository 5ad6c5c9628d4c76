//! Size classes of the two-level bitmap: a power of two (first level), then 8 linear steps (second level).
//!
//! Sizes are in granules. Below 16 granules each size is a class of its own; above, a class is an eighth of a
//! power of two wide. This is the mapping of TLSF (Masmano, Ripoll, Crespo, Real: "TLSF: a new dynamic memory
//! allocator for real-time systems", ECRTS 2004) with a second level of 8.

use super::layout::PARKED_CLASSES;

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
    /// Whether blocks of this class are parked when freed.
    #[inline(always)]
    pub const fn is_parked(self) -> bool {
        self.0 < PARKED_CLASSES
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
const _: () = assert!(Class(PARKED_CLASSES - 1).size() == 30 && at_least(17).size() == 18);

#[cfg(test)]
mod tests {
    use super::*;

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
