//! Structures without a name: what leads to one, what is refused, and how long it stays. And names that lead to
//! nothing.
#![allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]

use crate::common::{refused, segment};
use atomic_matrix::ipc::{
    Board, Channel, Common, Event, Map, Mutex, Ref, Service, Single, Structural, Topic, Unreceived,
};
use atomic_matrix::segment::Options;
use atomic_matrix::{Error, Handler};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

atomic_matrix::shared! {
    /// A question, and where its answer is awaited.
    struct Question { number: u64, answer: Ref<Channel<u64>> }
}

fn nothing_is_live(handler: &Handler) {
    assert_eq!(handler.verify().expect("sound").live_blocks, 0);
}

/// A part in one structure makes no other of it, nor one of another type, whoever asks.
#[test]
fn a_part_in_one_structure_is_none_in_another() {
    let (_scratch, handler) = segment();
    let mutex = handler.unnamed_mutex::<[u64; 4]>().expect("there is room");
    let event = handler.unnamed_event().expect("there is room");
    refused!(handler, Common::<[u64; 4]>::over(mutex.part()).map(drop), Error::TypeMismatch { .. });
    refused!(handler, Mutex::<[i64; 4]>::over(mutex.part()).map(drop), Error::TypeMismatch { .. });
    refused!(handler, Map::<u64>::over(event.part()).map(drop), Error::TypeMismatch { .. });
    assert!(Mutex::<[u64; 4]>::over(mutex.part()).is_ok());
}

/// What leads to it goes in a message, and the other side opens it.
#[test]
fn a_structure_without_a_name_is_opened_by_what_leads_to_it() {
    let (scratch, handler) = segment();
    let other = scratch.attach();
    let questions = handler.channel::<Question>("questions").create().expect("there is room");
    let asked = other.channel::<Question>("questions").open().expect("it is there").receiver().expect("room");
    let answers = handler.unnamed_channel::<u64>().capacity(1).create().expect("there is room");
    let answer = answers.receiver().expect("room");
    let question = Question { number: 6, answer: Ref::to(&answers) };
    questions.sender().expect("room").send_value(question).expect("there is room");
    drop(answers); // the receiver keeps it
    let question = *asked.try_recv().expect("it is there");
    let theirs = other.open_ref(question.answer).expect("somebody has it open");
    theirs.sender().expect("room").send_value(question.number * 7).expect("there is room");
    assert_eq!(*answer.recv_timeout(LONG).expect("it was sent"), 42);
    assert_eq!(theirs.capacity(), 1);
    assert_eq!(handler.names().len(), 1);
    drop(answer);
    let late = Ref::to(&theirs);
    let last = handler.open_ref(late).expect("the other has it open");
    drop((theirs, last));
    assert!(matches!(handler.open_ref(late), Err(Error::NotLive { .. } | Error::Stale { .. })));
    questions.remove().expect("it is ours");
    drop((questions, asked));
    nothing_is_live(&handler);
}

