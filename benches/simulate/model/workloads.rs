//! The workloads on the simulated machine, with the production heap.

use super::costs::Costs;
use super::machine::{self, Access, EXTRA, Place, Seen, SimulatedRegion, now, spend, touch};
use super::structures;
pub(crate) use super::structures::Books;
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
    /// Blocks of 4 KiB.
    #[value(name = "4KiB")]
    #[serde(rename = "4KiB")]
    Small,
    /// Blocks of 64 KiB.
    #[value(name = "64KiB")]
    #[serde(rename = "64KiB")]
    Large,
    /// Sizes from 64 bytes to 256 KiB, log-uniform.
    #[value(name = "log")]
    #[serde(rename = "log")]
    Log,
    /// A channel: half of the cores send, half receive.
    #[value(name = "channel")]
    #[serde(rename = "channel")]
    Channel,
    /// Channels of one sender and one receiver, one for each two cores.
    #[value(name = "pairs")]
    #[serde(rename = "pairs")]
    Pairs,
    /// A lossless topic: one core publishes, all others subscribe.
    #[value(name = "topic")]
    #[serde(rename = "topic")]
    Topic,
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
            Self::Small => "4KiB",
            Self::Large => "64KiB",
            Self::Log => "log",
            Self::Channel => "channel",
            Self::Pairs => "pairs",
            Self::Topic => "topic",
            Self::Lock => "lock",
            Self::PingPong => "ping-pong",
        }
    }
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::C | Self::Channel | Self::Pairs | Self::Topic => "Mmsg/s",
            Self::PingPong => "M round trips/s",
            _ => "Mop/s",
        }
    }
    pub(crate) fn least_cores(self) -> usize {
        match self {
            Self::C | Self::PingPong | Self::Channel | Self::Pairs | Self::Topic => 2,
            _ => 1,
        }
    }
    /// Whether more cores could do more: a topic's one publisher does what it can.
    pub(crate) fn may_gain(self) -> bool {
        self != Self::Topic
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
    /// Of a channel or topic.
    pub(crate) books: Option<Books>,
}

/// Bytes of the simulated segment, as in the benchmarks.
const ARENA: u64 = 64 << 20;
/// The same for larger sizes: the largest sector that there is, a ninth of it live at most at 128 cores.
const LARGE_ARENA: u64 = 4 << 30;
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

pub(super) type SimulatedHeap = Heap<SimulatedRegion>;

fn heap(workload: Workload, batches: Option<usize>) -> Rc<SimulatedHeap> {
    let arena = if Draw::of(workload).is_beyond_small() { LARGE_ARENA } else { ARENA };
    let usual = Params::for_segment(arena);
    let biased = !matches!(workload, Workload::Strict | Workload::Lock | Workload::PingPong);
    let params = Params { biased, batches: batches.unwrap_or(usual.batches), ..usual };
    let layout = Layout::fit(arena, params).expect("the segment has a sector");
    Rc::new(Heap::format(SimulatedRegion::new(layout, 0)))
}

/// How sizes are drawn, in bytes, and how many blocks a core keeps at most.
#[derive(Debug, Clone, Copy)]
enum Draw {
    /// 32 to 544, 200 live.
    Mix,
    /// One size.
    One { size: u32, live: usize },
    /// Each power of two from `1 << from` to `1 << to` (exclusive) as often as the others, uniform within; 200 live.
    Log { from: u32, to: u32 },
}

