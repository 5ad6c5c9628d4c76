//! Who waits naps beside nothing: not where a descriptor that nobody looks at is there for the same, nor where a
//! dead one is recovered, nor in a server whose client gives up. Counted in naps, not in time.

use super::channel::attached::Attached;
use super::descriptor::Readable;
use super::service::{Failed, Request, Unanswered};
use super::structure::{Role, Shape, Sort, Structure};
use super::testing::{LONG, handler, nothing_is_left, other};
use crate::backend::Word;
use crate::backend::native::NAPS;
use crate::backend::orderings::{BELL_LOOK, SLEEPERS_LOOK};
use crate::matrix::recovery::{Policy, Recovery};
use crate::segment::Options;
use rustix::event::{PollFd, PollFlags, poll};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

const ROUNDS: u32 = 8;
/// Long enough for a thread to fall asleep that is about to.
const SETTLED: Duration = Duration::from_millis(2);

/// In each round a descriptor is armed, `wait` sleeps at the same bell, and `put` puts what both are for; nobody
/// looks at the descriptor. How many of those who waited napped to the end.
fn naps_beside<P, G>(
    (attached, role): (&Arc<Attached>, Role),
    readable: crate::Result<Readable<'_>>,
    (before, wait): (impl Fn() -> P, impl Fn() + Sync),
    put: impl Fn(P) -> G,
) -> u32 {
    let mut readable = readable.expect("a descriptor");
    let bell = attached.structure().expect("no fork").bell(role);
    let round = |_| {
        let prepared = before();
        readable.arm().expect("a thread");
        // The helper is the first to fall asleep, and so the first to be called.
        std::thread::sleep(SETTLED);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                wait();
                NAPS.get()
            });
            while (bell.sleepers.load(&SLEEPERS_LOOK) as u32) < 2 && !waits.is_finished() {
                // The last round's watch may have ended just now.
                readable.arm().expect("a thread");
                std::thread::yield_now();
            }
            std::thread::sleep(SETTLED);
            let _stays = put(prepared);
            u32::from(waits.join().expect("it waits") > 0)
        })
    };
    (0..ROUNDS).map(round).sum()
}

/// A machine that is busy elsewhere may take a nap's time between falling asleep and what is put.
fn few(what: &str, naps: u32) {
    assert!(naps <= ROUNDS / 4, "Q5: {naps} of {ROUNDS} who waited for a {what} napped");
}

