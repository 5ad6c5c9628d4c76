//! Services, lossy topics, back-pressure and locks: awaited in tokio, and selected.

use crate::common::rest_is_one_block;
use crate::{LONG, memory};
use atomic_matrix::Error;
use atomic_matrix::ipc::{Select, Unreceived, Unsent};
use rustix::event::{PollFd, PollFlags, poll};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const SHORT: Duration = Duration::from_millis(5);

/// All tasks in this thread.
fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("built");
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(async { timeout(LONG, future).await.expect("nothing is missed") }))
}

#[test]
fn q5_q6_requests_and_responses_are_awaited() {
    let handler = memory();
    let service = handler.service::<u64, u64>("count").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let answers = async {
        // Each request is answered by as many numbers; the last call by nobody.
        for _ in 0..3 {
            let request = server.next_async().await.expect("a client is there");
            for k in 0..*request {
                sleep(SHORT).await;
                request.send(handler.message_of(k).expect("room"), LONG).expect("it is awaited");
            }
            match *request {
                9 => drop(request),
                _ => request.finish().expect("it is awaited"),
            }
        }
        assert_eq!(server.next_async().await.err(), Some(Unreceived::Disconnected { died: false }));
    };
    let asks = async {
        for most in [3, 0, 9_u64] {
            let mut responses =
                client.stream(handler.message_of(most).expect("room"), LONG).expect("there is a server");
            // Given up before anything has come, and awaited again: nothing is lost.
            let soon = timeout(Duration::from_micros(1), responses.next_async()).await;
            assert!(soon.is_err() || most == 0, "nobody has answered yet");
            for k in 0..most {
                let response = responses.next_async().await.expect("it is answered").expect("there are more");
                assert_eq!(*response, k);
            }
            match (most, responses.next_async().await) {
                (9, Err(Error::CallFailed { .. })) | (0 | 3, Ok(None)) => {}
                (_, other) => panic!("{other:?} behind the last of {most}"),
            }
        }
        drop(client);
    };
    run(async { tokio::join!(answers, asks) });
    service.remove().expect("ours");
    drop((server, service));
    rest_is_one_block(&handler);
}

