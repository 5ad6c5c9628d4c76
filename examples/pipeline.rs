//! Processes in a row: producers make messages of 16 bytes to 64 KiB, workers check every byte and send them on as they
//! lie, a sink counts them. A worker and a producer are killed meanwhile, and replaced; what the worker had in hand
//! another gets. Exits with 1 if a message is lost, doubled or damaged, or a block is left.
//!
//! ```console
//! cargo run --release --example pipeline -- --seconds 8 --rate 5000
//! ```
//!
//! In the first half of the time all go as fast as they can; then messages are due at a fixed rate, and their
//! latency counts from when they were due, so that a late producer hides nothing. The segment has no name:
//! the processes inherit it as their standard input, and whatever ends them leaves nothing.

use atomic_matrix::ipc::{Framed, Message, Redelivering, Sender};
use atomic_matrix::{Error, Handler, Options};
use lexopt::prelude::*;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const PRODUCERS: u64 = 2;
const WORKERS: u64 = 2;
/// Messages that workers hold at a time, at most.
const HELD: u16 = 16;

atomic_matrix::shared! {
    /// What stands in front of a message's bytes. Due: 0 if it is sent as fast as it goes.
    struct Header { due: u64, producer: u64, number: u64, checksum: u64 }
}
/// A producer's last one has no bytes.
type Frame = Framed<Header, u8>;

/// Nanoseconds, by a clock that all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
fn sleep_until(moment: u64) {
    std::thread::sleep(Duration::from_nanos(moment.saturating_sub(now())));
}

atomic_matrix::shared! {
    /// What all go by, in nanoseconds. It hangs on a board of the segment.
    struct Plan { begun: u64, quarter: u64, rate: u64 }
}

fn checksum(frame: &Frame) -> u64 {
    crc32fast::hash(&frame.items).into()
}

fn produce(handler: &Handler, me: u64, plan: &Plan) -> Result<(), Error> {
    let made = handler.channel::<Frame>("made").redeliver(HELD).open()?.sender()?;
    let (mut random, mut sent) = (fastrand::Rng::with_seed(me), 0);
    let mut send = |due, last| -> Result<(), Error> {
        let most = if last { 0 } else { 1 << random.u32(5..=16) }; // mostly small
        let bytes = random.usize(most.min(16)..=most);
        let mut frame = handler.message_framed::<Header, u8>(bytes)?;
        random.fill(&mut frame.items);
        frame.header = Header { due, producer: me, number: sent, checksum: checksum(&frame) };
        sent += 1;
        Ok(made.send(frame)?) // waits for room, asleep
    };
    while now() < plan.begun + 2 * plan.quarter {
        send(0, false)?;
    }
    // When the channels are empty again, each producer's are due between the others', from the first that is not over.
    let interval = 1_000_000_000 * PRODUCERS / plan.rate;
    let first = plan.begun + 2 * plan.quarter + 100_000_000 + interval * (me % PRODUCERS) / PRODUCERS;
    let mut due = first + now().saturating_sub(first).next_multiple_of(interval);
    while due < plan.begun + 4 * plan.quarter {
        sleep_until(due);
        send(due, false)?;
        due += interval;
    }
    send(0, true)
}

fn work(handler: &Handler) -> Result<(), Error> {
    let made = handler.channel::<Frame>("made").redeliver(HELD).open()?.worker()?;
    let checked = handler.channel::<Frame>("checked").open()?.sender()?;
    for frame in made.iter() {
        match checksum(&frame) == frame.header.checksum {
            true => frame.forward(&checked)?, // not copied; killed here, it is delivered again or sent on
            false => frame.ack(),             // and so it is missed
        }
    }
    Ok(())
}

/// What has come out at the end.
#[derive(Default)]
struct Books {
    fast: u64,
    bytes: u64,
    doubled: u64,
    /// How often a message was so many nanoseconds late: each power of two in 32 steps, so within 3 %.
    late: BTreeMap<u64, u64>,
    /// Of each producer: which of its messages have come, and whether the last one has.
    seen: BTreeMap<u64, (Vec<bool>, bool)>,
}

impl Books {
    fn note(&mut self, frame: &Message<'_, Frame>) {
        let Header { due, producer, number, .. } = frame.header;
        if due > 0 {
            let nanos = now().saturating_sub(due).max(32);
            let cut = nanos.ilog2() - 5;
            *self.late.entry(nanos >> cut << cut).or_default() += 1;
        } else {
            self.fast += 1;
            self.bytes += frame.items.len() as u64;
        }
        let (seen, ended) = self.seen.entry(producer).or_default();
        seen.resize(seen.len().max(number as usize + 1), false);
        self.doubled += u64::from(std::mem::replace(&mut seen[number as usize], true));
        *ended |= frame.items.is_empty();
    }
    /// As much later, in microseconds, this share of the messages came at most.
    fn percentile(&self, percent: f64) -> f64 {
        let so_late = |nanos| self.late.range(..=nanos).map(|(_, count)| *count).sum::<u64>() as f64;
        let share = so_late(u64::MAX) * percent / 100.0;
        let reached = self.late.iter().find(|(nanos, _)| so_late(**nanos) >= share);
        reached.map_or(f64::NAN, |(step, _)| *step as f64 * (1.0 + 1.0 / 32.0) / 1000.0)
    }
}

