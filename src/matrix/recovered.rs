//! What a recovery does with live blocks of the dead, and what it found.

/// What happens to live blocks of a participant that has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// They are freed. Blocks that a living process has adopted or that are published are not the dead one's any more.
    #[default]
    GiveBack,
    /// They stay allocated and belong to [`KEPT`](super::block_header::KEPT) until somebody adopts or frees them.
    Keep,
}

/// What a recovery found, in blocks and granules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Participants recovered.
    pub participants: u64,
    /// Live blocks of the dead, freed or kept by policy.
    pub live_blocks: u64,
    /// Granules in them.
    pub live_granules: u64,
    /// Blocks in flight, given back.
    pub in_flight_blocks: u64,
    /// Granules in them.
    pub in_flight_granules: u64,
    /// Live blocks that others were just adopting from the dead. Such a dead participant does not count as
    /// recovered: it keeps its slot until a recovery finds those adoptions ended, and whatever has become its
    /// own again by then.
    pub open_adoptions: u64,
}

impl Recovered {
    /// Adds another recovery's counts.
    pub fn add(&mut self, other: Self) {
        self.participants += other.participants;
        self.live_blocks += other.live_blocks;
        self.live_granules += other.live_granules;
        self.in_flight_blocks += other.in_flight_blocks;
        self.in_flight_granules += other.in_flight_granules;
        self.open_adoptions += other.open_adoptions;
    }
}
