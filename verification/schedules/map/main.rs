//! The table under maps in every order of its calls, each of them stopped before each of its accesses, the
//! recovery killed as well. On the production code, one shared access at a time (`src/check/turns.rs`), so
//! every failure replays from its seed.
//!
//! `MATRIX_MAP_SEEDS` sets how many interleavings are tried for each stop (default 12), `MATRIX_MAP_RUNS` how
//! many without one.
#![allow(missing_docs)]

#[path = "../acts.rs"]
mod acts;
#[path = "../../support/common.rs"]
mod common;
#[path = "../../support/linear.rs"]
mod linear;
mod scene;

use acts::{at_every_access, naming, notice_all};
use atomic_matrix::backend::orderings::MAP_MUTANTS;
use atomic_matrix::check::turns;
use atomic_matrix::ipc::table::When;
use atomic_matrix::matrix::heap::ThreadCache;
use atomic_matrix::matrix::recovery::Policy as Give;
use common::setting;
use fastrand::Rng;
use scene::Scene;
use std::cell::Cell;
use std::rc::Rc;
use turns::{Player, Policy, play, play_buffered};

/// Who plays what.
const VICTIM: u16 = 1;
const SURVIVORS: [u16; 3] = [2, 3, 4];
const RECOVERERS: [u16; 2] = [5, 6];
const LAST: u16 = 7;
const ALONE: u16 = 8;

/// Who is about beside the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    /// One to three others, from the beginning to the end.
    Mixed,
    /// Nobody, until the recovery has ended: what the victim has begun nobody else completes.
    Still,
}

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Put,
    PutIfAbsent,
    Take,
    Get,
    Keys,
}

const ACTS: [Act; 5] = [Act::Put, Act::PutIfAbsent, Act::Take, Act::Get, Act::Keys];

#[derive(Default)]
struct Tally {
    stops: Cell<u64>,
    killed: Cell<u64>,
    amid: Cell<u64>,
    alone: Cell<u64>,
    shared: Cell<u64>,
    full: Cell<u64>,
}

fn act(scene: &Scene, cache: &mut ThreadCache, act: Act, which: usize) {
    match act {
        Act::Put => scene.put(cache, which, When::Always),
        Act::PutIfAbsent => scene.put(cache, which, When::Absent),
        Act::Take => scene.take(cache, which),
        Act::Get => scene.get(cache, which),
        Act::Keys => scene.keys(cache),
    }
}

/// A key: mostly the same one.
fn some_key(random: &mut Rng) -> usize {
    [0, 0, 0, 1, 1, 2][random.usize(0..6)]
}

fn survive(scene: &Scene, me: u16, calls: usize, random: &mut Rng) {
    let cache = &mut ThreadCache::with_ceiling(me, 0);
    for _ in 0..calls {
        let which = some_key(random);
        match random.u32(0..12) {
            0..4 => {
                scene.allocate(cache, random);
                let when = [When::Always, When::Always, When::Absent, When::Present][random.usize(0..4)];
                scene.put(cache, which, when);
            }
            4..7 => scene.take(cache, which),
            7..10 => scene.get(cache, which),
            10 => scene.keys(cache),
            _ => scene.free(cache, random),
        }
    }
}

fn recover(scene: &Scene, me: u16, dead: &[u16]) {
    let cache = &mut ThreadCache::with_ceiling(me, 0);
    dead.iter().for_each(|&dead| _ = scene.heap.recoveries().recover(cache, dead, Give::GiveBack));
}

