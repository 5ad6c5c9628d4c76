//! Waiting for several things, and futures with their helper thread: whoever waits is woken, and a call that
//! was for something else, or for a future that is dropped, goes to another. A call that is lost leaves
//! somebody asleep for ever, a deadlock: here nobody naps.

use crate::model::Met::Mark;
use crate::model::{mark, scenarios};
use crate::waiting::Words;
use atomic_matrix::backend::loom::{Loom, LoomWord};
use atomic_matrix::backend::orderings::{BELL_LOOK, BELL_RING};
use atomic_matrix::backend::{Backend, Word};
use atomic_matrix::ipc::helper::{Helper, Rings, Sleeper, poll};
use atomic_matrix::ipc::several::wait_for_any;
use atomic_matrix::ipc::wait::Bell;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// The words of a structure, for the helper.
struct Of(Arc<Words>);

impl Rings<Loom> for Of {
    fn bell(&self) -> Bell<'_, Loom> {
        self.0.bell()
    }
}

/// What a runtime has: a thread that sleeps until it is woken.
struct Runtime(LoomWord);

impl Wake for Runtime {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, &BELL_RING);
        Loom::wake(&self.0, 1);
    }
}

/// A descriptor that nobody looks at.
struct Unseen;

impl Wake for Unseen {
    fn wake(self: Arc<Self>) {
        mark("readable");
    }
}

/// Two structures, the helper, and who waits.
struct World {
    words: [Arc<Words>; 2],
    helper: Arc<Helper<Loom>>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self { words: [Words::new(0), Words::new(0)], helper: Arc::default() })
    }
    /// Runs the parts at the same time, to their end.
    fn run<const N: usize>(self: &Arc<Self>, parts: [fn(&Self); N]) {
        let threads = parts.map(|part| {
            let world = Arc::clone(self);
            loom::thread::spawn(move || part(&world))
        });
        for thread in threads {
            thread.join().unwrap();
        }
    }
    fn give(&self, at: usize) {
        self.words[at].permits().give(1);
    }
    /// Takes a permit of either.
    fn select(&self) -> usize {
        let bells = [self.words[0].bell(), self.words[1].bell()];
        let taken = wait_for_any(&bells, 0, None, |at, _| self.words[at].permits().try_take().then_some(()));
        taken.expect("no deadline").0
    }
    /// A poll of the future that takes a permit.
    fn poll(&self, asleep: &mut Option<Sleeper<Loom>>, waker: &Waker) -> bool {
        let words = &self.words[0];
        let take = |_| words.permits().try_take().then_some(());
        poll(&self.helper, words.bell(), || Box::new(Of(Arc::clone(words))), asleep, waker, take).is_some()
    }
    /// Polls the future to its end.
    fn block_on(&self) {
        let runtime = Arc::new(Runtime(Loom::word(0)));
        let waker = Waker::from(Arc::clone(&runtime));
        let mut asleep = None;
        loop {
            let heard = runtime.0.load(&BELL_LOOK);
            if self.poll(&mut asleep, &waker) {
                return;
            }
            mark("pending");
            Loom::wait(&runtime.0, heard, std::time::Duration::MAX);
        }
    }
    fn at_rest(&self) {
        for words in &self.words {
            assert_eq!((words.permits().available(), words.sleepers.load(&BELL_LOOK) as u32), (0, 0));
        }
    }
}

