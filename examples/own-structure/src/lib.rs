//! A stack that several processes share: lock-free, of numbers, on blocks of the matrix.
//!
//! A killed process leaves it usable. What it was just pushing or popping may be lost, and its block, which was
//! unowned at that moment, stays live: one block a death. (A channel loses nothing; this is about how to check.)

use atomic_matrix::memory::{Memory, Site, Word};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

const MAKE: Site = Site::own("MAKE", Relaxed, "nobody has seen the block: SWING publishes it");
const TOP: Site = Site::own("TOP", Acquire, "SWING of whoever pushed that node, so that its words are seen");
const BELOW: Site = Site::own("BELOW", Relaxed, "TOP has found the node; where it is another's by now, SWING fails");
const VALUE: Site = Site::own("VALUE", Relaxed, "SWING has made the node this participant's");
const SWING: Site = Site::own("SWING", AcqRel, "TOP and SWING of others: what it expects may have come back since");

/// The word of the stack's block: the top node's offset, and how often it has changed, so that no value returns.
const HEAD: usize = 0;
/// The words of a node.
const NEXT: usize = 0;
const CONTENT: usize = 1;

/// A stack in a segment.
#[derive(Debug, Clone, Copy)]
pub struct Stack {
    at: u32,
}

/// The top node, and the head's next value with another node on top.
fn offset(head: u64) -> u32 {
    head as u32
}
fn with(head: u64, node: u32) -> u64 {
    // Without the count a head may come back while somebody looks at what was below it.
    let changes = if cfg!(feature = "planted") { 0 } else { (head >> 32) + 1 };
    changes << 32 | u64::from(node)
}

impl Stack {
    /// An empty stack, which is unowned. None if there is no room.
    pub fn new<M: Memory>(memory: &M) -> Option<Self> {
        let at = memory.allocate(1)?;
        memory.word(at, HEAD).store(0, &MAKE);
        memory.hand_over(at).then_some(Self { at })
    }

    /// The stack at an offset that another process passed on.
    pub fn at(offset: u32) -> Self {
        Self { at: offset }
    }

    /// Its offset.
    pub fn offset(self) -> u32 {
        self.at
    }

    /// Pushes a number. False if there is no room. Lock-free.
    pub fn push<M: Memory>(self, memory: &M, value: u64) -> bool {
        let Some(node) = memory.allocate(2) else { return false };
        memory.word(node, CONTENT).store(value, &MAKE);
        // Nobody's before others can find it: else it is freed if this process dies behind SWING.
        assert!(memory.hand_over(node), "it is live and ours");
        let head = memory.word(self.at, HEAD);
        let mut now = head.load(&TOP);
        loop {
            memory.word(node, NEXT).store(offset(now).into(), &MAKE);
            match head.cas(now, with(now, node), &SWING) {
                Ok(_) => return true,
                Err(found) => now = found,
            }
        }
    }

    /// Pops the number that was pushed last. Lock-free.
    pub fn pop<M: Memory>(self, memory: &M) -> Option<u64> {
        let head = memory.word(self.at, HEAD);
        let mut now = head.load(&TOP);
        loop {
            let node = offset(now);
            if node == 0 {
                return None;
            }
            // Another may have popped and freed it: then this is somebody else's word, and SWING fails.
            let below = memory.word(node, NEXT).load(&BELOW) as u32;
            match head.cas(now, with(now, below), &SWING) {
                Ok(_) => {
                    let value = memory.word(node, CONTENT).load(&VALUE);
                    assert!(memory.free(node), "node {node} is in the stack and not live");
                    return Some(value);
                }
                Err(found) => now = found,
            }
        }
    }
}
