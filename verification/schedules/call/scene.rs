//! A heap with one service under the schedule: its channel, a ring for each client, and what everybody has
//! asked and answered.

use crate::stage;
use atomic_matrix::backend::orderings::{BELL_LOOK, LABEL_LOOK, LABEL_WRITE};
use atomic_matrix::backend::{Backend, Word};
use atomic_matrix::check::turns::{accesses, unseen};
use atomic_matrix::ipc::call::{Asked, Attempt, CallStatus, Caller, Calls, NotAnswered, Part};
use atomic_matrix::ipc::link::Standing;
use atomic_matrix::ipc::ring::{NotSent, Ring};
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::ipc::wait::{Bell, fence_of_sleepers};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

const NUMBERS: usize = 10;
const GRANULES: u32 = 160;
const RESPONSES: u32 = 9;
/// Looks of a sleeper whether it was rung for, and sleeps.
const SLEEP: u64 = 400;
const SLEEPS: u64 = 8;
/// A server's tries to put a response into a ring that is full.
const PATIENCE: usize = 12;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// So many responses to it were taken.
    Open(Asked, usize),
    /// The last one was taken, or whoever asked was told that none comes, or gave up.
    Over,
}

/// What a client finds when it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A response, behind which others come.
    More,
    /// The call is over.
    End,
}

/// A response to a call: its block and generation, and whether its server knows that it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    block: (Granule, u32),
    part: Part,
    stands: bool,
}

