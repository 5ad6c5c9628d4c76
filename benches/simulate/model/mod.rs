//! The simulation: a machine with many cores, and the workloads on it. Nothing here is measured.
#![allow(dead_code, reason = "the benchmark and the test are made of these parts, and neither needs all")]

pub(crate) mod costs;
pub(crate) mod family;
mod lines;
pub(crate) mod machine;
mod region;
mod structures;
pub(crate) mod workloads;
