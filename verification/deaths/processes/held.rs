//! How long its own calls hold a worker up, beside others that are killed and stopped: words in the segment of the books.
//!
//! What the kernel takes from a thread is not the library's: a thread that was preempted, or stopped, was off the processor
//! although it asked for nothing. So a call that does not wait counts with the processor time that it took (`held`), unless
//! it went to sleep by itself (a voluntary switch, which a worker that was stopped meanwhile has as well): then with all its
//! time but what it was ready to run and had no processor (`schedstat` says so, in nanoseconds; a kernel
//! without it has that time counted as sleep, and that is printed). A call that may wait for
//! others counts with its processor time. The clock's own time of all calls that do not wait is kept beside it.
//!
//! *Where* a call sleeps a second thread tells, which looks each 3 ms in which system call the first one is. A call
//! that was seen in membarrier(2) is in a book of its own: that wait is the kernel's, for all processors (L4).
//!
//! `MATRIX_HELD_MS` says how long a call may be held up at most: without it nothing is asserted of times.

use crate::woken::{self, Waited};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

/// Eight buckets an octave, of nanoseconds.
const BUCKETS: usize = 320;
/// Of the calls of structures, then of those of the heap alone: how long they were held up, by the clock, those that were in
/// the kernel's barrier, how many slept, how many of those were seen asleep at each place, and the longest of those ([`Longest`]).
const HEAP: usize = 3 * BUCKETS + 2 + PLACES_OF_SLEEP.len();
const WALL: usize = BUCKETS;
const BARRIER: usize = 2 * BUCKETS;
const SLEPT: usize = 3 * BUCKETS;
const SEEN: usize = SLEPT + 1;
const LONGEST: usize = HEAP - 1;
/// Where a thread may be asleep: in these system calls, or in none, which is a page that is brought.
const PLACES_OF_SLEEP: [(&str, &[i64]); 4] = [
    ("membarrier", &[libc::SYS_membarrier]),
    ("futex", &[libc::SYS_futex, libc::SYS_futex_waitv]),
    ("a page", &[-1]),
    ("another call", &[]),
];
/// How late those who slept got what was there ([`crate::woken`]); how late callers were told of a death.
const WOKEN: usize = 2 * HEAP;
const TOLD: usize = WOKEN + BUCKETS;
/// How often somebody was stopped, and how often for a second or longer.
const STOPPED: usize = TOLD + BUCKETS;
/// All that is added up.
const COUNTED: usize = STOPPED + 2;
/// How often each process was stopped, and went on again: odd while it is. A worker's place is that of its process's number.
const STOPS: usize = COUNTED;
const PLACES: usize = 512;
/// What [`crate::woken`] has.
pub(crate) const STAMPS: usize = STOPS + PLACES;
pub(crate) const WORDS: usize = STAMPS + woken::WORDS;

const fn bucket(ns: u64) -> usize {
    if ns < 8 {
        return ns as usize;
    }
    let octave = ns.ilog2();
    let index = (octave as usize - 2) * 8 + (ns >> (octave - 3) & 7) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The first nanosecond that is too long for a bucket.
const fn end(bucket: usize) -> u64 {
    let (octave, part) = (bucket / 8 + 2, bucket as u64 % 8);
    if bucket < 8 { bucket as u64 + 1 } else { (9 + part) << (octave - 3) }
}

/// The words, which the worker and whoever kills it share.
#[derive(Clone, Copy)]
pub(crate) struct Clocks<'b>(pub(crate) &'b [AtomicU64; WORDS]);

/// The clock that all processes have in common.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A thread at a moment.
struct Moment {
    wall: Duration,
    cpu: Duration,
    slept: i64,
    /// How long it was ready to run and had no processor.
    ready: Duration,
    stops: u64,
}

impl Moment {
    fn was_stopped_since(&self, before: &Self) -> bool {
        before.stops % 2 == 1 || self.stops != before.stops
    }
    fn ready_since(&self, before: &Self) -> Duration {
        self.ready.saturating_sub(before.ready)
    }
}

/// The longest sleep: in microseconds, in the upper half by itself, in the lower by the clock.
struct Longest(u64);

impl Longest {
    fn of(asleep: Duration, wall: Duration) -> Self {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        Self(u64::from(micros(asleep)) << 32 | u64::from(micros(wall)))
    }
}

/// The thread whose calls are timed, and where its looker has seen it asleep in the call that it makes now: a bit each.
struct Looked {
    /// None where the kernel keeps none.
    schedstat: Option<File>,
    places: Arc<AtomicU64>,
}

