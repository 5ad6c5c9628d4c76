//! The same scenarios under the model checkers loom and shuttle.

use super::scenario::Scenario;
use super::space::{Member, Numbers, Space};
use crate::backend::Backend;
use std::sync::Arc;

/// A thread of a model: waits for its end, and says what it has seen.
type Join<T> = Box<dyn FnOnce() -> T>;

/// One execution; `spawn` starts a thread of the checker's.
fn model<B: Backend, S: Scenario>(
    scenario: &Arc<S>,
    spawn: impl Fn(Box<dyn FnOnce() -> S::Outcome + Send>) -> Join<S::Outcome>,
) {
    let numbers = Numbers::new(scenario.threads());
    let space = Space::<B>::new(scenario.granules(), &numbers);
    let observer = Member::new(&space, numbers.observer);
    let shared = scenario.begin(&observer);
    let running: Vec<_> = numbers
        .threads
        .into_iter()
        .enumerate()
        .map(|(thread, me)| {
            let (scenario, space, shared) = (scenario.clone(), space.clone(), shared.clone());
            spawn(Box::new(move || scenario.thread(thread, &Member::new(&space, me), &shared)))
        })
        .collect();
    let outcomes: Vec<_> = running.into_iter().map(|join| Some(join())).collect();
    scenario.end(&observer, &shared, &outcomes);
}

/// Explores the scenario under loom, which also tries what the orderings of its sites allow beyond the order of the
/// program. At most `preemptions` times a thread that could go on is interrupted. A failure panics, as loom does.
#[cfg(feature = "loom")]
pub fn loom<S: Scenario>(scenario: S, preemptions: usize) {
    use crate::backend::loom::Loom;
    let scenario = Arc::new(scenario);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        model::<Loom, S>(&scenario, |body| {
            let thread = loom::thread::spawn(body);
            Box::new(move || thread.join().expect("its panic has ended the model"))
        });
    });
}

/// Plays the scenario under shuttle so many times: half of the interleavings are random, half by priorities (PCT, three
/// changes). A failure panics, with the seed to see it again.
#[cfg(feature = "shuttle")]
pub fn shuttle<S: Scenario>(scenario: S, plays: usize) {
    use crate::backend::shuttle::Shuttle;
    let scenario = Arc::new(scenario);
    let play = move || {
        model::<Shuttle, S>(&scenario, |body| {
            let thread = shuttle::thread::spawn(body);
            Box::new(move || thread.join().expect("its panic has ended the model"))
        });
    };
    shuttle::check_random(play.clone(), plays.div_ceil(2));
    shuttle::check_pct(play, plays.div_ceil(2), 3);
}
