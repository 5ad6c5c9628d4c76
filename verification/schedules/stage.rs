//! Where the scenes of the structures are played: under the schedules of `turns`, or under shuttle's. And what all
//! scenes have in common: a heap with one structure, a recovery, the end.

#![allow(dead_code, reason = "each test binary uses a part")]

use atomic_matrix::backend::Backend;
use atomic_matrix::check::turns::{self, Scheduled, Scheduling};
use atomic_matrix::ipc::structure::{Role, Shape, Structure};
use atomic_matrix::matrix::heap::{Heap, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use atomic_matrix::segment::size_class::Larges;
use fastrand::Rng;

/// What a player does, and the access before which it stops for ever (from 0).
pub(crate) struct Player {
    pub(crate) body: Box<dyn FnOnce()>,
    pub(crate) stop_at: Option<u64>,
}

impl Player {
    /// Plays to its end.
    pub(crate) fn new(body: impl FnOnce() + 'static) -> Self {
        Self { body: Box::new(body), stop_at: None }
    }
    /// Stops for ever before its access number `k`.
    pub(crate) fn stopped_at(body: impl FnOnce() + 'static, k: u64) -> Self {
        Self { body: Box::new(body), stop_at: Some(k) }
    }
}

/// A backend whose accesses are taken in an order that a seed decides.
pub(crate) trait Stage: Backend + 'static {
    /// Lets the players play to their ends, and says which of them were stopped.
    fn play(players: Vec<Player>, policy: Scheduling, random: &mut Rng) -> Vec<bool>;
    /// The same with a store buffer for each player, where the backend has such.
    fn play_buffered(players: Vec<Player>, policy: Scheduling, random: &mut Rng) -> Vec<bool> {
        Self::play(players, policy, random)
    }
    /// One plays alone, the others stopped wherever they are.
    fn alone(player: Player) {
        Self::play(vec![player], Scheduling::Bursts, &mut Rng::with_seed(0));
    }
}

impl Stage for Scheduled {
    fn play(players: Vec<Player>, policy: Scheduling, random: &mut Rng) -> Vec<bool> {
        turns::play(seated(players), policy, random).iter().map(|end| end.stopped).collect()
    }
    fn play_buffered(players: Vec<Player>, policy: Scheduling, random: &mut Rng) -> Vec<bool> {
        let processes = vec![1; players.len()];
        turns::play_buffered(seated(players), &processes, policy, random).iter().map(|end| end.stopped).collect()
    }
}

fn seated(players: Vec<Player>) -> Vec<turns::Player> {
    let seat = |Player { body, stop_at }: Player| match stop_at {
        Some(k) => turns::Player::stopped_at(body, k),
        None => turns::Player::new(body),
    };
    players.into_iter().map(seat).collect()
}

/// A heap of so many granules, the first `payload` of which have words.
pub(crate) fn heap<B: Backend>(participants: usize, granules: u32, payload: u32, biased: bool) -> Heap<BoxedRegion<B>> {
    let params = Params {
        granule_shift: 6,
        participants,
        batches: 1,
        directory: 3,
        header_words: 2,
        line_words: 1,
        biased,
        larges: Larges::USUAL,
    };
    turns::begin();
    Heap::format(BoxedRegion::with_payload(Layout::new(granules, params), payload))
}

/// A structure that everybody knows.
pub(crate) fn make<R: Region>(heap: &Heap<R>, shape: Shape) -> Live {
    let made = Structure::make(heap, &mut ThreadCache::with_ceiling(1, 0), shape).expect("there is room");
    let header = heap.adoption().rename(made.at, made.header, 0).expect("it is ours");
    Live { at: made.at, header }
}

/// Comes to a structure.
pub(crate) fn enter<R: Region>(heap: &Heap<R>, structure: Live, me: u16) {
    turns::unseen(|| {
        let joined = Structure::visit(heap, me, structure, |structure| structure.join(me, Role::User));
        assert_eq!(joined, Some(Ok(())));
    });
}

/// Recovers the dead, one after the other.
pub(crate) fn recover<R: Region>(heap: &Heap<R>, me: u16, dead: &[u16]) {
    let cache = &mut ThreadCache::with_ceiling(me, 0);
    dead.iter().for_each(|&dead| _ = heap.recoveries().recover(cache, dead, Give::GiveBack));
}

/// Whoever is left leaves, and the structure is removed: nothing is left of it, nor of anything else.
pub(crate) fn remove<R: Region>(heap: &Heap<R>, last: u16, structure: Live, users: &[u16]) {
    let at = || Structure::at(heap, structure).expect("it is there");
    users.iter().for_each(|&user| at().leave(user, Role::User));
    assert_eq!(at().count(Role::User), 0, "Q6");
    assert_eq!(Structure::visit(heap, last, structure, |structure| structure.remove()), Some(()));
    let cache = &mut ThreadCache::with_ceiling(last, 0);
    heap.heal(cache);
    Structure::drain_removed(heap, cache, structure);
    assert!(Structure::free_if_unused(heap, cache, structure), "Q6: nobody uses it");
    let tally = heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    assert_eq!((tally.live.blocks, tally.free.blocks), (0, 1), "{tally:?}");
}
