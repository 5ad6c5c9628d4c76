//! The heap: token, hint, ripple; and the allocator that composes them.

pub mod size_class;
