//! A worker: it allocates, checks, frees, hands over, heals and recovers, and says on the board what it is about to do.

use super::{BOARD, Board, DOING, HANDED_OVER, LONGEST, LONGEST_STEP, Message, NAMES, OPERATIONS, Phase, pattern};
use atomic_matrix::Error;
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::matrix::core::AtomicMatrix;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use uuid::Uuid;

struct Worker {
    handler: Handler,
    live: Vec<(RelativePtr<u8>, u64)>,
    random: fastrand::Rng,
    handed_over: u64,
    board: &'static [AtomicU64; 16],
    index: usize,
}

impl Worker {
    fn doing(&self, phase: Phase) {
        self.board[DOING + self.index].store(phase as u64, Relaxed);
    }

    /// Times a single allocation or free.
    fn timed<T>(&self, step: impl FnOnce(&Handler) -> T) -> T {
        let started = Instant::now();
        let done = step(&self.handler);
        self.board[LONGEST_STEP].fetch_max(started.elapsed().as_nanos() as u64, Relaxed);
        done
    }

    /// One operation; an error is damage.
    fn step(&mut self) -> Result<(), String> {
        let say = |error: Error| error.to_string();
        match self.random.u32(0..100) {
            0..45 if self.live.len() < 300 => {
                let most = 1usize << self.random.u32(0..=13);
                let size = self.random.usize(1..=most);
                self.doing(Phase::Allocating);
                let allocated = self.timed(|handler| handler.allocate_raw(size));
                self.doing(Phase::Between);
                match allocated {
                    Ok(pointer) => self.fill(pointer),
                    Err(Error::OutOfMemory { .. }) => Ok(()),
                    Err(error) => Err(say(error)),
                }
            }
            0..85 if !self.live.is_empty() => {
                let at = self.random.usize(0..self.live.len());
                let (pointer, seed) = self.live.swap_remove(at);
                self.check(pointer, seed)?;
                self.doing(Phase::Freeing);
                self.timed(|handler| handler.free_raw(pointer)).map_err(say)
            }
            85..90 => self.publish(),
            90..94 => self.take(),
            94 => self.hand_over(),
            95 => {
                self.doing(Phase::Healing);
                self.handler.heal().map_err(say)
            }
            96..98 => {
                // Only with somebody dead, so that whoever is killed in it has been recovering.
                if self.handler.participants().iter().any(|participant| !participant.alive) {
                    self.doing(Phase::Recovering);
                    self.handler.reap().map_err(say)?;
                    self.doing(Phase::Between);
                    self.handler.stats().map_err(|e| format!("S4 after a recovery: {e}"))?;
                }
                Ok(())
            }
            98 => {
                // What is live when a participant leaves in good order would be unowned.
                for (pointer, seed) in std::mem::take(&mut self.live) {
                    self.check(pointer, seed)?;
                    self.handler.free_raw(pointer).map_err(say)?;
                }
                self.doing(Phase::Attaching);
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
        let name = format!("message {}", self.random.u32(0..NAMES));
        self.doing(Phase::Publishing);
        match self.handler.publish(&name, &block) {
            Ok(()) => Ok(()),
            Err(Error::NameTaken { .. } | Error::DirectoryFull { .. }) => {
                self.handler.try_free(block).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives a block up and adopts it again, as one side and the other would.
    fn hand_over(&mut self) -> Result<(), String> {
        let Some(&(pointer, _)) = self.live.last() else { return Ok(()) };
        self.doing(Phase::HandingOver);
        // Many times: once takes less than a kill takes to arrive.
        for _ in 0..200 {
            self.handler.hand_over(&pointer).map_err(|e| e.to_string())?;
            self.handler.adopt_at(pointer.offset(), Some(pointer.generation())).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn take(&mut self) -> Result<(), String> {
        let name = format!("message {}", self.random.u32(0..NAMES));
        self.doing(Phase::Taking);
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

pub(crate) fn check_message(handler: &Handler, block: &Block<Message>) -> Result<(), String> {
    let message = handler.load(block).map_err(|e| e.to_string())?;
    let seed = message[..8].iter().rev().fold(0u64, |sum, &byte| sum << 8 | byte as u64);
    match (8..256).find(|&at| message[at] != pattern(seed, at)) {
        Some(at) => Err(format!("a message at {} is broken at byte {at}", block.offset())),
        None => Ok(()),
    }
}

pub(crate) fn work(place: &str) -> Result<(), String> {
    let (id, index) = place.split_once('/').ok_or("no id/index")?;
    let index = index.parse().map_err(|_| "no index")?;
    let id = Uuid::parse_str(id).map_err(|e| e.to_string())?;
    let handler = AtomicMatrix::attach(id).map_err(|e| e.to_string())?;
    // The board lies in this handler's mapping, which stays when the worker attaches anew.
    let board = handler.lookup::<Board>(BOARD).map_err(|e| e.to_string())?;
    // SAFETY: the board lives as long as the campaign, `handler` keeps its mapping, and all accesses are atomic.
    let board: &'static [AtomicU64; 16] = unsafe { &*handler.resolve(&board.pointer()).cast() };
    let random = fastrand::Rng::new();
    let mut worker = Worker { handler: handler.clone(), live: vec![], random, handed_over: 0, board, index };
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        let started = Instant::now();
        worker.step()?;
        worker.doing(Phase::Between);
        board[LONGEST].fetch_max(started.elapsed().as_nanos() as u64, Relaxed);
        board[OPERATIONS].fetch_add(1, Relaxed);
        board[HANDED_OVER].fetch_add(std::mem::take(&mut worker.handed_over), Relaxed);
    }
    Ok(())
}
