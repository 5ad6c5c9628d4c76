//! Waiting without the interpreter's lock, in slices, so that Ctrl-C ends a wait.

use crate::error::BadOption;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// The longest that is waited between two looks at signals.
const SLICE: Duration = Duration::from_millis(50);

/// A time to wait in seconds: none is for ever.
pub struct Timeout(Option<Instant>);

impl Timeout {
    pub fn of(seconds: Option<f64>) -> PyResult<Self> {
        let Some(seconds) = seconds else { return Ok(Self(None)) };
        let duration = Duration::try_from_secs_f64(seconds).map_err(|_| {
            BadOption::new_err(format!(
                "timeout: {seconds:?}; give seconds from 0 on, or None to wait for as long as it takes"
            ))
        })?;
        Ok(Self(Instant::now().checked_add(duration)))
    }

    fn left(&self) -> Option<Duration> {
        self.0.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Calls `step`, which waits no longer than it is told, until it has found something: none when the time is over.
    ///
    /// # Errors
    /// What a signal's handler raised.
    pub fn patiently<T: Send>(
        &self,
        py: Python<'_>,
        mut step: impl FnMut(Duration) -> Option<T> + Send,
    ) -> PyResult<Option<T>> {
        loop {
            let left = self.left();
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            if let Some(found) = py.detach(|| step(slice)) {
                return Ok(Some(found));
            }
            py.check_signals()?;
            if left.is_some_and(|left| left <= slice) {
                return Ok(None);
            }
        }
    }
}
