//! Sizes that drift: what is left of an allocator's memory after hours of phases, each with sizes of its own.
//!
//! Half of the arena is live throughout. In each phase the blocks of the phase before are freed, at random,
//! and blocks of this phase's sizes take their place, until twice the live bytes have been allocated anew. At its
//! end some blocks, a five hundredth of the live bytes, become survivors: they stay for the next [`SURVIVE`] phases.
//! Time is counted in phases and in bytes allocated, so that a faster allocator is not an older one.

use super::mixes::{self, Mix};
use super::peers::Peer;
use super::work::Random;
use super::{Arena, Outcome};
use rustix::param::page_size;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What each peer gets, untouched at first, so that what it makes resident can be seen.
pub(crate) const ARENA: Arena = Arena { bytes: 128 << 20, warm: false };
/// Seconds of a phase, about.
pub(crate) const SECONDS: f64 = 0.1;
/// Live bytes.
const LIVE: usize = ARENA.bytes / 2;
/// Phases that survivors outlive.
const SURVIVE: usize = 6;
/// The names of the phases' sizes, in turn (see [`mixes`]): a round.
pub(crate) const SIZES: [&str; 5] = ["32..544 B", "tail to 900 KB", "1..4 KiB", "64 B..256 KiB, log", "4..64 KiB"];

/// What can be learned by a walk over the peer's blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked {
    /// Of the free blocks.
    pub(crate) entropy_bits: f64,
    pub(crate) largest_free: u64,
    /// Freed, and kept for their size.
    pub(crate) parked_bytes: u64,
}

/// The memory at the end of a phase.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) peer: String,
    /// From 1.
    pub(crate) phase: usize,
    pub(crate) sizes: String,
    /// Since the beginning.
    pub(crate) allocated_bytes: u64,
    pub(crate) live_blocks: u64,
    pub(crate) live_bytes: u64,
    /// Requests refused in this phase.
    pub(crate) refused: u64,
    /// All bytes of the arena; none of a peer whose memory has no bound.
    pub(crate) arena_bytes: Option<u64>,
    /// The largest block that was to be had, found by trying.
    pub(crate) largest_had: Option<u64>,
    /// What became resident since the beginning.
    pub(crate) resident_bytes: u64,
    /// Before anything was tried; of peers whose blocks can be walked over.
    pub(crate) entropy_bits: Option<f64>,
    pub(crate) largest_free: Option<u64>,
    pub(crate) parked_bytes: Option<u64>,
}

impl Phase {
    /// The largest block to be had, as a share of all bytes that no live payload takes.
    pub(crate) fn largest_share(&self) -> Option<f64> {
        Some(self.largest_had? as f64 / (self.arena_bytes? - self.live_bytes) as f64)
    }
    /// Resident bytes for each live one.
    pub(crate) fn footprint(&self) -> f64 {
        self.resident_bytes as f64 / self.live_bytes as f64
    }
}

/// This process's resident bytes, those of shared memory included.
fn resident() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).ok_or("/proc/self/statm has no second number")?.parse()?;
    Ok(pages * page_size() as u64)
}

/// Blocks, and what they were asked for.
struct Blocks<P: Peer>(Vec<(P::Block, usize)>);

impl<P: Peer> Blocks<P> {
    fn new() -> Self {
        Self(vec![])
    }
    fn take_any(&mut self, random: &mut Random) -> Option<(P::Block, usize)> {
        let count = self.0.len() as u64;
        (count > 0).then(|| self.0.swap_remove(random.below(count) as usize))
    }
}

/// A peer whose memory drifts.
struct Drift<'a, P: Peer> {
    peer: &'a P,
    random: Random,
    /// This phase's, and those of the phase before.
    new: Blocks<P>,
    old: Blocks<P>,
    /// Of each of the last phases.
    survivors: VecDeque<Blocks<P>>,
    live: usize,
    allocated: u64,
    refused: u64,
}

