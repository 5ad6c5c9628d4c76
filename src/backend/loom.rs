//! The loom backend.
