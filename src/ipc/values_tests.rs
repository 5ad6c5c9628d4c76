//! What handles say and do that no other test looks at: values, references, names that are just being made, and what
//! tools are told of structures.

use super::channel::attached::Attached;
use super::link::{Cell, Link};
use super::message::write_length;
use super::ring::Ring;
use super::structure::{HEAD, Role, STRUCTURE, Shape, Sort, Structure, TAIL};
use super::testing::{LONG, SOON, handler, nothing_is_left, other};
use super::{Builder, Message, ParticipantId, StructureInfo};
use crate::backend::Word;
use crate::backend::orderings::{CELL_LOOK, STRUCTURE_WRITE, TICKET_TELL};
use crate::error::Error;
use crate::handlers::Handler;
use crate::segment::Options;
use crate::segment::directory::{Directory, NamedBlock};
use crate::shared::{Shared, mix};
use std::fmt::Write as _;
use std::io::Write as _;

#[test]
fn a_builder_is_written_and_changed_in_place() {
    let made = handler();
    let mut text = Builder::<u8>::new(&made);
    assert!(text.iter_mut().next().is_none());
    text.write_str("12-three").expect("room");
    text.write_all(b" and more").expect("room");
    text[0] = b'7';
    assert_eq!(&*text.freeze_text().expect("it is text"), "72-three and more");
}

#[test]
fn s5_a_reference_is_its_blocks_alone() {
    let made = handler();
    let [one, two] = [1_u64, 2].map(|value| made.message_of(value).and_then(Message::into_ref).expect("room"));
    assert!(one == one && one != two);
    // Another participant's: who has it is told.
    let elsewhere = other(&made);
    let owner = std::thread::scope(|scope| {
        let join = || elsewhere.join().expect("a slot").number;
        scope.spawn(join).join().expect("it ends");
        elsewhere.join().expect("a slot").number
    });
    let theirs = elsewhere.message_of(3_u64).expect("room").given();
    let refused = made.take_ref(theirs).map(drop);
    assert!(matches!(refused, Err(Error::Owned { participant, .. }) if participant == owner), "{refused:?}");
    assert!(owner > 1);
}

#[test]
fn c1_a_number_that_nobody_can_have_is_not_alive() {
    // So small that a slot of the highest number would lie behind its words.
    let made = Options::new().memfd().size(1 << 20).create().expect("created");
    let me = made.join().expect("a slot");
    assert!(made.is_alive(me) && !made.is_alive(ParticipantId { epoch: me.epoch + 1, ..me }));
    let most = u16::try_from(made.matrix().heap().layout().params.participants).expect("few");
    for number in [0, most + 1, u16::MAX] {
        assert!(!made.is_alive(ParticipantId { number, epoch: 0 }));
    }
}

/// Cured by who has it, a mutex is not poisoned for the next.
#[test]
fn c1_a_mutex_that_was_cured_is_whole() {
    let made = handler();
    let mutex = made.mutex::<u64>("mutex").expect("made");
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _held = mutex.lock(LONG).expect("a slot").expect("it is free");
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panics.join().is_err());
    });
    let mut guard = mutex.lock(LONG).expect("a slot").expect("it is free");
    assert!(guard.is_poisoned());
    guard.cure().expect("no fork");
    assert!(!guard.is_poisoned());
    drop(guard);
    assert!(!mutex.lock(LONG).expect("a slot").expect("it is free").is_poisoned());
}

/// Each subscriber's samples are from its own place.
#[test]
fn q3_samples_are_their_subscribers() {
    let made = handler();
    let topic = made.topic::<u64>("topic").open_or_create().expect("made");
    let _first = topic.subscribe(0).expect("a cursor");
    topic.publish_value(1).expect("room");
    let second = topic.subscribe(0).expect("a cursor").into_samples();
    topic.publish_value(2).expect("room");
    let sample = second.try_next().expect("open").expect("it was published");
    assert_eq!((*sample, sample.number()), (2, 1));
    assert!(second.try_next().expect("open").is_none());
}

