//! What all workers of a run do around their workload.

use crate::Outcome;
use crate::run::Task;
use crate::setting::{Kind, Setting};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// All workers of a process, each in a thread of its own; of two that are all, each has a core.
pub(crate) fn each(task: &Task, work: &(dyn Fn(usize) -> Outcome<()> + Sync)) -> Outcome<()> {
    std::thread::scope(|scope| {
        let start = |&worker: &usize| {
            scope.spawn(move || {
                if task.setting.workers() == 2 {
                    pin(worker);
                }
                work(worker)
            })
        };
        let workers: Vec<_> = task.workers.iter().map(start).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })
}

/// How fast the fastest part of a run was: what a machine with other work does in the moments in which both
/// sides have a core.
pub(crate) struct Chunks<'f> {
    messages: u64,
    begun: Instant,
    fastest: &'f AtomicU64,
}

impl<'f> Chunks<'f> {
    /// Eight times as many messages as can be on their way, so that what was sent before counts little.
    pub(crate) fn new(setting: &Setting, fastest: &'f AtomicU64) -> Self {
        fastest.store(u64::MAX, Ordering::Relaxed);
        let messages = if setting.kind == Kind::Stream { 8 * setting.cells as u64 } else { 1024 };
        Self { messages, begun: Instant::now(), fastest }
    }
    /// So many are done.
    #[inline(always)]
    pub(crate) fn one(&mut self, done: u64) {
        if done.is_multiple_of(self.messages) {
            let now = Instant::now();
            let nanos = (now - self.begun).as_nanos() as u64 * 1000 / self.messages;
            self.fastest.fetch_min(nanos, Ordering::Relaxed);
            self.begun = now;
        }
    }
}

/// Gives the two sides a core each, as far as there are two.
fn pin(worker: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    if let (true, Some(core)) = (allowed.count() > 1, cores.nth(worker)) {
        let mut own = CpuSet::new();
        own.set(core);
        let _ = sched_setaffinity(None, &own); // The share of the cores tells if it was in vain.
    }
}

/// This thread's processor time, in nanoseconds.
pub(crate) fn processor() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
