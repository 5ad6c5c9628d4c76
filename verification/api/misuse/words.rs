//! Blocks of words, for structures of one's own.

use atomic_matrix::memory::{Memory, Site, Word, Words};
use atomic_matrix::segment::Options;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

const LOOK: Site = Site::own("LOOK", Acquire, "PUT");
const PUT: Site = Site::own("PUT", Release, "LOOK");
const FENCE: Site = Site::own("FENCE", SeqCst, "nobody");

#[test]
fn blocks_of_words_say_what_is_wrong() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    // SAFETY: these blocks are accessed as words alone.
    let words = unsafe { Words::new(handler) };
    assert_eq!((words.allocate(usize::MAX), words.allocate(1 << 20)), (None, None), "there is no room");
    let block = words.allocate(2).expect("room");
    words.word(block, 1).store(7, &PUT);
    assert!(catch_unwind(AssertUnwindSafe(|| words.word(block, usize::MAX).load(&LOOK))).is_err(), "outside");
    assert!(!words.free(block + 1) && !words.hand_over(0) && !words.adopt(u32::MAX), "no block begins there");
    assert_eq!((words.word(block, 1).load(&LOOK), words.live()), (7, 1), "nothing has changed");
    words.fence(&FENCE);
    words.pause();
    assert!(words.hand_over(block) && words.adopt(block) && words.free(block));
    assert!(!words.free(block) && !words.hand_over(block) && !words.adopt(block), "it is free");
    assert_eq!(words.handler().stats().expect("sound").live_blocks, 0);
}
