//! One scenario of a channel from its seed: what the players do, who dies where, who recovers whom.

#[path = "scene.rs"]
pub(crate) mod scene;

use crate::stage::{self, Player, Stage};
use atomic_matrix::check::turns::{Scheduling, TURNS};
use atomic_matrix::ipc::structure::Sort;
use atomic_matrix::matrix::heap::ThreadCache;
use fastrand::Rng;
use scene::Scene;
use std::cell::Cell;
use std::rc::Rc;

/// Who plays what: the victim, one that died before, survivors, recoverers, and who looks on at the end.
const VICTIM: u16 = 1;
const BEFORE: u16 = 2;
const SURVIVORS: [u16; 2] = [3, 4];
const RECOVERERS: [u16; 2] = [5, 6];
const LAST: u16 = 7;
const ALONE: u16 = 8;

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
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
    /// Where what is received is held: it is done, or goes back.
    Acknowledge,
    GiveBack,
}

pub(crate) const ACTS: [Act; 6] = [Act::Send, Act::Receive, Act::Forward, Act::Reuse, Act::SendMany, Act::ReceiveMany];
/// Where what is received is held.
pub(crate) const WORK: [Act; 7] =
    [Act::Send, Act::Receive, Act::Forward, Act::Reuse, Act::SendMany, Act::Acknowledge, Act::GiveBack];

/// How the survivors behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// Anything.
    Mixed,
    /// The ring is full, and nobody receives until the dead are recovered: who recovers them settles their
    /// links alone (L-c).
    Slow,
    /// Nobody does anything until the dead are recovered.
    Still,
    /// The same, and two recover the dead at once, within an access of each other.
    #[allow(dead_code, reason = "only where an order can be asked for")]
    Pair,
}

impl Crowd {
    fn is_still(self) -> bool {
        matches!(self, Self::Still | Self::Pair)
    }
}

/// What happened in all runs.
pub(crate) struct Tally {
    /// Of which ring.
    pub(crate) sort: Sort,
    pub(crate) stops: Cell<u64>,
    pub(crate) killed: Cell<u64>,
    pub(crate) amid: Cell<u64>,
    pub(crate) alone: Cell<u64>,
}

impl Tally {
    pub(crate) fn of(sort: Sort) -> Self {
        Self { sort, stops: Cell::default(), killed: Cell::default(), amid: Cell::default(), alone: Cell::default() }
    }
}

