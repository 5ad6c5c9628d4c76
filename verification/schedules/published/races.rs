//! Failures that take two threads.

use crate::audit::{self, Audit};
use crate::published::trace::Trace;
use crate::published::{ALLOCATED, Block, Live, Published, Repair, free, live};
use atomic_matrix::backend::loom::{Loom, Setting};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock};

/// One heap, and who holds what.
pub(crate) struct World {
    pub(crate) heap: Published<Loom>,
    live: Mutex<Vec<Live>>,
    start: loom::sync::atomic::AtomicUsize,
}

impl World {
    fn allocate(&self, thread: u8, asked: u32) -> Option<Live> {
        let live = self.heap.allocate(thread, asked);
        self.live.lock().unwrap().extend(live);
        live
    }
    fn free(&self, thread: u8, at: u32) {
        self.live.lock().unwrap().retain(|live| live.at != at);
        self.heap.free(thread, at);
    }
}

/// A race: what the threads do, and what must not come of it.
pub(crate) struct Race {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) why: &'static str,
    pub(crate) obligation: &'static str,
    pub(crate) blocks: &'static [Block],
    pub(crate) threads: [fn(&World); 2],
    pub(crate) afterwards: fn(&World),
    pub(crate) audit: Audit<Loom>,
    /// Repaired from the start, so that the failure is not another one.
    pub(crate) given: &'static [Repair],
    /// Repaired as well: the failure is gone.
    pub(crate) repaired: &'static [Repair],
}

/// What an exploration came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    pub(crate) executions: u64,
    /// The first failing execution, from 1.
    pub(crate) first: Option<u64>,
    pub(crate) failing: u64,
    /// The shortest failing execution: its length, its table, what is wrong.
    pub(crate) shortest: Option<((usize, usize), String, String)>,
}

/// The preemptions explored, of the published design and of its repair.
pub(crate) const BOUND: usize = 2;
pub(crate) const REPAIRED_BOUND: usize = 3;

