//! The helper thread: it sleeps for the futures and descriptors of its process, so that none of them has to.
//!
//! A future does the steps of a sleeper (`ipc::wait`) but the sleep itself: it tries, is *counted in* at the bell,
//! passes the fence, tries once more, and only then leaves its bell's word and what it has heard to the
//! helper. The helper sleeps while every word is as it was heard. So what is put behind the last try is rung
//! behind what the future has heard: the helper does not fall asleep over it, or is woken.
//!
//! ```text
//! future                                     helper, round by round
//!  1 try; it is there: done                   1 told ← tellings
//!  2 be counted in at the bell                2 round += 1; takes what is to be waited for        (under the lock)
//!  3 fence, try; it is there: leave, done     3 one has rung, or its nap is over: 5
//!  4 adds its wait (under the lock)           4 sleeps while tellings = told and nobody has rung
//!  5 tellings += 1, wake                      5 takes out those that have rung (under the lock), wakes their wakers
//! ```
//!
//! **A watch** is for somebody who may not come for what was put: a descriptor (`ipc::descriptor`), which says that
//! something may be there, whoever takes it. A bell that calls one of its sleepers may call the helper for a watch
//! alone. So the helper leaves the bell in the watch's stead and wakes one more of those who sleep there, before it
//! wakes its waker: a thread that sleeps at the same bell has the call, and need not nap beside what was put. That is
//! no ring: called is who has not heard the last one. So a call passes through each watch once at most, however soon
//! it is armed again: then it has heard the ring. (The kernel wakes who has slept longest; whose
//! priority is a real-time one comes first, and may have a call that it has heard: then the other naps.) A future is
//! polled or dropped: it does that itself. *Killed* before it passes a call on: the others look again after their nap.
//!
//! **Dropped.** A future takes its wait out, and, if the helper may be asleep for it, waits until the helper
//! has begun another round (some microseconds). So from then on the helper is nobody's sleeper at that bell;
//! and if the bell was rung, the future passes the call on, which may have been its own. Nothing was taken:
//! it takes only when it is polled, and returns what it takes at once.
//!
//! **Bounds.** Each wait ends after [`NAP`] at the latest, and its waker is woken, to look again: so whoever
//! was woken elsewhere and is stopped or killed holds nobody up for longer. The helper wakes all that wait
//! for a bell when it is rung. It is one thread for each segment that a process has open and awaits anything
//! in; without FUTEX_WAITV (Linux 5.16), or for more than 127 structures at once, it looks once a
//! millisecond.

use super::wait::{Bell, CountedIn, Look, NAP, fence_of_sleepers};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Where a bell is, for as long as this lives. Of a future's the helper only reads `rings`; a watch's it writes, until
/// that is left or given up.
pub trait Rings<B: Backend>: Send + Sync {
    /// The bell.
    fn bell(&self) -> Bell<'_, B>;
}

/// Who comes for what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// A future, which is polled or dropped.
    Surely,
    /// Nobody, perhaps: it is a watch.
    Perhaps,
}

/// Something that is waited for on behalf of a future, or a watch.
pub struct Wait<B: Backend> {
    bell: Box<dyn Rings<B>>,
    counted: CountedIn,
    comes: Comes,
    since: Instant,
    state: Mutex<Progress>,
}

