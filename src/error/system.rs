//! Failures of the system: which error one is.

use super::Error;
use super::advice::errno;
use rustix::io::Errno;

impl Error {
    /// A failure of the system. `what` names the call.
    pub(crate) fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        let (what, source) = (what.into(), source.into());
        match errno(&source) {
            Some(Errno::MFILE | Errno::NFILE) => Self::NoDescriptor { what },
            _ => Self::Io { what, source },
        }
    }

    /// A failure of a call that opens, names or changes a file, whose rights may be missing.
    pub(crate) fn file(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        let (what, source) = (what.into(), source.into());
        match errno(&source) {
            Some(Errno::ACCESS | Errno::PERM) => Self::PermissionDenied { what },
            _ => Self::io(what, source),
        }
    }
}
