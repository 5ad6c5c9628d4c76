//! Topics and boards under the schedule: their calls in any order, each of them stopped before each of its
//! accesses, the recovery killed as well. On the production code, one shared access at a time
//! (`src/check/turns.rs`), so every failure replays from its seed.
//!
//! `MATRIX_TOPIC_SEEDS` sets how many interleavings are tried for each stop (default 30), `MATRIX_TOPIC_RUNS`
//! how many without one.
#![allow(missing_docs)]

#[path = "../acts.rs"]
mod acts;
#[path = "../../support/common.rs"]
mod common;
mod scene;

use acts::{at_every_access, naming, notice_all};
use atomic_matrix::backend::orderings::TOPIC_MUTANTS;
use atomic_matrix::check::turns;
use atomic_matrix::ipc::link::LAPS;
use atomic_matrix::ipc::structure::Sort;
use atomic_matrix::matrix::heap::ThreadCache;
use atomic_matrix::matrix::recovery::Policy as Give;
use common::setting;
use fastrand::Rng;
use scene::{Scene, Subscriber};
use std::cell::Cell;
use std::rc::Rc;
use turns::{Player, Policy, TURNS, play};

/// Who plays what.
const VICTIM: u16 = 1;
const PUBLISHERS: [u16; 2] = [2, 3];
const READERS: [u16; 2] = [4, 5];
const RECOVERERS: [u16; 2] = [6, 7];
const LAST: u16 = 8;

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Publish,
    Read,
    JoinAndRead,
}

const ACTS: [Act; 3] = [Act::Publish, Act::Read, Act::JoinAndRead];

#[derive(Default)]
struct Tally {
    stops: Cell<u64>,
    killed: Cell<u64>,
    most: Cell<u64>,
    reads: Cell<u64>,
    lagged: Cell<u64>,
}

fn act(scene: &Scene, me: u16, act: Act, subscriber: &mut Option<Subscriber>, random: &mut Rng) {
    match act {
        Act::Publish => scene.publish(me, random),
        Act::Read => _ = scene.read(subscriber.as_mut().expect("it has joined"), false),
        Act::JoinAndRead => {
            if let Some(mut new) = scene.join(me, random.u64(0..3)) {
                scene.read(&mut new, false);
                scene.read(&mut new, false);
                *subscriber = Some(new);
            }
        }
    }
}

fn publisher(scene: &Rc<Scene>, me: u16, calls: usize, random: &mut Rng) -> Player {
    let (scene, mut random) = (scene.clone(), random.fork());
    Player::new(move || (0..calls).for_each(|_| scene.publish(me, &mut random)))
}

fn reader(scene: &Rc<Scene>, me: u16, calls: usize, random: &mut Rng) -> Player {
    let (scene, history) = (scene.clone(), random.u64(0..3));
    Player::new(move || {
        let Some(mut subscriber) = scene.join(me, history) else { return };
        for call in 0..calls {
            if call % 2 == 0 && scene.is_lossless() {
                scene.read_ahead(&subscriber);
            }
            scene.read(&mut subscriber, false);
        }
        scene.keep(subscriber);
    })
}

/// Looks at the newest publication only, as a board's readers do.
fn viewer(scene: &Rc<Scene>, looks: usize) -> Player {
    let scene = scene.clone();
    Player::new(move || (0..looks).for_each(|_| scene.look_at_newest()))
}

fn recover(scene: &Scene, me: u16, dead: &[u16]) {
    let cache = &mut ThreadCache::with_ceiling(me, 0);
    dead.iter().for_each(|&dead| _ = scene.heap.recoveries().recover(cache, dead, Give::GiveBack));
}

/// One scenario from its seed. True if the victim came to its end.
fn run(sort: Sort, what: Option<(Act, u64)>, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let scene = Rc::new(Scene::new(sort, random.u32(0..=2), random.bool()));
    let everybody = [VICTIM, PUBLISHERS[0], PUBLISHERS[1], READERS[0], READERS[1], LAST];
    everybody.iter().for_each(|&me| scene.enter(me));
    (0..random.usize(0..5)).for_each(|_| scene.publish(PUBLISHERS[0], random));
    let mut dead = vec![];
    let policy = Policy::draw(random, 60);
    let mut players = vec![];
    let mut finished = true;
    if let Some((what, k)) = what {
        let mut subscriber = if what == Act::Read { scene.join(VICTIM, 1) } else { None };
        if what == Act::Publish {
            scene.allocate(VICTIM);
        }
        let (own, mut random) = (scene.clone(), random.fork());
        let body = move || {
            act(&own, VICTIM, what, &mut subscriber, &mut random);
            subscriber.into_iter().for_each(|subscriber| own.keep(subscriber));
        };
        players.push(Player::stopped_at(body, k));
    }
    players.push(publisher(&scene, PUBLISHERS[0], 3, random));
    players.push(publisher(&scene, PUBLISHERS[1], 3, random));
    players.push(reader(&scene, READERS[0], 5, random));
    players.push(reader(&scene, READERS[1], 3, random));
    if sort == Sort::Board && scene.cells() > 1 {
        players.push(viewer(&scene, 3));
    }
    let ends = play(players, policy, random);
    if what.is_some() && ends[0].stopped {
        finished = false;
        tally.stops.set(tally.stops.get() + 1);
        dead.push(VICTIM);
        scene.bury(VICTIM);
        let (first, second) = (RECOVERERS[0], RECOVERERS[1]);
        let (recoverer, dying) = (scene.clone(), dead.clone());
        let body = move || recover(&recoverer, first, &dying);
        let mut players = match random.bool() {
            true => vec![Player::stopped_at(body, random.u64(0..250))],
            false => vec![Player::new(body)],
        };
        players.push(publisher(&scene, PUBLISHERS[1], 2, random));
        players.push(reader(&scene, READERS[0], 2, random));
        if play(players, policy, random)[0].stopped {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            recover(&scene, second, &dead);
        }
    }
    scene.recovered();
    scene.everybody_reads_on();
    scene.nothing_is_left(LAST, &dead);
    tally.most.set(tally.most.get().max(scene.most.get()));
    tally.reads.set(tally.reads.get() + scene.reads.get());
    tally.lagged.set(tally.lagged.get() + scene.lagged.get());
    finished
}