#[test]
fn q5_descriptors_delay_no_receiver_sender_or_worker() {
    let handler = handler();
    let channel = handler.channel::<u64>("channel").capacity(1).create().expect("made");
    let (sender, receiver) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    let recv = || drop(receiver.recv().expect("it is sent"));
    let send = |()| sender.send_value(1).expect("room");
    few(
        "message beside a descriptor",
        naps_beside((receiver.attached(), Role::Receiver), receiver.readable(), (|| (), recv), send),
    );
    send(());
    let take = |()| drop(receiver.try_recv().expect("it was sent"));
    let room = (|| (), || sender.send_value(1).expect("room"));
    few("room beside a descriptor", naps_beside((sender.attached(), Role::Sender), sender.readable(), room, take));
    let jobs = handler.channel::<u64>("jobs").capacity(1).redeliver(2).create().expect("made");
    let (giver, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    let work = || worker.recv().expect("it is sent").ack();
    let give = |()| giver.send_value(1).expect("room");
    few(
        "job beside a descriptor",
        naps_beside((worker.attached(), Role::Receiver), worker.readable(), (|| (), work), give),
    );
    drop((sender, receiver, giver, worker));
    channel.remove().and(jobs.remove()).expect("ours");
    drop((channel, jobs));
    nothing_is_left(&handler);
}

#[test]
fn q5_descriptors_delay_nobody_who_awaits_a_publication_an_event_or_a_permit() {
    let handler = handler();
    let topic = handler.topic::<u64>("topic").open_or_create().expect("made");
    let next = || {
        let mut subscriber = topic.subscribe(0).expect("a cursor");
        assert!(subscriber.next_timeout(LONG).expect("not closed").is_some());
    };
    let publish = |()| topic.publish_value(1).expect("room");
    few(
        "publication beside a descriptor",
        naps_beside((topic.attached(), Role::Receiver), topic.readable(), (|| (), next), publish),
    );
    let board = handler.board::<u64>("board").expect("made");
    let changed = || {
        let mut seen = 0;
        board.changed(&mut seen, Duration::ZERO).expect("no fork");
        assert!(board.changed(&mut seen, LONG).expect("no fork").is_some());
    };
    let set = |()| board.set(1).expect("room");
    few(
        "value beside a descriptor",
        naps_beside((board.attached(), Role::Receiver), board.readable(), (|| (), changed), set),
    );
    let event = handler.event("event").expect("made");
    let clear = || assert!(event.wait_and_clear(LONG).expect("no fork"));
    let set = |()| event.set().expect("no fork");
    few(
        "event beside a descriptor",
        naps_beside((event.attached(), Role::Receiver), event.readable(), (|| (), clear), set),
    );
    let permits = handler.semaphore("permits", 0).expect("made");
    let take = || assert!(permits.take(LONG).expect("no fork"));
    let give = |()| permits.give(1).expect("no fork");
    few(
        "permit beside a descriptor",
        naps_beside((permits.attached(), Role::Receiver), permits.readable(), (|| (), take), give),
    );
    topic.remove().and(board.remove()).and(event.remove()).and(permits.remove()).expect("ours");
    drop((topic, board, event, permits));
    nothing_is_left(&handler);
}

#[test]
fn q5_descriptors_delay_no_server_and_no_client() {
    let handler = handler();
    let service = handler.service::<u64, u64>("service").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let ask = || client.stream(handler.message_of(1).expect("room"), LONG).expect("there is a server");
    let next = || drop(server.next().expect("it is sent"));
    few(
        "request beside a descriptor",
        naps_beside((server.attached(), Role::Receiver), server.readable(), (|| (), next), |()| ask()),
    );
    let asked = Mutex::new(None);
    let call = || {
        *asked.lock().expect("no panic") = Some(ask());
        server.next().expect("it is sent")
    };
    let response = || {
        let mut responses = asked.lock().expect("no panic").take().expect("it is asked");
        assert!(responses.next_timeout(LONG).expect("it is answered").is_some());
    };
    let respond = |request: Request<'_, u64, u64>| {
        request.respond(handler.message_of(2).expect("room")).expect("it is awaited");
    };
    few(
        "response beside a descriptor",
        naps_beside((client.responses(), Role::Receiver), client.readable(), (call, response), respond),
    );
    drop(asked);
    service.remove().expect("ours");
    drop((client, server, service));
    nothing_is_left(&handler);
}

/// Each descriptor is armed again as soon as it is readable: what was put once is called for once.
#[test]
fn q5_a_call_ends_at_descriptors_that_are_armed_again() {
    let handler = handler();
    let permits = handler.semaphore("permits", 0).expect("made");
    // Two helpers: each rings while the other sleeps.
    let elsewhere = other(&handler);
    let same = elsewhere.semaphore("permits", 0).expect("it is there");
    let mut armed: [_; 4] = std::array::from_fn(|k| [&permits, &same][k % 2].readable().expect("a descriptor"));
    let bell = permits.attached().structure().expect("no fork").bell(Role::Receiver);
    // The helpers are asleep: else the count of sleepers begins anew. Nobody takes the permit.
    std::thread::sleep(SETTLED);
    permits.give(1).expect("no fork");
    for _ in 0..ROUNDS {
        let mut polled: Vec<_> = armed.iter().map(|one| PollFd::from_borrowed_fd(one.as_fd(), PollFlags::IN)).collect();
        poll(&mut polled, None).expect("after a nap at the latest");
        let readable: Vec<_> = polled.iter().map(|one| one.revents().contains(PollFlags::IN)).collect();
        let again = armed.iter_mut().zip(readable).filter(|(_, readable)| *readable);
        again.for_each(|(one, _)| one.arm().expect("a thread"));
    }
    let rings = bell.rings.load(&BELL_LOOK);
    assert!(rings <= 2, "Q5: {rings} rings for one permit; two are where the count of sleepers begins anew");
    drop(armed);
    drop((same, elsewhere));
    assert!(permits.take(LONG).expect("no fork"));
    permits.remove().expect("ours");
    drop(permits);
    nothing_is_left(&handler);
}

