//! What single calls do, one after the other: to the names of the directory, and to the blocks of a heap.
//!
//! A history of overlapping calls is right if some order of them, each between its beginning and its end, is
//! one that these allow (linearizability; `verification/linear.rs` looks for the order).

use std::collections::{BTreeMap, BTreeSet};

/// A call and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Publishes a block under a name: whether the name was free.
    Publish { name: u8, block: Id, done: bool },
    /// What is published under a name.
    Lookup { name: u8, found: Option<Id> },
    /// Takes the block published under a name.
    Take { name: u8, got: Option<Id> },
    /// Withdraws a name: whether it was published.
    Withdraw { name: u8, done: bool },
    /// Allocates a block of so many granules. (When it may be refused is L2's affair, which speaks of a span of time.)
    Allocate { block: Id, size: u32 },
    /// Makes a live block unowned.
    HandOver { block: Id },
    /// Frees a block: whether it was live.
    Free { block: Id, done: bool },
    /// An answer that is allowed at any time.
    Excused,
}

/// A block: where it begins, and its generation.
pub type Id = (u32, u32);

/// The published names and the live blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct State {
    names: BTreeMap<u8, Id>,
    /// Beginning → size and generation.
    blocks: BTreeMap<u32, (u32, u32)>,
    /// Blocks that are somebody's.
    owned: BTreeSet<Id>,
}

impl State {
    /// The states that may be there after the call; none if the answer would be wrong here.
    pub fn after(&self, call: Call) -> Vec<Self> {
        if let Call::Publish { block, done: true, .. } = call
            && self.owned.contains(&block)
        {
            // It belongs to nobody then; but if its owner changed while it was being published, it stays the new one's.
            let mut given = self.clone();
            given.owned.remove(&block);
            return [self, &given].into_iter().flat_map(|state| state.answering(call)).collect();
        }
        self.answering(call).into_iter().collect()
    }

    fn answering(&self, call: Call) -> Option<Self> {
        let mut next = self.clone();
        let right = match call {
            Call::Publish { name, block, done: true } => next.names.insert(name, block).is_none(),
            Call::Publish { name, done: false, .. } => self.names.contains_key(&name),
            Call::Lookup { name, found } => self.names.get(&name).copied() == found,
            // A block that has been published twice and taken once, or freed, is not to be had.
            Call::Take { name, got: None } => self.names.get(&name).is_none_or(|&block| !self.is_unowned(block)),
            Call::Take { name, got: Some(block) } => {
                next.names.remove(&name) == Some(block) && next.owned.insert(block)
            }
            Call::Withdraw { name, done } => next.names.remove(&name).is_some() == done,
            Call::Allocate { block: (at, generation), size } => {
                let before = self.blocks.range(..at + size).next_back();
                let apart = before.is_none_or(|(other, (others, _))| other + others <= at);
                next.blocks.insert(at, (size, generation));
                next.owned.insert((at, generation)) && apart
            }
            Call::HandOver { block } => next.owned.remove(&block),
            Call::Free { block, done } => {
                if self.is_live(block) {
                    next.blocks.remove(&block.0);
                    next.owned.remove(&block);
                }
                self.is_live(block) == done
            }
            Call::Excused => true,
        };
        right.then_some(next)
    }

    fn is_live(&self, (at, generation): Id) -> bool {
        self.blocks.get(&at).is_some_and(|block| block.1 == generation)
    }

    fn is_unowned(&self, block: Id) -> bool {
        self.is_live(block) && !self.owned.contains(&block)
    }
}
