//! What the workloads are made of.
#![allow(dead_code, reason = "several programs are made of these parts, and none needs all")]
#![allow(clippy::disallowed_types, reason = "barrier and ring are the benchmark's own, not the allocator's")]

pub(crate) mod accesses;
pub(crate) mod arguments;
pub(crate) mod conductor;
pub(crate) mod control;
pub(crate) mod drift;
pub(crate) mod machine;
pub(crate) mod mixes;
pub(crate) mod noise;
pub(crate) mod peers;
pub(crate) mod processes;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod targets;
pub(crate) mod work;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What the workers of one run did, and how long they had from the start to the stop, by one clock for all: a
/// worker that waited for a core has lost that time.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Work {
    pub(crate) done: Vec<work::Done>,
    pub(crate) window: std::time::Duration,
}

/// Bytes that every peer gets, in the workloads of small blocks.
pub(crate) const ARENA: usize = 64 << 20;

/// What a peer gets in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arena {
    pub(crate) bytes: usize,
    /// Whether its pages are touched before the run.
    pub(crate) warm: bool,
}

impl Arena {
    /// The same in every run of the workloads of small blocks.
    pub(crate) const SMALL: Self = Self { bytes: ARENA, warm: true };
    /// Filled up by each mix.
    pub(crate) const FILLED: Self = Self { bytes: 128 << 20, warm: true };
    /// 1 GiB of blocks, and what they cost.
    pub(crate) const FIRST: Self = Self { bytes: 1280 << 20, warm: false };
    /// For the other mixes: several thousand blocks of each worker.
    pub(crate) fn wide(workers: usize) -> Self {
        Self { bytes: workers.max(2) * (256 << 20), warm: true }
    }
}
