//! A segment that is attached to for reading alone: what is seen, by another user as well, and that
//! nothing is ever written.

use super::support::{Id, Over};
use atomic_matrix::Error;
use atomic_matrix::backend::Word;
use atomic_matrix::backend::orderings::{DIR_LOOK, DIR_WRITE, STRUCTURE_WRITE};
use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::ipc::{Board, ReadOnly};
use atomic_matrix::segment::Options;
use atomic_matrix::segment::directory::NAME_LIMIT;
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::Region;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use uuid::Uuid;

/// A user with no rights of its own.
const NOBODY: u32 = 65_534;

fn pair() -> (Id, Handler, ReadOnly) {
    let id = Id::new();
    let handler = id.options().size(1 << 20).mode(0o644).create().expect("room");
    let looker = id.options().attach_read_only().expect("it is there");
    (id, handler, looker)
}

#[test]
fn who_may_only_look_sees_names_values_boards_and_topics() {
    let (_id, handler, looker) = pair();
    assert_eq!((looker.id(), looker.creation()), (handler.id(), handler.creation()));
    assert_eq!(looker.stats().expect("sound"), handler.stats().expect("sound"));
    handler.message_from(b"bytes").and_then(|m| m.publish("bytes")).expect("room");
    let mut number = handler.allocate::<u64>().expect("room");
    handler.store(&mut number, 7).expect("live");
    handler.publish("number", &number).expect("new");
    assert_eq!(looker.names(), handler.names());
    assert_eq!(
        (looker.read::<u64>("number").expect("there"), looker.read_items::<u8>("bytes").expect("there")),
        (7, b"bytes".to_vec())
    );
    let board = handler.board::<u64>("board").expect("room");
    assert_eq!(looker.latest::<u64>("board").expect("a board"), None);
    (1..=20_u64).for_each(|value| board.set(value).expect("room"));
    assert_eq!(looker.latest::<u64>("board").expect("a board"), Some((20, 20)));
    let topic = handler.topic::<[u16]>("topic").cells(4).open_or_create().expect("room");
    topic.try_publish(handler.message_from(&[1_u16, 2]).expect("room")).expect("room");
    assert_eq!(looker.latest_items::<u16>("topic").expect("a topic"), Some((1, vec![1, 2])));
    assert_eq!(looker.stats().expect("sound"), handler.stats().expect("sound"));
    // It is nobody's user: what is removed is freed.
    board.remove().expect("ours");
    drop(board);
    assert!(matches!(looker.latest::<u64>("board"), Err(Error::NameUnknown { .. })));
}

#[test]
fn who_may_only_look_is_told_why_not() {
    let (id, handler, looker) = pair();
    assert!(matches!(looker.read::<u64>("number"), Err(Error::NameUnknown { .. })));
    assert!(matches!(looker.latest::<u64>(""), Err(Error::BadOption { .. })));
    let name = |length| looker.read::<u64>(&"n".repeat(length));
    assert!(matches!(name(NAME_LIMIT), Err(Error::NameUnknown { .. })));
    for length in [NAME_LIMIT + 1, NAME_LIMIT + 2, 1000] {
        assert!(matches!(name(length), Err(Error::NameTooLong { length: told, .. }) if told == length));
    }
    let number = handler.allocate::<u64>().expect("room");
    handler.publish("number", &number).expect("new");
    assert!(matches!(looker.read::<u32>("number"), Err(Error::TypeMismatch { .. })));
    assert!(matches!(looker.read_items::<u64>("number"), Err(Error::TypeMismatch { .. })));
    assert!(matches!(looker.latest::<u64>("number"), Err(Error::TypeMismatch { .. })));
    let _board = handler.board::<u64>("board").expect("room");
    assert!(matches!(looker.latest_items::<u64>("board"), Err(Error::TypeMismatch { .. })));
    handler.free(number);
    assert!(matches!(looker.read::<u64>("number"), Err(Error::NotLive { .. })));
    assert!(looker.names().iter().any(|name| name.name == "number" && !name.live));
    assert!(matches!(Id::new().options().attach_read_only(), Err(Error::NotFound { .. })));
    let fd = handler.matrix().segment().fd().as_fd().try_clone_to_owned().expect("a descriptor");
    assert!(matches!(Options::from_fd(fd).attach_read_only(), Err(Error::BadOption { .. })));
    assert!(matches!(id.options().size(2 << 20).attach_read_only(), Err(Error::SizeMismatch { .. })));
}

