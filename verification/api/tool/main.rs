//! The tool `matrix`, run as its users run it: on segments of a scratch directory that goes away with the test.

mod drawing;
mod kept;
mod load;
mod looking;
mod measuring;
mod others;
mod structures;
mod watching;

use atomic_matrix::handlers::{Handler, HandlerFunctions, KEPT};
use atomic_matrix::segment::Options;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use uuid::Uuid;

const MIB: usize = 1 << 20;
/// Tells a child that it is to hold blocks, and where.
const HOLD: &str = "ATOMIC_MATRIX_CLI_HOLD";
/// The same for a child that loads a segment.
const LOAD: &str = "ATOMIC_MATRIX_CLI_LOAD";

/// A directory of segments, gone at the end, also when the test fails.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = PathBuf::from(format!("/dev/shm/matrix-cli-test-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).expect("/dev/shm is writable");
        Self(path)
    }
    fn segment(&self, size: usize) -> Handler {
        Options::new().path(&self.0).id(Uuid::new_v4()).size(size).create().expect("created")
    }
    fn file(&self, id: Uuid) -> PathBuf {
        self.0.join(format!("atomic-matrix-{id}"))
    }
    /// Runs the tool on this directory.
    fn matrix(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }
    fn command(&self, arguments: &[&str]) -> Command {
        let (subcommand, rest) = arguments.split_first().expect("a subcommand");
        let mut command = Command::new(env!("CARGO_BIN_EXE_matrix"));
        command.arg(subcommand).arg("--dir").arg(&self.0).args(rest);
        command
    }
    /// Runs it with `--json`.
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let ran = self.matrix(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{arguments:?} wrote no JSON ({e}): {}", ran.out))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(command: &mut Command) -> Ran {
    let output = command.env_remove("COLUMNS").output().expect("the tool runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A child that holds blocks in a segment; killed at the end.
struct Holder(Child);

impl Holder {
    fn new(path: &Path) -> Self {
        let child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "hold_blocks_for_another_test", "--nocapture"])
            .env(HOLD, path)
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = Self(child.expect("a child"));
        let out = holder.0.stdout.take().expect("piped");
        let ready = BufReader::new(out).lines().map_while(Result::ok).any(|line| line.contains("holding"));
        assert!(ready, "the child did not get its blocks");
        holder
    }
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test by itself: what a [`Holder`] runs.
#[test]
fn hold_blocks_for_another_test() {
    let Ok(path) = std::env::var(HOLD) else { return };
    let handler = Options::new().path(path).attach().expect("attached");
    for _ in 0..10 {
        let _ = handler.allocate::<[u8; 1000]>().expect("room");
    }
    println!("\nholding");
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn an_empty_directory_has_no_segments() {
    let dir = Dir::new();
    let ran = dir.matrix(&["ls"]);
    assert_eq!((ran.code, ran.out.contains("no segments")), (Some(0), true), "{ran:?}");
    assert_eq!(dir.json(&["ls"], 0), serde_json::json!([]));
    let ran = run(Command::new(env!("CARGO_BIN_EXE_matrix")).args(["ls", "--dir", "/nowhere/at/all"]));
    assert_eq!((ran.code, ran.err.contains("/nowhere/at/all")), (Some(3), true), "{ran:?}");
}

#[test]
fn a_segment_is_listed_counted_drawn_and_found_sound() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let _typed = handler.allocate::<[u8; 100]>().expect("room");
    let raw = handler.allocate_raw(5000).expect("room");
    let small = handler.allocate_raw(64).expect("room");
    let between = handler.allocate_raw(64).expect("room");
    handler.free_raw(small).expect("live");
    let (stats, id) = (handler.stats().expect("sound"), handler.id().to_string());

    let list = dir.json(&["ls"], 0);
    assert_eq!((&list[0]["id"], &list[0]["status"]), (&id.as_str().into(), &"ok".into()));
    assert_eq!((&list[0]["alive"], &list[0]["dead"], &list[0]["bytes"]), (&1.into(), &0.into(), &MIB.into()));
    let listed = dir.matrix(&["ls"]).out;
    assert!(listed.contains(&id) && !listed.contains("matrix reap") && !listed.contains("stale"), "{listed}");

    let stat = dir.json(&["stat", &id], 0);
    assert_eq!(stat["live"]["bytes"], stats.live_bytes);
    assert_eq!(stat["free"]["bytes"], stats.free_bytes);
    assert_eq!((&stat["parked"]["blocks"], stats.parked_blocks > 0), (&stats.parked_blocks.into(), true));
    assert_eq!(stat["largest_free"], stats.largest_free);
    assert_eq!(stat["participants"][0]["pid"], std::process::id());
    assert_eq!(stat["participants"][0]["holds"]["live"]["blocks"], 3);
    let classes = stat["free_by_class"].as_array().expect("a list");
    assert_eq!(classes.iter().map(|class| class["bytes"].as_u64().unwrap_or(0)).sum::<u64>(), stats.free_bytes);
    let text = dir.matrix(&["stat", &id, "--width", "100"]).out;
    for word in
        ["live", "parked", "fragmented", "entropy", "unmerged", "free blocks by size class", "who holds how much"]
    {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }

    let all = dir.json(&["blocks", &id, "--limit", "0"], 0);
    assert_eq!(all["matching"], stats.live_blocks + stats.free_blocks + stats.parked_blocks);
    let owner = handler.participants()[0].number;
    let owned = ["blocks", &id, "--state", "live", "--min-bytes", "4K", "--owner", &owner.to_string()];
    let large = dir.json(&owned, 0);
    assert_eq!((&large["matching"], &large["blocks"][0]["offset"]), (&1.into(), &raw.offset().into()), "{large}");
    let one = dir.json(&["blocks", &id, "--state", "live", "--state", "parked", "--limit", "1"], 0);
    assert_eq!(
        (&one["matching"], one["blocks"].as_array().map(Vec::len)),
        (&(3 + stats.parked_blocks).into(), Some(1))
    );
    assert!(dir.matrix(&["blocks", &id]).out.contains(&between.offset().to_string()));

    let map = dir.json(&["map", &id, "--rows", "3"], 0);
    let sum =
        |key: &str| map["cells"].as_array().expect("a list").iter().filter_map(|cell| cell[key].as_u64()).sum::<u64>();
    assert_eq!((sum("live"), sum("free"), sum("parked")), (stats.live_bytes, stats.free_bytes, stats.parked_bytes));
    let drawn = dir.matrix(&["map", &id, "--width", "60", "--rows", "5"]).out;
    let rows: Vec<&str> = drawn.lines().filter(|line| line.ends_with('│')).collect();
    assert_eq!((rows.len(), rows.iter().all(|row| row.chars().count() == 60)), (5, true), "{drawn}");
    assert!(!drawn.contains('\x1b'), "no colours into a pipe");

    let svg = dir.0.join("sector.svg");
    assert_eq!(dir.matrix(&["map", &id, "--svg", &svg.to_string_lossy()]).code, Some(0));
    let svg = std::fs::read_to_string(svg).expect("written");
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("<title id=\"title\">"),
        "{svg}"
    );
    assert!(svg.contains(&format!("at offset {}: live, owner {owner}", raw.offset())));
    assert_eq!(
        svg.matches("<rect").count(),
        svg.matches("/>").count() + svg.matches("</rect>").count() - svg.matches("<path").count()
    );
    assert_eq!(dir.matrix(&["map", &id, "--svg", "/nowhere/a.svg"]).code, Some(4));

    let sound = dir.json(&["verify", &id], 0);
    assert_eq!((&sound["sound"], &sound["fault"]), (&true.into(), &Value::Null));
    assert!(dir.matrix(&["verify", &id]).out.starts_with("sound"));
    // All of it without changing a thing.
    assert_eq!(handler.stats().expect("sound"), stats);
    assert_eq!(handler.participants().len(), 1);
}

