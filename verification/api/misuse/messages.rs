//! Messages, references, builders, iteration, liveness: what is refused, and that nothing is lost over it.

use crate::common;
use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::ipc::liveness::ParticipantId;
use atomic_matrix::ipc::message::{Message, Ref};
use atomic_matrix::ipc::payload::Framed;
use atomic_matrix::ipc::text::Builder;
use atomic_matrix::segment::{Named, Options};

fn segment() -> Handler {
    Options::new().memfd().size(1 << 20).create().expect("a memory file of a megabyte")
}

/// Everything was freed.
fn is_empty(handler: &Handler) {
    let stats = handler.stats().expect("blocks tile the sector");
    assert_eq!(stats.live_blocks, 0, "{stats:?}");
}

#[test]
fn messages_that_do_not_fit_are_refused() {
    let handler = segment();
    let too_large = |result: Result<(), Error>| assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    too_large(handler.message_slice::<u64>(usize::MAX).map(drop));
    too_large(handler.message_slice::<u8>(usize::MAX - 15).map(drop));
    too_large(handler.message_framed::<u64, u128>(usize::MAX / 16).map(drop));
    too_large(handler.message_slice::<u8>(1 << 20).map(drop));
    let _most = handler.message_slice::<u8>(750 << 10).expect("there is room");
    let full = |result: Result<(), Error>| assert!(matches!(result, Err(Error::OutOfMemory { .. })), "{result:?}");
    full(handler.message::<[u8; 200 << 10]>().map(drop));
    full(handler.message_slice::<u8>(200 << 10).map(drop));
    full(handler.message_framed::<u64, u8>(200 << 10).map(drop));
    full(handler.message_from(&vec![0; 200 << 10]).map(drop));
    full(handler.message_text(&" ".repeat(200 << 10)).map(drop));
    full(handler.message_of([0; 200 << 10]).map(drop));
}

#[test]
fn a_message_goes_by_reference() {
    let (scratch, handler) = common::segment();
    let other = scratch.attach();
    let mut items = handler.message_slice::<u32>(100).expect("there is room");
    for (at, item) in items.iter_mut().enumerate() {
        *item = at as u32;
    }
    items.truncate(1000);
    items.truncate(10);
    assert_eq!(items.handler().id(), handler.id());
    let offset = items.offset();
    let bits = items.into_ref().expect("it is mine").to_bits();
    let items = other.take_ref(Ref::<[u32]>::from_bits(bits)).expect("it is unowned");
    assert_eq!((items.offset(), &*items), (offset, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..]));
    drop(items);
    is_empty(&handler);

    let mut image = handler.message_framed::<[u16; 3], u64>(2).expect("there is room");
    image.header = [1, 2, 3];
    image.items.copy_from_slice(&[4, 5]);
    let reference = image.into_ref().expect("it is mine");
    let image: Message<'_, Framed<[u16; 3], u64>> = other.take_ref(reference).expect("it is unowned");
    assert_eq!((image.header, &image.items), ([1, 2, 3], &[4, 5][..]));
    drop(image);

    let block = handler.message_of(7u64).expect("there is room").into_block();
    assert_eq!(handler.load(&block).ok(), Some(7));
    handler.free(block);
    is_empty(&handler);
}

#[test]
fn a_reference_is_taken_once() {
    let handler = segment();
    let reference = handler.message_of([7u64; 4]).expect("there is room").into_ref().expect("it is mine");
    let taken: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| handler.take_ref(reference))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let refused = taken.iter().filter(|one| matches!(one, Err(Error::Owned { .. }))).count();
    assert_eq!((refused, taken.iter().filter(|one| one.is_ok()).count()), (3, 1), "{taken:?}");
    assert_eq!(handler.read_ref(reference).ok(), Some([7; 4]), "whoever has it, it may be copied");
    drop(taken);
    is_empty(&handler);
}

