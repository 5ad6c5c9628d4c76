//! Events for the crate `tracing`, with the feature of that name; nothing without it.
//!
//! Target `atomic_matrix`, one event for each of: segment created, segment attached, segment unlinked,
//! participant recovered (with the blocks given back or kept), a dead one's slot taken over, out of memory,
//! no participant slot. None is on the hot path.

/// `event!(LEVEL, message, field = value, field = %shown, ...)`
#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $message:expr, $($fields:tt)*) => {
        tracing::event!(target: "atomic_matrix", tracing::Level::$level, $($fields)*, "{}", $message)
    };
}

/// Nothing: the feature `tracing` is off.
#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($level:ident, $message:expr, $($fields:tt)*) => {
        let _ = $message;
    };
}
