//! Processes exchange blocks through one segment: producers allocate blocks of random sizes, fill them and pass their offsets on;
//! consumers check every byte by checksum, and free. Ends by itself; exits with 1 on any damage.
//!
//! ```console
//! cargo run --release --example pipeline -- --producers 2 --consumers 2 --seconds 8
//! ```
//!
//! The offsets travel through rings that are blocks of the segment themselves, found by name in its directory.
#![allow(clippy::disallowed_types, reason = "the rings are this example's own, not the allocator's")]

use atomic_matrix::handlers::{Handler, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use clap::Parser;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

#[derive(Parser, Clone)]
#[command(about = "Processes exchange blocks through one AtomicMatrix segment.")]
struct Arguments {
    /// Producer processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    producers: u64,
    /// Consumer processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    consumers: u64,
    /// Seconds of work.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Size of the segment in MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(8..=65536))]
    size: u64,
    /// (internal) what this process is: producer or consumer.
    #[arg(long, hide = true)]
    role: Option<String>,
    /// (internal) the segment.
    #[arg(long, hide = true)]
    id: Option<Uuid>,
    /// (internal) which producer or consumer.
    #[arg(long, hide = true, default_value_t = 0)]
    number: u64,
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
const MESSAGES: usize = 32;
const RING_BYTES: usize = (MESSAGES + 2 * SLOTS as usize) * 8;
/// In the offset's place: the producer has ended.
const END: u64 = u64::MAX;

impl Ring {
    fn at(handler: &Handler, producer: u64, consumer: u64) -> Result<Self, Failure> {
        let block = handler.lookup::<[u8; RING_BYTES]>(&format!("ring {producer} {consumer}"))?;
        Ok(Self { words: handler.resolve(&block.pointer()).cast(), seen: 0, own: 0 })
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
        .map(|consumer| Ring::at(handler, arguments.number, consumer))
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

/// What a consumer reports: messages, bytes, damaged messages, latencies in nanoseconds.
struct Report {
    messages: u64,
    bytes: u64,
    damaged: u64,
    latency: Histogram<u64>,
}

fn consume(handler: &Handler, arguments: &Arguments) -> Result<Report, Failure> {
    let mut rings = (0..arguments.producers)
        .map(|producer| Ok((Ring::at(handler, producer, arguments.number)?, true)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut report = Report { messages: 0, bytes: 0, damaged: 0, latency: Histogram::new(3)? };
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
            report.latency.record(now().saturating_sub(started))?;
            handler.free_at(offset)?;
        }
        if idle {
            std::thread::yield_now();
        }
    }
    Ok(report)
}

/// Removes the segment whatever happens.
struct Cleanup(Handler, Vec<Child>);
impl Drop for Cleanup {
    fn drop(&mut self) {
        for child in &mut self.1 {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.0.unlink();
    }
}

fn start(role: &str, number: u64, id: Uuid, arguments: &Arguments) -> Result<Child, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", role, "--number", &number.to_string(), "--id", &id.to_string()]);
    for (name, value) in
        [("--producers", arguments.producers), ("--consumers", arguments.consumers), ("--seconds", arguments.seconds)]
    {
        command.args([name, &value.to_string()]);
    }
    let output = if role == "consumer" { Stdio::piped() } else { Stdio::null() };
    Ok(command.stdin(Stdio::null()).stdout(output).spawn()?)
}

fn conduct(arguments: &Arguments) -> Result<bool, Failure> {
    let handler = AtomicMatrix::bootstrap(None, (arguments.size as usize) << 20)?;
    let id = handler.id();
    let mut rings: Vec<RelativePtr<u8>> = vec![];
    let mut run = Cleanup(handler.clone(), vec![]);
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
        run.1.push(start("consumer", number, id, arguments)?);
    }
    for number in 0..arguments.producers {
        run.1.push(start("producer", number, id, arguments)?);
    }
    let bar = ProgressBar::new(arguments.seconds * 10);
    bar.set_style(ProgressStyle::with_template("{bar:40} {elapsed}/{duration} {msg}")?);
    while started.elapsed() < Duration::from_secs(arguments.seconds) {
        std::thread::sleep(Duration::from_millis(100));
        bar.set_position((started.elapsed().as_millis() / 100) as u64);
        let stats = handler.stats()?;
        bar.set_message(format!("{} live, {} parked blocks", stats.live_blocks, stats.parked_blocks));
    }
    bar.finish_and_clear();
    let mut total = Report { messages: 0, bytes: 0, damaged: 0, latency: Histogram::new(3)? };
    for (index, child) in run.1.iter_mut().enumerate() {
        let mut bytes = vec![];
        if let Some(output) = &mut child.stdout {
            output.read_to_end(&mut bytes)?;
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("process {index} of the pipeline ended with {status}").into());
        }
        if index < arguments.consumers as usize {
            let number = |at: usize| bytes[at..at + 8].iter().rev().fold(0u64, |sum, &byte| sum << 8 | byte as u64);
            total.messages += number(0);
            total.bytes += number(8);
            total.damaged += number(16);
            total.latency.add(Deserializer::new().deserialize::<u64, _>(&mut &bytes[24..])?)?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{:>14} messages ({:.2} million a second)", total.messages, total.messages as f64 / seconds / 1e6);
    println!(
        "{:>14.1} MiB ({:.0} MiB a second)",
        total.bytes as f64 / 1048576.0,
        total.bytes as f64 / 1048576.0 / seconds
    );
    for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
        let micros = total.latency.value_at_percentile(percent) as f64 / 1000.0;
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
    let id = arguments.id.ok_or("--role needs --id")?;
    let handler = AtomicMatrix::attach(id)?;
    if role == "producer" {
        produce(&handler, arguments)?;
        return Ok(true);
    }
    let report = consume(&handler, arguments)?;
    let mut output = std::io::stdout().lock();
    for number in [report.messages, report.bytes, report.damaged] {
        output.write_all(&number.to_le_bytes())?;
    }
    V2Serializer::new().serialize(&report.latency, &mut output)?;
    output.flush()?;
    Ok(true)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.role {
        Some(role) => work(&arguments, role),
        None => conduct(&arguments),
    };
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
