//! Topics and boards: what is refused, that nothing is lost or torn, and that the dead hold nobody up.

use crate::common;
use atomic_matrix::Error;
use atomic_matrix::ipc::Unsent;
use atomic_matrix::segment::Options;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn every_subscriber_sees_every_publication() {
    const VALUES: u64 = 20_000;
    let (scratch, handler) = common::segment();
    let other = scratch.attach();
    let topic = handler.topic::<u64>("numbers").cells(16).subscribers(3).open_or_create().expect("there is room");
    let theirs = other.topic::<u64>("numbers").open_or_create().expect("it is there");
    std::thread::scope(|scope| {
        for topic in [&topic, &theirs, &theirs] {
            let mut subscriber = topic.subscribe(0).expect("there are places");
            scope.spawn(move || {
                let mut last = [0; 2];
                for _ in 0..2 * VALUES {
                    let value = *subscriber.next_timeout(LONG).expect("it is open").expect("one comes");
                    let (publisher, number) = (value as usize >> 32, value & u64::from(u32::MAX));
                    assert_eq!(number, last[publisher] + 1, "T1: of each publisher, one after the other");
                    last[publisher] = number;
                }
                assert!(subscriber.try_next().expect("it is open").is_none());
            });
        }
        for (publisher, topic) in [&topic, &theirs].into_iter().enumerate() {
            scope.spawn(move || {
                for number in 1..=VALUES {
                    let message = topic.handler().message_of((publisher as u64) << 32 | number).expect("there is room");
                    topic.publish_timeout(message, LONG).map_err(|refused| refused.why).expect("the readers go on");
                }
            });
        }
    });
    assert_eq!(topic.published(), 2 * VALUES);
    topic.remove().expect("it is ours");
    drop((topic, theirs));
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

#[test]
fn topics_say_why_they_refuse() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let topic = handler.topic::<[u8]>("bytes").cells(2).subscribers(1).open_or_create().expect("there is room");
    assert!(matches!(handler.topic::<u64>("bytes").open_or_create(), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.board::<u64>("bytes"), Err(Error::TypeMismatch { .. })));
    let publish = |bytes: &[u8]| topic.try_publish(handler.message_from(bytes).expect("room")).map_err(|no| no.why);
    assert_eq!([publish(&[1]), publish(&[2]), publish(&[3])], [Ok(()); 3], "nobody reads: the oldest goes");
    let mut subscriber = topic.subscribe(9).expect("there is a place");
    assert!(matches!(topic.subscribe(0), Err(Error::NoSubscriberSlot { subscribers: 1 })));
    assert_eq!(publish(&[4]), Ok(()), "one of history is all that two cells keep for a newcomer");
    assert_eq!(publish(&[5]), Err(Unsent::Full));
    let late = handler.message_from(&[6u8]).expect("there is room");
    let refused = topic.publish_timeout(late, Duration::from_millis(5)).expect_err("nobody reads");
    assert_eq!((refused.why, &*refused.message), (Unsent::Timeout, &[6u8][..]), "the message comes back");
    drop(refused);
    assert_eq!(subscriber.try_next().expect("it is open").as_deref(), Some(&[3u8][..]));
    assert_eq!(subscriber.next_timeout(LONG).expect("it is open").as_deref(), Some(&[4u8][..]));
    assert!(subscriber.try_next().expect("it is open").is_none());
    let foreign = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let message = foreign.message_from(&[1u8]).expect("there is room");
    assert_eq!(topic.try_publish(message).map_err(|no| no.why), Err(Unsent::NotOwn));

    let numbers = handler.topic::<u64>("numbers").open_or_create().expect("there is room");
    numbers.publish_value(7).expect("there is room");
    numbers.remove().expect("it is ours");
    assert!(matches!(numbers.publish_value(8), Err(Error::NotSent { why: Unsent::Closed })));
    topic.remove().expect("it is ours");
    assert!(matches!(subscriber.try_next(), Err(Error::TopicClosed)));
    assert!(matches!(subscriber.next_timeout(LONG), Err(Error::TopicClosed)));
    drop((numbers, topic, subscriber));
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

#[test]
fn samples_stay_as_they_are_until_they_are_passed() {
    let (scratch, handler) = common::segment();
    let topic = handler.topic::<u64>("numbers").cells(4).open_or_create().expect("there is room");
    let samples = topic.subscribe(0).expect("there is a place").into_samples();
    let publish = |value| match topic.publish_value(value) {
        Ok(()) => true,
        Err(Error::NotSent { why: Unsent::Full }) => false,
        Err(other) => panic!("{other}"),
    };
    assert!((0..4).all(publish) && !publish(4), "four cells");
    let next = || samples.try_next().expect("it is open");
    let mut held: Vec<_> = (0..4).map(|_| next().expect("it was published")).collect();
    assert!(next().is_none() && !publish(4), "the first is held");
    assert_eq!(held.iter().map(|sample| **sample).collect::<Vec<_>>(), [0, 1, 2, 3]);
    drop(held.remove(1));
    assert!(!publish(4), "the second was passed, but the first was not");
    drop(held.remove(0));
    assert!(publish(4) && publish(5) && !publish(6), "two were passed");
    assert_eq!(held.iter().map(|sample| **sample).collect::<Vec<_>>(), [2, 3], "those held are as they were");
    let fifth = samples.next_timeout(LONG).expect("it is open").expect("it was published");
    assert_eq!(held.iter().chain([&fifth]).map(|sample| sample.number()).collect::<Vec<_>>(), [2, 3, 4]);
    drop(samples);
    assert!(!publish(6), "its samples keep the subscriber");
    held.push(fifth);
    assert_eq!(format!("{:?}", held[2]), "Sample(4)");
    drop(held);
    assert!(publish(6) && publish(7) && publish(8), "nobody reads any more");
    let samples = topic.subscribe(1).expect("its place is free").into_samples();
    assert!(samples.next_timeout(LONG).expect("it is open").is_some_and(|sample| (*sample, sample.number()) == (8, 8)));
    assert!(samples.next_timeout(Duration::from_millis(1)).expect("it is open").is_none());
    topic.remove().expect("it is ours");
    assert!(matches!(samples.try_next(), Err(Error::TopicClosed)));
    drop((topic, samples, scratch));
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

#[test]
fn a_dead_subscriber_holds_nobody_up() {
    let (scratch, handler) = common::segment();
    let topic = handler.topic::<u64>("numbers").cells(2).open_or_create().expect("there is room");
    let other = scratch.attach();
    let theirs = other.topic::<u64>("numbers").open_or_create().expect("it is there");
    std::mem::forget(theirs.subscribe(0).expect("there is a place"));
    std::mem::forget(theirs);
    for number in 0..2 {
        topic.publish_value(number).expect("there is room");
    }
    assert!(matches!(topic.publish_value(2), Err(Error::NotSent { why: Unsent::Full })), "it is alive");
    // SAFETY: nothing is done through this attachment any more.
    unsafe { other.matrix().segment().end_life() };
    std::mem::forget(other);
    let message = handler.message_of(2u64).expect("there is room");
    topic.publish_timeout(message, LONG).map_err(|no| no.why).expect("a nap later its place is given up");
}

#[test]
fn a_board_shows_whole_values_that_only_get_newer() {
    const VALUES: u64 = 20_000;
    let (scratch, handler) = common::segment();
    let other = scratch.attach();
    let board = handler.board::<[u64; 32]>("state").expect("there is room");
    assert!(board.get().expect("it is empty").is_none());
    assert!(board.changed(&mut 0, Duration::from_millis(1)).expect("it is empty").is_none());
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=VALUES).for_each(|value| board.set([value; 32]).expect("there is room")));
        for handler in [&handler, &other] {
            scope.spawn(move || {
                let board = handler.board::<[u64; 32]>("state").expect("it is there");
                let (mut seen, mut last) = (0, 0);
                while last < VALUES {
                    let value = board.changed(&mut seen, LONG).expect("it is a board").expect("one comes");
                    assert!(value.iter().all(|&word| word == value[0]), "B1: torn: {value:?}");
                    assert!(value[0] > last, "B1: {} after {last}", value[0]);
                    last = value[0];
                }
            });
        }
    });
    board.set_message(handler.message_of([1; 32]).expect("there is room")).expect("it is a board");
    assert_eq!(board.get().expect("it is a board"), Some([1; 32]));
    board.remove().expect("it is ours");
    assert!(matches!(board.set([2; 32]), Err(Error::NotSent { why: Unsent::Closed })));
    drop(board);
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

