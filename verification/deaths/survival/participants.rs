//! Who is a participant, who is dead, and what a fork or a namespace makes of it.

use crate::common::{MIB, Scratch, check, die, fill, rest_is_one_block, setting};
use crate::support::{argument, child, succeed};
use crate::told;
use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::matrix::core::AtomicMatrix;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::thread::UnshareFlags;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Runs `act` in a forked child, which ends without unwinding or destructors; returns its process id.
pub(crate) fn fork(act: impl FnOnce()) -> Pid {
    // SAFETY: roles run alone in their process: the other thread (the test runner's) only waits and holds no
    // lock, and glibc keeps its allocator usable in the child.
    match unsafe { libc::fork() } {
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_ok();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if done { 0 } else { 1 }) }
        }
        pid => Pid::from_raw(pid).expect("forked"),
    }
}

pub(crate) fn ended(pid: Pid) -> Option<i32> {
    waitpid(Some(pid), WaitOptions::empty()).expect("a child").expect("it has ended").1.exit_status()
}

pub(crate) fn kill(pid: u64) {
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it is there");
}

/// The segment that a role was told to attach to.
fn told_segment() -> Option<Handler> {
    Some(AtomicMatrix::attach(Uuid::parse_str(&argument()?).expect("an id")).expect("it exists"))
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_forked_child_frees_and_unlinks_nothing_and_attaches_as_another_participant() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    succeed(child("participants::forks", &scratch.0.to_string()));
    assert!(handler.participants().is_empty(), "parent and child have both left");
    let stats = handler.stats().expect("sound");
    assert_eq!(stats.live_blocks, 2, "what left in good order leaves its blocks");
    scratch.attach();
}

#[test]
#[ignore = "a role: forks"]
fn forks() {
    let Some(handler) = told_segment() else { return };
    let [block, parked] = [(); 2].map(|()| handler.allocate_raw(1000).expect("room"));
    let usable = handler.usable_size(&block).expect("live");
    fill(&handler, &block, usable, 7);
    handler.free_raw(parked).expect("live");
    let _kept = handler.allocate_raw(100_000).expect("room");
    let before = handler.stats().expect("sound");
    let (id, mine) = (handler.id(), handler.participants()[0].number);
    let in_child = handler.clone();
    let child = fork(move || {
        assert!(matches!(in_child.allocate_raw(1000), Err(Error::ForkedChild { .. })));
        assert!(matches!(in_child.free_raw(block), Err(Error::ForkedChild { .. })));
        assert!(matches!(in_child.unlink(), Err(Error::ForkedChild { .. })));
        // The lock that it shares with its parent tells it nothing.
        assert!(in_child.participants().iter().all(|p| p.alive) && in_child.participants().len() == 1);
        // Attached anew it is somebody else.
        let own = AtomicMatrix::attach(id).expect("attached");
        check(&own, &block, usable, 7);
        let theirs = own.allocate_raw(1000).expect("room");
        let numbers: Vec<u16> = own.participants().iter().map(|p| p.number).collect();
        assert!(numbers.len() == 2 && numbers.contains(&mine), "{numbers:?}");
        assert!(own.participants().iter().all(|p| p.alive));
        own.free_raw(theirs).expect("live");
        own.heal().expect("a slot");
        drop(own);
        // The last use of what the child has inherited.
        drop(in_child);
    });
    assert_eq!(ended(child), Some(0));
    let now = handler.stats().expect("sound");
    assert_eq!((now.live_blocks, now.live_bytes), (before.live_blocks, before.live_bytes));
    assert_eq!(handler.participants().len(), 1);
    assert!(AtomicMatrix::attach(id).is_ok(), "the name is there");
    check(&handler, &block, usable, 7);
}

#[test]
fn a_dead_parent_is_recovered_although_its_child_holds_its_lock() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let mut parent = child("participants::is_survived_by_its_child", &scratch.0.to_string());
    let orphan = told(&mut parent, "CHILD");
    assert_eq!(handler.stats().expect("sound").live_blocks, 3);
    assert_eq!(handler.reap().expect("a slot").participants, 0, "it lives");
    parent.kill().expect("SIGKILL");
    parent.wait().expect("a child");
    let recovered = handler.reap();
    kill(orphan);
    let recovered = recovered.expect("a slot");
    assert_eq!((recovered.participants, recovered.live_blocks), (1, 3));
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: its child outlives it"]
fn is_survived_by_its_child() {
    let Some(handler) = told_segment() else { return };
    let _held = [(); 3].map(|()| handler.allocate_raw(1000).expect("room"));
    let child = fork(|| std::thread::sleep(Duration::from_secs(60)));
    println!("\nCHILD {}", child.as_raw_pid());
    std::thread::sleep(Duration::from_secs(60));
}

