//! Random schedules of real threads, one shared access at a time, replayable by seed.
//!
//! Each access of the heap passes a gate, behind which one thread runs at a time; who goes on, and for how many accesses, is
//! drawn from the seed. Sequentially consistent: no evidence for an ordering. Thousands of tiny scenarios a second, participants
//! stopped for ever among them, with marks for S1, a bound for L2, and the hints and merges verified at the end *without
//! healing* (L2, L3), after a recovery where somebody was stopped.
//!
//! `MATRIX_SCHEDULES` sets how many of each kind are run, `MATRIX_SEED` the first seed.
#![allow(clippy::disallowed_types, reason = "the harness's own counters")]
#![allow(missing_docs)]

use atomic_matrix::backend::{Backend, Native, NativeWord, Site, Word};
use atomic_matrix::matrix::heap::{Heap, Kind, Lane, Live};
use atomic_matrix::matrix::recovery::Policy;
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::BoxedRegion;
use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};

/// Who runs, and who may.
struct Turns {
    current: usize,
    ended: Vec<bool>,
    random: fastrand::Rng,
    switches: u64,
}

struct Schedule {
    turns: Mutex<Turns>,
    wake: Condvar,
}

/// A thread under the schedule.
struct Player {
    schedule: Arc<Schedule>,
    number: usize,
    /// Accesses before the next switch.
    quota: u64,
    /// Accesses until it stops for ever.
    stop_in: Option<u64>,
}

/// The payload of the unwinding with which a thread stops for ever.
struct Stopped;

thread_local! {
    static PLAYER: RefCell<Option<Player>> = const { RefCell::new(None) };
}

/// More switches than any scenario needs: beyond lies a livelock.
const LIVELOCK: u64 = 300_000;

impl Schedule {
    fn pass_on(&self, turns: &mut Turns) {
        let left: Vec<usize> = (0..turns.ended.len()).filter(|&i| !turns.ended[i]).collect();
        if !left.is_empty() {
            turns.current = left[turns.random.usize(0..left.len())];
        }
        turns.switches += 1;
        self.wake.notify_all();
    }
    /// Waits for the turn; returns how many accesses it has.
    fn wait(&self, number: usize) -> u64 {
        let mut turns = self.turns.lock().unwrap();
        while turns.current != number {
            turns = self.wake.wait(turns).unwrap();
        }
        let most = [1, 4, 16, 60][turns.random.usize(0..4)];
        turns.random.u64(0..most)
    }
    fn end(&self, number: usize) {
        let mut turns = self.turns.lock().unwrap();
        turns.ended[number] = true;
        self.pass_on(&mut turns);
    }
}

fn gate() {
    let stops = PLAYER.with_borrow_mut(|player| {
        let Some(player) = player else { return false };
        if let Some(left) = &mut player.stop_in {
            if *left == 0 {
                return true;
            }
            *left -= 1;
        }
        if player.quota > 0 {
            player.quota -= 1;
            return false;
        }
        let mut turns = player.schedule.turns.lock().unwrap();
        assert!(turns.switches < LIVELOCK, "a livelock: {LIVELOCK} switches");
        player.schedule.pass_on(&mut turns);
        drop(turns);
        player.quota = player.schedule.wait(player.number);
        false
    });
    if stops {
        PLAYER.take();
        std::panic::resume_unwind(Box::new(Stopped));
    }
}

struct Scheduled;
struct ScheduledWord(NativeWord);

impl Word for ScheduledWord {
    fn load(&self, site: &'static Site) -> u64 {
        gate();
        self.0.load(site)
    }
    fn store(&self, value: u64, site: &'static Site) {
        gate();
        self.0.store(value, site);
    }
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        gate();
        self.0.cas(old, new, site)
    }
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        gate();
        self.0.fetch_or(bits, site)
    }
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        gate();
        self.0.fetch_and(bits, site)
    }
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        gate();
        self.0.fetch_add(n, site)
    }
}

impl Backend for Scheduled {
    type Word = ScheduledWord;
    type Cell = ();
    fn word(value: u64) -> ScheduledWord {
        ScheduledWord(Native::word(value))
    }
    fn cell() {}
    fn touch((): &()) {}
    fn fence(site: &'static Site) {
        Native::fence(site);
    }
    fn pause() {
        gate();
    }
}

/// What kind of scenario.
#[derive(Clone, Copy, PartialEq)]
enum Sort {
    /// A few operations each, of any size, strict or parking.
    Any,
    /// The whole sector is freed by one while the others want single granules.
    Hot,
    /// As `Any`, and one participant stops for ever.
    Stop,
}

/// Marks of ownership, one for each granule (S1), and the granules that are live or not wholly freed yet (L2).
struct Marks(Vec<AtomicI64>, AtomicI64);

impl Marks {
    fn claim(&self, block: Live, owner: i64) {
        for mark in &self.0[block.at.index()..][..block.token.size() as usize] {
            assert_eq!(mark.swap(owner, Relaxed), 0, "S1");
        }
        self.1.fetch_add(block.token.size() as i64, Relaxed);
    }
    fn clear(&self, block: Live) {
        self.0[block.at.index()..][..block.token.size() as usize].iter().for_each(|mark| mark.store(0, Relaxed));
    }
    /// The block's free has returned.
    fn freed(&self, block: Live) {
        self.1.fetch_sub(block.token.size() as i64, Relaxed);
    }
    fn live(&self) -> usize {
        self.1.load(Relaxed) as usize
    }
}

