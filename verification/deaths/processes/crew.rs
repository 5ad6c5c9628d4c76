//! A crew of worker processes: each allocates, fills, checks, frees, and hands blocks to the others through a
//! ring that it finds in the directory.

use crate::common::{MIB, Rng, Scratch, check, fill, pattern_seed, rest_is_one_block, setting};
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::{Error, Shared};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use uuid::Uuid;

const WORKERS: usize = 4;
const RING: usize = 64;
/// Blocks that a worker has at most.
const HELD: usize = 64;

/// Words of the figures, for each worker.
const COUNTERS: usize = 8;
const OPERATIONS: usize = 0;
const CHECKS: usize = 1;
const BYTES: usize = 2;
const PASSED_ON: usize = 3;
const TAKEN_OVER: usize = 4;
/// The word behind the counters: workers finish when it is not 0.
const STOP: usize = WORKERS * COUNTERS;

type Ring = [u64; RING];
type Figures = [u64; STOP + 1];

/// A word of a block that several processes use at the same time.
fn word<const N: usize>(handler: &Handler, block: &Block<[u64; N]>, i: usize) -> &'static AtomicU64 {
    assert!(i < N);
    let first: *mut u64 = handler.resolve(&block.pointer()).cast();
    // SAFETY: in range of the live block; everybody accesses it atomically; the caller keeps its handler to the end.
    unsafe { AtomicU64::from_ptr(first.add(i)) }
}

/// What a worker runs on; the tests that start it say so in the environment.
#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn worker() {
    let Ok(segment) = std::env::var("MATRIX_CREW_SEGMENT") else { return };
    let index = setting("MATRIX_CREW_INDEX", 0) as usize;
    let writer = setting("MATRIX_CREW_WRITER", 0);
    Worker::new(Uuid::parse_str(&segment).expect("an id"), index, writer).work();
}

/// A block that a worker has: its offset is what others would get, too.
struct Mine {
    pointer: RelativePtr<u8>,
    usable: usize,
    seed: u64,
}

struct Worker {
    handler: Handler,
    ring: Block<Ring>,
    figures: Block<Figures>,
    index: usize,
    writer: u64,
    serial: u64,
    mine: Vec<Mine>,
    rng: Rng,
}

/// A message: offset, which of the types, and the serial of its pattern, never 0.
#[derive(Clone, Copy)]
struct Message {
    offset: u32,
    size: usize,
    serial: u64,
}

impl Message {
    fn encode(self) -> u64 {
        ((self.offset as u64) << 32) | ((self.size as u64) << 30) | self.serial
    }
    fn decode(word: u64) -> Option<Self> {
        let message = Self { offset: (word >> 32) as u32, size: (word >> 30 & 3) as usize, serial: word & 0x3FFF_FFFF };
        (word != 0).then_some(message)
    }
    /// The pattern's seed; blocks that are passed on have a family of their own.
    fn seed(self) -> u64 {
        pattern_seed(1, self.serial)
    }
}

