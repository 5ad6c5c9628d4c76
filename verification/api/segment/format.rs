//! The page of the format, `papers/format.md`: its reader, which has none of this library's code, reads a
//! live segment; its tables are what the code says; and a segment that each version has left is attached to,
//! or refused, as the page promises.

use super::support::{Dir, Id, Over};
use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::ipc::link::{Cell, Link};
use atomic_matrix::matrix::block_header::{Header, State, place};
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::{Granule, SlotWord};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PAGE: &str = include_str!("../../../papers/format.md");

/// The reader as the page has it, in a file of its own; none, with a printed reason, where there is
/// no Python.
fn reader(dir: &Dir) -> Option<PathBuf> {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3 here to run the page's reader");
        return None;
    }
    let (_, code) = PAGE.split_once("```python\n").expect("the page has a reader");
    let path = dir.0.join("reader.py");
    std::fs::write(&path, code.split("```").next().expect("it ends")).expect("the directory can be written");
    Some(path)
}

/// What the reader prints of a segment, read so many times.
fn read(reader: &Path, segment: &Path, times: u32) -> Vec<serde_json::Value> {
    let output = Command::new("python3").arg(reader).arg(segment).arg(times.to_string()).output().expect("it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("JSON");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is in a segment that the tests know: names, messages, a board, a channel with two messages.
fn furnish(handler: &Handler) {
    handler.message_from(b"what stands in the block").and_then(|m| m.publish("bytes")).expect("room");
    handler.message_from(&[] as &[u8]).and_then(|m| m.publish("nothing")).expect("room");
    let mut number = handler.allocate::<u64>().expect("room");
    handler.store(&mut number, 7).expect("live");
    handler.publish("number", &number).expect("new");
    let board = handler.board::<[u8]>("board").expect("room");
    for value in 0..20_u8 {
        let message = handler.message_from(&vec![value; 300 + usize::from(value)]).expect("room");
        board.set_message(message).expect("open");
    }
    let channel = handler.channel::<[u8]>("channel").create().expect("room");
    let sender = channel.sender().expect("a slot");
    for text in ["one", "two"] {
        sender.send(handler.message_from(text.as_bytes()).expect("room")).expect("room");
    }
}

/// The segment is as [`furnish`] has left it, and works.
fn is_furnished(handler: &Handler) {
    let mut names: Vec<String> = handler.names().into_iter().filter(|name| name.live).map(|name| name.name).collect();
    names.sort();
    assert_eq!(names, ["board", "bytes", "channel", "nothing", "number"]);
    let bytes = handler.read_slice(handler.lookup_ref::<[u8]>("bytes").expect("published")).expect("live");
    assert_eq!(bytes, b"what stands in the block");
    assert_eq!(handler.load(&handler.lookup::<u64>("number").expect("published")).expect("live"), 7);
    let board = handler.board::<[u8]>("board").expect("there");
    assert_eq!(board.get_items().expect("sound"), Some(vec![19; 319]));
    let receiver = handler.channel::<[u8]>("channel").open().and_then(|channel| channel.receiver()).expect("there");
    for text in ["one", "two"] {
        assert_eq!(&*receiver.try_recv().expect("sent"), text.as_bytes());
    }
    handler.verify().expect("sound");
    let block = handler.allocate_raw(1000).expect("room");
    handler.free_raw(block).expect("live");
}

#[test]
fn the_pages_reader_finds_what_is_there() {
    let dir = Dir::new();
    let Some(reader) = reader(&dir) else { return };
    for (size, granule, participants) in
        [(64 << 10, 16, 4), (1 << 20, 16, 64), (5_000_000, 64, 9), (9 << 20, 256, 1000)]
    {
        let id = Id::new();
        let options = id.options().size(size).granule(granule).participants(participants);
        let handler = options.create().expect("room");
        furnish(&handler);
        let found = read(&reader, &id.path(), 1).remove(0);
        let layout = handler.matrix().heap().layout();
        let words = [("turn", layout.directory_turn().0), ("headers", layout.header(Granule(0)).0)];
        let words = words.into_iter().chain([("directory", layout.directory(0, 0).0)]);
        for (what, word) in words {
            assert_eq!(found["words"][what], word, "{what}, {size} bytes, granule {granule}");
        }
        let names: BTreeMap<String, _> = handler.names().into_iter().map(|name| (name.name.clone(), name)).collect();
        assert_eq!(found["names"].as_object().expect("names").len(), names.len());
        for (name, known) in names {
            let read = &found["names"][&name];
            assert_eq!(
                (&read["offset"], &read["generation"], &read["live"]),
                (&known.offset.into(), &known.generation.into(), &true.into()),
                "{name}"
            );
        }
        let messages = serde_json::json!({"bytes": hex(b"what stands in the block"), "nothing": ""});
        assert_eq!(found["messages"], messages);
        assert_eq!(found["boards"], serde_json::json!({"board": hex(&[19; 319])}));
    }
}

/// A copy that the page's rule calls whole is whole, however fast the board is written.
#[test]
fn the_pages_reader_copies_whole_values() {
    const TIMES: u32 = 3000;
    let dir = Dir::new();
    let Some(reader) = reader(&dir) else { return };
    let id = Id::new();
    let handler = id.options().size(1 << 20).create().expect("room");
    let board = handler.board::<[u8]>("board").expect("room");
    let set = |value: u8| {
        // Short, so that a block comes back sooner than the reader has copied it.
        let mut message = handler.message_slice(1 + usize::from(value)).expect("room");
        message.fill(value);
        board.set_message(message).expect("open");
    };
    set(1);
    let over = Over::default();
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in (0_u32..).take_while(|_| !over.is()) {
                set(value as u8);
                // Python needs longer for a copy than eight values take, and is let through now and
                // then.
                if value % 64 == 0 {
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
        });
        let _end = over.at_the_end();
        read(&reader, &id.path(), TIMES)
    });
    let mut distinct = std::collections::BTreeSet::new();
    for read in &found {
        let value = read["boards"]["board"].as_str().expect("one was set");
        let first = u8::from_str_radix(&value[..2], 16).expect("hex");
        assert_eq!(value, hex(&vec![first; 1 + usize::from(first)]), "torn");
        distinct.insert(first);
    }
    assert!(found.len() == TIMES as usize && distinct.len() > 3, "{} values seen", distinct.len());
}

