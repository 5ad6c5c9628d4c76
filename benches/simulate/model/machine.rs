//! A simulated machine: discrete events, one core after the other, in the order of their clocks.
//!
//! Each core is a coroutine with a clock of its own. The core with the lowest clock runs, and hands over
//! before an access with which it would not be the lowest any more: all accesses happen in the order of time,
//! and a run is the same each time.
//!
//! Each access looks its cache line up in a directory: which cores have it, and whether one has it to write.
//! A core that has the line pays for its own work only; one that has not waits until the line has come. A
//! line serves one transfer after the other, save that several cores may get a line that nobody writes at
//! once. Stores wait in a buffer, in order, behind the core's back; read-modify-writes and fences wait for
//! the buffer. Caches have no end, and there is one distance between any two cores.

use super::costs::Costs;
pub(crate) use super::lines::Made;
use super::lines::{Kinds, Lines};
pub(crate) use super::region::SimulatedRegion;
use atomic_matrix::backend::orderings::{HAZARD_CLEAR, HAZARD_SET, NEWS_COUNT, NEWS_OWN, OWN_LOOK, OWN_STORE};
use atomic_matrix::backend::{Backend, Native, NativeWord, Reach, Site, Word};
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::{Region, WordIndex};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Cores that a machine can have: a line's holders are bits of one word.
pub(crate) const MOST: usize = 128;
/// Words of a line.
pub(super) const LINE: usize = 8;
/// Lines of the workloads' own, behind the heap's.
pub(crate) const EXTRA: usize = 80 * MOST;

/// The site of an access that the workload itself makes.
const WORKLOAD: &str = "workload";
/// The sites of the owner's quick path, and the workload's.
const QUICK: [&str; 7] =
    [OWN_LOOK.name, OWN_STORE.name, HAZARD_SET.name, HAZARD_CLEAR.name, NEWS_OWN.name, NEWS_COUNT.name, WORKLOAD];

/// Picoseconds, so that sums are exact.
fn ps(ns: f64) -> u64 {
    (ns * 1000.0).round() as u64
}

/// What is done to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Load,
    Store,
    Change,
    /// The line may come to be written; nobody waits for it.
    Expect,
}

/// What the workloads touch besides words of the heap.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Payload(Granule),
    Extra(usize),
}

#[derive(Default)]
struct Core {
    now: u64,
    /// When the stores in flight are done, in order.
    stores: VecDeque<u64>,
    /// Interrupts that it has yet to take.
    owed: u64,
}

/// Waits for one kind of line at one site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) transfers: u64,
    /// From asking for the line to its coming, in picoseconds,
    pub(crate) waited: u64,
    /// and the part of it behind other transfers of the same line.
    pub(crate) queued: u64,
}

/// What a machine has seen since the warm-up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// By kind of line and site.
    pub(crate) waits: BTreeMap<(&'static str, &'static str), Waits>,
    /// Lines that no core had.
    pub(crate) fetched: u64,
    /// Calls of the heavy fence.
    pub(crate) barriers: u64,
    pub(crate) accesses: u64,
    /// The lines waited for most, by name, with picoseconds.
    pub(crate) hottest: Vec<(String, u64)>,
}

impl Seen {
    pub(crate) fn transfers(&self) -> u64 {
        self.waits.values().map(|waits| waits.transfers).sum()
    }
    pub(crate) fn waited(&self) -> u64 {
        self.waits.values().map(|waits| waits.waited).sum()
    }
}

struct Machine {
    costs: Costs,
    /// Address of the heap's first word.
    base: usize,
    lines: Lines,
    kinds: Kinds,
    cores: Vec<Core>,
    /// Before this nothing is counted.
    from: u64,
    seen: Seen,
}

/// The core that runs, and until when it is the lowest.
#[derive(Clone, Copy)]
struct Turn {
    core: usize,
    horizon: (u64, usize),
    yielder: *const Yielder<(), ()>,
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

impl Machine {
    fn new(region: &SimulatedRegion, structures: &[Made], costs: Costs, cores: usize, from: u64) -> Self {
        let base = std::ptr::from_ref(region.word(WordIndex(0))).addr();
        let kinds = Kinds::new(region, structures);
        let lines = Lines::new(kinds.extra + EXTRA);
        let cores = (0..cores).map(|_| Core::default()).collect();
        Self { costs, base, lines, kinds, cores, from, seen: Seen::default() }
    }

