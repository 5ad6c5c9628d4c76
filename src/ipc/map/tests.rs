use super::*;
use crate::ipc::structure::Role;
use crate::ipc::testing::{LONG, SOON, handler, nothing_is_left, other};
use crate::ipc::waiting_tests::looks_after_the_dead;
use std::collections::HashMap;

/// Random calls, each answered as a HashMap answers it.
#[test]
fn m1_a_map_is_a_map() {
    let handler = handler();
    let map = handler.map::<[u8]>("bytes").capacity(40).open_or_create().expect("made");
    let mut model = HashMap::new();
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for step in 0..20_000_u32 {
        let number = random(50);
        // Keys of 0 to 49 bytes, and some that share their first bytes.
        let key = vec![number as u8 % 3; number as usize];
        let value = vec![step as u8; random(300) as usize];
        let message = || match step % 2 {
            0 => handler.message_from(&value).expect("room"),
            _ => {
                let mut message = map.message_slice(&key, value.len()).expect("room");
                message.copy_from_slice(&value);
                message
            }
        };
        match random(5) {
            0 => {
                let old = map.insert(&key, message()).expect("room");
                assert_eq!(old.as_deref().map(<[u8]>::to_vec), model.insert(key, value));
            }
            1 => {
                let put = map.insert_new(&key, message()).map_err(|refused| refused.why);
                assert_eq!(put, if model.contains_key(&key) { Err(Refused::Exists) } else { Ok(()) });
                model.entry(key).or_insert(value);
            }
            2 => match map.replace(&key, message()) {
                Ok(old) => assert_eq!(old.as_deref().map(<[u8]>::to_vec), model.insert(key, value)),
                Err(refused) => {
                    assert_eq!((refused.why, refused.message.to_vec()), (Refused::Unknown, value));
                    assert!(!model.contains_key(&key));
                }
            },
            3 => assert_eq!(map.take(&key).expect("a slot").as_deref().map(<[u8]>::to_vec), model.remove(&key)),
            _ => {
                assert_eq!(map.contains(&key).expect("ours"), model.contains_key(&key));
                assert_eq!(map.get(&key).expect("a slot").as_deref(), model.get(&key).map(|value| &value[..]));
            }
        }
        if step % 512 == 0 {
            assert_eq!(map.len(), model.len());
            let all = map.iter().expect("a slot").map(|entry| entry.expect("a guard"));
            let all: HashMap<Vec<u8>, Vec<u8>> = all.map(|(key, value)| (key, value.to_vec())).collect();
            assert_eq!(all, model, "M2");
        }
    }
    map.remove().expect("ours");
    drop(map);
    nothing_is_left(&handler);
}

/// As many entries as it was made for find a place, whatever their keys.
#[test]
fn m1_a_map_takes_as_many_as_it_was_made_for() {
    let handler = crate::segment::Options::new().memfd().size(32 << 20).create().expect("created");
    for capacity in [1, 2, 15, 100, 4096, 20_000] {
        let map = handler.map::<u32>("numbers").capacity(capacity).open_or_create().expect("made");
        assert!(map.capacity() >= capacity && map.is_empty());
        for number in 0..capacity as u32 {
            assert_eq!(map.insert_value(&number.to_le_bytes(), number).expect("room"), None);
        }
        assert_eq!(map.len(), capacity);
        let mut refused = None;
        for number in capacity as u32.. {
            let mut message = map.message(&number.to_le_bytes()).expect("room");
            *message = number;
            if let Err(error) = map.insert(&number.to_le_bytes(), message) {
                refused = Some((error.why, *error.message == number));
                break;
            }
        }
        assert_eq!(refused, Some((Refused::Full, true)), "it is bounded, and the message comes back");
        map.remove().expect("ours");
        drop(map);
        nothing_is_left(&handler);
    }
}

