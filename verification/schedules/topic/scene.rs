//! A heap with one log under the schedule, what its players hold, and what they have read.

#![allow(dead_code, reason = "each test binary uses a part")]

use crate::stage;
use atomic_matrix::backend::Backend;
use atomic_matrix::check::turns::{accesses, unseen};
use atomic_matrix::ipc::link::Standing;
use atomic_matrix::ipc::log::{Log, Lowest, ReadStatus};
use atomic_matrix::ipc::ring::NotSent;
use atomic_matrix::ipc::structure::{Shape, Sort, Structure};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::region::BoxedRegion;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

const NUMBERS: usize = 9;
const GRANULES: u32 = 96;
const PAYLOAD: u32 = 20;

/// Who reads, and what it has to find next.
pub(crate) struct Subscriber {
    me: u16,
    index: usize,
    next: u64,
}

pub(crate) struct Scene<B: Backend> {
    pub(crate) heap: Heap<BoxedRegion<B>>,
    topic: Live,
    sort: Sort,
    /// The owner of each granule; 0 is nobody, or the log. How often it got one.
    marks: RefCell<Vec<u16>>,
    claims: RefCell<Vec<u64>>,
    held: Vec<RefCell<Vec<Live>>>,
    lowest: Vec<Cell<Lowest>>,
    /// What each ticket was, as far as anybody has read it (T1).
    tickets: RefCell<BTreeMap<u64, u64>>,
    published: RefCell<Vec<u64>>,
    kept: RefCell<Vec<Subscriber>>,
    pub(crate) most: Cell<u64>,
    pub(crate) reads: Cell<u64>,
    pub(crate) lagged: Cell<u64>,
}

fn id(at: u32, generation: u32) -> u64 {
    (at as u64) << 32 | generation as u64
}

impl<B: Backend> Scene<B> {
    pub(crate) fn new(sort: Sort, shift: u32, biased: bool) -> Self {
        let heap = stage::heap(NUMBERS, GRANULES, PAYLOAD, biased);
        let topic = stage::make(&heap, Shape { sort, cells_shift: shift, readers: 4, content: 7 });
        Self {
            heap,
            topic,
            sort,
            marks: RefCell::new(vec![0; GRANULES as usize]),
            claims: RefCell::new(vec![0; GRANULES as usize]),
            held: (0..=NUMBERS).map(|_| RefCell::default()).collect(),
            lowest: (0..=NUMBERS).map(|_| Cell::default()).collect(),
            tickets: RefCell::default(),
            published: RefCell::default(),
            kept: RefCell::default(),
            most: Cell::new(0),
            reads: Cell::new(0),
            lagged: Cell::new(0),
        }
    }

