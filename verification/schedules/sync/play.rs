//! One scenario from its seed: what the players do, who dies where, who finds them dead.

#[path = "scene.rs"]
pub(crate) mod scene;

use crate::stage::{Player, Stage};
use atomic_matrix::check::turns::Scheduling;
use fastrand::Rng;
use scene::Scene;
pub(crate) use scene::Subject;
use std::cell::Cell;
use std::rc::Rc;

/// Who plays what.
const VICTIM: u16 = 1;
const SURVIVORS: [u16; 3] = [2, 3, 4];
const RECOVERERS: [u16; 2] = [5, 6];
const LAST: u16 = 7;

pub(crate) const SUBJECTS: [Subject; 5] =
    [Subject::Lock, Subject::Semaphore, Subject::Event, Subject::Barrier, Subject::Names];

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) stops: Cell<u64>,
    pub(crate) killed: Cell<u64>,
    pub(crate) most: Cell<u64>,
    pub(crate) met: Cell<u64>,
}

/// Calls of a participant's: all that there are, for the victim and for who finds it dead.
fn all_calls<B: Stage>(scene: &Scene<B>, me: u16, random: &mut Rng) {
    match scene.subject {
        Subject::Lock => (0..2).for_each(|_| scene.lock_and_release(me, random)),
        Subject::Semaphore => {
            scene.take_permit(me, random.bool());
            scene.give_permits(me, 1);
        }
        Subject::Event => {
            scene.set(me);
            scene.clear(me, random.bool());
        }
        Subject::Barrier => (0..2).for_each(|_| scene.meet(me)),
        Subject::Names => {
            scene.replace(me);
            scene.withdraw(me);
            scene.publish(me);
        }
    }
}

fn some_call<B: Stage>(scene: &Scene<B>, me: u16, random: &mut Rng) {
    match scene.subject {
        Subject::Lock => scene.lock_and_release(me, random),
        Subject::Semaphore if random.u32(0..3) > 0 => _ = scene.take_permit(me, random.bool()),
        Subject::Semaphore => scene.give_permits(me, random.u32(1..=2)),
        Subject::Event => match random.u32(0..4) {
            0 => scene.set(me),
            1 => scene.look_at_event(me, random.bool()),
            _ => scene.clear(me, random.bool()),
        },
        Subject::Barrier => scene.meet(me),
        Subject::Names => match random.u32(0..6) {
            0..2 => scene.replace(me),
            2 => scene.publish(me),
            3 => scene.withdraw(me),
            _ => scene.find(me),
        },
    }
}

/// How it is before anybody plays.
fn prepare<B: Stage>(scene: &Scene<B>, random: &mut Rng) {
    match scene.subject {
        Subject::Semaphore => scene.give_permits(LAST, random.u32(1..=3)),
        Subject::Event if random.bool() => scene.set(LAST),
        Subject::Names if random.u32(0..4) > 0 => {
            // So that a name may be replaced by an entry in front of it, or behind.
            scene.publish(LAST);
            (0..random.u32(0..2)).for_each(|_| scene.replace(LAST));
        }
        _ => {}
    }
}

/// One scenario from its seed. True if the victim came to its end.
pub(crate) fn run<B: Stage>(subject: Subject, stop: Option<u64>, seed: u64, tally: &Tally) -> bool {
    let random = &mut Rng::with_seed(seed);
    let scene = Rc::new(Scene::<B>::new(subject, random.u32(2..=3)));
    prepare(&scene, random);
    let policy = Scheduling::draw(random, 60);
    let others = |count: usize, calls: usize, random: &mut Rng| -> Vec<Player> {
        let one = |&me: &u16| {
            let (scene, mut random) = (scene.clone(), random.fork());
            Player::new(move || (0..calls).for_each(|_| some_call(&scene, me, &mut random)))
        };
        SURVIVORS[..count].iter().map(one).collect()
    };
    let mut players = vec![];
    if let Some(k) = stop {
        let (scene, mut random) = (scene.clone(), random.fork());
        players.push(Player::stopped_at(move || all_calls(&scene, VICTIM, &mut random), k));
    }
    players.extend(others(random.usize(2..=3), 3, random));
    // Half of the runs with a store buffer for each player, as x86 has.
    let ends = match random.bool() {
        true => B::play_buffered(players, policy, random),
        false => B::play(players, policy, random),
    };
    let finished = stop.is_none() || !ends[0];
    if !finished {
        tally.stops.set(tally.stops.get() + 1);
        scene.bury(VICTIM);
        let [first, second] = RECOVERERS;
        let (recoverer, mut own) = (scene.clone(), random.fork());
        let body = move || {
            recoverer.finds_dead(first, VICTIM);
            match recoverer.subject {
                Subject::Names => recoverer.recover_names(VICTIM),
                _ => all_calls(&recoverer, first, &mut own),
            }
        };
        let mut players = match random.bool() {
            true => vec![Player::stopped_at(body, random.u64(0..12))],
            false => vec![Player::new(body)],
        };
        players.extend(others(2, 2, random));
        if B::play(players, policy, random)[0] {
            tally.killed.set(tally.killed.get() + 1);
            scene.bury(first);
            [VICTIM, first].iter().for_each(|&dead| scene.finds_dead(second, dead));
            if subject == Subject::Names {
                [VICTIM, first].iter().for_each(|&dead| scene.recover_names(dead));
            }
        }
    }
    scene.is_right(LAST);
    tally.most.set(tally.most.get().max(scene.most.get()));
    tally.met.set(tally.met.get() + scene.met.get());
    finished
}
