//! Sizes beyond the mix: what else people allocate.

use super::Outcome;
use super::peers::Peer;
use super::work::{Filled, Random};
use serde::{Deserialize, Serialize};

/// How a mix draws its sizes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sizes {
    /// One.
    One(usize),
    /// Uniform, both ends included.
    Uniform(usize, usize),
    /// Each power of two from `1 << from` to `1 << to` (exclusive) as often as the others, uniform within.
    Log { from: u32, to: u32 },
    /// Three fifths up to 200 bytes, three tenths up to 4000, a twentieth up to 70 000, a twentieth up to 900 000.
    Tail,
}

/// Sizes, and how many blocks of them a worker keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    sizes: Sizes,
    pub(crate) live: usize,
    /// What [`fill`] said of the churned arena while large blocks were still merged at every free (median of three
    /// seeds).
    pub(crate) merged: f64,
}

/// A mix, by its place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Number(usize);

/// A full high definition frame, 4:2:0.
const FRAME: usize = 1920 * 1080 * 3 / 2;

/// All mixes, in the order of the tables.
const MIXES: [Mix; 13] = [
    Mix { name: "32..544 B, 200 live", sizes: Sizes::Uniform(32, 544), live: 200, merged: 0.844 },
    Mix { name: "32..544 B, 3 000 live", sizes: Sizes::Uniform(32, 544), live: 3_000, merged: 0.844 },
    Mix { name: "32..544 B, 20 000 live", sizes: Sizes::Uniform(32, 544), live: 20_000, merged: 0.844 },
    Mix { name: "1..4 KiB, 200 live", sizes: Sizes::Uniform(1 << 10, 4 << 10), live: 200, merged: 0.817 },
    Mix { name: "4..64 KiB, 200 live", sizes: Sizes::Uniform(4 << 10, 64 << 10), live: 200, merged: 0.863 },
    Mix { name: "64 B..256 KiB, log, 200 live", sizes: Sizes::Log { from: 6, to: 18 }, live: 200, merged: 0.870 },
    Mix { name: "64 B..256 KiB, log, 3 000 live", sizes: Sizes::Log { from: 6, to: 18 }, live: 3_000, merged: 0.870 },
    Mix { name: "tail to 900 KB, 200 live", sizes: Sizes::Tail, live: 200, merged: 0.790 },
    Mix { name: "4 KiB, 200 live", sizes: Sizes::One(4 << 10), live: 200, merged: 0.879 },
    Mix { name: "4 KiB, 20 000 live", sizes: Sizes::One(4 << 10), live: 20_000, merged: 0.879 },
    Mix { name: "64 KiB, 100 live", sizes: Sizes::One(64 << 10), live: 100, merged: 0.879 },
    Mix { name: "1 MiB, 60 live", sizes: Sizes::One(1 << 20), live: 60, merged: 0.875 },
    Mix { name: "3 MB frames, 20 live", sizes: Sizes::One(FRAME), live: 20, merged: 0.857 },
];

/// All mixes, by number.
pub(crate) fn all() -> impl Iterator<Item = Number> {
    (0..MIXES.len()).map(Number)
}

/// The first mix of these sizes.
pub(crate) fn of_sizes(name: &str) -> Option<Mix> {
    MIXES.into_iter().find(|mix| mix.sizes_name() == name)
}

impl Number {
    pub(crate) fn mix(self) -> Mix {
        MIXES[self.0 % MIXES.len()]
    }
    /// The first of those with the same sizes: what is left where the number of live blocks plays no part.
    pub(crate) fn is_first_of_its_sizes(self) -> bool {
        MIXES.iter().position(|mix| mix.sizes == self.mix().sizes) == Some(self.0)
    }
}

impl Mix {
    /// Whether all blocks have one size.
    pub(crate) fn is_one_size(&self) -> bool {
        matches!(self.sizes, Sizes::One(_))
    }
    /// The sizes alone.
    pub(crate) fn sizes_name(&self) -> &'static str {
        self.name.rsplit_once(", ").map_or(self.name, |(sizes, _)| sizes)
    }
    #[inline(always)]
    pub(crate) fn size(&self, random: &mut Random) -> usize {
        let up_to = |random: &mut Random, most: u64| 8 + random.below(most - 7) as usize;
        match self.sizes {
            Sizes::One(size) => size,
            Sizes::Uniform(least, most) => least + random.below((most - least) as u64 + 1) as usize,
            Sizes::Log { from, to } => {
                let least = 1 << (from as u64 + random.below((to - from) as u64));
                least + random.below(least as u64) as usize
            }
            Sizes::Tail => match random.below(20) {
                0..=11 => up_to(random, 200),
                12..=17 => up_to(random, 4_000),
                18 => up_to(random, 70_000),
                _ => up_to(random, 900_000),
            },
        }
    }
}

/// How often each live block is replaced, on average, before memory is filled up again.
const TURNS: usize = 10;
/// Arenas that are filled.
const SEEDS: u64 = 3;

/// Blocks and their sizes.
struct Held<'a, P: Peer> {
    peer: &'a P,
    blocks: Vec<(P::Block, usize)>,
    payload: usize,
    random: Random,
}

impl<P: Peer> Held<'_, P> {
    fn add(&mut self, size: usize) -> bool {
        let Some(mut block) = self.peer.allocate(size) else { return false };
        self.peer.touch(&mut block, self.payload as u64);
        self.payload += size;
        self.blocks.push((block, size));
        true
    }
    fn remove_any(&mut self) {
        let (block, size) = self.blocks.swap_remove(self.random.below(self.blocks.len() as u64) as usize);
        self.payload -= size;
        self.peer.free(block, size);
    }
    /// Allocates until a request is refused; the payload as a share of `all` bytes.
    fn fill(&mut self, mix: Mix, all: usize) -> f64 {
        loop {
            let size = mix.size(&mut self.random);
            if !self.add(size) {
                return self.payload as f64 / all as f64;
            }
        }
    }
}

/// How full an arena can be made: fresh, and again after half of the blocks were freed at random and the
/// others replaced [`TURNS`] times.
fn fill_once<P: Peer>(peer: &P, mix: Mix, seed: u64) -> Option<Filled> {
    let (all, _) = peer.arena()?;
    peer.enter();
    let mut held = Held { peer, blocks: vec![], payload: 0, random: Random::new(seed) };
    let fresh = held.fill(mix, all);
    let half = held.payload / 2;
    while held.payload > half {
        held.remove_any();
    }
    for _ in 0..TURNS * held.blocks.len() {
        held.remove_any();
        while held.payload <= half {
            let size = mix.size(&mut held.random);
            if !held.add(size) {
                break;
            }
        }
    }
    let churned = held.fill(mix, all);
    for (block, size) in held.blocks {
        peer.free(block, size);
    }
    Some(Filled { fresh, churned })
}

/// The same for [`SEEDS`] fresh arenas: medians.
pub(crate) fn fill<P: Peer>(create: impl Fn() -> Outcome<P>, number: Number) -> Outcome<Option<Filled>> {
    let (mut fresh, mut churned) = (vec![], vec![]);
    for seed in 1..=SEEDS {
        let Some(filled) = fill_once(&create()?, number.mix(), seed) else { return Ok(None) };
        fresh.push(filled.fresh);
        churned.push(filled.churned);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(Some(Filled { fresh: median(fresh), churned: median(churned) }))
}