pub(crate) struct Scene<B: Backend> {
    pub(crate) heap: Heap<BoxedRegion<B>>,
    service: Live,
    /// Each client's ring.
    rings: RefCell<BTreeMap<u16, Live>>,
    /// The last call of each client, and how it ended.
    calls: RefCell<BTreeMap<u16, (u64, Fate)>>,
    /// The responses to each call of a client, in their order.
    sent: RefCell<BTreeMap<(u16, u64), Vec<Sent>>>,
    /// What each server works at.
    works: Vec<Cell<Option<Live>>>,
    marks: RefCell<Vec<u16>>,
    /// A client that sleeps, and how often its bell was rung before.
    asleep: Cell<Option<(u16, u64)>>,
    pub(crate) most: Cell<u64>,
    pub(crate) told: Cell<u64>,
    pub(crate) late: Cell<u64>,
    /// Streams that were taken to their end, of several responses; and responses for which there was no room.
    pub(crate) streams: Cell<u64>,
    pub(crate) full: Cell<u64>,
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
            sent: RefCell::default(),
            works: (0..=NUMBERS).map(|_| Cell::default()).collect(),
            marks: RefCell::new(vec![0; GRANULES as usize]),
            asleep: Cell::default(),
            most: Cell::new(0),
            told: Cell::new(0),
            late: Cell::new(0),
            streams: Cell::new(0),
            full: Cell::new(0),
        }
    }

    fn requests(&self) -> Structure<'_, BoxedRegion<B>> {
        unseen(|| Structure::at(&self.heap, self.service).expect("it is there"))
    }
    pub(crate) fn enter(&self, me: u16) {
        stage::enter(&self.heap, self.service, me);
    }

    /// A client's ring of so many responses, which it makes first.
    pub(crate) fn make_ring(&self, me: u16, cells_shift: u32) {
        let shape = Shape { sort: Sort::Channel, cells_shift, readers: 0, content: RESPONSES };
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
            Ok(asked) => _ = self.calls.borrow_mut().insert(me, (call, Fate::Open(asked, 0))),
            Err(NotSent::Full) => {
                self.marks.borrow_mut()[block.at.index()] = me;
                self.free(cache, block);
            }
            Err(other) => panic!("{other:?}"),
        }
        self.most.set(self.most.get().max(accesses() - before));
    }
    /// One look at the client's call.
    pub(crate) fn look(&self, me: u16) -> Found {
        let Some(&(call, Fate::Open(asked, taken))) = self.calls.borrow().get(&me) else { return Found::End };
        let cache = &mut ThreadCache::with_ceiling(me, 0);
        let before = accesses();
        let found = self.calls(me).look(cache, asked);
        self.most.set(self.most.get().max(accesses() - before));
        let fate = match found {
            CallStatus::Response(got, part) => {
                self.is_next(cache, (me, call), taken, (got.live, part));
                // There is room for another.
                self.bell(me, Role::Sender).ring(1);
                match part {
                    Part::More => Fate::Open(asked, taken + 1),
                    Part::Last | Part::End => {
                        self.streams.set(self.streams.get() + u64::from(taken > 0));
                        Fate::Over
                    }
                }
            }
            CallStatus::Waits | CallStatus::Worked(_) => return Found::Nothing,
            CallStatus::Unanswered => {
                let sent = self.sent.borrow();
                let left = sent.get(&(me, call)).and_then(|sent| sent.get(taken)).filter(|next| next.stands);
                assert_eq!(left, None, "Q3: an answer is lost");
                self.told.set(self.told.get() + 1);
                Fate::Over
            }
        };
        self.calls.borrow_mut().insert(me, (call, fate));
        if fate == Fate::Over { Found::End } else { Found::More }
    }
    /// A response is the next one to the call, whole, and its client's, which frees it.
    fn is_next(&self, cache: &mut ThreadCache, key: (u16, u64), taken: usize, (live, part): (Live, Part)) {
        let next = self.sent.borrow().get(&key).and_then(|sent| sent.get(taken).copied());
        let block = (live.at, live.header.generation());
        let found = next.map(|next| (next.block, next.part));
        assert_eq!(found, Some((block, part)), "Q1, Q2: the response {taken} to the call {key:?}");
        let value = self.value(live).load(&LABEL_LOOK);
        assert_eq!(value, key.1 << 8 | taken as u64, "S3: what its server has written");
        self.marks.borrow_mut()[live.at.index()] = key.0;
        self.free(cache, live);
    }
    /// The client waits for its call no more.
    pub(crate) fn give_up(&self, me: u16) {
        let Some(&(call, Fate::Open(..))) = self.calls.borrow().get(&me) else { return };
        self.calls(me).give_up();
        self.bell(me, Role::Sender).ring_after_store(u32::MAX);
        self.calls.borrow_mut().insert(me, (call, Fate::Over));
    }
    /// What is in a response.
    fn value(&self, live: Live) -> &B::Word {
        &self.heap.region().payload(live.at, 1).expect("it has payload")[0]
    }

    fn bell(&self, me: u16, role: Role) -> Bell<'_, B> {
        let ring = self.rings.borrow()[&me];
        unseen(|| Structure::at(&self.heap, ring).expect("it is there")).bell(role)
    }
    /// The client sleeps until its call has ended, or until it was rung for so often.
    pub(crate) fn sleep(&self, me: u16) {
        for _ in 0..SLEEPS {
            let counted = self.bell(me, Role::Receiver).count_in();
            fence_of_sleepers::<B>();
            let found = self.look(me);
            let finds = found != Found::Nothing;
            self.asleep.set((!finds && counted.counts).then_some((me, counted.heard)));
            let rung = finds || !counted.counts || (0..SLEEP).any(|_| self.bell(me, Role::Receiver).has_rung(counted));
            if !rung {
                return;
            }
            self.bell(me, Role::Receiver).leave(counted);
            if found == Found::End {
                return;
            }
        }
    }
    /// At rest: a client that sleeps, and was not rung for since it fell asleep, waits for what is still to come.
    pub(crate) fn nobody_oversleeps(&self) {
        unseen(|| {
            let Some((me, heard)) = self.asleep.take() else { return };
            if self.bell(me, Role::Receiver).rings.load(&BELL_LOOK) == heard {
                assert_eq!(self.look(me), Found::Nothing, "Q5: a client sleeps on beside what it waits for");
            }
        });
    }

    /// Whose ring a request names.
    fn client_of(&self, request: Live) -> Option<u16> {
        let caller = unseen(|| self.heap.caller(request));
        self.rings.borrow().iter().find(|(_, ring)| caller.has(**ring)).map(|(&client, _)| client)
    }

    /// Receives a request, and answers it with these parts, or as many as there is room for, and drops it. True if
    /// there was one.
    pub(crate) fn serve(&self, me: u16, parts: &[Part]) -> bool {
        let cache = &mut ThreadCache::with_ceiling(me, 0);
        let Ok(taken) = Ring::of(self.requests()).receive(me) else { return false };
        self.marks.borrow_mut()[taken.live.at.index()] = me;
        self.works[me as usize].set(Some(taken.live));
        let caller: Caller = self.heap.caller(taken.live);
        // A client that asks no more gets nothing.
        let client = self.client_of(taken.live);
        if !parts.is_empty() && self.heap.is_awaited(cache, caller, RESPONSES) {
            let mut sent = parts.iter().enumerate();
            while sent.next().is_some_and(|(number, &part)| self.answer(cache, (client, caller), (number, part))) {}
        }
        self.works[me as usize].set(None);
        self.free(cache, taken.live);
        true
    }

    /// Sends one response of a request's. True if it was sent.
    fn answer(
        &self,
        cache: &mut ThreadCache,
        (client, caller): (Option<u16>, Caller),
        (number, part): (usize, Part),
    ) -> bool {
        let Some(response) = self.allocate(cache) else { panic!("there is room") };
        self.value(response).store(caller.call << 8 | number as u64, &LABEL_WRITE);
        self.gives(response);
        let key = (client.unwrap_or(0), caller.call);
        let block = (response.at, response.header.next_generation());
        // Before it can be seen.
        self.sent.borrow_mut().entry(key).or_default().push(Sent { block, part, stands: false });
        let patient = |_: &Structure<'_, _>, attempt: Attempt<'_>| {
            let tried = (0..PATIENCE).find_map(|_| Some(attempt()).filter(|tried| *tried != Err(NotAnswered::Full)));
            tried.unwrap_or(Err(NotAnswered::Full))
        };
        let before = accesses();
        let answered = self.heap.answer(cache, caller, RESPONSES, (response, part), patient);
        self.most.set(self.most.get().max(accesses() - before));
        let last = |sent: &mut Vec<Sent>| match answered {
            Ok(()) => sent.last_mut().expect("it is noted").stands = true,
            Err(_) => _ = sent.pop(),
        };
        last(self.sent.borrow_mut().get_mut(&key).expect("it is noted"));
        if let Err(why) = answered {
            assert!(why != NotAnswered::NotOwn);
            let count = if why == NotAnswered::Full { &self.full } else { &self.late };
            count.set(count.get() + 1);
            self.marks.borrow_mut()[response.at.index()] = cache.owner();
            self.free(cache, response);
        }
        answered.is_ok()
    }

    /// Of the response that a dead server was just sending its client learns only if its link stands.
    pub(crate) fn settle_answers_of(&self, dead: u16) {
        let Some(request) = self.works[dead as usize].get() else { return };
        let caller = unseen(|| self.heap.caller(request));
        let Some(client) = self.client_of(request) else { return };
        let links: Vec<_> = unseen(|| {
            let live = self.rings.borrow()[&client];
            let ring = Structure::at(&self.heap, live).expect("it is there");
            Ring::of(ring).links().filter(|(_, standing)| *standing != Standing::Void).map(|(link, _)| link).collect()
        });
        let mut all = self.sent.borrow_mut();
        let Some(sent) = all.get_mut(&(client, caller.call)) else { return };
        sent.iter_mut()
            .for_each(|one| one.stands |= links.iter().any(|link| (link.at(), link.generation()) == one.block));
    }

    /// At rest, with the dead recovered: nobody works at anything, and each call has ended, or waits in the channel.
    pub(crate) fn calls_have_ended(&self) {
        unseen(|| {
            let clients: Vec<u16> = self.calls.borrow().keys().copied().collect();
            for client in clients {
                if (0..).map(|_| self.look(client)).find(|found| *found != Found::More) == Some(Found::Nothing) {
                    let (call, Fate::Open(asked, _)) = self.calls.borrow()[&client] else { panic!("it is open") };
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
            while self.serve(last, &[Part::Last]) {}
            let cache = &mut ThreadCache::with_ceiling(last, 0);
            self.heap.heal(cache);
            let tally = self.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
            assert_eq!(tally.live.blocks, 1, "Q3: what is live is the service: {tally:?}");
            stage::remove(&self.heap, last, self.service, users);
        });
    }
}
