use super::*;
use crate::error::Error;
use crate::ipc::testing::{LONG, SOON, handler, nothing_is_left, other};
use crate::ipc::{Unreceived, Unsent};

#[test]
fn q3_every_call_gets_its_own_response() {
    const EACH: u64 = 500;
    let made = handler();
    let service = made.service::<u64, [u64]>("powers").capacity(4).open_or_create().expect("made");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3_u64)
            .map(|thread| {
                let handler = if thread == 0 { other(&made) } else { made.clone() };
                scope.spawn(move || {
                    let service = handler.service::<u64, [u64]>("powers").open_or_create().expect("it is there");
                    let client = service.client().expect("a client");
                    for k in 0..EACH {
                        let mut request = client.request().expect("room");
                        *request = thread << 32 | k;
                        let response = client.call(request, LONG).expect("somebody answers");
                        assert!(response.len() == 1 + k as usize % 50, "Q1");
                        assert!(response.iter().all(|&word| word == thread << 32 | k), "Q1");
                    }
                })
            })
            .collect();
        for thread in 0..2 {
            let handler = if thread == 0 { other(&made) } else { made.clone() };
            scope.spawn(move || {
                let service = handler.service::<u64, [u64]>("powers").open_or_create().expect("it is there");
                let server = service.server().expect("a server");
                loop {
                    match server.next_timeout(LONG) {
                        Ok(request) => {
                            let value = *request;
                            let mut response = request.response_slice(1 + (value as u32) as usize % 50).expect("room");
                            response.fill(value);
                            request.respond(response).expect("it is awaited");
                        }
                        Err(Unreceived::Disconnected { died: false }) => return,
                        Err(why) => panic!("{why}"),
                    }
                }
            });
        }
        clients.into_iter().for_each(|client| client.join().expect("it ends"));
    });
    service.remove().expect("ours");
    drop(service);
    nothing_is_left(&made);
}

/// A server asks a caller's ring whether it takes what this service answers.
#[test]
fn c2_rings_of_responses_differ_by_what_they_hold() {
    use super::client::responses_of;
    let contents = [responses_of::<u64>(), responses_of::<u32>(), responses_of::<[u64]>(), u64::FINGERPRINT, 0];
    assert_eq!(contents.iter().collect::<std::collections::HashSet<_>>().len(), contents.len(), "{contents:?}");
}

#[test]
fn q3_a_stream_comes_in_order_and_ends() {
    let made = handler();
    let service = made.service::<u64, u64>("count").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for finishes in [true, false, false] {
                let request = server.next_timeout(LONG).expect("one comes");
                for k in 0..*request {
                    let mut message = request.response().expect("room");
                    *message = k;
                    let sent = request.send(message, LONG);
                    if sent.is_err() {
                        assert_eq!(sent.expect_err("given up").why, Unanswered::GivenUp);
                        assert!(!request.is_awaited());
                        break;
                    }
                }
                match finishes {
                    true => request.finish().expect("it is awaited"),
                    false if *request == 5 => drop(request),
                    false => _ = request.respond(made.message_of(99).expect("room")),
                }
            }
        });
        // More than a ring has room for.
        let mut responses = client.stream(made.message_of(100).expect("room"), LONG).expect("it is sent");
        assert_eq!(client.call(made.message_of(1).expect("room"), LONG).expect_err("one at a time").why, Failed::Busy);
        for k in 0..100 {
            assert_eq!(*responses.next_timeout(LONG).expect("it goes on").expect("it is there"), k);
        }
        assert!(responses.next_timeout(LONG).expect("the end").is_none());
        assert!(responses.next_timeout(LONG).expect("the end").is_none());
        drop(responses);
        // One that is dropped by its server, behind what was sent.
        let mut responses = client.stream(made.message_of(5).expect("room"), LONG).expect("it is sent");
        (0..5).for_each(|_| _ = responses.next_timeout(LONG).expect("it goes on").expect("it is there"));
        assert!(matches!(
            responses.next_timeout(LONG),
            Err(Error::CallFailed { why: Failed::Unanswered { died: false } })
        ));
        drop(responses);
        // One that is given up, by another thread than has begun it.
        let mut responses = client.stream(made.message_of(1000).expect("room"), LONG).expect("it is sent");
        let gives_up = move || *responses.next_timeout(LONG).expect("it goes on").expect("it is there");
        assert_eq!(scope.spawn(gives_up).join().expect("it ends"), 0);
        let over = client.call(made.message_of(1).expect("room"), SOON).expect_err("nobody serves it").why;
        assert!(over != Failed::Busy, "the client makes a call no more");
    });
    drop((client, server));
    service.remove().expect("ours");
    drop(service);
    nothing_is_left(&made);
}

