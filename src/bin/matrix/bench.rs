//! `bench`: a quick measurement, in a segment of its own that nobody else sees.

use crate::args::Bench;
use crate::{FAILED, FAULT, FINE, Failure, Outcome, text};
use atomic_matrix::handlers::Handler;
use atomic_matrix::segment::Options;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Blocks that each thread of A keeps at most.
const LIVE: usize = 200;
/// Operations between two looks at the clock's word.
const BURST: u32 = 64;
/// Places of the ring between the two threads of C.
const RING: usize = 1024;

/// Runs in which nobody had a turn, or found room, before it is given up.
const TRIES: usize = 10;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Mix,
    Pairs,
    HandOver,
}

impl Work {
    const ALL: [Self; 3] = [Self::Mix, Self::Pairs, Self::HandOver];

    const fn name(self) -> &'static str {
        match self {
            Self::Mix => "A",
            Self::Pairs => "B",
            Self::HandOver => "C",
        }
    }
    const fn what(self) -> &'static str {
        match self {
            Self::Mix => "32 to 544 bytes at random, 200 live",
            Self::Pairs => "64 bytes allocated and freed",
            Self::HandOver => "128 bytes allocated here, freed there",
        }
    }
    const fn unit(self) -> &'static str {
        match self {
            Self::Mix => "operations",
            Self::Pairs => "pairs",
            Self::HandOver => "messages",
        }
    }
}

/// A workload on so many threads, and the rates of its runs, per second.
struct Row {
    work: Work,
    threads: usize,
    rates: Vec<f64>,
}

impl Row {
    fn best(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }
    fn median(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    }
}

pub(crate) fn bench(asked: &Bench) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = asked.threads.map_or(cores, usize::from);
    let size =
        usize::try_from(asked.size).map_err(|_| Failure::new(FAILED, "the size is more than this machine has"))?;
    // Without a name: nothing stays behind, however this ends. A slot for each thread, and for this one.
    let slots = (threads + 1).max(32);
    let handler = Options::new().memfd().size(size).participants(slots).strict(asked.strict).create();
    let handler = handler.map_err(|error| Failure::new(FAILED, error.to_string()))?;
    handler.heal()?;
    let mut rows = rows(threads);
    let each_turn = rows.len();
    let runs = asked.repeat as usize * each_turn;
    // In turns, so that what slows the machine down for a while slows all of them down.
    for turn in 0..asked.repeat as usize {
        for (i, row) in rows.iter_mut().enumerate() {
            let number = turn * each_turn + i + 1;
            progress(&format!("{number} of {runs}: {}, {}", row.work.name(), row.work.what()));
            row.rates.push(measure(&handler, row.work, row.threads, Duration::from_secs_f64(asked.seconds))?);
        }
    }
    progress("");
    handler.heal()?;
    let sound = handler.verify().is_ok_and(|stats| (stats.free_blocks, stats.free_bytes) == (1, stats.sector_bytes));
    let code = if sound { FINE } else { FAULT };
    let granule = handler.matrix().segment().layout().params.granule() as u64;
    if asked.json {
        let values: Vec<Value> = rows.iter().map(value).collect();
        let all = json!({
            "segment_bytes": size, "granule_bytes": granule, "strict": asked.strict, "cores": cores,
            "seconds": asked.seconds, "repeat": asked.repeat, "workloads": values, "sound": sound,
        });
        return Ok((text::json(&all), code));
    }
    let header = ["", "WORKLOAD", "THREADS", "BEST", "MEDIAN", "EACH"];
    let mut out = text::table(&header, &[2, 3, 4, 5], rows.iter().map(cells));
    out += &format!(
        "{}, {} of {} s each, on {}; a segment of {} in memory, granules of {}{}\n",
        text::count(rows.len() as u64, "row"),
        text::count(asked.repeat.into(), "run"),
        asked.seconds,
        text::count(cores as u64, "core"),
        text::bytes(asked.size),
        text::bytes(granule),
        if asked.strict { ", strict: nothing is parked" } else { "" },
    );
    out += "M/s: million operations (A: allocations and frees), pairs (B) or messages (C) in a second, of all \
        threads together; EACH: the time of one\n";
    out += if sound {
        "afterwards everything was freed: one block, sound\n"
    } else {
        "fault: afterwards the heap was not whole\n"
    };
    Ok((out, code))
}

/// Each workload on one thread and on so many; the hand-over is always from one to another.
fn rows(threads: usize) -> Vec<Row> {
    let of = |work| match work {
        Work::HandOver => vec![2],
        _ if threads == 1 => vec![1],
        _ => vec![1, threads],
    };
    let row = |work| of(work).into_iter().map(move |threads| Row { work, threads, rates: vec![] });
    Work::ALL.into_iter().flat_map(row).collect()
}

