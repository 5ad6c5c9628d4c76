//! The segment: layout, header, creating and attaching, the mapped region.
//!
//! From the ground up: [`layout`] says where everything lies, [`region`] gives access to it as words,
//! `offsets` how granules are named to others; `header` is what a segment says about itself, `place` where
//! its file has its name, [`Options`] what one may choose, `space` whether there is room; `life` who is
//! alive; `create` and `attach` are the two ways to a [`Segment`] (`mapping`). Nothing here knows the heap:
//! its words are written by a callback.

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
pub(crate) use view::View;