scenarios! {
    // One waits for two things and the second comes: it is woken.
    loom_q5_who_waits_for_several_is_woken Some(2), Some(3), 20, [Mark("taken")] => {
        let world = World::new();
        world.run([|world| if world.select() == 1 { mark("taken") }, |world| world.give(1)]);
        world.at_rest();
    }

    // Both things come while one waits for either and another for the second: the call of the second may be
    // the first one's, which has taken the first thing.
    loom_q5_a_call_for_another_thing_is_passed_on Some(1), Some(2), 20, [Mark("first"), Mark("second")] => {
        let world = World::new();
        world.run([
            |world| {
                let took = world.select();
                mark(if took == 0 { "first" } else { "second" });
                // Whatever it left is the other's.
                if took == 1 { world.give(1) }
            },
            |world| assert!(world.words[1].permits().take(None)),
            |world| {
                world.give(1);
                world.give(0);
            },
        ]);
        // The first thing may be left.
        world.words[0].permits().try_take();
        world.at_rest();
    }

    // A future is polled by a thread that sleeps until it is woken, beside the helper.
    loom_q5_a_future_is_woken Some(1), Some(2), 20, [Mark("pending")] => {
        let world = World::new();
        world.run([
            |world| {
                world.block_on();
                world.helper.end();
            },
            |world| world.helper.run(),
            |world| world.give(0),
        ]);
        world.at_rest();
    }

    // A future that waits is dropped while another process waits for the same, and a permit comes: that one has it.
    loom_q5_a_dropped_future_keeps_no_call Some(2), Some(2), 20, [Mark("dropped")] => {
        let world = World::new();
        world.run([
            |world| {
                let mut asleep = None;
                let waker = Waker::from(Arc::new(Runtime(Loom::word(0))));
                if world.poll(&mut asleep, &waker) {
                    // It has it, and gives it back.
                    world.give(0);
                } else if let Some(asleep) = asleep {
                    mark("dropped");
                    asleep.give_up(&world.words[0].bell());
                }
                assert!(world.words[0].permits().take(None));
                world.helper.end();
            },
            |world| world.helper.run(),
            |world| world.give(0),
        ]);
        world.at_rest();
    }

    // A descriptor is armed, and nobody looks at it; who sleeps at the same bell has what is put, in this process
    // or another.
    loom_q5_a_descriptor_keeps_no_call Some(1), Some(2), 20, [Mark("readable")] => {
        let world = World::new();
        world.run([
            |world| {
                let words = &world.words[0];
                let waker = Waker::from(Arc::new(Unseen));
                let armed =
                    Sleeper::watch(&world.helper, &words.bell(), || Box::new(Of(Arc::clone(words))), &waker);
                assert!(words.permits().take(None));
                armed.give_up(&words.bell());
                world.helper.end();
            },
            |world| world.helper.run(),
            |world| world.give(0),
        ]);
        world.at_rest();
    }

    // The same of two descriptors of two processes: a call passes through both.
    loom_q5_a_call_passes_through_descriptors Some(1), Some(1), 20, [Mark("readable")] => {
        let world = World::new();
        world.run([
            |world| {
                let words = &world.words[0];
                let waker = Waker::from(Arc::new(Unseen));
                let arm = || Sleeper::watch(&world.helper, &words.bell(), || Box::new(Of(Arc::clone(words))), &waker);
                let armed = [arm(), arm()];
                assert!(words.permits().take(None));
                for armed in armed {
                    armed.leave(&words.bell());
                }
                world.helper.end();
            },
            |world| world.helper.run(),
            |world| world.give(0),
        ]);
        world.at_rest();
    }

    // Three descriptors, each armed again as soon as it is readable: one call passes through each once, and ends.
    loom_q5_a_call_ends_at_descriptors_that_are_armed_again Some(1), Some(1), 20, [Mark("again")] => {
        let world = World::new();
        world.run([
            |world| {
                let words = &world.words[0];
                let runtime = Arc::new(Runtime(Loom::word(0)));
                let waker = Waker::from(Arc::clone(&runtime));
                let arm = || Sleeper::watch(&world.helper, &words.bell(), || Box::new(Of(Arc::clone(words))), &waker);
                let mut armed = [arm(), arm(), arm()];
                // What is there already may have been put before anybody was called.
                let called = words.permits().available() == 0;
                for watch in armed.iter_mut().filter(|_| called) {
                    loop {
                        let heard = runtime.0.load(&BELL_LOOK);
                        if watch.over(&waker).is_some() {
                            break;
                        }
                        Loom::wait(&runtime.0, heard, std::time::Duration::MAX);
                    }
                    std::mem::replace(watch, arm()).leave(&words.bell());
                    mark("again");
                }
                for watch in armed {
                    watch.leave(&words.bell());
                }
                world.helper.end();
            },
            |world| world.helper.run(),
            |world| world.give(0),
        ]);
        assert!(world.words[0].rings.load(&BELL_LOOK) <= 2, "Q5: one call, and once more where the count begins anew");
        assert!(world.words[0].permits().try_take());
        world.at_rest();
    }
}
