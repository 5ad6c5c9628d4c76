//! Every slot is a dead process's: whoever comes takes one over, and recovers its last holder under the number of both.

use crate::common::{MIB, Scratch, rest_is_one_block, setting};
use crate::participants::{ended, eventually, fork, kill};
use crate::support::{argument, child, succeed};
use crate::told;
use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::matrix::core::AtomicMatrix;
use rustix::process::Pid;
use std::io::{Read, Write};
use std::time::Duration;
use uuid::Uuid;

/// Blocks of one who is killed: so many that its recovery takes a while.
const BLOCKS: usize = 20_000;
/// How many are killed with them.
const ROUNDS: u32 = 30;

/// What a role was told: which segment.
fn told_id() -> Option<Uuid> {
    Some(argument()?.parse().expect("an id"))
}

/// Ends a forked child as a kill would.
fn killed(pid: Pid) {
    kill(pid.as_raw_pid() as u64);
    assert_eq!(ended(pid), None, "killed by a signal");
}

/// Kills this process after so many microseconds (at least 1), wherever it is then.
fn ends_in(microseconds: u64) {
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let value = libc::timeval { tv_sec: 0, tv_usec: microseconds as libc::suseconds_t };
    let timer = libc::itimerval { it_interval: zero, it_value: value };
    // SAFETY: reads the timer's value, which outlives the call. The signal's default action ends the process.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }, 0);
}

/// Allocates and frees for ever, so that a kill meets it anywhere.
fn churn(handler: &Handler, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut held = vec![];
    loop {
        if held.len() < BLOCKS
            && let Ok(block) = handler.allocate_raw(random.usize(1..300))
        {
            held.push(block);
        } else {
            handler.free_raw(held.swap_remove(random.usize(..held.len()))).expect("live");
        }
    }
}

#[test]
fn the_only_slot_goes_from_one_killed_process_to_the_next() {
    for slots in [1, 2] {
        let scratch = Scratch::new();
        let handler = scratch.options().size(256 << 10).participants(slots).create().expect("created");
        print!("{slots} slots: {}", succeed(child("takeover::one_after_another", &scratch.0.to_string())));
        handler.reap().expect("a slot");
        rest_is_one_block(&handler);
    }
}

#[test]
#[ignore = "a role: the parent of thousands"]
fn one_after_another() {
    let Some(id) = told_id() else { return };
    let mut random = fastrand::Rng::with_seed(setting("MATRIX_SEED", 7));
    let (mut killed, mut left) = (0, 0);
    for round in 0..1500 {
        let (leaves, blocks) = (random.u8(..3) == 0, random.usize(1..20));
        let child = fork(move || {
            let handler = AtomicMatrix::attach(id).expect("a slot, whoever was killed before");
            assert_eq!(handler.stats().expect("sound").live_blocks, 0, "whoever was killed has been recovered");
            let held: Vec<_> = (0..blocks).map(|i| handler.allocate_raw(1 + (round * 37 + i * 501) % 5000)).collect();
            for (i, block) in held.into_iter().map(|block| block.expect("room")).enumerate() {
                if leaves || i % 2 == 1 {
                    handler.free_raw(block).expect("live");
                }
            }
            if !leaves {
                kill(std::process::id().into());
            }
        });
        assert_eq!(ended(child), leaves.then_some(0), "round {round}");
        *(if leaves { &mut left } else { &mut killed }) += 1;
    }
    println!("{killed} killed, {left} left");
}

#[test]
fn killed_while_it_recovers_its_slots_last_holder() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(8 * MIB).participants(1).create().expect("created");
    print!("{}", succeed(child("takeover::killed_half_way", &scratch.0.to_string())));
    handler.reap().expect("a slot");
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: the parent of those who are killed half-way"]
fn killed_half_way() {
    let Some(id) = told_id() else { return };
    let mut random = fastrand::Rng::with_seed(setting("MATRIX_SEED", 11));
    let looking = atomic_matrix::segment::Options::new().id(id).inspect().expect("it exists");
    let live = || looking.stats().map_or(0, |stats| stats.live_blocks);
    // Microseconds within which they are killed: fewer after one who had got through, more after one who had not begun.
    let (mut come, mut unfinished, mut longest) = (0, 0, 1000);
    for round in 0..ROUNDS {
        let seed = random.u64(..);
        let busy = fork(move || churn(&AtomicMatrix::attach(id).expect("a slot"), seed));
        eventually("it holds many blocks", || live() >= BLOCKS as u64 * 9 / 10);
        std::thread::sleep(Duration::from_micros(random.u64(..2000)));
        killed(busy);
        for _ in 0..4 {
            let before = live();
            if before == 0 {
                break;
            }
            let fuse = random.u64(1..=longest);
            let comes = fork(|| {
                ends_in(fuse);
                let _handler = AtomicMatrix::attach(id).expect("a slot");
                std::thread::sleep(Duration::from_secs(60));
            });
            assert_eq!(ended(comes), None, "killed by its alarm");
            come += 1;
            match live() {
                0 => longest = (longest * 3 / 4).max(50),
                left if left < before => unfinished += 1,
                _ => longest = (longest * 5 / 4).min(100_000),
            }
        }
        let comes = fork(|| {
            let handler = AtomicMatrix::attach(id).expect("a slot");
            handler.heal().expect("a slot");
            let stats = handler.verify().expect("sound");
            assert_eq!((stats.free_blocks, stats.free_bytes), (1, stats.sector_bytes), "{stats:?}");
        });
        assert_eq!(ended(comes), Some(0), "round {round}");
    }
    println!("{ROUNDS} were killed, and {come} who came to recover them, {unfinished} of these half-way");
    assert!(unfinished > ROUNDS / 4, "the kills came too late: {unfinished}");
}

