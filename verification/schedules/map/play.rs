//! One scenario of a map from its seed: what the players do, who dies where, who recovers whom.

#[path = "scene.rs"]
pub(crate) mod scene;

use crate::stage::{self, Player, Stage};
use atomic_matrix::check::turns::Scheduling;
use atomic_matrix::ipc::table::When;
use atomic_matrix::matrix::heap::ThreadCache;
use fastrand::Rng;
use scene::Scene;
use std::cell::Cell;
use std::rc::Rc;

/// Who plays what.
const VICTIM: u16 = 1;
const SURVIVORS: [u16; 3] = [2, 3, 4];
const RECOVERERS: [u16; 2] = [5, 6];
const LAST: u16 = 7;
const ALONE: u16 = 8;

/// Who is about beside the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// One to three others, from the beginning to the end.
    Mixed,
    /// Nobody, until the recovery has ended: what the victim has begun nobody else completes.
    Still,
}

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Put,
    PutIfAbsent,
    Take,
    Get,
    Copy,
    Keys,
}

pub(crate) const ACTS: [Act; 6] = [Act::Put, Act::PutIfAbsent, Act::Take, Act::Get, Act::Copy, Act::Keys];

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) stops: Cell<u64>,
    pub(crate) killed: Cell<u64>,
    pub(crate) amid: Cell<u64>,
    pub(crate) alone: Cell<u64>,
    pub(crate) shared: Cell<u64>,
    pub(crate) full: Cell<u64>,
}

fn act<B: Stage>(scene: &Scene<B>, cache: &mut ThreadCache, act: Act, which: usize) {
    match act {
        Act::Put => scene.put(cache, which, When::Always),
        Act::PutIfAbsent => scene.put(cache, which, When::Absent),
        Act::Take => scene.take(cache, which),
        Act::Get => scene.get(cache, which),
        Act::Copy => scene.copy(cache, which),
        Act::Keys => scene.keys(cache),
    }
}

/// A key: mostly the same one.
fn some_key(random: &mut Rng) -> usize {
    [0, 0, 0, 1, 1, 2][random.usize(0..6)]
}

fn survive<B: Stage>(scene: &Scene<B>, me: u16, calls: usize, random: &mut Rng) {
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
            7..9 => scene.get(cache, which),
            9 => scene.copy(cache, which),
            10 => scene.keys(cache),
            _ => scene.free(cache, random),
        }
    }
}

/// One scenario from its seed: a table as others left it, the victim's act, stopped before its `k`-th access,
/// amid survivors, and all that follows. True if the victim came to its end.
pub(crate) fn run<B: Stage>(what: Option<(Act, u64)>, crowd: Crowd, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let scene = Rc::new(Scene::<B>::new(random.u32(1..=3), random.u16(3..=6), random.bool()));
    let mut users = [&[VICTIM, LAST, ALONE], &SURVIVORS[..]].concat();
    users.iter().for_each(|&me| scene.enter(me));
    for _ in 0..random.usize(0..4) {
        let cache = &mut ThreadCache::with_ceiling(SURVIVORS[0], 0);
        scene.allocate(cache, random);
        scene.put(cache, some_key(random), When::Always);
    }
    let policy = Scheduling::draw(random, 80);
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
        true => B::play_buffered(players, policy, random),
        false => B::play(players, policy, random),
    };
    let finished = what.is_none() || !ends[0];
    tally.amid.set(tally.amid.get().max(scene.most.replace(0)));
    // Q4: what one needs alone, with the others stopped wherever they are.
    let (alone, calls) = (scene.clone(), if crowd == Crowd::Still { 0 } else { 3 });
    B::alone(Player::new(move || survive(&alone, ALONE, calls, &mut Rng::with_seed(seed))));
    tally.alone.set(tally.alone.get().max(scene.most.replace(0)));
    let mut dead = vec![];
    if !finished {
        dead.push(VICTIM);
        tally.stops.set(tally.stops.get() + 1);
        scene.bury(VICTIM);
        let (first, second) = (RECOVERERS[0], RECOVERERS[1]);
        let recoverer = scene.clone();
        let body = move || stage::recover(&recoverer.heap, first, &[VICTIM]);
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
        if B::play(players, policy, random)[0] {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            stage::recover(&scene.heap, second, &dead);
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
