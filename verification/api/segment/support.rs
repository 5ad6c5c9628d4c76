//! What the tests share: scratch places that clean up after themselves, and child processes.

use atomic_matrix::segment::{Options, Segment};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use uuid::Uuid;

pub(crate) const MIB: usize = 1 << 20;

/// A fresh id; its file in `/dev/shm` goes away with it.
pub(crate) struct Id(pub(crate) Uuid);

impl Id {
    pub(crate) fn new() -> Self {
        Self(Uuid::new_v4())
    }
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm/atomic-matrix-{}", self.0))
    }
    pub(crate) fn options(&self) -> Options {
        Options::new().id(self.0)
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

/// Tells threads that a test is over, also when it fails.
#[derive(Default)]
pub(crate) struct Over(AtomicBool);

impl Over {
    pub(crate) fn is(&self) -> bool {
        self.0.load(Relaxed)
    }
    /// It is once this is dropped.
    pub(crate) fn at_the_end(&self) -> impl Drop + '_ {
        struct End<'a>(&'a Over);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.0.store(true, Relaxed);
            }
        }
        End(self)
    }
}

/// A fresh directory on a tmpfs; goes away with all its files.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        let path = PathBuf::from(format!("/dev/shm/atomic-matrix-test-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).expect("/dev/shm is writable");
        Self(path)
    }
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("readable");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A small tmpfs of its own; unmounted at the end.
pub(crate) struct Mount(pub(crate) Dir);

impl Mount {
    /// None, with a printed reason, where mounting isn't permitted.
    pub(crate) fn new(kind: &str, options: &str) -> Option<Self> {
        let dir = Dir::new();
        let done = Command::new("mount").args(["-t", kind, "-o", options, "none"]).arg(&dir.0).output();
        match done {
            Ok(out) if out.status.success() => Some(Self(dir)),
            Ok(out) => {
                println!("skipped: can't mount a {kind}: {}", String::from_utf8_lossy(&out.stderr).trim());
                None
            }
            Err(e) => {
                println!("skipped: no mount command: {e}");
                None
            }
        }
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Runs the ignored test `role` of this binary in a new process, with `argument` in its environment.
pub(crate) fn child(role: &str, argument: &str) -> Child {
    Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"])
        .env("SEGMENT_TEST_ARGUMENT", argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this binary runs")
}

/// In a child: what its parent gave. None if the role was run by hand.
pub(crate) fn argument() -> Option<String> {
    std::env::var("SEGMENT_TEST_ARGUMENT").ok()
}

/// Waits for a child to succeed; returns what it printed.
pub(crate) fn succeed(child: Child) -> String {
    let out = child.wait_with_output().expect("waited for");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{text}");
    text
}

/// Writes a mark into the last byte of the segment's sector, or reads it.
pub(crate) fn mark(segment: &Segment, value: Option<u8>) -> u8 {
    let last = segment.layout().bytes() as usize - 1;
    assert!(last < segment.len());
    // SAFETY: in range of the mapping (checked above); the tests access the byte from one thread at a time.
    let byte = unsafe { segment.base().add(last) };
    if let Some(value) = value {
        // SAFETY: as above.
        unsafe { byte.write_volatile(value) };
    }
    // SAFETY: as above.
    unsafe { byte.read_volatile() }
}