/// What a handler that only inspects sees, this sees, the dead among it.
#[test]
fn who_may_only_look_sees_all_that_an_inspector_sees() {
    let (id, handler, looker) = pair();
    let channel = handler.channel::<[u8]>("orders").create().expect("new");
    channel.sender().expect("open").send(handler.message_from(b"seven").expect("room")).expect("room");
    let dead = id.options().attach().expect("it is there");
    let _lost = dead.allocate_raw(5000).expect("room");
    // SAFETY: nothing is done with the handler from here on.
    unsafe { dead.matrix().segment().end_life() };
    let seen = looker.participants();
    assert_eq!(seen, handler.participants());
    assert_eq!(seen.iter().map(|one| one.alive).collect::<Vec<_>>(), [true, false]);
    let (mut ours, mut theirs) = (vec![], vec![]);
    looker.blocks(|block| ours.push(block)).expect("sound");
    handler.blocks(|block| theirs.push(block)).expect("sound");
    assert!(ours == theirs && ours.len() > 3);
    let structures = looker.structures().expect("sound");
    assert_eq!(structures, handler.structures().expect("sound"));
    let contents = looker.contents(&structures[0], 100);
    assert_eq!(contents, handler.contents(&structures[0], 100));
    assert_eq!(&contents[0].first[16..21], b"seven");
    assert_eq!(looker.verify().expect("sound"), handler.verify().expect("sound"));
    let (info, segment) = (looker.info(), handler.matrix().segment());
    assert_eq!((info.bytes, info.strict), (segment.len() as u64, segment.strict()));
    assert_eq!(info.sector_bytes, looker.stats().expect("sound").sector_bytes);
    assert_eq!((info.offset_unit, info.participants), (1, segment.layout().params.participants as u64));
    std::mem::forget(dead);
}

/// The mapping can't be written, and no lock is taken: a write anywhere would end this process.
#[test]
fn who_may_only_look_writes_nothing() {
    let (id, handler, looker) = pair();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it has");
    let of_it = maps.lines().filter(|line| line.ends_with(&id.path().to_string_lossy().into_owned()));
    let rights: Vec<_> = of_it.map(|line| line.split(' ').nth(1).expect("rights")).collect();
    assert!(rights.contains(&"r--s"), "{rights:?}");
    // Where a participant would help: a tail that lags, and a publication that nobody has marked ready.
    let board = handler.board::<u64>("board").expect("room");
    (1..=3_u64).for_each(|value| board.set(value).expect("room"));
    let structure = handler.names().into_iter().find(|name| name.name == "board").expect("published");
    let layout = handler.matrix().heap().layout();
    let region = handler.matrix().heap().region();
    let granule = (u64::from(structure.offset) - layout.sector) >> layout.params.granule_shift;
    let words = region.payload(Granule(granule as u32), 33).expect("a structure");
    words[32].store(2, &STRUCTURE_WRITE);
    let (turn, state) = (region.word(layout.directory_turn()), |entry| region.word(layout.directory(entry, 0)));
    let turn = turn.load(&DIR_LOOK);
    let prepared = 2 << 62 | turn >> 14;
    state((turn % (1 << 14)) as usize).store(prepared, &DIR_WRITE);
    let before = std::fs::read(id.path()).expect("readable");
    assert_eq!(looker.latest::<u64>("board").expect("a board"), Some((3, 3)));
    assert_eq!(looker.names().len(), 1);
    looker.stats().expect("sound");
    assert!(std::fs::read(id.path()).expect("readable") == before, "a byte has changed");
    assert_eq!(board.get().expect("a board"), Some(3));
}