#[test]
fn a_board_of_items_shows_them_whole() {
    const VALUES: usize = 5_000;
    let (scratch, handler) = common::segment();
    let other = scratch.attach();
    let board = handler.board::<[u64]>("route").expect("there is room");
    assert!(board.get_items().expect("it is empty").is_none());
    assert!(board.changed_items(&mut 0, Duration::from_millis(1)).expect("it is empty").is_none());
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::TypeMismatch { .. })), "{result:?}");
    refused(handler.board::<[u32]>("route").map(drop));
    refused(handler.board::<u64>("route").map(drop));
    let set = |board: &atomic_matrix::ipc::Board<[u64]>, items: usize| {
        let message = handler.message_from(&vec![items as u64; items]).expect("there is room");
        board.set_message(message).expect("it is a board");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=VALUES).for_each(|value| set(&board, 1 + value % 300)));
        scope.spawn(|| {
            let board = other.board::<[u64]>("route").expect("it is there");
            let mut seen = 0;
            while seen < VALUES as u64 {
                let items = board.changed_items(&mut seen, LONG).expect("it is a board").expect("one comes");
                assert!(items.iter().all(|&item| item as usize == items.len()), "B1: torn: {items:?}");
            }
        });
    });
    set(&board, 0);
    assert_eq!(board.get_items().expect("it is a board"), Some(vec![]));
    board.remove().expect("it is ours");
    drop(board);
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