#[test]
fn what_a_reference_leads_to_is_checked() {
    let handler = segment();
    let number = handler.message_of(7u64).expect("there is room").into_ref().expect("it is mine");
    let as_another = Ref::<[u64; 1]>::from_bits(number.to_bits());
    assert!(matches!(handler.take_ref(as_another), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.read_ref(as_another), Err(Error::TypeMismatch { .. })));
    handler.free_ref(number).expect("it is live");
    let gone = |result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::NotLive { .. } | Error::Stale { .. })), "{result:?}");
    };
    gone(handler.take_ref(number).map(drop));
    gone(handler.read_ref(number).map(drop));
    gone(handler.free_ref(number));
    let again = handler.message_of(8u64).expect("there is room");
    assert_eq!(again.offset(), number.offset(), "the same place");
    gone(handler.take_ref(number).map(drop));
    gone(handler.read_ref(number).map(drop));
    gone(handler.free_ref(number));

    let text = handler.message_text("Grüße").expect("there is room").into_ref().expect("it is mine");
    assert_eq!(handler.read_text(text).ok().as_deref(), Some("Grüße"));
    // A liar: half of a letter, then a length that leads behind the block.
    let raw = handler.adopt_at(text.offset(), None).expect("it is unowned");
    handler.hand_over(&raw).expect("it is mine");
    let mut bytes = [0; 24];
    handler.load_bytes(&raw, &mut bytes).expect("it is live");
    bytes[0] = 3;
    handler.store_bytes(&raw, &bytes).expect("it is live");
    assert!(matches!(handler.take_ref(text), Err(Error::NotText { .. })));
    assert!(matches!(handler.read_text(text), Err(Error::NotText { .. })));
    handler.free_ref(text).expect("the block stays");
    gone(handler.read_text(text).map(drop));
    let items = handler.message_from(&[1u8, 2, 3]).expect("there is room").into_ref().expect("it is mine");
    let raw = handler.adopt_at(items.offset(), None).expect("it is unowned");
    handler.hand_over(&raw).expect("it is mine");
    for length in [u64::MAX, 1 << 20, 49] {
        handler.store_bytes(&raw, &length.to_le_bytes()).expect("it is live");
        assert!(matches!(handler.take_ref(items), Err(Error::TooSmall { .. })), "{length}");
        assert!(matches!(handler.read_slice(items), Err(Error::TooSmall { .. })), "{length}");
    }
    handler.free_ref(items).expect("it is live");
    gone(handler.read_slice(items).map(drop));
}

/// A message gives `&mut T`: no reference to its block lets another have the block, or free it, as long as
/// the message is held.
#[test]
fn a_held_message_is_not_freed_by_a_reference() {
    let handler = segment();
    let mut held = handler.message_of([7u64; 100]).expect("there is room");
    let reference = handler.refs::<[u64; 100]>().expect("they tile")[0];
    assert_eq!(reference.offset(), held.offset());
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Owned { .. })), "{result:?}");
    refused(handler.free_ref(reference));
    refused(handler.take_ref(reference).map(drop));
    std::thread::scope(|scope| scope.spawn(|| refused(handler.free_ref(reference))).join()).expect("no panic");
    let others = handler.message_of([8u64; 100]).expect("there is room");
    held.fill(9);
    assert_eq!(*others, [8; 100], "nobody got the block");
    let reference = held.into_ref().expect("it is mine");
    handler.free_ref(reference).expect("it is unowned");
    drop(others);
    is_empty(&handler);
}

#[test]
fn an_unbound_message_is_bound_once() {
    let (scratch, handler) = common::segment();
    let (again, other) = (scratch.attach(), segment());
    let kept = handler.message_text("kept").expect("there is room").unbind();
    let position = kept.pointer();
    let message = std::thread::scope(|scope| scope.spawn(|| kept.bind(&again)).join()).expect("no panic");
    let message = message.expect("it is live");
    assert_eq!((&*message, message.offset()), ("kept", position.offset()));
    assert!(matches!(message.unbind().bind(&other), Err(Error::ForeignBlock { .. })));
    let bound = handler.message_of(7u64).expect("there is room").unbind();
    handler.free_at(bound.pointer().offset()).expect("it is live");
    assert!(matches!(bound.bind(&handler), Err(Error::NotLive { .. })));
    let given = handler.message_of(8u64).expect("there is room").unbind();
    let at = given.pointer();
    handler.hand_over(&at).expect("it is mine");
    assert!(matches!(given.bind(&handler), Err(Error::Owned { participant: 0, .. })));
    // What was refused stays: an unbound message frees nothing.
    [position, at].iter().for_each(|left| handler.free_at(left.offset()).expect("it is live"));
    is_empty(&handler);
}

