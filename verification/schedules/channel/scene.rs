//! A heap with one channel under the schedule, what its players hold, and what they were told.

use crate::linear::{Span, linearizable};
use crate::stage;
use atomic_matrix::backend::Backend;
use atomic_matrix::check::turns::{accesses, moment, unseen};
use atomic_matrix::ipc::held::Hold;
use atomic_matrix::ipc::link::{Standing, Taken};
use atomic_matrix::ipc::ring::{NotReceived, NotSent, Ring};
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::region::BoxedRegion;
use fastrand::Rng;
use std::cell::{Cell, RefCell};

/// Participants.
pub(crate) const NUMBERS: usize = 12;
const GRANULES: u32 = 96;
const PAYLOAD: u32 = 16;
/// Messages that may be held at a time.
const HOLDS: u16 = 4;

/// A call and what came of it. A message is told by its block and the generation under which it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Sent(u64),
    Full,
    Received(u64),
    Empty,
    /// Its caller was killed: it took effect, or did not, before its recovery ended.
    MaySend(u64),
    MayReceive,
    /// What was given back, and waited to be delivered again; that everything is held which may be; that it goes back.
    Again(u64),
    AllHeld,
    GaveBack(u64),
    /// Its caller was killed: it was acknowledged, or goes back; it was sent on, or goes back.
    MayGiveBack(u64),
    SentOnOrBack(u64),
    /// This one was killed: it received something, or did not; if it did, that goes back.
    MayHold(u16),
    Returns(u16),
}

/// What is in the queue, what waits to be delivered again, and what the dead may hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct State {
    queue: Vec<u64>,
    back: Vec<u64>,
    limbo: Vec<(u16, u64)>,
}

impl State {
    fn with(&self, id: u64) -> Self {
        Self { queue: [&*self.queue, &[id]].concat(), ..self.clone() }
    }
    fn rest(&self) -> Self {
        Self { queue: self.queue[1..].to_vec(), ..self.clone() }
    }
    fn given_back(&self, id: u64) -> Self {
        Self { back: [&*self.back, &[id]].concat(), ..self.clone() }
    }
    fn without(&self, id: u64) -> Self {
        Self { back: self.back.iter().copied().filter(|&other| other != id).collect(), ..self.clone() }
    }
    /// What a dead one may have received: the oldest of the queue, or anything that waits. It goes back one
    /// generation on.
    fn held_by(&self, who: u16) -> Vec<Self> {
        let held = |rest: Self, id: u64| Self { limbo: [&*rest.limbo, &[(who, id + 1)]].concat(), ..rest };
        let oldest = self.queue.first().map(|&id| held(self.rest(), id));
        let again = self.back.iter().map(|&id| held(self.without(id), id));
        again.chain(oldest).chain([self.clone()]).collect()
    }
    fn returned(&self, who: u16) -> Self {
        let limbo = |&(of, id): &(u16, u64)| (of == who).then_some(id);
        let mut next = self.clone();
        next.back.extend(self.limbo.iter().filter_map(limbo));
        next.limbo.retain(|(of, _)| *of != who);
        next
    }
}

/// The sequential queue: the states that a call may lead to.
fn after(state: &State, call: Call, n: usize) -> Vec<State> {
    let same = || state.clone();
    let room = state.queue.len() < n;
    match call {
        Call::Sent(id) if room => vec![state.with(id)],
        Call::Full if !room => vec![same()],
        Call::Received(id) if state.queue.first() == Some(&id) => vec![state.rest()],
        Call::Empty if state.queue.is_empty() && state.back.is_empty() => vec![same()],
        Call::MaySend(id) if room => vec![same(), state.with(id)],
        Call::MayReceive if !state.queue.is_empty() => vec![same(), state.rest()],
        Call::MaySend(_) | Call::MayReceive | Call::AllHeld => vec![same()],
        Call::Again(id) if state.back.contains(&id) => vec![state.without(id)],
        Call::GaveBack(id) => vec![state.given_back(id)],
        Call::MayGiveBack(id) => vec![same(), state.given_back(id)],
        Call::SentOnOrBack(id) if room => vec![state.with(id), state.given_back(id)],
        Call::SentOnOrBack(id) => vec![state.given_back(id)],
        Call::MayHold(who) => state.held_by(who),
        Call::Returns(who) => vec![state.returned(who)],
        _ => vec![],
    }
}