impl Looked {
    /// This thread, which a second one looks at from now on.
    fn this() -> Self {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        let open = |name| File::open(format!("/proc/self/task/{thread}/{name}"));
        let (schedstat, syscall) = (open("schedstat").ok().filter(|file| ready(file).is_some()), open("syscall"));
        if schedstat.is_none() {
            UNTOLD.call_once(|| eprintln!("no schedstat: what sleepers wait for a processor counts as their sleep"));
        }
        let places = Arc::new(AtomicU64::new(0));
        // Where only root may look, nobody is seen.
        if let Ok(syscall) = syscall {
            let seen = Arc::clone(&places);
            std::thread::spawn(move || look(&syscall, &seen));
        }
        Self { schedstat, places }
    }
    fn ready(&self) -> Duration {
        self.schedstat.as_ref().and_then(ready).unwrap_or_default()
    }
}

static UNTOLD: std::sync::Once = std::sync::Once::new();

/// How long the thread was ready to run: the second number of its schedstat.
fn ready(schedstat: &File) -> Option<Duration> {
    read(schedstat)?.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

fn read(file: &File) -> Option<String> {
    let mut text = [0; 256];
    let length = file.read_at(&mut text, 0).ok()?;
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// Between two looks: several in a sleep that would be too long.
const A_LOOK: Duration = Duration::from_millis(3);

/// Looks until the thread has ended.
fn look(syscall: &File, seen: &AtomicU64) {
    while let Some(text) = read(syscall) {
        if let Some(call) = text.split_whitespace().next().and_then(|call| call.parse().ok()) {
            let known = PLACES_OF_SLEEP.iter().position(|(_, calls)| calls.contains(&call));
            seen.fetch_or(1 << known.unwrap_or(PLACES_OF_SLEEP.len() - 1), SeqCst);
        }
        std::thread::sleep(A_LOOK);
    }
}

thread_local! {
    static LOOKED: Looked = Looked::this();
}

impl<'b> Clocks<'b> {
    fn stops_of(self, process: u32) -> &'b AtomicU64 {
        &self.0[STOPS + process as usize % PLACES]
    }
    fn now(self) -> Moment {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        // SAFETY: zeros are a usage; the call fills it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: it is there to be filled.
        let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        assert_eq!(failed, 0, "there is a thread");
        LOOKED.with(|looked| Moment {
            ready: looked.ready(),
            cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
            slept: usage.ru_nvcsw,
            stops: self.stops_of(std::process::id()).load(SeqCst),
            wall: monotonic(),
        })
    }
    fn count(self, histogram: usize, time: Duration) {
        self.0[histogram + bucket(time.as_nanos() as u64)].fetch_add(1, Relaxed);
    }

    /// Makes a structure's call that does not wait for anybody.
    pub(crate) fn timed<T>(self, call: impl FnOnce() -> T) -> T {
        self.timed_as(0, call)
    }
    /// Allocates or frees, which may take the kernel's barrier.
    pub(crate) fn heap<T>(self, call: impl FnOnce() -> T) -> T {
        self.timed_as(HEAP, call)
    }
    fn timed_as<T>(self, of: usize, call: impl FnOnce() -> T) -> T {
        LOOKED.with(|looked| looked.places.store(0, SeqCst));
        let begun = monotonic();
        let before = self.now();
        let result = call();
        let wall = monotonic() - before.wall;
        let after = self.now();
        let was_stopped = after.was_stopped_since(&before);
        let sleeps = after.slept > before.slept && !was_stopped;
        // What it was ready for lies between the outermost looks at the clock; and a look itself may sleep.
        let held = (after.wall - begun).saturating_sub(after.ready_since(&before)).min(wall);
        let places = LOOKED.with(|looked| looked.places.load(SeqCst));
        if sleeps {
            self.0[of + SLEPT].fetch_add(1, Relaxed);
            let seen = (0..PLACES_OF_SLEEP.len()).filter(|place| places >> place & 1 == 1);
            seen.for_each(|place| _ = self.0[of + SEEN + place].fetch_add(1, Relaxed));
            self.0[of + LONGEST].fetch_max(Longest::of(held, wall).0, Relaxed);
        }
        if !was_stopped {
            self.count(of + WALL, wall);
        }
        let in_the_barrier = sleeps && places & 1 == 1;
        self.count(if in_the_barrier { of + BARRIER } else { of }, if sleeps { held } else { after.cpu - before.cpu });
        result
    }
    /// Makes a call that may sleep until others have done something.
    pub(crate) fn waits<T>(self, call: impl FnOnce() -> T) -> T {
        self.waits_for(call, |_| None)
    }
    /// The same; of what it got, `since` says since when that was there, if anybody knows. Whoever slept, and was not
    /// stopped, got it so much later as that is ago, but for what it was ready to run and had no processor.
    pub(crate) fn waits_for<T>(self, call: impl FnOnce() -> T, since: impl FnOnce(&T) -> Option<Waited>) -> T {
        let before = self.now();
        let result = call();
        let end = monotonic();
        let after = self.now();
        self.count(0, after.cpu - before.cpu);
        if after.slept > before.slept
            && !after.was_stopped_since(&before)
            && let Some(waited) = since(&result)
        {
            let (book, since) = match waited {
                Waited::There(since) => (WOKEN, since),
                Waited::Dead(since) => (TOLD, since),
            };
            let late = end.saturating_sub(since.max(before.wall)).saturating_sub(after.ready_since(&before));
            self.count(book, late);
        }
        result
    }
    /// A worker is about to be stopped, or goes on.
    pub(crate) fn stops(self, process: u32) {
        self.stops_of(process).fetch_add(1, SeqCst);
    }
    /// A worker was stopped for so long.
    pub(crate) fn was_stopped(self, time: Duration) {
        self.0[STOPPED].fetch_add(1, SeqCst);
        self.0[STOPPED + 1].fetch_add(u64::from(time.as_secs() > 0), SeqCst);
    }
    pub(crate) fn times(self) -> Times {
        Times((0..COUNTED).map(|i| self.0[i].load(SeqCst)).collect())
    }
}

/// What was counted: the words.
#[derive(Default)]
pub(crate) struct Times(Vec<u64>);

impl Times {
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.resize(COUNTED, 0);
        for (at, (mine, other)) in self.0.iter_mut().zip(&other.0).enumerate() {
            let longest = [LONGEST, HEAP + LONGEST].contains(&at);
            *mine = if longest { (*mine).max(*other) } else { *mine + other };
        }
    }
    /// How often somebody was stopped for a second or longer.
    pub(crate) fn long_stops(&self) -> u64 {
        self.0[STOPPED + 1]
    }
    /// No call was held up for longer, outside the kernel's barrier; and who slept had what was there, and was told of a
    /// death, no later than that after a nap.
    pub(crate) fn are_within(&self, most: Duration) {
        const NAP: Duration = Duration::from_millis(50);
        for (what, from, most) in [
            ("held up", 0, most),
            ("held up in the heap", HEAP, most),
            ("woken", WOKEN, NAP + most),
            ("told of a death", TOLD, NAP + most),
        ] {
            // A bucket is an eighth wide: what is in that of the bound is within it.
            let longer = self.0[from + bucket(most.as_nanos() as u64) + 1..from + BUCKETS].iter().sum::<u64>();
            assert_eq!(longer, 0, "{what}: longer than {most:?}\n{self}");
        }
    }
}

