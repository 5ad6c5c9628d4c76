//! The workloads, for any peer; one run of them.

use crate::Outcome;
use crate::control::{Control, Patience, Words};
use crate::peers::{self, Entry, In, Out, Peer};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A workload with a size and a number of workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) latency: bool,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// Senders, and as many receivers.
    pub(crate) pairs: usize,
    /// Messages on their way at most.
    pub(crate) cells: usize,
}

pub(crate) fn settings() -> Vec<Setting> {
    let setting = |name: &str, what: &str, latency, size, pairs, cells| Setting {
        name: name.to_owned(),
        what: what.to_owned(),
        latency,
        size,
        pairs,
        cells,
    };
    vec![
        setting("S", "stream of 64 bytes, 1 to 1", false, 64, 1, 1024),
        setting("L", "one way, 64 bytes, both sides poll", true, 64, 1, 1024),
        setting("M2", "stream of 64 bytes, 2 to 2", false, 64, 2, 1024),
        setting("M4", "stream of 64 bytes, 4 to 4", false, 64, 4, 1024),
        setting("Z4K", "stream of 4 KiB, written and read, 1 to 1", false, 4 << 10, 1, 1024),
        setting("Z1M", "stream of 1 MiB, written and read, 1 to 1", false, 1 << 20, 1, 16),
    ]
}

/// One run's figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    /// Millions of messages in a second, or nanoseconds one way.
    pub(crate) value: f64,
    /// The same in the fastest part of the run, where there is one receiver.
    pub(crate) fastest: Option<f64>,
    /// Nanoseconds of processor time for a message, over all workers.
    pub(crate) processor: f64,
    /// Processor time as a share of the cores that the workers could have had.
    pub(crate) share: f64,
}

/// What a process of a run is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) peer: String,
    /// Names everything that the run makes.
    pub(crate) name: String,
    pub(crate) setting: Setting,
    /// Whether this process makes what the workers talk through.
    first: bool,
    /// The workers of this process; even ones send.
    workers: Vec<usize>,
}

/// Processes; they end with their conductor, whatever happens.
struct Group(Vec<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Group {
    fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> Outcome<bool>) -> Outcome<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self)? {
            for child in &mut self.0 {
                if let Some(status) = child.try_wait()?
                    && !status.success()
                {
                    return Err(format!("a process failed ({status}) before {what}").into());
                }
            }
            if Instant::now() > end {
                return Err(format!("did not come to {what} within {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

/// One run of one peer: processes of its own, whether its workers are threads or processes.
pub(crate) fn once(entry: &Entry, setting: &Setting, seconds: f64) -> Outcome<Run> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let name = format!("atomic-matrix-messages-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let control = Control::make(&name)?;
    let words = control.words();
    let workers = 2 * setting.pairs;
    let parts: Vec<Vec<usize>> = match entry.threads {
        true => vec![(0..workers).collect()],
        false => (0..workers).map(|worker| vec![worker]).collect(),
    };
    let _left = Left(&name);
    let mut group = Group(vec![]);
    for (at, workers) in parts.into_iter().enumerate() {
        let (peer, setting) = (entry.key.to_owned(), setting.clone());
        let task = Task { peer, name: name.clone(), setting, first: at == 0, workers };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--worker").arg(serde_json::to_string(&task)?).stdin(Stdio::null());
        group.0.push(command.spawn()?);
    }
    group.wait("the start", |_| Ok(words.ready() == workers))?;
    let begun = Instant::now();
    words.start();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let window = begun.elapsed();
    words.stop();
    group.wait("the end", |group| {
        Ok(group.0.iter_mut().all(|child| matches!(child.try_wait(), Ok(Some(status)) if status.success())))
    })?;
    figures(setting, words, window)
}

fn figures(setting: &Setting, words: &Words, window: Duration) -> Outcome<Run> {
    let workers = 2 * setting.pairs;
    let sum = |of: &dyn Fn(usize) -> bool| -> u64 {
        (0..workers).filter(|&at| of(at)).map(|at| words.results[at].done.load(Ordering::Acquire)).sum()
    };
    let (sent, received) = (sum(&|at| at % 2 == 0), sum(&|at| at % 2 == 1));
    if sent != received || received == 0 {
        return Err(format!("{sent} were sent and {received} received").into());
    }
    let processor: u64 = words.results[..workers].iter().map(|one| one.processor.load(Ordering::Acquire)).sum();
    let (nanos, received) = (window.as_nanos() as f64, received as f64);
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(workers) as f64;
    let chunk = |at: usize| words.results[at].fastest.load(Ordering::Acquire) as f64 / 1000.0;
    let fastest = match setting.pairs {
        1 if setting.latency => Some(chunk(0) / 2.0),
        1 => Some(1000.0 / chunk(1)),
        _ => None,
    };
    Ok(Run {
        fastest: fastest.filter(|value| value.is_finite() && (1e-6..1e9).contains(value)),
        value: if setting.latency { nanos / received / 2.0 } else { received / nanos * 1000.0 },
        processor: processor as f64 / received,
        share: processor as f64 / (nanos * cores),
    })
}

/// Whatever a run that was killed leaves.
struct Left<'n>(&'n str);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        peers::clean(self.0);
        for folder in ["/dev/shm", "/tmp"] {
            for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if file.file_name().to_string_lossy().starts_with(self.0) {
                    let _ = std::fs::remove_file(file.path());
                    let _ = std::fs::remove_dir_all(file.path());
                }
            }
        }
    }
}

/// A process of a run.
pub(crate) fn work(task: &str) -> Outcome<()> {
    let task: Task = serde_json::from_str(task)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    peers::work(&task)
}

