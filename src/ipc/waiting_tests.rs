//! Who waits leaves nothing behind, and looks after those who die meanwhile.

use super::channel::attached::Attached;
use super::future::{Waiting, helper};
use super::select::Select;
use super::structure::Role;
use super::testing::{LONG, handler, nothing_is_left, other};
use super::{Unreceived, Unsent};
use crate::backend::Word;
use crate::backend::orderings::SLEEPERS_LOOK;
use crate::handlers::Handler;
use std::mem::ManuallyDrop;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Long enough for a thread to fall asleep that is about to.
const SETTLED: Duration = Duration::from_millis(2);

fn asleep(attached: &Attached, role: Role) -> u32 {
    attached.structure().expect("no fork").bell(role).sleepers.load(&SLEEPERS_LOOK) as u32
}

/// Somebody who takes part, and dies.
pub(in crate::ipc) fn dies(made: &Handler) -> ManuallyDrop<Handler> {
    let dying = ManuallyDrop::new(other(made));
    dying.join().expect("a slot");
    // SAFETY: no handle of it is used or dropped from here on.
    unsafe { dying.matrix().segment().end_life() };
    dying
}

fn has_dead(made: &Handler) -> bool {
    made.participants().iter().any(|participant| !participant.alive)
}

/// While `wait` sleeps at a bell somebody dies: that is found out, whom it may wait for, before `put` ends the wait.
pub(in crate::ipc) fn looks_after_the_dead(
    made: &Handler,
    what: &str,
    (attached, role): (&Attached, Role),
    wait: impl FnOnce() + Send,
    put: impl FnOnce(),
) {
    std::thread::scope(|scope| {
        let waits = scope.spawn(wait);
        while asleep(attached, role) == 0 && !waits.is_finished() {
            std::thread::yield_now();
        }
        std::thread::sleep(SETTLED);
        dies(made);
        let until = Instant::now() + LONG;
        while has_dead(made) && Instant::now() < until {
            std::thread::sleep(SETTLED);
        }
        let found_out = !has_dead(made);
        put();
        waits.join().expect("it waits");
        assert!(found_out, "L1: who waits for a {what} looks after the dead");
    });
}

#[test]
fn l1_who_waits_looks_after_those_who_die_meanwhile() {
    let made = handler();
    let topic = made.topic::<u64>("topic").open_or_create().expect("made");
    let publish = || topic.publish_value(1).expect("room");
    let at_topic = || (&**topic.attached(), Role::Receiver);
    let samples = topic.subscribe(0).expect("a cursor").into_samples();
    let next = || assert!(samples.next_timeout(LONG).expect("not closed").is_some());
    looks_after_the_dead(&made, "sample", at_topic(), next, publish);
    drop(samples);
    let mut lossy = topic.subscribe_lossy(0).expect("no fork");
    let next = || assert!(lossy.next_timeout(LONG).expect("not closed").is_some());
    looks_after_the_dead(&made, "copy", at_topic(), next, publish);
    let mut subscriber = topic.subscribe(0).expect("a cursor");
    let next = || assert!(subscriber.next_timeout(LONG).expect("not closed").is_some());
    looks_after_the_dead(&made, "publication", at_topic(), next, publish);

    let permits = made.semaphore("permits", 0).expect("made");
    let select = || assert_eq!(Select::new().take(&permits, |taken| taken.is_ok()).wait(LONG), Some(true));
    let give = || permits.give(1).expect("no fork");
    looks_after_the_dead(&made, "source of several", (permits.attached(), Role::Receiver), select, give);

    let service = made.service::<u64, u64>("service").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let call = || assert_eq!(*client.call(made.message_of(1).expect("room"), LONG).expect("answered"), 2);
    let answer = || {
        let request = server.next_timeout(LONG).expect("it is there");
        request.respond(made.message_of(2).expect("room")).expect("it is awaited");
    };
    looks_after_the_dead(&made, "response", (client.responses(), Role::Receiver), call, answer);
}

/// A future's first poll asks nobody who is dead: that is for after a nap.
#[test]
fn l1_a_poll_that_is_not_late_asks_for_no_dead() {
    let made = handler();
    let permits = made.semaphore("permits", 0).expect("made");
    made.join().expect("a slot");
    dies(&made);
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(permits.take_async()).poll(&mut context).is_pending());
    assert!(has_dead(&made));
}

