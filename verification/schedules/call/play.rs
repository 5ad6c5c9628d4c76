//! One scenario of a service from its seed: what the players do, who dies where, who recovers whom.

#[path = "scene.rs"]
pub(crate) mod scene;

use crate::stage::{self, Player, Stage};
use atomic_matrix::check::turns::Scheduling;
use atomic_matrix::ipc::call::Part;
use fastrand::Rng;
use scene::{Found, Scene};
use std::cell::Cell;
use std::rc::Rc;

/// Who plays what.
const VICTIM: u16 = 1;
const CLIENTS: [u16; 2] = [2, 3];
const SERVERS: [u16; 2] = [4, 5];
const RECOVERERS: [u16; 2] = [6, 7];
const LAST: u16 = 8;

/// What a victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    MakeAndAsk,
    AskAndLook,
    Leave,
    Serve,
    Drop,
    /// Several responses: to their end, which says itself that it is the last one, or comes by itself; and broken off.
    Stream,
    StreamAndEnd,
    BreakOff,
}

pub(crate) const ACTS: [Act; 8] = [
    Act::MakeAndAsk,
    Act::AskAndLook,
    Act::Leave,
    Act::Serve,
    Act::Drop,
    Act::Stream,
    Act::StreamAndEnd,
    Act::BreakOff,
];

/// What servers answer with. Of those with fewer than one that says so no client learns that it has all.
const ANSWERS: [&[Part]; 8] = [
    &[],
    &[Part::Last],
    &[Part::Last],
    &[Part::More, Part::Last],
    &[Part::More, Part::More, Part::Last],
    &[Part::More, Part::More, Part::More, Part::End],
    &[Part::End],
    &[Part::More, Part::More],
];

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) stops: Cell<u64>,
    pub(crate) killed: Cell<u64>,
    pub(crate) most: Cell<u64>,
    pub(crate) told: Cell<u64>,
    pub(crate) late: Cell<u64>,
    pub(crate) streams: Cell<u64>,
    pub(crate) full: Cell<u64>,
}

fn act<B: Stage>(scene: &Scene<B>, act: Act) {
    match act {
        Act::MakeAndAsk => {
            scene.make_ring(VICTIM, 0);
            scene.ask(VICTIM);
        }
        Act::AskAndLook => {
            scene.ask(VICTIM);
            (0..6).for_each(|_| _ = scene.look(VICTIM));
        }
        Act::Leave => {
            scene.ask(VICTIM);
            scene.leave(VICTIM);
        }
        Act::Serve => _ = scene.serve(VICTIM, ANSWERS[1]),
        Act::Drop => _ = scene.serve(VICTIM, ANSWERS[0]),
        Act::Stream => _ = scene.serve(VICTIM, ANSWERS[4]),
        Act::StreamAndEnd => _ = scene.serve(VICTIM, ANSWERS[5]),
        Act::BreakOff => _ = scene.serve(VICTIM, ANSWERS[7]),
    }
}

fn client<B: Stage>(scene: &Rc<Scene<B>>, me: u16, calls: usize, random: &mut Rng) -> Player {
    let (scene, mut random) = (scene.clone(), random.fork());
    Player::new(move || {
        for _ in 0..calls {
            scene.ask(me);
            // Gives up, sometimes: by asking anew, or in so many words.
            let patience = random.usize(0..16);
            let ends = (0..patience).any(|_| scene.look(me) == Found::End);
            if !ends && random.bool() {
                scene.give_up(me);
            }
        }
    })
}

fn server<B: Stage>(scene: &Rc<Scene<B>>, me: u16, calls: usize, random: &mut Rng) -> Player {
    let (scene, mut random) = (scene.clone(), random.fork());
    Player::new(move || (0..calls).for_each(|_| _ = scene.serve(me, ANSWERS[random.usize(0..ANSWERS.len())])))
}

/// One scenario from its seed. True if the victim came to its end.
pub(crate) fn run<B: Stage>(what: Option<(Act, u64)>, still: bool, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let scene = Rc::new(Scene::<B>::new(random.u32(0..=2), random.bool()));
    let mut users = [&[VICTIM, LAST], &CLIENTS[..], &SERVERS].concat();
    users.iter().for_each(|&me| scene.enter(me));
    let cells_shift = random.u32(0..=2);
    CLIENTS.iter().for_each(|&me| scene.make_ring(me, cells_shift));
    scene.ask(CLIENTS[0]);
    let policy = Scheduling::draw(random, 80);
    let mut players = vec![];
    if let Some((what, k)) = what {
        if matches!(what, Act::AskAndLook | Act::Leave) {
            scene.make_ring(VICTIM, cells_shift);
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
    // Half of the runs with a store buffer for each player, as x86 has.
    let ends = match random.bool() {
        true => B::play_buffered(players, policy, random),
        false => B::play(players, policy, random),
    };
    let finished = what.is_none() || !ends[0];
    if !finished {
        tally.stops.set(tally.stops.get() + 1);
        let (mut dead, first, second) = (vec![VICTIM], RECOVERERS[0], RECOVERERS[1]);
        scene.settle_answers_of(VICTIM);
        scene.bury(VICTIM);
        let recoverer = scene.clone();
        let body = move || stage::recover(&recoverer.heap, first, &[VICTIM]);
        let mut players = match random.bool() {
            true => vec![Player::stopped_at(body, random.u64(0..300))],
            false => vec![Player::new(body)],
        };
        players.extend(others(1, random));
        // Nobody else rings for a sleeper; and half of the time nobody takes what stands half.
        if still && random.bool() {
            let scene = scene.clone();
            players.push(Player::new(move || scene.sleep(CLIENTS[0])));
        }
        if B::play(players, policy, random)[0] {
            tally.killed.set(tally.killed.get() + 1);
            dead.push(first);
            stage::recover(&scene.heap, second, &dead);
        }
        users.retain(|user| !dead.contains(user));
    }
    scene.nobody_oversleeps();
    scene.calls_have_ended();
    scene.nothing_is_left(LAST, &users);
    tally.most.set(tally.most.get().max(scene.most.get()));
    tally.told.set(tally.told.get() + scene.told.get());
    tally.late.set(tally.late.get() + scene.late.get());
    tally.streams.set(tally.streams.get() + scene.streams.get());
    tally.full.set(tally.full.get() + scene.full.get());
    finished
}
