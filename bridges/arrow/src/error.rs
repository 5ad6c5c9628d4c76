//! What can go wrong.

use arrow_schema::ArrowError;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Every error of this crate.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The segment's.
    Matrix(atomic_matrix::Error),
    /// Arrow's: what was received is no batch, or not whole.
    Arrow(ArrowError),
    /// A column that can't be built in the segment, or is asked for as something else.
    Column {
        /// Which one.
        column: usize,
        /// What is wrong.
        what: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Matrix(error) => error.fmt(f),
            Self::Arrow(error) => write!(f, "{error}; send what `Builder` or `copied` have made"),
            Self::Column { column, what } => write!(f, "column {column}: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<atomic_matrix::Error> for Error {
    fn from(error: atomic_matrix::Error) -> Self {
        Self::Matrix(error)
    }
}
impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}