#[test]
fn a_segment_is_meant_by_id_by_its_beginning_or_by_path() {
    let dir = Dir::new();
    let (one, other) = (dir.segment(MIB), dir.segment(MIB));
    let (id, path) = (one.id().to_string(), dir.file(one.id()));
    let unique = (1..36).find(|length| !other.id().to_string().starts_with(&id[..*length])).expect("they differ");
    for name in [&id, &id[..unique], &id.to_uppercase(), &id.replace('-', ""), &path.to_string_lossy()] {
        assert_eq!(dir.json(&["stat", name], 0)["id"], id, "{name}");
    }
    for name in ["zzz", &Uuid::new_v4().to_string(), "/dev/shm/nothing/here", "", "ä", "--", "\u{1F9EA}/"] {
        let ran = dir.matrix(&["stat", "--", name]);
        assert_eq!(
            (ran.code, ran.out.is_empty(), ran.err.starts_with("matrix: ")),
            (Some(3), true, true),
            "{name}: {ran:?}"
        );
    }
    let common = (0..36).take_while(|i| id.as_bytes()[*i] == other.id().to_string().as_bytes()[*i]).count();
    if common > 0 {
        assert_eq!(dir.matrix(&["stat", &id[..common]]).code, Some(3));
    }
    // A file of the folder where we are needs no slash, whatever it is called.
    std::fs::copy(&path, dir.0.join("plain")).expect("copied");
    let plain = run(Command::new(env!("CARGO_BIN_EXE_matrix")).args(["stat", "--json", "plain"]).current_dir(&dir.0));
    assert!(plain.code == Some(0) && plain.out.contains(&id), "{plain:?}");
    // What is called like a segment is a damaged one, however short it is.
    let short = dir.0.join(format!("atomic-matrix-{}", Uuid::new_v4()));
    std::fs::write(&short, "dear").expect("written");
    assert_eq!(dir.matrix(&["stat", &short.to_string_lossy()]).code, Some(1));
}

