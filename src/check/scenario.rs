//! What is checked, and what is told of it.

use super::trace::Names;
use crate::memory::Memory;
use std::fmt;

/// A few threads that use a structure, and what has to be true afterwards.
///
/// Each play begins with a new segment. All that a thread does has to follow from what it reads there: no clocks, no
/// random numbers, no words outside the segment that another thread changes.
pub trait Scenario: Send + Sync + 'static {
    /// Where the structure is, and whatever else the threads have to know.
    type Shared: Clone + Send + Sync + 'static;
    /// What a thread has seen.
    type Outcome: Send + 'static;

    /// How many threads there are.
    fn threads(&self) -> usize;
    /// The segment's size in 64 bytes. Each block takes a multiple of it.
    fn granules(&self) -> u32 {
        16
    }
    /// Makes the structure, alone.
    fn begin<M: Memory>(&self, memory: &M) -> Self::Shared;
    /// What thread `number` does, from 0 on, as a participant of its own. A few calls are enough. A death unwinds it:
    /// what it holds must not access words when it is dropped.
    fn thread<M: Memory>(&self, number: usize, memory: &M, shared: &Self::Shared) -> Self::Outcome;
    /// Panics with what is wrong, when all threads have ended. Of one that was killed there is no outcome.
    fn end<M: Memory>(&self, memory: &M, shared: &Self::Shared, outcomes: &[Option<Self::Outcome>]);
    /// How a value of a word reads in a report: by default a block's name where it is a block's offset.
    fn show(&self, value: u64, names: &Names<'_>) -> String {
        names.block(value).unwrap_or_else(|| value.to_string())
    }
}

/// What was tried without a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explored {
    /// Interleavings.
    pub plays: u64,
    /// Those in which somebody was killed.
    pub killed: u64,
}

/// An interleaving that fails.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What the scenario, or the structure, panicked with.
    pub message: String,
    /// How it was found.
    pub how: String,
    /// What happened, a line for each step: who, the site's name, the word and its value.
    pub steps: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "fails {}, in {} steps:", self.how, self.steps.len())?;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "{number:>4}. {step}")?;
        }
        write!(f, "      {}", self.message)
    }
}

/// The same text, so that `unwrap` shows it.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Failure {}
