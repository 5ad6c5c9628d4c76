//! Start barrier and ring, the same for threads (on the heap) and processes (in a block of the segment).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Messages that the ring holds. Each has two words; narrow ones use every word.
pub(crate) const SLOTS: u32 = 1024;

#[repr(C, align(128))]
#[derive(Debug, Default)]
struct Line(AtomicU32);

/// What the workers of the endurance mix have done so far, told now and then.
#[repr(C, align(128))]
#[derive(Debug, Default)]
struct Tally {
    operations: AtomicU64,
    /// Bytes asked for in live blocks.
    payload: AtomicU64,
}

/// All zero at the start.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Control {
    ready: Line,
    go: Line,
    stop: Line,
    ended: Line,
    /// Workers of the endurance mix that have stopped, with what they hold.
    resting: Line,
    /// They may free what they hold.
    release: Line,
    head: Line,
    tail: Line,
    tally: Tally,
    words: [AtomicU32; 2 * SLOTS as usize],
}

/// Waits: for a moment busily, then by giving the core away.
#[derive(Default)]
pub(crate) struct Patience(u32);

impl Patience {
    #[inline]
    pub(crate) fn wait(&mut self) {
        self.0 += 1;
        if self.0 < 256 {
            // Not too eagerly: each look at the other side's line takes it away from there.
            for _ in 0..32 {
                std::hint::spin_loop();
            }
        } else {
            std::thread::yield_now();
        }
    }
}

impl Control {
    pub(crate) fn on_heap() -> Box<Self> {
        let words = [const { AtomicU32::new(0) }; 2 * SLOTS as usize];
        let line = Line::default;
        Box::new(Self {
            ready: line(),
            go: line(),
            stop: line(),
            ended: line(),
            resting: line(),
            release: line(),
            head: line(),
            tail: line(),
            tally: Tally::default(),
            words,
        })
    }

    /// A worker is ready; returns when all may start. False: the run was called off.
    pub(crate) fn await_start(&self) -> bool {
        self.ready.0.fetch_add(1, Ordering::AcqRel);
        while self.go.0.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        !self.stopped()
    }
    pub(crate) fn ready(&self) -> u32 {
        self.ready.0.load(Ordering::Acquire)
    }
    fn start(&self) {
        self.go.0.store(1, Ordering::Release);
    }
    /// Lets the workers work for `seconds`; returns how long it was. What they do after the stop, a burst at
    /// most, is no more than they would have done in the time that they took to start.
    pub(crate) fn conduct(&self, seconds: f64) -> Duration {
        self.conduct_with(seconds, |_| seconds)
    }
    /// As [`Control::conduct`]; `look` is called with the seconds gone, and says at which second to call it again.
    pub(crate) fn conduct_with(&self, seconds: f64, mut look: impl FnMut(f64) -> f64) -> Duration {
        let started = Instant::now();
        self.start();
        loop {
            let gone = started.elapsed().as_secs_f64();
            if gone >= seconds {
                break;
            }
            let next = look(gone).min(seconds);
            std::thread::sleep(Duration::from_secs_f64((next - started.elapsed().as_secs_f64()).max(0.0)));
        }
        let window = started.elapsed();
        self.stop();
        window
    }
    /// Tells what was done since the last time: operations, and bytes asked for less those given back.
    pub(crate) fn tell(&self, operations: u64, payload: i64) {
        self.tally.operations.fetch_add(operations, Ordering::Relaxed);
        self.tally.payload.fetch_add(payload as u64, Ordering::Relaxed); // Wraps: less may be a negative number.
    }
    /// Operations so far, and bytes asked for in live blocks.
    pub(crate) fn told(&self) -> (u64, u64) {
        (self.tally.operations.load(Ordering::Relaxed), self.tally.payload.load(Ordering::Relaxed))
    }
    /// A worker has stopped, and waits until it may free what it holds.
    pub(crate) fn rest(&self) {
        self.resting.0.fetch_add(1, Ordering::AcqRel);
        while self.release.0.load(Ordering::Acquire) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    pub(crate) fn resting(&self) -> u32 {
        self.resting.0.load(Ordering::Acquire)
    }
    pub(crate) fn release(&self) {
        self.release.0.store(1, Ordering::Release);
    }
    /// The sender has sent its last, through whatever queue.
    pub(crate) fn end(&self) {
        self.ended.0.store(1, Ordering::Release);
    }
    /// Whether that is so.
    pub(crate) fn ended(&self) -> bool {
        self.ended.0.load(Ordering::Acquire) != 0
    }
    /// Stops the workers, or calls them off before the start.
    pub(crate) fn stop(&self) {
        self.stop.0.store(1, Ordering::Release);
    }
    #[inline(always)]
    pub(crate) fn stopped(&self) -> bool {
        self.stop.0.load(Ordering::Relaxed) != 0
    }
}

/// One side of the ring: the own position, and the other side's as last seen. `MOST` messages are on their way at
/// most.
pub(crate) struct Side<'a, const WIDE: bool, const MOST: u32 = SLOTS> {
    control: &'a Control,
    own: u32,
    seen: u32,
}