/// Every structure may have no name, and one that has a name is led to as well.
#[test]
fn every_structure_is_opened_by_reference() {
    let (scratch, handler) = segment();
    let other = scratch.attach();
    let single = handler.unnamed_channel::<u64>().single().open_or_create().expect("there is room");
    let there = other.open_ref::<Channel<u64, Single>>(Ref::to(&single)).expect("it is there");
    let receiver = there.receiver().expect("there is none yet");
    single.sender().expect("there is none yet").send_value(1).expect("there is room");
    assert_eq!(receiver.try_recv().map(|one| *one), Ok(1));
    let jobs = handler.unnamed_channel::<u64>().redeliver(4).create().expect("there is room");
    assert_eq!(other.open_ref(Ref::to(&jobs)).expect("it is there").unacknowledged(), (0, 0));
    let topic = handler.unnamed_topic::<[u8]>().cells(4).open_or_create().expect("there is room");
    let mut subscriber =
        other.open_ref::<Topic<[u8]>>(Ref::to(&topic)).expect("it is there").subscribe(0).expect("a place");
    topic.try_publish(handler.message_from(b"news").expect("there is room")).expect("there is room");
    assert_eq!(subscriber.try_next().expect("it is open").as_deref(), Some(&b"news"[..]));
    let board = handler.unnamed_board::<u64>().expect("there is room");
    board.set(2).expect("there is room");
    assert_eq!(other.open_ref::<Board<u64>>(Ref::to(&board)).expect("it is there").get().expect("it is set"), Some(2));
    let map = handler.unnamed_map::<u64>().capacity(4).open_or_create().expect("there is room");
    other.open_ref::<Map<u64>>(Ref::to(&map)).expect("it is there").insert_value(b"key", 3).expect("there is room");
    assert_eq!(map.get_value(b"key").expect("no fork"), Some(3));
    let service = handler.unnamed_service::<u64, u64>().open_or_create().expect("there is room");
    let theirs = other.open_ref::<Service<u64, u64>>(Ref::to(&service)).expect("it is there");
    assert_eq!(theirs.server().expect("room").try_next().err(), Some(Unreceived::Empty));
    let event = handler.unnamed_event().expect("there is room");
    other.open_ref::<Event>(Ref::to(&event)).expect("it is there").set().expect("no fork");
    assert!(event.is_set().expect("no fork"));
    let semaphore = handler.unnamed_semaphore(1).expect("there is room");
    assert!(other.open_ref(Ref::to(&semaphore)).expect("it is there").try_take().expect("no fork"));
    let barrier = handler.unnamed_barrier(1).expect("there is room");
    assert_eq!(other.open_ref(Ref::to(&barrier)).expect("it is there").meet(LONG).expect("no fork"), Some(true));
    let mutex = handler.unnamed_mutex::<u64>().expect("there is room");
    *other.open_ref::<Mutex<u64>>(Ref::to(&mutex)).expect("it is there").try_lock().expect("no fork").expect("free") =
        4;
    assert_eq!(mutex.try_lock().expect("no fork").map(|value| *value), Some(4));
    let counter = handler.unnamed_common::<AtomicU64>(|counter| *counter = AtomicU64::new(5)).expect("there is room");
    let theirs = other.open_ref(Ref::to(&counter)).expect("it is there");
    assert_eq!(theirs.get().expect("no fork").fetch_add(1, Relaxed), 5);
    assert!(handler.names().is_empty());
    let named = handler.board::<u64>("board").expect("there is room");
    let leads = Ref::to(&named);
    drop(named);
    other.open_ref(leads).expect("it has a name, and so it stays").remove().expect("no fork");
    assert!(matches!(other.open_ref(leads), Err(Error::NotLive { .. } | Error::Stale { .. })));
}

#[test]
fn what_does_not_lead_to_a_structure_is_refused() {
    let (_scratch, h) = segment();
    let elsewhere = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let channel = h.unnamed_channel::<u64>().create().expect("there is room");
    let leads = Ref::to(&channel);
    let as_another = |bits| Ref::<Channel<i64>>::from_bits(bits);
    refused!(h, h.open_ref(as_another(leads.to_bits())).map(|_| ()), Error::TypeMismatch { .. });
    refused!(h, h.open_ref(Ref::<Topic<u64>>::from_bits(leads.to_bits())).map(|_| ()), Error::TypeMismatch { .. });
    refused!(h, h.take_ref(Ref::<u64>::from_bits(leads.to_bits())).map(drop), Error::TypeMismatch { .. });
    let value = h.message_of(7u64).expect("there is room").into_ref().expect("a slot");
    refused!(h, h.open_ref(as_another(value.to_bits())).map(|_| ()), Error::TypeMismatch { .. });
    let message = h.open_ref(as_another(value.to_bits())).map(|_| ()).expect_err("it is a number").to_string();
    assert!(message.contains("no structure") && !message.contains("name"), "{message}");
    h.free_ref(value).expect("it is nobody's");
    refused!(h, h.open_ref(as_another(value.to_bits())).map(|_| ()), Error::NotLive { .. } | Error::Stale { .. });
    refused!(h, h.open_ref(as_another(u64::MAX)).map(|_| ()), Error::ForeignBlock { .. } | Error::BadOffset { .. });
    let foreign = elsewhere.unnamed_channel::<u64>().create().expect("there is room");
    if elsewhere.creation().get() % 4096 != h.creation().get() % 4096 {
        refused!(h, h.open_ref(Ref::to(&foreign)).map(|_| ()), Error::ForeignBlock { .. });
    }
    refused!(h, h.unnamed_channel::<u64>().open().map(|_| ()), Error::BadOption { .. });
    refused!(h, h.unnamed_channel::<u64>().capacity(0).create().map(|_| ()), Error::BadOption { .. });
    refused!(h, h.unnamed_map::<u64>().capacity(0).open_or_create().map(|_| ()), Error::BadOption { .. });
    let full = h.unnamed_topic::<u64>().cells(1 << 20).open_or_create().map(|_| ());
    assert!(matches!(full, Err(Error::OutOfMemory { .. } | Error::TooLarge { .. })), "{full:?}");
    refused!(h, h.unnamed_mutex::<[u64; (1 << 20) + 1]>().map(|_| ()), Error::TooLarge { .. });
}

