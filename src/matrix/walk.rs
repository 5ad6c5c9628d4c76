//! One walker's way through a recovery of several dead participants, in its own memory.

use super::recovered::{Policy, Recovered};
use super::words::Live;
use crate::segment::layout::Granule;
use crate::segment::slot::Dead;

/// A recovery of all who were dead when it began: a walk that can be interrupted after any tile, and is
/// complete when it has come to the end.
#[derive(Debug)]
pub struct Recovery {
    pub(super) dead: Vec<Dead>,
    /// By number: the recovery in force, if its holder is among the dead.
    pub(super) by_number: Vec<Option<Dead>>,
    /// By number.
    pub(super) found: Vec<Recovered>,
    pub(super) policy: Policy,
    /// The span that comes next.
    pub(super) at: u32,
    /// Where the free block begins that the walk met last.
    pub(super) behind: Granule,
    /// The number that is pinned; 0 is none.
    pub(super) pinned: u16,
    /// Rings of clients, who may wait until blocks of the dead are freed.
    pub(super) clients: Vec<Live>,
}

impl Recovery {
    /// A recovery of these, which has not begun to walk.
    pub fn of(dead: Vec<Dead>, policy: Policy) -> Self {
        let numbers = dead.iter().map(|dead| dead.number as usize + 1).max().unwrap_or(0);
        let mut by_number = vec![None; numbers];
        for dead in dead.iter().filter(|dead| !dead.is_recovered()) {
            by_number[dead.number as usize] = Some(*dead);
        }
        let found = vec![Recovered::default(); numbers];
        Self { dead, by_number, found, policy, at: 0, behind: Granule(0), pinned: 0, clients: vec![] }
    }
    /// The recovery in force for a number.
    pub(super) fn of_number(&self, number: u16) -> Option<Dead> {
        self.by_number.get(number as usize).copied().flatten()
    }
    /// What was found, for each of the dead.
    pub fn found(&self) -> impl Iterator<Item = (u16, Recovered)> {
        self.dead.iter().map(|dead| (dead.number, self.found[dead.number as usize]))
    }
    /// What was found, together.
    pub fn total(&self) -> Recovered {
        let mut total = Recovered::default();
        self.found().for_each(|(_, found)| total.add(found));
        total
    }
}
