//! Calls in every order, each party stopped before each of its accesses, the recovery killed as well.
//! On the production code, one shared access at a time (`src/check/turns.rs`), so every failure replays from its seed.
//!
//! `MATRIX_CALL_SEEDS` sets how many interleavings are tried for each stop (default 12), `MATRIX_CALL_RUNS`
//! how many without one.
#![allow(missing_docs)]

#[path = "../acts.rs"]
mod acts;
#[path = "../../support/common.rs"]
mod common;
mod scene;

use acts::{at_every_access, naming, notice_all};
use atomic_matrix::backend::orderings::CALL_MUTANTS;
use atomic_matrix::check::turns;
use atomic_matrix::matrix::heap::ThreadCache;
use atomic_matrix::matrix::recovery::Policy as Give;
use common::setting;
use fastrand::Rng;
use scene::Scene;
use std::cell::Cell;
use std::rc::Rc;
use turns::{Player, Policy, play};

/// Who plays what.
const VICTIM: u16 = 1;
const CLIENTS: [u16; 2] = [2, 3];
const SERVERS: [u16; 2] = [4, 5];
const RECOVERERS: [u16; 2] = [6, 7];
const LAST: u16 = 8;

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    MakeAndAsk,
    AskAndLook,
    Leave,
    Serve,
    Drop,
}

const ACTS: [Act; 5] = [Act::MakeAndAsk, Act::AskAndLook, Act::Leave, Act::Serve, Act::Drop];

#[derive(Default)]
struct Tally {
    stops: Cell<u64>,
    killed: Cell<u64>,
    most: Cell<u64>,
    told: Cell<u64>,
    late: Cell<u64>,
}

fn act(scene: &Scene, act: Act) {
    match act {
        Act::MakeAndAsk => {
            scene.make_ring(VICTIM);
            scene.ask(VICTIM);
        }
        Act::AskAndLook => {
            scene.ask(VICTIM);
            (0..3).for_each(|_| _ = scene.look(VICTIM));
        }
        Act::Leave => {
            scene.ask(VICTIM);
            scene.leave(VICTIM);
        }
        Act::Serve => _ = scene.serve(VICTIM, true),
        Act::Drop => _ = scene.serve(VICTIM, false),
    }
}

fn client(scene: &Rc<Scene>, me: u16, calls: usize, random: &mut Rng) -> Player {
    let (scene, mut random) = (scene.clone(), random.fork());
    Player::new(move || {
        for _ in 0..calls {
            scene.ask(me);
            // Gives up, sometimes.
            let patience = random.usize(0..12);
            (0..patience).any(|_| scene.look(me));
        }
    })
}

fn server(scene: &Rc<Scene>, me: u16, calls: usize, random: &mut Rng) -> Player {
    let (scene, mut random) = (scene.clone(), random.fork());
    Player::new(move || (0..calls).for_each(|_| _ = scene.serve(me, random.u32(0..6) > 0)))
}

fn recover(scene: &Scene, me: u16, dead: &[u16]) {
    let cache = &mut ThreadCache::with_ceiling(me, 0);
    dead.iter().for_each(|&dead| _ = scene.heap.recoveries().recover(cache, dead, Give::GiveBack));
}

/// One scenario from its seed. True if the victim came to its end.
fn run(what: Option<(Act, u64)>, still: bool, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let scene = Rc::new(Scene::new(random.u32(0..=2), random.bool()));
    let mut users = [&[VICTIM, LAST], &CLIENTS[..], &SERVERS].concat();
    users.iter().for_each(|&me| scene.enter(me));
    CLIENTS.iter().for_each(|&me| scene.make_ring(me));
    scene.ask(CLIENTS[0]);
    let policy = Policy::draw(random, 80);
    let mut players = vec![];
    if let Some((what, k)) = what {
        if matches!(what, Act::AskAndLook | Act::Leave) {
            scene.make_ring(VICTIM);
        }
        let scene = scene.clone();
        players.push(Player::stopped_at(move || act(&scene, what), k));
    }
    let others = |calls: usize, random: &mut Rng| -> Vec<Player> {
        let mut players = vec![client(&scene, CLIENTS[0], calls, random), client(&scene, CLIENTS[1], calls, random)];
        players.extend(SERVERS.iter().map(|&me| server(&scene, me, calls + 1, random)));
        if still { vec![] } else { players }
    };
    players.extend(others(2, random));
    let ends = play(players, policy, random);
    let finished = what.is_none() || !ends[0].stopped;
    if !finished {
        tally.stops.set(tally.stops.get() + 1);
        let (mut dead, first, second) = (vec![VICTIM], RECOVERERS[0], RECOVERERS[1]);
        scene.forget_answers_of(VICTIM);
        scene.bury(VICTIM);
        let recoverer = scene.clone();
        let body = move || recover(&recoverer, first, &[VICTIM]);
        let mut players = match random.bool() {
            true => vec![Player::stopped_at(body, random.u64(0..300))],
            false => vec![Player::new(body)],
        };
        players.extend(others(1, random));
        if play(players, policy, random)[0].stopped {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            recover(&scene, second, &dead);
        }
        users.retain(|user| !dead.contains(user));
    }
    scene.calls_have_ended();
    scene.nothing_is_left(LAST, &users);
    tally.most.set(tally.most.get().max(scene.most.get()));
    tally.told.set(tally.told.get() + scene.told.get());
    tally.late.set(tally.late.get() + scene.late.get());
    finished
}

/// Every act stopped before every access.
fn enumerate(seeds: u64, still: bool, tally: &Tally) {
    let name = |what, k, seed| format!("{what:?} stopped at {k}, still: {still}, seed {seed}");
    at_every_access(&ACTS, |what| what as u64, seeds, name, |stop, seed| run(Some(stop), still, seed, tally));
}

#[test]
fn crash_q3_q6_every_party_of_a_call_stopped_at_every_access() {
    let (tally, seeds) = (Tally::default(), setting("MATRIX_CALL_SEEDS", 12));
    enumerate(seeds, false, &tally);
    enumerate(seeds, true, &tally);
    let (stops, killed, told) = (tally.stops.get(), tally.killed.get(), tally.told.get());
    println!(
        "{stops} stops, {killed} recoveries killed, {told} told that nobody answers; accesses: {}",
        tally.most.get()
    );
    assert!(stops > 1000 && killed > 100 && told > 100, "{stops} {killed} {told}");
    assert!(tally.most.get() <= 300, "Q4: {}", tally.most.get());
}

#[test]
fn schedules_q3_calls_in_any_order() {
    let tally = Tally::default();
    for seed in 0..setting("MATRIX_CALL_RUNS", 4000) {
        naming(|| format!("seed {seed}"), || run(None, false, seed, &tally));
    }
    println!("{} dropped, {} answered too late", tally.told.get(), tally.late.get());
    assert!(tally.told.get() > 100 && tally.late.get() > 5);
}

/// Which check notices each planted fault, and where first. Any that survives fails.
#[test]
fn mutant_call_table() {
    let checks: [(&str, &dyn Fn()); 3] = [
        ("calls in any order", &|| (0..4000).for_each(|seed| _ = run(None, false, seed, &Tally::default()))),
        ("every party stopped at every access", &|| enumerate(12, false, &Tally::default())),
        ("nobody about until the recovery", &|| enumerate(12, true, &Tally::default())),
    ];
    notice_all(CALL_MUTANTS, &checks);
}
