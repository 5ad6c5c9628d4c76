//! How a scenario is set up and explored.

use atomic_matrix::backend::decorators::{Probe, set_mutant};
use atomic_matrix::backend::loom::{Loom, Passes, Setting};
use atomic_matrix::backend::orderings::{FORMAT, TABLE};
use atomic_matrix::backend::{Backend, Site, Word};
use atomic_matrix::check::turns::said;
use atomic_matrix::ipc::structure::{Shape, Structure};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, Refusal, ThreadCache};
use atomic_matrix::matrix::stats::Tally;
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use atomic_matrix::segment::size_class::Larges;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// One heap and what its threads share.
pub(crate) struct World<B: Backend = Loom> {
    pub(crate) heap: Heap<BoxedRegion<B>>,
    start: loom::sync::atomic::AtomicUsize,
}

/// A world in which a participant can be stopped for ever. Only before [`World::run`]: the stop is a
/// thread-local setting, and all threads of a model are one thread of the operating system.
pub(crate) type Mortal = Probe<Loom>;

/// What one thread of a scenario does.
pub(crate) type Part<B = Loom> = Box<dyn FnOnce(&World<B>)>;

/// A part from a closure.
pub(crate) fn part<B: Backend>(f: impl FnOnce(&World<B>) + 'static) -> Part<B> {
    Box::new(f)
}

/// A cache that parks nothing; in a box, since the stacks of loom's threads are small.
pub(crate) fn strict(owner: u16) -> Box<ThreadCache> {
    Box::new(ThreadCache::with_ceiling(owner, 0))
}

impl World {
    /// One free block of `granules`.
    pub(crate) fn new(granules: u32, batches: usize) -> Arc<Self> {
        Self::over(granules, batches)
    }
    /// One free block, and a directory of `entries`.
    pub(crate) fn with_names(granules: u32, entries: usize) -> Arc<Self> {
        Self::with(granules, 0, entries, false)
    }
    /// One free block of so many granules, four of which share a header.
    pub(crate) fn packed(granules: u32) -> Arc<Self> {
        Self::of(granules, 0, 0, false, 4)
    }
    /// The same as `new` with biased parking.
    pub(crate) fn biased(granules: u32, batches: usize) -> Arc<Self> {
        Self::with_bias(granules, batches, true)
    }
    /// With blocks that are large from two granules on.
    pub(crate) fn with_large(granules: u32, batches: usize) -> Arc<Self> {
        let params = Params {
            granule_shift: 6,
            participants: 4,
            batches,
            directory: 0,
            header_words: 1,
            line_words: 1,
            biased: true,
            larges: Larges { from: 2, part: 1 },
        };
        Self::laid_out(granules, params)
    }
}

