//! A heap with one table under the schedule, what its players hold and read, and what they were told.

use crate::linear::{Span, linearizable};
use crate::stage;
use atomic_matrix::backend::Backend;
use atomic_matrix::check::turns::{accesses, moment, unseen};
use atomic_matrix::ipc::link::{Link, Standing};
use atomic_matrix::ipc::structure::{Shape, Sort, Structure};
use atomic_matrix::ipc::table::{By, Key, NotPut, Owned, Table, When};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::region::BoxedRegion;
use fastrand::Rng;
use std::cell::{Cell, RefCell};

const NUMBERS: usize = 10;
const GRANULES: u32 = 96;
const KEYS: usize = 3;
/// Where a structure's blocks and those of the participants are never looked for.
const NOWHERE: usize = usize::MAX;

type Values = [Option<u64>; KEYS];

/// A call and what came of it. A value is told by its block and the generation under which it was put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Put(usize, u64, Option<u64>),
    Exists(usize),
    Unknown(usize),
    Took(usize, Option<u64>),
    Got(usize, Option<u64>),
    /// All keys that are there.
    Keys([bool; KEYS]),
    /// Its caller was killed: it took effect, or did not, before its recovery ended.
    MayPut(usize, u64),
    MayTake(usize),
    /// Nothing to be seen.
    Nothing,
}

/// The sequential map: the states that a call may lead to.
fn after(state: &Values, call: Call) -> Vec<Values> {
    let with = |key: usize, value: Option<u64>| {
        let mut next = *state;
        next[key] = value;
        next
    };
    let same_if = |told: bool| told.then_some(*state).into_iter().collect::<Vec<_>>();
    match call {
        Call::Put(key, id, old) if state[key] == old => vec![with(key, Some(id))],
        Call::Took(key, old) if state[key] == old => vec![with(key, None)],
        Call::Got(key, value) => same_if(state[key] == value),
        Call::Exists(key) => same_if(state[key].is_some()),
        Call::Unknown(key) => same_if(state[key].is_none()),
        Call::Keys(keys) => same_if(state.map(|value| value.is_some()) == keys),
        Call::MayPut(key, id) => vec![*state, with(key, Some(id))],
        Call::MayTake(key) => vec![*state, with(key, None)],
        Call::Nothing => vec![*state],
        _ => vec![],
    }
}

pub(crate) struct Scene<B: Backend> {
    pub(crate) heap: Heap<BoxedRegion<B>>,
    map: Live,
    /// The owner of each granule; 0 is nobody, or the table.
    marks: RefCell<Vec<u16>>,
    held: Vec<RefCell<Vec<Live>>>,
    /// The block that each participant reads.
    reads: Vec<Cell<usize>>,
    history: RefCell<Vec<Span<Call>>>,
    open: Vec<Cell<Option<(Call, u64)>>>,
    pub(crate) most: Cell<u64>,
    pub(crate) shared: Cell<u64>,
    pub(crate) full: Cell<u64>,
}

fn id(at: u32, generation: u32) -> u64 {
    (at as u64) << 32 | generation as u64
}
fn id_of(link: Link) -> u64 {
    id(link.at().0, link.generation())
}

/// The first two differ in their bytes alone.
fn key(key: usize) -> Key<'static> {
    const BYTES: [&[u8]; KEYS] = [b"", b"one", b"a longer one"];
    Key { hash: [7, 7, 1 << 63][key], bytes: BYTES[key] }
}

impl<B: Backend> Scene<B> {
    /// A table of one bucket of `1 << shift` words.
    pub(crate) fn new(shift: u32, cursors: u16, biased: bool) -> Self {
        let heap = stage::heap(NUMBERS, GRANULES, GRANULES, biased);
        let map = stage::make(&heap, Shape { sort: Sort::Map, cells_shift: shift, readers: cursors, content: 7 });
        Self {
            heap,
            map,
            marks: RefCell::new(vec![0; GRANULES as usize]),
            held: (0..=NUMBERS).map(|_| RefCell::default()).collect(),
            reads: (0..=NUMBERS).map(|_| Cell::new(NOWHERE)).collect(),
            history: RefCell::default(),
            open: (0..=NUMBERS).map(|_| Cell::default()).collect(),
            most: Cell::new(0),
            shared: Cell::new(0),
            full: Cell::new(0),
        }
    }

