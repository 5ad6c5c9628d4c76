//! Futures in tokio.

use crate::common::rest_is_one_block;
use crate::{LONG, memory};
use atomic_matrix::ipc::{Unreceived, Unsent};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("built");
    runtime.block_on(async { timeout(LONG * 2, future).await.expect("nothing is missed") })
}

/// Tasks that give up again and again take messages beside others that wait: each message comes once.
#[test]
fn q3_q5_futures_that_are_dropped_lose_nothing() {
    const MESSAGES: u64 = 5000;
    let handler = memory();
    let numbers = Arc::new(handler.channel::<u64>("numbers").capacity(4).create().expect("made"));
    let (count, sum) = run(async {
        let sender = numbers.sender().expect("a sender");
        let takers: Vec<_> = (0..6)
            .map(|k| {
                let receiver = numbers.receiver().expect("a receiver");
                tokio::spawn(async move {
                    let (mut count, mut sum) = (0, 0);
                    loop {
                        // Two of three give up before long.
                        let patience = if k % 3 == 0 { LONG } else { Duration::from_micros(20 * k) };
                        match timeout(patience, receiver.recv_async()).await {
                            Ok(Ok(number)) => {
                                sum += *number;
                                count += 1;
                            }
                            Ok(Err(why)) => {
                                assert_eq!(why, Unreceived::Disconnected { died: false });
                                return (count, sum);
                            }
                            Err(_) => tokio::task::yield_now().await,
                        }
                    }
                })
            })
            .collect();
        for k in 0..MESSAGES {
            let message = sender.handler().message_of(k).expect("room");
            // A sender that gives up keeps its message.
            let mut sending = sender.send_async(message);
            match timeout(Duration::from_micros(50), &mut sending).await {
                Ok(sent) => sent.expect("somebody receives"),
                Err(_) => {
                    if let Some(message) = sending.into_message() {
                        sender.send_async(message).await.expect("somebody receives");
                    }
                }
            }
            if k % 64 == 0 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
        drop(sender);
        let mut all = (0, 0);
        for taker in takers {
            let (count, sum) = taker.await.expect("it ends");
            all = (all.0 + count, all.1 + sum);
        }
        all
    });
    assert_eq!((count, sum), (MESSAGES, MESSAGES * (MESSAGES - 1) / 2));
    numbers.remove().expect("ours");
    drop(numbers);
    rest_is_one_block(&handler);
}

#[test]
fn q5_subscribers_boards_events_and_semaphores_are_awaited() {
    let handler = memory();
    let topic = handler.topic::<str>("news").open_or_create().expect("made");
    let mut subscriber = topic.subscribe(0).expect("a place");
    let board = handler.board::<u32>("limit").expect("made");
    let (event, semaphore) = (handler.event("event").expect("made"), handler.semaphore("desks", 0).expect("made"));
    run(async {
        let waits = async {
            let news = subscriber.next_async().await.expect("whole");
            assert_eq!(&*news, "new");
            drop(news);
            let mut seen = 0;
            assert_eq!(board.changed_async(&mut seen).await.expect("whole"), 3);
            event.wait_and_clear_async().await.expect("no fork");
            assert!(!event.is_set().expect("no fork"));
            semaphore.take_async().await.expect("no fork");
            event.wait_async().await.expect("no fork");
            assert!(subscriber.next_async().await.is_err(), "the topic is removed");
        };
        let puts = async {
            let pause = || tokio::time::sleep(Duration::from_millis(5));
            pause().await;
            topic.try_publish(handler.message_text("new").expect("room")).expect("room");
            pause().await;
            board.set(3).expect("room");
            pause().await;
            event.set().expect("no fork");
            pause().await;
            semaphore.give(1).expect("no fork");
            pause().await;
            event.set().expect("no fork");
            pause().await;
            topic.remove().expect("ours");
        };
        tokio::join!(waits, puts);
    });
}

#[test]
fn q6_who_awaits_is_told_of_the_end() {
    let handler = memory();
    let numbers = handler.channel::<u64>("numbers").capacity(1).create().expect("made");
    let (sender, receiver) = (numbers.sender().expect("a sender"), numbers.receiver().expect("a receiver"));
    run(async {
        let closes = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            numbers.close();
        };
        let (got, ()) = tokio::join!(receiver.recv_async(), closes);
        assert_eq!(got.err(), Some(Unreceived::Closed));
        let message = handler.message_of(1).expect("room");
        assert_eq!(sender.send_async(message).await.expect_err("closed").why, Unsent::Closed);
    });
    // A second segment, whose receiver leaves while a sender awaits room.
    let other = memory();
    let numbers = other.channel::<u64>("numbers").capacity(1).create().expect("made");
    let (sender, receiver) = (numbers.sender().expect("a sender"), numbers.receiver().expect("a receiver"));
    sender.send_value(1).expect("room");
    run(async {
        let leaves = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(receiver);
        };
        let (sent, ()) = tokio::join!(sender.send_async(other.message_of(2).expect("room")), leaves);
        assert_eq!(sent.expect_err("nobody receives").why, Unsent::Disconnected { died: false });
    });
}

/// The helper thread keeps no segment mapped.
#[test]
fn c1_the_helper_thread_keeps_no_segment() {
    let handler = memory();
    let event = handler.event("event").expect("made");
    run(async { timeout(Duration::from_millis(1), event.wait_async()).await.expect_err("nobody sets it") });
    let mapping = std::sync::Arc::downgrade(handler.matrix());
    drop((event, handler));
    let end = std::time::Instant::now() + LONG;
    while mapping.strong_count() > 0 {
        assert!(std::time::Instant::now() < end, "the helper keeps the segment");
        std::thread::yield_now();
    }
}
