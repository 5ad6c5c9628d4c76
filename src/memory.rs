//! For structures of one's own: blocks made of atomic words, behind a seam at which checkers take the segment's place.
//!
//! A structure that is written for any [`Memory`] runs in a segment ([`Words`]) and, unchanged, in the models of
#![cfg_attr(feature = "check", doc = "[`check`](crate::check),")]
#![cfg_attr(not(feature = "check"), doc = "`check` (the feature of that name),")]
//! where every interleaving of a few threads is tried and each of them is killed before each of its accesses.
//!
//! Each access names a [`Site`]: what it is called in a report, its memory ordering, and what that pairs with.
//!
//! ```
//! use atomic_matrix::memory::{Memory, Site, Word, Words};
//! use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
//!
//! const MAKE: Site = Site::own("MAKE", Relaxed, "nobody: it is not seen yet");
//! const LOOK: Site = Site::own("LOOK", Acquire, "RAISE");
//! const RAISE: Site = Site::own("RAISE", AcqRel, "LOOK and RAISE of others");
//!
//! /// The largest number that anybody has told: lock-free.
//! fn raise<M: Memory>(memory: &M, highest: u32, to: u64) {
//!     let word = memory.word(highest, 0);
//!     let mut now = word.load(&LOOK);
//!     while now < to {
//!         match word.cas(now, to, &RAISE) {
//!             Ok(_) => return,
//!             Err(found) => now = found,
//!         }
//!     }
//! }
//!
//! let handler = atomic_matrix::Options::new().memfd().size(1 << 20).create()?;
//! // SAFETY: whoever uses these blocks does it through `Words`.
//! let memory = unsafe { Words::new(handler) };
//! let highest = memory.allocate(1).expect("there is room");
//! memory.word(highest, 0).store(0, &MAKE);
//! raise(&memory, highest, 7);
//! assert_eq!(memory.word(highest, 0).load(&LOOK), 7);
//! # Ok::<(), atomic_matrix::Error>(())
//! ```

use crate::backend::{Backend, Native, NativeWord};
pub use crate::backend::{Site, Word};
use crate::handlers::Handler;
use crate::matrix::heap::Kind;
use crate::segment::region::Region;

/// Blocks of words, as one participant sees them.
pub trait Memory {
    /// A word that others access as well.
    type Word: Word;

    /// A block of `words` words, this participant's: if it dies, the block is freed. Its offset, which means the same
    /// to everybody and is never 0; none if there is no room. The words hold whatever was there. O(1), lock-free.
    fn allocate(&self, words: usize) -> Option<u32>;
    /// Frees a block of this participant's, or unowned. False if no block is live there, or it is just being adopted.
    #[must_use]
    fn free(&self, block: u32) -> bool;
    /// Makes a block unowned: no death frees it. False as for [`Memory::free`].
    #[must_use]
    fn hand_over(&self, block: u32) -> bool;
    /// Makes a block this participant's, which was unowned. False as for [`Memory::free`].
    #[must_use]
    fn adopt(&self, block: u32) -> bool;
    /// A word of the block, whoever has it by now: of a block that was freed meanwhile it is whatever stands there.
    ///
    /// # Panics
    /// If it lies outside the segment.
    fn word(&self, block: u32, at: usize) -> &Self::Word;
    /// A fence.
    fn fence(&self, site: &'static Site);
    /// Called in each loop that waits for somebody else's step: a checker lets others go on.
    fn pause(&self);
    /// Live blocks in the segment. O(blocks).
    fn live(&self) -> u64;
}

/// A segment's blocks as words.
#[derive(Debug, Clone)]
pub struct Words {
    handler: Handler,
}

impl Words {
    /// The blocks of a segment as words.
    ///
    /// # Safety
    /// A block whose words anybody accesses through this, or may still access while it is freed and allocated again,
    /// is accessed in no other way: not through references, messages or raw pointers.
    pub unsafe fn new(handler: Handler) -> Self {
        Self { handler }
    }

    /// The segment.
    pub fn handler(&self) -> &Handler {
        &self.handler
    }
}

impl Memory for Words {
    type Word = NativeWord;

    fn allocate(&self, words: usize) -> Option<u32> {
        let block = self.handler.allocate_bytes::<u8>(words.checked_mul(8)?, align_of::<u64>(), Kind::Raw);
        block.ok().map(|block| block.offset())
    }
    fn free(&self, block: u32) -> bool {
        self.handler.free_at(block).is_ok()
    }
    fn hand_over(&self, block: u32) -> bool {
        self.handler.live_at(block).is_ok_and(|live| self.handler.hand_over(&self.handler.pointer::<u8>(live)).is_ok())
    }
    fn adopt(&self, block: u32) -> bool {
        self.handler.adopt_at(block, None).is_ok()
    }
    fn word(&self, block: u32, at: usize) -> &NativeWord {
        let matrix = self.handler.matrix();
        let words =
            at.checked_add(1).and_then(|count| matrix.heap().region().payload(matrix.offsets().granule(block), count));
        words.map(|words| &words[at]).unwrap_or_else(|| panic!("no word {at} of a block at offset {block}"))
    }
    fn fence(&self, site: &'static Site) {
        Native::fence(site);
    }
    fn pause(&self) {
        Native::pause();
    }
    fn live(&self) -> u64 {
        self.handler.stats().map_or(0, |stats| stats.live_blocks)
    }
}
