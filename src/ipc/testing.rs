//! What the tests of several structures begin and end with.

use crate::handlers::Handler;
use crate::segment::Options;
use std::time::{Duration, Instant};

pub(super) const SOON: Duration = Duration::from_millis(20);
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn handler() -> Handler {
    Options::new().memfd().size(4 << 20).create().expect("created")
}

/// Another process's handler, as far as the segment can tell.
pub(super) fn other(handler: &Handler) -> Handler {
    let fd = handler.matrix().segment().fd().try_clone_to_owned().expect("duplicated");
    Options::from_fd(fd).attach().expect("attached")
}

/// Soon: when a scope has ended, its threads may still be leaving.
pub(super) fn nothing_is_left(handler: &Handler) {
    let end = Instant::now() + LONG;
    let left = || {
        handler.heal().expect("a slot");
        handler.verify().expect("sound").free_blocks
    };
    while left() != 1 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(left(), 1, "Q3: nothing is left");
}