/// Who reads keeps nobody from replacing or taking it, and nobody changes what it reads.
#[test]
fn m1_what_is_read_stays_as_it_is() {
    let handler = handler();
    let map = handler.map::<[u64]>("numbers").open_or_create().expect("made");
    let put = |number| map.insert(b"key", handler.message_from(&[number; 40]).expect("room")).expect("room");
    assert!(put(1).is_none());
    let first = map.get(b"key").expect("a guard").expect("it is there");
    let old = put(2).expect("there was one");
    assert_eq!((first[39], old[0]), (1, 1));
    let old = old.into_message(SOON).expect_err("it is being read");
    let second = map.get(b"key").expect("a guard").expect("it is there");
    assert_eq!(second[39], 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(SOON);
            drop(first);
        });
        let mut mine = old.into_message(LONG).expect("nobody reads it any more");
        mine[0] = 9;
        assert_eq!(mine[39], 1);
    });
    let taken = map.take(b"key").expect("a slot").expect("it is there");
    assert!(map.take(b"key").expect("a slot").is_none() && map.get(b"key").expect("a guard").is_none());
    drop(taken);
    assert_eq!(second[0], 2, "the last to read it frees it");
    drop(second);
    map.remove().expect("ours");
    drop(map);
    nothing_is_left(&handler);
}

/// Whoever is killed with guards, and with what it has taken out: survivors read on, and nothing is left.
#[test]
fn m1_q3_the_dead_leave_nothing() {
    let made = handler();
    let map = made.map::<u64>("numbers").guards(6).open_or_create().expect("made");
    map.insert_value(b"one", 1).expect("room");
    map.insert_value(b"two", 2).expect("room");
    let mine = map.get(b"one").expect("a guard").expect("it is there");
    let dying = std::mem::ManuallyDrop::new(other(&made));
    let theirs = dying.map::<u64>("numbers").open_or_create().expect("it is there");
    let theirs = std::mem::ManuallyDrop::new(theirs);
    let (one, two) = (theirs.take(b"one").expect("a slot"), theirs.get(b"two").expect("a guard"));
    map.take(b"two").expect("a slot").expect("it is there").into_message(SOON).expect_err("they read it");
    // SAFETY: no handle of it is used or dropped from here on.
    unsafe { dying.matrix().segment().end_life() };
    std::mem::forget((one, two));
    made.reap().expect("a slot");
    assert_eq!(*mine, 1, "what a living one reads stays, whoever had it");
    drop(mine);
    let guards: Vec<_> = (0..6)
        .map(|_| {
            map.insert_value(b"three", 3).expect("a guard");
            map.get(b"three")
        })
        .take_while(|got| got.is_ok())
        .take(5)
        .collect();
    assert_eq!(guards.len(), 5, "the guards of the dead are free again");
    drop(guards);
    map.remove().expect("ours");
    drop(map);
    nothing_is_left(&made);
}

#[test]
fn m1_many_threads_count_in_one_map() {
    const EACH: u64 = 3000;
    let made = handler();
    let map = made.map::<u64>("counts").open_or_create().expect("made");
    // Whoever takes a count out has it alone, and puts it back.
    for key in 0..3_u8 {
        map.insert_value(&[key], 0).expect("room");
    }
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let handler = if thread == 0 { other(&made) } else { made.clone() };
            scope.spawn(move || {
                let map = handler.map::<u64>("counts").open_or_create().expect("it is there");
                for k in 0..EACH {
                    let key = [(k % 3) as u8];
                    let count = loop {
                        match map.take(&key).expect("a slot") {
                            Some(count) => break count,
                            None => std::thread::yield_now(),
                        }
                    };
                    let mut count = count.into_message(LONG).expect("nobody reads for long");
                    *count += 1;
                    map.insert_new(&key, count).expect("it is mine alone");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..EACH {
                let sum: u64 = (0..3_u8).filter_map(|key| map.get_value(&[key]).expect("a guard")).sum();
                assert!(sum <= 3 * EACH);
            }
        });
    });
    let sum: u64 = (0..3_u8).map(|key| map.get_value(&[key]).expect("a guard").expect("it is there")).sum();
    assert_eq!(sum, 3 * EACH);
}

