//! A heap with one service under the schedule: its channel, a ring for each client, and what everybody has
//! asked and answered.

use crate::stage;
use atomic_matrix::backend::orderings::BELL_LOOK;
use atomic_matrix::backend::{Backend, Word};
use atomic_matrix::check::turns::{accesses, unseen};
use atomic_matrix::ipc::call::{Asked, CallStatus, Caller, Calls, NotAnswered, Part};
use atomic_matrix::ipc::link::Standing;
use atomic_matrix::ipc::ring::{NotSent, Ring};
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::ipc::wait::{Bell, fence_of_sleepers};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::region::BoxedRegion;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

const NUMBERS: usize = 10;
const GRANULES: u32 = 128;
const RESPONSES: u32 = 9;
/// Looks of a sleeper whether it was rung for, and sleeps.
const SLEEP: u64 = 400;
const SLEEPS: u64 = 4;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open(Asked),
    Answered,
    Unanswered,
}

pub(crate) struct Scene<B: Backend> {
    pub(crate) heap: Heap<BoxedRegion<B>>,
    service: Live,
    /// Each client's ring.
    rings: RefCell<BTreeMap<u16, Live>>,
    /// The last call of each client, and how it ended.
    calls: RefCell<BTreeMap<u16, (u64, Fate)>>,
    /// Calls that were answered: client and call. Those that a living server dropped.
    answered: RefCell<Vec<(u16, u64)>>,
    dropped: RefCell<Vec<(u16, u64)>>,
    /// What each server works at.
    works: Vec<Cell<Option<Live>>>,
    marks: RefCell<Vec<u16>>,
    /// A client that sleeps, and how often its bell was rung before.
    asleep: Cell<Option<(u16, u64)>>,
    pub(crate) most: Cell<u64>,
    pub(crate) told: Cell<u64>,
    pub(crate) late: Cell<u64>,
}

impl<B: Backend> Scene<B> {
    /// A service with room for `1 << shift` requests.
    pub(crate) fn new(shift: u32, biased: bool) -> Self {
        let heap = stage::heap(NUMBERS, GRANULES, GRANULES, biased);
        let service = stage::make(&heap, Shape { sort: Sort::Channel, cells_shift: shift, readers: 0, content: 7 });
        Self {
            heap,
            service,
            rings: RefCell::default(),
            calls: RefCell::default(),
            answered: RefCell::default(),
            dropped: RefCell::default(),
            works: (0..=NUMBERS).map(|_| Cell::default()).collect(),
            marks: RefCell::new(vec![0; GRANULES as usize]),
            asleep: Cell::default(),
            most: Cell::new(0),
            told: Cell::new(0),
            late: Cell::new(0),
        }
    }