#[test]
fn a_segment_is_found_by_its_plain_name() {
    let dir = Dir::new();
    // Other segments, some of whose ids may begin with the name's first letter.
    let others = [dir.segment(MIB), dir.segment(MIB)];
    let made = Options::new().path(&dir.0).name("cafe").size(MIB).create().expect("made");
    for name in ["cafe".to_owned(), made.id().to_string()] {
        let ran = dir.matrix(&["stat", &name, "--json"]);
        assert!(ran.code == Some(0) && ran.out.contains(&made.id().to_string()), "{ran:?}");
    }
    assert_eq!(dir.matrix(&["stat", "Kafe"]).code, Some(3), "another name");
    drop(others);
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let matrix = |arguments: &[&str]| run(Command::new(env!("CARGO_BIN_EXE_matrix")).args(arguments));
    for wrong in [
        &["frobnicate"][..],
        &["stat"],
        &["blocks", "x", "--state", "gone"],
        &["blocks", "x", "--min-bytes", "many"],
        &["watch", "x", "--interval", "0"],
        &["map", "x", "--width", "3"],
        &["map", "x", "--svg", "f", "--json"],
        &["reap", "x", "--keep", "--free"],
        &["bench", "--threads", "0"],
        &["bench", "--seconds", "never"],
        &["bench", "--repeat", "0"],
        &[],
    ] {
        assert_eq!(matrix(wrong).code, Some(2), "{wrong:?}");
    }
    let help = matrix(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in
        ["ls", "stat", "blocks", "directory", "map", "verify", "watch", "reap", "heal", "rm", "bench", "completions"]
    {
        assert!(help.out.contains(command), "{command}");
        assert_eq!(matrix(&[command, "--help"]).code, Some(0));
    }
    assert!(help.out.contains("Exit codes") && help.out.contains("Examples"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = matrix(&["completions", shell]);
        assert_eq!((script.code, script.out.contains("blocks")), (Some(0), true), "{shell}");
    }
}

#[test]
fn damaged_files_are_rows_that_say_why() {
    let dir = Dir::new();
    let sound = dir.segment(MIB);
    // Cut, overwritten at the head, garbage, empty, a directory, a link, headers overwritten.
    let spoilt: Vec<(&str, i32)> =
        vec![("cut", 1), ("head", 1), ("garbage", 1), ("headers", 1), ("directory", 3), ("link", 3)];
    for (how, code) in &spoilt {
        let segment = dir.segment(MIB);
        let (path, id) = (dir.file(segment.id()), segment.id().to_string());
        let header = segment.matrix().heap().layout().header(atomic_matrix::segment::layout::Granule(0)).0 * 8;
        drop(segment);
        let mut bytes = std::fs::read(&path).expect("readable");
        match *how {
            "cut" => bytes.truncate(MIB / 2),
            "head" => bytes[60] ^= 1,
            "garbage" => bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 31 + 7) as u8),
            "headers" => bytes[header..header + 8].fill(0),
            _ => {}
        }
        std::fs::remove_file(&path).expect("removed");
        match *how {
            "directory" => std::fs::create_dir(&path).expect("made"),
            "link" => std::os::unix::fs::symlink(dir.file(sound.id()), &path).expect("made"),
            _ => std::fs::write(&path, bytes).expect("written"),
        }
        let list = dir.json(&["ls"], 1);
        let row = list.as_array().and_then(|rows| rows.iter().find(|row| row["id"] == id)).expect("a row for it");
        assert_eq!(row["status"], if *code == 1 { "damaged" } else { "unknown" }, "{how}: {row}");
        assert!(row["reason"].as_str().is_some_and(|reason| reason.len() > 20), "{how}: {row}");
        for command in [&["stat"][..], &["blocks"], &["map"], &["verify"], &["watch", "--count", "1"]] {
            let ran = dir.matrix(&[command, &[id.as_str()]].concat());
            assert_eq!(ran.code, Some(*code), "{how}, {command:?}: {ran:?}");
            assert!(!(ran.out + &ran.err).is_empty() && !ran.err.contains("panicked"), "{how}, {command:?}");
        }
    }
    assert!(dir.json(&["ls"], 1).as_array().is_some_and(|rows| rows.len() == 1 + spoilt.len()));
    // A file that can't be opened goes away by force only; what isn't called like a segment never.
    let victim = dir.0.join(format!("atomic-matrix-{}", Uuid::new_v4()));
    let stranger = dir.0.join("letters.txt");
    for path in [&victim, &stranger] {
        std::fs::write(path, "dear reader, this is not a segment").expect("written");
    }
    assert_eq!(dir.matrix(&["rm", &victim.to_string_lossy()]).code, Some(1));
    assert!(victim.exists());
    assert_eq!(dir.matrix(&["rm", "--force", &victim.to_string_lossy()]).code, Some(0));
    assert_eq!(dir.matrix(&["rm", "--force", &stranger.to_string_lossy()]).code, Some(3));
    let texts = ["dear reader, this is not a segment", "dear", "", &"x".repeat(10_000)];
    for (command, text) in ["stat", "verify", "map"].iter().flat_map(|command| texts.map(|text| (command, text))) {
        std::fs::write(&stranger, text).expect("written");
        let ran = dir.matrix(&[command, &stranger.to_string_lossy()]);
        let advises = ["remove", "unlink", "make a new one"].iter().any(|word| ran.err.contains(word));
        assert_eq!((ran.code, ran.err.contains("not a segment"), advises), (Some(3), true, false), "{ran:?}");
    }
    assert!(!victim.exists() && stranger.exists());
}

