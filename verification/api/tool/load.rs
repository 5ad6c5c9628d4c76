//! Reading while others work: it sees a whole segment, and changes not a byte of it.

use super::{Dir, Holder, LOAD, MIB, run};
use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::segment::Options;
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_segment_under_load_is_read_all_the_while() {
    let dir = Dir::new();
    let handler = dir.segment(4 * MIB);
    let id = handler.id().to_string();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2usize {
            let (handler, stop) = (handler.clone(), &stop);
            scope.spawn(move || {
                let (mut held, mut turn) = (vec![], thread);
                while !stop.load(Ordering::Relaxed) {
                    turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if held.len() < 500
                        && let Ok(block) = handler.allocate_raw(1 + (turn >> 33) % 6000)
                    {
                        held.push(block);
                    } else {
                        handler.free_raw(held.swap_remove((turn >> 33) % held.len())).expect("live");
                    }
                }
                held.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
            });
        }
        let looked = std::panic::catch_unwind(|| {
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until {
                assert_eq!(dir.json(&["ls"], 0)[0]["status"], "ok");
                for command in [&["stat", &id][..], &["blocks", &id, "--limit", "5"], &["map", &id], &["verify", &id]] {
                    dir.json(command, 0);
                }
            }
            let watched = dir.matrix(&["watch", &id, "--count", "3", "--interval", "0.05", "--json"]);
            assert_eq!(watched.code, Some(0), "{watched:?}");
            let views: Vec<Value> = watched.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert!(views.len() == 3 && views.iter().all(|view| view["id"] == id));
        });
        stop.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    handler.heal().expect("a slot");
    let stats = handler.verify().expect("sound");
    assert_eq!((stats.free_blocks, stats.free_bytes), (1, stats.sector_bytes));
}

/// Every command that only reads.
const READING: [&[&str]; 11] = [
    &["ls"],
    &["stat", "SEGMENT"],
    &["blocks", "SEGMENT", "--limit", "0"],
    &["blocks", "SEGMENT", "--dead"],
    &["directory", "SEGMENT"],
    &["map", "SEGMENT"],
    &["map", "SEGMENT", "--rows", "2", "--width", "20"],
    &["map", "SEGMENT", "--svg", "-"],
    &["verify", "SEGMENT"],
    &["watch", "SEGMENT", "--count", "2", "--interval", "0.01"],
    &["completions", "bash"],
];

/// A process that allocates, fills, checks, frees and publishes on two threads until it is killed.
#[test]
fn load_a_segment_for_another_test() {
    let Ok(path) = std::env::var(LOAD) else { return };
    let handler = Options::new().path(path).attach().expect("attached");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let handler = handler.clone();
            scope.spawn(move || {
                let mut random = fastrand::Rng::new();
                let (mut held, since) = (vec![], Instant::now());
                while since.elapsed() < Duration::from_secs(60) {
                    if held.len() < 300
                        && let Ok(block) = handler.allocate_raw(random.usize(1..5000))
                    {
                        let bytes = vec![random.u8(..); handler.usable_size(&block).expect("live")];
                        handler.store_bytes(&block, &bytes).expect("live");
                        held.push((block, bytes));
                    } else if !held.is_empty() {
                        let (block, bytes) = held.swap_remove(random.usize(..held.len()));
                        let mut found = vec![0; bytes.len()];
                        handler.load_bytes(&block, &mut found).expect("live");
                        assert!(found == bytes, "somebody has changed our block");
                        handler.free_raw(block).expect("live");
                    }
                    let name = format!("{}.{thread}.{}", std::process::id(), random.u8(..3));
                    if let Ok(block) = handler.take::<u64>(&name) {
                        handler.free(block);
                    } else if let Ok(block) = handler.allocate::<u64>() {
                        let _ = handler.publish(&name, &block);
                    }
                }
            });
        }
    });
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("it runs");
}

/// Whether every thread of a process stands still.
fn stands_still(child: &Child) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
    tasks.map(|task| std::fs::read_to_string(task.expect("readable").path().join("stat"))).all(|stat| {
        stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T')))
    })
}

#[test]
fn reading_changes_not_a_byte_of_a_segment_under_full_load() {
    let dir = Dir::new();
    let handler = dir.segment(4 * MIB);
    let (id, path) = (handler.id().to_string(), dir.file(handler.id()));
    let load = || {
        let child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", "load::load_a_segment_for_another_test", "--nocapture"])
            .env(LOAD, &path)
            .stdout(Stdio::null())
            .spawn();
        Holder(child.expect("a child"))
    };
    let mut loaders = [load(), load()];
    let since = Instant::now();
    while handler.participants().len() < 4 || handler.names().is_empty() {
        assert!(since.elapsed() < Duration::from_secs(30), "the load does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let read = |json: bool, stopped: bool| {
        for command in READING {
            let mut command: Vec<&str> =
                command.iter().map(|word| if *word == "SEGMENT" { &id } else { *word }).collect();
            let ran = match command[0] {
                "completions" => run(Command::new(env!("CARGO_BIN_EXE_matrix")).args(&command)),
                _ => {
                    if json && !command.contains(&"--svg") {
                        command.push("--json");
                    }
                    dir.matrix(&command)
                }
            };
            // An operation that is stopped half-way looks like a fault for as long as it is stopped.
            let fine = ran.code == Some(0) || stopped && command[0] == "verify" && ran.code == Some(1);
            assert!(fine && !ran.out.is_empty() && ran.err.is_empty(), "{command:?}: {ran:?}");
        }
    };
    for round in 0..6 {
        // While it works, and stopped at any instruction: there not a byte may change.
        read(round % 2 == 0, false);
        loaders.iter().for_each(|loader| signal(&loader.0, rustix::process::Signal::STOP));
        while !loaders.iter().all(|loader| stands_still(&loader.0)) {
            assert!(since.elapsed() < Duration::from_secs(60), "they do not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        let before = std::fs::read(&path).expect("readable");
        assert!(handler.stats().expect("blocks tile the sector").live_blocks > 100);
        read(round % 2 == 1, true);
        assert!(std::fs::read(&path).expect("readable") == before, "the segment is as it was, round {round}");
        assert_eq!(
            handler.participants().iter().filter(|p| p.alive).count(),
            4,
            "the stopped live, and nobody else came"
        );
        loaders.iter().for_each(|loader| signal(&loader.0, rustix::process::Signal::CONT));
    }
    for loader in &mut loaders {
        assert!(loader.0.try_wait().expect("a child").is_none(), "a loader has found its block changed");
        loader.kill();
    }
    // Unless the second one, out of memory, has recovered the first.
    let recovered = dir.json(&["reap", &id], 0)["recovered"].as_u64().expect("a number");
    assert!((2..=4).contains(&recovered) && handler.participants().iter().all(|p| p.alive), "{recovered}");
    for name in handler.names() {
        handler.free(handler.take::<u64>(&name.name).expect("unowned"));
    }
    dir.json(&["heal", &id], 0);
    let stats = handler.verify().expect("sound");
    assert_eq!((stats.free_blocks, stats.free_bytes), (1, stats.sector_bytes));
}
