//! What the tool says of structures, and of segments that nobody uses.
#![allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]

use crate::kept::compare;
use crate::{Dir, Holder, MIB, run};
use atomic_matrix::Shared;
use atomic_matrix::handlers::{Handler, LINKED};
use atomic_matrix::ipc::{Board, Channel};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

fn lines(handler: &Handler) -> Channel<[u8]> {
    handler.channel("lines").capacity(4).create().expect("made")
}

fn named<'v>(seen: &'v Value, name: &str) -> &'v Value {
    let all = seen["structures"].as_array().expect("a list");
    all.iter().find(|one| one["names"] == json!([name])).unwrap_or_else(|| panic!("{name}: {seen}"))
}

#[test]
fn structures_are_listed_with_what_is_in_them_and_who_uses_them() {
    let dir = Dir::new();
    let handler = dir.segment(2 * MIB);
    let id = handler.id().to_string();
    assert_eq!(dir.matrix(&["structures", &id]).out, "there are no structures\n");
    let lines = lines(&handler);
    let (sender, receiver) = (lines.sender().expect("a sender"), lines.receiver().expect("a receiver"));
    for line in ["one", "two"] {
        sender.send(handler.message_from(line.as_bytes()).expect("room")).expect("room");
    }
    let topic = handler.topic::<u64>("news").cells(8).open_or_create().expect("made");
    let subscriber = topic.subscribe(0).expect("a place");
    (0..3).for_each(|k| topic.publish_value(k).expect("room"));
    let board = handler.board::<u32>("limit").expect("made");
    board.set(77).expect("room");
    let semaphore = handler.semaphore("desks", 5).expect("made");
    let event = handler.event("stop").expect("made");
    let mutex = handler.mutex::<u64>("count").expect("made");
    let locked = mutex.lock(Duration::ZERO).expect("free").expect("free");

    let seen = dir.json(&["structures", &id], 0);
    let me = std::process::id();
    let channel = named(&seen, "lines");
    assert_eq!(
        (&channel["kind"], &channel["type"], &channel["capacity"]),
        (&json!("channel"), &json!("[u8]"), &json!(4))
    );
    assert_eq!((&channel["depth"], &channel["ever"], &channel["per_second"]), (&json!(2), &json!(2), &Value::Null));
    let user = &channel["users"][0];
    assert_eq!((&user["pid"], &user["senders"], &user["receivers"]), (&json!(me), &json!(1), &json!(1)));
    assert!(user["process"].is_string());
    let news = named(&seen, "news");
    assert_eq!(
        (&news["depth"], &news["subscribers"][0]["behind"], &news["type"]),
        (&json!(3), &json!(3), &json!("u64"))
    );
    assert_eq!((&named(&seen, "limit")["kind"], &named(&seen, "desks")["depth"]), (&json!("board"), &json!(5)));
    assert_eq!((&named(&seen, "stop")["depth"], &named(&seen, "count")["held_by"]), (&json!(0), &user["participant"]));
    drop(locked);

    let table = dir.matrix(&["structures", &id, "--seconds", "0.05"]);
    assert_eq!(table.code, Some(0), "{table:?}");
    for part in ["NAME", "PUT/s", "lines", "2/4", "0/s", "1s 1r", "+3", &format!("({me})")] {
        assert!(table.out.contains(part), "{part}: {}", table.out);
    }
    assert!(!table.out.contains("wait to"), "nobody waits: {}", table.out);
    compare(&dir, "structures.txt", &table.out);

    let peeked = dir.json(&["peek", &id, "lines"], 0);
    let values: Vec<_> = peeked["contents"].as_array().expect("a list").iter().map(|one| &one["value"]).collect();
    assert_eq!(values, ["\"one\"", "\"two\""]);
    assert!(dir.matrix(&["peek", &id, "limit"]).out.contains("77"));
    assert_eq!(dir.json(&["peek", &id, "news", "--limit", "2"], 0)["contents"].as_array().map(Vec::len), Some(2));
    let refused = dir.matrix(&["peek", &id, "stop"]);
    assert!(refused.code == Some(4) && refused.err.contains("event"), "{refused:?}");
    assert_eq!(dir.matrix(&["peek", &id, "nothing"]).code, Some(3));
    assert_eq!(&*receiver.try_recv().expect("peeking took nothing"), b"one");

    // What stands in structures is nobody's loss.
    let all = dir.json(&["blocks", &id, "--limit", "0", "--owner", &LINKED.to_string()], 0);
    assert!(all["matching"].as_u64().is_some_and(|matching| matching > 0), "{all}");
    assert_eq!(dir.json(&["blocks", &id, "--dead"], 0)["matching"], 0);
    assert_eq!(dir.json(&["stat", &id], 0)["kept_from_the_dead"]["live"]["blocks"], 0);
    assert!(dir.matrix(&["stat", &id]).out.contains("in structures"));
    assert_eq!(handler.orphans().expect("sound"), []);

    drop(subscriber);
    topic.remove().and(board.remove()).and(semaphore.remove()).and(event.remove()).and(mutex.remove()).expect("ours");
    lines.close();
    assert!(dir.matrix(&["structures", &id]).out.contains("closed"));
}