    fn requests(&self) -> Structure<'_, BoxedRegion<B>> {
        unseen(|| Structure::at(&self.heap, self.service).expect("it is there"))
    }
    pub(crate) fn enter(&self, me: u16) {
        stage::enter(&self.heap, self.service, me);
    }

    /// A client's ring of one response, which it makes first.
    pub(crate) fn make_ring(&self, me: u16) {
        let shape = Shape { sort: Sort::Channel, cells_shift: 0, readers: 0, content: RESPONSES };
        let made = Structure::make(&self.heap, &mut ThreadCache::with_ceiling(me, 0), shape).expect("there is room");
        let ring = Structure::at(&self.heap, made).expect("it is ours");
        assert_eq!(ring.join(me, Role::User), Ok(()));
        ring.hide();
        let header = self.heap.adoption().rename(made.at, made.header, 0).expect("it is ours");
        self.rings.borrow_mut().insert(me, Live { at: made.at, header });
    }
    /// The client leaves: its ring is freed, by itself or by whoever visits it.
    pub(crate) fn leave(&self, me: u16) {
        let Some(live) = self.rings.borrow_mut().remove(&me) else { return };
        let cache = &mut ThreadCache::with_ceiling(me, 0);
        unseen(|| Structure::at(&self.heap, live).expect("it is there")).leave(me, Role::User);
        Structure::drain_removed(&self.heap, cache, live);
        Structure::free_if_unused(&self.heap, cache, live);
        self.calls.borrow_mut().remove(&me);
    }
    fn calls(&self, me: u16) -> Calls<'_, BoxedRegion<B>> {
        let ring = self.rings.borrow()[&me];
        unseen(|| Calls::of(self.requests(), Structure::at(&self.heap, ring).expect("it is there"), ring))
    }

    fn allocate(&self, cache: &mut ThreadCache) -> Option<Live> {
        let live = self.heap.allocate(cache, 1, 1, Kind::Typed(5)).ok()?;
        let had = std::mem::replace(&mut self.marks.borrow_mut()[live.at.index()], cache.owner());
        assert_eq!(had, 0, "Q1: another's");
        Some(live)
    }
    fn gives(&self, live: Live) {
        self.marks.borrow_mut()[live.at.index()] = 0;
    }
    fn free(&self, cache: &mut ThreadCache, live: Live) {
        self.gives(live);
        self.heap.free(cache, live.at, Some(live.header.generation())).expect("Q1: it is live and ours");
    }
    /// A participant has died: whatever it held may be given to others.
    pub(crate) fn bury(&self, dead: u16) {
        self.marks.borrow_mut().iter_mut().filter(|mark| **mark == dead).for_each(|mark| *mark = 0);
        self.rings.borrow_mut().remove(&dead);
        self.calls.borrow_mut().remove(&dead);
        self.works[dead as usize].set(None);
    }

    /// Asks anew, whatever became of the last call.
    pub(crate) fn ask(&self, me: u16) {
        let cache = &mut ThreadCache::with_ceiling(me, 0);
        let call = self.calls.borrow().get(&me).map_or(1, |(call, _)| call + 1);
        let Some(block) = self.allocate(cache) else { return };
        self.gives(block);
        let before = accesses();
        match self.calls(me).ask(me, block, call) {
            Ok(asked) => _ = self.calls.borrow_mut().insert(me, (call, Fate::Open(asked))),
            Err(NotSent::Full) => {
                self.marks.borrow_mut()[block.at.index()] = me;
                self.free(cache, block);
            }
            Err(other) => panic!("{other:?}"),
        }
        self.most.set(self.most.get().max(accesses() - before));
    }
    /// One look at the client's call: true if it has ended.
    pub(crate) fn look(&self, me: u16) -> bool {
        let Some(&(call, Fate::Open(asked))) = self.calls.borrow().get(&me) else { return true };
        let cache = &mut ThreadCache::with_ceiling(me, 0);
        let before = accesses();
        let found = self.calls(me).look(cache, asked);
        self.most.set(self.most.get().max(accesses() - before));
        let fate = match found {
            CallStatus::Response(taken, part) => {
                assert_eq!(part, Part::Last);
                assert!(self.answered.borrow().contains(&(me, call)), "Q1: a response to another call");
                self.marks.borrow_mut()[taken.live.at.index()] = me;
                self.free(cache, taken.live);
                Fate::Answered
            }
            CallStatus::Waits | CallStatus::Worked(_) => return false,
            CallStatus::Unanswered => {
                assert!(!self.answered.borrow().contains(&(me, call)), "Q3: an answer is lost");
                self.told.set(self.told.get() + 1);
                Fate::Unanswered
            }
        };
        self.calls.borrow_mut().insert(me, (call, fate));
        true
    }

    fn bell(&self, me: u16) -> Bell<'_, B> {
        let ring = self.rings.borrow()[&me];
        unseen(|| Structure::at(&self.heap, ring).expect("it is there")).bell(Role::Receiver)
    }
    /// The client sleeps until its call has ended, or until it was rung for so often.
    pub(crate) fn sleep(&self, me: u16) {
        for _ in 0..SLEEPS {
            let counted = self.bell(me).count_in();
            fence_of_sleepers::<B>();
            let ended = self.look(me);
            self.asleep.set((!ended && counted.counts).then_some((me, counted.heard)));
            let rung = ended || !counted.counts || (0..SLEEP).any(|_| self.bell(me).has_rung(counted));
            if !rung {
                return;
            }
            self.bell(me).leave(counted);
            if ended {
                return;
            }
        }
    }
    /// At rest: a client that sleeps, and was not rung for since it fell asleep, waits for what is still to come.
    pub(crate) fn nobody_oversleeps(&self) {
        unseen(|| {
            let Some((me, heard)) = self.asleep.take() else { return };
            if self.bell(me).rings.load(&BELL_LOOK) == heard {
                assert!(!self.look(me), "Q5: a client sleeps on, and its call has ended");
            }
        });
    }

    /// Whose ring a request names.
    fn client_of(&self, request: Live) -> Option<u16> {
        let caller = unseen(|| self.heap.caller(request));
        self.rings.borrow().iter().find(|(_, ring)| caller.has(**ring)).map(|(&client, _)| client)
    }

    /// Receives a request, and answers it, or drops it. True if there was one.
    pub(crate) fn serve(&self, me: u16, answers: bool) -> bool {
        let cache = &mut ThreadCache::with_ceiling(me, 0);
        let Ok(taken) = Ring::of(self.requests()).receive(me) else { return false };
        self.marks.borrow_mut()[taken.live.at.index()] = me;
        self.works[me as usize].set(Some(taken.live));
        let caller: Caller = self.heap.caller(taken.live);
        let client = self.client_of(taken.live);
        if answers && self.heap.is_awaited(cache, caller, RESPONSES) {
            let Some(response) = self.allocate(cache) else { panic!("there is room") };
            self.gives(response);
            let before = accesses();
            // Before it can be seen.
            let key = client.map(|client| (client, caller.call));
            self.answered.borrow_mut().extend(key);
            let answered = self.heap.answer(cache, caller, RESPONSES, (response, Part::Last), |_, attempt| attempt());
            self.most.set(self.most.get().max(accesses() - before));
            if let Err(why) = answered {
                assert!(why != NotAnswered::NotOwn);
                self.late.set(self.late.get() + 1);
                self.answered.borrow_mut().retain(|known| Some(*known) != key);
                self.marks.borrow_mut()[response.at.index()] = me;
                self.free(cache, response);
            }
        } else {
            self.dropped.borrow_mut().extend(client.map(|client| (client, caller.call)));
        }
        self.works[me as usize].set(None);
        self.free(cache, taken.live);
        true
    }

    /// The dead server's answer may have been sent or not: whether its client gets it is not known.
    pub(crate) fn forget_answers_of(&self, dead: u16) {
        let Some(request) = self.works[dead as usize].get() else { return };
        let caller = unseen(|| self.heap.caller(request));
        let (Some(client), ring) = (self.client_of(request), caller) else { return };
        let stands = unseen(|| {
            let live = self.rings.borrow()[&client];
            let ring = Structure::at(&self.heap, live).expect("it is there");
            Ring::of(ring).links().any(|(_, standing)| standing != Standing::Void)
        });
        let got = matches!(self.calls.borrow().get(&client), Some((call, Fate::Answered)) if *call == ring.call);
        if !stands && !got {
            self.answered.borrow_mut().retain(|known| *known != (client, ring.call));
        }
    }

    /// At rest, with the dead recovered: nobody works at anything, and each call has ended, or waits in the channel.
    pub(crate) fn calls_have_ended(&self) {
        unseen(|| {
            let clients: Vec<u16> = self.calls.borrow().keys().copied().collect();
            for client in clients {
                if !self.look(client) {
                    let (call, Fate::Open(asked)) = self.calls.borrow()[&client] else { panic!("it is open") };
                    let cache = &mut ThreadCache::with_ceiling(client, 0);
                    assert_eq!(self.calls(client).look(cache, asked), CallStatus::Waits, "Q3: call {call} of {client}");
                }
            }
        });
    }

    /// Everybody leaves: nothing is left but the service, and nothing of that once it is removed.
    pub(crate) fn nothing_is_left(&self, last: u16, users: &[u16]) {
        unseen(|| {
            let clients: Vec<u16> = self.rings.borrow().keys().copied().collect();
            clients.into_iter().for_each(|client| self.leave(client));
            while self.serve(last, true) {}
            let cache = &mut ThreadCache::with_ceiling(last, 0);
            self.heap.heal(cache);
            let tally = self.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
            assert_eq!(tally.live.blocks, 1, "Q3: what is live is the service: {tally:?}");
            stage::remove(&self.heap, last, self.service, users);
        });
    }
}
