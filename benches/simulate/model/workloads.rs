//! The workloads on the simulated machine, with the production heap.

use super::costs::Costs;
use super::machine::{self, Access, EXTRA, Place, Seen, SimulatedRegion, now, spend, touch};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::layout::{Layout, Params, Usual};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What the cores do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Workload {
    /// The mix, as in production: biased parking.
    #[value(name = "A")]
    A,
    /// Hand-over, pairs of a producer and a consumer.
    #[value(name = "C")]
    C,
    /// The mix, nothing parked.
    #[value(name = "strict")]
    #[serde(rename = "strict")]
    Strict,
    /// The mix in one heap behind one spin lock: a design that cannot scale, against which the simulation is checked.
    #[value(name = "lock")]
    #[serde(rename = "lock")]
    Lock,
    /// A word that goes to and fro between two cores: the probe that the cost of a transfer comes from.
    #[value(skip)]
    PingPong,
}

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::C => "C",
            Self::Strict => "strict",
            Self::Lock => "lock",
            Self::PingPong => "ping-pong",
        }
    }
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::C => "Mmsg/s",
            Self::PingPong => "M round trips/s",
            _ => "Mop/s",
        }
    }
    pub(crate) fn least_cores(self) -> usize {
        if matches!(self, Self::C | Self::PingPong) { 2 } else { 1 }
    }
}

/// How long a run is, in virtual microseconds, and its random numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) cores: usize,
    pub(crate) seed: u64,
    /// Batches of a class that the transfer cache holds, if not as many as in production.
    pub(crate) batches: Option<usize>,
    pub(crate) warm_up: f64,
    pub(crate) counted: f64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// Operations or messages, millions a second.
    pub(crate) rate: f64,
    pub(crate) seen: Seen,
}

/// Bytes of the simulated segment, as in the benchmarks.
const ARENA: u64 = 64 << 20;
/// Live blocks that a core keeps at most.
const LIVE: usize = 200;
/// Granules of a message.
const MESSAGE: u32 = 128 / 16;
/// The benchmarks' ring: messages that it holds, and after how many each side tells where it is.
const SLOTS: u32 = 1024;
const SENT: u32 = 32;
const RECEIVED: u32 = SLOTS / 8;
/// Ring entries in a line.
const ENTRIES: u32 = 16;
/// Lines of one pair's ring.
const RING: usize = SLOTS as usize / ENTRIES as usize + 2;
const _: () = assert!(RING * machine::MOST / 2 <= EXTRA);

type SimulatedHeap = Heap<SimulatedRegion>;

fn heap(biased: bool, batches: Option<usize>) -> Rc<SimulatedHeap> {
    let usual = Params::for_segment(ARENA);
    let params = Params { biased, batches: batches.unwrap_or(usual.batches), ..usual };
    let layout = Layout::fit(ARENA, params).expect("a segment of 64 MiB has a sector");
    Rc::new(Heap::format(SimulatedRegion::new(layout, 0)))
}

/// As `Handler::allocate_raw` does it.
fn allocate(heap: &SimulatedHeap, cache: &mut ThreadCache, granules: u32) -> Option<Live> {
    // SAFETY: there is one heap.
    let own = unsafe { heap.allocate_own(cache, granules as usize, 0, Kind::Raw, &Usual) };
    own.or_else(|| heap.allocate(cache, granules, 1, Kind::Raw).ok())
}

/// As `Handler::free_raw` and `Handler::free_at` do it.
fn free(heap: &SimulatedHeap, cache: &mut ThreadCache, live: Live, exact: bool) {
    let generation = exact.then(|| live.header.generation());
    // SAFETY: as above.
    let freed = unsafe {
        let header = if exact { live.header } else { heap.look_to_free(cache, live.at, &Usual) };
        heap.free_own(cache, live.at, header, false, &Usual)
    };
    if !freed {
        heap.free(cache, live.at, generation).expect("the block is live");
    }
}