fn act<B: Stage>(scene: &Scene<B>, cache: &mut ThreadCache, act: Act, random: &mut Rng) {
    let me = cache.owner();
    match act {
        Act::Send => scene.send(me),
        Act::Receive => _ = scene.receive(me),
        Act::Forward => {
            if scene.receive(me) {
                scene.forward(me);
                scene.send(me);
            }
        }
        Act::Acknowledge => _ = scene.acknowledge(me),
        Act::GiveBack => scene.give_back(me),
        Act::Reuse => {
            if scene.receive(me) {
                scene.acknowledge(me);
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
fn survive<B: Stage>(scene: &Scene<B>, me: u16, crowd: Crowd, calls: usize, random: &mut Rng) {
    let cache = &mut scene.cache(me);
    for _ in 0..calls {
        match random.u32(0..10) {
            0..4 => {
                scene.allocate(cache, random);
                scene.send(me);
            }
            4 => scene.free(cache),
            5 if random.bool() => _ = scene.acknowledge(me),
            5 if random.bool() => scene.give_back(me),
            _ if crowd != Crowd::Mixed => {}
            5..8 => act(scene, cache, Act::Receive, random),
            8 => act(scene, cache, if random.bool() { Act::ReceiveMany } else { Act::SendMany }, random),
            _ => act(scene, cache, Act::Reuse, random),
        }
    }
}

/// One scenario from its seed: a ring as others left it, the victim's act, stopped before its `k`-th access,
/// amid survivors, and all that follows. True if the victim came to its end.
pub(crate) fn run<B: Stage>(what: Option<(Act, u64)>, crowd: Crowd, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let shift = random.u32(0..=2);
    let scene = Rc::new(Scene::<B>::new(tally.sort, shift, random.bool(), [0, 4][random.usize(0..2)]));
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
    let policy = Scheduling::draw(random, 60);
    let mut players = vec![];
    if let Some((what, k)) = what {
        scene.allocate(&mut scene.cache(VICTIM), random);
        // What it holds when its act begins, where that means something.
        if scene.redelivers() && (matches!(what, Act::Acknowledge | Act::GiveBack) || random.u32(0..4) == 0) {
            (0..random.usize(1..=2)).for_each(|_| _ = scene.receive(VICTIM));
        }
        let (scene, mut random) = (scene.clone(), random.fork());
        let body = move || act(&scene, &mut scene.cache(VICTIM), what, &mut random);
        players.push(Player::stopped_at(body, k));
    }
    let survivors = |calls: usize, random: &mut Rng| -> Vec<Player> {
        if crowd.is_still() {
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
        true => B::play_buffered(players, policy, random),
        false => B::play(players, policy, random),
    };
    let finished = what.is_none() || !ends[0];
    tally.amid.set(tally.amid.get().max(scene.most.replace(0)));
    if !finished {
        dead.push(VICTIM);
        tally.stops.set(tally.stops.get() + 1);
    }
    // Q4: what one needs alone, with the others stopped wherever they are.
    let alone = scene.clone();
    let calls = if crowd.is_still() { 0 } else { 2 };
    B::alone(Player::new(move || survive(&alone, ALONE, crowd, calls, &mut Rng::with_seed(seed))));
    tally.alone.set(tally.alone.get().max(scene.most.replace(0)));
    scene.what_stands_is_sent();
    users.retain(|user| !dead.contains(user));
    match crowd {
        Crowd::Pair => recovered_by_two(&scene, dead, random, tally),
        _ => recovered(&scene, dead, survivors(2, random), policy, random, tally),
    }
    scene.everything_is_received(LAST);
    scene.is_a_queue();
    scene.nothing_is_left(LAST, &users);
    finished
}

/// One that sends or receives alone dies half-way.
fn stop_before<B: Stage>(scene: &Rc<Scene<B>>, random: &mut Rng) {
    scene.allocate(&mut scene.cache(BEFORE), random);
    let (what, k, own) = (ACTS[random.usize(0..2)], random.u64(1..12), scene.clone());
    let mut other = random.fork();
    B::alone(Player::stopped_at(move || act(&own, &mut own.cache(BEFORE), what, &mut other), k));
}

/// The dead are recovered amid survivors, by one that may be killed, and helped by another.
fn recovered<B: Stage>(
    scene: &Rc<Scene<B>>,
    dead: Vec<u16>,
    mut survivors: Vec<Player>,
    policy: Scheduling,
    random: &mut Rng,
    tally: &Tally,
) {
    if !dead.is_empty() {
        let (first, second, mut dead) = (RECOVERERS[0], RECOVERERS[1], dead);
        dead.iter().for_each(|&dead| scene.bury(dead));
        let (recoverer, dying) = (scene.clone(), dead.clone());
        let body = move || stage::recover(&recoverer.heap, first, &dying);
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
        if B::play(players, policy, random)[0] {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            stage::recover(&scene.heap, second, &dead);
        }
    }
    scene.recovered();
}

/// Two recover the dead at once, and nobody else does anything: one stands still before any access; the other comes
/// as far, stands still or dies, and the first one goes on.
fn recovered_by_two<B: Stage>(scene: &Rc<Scene<B>>, mut dead: Vec<u16>, random: &mut Rng, tally: &Tally) {
    if !dead.is_empty() {
        dead.iter().for_each(|&dead| scene.bury(dead));
        let recovery = |me: u16| {
            let (scene, dead) = (scene.clone(), dead.clone());
            move || stage::recover(&scene.heap, me, &dead)
        };
        let [first, second] = RECOVERERS;
        let stands = random.u64(0..120);
        let other = (stands + random.u64(0..=2)).saturating_sub(1);
        let other_one = match random.bool() {
            true => Player::stopped_at(recovery(second), other),
            false => Player::new(recovery(second)),
        };
        let mut order = [(0, u64::MAX); TURNS];
        (order[0], order[1]) = ((0, stands), (1, other));
        if B::play(vec![Player::new(recovery(first)), other_one], Scheduling::Turns(order), random)[1] {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(second);
            stage::recover(&scene.heap, first, &dead);
        }
    }
    scene.recovered();
}
