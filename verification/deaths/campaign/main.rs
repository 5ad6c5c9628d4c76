//! C1 on real processes: workers on one segment are killed (SIGKILL) at random instants and replaced, or
//! stopped and continued, while all of them allocate, check, free, hand over, heal and recover.
//!
//! Every byte of every block is a pattern that is checked before the block is freed. A worker says on a board
//! in the segment what it is about to do; a kill counts for what stands there once the worker is dead. Half
//! of the kills wait for a worker to be in one chosen phase, so that each of them is hit. After every
//! recovery the segment is verified; at quiescent points everybody is killed, recovered, and the segment
//! verified at rest; at the end not a byte may be missing.
//!
//! ```console
//! cargo test --release --test campaign                              # a short run
//! MATRIX_CAMPAIGN_KILLS=5000 cargo test --release --test campaign   # the documented one
//! ```
#![allow(clippy::disallowed_types, reason = "the harness's own counters")]

mod creators;
mod worker;

use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::matrix::core::AtomicMatrix;
use creators::{CREATOR, create_and_use, kill_creators};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use worker::{check_message, work};

const WORKER: &str = "MATRIX_CAMPAIGN_WORKER";
const WORKERS: usize = 3;
const NAMES: u32 = 40;
const BYTES: usize = 16 << 20;
/// Blocks that this process holds all the time, so that a recovery, which walks over all blocks, takes long
/// enough to be killed in.
const BALLAST: usize = 20_000;
/// So many kills must hit every phase.
const ALL_PHASES: u64 = 4000;
const BOARD: &str = "board";
type Message = [u8; 256];
type Board = [u64; 16];
/// Fields of the board, on which workers add up what they did.
const OPERATIONS: usize = 0;
/// The longest operation, and the longest single allocation or free, in ns.
const LONGEST: usize = 1;
const LONGEST_STEP: usize = 2;
const HANDED_OVER: usize = 3;
/// From here on: what each worker is about to do.
const DOING: usize = 8;

/// What a worker may be killed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Phase {
    Starting,
    Between,
    Allocating,
    Freeing,
    Attaching,
    Publishing,
    Taking,
    HandingOver,
    Recovering,
    Healing,
}

const PHASES: [(Phase, &str); 10] = [
    (Phase::Starting, "starting and first attach"),
    (Phase::Between, "between operations"),
    (Phase::Allocating, "allocating"),
    (Phase::Freeing, "freeing"),
    (Phase::Attaching, "leaving and attaching anew"),
    (Phase::Publishing, "directory: publishing"),
    (Phase::Taking, "directory: taking by name"),
    (Phase::HandingOver, "handing over and adopting"),
    (Phase::Recovering, "recovering somebody dead"),
    (Phase::Healing, "healing"),
];
/// Phases that kills wait for; the others are hit all the time.
const SOUGHT: [Phase; 7] = [
    Phase::Attaching,
    Phase::Publishing,
    Phase::Publishing,
    Phase::Taking,
    Phase::HandingOver,
    Phase::Recovering,
    Phase::Healing,
];

fn pattern(seed: u64, at: usize) -> u8 {
    (seed.wrapping_add(at as u64 / 8).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (8 * (at % 8))) as u8
}

/// The segment and its workers, removed whatever happens.
struct Campaign {
    handler: Handler,
    board: &'static [AtomicU64; 16],
    /// By index; none where one is to be started.
    workers: [Option<Child>; WORKERS],
    kills: u64,
    /// By phase.
    killed_in: [u64; PHASES.len()],
    /// Kills of somebody who had a dead participant's slot in its hands.
    recoveries_cut: u64,
    stops: u64,
    recovered: atomic_matrix::handlers::Recovered,
    recoveries: u64,
    verified: u64,
    verified_at_rest: u64,
    /// Blocks that were unowned because their owner died between giving up and adopting.
    on_the_way: u64,
}

impl Drop for Campaign {
    fn drop(&mut self) {
        self.kill_all();
        let _ = self.handler.unlink();
    }
}

impl Campaign {
    fn spawn(&self, index: usize) -> Child {
        let me = std::env::current_exe().expect("this test's path");
        self.board[DOING + index].store(Phase::Starting as u64, Relaxed);
        Command::new(me)
            .env(WORKER, format!("{}/{index}", self.handler.id()))
            .stdin(Stdio::null())
            .spawn()
            .expect("a worker starts")
    }

    fn phase(&self, index: usize) -> u64 {
        self.board[DOING + index].load(Relaxed)
    }