fn cells(row: &Row) -> Vec<String> {
    let million = |rate: f64| format!("{:.1} M/s", rate / 1e6);
    let each = row.threads as f64 * 1e9 / row.best().max(1.0);
    vec![
        row.work.name().to_owned(),
        row.work.what().to_owned(),
        row.threads.to_string(),
        million(row.best()),
        million(row.median()),
        if row.work == Work::HandOver { "-".to_owned() } else { format!("{each:.1} ns") },
    ]
}

fn value(row: &Row) -> Value {
    json!({
        "workload": row.work.name(), "what": row.work.what(), "unit": format!("{} per second", row.work.unit()),
        "threads": row.threads, "best": row.best(), "median": row.median(), "runs": row.rates,
    })
}

/// Where we are, for who waits at a terminal; nothing else is written there.
fn progress(text: &str) {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{text}");
        let _ = err.flush();
    }
}

/// One run: what all threads did in a second. On a busy machine it may take a few tries until anybody has had a turn.
fn measure(handler: &Handler, work: Work, threads: usize, time: Duration) -> Result<f64, Failure> {
    for _ in 0..TRIES {
        match play(handler, work, threads, time)? {
            (0, _) => {}
            (done, passed) => return Ok(rate(done, passed)),
        }
    }
    Err(Failure::new(FAILED, "nothing could be allocated: give a larger --size"))
}

/// What all threads have done, and in which time.
fn play(handler: &Handler, work: Work, threads: usize, time: Duration) -> Result<(u64, Duration), Failure> {
    let (start, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let ring: Vec<AtomicUsize> = (0..RING).map(|_| AtomicUsize::new(0)).collect();
    let (done, passed) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (handler, start, stop, ring) = (handler.clone(), &start, &stop, &ring);
                scope.spawn(move || {
                    // A thread's first operation takes its slot.
                    let warm = handler.allocate_raw(64).and_then(|block| handler.free_raw(block));
                    start.wait();
                    warm?;
                    match work {
                        Work::Mix => mix(&handler, stop, number as u64),
                        Work::Pairs => pairs(&handler, stop),
                        Work::HandOver => [send, receive][number](&handler, stop, ring),
                    }
                })
            })
            .collect();
        start.wait();
        let since = Instant::now();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let passed = since.elapsed();
        let mut done: Done = Ok(0);
        for worker in workers {
            let own = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done = done.and_then(|all| Ok(all + own?));
        }
        (done, passed)
    });
    // What the ring still holds.
    for place in ring {
        let left = place.into_inner();
        if left > 0 {
            handler.free_at(left as u32)?;
        }
    }
    Ok((done?, passed))
}

fn rate(done: u64, passed: Duration) -> f64 {
    done as f64 / passed.as_secs_f64()
}

type Done = atomic_matrix::Result<u64>;

fn mix(handler: &Handler, stop: &AtomicBool, seed: u64) -> Done {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut live = Vec::with_capacity(LIVE);
    let mut operations = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            if takes(live.len(), dice.u8(0..10)) {
                let Ok(block) = handler.allocate_raw(dice.usize(32..=544)) else { continue };
                live.push(block);
            } else if !live.is_empty() {
                handler.free_raw(live.swap_remove(dice.usize(0..live.len())))?;
            } else {
                continue;
            }
            operations += 1;
        }
    }
    live.into_iter().try_for_each(|block| handler.free_raw(block))?;
    Ok(operations)
}

/// Whether the mix allocates, with so many blocks live, at a throw of 0 to 9.
fn takes(live: usize, thrown: u8) -> bool {
    live < LIVE && thrown < 7
}

fn pairs(handler: &Handler, stop: &AtomicBool) -> Done {
    let mut pairs = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let Ok(block) = handler.allocate_raw(64) else { continue };
            handler.free_raw(block)?;
            pairs += 1;
        }
    }
    Ok(pairs)
}