/// Explores every execution within the bound, failing ones included.
fn explore(race: &'static Race, repairs: &'static [Repair], audit: Audit<Loom>, all_rmw: bool, bound: usize) -> Found {
    for limit in ["LOOM_MAX_PERMUTATIONS", "LOOM_MAX_DURATION", "LOOM_MAX_PREEMPTIONS", "LOOM_CHECKPOINT_FILE"] {
        assert!(std::env::var_os(limit).is_none(), "{limit} would cut the exploration short and let it pass: unset it");
    }
    thread_local! {
        static FOUND: RefCell<Found> = RefCell::default();
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = 20_000;
    FOUND.take();
    Setting { all_rmw, ..Setting::default() }.set();
    builder.check(move || {
        Trace::reset();
        let heap = Published::new(race.blocks, repairs);
        let live = race.blocks.iter().filter(|block| block.state == ALLOCATED).map(|block| Live {
            at: heap.at(block.name),
            asked: block.size - 48,
            size: block.size,
        });
        let live = Mutex::new(live.collect());
        let world = Arc::new(World { live, heap, start: loom::sync::atomic::AtomicUsize::new(0) });
        let threads = race.threads.map(|part| {
            let world = Arc::clone(&world);
            loom::thread::spawn(move || {
                // A thread that begins with a load might otherwise not be interleaved.
                world.start.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                part(&world);
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        (race.afterwards)(&world);
        let wrong = audit(&world.heap, &world.live.lock().unwrap());
        FOUND.with_borrow_mut(|found| {
            found.executions += 1;
            let Some(wrong) = wrong else { return };
            found.failing += 1;
            found.first.get_or_insert(found.executions);
            let trace = Trace::get();
            let length = trace.length();
            if found.shortest.as_ref().is_none_or(|(shortest, ..)| length < *shortest) {
                found.shortest = Some((length, trace.table(&world.heap), wrong));
            }
        });
    });
    Setting::default().set();
    FOUND.take()
}

/// All about one race: the failure, and that the repair removes it.
pub(crate) struct Finding {
    pub(crate) found: Found,
    pub(crate) repaired: [Found; 2],
}

/// `given` and `more`, as one list that lives as long as the process.
fn both(given: &[Repair], more: &[Repair]) -> &'static [Repair] {
    Vec::leak([given, more].concat())
}

impl Race {
    pub(crate) fn finding(&'static self) -> Finding {
        let repaired = both(self.given, self.repaired);
        Finding {
            found: explore(self, self.given, self.audit, true, BOUND),
            repaired: [true, false].map(|all_rmw| explore(self, repaired, audit::all, all_rmw, REPAIRED_BOUND)),
        }
    }
}

macro_rules! races {
    ($($name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        /// Every race.
        pub(crate) static RACES: &[Race] = &[$(Race { name: stringify!($name), $($field: $value),* }),*];
        /// What was found, by race: explored once, for the race's own test and the report.
        pub(crate) static FINDINGS: [OnceLock<Finding>; RACES.len()] = [const { OnceLock::new() }; RACES.len()];
        $(
            #[test]
            fn $name() {
                prove(stringify!($name));
            }
        )*
    };
}

/// Loom finds the failure; not in the repaired design, in either mode; still in the half repaired one.
fn prove(name: &str) {
    let at = RACES.iter().position(|race| race.name == name).unwrap();
    let finding = FINDINGS[at].get_or_init(|| RACES[at].finding());
    let (_, table, wrong) = finding.found.shortest.as_ref().unwrap_or_else(|| panic!("{name}: no failure was found"));
    println!(
        "{name} | found in execution {} of {}, {} fail | {} violated: {wrong}\n{table}",
        finding.found.first.unwrap(),
        finding.found.executions,
        finding.found.failing,
        RACES[at].obligation,
    );
    for (mode, repaired) in ["all-RMW", "plain"].into_iter().zip(&finding.repaired) {
        println!("{name} | repaired | {mode} | {} executions, {} fail", repaired.executions, repaired.failing);
        assert!(repaired.shortest.is_none(), "{name}: the repair is not enough, {mode}: {:?}", repaired.shortest);
        assert!(repaired.executions >= 20, "{name}: too little was explored");
    }
}

use Repair::*;

races! {
    published_s1_aba_hands_a_live_block_out {
        title: "ABA on an untagged head",
        why: "A pop reads the head and its successor, then swaps the one for the other. If the head was taken \
            and came back in \
              between, the compare succeeds although the successor is somebody's.",
        obligation: "S1",
        blocks: &[free("A", 96), live("x", 96), free("B", 96), live("y", 96)],
        threads: [
            |w| { w.allocate(1, 64); },
            |w| {
                let a = w.allocate(2, 64);
                w.allocate(2, 64);
                if let Some(a) = a { w.free(2, a.at); }
            },
        ],
        afterwards: |w| { w.allocate(0, 64); },
        audit: audit::s1,
        given: &[],
        repaired: &[TagHeads],
    }

    published_l2_cleared_bit_hides_a_block {
        title: "A bit cleared after an insert",
        why: "A pop that empties a list clears the list's bit afterwards, and does not look again.",
        obligation: "L2",
        blocks: &[free("A", 96), live("x", 96), live("B", 96)],
        threads: [|w| { w.allocate(1, 64); }, |w| w.free(2, w.heap.at("B"))],
        afterwards: |w| { w.allocate(0, 64); },
        audit: audit::l2,
        given: &[],
        repaired: &[LookAgain],
    }

    published_s1_store_over_a_merge {
        title: "A plain store of ALLOCATED over a merge",
        why: "A popped block is FREE until its taker has written ALLOCATED. A ripple that comes in between \
            claims it, properly, by \
              compare-and-swap, and the store goes over the claim.",
        obligation: "S1",
        blocks: &[free("L", 96), live("R", 96)],
        threads: [|w| { w.allocate(1, 64); }, |w| w.free(2, w.heap.at("R"))],
        afterwards: |w| { w.allocate(0, 160); },
        audit: audit::s1,
        given: &[],
        repaired: &[ClaimWhole],
    }

    published_s4_claim_by_the_state_alone {
        title: "A claim by compare-and-swap on the state alone",
        why: "Half a repair of the failure before: the state is FREE again when the ripple is through, so the \
            compare succeeds, and \
              the block is live while the ripple's list has it.",
        obligation: "S4",
        blocks: &[free("L", 96), live("R", 96)],
        threads: [|w| { w.allocate(1, 64); }, |w| w.free(2, w.heap.at("R"))],
        afterwards: |_| {},
        audit: audit::s4,
        given: &[ClaimState],
        repaired: &[ClaimWhole],
    }

    published_s4_block_is_listed_twice {
        title: "ACKED is visible before the size is taken",
        why: "A free writes ACKED, which lets anybody merge the block, and only then takes its size. If a \
            neighbour's ripple has \
              merged and listed the block in between, the free takes the merged size and lists the block once more.",
        obligation: "S4",
        blocks: &[live("L", 96), live("R", 96)],
        threads: [|w| w.free(1, w.heap.at("L")), |w| w.free(2, w.heap.at("R"))],
        afterwards: |_| {},
        audit: audit::s4,
        given: &[ListThenFree],
        repaired: &[FreeBySwap],
    }

    published_s4_block_is_free_before_it_is_listed {
        title: "FREE is visible before the block is listed",
        why: "The same at the other end of a free: a neighbour's ripple claims the block when it is FREE, finds \
            it in no list, and \
              lists the merged block; then the block's own freer lists it again.",
        obligation: "S4",
        blocks: &[live("L", 96), live("R", 96)],
        threads: [|w| w.free(1, w.heap.at("L")), |w| w.free(2, w.heap.at("R"))],
        afterwards: |_| {},
        audit: audit::s4,
        given: &[FreeBySwap],
        repaired: &[ListThenFree],
    }

    published_s4_ripple_pops_another_block {
        title: "A ripple pops another block",
        why: "A ripple swallows a block that is not listed yet, and pops the head of its class all the same: an \
            innocent block, which \
              is lost.",
        obligation: "S4",
        blocks: &[live("L", 96), live("R", 96), live("x", 96), free("I", 96)],
        threads: [|w| w.free(1, w.heap.at("L")), |w| w.free(2, w.heap.at("R"))],
        afterwards: |_| {},
        audit: lost,
        given: &[],
        repaired: &[FreeBySwap, ListThenFree],
    }
}

/// S4 in part: the innocent block is free and listed.
fn lost(heap: &Published<Loom>, _: &[Live]) -> Option<String> {
    let innocent = heap.at("I");
    let lost = !heap.view().lists.iter().any(|(_, list, _)| list.contains(&innocent));
    lost.then(|| "I is free and in no list: nobody can ever have it again".into())
}