/// The rows of the page's tables of fields: word, field, first bit, bits.
fn fields() -> Vec<(&'static str, &'static str, u64)> {
    let cells = |row: &'static str| row.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
    let rows = PAGE.lines().filter(|line| line.starts_with("| header |") || line.starts_with("| link |"));
    let mask =
        |at: &str, bits: &str| ((1 << bits.parse::<u32>().expect("bits")) - 1) << at.parse::<u32>().expect("a bit");
    rows.map(|row| match cells(row)[..] {
        [word, field, at, bits] => (word, field, mask(at, bits)),
        _ => panic!("four cells: {row}"),
    })
    .collect()
}

#[test]
fn the_pages_fields_are_the_codes() {
    let cell = |link: Link| Cell::Link(link).word();
    let none = cell(Link::new(0, 0, 0, Granule(0)));
    let codes = [
        ("header", "state", Header::new(State::Marked, 0, 0, 0).0),
        ("header", "owner", Header::new(State::Inside, u16::MAX, 0, 0).0),
        ("header", "generation", Header::new(State::Inside, 0, u32::MAX, 0).0),
        ("header", "position", Header::new(State::Inside, 0, 0, place(3, 0)).0),
        ("header", "size", Header::new(State::Inside, 0, 0, place(0, (1 << 28) - 1)).0),
        ("link", "link", none),
        ("link", "lap", cell(Link::new(31, 0, 0, Granule(0))) ^ none),
        ("link", "giver", cell(Link::new(0, u16::MAX, 0, Granule(0))) ^ none),
        ("link", "generation", cell(Link::new(0, 0, u32::MAX, Granule(0))) ^ none),
        ("link", "granule", cell(Link::new(0, 0, 0, Granule(u32::MAX))) ^ none),
    ];
    assert_eq!(fields(), codes);
    let words = [
        SlotWord::State,
        SlotWord::Pid,
        SlotWord::Op,
        SlotWord::Right,
        SlotWord::Visiting,
        SlotWord::Process,
        SlotWord::Adopting,
        SlotWord::Pin,
        SlotWord::Hazard,
        SlotWord::Given,
    ];
    for word in words {
        let row = format!("| {} | {word:?}: ", word as usize);
        assert!(PAGE.contains(&row), "{row}");
    }
}

fn kept_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("api/segment/kept")
}

/// A file of words: those that are not 0, each with its number, in a text.
fn sparse(bytes: &[u8]) -> String {
    let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    let lines = words.enumerate().filter(|(_, word)| *word != 0).map(|(at, word)| format!("{at} {word:x}\n"));
    format!("{} bytes, the words that are not 0:\n{}", bytes.len(), lines.collect::<String>())
}

fn dense(text: &str) -> Vec<u8> {
    let mut lines = text.lines();
    let length = lines.next().and_then(|line| line.split(' ').next()?.parse().ok()).expect("a length");
    let mut bytes = vec![0; length];
    for line in lines {
        let (at, word) = line.split_once(' ').expect("a word");
        let (at, word): (usize, _) = (at.parse().expect("a number"), u64::from_str_radix(word, 16).expect("a word"));
        bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// `MATRIX_KEEP=write` adds this version's segment to those that are kept, if there is none yet. It is of
/// this machine's byte order.
#[test]
#[cfg(target_endian = "little")]
fn kept_segments_are_attached_to_or_refused_by_their_version() {
    use atomic_matrix::segment::{MINOR, VERSION};
    let own = kept_folder().join(format!("{VERSION}.{MINOR}.txt"));
    if std::env::var("MATRIX_KEEP").is_ok_and(|what| what == "write") && !own.exists() {
        let id = Id::new();
        let handler = id.options().size(64 << 10).participants(4).create().expect("room");
        furnish(&handler);
        drop(handler);
        std::fs::create_dir_all(kept_folder()).expect("the tree can be written");
        std::fs::write(&own, sparse(&std::fs::read(id.path()).expect("there"))).expect("the tree can be written");
    }
    assert!(own.exists(), "a new version keeps a segment: MATRIX_KEEP=write cargo test --test segment kept");
    for entry in std::fs::read_dir(kept_folder()).expect("there") {
        let path = entry.expect("there").path();
        let version = path.file_stem().expect("a version").to_string_lossy().into_owned();
        let major: u64 = version.split('.').next().and_then(|major| major.parse().ok()).expect("a version");
        let dir = Dir::new();
        let file = dir.0.join("kept");
        std::fs::write(&file, dense(&std::fs::read_to_string(&path).expect("text"))).expect("room");
        match Options::new().path(&file).attach() {
            Ok(handler) if major == VERSION => is_furnished(&handler),
            Err(error @ Error::WrongVersion { found, .. }) if major != VERSION => {
                assert_eq!(found, major);
                let said = error.to_string();
                let (theirs, ours) = (format!("has format version {major}"), format!("reads version {VERSION}"));
                assert!([&theirs, &ours, "make the segment anew"].iter().all(|part| said.contains(*part)), "{said}");
            }
            other => panic!("{version}: {other:?}", other = other.map(|handler| handler.id())),
        }
    }
}
