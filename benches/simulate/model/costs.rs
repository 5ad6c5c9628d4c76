//! What things cost on the simulated machine.

use serde::{Deserialize, Serialize};

/// Times in nanoseconds. `cargo bench --bench simulate -- --calibrate` measures or fits those that say so, on
/// the machine that it runs on; the others are assumptions, since two cores cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Costs {
    /// Instructions around one access to a word, and the access itself where the core has the line, on the
    /// owner's quick path and in the workload. Fitted: A at one core takes as long as measured.
    pub(crate) work: f64,
    /// The same everywhere else (searches, merges, the transfer cache). Fitted: A in strict mode at one core
    /// takes as long as measured.
    pub(crate) search: f64,
    /// What the workload itself takes for one operation of A. Measured: the harness alone.
    pub(crate) harness: f64,
    /// What the workload itself takes for one message of C, either side, its ring's lines left out. Assumed.
    pub(crate) message: f64,
    /// A read-modify-write of a line that the core has. Measured.
    pub(crate) rmw: f64,
    /// A full fence. Measured.
    pub(crate) fence: f64,
    /// A line comes from another core, or the right to write it. Measured: a quarter of a word's round trip
    /// between two cores (the best of some), which is twice a write to a line that the other has read, and
    /// twice a read of what it has written.
    pub(crate) transfer: f64,
    /// Each reader but the first that loses a line to a writer. Assumed: a directory asks them together, and
    /// the answers come one after the other.
    pub(crate) sharer: f64,
    /// A line that no core has. Assumed; hardly met after the warm-up.
    pub(crate) memory: f64,
    /// membarrier(2), the call alone. Measured.
    pub(crate) barrier: f64,
    /// What each other core loses by the interrupt; the caller waits for it once, since all are interrupted
    /// together. Assumed.
    pub(crate) interrupt: f64,
    /// What each other core adds to the call. Assumed.
    pub(crate) send: f64,
    /// One wait at an empty or full ring: 32 pauses. Measured.
    pub(crate) wait: f64,
    /// Stores that a core has in flight at most. Assumed.
    pub(crate) stores: u32,
}

impl Default for Costs {
    /// Round figures, for tests.
    fn default() -> Self {
        Self {
            work: 1.0,
            search: 2.0,
            harness: 3.5,
            message: 1.0,
            rmw: 5.0,
            fence: 8.0,
            transfer: 50.0,
            sharer: 1.0,
            memory: 90.0,
            barrier: 300.0,
            interrupt: 1000.0,
            send: 100.0,
            wait: 500.0,
            stores: 48,
        }
    }
}