fn enumerate(sort: Sort, seeds: u64, tally: &Tally) {
    let name = |what, k, seed| format!("{sort:?}, {what:?} stopped at {k}, seed {seed}");
    at_every_access(&ACTS, |what| what as u64, seeds, name, |stop, seed| run(sort, Some(stop), seed, tally));
}

#[test]
fn crash_t1_a_topic_stopped_at_every_access() {
    let tally = Tally::default();
    enumerate(Sort::Topic, setting("MATRIX_TOPIC_SEEDS", 30), &tally);
    let (stops, killed, reads) = (tally.stops.get(), tally.killed.get(), tally.reads.get());
    println!("{stops} stops, {killed} recoveries killed, {reads} reads; accesses of a call: {}", tally.most.get());
    assert!(stops > 300 && killed > 30 && reads > 1000, "{stops} {killed} {reads}");
    assert_eq!(tally.lagged.get(), 0, "T1: a lossless topic loses nothing");
    assert!(tally.most.get() <= 200, "Q4: {}", tally.most.get());
}

#[test]
fn crash_t1_b1_a_board_stopped_at_every_access() {
    let tally = Tally::default();
    enumerate(Sort::Board, setting("MATRIX_TOPIC_SEEDS", 30), &tally);
    let (stops, lagged) = (tally.stops.get(), tally.lagged.get());
    println!("{stops} stops, {lagged} publications overrun; accesses of a call: {}", tally.most.get());
    assert!(stops > 300 && lagged > 100, "{stops} {lagged}");
}

#[test]
fn schedules_t1_calls_in_any_order() {
    let tally = Tally::default();
    for seed in 0..setting("MATRIX_TOPIC_RUNS", 2000) {
        for sort in [Sort::Topic, Sort::Board] {
            naming(|| format!("{sort:?}, seed {seed}"), || run(sort, None, seed, &tally));
        }
    }
    println!("{} reads, {} overrun", tally.reads.get(), tally.lagged.get());
}

/// Who is nobody's reader, and looks again after others have published, is told exactly how many it has missed, however
/// many they are: laps of the log, whose numbers come back, and all between (T1).
fn missed(sort: Sort) {
    for shift in 1..=2 {
        let laps = (3 * LAPS) << shift;
        (0..=laps).for_each(|count| Scene::new(sort, shift, true).misses(VICTIM, count, &mut Rng::with_seed(count)));
    }
}

#[test]
fn t1_what_was_missed_is_counted_however_much_it_is() {
    missed(Sort::Board);
}

/// Who may not write looks for the newest, and is stopped at each of its accesses while others publish laps: what it
/// finds is what it says it is, though the numbers of laps come back (B1).
fn laps_pass() {
    for (k, more) in (0..12).flat_map(|k| (1..=2 * LAPS + 4).map(move |more| (k, more))) {
        let (scene, random) = (Rc::new(Scene::new(Sort::Board, 1, true)), &mut Rng::with_seed(k));
        (0..3).for_each(|_| scene.publish(PUBLISHERS[0], random));
        let found = Rc::new(Cell::new(None));
        let (own, told) = (scene.clone(), found.clone());
        let looker = Player::new(move || told.set(own.newest_unhelped()));
        let players = vec![looker, publisher(&scene, PUBLISHERS[0], more as usize, random)];
        let mut turns = [(0, 0); TURNS];
        turns[..2].copy_from_slice(&[(0, k), (1, u64::MAX)]);
        play(players, Policy::Turns(turns), random);
        let (ticket, what) = found.get().expect("something was published");
        assert!(ticket >= 2, "B1: an older one than was there before");
        assert_eq!(what, scene.published_at(ticket), "B1: ticket {ticket}; stopped at {k} while {more} are published");
    }
}

#[test]
fn b1_the_newest_is_what_it_says_although_laps_pass() {
    laps_pass();
}

/// Which check notices each planted fault. Any that survives fails.
#[test]
fn mutant_topic_table() {
    let in_any_order = |sort| (0..4000).for_each(|seed| _ = run(sort, None, seed, &Tally::default()));
    let checks: [(&str, &dyn Fn()); 7] = [
        ("board: laps pass", &laps_pass),
        ("board: any number is missed", &|| missed(Sort::Board)),
        ("topic: every call stopped at every access", &|| enumerate(Sort::Topic, 8, &Tally::default())),
        ("topic: calls in any order", &|| in_any_order(Sort::Topic)),
        ("board: every call stopped at every access", &|| enumerate(Sort::Board, 8, &Tally::default())),
        ("board: calls in any order", &|| in_any_order(Sort::Board)),
        ("topic: every call stopped at every access, at length", &|| enumerate(Sort::Topic, 60, &Tally::default())),
    ];
    notice_all(TOPIC_MUTANTS, &checks);
}
