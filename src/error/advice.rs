//! What helps where the system refused a call, or a file is another user's.

use rustix::io::Errno;

/// The number that stands for all users that a user namespace does not know.
fn overflow_user() -> u32 {
    crate::kernel::text("/proc/sys/kernel/overflowuid").and_then(|text| text.trim().parse().ok()).unwrap_or(65_534)
}

/// What helps where a file is another user's.
pub(super) fn whom_to_trust(owner: u32) -> String {
    if owner == overflow_user() {
        return "this number stands for every user that is not known in this user namespace: do not trust it, \
            but have the segment's \
            owner mapped into the namespace"
            .to_owned();
    }
    format!("if that user is to be trusted, say so with Options::trust_owner({owner})")
}

pub(super) fn errno(source: &std::io::Error) -> Option<Errno> {
    source.raw_os_error().map(Errno::from_raw_os_error)
}

/// What helps where the system refused a call.
pub(super) fn advice(source: &std::io::Error) -> &'static str {
    match errno(source) {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
            "a sandbox (seccomp) or a security module refuses the call, or this kernel does not know it: allow it there"
        }
        Some(Errno::INTR) => "signals interrupt it each time: try again, or block them meanwhile",
        Some(Errno::AGAIN) => {
            "if this process locks its memory (mlockall(2)), raise the limit for that (ulimit -l); else try again"
        }
        Some(Errno::NOMEM) => {
            "free memory, or raise the limits of address space (ulimit -v) and mappings (vm.max_map_count)"
        }
        Some(Errno::NOLCK) => {
            "the kernel has no lock left, or the file system has none: choose another place (Options::path)"
        }
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
            "make room or a smaller segment, or choose another place (Options::path)"
        }
        Some(Errno::IO | Errno::ROFS | Errno::NODEV | Errno::INVAL | Errno::OPNOTSUPP) => {
            "this file system or kernel does not offer it, or fails: choose another place (Options::path), \
                /dev/shm for instance"
        }
        _ => "see the call's manual page for the cause, and try again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn each_refusal_has_its_advice() {
        let cases: [(&[Errno], &str); 8] = [
            (&[Errno::PERM, Errno::ACCESS, Errno::NOSYS], "allow it there"),
            (&[Errno::INTR], "signals interrupt it"),
            (&[Errno::AGAIN], "ulimit -l"),
            (&[Errno::NOMEM], "ulimit -v"),
            (&[Errno::NOLCK], "no lock left"),
            (&[Errno::NOSPC, Errno::DQUOT, Errno::FBIG], "make room or a smaller segment"),
            (&[Errno::IO, Errno::ROFS, Errno::NODEV, Errno::INVAL, Errno::OPNOTSUPP], "/dev/shm for instance"),
            (&[Errno::BADF], "see the call's manual page"),
        ];
        for (errnos, part) in cases {
            for &errno in errnos {
                let told = advice(&errno.into());
                assert!(told.contains(part), "{errno:?}: {told}");
            }
        }
    }

    #[test]
    fn the_overflow_user_is_the_kernels() {
        let kernels = std::fs::read_to_string("/proc/sys/kernel/overflowuid").expect("readable");
        assert_eq!(overflow_user().to_string(), kernels.trim());
    }

    #[test]
    fn nobody_is_advised_to_trust_the_overflow_user() {
        let told = |owner| Error::WrongOwner { name: "segment".into(), owner, user: 0 }.to_string();
        assert!(told(12_345).contains("Options::trust_owner(12345)"));
        assert!(!told(overflow_user()).contains("trust_owner") && told(overflow_user()).contains("user namespace"));
    }
}