#[test]
fn q6_whoever_ends_is_missed() {
    let made = handler();
    let service = made.service::<u64, u64>("echo").capacity(1).open_or_create().expect("made");
    let client = service.client().expect("a client");
    // Nobody was there yet: a server may come.
    let refused = client.call(made.message_of(1).expect("room"), SOON).expect_err("nobody answers");
    assert_eq!((refused.why, refused.request.is_none()), (Failed::Timeout, true));
    let full = client.call(made.message_of(2).expect("room"), SOON).expect_err("the first still waits");
    assert_eq!(full.why, Failed::Unsent { why: Unsent::Timeout });
    assert_eq!(full.request.as_deref(), Some(&2), "it comes back");
    drop(full);
    // A server that comes drops what nobody waits for.
    let server = service.server().expect("a server");
    assert_eq!(server.try_next().err(), Some(Unreceived::Empty));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(server.next_timeout(LONG).expect("one comes")));
        let dropped = client.call(made.message_of(3).expect("room"), LONG).expect_err("it is dropped");
        assert_eq!(dropped.why, Failed::Unanswered { died: false });
    });
    drop(server);
    let alone = client.call(made.message_of(4).expect("room"), LONG).expect_err("nobody is there any more");
    assert_eq!(alone.why, Failed::NoServer { died: false });
    // One that is killed while it works.
    let dying = std::mem::ManuallyDrop::new(other(&made));
    let theirs = dying.service::<u64, u64>("echo").open_or_create().expect("it is there");
    let theirs = std::mem::ManuallyDrop::new(theirs);
    let server = std::mem::ManuallyDrop::new(theirs.server().expect("a server"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::mem::forget(server.next_timeout(LONG).expect("one comes"));
            // SAFETY: no handle of it is used or dropped from here on.
            unsafe { dying.matrix().segment().end_life() };
        });
        let dead = client.call(made.message_of(5).expect("room"), LONG).expect_err("it has died");
        assert_eq!(dead.why, Failed::Unanswered { died: true });
    });
    drop(client);
    service.remove().expect("ours");
    drop(service);
    nothing_is_left(&made);
}

/// A client that is killed leaves its ring to its recovery, and its server learns of it.
#[test]
fn q6_a_dead_client_is_missed() {
    let made = handler();
    let service = made.service::<u64, u64>("echo").open_or_create().expect("made");
    let server = service.server().expect("a server");
    let dying = std::mem::ManuallyDrop::new(other(&made));
    let theirs = dying.service::<u64, u64>("echo").open_or_create().expect("it is there");
    let theirs = std::mem::ManuallyDrop::new(theirs);
    let client = std::mem::ManuallyDrop::new(theirs.client().expect("a client"));
    std::mem::forget(client.stream(dying.message_of(7).expect("room"), LONG).expect("there is room"));
    std::mem::forget(theirs.client().expect("a client").stream(dying.message_of(8).expect("room"), LONG));
    let request = server.try_next().expect("one is there");
    request.send(made.message_of(70).expect("room"), SOON).expect("it is alive");
    // SAFETY: no handle of it is used or dropped from here on.
    unsafe { dying.matrix().segment().end_life() };
    made.reap().expect("a slot");
    assert!(!request.is_awaited());
    let refused = request.respond(made.message_of(77).expect("room")).expect_err("it is gone");
    assert_eq!((refused.why, *refused.message), (Unanswered::Gone, 77));
    drop(refused);
    assert!(matches!(server.try_next(), Err(Unreceived::Empty | Unreceived::Disconnected { died: true })));
    drop(server);
    service.remove().expect("ours");
    drop(service);
    nothing_is_left(&made);
}

