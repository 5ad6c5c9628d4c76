//! Services: what is refused, and that requests and responses come back.

use atomic_matrix::Error;
use atomic_matrix::ipc::{Failed, Unanswered, Unreceived, Unsent};
use atomic_matrix::segment::Options;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(10);

#[test]
fn services_say_why_they_refuse() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let service = handler.service::<[u8], [u8]>("echo").capacity(1).open_or_create().expect("there is room");
    for capacity in [0, (1 << 20) + 1] {
        let refused = handler.service::<[u8], [u8]>("large").capacity(capacity).open_or_create().map(|_| ());
        assert!(matches!(refused, Err(Error::BadOption { option: "capacity", .. })), "{refused:?}");
    }
    assert!(matches!(handler.service::<u64, [u8]>("echo").open_or_create(), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.channel::<[u8]>("echo").open(), Err(Error::TypeMismatch { .. })));
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    assert_eq!((client.handler().id(), server.handler().id()), (handler.id(), handler.id()));
    let message = |bytes: &[u8]| handler.message_from(bytes).expect("there is room");
    let foreign = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let refused = client.call(foreign.message_from(&[1u8]).expect("there is room"), SOON).expect_err("another's");
    assert_eq!((refused.why, refused.request.is_some()), (Failed::Unsent { why: Unsent::NotOwn }, true));

    let mut request = client.request_slice(1).expect("there is room");
    request[0] = 7;
    let mut responses = client.stream(request, SOON).expect("there is room");
    let busy = client.call(message(&[2]), SOON).expect_err("one at a time");
    assert_eq!((busy.why, busy.request.as_deref()), (Failed::Busy, Some(&[2u8][..])));
    drop(busy);
    let mut request = server.next_timeout(SOON).expect("one is there");
    request[0] += 1;
    assert!(request[0] == 8 && request.is_awaited());
    let refused = request.send(foreign.message_from(&[1u8]).expect("there is room"), SOON).expect_err("another's");
    assert_eq!(refused.why, Unanswered::NotOwn);
    for number in 0..16 {
        let mut response = request.response_slice(1).expect("there is room");
        response[0] = number;
        request.send(response, SOON).expect("there is room");
    }
    let full = request.send(message(&[16]), SOON).expect_err("nobody takes them");
    assert_eq!((full.why, &*full.message), (Unanswered::Full, &[16u8][..]), "it comes back");
    drop(full);
    assert_eq!(responses.next_timeout(SOON).expect("it goes on").as_deref(), Some(&[0u8][..]));
    drop(responses);
    let late = request.respond(message(&[17])).expect_err("it is given up");
    assert_eq!((late.why, &*late.message), (Unanswered::GivenUp, &[17u8][..]));
    assert!(Error::from(late).to_string().contains("no more"));

    let timeout = client.call(message(&[3]), SOON).expect_err("nobody answers");
    assert_eq!((timeout.why, timeout.request.is_none()), (Failed::Timeout, true));
    assert!(matches!(server.try_next().err(), Some(Unreceived::Empty)), "what nobody waits for is dropped");
    service.remove().expect("it is ours");
    let closed = client.call(message(&[4]), SOON).expect_err("removed");
    assert_eq!(closed.why, Failed::Unsent { why: Unsent::Closed });
    assert!(Error::from(closed).to_string().contains("closed"));
    assert!(matches!(server.next().err(), Some(Unreceived::Closed)));
    drop((client, server, service));
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

#[test]
fn a_stream_is_finished() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let service = handler.service::<u64, u64>("count").open_or_create().expect("there is room");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let mut message = client.request().expect("there is room");
    *message = 1;
    let mut responses = client.stream(message, SOON).expect("there is room");
    let request = server.try_next().expect("one is there");
    *request.response().expect("there is room") = 0;
    request.finish().expect("it is awaited");
    assert!(responses.next_timeout(SOON).expect("the end").is_none());
    drop(responses);
    let responses = client.stream(handler.message_of(2).expect("room"), SOON).expect("there is room");
    let request = server.try_next().expect("one is there");
    drop(responses);
    assert!(matches!(request.finish(), Err(Error::NotAnswered { why: Unanswered::GivenUp })));
    // Answered with the request's bytes kept: once, and whoever answers again is refused, and has its message.
    for answer in [Some(4), None] {
        let mut responses = client.stream(handler.message_of(3).expect("room"), SOON).expect("there is room");
        let mut request = server.try_next().expect("one is there");
        match answer {
            Some(answer) => request.respond_and_keep(handler.message_of(answer).expect("room")).expect("it is awaited"),
            None => request.finish_and_keep().expect("it is awaited"),
        }
        assert_eq!(*request, 3, "it is there still");
        assert_eq!(responses.next_timeout(SOON).expect("it is answered").as_deref().copied(), answer);
        drop(responses);
        let again = request.respond_and_keep(handler.message_of(5).expect("room")).expect_err("nobody waits");
        assert_eq!((again.why, *again.message), (Unanswered::GivenUp, 5));
        assert!(matches!(request.finish_and_keep(), Err(Error::NotAnswered { why: Unanswered::GivenUp })));
    }
    drop((client, server));
    service.remove().expect("it is ours");
    drop(service);
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

/// A stream goes to a thread that gets no number: it can't take a response there, loses none, and gives the call up.
#[test]
fn a_stream_in_a_thread_without_a_number_loses_nothing() {
    let handler = Options::new().memfd().size(1 << 20).participants(1).create().expect("a memory file");
    let service = handler.service::<u64, u64>("count").open_or_create().expect("there is room");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let mut responses = client.stream(handler.message_of(1).expect("room"), SOON).expect("there is room");
    let request = server.try_next().expect("one is there");
    request.send(handler.message_of(7).expect("room"), SOON).expect("it is awaited");
    let elsewhere = move || (responses.next_timeout(SOON).map(|_| ()), responses);
    let (refused, mut responses) = std::thread::scope(|scope| scope.spawn(elsewhere).join().expect("it ends"));
    assert!(matches!(refused, Err(Error::CallFailed { why: Failed::NoParticipant })), "{refused:?}");
    assert_eq!(responses.next_timeout(SOON).expect("it is there still").as_deref().copied(), Some(7));
    std::thread::scope(|scope| scope.spawn(move || drop(responses)).join().expect("it ends"));
    assert!(!request.is_awaited());
}
