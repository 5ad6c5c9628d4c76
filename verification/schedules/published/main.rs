//! The published design's model, with its failures: each test passes because the failure was found, and
//! because it is gone once the step that causes it is repaired.
//!
//! Races are looked for by loom, in all interleavings up to a bound; of the failing executions the shortest
//! is kept (fewest changes of thread, then fewest accesses). `papers/published.md` is this test's output.

#[path = "../../../models/published/mod.rs"]
mod published;

mod audit;
mod races;
mod report;
mod sequences;
