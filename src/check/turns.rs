//! Turns: players take their shared accesses one at a time, in an order that a seed or a search decides.
//!
//! A player is a coroutine. Each access of the heap passes a gate, where the player may be set aside for others, or
//! stopped for ever. One thread of the operating system runs them all, so a switch costs nanoseconds, and a seed
//! always gives the same run. Sequentially consistent ([`play`], [`play_by`]): no evidence for an ordering. Or with a
//! store buffer for each player, as x86 has ([`play_buffered`]; Owens, Sarkar, Sewell: "A Better x86 Memory Model:
//! x86-TSO", 2009).

use super::trace::{self, Done};
use crate::backend::decorators::Probe;
use crate::backend::orderings::OWN;
use crate::backend::{Backend, Mutant, Native, NativeWord, Reach, Site, Word};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

/// Who goes on, and for how long.
#[derive(Clone, Copy, Debug)]
pub enum Scheduling {
    /// Anybody, for up to 1, 4, 16 or 60 accesses, both drawn anew each time.
    Bursts,
    /// PCT (Burckhardt and others, ASPLOS 2010): whoever has the highest priority; so many times, at accesses drawn
    /// from the first `length` ones, the one that runs gets the lowest. It finds a fault that takes that many switches.
    Priorities {
        /// How often.
        changes: usize,
        /// Among how many accesses.
        length: u64,
    },
    /// These players, one after the other, for so many accesses each; then each to its end, in their order.
    Turns([(usize, u64); TURNS]),
}

/// Turns of [`Scheduling::Turns`].
pub const TURNS: usize = 8;

impl Scheduling {
    /// Half of the runs in bursts, half by priorities.
    pub fn draw(random: &mut Rng, length: u64) -> Self {
        if random.bool() { Self::Bursts } else { Self::Priorities { changes: random.usize(1..=6), length } }
    }
}

/// What a player does, and the access before which it stops for ever (from 0).
pub struct Player {
    body: Box<dyn FnOnce()>,
    stop_at: Option<u64>,
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("stop_at", &self.stop_at).finish_non_exhaustive()
    }
}

impl Player {
    /// Plays to its end.
    pub fn new(body: impl FnOnce() + 'static) -> Self {
        Self { body: Box::new(body), stop_at: None }
    }
    /// Stops for ever before its access number `k`.
    pub fn stopped_at(body: impl FnOnce() + 'static, k: u64) -> Self {
        Self { body: Box::new(body), stop_at: Some(k) }
    }
}

/// How a player ended, and after how many accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Whether it was stopped for ever.
    pub stopped: bool,
    /// Its accesses.
    pub accesses: u64,
    passed: u128,
}

impl Ending {
    /// Whether the player made an access at this site.
    pub fn passed(self, site: &Site) -> bool {
        self.passed >> site.index & 1 == 1
    }
}

/// The payload of the unwinding with which a player stops for ever.
struct StoppedForEver;

/// What the gate knows of the player that runs.
struct Hand {
    seat: usize,
    yielder: Cell<*const Yielder<(), ()>>,
    accesses: Cell<u64>,
    /// It cannot go on until somebody else has done something.
    pauses: Cell<bool>,
    /// Accesses before the next switch.
    quota: Cell<u64>,
    stop_at: Cell<Option<u64>>,
    /// The sites passed, by their index.
    passed: Cell<u128>,
}

impl Hand {
    fn note(&self, site: &Site) {
        self.passed.set(self.passed.get() | 1 << site.index);
    }
    /// The player ends for ever.
    fn stops(&self, before: Option<&'static Site>) -> ! {
        trace::stopped(self.seat, before);
        resume_unwind(Box::new(StoppedForEver))
    }
    /// L1.
    fn is_alive(&self) {
        let most = if SEARCHED.get() { SEARCHED_LIVELOCK } else { LIVELOCK };
        assert!(self.accesses.get() < most, "L1: a livelock, {most} accesses");
    }
    /// The player that runs is set aside, until it is its turn again.
    fn sets_aside(&self) {
        // SAFETY: the yielder lives on the stack of the coroutine that is running (`seat` put it there, and
        // RUNNING names this coroutine's hand while it runs), above this frame.
        unsafe { &*self.yielder.get() }.suspend(());
    }
}

