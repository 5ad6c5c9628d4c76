//! Waiting: whoever sleeps is woken. A wake-up that is lost leaves a thread asleep for ever, which the
//! checker reports as a deadlock: here nobody naps.

use crate::model::Met::{Mark, Read};
use crate::model::{mark, scenarios};
use atomic_matrix::backend::loom::{Loom, LoomWord};
use atomic_matrix::backend::orderings::{BELL_LOOK, SLEEPERS_RESET};
use atomic_matrix::backend::{Backend, Word};
use atomic_matrix::ipc::sync::barrier::{Gate, Passed};
use atomic_matrix::ipc::sync::event::Flag;
use atomic_matrix::ipc::sync::lock::{Busy, Lock};
use atomic_matrix::ipc::sync::semaphore::Permits;
use atomic_matrix::ipc::wait::Bell;
use std::sync::Arc;

/// A structure: its word, its bell, and what it protects.
pub(crate) struct Words {
    word: LoomWord,
    pub(crate) rings: LoomWord,
    pub(crate) sleepers: LoomWord,
    payload: <Loom as Backend>::Cell,
}

impl Words {
    pub(crate) fn new(word: u64) -> Arc<Self> {
        let [word, rings, sleepers] = [word, 0, 0].map(Loom::word);
        Arc::new(Self { word, rings, sleepers, payload: Loom::cell() })
    }
    /// One of the dead is still counted as asleep.
    fn with_a_dead_sleeper() -> Arc<Self> {
        let words = Self::new(0);
        words.sleepers.fetch_add(1, &SLEEPERS_RESET);
        words
    }
    pub(crate) fn bell(&self) -> Bell<'_, Loom> {
        Bell::new(&self.rings, &self.sleepers)
    }
    pub(crate) fn permits(&self) -> Permits<'_, Loom> {
        Permits { count: &self.word, bell: self.bell() }
    }
    fn flag(&self) -> Flag<'_, Loom> {
        Flag { flag: &self.word, bell: self.bell() }
    }
    fn lock(&self) -> Lock<'_, Loom> {
        Lock { word: &self.word, bell: self.bell() }
    }
    fn gate(&self, parties: u32) -> Gate<'_, Loom> {
        Gate { round: &self.word, bell: self.bell(), parties }
    }
}

/// Runs the parts at the same time, to their end.
fn run<const N: usize>(words: &Arc<Words>, parts: [fn(&Words); N]) {
    let threads = parts.map(|part| {
        let words = Arc::clone(words);
        loom::thread::spawn(move || part(&words))
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

scenarios! {
    // One waits for a permit, another gives it: nobody stays asleep, and what was written before is seen.
    loom_q5_waiter_meets_giver None, None, 20, [Read(&BELL_LOOK), Mark("woken")] => {
        let words = Words::new(0);
        run(&words, [
            |words| {
                assert!(words.permits().take(None));
                Loom::touch(&words.payload);
            },
            |words| {
                Loom::touch(&words.payload);
                words.permits().give(1);
                if words.rings.load(&BELL_LOOK) > 0 { mark("woken") }
            },
        ]);
        assert_eq!((words.permits().available(), words.sleepers.load(&BELL_LOOK) as u32), (0, 0));
    }

    // Two wait, two permits come one at a time: each wakes somebody who finds one.
    loom_q5_two_wait_for_two_permits Some(1), Some(2), 20, [Mark("taken")] => {
        let words = Words::new(0);
        let take: fn(&Words) = |words| {
            assert!(words.permits().take(None));
            mark("taken");
        };
        run(&words, [take, take, |words| {
            words.permits().give(1);
            words.permits().give(1);
        }]);
        assert_eq!(words.permits().available(), 0);
    }

    // A sleeper has been killed: the first ring that wakes nobody counts anew, and whoever is just falling
    // asleep is not forgotten.
    loom_q5_count_of_sleepers_is_mended Some(3), Some(3), 50, [Read(&BELL_LOOK), Mark("mended")] => {
        let words = Words::with_a_dead_sleeper();
        run(&words, [
            |words| assert!(words.permits().take(None)),
            |words| {
                words.bell().ring(1);
                words.permits().give(1);
            },
        ]);
        let sleepers = words.sleepers.load(&BELL_LOOK);
        if sleepers >> 32 > 0 { mark("mended") }
        assert!(sleepers as u32 <= 1, "only the dead one may count: {sleepers:x}");
        let rings = words.rings.load(&BELL_LOOK);
        words.bell().ring(1);
        words.bell().ring(1);
        let again = words.rings.load(&BELL_LOOK);
        words.bell().ring(1);
        assert!(again - rings <= 2 && words.rings.load(&BELL_LOOK) == again, "Q5: no ring for nobody");
    }

    // An event wakes all who wait for it, and one of those who clear it.
    loom_q5_event_wakes_all Some(1), Some(2), 50, [Mark("went on")] => {
        let words = Words::new(0);
        let wait: fn(&Words) = |words| {
            assert!(words.flag().wait(None));
            mark("went on");
        };
        run(&words, [wait, wait, |words| words.flag().set()]);
        assert!(words.flag().clear() && !words.flag().clear());
    }

    // Whoever sees that an event is set sees what was written before.
    loom_q5_event_shows_what_was_written Some(3), Some(3), 20, [Mark("set")] => {
        let words = Words::new(0);
        run(&words, [
            |words| {
                assert!(words.flag().wait(None));
                Loom::touch(&words.payload);
            },
            |words| {
                Loom::touch(&words.payload);
                words.flag().set();
                mark("set");
            },
        ]);
    }

    // A lock: one at a time, and whoever waits gets it.
    loom_q5_lock_passes_on Some(3), Some(3), 50, [Mark("had it")] => {
        let words = Words::new(0);
        fn part(words: &Words, me: u64) {
            assert_eq!(words.lock().take(me, None, |_, _| false), Ok(false));
            Loom::touch(&words.payload);
            mark("had it");
            words.lock().release();
        }
        run(&words, [|words| part(words, 1), |words| part(words, 2)]);
        assert_eq!(words.lock().look(), (None, false));
    }

    // The holder is dead: one of two takes the lock over, and both are told.
    loom_q5_lock_of_the_dead_is_taken_over Some(3), Some(3), 50, [Mark("took over"), Mark("came after")] => {
        let words = Words::new(7);
        fn part(words: &Words, me: u64) {
            match words.lock().try_take(me, |holder| holder == 7) {
                Ok(poisoned) => {
                    assert!(poisoned, "a dead holder's lock is poisoned");
                    Loom::touch(&words.payload);
                    mark("took over");
                    words.lock().release();
                }
                Err(held) => {
                    mark("came after");
                    assert!(matches!(held, Busy::Held(7 | 1 | 2)));
                }
            }
        }
        run(&words, [|words| part(words, 1), |words| part(words, 2)]);
        assert_eq!(words.lock().look(), (None, true), "it stays poisoned until somebody cures it");
    }

    // Two rounds of a barrier: nobody passes alone, one leads each round.
    loom_q5_barrier_opens_twice Some(2), Some(2), 50, [Mark("led")] => {
        let words = Words::new(0);
        let part: fn(&Words) = |words| for _ in 0..2 {
            if words.gate(2).meet(None) == Some(Passed::Leader) {
                Loom::touch(&words.payload);
                mark("led");
            }
        };
        run(&words, [part, part]);
        assert_eq!(words.word.load(&BELL_LOOK), 2 << 32);
    }
}