/// Whatever waits is dropped: nobody is counted as asleep.
#[test]
fn q5_a_future_that_is_dropped_is_asleep_no_more() {
    let made = handler();
    let mut context = Context::from_waker(Waker::noop());
    let channel = made.channel::<u64>("channel").capacity(1).create().expect("made");
    let (sender, receiver) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    let count = |role| asleep(receiver.attached(), role);
    {
        let mut waits = pin!(receiver.recv_async());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        assert_eq!(count(Role::Receiver), 1);
    }
    assert_eq!(count(Role::Receiver), 0);
    sender.send_value(1).expect("room");
    let mut sends = sender.send_async(made.message_of(2).expect("room"));
    assert!(pin!(&mut sends).poll(&mut context).is_pending());
    assert_eq!(count(Role::Sender), 1);
    assert_eq!(sends.into_message().as_deref(), Some(&2), "it was not sent");
    assert_eq!(count(Role::Sender), 0);

    let jobs = made.channel::<u64>("jobs").redeliver(1).create().expect("made");
    let (giver, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    assert!(pin!(worker.recv_async()).poll(&mut context).is_pending(), "something may come");
    drop(giver);
    let over =
        |polled: Poll<Result<_, _>>| matches!(polled, Poll::Ready(Err(Unreceived::Disconnected { died: false })));
    assert!(over(pin!(worker.recv_async()).poll(&mut context).map_ok(drop)));

    let topic = made.topic::<u64>("topic").open_or_create().expect("made");
    let mut subscriber = topic.subscribe(0).expect("a cursor");
    assert!(pin!(subscriber.next_async()).poll(&mut context).is_pending());
    assert_eq!(asleep(topic.attached(), Role::Receiver), 0);
    drop(Waiting::at(topic.attached(), Role::Receiver));
    drop((receiver, sender, worker, subscriber));
    channel.remove().and(jobs.remove()).and(topic.remove()).expect("ours");
    drop((channel, jobs, topic));
    nothing_is_left(&made);
}

/// The helper ends with the segment's last handler in this process.
#[test]
fn q5_a_segment_that_is_dropped_ends_its_helper() {
    let made = handler();
    let helps = Arc::clone(helper(&made).expect("a thread"));
    assert!(!helps.has_ended());
    drop(made);
    assert!(helps.has_ended());
}

/// Of sources that are all there each has its turn, whether one waits or looks.
#[test]
fn l1_a_select_takes_from_each_source_in_turn() {
    let made = handler();
    let sources: Vec<_> = ["a", "b", "c"].iter().map(|name| made.semaphore(name, 9).expect("made")).collect();
    let mut select = sources.iter().enumerate().fold(Select::new(), |select, (at, source)| {
        select.take(source, move |taken| {
            taken.expect("no fork");
            at
        })
    });
    let looks: Vec<_> = (0..6).map(|_| select.try_now()).collect();
    assert_eq!(looks, [0, 1, 2, 0, 1, 2].map(Some));
    let waits: Vec<_> = (0..6).map(|_| select.wait(LONG)).collect();
    assert_eq!(waits, [0, 1, 2, 0, 1, 2].map(Some));
}

/// Somebody else holds what may come back; then nobody gives any more, and the end is told.
#[test]
fn q6_the_end_is_told_to_a_worker_behind_what_others_hold() {
    let made = handler();
    let jobs = made.channel::<u64>("jobs").redeliver(4).create().expect("made");
    let (giver, worker, holder) =
        (jobs.sender().expect("a sender"), jobs.worker().expect("one"), jobs.worker().expect("another"));
    giver.send_value(7).expect("room");
    let (held, let_go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let job = holder.recv().expect("sent");
            held.wait();
            let_go.wait();
            job.ack();
            held.wait();
        });
        held.wait();
        drop(giver);
        assert_eq!(worker.try_recv().err(), Some(Unreceived::Empty), "it may come back");
        let_go.wait();
        held.wait();
    });
    let over = Some(Unreceived::Disconnected { died: false });
    let told = Select::new().work(&worker, |job| job.err()).wait(LONG);
    assert_eq!((worker.try_recv().err(), told), (over, Some(over)));
}

#[test]
fn what_was_refused_says_why() {
    let made = handler();
    let channel = made.channel::<u64>("channel").capacity(1).create().expect("made");
    channel.close();
    let refused = channel.sender().expect("a sender").try_send(made.message_of(1).expect("room")).expect_err("closed");
    assert_eq!((refused.why, refused.to_string()), (Unsent::Closed, Unsent::Closed.to_string()));
    let map = made.map::<u64>("map").open_or_create().expect("made");
    let long = [0; 5000];
    let refused = map.insert(&long, made.message_of(1).expect("room")).expect_err("too long a key");
    assert_eq!(refused.to_string(), refused.why.to_string());
    assert!(!refused.to_string().is_empty());
}