enum Progress {
    Waiting(Waker),
    Over(Look),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Backend> Wait<B> {
    /// How to look, if it is over. If not, this waker is the one to be woken from now on.
    fn over(&self, waker: &Waker) -> Option<Look> {
        match &mut *locked(&self.state) {
            Progress::Over(look) => Some(*look),
            Progress::Waiting(before) => {
                before.clone_from(waker);
                None
            }
        }
    }
    fn age(&self) -> Duration {
        if B::TIME_PASSES { self.since.elapsed() } else { Duration::ZERO }
    }
    fn has_rung(&self) -> bool {
        self.bell.bell().has_rung(self.counted)
    }
    /// The helper's step for a watch: it leaves the bell, and another has the call, if there was one.
    fn leave_watch(&self) {
        let bell = self.bell.bell();
        if B::takes(Mutant::WatchKeepsCall) {
            bell.leave_to_others(self.counted);
        } else {
            bell.leave(self.counted);
        }
    }
    fn end(&self, look: Look) {
        let before = std::mem::replace(&mut *locked(&self.state), Progress::Over(look));
        if let Progress::Waiting(waker) = before {
            // Somebody else's code: it must not end the helper.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// What helper and futures share.
pub struct Helper<B: Backend> {
    list: Mutex<List<B>>,
    /// One more each time that the list has changed.
    tellings: B::Word,
    /// One more for each round that somebody waits for.
    rounds: B::Word,
}

struct Listed<B: Backend> {
    id: u64,
    wait: Arc<Wait<B>>,
    /// Whether the helper may be asleep for it, or may write its bell.
    slept_for: bool,
    /// Of a watch: whether the helper leaves its bell, or has.
    left: bool,
}

struct List<B: Backend> {
    /// In the order of their ids.
    waits: Vec<Listed<B>>,
    next: u64,
    round: u64,
    /// Those who wait for the next round.
    leavers: usize,
    ended: bool,
}

impl<B: Backend> List<B> {
    fn place(&self, id: u64) -> Option<usize> {
        self.waits.binary_search_by_key(&id, |entry| entry.id).ok()
    }
    fn remove(&mut self, id: u64) -> Option<Listed<B>> {
        self.place(id).map(|at| self.waits.remove(at))
    }
}

impl<B: Backend> Default for Helper<B> {
    fn default() -> Self {
        let list = List { waits: vec![], next: 0, round: 0, leavers: 0, ended: false };
        Self { list: Mutex::new(list), tellings: B::word(0), rounds: B::word(0) }
    }
}

impl<B: Backend> Helper<B> {
    /// One round of the helper's. False when it has to end.
    pub fn round(&self) -> bool {
        let told = self.tellings.load(&BELL_LOOK);
        let (waits, leavers) = {
            let mut list = locked(&self.list);
            if list.ended {
                return false;
            }
            list.round += 1;
            let waits = list.waits.iter_mut().map(|entry| {
                entry.slept_for = true;
                (entry.id, Arc::clone(&entry.wait))
            });
            (waits.collect::<Vec<_>>(), std::mem::take(&mut list.leavers))
        };
        if leavers > 0 {
            self.rounds.fetch_add(1, &BELL_RING);
            B::wake(&self.rounds, u32::MAX);
        }
        let left = waits.iter().map(|(_, wait)| NAP.saturating_sub(wait.age())).min();
        let left = left.unwrap_or(Duration::from_secs(3600));
        if !left.is_zero() && !waits.iter().any(|(_, wait)| wait.has_rung()) {
            let mut words = vec![(&self.tellings, told)];
            for (_, wait) in &waits {
                let rings = wait.bell.bell().rings;
                // None has rung: what was heard of one bell is the same.
                if !words.iter().any(|(word, _)| std::ptr::eq(*word, rings)) {
                    words.push((rings, wait.counted.heard));
                }
            }
            B::wait_any(&words, left);
        }
        self.end_those_due(&waits);
        true
    }

    fn end_those_due(&self, waits: &[(u64, Arc<Wait<B>>)]) {
        // After a nap one of them looks whether everybody is alive.
        let mut look = Look::Thorough;
        for &(id, ref wait) in waits {
            let (rung, napped) = (wait.has_rung(), wait.age() >= NAP);
            if !(rung || napped) {
                continue;
            }
            if wait.comes == Comes::Perhaps {
                // In the list all the while: whoever drops it waits for the next round.
                let mut list = locked(&self.list);
                let Some(at) = list.place(id) else { continue };
                list.waits[at].left = true;
                drop(list);
                wait.leave_watch();
            }
            // Dropped meanwhile.
            let mut list = locked(&self.list);
            if list.remove(id).is_none() {
                continue;
            }
            drop(list);
            wait.end(if rung { Look::Quick } else { std::mem::replace(&mut look, Look::Quick) });
        }
    }

    /// The helper's loop.
    pub fn run(&self) {
        while self.round() {}
    }

    /// The helper ends, soon.
    pub fn end(&self) {
        locked(&self.list).ended = true;
        self.tell();
    }

    #[cfg(test)]
    pub(super) fn has_ended(&self) -> bool {
        locked(&self.list).ended
    }

    fn tell(&self) {
        if B::takes(Mutant::HelperUntold) {
            self.tellings.fetch_add(1, &BELL_RING);
            B::wake(&self.tellings, 1);
        }
    }

    fn add(&self, wait: &Arc<Wait<B>>) -> u64 {
        let mut list = locked(&self.list);
        list.next += 1;
        let id = list.next;
        list.waits.push(Listed { id, wait: Arc::clone(wait), slept_for: false, left: false });
        drop(list);
        self.tell();
        id
    }

    /// The helper does not wait for it any more. Whether it has seen to its end; then it has left a watch's bell.
    fn remove(&self, id: u64) -> bool {
        let (round, left) = {
            let mut list = locked(&self.list);
            match list.remove(id) {
                None => return true,
                Some(Listed { slept_for: true, left, .. }) if B::takes(Mutant::HelperUnawaited) => {
                    list.leavers += 1;
                    (list.round, left)
                }
                Some(entry) => return entry.left,
            }
        };
        self.tell();
        loop {
            let rounds = self.rounds.load(&BELL_LOOK);
            let list = locked(&self.list);
            if list.round > round || list.ended {
                return left;
            }
            drop(list);
            B::wait(&self.rounds, rounds, NAP);
        }
    }
}

/// A future's place, or a watch's: counted as asleep at its bell, and waited for by the helper.
pub struct Sleeper<B: Backend> {
    helper: Arc<Helper<B>>,
    id: u64,
    wait: Arc<Wait<B>>,
}

impl<B: Backend> Sleeper<B> {
    fn new(
        helper: &Arc<Helper<B>>,
        bell: Box<dyn Rings<B>>,
        (counted, comes): (CountedIn, Comes),
        waker: &Waker,
    ) -> Self {
        let state = Mutex::new(Progress::Waiting(waker.clone()));
        let wait = Arc::new(Wait { bell, counted, comes, since: Instant::now(), state });
        Self { id: helper.add(&wait), helper: Arc::clone(helper), wait }
    }
    /// Begins a watch: counts as asleep, and leaves the waiting to the helper, which wakes the waker when the bell has
    /// rung since. Whoever calls this tries once more behind it. The structure stays as long as this is neither left
    /// nor given up.
    pub fn watch(
        helper: &Arc<Helper<B>>,
        bell: &Bell<'_, B>,
        rings: impl FnOnce() -> Box<dyn Rings<B>>,
        waker: &Waker,
    ) -> Self {
        let mut counted = bell.count_in();
        while !counted.counts {
            bell.leave(counted);
            counted = bell.count_in();
        }
        fence_of_sleepers::<B>();
        Self::new(helper, rings(), (counted, Comes::Perhaps), waker)
    }
    /// How to look, if its wait is over. If not, this waker is the one to be woken from now on.
    pub fn over(&self, waker: &Waker) -> Option<Look> {
        self.wait.over(waker)
    }
    /// The helper leaves its bell. Whether this has to do so as well: not a watch that the helper has seen to.
    fn leaves_helper(&self) -> bool {
        let seen_to = self.helper.remove(self.id);
        !(seen_to && self.wait.comes == Comes::Perhaps)
    }
    /// It sleeps no more, and looks at what was put meanwhile.
    pub fn leave(self, bell: &Bell<'_, B>) {
        if self.leaves_helper() {
            bell.leave(self.wait.counted);
        }
    }
    /// It is dropped: the helper leaves its bell, and the call goes to another, if there was one.
    pub fn give_up(self, bell: &Bell<'_, B>) {
        if self.leaves_helper() {
            bell.leave_for_good(self.wait.counted);
        }
    }
}

/// One poll of a future that waits for what `attempt` takes, asleep at the bell in between: steps 1 to 5.
pub fn poll<B: Backend, T>(
    helper: &Arc<Helper<B>>,
    bell: Bell<'_, B>,
    rings: impl FnOnce() -> Box<dyn Rings<B>>,
    asleep: &mut Option<Sleeper<B>>,
    waker: &Waker,
    mut attempt: impl FnMut(Look) -> Option<T>,
) -> Option<T> {
    // The waker first: what is put behind the try rings behind what was heard.
    let over = asleep.as_ref().map(|sleeper| sleeper.over(waker));
    let found = attempt(over.flatten().unwrap_or(Look::Quick));
    if found.is_none() && matches!(over, Some(None)) {
        return None;
    }
    if let Some(sleeper) = asleep.take() {
        sleeper.leave(&bell);
    }
    if found.is_some() {
        return found;
    }
    loop {
        let counted = bell.count_in();
        fence_of_sleepers::<B>();
        let found = if B::mutated(Mutant::SecondPollDropped) { None } else { attempt(Look::Quick) };
        if found.is_none() && counted.counts {
            *asleep = Some(Sleeper::new(helper, rings(), (counted, Comes::Surely), waker));
            return None;
        }
        bell.leave(counted);
        if found.is_some() {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::awake::{Awake, meanwhile, slept};

    type Words = <Awake as Backend>::Word;

    /// A bell of a process's own.
    #[derive(Clone)]
    struct Own(Arc<[Words; 2]>);
    impl Own {
        fn new() -> Self {
            Self(Arc::new([0, 0].map(Awake::word)))
        }
        fn rung(&self) -> u64 {
            self.0[0].load(&BELL_LOOK)
        }
        fn asleep(&self) -> u32 {
            self.0[1].load(&SLEEPERS_LOOK) as u32
        }
        fn watched_by(&self, helper: &Arc<Helper<Awake>>) -> Sleeper<Awake> {
            Sleeper::watch(helper, &self.bell(), || Box::new(self.clone()), Waker::noop())
        }
        /// A future that is polled for the first time, and finds nothing.
        fn awaited_by(&self, helper: &Arc<Helper<Awake>>) -> Sleeper<Awake> {
            let mut asleep = None;
            let rings = || Box::new(self.clone()) as _;
            let found = poll(helper, self.bell(), rings, &mut asleep, Waker::noop(), |_| None::<()>);
            assert!(found.is_none());
            asleep.expect("it sleeps")
        }
    }
    impl Rings<Awake> for Own {
        fn bell(&self) -> Bell<'_, Awake> {
            Bell::new(&self.0[0], &self.0[1])
        }
    }

    fn helper() -> Arc<Helper<Awake>> {
        slept();
        Arc::default()
    }

    #[test]
    fn q5_a_round_is_slept_at_each_bell_unless_one_has_rung() {
        let helper = helper();
        assert!(helper.round());
        assert_eq!(slept(), [1], "for news alone");
        let (one, two) = (Own::new(), Own::new());
        let (first, again, second) = (one.watched_by(&helper), one.watched_by(&helper), two.watched_by(&helper));
        assert!(helper.round());
        assert_eq!(slept(), [3], "news, and each bell once");
        assert_eq!([&first, &again, &second].map(|one| one.over(Waker::noop())), [None; 3]);
        one.bell().ring(1);
        assert!(helper.round());
        assert_eq!(slept(), [0; 0], "one has rung");
        let over = [&first, &again, &second].map(|one| one.over(Waker::noop()));
        assert_eq!(over, [Some(Look::Quick), Some(Look::Quick), None]);
        assert_eq!(helper.rounds.load(&BELL_LOOK), 0, "nobody waits for a round");
        first.leave(&one.bell());
        again.leave(&one.bell());
        meanwhile(move || assert!(helper.round()));
        second.leave(&two.bell());
    }

    /// A watch, whose bell the helper leaves, and a future, which does that itself; each with another beside it, that
    /// counts still.
    #[test]
    fn q5_each_sleeper_leaves_its_bell_once() {
        let (helper, bell) = (helper(), Own::new());
        let _beside = bell.bell().count_in();
        for by in [Own::watched_by, Own::awaited_by] {
            for gives_up in [false, true] {
                let leave = |sleeper: Sleeper<Awake>| {
                    if gives_up { sleeper.give_up(&bell.bell()) } else { sleeper.leave(&bell.bell()) }
                };
                // Before the helper has heard of it; when it may be asleep for it; when it has seen to it.
                leave(by(&bell, &helper));
                assert_eq!((bell.asleep(), locked(&helper.list).waits.len()), (1, 0));
                let sleeper = by(&bell, &helper);
                helper.round();
                let again = Arc::clone(&helper);
                meanwhile(move || assert!(again.round()));
                leave(sleeper);
                assert_eq!((bell.asleep(), locked(&helper.list).waits.len()), (1, 0));
                let sleeper = by(&bell, &helper);
                bell.bell().ring(1);
                helper.round();
                leave(sleeper);
                assert_eq!((bell.asleep(), locked(&helper.list).waits.len()), (1, 0));
            }
        }
    }

    /// Who does not look passes the call on, which may have been its own: to the one beside it.
    #[test]
    fn q5_a_future_that_is_dropped_passes_a_call_on() {
        let (helper, bell) = (helper(), Own::new());
        let _beside = bell.bell().count_in();
        bell.awaited_by(&helper).give_up(&bell.bell());
        assert_eq!(bell.rung(), 0, "there was no call");
        let (looks, dropped) = (bell.awaited_by(&helper), bell.awaited_by(&helper));
        bell.bell().ring(1);
        looks.leave(&bell.bell());
        assert_eq!(bell.rung(), 1);
        dropped.give_up(&bell.bell());
        assert_eq!(bell.rung(), 2);
    }

    /// The helper may be asleep at its bell: whoever leaves waits until another round has begun, and is called then.
    #[test]
    fn q5_who_leaves_a_helper_that_may_be_asleep_for_it_waits_for_its_next_round() {
        let (helper, bell) = (helper(), Own::new());
        bell.watched_by(&helper).leave(&bell.bell());
        assert_eq!(slept(), [0; 0], "the helper has not heard of it");
        let sleeper = bell.watched_by(&helper);
        helper.round();
        assert_eq!(slept(), [2]);
        let again = Arc::clone(&helper);
        meanwhile(move || assert!(again.round()));
        sleeper.leave(&bell.bell());
        assert_eq!(slept(), [0, 1], "it waits; the helper begins a round without it");
        assert_eq!((helper.rounds.load(&BELL_LOOK), locked(&helper.list).leavers), (1, 0), "who waits is called once");
    }

    #[test]
    fn q5_a_helper_that_is_to_end_begins_no_round() {
        let helper = helper();
        let told = helper.tellings.load(&BELL_LOOK);
        helper.end();
        assert_eq!(helper.tellings.load(&BELL_LOOK), told + 1, "it is called");
        assert!(!helper.round());
        assert_eq!(slept(), [0; 0]);
    }
}
