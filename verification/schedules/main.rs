//! Random schedules of several participants, one shared access at a time, replayable by seed.
//!
//! Who goes on, and for how many accesses, is drawn from the seed ([`turns`]). Sequentially consistent: no evidence for an
//! ordering. Tens of thousands of tiny scenarios a second, participants stopped for ever among them, with marks for S1, a
//! bound for L2, and the hints and merges verified at the end *without healing* (L2, L3), after a recovery where somebody
//! was stopped.
//!
//! `MATRIX_SCHEDULES` sets how many of each kind are run, `MATRIX_SEED` the first seed.
#![allow(missing_docs)]

mod turns;
mod world;

use atomic_matrix::matrix::heap::{Kind, Lane, Live};
use atomic_matrix::matrix::recovery::Policy as Give;
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;
use turns::{Player, Policy, play};
use world::World;

/// What kind of scenario.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Sort {
    /// A few operations each, of any size, strict or parking.
    Any,
    /// The whole sector is freed by one while the others want single granules.
    Hot,
    /// As `Any`, and one participant stops for ever.
    Stop,
}

/// One scenario; panics with what is wrong.
fn scenario(sort: Sort, seed: u64) {
    let random = &mut Rng::with_seed(seed);
    let hot = sort == Sort::Hot;
    let granules = if hot { [34, 40, 66][random.usize(0..3)] } else { [5, 9, 20, 40, 70, 150][random.usize(0..6)] };
    let players = if hot { 3 } else { random.usize(2..=4) };
    let ceiling = if hot || random.bool() { 0 } else { random.usize(1..=3) };
    let largest = if hot { 1 } else { [1, 4, granules / 3][random.usize(0..3)].max(1) };
    let world = Rc::new(World::new(granules));
    let mut lanes: Vec<Lane> = (1..=players as u16).map(|owner| Lane::with_ceiling(owner, ceiling)).collect();
    let mut live: Vec<Vec<Live>> = vec![vec![]; players];
    for _ in 0..if hot { 1 } else { random.usize(0..12) } {
        let (player, size) = if hot { (0, granules) } else { (random.usize(0..players), random.u32(1..=largest)) };
        live[player].extend(world.allocate(&mut lanes[player], size, 1, Kind::Raw));
    }
    let stop_at = (sort == Sort::Stop).then(|| random.u64(1..150));
    let lanes: Vec<_> = lanes.into_iter().map(|lane| Rc::new(RefCell::new(lane))).collect();
    let hands = lanes.iter().zip(live).enumerate().map(|(number, (lane, mut live))| {
        let (world, lane, mut random) = (world.clone(), lane.clone(), random.fork());
        let body = move || {
            let lane = &mut *lane.borrow_mut();
            for _ in 0..if hot { 1 } else { random.usize(2..8) } {
                let allocates = if hot { number > 0 } else { random.bool() };
                step(&world, lane, &mut live, allocates, largest, ceiling, &mut random);
            }
        };
        match stop_at {
            Some(k) if number == 0 => Player::stopped_at(body, k),
            _ => Player::new(body),
        }
    });
    let hands = hands.collect();
    let policy = Policy::draw(random, 120 * players as u64);
    let stopped = play(hands, policy, random)[0].stopped;
    assert_eq!(world.heap.tally().expect("S4").granules, granules as u64, "S4");
    if stopped {
        world.heap.recover(&mut Lane::with_ceiling(7, 0), 1, Give::GiveBack);
    }
    for lane in &lanes[stopped as usize..] {
        world.heap.flush(&mut lane.borrow_mut());
    }
    // Every free block is hinted and no merge was missed, though nobody has healed.
    world.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
}

fn step(
    world: &World,
    lane: &mut Lane,
    live: &mut Vec<Live>,
    allocates: bool,
    largest: u32,
    ceiling: usize,
    random: &mut Rng,
) {
    if allocates {
        let roomy = || largest == 1 && ceiling == 0 && world.live() + 9 <= world.granules();
        let before = roomy();
        let align = if random.u32(0..6) == 0 { 2 } else { 1 };
        match world.allocate(lane, random.u32(1..=largest), align, Kind::Raw) {
            Some(block) => live.push(block),
            None => assert!(!(before && roomy()), "L2: {} of {} granules are live", world.live(), world.granules()),
        }
    } else if !live.is_empty() {
        let block = live.swap_remove(random.usize(0..live.len()));
        world.free(lane, block);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

fn play_many(sort: Sort) {
    let (first, count) = (number("MATRIX_SEED", 0), number("MATRIX_SCHEDULES", 20_000));
    for seed in first..first + count {
        if let Err(payload) = std::panic::catch_unwind(|| scenario(sort, seed)) {
            eprintln!("replay: MATRIX_SEED={seed} MATRIX_SCHEDULES=1 cargo test --test schedules");
            std::panic::resume_unwind(payload);
        }
    }
    println!("{sort:?}: {count} schedules from seed {first}");
}

#[test]
fn schedules_s1_s4_l3_any_operations() {
    play_many(Sort::Any);
}

#[test]
fn schedules_l2_l3_one_frees_all_while_others_want_little() {
    play_many(Sort::Hot);
}

#[test]
fn schedules_c1_one_stops_for_ever() {
    play_many(Sort::Stop);
}