/// A server waits for room in the ring of a client: that gives the stream up, or frees what is left of an earlier one.
#[test]
fn q5_a_server_that_waits_for_room_is_told_of_whatever_ends_that() {
    let handler = handler();
    let service = handler.service::<u64, u64>("service").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let bell = client.responses().structure().expect("no fork").bell(Role::Sender);
    let message = |value| handler.message_of(value).expect("room");
    let asleep = |waits: &ScopedJoinHandle<'_, u32>| {
        while bell.sleepers.load(&SLEEPERS_LOOK) as u32 == 0 && !waits.is_finished() {
            std::thread::yield_now();
        }
        std::thread::sleep(SETTLED);
    };
    let napped = |waits: ScopedJoinHandle<'_, u32>| u32::from(waits.join().expect("it waits") > 0);
    let (mut given_up, mut late) = (0, 0);
    for _ in 0..ROUNDS {
        let stream = client.stream(message(1), LONG).expect("there is a server");
        let request = server.next().expect("it is sent");
        while request.send(message(2), Duration::ZERO).is_ok() {}
        given_up += std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let refused = request.send(message(3), LONG).expect_err("it is given up");
                assert_eq!(refused.why, Unanswered::GivenUp);
                NAPS.get()
            });
            asleep(&waits);
            drop(stream);
            napped(waits)
        });
        drop(request);
        // The ring is full of responses to that call.
        let mut stream = client.stream(message(4), LONG).expect("there is a server");
        let request = server.next().expect("it is sent");
        late += std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                request.respond(message(5)).expect("it is awaited");
                NAPS.get()
            });
            asleep(&waits);
            assert_eq!(stream.next_timeout(LONG).expect("it is answered").as_deref(), Some(&5));
            napped(waits)
        });
    }
    few("room, and the stream was given up", given_up);
    few("room, and it came from late responses", late);
    service.remove().expect("ours");
    drop((client, server, service));
    nothing_is_left(&handler);
}

/// The ring of a client that is gone is drained and sealed: who waits for room in it, in a visit, is called then.
#[test]
fn q5_who_waits_for_room_is_called_when_a_ring_is_sealed() {
    let handler = handler();
    let shape = Shape { sort: Sort::Channel, cells_shift: 0, readers: 0, content: 0 };
    let ring = Attached::make_hidden(&handler, shape).expect("room");
    let (structure, live) = (ring.structure().expect("no fork"), ring.live);
    let counted = structure.bell(Role::Sender).count_in();
    structure.leave(ring.home(), Role::User);
    let heap = handler.matrix().heap();
    handler.matrix().with_cache(|cache| Structure::drain_removed(heap, cache, live)).expect("a slot");
    assert!(structure.bell(Role::Sender).has_rung(counted), "Q5: it sleeps on, and finds the seal after its nap");
    // It has left already.
    std::mem::forget(ring);
}