#[test]
fn segments_of_strangers_are_opened_only_when_told() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    if let Err(e) = std::os::unix::fs::chown(dir.file(handler.id()), Some(12_345), None) {
        return println!("skipped: only root can give a file away: {e}");
    }
    let seen = dir.json(&["ls"], 0);
    assert_eq!((&seen[0]["status"], &seen[0]["owner"]), (&"unknown".into(), &12_345.into()));
    let ran = dir.matrix(&["stat", &id]);
    assert_eq!((ran.code, ran.err.contains("--trust-owner 12345")), (Some(3), true), "{ran:?}");
    assert_eq!(dir.json(&["stat", &id, "--trust-owner", "12345"], 0)["owner"], 12_345);
    assert_eq!(dir.json(&["ls", "--trust-owner", "12345"], 0)[0]["status"], "ok");
}

#[test]
fn names_are_shown_and_not_obeyed() {
    let dir = Dir::new();
    std::fs::write(dir.0.join("atomic-matrix-\x1b[2J\nx"), "no segment").expect("written");
    let ran = dir.matrix(&["ls"]);
    assert_eq!((ran.code, ran.out.contains('\x1b')), (Some(1), false), "{ran:?}");
    assert_eq!(dir.json(&["ls"], 1)[0]["status"], "damaged");
}