impl<P: Peer> Drift<'_, P> {
    fn free(&mut self, (block, size): (P::Block, usize)) {
        self.live -= size;
        self.peer.free(block, size);
    }
    fn free_all(&mut self, blocks: Blocks<P>) {
        blocks.0.into_iter().for_each(|block| self.free(block));
    }
    /// Allocates until enough is live, or a request is refused.
    fn fill(&mut self, mix: Mix) {
        while self.live < LIVE {
            let size = mix.size(&mut self.random);
            let Some(mut block) = self.peer.allocate(size) else {
                self.refused += 1;
                return;
            };
            self.peer.touch(&mut block, self.allocated);
            self.live += size;
            self.allocated += size as u64;
            self.new.0.push((block, size));
        }
    }
    fn phase(&mut self, mix: Mix) {
        let end = self.allocated + 2 * LIVE as u64;
        self.refused = 0;
        self.fill(mix);
        while self.allocated < end || !self.old.0.is_empty() {
            let of = if self.old.0.is_empty() { &mut self.new } else { &mut self.old };
            let Some(block) = of.take_any(&mut self.random) else { return };
            self.free(block);
            self.fill(mix);
        }
    }
    /// Some stay, those of long ago go, and what is left is old.
    fn turn(&mut self) {
        let (mut stay, mut bytes) = (Blocks::new(), 0);
        while bytes < LIVE / 500 {
            let Some(block) = self.new.take_any(&mut self.random) else { break };
            bytes += block.1;
            stay.0.push(block);
        }
        self.survivors.push_back(stay);
        if self.survivors.len() > SURVIVE
            && let Some(gone) = self.survivors.pop_front()
        {
            self.free_all(gone);
        }
        let old = std::mem::replace(&mut self.new, Blocks::new());
        self.old.0.extend(old.0);
    }
    /// The largest block to be had, to a thousandth of the arena.
    fn largest(&self, most: usize) -> usize {
        let (mut had, mut refused) = (0, most);
        while refused - had > most / 1024 {
            let size = had.midpoint(refused);
            match self.peer.allocate(size) {
                Some(block) => {
                    self.peer.free(block, size);
                    had = size;
                }
                None => refused = size,
            }
        }
        had
    }
}

/// So many phases, each as it ended.
pub(crate) fn drift<P: Peer>(create: impl FnOnce() -> Outcome<P>, phases: usize) -> Outcome<Vec<Phase>> {
    let before = resident()?;
    let peer = create()?;
    peer.enter();
    let arena = peer.arena().map(|(all, _)| all);
    let mut drift = Drift {
        peer: &peer,
        random: Random::new(1),
        new: Blocks::new(),
        old: Blocks::new(),
        survivors: VecDeque::new(),
        live: 0,
        allocated: 0,
        refused: 0,
    };
    let mut rows = vec![];
    for phase in 0..phases {
        let sizes = SIZES[phase % SIZES.len()];
        let mix = mixes::of_sizes(sizes).ok_or_else(|| format!("no mix has the sizes {sizes}"))?;
        drift.phase(mix);
        let walked = peer.walked();
        rows.push(Phase {
            phase: phase + 1,
            sizes: sizes.to_owned(),
            allocated_bytes: drift.allocated,
            live_blocks: (drift.new.0.len() + drift.survivors.iter().map(|kept| kept.0.len()).sum::<usize>()) as u64,
            live_bytes: drift.live as u64,
            refused: drift.refused,
            arena_bytes: arena.map(|bytes| bytes as u64),
            resident_bytes: resident()?.saturating_sub(before),
            largest_had: arena.map(|bytes| drift.largest(bytes) as u64),
            entropy_bits: walked.map(|walked| walked.entropy_bits),
            largest_free: walked.map(|walked| walked.largest_free),
            parked_bytes: walked.map(|walked| walked.parked_bytes),
            ..Phase::default()
        });
        drift.turn();
    }
    let (new, old) =
        (std::mem::replace(&mut drift.new, Blocks::new()), std::mem::replace(&mut drift.old, Blocks::new()));
    drift.free_all(new);
    drift.free_all(old);
    while let Some(survivors) = drift.survivors.pop_front() {
        drift.free_all(survivors);
    }
    Ok(rows)
}