/// Process 1 of another namespace is not our process 1; whether it lives the kernel says, there as here.
#[test]
fn a_participant_in_another_pid_namespace_is_judged_like_any_other() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let mut outside = child("participants::goes_into_a_namespace", &scratch.0.to_string());
    let first = told(&mut outside, "FIRST");
    if first == 0 {
        println!("skipped: a PID namespace takes root (CAP_SYS_ADMIN)");
        return;
    }
    told(&mut outside, "READY");
    let seen: Vec<(u32, bool)> = handler.participants().iter().map(|p| (p.pid, p.alive)).collect();
    assert_eq!(seen, [(1, true), (2, false)], "as they are called in their own namespace");
    // Process 2 of the namespace is dead, although its child lives.
    let recovered = handler.reap().expect("a slot");
    assert_eq!((recovered.participants, recovered.live_blocks), (1, 5));
    kill(first);
    eventually("all of the namespace is gone", || handler.participants().iter().any(|p| !p.alive));
    let recovered = handler.reap().expect("a slot");
    assert_eq!((recovered.participants, recovered.live_blocks), (1, 3));
    let _ = outside.kill();
    let _ = outside.wait();
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: makes a PID namespace"]
fn goes_into_a_namespace() {
    let Some(id) = argument() else { return };
    let id = Uuid::parse_str(&id).expect("an id");
    // SAFETY: the flag concerns later children alone, no descriptors of other threads.
    if unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }.is_err() {
        println!("\nFIRST 0");
        return;
    }
    let first = fork(|| {
        let handler = AtomicMatrix::attach(id).expect("attached");
        let _held = [(); 3].map(|()| handler.allocate_raw(1000).expect("room"));
        let second = fork(|| {
            let handler = AtomicMatrix::attach(id).expect("attached");
            let _held = [(); 5].map(|()| handler.allocate_raw(1000).expect("room"));
            fork(|| std::thread::sleep(Duration::from_secs(60)));
            // SAFETY: ends the process at once, leaving everything as it is.
            unsafe { libc::_exit(0) };
        });
        assert_eq!(ended(second), Some(0));
        println!("\nREADY 1");
        std::thread::sleep(Duration::from_secs(60));
    });
    println!("\nFIRST {}", first.as_raw_pid());
    let _ = waitpid(Some(first), WaitOptions::empty());
}

/// Slots, locks and blocks come back, however many come and however they go.
#[test]
fn thousands_of_participants_come_and_go() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(256 << 10).participants(4).create().expect("created");
    let mut random = fastrand::Rng::with_seed(setting("MATRIX_SEED", 3));
    let (mut died, mut left) = (0, 0);
    for round in 0..4000 {
        let other = scratch.attach();
        let blocks: Vec<_> =
            (0..random.usize(1..6)).map(|_| other.allocate_raw(random.usize(1..3000)).expect("room")).collect();
        if round % 2 == 0 {
            die(other);
            died += 1;
        } else {
            blocks.into_iter().for_each(|block| other.free_raw(block).expect("live"));
            left += 1;
        }
    }
    handler.reap().expect("a slot");
    println!("{died} died, {left} left, over 4 slots");
    rest_is_one_block(&handler);
    assert_eq!(handler.participants().len(), 1);
}

#[test]
fn thousands_of_processes_come_go_and_are_killed() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(256 << 10).participants(4).create().expect("created");
    print!("{}", succeed(child("participants::forks_a_thousand_times", &scratch.0.to_string())));
    handler.reap().expect("a slot");
    rest_is_one_block(&handler);
    assert_eq!(handler.participants().len(), 1);
}

#[test]
#[ignore = "a role: the parent of many"]
fn forks_a_thousand_times() {
    let Some(id) = argument() else { return };
    let id = Uuid::parse_str(&id).expect("an id");
    for round in 0..2000 {
        let child = fork(|| {
            let handler = AtomicMatrix::attach(id).expect("attached");
            let mut blocks = [(); 3].map(|()| Some(handler.allocate_raw(1 + round % 3000).expect("room")));
            handler.free_raw(blocks[1].take().expect("held")).expect("live");
            match round % 3 {
                // Killed, ended without a word, and gone in good order.
                0 => kill(std::process::id().into()),
                1 => {}
                _ => {
                    blocks.into_iter().flatten().for_each(|block| handler.free_raw(block).expect("live"));
                    drop(handler);
                }
            }
            if round % 3 != 2 {
                // SAFETY: ends the process at once, leaving everything as it is.
                unsafe { libc::_exit(0) };
            }
        });
        let status = ended(child);
        assert_eq!(status, if round % 3 == 0 { None } else { Some(0) }, "round {round}");
    }
    println!("2000 processes: a third killed, a third ended without leaving, a third left");
}