impl<B: Backend> World<B> {
    /// One free block of `granules`, over any backend.
    pub(crate) fn over(granules: u32, batches: usize) -> Arc<Self> {
        Self::with_bias(granules, batches, false)
    }
    /// The same, with biased parking or without.
    pub(crate) fn with_bias(granules: u32, batches: usize, biased: bool) -> Arc<Self> {
        Self::with(granules, batches, 0, biased)
    }
    fn with(granules: u32, batches: usize, directory: usize, biased: bool) -> Arc<Self> {
        Self::of(granules, batches, directory, biased, 6)
    }
    fn of(granules: u32, batches: usize, directory: usize, biased: bool, granule_shift: u32) -> Arc<Self> {
        let params = Params {
            granule_shift,
            participants: 4,
            batches,
            directory,
            header_words: 1,
            line_words: 1,
            biased,
            larges: Larges::USUAL,
        };
        Self::laid_out(granules, params)
    }
    fn laid_out(granules: u32, params: Params) -> Arc<Self> {
        let heap = Heap::format(BoxedRegion::new(Layout::new(granules, params)));
        Arc::new(Self { heap, start: loom::sync::atomic::AtomicUsize::new(0) })
    }
    /// One free block of `granules`, and in front of it so many as a structure takes, which has payload.
    pub(crate) fn with_payload(granules: u32, structure: impl FnOnce(&Layout) -> u32) -> Arc<Self> {
        Self::with_structure(granules, 0, structure)
    }
    /// The same, and all blocks have payload.
    pub(crate) fn with_payload_everywhere(granules: u32, structure: impl FnOnce(&Layout) -> u32) -> Arc<Self> {
        Self::with_structure(granules, granules, structure)
    }
    fn with_structure(granules: u32, payload: u32, structure: impl FnOnce(&Layout) -> u32) -> Arc<Self> {
        let params = Params {
            granule_shift: 6,
            participants: 4,
            batches: 0,
            directory: 0,
            header_words: 1,
            line_words: 1,
            biased: false,
            larges: Larges::USUAL,
        };
        let taken = structure(&Layout::new(1, params));
        let heap = Heap::format(BoxedRegion::with_payload(Layout::new(granules + taken, params), taken + payload));
        Arc::new(Self { heap, start: loom::sync::atomic::AtomicUsize::new(0) })
    }
    /// Another participant is about to fill every home: what a cache spills becomes unowned.
    pub(crate) fn occupy_homes(&self) {
        const FILLING: u64 = 2 << 32 | 4;
        let layout = self.heap.layout();
        (0..layout.homes()).for_each(|home| self.heap.region().word(layout.home(home)).store(FILLING, &FORMAT));
    }
    /// Allocates and uses the block; that it succeeds is L2.
    pub(crate) fn allocate(&self, cache: &mut ThreadCache, size: u32) -> Live {
        let block = self.heap.allocate(cache, size, 1, Kind::Raw).expect("L2: there is room");
        assert!(block.header.size() >= size, "S2");
        self.heap.region().touch(block.at, block.header.size());
        block
    }
    /// Uses and frees a block.
    pub(crate) fn free(&self, cache: &mut ThreadCache, block: Live) {
        self.heap.region().touch(block.at, block.header.size());
        self.heap.free(cache, block.at, Some(block.header.generation())).expect("S5: it is live");
    }
    /// Frees a block that another thread may free as well.
    pub(crate) fn try_free(&self, cache: &mut ThreadCache, block: Live) -> Result<(), Refusal> {
        self.heap.free(cache, block.at, Some(block.header.generation()))
    }
    /// A structure of that shape, everybody's by now. Participant 1 has made it.
    pub(crate) fn structure(&self, shape: Shape) -> Live {
        let made = Structure::make(&self.heap, &mut strict(1), shape).expect("there is room");
        let header = self.heap.adoption().rename(made.at, made.header, 0).expect("it is ours");
        Live { at: made.at, header }
    }
    /// Others may have their turn here, with weak memory as well, in a thread that only loads.
    pub(crate) fn turn(&self) {
        self.start.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    /// Runs the parts at the same time, to their end.
    pub(crate) fn run<const N: usize>(self: &Arc<Self>, parts: [Part<B>; N]) {
        let threads = parts.map(|part| {
            let world = Arc::clone(self);
            loom::thread::spawn(move || {
                // A thread that begins with a load might otherwise not be interleaved. With this, the order
                // in which the threads are started makes no difference: tried, the executions are the same in
                // number.
                world.start.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                part(&world);
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
    }
    /// S4, L3 and the hints, at rest and without healing.
    pub(crate) fn verify(&self) -> Tally {
        self.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"))
    }
    /// All is one free block again, without healing (L3).
    pub(crate) fn is_whole(&self) {
        let tally = self.verify();
        let granules = self.heap.layout().granules as u64;
        assert_eq!((tally.free.blocks, tally.free.granules), (1, granules), "L3: {tally:?}");
    }
}

/// What a scenario must have met in each of its modes, so that it does not pass without the race that it is about.
#[derive(Clone, Copy)]
pub(crate) enum Met {
    /// A compare-and-swap at the site lost its race. At COMMIT: somebody else finished an operation.
    Lost(&'static Site),
    /// The site was read.
    Read(&'static Site),
    /// The scenario said so itself.
    Mark(&'static str),
    /// The site was passed, and in front of it others had their turn, with weak memory as well.
    Point(&'static Site),
}

impl Met {
    fn count(self) -> u64 {
        match self {
            Self::Lost(site) => Passes::of(site).refusals,
            Self::Read(site) => Passes::of(site).loads,
            Self::Mark(name) => marks(name),
            Self::Point(site) => {
                let Passes { loads, changes, refusals } = Passes::of(site);
                loads + changes + refusals
            }
        }
    }
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(site) => write!(f, "{} lost", site.name),
            Self::Read(site) => write!(f, "{} read", site.name),
            Self::Mark(name) => f.write_str(name),
            Self::Point(site) => write!(f, "{} passed", site.name),
        }
    }
}

/// Notes that an execution came to something, for [`Met::Mark`].
pub(crate) fn mark(name: &'static str) {
    MARKS.with_borrow_mut(|marks| *marks.entry(name).or_default() += 1);
}

/// How many executions of the exploration that ran last said so.
pub(crate) fn marks(name: &str) -> u64 {
    MARKS.with_borrow(|marks| marks.get(name).copied().unwrap_or(0))
}

thread_local! {
    static MARKS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    static EXECUTIONS: Cell<u64> = const { Cell::new(0) };
}

/// A scenario and its bounds.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) body: fn(),
    /// Preemptions explored with weak memory and in all-RMW mode; none is exhaustive.
    pub(crate) bounds: (Option<usize>, Option<usize>),
    /// Executions that each mode must reach.
    pub(crate) minimum: u64,
    /// What each mode must meet.
    pub(crate) meets: &'static [Met],
}

/// Whether the deep bounds were asked for: one more preemption everywhere.
pub(crate) fn deep() -> bool {
    std::env::var_os("MATRIX_LOOM_DEEP").is_some_and(|value| value != "0")
}

/// Whether the short bounds were asked for: what every change runs.
pub(crate) fn short() -> bool {
    std::env::var_os("MATRIX_LOOM_SHORT").is_some_and(|value| value != "0")
}

/// Scenarios with more than 90 000 executions in weak memory, half of all: one preemption less in short.
const LONG: [&str; 5] = [
    "loom_s1_owner_frees_beside_a_thief",
    "loom_s1_owner_pops_beside_a_thief",
    "loom_s1_exact_take_races_freeze",
    "loom_l2_alloc_races_flush",
    "loom_m1_a_reader_comes_while_two_leave",
];

/// Scenarios with half a million executions in weak memory: without it in short.
const LONGEST: [&str; 2] = ["loom_s4_pop_races_resize", "loom_s1_a_large_block_is_taken_beside_a_healer"];

impl Scenario {
    /// The preemptions explored in a mode.
    pub(crate) fn bound(&self, all_rmw: bool) -> Option<usize> {
        let bound = if all_rmw { self.bounds.1 } else { self.bounds.0 };
        bound.map(|k| k + deep() as usize)
    }
    /// As its own test explores it: with the short bounds, if they were asked for.
    pub(crate) fn shortened(&self) -> Self {
        let plain = if short() && LONG.contains(&self.name) { self.bounds.0.map(|k| k - 1) } else { self.bounds.0 };
        Self { bounds: (plain, self.bounds.1), ..*self }
    }
}

/// The bound as it is reported.
pub(crate) fn bound_name(bound: Option<usize>) -> String {
    bound.map_or("exhaustive".into(), |k| format!("bounded({k})"))
}

/// Explores a scenario in one mode: the executions, or the failure's message.
pub(crate) fn explore(scenario: &Scenario, setting: Setting) -> Result<u64, String> {
    for limit in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION", "LOOM_MAX_PREEMPTIONS", "LOOM_CHECKPOINT_FILE"] {
        assert!(std::env::var_os(limit).is_none(), "{limit} would cut the exploration short and let it pass: unset it");
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = scenario.bound(setting.all_rmw);
    builder.max_branches = 20_000;
    builder.max_permutations = None;
    builder.max_duration = None;
    let body = scenario.body;
    EXECUTIONS.set(0);
    MARKS.with_borrow_mut(BTreeMap::clear);
    Passes::reset();
    let points =
        scenario.meets.iter().filter_map(|met| if let Met::Point(site) = met { Some(site.index) } else { None });
    let mut setting = setting;
    setting.points.iter_mut().zip(points).for_each(|(point, site)| *point = Some(site));
    setting.set();
    set_mutant(setting.mutant);
    let result = std::panic::catch_unwind(move || {
        builder.check(move || {
            EXECUTIONS.set(EXECUTIONS.get() + 1);
            body();
        });
    });
    Setting::default().set();
    set_mutant(None);
    result.map(|()| EXECUTIONS.get()).map_err(|payload| said(&*payload).replace('\n', " "))
}

impl Scenario {
    /// Explores every mode; fails at the first failure, or if a mode explored too little.
    pub(crate) fn check(&self) {
        self.shortened().every_mode();
    }
    fn every_mode(&self) {
        for all_rmw in [false, true] {
            if !all_rmw && short() && LONGEST.contains(&self.name) {
                continue;
            }
            let begun = Instant::now();
            let mode = if all_rmw { "all-RMW" } else { "plain" };
            let executions = explore(self, Setting { all_rmw, ..Setting::default() })
                .unwrap_or_else(|e| panic!("{}, {mode}, execution {}: {e}", self.name, EXECUTIONS.get()));
            let lost: Vec<_> =
                TABLE.iter().map(|site| (site.name, Passes::of(site).refusals)).filter(|l| l.1 > 0).collect();
            println!(
                "{} | {mode} | {executions} executions | {} | {:.1} s | races lost: {lost:?}",
                self.name,
                bound_name(self.bound(all_rmw)),
                begun.elapsed().as_secs_f64(),
            );
            for met in self.meets {
                assert!(met.count() > 0, "{}, {mode}: never met: {met}", self.name);
            }
            assert!(executions >= self.minimum, "{}: only {executions} executions", self.name);
        }
    }
}

/// Executions of the exploration that ran last on this thread.
pub(crate) fn executions() -> u64 {
    EXECUTIONS.get()
}

/// A file's scenarios, as tests and as `ALL`: name, bounds (plain, all-RMW), least executions, what must be met, body.
macro_rules! scenarios {
    ($($name:ident $plain:expr, $rmw:expr, $minimum:literal, $meets:expr => $body:block)*) => {
        /// Every scenario of this file.
        pub(crate) const ALL: &[$crate::model::Scenario] = &[$($crate::model::Scenario {
            name: stringify!($name),
            body: || $body,
            bounds: ($plain, $rmw),
            minimum: $minimum,
            meets: &$meets as &[$crate::model::Met],
        }),*];
        $(
            #[test]
            fn $name() {
                ALL.iter().find(|s| s.name == stringify!($name)).unwrap().check();
            }
        )*
    };
}
pub(crate) use scenarios;
