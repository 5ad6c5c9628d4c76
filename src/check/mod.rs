//! Puts a structure of your own under the checks that this library's structures are under.
//!
//! The structure is written for any [`Memory`](crate::memory::Memory), and a [`Scenario`] says what a few threads do
//! with it and what has to be true afterwards. Then:
//!
//! | call | tries | sees |
//! |---|---|---|
//! | [`explore`] | every interleaving with at most so many preemptions | races, blocks that are lost or used twice |
//! | [`explore_kills`] | the same, each thread killed before each of its accesses | what a death leaves behind |
//! | [`store_buffers`] | random interleavings, stores that others see late (x86) | fences that are missing |
//! | `loom` (feature `loom`) | interleavings and what the orderings allow beyond them | orderings that are too weak |
//! | `shuttle` (feature `shuttle`) | random interleavings | more threads than can be tried out |
//!
//! The heap under the structure is the one that ships. A failure tells the shortest interleaving that was found:
//!
//! ```
//! use atomic_matrix::check::{Scenario, explore};
//! use atomic_matrix::memory::{Memory, Site, Word};
//! use std::sync::atomic::Ordering::{Acquire, Release, Relaxed};
//!
//! const LOOK: Site = Site::own("LOOK", Acquire, "STORE");
//! const STORE: Site = Site::own("STORE", Release, "LOOK");
//! const MAKE: Site = Site::own("MAKE", Relaxed, "nobody has seen it");
//!
//! /// A counter that forgets.
//! fn increment<M: Memory>(memory: &M, counter: u32) {
//!     let word = memory.word(counter, 0);
//!     word.store(word.load(&LOOK) + 1, &STORE);
//! }
//!
//! struct TwoIncrements;
//! impl Scenario for TwoIncrements {
//!     type Shared = u32;
//!     type Outcome = ();
//!     fn threads(&self) -> usize {
//!         2
//!     }
//!     fn begin<M: Memory>(&self, memory: &M) -> u32 {
//!         let counter = memory.allocate(1).expect("there is room");
//!         memory.word(counter, 0).store(0, &MAKE);
//!         counter
//!     }
//!     fn thread<M: Memory>(&self, _: usize, memory: &M, counter: &u32) {
//!         increment(memory, *counter);
//!     }
//!     fn end<M: Memory>(&self, memory: &M, counter: &u32, _: &[Option<()>]) {
//!         assert_eq!(memory.word(*counter, 0).load(&LOOK), 2, "an increment is lost");
//!     }
//! }
//!
//! let failure = explore(TwoIncrements, 2).expect_err("it forgets");
//! assert_eq!(failure.how, "with one preemption");
//! assert_eq!(failure.steps, [
//!     "thread 0 at LOOK reads a[0]: 0",
//!     "thread 1 at LOOK reads a[0]: 0",
//!     "thread 1 at STORE writes a[0]: 1",
//!     "thread 0 at STORE writes a[0]: 1",
//! ]);
//! ```
//!
//! `examples/own-structure` is a crate with a stack of its own, checked in all of these ways.
//!
//! What a pass means: no interleaving *within the bound*, of *these* calls, fails. Scenarios should be small (two or
//! three threads, one or two calls each, hardly enough room) and many. Plain payload is not watched here, only words.

#[cfg(any(feature = "loom", feature = "shuttle"))]
mod checkers;
mod explore;
mod scenario;
mod space;
mod trace;
#[cfg(feature = "internals")]
pub mod turns;
#[cfg(not(feature = "internals"))]
mod turns;

#[cfg(feature = "loom")]
pub use checkers::loom;
#[cfg(feature = "shuttle")]
pub use checkers::shuttle;
pub use explore::{explore, explore_kills, store_buffers};
pub use scenario::{Explored, Failure, Scenario};
pub use trace::Names;