thread_local! {
    static RUNNING: RefCell<Option<Rc<Hand>>> = const { RefCell::new(None) };
    /// Accesses outside any play, since the last one.
    static OUTSIDE: Cell<u64> = const { Cell::new(0) };
    static MOMENT: Cell<u64> = const { Cell::new(0) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Whether a search decides who goes on: at a structure's own sites alone, and who pauses is set aside.
    static SEARCHED: Cell<bool> = const { Cell::new(false) };
    static BUFFERS: RefCell<Option<Buffers>> = const { RefCell::new(None) };
    /// Stacks of players that have ended.
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(vec![]) };
}

/// Store buffers: a player's stores reach memory later, in their order. Its loads see them at once.
struct Buffers {
    random: Rng,
    /// One store in so many accesses reaches memory, whosever it is.
    lag: u32,
    queues: Vec<VecDeque<Buffered>>,
    /// The process of each player: how far a heavy fence reaches.
    processes: Vec<u64>,
}

struct Buffered {
    word: *const NativeWord,
    value: u64,
    site: &'static Site,
}

/// Stores that a buffer holds.
const BUFFER: usize = 56;

impl Buffers {
    /// The oldest store of a player reaches memory; false if there is none.
    fn drain_one(&mut self, seat: usize) -> bool {
        let Some(Buffered { word, value, site }) = self.queues[seat].pop_front() else { return false };
        // SAFETY: the word belongs to a heap that the players share, and their bodies, which own it together,
        // live until the play is over; all buffers are drained or forgotten by then.
        unsafe { &*word }.store(value, site);
        trace::arrived(seat, site, word, value);
        true
    }
    fn drain(&mut self, seat: usize) {
        while self.drain_one(seat) {}
    }
    fn drain_all(&mut self) {
        (0..self.queues.len()).for_each(|seat| self.drain(seat));
    }
    /// Time passes.
    fn pass(&mut self) {
        if self.random.u32(0..self.lag) == 0 {
            let seat = self.random.usize(0..self.queues.len());
            self.drain_one(seat);
        }
    }
}

/// What `act` makes of the buffers and the running player's seat; none without buffers, or outside a play.
fn buffered<T>(act: impl FnOnce(&mut Buffers, usize) -> T) -> Option<T> {
    let seat = seat_of_running()?;
    BUFFERS.with_borrow_mut(|buffers| buffers.as_mut().map(|buffers| act(buffers, seat)))
}

/// More accesses than any player needs: beyond lies a livelock (L1).
const LIVELOCK: u64 = 300_000;
/// The same where a search decides: what waits for others there says so ([`Backend::pause`]).
const SEARCHED_LIVELOCK: u64 = 10_000;

/// The seat of the running player; none outside a play.
pub(super) fn seat_of_running() -> Option<usize> {
    RUNNING.with_borrow(|hand| hand.as_ref().map(|hand| hand.seat))
}

/// Accesses that the running player has made.
pub fn accesses() -> u64 {
    RUNNING.with_borrow(|hand| hand.as_ref().map_or(0, |hand| hand.accesses.get()))
}

/// The next moment: different for every call, later for later ones.
pub fn moment() -> u64 {
    MOMENT.set(MOMENT.get() + 1);
    MOMENT.get()
}

/// Stops the running player for ever, so many accesses from now.
pub fn stop_in(k: u64) {
    RUNNING.with_borrow(|hand| hand.as_ref().map(|hand| hand.stop_at.set(Some(hand.accesses.get() + k))));
}

/// Behind the running player's last access: it may stop for ever here, too.
pub(super) fn may_stop_at_its_end() {
    let hand = RUNNING.with_borrow(Clone::clone);
    if let Some(hand) = hand.filter(|hand| hand.stop_at.get() == Some(hand.accesses.get())) {
        hand.stops(None);
    }
}

/// Passed before each access.
fn gate(site: &'static Site) {
    let Some(hand) = RUNNING.with_borrow(Clone::clone) else {
        OUTSIDE.set(OUTSIDE.get() + 1);
        return assert!(OUTSIDE.get() < LIVELOCK, "a livelock before or after the play");
    };
    if !SEARCHED.get() || site.index == OWN {
        if hand.quota.get() == 0 {
            hand.sets_aside();
        }
        hand.quota.set(hand.quota.get().saturating_sub(1));
    }
    if hand.stop_at.get().is_some_and(|k| hand.accesses.get() >= k) {
        hand.stops(Some(site));
    }
    hand.accesses.set(hand.accesses.get() + 1);
    hand.note(site);
    buffered(|buffers, _| buffers.pass());
    hand.is_alive();
}