#[test]
fn a_value_is_shown_as_what_it_is() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    fn board<T: Shared + Copy>(handler: &Handler, name: &str, value: T) -> Board<T> {
        let board = handler.board(name).expect("made");
        board.set(value).expect("room");
        board
    }
    let _eight = board(&handler, "eight", 200u8);
    // The only one that counts what is put there.
    let alone = dir.json(&["structures", &id, "--seconds", "0.01"], 0);
    assert_eq!((&alone["structures"][0]["ever"], &alone["structures"][0]["per_second"]), (&json!(1), &json!(0.0)));
    let boards = (
        board(&handler, "sixteen", 50_000u16),
        board(&handler, "thirty-two", 4_000_000_000u32),
        board(&handler, "sixty-four", u64::MAX),
        board(&handler, "real", 0.5f64),
    );
    let texts = handler.channel::<[u8]>("bytes").capacity(8).create().expect("made");
    let sender = texts.sender().expect("a sender");
    for bytes in [&b"short"[..], &[b'x'; 64], &[b'y'; 65], &[0, 255, 16], &[254; 70], b""] {
        sender.send(handler.message_from(bytes).expect("room")).expect("room");
    }
    let mut told = String::new();
    for name in ["eight", "sixteen", "thirty-two", "sixty-four", "real", "bytes"] {
        let ran = dir.matrix(&["peek", &id, name]);
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
        told += &ran.out;
    }
    compare(&dir, "peek.txt", &told);
    drop(boards);
}

#[test]
fn maps_and_values_in_structures_are_shown() {
    let dir = Dir::new();
    let handler = dir.segment(2 * MIB);
    let id = handler.id().to_string();
    let ages = handler.map::<u32>("ages").capacity(4).open_or_create().expect("made");
    for (key, age) in [(&b"ada"[..], 36), (&[0, 255][..], 7)] {
        ages.insert_value(key, age).expect("room");
    }
    let peeked = dir.json(&["peek", &id, "ages"], 0);
    let mut told: Vec<_> = peeked["contents"].as_array().expect("a list").iter().map(entry).collect();
    told.sort_unstable();
    assert_eq!(told, [("00 ff", "u32", "7"), ("ada", "u32", "36")]);
    let table = dir.matrix(&["peek", &id, "ages"]).out;
    assert!(table.starts_with("KEY") && table.contains("ada"), "{table}");
    let mutex = handler.mutex::<[i16; 3]>("counts").expect("made");
    *mutex.try_lock().expect("ours").expect("free") = [-1, 2, 3];
    let shared = handler.common_with::<AtomicU64>("total", |total| *total = AtomicU64::new(9)).expect("made");
    let jobs = handler.channel::<[f32; 2]>("jobs").redeliver(4).create().expect("made");
    let (sender, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    (0..2).for_each(|_| sender.send_value([0.5, 1.0]).expect("room"));
    let held = worker.try_recv().expect("sent");
    for (name, kind, value) in
        [("counts", "[i16; 3]", "[-1, 2, 3]"), ("total", "AtomicU64", "9"), ("jobs", "[f32; 2]", "[0.5, 1]")]
    {
        let out = dir.matrix(&["peek", &id, name]).out;
        assert!(out.contains(kind) && out.contains(value), "{name}: {out}");
    }
    // Who holds what is told wherever structures are, with rates from the second view on.
    let seen = dir.json(&["structures", &id], 0);
    let me = &named(&seen, "jobs")["users"][0]["participant"];
    let holds = json!([{ "participant": me, "pid": std::process::id(), "messages": 1 }]);
    assert_eq!(named(&seen, "jobs")["holding"], holds);
    let stat = dir.matrix(&["stat", &id]).out;
    assert!(stat.contains("\nstructures\n") && stat.contains(" holds 1\n") && !stat.contains("PUT/s"), "{stat}");
    assert_eq!(named(&dir.json(&["stat", &id], 0), "jobs")["depth"], 1);
    let watched = dir.matrix(&["watch", &id, "--count", "2", "--interval", "0.01"]).out;
    assert!(watched.contains(" holds 1\n") && watched.contains("PUT/s") && watched.contains("0/s"), "{watched}");
    drop((held, shared));
}

/// Key, type and value of what was in a map.
fn entry(one: &Value) -> (&str, &str, &str) {
    let text = |field: &str| one[field].as_str().expect("text");
    (text("key"), text("type"), text("value"))
}

#[test]
fn who_waits_is_told() {
    let dir = Dir::new();
    let handler = dir.segment(MIB);
    let id = handler.id().to_string();
    let lines = lines(&handler);
    let (sender, receiver) = (lines.sender().expect("a sender"), lines.receiver().expect("a receiver"));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| receiver.recv_timeout(Duration::from_secs(60)).map(|message| message.to_vec()));
        let told = |_: &u32| dir.matrix(&["structures", &id]).out.contains("1 wait to take\n");
        let told = (0..1000).find(told);
        sender.send(handler.message_from(b"wake up").expect("room")).expect("room");
        assert_eq!(waits.join().expect("no panic").expect("sent"), b"wake up");
        assert!(told.is_some(), "who waits is not told");
    });
    assert!(!dir.matrix(&["structures", &id]).out.contains("wait"));
}