/// Each dead participant is recovered once, whoever comes.
#[test]
fn two_survivors_recover_at_once() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).participants(16).create().expect("created");
    let [one, two] = [scratch.attach(), scratch.attach()];
    let _warm = [&one, &two].map(|h| h.free_raw(h.allocate_raw(100).expect("room")));
    let mut by_second = 0;
    for _ in 0..150 {
        for i in 0..6 {
            let other = scratch.attach_unreaped();
            for _ in 0..=i {
                let _lost = other.allocate_raw(500).expect("room");
            }
            die(other);
        }
        let start = std::sync::Barrier::new(2);
        let reap = |h: &Handler| {
            start.wait();
            h.reap().expect("a slot")
        };
        let (mut sum, second) = std::thread::scope(|scope| {
            let (one, two) = (scope.spawn(|| reap(&one)), scope.spawn(|| reap(&two)));
            (one.join().expect("no panic"), two.join().expect("no panic"))
        });
        by_second += second.participants;
        sum.add(second);
        assert_eq!((sum.participants, sum.live_blocks), (6, 21));
    }
    println!("900 dead, {by_second} of them recovered by the second survivor");
    drop((one, two));
    rest_is_one_block(&handler);
}

/// Whoever cannot look into `/proc` (no descriptor left, or it hides other users' processes) declares nobody dead.
#[test]
fn without_a_descriptor_nobody_is_declared_dead() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let block = handler.allocate_raw(1000).expect("room");
    succeed(child("participants::reaps_without_descriptors", &scratch.0.to_string()));
    assert!(handler.usable_size(&block).is_ok(), "a living participant's block was freed");
    handler.free_raw(block).expect("live");
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: has no descriptor left"]
fn reaps_without_descriptors() {
    let Some(handler) = told_segment() else { return };
    let limit = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("lowered");
    assert!(std::fs::File::open("/proc/self/stat").is_err(), "the limit holds");
    assert!(handler.participants().iter().all(|p| p.alive), "{:?}", handler.participants());
    assert_eq!(handler.reap().expect("a slot").participants, 0);
    let block = handler.allocate_raw(100).expect("a participant all the same");
    handler.free_raw(block).expect("live");
}

/// A thread that ends gives its slot back before the destructors of some of its variables run: they may still
/// allocate and free.
#[test]
fn a_threads_last_words_may_allocate_and_free() {
    struct Last(Handler, Option<atomic_matrix::handlers::RelativePtr<u8>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.free_raw(self.1.take().expect("held")).expect("live");
            self.0.free_raw(self.0.allocate_raw(300).expect("room")).expect("live");
        }
    }
    thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).participants(2).create().expect("created");
    for early in [true, false] {
        for _ in 0..500 {
            let handler = handler.clone();
            let thread = std::thread::spawn(move || {
                // Destructors run in some order: once registered before the allocator's own, once behind it.
                if early {
                    LAST.with(|last| assert!(last.borrow().is_none()));
                }
                let block = handler.allocate_raw(200).expect("room");
                LAST.with(|last| *last.borrow_mut() = Some(Last(handler, Some(block))));
            });
            thread.join().expect("no panic");
        }
    }
    assert!(handler.participants().len() <= 2);
    rest_is_one_block(&handler);
}

#[test]
fn a_typed_block_survives_its_makers_death_once_published() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let maker = scratch.attach();
    let mut block = maker.allocate::<[u64; 4]>().expect("room");
    maker.store(&mut block, [1, 2, 3, 4]).expect("live");
    maker.publish("survivor", &block).expect("new");
    let _lost = maker.allocate::<[u64; 4]>().expect("room");
    die(maker);
    assert_eq!(handler.reap().expect("a slot").live_blocks, 1);
    let block = handler.take::<[u64; 4]>("survivor").expect("published");
    assert_eq!(handler.load(&block).expect("live"), [1, 2, 3, 4]);
    handler.free(block);
    rest_is_one_block(&handler);
}
