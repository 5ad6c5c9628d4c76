//! Models of the production heap under loom: small scenarios, every interleaving within a bound, and the reorderings
//! that the orderings allow.
//!
//! Each scenario runs in four ways: with weak memory, its threads started in both orders, and with every access a
//! read-modify-write (full interleaving, no weak memory), again in both orders.

mod model;
mod mutants;
mod scenarios;
