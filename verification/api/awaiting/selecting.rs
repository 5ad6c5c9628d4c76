//! `Select`, and `Readable`.

use crate::common::rest_is_one_block;
use crate::{LONG, memory};
use atomic_matrix::ipc::{Readable, Select, Unreceived};
use rustix::event::{PollFd, PollFlags, poll};
use std::time::{Duration, Instant};

#[derive(Debug, PartialEq)]
enum Got {
    Number(u64),
    Gone(bool),
    News(String),
    Limit(u32),
    Permit,
    Stop,
}

#[test]
fn q5_each_source_wakes_who_waits_for_several() {
    let handler = memory();
    let numbers = handler.channel::<u64>("numbers").create().expect("made");
    let (sender, receiver) = (numbers.sender().expect("a sender"), numbers.receiver().expect("a receiver"));
    let topic = handler.topic::<str>("news").open_or_create().expect("made");
    let mut subscriber = topic.subscribe(0).expect("a place");
    let (board, mut seen) = (handler.board::<u32>("limit").expect("made"), 0);
    let semaphore = handler.semaphore("permits", 0).expect("made");
    let (event, stop) = (handler.event("event").expect("made"), handler.event("stop").expect("made"));
    let mut select = Select::new()
        .recv(&receiver, |got| match got {
            Ok(number) => Got::Number(*number),
            Err(Unreceived::Disconnected { died }) => Got::Gone(died),
            Err(why) => panic!("{why}"),
        })
        .next(&mut subscriber, |news| Got::News(news.expect("whole").to_owned()))
        .changed(&board, &mut seen, |limit| Got::Limit(limit.expect("whole")))
        .take(&semaphore, |taken| taken.map(|()| Got::Permit).expect("no fork"))
        .set_and_clear(&event, |set| set.map(|()| Got::Stop).expect("no fork"));
    assert_eq!(select.try_now(), None);
    let begun = Instant::now();
    assert_eq!(select.wait(Duration::from_millis(60)), None);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pause = || assert!(!stop.wait(Duration::from_millis(10)).expect("no fork"));
            sender.send_value(7).expect("room");
            pause();
            topic.try_publish(handler.message_text("new").expect("room")).expect("room");
            pause();
            board.set(3).expect("room");
            pause();
            semaphore.give(1).expect("no fork");
            pause();
            event.set().expect("no fork");
            pause();
            drop(sender);
        });
        let expected = [
            Got::Number(7),
            Got::News("new".into()),
            Got::Limit(3),
            Got::Permit,
            Got::Stop,
            Got::Gone(false),
            Got::Gone(false),
        ];
        for expected in expected {
            assert_eq!(select.wait(LONG), Some(expected));
        }
    });
}

/// Of many that are there none starves, and each is taken once.
#[test]
fn q5_sources_take_turns_and_what_is_not_taken_stays() {
    let handler = memory();
    let channels = ["a", "b", "c"].map(|name| handler.channel::<u64>(name).capacity(1024).create().expect("made"));
    let senders = channels.each_ref().map(|channel| channel.sender().expect("a sender"));
    let receivers = channels.each_ref().map(|channel| channel.receiver().expect("a receiver"));
    for (at, sender) in senders.iter().enumerate() {
        (0..300).for_each(|k| sender.send_value(at as u64 * 1000 + k).expect("room"));
    }
    let taken = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut select = receivers
                        .iter()
                        .fold(Select::new(), |select, receiver| select.recv(receiver, |got| got.ok().map(|n| *n)));
                    std::iter::from_fn(|| select.wait(Duration::from_millis(1)).flatten()).collect::<Vec<_>>()
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().expect("it ends")).collect::<Vec<_>>()
    });
    let first: Vec<_> = taken.iter().flat_map(|taken| taken.iter().take(2)).map(|n| n / 1000).collect();
    assert!(taken.iter().all(|taken| taken.is_empty()) || first.windows(2).any(|two| two[0] != two[1]), "{first:?}");
    let mut all = taken.concat();
    all.sort_unstable();
    assert!(all.iter().copied().eq((0..3).flat_map(|at| (0..300).map(move |k| at * 1000 + k))));
    assert_eq!(
        (Select::<()>::new().wait(LONG), Select::<()>::new().wait_until(None)),
        (None, None),
        "nothing to wait for"
    );
    assert!(Select::<()>::new().try_now().is_none());
    drop((senders, receivers));
    channels.iter().for_each(|channel| channel.remove().expect("ours"));
    drop(channels);
    rest_is_one_block(&handler);
}

fn is_readable(readable: &Readable<'_>, timeout: Duration) -> bool {
    let timeout = timeout.try_into().expect("short");
    poll(&mut [PollFd::new(readable, PollFlags::IN)], Some(&timeout)).expect("no signal") == 1
}

#[test]
fn q5_a_descriptor_says_when_something_may_be_there() {
    let handler = memory();
    let numbers = handler.channel::<u64>("numbers").capacity(1).create().expect("made");
    let (sender, receiver) = (numbers.sender().expect("a sender"), numbers.receiver().expect("a receiver"));
    let (mut messages, mut room) = (receiver.readable().expect("made"), sender.readable().expect("made"));
    for k in 0..50 {
        // As epoll is used: arm, try, wait.
        messages.arm().expect("no fork");
        assert_eq!(receiver.try_recv().err(), Some(Unreceived::Empty));
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send_value(k).expect("room"));
            let number = loop {
                assert!(is_readable(&messages, LONG));
                messages.arm().expect("no fork");
                if let Ok(number) = receiver.try_recv() {
                    break *number;
                }
            };
            assert_eq!(number, k);
        });
    }
    sender.send_value(0).expect("room");
    room.arm().expect("no fork");
    drop(receiver.try_recv().expect("it was sent"));
    assert!(is_readable(&room, LONG) && is_readable(&messages, LONG));
    let event = handler.event("event").expect("made");
    let set = event.readable().expect("made");
    event.set().expect("no fork");
    assert!(is_readable(&set, LONG));
    let (topic, board) = (handler.topic::<u64>("topic").open_or_create(), handler.board::<u64>("board"));
    let (topic, board) = (topic.expect("made"), board.expect("made"));
    let semaphore = handler.semaphore("permits", 0).expect("made");
    let others = [topic.readable(), board.readable(), semaphore.readable()].map(|made| made.expect("made"));
    topic.publish_value(1).expect("room");
    board.set(1).expect("room");
    semaphore.give(1).expect("no fork");
    assert!(others.iter().all(|other| is_readable(other, LONG)));
    drop(others);
    topic.remove().and(board.remove()).and(semaphore.remove()).expect("ours");
    drop((topic, board, semaphore));
    messages.arm().expect("no fork");
    numbers.close();
    assert!(is_readable(&messages, LONG));
    assert_eq!(receiver.try_recv().err(), Some(Unreceived::Closed));
    drop((messages, room, set));
    event.remove().expect("ours");
    drop((sender, receiver, event));
    numbers.remove().expect("ours");
    drop(numbers);
    rest_is_one_block(&handler);
}
