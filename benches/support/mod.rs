//! What the workloads are made of.
#![allow(dead_code, reason = "several programs are made of these parts, and none needs all")]
#![allow(clippy::disallowed_types, reason = "barrier and ring are the benchmark's own, not the allocator's")]

pub(crate) mod arguments;
pub(crate) mod conductor;
pub(crate) mod control;
pub(crate) mod machine;
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

/// Bytes that every peer gets.
pub(crate) const ARENA: usize = 64 << 20;