impl Worker {
    fn new(segment: Uuid, index: usize, writer: u64) -> Self {
        let handler = atomic_matrix::matrix::core::AtomicMatrix::attach(segment).expect("the segment exists");
        let ring = handler.lookup::<Ring>("ring").expect("published");
        let figures = handler.lookup::<Figures>("figures").expect("published");
        let rng = Rng(writer.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self { handler, ring, figures, index, writer, serial: 0, mine: vec![], rng }
    }

    fn count(&self, what: usize, n: u64) {
        word(&self.handler, &self.figures, self.index * COUNTERS + what).fetch_add(n, SeqCst);
    }

    fn work(mut self) {
        while word(&self.handler, &self.figures, STOP).load(SeqCst) == 0 {
            match self.rng.below(20) {
                0..=8 if self.mine.len() < HELD => self.allocate(),
                0..=15 => self.free(),
                16..=17 => self.pass_on(),
                _ => self.take_over(),
            }
            self.count(OPERATIONS, 1);
        }
        while !self.mine.is_empty() {
            self.free();
        }
    }

    fn allocate(&mut self) {
        let size = match self.rng.below(20) {
            0 => 1 + self.rng.below(40_000),
            1..=4 => 1 + self.rng.below(4000),
            _ => 1 + self.rng.below(600),
        };
        let pointer = self.handler.allocate_raw(size).expect("most of the heap is free");
        let usable = self.handler.usable_size(&pointer).expect("it is live");
        self.serial += 1;
        let seed = pattern_seed(self.writer, self.serial);
        fill(&self.handler, &pointer, usable, seed);
        self.mine.push(Mine { pointer, usable, seed });
    }

    fn free(&mut self) {
        if self.mine.is_empty() {
            return;
        }
        let block = self.mine.swap_remove(self.rng.below(self.mine.len()));
        check(&self.handler, &block.pointer, block.usable, block.seed);
        self.count(CHECKS, 1);
        self.count(BYTES, block.usable as u64);
        self.handler.free_raw(block.pointer).expect("it is this worker's");
    }

    fn pass_on(&mut self) {
        match self.rng.below(4) {
            0 => self.pass_on_a::<[u64; 8]>(0),
            1 => self.pass_on_a::<[u64; 64]>(1),
            2 => self.pass_on_a::<[u64; 200]>(2),
            _ => self.pass_on_a::<[u64; 1000]>(3),
        }
    }

    fn pass_on_a<T: Shared>(&mut self, size: usize) {
        let slot = word(&self.handler, &self.ring, self.rng.below(RING));
        if slot.load(SeqCst) != 0 {
            return;
        }
        let block = self.handler.allocate::<T>().expect("most of the heap is free");
        self.serial += 1;
        // Unique while fewer than 2^14 messages of one worker are under way.
        let serial = ((self.writer % 0xFFFF + 1) << 14) | (self.serial % (1 << 14));
        let message = Message { offset: block.offset(), size, serial };
        let pointer = block.pointer().cast();
        fill(&self.handler, &pointer, self.handler.usable_size(&pointer).expect("live"), message.seed());
        // It belongs to nobody on the way, so it survives whoever dies meanwhile.
        self.handler.hand_over(&pointer).expect("live, and ours");
        if slot.compare_exchange(0, message.encode(), SeqCst, SeqCst).is_ok() {
            self.count(PASSED_ON, 1);
        } else {
            self.handler.try_free(block).expect("nobody else got it");
        }
    }

    fn take_over(&mut self) {
        let slot = word(&self.handler, &self.ring, self.rng.below(RING));
        let Some(message) = Message::decode(slot.swap(0, SeqCst)) else { return };
        self.handler.adopt_at(message.offset, None).expect("whoever passed it on left it alive");
        let (pointer, usable) = opened(&self.handler, message);
        check(&self.handler, &pointer, usable, message.seed());
        self.count(CHECKS, 1);
        self.count(BYTES, usable as u64);
        self.count(TAKEN_OVER, 1);
        self.mine.push(Mine { pointer, usable, seed: message.seed() });
    }
}

/// The block of a message.
fn opened(handler: &Handler, message: Message) -> (RelativePtr<u8>, usize) {
    let offset = message.offset;
    let pointer = match message.size {
        0 => handler.get_block::<[u64; 8]>(offset).map(|block| block.pointer().cast()),
        1 => handler.get_block::<[u64; 64]>(offset).map(|block| block.pointer().cast()),
        2 => handler.get_block::<[u64; 200]>(offset).map(|block| block.pointer().cast()),
        _ => handler.get_block::<[u64; 1000]>(offset).map(|block| block.pointer().cast()),
    }
    .expect("a live block of the type that was passed on");
    (pointer, handler.usable_size(&pointer).expect("it is live"))
}

/// The workers, killed and waited for whatever happens.
struct Crew {
    workers: Vec<Child>,
    started: u64,
    segment: Uuid,
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

impl Crew {
    fn start(&mut self, index: usize) -> Child {
        self.started += 1;
        Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "crew::worker", "--ignored", "--nocapture", "--test-threads=1"])
            .env("MATRIX_CREW_SEGMENT", self.segment.to_string())
            .env("MATRIX_CREW_INDEX", index.to_string())
            .env("MATRIX_CREW_WRITER", (self.started + 1).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this binary runs")
    }

    /// A worker that ended by itself has found damage.
    fn still_working(&mut self) {
        for i in 0..self.workers.len() {
            if self.workers[i].try_wait().expect("a child").is_some() {
                let text = said(self.workers.swap_remove(i));
                panic!("worker {i} ended early: {text}");
            }
        }
    }
}

fn said(worker: Child) -> String {
    let out = worker.wait_with_output().expect("a child");
    format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr))
}

