//! One lock, semaphore, event or barrier, or a directory of names, under the schedule, and what everybody was told.

use crate::linear::{Span, linearizable};
use atomic_matrix::backend::orderings::SYNC_LOOK;
use atomic_matrix::backend::{Backend, Word};
use atomic_matrix::check::turns::{self, accesses, moment, unseen};
use atomic_matrix::ipc::sync::barrier::{Gate, Passed};
use atomic_matrix::ipc::sync::event::Flag;
use atomic_matrix::ipc::sync::lock::{Busy, Lock};
use atomic_matrix::ipc::sync::semaphore::Permits;
use atomic_matrix::ipc::wait::Bell;
use atomic_matrix::segment::directory::{Directory, NamedBlock, NotPublished};
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::BoxedRegion;
use atomic_matrix::segment::size_class::Larges;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::time::Instant;

const NUMBERS: usize = 8;
const ENTRIES: usize = 4;
const NAME: &[u8] = b"name";

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Lock,
    Semaphore,
    Event,
    Barrier,
    Names,
}

/// A call and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Locked(u16, bool),
    HeldBy(u16),
    Released(u16),
    Poisoned(u16),
    Cured(u16),
    Permit(bool),
    Given(u64),
    Set,
    Cleared(bool),
    IsSet(bool),
    Replaced(u32, Option<u32>),
    Published(u32, bool),
    Found(Option<u32>),
    Withdrawn(bool),
    /// Whoever holds something in this one's name may lose it from now on.
    Died(u16),
    /// Its caller was killed: it took effect, or did not.
    May(Effect),
    /// Nothing to be seen.
    Nothing,
}

/// What a call does if it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Lock(u16),
    Release(u16),
    Poison(u16),
    Take,
    Give(u64),
    Set,
    Clear,
    Name(u32),
    NameIfFree(u32),
    Withdraw,
    /// A barrier's, or none.
    Other,
}

/// All of the subjects' states: each uses its part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    holder: u16,
    poisoned: bool,
    /// One bit for each who is known to be dead.
    dead: u16,
    /// Permits, or 1 if the event is set.
    count: u64,
    name: Option<u32>,
}

impl State {
    fn is_free(&self) -> bool {
        self.holder == 0 || self.is_abandoned()
    }
    fn is_abandoned(&self) -> bool {
        self.holder != 0 && self.dead >> self.holder & 1 == 1
    }
    fn locked(&self, me: u16) -> Self {
        Self { holder: me, poisoned: self.poisoned || self.is_abandoned(), ..self.clone() }
    }
    fn with(&self, count: u64) -> Self {
        Self { count, ..self.clone() }
    }

    /// The state that a call leads to; none if it can't take effect here.
    fn changed(&self, effect: Effect) -> Option<Self> {
        let same = self.clone();
        let held = |me| self.holder == me;
        match effect {
            Effect::Lock(me) => self.is_free().then(|| self.locked(me)),
            Effect::Release(me) => held(me).then_some(Self { holder: 0, ..same }),
            Effect::Poison(me) => held(me).then_some(Self { poisoned: true, ..same }),
            Effect::Take => self.count.checked_sub(1).map(|left| self.with(left)),
            Effect::Give(permits) => Some(self.with(self.count + permits)),
            Effect::Set => Some(self.with(1)),
            Effect::Clear => Some(self.with(0)),
            Effect::Name(block) => Some(Self { name: Some(block), ..same }),
            Effect::NameIfFree(block) => self.name.is_none().then_some(Self { name: Some(block), ..same }),
            Effect::Withdraw => Some(Self { name: None, ..same }),
            Effect::Other => None,
        }
    }