    pub(crate) fn is_lossless(&self) -> bool {
        self.sort == Sort::Topic
    }
    fn structure(&self) -> Structure<'_, BoxedRegion<B>> {
        unseen(|| Structure::at(&self.heap, self.topic).expect("it is there"))
    }
    fn log(&self) -> Log<'_, BoxedRegion<B>> {
        Log::of(self.structure())
    }
    pub(crate) fn enter(&self, me: u16) {
        stage::enter(&self.heap, self.topic, me);
    }

    fn claim(&self, me: u16, live: Live) {
        let granules = live.at.index()..live.at.index() + live.header.size() as usize;
        for granule in granules {
            assert_eq!(std::mem::replace(&mut self.marks.borrow_mut()[granule], me), 0, "{me} gets what another has");
            self.claims.borrow_mut()[granule] += 1;
        }
    }
    pub(crate) fn allocate(&self, me: u16) {
        let Ok(live) = self.heap.allocate(&mut ThreadCache::with_ceiling(me, 0), 1, 1, Kind::Typed(9)) else { return };
        self.claim(me, live);
        let named = unseen(|| self.log().links().any(|(link, _)| link.at() == live.at));
        assert!(!named, "Q1: a cell names a block that is used again");
        self.held[me as usize].borrow_mut().push(live);
    }
    /// A participant has died: whatever it held may be given to others.
    pub(crate) fn bury(&self, dead: u16) {
        self.marks.borrow_mut().iter_mut().filter(|mark| **mark == dead).for_each(|mark| *mark = 0);
        self.held[dead as usize].borrow_mut().clear();
    }

    /// As many as `count` are published behind the back of a reader that nothing protects. It finds the first of them, or
    /// is told how many it has missed, and finds the one behind those.
    pub(crate) fn misses(&self, me: u16, count: u64, random: &mut Rng) {
        let log = self.log();
        let first = log.begin(0);
        (0..count).for_each(|_| self.publish(me, random));
        let mut next = first;
        let mut found = log.look_from(&mut next);
        if let ReadStatus::Lagged(missed) = found {
            assert!(missed > 0 && missed == next - first, "T1: exactly");
            found = log.look_from(&mut next);
        }
        match found {
            ReadStatus::Block(live, _) => assert_eq!(
                id(live.at.0, live.header.generation()),
                self.published.borrow()[(next - first) as usize],
                "T1"
            ),
            ReadStatus::Nothing => assert_eq!(count, 0, "T1: there is one"),
            _ => panic!("T1: {count} were published"),
        }
    }

    /// Publishes a block, or frees it where the log is full.
    pub(crate) fn publish(&self, me: u16, _random: &mut Rng) {
        if self.held[me as usize].borrow().is_empty() {
            self.allocate(me);
        }
        let Some(live) = self.held[me as usize].borrow_mut().pop() else { return };
        self.marks.borrow_mut()[live.at.index()] = 0;
        let id = id(live.at.0, live.header.generation() + 1);
        let before = accesses();
        let mut lowest = self.lowest[me as usize].get();
        let outcome = self.log().publish(&mut ThreadCache::with_ceiling(me, 0), live, &mut lowest);
        self.lowest[me as usize].set(lowest);
        self.most.set(self.most.get().max(accesses() - before));
        match outcome {
            Ok(()) => self.published.borrow_mut().push(id),
            Err(NotSent::Full) => {
                assert_eq!(self.sort, Sort::Topic, "a lossy log is never full");
                self.claim(me, live);
                self.held[me as usize].borrow_mut().push(live);
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    pub(crate) fn join(&self, me: u16, history: u64) -> Option<Subscriber> {
        let index = self.log().join(me, history)?;
        let next = self.log().position(index);
        Some(Subscriber { me, index, next })
    }

    /// Reads what is at the cursor; true if there was something. At rest nothing may be overrun while it is read.
    pub(crate) fn read(&self, subscriber: &mut Subscriber, rest: bool) -> bool {
        let Subscriber { index, .. } = *subscriber;
        match self.log().look(index) {
            ReadStatus::Block(live, link) => {
                let (granule, ticket) = (live.at.index(), subscriber.next);
                assert_eq!(self.log().position(index), ticket, "T1: in order");
                let claimed = self.claims.borrow()[granule];
                let whole = self.log().is_still(index, link);
                let untouched = self.claims.borrow()[granule] == claimed;
                assert!(!whole || untouched, "B1: a copy is torn");
                if self.sort == Sort::Topic {
                    assert!(whole && untouched, "T1: a block is overwritten while it is read");
                    assert!(
                        unseen(|| self.log().links().any(|known| known.0 == link && known.1 != Standing::Void)),
                        "T1"
                    );
                }
                if !whole {
                    assert!(!rest);
                    return true;
                }
                let id = (live.at.0 as u64) << 32 | link.generation() as u64;
                let known = *self.tickets.borrow_mut().entry(ticket).or_insert(id);
                assert_eq!(known, id, "T1: ticket {ticket} is the same for all");
                self.reads.set(self.reads.get() + 1);
                self.log().advance(index);
                subscriber.next += 1;
                true
            }
            ReadStatus::Lagged(lost) => {
                assert!(lost > 0);
                assert_eq!(self.sort, Sort::Board, "T1: a lossless topic loses nothing");
                subscriber.next += lost;
                self.lagged.set(self.lagged.get() + lost);
                assert_eq!(self.log().position(index), subscriber.next, "T1: exactly so many");
                true
            }
            ReadStatus::Nothing => false,
            ReadStatus::Closed => panic!("nobody closed it"),
        }
    }
    /// Reads the publication behind the one at the cursor, which stays where it is: neither may be
    /// overwritten meanwhile.
    pub(crate) fn read_ahead(&self, subscriber: &Subscriber) {
        let Subscriber { index, next, .. } = *subscriber;
        let ReadStatus::Block(live, link) = self.log().look_ahead(index, 1) else { return };
        let claimed = self.claims.borrow()[live.at.index()];
        let again = self.log().look_ahead(index, 1);
        assert!(matches!(again, ReadStatus::Block(_, found) if found == link), "T1: {again:?} where {link:?} was");
        assert_eq!(self.claims.borrow()[live.at.index()], claimed, "T1: a block is overwritten while it is read");
        let id = (live.at.0 as u64) << 32 | link.generation() as u64;
        let known = *self.tickets.borrow_mut().entry(next + 1).or_insert(id);
        assert_eq!(known, id, "T1: ticket {} is the same for all", next + 1);
    }
    pub(crate) fn cells(&self) -> usize {
        unseen(|| self.structure().shape.cells())
    }
    /// What is newest, which is there as soon as anything was published, however often it is overwritten
    /// during the look.
    pub(crate) fn look_at_newest(&self) {
        let before = unseen(|| self.log().published());
        let found = self.log().newest();
        assert!(before == 0 || found.is_some(), "B1: nothing is there, although {before} were published");
        assert!(found.is_none_or(|(_, _, ticket)| ticket + 1 >= before), "B1: an older one than was there before");
    }
    /// The newest, as one who may not write finds it: its ticket, and what it is.
    pub(crate) fn newest_unhelped(&self) -> Option<(u64, u64)> {
        self.log().newest_unhelped().map(|(_, link, ticket)| (ticket, id(link.at().0, link.generation())))
    }
    /// What a ticket's publication was, where one publisher alone has published.
    pub(crate) fn published_at(&self, ticket: u64) -> u64 {
        self.published.borrow()[ticket as usize]
    }
    pub(crate) fn keep(&self, subscriber: Subscriber) {
        self.kept.borrow_mut().push(subscriber);
    }

    /// The dead one's links are settled: nothing is pending, and nothing of its is read any more.
    pub(crate) fn recovered(&self) {
        let pending = unseen(|| self.log().links().any(|(_, standing)| matches!(standing, Standing::Pending(_))));
        assert!(!pending, "Q3: a link is pending, and nobody is inside a call");
    }

    /// At rest, everybody who still reads sees all that is left, and the last that was published.
    pub(crate) fn everybody_reads_on(&self) {
        unseen(|| {
            for mut subscriber in self.kept.borrow_mut().drain(..) {
                if !self.log().is_held(subscriber.index, subscriber.me) {
                    continue;
                }
                while self.read(&mut subscriber, true) {}
                assert_eq!(subscriber.next, self.log().published(), "T1: every ticket");
                self.log().leave(subscriber.index);
            }
            let known: Vec<u64> = self.tickets.borrow().values().copied().collect();
            let mut once = known.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), known.len(), "T1: a publication has one ticket");
            let newest = self.log().newest().map(|(live, link, _)| (live.at.0 as u64) << 32 | link.generation() as u64);
            assert_eq!(newest.is_some(), self.log().published() > 0);
        });
    }

    /// Everybody frees what they hold and leaves: nothing is left but the log, and nothing of that once it is removed.
    pub(crate) fn nothing_is_left(&self, last: u16, dead: &[u16]) {
        unseen(|| {
            let cache = &mut ThreadCache::with_ceiling(last, 0);
            for me in 1..=NUMBERS {
                for live in self.held[me].borrow_mut().drain(..) {
                    self.heap.free(cache, live.at, Some(live.header.generation())).expect("it is live");
                }
            }
            let users: Vec<u16> = [1, 2, 3, 4, 5, 8].into_iter().filter(|user| !dead.contains(user)).collect();
            stage::remove(&self.heap, last, self.topic, &users);
        });
    }
}