/// A structure whose maker has published its name, and has not let it go.
fn being_made(made: &Handler, name: &[u8]) -> crate::matrix::heap::Live {
    let matrix = made.matrix();
    let shape =
        Shape { sort: Sort::Channel, cells_shift: 1, readers: 0, content: <u64 as super::Payload>::FINGERPRINT };
    let live = matrix.with_cache(|cache| Structure::make(matrix.heap(), cache, shape)).expect("a slot").expect("room");
    let (offset, generation) = (matrix.offsets().offset(live.at), live.header.generation());
    let block = NamedBlock { offset, generation, fingerprint: Some(STRUCTURE) };
    Directory(matrix.segment()).publish(live.header.owner(), name, block).expect("there is an entry");
    live
}

/// Who opens what is just being made waits for its maker; not for ever, and not where that has died.
#[test]
fn l1_what_is_being_made_is_waited_for() {
    let made = handler();
    let live = being_made(&made, b"slow");
    let opens = |name: &'static str| {
        let elsewhere = other(&made);
        std::thread::spawn(move || elsewhere.channel::<u64>(name).open().map(drop))
    };
    let opener = opens("slow");
    std::thread::sleep(SOON);
    assert!(!opener.is_finished(), "it waits");
    made.matrix().heap().adoption().rename_from(live.header.owner(), live.at, live.header, 0).expect("it is ours");
    opener.join().expect("it ends").expect("it is made");
    being_made(&made, b"never");
    let (told, tells) = std::sync::mpsc::channel();
    let opener = opens("never");
    std::thread::spawn(move || told.send(opener.join().expect("it ends")));
    let refused = tells.recv_timeout(LONG).expect("it does not wait for ever");
    assert!(matches!(refused, Err(Error::ChangingHands { .. })), "{refused:?}");
}

/// However many open or create it at the same moment, each has it.
#[test]
fn l1_who_creates_at_the_same_moment_opens() {
    const ROUNDS: usize = 50;
    let made = handler();
    let together = std::sync::Barrier::new(2);
    let each = |handler: &Handler| {
        for round in 0..ROUNDS {
            let name = format!("channel {round}");
            together.wait();
            // Large: while the one makes it, the other finds none, and makes one as well.
            let opened = handler.channel::<u64>(&name).capacity(1 << 15).open_or_create();
            let opened = opened.map_err(|error| error.to_string());
            together.wait();
            opened.as_ref().map(|channel| channel.remove().expect("ours")).expect("one makes it, both have it");
        }
    };
    let elsewhere = other(&made);
    std::thread::scope(|scope| {
        scope.spawn(|| each(&elsewhere));
        each(&made);
    });
    drop(elsewhere);
    nothing_is_left(&made);
}

/// What a structure would have taken is told in bytes.
#[test]
fn l2_a_structure_without_room_says_how_much_it_wants() {
    let made = handler();
    while made.allocate_raw(1 << 16).is_ok() {}
    let refused = made.channel::<u64>("large").capacity(1 << 16).create().map(drop);
    assert!(matches!(refused, Err(Error::OutOfMemory { requested, .. }) if requested >= 8 << 16), "{refused:?}");
}

fn info(made: &Handler, name: &str) -> StructureInfo {
    let all = made.structures().expect("sound");
    all.into_iter().find(|found| found.names.iter().any(|its| its == name)).expect("it has that name")
}

/// How much is in it, who has it, whether it is closed: of each sort.
#[test]
fn tools_are_told_what_is_in_a_structure() {
    let made = handler();
    let depth = |name: &str| info(&made, name).depth;
    let board = made.board::<u64>("board").expect("made");
    assert_eq!(depth("board"), 0);
    board.set(1).expect("room");
    board.set(2).expect("room");
    assert_eq!(depth("board"), 1);
    let permits = made.semaphore("permits", 3).expect("made");
    assert_eq!((depth("permits"), info(&made, "permits").capacity), (3, 3));
    drop(permits);
    let meets = made.barrier("barrier", 2).expect("made");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| meets.meet(LONG).expect("no fork"));
        while depth("barrier") == 0 {
            std::thread::yield_now();
        }
        assert_eq!(depth("barrier"), 1);
        meets.meet(LONG).expect("no fork").expect("the other is there");
        first.join().expect("it ends").expect("the other is there");
    });
    assert_eq!(depth("barrier"), 0, "the next round begins");
    let mutex = made.mutex::<u64>("mutex").expect("made");
    assert_eq!((depth("mutex"), info(&made, "mutex").held_by), (0, None));
    let guard = mutex.lock(LONG).expect("a slot").expect("it is free");
    let me = made.join().expect("a slot").number;
    assert_eq!((depth("mutex"), info(&made, "mutex").held_by), (1, Some(me)));
    mutex.attached().structure().expect("no fork").field(TAIL).fetch_or(1 << 63, &STRUCTURE_WRITE);
    drop(guard);
    assert_eq!((depth("mutex"), info(&made, "mutex").held_by), (0, None), "poisoned, and free");
    let topic = made.topic::<u64>("topic").open_or_create().expect("made");
    let _subscriber = topic.subscribe(0).expect("a cursor");
    topic.publish_value(1).expect("room");
    assert_eq!(info(&made, "topic").subscribers, [(me, 1)]);
    let channel = made.channel::<u64>("channel").create().expect("made");
    let (_sender, _receiver) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    assert!(!info(&made, "channel").closed && info(&made, "channel").held_by.is_none());
    channel.close();
    assert!(info(&made, "channel").closed);
}

