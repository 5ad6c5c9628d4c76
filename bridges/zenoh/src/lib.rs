//! AtomicMatrix and zenoh: a provider of zenoh's shared memory whose blocks lie in an AtomicMatrix segment, and
//! [topics and channels carried between hosts](carry).
//!
//! ```
//! use atomic_matrix_zenoh::{Provider, clients};
//! use zenoh::Wait;
//! use zenoh::shm::ShmProviderBuilder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let mut config = zenoh::Config::default();
//! # config.insert_json5("scouting/multicast/enabled", "false")?;
//! // Whoever publishes:
//! let session = zenoh::open(config).with_shm_clients(clients()).wait()?;
//! let provider = ShmProviderBuilder::backend(Provider::new(64 << 20)?).wait();
//! let mut frame = provider.alloc(3 << 20).wait()?;
//! frame.fill(7); // written where it lies
//! # let subscriber = session.declare_subscriber("camera/frames").wait()?;
//! session.put("camera/frames", frame).wait()?;
//! // Whoever subscribes needs `clients` alone: on this host it reads the frame where it was written, on
//! // others it gets it as always.
//! # assert_eq!(subscriber.recv()?.payload().len(), 3 << 20);
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised, and what is not
//!
//! Each [`Provider`] has a segment of its own. Its process alone allocates and frees there; receivers map it.
//! Who holds a buffer is counted by zenoh, in memory of its own (the *metadata*), and zenoh's rules stand:
//!
//! | event | what becomes of a buffer |
//! |---|---|
//! | nobody holds it any more | it is free at the provider's next collection (`garbage_collect`, or an allocation with the policy `GarbageCollect`) |
//! | a receiver is killed while it holds it | its count stays: it is lost to the provider until the provider is dropped. Zenoh's watchdog marks it after 0.1 s; `garbage_collect_unsafe` frees what is marked, and is unsafe because a receiver that was only stopped may read it still |
//! | a receiver is stopped for 0.1 s between zenoh's sending and receiving | zenoh refuses it there ("invalidated"), and so loses that publication; with the safe policies it is freed once the count says so |
//! | the provider's process is killed | who holds it reads it on: nobody allocates there any more, and nobody frees what the dead one had (`keep_orphans`). What was on its way may be lost |
//! | the provider is dropped | the same, but for what was on its way: zenoh refuses it |
//! | a receiver's last buffer of a provider that is gone is dropped | its memory is unmapped when the receiver meets its next provider |
//! | the segment of a killed provider | its name is removed by the next [`Provider`] of its user on that host, or by [`sweep`]; its memory goes with the last process that has it mapped |
//!
//! So a `&[u8]` that zenoh has given out is sound as far as zenoh's own counts are right: with the safe policies,
//! whoever is killed or stopped. What this back end adds to zenoh's own (`PosixShmProviderBackend`): threads
//! allocate and free without a lock, in any sizes up to the segment's; what is free is known, and merged
//! (`available`, `defragment`); memory of dead providers does not pile up in their receivers.

mod abandoned;
pub mod carry;
mod client;
mod provider;

pub use abandoned::sweep;
pub use client::{Client, clients};
pub use provider::{PROTOCOL, Provider};

use atomic_matrix::Options;
use atomic_matrix::uuid::Uuid;
use zenoh::shm::SegmentID;

/// Ids of segments of providers: `zeno`, the version, and zenoh's number of the segment at the end.
const IDS: u128 = 0x7a65_6e6f_0001_8000_8000_0000_0000_0000;

/// The id of a provider's segment.
fn id(segment: SegmentID) -> Uuid {
    Uuid::from_u128(IDS | u128::from(segment))
}

/// Which provider's segment that is, if it is one.
fn segment_of(id: Uuid) -> Option<SegmentID> {
    let segment = id.as_u128() as SegmentID;
    (self::id(segment) == id).then_some(segment)
}

/// How a provider's segment is looked into.
fn look(options: &Options, segment: SegmentID) -> Options {
    options.clone().id(id(segment))
}
