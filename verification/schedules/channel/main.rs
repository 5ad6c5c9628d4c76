//! The channel under the schedule: its calls in any order, each of them stopped before each of its accesses,
//! the recovery helped and killed. Everything runs on the production code, one shared access at a time
//! (`src/check/turns.rs`), so every failure replays from its seed.
//!
//! `MATRIX_CHANNEL_SEEDS` sets how many interleavings are tried for each stop (default 40),
//! `MATRIX_CHANNEL_RUNS` how many without one.
#![allow(missing_docs)]

#[path = "../acts.rs"]
mod acts;
#[path = "../../support/common.rs"]
mod common;
mod departure;
#[path = "../../support/linear.rs"]
mod linear;
mod scene;

use acts::{at_every_access, naming, notice_all};
use atomic_matrix::backend::orderings::CHANNEL_MUTANTS;
use atomic_matrix::check::turns;
use atomic_matrix::ipc::structure::Sort;
use atomic_matrix::matrix::heap::ThreadCache;
use atomic_matrix::matrix::recovery::Policy as Give;
use common::setting;
use fastrand::Rng;
use scene::Scene;
use std::cell::Cell;
use std::rc::Rc;
use turns::{Player, Policy, play, play_buffered};

/// Who plays what: the victim, one that died before, survivors, recoverers, and who looks on at the end.
const VICTIM: u16 = 1;
const BEFORE: u16 = 2;
const SURVIVORS: [u16; 2] = [3, 4];
const RECOVERERS: [u16; 2] = [5, 6];
const LAST: u16 = 7;
const ALONE: u16 = 8;

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Send,
    Receive,
    /// Receives and sends the same block on.
    Forward,
    /// Receives, frees, allocates and sends.
    Reuse,
    /// Allocates two more and sends all in one batch.
    SendMany,
    /// Receives two or three in one batch.
    ReceiveMany,
}

const ACTS: [Act; 6] = [Act::Send, Act::Receive, Act::Forward, Act::Reuse, Act::SendMany, Act::ReceiveMany];

/// How the survivors behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    /// Anything.
    Mixed,
    /// The ring is full, and nobody receives until the dead are recovered: who recovers them settles their
    /// links alone (L-c).
    Slow,
    /// Nobody does anything until the dead are recovered.
    Still,
}

/// What happened in all runs.
struct Tally {
    /// Of which ring.
    sort: Sort,
    stops: Cell<u64>,
    killed: Cell<u64>,
    amid: Cell<u64>,
    alone: Cell<u64>,
}

impl Tally {
    fn of(sort: Sort) -> Self {
        Self { sort, stops: Cell::default(), killed: Cell::default(), amid: Cell::default(), alone: Cell::default() }
    }
}

fn act(scene: &Scene, cache: &mut ThreadCache, act: Act, random: &mut Rng) {
    let me = cache.owner();
    match act {
        Act::Send => scene.send(me),
        Act::Receive => _ = scene.receive(me),
        Act::Forward => {
            if scene.receive(me) {
                scene.send(me);
            }
        }
        Act::Reuse => {
            if scene.receive(me) {
                scene.free(cache);
                scene.allocate(cache, random);
            }
            scene.send(me);
        }
        Act::SendMany => {
            (0..2).for_each(|_| scene.allocate(cache, random));
            scene.send_many(me);
        }
        Act::ReceiveMany => scene.receive_many(me, random.usize(2..=3)),
    }
}

/// A survivor's few calls.
fn survive(scene: &Scene, me: u16, crowd: Crowd, calls: usize, random: &mut Rng) {
    let cache = &mut scene.cache(me);
    for _ in 0..calls {
        match random.u32(0..10) {
            0..4 => {
                scene.allocate(cache, random);
                scene.send(me);
            }
            4 => scene.free(cache),
            _ if crowd != Crowd::Mixed => {}
            5..8 => act(scene, cache, Act::Receive, random),
            8 => act(scene, cache, if random.bool() { Act::ReceiveMany } else { Act::SendMany }, random),
            _ => act(scene, cache, Act::Reuse, random),
        }
    }
}

fn recover(scene: &Scene, me: u16, dead: &[u16]) {
    let cache = &mut ThreadCache::with_ceiling(me, 0);
    dead.iter().for_each(|&dead| _ = scene.heap.recoveries().recover(cache, dead, Give::GiveBack));
}