/// Who subscribes with loss holds nobody up, and is told exactly what it missed, beside one that loses nothing.
#[test]
fn t1_a_lossy_subscriber_is_told_what_it_missed() {
    const VALUES: u64 = 30_000;
    let (_scratch, handler) = common::segment();
    let topic = handler.topic::<u64>("numbers").cells(8).subscribers(1).open_or_create().expect("there is room");
    (0..20).for_each(|number| topic.publish_value(number).expect("nobody is waited for"));
    let mut late = topic.subscribe_lossy(100).expect("it needs no place");
    let history: Vec<u64> = std::iter::from_fn(|| late.try_next().expect("it is open")).collect();
    assert_eq!(history, (13..20).collect::<Vec<_>>(), "as many as there are cells, but one");
    let stopped = topic.subscribe_lossy(0).expect("it needs no place");
    let mut exact = topic.subscribe(0).expect("there is a place");
    let lossy = topic.subscribe_lossy(0).expect("it needs no place");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 20..VALUES {
                let message = handler.message_of(number).expect("there is room");
                topic.publish_timeout(message, LONG).map_err(|refused| refused.why).expect("the reader goes on");
            }
        });
        scope.spawn(move || {
            for number in 20..VALUES {
                assert_eq!(*exact.next_timeout(LONG).expect("it is open").expect("one comes"), number, "T1");
            }
        });
        scope.spawn(move || {
            let (mut lossy, mut next) = (lossy, 20);
            while next < VALUES {
                match lossy.next_timeout(LONG) {
                    Ok(number) => assert_eq!(number, Some(next), "T1: in order"),
                    Err(Error::Lagged { missed }) => {
                        next += missed;
                        continue;
                    }
                    Err(other) => panic!("{other}"),
                }
                next += 1;
            }
            assert_eq!(next, VALUES, "T1: neither more nor fewer");
        });
    });
    let mut stopped = stopped;
    let missed = match stopped.try_next() {
        Err(Error::Lagged { missed }) => missed,
        other => panic!("it has missed nearly all: {other:?}"),
    };
    assert_eq!(stopped.try_next().expect("it is open"), Some(20 + missed));
    topic.remove().expect("ours");
    let end = std::iter::from_fn(|| Some(stopped.try_next())).find_map(Result::err);
    assert!(matches!(end, Some(Error::TopicClosed)), "{end:?}");
}

#[test]
fn b1_slices_are_copied_whole_beside_those_who_overwrite_them() {
    let (_scratch, handler) = common::segment();
    let topic = handler.topic::<[u8]>("bytes").cells(2).open_or_create().expect("there is room");
    let mut lossy = topic.subscribe_lossy(0).expect("it needs no place");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..5000_usize {
                let message = handler.message_from(&vec![number as u8; number % 300]).expect("there is room");
                topic.try_publish(message).map_err(|refused| refused.why).expect("nobody is waited for");
            }
        });
        while !writer.is_finished() {
            if let Ok(Some(bytes)) = lossy.try_next() {
                assert!(bytes.windows(2).all(|two| two[0] == two[1]), "B1: torn: {bytes:?}");
            }
        }
    });
}
