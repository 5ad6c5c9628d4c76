//! Threads and real processes over one segment: unique patterns over whole blocks, blocks that change hands, processes
//! that are killed.
//!
//! A worker process is this binary again, running the ignored test [`crew::worker`]. `MATRIX_STRESS_SECONDS` and
//! `MATRIX_KILL_SECONDS` lengthen the runs, `MATRIX_KILL_EVERY_MS` makes kills more frequent.
#![allow(clippy::disallowed_types, reason = "rings and counters of the tests lie in payload, outside the heap")]

mod books;
mod channel;
#[path = "../../support/common.rs"]
mod common;
mod crew;
mod held;
mod map;
mod mappings;
mod service;
mod streams;
mod threads;
mod topic;
mod woken;
mod work;
