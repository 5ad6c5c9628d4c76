//! Start, stop and results, in a small file that all processes of a run map.

use crate::Outcome;
use crate::worker::processor;
use memmap2::{MmapOptions, MmapRaw};
use rustix::thread::futex::{self, Timespec};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most workers of a run.
pub(crate) const WORKERS: usize = 24;

#[repr(C, align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// A count that is slept for.
#[repr(C, align(128))]
#[derive(Default)]
struct Turn(AtomicU32);

impl Turn {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
        let _ = futex::wake(&self.0, futex::Flags::empty(), u32::MAX >> 1); // It has no errors here.
    }
    /// Asleep until it is `at_least` that.
    fn await_count(&self, at_least: u32) {
        let nap = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        loop {
            let now = self.0.load(Ordering::Acquire);
            if now >= at_least {
                return;
            }
            let _ = futex::wait(&self.0, futex::Flags::empty(), now, Some(&nap)); // Looked at again.
        }
    }
}

/// What one worker did.
#[repr(C, align(128))]
#[derive(Default)]
pub(crate) struct Result {
    /// Messages sent, received, or round trips.
    pub(crate) done: AtomicU64,
    /// Processor time, in nanoseconds.
    pub(crate) processor: AtomicU64,
    /// Picoseconds for a message in the fastest part.
    pub(crate) fastest: AtomicU64,
    /// The same in the median part, where parts are what a run is measured by.
    pub(crate) median: AtomicU64,
}

/// A word for each kill.
#[repr(C, align(128))]
pub(crate) struct Received([AtomicU64; KILLS]);

impl std::ops::Deref for Received {
    type Target = [AtomicU64; KILLS];
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// All zero at first.
#[repr(C, align(128))]
pub(crate) struct Words {
    made: Line,
    ready: Line,
    go: Line,
    stop: Line,
    ended: Line,
    drained: Line,
    met: Line,
    turn: Turn,
    turned: Turn,
    pub(crate) results: [Result; WORKERS],
    /// Messages that came of each of those who were killed.
    pub(crate) received: Received,
}

/// The words, in a file; whoever made it removes it.
pub(crate) struct Control {
    map: MmapRaw,
    file: Option<PathBuf>,
}

fn path(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("{name}-control"))
}

impl Control {
    pub(crate) fn make(name: &str) -> Outcome<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path(name))?;
        file.set_len(size_of::<Words>() as u64)?;
        Self::over(&file, Some(path(name)))
    }
    pub(crate) fn open(name: &str) -> Outcome<Self> {
        Self::over(&OpenOptions::new().read(true).write(true).open(path(name))?, None)
    }
    fn over(file: &File, name: Option<PathBuf>) -> Outcome<Self> {
        Ok(Self { map: MmapOptions::new().len(size_of::<Words>()).map_raw(file)?, file: name })
    }
    pub(crate) fn words(&self) -> &Words {
        // SAFETY: a mapping of that size, page-aligned, as long as this lives; all of it is atomic, and any
        // bytes are valid.
        unsafe { &*self.map.as_ptr().cast::<Words>() }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file); // Gone already: fine.
        }
    }
}

impl Words {
    /// What the workers talk through: made by the first process, opened by the others behind that.
    pub(crate) fn first_makes<P>(
        &self,
        first: bool,
        make: impl FnOnce() -> Outcome<P>,
        open: impl FnOnce() -> Outcome<P>,
    ) -> Outcome<P> {
        if !first {
            self.await_made();
            return open();
        }
        let made = make()?;
        self.made.0.store(1, Ordering::Release);
        Ok(made)
    }
    /// Writes down how much a worker did, and in what processor time.
    pub(crate) fn timed(&self, worker: usize, act: impl FnOnce() -> Outcome<u64>) -> Outcome<()> {
        let (before, result) = (processor(), &self.results[worker]);
        let done = act()?;
        result.done.store(done, Ordering::Release);
        result.processor.store(processor() - before, Ordering::Release);
        Ok(())
    }
    fn await_made(&self) {
        while self.made.0.load(Ordering::Acquire) == 0 && !self.stopped() {
            std::thread::yield_now();
        }
    }
    pub(crate) fn ready(&self) -> usize {
        self.ready.0.load(Ordering::Acquire) as usize
    }
    /// A worker is ready; returns when all may start.
    pub(crate) fn await_start(&self) {
        self.ready.0.fetch_add(1, Ordering::AcqRel);
        while self.go.0.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    }
    pub(crate) fn start(&self) {
        self.go.0.store(1, Ordering::Release);
    }
    pub(crate) fn stop(&self) {
        self.stop.0.store(1, Ordering::Release);
    }
    #[inline(always)]
    pub(crate) fn stopped(&self) -> bool {
        self.stop.0.load(Ordering::Relaxed) != 0
    }
    /// A receiver has its first message.
    pub(crate) fn meet(&self) {
        self.met.0.store(1, Ordering::Release);
    }
    /// A sender waits for that behind its own first one: some peers' receivers connect when they first receive, and
    /// what was sent before that and found no room is dropped.
    pub(crate) fn await_meeting(&self) {
        while self.met.0.load(Ordering::Acquire) == 0 && !self.stopped() {
            std::thread::yield_now();
        }
    }
    /// A sender has sent its last.
    pub(crate) fn end(&self) {
        self.ended.0.fetch_add(1, Ordering::AcqRel);
    }
    /// A receiver has received its last.
    pub(crate) fn drain(&self) {
        self.drained.0.fetch_add(1, Ordering::AcqRel);
    }
    /// Waits until so many have: what a sender that is gone has sent is gone with it at some peers.
    pub(crate) fn await_drained(&self, receivers: usize) {
        while (self.drained.0.load(Ordering::Acquire) as usize) < receivers {
            std::thread::yield_now();
        }
    }
    /// It is the others' turn, for so many times; returns when so many others have had it.
    pub(crate) fn give_turn(&self, times: u32, others: usize) {
        self.turn.add();
        self.turned.await_count(times * others as u32);
    }
    /// Asleep until it is one's turn for the so-manieth time.
    pub(crate) fn await_turn(&self, times: u32) {
        self.turn.await_count(times);
    }
    /// One's turn is over.
    pub(crate) fn turn_over(&self) {
        self.turned.add();
    }
    pub(crate) fn ended(&self) -> usize {
        self.ended.0.load(Ordering::Acquire) as usize
    }
}

/// Kills of a run.
pub(crate) const KILLS: usize = 50;

/// Waits: for a moment busily, then by giving the core away.
#[derive(Default)]
pub(crate) struct Patience(u32);

impl Patience {
    #[inline]
    pub(crate) fn wait(&mut self) {
        self.0 += 1;
        if self.0 < 256 {
            // Not too eagerly: each look at the other side's line takes it away from there.
            (0..32).for_each(|_| std::hint::spin_loop());
        } else {
            std::thread::yield_now();
        }
    }
}