    /// When the line comes to `core`, which asks for it now.
    fn acquire(&mut self, core: usize, at: usize, write: bool, now: u64, site: &'static str) -> u64 {
        let (costs, own) = (self.costs, 1u128 << core);
        let line = self.lines.at(at);
        let has = line.holders & own != 0;
        let others = (line.holders & !own).count_ones();
        if has && (!write || others == 0) {
            line.written |= write;
            return if line.last as usize == core { now.max(line.comes) } else { now };
        }
        let alone = write || line.written;
        let begin = now.max(line.free_at);
        let cost = match others {
            0 => costs.memory,
            _ if write && !line.written => costs.transfer + costs.sharer * (others - 1) as f64,
            _ => costs.transfer,
        };
        let end = begin + ps(cost);
        if alone {
            line.free_at = end;
        }
        line.holders = if write { own } else { line.holders | own };
        (line.written, line.last, line.comes) = (write, core as u8, end);
        if now >= self.from {
            if others == 0 {
                self.seen.fetched += 1;
            } else {
                line.waited += end - now;
                let kind = self.kinds.kind(at);
                let waits = self.seen.waits.entry((kind, site)).or_default();
                waits.transfers += 1;
                waits.waited += end - now;
                waits.queued += begin - now;
            }
        }
        end
    }

    /// All stores in flight are done.
    fn drain(&mut self, core: usize) {
        let core = &mut self.cores[core];
        core.now = core.now.max(core.stores.back().copied().unwrap_or(0));
        core.stores.clear();
    }

    fn access(&mut self, core: usize, at: usize, access: Access, site: &'static str) {
        let costs = self.costs;
        if access == Access::Change {
            self.drain(core);
        }
        let quick = QUICK.contains(&site);
        let now = match access {
            Access::Expect => self.cores[core].now,
            _ => self.cores[core].now + ps(if quick { costs.work } else { costs.search }),
        };
        self.seen.accesses += (now >= self.from) as u64;
        let comes = self.acquire(core, at, access != Access::Load, now, site);
        let Core { now: clock, stores, .. } = &mut self.cores[core];
        match access {
            Access::Load => *clock = comes,
            Access::Change => *clock = comes + ps(costs.rmw),
            Access::Expect => {}
            Access::Store => {
                *clock = now;
                while stores.front().is_some_and(|&done| done <= *clock) {
                    stores.pop_front();
                }
                if stores.len() >= costs.stores as usize {
                    *clock = stores.pop_front().unwrap_or(now).max(now);
                }
                let before = stores.back().copied().unwrap_or(0);
                stores.push_back(comes.max(before));
            }
        }
    }

    fn hottest(&self) -> Vec<(String, u64)> {
        let lines = self.lines.all().map(|(at, line)| (at, line.waited));
        let mut hot: Vec<_> = lines.filter(|&(_, waited)| waited > 0).collect();
        hot.sort_by_key(|&(at, waited)| (Reverse(waited), at));
        hot.truncate(8);
        hot.into_iter().map(|(at, waited)| (self.kinds.name(at), waited)).collect()
    }
}

/// What `act` makes of the machine and the core that runs, once that is the lowest; none outside a run.
fn in_turn<T>(act: impl FnOnce(&mut Machine, usize) -> T) -> Option<T> {
    let core = TURN.get()?.core;
    loop {
        let now = MACHINE.with_borrow_mut(|machine| {
            let core = &mut machine.as_mut().expect("a machine runs").cores[core];
            core.now += std::mem::take(&mut core.owed);
            core.now
        });
        let turn = TURN.get()?;
        if (now, core) <= turn.horizon {
            break;
        }
        // SAFETY: the yielder lives on the stack of the coroutine that runs, above this frame: `run` names it
        // in TURN while it resumes that coroutine, and no other.
        unsafe { &*turn.yielder }.suspend(());
    }
    MACHINE.with_borrow_mut(|machine| machine.as_mut().map(|machine| act(machine, core)))
}

/// An access of the running core to something of the workload's.
pub(crate) fn touch(place: Place, access: Access) {
    in_turn(|machine, core| {
        let at = match place {
            Place::Payload(g) => machine.kinds.payload_of(g),
            Place::Extra(n) => machine.kinds.extra + n,
        };
        machine.access(core, at, access, WORKLOAD);
    });
}

/// Work of the running core that touches no shared line.
pub(crate) fn spend(ns: f64) {
    if let Some(turn) = TURN.get() {
        MACHINE.with_borrow_mut(|machine| {
            machine.iter_mut().for_each(|machine| machine.cores[turn.core].now += ps(ns));
        });
    }
}

/// The running core's clock, in nanoseconds.
pub(crate) fn now() -> f64 {
    let core = TURN.get().map_or(0, |turn| turn.core);
    MACHINE.with_borrow(|machine| machine.as_ref().map_or(0.0, |machine| machine.cores[core].now as f64 / 1000.0))
}

/// Runs a body on each core to its end. Counts from `from` nanoseconds on.
pub(crate) fn run(
    region: &SimulatedRegion,
    structures: &[Made],
    costs: Costs,
    from: f64,
    bodies: Vec<Box<dyn FnOnce()>>,
) -> Seen {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            TURN.set(None);
            MACHINE.set(None);
        }
    }
    assert!(bodies.len() <= MOST, "at most {MOST} cores");
    MACHINE.set(Some(Machine::new(region, structures, costs, bodies.len(), ps(from))));
    let clear = Clear;
    let yielders: Vec<_> = bodies.iter().map(|_| std::rc::Rc::new(Cell::new(std::ptr::null()))).collect();
    let mut coroutines: Vec<_> = bodies
        .into_iter()
        .zip(&yielders)
        .map(|(body, own)| {
            let own = own.clone();
            let stack = DefaultStack::new(1 << 17).expect("memory for a stack");
            Coroutine::<(), (), ()>::with_stack(stack, move |yielder, ()| {
                own.set(std::ptr::from_ref(yielder));
                // A first turn only tells where the yielder is.
                yielder.suspend(());
                body();
            })
        })
        .collect();
    for coroutine in &mut coroutines {
        let _ = coroutine.resume(());
    }
    let mut waiting: BinaryHeap<_> = (0..coroutines.len()).map(|core| Reverse((0, core))).collect();
    while let Some(Reverse((_, core))) = waiting.pop() {
        let horizon = waiting.peek().map_or((u64::MAX, usize::MAX), |&Reverse(next)| next);
        TURN.set(Some(Turn { core, horizon, yielder: yielders[core].get() }));
        let result = coroutines[core].resume(());
        TURN.set(None);
        if let CoroutineResult::Yield(()) = result {
            let now = MACHINE.with_borrow(|machine| machine.as_ref().map_or(0, |machine| machine.cores[core].now));
            waiting.push(Reverse((now, core)));
        }
    }
    let mut machine = MACHINE.take().expect("it ran");
    drop(clear);
    machine.seen.hottest = machine.hottest();
    machine.seen
}