/// What is taken or overwritten while its bytes are copied is left out, and so are links of another lap.
#[test]
fn tools_are_not_told_what_is_taken_meanwhile() {
    let made = handler();
    let shape = Shape { sort: Sort::Channel, cells_shift: 1, readers: 0, content: 0 };
    let attached = Attached::make_hidden(&made, shape).expect("room");
    let (structure, matrix) = (attached.structure().expect("no fork"), made.matrix());
    let ring = Ring::of(structure);
    let offset = matrix.offsets().offset(attached.live.at);
    let contents = |copy: &dyn Fn()| {
        let copy = |_, _| {
            copy();
            vec![]
        };
        super::inspect::contents(matrix.heap(), matrix.offsets(), offset, copy).len()
    };
    let send = || {
        let message = made.message_of(1_u64).expect("room");
        let put = attached.put(&message, 1, |cache, structure, live| Ring::of(structure).send(cache.owner(), live));
        put.expect("room");
        std::mem::forget(message);
    };
    let receive = || matrix.with_cache(|cache| ring.receive(cache.owner()).map(drop).expect("sent")).expect("a slot");
    send();
    assert_eq!(contents(&|| ()), 1);
    assert_eq!(contents(&|| receive()), 0, "it is taken meanwhile");
    // As a look at head and tail just before others had sent and taken a whole lap.
    send();
    let word = ring.cells.at(1).load(&CELL_LOOK);
    let Cell::Link(link) = Cell::of(word) else { panic!("it was sent") };
    assert_eq!(contents(&|| ()), 1);
    let later = Link::new(link.lap() + 1, link.giver(), link.generation(), link.at());
    ring.cells.at(1).store(Cell::Link(later).word(), &STRUCTURE_WRITE);
    assert_eq!(contents(&|| ()), 0, "it is another ticket's");
    ring.cells.at(1).store(word, &STRUCTURE_WRITE);
    // The cell is another's while the block is what it was.
    let empties = || ring.cells.at(1).store(Cell::Empty(3).word(), &STRUCTURE_WRITE);
    assert_eq!(contents(&empties), 0);
    structure.field(HEAD).store(2, &TICKET_TELL);
    assert_eq!(structure.count(Role::Sender), 0);
}

/// C2': its content says that it is for a `T`, whatever its shape says.
#[test]
fn c2p_a_value_lies_in_its_cells() {
    let made = handler();
    let few = |sort, content| Shape { sort, cells_shift: 1, readers: 0, content };
    let print = <[u64; 3] as Shared>::FINGERPRINT;
    let in_common = Attached::make(&made, Some("common"), few(Sort::Common, mix("common", &[print]))).expect("room");
    assert!(matches!(made.common::<[u64; 3]>("common"), Err(Error::Corrupt { .. })));
    let locked = Attached::make(&made, Some("locked"), few(Sort::Lock, mix("mutex", &[print]))).expect("room");
    assert!(matches!(made.mutex::<[u64; 3]>("locked"), Err(Error::Corrupt { .. })));
    in_common.remove().and(locked.remove()).expect("no fork");
    drop((in_common, locked));
    nothing_is_left(&made);
}

crate::shared! {
    /// It has come, and that is all.
    #[derive(Debug, PartialEq)]
    struct Tick {}
}

