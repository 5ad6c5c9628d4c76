//! What the tests of several structures begin and end with.

use crate::backend::Backend;
use crate::handlers::Handler;
use crate::matrix::heap::Heap;
use crate::segment::Options;
use crate::segment::layout::{Layout, Params};
use crate::segment::region::BoxedRegion;
use std::time::{Duration, Instant};

pub(super) const SOON: Duration = Duration::from_millis(20);
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn handler() -> Handler {
    Options::new().memfd().size(4 << 20).create().expect("created")
}

/// A heap of which every word is payload that a structure may want.
pub(super) fn heap<B: Backend>() -> Heap<BoxedRegion<B>> {
    let params = Params { participants: 4, ..Params::for_segment(1 << 20) };
    let layout = Layout::fit(1 << 20, params).expect("room for a sector");
    Heap::format(BoxedRegion::with_payload(layout, 1024))
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