#[test]
fn a_killed_participant_is_dead_until_it_is_reaped() {
    for keep in [false, true] {
        let dir = Dir::new();
        let handler = dir.segment(MIB);
        let id = handler.id().to_string();
        let mut holder = Holder::new(&dir.file(handler.id()));
        let seen = dir.json(&["ls"], 0);
        assert_eq!((&seen[0]["alive"], &seen[0]["dead"]), (&1.into(), &0.into()));
        let refused = dir.matrix(&["rm", &id]);
        assert_eq!((refused.code, refused.err.contains("--force")), (Some(4), true), "{refused:?}");
        assert_eq!(dir.json(&["reap", &id], 0)["recovered"], 0, "the living are left alone");

        holder.kill();
        // Looking recovers nobody, however often, and changes not a byte.
        let bytes = || std::fs::read(dir.file(handler.id())).expect("readable");
        let before = bytes();
        for command in [&["ls"][..], &["stat", &id], &["blocks", &id], &["map", &id], &["verify", &id]] {
            assert_eq!(dir.matrix(command).code, Some(0), "{command:?}");
        }
        assert!(bytes() == before, "the segment is as it was");
        let stat = dir.json(&["stat", &id], 0);
        assert_eq!((&stat["participants"][0]["alive"], &stat["live"]["blocks"]), (&false.into(), &10.into()));
        assert_eq!(stat["participants"].as_array().map(Vec::len), Some(1), "nor does it take a slot");
        let dead = dir.json(&["blocks", &id, "--dead"], 0);
        assert_eq!((&dead["matching"], &dead["matching_bytes"]), (&10.into(), &10_240.into()));
        assert_eq!(dir.json(&["blocks", &id, "--dead", "--state", "free"], 0)["matching"], 0);
        assert!(dir.matrix(&["ls"]).out.contains("reap"));

        let reaped = if keep { dir.json(&["reap", &id, "--keep"], 0) } else { dir.json(&["reap", &id], 0) };
        assert_eq!((&reaped["recovered"], &reaped["live"]["blocks"]), (&1.into(), &10.into()));
        let stat = dir.json(&["stat", &id], 0);
        let left = if keep { 10 } else { 0 };
        assert_eq!(
            (&stat["kept_from_the_dead"]["live"]["blocks"], &stat["live"]["blocks"]),
            (&left.into(), &left.into())
        );
        assert_eq!(dir.json(&["blocks", &id, "--owner", &KEPT.to_string()], 0)["matching"], left);
        assert_eq!(dir.json(&["blocks", &id, "--dead"], 0)["matching"], left);
        assert_eq!(stat["participants"], serde_json::json!([]));
        assert_eq!(dir.matrix(&["reap", &id]).out, "no participant is dead\n");

        assert_eq!(dir.json(&["rm", &id], 0)["removed"], true);
        assert_eq!(dir.matrix(&["rm", &id]).code, Some(3));
    }
}