/// Waits a moment, and lets others run if it takes longer.
fn patience(waited: &mut u32) {
    *waited += 1;
    if waited.is_multiple_of(1000) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

/// Each place of the ring says itself whether it is empty (0): an offset is never 0.
fn send(handler: &Handler, stop: &AtomicBool, ring: &[AtomicUsize]) -> Done {
    let mut waited = 0;
    for place in ring.iter().cycle() {
        while place.load(Ordering::Relaxed) != 0 {
            if stop.load(Ordering::Relaxed) {
                return Ok(0);
            }
            patience(&mut waited);
        }
        let block = loop {
            match handler.allocate_raw(128) {
                Ok(block) => break block,
                Err(_) if stop.load(Ordering::Relaxed) => return Ok(0),
                Err(_) => patience(&mut waited),
            }
        };
        place.store(block.offset() as usize, Ordering::Release);
    }
    Ok(0)
}

fn receive(handler: &Handler, stop: &AtomicBool, ring: &[AtomicUsize]) -> Done {
    let (mut messages, mut waited) = (0, 0);
    for place in ring.iter().cycle() {
        let offset = loop {
            match place.load(Ordering::Acquire) {
                0 if stop.load(Ordering::Relaxed) => return Ok(messages),
                0 => patience(&mut waited),
                offset => break offset,
            }
        };
        handler.free_at(offset as u32)?;
        place.store(0, Ordering::Relaxed);
        messages += 1;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn row(work: Work, threads: usize, rates: &[f64]) -> Row {
        Row { work, threads, rates: rates.to_vec() }
    }

    #[test]
    fn a_row_says_best_and_median_and_the_time_of_one() {
        let mix = row(Work::Mix, 2, &[4e6, 1e6, 2e6]);
        assert_eq!((mix.best(), mix.median()), (4e6, 2e6));
        let told = ["A", "32 to 544 bytes at random, 200 live", "2", "4.0 M/s", "2.0 M/s", "500.0 ns"];
        assert_eq!(cells(&mix), told);
        let pairs = row(Work::Pairs, 1, &[8e6]);
        assert_eq!(cells(&pairs)[1..], ["64 bytes allocated and freed", "1", "8.0 M/s", "8.0 M/s", "125.0 ns"]);
        let messages = row(Work::HandOver, 2, &[1e6, 3e6]);
        assert_eq!(cells(&messages)[1..], ["128 bytes allocated here, freed there", "2", "3.0 M/s", "3.0 M/s", "-"]);
        let units = [mix, pairs, messages].map(|row| value(&row)["unit"].clone());
        assert_eq!(units, ["operations per second", "pairs per second", "messages per second"]);
        assert_eq!(rate(30, Duration::from_millis(500)), 60.0);
    }

    #[test]
    fn each_workload_has_its_rows() {
        let of = |threads| rows(threads).iter().map(|row| (row.work.name(), row.threads)).collect::<Vec<_>>();
        assert_eq!(of(1), [("A", 1), ("B", 1), ("C", 2)]);
        assert_eq!(of(7), [("A", 1), ("A", 7), ("B", 1), ("B", 7), ("C", 2)]);
    }

    #[test]
    fn the_mix_allocates_seven_times_of_ten_up_to_its_bound() {
        let times = |live| (0..10).filter(|thrown| takes(live, *thrown)).count();
        assert_eq!([0, LIVE - 1, LIVE, LIVE + 1].map(times), [7, 7, 0, 0]);
    }

    /// A segment without any room, and what takes it.
    fn full() -> (Handler, Vec<atomic_matrix::RelativePtr<u8>>) {
        let handler = Options::new().memfd().size(1 << 20).create().expect("created");
        let held = std::iter::from_fn(|| handler.allocate_raw(128).ok()).collect();
        (handler, held)
    }

    #[test]
    fn where_nothing_can_be_allocated_nothing_is_measured() {
        let handler = Options::new().memfd().size(1 << 20).create().expect("created");
        let held: Vec<_> = std::iter::from_fn(|| handler.allocate_raw(64).ok()).collect();
        let told = measure(&handler, Work::Pairs, 1, Duration::from_millis(1)).err();
        assert!(told.is_some_and(|failure| failure.code != FINE), "there is no room at all");
        // Room for each thread's first block, and not for a message.
        for block in held.into_iter().step_by(2).take(8) {
            handler.free_raw(block).expect("live");
        }
        let told = measure(&handler, Work::HandOver, 2, Duration::from_millis(1)).err();
        assert!(told.is_some_and(|failure| failure.message.contains("--size")), "no message can be sent");
    }

    /// Runs it on a thread of its own; fails if it does not end.
    fn ends<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || done.send(run()));
        wait.recv_timeout(Duration::from_secs(60)).expect("it ends")
    }

    #[test]
    fn who_waits_for_room_or_a_message_ends_when_told() {
        let ring = || [AtomicUsize::new(0), AtomicUsize::new(0)];
        let sent = ends(move || send(&full().0, &AtomicBool::new(true), &ring()));
        assert_eq!(sent.expect("no failure"), 0);
        let received = ends(move || receive(&full().0, &AtomicBool::new(true), &ring()));
        assert_eq!(received.expect("no failure"), 0);
    }

    #[test]
    fn who_sends_waits_for_room() {
        static STOP: AtomicBool = AtomicBool::new(false);
        static PLACE: [AtomicUsize; 1] = [AtomicUsize::new(0)];
        let (handler, held) = full();
        let sender = handler.clone();
        let sends = std::thread::spawn(move || send(&sender, &STOP, &PLACE));
        // Long enough to be refused, on most machines.
        std::thread::sleep(Duration::from_millis(50));
        held.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
        let until = Instant::now() + Duration::from_secs(60);
        while PLACE[0].load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < until && !sends.is_finished(), "it has given up");
            std::thread::yield_now();
        }
        STOP.store(true, Ordering::Relaxed);
        assert_eq!(sends.join().expect("no panic").expect("no failure"), 0);
    }
}
