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

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_refusal_keeps_what_the_system_said() {
        for errno in [Errno::ACCESS, Errno::PERM] {
            assert!(matches!(Error::file("open it", errno), Error::PermissionDenied { .. }));
            assert!(matches!(Error::io("lock it", errno), Error::Io { .. }));
        }
        assert!(matches!(Error::file("open it", Errno::MFILE), Error::NoDescriptor { .. }));
        let source = || std::io::Error::from(Errno::NOMEM);
        let with = [
            Error::file("map it", Errno::NOMEM),
            Error::HugePagesRefused { source: source() },
            Error::NotPopulated { bytes: 1, source: source() },
        ];
        let said = source().to_string();
        assert!(with.iter().all(|error| error.source().is_some_and(|source| source.to_string() == said)));
        assert!(Error::Corrupt { what: String::new() }.source().is_none());
    }
}