/// One scenario from its seed: a table as others left it, the victim's act, stopped before its `k`-th access,
/// amid survivors, and all that follows. True if the victim came to its end.
fn run(what: Option<(Act, u64)>, crowd: Crowd, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let scene = Rc::new(Scene::new(random.u32(1..=3), random.u16(3..=6), random.bool()));
    let mut users = [&[VICTIM, LAST, ALONE], &SURVIVORS[..]].concat();
    users.iter().for_each(|&me| scene.enter(me));
    for _ in 0..random.usize(0..4) {
        let cache = &mut ThreadCache::with_ceiling(SURVIVORS[0], 0);
        scene.allocate(cache, random);
        scene.put(cache, some_key(random), When::Always);
    }
    let policy = Policy::draw(random, 80);
    let mut players = vec![];
    if let Some((what, k)) = what {
        scene.allocate(&mut ThreadCache::with_ceiling(VICTIM, 0), random);
        let (scene, which) = (scene.clone(), some_key(random));
        players
            .push(Player::stopped_at(move || act(&scene, &mut ThreadCache::with_ceiling(VICTIM, 0), what, which), k));
    }
    let survivors = |count: usize, calls: usize, random: &mut Rng| -> Vec<Player> {
        let one = |&me: &u16| {
            let (scene, mut random) = (scene.clone(), random.fork());
            Player::new(move || survive(&scene, me, calls, &mut random))
        };
        let count = if crowd == Crowd::Still { 0 } else { count };
        SURVIVORS[..count].iter().map(one).collect()
    };
    players.extend(survivors(random.usize(1..=3), if what.is_some() { 3 } else { 5 }, random));
    // Half of the runs with a store buffer for each player, as x86 has.
    let ends = match random.bool() {
        true => play_buffered(players, &[1; 4], policy, random),
        false => play(players, policy, random),
    };
    let finished = what.is_none() || !ends[0].stopped;
    tally.amid.set(tally.amid.get().max(scene.most.replace(0)));
    // Q4: what one needs alone, with the others stopped wherever they are.
    let (alone, calls) = (scene.clone(), if crowd == Crowd::Still { 0 } else { 3 });
    turns::alone(move || survive(&alone, ALONE, calls, &mut Rng::with_seed(seed)), None);
    tally.alone.set(tally.alone.get().max(scene.most.replace(0)));
    let mut dead = vec![];
    if !finished {
        dead.push(VICTIM);
        tally.stops.set(tally.stops.get() + 1);
        scene.bury(VICTIM);
        let (first, second) = (RECOVERERS[0], RECOVERERS[1]);
        let recoverer = scene.clone();
        let body = move || recover(&recoverer, first, &[VICTIM]);
        let mut players = match random.bool() {
            true => vec![Player::stopped_at(body, random.u64(0..300))],
            false => vec![Player::new(body)],
        };
        let helper = scene.clone();
        let helps = crowd == Crowd::Mixed;
        players.push(Player::new(move || {
            let cache = &mut ThreadCache::with_ceiling(second, 0);
            let _ = helps.then(|| helper.heap.settle_links(cache, VICTIM));
        }));
        players.extend(survivors(2, 2, random));
        if play(players, policy, random)[0].stopped {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            recover(&scene, second, &dead);
        }
    }
    scene.recovered();
    (0..3).for_each(|which| scene.get(&mut ThreadCache::with_ceiling(LAST, 0), which));
    scene.is_a_map();
    users.retain(|user| !dead.contains(user));
    scene.nothing_is_left(LAST, &users);
    tally.shared.set(tally.shared.get() + scene.shared.get());
    tally.full.set(tally.full.get() + scene.full.get());
    finished
}

/// Every act stopped before every access.
fn enumerate(seeds: u64, crowd: Crowd, tally: &Tally) {
    let name = |what, k, seed| format!("{what:?} stopped at {k}, {crowd:?}, seed {seed}");
    at_every_access(&ACTS, |what| what as u64, seeds, name, |stop, seed| run(Some(stop), crowd, seed, tally));
}

#[test]
fn crash_m1_q3_every_call_stopped_at_every_access() {
    let tally = Tally::default();
    let seeds = setting("MATRIX_MAP_SEEDS", 12);
    enumerate(seeds, Crowd::Mixed, &tally);
    enumerate(seeds, Crowd::Still, &tally);
    let (stops, killed, amid, alone) = (tally.stops.get(), tally.killed.get(), tally.amid.get(), tally.alone.get());
    println!("{stops} stops, {killed} recoveries killed; accesses of a call: alone {alone}, amid others {amid}");
    assert!(stops > 1000 && killed > 100, "{stops} {killed}");
    assert!(alone <= 120 && amid <= 500, "Q4: alone {alone}, amid others {amid}");
}

#[test]
fn schedules_m1_m2_calls_in_any_order() {
    let tally = Tally::default();
    for seed in 0..setting("MATRIX_MAP_RUNS", 4000) {
        naming(|| format!("seed {seed}"), || run(None, Crowd::Mixed, seed, &tally));
    }
    let (shared, full) = (tally.shared.get(), tally.full.get());
    println!("{shared} displaced while they were read, {full} refused for want of a place");
    assert!(shared > 50 && full > 100, "{shared} {full}");
}

/// Which check notices each planted fault, and where first. Any that survives fails.
#[test]
fn mutant_map_table() {
    let checks: [(&str, &dyn Fn()); 4] = [
        ("calls in any order", &|| (0..4000).for_each(|seed| _ = run(None, Crowd::Mixed, seed, &Tally::default()))),
        ("every call stopped at every access", &|| enumerate(12, Crowd::Mixed, &Tally::default())),
        ("nobody about until the recovery", &|| enumerate(12, Crowd::Still, &Tally::default())),
        ("calls in any order, at length", &|| {
            (4000..40_000).for_each(|seed| _ = run(None, Crowd::Mixed, seed, &Tally::default()));
        }),
    ];
    notice_all(MAP_MUTANTS, &checks);
}
