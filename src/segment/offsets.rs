//! Offsets: positions as users pass them on, and the granules that they mean. One becomes the other here alone.

use super::layout::{Geometry, Granule, Layout, Usual};

/// How the offsets of one segment are counted: in bytes, or in granules where those would not fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    /// The sector's own offset.
    sector: u32,
    /// log2 of a granule in steps of an offset.
    steps: u32,
}

impl Offsets {
    /// For offsets in steps of 1 << `unit_shift` bytes.
    pub(crate) fn new(layout: &Layout, unit_shift: u32) -> Self {
        Self { sector: (layout.sector >> unit_shift) as u32, steps: layout.params.granule_shift - unit_shift }
    }
    /// The same where the segment is of the usual sort: then a granule's steps are known when the caller is compiled.
    #[inline(always)]
    pub(crate) fn usual(self) -> Self {
        Self { steps: Usual.granule_shift(), ..self }
    }
    /// The granule at an offset: one out of range for offsets in front of the sector, behind it or between granules.
    ///
    /// Granules and their steps fill at most 2^32, so what is in front wraps around behind the last granule, and what
    /// is between granules has a high bit after the rotation.
    #[inline(always)]
    pub(crate) fn granule(self, offset: u32) -> Granule {
        Granule(offset.wrapping_sub(self.sector).rotate_right(self.steps))
    }
    /// The offset of a granule. Never 0: the sector does not begin the segment.
    #[inline(always)]
    pub(crate) fn offset(self, g: Granule) -> u32 {
        (g.0 << self.steps).wrapping_add(self.sector)
    }
}
