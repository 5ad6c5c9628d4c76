//! Processes exchange blocks through one segment: producers allocate blocks of random sizes, fill them and pass their offsets on;
//! consumers check every byte by checksum, and free. Ends by itself; exits with 1 on any damage.
//!
//! ```console
//! cargo run --release --example pipeline -- --producers 2 --consumers 2 --seconds 8
//! ```
//!
//! The offsets travel through rings that are blocks of the segment themselves, found by name in its directory. When all
//! processes have joined, the segment's name is removed: whatever ends the pipeline then, Ctrl-C included, leaves nothing.
#![allow(clippy::disallowed_types, reason = "the rings are this example's own, not the allocator's")]

use atomic_matrix::handlers::{Handler, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use lexopt::prelude::*;
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{IsTerminal, Read, Write};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

const HELP: &str = "\
Processes exchange blocks through one AtomicMatrix segment.

  --producers N   producer processes, 1 to 16 (2)
  --consumers N   consumer processes, 1 to 16 (2)
  --seconds N     seconds of work, 1 to 3600 (8)
  --size N        size of the segment in MiB, 8 to 65536 (64)";

struct Arguments {
    producers: u64,
    consumers: u64,
    seconds: u64,
    size: u64,
    /// What this process is, if it is not the conductor: producer or consumer, of which segment, and which one.
    role: Option<String>,
    id: Option<Uuid>,
    number: u64,
}

impl Arguments {
    /// None if only help was asked for.
    fn parse() -> Result<Option<Self>, Failure> {
        let mut it = Self { producers: 2, consumers: 2, seconds: 8, size: 64, role: None, id: None, number: 0 };
        let mut given = lexopt::Parser::from_env();
        while let Some(argument) = given.next()? {
            let (number, range) = match argument {
                Long("producers") => (&mut it.producers, 1..=16),
                Long("consumers") => (&mut it.consumers, 1..=16),
                Long("seconds") => (&mut it.seconds, 1..=3600),
                Long("size") => (&mut it.size, 8..=65_536),
                Long("number") => (&mut it.number, 0..=16),
                Long("role") => {
                    it.role = Some(given.value()?.string()?);
                    continue;
                }
                Long("id") => {
                    it.id = Some(given.value()?.parse()?);
                    continue;
                }
                Long("help") | Short('h') => return Ok(None),
                other => return Err(format!("{}; see --help", other.unexpected()).into()),
            };
            *number = given.value()?.parse()?;
            if !range.contains(number) {
                return Err(format!("{number} is not in {} to {}; see --help", range.start(), range.end()).into());
            }
        }
        Ok(Some(it))
    }
}

/// One producer's ring to one consumer: head and tail on cache lines of their own, then the messages.
struct Ring {
    words: *const AtomicU64,
    /// The other side's position as last seen.
    seen: u64,
    /// The own position.
    own: u64,
}

const SLOTS: u64 = 1024;
const HEAD: usize = 0;
const TAIL: usize = 16;
/// Behind a side's position: not 0 when that side has joined.
const JOINED: usize = 1;
const MESSAGES: usize = 32;
const RING_BYTES: usize = (MESSAGES + 2 * SLOTS as usize) * 8;
/// In the offset's place: the producer has ended.
const END: u64 = u64::MAX;

impl Ring {
    fn of(handler: &Handler, ring: RelativePtr<u8>) -> Self {
        Self { words: handler.resolve(&ring).cast(), seen: 0, own: 0 }
    }
    /// Finds a ring and joins it at a side, [`HEAD`] (the producer's) or [`TAIL`].
    fn join(handler: &Handler, producer: u64, consumer: u64, side: usize) -> Result<Self, Failure> {
        let block = handler.lookup::<[u8; RING_BYTES]>(&format!("ring {producer} {consumer}"))?;
        let ring = Self::of(handler, block.pointer().cast());
        ring.word(side + JOINED).store(1, Ordering::Release);
        Ok(ring)
    }
    /// Whether both sides have joined.
    fn complete(&self) -> bool {
        [HEAD, TAIL].iter().all(|side| self.word(side + JOINED).load(Ordering::Acquire) != 0)
    }
    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the index is below RING_BYTES / 8, the block stays allocated until every process has ended, and all
        // accesses to it are atomic.
        unsafe { &*self.words.add(index) }
    }
    fn send(&mut self, message: [u64; 2]) -> bool {
        if self.own - self.seen == SLOTS {
            self.seen = self.word(TAIL).load(Ordering::Acquire);
            if self.own - self.seen == SLOTS {
                return false;
            }
        }
        let slot = MESSAGES + 2 * (self.own % SLOTS) as usize;
        self.word(slot).store(message[0], Ordering::Relaxed);
        self.word(slot + 1).store(message[1], Ordering::Relaxed);
        self.own += 1;
        self.word(HEAD).store(self.own, Ordering::Release);
        true
    }
    fn receive(&mut self) -> Option<[u64; 2]> {
        if self.own == self.seen {
            self.seen = self.word(HEAD).load(Ordering::Acquire);
            if self.own == self.seen {
                return None;
            }
        }
        let slot = MESSAGES + 2 * (self.own % SLOTS) as usize;
        let message = [self.word(slot).load(Ordering::Relaxed), self.word(slot + 1).load(Ordering::Relaxed)];
        self.own += 1;
        self.word(TAIL).store(self.own, Ordering::Release);
        Some(message)
    }
}