/// The room that its tail takes is behind the value, whatever its size: what was made with room is sent where it lies,
/// and of the rest a copy, whole; nothing is left of the original.
#[test]
fn q3_requests_and_responses_of_any_size_come_whole_and_with_room_uncopied() {
    const WORDS: usize = 6;
    let made = handler();
    let slices = made.service::<[u8], [u8]>("slices").open_or_create().expect("made");
    let (client, server) = (slices.client().expect("a client"), slices.server().expect("a server"));
    for items in 0..200_usize {
        let value: Vec<u8> = (0..items).map(|k| (items + k) as u8).collect();
        for with_room in [true, false] {
            let mut request = match with_room {
                true => client.request_slice(items).expect("room"),
                false => made.message_slice(items).expect("room"),
            };
            request.copy_from_slice(&value);
            let lies = request.as_ptr();
            let mut responses = client.stream(request, LONG).expect("it is sent");
            let request = server.try_next().expect("it is there");
            assert_eq!((&*request, with_room && request.as_ptr() != lies), (&*value, false), "{items} items");
            let mut response = match with_room {
                true => request.response_slice(items).expect("room"),
                false => made.message_slice(items).expect("room"),
            };
            response.copy_from_slice(&value);
            let lies = response.as_ptr();
            request.respond(response).expect("it is awaited");
            let response = responses.next_timeout(LONG).expect("answered").expect("it is there");
            assert_eq!((&*response, with_room && response.as_ptr() != lies), (&*value, false), "{items} items");
        }
    }
    let words = made.service::<[u64; WORDS], [u64; WORDS]>("words").open_or_create().expect("made");
    let (fixed, serves) = (words.client().expect("a client"), words.server().expect("a server"));
    let mut request = fixed.request().expect("room");
    *request = [7; WORDS];
    let lies = request.as_ptr();
    let mut responses = fixed.stream(request, LONG).expect("it is sent");
    let request = serves.try_next().expect("it is there");
    assert_eq!((*request, request.as_ptr()), ([7; WORDS], lies));
    let mut response = request.response().expect("room");
    *response = [8; WORDS];
    let lies = response.as_ptr();
    request.respond(response).expect("it is awaited");
    let response = responses.next_timeout(LONG).expect("answered").expect("it is there");
    assert_eq!((*response, response.as_ptr()), ([8; WORDS], lies));
    drop((response, responses));
    drop((client, server, fixed, serves));
    slices.remove().and(words.remove()).expect("ours");
    drop((slices, words));
    nothing_is_left(&made);
}

/// A caller whose request is dropped is called, and one that has its last response is not called again.
#[test]
fn q5_a_caller_is_called_for_the_end_once() {
    let made = handler();
    let service = made.service::<u64, u64>("echo").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let bell = client.responses().structure().expect("no fork").bell(crate::ipc::structure::Role::Receiver);
    for answers in 0..3 {
        let stream = client.stream(made.message_of(1).expect("room"), LONG).expect("it is sent");
        let mut request = server.try_next().expect("it is there");
        let asleep = bell.count_in();
        match answers {
            0 => {}
            1 => request.respond_and_keep(made.message_of(2).expect("room")).expect("it is awaited"),
            _ => request.finish_and_keep().expect("it is awaited"),
        }
        assert_eq!(bell.has_rung(asleep), answers > 0);
        bell.leave(asleep);
        let asleep = bell.count_in();
        drop(request);
        assert_eq!(bell.has_rung(asleep), answers == 0, "Q5: it is told of the end once");
        bell.leave(asleep);
        drop(stream);
    }
}

/// A response waits for room as long as its server says, and not for one nap alone.
#[test]
fn q5_a_response_waits_for_a_slow_caller() {
    let made = handler();
    let service = made.service::<u64, u64>("slow").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let mut stream = client.stream(made.message_of(1).expect("room"), LONG).expect("it is sent");
    let request = server.try_next().expect("it is there");
    while request.send(made.message_of(2).expect("room"), std::time::Duration::ZERO).is_ok() {}
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| request.send(made.message_of(3).expect("room"), LONG).map_err(|error| error.why));
        std::thread::sleep(3 * crate::ipc::wait::NAP);
        drop(stream.next_timeout(LONG).expect("it is there"));
        assert_eq!(waits.join().expect("it waits"), Ok(()));
    });
}

/// What cannot be sent comes back, and says why.
#[test]
fn q3_what_is_not_sent_says_why() {
    let made = handler();
    let service = made.service::<[u8], [u8]>("echo").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    // A block without room for more.
    let full = || made.message_from(&[7_u8; 48]).expect("room");
    let freed = full();
    made.free_at(freed.offset()).expect("it is live");
    let refused = client.stream(freed, LONG).map(drop).expect_err("it was freed");
    assert_eq!(refused.why, Failed::Unsent { why: Unsent::NotOwn });
    assert_eq!(refused.to_string(), refused.why.to_string());
    let (asks, answers) = (full(), full());
    let stream = client.stream(full(), LONG).expect("it is sent");
    let request = server.try_next().expect("it is there");
    let freed = full();
    made.free_at(freed.offset()).expect("it is live");
    let refused = request.send(freed, LONG).expect_err("it was freed");
    assert_eq!((refused.why, refused.to_string()), (Unanswered::NotOwn, Unanswered::NotOwn.to_string()));
    drop(refused);
    let fill = || {
        for size in [1 << 16, 1 << 10, 64] {
            while made.allocate_raw(size).is_ok() {}
        }
    };
    fill();
    let refused = request.send(answers, LONG).expect_err("there is no memory");
    assert_eq!((refused.why, refused.message.len()), (Unanswered::OutOfMemory, 48));
    drop((request, stream));
    fill();
    let refused = client.stream(asks, LONG).map(drop).expect_err("there is no memory");
    assert_eq!((refused.why, refused.request.is_some()), (Failed::OutOfMemory, true));
}