/// One scenario from its seed: a ring as others left it, the victim's act, stopped before its `k`-th access,
/// amid survivors, and all that follows. True if the victim came to its end.
fn run(what: Option<(Act, u64)>, crowd: Crowd, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let shift = random.u32(0..=2);
    let scene = Rc::new(Scene::new(tally.sort, shift, random.bool(), [0, 4][random.usize(0..2)]));
    let mut users = vec![VICTIM, BEFORE, SURVIVORS[0], SURVIVORS[1], LAST, ALONE];
    users.iter().for_each(|&me| scene.join(me));
    // The ring as it is found: so many messages, and the half-done call of one that died.
    let filled = if crowd == Crowd::Slow { (1 << shift) - 1 } else { random.usize(0..=1 << shift) };
    for _ in 0..filled {
        let cache = &mut scene.cache(SURVIVORS[0]);
        scene.allocate(cache, random);
        scene.send(SURVIVORS[0]);
    }
    let mut dead = vec![];
    if random.u32(0..3) == 0 && crowd == Crowd::Mixed {
        stop_before(&scene, random);
        dead.push(BEFORE);
    }
    for me in [VICTIM, SURVIVORS[0], SURVIVORS[1]] {
        (0..random.usize(0..=1)).for_each(|_| scene.allocate(&mut scene.cache(me), random));
    }
    let policy = Policy::draw(random, 60);
    let mut players = vec![];
    if let Some((what, k)) = what {
        scene.allocate(&mut scene.cache(VICTIM), random);
        let (scene, mut random) = (scene.clone(), random.fork());
        let body = move || act(&scene, &mut scene.cache(VICTIM), what, &mut random);
        players.push(Player::stopped_at(body, k));
    }
    let survivors = |calls: usize, random: &mut Rng| -> Vec<Player> {
        if crowd == Crowd::Still {
            return vec![];
        }
        let one = |&me: &u16| {
            let (scene, mut random) = (scene.clone(), random.fork());
            Player::new(move || survive(&scene, me, crowd, calls, &mut random))
        };
        SURVIVORS.iter().map(one).collect()
    };
    players.extend(survivors(if what.is_some() { 3 } else { 7 }, random));
    // Half of the runs with a store buffer for each player, as x86 has.
    let ends = match random.bool() {
        true => play_buffered(players, &[1; 3], policy, random),
        false => play(players, policy, random),
    };
    let finished = what.is_none() || !ends[0].stopped;
    tally.amid.set(tally.amid.get().max(scene.most.replace(0)));
    if !finished {
        dead.push(VICTIM);
        tally.stops.set(tally.stops.get() + 1);
    }
    // Q4: what one needs alone, with the others stopped wherever they are.
    let alone = scene.clone();
    let calls = if crowd == Crowd::Still { 0 } else { 2 };
    turns::alone(move || survive(&alone, ALONE, crowd, calls, &mut Rng::with_seed(seed)), None);
    tally.alone.set(tally.alone.get().max(scene.most.replace(0)));
    scene.what_stands_is_sent();
    users.retain(|user| !dead.contains(user));
    recovered(&scene, dead, survivors(2, random), policy, random, tally);
    while scene.receive(LAST) {}
    scene.is_a_queue();
    scene.nothing_is_left(LAST, &users);
    finished
}

/// One that sends or receives alone dies half-way.
fn stop_before(scene: &Rc<Scene>, random: &mut Rng) {
    scene.allocate(&mut scene.cache(BEFORE), random);
    let (what, k, own) = (ACTS[random.usize(0..2)], random.u64(1..12), scene.clone());
    let mut other = random.fork();
    turns::alone(move || act(&own, &mut own.cache(BEFORE), what, &mut other), Some(k));
}