/// In microseconds, below which so many calls of a thousand thousand are; and the longest.
fn quantiles(counts: &[u64]) -> String {
    let all: u64 = counts.iter().sum();
    let below = |most: u64| {
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen > 0 && u128::from(seen) * 1_000_000 >= u128::from(all) * u128::from(most)
        });
        at.map_or(0.0, |at| end(at) as f64 / 1e3)
    };
    let [half, p99, p9999, longest] = [500_000, 990_000, 999_900, 1_000_000].map(below);
    format!("{all} calls, half below {half:.1} us, 99 % {p99:.1}, 99.99 % {p9999:.1}, all {longest:.1}")
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, of) in [("held up, but for preemption", 0), ("the same, of allocations and frees", HEAP)] {
            let words = &self.0[of..of + HEAP];
            writeln!(f, "  {what}: {}; {} slept", quantiles(&words[..BUCKETS]), words[SLEPT])?;
            let seen =
                PLACES_OF_SLEEP.iter().zip(&words[SEEN..]).map(|((place, _), seen)| format!("{seen} in {place}"));
            let [asleep, wall] = [words[LONGEST] >> 32, words[LONGEST] & 0xFFFF_FFFF].map(|us| us as f64 / 1e3);
            let seen = seen.collect::<Vec<_>>().join(", ");
            writeln!(f, "    of those were seen asleep: {seen}; the longest {asleep:.1} ms, by the clock {wall:.1}")?;
            writeln!(f, "    in membarrier(2): {}", quantiles(&words[BARRIER..SLEPT]))?;
            writeln!(f, "    by the clock, preemption included: {}", quantiles(&words[WALL..BARRIER]))?;
        }
        writeln!(f, "  asleep beside what was there, but for preemption: {}", quantiles(&self.0[WOKEN..TOLD]))?;
        writeln!(f, "  asleep beside a server's death, the same: {}", quantiles(&self.0[TOLD..STOPPED]))?;
        let [all, long] = [self.0[STOPPED], self.0[STOPPED + 1]];
        writeln!(f, "  {all} stops, {long} of a second or longer")
    }
}

