//! C1 on real processes: workers on one segment are killed (SIGKILL) at random instants and replaced, or stopped and continued,
//! while all of them allocate, check, free, hand over, heal and recover.
//!
//! Every byte of every block is a pattern that is checked before the block is freed. At quiescent points everybody is killed,
//! recovered, and the segment verified; at the end not a byte may be missing.
//!
//! ```console
//! cargo test --release --test campaign                              # a short run
//! MATRIX_CAMPAIGN_KILLS=5000 cargo test --release --test campaign   # the documented one
//! ```
#![allow(clippy::disallowed_types, reason = "the harness's own counters")]

use atomic_matrix::Error;
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use uuid::Uuid;

const WORKER: &str = "MATRIX_CAMPAIGN_WORKER";
const CREATOR: &str = "MATRIX_CAMPAIGN_CREATOR";
const WORKERS: usize = 3;
const NAMES: u32 = 40;
const BYTES: usize = 16 << 20;
const BOARD: &str = "board";
type Message = [u8; 256];
type Board = [u64; 8];
/// Fields of the board, on which workers add up what they did.
const OPERATIONS: usize = 0;
const LONGEST: usize = 1;
const HANDED_OVER: usize = 2;

fn pattern(seed: u64, at: usize) -> u8 {
    (seed.wrapping_add(at as u64 / 8).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (8 * (at % 8))) as u8
}

struct Worker {
    handler: Handler,
    live: Vec<(RelativePtr<u8>, u64)>,
    random: fastrand::Rng,
    handed_over: u64,
}