    /// The states that a call may lead to; none if its answer is wrong here.
    pub(crate) fn after(&self, call: Call) -> Vec<Self> {
        let same_if = |right: bool| right.then(|| self.clone());
        let next = match call {
            Call::Locked(me, poisoned) => self.changed(Effect::Lock(me)).filter(|next| next.poisoned == poisoned),
            Call::HeldBy(by) => same_if(self.holder == by),
            Call::Released(me) => self.changed(Effect::Release(me)),
            Call::Poisoned(me) => self.changed(Effect::Poison(me)),
            Call::Cured(me) => same_if(self.holder == me).map(|state| Self { poisoned: false, ..state }),
            Call::Permit(true) => self.changed(Effect::Take),
            Call::Permit(false) => same_if(self.count == 0),
            Call::Given(permits) => self.changed(Effect::Give(permits)),
            Call::Set => self.changed(Effect::Set),
            Call::Cleared(was) => same_if((self.count == 1) == was).map(|state| state.with(0)),
            Call::IsSet(is) => same_if((self.count == 1) == is),
            Call::Replaced(block, old) => {
                same_if(self.name == old).and_then(|state| state.changed(Effect::Name(block)))
            }
            Call::Published(block, true) => self.changed(Effect::NameIfFree(block)),
            Call::Published(_, false) => same_if(self.name.is_some()),
            Call::Found(found) => same_if(self.name == found),
            Call::Withdrawn(done) => same_if(self.name.is_some() == done).map(|state| Self { name: None, ..state }),
            Call::Died(who) => Some(Self { dead: self.dead | 1 << who, ..self.clone() }),
            Call::May(effect) => return [Some(self.clone()), self.changed(effect)].into_iter().flatten().collect(),
            Call::Nothing => same_if(true),
        };
        next.into_iter().collect()
    }
}

/// One meeting at a barrier.
type Meeting = Span<Option<Passed>>;

pub(crate) struct Scene<B: Backend> {
    pub(crate) subject: Subject,
    word: B::Word,
    rings: B::Word,
    sleepers: B::Word,
    parties: u32,
    region: Option<BoxedRegion<B>>,
    blocks: Cell<u32>,
    history: RefCell<Vec<Span<Call>>>,
    meetings: RefCell<Vec<Meeting>>,
    /// What each is about, and since when.
    open: Vec<Cell<Option<(Effect, u64)>>>,
    dead: Cell<u16>,
    /// Meetings that the dead were at.
    pending: Cell<u64>,
    pub(crate) most: Cell<u64>,
    /// Of locks those taken over, of barriers those who passed, of others calls that found what they wanted.
    pub(crate) met: Cell<u64>,
}

impl<B: Backend> Scene<B> {
    pub(crate) fn new(subject: Subject, parties: u32) -> Self {
        turns::begin();
        let params = Params {
            granule_shift: 6,
            participants: NUMBERS,
            batches: 0,
            directory: ENTRIES,
            header_words: 1,
            line_words: 1,
            biased: false,
            larges: Larges::USUAL,
        };
        let region = (subject == Subject::Names).then(|| BoxedRegion::new(Layout::new(1, params)));
        let [word, rings, sleepers] = [0; 3].map(B::word);
        Self {
            subject,
            word,
            rings,
            sleepers,
            parties,
            region,
            blocks: Cell::new(0),
            history: RefCell::default(),
            meetings: RefCell::default(),
            open: (0..=NUMBERS).map(|_| Cell::default()).collect(),
            dead: Cell::new(0),
            pending: Cell::new(0),
            most: Cell::new(0),
            met: Cell::new(0),
        }
    }

