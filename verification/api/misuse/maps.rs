//! Maps: what is refused, that the message comes back, and that nobody waits for who reads.

use crate::common;
use atomic_matrix::Error;
use atomic_matrix::ipc::Refused;
use atomic_matrix::segment::Options;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(10);

#[test]
fn maps_say_why_they_refuse() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    for (entries, guards) in [(0, 1), (1 << 18, 1), (1, 0), (1, 2000)] {
        let refused = handler.map::<u64>("numbers").capacity(entries).guards(guards).open_or_create();
        assert!(matches!(refused, Err(Error::BadOption { .. })));
    }
    let map = handler.map::<[u8]>("bytes").capacity(1).guards(2).open_or_create().expect("there is room");
    assert!(matches!(handler.map::<u64>("bytes").open_or_create(), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.board::<u64>("bytes"), Err(Error::TypeMismatch { .. })));
    let message = |bytes: &[u8]| handler.message_from(bytes).expect("there is room");
    assert_eq!((map.is_empty(), map.capacity(), map.handler().id()), (true, 2, handler.id()));

    let long = map.insert(&[0; 4097], message(&[1])).expect_err("too long");
    assert_eq!((long.why, &*long.message), (Refused::KeyTooLong, &[1u8][..]));
    assert!(map.insert(&[0; 4096], long.message).expect("it fits").is_none());
    assert!(map.get(&[0; 4097]).expect("a guard").is_none() && map.contains(&[0; 4096]).expect("a guard"));
    assert!(map.take(&[0; 5000]).expect("a slot").is_none());
    assert_eq!(map.insert_new(&[0; 4096], message(&[2])).expect_err("it is there").why, Refused::Exists);
    assert_eq!(map.replace(b"other", message(&[3])).expect_err("it is not there").why, Refused::Unknown);
    for number in 1..15u8 {
        map.insert_new(&[number], message(&[number])).expect("a bucket has fifteen places");
    }
    let full = map.insert(b"one more", message(&[7])).expect_err("full");
    assert_eq!((full.why, &*full.message), (Refused::Full, &[7u8][..]), "the message comes back");
    assert_eq!(map.insert(&[1], full.message).expect_err("a new value needs a place, too").why, Refused::Full);
    assert_eq!(map.take(&[1]).expect("a slot").as_deref(), Some(&[1u8][..]));

    let foreign = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let refused = map.insert(b"foreign", foreign.message_from(&[1u8]).expect("there is room"));
    assert_eq!(refused.expect_err("another segment's").why, Refused::NotOwn);
    let freed = message(&[9]);
    handler.free_at(freed.offset()).expect("it is live");
    assert_eq!(map.insert(b"freed", freed).expect_err("freed by its offset").why, Refused::NotOwn);

    map.remove().expect("it is ours");
    let closed = map.insert(b"late", message(&[1])).expect_err("removed");
    assert!(closed.why == Refused::Closed && Error::from(closed).to_string().contains("removed"));
    assert_eq!(map.len(), 14, "what is there may be read and taken still");
    drop(map);
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

#[test]
fn who_reads_a_map_keeps_nobody_waiting() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let map = handler.map::<u64>("numbers").guards(3).open_or_create().expect("there is room");
    let mut message = map.message(b"key").expect("there is room");
    *message = 1;
    assert!(map.insert(b"key", message).expect("room").is_none());
    let first = map.get(b"key").expect("a guard").expect("it is there");
    assert_eq!(map.insert_value(b"key", 2).expect("room"), Some(1));
    assert_eq!((map.get_value(b"key").expect("a guard"), first.value(), *first), (Some(2), 1, 1));
    let second = map.get(b"key").expect("a guard").expect("it is there");
    let third = map.get(b"key").expect("a guard").expect("it is there");
    assert!(matches!(map.get(b"key"), Err(Error::MapRefused { why: Refused::NoGuard })));
    assert!(matches!(map.keys(), Err(Error::MapRefused { why: Refused::NoGuard })));
    assert_eq!((map.get_value(b"key").expect("ours"), map.get_value(b"other").expect("ours")), (Some(2), None));
    assert!(map.contains(b"key").expect("ours") && !map.contains(b"other").expect("ours"));
    let refused = map.insert(b"key", handler.message_of(3).expect("room")).expect_err("no guard");
    assert_eq!((refused.why, *refused.message), (Refused::NoGuard, 3));
    drop((refused, first));
    let taken = map.take(b"key").expect("a slot").expect("it is there");
    assert_eq!(taken.value(), 2);
    let taken = taken.into_message(SOON).expect_err("two read it");
    drop((second, third));
    *taken.into_message(SOON).expect("nobody reads it") += 1;
    assert!(map.iter().expect("a guard").next().is_none() && map.keys().expect("a guard").is_empty());
    map.remove().expect("it is ours");
    drop(map);
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "nothing is left");
}

/// A map that has no memory for a copy says so.
#[test]
fn a_message_without_room_for_its_key_is_copied() {
    let (_scratch, handler) = common::segment();
    let map = handler.map::<[u8]>("bytes").open_or_create().expect("there is room");
    let whole = |message: &[u8], byte: u8| message.iter().all(|&found| found == byte);
    let mut message = handler.message_slice::<u8>(600_000).expect("there is room");
    message.fill(7);
    let refused = map.insert(&[1; 4000], message).expect_err("there is no room for a copy");
    assert!(refused.why == Refused::OutOfMemory && whole(&refused.message, 7));
    drop(refused);
    let mut message = map.message_slice(&[1; 4000], 600_000).expect("there is room");
    message.fill(8);
    let offset = message.offset();
    map.insert(&[1; 4000], message).expect("it is not copied");
    let found = map.get(&[1; 4000]).expect("a guard").expect("it is there");
    assert!(whole(&found, 8) && found.len() == 600_000);
    let mine = map.take(&[1; 4000]).expect("a slot").expect("it is there");
    drop(found);
    assert_eq!(mine.into_message(SOON).expect("nobody reads it").offset(), offset);
}
