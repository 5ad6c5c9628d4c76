//! Processes that await are killed and stopped: what they had in their hands goes with them, everything else
//! comes through.
//!
//! `MATRIX_KILL_SECONDS` lengthens the run.

use crate::common::{Rng, Scratch, rest_is_one_block, setting};
use crate::{LONG, memory};
use atomic_matrix::Error;
use atomic_matrix::ipc::{Receiver, Select, Sender, Unreceived};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

#[test]
#[ignore = "a role: the test of this file runs it in processes of its own"]
fn awaiting_worker() {
    let Ok(id) = std::env::var("MATRIX_AWAITING_SEGMENT") else { return };
    let handler = Scratch(id.parse().expect("an id"));
    let segment = handler.attach();
    std::mem::forget(handler);
    let there = segment.channel::<u64>("there").open().and_then(|channel| channel.receiver()).expect("made");
    let back = segment.channel::<u64>("back").open().and_then(|channel| channel.sender()).expect("made");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("built");
    runtime.block_on(async { tokio::join!(pass_on(&there, &back), pass_on(&there, &back)) });
}

/// Some of its futures are dropped before they have anything.
async fn pass_on(there: &Receiver<u64>, back: &Sender<u64>) {
    loop {
        match tokio::time::timeout(Duration::from_micros(300), there.recv_async()).await {
            Ok(Ok(number)) => back.send_async(number).await.expect("the test receives"),
            Ok(Err(Unreceived::Disconnected { .. })) => return,
            Ok(Err(why)) => panic!("{why}"),
            Err(_) => {}
        }
    }
}

fn worker(segment: &Scratch) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "kills::awaiting_worker"])
        .env("MATRIX_AWAITING_SEGMENT", segment.0.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("spawned")
}

/// Numbers go through two workers and come back, of whom one is killed, or stopped for a while, all the time.
#[test]
fn q3_q5_who_awaits_is_killed_or_stopped() {
    let segment = Scratch::new();
    let handler = segment.options().size(2 << 20).create().expect("created");
    let there = handler.channel::<u64>("there").capacity(8).create().expect("made");
    let back = handler.channel::<u64>("back").capacity(8).create().expect("made");
    let (receiver, keeps) = (back.receiver().expect("a receiver"), back.sender().expect("a sender"));
    let sender = there.sender().expect("a sender");
    // So that nobody finds the other side gone while a worker is replaced.
    let watches = there.receiver().expect("a receiver");
    let done = handler.event("done").expect("made");
    let end = Instant::now() + Duration::from_secs(setting("MATRIX_KILL_SECONDS", 1));
    let (sent, got, kills) = std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            let mut k = 0;
            while Instant::now() < end {
                sender.send_value(k).expect("there is a receiver");
                k += 1;
            }
            drop((sender, watches));
            k
        });
        let receives = scope.spawn(|| {
            let mut got = vec![];
            let mut select = Select::new().recv(&receiver, |got| got.map(|k| *k).ok()).set(&done, |_| None);
            // None: every sender is gone, or all is done.
            while let Some(k) = select.wait(LONG).expect("it goes on") {
                got.push(k);
            }
            got.extend(std::iter::from_fn(|| receiver.try_recv().ok().map(|k| *k)));
            got
        });
        let (mut random, mut kills) = (Rng(setting("MATRIX_SEED", 5)), 0);
        let mut workers = [worker(&segment), worker(&segment)];
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20 + random.below(40) as u64));
            let one = &mut workers[random.below(2)];
            let pid = rustix::process::Pid::from_child(one);
            if random.below(3) == 0 {
                rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it runs");
                std::thread::sleep(Duration::from_millis(80));
                rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it runs");
            } else {
                one.kill().expect("it runs");
                one.wait().expect("it has ended");
                *one = worker(&segment);
                kills += 1;
            }
        }
        let sent = sends.join().expect("it ends");
        for mut worker in workers {
            assert!(worker.wait().expect("it has ended").success());
        }
        drop(keeps);
        done.set().expect("no fork");
        (sent, receives.join().expect("it ends"), kills)
    });
    let mut once = got.clone();
    once.sort_unstable();
    once.dedup();
    println!("{sent} sent, {} came back, {kills} killed", got.len());
    assert_eq!(once.len(), got.len(), "Q1: twice");
    // Each has two tasks, which have one in their hands each.
    assert!(sent - got.len() as u64 <= 2 * kills && sent > 100, "Q3: lost");
    drop(receiver);
    [&there, &back].iter().for_each(|channel| channel.remove().expect("ours"));
    done.remove().expect("ours");
    drop((there, back, done));
    handler.reap().expect("a slot");
    rest_is_one_block(&handler);
}

/// What a forked child has of its parent's futures and descriptors is refused there, and stays the parent's.
#[test]
fn s5_a_forked_child_awaits_nothing() {
    let handler = memory();
    let numbers = handler.channel::<u64>("numbers").create().expect("made");
    let (sender, receiver) = (numbers.sender().expect("a sender"), numbers.receiver().expect("a receiver"));
    let event = handler.event("event").expect("made");
    let mut context = Context::from_waker(Waker::noop());
    let (mut recv, mut set) = (Box::pin(receiver.recv_async()), Box::pin(event.wait_async()));
    assert!(recv.as_mut().poll(&mut context).is_pending() && set.as_mut().poll(&mut context).is_pending());
    let mut readable = receiver.readable().expect("made");
    // SAFETY: the child calls what is made for it, allocates nothing that a lock of its parent's guards, and
    // ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        use std::task::Poll::Ready;
        let refused = matches!(recv.as_mut().poll(&mut context), Ready(Err(Unreceived::NoParticipant)))
            && matches!(set.as_mut().poll(&mut context), Ready(Err(Error::ForkedChild { .. })))
            && matches!(readable.arm(), Err(Error::ForkedChild { .. }))
            && matches!(receiver.readable().map(|_| ()), Err(Error::ForkedChild { .. }));
        drop((recv, set, readable));
        // SAFETY: ends the process, without destructors.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "refused in the child");
    sender.send_value(7).expect("room");
    let end = Instant::now() + LONG;
    loop {
        match recv.as_mut().poll(&mut context) {
            std::task::Poll::Ready(got) => break assert_eq!(got.map(|n| *n), Ok(7)),
            std::task::Poll::Pending => assert!(Instant::now() < end),
        }
    }
}