/// Whoever had it open is dead: nobody can come to it any more, and its recovery frees it with what is in it.
#[test]
fn a_structure_without_a_name_goes_with_the_dead() {
    let (scratch, handler) = segment();
    let other = scratch.attach();
    let theirs = other.unnamed_channel::<u64>().create().expect("there is room");
    theirs.sender().expect("room").send_value(1).expect("there is room");
    let (leads, ours) = (Ref::to(&theirs), handler.open_ref(Ref::to(&theirs)).expect("it is there"));
    std::mem::forget(theirs);
    // SAFETY: nothing is done through this attachment any more.
    unsafe { other.matrix().segment().end_life() };
    std::mem::forget(other);
    handler.reap().expect("a slot");
    assert_eq!((ours.len(), ours.ends()), (1, (0, 0)), "it is ours as well");
    // What the last one leaves is freed by itself, and by the recovery of one that had no time for that.
    drop(ours);
    assert!(matches!(handler.open_ref(leads), Err(Error::NotLive { .. } | Error::Stale { .. })));
    nothing_is_live(&handler);
    let last = scratch.attach();
    let alone = last.unnamed_channel::<u64>().create().expect("there is room");
    alone.sender().expect("room").send_value(1).expect("there is room");
    let leads = Ref::to(&alone);
    std::mem::forget(alone);
    // SAFETY: as above.
    unsafe { last.matrix().segment().end_life() };
    std::mem::forget(last);
    handler.reap().expect("a slot");
    assert!(matches!(handler.open_ref(leads), Err(Error::NotLive { .. } | Error::Stale { .. })));
    nothing_is_live(&handler);
}

/// Opening makes nothing.
#[test]
fn what_is_not_there_is_not_opened() {
    let (scratch, h) = segment();
    let other = scratch.attach();
    refused!(h, h.topic::<u64>("news").open().map(|_| ()), Error::NameUnknown { .. });
    refused!(h, h.map::<u64>("news").open().map(|_| ()), Error::NameUnknown { .. });
    refused!(h, h.service::<u64, u64>("news").open().map(|_| ()), Error::NameUnknown { .. });
    refused!(h, h.unnamed_topic::<u64>().open().map(|_| ()), Error::BadOption { .. });
    let news = other.topic::<u64>("news").cells(2).open_or_create().expect("there is room");
    let users = other.map::<u64>("users").open_or_create().expect("there is room");
    let twice = other.service::<u64, u64>("twice").open_or_create().expect("there is room");
    refused!(h, h.topic::<i64>("news").open().map(|_| ()), Error::TypeMismatch { .. });
    refused!(h, h.map::<u64>("news").open().map(|_| ()), Error::TypeMismatch { .. });
    refused!(h, h.service::<u64, u64>("news").open().map(|_| ()), Error::TypeMismatch { .. });
    assert_eq!(h.map::<u64>("users").open().expect("it is there").capacity(), users.capacity());
    drop(h.service::<u64, u64>("twice").open().expect("it is there").client().expect("room"));
    let mut subscriber = h.topic::<u64>("news").open().expect("it is there").subscribe(0).expect("a place");
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut read = vec![];
            let ended = loop {
                match subscriber.await_next() {
                    Ok(one) => read.push(*one),
                    Err(error) => break error,
                }
            };
            (read, ended)
        });
        (0..5).for_each(|k| news.publish_value_timeout(k, LONG).expect("it is read"));
        news.remove().expect("no fork");
        let (read, ended) = reads.join().expect("no panic");
        assert!(read == [0, 1, 2, 3, 4] && matches!(ended, Error::TopicClosed), "{read:?} {ended}");
    });
    users.remove().and(twice.remove()).expect("no fork");
}
