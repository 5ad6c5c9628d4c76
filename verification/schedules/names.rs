//! The directory, and frees of one block by several: histories of overlapping calls are linearizable.

use super::linear::{Span, linearizable};
use super::sequential::{Call, Id, State};
use super::turns::{Player, Policy, moment, play};
use super::world::World;
use atomic_matrix::matrix::heap::{Kind, Lane, Live};
use atomic_matrix::segment::directory::{Directory, Entry, Refused};
use atomic_matrix::segment::layout::Granule;
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;

/// What has been called, by everybody.
type History = Rc<RefCell<Vec<Span<Call>>>>;

const fn id(block: Live) -> Id {
    (block.at.0, block.token.generation())
}

/// One call on a directory of two names, or on blocks that everybody knows.
fn call(world: &World, lane: &mut Lane, known: &RefCell<Vec<Live>>, random: &mut Rng) -> Call {
    let directory = Directory(world.heap.region());
    let name = random.u8(0..2);
    let pick = |random: &mut Rng| {
        let known = known.borrow();
        (!known.is_empty()).then(|| known[random.usize(0..known.len())])
    };
    match random.u32(0..10) {
        0..3 => {
            let Some(block) = pick(random) else { return Call::Excused };
            let entry = Entry { offset: block.at.0, generation: block.token.generation(), fingerprint: None };
            // What is one's own or nobody's may be published.
            let ours = |live: &Live| id(*live) == id(block) && [0, lane.owner()].contains(&live.token.owner());
            let Some(live) = world.heap.live_at(block.at).ok().filter(ours) else { return Call::Excused };
            match world.heap.publish(lane.owner(), &[name], live, entry) {
                Ok(()) => Call::Publish { name, block: id(block), done: true },
                Err(Refused::Taken) => Call::Publish { name, block: id(block), done: false },
                // Others may have been filling entries.
                Err(Refused::Full) => Call::Excused,
            }
        }
        3..5 => {
            let found = directory.lookup(&[name]).map(|found| (found.block.offset, found.block.generation));
            Call::Lookup { name, found }
        }
        5..7 => {
            let got = directory.lookup(&[name]).and_then(|found| {
                let live = world.heap.live_at(Granule(found.block.offset)).ok()?;
                let same = live.token.generation() == found.block.generation;
                (same && world.heap.take_published(lane.owner(), live, found)).then_some(id(live))
            });
            Call::Take { name, got }
        }
        7 => Call::Withdraw { name, done: directory.withdraw(&[name]) },
        8 => match world.heap.allocate(lane, random.u32(1..4), 1, Kind::Raw) {
            Ok(block) => {
                known.borrow_mut().push(block);
                Call::Allocate { block: id(block), size: block.token.size() }
            }
            Err(_) => Call::Excused,
        },
        _ => {
            let Some(block) = pick(random) else { return Call::Excused };
            let freed = world.heap.free(lane, block.at, Some(block.token.generation()));
            Call::Free { block: id(block), done: freed.is_ok() }
        }
    }
}

/// Answers that are right whatever else is: a take that gets nothing while somebody else is taking or publishing, which are two
/// steps each (the name, and whose the block is).
fn excuse(history: &mut [Span<Call>]) {
    let copy = history.to_vec();
    for span in history {
        let two_steps = |call: Call| matches!(call, Call::Take { .. } | Call::Publish { .. });
        let mut others = copy.iter().filter(|other| other.from != span.from && other.overlaps(span));
        if matches!(span.call, Call::Take { got: None, .. }) && others.any(|other| two_steps(other.call)) {
            span.call = Call::Excused;
        }
    }
}

/// One scenario; panics with what is wrong.
pub(crate) fn scenario(seed: u64) {
    let random = &mut Rng::with_seed(seed);
    // Without bias: with it, two racing frees of one block may both be told that they freed it (S5).
    let world = Rc::new(World::with_bias(24, false));
    let history = History::default();
    let lane = &mut Lane::with_ceiling(8, 0);
    let mut blocks = vec![];
    for _ in 0..4 {
        let block = world.heap.allocate(lane, 2, 1, Kind::Raw).expect("there is room");
        // Nobody's, as if it had been handed over.
        world.heap.give_to(block, 0).expect("it is live");
        history.borrow_mut().push(Span {
            call: Call::Allocate { block: id(block), size: 2 },
            from: moment(),
            to: moment(),
        });
        history.borrow_mut().push(Span { call: Call::HandOver { block: id(block) }, from: moment(), to: moment() });
        blocks.push(block);
    }
    let known = Rc::new(RefCell::new(blocks));
    let ceiling = random.usize(0..3);
    let players = (1..=random.u16(2..=4)).map(|owner| {
        let (world, history, known, mut random) = (world.clone(), history.clone(), known.clone(), random.fork());
        Player::new(move || {
            let lane = &mut Lane::with_ceiling(owner, ceiling);
            for _ in 0..random.usize(1..6) {
                let from = moment();
                let call = call(&world, lane, &known, &mut random);
                history.borrow_mut().push(Span { call, from, to: moment() });
            }
        })
    });
    let players = players.collect();
    let policy = Policy::draw(random, 100);
    play(players, policy, random);
    let mut history = history.borrow().clone();
    excuse(&mut history);
    assert!(linearizable(&history, State::default(), |state, call| state.after(call)), "not linearizable: {history:?}");
}
