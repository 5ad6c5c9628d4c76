//! The directory, and frees of one block by several: histories of overlapping calls are linearizable.

use super::calls::{call, excuse, id};
use super::linear::{Span, linearizable};
use super::sequential::{Call, State};
use super::turns::{Player, Scheduling, moment, play};
use super::world::World;
use atomic_matrix::matrix::heap::{Kind, ThreadCache};
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;

/// What has been called, by everybody.
type History = Rc<RefCell<Vec<Span<Call>>>>;

/// One scenario; panics with what is wrong.
pub(crate) fn scenario(seed: u64) {
    let random = &mut Rng::with_seed(seed);
    // Without bias: with it, two racing frees of one block may both be told that they freed it (S5).
    let world = Rc::new(World::with(24, false, 6));
    let history = History::default();
    let cache = &mut ThreadCache::with_ceiling(8, 0);
    let mut blocks = vec![];
    for _ in 0..4 {
        let block = world.heap.allocate(cache, 2, 1, Kind::Raw).expect("there is room");
        // Nobody's, as if it had been handed over.
        world.heap.ownership().give_to(block, 0).expect("it is live");
        history.borrow_mut().push(Span {
            call: Call::Allocate { block: id(block), size: 2 },
            from: moment(),
            to: moment(),
        });
        history.borrow_mut().push(Span { call: Call::HandOver { block: id(block) }, from: moment(), to: moment() });
        blocks.push(block);
    }
    let known = Rc::new(Mutex::new(blocks));
    let ceiling = random.usize(0..3);
    let players = (1..=random.u16(2..=4)).map(|owner| {
        let (world, history, known, mut random) = (world.clone(), history.clone(), known.clone(), random.fork());
        Player::new(move || {
            let cache = &mut ThreadCache::with_ceiling(owner, ceiling);
            for _ in 0..random.usize(1..6) {
                let from = moment();
                let call = call(&world.heap, cache, &known, &mut random);
                history.borrow_mut().push(Span { call, from, to: moment() });
            }
        })
    });
    let players = players.collect();
    let policy = Scheduling::draw(random, 100);
    play(players, policy, random);
    let mut history = history.borrow().clone();
    excuse(&mut history);
    assert!(linearizable(&history, State::default(), |state, call| state.after(call)), "not linearizable: {history:?}");
}