#[test]
fn two_come_at_once_to_the_slots_of_the_dead() {
    for slots in [1, 2, 3] {
        let scratch = Scratch::new();
        let handler = scratch.options().size(MIB).participants(slots).create().expect("created");
        print!("{slots} slots: {}", succeed(child("takeover::two_at_once", &scratch.0.to_string())));
        handler.reap().expect("a slot");
        rest_is_one_block(&handler);
    }
}

#[test]
#[ignore = "a role: the parent of pairs"]
fn two_at_once() {
    let Some(id) = told_id() else { return };
    let slots = AtomicMatrix::attach(id).expect("it exists").matrix().segment().layout().params.participants;
    let mut both = 0;
    for round in 0..200 {
        let (mut results, mut result) = std::io::pipe().expect("a pipe");
        let (mut go, mut start) = std::io::pipe().expect("a pipe");
        let mut come = || {
            fork(|| {
                go.read_exact(&mut [0]).expect("told");
                // Who finds nobody dead when it attaches takes its slot with the first block.
                let come = AtomicMatrix::attach(id);
                let told = match come.and_then(|handler| handler.allocate_raw(1).map(|_| handler)) {
                    Ok(handler) => {
                        for i in 0..50 {
                            let _held = handler.allocate_raw(1 + i * 20).expect("room");
                        }
                        assert!(handler.stats().expect("sound").live_blocks >= 51, "nobody takes what the other has");
                        // It stays until the kill.
                        std::mem::forget(handler);
                        b'J'
                    }
                    Err(Error::NoParticipantSlot { .. }) => b'N',
                    Err(error) => panic!("{error}"),
                };
                result.write_all(&[told]).expect("told");
                std::thread::sleep(Duration::from_secs(60));
            })
        };
        let pair = [come(), come()];
        start.write_all(b"go").expect("told");
        // If one of them panics, the pipe ends.
        drop(result);
        let mut told = [0; 2];
        results.read_exact(&mut told).expect("both have come");
        let joined = told.iter().filter(|told| **told == b'J').count();
        assert_eq!(joined, slots.min(2), "round {round}");
        both += (joined == 2) as u32;
        let looking = atomic_matrix::segment::Options::new().id(id).inspect().expect("it exists");
        let seen = looking.stats().expect("sound at rest");
        // Those of this round alone, and of the last round's third who has not been recovered if nobody
        // needed its slot.
        assert!(seen.live_blocks <= 102, "{seen:?}");
        pair.into_iter().for_each(killed);
    }
    println!("200 pairs came to slots of the dead, {both} times both got one");
}

/// `/proc` says of a process whose main thread has ended that it is a zombie, although the other threads run.
#[test]
fn a_process_whose_main_thread_has_ended_lives() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let mut other = child("takeover::ends_its_main_thread", &scratch.0.to_string());
    let pid = told(&mut other, "READY");
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    eventually("its main thread is gone", || stat().contains(") Z "));
    eventually("all three have allocated", || handler.stats().is_ok_and(|stats| stats.live_blocks == 3));
    let seen = handler.participants();
    assert!(seen.len() == 3 && seen.iter().all(|p| p.alive && p.pid as u64 == pid), "{seen:?}");
    assert_eq!(handler.reap().expect("a slot").participants, 0, "it lives");
    assert_eq!(scratch.attach().stats().expect("sound").live_blocks, 3, "nor does a newcomer take it for dead");
    // And when the process has gone as a whole, it is dead.
    kill(pid);
    succeed(other);
    assert_eq!(handler.reap().expect("a slot").participants, 3);
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: its main thread ends before the others"]
fn ends_its_main_thread() {
    let Some(id) = told_id() else { return };
    // A forked child begins with one thread: its main one.
    let child = fork(|| {
        let handler = AtomicMatrix::attach(id).expect("attached");
        let _held = handler.allocate_raw(1000).expect("room");
        for before in [true, false] {
            let handler = handler.clone();
            std::thread::spawn(move || {
                if !before {
                    let stat = || std::fs::read_to_string("/proc/self/stat").expect("there");
                    eventually("the main thread is gone", || stat().contains(") Z "));
                }
                let _held = handler.allocate_raw(1000).expect("room, and a slot");
                std::thread::sleep(Duration::from_secs(60));
            });
        }
        // SAFETY: ends this thread alone, at once; nothing that it leaves is used by the others but what is
        // never dropped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    println!("\nREADY {}", child.as_raw_pid());
    assert_eq!(ended(child), None, "killed by a signal");
}