/// The dead are recovered amid survivors, by one that may be killed, and helped by another.
fn recovered(
    scene: &Rc<Scene>,
    dead: Vec<u16>,
    mut survivors: Vec<Player>,
    policy: Policy,
    random: &mut Rng,
    tally: &Tally,
) {
    if !dead.is_empty() {
        let (first, second, mut dead) = (RECOVERERS[0], RECOVERERS[1], dead);
        dead.iter().for_each(|&dead| scene.bury(dead));
        let (recoverer, dying) = (scene.clone(), dead.clone());
        let body = move || recover(&recoverer, first, &dying);
        let killed_at = random.bool().then(|| random.u64(0..250));
        let mut players = match killed_at {
            Some(k) => vec![Player::stopped_at(body, k)],
            None => vec![Player::new(body)],
        };
        let (helper, dying) = (scene.clone(), dead.clone());
        players.push(Player::new(move || {
            let cache = &mut ThreadCache::with_ceiling(second, 0);
            dying.iter().for_each(|&dead| _ = helper.heap.settle_links(cache, dead));
        }));
        players.append(&mut survivors);
        if play(players, policy, random)[0].stopped {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            recover(scene, second, &dead);
        }
    }
    scene.recovered();
}

/// Every act stopped before every access.
fn enumerate(seeds: u64, crowd: Crowd, tally: &Tally) {
    let name = |what, k, seed| format!("{:?}: {what:?} stopped at {k}, {crowd:?}, seed {seed}", tally.sort);
    at_every_access(&ACTS, |what| what as u64, seeds, name, |stop, seed| run(Some(stop), crowd, seed, tally));
}

#[test]
fn crash_q2_q3_q4_every_call_stopped_at_every_access() {
    let seeds = setting("MATRIX_CHANNEL_SEEDS", 40);
    for sort in [Sort::Channel, Sort::Single] {
        let tally = Tally::of(sort);
        enumerate(seeds, Crowd::Mixed, &tally);
        let (stops, killed, amid, alone) = (tally.stops.get(), tally.killed.get(), tally.amid.get(), tally.alone.get());
        println!("{sort:?}: {stops} stops, {killed} recoveries killed; accesses of a call: alone {alone}, amid {amid}");
        assert!(stops > 1000 && killed > 100);
        assert!(alone <= 40 && amid <= 200, "Q4: alone {alone}, amid others {amid}");
    }
}

/// The standing test of L-c: with receivers about, pending messages are taken long before a recovery comes.
#[test]
fn crash_q3_a_full_ring_with_slow_receivers() {
    for sort in [Sort::Channel, Sort::Single] {
        let tally = Tally::of(sort);
        enumerate(setting("MATRIX_CHANNEL_SEEDS", 40), Crowd::Slow, &tally);
        enumerate(setting("MATRIX_CHANNEL_SEEDS", 40), Crowd::Still, &tally);
        assert!(tally.stops.get() > 500);
    }
}

#[test]
fn schedules_q1_q2_calls_in_any_order() {
    for sort in [Sort::Channel, Sort::Single] {
        let tally = Tally::of(sort);
        for seed in 0..setting("MATRIX_CHANNEL_RUNS", 3000) {
            naming(|| format!("{sort:?}, seed {seed}"), || run(None, Crowd::Mixed, seed, &tally));
        }
        println!("{sort:?}: accesses of a call: alone {}, amid others {}", tally.alone.get(), tally.amid.get());
    }
}

/// Which check notices each planted fault, and where first. Any that survives fails.
#[test]
fn mutant_channel_table() {
    let (many, single) = (|| Tally::of(Sort::Channel), || Tally::of(Sort::Single));
    let any_order = |tally: &Tally| (0..20_000).for_each(|seed| _ = run(None, Crowd::Mixed, seed, tally));
    let checks: [(&str, &dyn Fn()); 8] = [
        ("comings and goings", &|| (0..3000).for_each(|seed| departure::run(seed, &departure::Met::default()))),
        ("a full ring with slow receivers", &|| enumerate(20, Crowd::Slow, &many())),
        ("nobody about until the recovery", &|| enumerate(20, Crowd::Still, &many())),
        ("every call stopped at every access", &|| enumerate(40, Crowd::Mixed, &many())),
        ("calls in any order", &|| any_order(&many())),
        ("one sender and one receiver, nobody about until the recovery", &|| enumerate(20, Crowd::Still, &single())),
        ("one sender and one receiver, stopped at every access", &|| enumerate(40, Crowd::Mixed, &single())),
        ("one sender and one receiver, in any order", &|| any_order(&single())),
    ];
    notice_all(CHANNEL_MUTANTS, &checks);
}
