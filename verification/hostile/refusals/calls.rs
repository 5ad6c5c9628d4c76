//! The system calls that the crate makes, and how the kernel may refuse each: errors that its manual names,
//! and EPERM and ENOSYS, which a sandbox answers.

use crate::filter::Call;
use libc::*;

/// A kind of call.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) number: c_long,
    pub(crate) refusals: &'static [c_int],
}

const fn kind(name: &'static str, number: c_long, refusals: &'static [c_int]) -> Kind {
    Kind { name, number, refusals }
}

/// How opening a file is refused.
const OPENING: &[c_int] =
    &[EPERM, ENOSYS, EACCES, EDQUOT, EINTR, ELOOP, EMFILE, ENFILE, ENOENT, ENOMEM, ENOSPC, EOPNOTSUPP, EROFS];

/// Those that can be refused.
pub(crate) const KINDS: &[Kind] = &[
    // Files and names.
    #[cfg(target_arch = "x86_64")]
    kind("open", SYS_open, OPENING),
    kind("openat", SYS_openat, OPENING),
    kind("close", SYS_close, &[EINTR, EIO, ENOSPC]),
    kind("fstat", SYS_fstat, &[EPERM, ENOSYS, ENOMEM, EOVERFLOW]),
    kind("newfstatat", SYS_newfstatat, &[EPERM, ENOSYS, EACCES, ELOOP, ENOENT, ENOMEM]),
    kind("fstatfs", SYS_fstatfs, &[EPERM, ENOSYS, EINTR, EIO, ENOMEM]),
    kind("linkat", SYS_linkat, &[EPERM, ENOSYS, EACCES, EDQUOT, EEXIST, EMLINK, ENOENT, ENOMEM, ENOSPC, EROFS, EXDEV]),
    kind("unlinkat", SYS_unlinkat, &[EPERM, ENOSYS, EACCES, EBUSY, EIO, ENOENT, ENOMEM, EROFS]),
    kind("fchmod", SYS_fchmod, &[EPERM, ENOSYS, EIO, EROFS]),
    kind("fchown", SYS_fchown, &[EPERM, ENOSYS, EIO, EROFS]),
    kind("ftruncate", SYS_ftruncate, &[EPERM, ENOSYS, EFBIG, EINTR, EINVAL, EIO, ETXTBSY]),
    kind("fallocate", SYS_fallocate, &[EPERM, ENOSYS, EFBIG, EINTR, EIO, ENODEV, ENOSPC, EOPNOTSUPP, ENOMEM, EDQUOT]),
    kind("pread64", SYS_pread64, &[EPERM, ENOSYS, EAGAIN, EINTR, EIO]),
    kind("pwrite64", SYS_pwrite64, &[EPERM, ENOSYS, EINTR, EIO, ENOSPC]),
    kind("read", SYS_read, &[EPERM, ENOSYS, EAGAIN, EINTR, EIO]),
    kind("getdents64", SYS_getdents64, &[EPERM, ENOSYS, ENOENT]),
    kind("memfd_create", SYS_memfd_create, &[EPERM, ENOSYS, EINVAL, EMFILE, ENFILE, ENOMEM]),
    kind("fcntl", SYS_fcntl, &[EPERM, ENOSYS, EAGAIN, EINTR, EINVAL, ENOLCK, EMFILE]),
    kind("flock", SYS_flock, &[EPERM, ENOSYS, EINTR, ENOLCK, EWOULDBLOCK, EOPNOTSUPP]),
    // Memory.
    kind("mmap", SYS_mmap, &[EPERM, ENOSYS, EACCES, EAGAIN, ENFILE, ENODEV, ENOMEM]),
    kind("munmap", SYS_munmap, &[EPERM, ENOSYS, ENOMEM]),
    kind("madvise", SYS_madvise, &[EPERM, ENOSYS, EAGAIN, EFAULT, EINVAL, EIO, ENOMEM]),
    // Processes.
    kind("membarrier", SYS_membarrier, &[EPERM, ENOSYS, EINVAL]),
    kind("getrandom", SYS_getrandom, &[EPERM, ENOSYS, EAGAIN, EINTR]),
    kind("kill", SYS_kill, &[EPERM, ENOSYS, ESRCH]),
    kind("prlimit64", SYS_prlimit64, &[EPERM, ENOSYS, EFAULT]),
    kind("nanosleep", SYS_nanosleep, &[EPERM, ENOSYS, EINTR, EFAULT]),
];

/// Those that no undisturbed life makes: for a creator that seems to have died, and while another holds a lock.
pub(crate) const SELDOM: &[&str] = &["kill", "nanosleep"];

/// Calls of the crate's that no manual lets fail.
pub(crate) const NEVER_FAIL: &[c_long] = &[SYS_getpid, SYS_geteuid, SYS_gettid];

/// Those of the C library, Rust's runtime and this test: allocating, threads, waking another thread.
pub(crate) const RUNTIME: &[c_long] = &[
    SYS_futex,
    SYS_brk,
    SYS_mprotect,
    SYS_mremap,
    SYS_sched_yield,
    SYS_exit,
    SYS_rt_sigprocmask,
    SYS_sigaltstack,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_sched_getaffinity,
    SYS_lseek,
    SYS_write,
    SYS_poll,
];

/// Whether a call is the crate's: anonymous memory is the allocator's too, which may not be refused any (Rust
/// aborts then).
#[expect(non_upper_case_globals, reason = "the names are of libc")]
pub(crate) fn is_the_crates(call: Call, cache_bytes: u64) -> bool {
    let [_, length, _, flags, ..] = call.asked;
    match call.number {
        SYS_mmap => flags & MAP_ANONYMOUS as u64 == 0 || length == cache_bytes,
        SYS_madvise => call.asked[2] != MADV_DONTNEED as u64,
        _ => !RUNTIME.contains(&call.number) && !NEVER_FAIL.contains(&call.number),
    }
}

pub(crate) fn kind_of(call: Call) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.number == call.number)
}