struct Seat {
    hand: Rc<Hand>,
    coroutine: Coroutine<(), (), bool>,
}

fn seat((seat, Player { body, stop_at }): (usize, Player)) -> Seat {
    let hand = Rc::new(Hand {
        seat,
        yielder: Cell::new(std::ptr::null()),
        accesses: Cell::new(0),
        pauses: Cell::new(false),
        quota: Cell::new(0),
        stop_at: Cell::new(stop_at),
        passed: Cell::new(0),
    });
    let own = hand.clone();
    let stack = STACKS.with_borrow_mut(Vec::pop).unwrap_or_else(|| DefaultStack::new(1 << 18).expect("memory"));
    let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
        own.yielder.set(yielder);
        match catch_unwind(AssertUnwindSafe(body)) {
            // It may stop for ever behind its last access, too.
            Ok(()) => own.stop_at.get() == Some(own.accesses.get()),
            Err(payload) if payload.is::<StoppedForEver>() => true,
            Err(payload) => resume_unwind(payload),
        }
    });
    Seat { hand, coroutine }
}

/// Where a play stands.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Those who have not ended.
    pub playing: &'a [usize],
    /// Those of them who have paused, and nobody has done anything since.
    pub pausing: &'a [usize],
    /// How each player ended.
    pub ends: &'a [Option<Ending>],
    /// Accesses of all.
    pub passed: u64,
}

/// Lets the players play to their ends. A panic of one is everybody's.
pub fn play(players: Vec<Player>, policy: Scheduling, random: &mut Rng) -> Vec<Ending> {
    let mut order = Order::new(policy, players.len(), random);
    turns(players, |moment| order.next(moment, random))
}

/// As [`play`]; `next` says who goes on, at a structure's own sites: the heap's accesses are no places to switch.
pub fn play_by(players: Vec<Player>, mut next: impl FnMut(&Moment<'_>) -> usize) -> Vec<Ending> {
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            SEARCHED.set(false);
        }
    }
    let _over = Over;
    SEARCHED.set(true);
    turns(players, |moment| (next(moment), 1))
}

/// `next` says whose turn it is, and for how many accesses.
fn turns(players: Vec<Player>, mut next: impl FnMut(&Moment<'_>) -> (usize, u64)) -> Vec<Ending> {
    OUTSIDE.set(0);
    let mut seats: Vec<Seat> = players.into_iter().enumerate().map(seat).collect();
    let mut ends: Vec<Option<Ending>> = vec![None; seats.len()];
    let mut passed = 0;
    loop {
        let playing: Vec<usize> = (0..seats.len()).filter(|&i| ends[i].is_none()).collect();
        if playing.is_empty() {
            STACKS.with_borrow_mut(|stacks| stacks.extend(seats.into_iter().map(|seat| seat.coroutine.into_stack())));
            return ends.into_iter().flatten().collect();
        }
        let pausing: Vec<usize> = playing.iter().copied().filter(|&i| seats[i].hand.pauses.get()).collect();
        let (turn, quota) = next(&Moment { playing: &playing, pausing: &pausing, ends: &ends, passed });
        let Seat { hand, coroutine } = &mut seats[turn];
        hand.quota.set(quota);
        hand.pauses.set(false);
        let before = hand.accesses.get();
        RUNNING.set(Some(hand.clone()));
        let result = catch_unwind(AssertUnwindSafe(|| coroutine.resume(())));
        RUNNING.set(None);
        let accesses = hand.accesses.get() - before;
        passed += accesses;
        let others_may_go_on = accesses > 0 && !hand.pauses.get();
        match result {
            Ok(CoroutineResult::Yield(())) => {}
            Ok(CoroutineResult::Return(stopped)) => {
                ends[turn] = Some(Ending { stopped, accesses: hand.accesses.get(), passed: hand.passed.get() });
            }
            Err(payload) => resume_unwind(payload),
        }
        if others_may_go_on {
            seats.iter().for_each(|seat| seat.hand.pauses.set(false));
        }
    }
}

/// As [`play`], with a store buffer for each player. One that has stopped still drains, some time.
pub fn play_buffered(players: Vec<Player>, processes: &[u64], policy: Scheduling, random: &mut Rng) -> Vec<Ending> {
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            BUFFERS.set(None);
        }
    }
    let _forget = Forget;
    let lag = [2, 8, 40][random.usize(0..3)];
    let queues = players.iter().map(|_| VecDeque::new()).collect();
    BUFFERS.set(Some(Buffers { random: random.fork(), lag, queues, processes: processes.to_vec() }));
    let ends = play(players, policy, random);
    BUFFERS.with_borrow_mut(|buffers| buffers.as_mut().map(Buffers::drain_all));
    ends
}

