//! One scenario of a topic or a board from its seed: what the players do, who dies where, who recovers whom.

#[path = "scene.rs"]
pub(crate) mod scene;

use crate::stage::{self, Player, Stage};
use atomic_matrix::check::turns::Scheduling;
use atomic_matrix::ipc::structure::Sort;
use fastrand::Rng;
use scene::{Scene, Subscriber};
use std::cell::Cell;
use std::rc::Rc;

/// Who plays what.
pub(crate) const VICTIM: u16 = 1;
pub(crate) const PUBLISHERS: [u16; 2] = [2, 3];
const READERS: [u16; 2] = [4, 5];
const RECOVERERS: [u16; 2] = [6, 7];
const LAST: u16 = 8;

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Publish,
    Read,
    JoinAndRead,
}

pub(crate) const ACTS: [Act; 3] = [Act::Publish, Act::Read, Act::JoinAndRead];

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) stops: Cell<u64>,
    pub(crate) killed: Cell<u64>,
    pub(crate) most: Cell<u64>,
    pub(crate) reads: Cell<u64>,
    pub(crate) lagged: Cell<u64>,
}

fn act<B: Stage>(scene: &Scene<B>, me: u16, act: Act, subscriber: &mut Option<Subscriber>, random: &mut Rng) {
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

pub(crate) fn publisher<B: Stage>(scene: &Rc<Scene<B>>, me: u16, calls: usize, random: &mut Rng) -> Player {
    let (scene, mut random) = (scene.clone(), random.fork());
    Player::new(move || (0..calls).for_each(|_| scene.publish(me, &mut random)))
}

fn reader<B: Stage>(scene: &Rc<Scene<B>>, me: u16, calls: usize, random: &mut Rng) -> Player {
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
fn viewer<B: Stage>(scene: &Rc<Scene<B>>, looks: usize) -> Player {
    let scene = scene.clone();
    Player::new(move || (0..looks).for_each(|_| scene.look_at_newest()))
}

/// One scenario from its seed. True if the victim came to its end.
pub(crate) fn run<B: Stage>(sort: Sort, what: Option<(Act, u64)>, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let scene = Rc::new(Scene::<B>::new(sort, random.u32(0..=2), random.bool()));
    let everybody = [VICTIM, PUBLISHERS[0], PUBLISHERS[1], READERS[0], READERS[1], LAST];
    everybody.iter().for_each(|&me| scene.enter(me));
    (0..random.usize(0..5)).for_each(|_| scene.publish(PUBLISHERS[0], random));
    let mut dead = vec![];
    let policy = Scheduling::draw(random, 60);
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
    // Half of the runs with a store buffer for each player, as x86 has.
    let ends = match random.bool() {
        true => B::play_buffered(players, policy, random),
        false => B::play(players, policy, random),
    };
    if what.is_some() && ends[0] {
        finished = false;
        tally.stops.set(tally.stops.get() + 1);
        dead.push(VICTIM);
        scene.bury(VICTIM);
        let (first, second) = (RECOVERERS[0], RECOVERERS[1]);
        let (recoverer, dying) = (scene.clone(), dead.clone());
        let body = move || stage::recover(&recoverer.heap, first, &dying);
        let mut players = match random.bool() {
            true => vec![Player::stopped_at(body, random.u64(0..250))],
            false => vec![Player::new(body)],
        };
        players.push(publisher(&scene, PUBLISHERS[1], 2, random));
        players.push(reader(&scene, READERS[0], 2, random));
        if B::play(players, policy, random)[0] {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            stage::recover(&scene.heap, second, &dead);
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
