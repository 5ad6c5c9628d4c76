//! Whoever is refused by what it remembers is refused rightly: a newcomer that remembers nothing gets no more.

use super::super::heap::{Heap, Kind, Live, ThreadCache};
use super::{PACKED, WIDE};
use crate::backend::decorators::{Probe, set_mutant};
use crate::backend::orderings::SLOT_WRITE;
use crate::backend::{Mutant, Native, Word};
use crate::matrix::recovery::Policy;
use crate::segment::layout::{Layout, Params, SlotWord};
use crate::segment::region::{BoxedRegion, Region};
use crate::segment::size_class::Larges;
use fastrand::Rng;

/// Steps of a scenario.
const STEPS: usize = 300;
/// Numbers of the caches that come and go, and of the newcomer.
const CACHES: u16 = 4;
const NEWCOMER: u16 = 9;

/// A heap of a sector that is soon full, and its caches: threads of one process, of two, or each of one of its own.
struct Scene {
    heap: Heap<BoxedRegion<Probe<Native>>>,
    ceiling: usize,
    /// Granules that are asked for at most.
    most: u32,
}

impl Scene {
    fn draw(dice: &mut Rng) -> Self {
        let shift = if dice.bool() { WIDE } else { PACKED };
        let span = 1 << (WIDE - shift);
        let granules = dice.u32(30..600) * span;
        let larges = [Larges::USUAL, Larges { from: 3 * span, part: 4 }][dice.usize(0..2)];
        let params = Params {
            granule_shift: shift,
            participants: 16,
            batches: 2,
            directory: 0,
            header_words: 2,
            line_words: 1,
            biased: dice.bool(),
            larges,
        };
        let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(Layout::new(granules, params)));
        let processes = [[1, 1, 1, 1], [1, 2, 1, 2], [1, 2, 3, 4]][dice.usize(0..3)];
        for (number, &process) in (1..).zip(&processes) {
            heap.region().word(heap.layout().slot(number, SlotWord::Process)).store(process, &SLOT_WRITE);
        }
        let ceiling = [0, 2, 30][dice.usize(0..3)];
        let most = [4 * span, 20 * span, granules / 3][dice.usize(0..3)].max(span + 1);
        Self { heap, ceiling, most }
    }

    fn cache(&self, number: u16) -> ThreadCache {
        match self.ceiling {
            0 => ThreadCache::with_ceiling(number, 0),
            _ => ThreadCache::with_pool(number, self.ceiling, self.heap.layout().granules / 4),
        }
    }
}

/// Some caches allocate, free their own and others' blocks, resize, hand over, heal, and die. How many were
/// refused, and how many of them a newcomer was asked about.
fn scenario(seed: u64) -> (usize, usize) {
    let mut dice = Rng::with_seed(seed);
    let scene = Scene::draw(&mut dice);
    let (heap, most) = (&scene.heap, scene.most);
    let mut caches: Vec<ThreadCache> = (1..=CACHES).map(|number| scene.cache(number)).collect();
    let mut live: Vec<Live> = vec![];
    let (mut refused, mut asked) = (0, 0);
    for _ in 0..STEPS {
        let me = dice.usize(0..CACHES.into());
        let cache = &mut caches[me];
        let any = (!live.is_empty()).then(|| dice.usize(0..live.len()));
        match (dice.u32(0..40), any) {
            (0..22, _) => {
                let (size, align) = (dice.u32(1..=most), if dice.bool() { 1 } else { 1 << dice.u32(0..9) });
                if let Ok(block) = heap.allocate(cache, size, align, Kind::Raw) {
                    live.push(block);
                    continue;
                }
                refused += 1;
                if dice.u8(0..3) == 0 {
                    asked += 1;
                    let newcomer = heap.allocate(&mut ThreadCache::with_ceiling(NEWCOMER, 0), size, align, Kind::Raw);
                    assert!(newcomer.is_err(), "L2: seed {seed}: {size} at {align} were refused to {}", me + 1);
                }
            }
            (22..35, Some(at)) => {
                let block = live.swap_remove(at);
                heap.free(cache, block.at, None).expect("S5: it is live");
            }
            (35..37, Some(at)) => {
                let block = &mut live[at];
                if let Some(cache) = caches.iter_mut().find(|cache| cache.owner() == block.header.owner()) {
                    let size = dice.u32(1..=most);
                    *block = heap.resizing().resize(cache, *block, size).unwrap_or(*block);
                }
            }
            (37, Some(at)) => {
                let to = dice.u16(0..=CACHES);
                let block = live[at];
                if heap.adoption().rename_from(cache.owner(), block.at, block.header, to).is_some() {
                    live[at] = heap.live_at(block.at).expect("it is live");
                }
            }
            (38, _) if dice.u8(0..4) == 0 => heap.heal(cache),
            (39, _) if dice.u8(0..4) == 0 => {
                let (dead, by) = (cache.owner(), CACHES + 1);
                heap.recoveries().recover(&mut ThreadCache::with_ceiling(by, 0), dead, Policy::GiveBack);
                live.retain(|block| block.header.owner() != dead);
                caches[me] = scene.cache(dead);
            }
            _ if dice.u8(0..4) == 0 => heap.parking().flush(cache),
            _ => {}
        }
    }
    for block in live {
        heap.free(&mut caches[0], block.at, None).expect("S5: it is live");
    }
    super::rest_is_one_block(heap, &mut caches[0]);
    (refused, asked)
}

/// `MATRIX_REFUSED` sets how many scenarios.
#[test]
fn l2_who_is_refused_is_refused_rightly() {
    let count = std::env::var("MATRIX_REFUSED").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let (mut refused, mut asked) = (0, 0);
    for seed in 0..count {
        let (more, of_them) = scenario(seed);
        (refused, asked) = (refused + more, asked + of_them);
    }
    println!("{refused} refused in {count} scenarios; a newcomer asked after {asked} of them");
    assert!(asked as u64 > 5 * count);
}

/// Faults of what a cache remembers are noticed here, too.
#[test]
fn mutant_refusals_are_caught() {
    for mutant in [Mutant::NewsUntold, Mutant::NewsIgnored, Mutant::MadeUntold, Mutant::SentUntold] {
        set_mutant(Some(mutant));
        let noticed = (0..1000).find(|&seed| std::panic::catch_unwind(|| scenario(seed)).is_err());
        set_mutant(None);
        println!("mutant {mutant:?} | seed {noticed:?}");
        assert!(noticed.is_some(), "{mutant:?} survives");
    }
}