#[test]
fn a_published_message_is_taken_once() {
    let handler = segment();
    assert!(matches!(handler.take_message::<[u8]>("bytes"), Err(Error::NameUnknown { .. })));
    handler.message_from(b"bytes").expect("there is room").publish("bytes").expect("it is new");
    assert!(matches!(handler.take_message::<[u16]>("bytes"), Err(Error::TypeMismatch { .. })));
    assert_eq!(&*handler.take_message::<[u8]>("bytes").expect("it is there still"), b"bytes");
    assert!(matches!(handler.take_message::<[u8]>("bytes"), Err(Error::NameUnknown { .. })));
    is_empty(&handler);
}

#[test]
fn any_number_is_a_reference_that_is_refused() {
    let (handler, other) = (segment(), segment());
    let mine = handler.message_of(7u64).expect("there is room").into_ref().expect("it is mine");
    assert!(
        matches!(other.take_ref(mine), Err(Error::ForeignBlock { .. }))
            || handler.creation().get() >> 52 == other.creation().get() >> 52
    );
    assert_eq!(Ref::<u64>::from_bits(mine.to_bits()), mine);
    let mut state = 1u64;
    for _ in 0..10_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Half of them with the segment's own bits.
        let bits = if state & 1 == 0 { state } else { state >> 12 | mine.to_bits() >> 52 << 52 };
        let reference = Ref::<u64>::from_bits(bits);
        if (reference.offset(), reference.generation()) == (mine.offset(), mine.generation()) {
            continue;
        }
        let refused = handler.take_ref(reference).map(drop);
        let known = matches!(
            refused,
            Err(Error::ForeignBlock { .. } | Error::BadOffset { .. } | Error::NotLive { .. } | Error::Stale { .. })
        );
        assert!(known, "{refused:?}");
    }
    handler.free_ref(mine).expect("it is live");
    is_empty(&handler);
}

#[test]
fn values_are_iterated_beside_frees() {
    let handler = segment();
    let kept: Vec<_> = (0..50u64).map(|n| handler.message_of(n).expect("there is room")).collect();
    let _another = handler.message_of(7i64).expect("there is room");
    std::thread::scope(|scope| {
        let going = scope.spawn(|| {
            for n in 1000..3000u64 {
                drop(handler.message_of(n).expect("there is room"));
            }
        });
        for _ in 0..50 {
            let seen: Vec<u64> =
                handler.iter::<u64>().expect("they tile").map(|(_, n)| n).filter(|&n| n < 50).collect();
            assert_eq!(seen.len(), 50, "what is there throughout is seen once: {seen:?}");
        }
        going.join().expect("no panic");
    });
    let references = handler.refs::<u64>().expect("they tile");
    assert_eq!(references.len(), 50);
    drop(kept);
    assert!(references.iter().all(|&reference| handler.read_ref(reference).is_err()));
}

#[test]
fn a_builder_that_finds_no_room_keeps_what_it_has() {
    let handler = segment();
    let mut line = Builder::new(&handler);
    for n in 0..1000u32 {
        line.push(n).expect("there is room");
    }
    line.reserve(10_000).expect("there is room");
    let full = line.reserve(400 << 10);
    assert!(matches!(full, Err(Error::OutOfMemory { .. } | Error::TooLarge { .. })), "{full:?}");
    let hog = handler.message_slice::<u8>(750 << 10).expect("there is room");
    let full = line.extend_from_slice(&vec![0; 50 << 10]);
    assert!(matches!(full, Err(Error::OutOfMemory { .. })), "{full:?}");
    drop(hog);
    let items = line.freeze().expect("nothing is allocated");
    assert!(items.len() == 1000 && items[999] == 999);
    assert_eq!(Builder::<u8>::new(&handler).freeze().expect("there is room").len(), 0);

    let mut half = Builder::new(&handler);
    half.extend_from_slice(&"ü".as_bytes()[..1]).expect("there is room");
    assert!(matches!(half.freeze_text(), Err(Error::NotText { .. })));
}

