//! A thread whose system calls are watched: each is let through, or answered with an error number instead.
//!
//! seccomp(2) with user notification (Linux 5.5): the thread stops at each call, and its supervisor, an
//! unwatched thread of the same process, decides. So exactly the n-th call can be refused, and nobody else is
//! touched.

use libc::{c_int, c_long};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// One system call: its number and what it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: c_long,
    pub(crate) asked: [u64; 6],
}

/// How the watched thread ended.
pub(crate) enum Ended<T> {
    With(T),
    /// Its panic.
    Panicked(String),
    /// It made more calls, or took longer, than it may. Its thread stands still from then on.
    Endless,
}

/// What one run may take: a wait of the crate's is half a second at most, and each stage has few of them.
const PATIENCE: Duration = Duration::from_secs(20);
/// A call that is refused for ever is tried again a bounded number of times.
const MOST_CALLS: usize = 50_000;

/// Runs `body` on a thread of its own; `decide` says for each of its calls whether it is refused, and how. It
/// must not allocate: the thread may stand inside the allocator.
pub(crate) fn watched<T: Send + 'static>(
    mut decide: impl FnMut(Call) -> Option<i32>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Ended<T> {
    static NONE: i32 = -1;
    let listener = std::sync::Arc::new(AtomicI32::new(NONE));
    let told = listener.clone();
    let thread = std::thread::spawn(move || {
        told.store(install(), Ordering::Release);
        body()
    });
    while listener.load(Ordering::Acquire) == NONE {
        if thread.is_finished() {
            break;
        }
        std::thread::yield_now();
    }
    let number = listener.load(Ordering::Acquire);
    assert!(number >= 0, "no filter");
    // SAFETY: the kernel has just made it, for us alone.
    let listener = unsafe { OwnedFd::from_raw_fd(number) };
    let begun = Instant::now();
    for calls in 0.. {
        let Some((id, call)) = receive(&listener, begun) else { break };
        if calls >= MOST_CALLS || begun.elapsed() > PATIENCE {
            std::mem::forget(listener);
            return Ended::Endless;
        }
        let refused = decide(call);
        if refused.is_some() && call.number == libc::SYS_close {
            // However close(2) fails on Linux, the descriptor is gone.
            // SAFETY: the watched thread gives this descriptor up just now.
            unsafe { libc::close(call.asked[0] as c_int) };
        }
        answer(&listener, id, refused);
    }
    match thread.join() {
        Ok(result) => Ended::With(result),
        Err(panic) => Ended::Panicked(match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, text) => (*text.unwrap_or(&"a panic without a text")).to_owned(),
        }),
    }
}

/// From here on each call of this thread waits for its supervisor. The descriptor on which that one listens.
fn install() -> c_int {
    let arch = std::mem::offset_of!(libc::seccomp_data, arch) as u32;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    const AUDIT_ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, arch),
        libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: 1, k: AUDIT_ARCH },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the program is as long as it says, and lives until the call has copied it.
    let listener = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) };
    assert!(listener >= 0, "{}", std::io::Error::last_os_error());
    listener as c_int
}

/// The thread's next call; none when it has ended.
fn receive(listener: &OwnedFd, begun: Instant) -> Option<(u64, Call)> {
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, as told.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 1000) };
        if ready == 0 && begun.elapsed() > PATIENCE {
            eprintln!("a watched thread sleeps, or runs without a call, for {PATIENCE:?}");
            std::process::abort();
        }
        if poll.revents & libc::POLLIN == 0 {
            if poll.revents & (libc::POLLHUP | libc::POLLERR) != 0 {
                return None;
            }
            continue;
        }
        // SAFETY: all zeros is a notification, and what the kernel wants.
        let mut told: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one notification.
        let received = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut told) };
        if received == 0 {
            return Some((told.id, Call { number: c_long::from(told.data.nr), asked: told.data.args }));
        }
    }
}

fn answer(listener: &OwnedFd, id: u64, refused: Option<i32>) {
    let (error, flags) = match refused {
        Some(errno) => (-errno, 0),
        None => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the kernel reads one response.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut response) };
}
