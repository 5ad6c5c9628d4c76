//! Finds the segment that is meant.

use crate::args::Target;
use crate::{Failure, NO_SEGMENT};
use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::ReadOnly;
use atomic_matrix::segment::Options;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

pub(crate) const PREFIX: &str = "atomic-matrix-";

/// A file that may be a segment.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// As the name says.
    pub(crate) id: Option<Uuid>,
}

impl Found {
    pub(crate) fn at(path: PathBuf) -> Self {
        let name = path.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        Self { path, id }
    }

    /// An error with what helps here: the library's messages speak of its own options.
    pub(crate) fn explain(&self, error: &Error) -> Failure {
        match error {
            // A file of another sort is no damaged segment, and not to be removed.
            Error::NotASegment { why, .. } if !self.is_called_like_one() => self.no_segment(why),
            Error::WrongLength { found: ..8, .. } if !self.is_called_like_one() => self.no_segment("it is too short"),
            error => Failure::new(crate::code_of(error), reason(error)),
        }
    }

    fn no_segment(&self, why: &str) -> Failure {
        let path = self.path.display();
        Failure::new(NO_SEGMENT, format!("{path} is not a segment ({why}); `matrix ls` lists those that there are"))
    }

    /// Whether its name is a segment's.
    pub(crate) fn is_called_like_one(&self) -> bool {
        self.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
    }

    fn options(&self, trusted: &[u32]) -> atomic_matrix::Result<Options> {
        // A directory's path would mean a segment inside it.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.is_dir()) {
            return Err(Error::NotAFile { name: self.path.clone(), kind: "directory" });
        }
        let options = Options::new().path(&self.path).patience(Duration::ZERO);
        let options = trusted.iter().fold(options, |options, uid| options.trust_owner(*uid));
        Ok(self.id.into_iter().fold(options, Options::id))
    }

    /// Attaches for reading alone. A segment that somebody is just making is not waited for.
    pub(crate) fn look(&self, trusted: &[u32]) -> atomic_matrix::Result<ReadOnly> {
        self.options(trusted)?.attach_read_only()
    }

    /// Attaches to change something: recovers nobody, and takes no slot yet.
    pub(crate) fn inspect(&self, trusted: &[u32]) -> atomic_matrix::Result<Handler> {
        self.options(trusted)?.inspect()
    }
}

/// The files in a directory that are called as segments are, by name.
pub(crate) fn files(dir: &Path) -> Result<Vec<Found>, Failure> {
    let failed = |e| Failure::new(NO_SEGMENT, format!("can't read the directory {}: {e}", dir.display()));
    let mut paths = vec![];
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths.into_iter().map(Found::at).collect())
}

impl Target {
    /// The file that is meant: by path, by name, by id, or by the only id that begins so.
    pub(crate) fn find(&self) -> Result<Found, Failure> {
        let text = self.segment.as_str();
        let dir = &self.place.dir;
        if text.contains('/') || (Path::new(text).is_file() && text.parse::<Uuid>().is_err()) {
            return match std::fs::symlink_metadata(text) {
                Ok(_) => Ok(Found::at(text.into())),
                Err(e) => Err(Failure::new(NO_SEGMENT, format!("there is no file {text}: {e}"))),
            };
        }
        let id = text.strip_prefix(PREFIX).unwrap_or(text).to_ascii_lowercase();
        // In one of the other spellings of a UUID, perhaps.
        let id = id.parse::<Uuid>().map_or(id, |id| id.to_string());
        let called = |found: &Found| {
            let name = found.path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| !id.is_empty() && name[PREFIX.len()..].starts_with(&id))
        };
        let mut all = files(dir)?;
        // A name is exact, the beginning of an id is not.
        let named = Uuid::new_v5(&Options::NAMES, text.as_bytes());
        if let Some(at) = all.iter().position(|found| found.id == Some(named)) {
            return Ok(all.swap_remove(at));
        }
        let mut matching: Vec<Found> = all.into_iter().filter(called).collect();
        match matching.len() {
            1 => Ok(matching.remove(0)),
            0 => {
                let message = format!(
                    "there is no segment {text} in {}; `matrix ls` lists those that there are, and a path must \
                    contain a slash",
                    dir.display()
                );
                Err(Failure::new(NO_SEGMENT, message))
            }
            n => {
                let mut message = format!("{n} segments begin with {text}; write more of the id:");
                for found in matching.iter().take(5) {
                    message += &format!("\n  {}", found.path.display());
                }
                Err(Failure::new(NO_SEGMENT, message))
            }
        }
    }

    /// Attaches to it for reading alone: nothing that is done then can damage it.
    pub(crate) fn look(&self) -> Result<(Found, ReadOnly), Failure> {
        let found = self.find()?;
        match found.look(&self.place.trust_owner) {
            Ok(looker) => Ok((found, looker)),
            Err(error) => Err(found.explain(&error)),
        }
    }

    /// Attaches to it to change something, and to look.
    pub(crate) fn inspect(&self) -> Result<(Found, ReadOnly, Handler), Failure> {
        let (found, looker) = self.look()?;
        match found.inspect(&self.place.trust_owner) {
            Ok(handler) => Ok((found, looker, handler)),
            Err(error) => Err(found.explain(&error)),
        }
    }
}

/// What is wrong, in the words of this tool.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        // The library says what is wrong with the overflow user.
        Error::WrongOwner { name, owner, user } if error.to_string().contains("trust_owner") => format!(
            "{} belongs to user {owner}, and this is user {user}; to open it all the same: --trust-owner {owner}",
            name.display()
        ),
        Error::PermissionDenied { what } => format!("no permission to {what}; its owner or root may"),
        Error::NotReady { name, pid, .. } => {
            let by = pid.map_or_else(|| "somebody".to_owned(), |pid| format!("process {pid}"));
            format!("{} is not ready: {by} is just making it; try again", name.display())
        }
        other => other.to_string(),
    }
}

/// What a process is called; none if it can't be seen from here.
pub(crate) fn process_name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Whether any process maps a file, of those that can be looked at. Whoever cannot be looked at goes on all the
/// same when the file's name is removed.
pub(crate) fn is_mapped(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::metadata(path) else { return false };
    // The kernel's own name of a file that was linked after it was opened is another one.
    let device = format!("{:02x}:{:02x}", rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let file = [device, meta.ino().to_string()];
    let here = |line: &str| line.split_whitespace().skip(3).take(2).eq(&file);
    let maps = |process: std::fs::DirEntry| {
        let maps = std::fs::read_to_string(process.path().join("maps")).unwrap_or_default();
        maps.lines().any(here)
    };
    std::fs::read_dir("/proc").is_ok_and(|mut processes| processes.any(|process| process.is_ok_and(maps)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_trust_the_overflow_user() {
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid").expect("readable");
        let overflow: u32 = overflow.trim().parse().expect("a number");
        let told = |owner| reason(&Error::WrongOwner { name: "segment".into(), owner, user: 1 });
        assert_eq!(
            told(overflow - 1),
            format!(
                "segment belongs to user {0}, and this is user 1; to open it all the same: --trust-owner {0}",
                overflow - 1
            )
        );
        assert!(!told(overflow).contains("trust-owner"), "{}", told(overflow));
    }
}
