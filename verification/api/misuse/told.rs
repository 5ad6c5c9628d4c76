//! What was asked for by a name is told by that name: structures opened as another sort or of another type, and
//! segments.

use crate::common::{MIB, Scratch};
use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::segment::Options;
use atomic_matrix::uuid::Uuid;
use atomic_matrix::{Error, Handler, Result};

const NAME: &str = "nums";

/// A way to make a structure, or to open it.
struct Way {
    /// What whoever opens it as another sort is told that it is.
    is: &'static str,
    of: &'static str,
    open: fn(&Handler) -> Result<()>,
}

/// Each sort, of each of two types where it has one.
fn ways() -> Vec<Way> {
    let way = |is, of, open| Way { is, of, open };
    let one = "a channel of one sender and one receiver";
    vec![
        way("a channel or a service", "u64", |h| h.channel::<u64>(NAME).open_or_create().map(drop)),
        way("a channel or a service", "u32", |h| h.channel::<u32>(NAME).open_or_create().map(drop)),
        way("a channel or a service", "Service<u64, u64>", |h| h.service::<u64, u64>(NAME).open_or_create().map(drop)),
        way("a channel or a service", "Service<u64, u32>", |h| h.service::<u64, u32>(NAME).open_or_create().map(drop)),
        way(one, "u64", |h| h.channel::<u64>(NAME).single().open_or_create().map(drop)),
        way(one, "u32", |h| h.channel::<u32>(NAME).single().open_or_create().map(drop)),
        way("a channel that redelivers", "u64", |h| h.channel::<u64>(NAME).redeliver(2).open_or_create().map(drop)),
        way("a channel that redelivers", "u32", |h| h.channel::<u32>(NAME).redeliver(2).open_or_create().map(drop)),
        way("a topic", "u64", |h| h.topic::<u64>(NAME).open_or_create().map(drop)),
        way("a topic", "u32", |h| h.topic::<u32>(NAME).open_or_create().map(drop)),
        way("a board", "u64", |h| h.board::<u64>(NAME).map(drop)),
        way("a board", "u32", |h| h.board::<u32>(NAME).map(drop)),
        way("a map", "u64", |h| h.map::<u64>(NAME).open_or_create().map(drop)),
        way("a map", "u32", |h| h.map::<u32>(NAME).open_or_create().map(drop)),
        way("a mutex", "u64", |h| h.mutex::<u64>(NAME).map(drop)),
        way("a mutex", "u32", |h| h.mutex::<u32>(NAME).map(drop)),
        way("an event", "Event", |h| h.event(NAME).map(drop)),
        way("a semaphore", "Semaphore", |h| h.semaphore(NAME, 1).map(drop)),
        way("a barrier", "Barrier", |h| h.barrier(NAME, 1).map(drop)),
    ]
}

/// What a mismatch says; its fingerprints, of which it may not show one twice, must differ where both count.
fn told(refused: Result<()>) -> String {
    let error = refused.expect_err("it is something else");
    let Error::TypeMismatch { name, expected_fingerprint, found_fingerprint, found, .. } = &error else {
        panic!("{error}")
    };
    assert!(name.as_deref() == Some(NAME) && found.is_some(), "{error}");
    assert_ne!(Some(*expected_fingerprint), *found_fingerprint, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("\"nums\"") && !text.contains("Attached"), "{text}");
    text
}

#[test]
fn what_a_structure_is_is_told_by_its_name() {
    for made in ways() {
        let handler = Options::new().memfd().size(MIB).create().expect("a memory file");
        (made.open)(&handler).expect("there is room");
        for asked in ways() {
            let opened = (asked.open)(&handler);
            if (asked.is, asked.of) == (made.is, made.of) {
                opened.expect("it is that");
                continue;
            }
            let text = told(opened);
            assert!(text.contains(asked.of) && text.contains(made.is), "{text}");
            assert_eq!(text.contains("of another type (fingerprint"), asked.is == made.is, "{text}");
        }
        let asked = handler.lookup::<u64>(NAME).expect_err("it is a structure").to_string();
        assert!(asked.starts_with("\"nums\"") && asked.contains("is a structure; open it"), "{asked}");
    }
}