/// The holder of a lock dies, and somebody else recovers it: who waits for the lock has it then.
#[test]
fn q5_c1_a_recovery_ends_the_wait_for_a_dead_ones_lock() {
    let made = handler();
    let lock = made.mutex::<u64>("lock").expect("made");
    let bell = lock.attached().structure().expect("no fork").bell(Role::Receiver);
    let round = |_| {
        let dying = ManuallyDrop::new(other(&made));
        let theirs = ManuallyDrop::new(dying.mutex::<u64>("lock").expect("it is there"));
        // A thread of its own has the lock as its own participant.
        std::thread::scope(|scope| {
            let lives = scope.spawn(|| std::mem::forget(theirs.lock(LONG).expect("a slot").expect("it is free")));
            lives.join().expect("it is locked");
            let waits = scope.spawn(|| {
                let guard = lock.lock(LONG).expect("a slot").expect("its holder is dead");
                assert!(guard.is_poisoned());
                drop(guard);
                NAPS.get()
            });
            while bell.sleepers.load(&SLEEPERS_LOOK) as u32 == 0 && !waits.is_finished() {
                std::thread::yield_now();
            }
            std::thread::sleep(SETTLED);
            // SAFETY: no handle of it is used or dropped from here on.
            unsafe { dying.matrix().segment().end_life() };
            made.reap().expect("a slot");
            u32::from(waits.join().expect("it waits") > 0)
        })
    };
    few("dead one's lock", (0..ROUNDS).map(round).sum());
}

/// A server dies with a request in its hands, and somebody else recovers it: its client is told then, also where
/// what the dead had is kept for who adopts it.
#[test]
fn q5_c1_a_recovery_ends_the_wait_for_a_dead_server() {
    for keeps in [false, true] {
        let made = Options::new().memfd().size(4 << 20).keep_orphans(keeps).create().expect("created");
        let service = made.service::<u64, u64>("service").open_or_create().expect("made");
        let client = service.client().expect("a client");
        let round = |_| {
            let dying = ManuallyDrop::new(other(&made));
            let theirs = ManuallyDrop::new(dying.service::<u64, u64>("service").open_or_create().expect("there"));
            let server = ManuallyDrop::new(theirs.server().expect("a server"));
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    let failed = client.call(made.message_of(1).expect("room"), LONG).expect_err("it has died");
                    assert_eq!(failed.why, Failed::Unanswered { died: true });
                    NAPS.get()
                });
                std::mem::forget(server.next_timeout(LONG).expect("one comes"));
                std::thread::sleep(SETTLED);
                // SAFETY: no handle of it is used or dropped from here on.
                unsafe { dying.matrix().segment().end_life() };
                made.reap().expect("a slot");
                u32::from(waits.join().expect("it waits") > 0)
            })
        };
        few("dead server", (0..ROUNDS).map(round).sum());
    }
}

/// A recovery is set aside behind the request that a dead server had: its client is told already.
#[test]
fn q5_c1_a_recovery_that_is_set_aside_rings_for_what_it_has_freed() {
    let made = handler();
    let service = made.service::<u64, u64>("service").open_or_create().expect("made");
    let client = service.client().expect("a client");
    let dying = ManuallyDrop::new(other(&made));
    let theirs = ManuallyDrop::new(dying.service::<u64, u64>("service").open_or_create().expect("there"));
    let server = ManuallyDrop::new(theirs.server().expect("a server"));
    let mut stream = client.stream(made.message_of(1).expect("room"), LONG).expect("there is a server");
    std::mem::forget(server.next_timeout(LONG).expect("one comes"));
    // SAFETY: no handle of it is used or dropped from here on.
    unsafe { dying.matrix().segment().end_life() };
    let (matrix, bell) = (made.matrix(), client.responses().structure().expect("no fork").bell(Role::Receiver));
    let called = matrix.with_cache(|cache| {
        let mut recovery = Recovery::of(matrix.segment().take_dead(cache.owner()), Policy::GiveBack);
        let recoveries = matrix.heap().recoveries();
        recoveries.begin_recovery(Some(&mut *cache), &mut recovery);
        while recovery.total().live_blocks == 0 {
            assert!(!recoveries.recover_tiles(Some(&mut *cache), &mut recovery, 1), "C1: the request is freed");
        }
        let asleep = bell.count_in();
        recoveries.pause_recovery(cache, &mut recovery);
        let called = bell.has_rung(asleep);
        bell.leave(asleep);
        called
    });
    assert!(called.expect("a slot"), "Q5: the client naps beside it");
    assert!(stream.next_timeout(LONG).is_err(), "nobody answers");
    made.reap().expect("a slot");
    drop(stream);
    service.remove().expect("ours");
    drop((client, service));
    nothing_is_left(&made);
}
