//! Whoever only looks attaches for reading alone: another user may, where the file's mode says so, and the file is
//! opened without the right to write.

use super::{Dir, MIB, Ran, run};
use atomic_matrix::segment::Options;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use uuid::Uuid;

/// A user with no rights of its own.
const NOBODY: u32 = 65_534;

/// What looks, and what it has to write: the segment's id where nothing stands.
const LOOKS: [(&[&str], &str); 9] = [
    (&["ls"], ""),
    (&["stat"], "participant slots"),
    (&["blocks"], "block"),
    (&["map"], "sector of segment"),
    (&["directory"], "limits"),
    (&["structures"], "orders"),
    (&["verify"], "sound"),
    (&["watch", "--count", "1"], "participant slots"),
    (&["peek"], "first order"),
];

#[test]
fn another_user_looks_into_a_segment_that_it_may_read() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can act as another user");
        return;
    }
    let dir = Dir::new();
    let make = |mode| {
        let segment = Options::new().path(&dir.0).id(Uuid::new_v4()).size(MIB).mode(mode).create().expect("created");
        segment.board::<u64>("limits").and_then(|board| board.set(7)).expect("room");
        segment
    };
    let (segment, secret) = (make(0o644), make(0o600));
    let orders = segment.channel::<str>("orders").create().expect("new");
    orders.sender().and_then(|sender| Ok(sender.send(segment.message_text("first order")?)?)).expect("room");
    let id = segment.id().to_string();
    let file = dir.file(segment.id());
    // By descriptor, since the way to the program may be closed to others.
    let program = std::fs::File::open(env!("CARGO_BIN_EXE_matrix")).expect("built");
    let program = rustix::io::dup(&program).expect("a descriptor");
    let as_nobody = |arguments: &[&str], id: &str| -> Ran {
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        command.arg(arguments[0]).arg("--dir").arg(&dir.0).args(&arguments[1..]);
        if arguments[0] != "ls" {
            command.arg(id);
        }
        if arguments[0] == "peek" {
            command.arg("orders");
        }
        run(command.uid(NOBODY).gid(NOBODY))
    };
    let before = std::fs::read(&file).expect("readable");
    for (arguments, expected) in LOOKS {
        let ran = as_nobody(arguments, &id);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        assert!(ran.out.contains(if expected.is_empty() { &id } else { expected }), "{arguments:?}: {ran:?}");
    }
    assert!(std::fs::read(&file).expect("readable") == before, "not a byte has changed");
    // What would change something is refused, and so is what may not be read.
    for arguments in [&["heal"], &["reap"]] {
        let ran = as_nobody(arguments, &id);
        assert_eq!((ran.code, ran.err.contains("no permission")), (Some(3), true), "{arguments:?}: {ran:?}");
    }
    let ran = as_nobody(&["stat"], &secret.id().to_string());
    assert_eq!((ran.code, ran.err.contains("no permission")), (Some(3), true), "{ran:?}");
    let ran = as_nobody(&["ls"], "");
    assert!(ran.out.contains("not opened") && ran.out.contains(&id), "{ran:?}");
}
