//! The segment: layout, header, creating and attaching, participants.

pub mod layout;
pub mod region;
