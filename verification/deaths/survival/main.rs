//! Survive everything: forks, namespaces, participants that come, go and are killed by the thousand, what the
//! dead leave, limits, untrusted peers; and the page that says what is promised.
//!
//! Roles that need a process of their own are ignored tests, which [`support::child`] runs by name in a new process.
//! What needs root or a namespace prints "skipped" and why where it is not permitted.

mod adoption;
#[path = "../../support/common.rs"]
mod common;
mod crowd;
mod identity;
mod life;
mod limits;
mod orphans;
mod participants;
mod promises;
mod sealed;
mod slots;
#[path = "../../api/segment/support.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod support;
mod takeover;

use std::io::{BufRead, BufReader};
use std::process::Child;

/// The number that a role prints behind a word, when it gets there.
fn told(child: &mut Child, word: &str) -> u64 {
    let out = child.stdout.as_mut().expect("piped");
    let mut reader = BufReader::with_capacity(1, out);
    let mut line = String::new();
    while !line.starts_with(word) {
        line.clear();
        assert!(reader.read_line(&mut line).expect("readable") > 0, "the role ended before {word}");
    }
    line[word.len()..].trim().parse().expect("a number")
}