#[test]
fn buckets_are_where_their_times_are() {
    for ns in (0..5000).chain((0..38).map(|octave| (1 << octave) + 1)) {
        let at = bucket(ns);
        assert!(ns < end(at) && (at == 0 || ns >= end(at - 1)), "{ns}: {at}, below {}", end(at));
    }
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

fn words_of_none() -> Box<[AtomicU64; WORDS]> {
    let words: Box<[AtomicU64]> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    words.try_into().expect("so many")
}

/// A sleeper that gets what has been there for long is late; one that is stopped meanwhile, or does not sleep, is not.
#[test]
fn whoever_sleeps_beside_what_is_there_is_late() {
    let words = words_of_none();
    let clocks = Clocks(&words);
    let sleeps = || std::thread::sleep(Duration::from_millis(70));
    clocks.waits_for(sleeps, |()| Some(Waited::There(monotonic())));
    clocks.waits_for(|| (), |()| Some(Waited::There(Duration::ZERO)));
    clocks.waits_for(sleeps, |()| None);
    clocks.times().are_within(Duration::from_millis(10));
    clocks.waits_for(sleeps, |()| Some(Waited::There(Duration::ZERO)));
    clocks.waits_for(sleeps, |()| Some(Waited::Dead(Duration::ZERO)));
    let Times(words) = clocks.times();
    let late = |from: usize| words[from + bucket(60_000_000) + 1..from + BUCKETS].iter().sum::<u64>();
    assert_eq!((late(WOKEN), late(TOLD)), (1, 1));
}

#[test]
#[should_panic(expected = "held up: longer than 10ms")]
fn a_call_that_sleeps_for_longer_than_it_may_is_told() {
    let words = words_of_none();
    Clocks(&words).timed(|| std::thread::sleep(Duration::from_millis(30)));
    Clocks(&words).times().are_within(Duration::from_millis(10));
}

#[test]
fn a_sleep_is_told_from_work() {
    let words = words_of_none();
    let clocks = Clocks(&words);
    clocks.timed(|| std::thread::sleep(Duration::from_millis(3)));
    clocks.waits(|| std::thread::sleep(Duration::from_millis(3)));
    clocks.stops(std::process::id());
    clocks.timed(|| std::thread::sleep(Duration::from_millis(3)));
    let Times(words) = clocks.times();
    let long = |from: usize| words[from + bucket(3_000_000)..from + BUCKETS].iter().sum::<u64>();
    assert_eq!((long(0), long(WALL), words[SLEPT]), (1, 1, 1));
    assert!(words[LONGEST] >> 32 >= 3000, "it slept by itself");
}

/// Ends what runs beside, however this ends.
pub(crate) struct Stops<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// A thread that sleeps for a moment and then is ready to run beside another on one processor: that is not its sleep.
#[test]
fn what_a_thread_is_ready_for_is_not_its_sleep() {
    let words = words_of_none();
    let (clocks, stop) = (Clocks(&words), AtomicBool::new(false));
    let here = rustix::thread::sched_getaffinity(None).expect("its own");
    let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| here.is_set(cpu)).expect("one at least");
    let mut one = rustix::thread::CpuSet::new();
    one.set(first);
    let pinned = || rustix::thread::sched_setaffinity(None, &one).expect("one of its own");
    let told = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                pinned();
                while !stop.load(SeqCst) {
                    std::hint::spin_loop();
                }
            });
        }
        let waits = scope.spawn(|| {
            let _stops = Stops(&stop);
            pinned();
            let waited = || LOOKED.with(Looked::ready);
            let told = LOOKED.with(|looked| looked.schedstat.is_some());
            clocks.timed(|| {
                std::thread::sleep(Duration::from_millis(1));
                // Until it has been ready for so long, and not running: longer than the looks of `timed` may take.
                let (begun, before) = (Instant::now(), waited());
                while told && waited() - before < Duration::from_millis(60) {
                    assert!(begun.elapsed() < Duration::from_secs(60), "three others run beside it");
                }
            });
            told
        });
        waits.join().expect("it is ready in time")
    });
    let Times(words) = clocks.times();
    let [asleep, wall] = [words[LONGEST] >> 32, words[LONGEST] & 0xFFFF_FFFF];
    assert_eq!(words[SLEPT], 1);
    assert!(asleep < wall || !told, "{asleep} of {wall} us, beside three others");
}
