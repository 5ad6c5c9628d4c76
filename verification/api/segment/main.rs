//! Segments on a real system: files, descriptors, processes.
//!
//! Each test makes segments of fresh ids and removes them whatever happens. Roles that need a process of their own are
//! ignored tests, which [`support::child`] runs by name in a new process.

mod attaching;
mod creating;
mod format;
mod racing;
mod read_only;
mod support;