/// The channel of a scenario, and what is known of it.
pub(crate) struct Scene<B: Backend> {
    pub(crate) heap: Heap<BoxedRegion<B>>,
    pub(crate) channel: Live,
    n: usize,
    ceiling: usize,
    /// The owner of each granule; 0 is nobody, or the channel (Q1).
    marks: RefCell<Vec<u16>>,
    held: Vec<RefCell<Vec<Live>>>,
    /// Who gave a block, by where it begins.
    givers: RefCell<Vec<u16>>,
    /// What each has received and not acknowledged.
    work: Vec<RefCell<Vec<(Taken, Hold)>>>,
    /// What recoveries give back, and since when.
    returning: RefCell<Vec<(Call, u64)>>,
    history: RefCell<Vec<Span<Call>>>,
    /// Each participant's call in flight, and when it began.
    open: Vec<Cell<Option<(Call, u64)>>>,
    /// The most accesses of a call.
    pub(crate) most: Cell<u64>,
}

fn id_of(live: Live) -> u64 {
    (live.at.0 as u64) << 32 | live.header.generation() as u64
}

impl<B: Backend> Scene<B> {
    /// A channel, or one of a single sender and receiver, of `1 << shift` cells; caches park up to `ceiling`
    /// blocks of a size.
    pub(crate) fn new(sort: Sort, shift: u32, biased: bool, ceiling: usize) -> Self {
        let heap = stage::heap(NUMBERS, GRANULES, PAYLOAD, biased);
        let readers = if sort == Sort::Redelivering { HOLDS } else { 0 };
        let channel = stage::make(&heap, Shape { sort, cells_shift: shift, readers, content: 7 });
        Self {
            heap,
            channel,
            n: 1 << shift,
            ceiling,
            marks: RefCell::new(vec![0; GRANULES as usize]),
            givers: RefCell::new(vec![0; GRANULES as usize]),
            held: (0..=NUMBERS).map(|_| RefCell::default()).collect(),
            work: (0..=NUMBERS).map(|_| RefCell::default()).collect(),
            returning: RefCell::default(),
            history: RefCell::default(),
            open: (0..=NUMBERS).map(|_| Cell::default()).collect(),
            most: Cell::new(0),
        }
    }

