//! The sequential reference allocator: what is promised, and nothing about where blocks go.
//!
//! It is told what a heap answered, and says whether that answer is one that a correct allocator may give:
//! blocks do not overlap (S1), fit and are aligned (S2), nothing but a live block can be freed (S5), every
//! byte is live or free (S4), everything not live is merged when healed (L3), and an allocation fails only if
//! no hole would serve it (L2). All positions and sizes are in bytes.

use std::collections::BTreeMap;

/// A hole: the bytes from the first to before the second.
pub type Hole = (u64, u64);

/// The sector and its live blocks: beginning → end.
#[derive(Debug, Clone)]
pub struct Reference {
    start: u64,
    end: u64,
    granule: u64,
    live: BTreeMap<u64, u64>,
}

impl Reference {
    /// An empty sector of `bytes` from `start` on, counted in granules.
    pub fn new(start: u64, bytes: u64, granule: u64) -> Self {
        Self { start, end: start + bytes, granule, live: BTreeMap::new() }
    }

    /// The heap answered a request for `size` bytes at a multiple of `align` with `usable` bytes at `at`.
    pub fn allocated(&mut self, at: u64, usable: u64, size: u64, align: u64) -> Result<(), String> {
        let end = at + usable;
        let complain = |what: &str| Err(format!("{size} bytes at {align}: {at}..{end} {what}"));
        if at < self.start || end > self.end {
            return complain("leaves the sector");
        }
        if !at.is_multiple_of(align) || !(at - self.start).is_multiple_of(self.granule) {
            return complain("is misaligned");
        }
        if usable < size || !usable.is_multiple_of(self.granule) {
            return complain("does not fit");
        }
        // At least a span; and what has no span of its own goes with it.
        let (rounded, over) = (self.rounded(size), self.least() - self.granule);
        if usable > rounded + rounded / 8 + over {
            return complain("wastes more than the width of a size class");
        }
        if let Some((other, until)) = self.live.range(..end).next_back()
            && *until > at
        {
            return complain(&format!("overlaps the live block {other}..{until}"));
        }
        self.live.insert(at, end);
        Ok(())
    }

    /// Frees the block that begins at `at`; false, and nothing has changed, if none does.
    pub fn freed(&mut self, at: u64) -> bool {
        self.live.remove(&at).is_some()
    }

    /// Whether a live block begins at `at`.
    pub fn is_live(&self, at: u64) -> bool {
        self.live.contains_key(&at)
    }

    /// Live blocks.
    pub fn live_blocks(&self) -> u64 {
        self.live.len() as u64
    }

    /// Bytes in live blocks.
    pub fn live_bytes(&self) -> u64 {
        self.live.iter().map(|(at, end)| end - at).sum()
    }

    /// Bytes that are not live.
    pub fn free_bytes(&self) -> u64 {
        self.end - self.start - self.live_bytes()
    }

    /// What is free once everything that is not live has been merged.
    pub fn holes(&self) -> Vec<Hole> {
        let ends = std::iter::once(self.start).chain(self.live.values().copied());
        let begins = self.live.keys().copied().chain(std::iter::once(self.end));
        ends.zip(begins).filter(|(from, to)| from < to).collect()
    }

    /// Bytes of the largest hole.
    pub fn largest_hole(&self) -> u64 {
        self.holes().iter().map(|(from, to)| to - from).max().unwrap_or(0)
    }

    /// Bytes of a block at least.
    fn least(&self) -> u64 {
        self.granule.max(64)
    }

    /// A request's bytes as a block.
    fn rounded(&self, size: u64) -> u64 {
        size.max(self.least()).next_multiple_of(self.granule)
    }

    /// Whether a request may be refused for want of memory: no hole would serve it.
    pub fn may_refuse(&self, size: u64, align: u64) -> bool {
        // What is aligned to more than a granule begins at a multiple of 64.
        let align = if align > self.granule { align.max(self.least()) } else { self.granule };
        let size = self.rounded(size);
        let serves = |(from, to): &Hole| from.next_multiple_of(align) + size <= *to;
        !self.holes().iter().any(serves)
    }
}
