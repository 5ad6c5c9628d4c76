//! Bells, and the ring of one sender and one receiver, on processors with store buffers. What x86 does without a fence, the
//! machine does without one: behind a read-modify-write `fence_behind_rmw` drains nothing.
//!
//! A sleeper does not sleep here: it looks again and again whether the bell was rung, as whoever is asleep is woken by
//! that alone. At the end nobody may look in vain beside what it waits for.

use crate::stage;
use atomic_matrix::backend::orderings::{AWAITED_LOOK, AWAITED_WRITE, BELL_LOOK, SYNC_HINT};
use atomic_matrix::backend::{Backend, Word};
use atomic_matrix::check::turns::{Player, Scheduled, Scheduling, begin, play_buffered, unseen};
use atomic_matrix::ipc::ring::{NotReceived, NotSent, Ring};
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::ipc::sync::semaphore::Permits;
use atomic_matrix::ipc::wait::{Bell, fence_of_sleepers};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::region::BoxedRegion;
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;

type ScheduledWord = <Scheduled as Backend>::Word;

/// How often who is asleep looks whether it was woken.
const LOOKS: usize = 80;

/// Who fell asleep and was not woken while it played: what it had heard of the bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Found,
    Asleep(u64),
}

/// The steps of `Bell::wait`.
fn wait(bell: Bell<'_, Scheduled>, mut attempt: impl FnMut() -> bool) -> Waited {
    loop {
        let counted = bell.count_in();
        fence_of_sleepers::<Scheduled>();
        let found = attempt();
        let asleep = !found && counted.counts && !(0..LOOKS).any(|_| bell.has_rung(counted));
        if asleep {
            return Waited::Asleep(counted.heard);
        }
        bell.leave(counted);
        if found {
            return Waited::Found;
        }
    }
}

/// A bell, permits, which are given by a read-modify-write, and a flag for each ringer, which it stores.
struct Scene {
    permits: ScheduledWord,
    flags: [ScheduledWord; 2],
    rings: ScheduledWord,
    sleepers: ScheduledWord,
}

impl Scene {
    fn bell(&self) -> Bell<'_, Scheduled> {
        Bell::new(&self.rings, &self.sleepers)
    }
    /// What a sleeper waits for: a permit, which it takes, or a flag.
    fn try_for(&self, flag: Option<usize>) -> bool {
        match flag {
            Some(flag) => self.flags[flag].load(&AWAITED_LOOK) == 1,
            None => Permits { count: &self.permits, bell: self.bell() }.try_take(),
        }
    }
    fn is_there(&self, flag: Option<usize>) -> bool {
        match flag {
            Some(flag) => self.flags[flag].load(&AWAITED_LOOK) == 1,
            None => self.permits.load(&SYNC_HINT) > 0,
        }
    }
}

/// Some wait for a permit or a flag, one of whom may stop for ever; others put those, and ring. Whether anybody fell asleep.
pub(crate) fn bells(seed: u64) -> bool {
    let random = &mut Rng::with_seed(seed);
    begin();
    let [permits, first, second, rings, sleepers] = [(); 5].map(|()| Scheduled::word(0));
    let scene = Rc::new(Scene { permits, flags: [first, second], rings, sleepers });
    let ended = Rc::new(RefCell::new(vec![]));
    let mut hands = vec![];
    for number in 0..random.usize(1..=2) {
        let (scene, ended, flag) = (scene.clone(), ended.clone(), [None, Some(0), Some(1)][random.usize(0..3)]);
        let body = move || {
            let waited = wait(scene.bell(), || scene.try_for(flag));
            ended.borrow_mut().push((flag, waited));
        };
        let dies = number == 0 && random.u32(0..4) == 0;
        hands.push(if dies { Player::stopped_at(body, random.u64(0..12)) } else { Player::new(body) });
    }
    for number in 0..random.usize(1..=2) {
        let (scene, mut random) = (scene.clone(), random.fork());
        hands.push(Player::new(move || {
            for _ in 0..random.usize(1..=3) {
                if random.bool() {
                    scene.flags[number].store(1, &AWAITED_WRITE);
                    scene.bell().ring_after_store(u32::MAX);
                } else {
                    Permits { count: &scene.permits, bell: scene.bell() }.give(1);
                }
            }
        }));
    }
    let processes = vec![1; hands.len()];
    let policy = Scheduling::draw(random, 20 * hands.len() as u64);
    play_buffered(hands, &processes, policy, random);
    let (ended, now) = (ended.borrow(), scene.rings.load(&BELL_LOOK));
    for (flag, waited) in ended.iter() {
        let oversleeps = *waited == Waited::Asleep(now) && scene.is_there(*flag);
        assert!(!oversleeps, "Q5: asleep beside what it waits for");
    }
    ended.iter().any(|(_, waited)| *waited != Waited::Found)
}