/// Counts what is done in the counted part of a run.
#[derive(Clone)]
struct Count {
    from: f64,
    to: f64,
    done: Rc<Cell<u64>>,
}

impl Count {
    /// Notes one operation. False: the run is over.
    fn one(&self) -> bool {
        let now = now();
        if now >= self.from && now < self.to {
            self.done.set(self.done.get() + 1);
        }
        now < self.to
    }
    fn goes_on(&self) -> bool {
        now() < self.to
    }
}

fn mix(
    count: &Count,
    random: &mut Rng,
    costs: Costs,
    mut allocate: impl FnMut(u32) -> Option<Live>,
    mut free: impl FnMut(Live),
) {
    let mut live = Vec::with_capacity(LIVE);
    loop {
        spend(costs.harness);
        if live.len() < LIVE && random.u32(0..10) < 7 {
            // A span at least.
            let granules = random.u32(32..=544).div_ceil(16).max(4);
            let block = allocate(granules).expect("there is room for everybody");
            touch(Place::Payload(block.at), Access::Store);
            live.push(block);
        } else if !live.is_empty() {
            free(live.swap_remove(random.usize(0..live.len())));
        } else {
            continue;
        }
        if !count.one() {
            return;
        }
    }
}

/// A ring's two positions; their lines and the entries' are the machine's.
#[derive(Default)]
struct Ring {
    head: Cell<u32>,
    tail: Cell<u32>,
    entries: RefCell<std::collections::VecDeque<Live>>,
    first: usize,
}

impl Ring {
    fn head(&self) -> Place {
        Place::Extra(self.first)
    }
    fn tail(&self) -> Place {
        Place::Extra(self.first + 1)
    }
    fn entry(&self, at: u32) -> Place {
        Place::Extra(self.first + 2 + (at % SLOTS / ENTRIES) as usize)
    }
}

fn produce(heap: &SimulatedHeap, cache: &mut ThreadCache, ring: &Ring, count: &Count, costs: Costs) {
    let (mut own, mut seen) = (0u32, 0u32);
    while count.goes_on() {
        spend(costs.message);
        let block = allocate(heap, cache, MESSAGE).expect("there is room for everybody");
        touch(Place::Payload(block.at), Access::Store);
        while own - seen == SLOTS {
            touch(ring.head(), Access::Store);
            ring.head.set(own);
            touch(ring.tail(), Access::Load);
            seen = ring.tail.get();
            if own - seen == SLOTS {
                spend(costs.wait);
            }
            if !count.goes_on() {
                return;
            }
        }
        touch(ring.entry(own), Access::Store);
        ring.entries.borrow_mut().push_back(block);
        own += 1;
        if own.is_multiple_of(SENT) {
            touch(ring.head(), Access::Store);
            ring.head.set(own);
        }
    }
}

fn consume(heap: &SimulatedHeap, cache: &mut ThreadCache, ring: &Ring, count: &Count, costs: Costs) {
    let (mut own, mut seen) = (0u32, 0u32);
    loop {
        while own == seen {
            touch(ring.tail(), Access::Store);
            ring.tail.set(own);
            touch(ring.head(), Access::Load);
            seen = ring.head.get();
            if own == seen {
                spend(costs.wait);
            }
            if !count.goes_on() {
                return;
            }
        }
        spend(costs.message);
        touch(ring.entry(own), Access::Load);
        let block = ring.entries.borrow_mut().pop_front().expect("it was sent");
        own += 1;
        if own.is_multiple_of(RECEIVED) {
            touch(ring.tail(), Access::Store);
            ring.tail.set(own);
        }
        free(heap, cache, block, false);
        if !count.one() {
            return;
        }
    }
}

/// A test-and-test-and-set lock.
fn locked<T>(lock: &Cell<bool>, costs: Costs, act: impl FnOnce() -> T) -> T {
    const LOCK: Place = Place::Extra(0);
    loop {
        touch(LOCK, Access::Load);
        if !lock.get() {
            touch(LOCK, Access::Change);
            if !lock.replace(true) {
                break;
            }
        }
        spend(costs.wait / 32.0);
    }
    let result = act();
    touch(LOCK, Access::Store);
    lock.set(false);
    result
}

