//! `matrix NAME` is the program `matrix-NAME`, as cargo finds its own.

use super::{Dir, run};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn other_commands_are_programs_in_the_path() {
    let dir = Dir::new();
    // Not in shared memory, which may refuse to execute anything.
    let folder = std::env::temp_dir().join(dir.0.file_name().expect("it has a name"));
    std::fs::create_dir(&folder).expect("it is writable");
    let program = folder.join("matrix-hello");
    std::fs::write(&program, "#!/bin/sh\necho hello \"$@\"; exit 7\n").expect("it is writable");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let matrix = |words: &[&str]| run(Command::new(env!("CARGO_BIN_EXE_matrix")).args(words).env("PATH", &path));
    let hello = matrix(&["hello", "--all", "of you"]);
    let gone = [matrix(&["helo"]), run(Command::new(env!("CARGO_BIN_EXE_matrix")).arg("bridge").env("PATH", &folder))];
    std::fs::remove_dir_all(&folder).expect("it is ours");
    assert_eq!((hello.code, &*hello.out), (Some(7), "hello --all of you\n"), "{hello:?}");
    assert!(gone.iter().all(|ran| ran.code == Some(2)), "{gone:?}");
    let told = [
        "matrix: no command helo, and no program matrix-helo; matrix --help has them\n",
        "matrix: no program matrix-bridge: it is a package of its own; cargo install --path bridges/zenoh puts it into PATH\n",
    ];
    assert_eq!(gone.map(|ran| ran.err), told);
}