/// The same, for one peer.
pub(crate) fn part<P: Peer>(task: &Task) -> Outcome<()> {
    let control = Control::open(&task.name)?;
    let words = control.words();
    if !task.first {
        words.await_made();
    }
    let peer = if task.first { P::make(task)? } else { P::open(task)? };
    words.made();
    std::thread::scope(|scope| {
        let (peer, words) = (&peer, words);
        let start = |&worker: &usize| scope.spawn(move || one::<P>(peer, words, task, worker));
        let workers: Vec<_> = task.workers.iter().map(start).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })
}

fn one<P: Peer>(peer: &P, words: &Words, task: &Task, worker: usize) -> Outcome<()> {
    let setting = &task.setting;
    let sends = worker.is_multiple_of(2);
    if setting.pairs == 1 {
        pin(worker);
    }
    let (mut tx, mut rx) = (None, None);
    // Whoever receives comes first, since some peers' receivers are what a sender finds; but of two that do both, one.
    if setting.latency && !sends {
        tx = Some(peer.output(1)?);
    }
    if setting.latency || !sends {
        rx = Some(peer.input(usize::from(setting.latency && sends))?);
    }
    if sends {
        tx = Some(peer.output(0)?);
    }
    words.await_start();
    let (before, result) = (processor(), &words.results[worker]);
    let done = match (tx, rx) {
        (Some(tx), Some(rx)) if sends => ping(tx, rx, words, setting, &result.fastest)?,
        (Some(tx), Some(rx)) => pong(tx, rx, words, setting.size)?,
        (Some(tx), None) => send(tx, words, setting)?,
        (None, Some(rx)) => receive(rx, words, setting, &result.fastest)?,
        (None, None) => 0,
    };
    result.done.store(done, Ordering::Release);
    result.processor.store(processor() - before, Ordering::Release);
    Ok(())
}

/// How fast the fastest part of a run was: what a machine with other work does in the moments in which both
/// sides have a core.
struct Chunks<'f> {
    messages: u64,
    begun: Instant,
    fastest: &'f AtomicU64,
}

impl<'f> Chunks<'f> {
    /// Eight times as many messages as can be on their way, so that what was sent before counts little.
    fn new(setting: &Setting, fastest: &'f AtomicU64) -> Self {
        fastest.store(u64::MAX, Ordering::Relaxed);
        Self { messages: if setting.latency { 1024 } else { 8 * setting.cells as u64 }, begun: Instant::now(), fastest }
    }
    /// So many are done.
    #[inline(always)]
    fn one(&mut self, done: u64) {
        if done.is_multiple_of(self.messages) {
            let now = Instant::now();
            let nanos = (now - self.begun).as_nanos() as u64 * 1000 / self.messages;
            self.fastest.fetch_min(nanos, Ordering::Relaxed);
            self.begun = now;
        }
    }
}

#[inline(never)]
fn send(mut tx: impl Out, words: &Words, setting: &Setting) -> Outcome<u64> {
    let (mut sent, size) = (0, setting.size);
    'all: while !words.stopped() {
        for _ in 0..32 {
            let mut patience = Patience::default();
            while !tx.send(size, sent)? {
                if words.stopped() {
                    break 'all;
                }
                patience.wait();
            }
            sent += 1;
        }
    }
    tx.flush();
    words.end();
    words.await_drained(setting.pairs);
    Ok(sent)
}

#[inline(never)]
fn receive(mut rx: impl In, words: &Words, setting: &Setting, fastest: &AtomicU64) -> Outcome<u64> {
    let (mut received, mut patience) = (0, Patience::default());
    let mut chunks = Chunks::new(setting, fastest);
    loop {
        // In this order: what was sent before the end is received after it is seen.
        let ended = words.ended() == setting.pairs;
        match rx.receive(setting.size)? {
            Some(value) => {
                std::hint::black_box(value);
                (received, patience) = (received + 1, Patience::default());
                chunks.one(received);
            }
            None if ended => {
                words.drain();
                return Ok(received);
            }
            None => patience.wait(),
        }
    }
}

/// Polls, and gives the core away now and then.
#[inline(always)]
fn poll(words: &Words, mut act: impl FnMut() -> Outcome<bool>) -> Outcome<bool> {
    for tries in 1_u32.. {
        if act()? {
            return Ok(true);
        }
        std::hint::spin_loop();
        if tries.is_multiple_of(4096) {
            if words.ended() > 0 {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }
    Ok(false)
}

#[inline(never)]
fn ping(mut tx: impl Out, mut rx: impl In, words: &Words, setting: &Setting, fastest: &AtomicU64) -> Outcome<u64> {
    let (mut trips, size) = (0, setting.size);
    let mut chunks = Chunks::new(setting, fastest);
    while !words.stopped() {
        poll(words, || tx.send(size, trips))?;
        tx.flush();
        poll(words, || Ok(rx.receive(size)?.is_some()))?;
        trips += 1;
        chunks.one(trips);
    }
    words.end();
    Ok(trips)
}

#[inline(never)]
fn pong(mut tx: impl Out, mut rx: impl In, words: &Words, size: usize) -> Outcome<u64> {
    let mut trips = 0;
    loop {
        let mut value = 0;
        let came = poll(words, || {
            let got = rx.receive(size)?;
            value = got.unwrap_or(0);
            Ok(got.is_some())
        })?;
        if !came {
            return Ok(trips);
        }
        poll(words, || tx.send(size, value))?;
        tx.flush();
        trips += 1;
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
fn processor() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
