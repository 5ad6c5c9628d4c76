//! How `matrix-bridge` is called wrongly: each is refused, with what would help, and none goes on.
#![allow(missing_docs)]

mod common;

use common::guarded;

/// What is wrong, how it ends, and what is said.
const WRONG: [(&str, i32, &str); 17] = [
    ("", 2, "--segment NAME"),
    ("--segment SEGMENT", 2, "nothing to carry"),
    ("--segment SEGMENT --out topic:a", 1, "there is no segment"),
    ("--segment SEGMENT --out", 2, "needs a value"),
    ("--segment SEGMENT --inn topic:a", 2, "no option \"--inn\""),
    ("--segment SEGMENT --size 1MB --out topic:a", 2, "it is not a number"),
    ("--segment SEGMENT --size 10 --out topic:a", 1, "10 bytes"),
    ("--segment SEGMENT --size 1000000 --out queue:a", 2, "with SORT topic, lossy or channel"),
    ("--segment SEGMENT --size 1000000 --out topic:=key", 2, "is not SORT:NAME"),
    ("--segment SEGMENT --size 1000000 --out topic:**", 1, "stands for several; give a key of its own: **=KEY"),
    ("--segment SEGMENT --size 1000000 --out topic:a=b/*", 1, "stands for several"),
    ("--segment SEGMENT --size 1000000 --out topic:a//b", 1, "empty chunks"),
    ("--segment SEGMENT --size 1000000 --out topic:a --in topic:a", 2, "go round for ever"),
    ("--segment SEGMENT --size 1000000 --cells 9999999 --out topic:a", 1, "1 to 1048576"),
    ("--segment SEGMENT --size 1000000 --out topic:a --listen nonsense", 2, "<protocol>/<address>"),
    ("--segment SEGMENT --size 1000000 --out topic:a --connect pigeon/a:1", 1, "pigeon"),
    ("--segment SEGMENT --size 1000000 --out topic:a --config /not/there", 2, "/not/there"),
];

#[test]
fn what_is_wrong_is_refused_with_what_would_help() {
    for (at, (arguments, code, said)) in WRONG.into_iter().enumerate() {
        let segment = format!("bridge-usage-{}-{at}", std::process::id());
        let mut command = guarded(env!("CARGO_BIN_EXE_matrix-bridge"));
        command.args(arguments.replace("SEGMENT", &segment).split_whitespace());
        // One that goes on is ended, with another code.
        let output = guarded("timeout").arg("20").arg(command.get_program()).args(command.get_args()).output();
        let output = output.expect("it starts");
        if let Ok(left) = atomic_matrix::Options::new().name(&segment).attach() {
            left.unlink().expect("it is ours");
        }
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {told}");
        assert!(told.contains(said), "{arguments}: {told}");
    }
}