/// An observer's accesses, which no player makes.
pub fn unseen<T>(look: impl FnOnce() -> T) -> T {
    let hand = RUNNING.take();
    let seen = look();
    RUNNING.set(hand);
    seen
}

/// A new scenario begins: accesses outside any play are counted, and bounded, anew.
pub fn begin() {
    OUTSIDE.set(0);
}

/// Runs `body` alone, with its accesses counted and bounded; stopped before access `k`, if given.
pub fn alone(body: impl FnOnce() + 'static, stop_at: Option<u64>) -> Ending {
    play(vec![Player { body: Box::new(body), stop_at }], Scheduling::Bursts, &mut Rng::with_seed(0))[0]
}

struct Order {
    policy: Scheduling,
    /// The highest plays.
    priorities: Vec<i64>,
    /// At how many accesses of all the next changes come, the next one last.
    changes: Vec<u64>,
    lowest: i64,
    turn: usize,
}

impl Order {
    fn new(policy: Scheduling, players: usize, random: &mut Rng) -> Self {
        let mut priorities: Vec<i64> = (0..players as i64).collect();
        random.shuffle(&mut priorities);
        let mut changes = match policy {
            Scheduling::Bursts | Scheduling::Turns(_) => vec![],
            Scheduling::Priorities { changes, length } => (0..changes).map(|_| random.u64(0..length.max(1))).collect(),
        };
        changes.sort_unstable_by(|a, b| b.cmp(a));
        Self { policy, priorities, changes, lowest: 0, turn: 0 }
    }

    /// Whose turn it is, and for how many accesses.
    fn next(&mut self, moment: &Moment<'_>, random: &mut Rng) -> (usize, u64) {
        let playing = moment.playing;
        match self.policy {
            Scheduling::Bursts => {
                let most = [1, 4, 16, 60][random.usize(0..4)];
                return (playing[random.usize(0..playing.len())], 1 + random.u64(0..most));
            }
            Scheduling::Turns(turns) => {
                while let Some(&(player, accesses)) = turns.get(self.turn) {
                    self.turn += 1;
                    if playing.contains(&player) {
                        return (player, accesses);
                    }
                }
                return (playing[0], u64::MAX);
            }
            Scheduling::Priorities { .. } => {}
        }
        loop {
            let first = playing.iter().copied().max_by_key(|&i| self.priorities[i]);
            let Some(first) = first else { unreachable!("somebody plays") };
            match self.changes.last() {
                Some(&at) if at <= moment.passed => {
                    self.changes.pop();
                    self.lowest -= 1;
                    self.priorities[first] = self.lowest;
                }
                Some(&at) => return (first, at - moment.passed),
                None => return (first, u64::MAX),
            }
        }
    }
}

/// The backend of scheduled players; mutants are switched by `decorators::set_mutant`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scheduled;

/// A word of [`Scheduled`].
#[derive(Debug)]
pub struct ScheduledWord(NativeWord);

impl ScheduledWord {
    /// A read-modify-write is a full fence, too.
    fn locked(&self, site: &'static Site) -> &NativeWord {
        gate(site);
        buffered(Buffers::drain);
        &self.0
    }
    fn note(&self, site: &'static Site, done: Done) {
        if site.index == OWN
            && let Some(seat) = seat_of_running()
        {
            trace::access(seat, site, &self.0, done);
        }
    }
    /// An unconditional read-modify-write.
    fn changed(&self, site: &'static Site, before: u64, after: u64) -> u64 {
        self.note(site, Done::Changed(before, after));
        before
    }
}

