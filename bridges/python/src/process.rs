//! Which process this is, without a system call: how often it and its ancestors have been forked since the module was
//! loaded.

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

static FORKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The process that something is made in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Process(usize);

impl Process {
    /// This one.
    pub fn this() -> Self {
        static COUNTED: Once = Once::new();
        COUNTED.call_once(|| {
            // SAFETY: the function only adds to a number, which is allowed in a forked child; the module is never
            // unloaded.
            let counts = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
            assert_eq!(counts, 0, "there is no memory for what is called in forked children");
        });
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether it is this one, and no ancestor.
    pub fn is_this(self) -> bool {
        self == Self::this()
    }
}