impl<'a, const WIDE: bool, const MOST: u32> Side<'a, WIDE, MOST> {
    /// The sender tells its position after so many messages, the receiver after so many: one transfer of a line
    /// for all of them.
    const SENT: u32 = MOST / 32;
    const RECEIVED: u32 = MOST / 8;

    pub(crate) fn new(control: &'a Control) -> Self {
        Self { control, own: 0, seen: 0 }
    }

    /// Sends, waiting for room.
    #[inline(always)]
    pub(crate) fn send(&mut self, message: u64) {
        let mut patience = Patience::default();
        while self.own.wrapping_sub(self.seen) == MOST {
            self.tell();
            self.seen = self.control.tail.0.load(Ordering::Acquire);
            if self.own.wrapping_sub(self.seen) == MOST {
                patience.wait();
            }
        }
        let at = (self.own % SLOTS) as usize;
        if WIDE {
            self.control.words[2 * at].store(message as u32, Ordering::Relaxed);
            self.control.words[2 * at + 1].store((message >> 32) as u32, Ordering::Relaxed);
        } else {
            self.control.words[at].store(message as u32, Ordering::Relaxed);
        }
        self.own = self.own.wrapping_add(1);
        if self.own.is_multiple_of(Self::SENT) {
            self.tell();
        }
    }

    /// Lets the receiver have what was sent.
    #[inline(always)]
    pub(crate) fn tell(&self) {
        self.control.head.0.store(self.own, Ordering::Release);
    }

    /// No more will be sent.
    pub(crate) fn end(&self) {
        self.tell();
        self.control.end();
    }

    #[inline(always)]
    fn message(&self, number: u32) -> u64 {
        let at = (number % SLOTS) as usize;
        let word = |index: usize| self.control.words[index].load(Ordering::Relaxed) as u64;
        if WIDE { word(2 * at) | word(2 * at + 1) << 32 } else { word(at) }
    }

    /// The message that is received so many calls from now, if it is known to be there.
    #[inline(always)]
    pub(crate) fn later(&self, ahead: u32) -> Option<u64> {
        (self.seen.wrapping_sub(self.own) > ahead).then(|| self.message(self.own.wrapping_add(ahead)))
    }

    /// The next message, waiting for it; none when the sender has ended.
    #[inline(always)]
    pub(crate) fn receive(&mut self) -> Option<u64> {
        let mut patience = Patience::default();
        while self.own == self.seen {
            self.control.tail.0.store(self.own, Ordering::Release);
            // In this order: what was sent before the end is seen behind it.
            let ended = self.control.ended.0.load(Ordering::Acquire) != 0;
            self.seen = self.control.head.0.load(Ordering::Acquire);
            if self.own == self.seen {
                if ended {
                    return None;
                }
                patience.wait();
            }
        }
        let message = self.message(self.own);
        self.own = self.own.wrapping_add(1);
        if self.own.is_multiple_of(Self::RECEIVED) {
            self.control.tail.0.store(self.own, Ordering::Release);
        }
        Some(message)
    }
}