/// One scenario; panics with what is wrong.
fn play(sort: Sort, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let hot = sort == Sort::Hot;
    let granules = if hot { [34, 40, 66][random.usize(0..3)] } else { [9, 20, 40, 70, 150][random.usize(0..5)] };
    let players = if hot { 3 } else { random.usize(2..=3) };
    let ceiling = if hot || random.bool() { 0 } else { random.usize(1..=3) };
    let largest = if hot { 1 } else { [1, 4, granules / 3][random.usize(0..3)] };
    let params = Params {
        granule_shift: 6,
        participants: 8,
        batches: 1,
        directory: 0,
        header_words: 2,
        line_words: 1,
        biased: false,
    };
    let heap = &Heap::format(BoxedRegion::<Scheduled>::new(Layout::new(granules, params)));
    let marks = &Marks((0..granules).map(|_| AtomicI64::new(0)).collect(), AtomicI64::new(0));
    let mut lanes: Vec<Lane> = (1..=players as u16).map(|owner| Lane::with_ceiling(owner, ceiling)).collect();
    let mut live: Vec<Vec<Live>> = vec![vec![]; players];
    for _ in 0..if hot { 1 } else { random.usize(0..12) } {
        let (player, size) = if hot { (0, granules) } else { (random.usize(0..players), random.u32(1..=largest)) };
        if let Ok(block) = heap.allocate(&mut lanes[player], size, 1, Kind::Raw) {
            marks.claim(block, player as i64 + 1);
            live[player].push(block);
        }
    }
    let stop_in = (sort == Sort::Stop).then(|| random.u64(1..150));
    let turns = Turns { current: usize::MAX, ended: vec![false; players], random: random.fork(), switches: 0 };
    let schedule = Arc::new(Schedule { turns: Mutex::new(turns), wake: Condvar::new() });
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter_mut()
            .zip(&mut live)
            .enumerate()
            .map(|(number, (lane, live))| {
                let (schedule, mut random) = (schedule.clone(), random.fork());
                scope.spawn(move || {
                    let quota = schedule.wait(number);
                    let stop_in = if number == 0 { stop_in } else { None };
                    PLAYER.set(Some(Player { schedule: schedule.clone(), number, quota, stop_in }));
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        for _ in 0..if hot { 1 } else { random.usize(2..8) } {
                            let allocates = if hot { number > 0 } else { random.bool() };
                            step(heap, lane, live, marks, number, allocates, largest, ceiling, &mut random);
                        }
                    }));
                    PLAYER.take();
                    schedule.end(number);
                    outcome
                })
            })
            .collect();
        schedule.pass_on(&mut schedule.turns.lock().unwrap());
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut stopped = false;
    for outcome in outcomes {
        match outcome {
            Err(payload) if payload.is::<Stopped>() => stopped = true,
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(()) => {}
        }
    }
    assert_eq!(heap.tally().expect("S4").granules, granules as u64, "S4");
    if stopped {
        heap.recover(&mut Lane::with_ceiling(7, 0), 1, Policy::GiveBack);
    }
    for lane in &mut lanes[stopped as usize..] {
        heap.flush(lane);
    }
    // Every free block is hinted and no merge was missed, though nobody has healed.
    heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
}

#[expect(clippy::too_many_arguments, reason = "one player's hand")]
fn step(
    heap: &Heap<BoxedRegion<Scheduled>>,
    lane: &mut Lane,
    live: &mut Vec<Live>,
    marks: &Marks,
    number: usize,
    allocates: bool,
    largest: u32,
    ceiling: usize,
    random: &mut fastrand::Rng,
) {
    if allocates {
        let roomy = || largest == 1 && ceiling == 0 && marks.live() + 9 <= marks.0.len();
        let before = roomy();
        let align = if random.u32(0..6) == 0 { 2 } else { 1 };
        match heap.allocate(lane, random.u32(1..=largest), align, Kind::Raw) {
            Ok(block) => {
                marks.claim(block, number as i64 + 1);
                live.push(block);
            }
            Err(_) => assert!(!(before && roomy()), "L2: {} of {} granules are live", marks.live(), marks.0.len()),
        }
    } else if !live.is_empty() {
        let block = live.swap_remove(random.usize(0..live.len()));
        marks.clear(block);
        heap.free(lane, block.at, Some(block.token.generation())).expect("S5: it is live and ours");
        marks.freed(block);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn play_many(sort: Sort) {
    let (first, count) = (number("MATRIX_SEED", 0), number("MATRIX_SCHEDULES", 1500));
    for seed in first..first + count {
        if let Err(payload) = std::panic::catch_unwind(|| play(sort, seed)) {
            eprintln!("replay: MATRIX_SEED={seed} MATRIX_SCHEDULES=1 cargo test --test schedules");
            std::panic::resume_unwind(payload);
        }
    }
    println!("{count} schedules from seed {first}");
}

#[test]
fn schedules_s1_s4_l3_any_operations() {
    play_many(Sort::Any);
}

#[test]
fn schedules_l2_l3_one_frees_all_while_others_want_little() {
    play_many(Sort::Hot);
}

#[test]
fn schedules_c1_one_stops_for_ever() {
    play_many(Sort::Stop);
}
