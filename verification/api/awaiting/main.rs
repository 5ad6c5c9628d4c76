//! Waiting for several things, futures in tokio, descriptors in poll(2): nothing that was put is missed,
//! whoever gives up or dies.

#[path = "../../support/common.rs"]
mod common;
mod deaths;
mod kills;
mod runtime;
mod selecting;
mod services;

use atomic_matrix::handlers::Handler;
use atomic_matrix::segment::Options;
use std::time::Duration;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn memory() -> Handler {
    Options::new().memfd().size(2 << 20).create().expect("created")
}
