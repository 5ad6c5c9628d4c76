//! The production backend: the processor's own atomics.
#![allow(clippy::disallowed_types, reason = "this module is where raw atomics live")]

use super::{Backend, Reach, Site, Word, process};
use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, futex, membarrier, membarrier_query};
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
use std::time::Duration;

/// The processor's own atomics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

/// A machine word in memory that other processes may map as well.
#[derive(Debug)]
#[repr(transparent)]
pub struct NativeWord(AtomicU64);

const _: () = assert!(size_of::<NativeWord>() == 8 && align_of::<NativeWord>() == 8);

/// How long one sleeps at a time where the system refuses to wait on a word.
const BLIND_SLEEP: Duration = Duration::from_millis(1);

impl NativeWord {
    /// The half that the kernel compares. It is never accessed through this reference here: only its address
    /// is passed on.
    fn low_half(&self) -> &AtomicU32 {
        let half = usize::from(cfg!(target_endian = "big"));
        // SAFETY: half of a word that lives as long as the reference; aligned to more than four bytes.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast::<u32>().add(half)) }
    }
}

impl Word for NativeWord {
    #[inline(always)]
    fn load(&self, site: &'static Site) -> u64 {
        self.0.load(site.order)
    }
    #[inline(always)]
    fn store(&self, value: u64, site: &'static Site) {
        self.0.store(value, site.order);
    }
    #[inline(always)]
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, site.order, site.fail)
    }
    #[inline(always)]
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        self.0.fetch_or(bits, site.order)
    }
    #[inline(always)]
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        self.0.fetch_and(bits, site.order)
    }
    #[inline(always)]
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        self.0.fetch_add(n, site.order)
    }
    #[inline(always)]
    fn expect_write(&self) {
        expect_write((&raw const self.0).cast());
    }
    #[inline(always)]
    fn guess(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The line at this address will be written before long.
#[inline(always)]
pub(crate) fn expect_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, about any address; processors without it take it for a nop.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Where the system refuses to wait on a word, whoever waits looks again before long, and does not spin. Whether the
/// time is over.
fn sleep_blindly(at_most: Duration) -> bool {
    crate::kernel::nap(BLIND_SLEEP.min(at_most));
    at_most <= BLIND_SLEEP
}

/// The line at this address will be read before long.
#[inline(always)]
pub(crate) fn expect_look(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, about any address.
    unsafe {
        std::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

thread_local! {
    /// Set where a heavy fence was refused. The algorithm goes on without it, and leaves to others what is
    /// theirs; the user is told.
    static FENCE_REFUSED: Cell<bool> = const { Cell::new(false) };
}

impl Native {
    /// Makes both reaches of [`Backend::heavy_fence`] available to this process (membarrier(2), private
    /// expedited, Linux 4.14, and global, Linux 4.3). False if the system does not offer them.
    ///
    /// Global *expedited* would reach other processes in microseconds, but misses some:
    /// `verification/orders/membarrier`.
    pub(crate) fn join_heavy_fences() -> bool {
        Self::join_near_fences() && membarrier_query().contains_command(MembarrierCommand::Global)
    }

    /// Runs `operation`, and says whether the system refused this thread a heavy fence meanwhile.
    pub(crate) fn noting_refused_fences<T>(operation: impl FnOnce() -> T) -> (T, bool) {
        FENCE_REFUSED.set(false);
        let result = operation();
        (result, FENCE_REFUSED.get())
    }

    /// Whether the system has refused this thread a heavy fence since [`Native::noting_refused_fences`] began.
    pub(crate) fn fence_was_refused() -> bool {
        FENCE_REFUSED.get()
    }

    /// Registers this process and fences it.
    fn join_near_fences() -> bool {
        membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
            && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }

    /// A number that stands for this process, never 0: a child that is forked has another one. No kernel
    /// call, once it is known.
    #[inline]
    pub(crate) fn process() -> u64 {
        process::number()
    }

    /// Whether this system has memory that a forked child finds zeroed, and can be believed.
    pub(crate) fn wipes_on_fork() -> bool {
        process::wipes()
    }

    /// A number that this process has not handed out before, from 1 on.
    pub(crate) fn serial() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
thread_local! {
    /// Sleeps of this thread that no ring has ended.
    pub(crate) static NAPS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Backend for Native {
    type Word = NativeWord;
    type Cell = ();

    fn word(value: u64) -> NativeWord {
        NativeWord(AtomicU64::new(value))
    }
    fn cell() {}
    #[inline(always)]
    fn touch((): &()) {}
    #[inline(always)]
    fn fence(site: &'static Site) {
        fence(site.order);
    }
    #[inline(always)]
    fn light_fence(site: &'static Site) {
        compiler_fence(site.order);
    }
    #[cold]
    fn heavy_fence(site: &'static Site, reach: Reach) -> bool {
        fence(site.order);
        let fenced = match reach {
            // A heap that is no segment's has not registered its process.
            Reach::Process => membarrier(MembarrierCommand::PrivateExpedited).is_ok() || Self::join_near_fences(),
            Reach::System => membarrier(MembarrierCommand::Global).is_ok(),
        };
        if !fenced {
            FENCE_REFUSED.set(true);
        }
        fenced
    }
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    fn fence_behind_rmw(site: &'static Site) {
        compiler_fence(site.order);
    }
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    fn fence_between_loads(site: &'static Site) {
        compiler_fence(site.order);
    }
    #[inline(always)]
    fn pause() {
        std::hint::spin_loop();
    }
    const SPINS: u32 = 100;
    const TIME_PASSES: bool = true;
    // A futex that processes share (not FUTEX_PRIVATE_FLAG): the kernel knows it by the file and the offset.
    #[cold]
    fn wait(word: &NativeWord, expected: u64, at_most: Duration) -> bool {
        let timeout = futex::Timespec {
            tv_sec: at_most.as_secs().min(i32::MAX as u64) as _,
            tv_nsec: at_most.subsec_nanos() as _,
        };
        // The time is relative, and FUTEX_WAIT counts it by CLOCK_MONOTONIC.
        match futex::wait(word.low_half(), futex::Flags::empty(), expected as u32, Some(&timeout)) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => false,
            Err(Errno::TIMEDOUT) => {
                #[cfg(test)]
                NAPS.set(NAPS.get() + 1);
                true
            }
            // A filter of system calls.
            Err(_) => sleep_blindly(at_most),
        }
    }
    // FUTEX_WAITV, Linux 5.16. Without it, or for more words than it takes, whoever waits looks at all of them
    // again before long.
    #[cold]
    fn wait_any(words: &[(&NativeWord, u64)], at_most: Duration) -> bool {
        let until = clock_gettime(ClockId::Monotonic).checked_add(Timespec {
            tv_sec: at_most.as_secs().min(i32::MAX as u64) as _,
            tv_nsec: at_most.subsec_nanos().into(),
        });
        let sleeper = |(word, expected): &(&NativeWord, u64)| {
            let mut wait = futex::Wait::new();
            wait.val = u64::from(*expected as u32);
            wait.uaddr = futex::WaitPtr::new(word.low_half().as_ptr().cast());
            wait.flags = futex::WaitFlags::SIZE_U32;
            wait
        };
        let sleepers: Vec<_> = words.iter().map(sleeper).collect();
        match futex::waitv(&sleepers, futex::WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => false,
            Err(Errno::TIMEDOUT) => true,
            Err(_) => sleep_blindly(at_most),
        }
    }
    #[cold]
    fn wake(word: &NativeWord, most: u32) -> usize {
        futex::wake(word.low_half(), futex::Flags::empty(), most.min(i32::MAX as u32)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the time was over, where the kernel waits on a word or on several, and where it refuses that.
    #[test]
    fn a_sleep_says_whether_its_time_is_over() {
        const HOUR: Duration = Duration::from_secs(3600);
        let word = Native::word(7);
        assert!(!Native::wait(&word, 8, HOUR) && Native::wait(&word, 7, BLIND_SLEEP));
        assert!(!Native::wait_any(&[(&word, 7), (&word, 8)], HOUR) && Native::wait_any(&[(&word, 7)], BLIND_SLEEP));
        assert!(!sleep_blindly(HOUR) && sleep_blindly(BLIND_SLEEP) && sleep_blindly(Duration::ZERO));
    }

    #[test]
    fn a_refused_fence_is_noted_until_the_next_operation() {
        let refused = || {
            FENCE_REFUSED.set(true);
            Native::fence_was_refused()
        };
        assert_eq!(Native::noting_refused_fences(refused), (true, true));
        assert_eq!(Native::noting_refused_fences(Native::fence_was_refused), (false, false));
    }
}