/// Who reaps says what becomes of the blocks; who says nothing gets what the segment's creator chose.
#[test]
fn what_the_dead_held_is_kept_or_freed_as_the_creator_chose_unless_told() {
    for (chosen, told, kept) in
        [(false, "", false), (false, "--keep", true), (true, "", true), (true, "--keep", true), (true, "--free", false)]
    {
        let dir = Dir::new();
        let options = Options::new().path(&dir.0).id(Uuid::new_v4()).size(MIB).keep_orphans(chosen);
        let handler = options.create().expect("created");
        let id = handler.id().to_string();
        Holder::new(&dir.file(handler.id())).kill();
        let arguments: Vec<&str> = ["reap", &id, told].into_iter().filter(|argument| !argument.is_empty()).collect();
        let ran = dir.matrix(&arguments);
        println!("{arguments:?}\n{}", ran.out);
        assert_eq!((ran.code, ran.out.starts_with("recovered 1 dead participant\n")), (Some(0), true), "{ran:?}");
        assert_eq!(ran.out.contains("freed 10 live blocks, 10 KiB"), !kept, "{ran:?}");
        assert_eq!(
            ran.out.contains("kept 10 live blocks, 10 KiB") && ran.out.contains("--dead lists them"),
            kept,
            "{ran:?}"
        );
        assert_eq!(handler.stats().expect("sound").live_blocks, if kept { 10 } else { 0 });
        assert_eq!(dir.json(&arguments, 0)["recovered"], 0, "once");
    }
}

#[test]
fn names_are_listed_with_their_blocks_and_owners() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    let empty = dir.matrix(&["directory", &id]);
    assert_eq!((empty.code, empty.out.contains("nothing is published")), (Some(0), true), "{empty:?}");
    let publish = |name: &str| {
        let block = handler.allocate::<[u8; 1000]>().expect("room");
        handler.publish(name, &block).expect("new");
        block
    };
    let (unowned, mine, gone, odd) =
        (publish("b unowned"), publish("a mine"), publish("gone"), publish("odd\x1b[2J\u{e9}"));
    let _mine = handler.adopt_at(mine.offset(), Some(mine.generation())).expect("live");
    handler.free(gone);
    let listed = dir.json(&["directory", &id], 0);
    let names = listed["names"].as_array().expect("a list").clone();
    let by_name = |name: &str| names.iter().find(|row| row["name"] == name).expect("listed");
    assert_eq!(
        names.iter().map(|row| row["name"].as_str().unwrap_or_default()).collect::<Vec<_>>()[..2],
        ["a mine", "b unowned"]
    );
    assert_eq!((names.len(), &listed["entries"]), (4, &handler.matrix().heap().layout().params.directory.into()));
    let row = by_name("a mine");
    assert_eq!((&row["offset"], &row["bytes"], &row["live"]), (&mine.offset().into(), &1024.into(), &true.into()));
    assert_eq!((&row["pid"], &row["alive"]), (&std::process::id().into(), &true.into()));
    assert_eq!(
        (&by_name("b unowned")["owner"], &by_name("b unowned")["offset"]),
        (&0.into(), &unowned.offset().into())
    );
    assert_eq!((&by_name("gone")["live"], &by_name("gone")["bytes"]), (&false.into(), &Value::Null));
    assert_eq!(by_name("odd\x1b[2J\u{e9}")["offset"], odd.offset());
    let table = dir.matrix(&["directory", &id]).out;
    println!("{table}");
    assert!(
        !table.contains('\x1b') && table.contains("its block was freed") && table.contains("4 names of"),
        "{table}"
    );
    assert!(table.contains(&format!("(process {})", std::process::id())) && table.contains("nobody"), "{table}");
    // Owned by one who died, and then kept from it.
    let mut holder = Holder::new(&dir.file(handler.id()));
    let theirs = handler.participants().iter().map(|p| p.number).max().expect("two");
    let mut block = None;
    handler
        .blocks(|seen| {
            if seen.owner == theirs {
                block = block.or(Some(seen))
            }
        })
        .expect("sound");
    let block = handler.get_block::<[u8; 1000]>(block.expect("it holds some").offset).expect("live");
    handler.publish("theirs", &block).expect("new");
    holder.kill();
    // Publishing took it from its owner: unowned.
    assert!(
        dir.json(&["directory", &id], 0)["names"]
            .as_array()
            .is_some_and(|all| all.iter().any(|row| row["name"] == "theirs" && row["owner"] == 0))
    );
    for _ in 0..2 {
        let dead = dir.matrix(&["blocks", &id, "--dead"]);
        println!("{}", dead.out);
        assert_eq!((dead.code, dead.out.contains("9 blocks, 9 KiB")), (Some(0), true), "{dead:?}");
        dir.json(&["reap", &id, "--keep"], 0);
    }
}

