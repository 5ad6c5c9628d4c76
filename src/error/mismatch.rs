//! What was asked for as something that it is not.

use super::Error;
use std::any::type_name;

impl Error {
    /// A block of another type than was asked for.
    pub(crate) fn type_mismatch<T: ?Sized>(offset: u32, asked: u32, found_fingerprint: Option<u32>) -> Self {
        let (expected, expected_fingerprint) = (type_name::<T>(), asked);
        Self::TypeMismatch { offset, name: None, expected, expected_fingerprint, found_fingerprint, found: None }
    }

    /// The same error, where the block was asked for by its name.
    pub(crate) fn of_name(mut self, asked: &str) -> Self {
        if let Self::TypeMismatch { name, .. } = &mut self {
            *name = Some(asked.to_owned());
        }
        self
    }
}