impl Worker {
    /// One operation; an error is damage.
    fn step(&mut self) -> Result<(), String> {
        let say = |error: Error| error.to_string();
        match self.random.u32(0..100) {
            0..45 if self.live.len() < 60 => {
                let most = 1usize << self.random.u32(0..=13);
                let size = self.random.usize(1..=most);
                match self.handler.allocate_raw(size) {
                    Ok(pointer) => self.fill(pointer),
                    Err(Error::OutOfMemory { .. }) => Ok(()),
                    Err(error) => Err(say(error)),
                }
            }
            0..85 if !self.live.is_empty() => {
                let at = self.random.usize(0..self.live.len());
                let (pointer, seed) = self.live.swap_remove(at);
                self.check(pointer, seed)?;
                self.handler.free_raw(pointer).map_err(say)
            }
            85..91 => self.publish(),
            91..96 => self.take(),
            96 => self.handler.heal().map_err(say),
            97 => self.handler.reap().map(drop).map_err(say),
            98 => {
                // What is live when a participant leaves in good order would be nobody's.
                for (pointer, seed) in std::mem::take(&mut self.live) {
                    self.check(pointer, seed)?;
                    self.handler.free_raw(pointer).map_err(say)?;
                }
                self.handler = AtomicMatrix::attach(self.handler.id()).map_err(say)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn fill(&mut self, pointer: RelativePtr<u8>) -> Result<(), String> {
        let seed = self.random.u64(..);
        let usable = self.handler.usable_size(&pointer).map_err(|e| e.to_string())?;
        let bytes: Vec<u8> = (0..usable).map(|at| pattern(seed, at)).collect();
        self.handler.store_bytes(&pointer, &bytes).map_err(|e| e.to_string())?;
        self.live.push((pointer, seed));
        Ok(())
    }

    fn check(&self, pointer: RelativePtr<u8>, seed: u64) -> Result<(), String> {
        let usable = self.handler.usable_size(&pointer).map_err(|e| format!("a block of ours: {e}"))?;
        let mut bytes = vec![0; usable];
        self.handler.load_bytes(&pointer, &mut bytes).map_err(|e| e.to_string())?;
        match bytes.iter().enumerate().find(|&(at, &byte)| byte != pattern(seed, at)) {
            Some((at, byte)) => Err(format!("{pointer:?}: byte {at} of {usable} is {byte}, not {}", pattern(seed, at))),
            None => Ok(()),
        }
    }

    fn publish(&mut self) -> Result<(), String> {
        let mut block = match self.handler.allocate::<Message>() {
            Ok(block) => block,
            Err(Error::OutOfMemory { .. }) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let mut message = [0; 256];
        let seed = self.random.u64(..);
        message[..8].copy_from_slice(&seed.to_le_bytes());
        (8..256).for_each(|at| message[at] = pattern(seed, at));
        self.handler.store(&mut block, message).map_err(|e| e.to_string())?;
        match self.handler.publish(&format!("message {}", self.random.u32(0..NAMES)), &block) {
            Ok(()) => Ok(()),
            Err(Error::NameTaken { .. } | Error::DirectoryFull { .. }) => {
                self.handler.try_free(block).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn take(&mut self) -> Result<(), String> {
        let name = format!("message {}", self.random.u32(0..NAMES));
        match self.handler.take::<Message>(&name) {
            Ok(block) => {
                check_message(&self.handler, &block)?;
                self.handed_over += 1;
                self.handler.try_free(block).map_err(|e| e.to_string())
            }
            // Somebody else was quicker, or a dead one's name was not cleared yet.
            Err(
                Error::NameUnknown { .. } | Error::NotLive { .. } | Error::Stale { .. } | Error::TypeMismatch { .. },
            ) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn check_message(handler: &Handler, block: &Block<Message>) -> Result<(), String> {
    let message = handler.load(block).map_err(|e| e.to_string())?;
    let seed = message[..8].iter().rev().fold(0u64, |sum, &byte| sum << 8 | byte as u64);
    match (8..256).find(|&at| message[at] != pattern(seed, at)) {
        Some(at) => Err(format!("a message at {} is broken at byte {at}", block.offset())),
        None => Ok(()),
    }
}

fn work(id: &str) -> Result<(), String> {
    let id = Uuid::parse_str(id).map_err(|e| e.to_string())?;
    let handler = AtomicMatrix::attach(id).map_err(|e| e.to_string())?;
    // The board lies in this handler's mapping, which stays when the worker attaches anew.
    let mut worker = Worker { handler: handler.clone(), live: vec![], random: fastrand::Rng::new(), handed_over: 0 };
    let board = handler.lookup::<Board>(BOARD).map_err(|e| e.to_string())?;
    // SAFETY: the board lives as long as the campaign, `handler` keeps its mapping, and all accesses are atomic.
    let board: &[AtomicU64; 8] = unsafe { &*handler.resolve(&board.pointer()).cast() };
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        let started = Instant::now();
        worker.step()?;
        board[LONGEST].fetch_max(started.elapsed().as_nanos() as u64, Relaxed);
        board[OPERATIONS].fetch_add(1, Relaxed);
        board[HANDED_OVER].fetch_add(std::mem::take(&mut worker.handed_over), Relaxed);
    }
    Ok(())
}

/// The segment and its workers, removed whatever happens.
struct Campaign {
    handler: Handler,
    workers: Vec<Child>,
    kills: u64,
    stops: u64,
    recovered: atomic_matrix::handlers::Recovered,
}

impl Drop for Campaign {
    fn drop(&mut self) {
        self.kill_all();
        let _ = self.handler.unlink();
    }
}

impl Campaign {
    fn spawn(&self) -> Child {
        let me = std::env::current_exe().expect("this test's path");
        Command::new(me)
            .env(WORKER, self.handler.id().to_string())
            .stdin(Stdio::null())
            .spawn()
            .expect("a worker starts")
    }

    /// Kills a worker; an end of its own before that is damage, which it has reported.
    fn kill(&mut self, index: usize) -> Result<(), String> {
        let worker = &mut self.workers[index];
        if let Some(status) = worker.try_wait().map_err(|e| e.to_string())? {
            return Err(format!("worker {index} ended by itself: {status}"));
        }
        worker.kill().and_then(|()| worker.wait()).map_err(|e| e.to_string())?;
        self.kills += 1;
        Ok(())
    }

    fn kill_all(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }

    fn reap(&mut self) -> Result<(), String> {
        let recovered = self.handler.reap().map_err(|e| format!("reap: {e}"))?;
        self.recovered.add(recovered);
        Ok(())
    }

    /// With everybody dead: recovered, healed and verified, only the board and published messages are left.
    fn quiesce(&mut self) -> Result<(), String> {
        for index in 0..self.workers.len() {
            self.kill(index)?;
        }
        self.workers.clear();
        self.reap()?;
        self.handler.heal().map_err(|e| e.to_string())?;
        let stats = self.handler.verify().map_err(|e| format!("after {} kills: {e}", self.kills))?;
        if stats.in_flight_blocks + stats.parked_blocks > 0 || stats.live_blocks > 1 + NAMES as u64 {
            return Err(format!("after {} kills something is left: {stats:?}", self.kills));
        }
        let slots = self.handler.participants().len();
        if slots != 1 {
            return Err(format!("{slots} participants are left where this process alone should be"));
        }
        Ok(())
    }

    fn run(&mut self, wanted: u64, random: &mut fastrand::Rng) -> Result<(), String> {
        let started = Instant::now();
        let mut told = Instant::now();
        while self.kills < wanted {
            while self.workers.len() < WORKERS {
                let worker = self.spawn();
                self.workers.push(worker);
            }
            std::thread::sleep(Duration::from_micros(random.u64(100..5000)));
            let index = random.usize(0..WORKERS);
            if random.u32(0..10) == 0 {
                self.stop_and_continue(index)?;
            } else {
                self.kill(index)?;
                drop(self.workers.swap_remove(index));
            }
            if random.u32(0..10) == 0 {
                self.reap()?;
                self.handler.stats().map_err(|e| format!("S4 after {} kills: {e}", self.kills))?;
            }
            if random.u32(0..100) == 0 {
                self.quiesce()?;
            }
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                eprintln!("{:>6.0} s: {} of {wanted} kills", started.elapsed().as_secs_f64(), self.kills);
            }
        }
        self.quiesce()
    }

    /// A stopped worker holds nobody up: the others go on.
    fn stop_and_continue(&mut self, index: usize) -> Result<(), String> {
        let pid = Pid::from_child(&self.workers[index]);
        let board = self.handler.lookup::<Board>(BOARD).map_err(|e| e.to_string())?;
        // Give the others time to attach; what is asserted is that they get on at all.
        kill_process(pid, Signal::STOP).map_err(|e| e.to_string())?;
        let before = self.handler.load(&board).map_err(|e| e.to_string())?[OPERATIONS];
        let waited = Instant::now();
        let mut after = before;
        while after == before && waited.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
            after = self.handler.load(&board).map_err(|e| e.to_string())?[OPERATIONS];
        }
        kill_process(pid, Signal::CONT).map_err(|e| e.to_string())?;
        self.stops += 1;
        if after == before { Err("a stopped worker held the others up for 20 s".to_owned()) } else { Ok(()) }
    }
}

/// Creators are killed at random instants; the name is free or the segment whole afterwards.
fn kill_creators(rounds: u32, random: &mut fastrand::Rng) -> Result<(), String> {
    for _ in 0..rounds {
        let id = Uuid::new_v4();
        let me = std::env::current_exe().expect("this test's path");
        let mut child =
            Command::new(me).env(CREATOR, id.to_string()).stdin(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_micros(random.u64(200..3000)));
        child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
        let handler = AtomicMatrix::bootstrap(Some(id), 1 << 20).map_err(|e| format!("after a dead creator: {e}"))?;
        let checked = handler.reap().and_then(|_| handler.heal()).and_then(|()| handler.verify());
        handler.unlink().map_err(|e| e.to_string())?;
        let stats = checked.map_err(|e| format!("after a dead creator: {e}"))?;
        if stats.free_bytes != stats.sector_bytes {
            return Err(format!("after a dead creator: {stats:?}"));
        }
    }
    Ok(())
}

fn create_and_use(id: &str) -> Result<(), String> {
    let id = Uuid::parse_str(id).map_err(|e| e.to_string())?;
    let handler = AtomicMatrix::bootstrap(Some(id), 1 << 20).map_err(|e| e.to_string())?;
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let block = handler.allocate_raw(fastrand::usize(1..5000)).map_err(|e| e.to_string())?;
        handler.free_raw(block).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn campaign(kills: u64) -> Result<(), String> {
    let seed =
        std::env::var("MATRIX_CAMPAIGN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("campaign: {kills} kills, {WORKERS} workers, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let started = Instant::now();
    let handler = AtomicMatrix::bootstrap(None, BYTES).map_err(|e| e.to_string())?;
    let mut campaign =
        Campaign { handler: handler.clone(), workers: vec![], kills: 0, stops: 0, recovered: Default::default() };
    let mut board = handler.allocate::<Board>().map_err(|e| e.to_string())?;
    handler.store(&mut board, [0; 8]).and_then(|()| handler.publish(BOARD, &board)).map_err(|e| e.to_string())?;
    campaign.run(kills, &mut random)?;
    let totals = handler.load(&board).map_err(|e| e.to_string())?;
    for number in 0..NAMES {
        match handler.take::<Message>(&format!("message {number}")) {
            Ok(block) => {
                check_message(&handler, &block)?;
                handler.free(block);
            }
            Err(Error::NameUnknown { .. }) => {}
            Err(error) => return Err(format!("message {number}: {error}")),
        }
    }
    handler.withdraw(BOARD).map_err(|e| e.to_string())?;
    handler.free(board);
    handler.heal().map_err(|e| e.to_string())?;
    let stats = handler.verify().map_err(|e| e.to_string())?;
    let lost = stats.sector_bytes - stats.free_bytes;
    let creators = (kills / 10).min(500) as u32;
    kill_creators(creators, &mut random)?;
    println!(
        "{:>12} SIGKILLs, {} stops, {creators} creators killed, {:.0} s",
        campaign.kills,
        campaign.stops,
        started.elapsed().as_secs_f64()
    );
    println!("{:>12} operations, {} messages handed over", totals[OPERATIONS], totals[HANDED_OVER]);
    println!(
        "{:>12} participants recovered by this process, {} live blocks, {} blocks in flight",
        campaign.recovered.participants, campaign.recovered.live_blocks, campaign.recovered.in_flight_blocks
    );
    println!("{:>12.1} ms the longest operation of a worker (preemption included)", totals[LONGEST] as f64 / 1e6);
    println!("{lost:>12} bytes lost, {} free block(s)", stats.free_blocks);
    if lost == 0 && stats.free_blocks == 1 { Ok(()) } else { Err("bytes were lost".to_owned()) }
}

fn main() -> ExitCode {
    let role = |name| std::env::var(name).ok();
    let result = match (role(WORKER), role(CREATOR)) {
        (Some(id), _) => work(&id),
        (_, Some(id)) => create_and_use(&id),
        _ => {
            let kills = match role("MATRIX_CAMPAIGN_KILLS").map(|kills| kills.parse()) {
                None => 300,
                Some(Ok(kills)) => kills,
                Some(Err(_)) => {
                    eprintln!("MATRIX_CAMPAIGN_KILLS must be a number of kills, such as 5000");
                    return ExitCode::from(2);
                }
            };
            let result = campaign(kills);
            let failed = result.is_err() as u32;
            println!("test c1_campaign_of_kills_on_real_processes ... {}", if failed == 0 { "ok" } else { "FAILED" });
            println!(
                "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out",
                if failed == 0 { "ok" } else { "FAILED" },
                1 - failed
            );
            result
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaign (process {}): {error}", std::process::id());
            ExitCode::FAILURE
        }
    }
}