#[test]
fn healing_merges_what_is_parked() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    let blocks: Vec<_> = (0..20).map(|_| handler.allocate_raw(64).expect("room")).collect();
    blocks.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
    let parked = handler.stats().expect("sound").parked_blocks;
    let healed = dir.json(&["heal", &id], 0);
    assert_eq!((&healed["before"]["parked_blocks"], &healed["after"]["parked_blocks"]), (&parked.into(), &0.into()));
    assert_eq!((parked >= 20, &healed["after"]["free_blocks"]), (true, &1.into()));
    assert!(dir.matrix(&["heal", &id]).out.contains("1 free block"));
    let forced = dir.matrix(&["rm", "--force", &id]);
    assert_eq!((forced.code, dir.file(handler.id()).exists()), (Some(0), false), "{forced:?}");
    let _ = handler.allocate_raw(64).expect("those attached go on");
}

#[test]
fn watching_ends_when_the_segment_is_removed() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let since = Instant::now();
    let ran = dir.matrix(&["watch", &handler.id().to_string(), "--count", "3", "--interval", "0.05"]);
    assert_eq!((ran.code, ran.out.matches("segment ").count()), (Some(0), 3), "{ran:?}");
    assert!(since.elapsed() >= 2 * Duration::from_millis(50), "an interval at least lies between two views");
    let child = Command::new(env!("CARGO_BIN_EXE_matrix"))
        .args(["watch", "--interval", "0.05"])
        .arg(dir.file(handler.id()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = Holder(child.expect("a child"));
    let mut first = [0; 7];
    child.0.stdout.as_mut().expect("piped").read_exact(&mut first).expect("a view");
    handler.unlink().expect("removed");
    let mut rest = String::new();
    child.0.stdout.take().expect("piped").read_to_string(&mut rest).expect("read to its end");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = Dir::new();
    let handler = dir.segment(4 * MIB);
    let held: Vec<_> = (0..20_000).map(|_| handler.allocate_raw(64).expect("room")).collect();
    for command in [&["blocks", "--limit", "0"][..], &["watch", "--interval", "0.01"]] {
        let child = Command::new(env!("CARGO_BIN_EXE_matrix"))
            .args(command)
            .arg(dir.file(handler.id()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = Holder(child.expect("a child"));
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let mut err = String::new();
        child.0.stderr.take().expect("piped").read_to_string(&mut err).expect("read");
        assert_eq!((child.0.wait().expect("it ends").code(), err.as_str()), (Some(0), ""), "{command:?}");
        assert!(!line.is_empty());
    }
    held.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
}