impl Word for ScheduledWord {
    fn load(&self, site: &'static Site) -> u64 {
        gate(site);
        let own = buffered(|buffers, seat| {
            let newest = buffers.queues[seat].iter().rev().find(|store| std::ptr::eq(store.word, &self.0));
            newest.map(|store| store.value)
        });
        let value = own.flatten().unwrap_or_else(|| self.0.load(site));
        self.note(site, Done::Read(value));
        value
    }
    fn store(&self, value: u64, site: &'static Site) {
        gate(site);
        self.note(site, Done::Wrote(value));
        let kept = buffered(|buffers, seat| {
            if buffers.queues[seat].len() == BUFFER {
                buffers.drain_one(seat);
            }
            buffers.queues[seat].push_back(Buffered { word: &self.0, value, site });
        });
        if kept.is_none() {
            self.0.store(value, site);
        } else if site.order == std::sync::atomic::Ordering::SeqCst {
            buffered(Buffers::drain);
        }
    }
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        let result = self.locked(site).cas(old, new, site);
        self.note(site, result.map_or_else(|found| Done::Refused(old, found), |_| Done::Changed(old, new)));
        result
    }
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        let before = self.locked(site).fetch_or(bits, site);
        self.changed(site, before, before | bits)
    }
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        let before = self.locked(site).fetch_and(bits, site);
        self.changed(site, before, before & bits)
    }
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        let before = self.locked(site).fetch_add(n, site);
        self.changed(site, before, before.wrapping_add(n))
    }
}

impl Backend for Scheduled {
    type Word = ScheduledWord;
    type Cell = ();
    fn word(value: u64) -> ScheduledWord {
        ScheduledWord(Native::word(value))
    }
    fn cell() {}
    fn touch((): &()) {}
    fn fence(site: &'static Site) {
        // No access: noted, and no place to switch.
        RUNNING.with_borrow(|hand| hand.as_ref().map(|hand| hand.note(site)));
        buffered(Buffers::drain);
        Native::fence(site);
    }
    /// On x86 neither is anything for the processor.
    fn fence_behind_rmw(site: &'static Site) {
        Self::light_fence(site);
    }
    fn fence_between_loads(site: &'static Site) {
        Self::light_fence(site);
    }
    /// Nothing for the processor; what the compiler may move is not modelled here.
    fn light_fence(site: &'static Site) {
        RUNNING.with_borrow(|hand| hand.as_ref().map(|hand| hand.note(site)));
    }
    /// membarrier(2): each processor that runs a participant within reach passes a full fence, or has passed one.
    fn heavy_fence(site: &'static Site, reach: Reach) -> bool {
        RUNNING.with_borrow(|hand| hand.as_ref().map(|hand| hand.note(site)));
        buffered(|buffers, seat| {
            let is_near = |other: usize| buffers.processes[other] == buffers.processes[seat];
            let reached: Vec<usize> =
                (0..buffers.queues.len()).filter(|&other| reach == Reach::System || is_near(other)).collect();
            reached.into_iter().for_each(|other| buffers.drain(other));
        });
        true
    }
    fn pause() {
        let hand = RUNNING.with_borrow(Clone::clone);
        if let Some(hand) = hand.filter(|_| SEARCHED.get()) {
            hand.accesses.set(hand.accesses.get() + 1);
            hand.is_alive();
            hand.pauses.set(true);
            hand.sets_aside();
        }
    }
    fn mutated(mutant: Mutant) -> bool {
        Probe::<Native>::mutated(mutant)
    }
}

/// Whether a panic is expected.
pub fn quiet() -> bool {
    QUIET.get()
}

/// Runs it; the hook prints no panic of this thread meanwhile: they are expected.
pub fn quietly<T>(run: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            QUIET.set(self.0);
        }
    }
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                hook(info);
            }
        }));
    });
    let _before = Before(QUIET.replace(true));
    run()
}

/// What a panic's payload says.
pub fn said(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("?")
}

/// What a panic says; the hook does not print it meanwhile.
pub fn message(run: impl FnOnce()) -> Option<String> {
    let payload = quietly(|| catch_unwind(AssertUnwindSafe(run)).err())?;
    Some(said(&*payload).to_owned())
}

/// The same on one line, and short.
pub fn caught(run: impl FnOnce()) -> Option<String> {
    message(run).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(90).collect())
}
