//! Wrappers around any backend: count operations, stop a participant at its k-th access.
