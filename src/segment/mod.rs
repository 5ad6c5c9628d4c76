//! The segment: layout, header, creating and attaching, the mapped region.
//!
//! From the ground up; each file uses those above it:
//!
//! - [`size_class`]: the classes of block sizes; [`layout`]: where everything lies; [`region`]: access to it as words;
//! - `offsets`: how granules are named to others; [`directory`]: names of blocks;
//! - `header`: what a segment says about itself, and why an attacher believes it;
//! - `descriptor`: files that come as descriptors; `options`: what one may choose; `space`: whether there is room;
//! - `place`: where a segment's file has its name; `orphan`: one that has lost it, found again;
//! - `lock`: locks on bytes of a file; `life`: who is alive;
//! - `mapping`: the [`Segment`] as its user holds it; [`slot`]: what a participant's number stands for;
//! - `participant`: who uses the segment, and who has died; `view`: a segment for reading alone;
//! - `create` and `attach`: the two ways to a segment.
//!
//! Nothing here knows the heap: its words are written by a callback.

mod attach;
mod create;
mod descriptor;
#[cfg(feature = "internals")]
pub mod directory;
#[cfg(not(feature = "internals"))]
pub(crate) mod directory;
mod header;
#[cfg(feature = "internals")]
pub mod layout;
#[cfg(not(feature = "internals"))]
pub(crate) mod layout;
mod life;
mod lock;
mod mapping;
pub(crate) mod offsets;
mod options;
mod orphan;
mod participant;
mod place;
#[cfg(feature = "internals")]
pub mod region;
#[cfg(not(feature = "internals"))]
pub(crate) mod region;
#[cfg(feature = "internals")]
pub mod size_class;
#[cfg(not(feature = "internals"))]
pub(crate) mod size_class;
#[cfg(feature = "internals")]
pub mod slot;
#[cfg(not(feature = "internals"))]
pub(crate) mod slot;
mod space;
mod view;

pub use header::{MINOR, VERSION};
pub use mapping::{Named, Segment};
pub use options::Options;
pub use participant::Participant;
pub(crate) use participant::SlotFound;
pub use slot::Ended;
pub(crate) use view::View;
