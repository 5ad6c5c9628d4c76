//! What the tool writes of segments whose content is known to the last bit, word for word: it is kept in the folder
//! `kept`, and `MATRIX_WRITE_REPORT=1` writes it anew.

use crate::Dir;
use atomic_matrix::handlers::{Handler, HandlerFunctions, KEPT, LINKED, RelativePtr};
use atomic_matrix::matrix::block_header::{Header, State};
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::Granule;
use std::os::unix::fs::FileExt;
use std::path::Path;
use uuid::Uuid;

/// A segment without parking, so that what is done decides alone what lies where.
fn known(dir: &Dir, size: usize) -> Handler {
    let id = Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);
    Options::new().path(&dir.0).id(id).size(size).participants(64).strict(true).create().expect("created")
}

/// Writes another state and owner into the header of a live block, as an operation would that is on its way.
fn becomes<T>(dir: &Dir, handler: &Handler, block: &RelativePtr<T>, state: State, owner: u16) {
    let file = std::fs::File::options().read(true).write(true).open(dir.file(handler.id())).expect("it is ours");
    let mut seen = None;
    handler.blocks(|one| seen = seen.or((one.offset == block.offset()).then_some(one))).expect("sound");
    let layout = handler.matrix().heap().layout();
    let granule = seen.expect("live").position >> layout.params.granule_shift;
    let at = layout.header(Granule(granule as u32)).0 as u64 * 8;
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).expect("it is that long");
    let old = Header(u64::from_ne_bytes(word));
    let new = Header::new(state, owner, old.generation(), old.low());
    file.write_all_at(&new.0.to_ne_bytes(), at).expect("it is that long");
}

/// Compares with what is kept. Where segment and process have names of the moment, those of all moments stand.
pub(crate) fn compare(dir: &Dir, name: &str, text: &str) {
    let pid = std::process::id();
    let called = std::fs::read_to_string("/proc/self/comm").expect("readable");
    let mut text = text.replace(&*dir.0.to_string_lossy(), "DIRECTORY");
    while text.contains("   ") {
        text = text.replace("   ", "  ");
    }
    let named = [
        (format!("{} ({pid})", called.trim_end()), "PROCESS (PID)"),
        (format!("{pid}  alive"), "PID  alive"),
        (format!("(process {pid})"), "(process PID)"),
    ];
    let text = named.iter().fold(text, |text, (now, always)| text.replace(now, always));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("verification/api/tool/kept").join(name);
    if std::env::var_os("MATRIX_WRITE_REPORT").is_some() {
        std::fs::write(&path, &text).expect("it is writable");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = (1..).zip(text.lines().zip(kept.lines())).find(|(_, (now, before))| now != before);
    assert!(text == kept, "{} has something else, first at {differs:?}:\n{text}", path.display());
}

/// Some blocks in each state, large and small, of all sorts of owners.
fn blocks_in_each_state(dir: &Dir) -> Handler {
    let handler = known(dir, 1 << 20);
    let raw = |bytes| handler.allocate_raw(bytes).expect("room");
    let blocks = [100_000, 50_000, 30_000, 2000, 1000, 5000, 700, 64, 64, 3000, 200].map(raw);
    let typed = handler.allocate::<u64>().expect("room");
    handler.publish("number", &typed).expect("new");
    for (block, state, owner) in [
        (&blocks[1], State::Coalescing, 1),
        (&blocks[2], State::Acked, 0),
        (&blocks[3], State::Acked, 1),
        (&blocks[4], State::Allocated, KEPT),
        (&blocks[5], State::Allocated, LINKED),
        (&blocks[7], State::Coalescing, 1),
        (&blocks[10], State::Coalescing, 1),
    ] {
        becomes(dir, &handler, block, state, owner);
    }
    let [.., freed, _] = blocks;
    handler.free_raw(freed).expect("live");
    handler
}

#[test]
fn what_is_said_of_blocks_in_each_state_is_kept() {
    let dir = Dir::new();
    let handler = blocks_in_each_state(&dir);
    let id = handler.id().to_string();
    for (name, arguments) in [
        ("stat.txt", &["stat", &id, "--width", "80"][..]),
        ("map.txt", &["map", &id, "--width", "73", "--rows", "5"]),
        ("map.svg", &["map", &id, "--svg", "-", "--rows", "3"]),
        ("blocks.txt", &["blocks", &id, "--limit", "4"]),
        ("all-blocks.txt", &["blocks", &id, "--limit", "14"]),
        ("directory.txt", &["directory", &id]),
    ] {
        let ran = dir.matrix(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}: {ran:?}");
        compare(&dir, name, &ran.out);
    }
    std::mem::forget(handler);
}

/// More blocks than are drawn one by one, more classes than are shown, and more holders.
#[test]
fn what_is_said_of_a_crowd_is_kept() {
    let dir = Dir::new();
    let handler = known(&dir, 4 << 20);
    let id = handler.id().to_string();
    let mut small: Vec<_> = (0..5000).map(|_| Some(handler.allocate_raw(64).expect("room"))).collect();
    let holes: Vec<_> = (0..24)
        .map(|k| {
            handler.allocate_raw(64).expect("room");
            handler.allocate_raw(((8 + k % 8) << (4 + k / 8)) * 16).expect("room")
        })
        .collect();
    handler.allocate_raw(64).expect("room");
    holes.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
    // Of each stretch of so many, one is left, or one is gone.
    for (first, each, left) in [(200, 2, true), (600, 8, true), (1000, 4, true), (1400, 5, false), (1800, 8, false)] {
        for (at, block) in (0..).zip(&mut small).skip(first).take(200) {
            if (at % each == 0) != left {
                handler.free_raw(block.take().expect("once")).expect("live");
            }
        }
    }
    let owned = |owners: std::ops::Range<u16>| {
        for (owner, block) in owners.zip(small[3000..].iter().flatten()) {
            becomes(&dir, &handler, block, State::Allocated, owner);
        }
    };
    owned(2..21);
    for (name, arguments) in [
        ("crowd.txt", &["stat", &id, "--width", "80"][..]),
        ("crowd-map.txt", &["map", &id, "--width", "80", "--rows", "16"]),
        ("crowd.svg", &["map", &id, "--svg", "-", "--rows", "2"]),
    ] {
        let ran = dir.matrix(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}: {ran:?}");
        compare(&dir, name, &ran.out);
    }
    assert!(!dir.matrix(&["stat", &id]).out.contains(" more (--json shows all)"), "twenty holders are shown");
    owned(2..22);
    let text = dir.matrix(&["stat", &id]).out;
    assert!(text.contains("\n  and 1 more (--json shows all)\n"), "{text}");
    std::mem::forget(handler);
}