    fn bell(&self) -> Bell<'_, B> {
        Bell::new(&self.rings, &self.sleepers)
    }
    fn lock(&self) -> Lock<'_, B> {
        Lock { word: &self.word, bell: self.bell() }
    }
    fn permits(&self) -> Permits<'_, B> {
        Permits { count: &self.word, bell: self.bell() }
    }
    fn flag(&self) -> Flag<'_, B> {
        Flag { flag: &self.word, bell: self.bell() }
    }
    fn gate(&self) -> Gate<'_, B> {
        Gate { round: &self.word, bell: self.bell(), parties: self.parties }
    }
    fn directory(&self) -> Directory<'_, BoxedRegion<B>> {
        Directory(self.region.as_ref().expect("names have a directory"))
    }

    /// A call of `me`'s: what it does if it takes effect, and what it finds.
    fn call(&self, me: u16, effect: Effect, act: impl FnOnce(&Self) -> Call) -> Call {
        let (from, before) = (moment(), accesses());
        self.open[me as usize].set(Some((effect, from)));
        let call = act(self);
        self.most.set(self.most.get().max(accesses() - before));
        self.open[me as usize].set(None);
        self.history.borrow_mut().push(Span { call, from, to: moment() });
        call
    }
    fn meets(&self) {
        self.met.set(self.met.get() + 1);
    }

    /// Tries once to take the lock; in two ways.
    pub(crate) fn take_lock(&self, me: u16, waits: bool) -> Option<bool> {
        let is_dead = |holder: u64| self.dead.get() >> holder & 1 == 1;
        let call = self.call(me, Effect::Lock(me), |scene| {
            let taken = match waits {
                // The time is over: one try, between being counted as asleep and not.
                true => scene.lock().take(me.into(), Some(Instant::now()), |holder, _| is_dead(holder)),
                false => scene.lock().try_take(me.into(), is_dead),
            };
            match taken {
                Ok(poisoned) => Call::Locked(me, poisoned),
                Err(Busy::Held(holder)) => Call::HeldBy(holder as u16),
                Err(Busy::Mine) => panic!("it is not {me}'s"),
            }
        });
        let Call::Locked(_, poisoned) = call else { return None };
        if poisoned {
            self.meets();
        }
        Some(poisoned)
    }
    /// Takes the lock, says sometimes that what it protects is half-written, or whole, and releases it.
    pub(crate) fn lock_and_release(&self, me: u16, random: &mut Rng) {
        let Some(poisoned) = self.take_lock(me, random.bool()) else { return };
        if poisoned && random.bool() {
            self.call(me, Effect::Other, |scene| {
                scene.lock().cure();
                Call::Cured(me)
            });
        } else if random.u32(0..4) == 0 {
            self.call(me, Effect::Poison(me), |scene| {
                scene.lock().poison();
                Call::Poisoned(me)
            });
        }
        self.call(me, Effect::Release(me), |scene| {
            scene.lock().release();
            Call::Released(me)
        });
    }

    pub(crate) fn take_permit(&self, me: u16, waits: bool) -> bool {
        let call = self.call(me, Effect::Take, |scene| {
            let permits = scene.permits();
            Call::Permit(if waits { permits.take(Some(Instant::now())) } else { permits.try_take() })
        });
        let taken = call == Call::Permit(true);
        if taken {
            self.meets();
        }
        taken
    }
    pub(crate) fn give_permits(&self, me: u16, permits: u32) {
        self.call(me, Effect::Give(permits.into()), |scene| {
            scene.permits().give(permits);
            Call::Given(permits.into())
        });
    }

    pub(crate) fn set(&self, me: u16) {
        self.call(me, Effect::Set, |scene| {
            scene.flag().set();
            Call::Set
        });
    }
    pub(crate) fn clear(&self, me: u16, waits: bool) {
        let call = self.call(me, Effect::Clear, |scene| {
            Call::Cleared(if waits { scene.flag().wait_and_clear(Some(Instant::now())) } else { scene.flag().clear() })
        });
        if call == Call::Cleared(true) {
            self.meets();
        }
    }
    pub(crate) fn look_at_event(&self, me: u16, waits: bool) {
        self.call(me, Effect::Other, |scene| {
            Call::IsSet(if waits { scene.flag().wait(Some(Instant::now())) } else { scene.flag().is_set() })
        });
    }

    /// Meets the others, or gives up where they are not there yet.
    pub(crate) fn meet(&self, me: u16) {
        let from = moment();
        self.call(me, Effect::Other, |scene| {
            let passed = scene.gate().meet(Some(Instant::now()));
            if passed.is_some() {
                scene.meets();
            }
            scene.meetings.borrow_mut().push(Span { call: passed, from, to: moment() });
            Call::Nothing
        });
    }

    fn block(&self) -> NamedBlock {
        self.blocks.set(self.blocks.get() + 1);
        NamedBlock { offset: self.blocks.get(), generation: 0, fingerprint: None }
    }
    pub(crate) fn replace(&self, me: u16) {
        let block = self.block();
        self.call(me, Effect::Name(block.offset), |scene| match scene.directory().replace(me, NAME, block) {
            Ok(old) => {
                if old.is_some() {
                    scene.meets();
                }
                Call::Replaced(block.offset, old.map(|old| old.offset))
            }
            // Others were filling entries.
            Err(NotPublished::Full) => Call::Nothing,
            Err(NotPublished::Taken) => panic!("S5: it may be replaced"),
        });
    }
    pub(crate) fn publish(&self, me: u16) {
        let block = self.block();
        self.call(me, Effect::NameIfFree(block.offset), |scene| match scene.directory().publish(me, NAME, block) {
            Ok(()) => Call::Published(block.offset, true),
            Err(NotPublished::Taken) => Call::Published(block.offset, false),
            Err(NotPublished::Full) => Call::Nothing,
        });
    }
    pub(crate) fn find(&self, me: u16) {
        self.call(me, Effect::Other, |scene| {
            Call::Found(scene.directory().lookup(NAME).map(|found| found.block.offset))
        });
    }
    pub(crate) fn withdraw(&self, me: u16) {
        self.call(me, Effect::Withdraw, |scene| Call::Withdrawn(scene.directory().withdraw(NAME)));
    }

    /// A participant was killed: what it was about took effect, or did not.
    pub(crate) fn bury(&self, dead: u16) {
        let Some((effect, from)) = self.open[dead as usize].take() else { return };
        self.pending.set(self.pending.get() + 1);
        self.history.borrow_mut().push(Span { call: Call::May(effect), from, to: moment() });
    }
    /// Somebody finds it dead.
    pub(crate) fn finds_dead(&self, me: u16, dead: u16) {
        self.call(me, Effect::Other, |scene| {
            scene.dead.set(scene.dead.get() | 1 << dead);
            Call::Died(dead)
        });
    }
    pub(crate) fn recover_names(&self, dead: u16) {
        self.directory().recover(dead);
    }

    /// At rest, with the dead found dead: everything is to be had, and what was told is right.
    pub(crate) fn is_right(&self, last: u16) {
        unseen(|| {
            match self.subject {
                Subject::Lock => {
                    assert!(
                        self.take_lock(last, false).is_some(),
                        "C1: nobody living holds it: {:?}",
                        self.lock().look()
                    );
                }
                Subject::Semaphore => while self.take_permit(last, false) {},
                Subject::Event => self.look_at_event(last, false),
                Subject::Barrier => self.met_as_counted(),
                Subject::Names => {
                    self.find(last);
                    self.no_entry_is_lost(last);
                }
            }
            let history = self.history.borrow();
            let right = linearizable(&history, State::default(), |state, call| state.after(call));
            assert!(right, "not linearizable: {history:?}");
        });
    }

    /// All arrivals that were not taken back have been let through, `parties` at a time, but for one of each of the dead.
    fn met_as_counted(&self) {
        let word = self.word.load(&SYNC_LOOK);
        let (rounds, arrived) = (word >> 32, word & 0xFFFF_FFFF);
        let meetings = self.meetings.borrow();
        let of = |passed| meetings.iter().filter(|meeting| meeting.call == Some(passed)).count() as u64;
        let (leaders, followers) = (of(Passed::Leader), of(Passed::Follower));
        let dead = self.pending.get();
        let told = format!("{rounds} rounds, {arrived} there, {leaders} led, {followers} followed, {dead} died");
        assert!((leaders..=leaders + dead).contains(&rounds) && arrived <= dead, "S3: {told}");
        let passed = u64::from(self.parties) * rounds + arrived;
        assert!((leaders + followers..=leaders + followers + dead).contains(&passed), "S3: {told}");
        let led: Vec<&Meeting> = meetings.iter().filter(|meeting| meeting.call == Some(Passed::Leader)).collect();
        for meeting in meetings.iter().filter(|meeting| meeting.call == Some(Passed::Follower)) {
            let is_led = led.iter().any(|leader| leader.overlaps(meeting));
            assert!(is_led || rounds > leaders, "S3: it passed alone: {meeting:?}");
        }
    }

    fn no_entry_is_lost(&self, last: u16) {
        let directory = self.directory();
        directory.withdraw(NAME);
        assert!(!directory.withdraw(NAME), "S5: a name was published twice");
        let block = self.block();
        for entry in 0..ENTRIES {
            assert_eq!(directory.publish(last, &[entry as u8], block), Ok(()), "C1: an entry is lost");
        }
    }
}