impl Draw {
    /// Those of `benches/support/mixes.rs`.
    fn of(workload: Workload) -> Self {
        match workload {
            Workload::Small => Self::One { size: 4 << 10, live: 200 },
            Workload::Large => Self::One { size: 64 << 10, live: 100 },
            Workload::Log => Self::Log { from: 6, to: 18 },
            _ => Self::Mix,
        }
    }
    fn is_beyond_small(self) -> bool {
        !matches!(self, Self::Mix)
    }
    fn live(self) -> usize {
        if let Self::One { live, .. } = self { live } else { 200 }
    }
    /// Granules of a block: a span at least.
    fn granules(self, random: &mut Rng) -> u32 {
        let bytes = match self {
            Self::Mix => random.u32(32..=544),
            Self::One { size, .. } => size,
            Self::Log { from, to } => {
                let least = 1 << random.u32(from..to);
                least + random.u32(0..least)
            }
        };
        bytes.div_ceil(16).max(4)
    }
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

/// The same two with the second step, which the small sizes of A seldom need.
fn allocate_any(heap: &SimulatedHeap, cache: &mut ThreadCache, granules: u32) -> Option<Live> {
    // SAFETY: there is one heap.
    let next = |cache: &mut ThreadCache| unsafe {
        let own = heap.allocate_own(cache, granules as usize, 0, Kind::Raw, &Usual);
        own.or_else(|| heap.allocate_next(cache, granules as usize, 0, Kind::Raw, &Usual).some())
    };
    next(cache).or_else(|| heap.allocate(cache, granules, 1, Kind::Raw).ok())
}

fn free_any(heap: &SimulatedHeap, cache: &mut ThreadCache, live: Live) {
    // SAFETY: as above.
    let freed = unsafe {
        heap.free_own(cache, live.at, live.header, false, &Usual) || heap.free_next(cache, live.at, live.header, &Usual)
    };
    if !freed {
        heap.free(cache, live.at, Some(live.header.generation())).expect("the block is live");
    }
}

/// Counts what is done in the counted part of a run.
#[derive(Clone)]
pub(super) struct Count {
    pub(super) from: f64,
    to: f64,
    done: Rc<Cell<u64>>,
}

impl Count {
    /// Notes one operation. False: the run is over.
    pub(super) fn one(&self) -> bool {
        let now = now();
        if now >= self.from && now < self.to {
            self.done.set(self.done.get() + 1);
        }
        now < self.to
    }
    pub(super) fn goes_on(&self) -> bool {
        now() < self.to
    }
}

fn mix(
    count: &Count,
    (random, draw): (&mut Rng, Draw),
    costs: Costs,
    mut allocate: impl FnMut(u32) -> Option<Live>,
    mut free: impl FnMut(Live),
) {
    let mut live = Vec::with_capacity(draw.live());
    loop {
        spend(costs.harness);
        if live.len() < draw.live() && random.u32(0..10) < 7 {
            let block = allocate(draw.granules(random)).expect("there is room for everybody");
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
    let (from, to) = (warm_up * 1000.0, (warm_up + counted) * 1000.0);
    let count = Count { from, to, done: Rc::default() };
    let mut seeds = Rng::with_seed(seed);
    if matches!(workload, Workload::Channel | Workload::Pairs | Workload::Topic) {
        let (seen, books) = structures::simulate(workload, cores, costs, count.clone(), &mut seeds);
        return Outcome { rate: count.done.get() as f64 / counted, seen, books: Some(books) };
    }
    let (heap, draw) = (heap(workload, batches), Draw::of(workload));
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
                mix(&count, (&mut random, draw), costs, take, |live| free(&heap, &mut cache.borrow_mut(), live, true));
            })),
            Workload::Small | Workload::Large | Workload::Log => bodies.push(Box::new(move || {
                let cache = RefCell::new(ThreadCache::new(owner));
                let take = |granules| allocate_any(&heap, &mut cache.borrow_mut(), granules);
                mix(&count, (&mut random, draw), costs, take, |live| free_any(&heap, &mut cache.borrow_mut(), live));
            })),
            Workload::Lock => {
                let shared = shared.clone();
                bodies.push(Box::new(move || {
                    let (lock, cache) = &*shared;
                    let take = |granules| locked(lock, costs, || allocate(&heap, &mut cache.borrow_mut(), granules));
                    mix(&count, (&mut random, draw), costs, take, |live| {
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
            Workload::Channel | Workload::Pairs | Workload::Topic => unreachable!("simulated above"),
            Workload::PingPong => {
                let words = words.clone();
                bodies.push(Box::new(move || ping_pong(&words, core % 2, &count, costs)));
            }
        }
    }
    let seen = machine::run(heap.region(), &[], costs, from, bodies);
    Outcome { rate: count.done.get() as f64 / counted, seen, books: None }
}