#[test]
fn a_block_under_a_name_is_no_structure() {
    let handler = Options::new().memfd().size(MIB).create().expect("a memory file");
    let mut block = handler.allocate::<u64>().expect("there is room");
    handler.store(&mut block, 7).expect("live");
    handler.publish(NAME, &block).expect("a free name");
    for asked in ways() {
        let text = told((asked.open)(&handler));
        assert!(text.contains("but is a block, and no structure"), "{text}");
    }
    let by_name = [
        handler.lookup::<u32>(NAME).map(drop),
        handler.take::<u32>(NAME).map(drop),
        handler.lookup_ref::<u32>(NAME).map(drop),
        handler.take_message::<u32>(NAME).map(drop),
    ];
    for refused in by_name {
        let text = refused.expect_err("it is a u64").to_string();
        assert!(text.starts_with("\"nums\" (the block at offset") && text.contains("asked for as u32"), "{text}");
    }
    assert_eq!(handler.load(&handler.lookup::<u64>(NAME).expect("it is there still")).expect("live"), 7);
}

#[test]
fn a_reader_is_told_by_the_name_what_is_there() {
    for made in ways() {
        let scratch = Scratch::new();
        let handler = scratch.options().size(MIB).create().expect("there is room");
        (made.open)(&handler).expect("there is room");
        let looker = scratch.options().attach_read_only().expect("readable");
        let latest = looker.latest::<u64>(NAME).map(drop);
        if ["a topic", "a board"].contains(&made.is) && made.of == "u64" {
            latest.expect("it is that");
            continue;
        }
        let text = told(latest);
        assert!(text.contains(made.is), "{text}");
        let read = looker.read::<u64>(NAME).expect_err("it is a structure").to_string();
        assert!(read.starts_with("\"nums\"") && read.contains("is a structure; open it"), "{read}");
    }
}

/// Every way to ask for a segment that is not there, and to make one that is.
fn in_vain(options: &Options) -> (Vec<String>, Vec<String>) {
    let text = |asked: Result<()>| asked.expect_err("in vain").to_string();
    let absent = vec![
        text(options.attach().map(drop)),
        text(options.attach_segment().map(drop)),
        text(options.attach_read_only().map(drop)),
        text(options.inspect().map(drop)),
        text(options.clone().rejoin(true).attach().map(drop)),
    ];
    let (made, sized) = (options.clone().size(MIB).create().expect("there is room"), options.clone().size(MIB));
    let present = vec![
        text(sized.create().map(drop)),
        text(sized.create_segment().map(drop)),
        text(sized.clone().named_creation(true).create().map(drop)),
    ];
    made.unlink().expect("it is ours");
    (absent, present)
}

#[test]
fn a_segment_asked_for_by_its_name_is_told_by_it() {
    let name = format!("told {}", Uuid::new_v4());
    let scratch = Scratch(Uuid::new_v5(&Options::NAMES, name.as_bytes()));
    let shared_memory = format!("/dev/shm/atomic-matrix-{}", scratch.0);
    let directory = std::env::temp_dir();
    let elsewhere = directory.join(format!("atomic-matrix-{}", scratch.0)).display().to_string();
    let named = |file: &str| format!("segment {name:?} ({file})");
    let asked = [
        (Options::new().name(&name), named(&shared_memory), "name"),
        (Options::new().id(Uuid::nil()).name(&name), named(&shared_memory), "name"),
        (Options::new().name(&name).path(&directory), named(&elsewhere), "name"),
        (Options::new().name(&name).path(&elsewhere), named(&elsewhere), "name"),
        (scratch.options(), format!("segment {shared_memory}"), "id"),
        (Options::new().name("another").id(scratch.0), format!("segment {shared_memory}"), "id"),
    ];
    for (options, told, word) in asked {
        let (absent, present) = in_vain(&options);
        let absent_text = format!("there is no {told}; check the {word}, or create it first");
        assert!(absent.iter().all(|text| *text == absent_text), "{absent:#?}");
        let present_text = format!("{told} exists already; attach to it, unlink it, or choose another {word}");
        assert!(present.iter().all(|text| *text == present_text), "{present:#?}");
    }
    let made = Options::new().path(&elsewhere).size(MIB).create().expect("there is room");
    let other = Options::new().name(&name).path(&elsewhere);
    for refused in [other.attach().map(drop), other.inspect().map(drop), other.attach_read_only().map(drop)] {
        let told = refused.expect_err("it has an id of its own").to_string();
        assert!(told.contains(&named(&scratch.0.to_string())) && told.ends_with("check path and name"), "{told}");
    }
    made.unlink().expect("it is ours");
}
