//! How a scenario is set up and explored.

use atomic_matrix::backend::loom::{Loom, Setting};
use atomic_matrix::matrix::heap::{Heap, Kind, Lane, Live, Refusal};
use atomic_matrix::matrix::stats::Tally;
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::cell::Cell;
use std::sync::{Arc, Once};
use std::time::Instant;

/// One heap and what its threads share.
pub(crate) struct World {
    pub(crate) heap: Heap<BoxedRegion<Loom>>,
    start: loom::sync::atomic::AtomicUsize,
}

/// What one thread of a scenario does.
pub(crate) type Part = Box<dyn FnOnce(&World)>;

/// A part from a closure.
pub(crate) fn part(f: impl FnOnce(&World) + 'static) -> Part {
    Box::new(f)
}

/// A lane that parks nothing.
pub(crate) fn strict(owner: u16) -> Lane {
    Lane::with_ceiling(owner, 0)
}

impl World {
    /// One free block of `granules`.
    pub(crate) fn new(granules: u32, batches: usize) -> Arc<Self> {
        let params =
            Params { granule_shift: 6, participants: 3, batches, directory: 0, header_words: 1, line_words: 1 };
        let heap = Heap::format(BoxedRegion::new(Layout::new(granules, params)));
        Arc::new(Self { heap, start: loom::sync::atomic::AtomicUsize::new(0) })
    }
    /// Allocates and uses the block; that it succeeds is L2.
    pub(crate) fn allocate(&self, lane: &mut Lane, size: u32) -> Live {
        let block = self.heap.allocate(lane, size, 1, Kind::Raw).expect("L2: there is room");
        assert!(block.token.size() >= size, "S2");
        self.heap.region().touch(block.at, block.token.size());
        block
    }
    /// Uses and frees a block.
    pub(crate) fn free(&self, lane: &mut Lane, block: Live) {
        self.heap.region().touch(block.at, block.token.size());
        self.heap.free(lane, block.at, Some(block.token.generation())).expect("S5: it is live");
    }
    /// Frees a block that another thread may free as well.
    pub(crate) fn try_free(&self, lane: &mut Lane, block: Live) -> Result<(), Refusal> {
        self.heap.free(lane, block.at, Some(block.token.generation()))
    }
    /// Runs the parts at the same time, to their end.
    pub(crate) fn run<const N: usize>(self: &Arc<Self>, parts: [Part; N]) {
        let threads = parts.map(|part| {
            let world = Arc::clone(self);
            loom::thread::spawn(move || {
                // A thread that begins with a load might otherwise not be interleaved. With this, the order in which the
                // threads are started makes no difference: tried, the executions are the same in number.
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

thread_local! {
    static EXECUTIONS: Cell<u64> = const { Cell::new(0) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
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
}

/// Explores a scenario in one mode: the executions, or the failure's message.
pub(crate) fn explore(scenario: &Scenario, setting: Setting) -> Result<u64, String> {
    for limit in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION", "LOOM_MAX_PREEMPTIONS", "LOOM_CHECKPOINT_FILE"] {
        assert!(std::env::var_os(limit).is_none(), "{limit} would cut the exploration short and let it pass: unset it");
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = if setting.all_rmw { scenario.bounds.1 } else { scenario.bounds.0 };
    builder.max_branches = 20_000;
    let body = scenario.body;
    EXECUTIONS.set(0);
    setting.set();
    let result = std::panic::catch_unwind(move || {
        builder.check(move || {
            EXECUTIONS.set(EXECUTIONS.get() + 1);
            body();
        });
    });
    Setting::default().set();
    result.map(|()| EXECUTIONS.get()).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("?").replace('\n', " ")
    })
}

/// Keeps quiet about panics of this thread while `f` runs: they are expected.
pub(crate) fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                hook(info);
            }
        }));
    });
    QUIET.set(true);
    let result = f();
    QUIET.set(false);
    result
}

impl Scenario {
    /// Explores every mode; fails at the first failure, or if a mode explored too little.
    pub(crate) fn check(&self) {
        for all_rmw in [false, true] {
            let begun = Instant::now();
            let mode = if all_rmw { "all-RMW" } else { "plain" };
            let executions = explore(self, Setting { all_rmw, ..Setting::default() })
                .unwrap_or_else(|e| panic!("{}, {mode}, execution {}: {e}", self.name, EXECUTIONS.get()));
            let bound = if all_rmw { self.bounds.1 } else { self.bounds.0 };
            println!(
                "{} | {mode} | {executions} executions | {} | {:.1} s",
                self.name,
                bound.map_or("exhaustive".into(), |k| format!("bounded({k})")),
                begun.elapsed().as_secs_f64(),
            );
            assert!(executions >= self.minimum, "{}: only {executions} executions", self.name);
        }
    }
}

/// Executions of the exploration that ran last on this thread.
pub(crate) fn executions() -> u64 {
    EXECUTIONS.get()
}
