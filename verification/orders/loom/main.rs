//! Models of the production heap under loom: small scenarios, every interleaving within a bound, and the reorderings
//! that the orderings allow.
//!
//! Each scenario runs in two modes: *plain*, with weak memory, and *all-RMW*, with every access a
//! read-modify-write (full interleaving, no weak memory), because the checker under-explores threads that
//! only load.

mod bias;
mod calls;
mod channel;
mod futures;
mod held;
mod kills;
mod large;
mod map;
mod model;
mod mutants;
mod names;
mod resize;
mod scenarios;
mod slots;
mod sweeps;
mod topic;
mod waiting;