/// One side of the probe: waits for the other's word, then writes its own.
fn ping_pong(words: &[Cell<u32>; 2], own: usize, count: &Count, costs: Costs) {
    let mut next = 0;
    loop {
        if own == 0 {
            next += 1;
            touch(Place::Extra(0), Access::Store);
            words[0].set(next);
        }
        let wanted = if own == 0 { next } else { next + 1 };
        while words[1 - own].get() < wanted || own == 1 && words[0].get() == next {
            touch(Place::Extra(1 - own), Access::Load);
            if words[1 - own].get() < wanted {
                spend(costs.wait / 32.0);
            }
            if !count.goes_on() {
                return;
            }
        }
        if own == 1 {
            next += 1;
            touch(Place::Extra(1), Access::Store);
            words[1].set(next);
        } else {
            touch(Place::Extra(1), Access::Load);
            count.one();
        }
    }
}

/// One run. The same arguments give the same outcome, to the last bit.
pub(crate) fn simulate(workload: Workload, costs: Costs, plan: Plan) -> Outcome {
    let Plan { cores, seed, batches, warm_up, counted } = plan;
    assert!(cores >= workload.least_cores());
    let heap = heap(matches!(workload, Workload::A | Workload::C), batches);
    let (from, to) = (warm_up * 1000.0, (warm_up + counted) * 1000.0);
    let count = Count { from, to, done: Rc::default() };
    let mut seeds = Rng::with_seed(seed);
    let mut bodies: Vec<Box<dyn FnOnce()>> = vec![];
    let shared = Rc::new((Cell::new(false), RefCell::new(ThreadCache::new(1))));
    let words = Rc::new([Cell::new(0), Cell::new(0)]);
    let mut ring = Rc::new(Ring::default());
    for core in 0..cores {
        let (heap, count, mut random) = (heap.clone(), count.clone(), seeds.fork());
        let owner = core as u16 + 1;
        match workload {
            Workload::A | Workload::Strict => bodies.push(Box::new(move || {
                let cache = match workload {
                    Workload::A => ThreadCache::new(owner),
                    _ => ThreadCache::with_ceiling(owner, 0),
                };
                let cache = RefCell::new(cache);
                let take = |granules| allocate(&heap, &mut cache.borrow_mut(), granules);
                mix(&count, &mut random, costs, take, |live| free(&heap, &mut cache.borrow_mut(), live, true));
            })),
            Workload::Lock => {
                let shared = shared.clone();
                bodies.push(Box::new(move || {
                    let (lock, cache) = &*shared;
                    let take = |granules| locked(lock, costs, || allocate(&heap, &mut cache.borrow_mut(), granules));
                    mix(&count, &mut random, costs, take, |live| {
                        locked(lock, costs, || free(&heap, &mut cache.borrow_mut(), live, true));
                    });
                }));
            }
            Workload::C => {
                if core % 2 == 0 {
                    ring = Rc::new(Ring { first: core / 2 * RING, ..Ring::default() });
                }
                let ring = ring.clone();
                bodies.push(Box::new(move || {
                    let mut cache = ThreadCache::new(owner);
                    // A little apart, as threads begin.
                    spend(random.f64() * 1000.0);
                    match core % 2 {
                        0 => produce(&heap, &mut cache, &ring, &count, costs),
                        _ => consume(&heap, &mut cache, &ring, &count, costs),
                    }
                }));
            }
            Workload::PingPong => {
                let words = words.clone();
                bodies.push(Box::new(move || ping_pong(&words, core % 2, &count, costs)));
            }
        }
    }
    let seen = machine::run(heap.region(), &[], costs, from, bodies);
    Outcome { rate: count.done.get() as f64 / counted, seen }
}
