use super::*;
use crate::ipc::Select;
use crate::ipc::structure::Role;
use crate::ipc::testing::{LONG, SOON, handler, nothing_is_left, other};

/// Received, dropped, received again, acknowledged, sent on, kept: and as many are held as the channel allows.
#[test]
fn q2_q3_what_is_not_acknowledged_is_delivered_again() {
    let handler = handler();
    let jobs = handler.channel::<u64>("jobs").capacity(4).redeliver(2).create().expect("made");
    let done = handler.channel::<u64>("done").capacity(1).create().expect("made");
    let (tx, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    let (on, results) = (done.sender().expect("a sender"), done.receiver().expect("a receiver"));
    assert_eq!((worker.handler().id(), worker.try_recv().err()), (handler.id(), Some(Unreceived::Empty)));
    (1..=4).for_each(|k| tx.send_value(k).expect("room"));
    let (one, two) = (worker.recv().expect("sent"), worker.try_recv().expect("sent"));
    assert_eq!((*one, *two, one.deliveries(), jobs.unacknowledged()), (1, 2, 1, (2, 0)));
    assert_eq!(worker.try_recv().err(), Some(Unreceived::AllHeld), "two are held, and no more may be");
    assert_eq!(worker.recv_timeout(SOON).err(), Some(Unreceived::Timeout));
    drop(one);
    assert_eq!(jobs.unacknowledged(), (1, 1));
    let one = worker.recv().expect("it was dropped");
    assert_eq!((*one, one.deliveries()), (1, 2), "before what is in the channel");
    one.ack();
    two.forward(&on).expect("room");
    assert_eq!(jobs.unacknowledged(), (0, 0));
    let three = worker.recv().expect("sent");
    let now = Some(std::time::Instant::now());
    let ForwardError { delivery: three, why } = three.forward_until(&on, now).expect_err("full, and stays so");
    assert_eq!((why, *three, jobs.unacknowledged()), (Unsent::Timeout, 3, (1, 0)));
    done.close();
    let ForwardError { delivery, why } = three.forward(&on).expect_err("closed");
    assert_eq!((why, *delivery, delivery.deliveries()), (Unsent::Closed, 3, 1));
    let mut kept = delivery.take();
    *kept += 10;
    assert_eq!((*kept, *results.recv().expect("sent on")), (13, 2));
    for delivery in 1..=40 {
        let four = worker.recv().expect("sent, or dropped");
        assert_eq!((*four, four.deliveries()), (4, delivery.min(31)), "as many as are counted");
    }
    drop(kept);
    drop((tx, on, results, worker));
    [jobs.remove(), done.remove()].into_iter().for_each(|removed| removed.expect("ours"));
    drop((jobs, done));
    nothing_is_left(&handler);
}

/// Workers that die with what they hold: another gets it, and what the dead one had acknowledged stays done.
#[test]
fn q3_q6_what_a_dead_worker_held_is_delivered_again() {
    let made = handler();
    let jobs = made.channel::<u64>("jobs").capacity(8).redeliver(8).create().expect("made");
    let (tx, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    (0..6).for_each(|k| tx.send_value(k).expect("room"));
    for delivery in 1..=3 {
        let dying = Box::leak(Box::new(std::mem::ManuallyDrop::new(other(&made))));
        let theirs = dying.channel::<u64>("jobs").redeliver(1).open().expect("it is there");
        let dead = Box::leak(Box::new(std::mem::ManuallyDrop::new(theirs.worker().expect("a worker"))));
        if delivery == 1 {
            dead.recv().expect("sent").ack();
        }
        let held: Vec<_> = (0..3).map(|_| dead.recv().expect("there")).collect();
        assert!(held.iter().all(|job| job.deliveries() == delivery));
        assert_eq!(held.iter().map(|job| **job).sum::<u64>(), 6, "one, two and three");
        // SAFETY: no handle of it is used or dropped from here on.
        unsafe { dying.matrix().segment().end_life() };
        std::mem::forget((held, theirs));
        made.reap().expect("a slot");
        assert_eq!((jobs.unacknowledged(), jobs.ends()), ((0, 3), (1, 1)));
    }
    drop(tx);
    let mut got: Vec<_> =
        (0..5).map(|_| worker.recv_timeout(LONG).expect("it was held, or is in the channel")).collect();
    got.sort_by_key(|job| **job);
    assert_eq!(
        got.iter().map(|job| (**job, job.deliveries())).collect::<Vec<_>>(),
        [(1, 4), (2, 4), (3, 4), (4, 1), (5, 1)]
    );
    got.into_iter().for_each(Delivery::ack);
    assert_eq!(worker.recv().err(), Some(Unreceived::Disconnected { died: false }));
    drop(worker);
    jobs.remove().expect("ours");
    drop(jobs);
    nothing_is_left(&made);
}

/// Nobody is told of the end while somebody else holds a message; whoever waits is woken when it goes back, or is done.
#[test]
fn q5_q6_the_end_is_behind_what_is_held() {
    let handler = handler();
    let jobs = handler.channel::<u64>("jobs").redeliver(4).create().expect("made");
    let (tx, one, two) = (jobs.sender().expect("a sender"), jobs.worker().expect("one"), jobs.worker().expect("two"));
    tx.send_value(7).expect("room");
    let (held, job) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (one, held) = (&one, held);
        scope.spawn(move || {
            let job = one.recv().expect("sent");
            held.send(()).expect("the other thread waits");
            std::thread::sleep(SOON);
            drop(job);
        });
        job.recv().expect("it is held");
        jobs.close();
        let mut select = Select::new().work(&two, |job| job.map(|job| (*job, job.deliveries(), job.ack())));
        assert_eq!(select.wait(LONG), Some(Ok((7, 2, ()))), "it was closed, and goes back all the same");
        drop(select);
    });
    assert_eq!((two.recv().err(), two.iter().count()), (Some(Unreceived::Closed), 0));
    let waiting = std::pin::pin!(two.recv_async());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(waiting.poll(&mut context), std::task::Poll::Ready(Err(Unreceived::Closed))));
    assert!(two.readable().expect("a descriptor").arm().is_ok());
    assert_eq!(jobs.ends(), (1, 2));
}