/// The backend of the simulated machine.
pub(crate) struct Simulated;

/// A word of [`Simulated`]: one of the processor's, so that the layout is the true one.
#[repr(transparent)]
pub(crate) struct SimulatedWord(NativeWord);

const _: () =
    assert!(size_of::<SimulatedWord>() == size_of::<u64>() && align_of::<SimulatedWord>() == align_of::<u64>());

impl SimulatedWord {
    fn access(&self, access: Access, site: &'static str) -> &NativeWord {
        let address = std::ptr::from_ref(self).addr();
        in_turn(|machine, core| machine.access(core, (address - machine.base) / (8 * LINE), access, site));
        &self.0
    }
}

impl Word for SimulatedWord {
    fn load(&self, site: &'static Site) -> u64 {
        self.access(Access::Load, site.name).load(site)
    }
    fn store(&self, value: u64, site: &'static Site) {
        self.access(Access::Store, site.name).store(value, site);
    }
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        self.access(Access::Change, site.name).cas(old, new, site)
    }
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        self.access(Access::Change, site.name).fetch_or(bits, site)
    }
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        self.access(Access::Change, site.name).fetch_and(bits, site)
    }
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        self.access(Access::Change, site.name).fetch_add(n, site)
    }
    fn expect_write(&self) {
        self.access(Access::Expect, "prefetch");
    }
}

impl Backend for Simulated {
    type Word = SimulatedWord;
    type Cell = ();
    fn word(value: u64) -> SimulatedWord {
        SimulatedWord(Native::word(value))
    }
    fn cell() {}
    fn touch((): &()) {}
    fn fence(_: &'static Site) {
        in_turn(|machine, core| {
            machine.drain(core);
            machine.cores[core].now += ps(machine.costs.fence);
        });
    }
    // As on x86, where the costs are measured: neither is an instruction there.
    fn fence_behind_rmw(_: &'static Site) {}
    fn fence_between_loads(_: &'static Site) {}
    fn light_fence(_: &'static Site) {}
    /// The caller waits for every other core's answer, and each of those loses the time of an interrupt.
    fn heavy_fence(_: &'static Site, _: Reach) -> bool {
        in_turn(|machine, core| {
            machine.drain(core);
            let Costs { barrier, interrupt, send, .. } = machine.costs;
            let others = machine.cores.len() - 1;
            let wait = if others > 0 { interrupt + send * others as f64 } else { 0.0 };
            machine.cores[core].now += ps(barrier + wait);
            machine.seen.barriers += (machine.cores[core].now >= machine.from) as u64;
            let all = machine.cores.iter_mut().enumerate();
            all.filter(|&(other, _)| other != core).for_each(|(_, other)| other.owed += ps(interrupt));
        });
        true
    }
    fn pause() {
        in_turn(|machine, core| machine.cores[core].now += ps(machine.costs.wait / 32.0));
    }
}
