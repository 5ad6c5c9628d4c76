//! The shuttle backend.