#[test]
fn who_is_alive_is_told() {
    let (scratch, handler) = common::segment();
    let me = handler.join().expect("there are slots");
    assert_eq!(handler.join().ok(), Some(me), "a thread is one participant");
    assert!(handler.is_alive(me) && handler.is_alive(ParticipantId::from_bits(me.to_bits())));
    let another = std::thread::scope(|scope| scope.spawn(|| handler.join().expect("there are slots")).join());
    assert_ne!(another.expect("no panic"), me);
    let other = scratch.attach();
    let theirs = other.join().expect("there are slots");
    assert!(theirs != me && handler.is_alive(theirs) && other.is_alive(me));
    drop(other);
    assert!(!handler.is_alive(theirs), "it has left");
    for bits in [0, u64::MAX, 1 << 16, me.to_bits() + (1 << 16), me.to_bits() ^ 1 << 40] {
        assert!(!handler.is_alive(ParticipantId::from_bits(bits)), "{bits:x}");
    }
}

#[test]
fn a_name_that_is_gone_or_replaced_is_told() {
    assert_eq!(segment().still_named().ok(), Some(Named::Never));
    let (scratch, handler) = common::segment();
    assert_eq!(handler.still_named().ok(), Some(Named::Still));
    let another = scratch.attach();
    another.unlink().expect("it is there");
    assert_eq!(handler.still_named().ok(), Some(Named::Removed));
    let _new = scratch.options().size(1 << 20).create().expect("the name is free");
    assert_eq!(handler.still_named().ok(), Some(Named::Replaced));
}

#[test]
fn the_last_one_out_removes_the_name() {
    let (scratch, handler) = common::segment();
    let other = scratch.attach();
    handler.join().expect("there are slots");
    other.join().expect("there are slots");
    assert_eq!(handler.unlink_if_alone().ok(), Some(false));
    drop(other);
    assert_eq!(handler.unlink_if_alone().ok(), Some(true));
    assert_eq!(handler.still_named().ok(), Some(Named::Removed));
}

#[test]
fn a_name_is_replaced_if_there_is_an_entry() {
    let handler = segment();
    let first = handler.message_text("first").expect("there is room").publish("motd").expect("the name is free");
    let raw = handler.allocate_raw(100).expect("there is room");
    assert!(matches!(handler.publish_raw("motd", &raw), Err(Error::NameTaken { .. })));
    let refused = handler.message_of(7u64).expect("there is room").publish("motd");
    assert!(matches!(refused, Err(Error::NameTaken { .. })));
    assert_eq!(handler.stats().expect("they tile").live_blocks, 2, "the message is freed");

    let old = handler.message_text("second").expect("there is room").replace("motd").expect("it can be replaced");
    assert_eq!(old.map(|old| (old.offset(), old.generation())), Some((first.offset(), first.generation())));
    assert_eq!(handler.read_text(handler.lookup_ref("motd").expect("it is published")).ok().as_deref(), Some("second"));
    assert!(matches!(handler.lookup_ref::<[u8]>("motd"), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.lookup_ref::<[u8]>("other"), Err(Error::NameUnknown { .. })));
    handler.free_ref(first).expect("it is unowned, and I was told of it");
    let second = handler.replace_raw("motd", &raw).expect("it can be replaced").expect("there was one");
    handler.free_raw(second).expect("as above");
    let block = handler.allocate::<u64>().expect("there is room");
    assert_eq!(handler.replace("motd", &block).ok().flatten(), Some(raw));
    assert_eq!(handler.replace("new", &block).ok(), Some(None), "a name that nobody published");
    assert_eq!(handler.names().len(), 2);

    let mut taken = 0;
    while handler.publish(&format!("{taken}"), &block).is_ok() {
        taken += 1;
    }
    let full = handler.replace("motd", &block);
    assert!(matches!(full, Err(Error::DirectoryFull { .. })), "{full:?}");
    assert!(matches!(handler.replace_raw("motd", &raw), Err(Error::DirectoryFull { .. })));
    let refused = handler.message_of(7u64).expect("there is room").replace("motd");
    assert!(matches!(refused, Err(Error::DirectoryFull { .. })));
    assert_eq!(handler.lookup::<u64>("motd").expect("it is published").pointer(), block.pointer());
}
