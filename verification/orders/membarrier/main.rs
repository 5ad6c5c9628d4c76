//! The kernel's side of biased parking: does membarrier(2) reach a processor that is running an owner?
//!
//! An owner stores a name and looks for a mark, without a fence; a thief stores the mark, calls
//! membarrier(2), and looks for the name. If both miss the other's store, the barrier did not reach the
//! owner. Ahead of the name the owner stores to lines that are in no cache, so that its name waits in the
//! store buffer for longer than a system call takes. Both are pinned, each to a processor.
//!
//! The third command is here because it does *not* hold: on Linux 6.18, where a thread has ended on a
//! processor and another of the same process goes on there, `GLOBAL_EXPEDITED` leaves that processor out
//! until a thread of some other process has run on it. (It seems that `exit_mm` clears the run queue's
//! `membarrier_state`, and the switch to a thread with the same address space takes it for set.) The heap
//! uses the other two ([`atomic_matrix::backend::Reach`]).
//!
//! `MATRIX_LITMUS_SECONDS` sets how long each is tried.
#![allow(missing_docs)]
#![allow(clippy::disallowed_types, reason = "a litmus test has words and orderings of its own")]

use rustix::thread::{CpuSet, MembarrierCommand, membarrier, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// A word in a line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// Lines that the owner stores to ahead of its name: more than caches hold.
const LINES: usize = 1 << 18;
/// Of them, each time.
const AHEAD: usize = 24;
/// Rounds whose outcome the owner notes.
const NOTED: usize = 1024;

#[derive(Default)]
struct Litmus {
    /// The last round whose mark stands.
    mark: Line,
    /// The round that the owner has named.
    name: Line,
    /// Rounds of which the owner has missed the mark.
    missed: Vec<AtomicU64>,
    ahead: Vec<Line>,
    over: AtomicBool,
}

impl Litmus {
    /// The owner: names the coming round, looks for its mark.
    fn owner(&self) {
        let mut random = fastrand::Rng::with_seed(1);
        while !self.over.load(Ordering::Relaxed) {
            let round = self.mark.0.load(Ordering::Acquire) + 1;
            for _ in 0..AHEAD {
                self.ahead[random.usize(..LINES)].0.store(round, Ordering::Relaxed);
            }
            self.name.0.store(round, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            if self.mark.0.load(Ordering::Relaxed) < round {
                self.missed[round as usize % NOTED].store(round, Ordering::Relaxed);
            }
        }
    }

    /// The thief: how often both missed the other's store, of so many rounds.
    fn thief(&self, command: MembarrierCommand, time: Duration) -> (u64, u64) {
        let (mut both, mut round) = (0, 0);
        let end = Instant::now() + time;
        while Instant::now() < end {
            round += 1;
            // Somewhere in the owner's round.
            for _ in 0..round % 61 {
                std::hint::spin_loop();
            }
            self.mark.0.store(round, Ordering::SeqCst);
            membarrier(command).expect("registered");
            if self.name.0.load(Ordering::Acquire) < round {
                let until = Instant::now() + Duration::from_micros(20);
                while Instant::now() < until {}
                both += u64::from(self.missed[round as usize % NOTED].load(Ordering::Acquire) == round);
            }
        }
        self.over.store(true, Ordering::Relaxed);
        (both, round)
    }
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).expect("one of ours");
}

/// How often both missed the other's store, of how many rounds; with or without threads that end where the owner runs.
fn run(command: MembarrierCommand, [owner, thief]: [usize; 2], ended: bool) -> (u64, u64) {
    let time = Duration::from_millis(
        std::env::var("MATRIX_LITMUS_SECONDS").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1000,
    )
    .max(Duration::from_millis(700));
    let litmus = Litmus {
        missed: (0..NOTED).map(|_| AtomicU64::new(0)).collect(),
        ahead: (0..LINES).map(|_| Line::default()).collect(),
        ..Litmus::default()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(owner);
            litmus.owner();
        });
        std::thread::sleep(Duration::from_millis(10));
        if ended {
            // Again and again: other processes' threads undo it.
            scope.spawn(|| {
                while !litmus.over.load(Ordering::Relaxed) {
                    std::thread::spawn(move || pin(owner)).join().expect("it does nothing");
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let thief = scope.spawn(|| {
            pin(thief);
            litmus.thief(command, time)
        });
        thief.join().expect("no failure")
    })
}

#[test]
fn s1_the_barriers_that_the_heap_uses_reach_an_owner() {
    let allowed = sched_getaffinity(None).expect("known");
    let mut processors = (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor));
    let (Some(owner), Some(thief)) = (processors.next(), processors.next()) else {
        return println!("skipped: needs two processors");
    };
    let places = [owner, thief];
    use MembarrierCommand::{
        Global, GlobalExpedited, PrivateExpedited, RegisterGlobalExpedited, RegisterPrivateExpedited,
    };
    if membarrier(RegisterPrivateExpedited).is_err() || membarrier(RegisterGlobalExpedited).is_err() {
        return println!("skipped: the system refuses membarrier(2)");
    }
    for (command, ended) in
        [(PrivateExpedited, true), (Global, true), (GlobalExpedited, false), (GlobalExpedited, true)]
    {
        let (both, rounds) = run(command, places, ended);
        let thread = if ended { "threads end there" } else { "no thread ends" };
        println!("{command:?}, {thread}: both missed the other's store in {both} of {rounds} rounds");
        assert!(both == 0 || command == GlobalExpedited, "S1: {command:?} did not reach the owner");
    }
}