/// What stands in the holds of a channel that is removed is freed with it.
#[test]
fn q6_what_was_given_back_is_freed_with_the_channel() {
    let handler = handler();
    let jobs = handler.channel::<u64>("jobs").redeliver(4).create().expect("made");
    let (tx, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    (0..3).for_each(|k| tx.send_value(k).expect("room"));
    drop((worker.recv().expect("sent"), worker.recv().expect("sent")));
    assert_eq!(jobs.unacknowledged(), (0, 2));
    drop((tx, worker));
    jobs.remove().expect("ours");
    drop(jobs);
    nothing_is_left(&handler);
}

#[test]
fn s5_misuse_of_workers_is_refused() {
    let handler = handler();
    let refused = handler.channel::<u64>("jobs").redeliver(0).create().map(drop);
    assert!(matches!(refused, Err(Error::BadOption { option: "redeliver", .. })));
    let jobs = handler.channel::<u64>("jobs").redeliver(1).create().expect("made");
    assert!(matches!(handler.channel::<u64>("jobs").open().map(drop), Err(Error::TypeMismatch { .. })));
    let (tx, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    tx.send_value(1).expect("room");
    // A message of another type, by another way.
    let structure = jobs.attached.structure().expect("ours");
    let wrong = handler.message_of([1_u8; 3]).expect("room");
    jobs.attached.put(&wrong, 1, |cache, structure, live| Ring::of(structure).send(cache.owner(), live)).expect("room");
    std::mem::forget(wrong);
    let job = worker.recv_until(Some(std::time::Instant::now())).expect("sent");
    assert_eq!(format!("{job:?}"), "Delivery(1)");
    job.ack();
    assert_eq!(Ring::of(structure).holds(), (0, 0), "it is done");
    assert_eq!(worker.try_recv().err(), Some(Unreceived::OfAnotherType), "its hold is free again");
    assert_eq!(Ring::of(structure).holds(), (0, 0));
    assert_eq!(structure.count(Role::Receiver), 1);
}