/// Wherever a value may be, one of no bytes may be, and no length is more than its block.
#[test]
fn a_value_of_no_bytes_is_a_value() {
    let made = handler();
    let ticks = made.channel::<Tick>("ticks").create().expect("room");
    let (sender, receiver) = (ticks.sender().expect("room"), ticks.receiver().expect("room"));
    sender.send_value(Tick {}).expect("room");
    assert_eq!(*receiver.try_recv().expect("it is there"), Tick {});
    let (board, map) = (made.board::<Tick>("board").expect("room"), made.map::<Tick>("map").open_or_create());
    let map = map.expect("room");
    assert_eq!(board.get().expect("no fork"), None);
    board.set(Tick {}).expect("room");
    assert_eq!(board.get().expect("no fork"), Some(Tick {}));
    assert_eq!(map.insert_value(b"key", Tick {}).expect("room"), None);
    assert_eq!(map.get_value(b"key").expect("no fork"), Some(Tick {}));
    assert_eq!(*made.mutex::<Tick>("mutex").expect("room").try_lock().expect("no fork").expect("it is free"), Tick {});
    let slice = made.message_slice::<Tick>(9).expect("room");
    let (first, reference) = (made.resolve(&slice.pointer()), slice.into_ref().expect("a slot"));
    assert_eq!(made.read_slice(reference).expect("live").len(), 9);
    write_length(first, usize::MAX);
    assert!(matches!(made.read_slice(reference), Err(Error::TooSmall { .. })));
    assert!(matches!(made.take_ref(reference).map(drop), Err(Error::TooSmall { .. })));
}

/// M1: an entry is told whole, with its key, or not at all.
#[test]
fn m1_tools_are_told_what_is_in_a_map() {
    let made = handler();
    let map = made.map::<u64>("map").capacity(2).open_or_create().expect("room");
    let all = made.structures().expect("sound");
    assert_eq!(made.contents(&all[0], 8), []);
    for (key, value) in [(&b"ada"[..], 7_u64), (b"", 8)] {
        map.insert_value(key, value).expect("room");
    }
    let mut told: Vec<_> = made.contents(&all[0], 8).into_iter().map(|one| (one.key, one.first, one.giver)).collect();
    told.sort();
    let me = made.join().expect("a slot").number;
    let entry = |key: &[u8], value: u64| (Some(key.to_owned()), value.to_ne_bytes().to_vec(), me);
    assert_eq!(told, [entry(b"", 8), entry(b"ada", 7)]);
    // Whoever replaces a value each time it is copied keeps its bucket from being told.
    let (heap, offsets) = (made.matrix().heap(), made.matrix().offsets());
    let replaces = |_, _| {
        map.insert_value(b"ada", 9).expect("room");
        vec![]
    };
    assert_eq!(super::inspect::contents(heap, offsets, all[0].offset, replaces), []);
    assert_eq!(made.contents(&all[0], 8).len(), 2);
}

/// Values that lie in the structure itself, and who holds what of a channel that delivers again.
#[test]
fn tools_are_told_of_values_and_of_who_holds_messages() {
    let made = handler();
    let me = made.join().expect("a slot").number;
    let mutex = made.mutex::<[u32; 2]>("mutex").expect("room");
    *mutex.try_lock().expect("no fork").expect("it is free") = [3, 4];
    let told = &made.contents(&made.structures().expect("sound")[0], 80)[0];
    assert_eq!(
        (&*told.first, told.giver, told.number),
        (&[3_u32.to_ne_bytes(), 4_u32.to_ne_bytes()].concat()[..], 0, 0)
    );
    mutex.remove().expect("no fork");
    drop(mutex);
    let jobs = made.channel::<u64>("jobs").redeliver(4).create().expect("room");
    let (sender, worker) = (jobs.sender().expect("room"), jobs.worker().expect("room"));
    (0..3).for_each(|k| sender.send_value(k).expect("room"));
    let holding = || made.structures().expect("sound")[0].holding.clone();
    assert_eq!(holding(), []);
    let (one, two) = (worker.try_recv().expect("sent"), worker.try_recv().expect("sent"));
    assert_eq!(holding(), [(me, 2)]);
    one.ack();
    assert_eq!(holding(), [(me, 1)]);
    drop(two);
    assert_eq!(holding(), [], "it was given back");
}