/// The other processes; they die with this one.
struct Crew<'a>(&'a Handler, Vec<(&'static str, Child)>);

impl Crew<'_> {
    fn start(&mut self, role: &'static str, number: u64) -> Result<(), Failure> {
        let segment = self.0.matrix().segment().fd().try_clone_to_owned()?;
        let mut command = Command::new(std::env::current_exe()?);
        self.1.push((role, command.args([role, &number.to_string()]).stdin(segment).spawn()?));
        Ok(())
    }
    /// Kills one and starts another.
    fn replace(&mut self, role: &'static str, number: u64) -> Result<(), Failure> {
        let found = self.1.iter().position(|(is, _)| *is == role).ok_or("there is none")?;
        self.1[found].1.kill()?; // SIGKILL: it puts nothing in order
        self.1.swap_remove(found).1.wait()?;
        self.start(role, number)
    }
    /// Waits until all of a role have ended, and ended well.
    fn wait(&mut self, role: &str) -> Result<(), Failure> {
        let limit = Instant::now() + Duration::from_secs(10);
        for (_, mut child) in self.1.extract_if(.., |(is, _)| *is == role) {
            while child.try_wait()?.is_none() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(2));
            }
            if !child.try_wait()?.is_some_and(|status| status.success()) {
                return Err(format!("a {role} has not ended, or not well").into());
            }
        }
        Ok(())
    }
    fn conduct(mut self, plan: &Plan, ends: (Sender<Frame, Redelivering>, Sender<Frame>)) -> Result<(), Failure> {
        (0..WORKERS).try_for_each(|number| self.start("worker", number))?;
        (0..PRODUCERS).try_for_each(|number| self.start("producer", number))?;
        sleep_until(plan.begun + plan.quarter);
        self.replace("worker", WORKERS)?;
        sleep_until(plan.begun + 3 * plan.quarter);
        self.replace("producer", PRODUCERS)?;
        self.wait("producer")?;
        drop(ends.0); // the last sender: the workers get what is there, and end
        self.wait("worker")?;
        drop(ends.1); // and so does the sink
        Ok(())
    }
}

fn conduct(plan: Plan) -> Result<bool, Failure> {
    let handler = Options::new().memfd().size(64 << 20).create()?;
    let made = handler.channel::<Frame>("made").capacity(256).redeliver(HELD).create()?;
    let checked = handler.channel::<Frame>("checked").capacity(256).create()?;
    let board = handler.board::<Plan>("plan")?;
    board.set(plan)?;
    let (sink, ends) = (checked.receiver()?, (made.sender()?, checked.sender()?));
    let mut books = Books::default();
    std::thread::scope(|scope| {
        scope.spawn(|| sink.iter().for_each(|frame| books.note(&frame)));
        Crew(&handler, vec![]).conduct(&plan, ends).unwrap_or_else(|error| fail(error));
    });
    made.remove().and(checked.remove()).and(board.remove())?;
    drop((made, checked, board, sink));
    handler.reap().and_then(|_| handler.heal())?;
    let (stats, half) = (handler.verify()?, plan.quarter as f64 * 2e-9);
    let (rate, mib) = (books.fast as f64 / half, books.bytes as f64 / half / 1048576.0);
    println!("{PRODUCERS} producers -> {WORKERS} workers -> sink: {rate:.0} messages, {mib:.0} MiB a second");
    println!("at {} messages a second, a message is counted after", plan.rate);
    for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
        println!("{:>12.1} µs or less: {percent} %", books.percentile(percent));
    }
    let ended = books.seen.values().filter(|(_, ended)| *ended).count();
    let sent = books.seen.values().map(|(seen, _)| seen.len()).sum::<usize>();
    let missing = books.seen.values().flat_map(|(seen, _)| seen).filter(|seen| !**seen).count();
    println!("of {sent} messages {missing} lost or damaged, {} doubled", books.doubled);
    println!("{:>12} of {} bytes free, in {} block(s)", stats.free_bytes, stats.sector_bytes, stats.free_blocks);
    let whole = missing == 0 && books.doubled == 0 && ended as u64 == PRODUCERS;
    Ok(whole && stats.free_blocks == 1 && stats.free_bytes == stats.sector_bytes)
}

fn run() -> Result<bool, Failure> {
    let mut given = std::env::args().skip(1);
    if let (Some(role @ ("producer" | "worker")), Some(me)) = (given.next().as_deref(), given.next()) {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let handler = Options::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?).attach()?;
        let plan = handler.board::<Plan>("plan")?.get()?.ok_or("there is no plan")?;
        return Ok(
            if role == "worker" { work(&handler) } else { produce(&handler, me.parse()?, &plan) }.map(|()| true)?
        );
    }
    let (mut plan, mut given) = (Plan { begun: now(), quarter: 2_000_000_000, rate: 5000 }, lexopt::Parser::from_env());
    while let Some(argument) = given.next()? {
        match argument {
            Long("seconds") => plan.quarter = given.value()?.parse::<u64>()?.clamp(1, 3600) * 250_000_000,
            Long("rate") => plan.rate = given.value()?.parse::<u64>()?.clamp(1, 100_000),
            _ => return Err("usage: pipeline [--seconds 1-3600] [--rate 1-100000 messages a second]".into()),
        }
    }
    conduct(plan)
}

/// Ends this process, and so the others.
fn fail(error: Failure) -> ! {
    eprintln!("pipeline: {error}");
    std::process::exit(1)
}

fn main() {
    if !run().unwrap_or_else(|error| fail(error)) {
        fail("something was lost, or is left".into());
    }
}