struct Single {
    heap: Heap<BoxedRegion<Scheduled>>,
    channel: Live,
}

impl Single {
    fn structure(&self) -> Structure<'_, BoxedRegion<Scheduled>> {
        unseen(|| Structure::at(&self.heap, self.channel).expect("it is there"))
    }
    /// Sends its messages, asleep while there is no room.
    fn send(&self, me: u16, messages: u32, ended: &RefCell<Vec<(Role, Waited)>>) {
        let (structure, cache) = (self.structure(), &mut ThreadCache::with_ceiling(me, 0));
        assert_eq!(structure.take_role(me, Role::Sender), Ok(()));
        for _ in 0..messages {
            let block = self.heap.allocate(cache, 1, 1, Kind::Raw).expect("L2: there is room");
            let waited = wait(structure.bell(Role::Sender), || match Ring::of(structure).send(me, block) {
                Ok(()) => true,
                Err(NotSent::Full) => false,
                Err(other) => panic!("Q2: {other:?}"),
            });
            if waited != Waited::Found {
                return ended.borrow_mut().push((Role::Sender, waited));
            }
            structure.bell(Role::Receiver).ring(1);
        }
        structure.drop_role(me, Role::Sender);
    }
    /// Receives so many messages, asleep while there is none.
    fn receive(&self, me: u16, messages: u32, ended: &RefCell<Vec<(Role, Waited)>>, got: &RefCell<Vec<u64>>) {
        let (structure, cache) = (self.structure(), &mut ThreadCache::with_ceiling(me, 0));
        assert_eq!(structure.take_role(me, Role::Receiver), Ok(()));
        for _ in 0..messages {
            let mut taken = None;
            let waited = wait(structure.bell(Role::Receiver), || match Ring::of(structure).receive(me) {
                Ok(one) => taken.replace(one).is_none(),
                Err(NotReceived::Empty) => false,
                Err(other) => panic!("Q2: {other:?}"),
            });
            let Some(taken) = taken else { return ended.borrow_mut().push((Role::Receiver, waited)) };
            structure.bell(Role::Sender).ring(1);
            let Live { at, header } = taken.live;
            got.borrow_mut().push(u64::from(at.0) << 32 | u64::from(header.generation()));
            self.heap.free(cache, at, Some(header.generation())).expect("Q1: it is ours");
        }
        structure.drop_role(me, Role::Receiver);
    }
}

/// One sends and another receives, each asleep where it finds none or no room. Whether anybody fell asleep.
pub(crate) fn single(seed: u64) -> bool {
    const USERS: [u16; 2] = [1, 2];
    let random = &mut Rng::with_seed(seed);
    let heap = stage::heap(8, 64, 16, random.bool());
    let cells_shift = random.u32(0..=1);
    let shape = Shape { sort: Sort::Single, cells_shift, readers: 0, content: 7 };
    let channel = stage::make(&heap, shape);
    let scene = Rc::new(Single { heap, channel });
    USERS.iter().for_each(|&user| stage::enter(&scene.heap, channel, user));
    let (ended, got) = (Rc::new(RefCell::new(vec![])), Rc::new(RefCell::new(vec![])));
    let messages = random.u32(1..=4);
    let sender = {
        let (scene, ended) = (scene.clone(), ended.clone());
        move || scene.send(1, messages, &ended)
    };
    let receiver = {
        let (scene, ended, got) = (scene.clone(), ended.clone(), got.clone());
        move || scene.receive(2, messages, &ended, &got)
    };
    let policy = Scheduling::draw(random, 120);
    play_buffered(vec![Player::new(sender), Player::new(receiver)], &[1, random.u64(1..=2)], policy, random);
    let (structure, ended) = (scene.structure(), ended.borrow());
    for (role, waited) in ended.iter() {
        let now = structure.bell(*role).rings.load(&BELL_LOOK);
        let links = Ring::of(structure).links().count();
        let there = if *role == Role::Receiver { links > 0 } else { links < 1 << cells_shift };
        assert!(*waited != Waited::Asleep(now) || !there, "Q5: the {role:?} is asleep beside what it waits for");
    }
    if ended.is_empty() {
        assert_eq!(got.borrow().len(), messages as usize, "Q3: each is received once");
        let mut again = got.borrow().clone();
        again.sort_unstable();
        again.dedup();
        assert_eq!(again.len(), messages as usize, "Q1: one is received twice");
        stage::remove(&scene.heap, 7, channel, &USERS);
    }
    !ended.is_empty()
}