/// Who waits for a value's last reader looks after those who die meanwhile.
#[test]
fn l1_who_waits_for_a_reader_looks_after_the_dead() {
    let made = handler();
    let map = made.map::<u64>("map").open_or_create().expect("made");
    map.insert_value(b"key", 1).expect("room");
    let read = map.get(b"key").expect("a guard").expect("it is there");
    let displaced = map.take(b"key").expect("a guard").expect("it is there");
    let own = || assert_eq!(displaced.into_message(LONG).map(|own| *own).ok(), Some(1));
    looks_after_the_dead(&made, "reader's end", (&map.attached, Role::Sender), own, || drop(read));
}

/// The only guard is a dead one's: it is had back, and given back.
#[test]
fn m1_a_dead_ones_guard_is_had_again() {
    let made = handler();
    let map = made.map::<u64>("map").guards(1).open_or_create().expect("made");
    map.insert_value(b"key", 1).expect("room");
    for key in [b"key", b"not"] {
        let dying = std::mem::ManuallyDrop::new(other(&made));
        let theirs = std::mem::ManuallyDrop::new(dying.map::<u64>("map").open_or_create().expect("it is there"));
        std::mem::forget(theirs.get(b"key").expect("a guard").expect("it is there"));
        assert!(map.get(key).is_err(), "it is held");
        // SAFETY: no handle of it is used or dropped from here on.
        unsafe { dying.matrix().segment().end_life() };
        let found = map.get(key).expect("it is nobody's any more");
        assert_eq!(found.as_deref(), (key == b"key").then_some(&1));
        let refused = map.get(b"key").map(|entry| entry.is_some());
        match found {
            Some(_) => assert!(matches!(refused, Err(Error::MapRefused { why: Refused::NoGuard }))),
            None => assert!(refused.is_ok_and(|there| there)),
        }
        drop(found);
        assert!(map.contains(b"key").expect("a guard") && !map.contains(b"not").expect("a guard"));
    }
}

/// A value that was made with room for its key stays where it lies.
#[test]
fn m1_a_value_with_room_for_its_key_is_not_copied() {
    let made = handler();
    let map = made.map::<[u64; 5]>("map").open_or_create().expect("made");
    for length in 0..=80 {
        let key = vec![7; length];
        let mut message = map.message(&key).expect("room");
        *message = [length as u64; 5];
        let lies = message.as_ptr();
        drop(map.insert(&key, message).expect("room"));
        let found = map.get(&key).expect("a guard").expect("it is there");
        assert_eq!((*found, found.as_ptr()), ([length as u64; 5], lies));
    }
}

/// Values that are replaced all the time: each copy is one of them, and the key is there throughout.
#[test]
fn m1_copies_are_whole() {
    const EACH: u64 = 20_000;
    let made = handler();
    let map = made.map::<[u64; 9]>("values").open_or_create().expect("made");
    for key in 0..2_u8 {
        map.insert_value(&[key], [0; 9]).expect("room");
    }
    std::thread::scope(|scope| {
        for writer in 0..2_u8 {
            let handler = if writer == 0 { other(&made) } else { made.clone() };
            scope.spawn(move || {
                let map = handler.map::<[u64; 9]>("values").open_or_create().expect("it is there");
                for k in 1..=EACH {
                    map.insert_value(&[writer], [k; 9]).expect("room");
                }
            });
        }
        scope.spawn(|| {
            let mut seen = [0; 2];
            while seen != [EACH; 2] {
                for key in 0..2_u8 {
                    let value = map.get_value(&[key]).expect("ours").expect("it is there throughout");
                    let last = &mut seen[usize::from(key)];
                    assert!(value == [value[0]; 9] && value[0] >= *last, "{value:?} behind {last}");
                    *last = value[0];
                }
            }
        });
    });
}