    fn structure(&self) -> Structure<'_, BoxedRegion<B>> {
        unseen(|| Structure::at(&self.heap, self.map).expect("it is there"))
    }
    fn table(&self) -> Table<'_, BoxedRegion<B>> {
        Table::of(self.structure())
    }
    pub(crate) fn enter(&self, me: u16) {
        stage::enter(&self.heap, self.map, me);
    }

    fn claim(&self, me: u16, live: Live) {
        for granule in live.at.index()..live.at.index() + live.header.size() as usize {
            assert_eq!(std::mem::replace(&mut self.marks.borrow_mut()[granule], me), 0, "M1: {me} gets another's");
            assert!(self.reads.iter().all(|read| read.get() != granule), "M1: {me} gets what is being read");
        }
    }
    fn give_up(&self, me: u16, live: Live) {
        for mark in &mut self.marks.borrow_mut()[live.at.index()..][..live.header.size() as usize] {
            assert_eq!(std::mem::replace(mark, 0), me, "M1: {me} has not {live:?}");
        }
    }
    /// A participant has died: whatever it held may be given to others, and it reads no more.
    pub(crate) fn bury(&self, dead: u16) {
        self.marks.borrow_mut().iter_mut().filter(|mark| **mark == dead).for_each(|mark| *mark = 0);
        self.held[dead as usize].borrow_mut().clear();
        self.reads[dead as usize].set(NOWHERE);
    }

    pub(crate) fn allocate(&self, cache: &mut ThreadCache, random: &mut Rng) {
        let Ok(live) = self.heap.allocate(cache, random.u32(1..=2), 1, Kind::Typed(9)) else { return };
        self.claim(cache.owner(), live);
        let named = unseen(|| self.table().links().any(|(link, _)| link.at() == live.at));
        assert!(!named, "M1: a place names a block that is used again");
        self.held[cache.owner() as usize].borrow_mut().push(live);
    }
    /// Frees a block; before that it may be unowned for a while, which is nobody else's business.
    pub(crate) fn free(&self, cache: &mut ThreadCache, random: &mut Rng) {
        let me = cache.owner();
        let Some(mut live) = self.held[me as usize].borrow_mut().pop() else { return };
        if random.bool() {
            let unowned = self.heap.adoption().rename(live.at, live.header, 0).expect("M1: it is ours");
            self.heap.look(live.at);
            live.header =
                self.heap.adoption().rename(live.at, unowned, me).expect("M1: it is unowned, and unowned business");
        }
        self.give_up(me, live);
        self.heap.free(cache, live.at, Some(live.header.generation())).expect("M1: it is live and ours");
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

    /// With a cursor, if there is one.
    fn with_cursor(&self, cache: &mut ThreadCache, call: impl FnOnce(&Table<'_, BoxedRegion<B>>, &mut By<'_>)) {
        let (home, table) = (cache.owner(), self.table());
        let Some(cursor) = table.hold(home) else { return };
        call(&table, &mut By { cache, cursor, home });
        table.drop_cursor(cursor);
    }

    /// Puts the block that it got last in, if it has any.
    pub(crate) fn put(&self, cache: &mut ThreadCache, which: usize, when: When) {
        let me = cache.owner();
        let Some(live) = self.held[me as usize].borrow_mut().pop() else { return };
        let mut back = Some(live);
        self.with_cursor(cache, |table, by| {
            back = None;
            assert!(table.write_label(live, &key(which)));
            self.give_up(me, live);
            let mine = id(live.at.0, live.header.generation() + 1);
            let before = self.begin(me, Call::MayPut(which, mine));
            let put = table.put(by, live, &key(which), when);
            match put {
                Ok(was) => {
                    self.end(me, Call::Put(which, mine, was.map(id_of)), before);
                    let stale =
                        self.heap.free(&mut ThreadCache::with_ceiling(me, 0), live.at, Some(live.header.generation()));
                    assert!(stale.is_err(), "S5: what was put in is freed by an old pointer");
                    was.into_iter().for_each(|was| self.has_displaced(table, by, was));
                    return;
                }
                Err(NotPut::Full) => {
                    self.full.set(self.full.get() + 1);
                    self.end(me, Call::Nothing, before);
                }
                Err(NotPut::Exists) => self.end(me, Call::Exists(which), before),
                Err(NotPut::Unknown) => self.end(me, Call::Unknown(which), before),
                Err(other) => panic!("{other:?}"),
            }
            self.claim(me, live);
            self.held[me as usize].borrow_mut().push(live);
        });
        self.held[me as usize].borrow_mut().extend(back);
    }
    pub(crate) fn take(&self, cache: &mut ThreadCache, which: usize) {
        let me = cache.owner();
        self.with_cursor(cache, |table, by| {
            let before = self.begin(me, Call::MayTake(which));
            let was = table.take(by, &key(which));
            self.end(me, Call::Took(which, was.map(id_of)), before);
            was.into_iter().for_each(|was| self.has_displaced(table, by, was));
        });
    }
    /// What was displaced is read, and then the caller's own, or the last reader's.
    fn has_displaced(&self, table: &Table<'_, BoxedRegion<B>>, by: &mut By<'_>, was: Link) {
        let me = by.cache.owner();
        match table.own(by, was) {
            Owned::Mine(live) => {
                self.claim(me, live);
                self.held[me as usize].borrow_mut().push(live);
            }
            Owned::Shared => {
                self.shared.set(self.shared.get() + 1);
                self.read(me, was);
                table.unname(by, Some(was));
            }
            Owned::Gone => panic!("M1: {was:?} is not {me}'s, who displaced it"),
        }
    }
    pub(crate) fn get(&self, cache: &mut ThreadCache, which: usize) {
        let me = cache.owner();
        self.with_cursor(cache, |table, by| {
            let before = self.begin(me, Call::Nothing);
            let got = table.get(by, &key(which));
            self.end(me, Call::Got(which, got.map(|(_, link)| id_of(link))), before);
            if let Some((_, link)) = got {
                self.read(me, link);
                table.unname(by, Some(link));
            }
        });
    }
    /// Copies while others may have the block: what it returns was in at an instant of the call, and nobody's own.
    pub(crate) fn copy(&self, cache: &mut ThreadCache, which: usize) {
        let me = cache.owner();
        let before = self.begin(me, Call::Nothing);
        let copied = self.table().copied(&key(which), |_, link| {
            for _ in 0..3 {
                self.heap.look(link.at());
            }
            (id_of(link), self.marks.borrow()[link.at().index()])
        });
        self.end(me, Call::Got(which, copied.map(|(id, _)| id)), before);
        assert!(copied.is_none_or(|(_, owner)| owner == 0), "M1: {me} has copied what is somebody's: {copied:?}");
    }
    /// Reads for a while: nobody has the block meanwhile.
    fn read(&self, me: u16, link: Link) {
        self.reads[me as usize].set(link.at().index());
        assert_eq!(self.marks.borrow()[link.at().index()], 0, "M1: what {me} reads is somebody's");
        for _ in 0..3 {
            self.heap.look(link.at());
        }
        self.reads[me as usize].set(NOWHERE);
    }
    pub(crate) fn keys(&self, cache: &mut ThreadCache) {
        let me = cache.owner();
        self.with_cursor(cache, |table, by| {
            let before = self.begin(me, Call::Nothing);
            let mut seen = [false; KEYS];
            for found in table.keys(by, 0) {
                let which = (0..KEYS).find(|&which| key(which).bytes == found).expect("M2: it is one of them");
                assert!(!std::mem::replace(&mut seen[which], true), "M2: a key is seen twice");
            }
            self.end(me, Call::Keys(seen), before);
        });
    }

    /// The recovery has ended, and nobody is inside a call: what the dead had begun took effect or never will.
    pub(crate) fn recovered(&self) {
        unseen(|| {
            let odd = self.table().links().find(|(_, standing)| !matches!(standing, Standing::Present(_)));
            assert_eq!(odd, None, "Q3: a link is not the table's, and nobody is inside a call");
        });
        for open in &self.open {
            if let Some((call, from)) = open.take() {
                self.history.borrow_mut().push(Span { call, from, to: moment() });
            }
        }
    }
    /// M1: the history is a sequential map's.
    pub(crate) fn is_a_map(&self) {
        let history = self.history.borrow();
        assert!(linearizable(&history, [None; KEYS], after), "M1: {history:?}");
    }

    /// Everybody frees what they hold and leaves: nothing is left but the table, and nothing of that once it
    /// is removed.
    pub(crate) fn nothing_is_left(&self, last: u16, users: &[u16]) {
        unseen(|| {
            let random = &mut Rng::with_seed(1);
            for me in 1..=NUMBERS as u16 {
                while !self.held[me as usize].borrow().is_empty() {
                    self.free(&mut ThreadCache::with_ceiling(me, 0), random);
                }
            }
            let cache = &mut ThreadCache::with_ceiling(last, 0);
            self.heap.heal(cache);
            let tally = self.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
            let there = self.table().len() as u64;
            assert_eq!(tally.live.blocks, 1 + there, "Q3: what is live is the table's, or the table: {tally:?}");
            stage::remove(&self.heap, last, self.map, users);
        });
    }
}