/// What a payload begins with; the rest is filled from the seed.
const PREFIX: usize = 16;

fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn produce(handler: &Handler, arguments: &Arguments) -> Result<(), Failure> {
    let mut rings = (0..arguments.consumers)
        .map(|consumer| Ring::join(handler, arguments.number, consumer, HEAD))
        .collect::<Result<Vec<_>, _>>()?;
    let mut random = fastrand::Rng::with_seed(arguments.number + 1);
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut payload = vec![0u8; 64 << 10];
    'work: for number in 0u64.. {
        if number.is_multiple_of(64) && Instant::now() >= end {
            break;
        }
        // 16 bytes to 64 KiB, mostly small.
        let most = 1usize << random.u32(5..=16);
        let size = random.usize(PREFIX..=most);
        let body = &mut payload[..size];
        random.fill(&mut body[PREFIX..]);
        let checksum = crc32fast::hash(&body[PREFIX..]);
        body[..8].copy_from_slice(&(size as u64).to_le_bytes());
        body[8..16].copy_from_slice(&(checksum as u64).to_le_bytes());
        let started = now();
        let pointer = loop {
            match handler.allocate_raw(size) {
                Ok(pointer) => break pointer,
                // Consumers are behind: wait for them, as a pipeline does.
                Err(atomic_matrix::Error::OutOfMemory { .. }) if Instant::now() < end => std::thread::yield_now(),
                Err(atomic_matrix::Error::OutOfMemory { .. }) => break 'work,
                Err(error) => return Err(error.into()),
            }
        };
        // SAFETY: the block is fresh, has at least `size` bytes, and nobody else knows it yet.
        unsafe { std::ptr::copy_nonoverlapping(body.as_ptr(), handler.resolve(&pointer), size) };
        let ring = &mut rings[(number % arguments.consumers) as usize];
        while !ring.send([pointer.offset() as u64, started]) {
            std::thread::yield_now();
        }
    }
    for ring in &mut rings {
        while !ring.send([END, 0]) {
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// How often which latency was seen, in nanoseconds: each power of two in 32 steps, so within 3 %.
struct Latencies([u64; 64 * STEPS]);

const STEPS: usize = 32;

impl Latencies {
    fn new() -> Self {
        Self([0; 64 * STEPS])
    }
    fn record(&mut self, nanos: u64) {
        let nanos = nanos.max(STEPS as u64);
        let power = nanos.ilog2();
        self.0[power as usize * STEPS + (nanos >> (power - STEPS.ilog2())) as usize % STEPS] += 1;
    }
    /// The least upper bound of this share of all latencies.
    fn percentile(&self, percent: f64) -> u64 {
        let mut left = (self.0.iter().sum::<u64>() as f64 * percent / 100.0).ceil() as u64;
        let step = self.0.iter().position(|&count| {
            left = left.saturating_sub(count);
            left == 0
        });
        let (power, part) = (step.unwrap_or(0) / STEPS, step.unwrap_or(0) % STEPS);
        ((STEPS + part + 1) as u64) << power >> STEPS.ilog2()
    }
}

/// What a consumer reports: messages, bytes, damaged messages, latencies.
struct Report {
    messages: u64,
    bytes: u64,
    damaged: u64,
    latency: Latencies,
}

impl Report {
    fn new() -> Self {
        Self { messages: 0, bytes: 0, damaged: 0, latency: Latencies::new() }
    }
    fn write(&self, output: &mut impl Write) -> Result<(), Failure> {
        for number in [self.messages, self.bytes, self.damaged].iter().chain(&self.latency.0) {
            output.write_all(&number.to_le_bytes())?;
        }
        Ok(output.flush()?)
    }
    /// Adds a report that was written.
    fn add(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        let sums = [&mut self.messages, &mut self.bytes, &mut self.damaged];
        for sum in sums.into_iter().chain(&mut self.latency.0) {
            let mut number = [0; 8];
            bytes.read_exact(&mut number)?;
            *sum += u64::from_le_bytes(number);
        }
        Ok(())
    }
}

fn consume(handler: &Handler, arguments: &Arguments) -> Result<Report, Failure> {
    let mut rings = (0..arguments.producers)
        .map(|producer| Ok((Ring::join(handler, producer, arguments.number, TAIL)?, true)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut report = Report::new();
    while rings.iter().any(|(_, open)| *open) {
        let mut idle = true;
        for (ring, open) in rings.iter_mut().filter(|(_, open)| *open) {
            let Some([offset, started]) = ring.receive() else { continue };
            idle = false;
            if offset == END {
                *open = false;
                continue;
            }
            let offset = offset as u32;
            let usable = handler.usable_size_at(offset)?;
            // SAFETY: the producer has handed this live block over, and nobody writes it any more.
            let block = unsafe { std::slice::from_raw_parts(handler.resolve_at(offset)?, usable) };
            let field = |at: usize| block[at..at + 8].iter().rev().fold(0u64, |sum, &byte| sum << 8 | byte as u64);
            let size = field(0) as usize;
            let whole = size <= usable && size >= PREFIX && crc32fast::hash(&block[PREFIX..size]) as u64 == field(8);
            report.damaged += !whole as u64;
            report.bytes += size as u64;
            report.messages += 1;
            report.latency.record(now().saturating_sub(started));
            handler.free_at(offset)?;
        }
        if idle {
            std::thread::yield_now();
        }
    }
    Ok(report)
}

/// Another process of the pipeline.
struct Member {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    /// Reads what it reports.
    report: JoinHandle<std::io::Result<Vec<u8>>>,
}

/// The segment and the processes; takes them along, whatever happens.
struct Crew {
    handler: Handler,
    members: Vec<Member>,
}

/// How long processes may take to join, and to end when their time is over.
const PATIENCE: Duration = Duration::from_secs(5);

impl Crew {
    fn start(&mut self, role: &str, number: u64, arguments: &Arguments) -> Result<(), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--role", role, "--number", &number.to_string(), "--id", &self.handler.id().to_string()]);
        for (name, value) in [
            ("--producers", arguments.producers),
            ("--consumers", arguments.consumers),
            ("--seconds", arguments.seconds),
        ] {
            command.args([name, &value.to_string()]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take();
        let report = std::thread::spawn(move || {
            let mut bytes = vec![];
            output.map_or(Ok(0), |mut output| output.read_to_end(&mut bytes)).map(|_| bytes)
        });
        self.members.push(Member { name: format!("{role} {number}"), child, ended: None, report });
        Ok(())
    }

    /// Whether all have ended, and ended well.
    fn ended(&mut self) -> Result<bool, Failure> {
        for member in &mut self.members {
            if member.ended.is_none() {
                member.ended = member.child.try_wait()?;
            }
            if let Some(status) = member.ended.filter(|status| !status.success()) {
                return Err(format!("{} ended with {status}", member.name).into());
            }
        }
        Ok(self.members.iter().all(|member| member.ended.is_some()))
    }

    /// Waits until `reached`, and sees whether everybody is well.
    fn wait(&mut self, limit: Instant, what: &str, mut reached: impl FnMut(bool) -> bool) -> Result<(), Failure> {
        loop {
            let ended = self.ended()?;
            if reached(ended) {
                return Ok(());
            }
            if Instant::now() >= limit {
                return Err(format!("the processes took too long to {what}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
        let _ = self.handler.unlink(); // Gone already, as a rule.
    }
}

fn conduct(arguments: &Arguments) -> Result<bool, Failure> {
    let handler = AtomicMatrix::bootstrap(None, (arguments.size as usize) << 20)?;
    let id = handler.id();
    let mut rings: Vec<RelativePtr<u8>> = vec![];
    let mut crew = Crew { handler: handler.clone(), members: vec![] };
    for producer in 0..arguments.producers {
        for consumer in 0..arguments.consumers {
            use atomic_matrix::handlers::HandlerFunctions;
            let mut block = handler.allocate::<[u8; RING_BYTES]>()?;
            handler.store(&mut block, [0; RING_BYTES])?;
            handler.publish(&format!("ring {producer} {consumer}"), &block)?;
            rings.push(block.pointer().cast());
        }
    }
    println!(
        "segment {id}: {} MiB, {} producers and {} consumers in processes of their own, {} s",
        arguments.size, arguments.producers, arguments.consumers, arguments.seconds
    );
    let started = Instant::now();
    for number in 0..arguments.consumers {
        crew.start("consumer", number, arguments)?;
    }
    for number in 0..arguments.producers {
        crew.start("producer", number, arguments)?;
    }
    let joining: Vec<Ring> = rings.iter().map(|&ring| Ring::of(&handler, ring)).collect();
    crew.wait(started + PATIENCE, "join", |_| joining.iter().all(Ring::complete))?;
    handler.unlink()?;
    let watched = std::io::stderr().is_terminal();
    let work = Duration::from_secs(arguments.seconds);
    while started.elapsed() < work && !crew.ended()? {
        std::thread::sleep(Duration::from_millis(100));
        let (seconds, stats) = (started.elapsed().as_secs(), handler.stats()?);
        if watched {
            let (of, live, parked) = (arguments.seconds, stats.live_blocks, stats.parked_blocks);
            eprint!("\r\x1b[K{seconds} of {of} s: {live} live, {parked} parked blocks");
        }
    }
    if watched {
        eprint!("\r\x1b[K");
    }
    let mut total = Report::new();
    crew.wait(started + work + PATIENCE, "end", |ended| ended)?;
    let seconds = started.elapsed().as_secs_f64();
    for member in crew.members.drain(..) {
        let bytes = member.report.join().map_err(|_| "a reader of reports panicked")??;
        if member.name.starts_with("consumer") {
            total.add(&bytes).map_err(|error| format!("{} made no sensible report: {error}", member.name))?;
        }
    }
    println!("{:>14} messages ({:.2} million a second)", total.messages, total.messages as f64 / seconds / 1e6);
    println!(
        "{:>14.1} MiB ({:.0} MiB a second)",
        total.bytes as f64 / 1048576.0,
        total.bytes as f64 / 1048576.0 / seconds
    );
    for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
        let micros = total.latency.percentile(percent) as f64 / 1000.0;
        println!("{micros:>14.1} µs from allocation to use, {percent} %");
    }
    println!("{:>14} damaged messages", total.damaged);
    for ring in rings {
        handler.free_raw(ring)?;
    }
    handler.reap()?;
    handler.heal()?;
    let stats = handler.verify()?;
    let healed = stats.free_blocks == 1 && stats.free_bytes == stats.sector_bytes;
    println!(
        "{:>14} free block(s) after everything was freed, {} of {} bytes",
        stats.free_blocks, stats.free_bytes, stats.sector_bytes
    );
    Ok(total.damaged == 0 && healed && total.messages > 0)
}

fn work(arguments: &Arguments, role: &str) -> Result<bool, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let id = arguments.id.ok_or("--role needs --id")?;
    let handler = AtomicMatrix::attach(id)?;
    if role == "producer" {
        produce(&handler, arguments)?;
        return Ok(true);
    }
    consume(&handler, arguments)?.write(&mut std::io::stdout().lock())?;
    Ok(true)
}

fn main() -> ExitCode {
    let result = Arguments::parse().and_then(|arguments| match arguments {
        None => {
            println!("{HELP}");
            Ok(true)
        }
        Some(arguments) => match &arguments.role {
            Some(role) => work(&arguments, role),
            None => conduct(&arguments),
        },
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("pipeline: damage was found");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}