/// Runs a crew; with `killing`, one worker is killed every second (`MATRIX_KILL_EVERY_MS`) and replaced.
fn run_crew(what: &str, strict: bool, seconds: u64, killing: bool) {
    let scratch = Scratch::new();
    let handler = scratch.options().size(16 * MIB).strict(strict).create().expect("created");
    let ring = handler.allocate::<Ring>().expect("empty heap");
    let figures = handler.allocate::<Figures>().expect("empty heap");
    (0..RING).for_each(|i| word(&handler, &ring, i).store(0, SeqCst));
    (0..=STOP).for_each(|i| word(&handler, &figures, i).store(0, SeqCst));
    handler.publish("ring", &ring).expect("a new name");
    handler.publish("figures", &figures).expect("a new name");

    let mut crew = Crew { workers: vec![], started: 0, segment: scratch.0 };
    for index in 0..WORKERS {
        let worker = crew.start(index);
        crew.workers.push(worker);
    }
    let counted = |index: usize, what: usize| word(&handler, &figures, index * COUNTERS + what).load(SeqCst);
    let total = |what: usize| (0..WORKERS).map(|index| counted(index, what)).sum::<u64>();
    let mut rng = Rng(seconds + 77);
    let pause = Duration::from_millis(if killing { setting("MATRIX_KILL_EVERY_MS", 1000) } else { 1000 });
    let (start, mut kills) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(pause);
        crew.still_working();
        if killing {
            let victim = rng.below(WORKERS);
            crew.workers[victim].kill().expect("SIGKILL");
            crew.workers[victim].wait().expect("a child");
            kills += 1;
            let before: Vec<u64> = (0..WORKERS).map(|index| counted(index, OPERATIONS)).collect();
            crew.workers[victim] = crew.start(victim);
            wait_for("all workers to go on", &mut crew, || {
                (0..WORKERS).all(|index| counted(index, OPERATIONS) > before[index])
            });
        }
    }
    wait_for("the first operation", &mut crew, || (0..WORKERS).all(|index| counted(index, OPERATIONS) > 0));
    word(&handler, &figures, STOP).store(1, SeqCst);
    for worker in std::mem::take(&mut crew.workers) {
        let text = said(worker);
        assert!(text.starts_with("exit status: 0"), "{text}");
    }

    let mut waiting = 0;
    for i in 0..RING {
        if let Some(message) = Message::decode(word(&handler, &ring, i).swap(0, SeqCst)) {
            let (pointer, usable) = opened(&handler, message);
            check(&handler, &pointer, usable, message.seed());
            handler.free_raw(pointer).expect("it is live");
            waiting += 1;
        }
    }
    println!(
        "{what}: {:.1} s, {kills} kills, {} operations, {} patterns checked ({} MB), {} blocks passed on, {} \
            taken over, {waiting} left in the ring",
        start.elapsed().as_secs_f64(),
        total(OPERATIONS),
        total(CHECKS),
        total(BYTES) / 1_000_000,
        total(PASSED_ON),
        total(TAKEN_OVER),
    );
    if killing {
        let lost = give_back_the_lost(&handler, [ring.offset(), figures.offset()]);
        println!("{what}: {lost} blocks died on their way between two owners");
        assert!(lost <= 2 * kills, "a kill loses at most a block on its way out and one on its way in");
    }
    handler.try_free(ring).expect("it is live");
    handler.try_free(figures).expect("it is live");
    rest_is_one_block(&handler);
}

/// Recovers the dead, then frees what was unowned when somebody died on the way from one owner to the next.
fn give_back_the_lost(handler: &Handler, kept: [u32; 2]) -> u64 {
    let recovered = handler.reap().expect("a slot is free");
    println!("recovered at the end: {recovered:?}");
    let layout = handler.matrix().heap().layout();
    let mut lost = 0;
    for i in 0..layout.granules as u64 {
        let offset = (layout.sector + i * layout.params.granule() as u64) as u32;
        if kept.contains(&offset) {
            continue;
        }
        match handler.free_at(offset) {
            Ok(()) => lost += 1,
            Err(Error::NotLive { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    lost
}

fn wait_for(what: &str, crew: &mut Crew, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        crew.still_working();
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn processes_keep_their_patterns_with_parking() {
    run_crew("4 processes, parking", false, setting("MATRIX_STRESS_SECONDS", 3), false);
}

#[test]
fn processes_keep_their_patterns_in_strict_mode() {
    run_crew("4 processes, strict", true, setting("MATRIX_STRESS_SECONDS", 3), false);
}

#[test]
fn survivors_go_on_when_processes_are_killed() {
    run_crew("4 processes, kills", false, setting("MATRIX_KILL_SECONDS", 5), true);
}

#[test]
fn survivors_go_on_in_strict_mode() {
    run_crew("4 processes, kills, strict", true, setting("MATRIX_KILL_SECONDS", 5), true);
}