fn set(handler: &Handler, board: &Board<[u8]>, value: u8) {
    let mut message = handler.message_slice(1 + usize::from(value) * 16).expect("room");
    message.fill(value);
    board.set_message(message).expect("open");
}

/// Copies, for as long as the board is written; how many different ones.
fn look(looker: &ReadOnly, copies: usize) -> usize {
    let (mut last, mut distinct) = (0, 0);
    for _ in 0..copies {
        let (number, value) = looker.latest_items::<u8>("board").expect("a board").expect("one was set");
        assert!(value.iter().all(|&byte| usize::from(byte) * 16 + 1 == value.len()), "B1: torn: {value:?}");
        assert!(number >= last, "B1: {number} after {last}");
        distinct += usize::from(number > last);
        last = number;
    }
    distinct
}

#[test]
fn b1_who_may_only_look_sees_whole_values_that_only_get_newer() {
    let (_id, handler, looker) = pair();
    let board = handler.board::<[u8]>("board").expect("room");
    set(&handler, &board, 1);
    let over = Over::default();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..).take_while(|_| !over.is()).for_each(|k: u32| set(&handler, &board, k as u8)));
        let _end = over.at_the_end();
        // Again, where the writer had no turn meanwhile.
        let mut distinct = 0;
        for _ in 0..200 {
            distinct += look(&looker, 100_000);
            if distinct > 100 {
                break;
            }
        }
        assert!(distinct > 100, "{distinct} values seen");
    });
}

#[test]
#[ignore = "a role: another user, in a process of its own"]
fn another_user_looks() {
    let Ok(id) = std::env::var("MATRIX_READ_ONLY") else { return };
    let options = || Options::new().id(Uuid::parse_str(&id).expect("an id"));
    assert!(matches!(options().attach(), Err(Error::PermissionDenied { .. })), "it may not write");
    let looker = options().attach_read_only().expect("it may read");
    look(&looker, 10_000);
    assert_eq!(looker.read_items::<u8>("bytes").expect("published"), b"bytes");
}

#[test]
fn another_user_may_look_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can act as another user");
        return;
    }
    let (id, handler, _) = pair();
    let board = handler.board::<[u8]>("board").expect("room");
    handler.message_from(b"bytes").and_then(|m| m.publish("bytes")).expect("room");
    set(&handler, &board, 1);
    let before = handler.participants().len();
    let mut command = Command::new("/proc/self/exe");
    command.args(["--ignored", "--exact", "read_only::another_user_looks"]).env("MATRIX_READ_ONLY", id.0.to_string());
    let mut child = command.uid(NOBODY).gid(NOBODY).spawn().expect("another user's process");
    let status = loop {
        set(&handler, &board, 3);
        if let Some(status) = child.try_wait().expect("it runs") {
            break status;
        }
    };
    assert!(status.success(), "{status}");
    assert_eq!(handler.participants().len(), before, "nobody was a participant");
    // Nor may it look where it may not read.
    let secret = Id::new();
    let _secret = secret.options().size(1 << 20).create().expect("room");
    let mut command = Command::new("/proc/self/exe");
    command.args(["--ignored", "--exact", "read_only::another_user_is_refused"]);
    command.env("MATRIX_READ_ONLY", secret.0.to_string());
    assert!(command.uid(NOBODY).gid(NOBODY).status().expect("another user's process").success());
}

#[test]
#[ignore = "a role: another user, in a process of its own"]
fn another_user_is_refused() {
    let Ok(id) = std::env::var("MATRIX_READ_ONLY") else { return };
    let options = Options::new().id(Uuid::parse_str(&id).expect("an id"));
    assert!(matches!(options.attach_read_only(), Err(Error::PermissionDenied { .. })));
}