    pub(crate) fn cache(&self, me: u16) -> ThreadCache {
        ThreadCache::with_ceiling(me, self.ceiling)
    }
    pub(crate) fn structure(&self) -> Structure<'_, BoxedRegion<B>> {
        Structure::at(&self.heap, self.channel).expect("it is there")
    }
    pub(crate) fn ring(&self) -> Ring<'_, BoxedRegion<B>> {
        Ring::of(self.structure())
    }
    pub(crate) fn join(&self, me: u16) {
        stage::enter(&self.heap, self.channel, me);
    }

    fn claim(&self, me: u16, live: Live) {
        for mark in &mut self.marks.borrow_mut()[live.at.index()..][..live.header.size() as usize] {
            assert_eq!(std::mem::replace(mark, me), 0, "Q1: {me} gets what another has: {live:?}");
        }
    }
    fn give_up(&self, me: u16, live: Live) {
        for mark in &mut self.marks.borrow_mut()[live.at.index()..][..live.header.size() as usize] {
            assert_eq!(std::mem::replace(mark, 0), me, "Q1: {me} has not: {live:?}");
        }
    }
    /// A participant has died: whatever it held may be given to others.
    pub(crate) fn bury(&self, dead: u16) {
        let now = moment();
        for (taken, _) in self.work[dead as usize].borrow_mut().drain(..) {
            self.goes_back(Call::GaveBack(id_of(taken.live) + 1), now);
        }
        if let Some((Call::MayReceive, from)) = self.open[dead as usize].get()
            && self.redelivers()
        {
            self.open[dead as usize].set(None);
            self.history.borrow_mut().push(Span { call: Call::MayHold(dead), from, to: now });
            self.goes_back(Call::Returns(dead), now);
        }
        self.marks.borrow_mut().iter_mut().filter(|mark| **mark == dead).for_each(|mark| *mark = 0);
        self.held[dead as usize].borrow_mut().clear();
    }

    /// Whether what is received is held.
    pub(crate) fn redelivers(&self) -> bool {
        self.structure().shape.sort == Sort::Redelivering
    }
    /// From now on, and before the recovery has ended.
    fn goes_back(&self, call: Call, from: u64) {
        self.returning.borrow_mut().push((call, from));
    }

    /// A block of one or two granules.
    pub(crate) fn allocate(&self, cache: &mut ThreadCache, random: &mut Rng) {
        let kind = if random.bool() { Kind::Raw } else { Kind::Typed(9) };
        let Ok(live) = self.heap.allocate(cache, random.u32(1..=2), 1, kind) else { return };
        self.claim(cache.owner(), live);
        self.givers.borrow_mut()[live.at.index()] = 0;
        unseen(|| {
            let named = self.ring().links().find(|(link, _)| link.at() == live.at);
            assert_eq!(named, None, "Q1: a cell names a block that is used again");
        });
        self.held[cache.owner() as usize].borrow_mut().push(live);
    }
    pub(crate) fn free(&self, cache: &mut ThreadCache) {
        let me = cache.owner();
        let Some(live) = self.held[me as usize].borrow_mut().pop() else { return };
        self.give_up(me, live);
        let giver = std::mem::take(&mut self.givers.borrow_mut()[live.at.index()]);
        if giver != 0 && self.heap.free_to(cache, live, giver) {
            return;
        }
        self.heap.free(cache, live.at, Some(live.header.generation())).expect("Q1: it is live and ours");
    }

    fn begin(&self, me: u16, call: Call) -> u64 {
        self.open[me as usize].set(Some((call, moment())));
        accesses()
    }
    fn end(&self, me: u16, call: Call, before: u64) {
        self.most.set(self.most.get().max(accesses() - before));
        let (_, from) = self.open[me as usize].take().expect("it has begun");
        self.history.borrow_mut().push(Span { call, from, to: moment() });
    }

    /// Does something in a role: where there is one holder of it at a time, only if it is free. It is the
    /// dead one's until that is recovered.
    fn as_one(&self, me: u16, role: Role, act: impl FnOnce() -> bool) -> bool {
        if self.structure().shape.sort != Sort::Single {
            return act();
        }
        if self.structure().take_role(me, role).is_err() {
            return false;
        }
        let done = act();
        self.structure().drop_role(me, role);
        done
    }

    /// The next block that it holds, which it is about to send.
    fn next(&self, me: u16) -> Option<(Live, u64)> {
        let live = self.held[me as usize].borrow_mut().pop()?;
        self.give_up(me, live);
        let sent = live.header.generation() + 1;
        let id = (live.at.0 as u64) << 32 | sent as u64;
        Some((live, self.begin(me, Call::MaySend(id))))
    }
    fn sent(&self, me: u16, live: Live, before: u64) {
        self.end(me, Call::Sent((live.at.0 as u64) << 32 | (live.header.generation() + 1) as u64), before);
        // The pointer from before is refused (S5).
        let stale = self.heap.free(&mut ThreadCache::with_ceiling(me, 0), live.at, Some(live.header.generation()));
        assert!(stale.is_err(), "S5: a sender frees what it has sent");
    }
    fn full(&self, me: u16, live: Live, before: u64) {
        self.end(me, Call::Full, before);
        self.claim(me, live);
        self.held[me as usize].borrow_mut().push(live);
    }
    fn received(&self, me: u16, taken: Taken, before: u64) {
        self.end(me, Call::Received(id_of(taken.live)), before);
        self.claim(me, taken.live);
        self.givers.borrow_mut()[taken.live.at.index()] = taken.giver;
        self.held[me as usize].borrow_mut().push(taken.live);
    }

    /// Sends on what it received last and has not acknowledged.
    pub(crate) fn forward(&self, me: u16) {
        let Some((taken, hold)) = self.work[me as usize].borrow_mut().pop() else { return };
        self.give_up(me, taken.live);
        let before = self.begin(me, Call::SentOnOrBack(id_of(taken.live) + 1));
        match self.ring().send(me, taken.live) {
            Ok(()) => {
                // By now others may have it: only its own hold is emptied.
                self.ring().acknowledge(hold);
                self.sent(me, taken.live, before);
            }
            Err(NotSent::Full) => {
                self.end(me, Call::Full, before);
                self.claim(me, taken.live);
                self.work[me as usize].borrow_mut().push((taken, hold));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    /// Acknowledges what it received last; the block is its own.
    pub(crate) fn acknowledge(&self, me: u16) -> bool {
        let Some((taken, hold)) = self.work[me as usize].borrow_mut().pop() else { return false };
        self.begin(me, Call::MayGiveBack(id_of(taken.live) + 1));
        self.ring().acknowledge(hold);
        self.open[me as usize].set(None);
        self.held[me as usize].borrow_mut().push(taken.live);
        true
    }
    /// Gives what it received last back.
    pub(crate) fn give_back(&self, me: u16) {
        let Some((taken, hold)) = self.work[me as usize].borrow_mut().pop() else { return };
        self.give_up(me, taken.live);
        let call = Call::GaveBack(id_of(taken.live) + 1);
        let before = self.begin(me, call);
        self.ring().give_back(hold);
        self.end(me, call, before);
    }
    fn receive_held(&self, me: u16) -> bool {
        let before = self.begin(me, Call::MayReceive);
        match self.ring().receive_held(me) {
            Ok((taken, hold)) => {
                let id = id_of(taken.live);
                self.end(me, if hold.deliveries() == 1 { Call::Received(id) } else { Call::Again(id) }, before);
                self.claim(me, taken.live);
                self.givers.borrow_mut()[taken.live.at.index()] = 0;
                self.work[me as usize].borrow_mut().push((taken, hold));
                return true;
            }
            Err(NotReceived::Empty) => self.end(me, Call::Empty, before),
            Err(NotReceived::AllHeld) => self.end(me, Call::AllHeld, before),
            Err(other) => panic!("{other:?}"),
        }
        false
    }

    /// Sends the block that it got last, if it has any.
    pub(crate) fn send(&self, me: u16) {
        self.as_one(me, Role::Sender, || {
            let Some((live, before)) = self.next(me) else { return false };
            match self.ring().send(me, live) {
                Ok(()) => self.sent(me, live, before),
                Err(NotSent::Full) => self.full(me, live, before),
                Err(other) => panic!("{other:?}"),
            }
            true
        });
    }
    /// Sends what it holds in one batch, as far as there is room. Each is a call of its own: one ends where
    /// the next begins.
    pub(crate) fn send_many(&self, me: u16) {
        self.as_one(me, Role::Sender, || {
            let mut at = None;
            let ended = self.ring().send_many(me, |_| {
                if let Some((live, before)) = at.take() {
                    self.sent(me, live, before);
                }
                at = self.next(me);
                at.map(|(live, _)| live)
            });
            match (ended.1, at) {
                (Ok(()), None) => {}
                (Err(NotSent::Full), Some((live, before))) => self.full(me, live, before),
                other => panic!("{other:?}"),
            }
            true
        });
    }
    /// True if there was a message.
    pub(crate) fn receive(&self, me: u16) -> bool {
        if self.redelivers() {
            return self.receive_held(me);
        }
        self.as_one(me, Role::Receiver, || {
            let before = self.begin(me, Call::MayReceive);
            match self.ring().receive(me) {
                Ok(taken) => self.received(me, taken, before),
                Err(NotReceived::Empty) => {
                    self.end(me, Call::Empty, before);
                    return false;
                }
                Err(other) => panic!("{other:?}"),
            }
            true
        })
    }
    /// Receives two or three in one batch. Each is a call of its own.
    pub(crate) fn receive_many(&self, me: u16, most: usize) {
        if self.redelivers() {
            return (0..most).for_each(|_| _ = self.receive_held(me));
        }
        self.as_one(me, Role::Receiver, || {
            let mut before = self.begin(me, Call::MayReceive);
            let got = self.ring().receive_many(me, most, |taken| {
                self.received(me, taken, before);
                before = self.begin(me, Call::MayReceive);
            });
            match got {
                // What it had begun once more took no effect.
                Ok(_) => _ = self.open[me as usize].take(),
                Err(NotReceived::Empty) => self.end(me, Call::Empty, before),
                Err(other) => panic!("{other:?}"),
            }
            true
        });
    }

    /// Q3: what the dead had put in, as it stands, counts as sent.
    pub(crate) fn what_stands_is_sent(&self) {
        let pending: Vec<u64> = unseen(|| {
            let ids = self.ring().links().filter(|(_, standing)| *standing != Standing::Void);
            ids.map(|(link, _)| (link.at().0 as u64) << 32 | link.generation() as u64).collect()
        });
        for open in &self.open {
            if let Some((Call::MaySend(id) | Call::SentOnOrBack(id), from)) = open.get()
                && pending.contains(&id)
            {
                open.set(Some((Call::Sent(id), from)));
            }
        }
    }
    /// The recovery has ended, and nobody is inside a call: what the dead had begun took effect or never
    /// will, and no cell names a block that was taken.
    pub(crate) fn recovered(&self) {
        let void = unseen(|| self.ring().links().find(|(_, standing)| *standing == Standing::Void));
        assert_eq!(void, None, "Q1: the word of a taken block stands");
        for (call, from) in self.returning.borrow_mut().drain(..) {
            self.history.borrow_mut().push(Span { call, from, to: moment() });
        }
        if self.redelivers() {
            let held: usize = self.work.iter().map(|work| work.borrow().len()).sum();
            assert_eq!(unseen(|| self.ring().holds().0), held as u64, "Q3: what the living hold, and no more");
        }
        for open in &self.open {
            if let Some((call, from)) = open.take() {
                self.history.borrow_mut().push(Span { call, from, to: moment() });
            }
        }
    }

    /// Q2: the history is a sequential queue's.
    pub(crate) fn is_a_queue(&self) {
        let history = self.history.borrow();
        assert!(linearizable(&history, State::default(), |state, call| after(state, call, self.n)), "Q2: {history:?}");
    }

    /// The living acknowledge all that they hold, and the rest is received to the end.
    pub(crate) fn everything_is_received(&self, last: u16) {
        (1..=NUMBERS as u16).for_each(|me| while self.acknowledge(me) {});
        while self.receive(last) {
            self.acknowledge(last);
        }
    }

    /// Everybody frees what they hold: nothing is left but the channel, and nothing of that once it is removed.
    pub(crate) fn nothing_is_left(&self, last: u16, users: &[u16]) {
        for me in 1..=NUMBERS as u16 {
            while !self.held[me as usize].borrow().is_empty() {
                self.free(&mut ThreadCache::with_ceiling(me, 0));
            }
        }
        let cache = &mut ThreadCache::with_ceiling(last, 0);
        self.heap.heal(cache);
        let tally = self.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
        assert_eq!((tally.live.blocks, tally.free.blocks), (1, 1), "Q3: {tally:?}");
        stage::remove(&self.heap, last, self.channel, users);
    }
}