#[test]
fn q5_t1_publications_wait_for_room_and_copies_for_publications() {
    let handler = memory();
    let topic = handler.topic::<u64>("ticks").cells(2).open_or_create().expect("made");
    let (mut slow, mut lossy) = (topic.subscribe(0).expect("a place"), topic.subscribe_lossy(0).expect("no fork"));
    run(async {
        let publishes = async {
            for tick in 0..8_u64 {
                let mut publishing = topic.publish_async(handler.message_of(tick).expect("room"));
                if tick == 2 {
                    // Full: whoever gives up keeps the message.
                    assert!(timeout(SHORT, &mut publishing).await.is_err(), "there is no room");
                    let message = publishing.into_message().expect("it was not published");
                    assert_eq!(topic.try_publish(message).expect_err("full").why, Unsent::Full);
                    publishing = topic.publish_async(handler.message_of(tick).expect("room"));
                }
                publishing.await.expect("open");
            }
        };
        let reads = async {
            sleep(4 * SHORT).await;
            for tick in 0..8_u64 {
                sleep(SHORT).await;
                assert_eq!(*slow.next_async().await.expect("whole"), tick);
            }
        };
        let copies = async {
            let mut next = 0;
            while next < 8 {
                match lossy.next_async().await {
                    Ok(tick) => {
                        assert_eq!(tick, next, "T1");
                        next += 1;
                    }
                    Err(Error::Lagged { missed }) => next += missed,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::join!(publishes, reads, copies);
        let (end, removed) = tokio::join!(lossy.next_async(), async {
            sleep(SHORT).await;
            topic.remove()
        });
        removed.expect("ours");
        assert!(matches!(end, Err(Error::TopicClosed)), "{end:?}");
        let late = handler.message_of(9).expect("room");
        assert_eq!(topic.publish_async(late).await.expect_err("removed").why, Unsent::Closed);
    });
}

/// Tasks of one thread, and of others, add to a value that they read before an `await`.
#[test]
fn q5_a_lock_is_awaited_by_tasks_of_one_thread_and_of_several() {
    const EACH: u64 = 25;
    let handler = memory();
    let adds = |handler: atomic_matrix::handlers::Handler| {
        let sum = handler.mutex::<u64>("sum").expect("made");
        async move {
            for _ in 0..EACH {
                let mut locked = sum.lock_async().await.expect("no fork");
                let before = *locked;
                tokio::task::yield_now().await;
                *locked = before + 1;
            }
        }
    };
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let handler = handler.clone();
            std::thread::spawn(move || run(async { tokio::join!(adds(handler.clone()), adds(handler)) }))
        })
        .collect();
    threads.into_iter().for_each(|thread| _ = thread.join().expect("it ends"));
    let sum = handler.mutex::<u64>("sum").expect("made");
    run(async {
        let first = sum.lock_async().await.expect("free");
        assert_eq!(*first, 4 * EACH);
        // Given up: the lock goes to nobody who is gone.
        assert!(timeout(SHORT, sum.lock_async()).await.is_err(), "this thread has it");
        drop(first);
        assert_eq!(*sum.lock_async().await.expect("free"), 4 * EACH);
    });
}

#[derive(Debug, PartialEq)]
enum Got {
    Request(u64),
    Response(Option<u64>),
    Tick(u64),
    Missed(u64),
    Over,
}

#[test]
fn q5_services_and_lossy_topics_are_selected() {
    let handler = memory();
    let service = handler.service::<u64, u64>("count").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let topic = handler.topic::<u64>("ticks").cells(2).open_or_create().expect("made");
    let mut lossy = topic.subscribe_lossy(0).expect("no fork");
    let stop = handler.event("stop").expect("made");
    let pause = || assert!(!stop.wait(Duration::from_millis(10)).expect("no fork"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut select = Select::new()
                .request(&server, |request| match request {
                    Ok(request) => {
                        let asked = *request;
                        (0..asked).for_each(|k| {
                            request.send(handler.message_of(k).expect("room"), LONG).expect("it is awaited");
                        });
                        request.finish().expect("it is awaited");
                        Got::Request(asked)
                    }
                    Err(why) => {
                        assert_eq!(why, Unreceived::Disconnected { died: false });
                        Got::Over
                    }
                })
                .next_copy(&mut lossy, |tick| match tick {
                    Ok(tick) => Got::Tick(tick),
                    Err(Error::Lagged { missed }) => Got::Missed(missed),
                    Err(error) => panic!("{error}"),
                });
            assert_eq!(select.try_now(), None);
            for expected in [Got::Tick(1), Got::Request(2), Got::Over] {
                assert_eq!(select.wait(LONG), Some(expected));
            }
            stop.set().expect("no fork");
        });
        pause();
        topic.publish_value(1).expect("room");
        pause();
        let mut responses = client.stream(handler.message_of(2).expect("room"), LONG).expect("there is a server");
        let mut select =
            Select::new().response(&mut responses, |got| Got::Response(got.expect("it is answered").map(|n| *n)));
        for expected in [Some(0), Some(1), None, None] {
            assert_eq!(select.wait(LONG), Some(Got::Response(expected)));
        }
        drop(select);
        drop(responses);
        drop(client);
        assert!(stop.wait(LONG).expect("no fork"), "the server is told that its client has left");
    });
    // Too slow for it.
    (0..7).for_each(|tick| topic.publish_value(tick).expect("room"));
    let mut select = Select::new().next_copy(&mut lossy, |tick| match tick {
        Ok(tick) => Got::Tick(tick),
        Err(Error::Lagged { missed }) => Got::Missed(missed),
        Err(error) => panic!("{error}"),
    });
    let Some(Got::Missed(missed)) = select.try_now() else { panic!("T1: it was too slow") };
    assert!((5..7).contains(&missed), "T1: {missed} of 7, with room for 2");
    for tick in missed..7 {
        assert_eq!(select.try_now(), Some(Got::Tick(tick)));
    }
    assert_eq!(select.try_now(), None);
}

#[test]
fn q5_q6_descriptors_say_when_requests_and_responses_may_be_there() {
    let handler = memory();
    let service = handler.service::<u64, u64>("double").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let (mut requests, mut responses) = (server.readable().expect("made"), client.readable().expect("made"));
    let long = LONG.try_into().expect("short");
    for k in 0..20 {
        // As epoll is used: arm, try, wait.
        requests.arm().expect("no fork");
        assert_eq!(server.try_next().err(), Some(Unreceived::Empty));
        responses.arm().expect("no fork");
        let mut stream = client.stream(handler.message_of(k).expect("room"), LONG).expect("there is a server");
        assert_eq!(poll(&mut [PollFd::new(&requests, PollFlags::IN)], Some(&long)), Ok(1));
        let request = server.try_next().expect("it was sent");
        let answer = handler.message_of(2 * *request).expect("room");
        request.respond(answer).expect("it is awaited");
        assert_eq!(poll(&mut [PollFd::new(&responses, PollFlags::IN)], Some(&long)), Ok(1));
        let response = stream.next_timeout(Duration::ZERO).expect("it is answered").expect("it is there");
        assert_eq!(*response, 2 * k);
    }
    drop((requests, responses));
    service.remove().expect("ours");
    drop((client, server, service));
    rest_is_one_block(&handler);
}