    /// Waits a moment for a worker to be in a phase; none if nobody was.
    fn await_phase(&self, phase: Phase) -> Option<usize> {
        let until = Instant::now() + Duration::from_millis(5);
        while Instant::now() < until {
            if let Some(index) = (0..WORKERS).find(|&index| self.phase(index) == phase as u64) {
                return Some(index);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Kills a worker; an end of its own before that is damage, which it has reported.
    fn kill(&mut self, index: usize) -> Result<(), String> {
        let Some(mut worker) = self.workers[index].take() else { return Ok(()) };
        if let Some(status) = worker.try_wait().map_err(|e| e.to_string())? {
            return Err(format!("worker {index} ended by itself: {status}"));
        }
        if [Phase::Recovering, Phase::Attaching].contains(&PHASES[self.phase(index) as usize % PHASES.len()].0) {
            // Stopped first, so that one can look what is in its hands: once it is dead, others take that over at once.
            let pid = Pid::from_child(&worker);
            kill_process(pid, Signal::STOP).map_err(|e| e.to_string())?;
            waitpid(Some(pid), WaitOptions::UNTRACED).map_err(|e| e.to_string())?;
            let participants = self.handler.participants();
            let own = |number| participants.iter().any(|p| p.number == number && p.pid == worker.id());
            self.recoveries_cut += participants.iter().any(|p| p.recovered_by.is_some_and(own)) as u64;
        }
        worker.kill().and_then(|()| worker.wait()).map_err(|e| e.to_string())?;
        self.kills += 1;
        let phase = self.phase(index) as usize;
        *self.killed_in.get_mut(phase).ok_or_else(|| format!("the board says phase {phase}"))? += 1;
        Ok(())
    }

    fn kill_all(&mut self) {
        for worker in self.workers.iter_mut().flatten() {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }

    fn reap(&mut self) -> Result<(), String> {
        let recovered = self.handler.reap().map_err(|e| format!("reap: {e}"))?;
        self.recovered.add(recovered);
        self.recoveries += (recovered.participants > 0) as u64;
        // The others go on meanwhile: what an operation in flight explains is gone at one of the next looks.
        let mut seen = self.handler.verify();
        for _ in 0..500 {
            if seen.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
            seen = self.handler.verify();
        }
        seen.map_err(|e| format!("after {} kills, at each of 500 looks after a recovery: {e}", self.kills))?;
        self.verified += 1;
        Ok(())
    }

    /// With everybody dead: recovered, healed and verified, only the board and published messages are left.
    fn quiesce(&mut self) -> Result<(), String> {
        for index in 0..WORKERS {
            self.kill(index)?;
        }
        self.reap()?;
        self.free_what_was_on_its_way()?;
        self.handler.heal().map_err(|e| e.to_string())?;
        let stats = self.handler.verify().map_err(|e| format!("after {} kills: {e}", self.kills))?;
        if stats.in_flight_blocks + stats.parked_blocks > 0 || stats.live_blocks > (1 + BALLAST + NAMES as usize) as u64
        {
            return Err(format!("after {} kills something is left: {stats:?}", self.kills));
        }
        let slots = self.handler.participants().len();
        if slots != 1 {
            return Err(format!("{slots} participants are left where this process alone should be"));
        }
        self.verified_at_rest += 1;
        Ok(())
    }

    /// With everybody dead: live blocks of nobody that have no name. Whoever gave them up died before it adopted them.
    fn free_what_was_on_its_way(&mut self) -> Result<(), String> {
        let names = self.handler.names();
        let mut lost = vec![];
        let collect = |block: atomic_matrix::handlers::BlockInfo| {
            let named = names.iter().any(|name| name.live && name.offset == block.offset);
            if block.state.name() == "ALLOCATED" && block.owner == 0 && !named {
                lost.push(block.offset);
            }
        };
        self.handler.blocks(collect).map_err(|e| e.to_string())?;
        self.on_the_way += lost.len() as u64;
        let most = self.killed_in[Phase::HandingOver as usize];
        if self.on_the_way > most {
            return Err(format!("{} blocks are unowned after {most} kills while handing over", self.on_the_way));
        }
        lost.into_iter().try_for_each(|offset| self.handler.free_at(offset).map_err(|e| e.to_string()))
    }

    fn run(&mut self, wanted: u64, random: &mut fastrand::Rng) -> Result<(), String> {
        let started = Instant::now();
        let mut told = Instant::now();
        while self.kills < wanted {
            for index in 0..WORKERS {
                if self.workers[index].is_none() {
                    self.workers[index] = Some(self.spawn(index));
                }
            }
            std::thread::sleep(Duration::from_micros(random.u64(100..5000)));
            let mut index = random.usize(0..WORKERS);
            if random.u32(0..10) == 0 {
                self.stop_and_continue(index)?;
            } else {
                if random.bool() {
                    index = self.await_phase(SOUGHT[random.usize(0..SOUGHT.len())]).unwrap_or(index);
                }
                self.kill(index)?;
                // Somebody is about to recover it.
                if random.bool()
                    && let Some(recoverer) = self.await_phase(Phase::Recovering)
                {
                    self.kill(recoverer)?;
                }
            }
            if random.u32(0..10) == 0 {
                self.reap()?;
            }
            if random.u32(0..50) == 0 {
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
        let Some(worker) = &self.workers[index] else { return Ok(()) };
        let pid = Pid::from_child(worker);
        // Give the others time to attach; what is asserted is that they get on at all.
        kill_process(pid, Signal::STOP).map_err(|e| e.to_string())?;
        let before = self.board[OPERATIONS].load(Relaxed);
        let waited = Instant::now();
        let mut after = before;
        while after == before && waited.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
            after = self.board[OPERATIONS].load(Relaxed);
        }
        kill_process(pid, Signal::CONT).map_err(|e| e.to_string())?;
        self.stops += 1;
        if after == before { Err("a stopped worker held the others up for 20 s".to_owned()) } else { Ok(()) }
    }
}

fn campaign(kills: u64) -> Result<(), String> {
    let seed =
        std::env::var("MATRIX_CAMPAIGN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("campaign: {kills} kills, {WORKERS} workers, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let started = Instant::now();
    let handler = AtomicMatrix::bootstrap(None, BYTES).map_err(|e| e.to_string())?;
    let mut block = handler.allocate::<Board>().map_err(|e| e.to_string())?;
    // SAFETY: the board lies in the mapping of `handler`, which outlives every use of it; all accesses are atomic.
    let board: &'static [AtomicU64; 16] = unsafe { &*handler.resolve(&block.pointer()).cast() };
    let mut campaign = Campaign {
        handler: handler.clone(),
        board,
        workers: [const { None }; WORKERS],
        kills: 0,
        killed_in: Default::default(),
        recoveries_cut: 0,
        stops: 0,
        recovered: Default::default(),
        recoveries: 0,
        verified: 0,
        verified_at_rest: 0,
        on_the_way: 0,
    };
    handler.store(&mut block, [0; 16]).and_then(|()| handler.publish(BOARD, &block)).map_err(|e| e.to_string())?;
    let ballast: Vec<_> =
        (0..BALLAST).map(|_| handler.allocate_raw(64)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    for pointer in &ballast {
        handler.store_bytes(pointer, &pointer.offset().to_le_bytes().repeat(16)).map_err(|e| e.to_string())?;
    }
    campaign.run(kills, &mut random)?;
    for pointer in ballast {
        let mut bytes = [0; 64];
        handler.load_bytes(&pointer, &mut bytes).map_err(|e| e.to_string())?;
        if bytes[..] != pointer.offset().to_le_bytes().repeat(16) {
            return Err(format!("the block at {} is broken", pointer.offset()));
        }
        handler.free_raw(pointer).map_err(|e| e.to_string())?;
    }
    let totals = handler.load(&block).map_err(|e| e.to_string())?;
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
    handler.free(block);
    handler.heal().map_err(|e| e.to_string())?;
    let stats = handler.verify().map_err(|e| e.to_string())?;
    let lost = stats.sector_bytes - stats.free_bytes;
    let creators = (kills / 10).min(500) as u32;
    let created = kill_creators(creators, &mut random)?;
    let granule = stats.granule_bytes;
    let recovered = campaign.recovered;
    println!(
        "{:>12} SIGKILLs, {} stops and continues, {:.0} s",
        campaign.kills,
        campaign.stops,
        started.elapsed().as_secs_f64()
    );
    for ((_, name), count) in PHASES.iter().zip(campaign.killed_in) {
        println!("{count:>12}   killed while {name}");
    }
    println!("{:>12}   in the middle of a recovery, a dead participant's slot in their hands", campaign.recoveries_cut);
    println!(
        "{creators:>12} creators killed: {} before the name, {} while formatting, {} in use",
        created.unnamed, created.formatting, created.using
    );
    println!("{:>12} operations, {} messages handed over", totals[OPERATIONS], totals[HANDED_OVER]);
    println!(
        "{:>12} participants recovered by this process in {} recoveries: {} live blocks ({} bytes) and {} \
            blocks in flight ({} bytes) given back",
        recovered.participants,
        campaign.recoveries,
        recovered.live_blocks,
        recovered.live_granules * granule,
        recovered.in_flight_blocks,
        recovered.in_flight_granules * granule
    );
    println!(
        "{:>12} times verified after a recovery, {} of them at rest",
        campaign.verified, campaign.verified_at_rest
    );
    println!(
        "{:>12} blocks were unowned when their owner died handing them over; listed and freed",
        campaign.on_the_way
    );
    println!(
        "{:>12.1} ms the longest a survivor was held up in an allocation or a free (preemption included)",
        totals[LONGEST_STEP] as f64 / 1e6
    );
    println!("{:>12.1} ms its longest operation, healing and recovering included", totals[LONGEST] as f64 / 1e6);
    println!("{lost:>12} bytes lost, {} free block(s)", stats.free_blocks);
    if kills >= ALL_PHASES {
        let missed = PHASES.iter().zip(campaign.killed_in).find(|(_, count)| *count == 0);
        if let Some(((_, name), _)) = missed {
            return Err(format!("nobody was killed while {name}"));
        }
        if campaign.recoveries_cut == 0 || created.unnamed == 0 || created.formatting == 0 {
            return Err("no recovery or no creation was cut off".to_owned());
        }
    }
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