#[test]
fn text_is_sent_and_received() {
    let dir = Dir::new();
    let handler = dir.segment(2 * MIB);
    let id = handler.id().to_string();
    let lines = lines(&handler);
    let text = handler.channel::<str>("text").capacity(1).create().expect("made");
    handler.channel::<u64>("numbers").create().expect("made");
    for name in ["lines", "text"] {
        let sent = dir.matrix(&["send", &id, name, "hello there"]);
        assert_eq!((sent.code, &*sent.out), (Some(0), ""), "{sent:?}");
    }
    let full = dir.matrix(&["send", &id, "text", "again", "--timeout", "0.05"]);
    assert!(full.code == Some(4) && full.err.contains("full"), "{full:?}");
    for name in ["lines", "text"] {
        let received = dir.matrix(&["recv", &id, name]);
        assert_eq!((received.code, &*received.out), (Some(0), "hello there"), "{received:?}");
    }
    for line in ["one", "two"] {
        assert_eq!(dir.matrix(&["send", &id, "lines", line]).code, Some(0));
    }
    let both = dir.matrix(&["recv", &id, "lines", "--count", "2"]);
    assert_eq!((both.code, &*both.out), (Some(0), "one\ntwo\n"), "each on a line of its own: {both:?}");
    // The senders have left.
    let none = dir.matrix(&["recv", &id, "lines", "--timeout", "0.05"]);
    assert!(none.code == Some(4) && none.err.contains("no sender"), "{none:?}");
    for name in ["numbers", "nothing"] {
        let code = if name == "nothing" { 3 } else { 4 };
        assert_eq!(dir.matrix(&["send", &id, name, "x"]).code, Some(code));
        assert_eq!(dir.matrix(&["recv", &id, name]).code, Some(code));
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_matrix"))
        .args(["send", "--dir"])
        .arg(&dir.0)
        .args([&id, "lines", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("piped").write_all(&[0, 255, 10]).expect("it reads");
    assert!(child.wait().expect("it ends").success());
    let receiver = lines.receiver().expect("a receiver");
    assert_eq!(&*receiver.try_recv().expect("sent"), &[0, 255, 10]);
    drop(receiver);
    drop((lines, text));
}

#[test]
fn stale_segments_are_told_and_removed() {
    let dir = Dir::new();
    let used = dir.segment(MIB);
    let [left, killed] = [dir.segment(MIB), dir.segment(MIB)].map(|handler| handler.id());
    let mut holder = Holder::new(&dir.file(killed));
    let ls = |id: uuid::Uuid| {
        let all = dir.json(&["ls"], 0);
        let all = all.as_array().expect("a list").clone();
        all.into_iter().find(|one| one["id"] == json!(id.to_string())).expect("it is there")
    };
    let row = ls(killed);
    assert_eq!((&row["stale"], &row["users"][0]["pid"]), (&json!(false), &json!(holder.0.id())));
    assert!(row["age_seconds"].as_u64().is_some_and(|age| age < 1000));
    assert_eq!((&ls(left)["stale"], &ls(used.id())["stale"]), (&json!(true), &json!(false)));
    assert!(dir.matrix(&["ls"]).out.contains("stale: nobody has it open"));
    let removed = dir.json(&["rm", "--stale"], 0);
    assert_eq!(removed["removed"], json!([dir.file(left).to_string_lossy()]));
    holder.kill();
    assert_eq!(ls(killed)["stale"], json!(true));
    let removed = dir.matrix(&["rm", "--stale"]);
    assert!(removed.code == Some(0) && removed.out.contains(&killed.to_string()), "{removed:?}");
    assert_eq!(dir.matrix(&["rm", "--stale"]).out, "no segment is stale\n");
    assert!(dir.file(used.id()).exists());
    let usage = run(Command::new(env!("CARGO_BIN_EXE_matrix")).arg("rm"));
    assert_eq!(usage.code, Some(2), "{usage:?}");
}
