//! What several test binaries share: segments that vanish whatever happens, numbers, patterns.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses a part")]

use atomic_matrix::handlers::{Handler, RelativePtr};
use atomic_matrix::segment::Options;
use uuid::Uuid;

pub(crate) const MIB: usize = 1 << 20;

/// A fresh id; its file in `/dev/shm` goes away with it, also when the test fails.
pub(crate) struct Scratch(pub(crate) Uuid);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(Uuid::new_v4())
    }
    pub(crate) fn options(&self) -> Options {
        Options::new().id(self.0)
    }
    pub(crate) fn attach(&self) -> Handler {
        self.options().attach().expect("the segment exists")
    }
    /// Attaches without recovering the dead, as whoever came before they died.
    pub(crate) fn attach_unreaped(&self) -> Handler {
        self.options().inspect().expect("the segment exists")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(format!("/dev/shm/atomic-matrix-{}", self.0));
    }
}

/// A segment of a MiB.
pub(crate) fn segment() -> (Scratch, Handler) {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    (scratch, handler)
}

/// The expression is this error, whose text says what to do, and nothing in the segment has changed (S5).
macro_rules! refused {
    ($handler:expr, $call:expr, $pattern:pat $(if $guard:expr)?) => {{
        let before = $handler.verify().expect("sound");
        match $call {
            Err(error @ $pattern) $(if $guard)? => assert!(error.to_string().len() > 30, "{error}"),
            other => panic!("{}: {other:?}", stringify!($call)),
        }
        assert_eq!($handler.verify().expect("sound"), before, "S5: {}", stringify!($call));
    }};
}
pub(crate) use refused;

/// A linear congruential generator: reproducible from its seed.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.word() >> 16) % n as u64) as usize
    }
}

/// The first word of a pattern, unique to its block: who wrote it, and which of the writer's it is. The
/// others follow from it.
pub(crate) fn pattern_seed(writer: u64, serial: u64) -> u64 {
    writer << 40 ^ serial
}

fn pattern_word(seed: u64, i: usize) -> u64 {
    seed ^ (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn words(handler: &Handler, pointer: &RelativePtr<u8>, usable: usize) -> (*mut u64, usize) {
    let first = handler.resolve(pointer);
    assert!(!first.is_null() && first.addr().is_multiple_of(16) && usable.is_multiple_of(16));
    (first.cast(), usable / 8)
}

/// Fills the whole usable block, of which the caller is the only user.
pub(crate) fn fill(handler: &Handler, pointer: &RelativePtr<u8>, usable: usize, seed: u64) {
    let (first, count) = words(handler, pointer, usable);
    for i in 0..count {
        // SAFETY: the block is live, has that many bytes (the heap said so), and is the caller's alone.
        unsafe { first.add(i).write_volatile(pattern_word(seed, i)) };
    }
}

/// Checks the whole usable block; panics at the first broken word.
pub(crate) fn check(handler: &Handler, pointer: &RelativePtr<u8>, usable: usize, seed: u64) {
    let (first, count) = words(handler, pointer, usable);
    for i in 0..count {
        // SAFETY: as in `fill`.
        let found = unsafe { first.add(i).read_volatile() };
        let expected = pattern_word(seed, i);
        assert_eq!(found, expected, "S1: word {i} of {count} of the block at {} is broken", pointer.offset());
    }
}

/// After everything was freed: one free block of the whole sector, and 90 % of it at the first try.
pub(crate) fn rest_is_one_block(handler: &Handler) {
    handler.heal().expect("a slot is free");
    let stats = handler.verify().unwrap_or_else(|fault| {
        let _ = handler.blocks(|block| eprintln!("{block:?}"));
        panic!("damaged: {fault}; the blocks in front are above")
    });
    assert_eq!((stats.live_blocks, stats.parked_blocks, stats.in_flight_blocks), (0, 0, 0), "{stats:?}");
    assert_eq!((stats.free_blocks, stats.free_bytes), (1, stats.sector_bytes), "{stats:?}");
    let most = handler.allocate_raw((stats.sector_bytes * 9 / 10).max(1) as usize).expect("90 % at the first try");
    handler.free_raw(most).expect("it is live");
    handler.heal().expect("a slot is free");
    assert_eq!(handler.verify().expect("nothing is damaged").free_blocks, 1);
}

/// A whole number from the environment, or the default.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is no number")))
}

/// What the kernel does to a process that is killed, done to one attachment of this process: its memory is
/// unmapped and its descriptor closed, so that its locks go, and nothing else happens. A thread of this
/// process that used it ends later, and gives its parked blocks back: to other memory, which is in its place.
pub(crate) fn die(handler: Handler) {
    let segment = handler.matrix().segment();
    let (base, length, fd) = (segment.base(), segment.len(), std::os::fd::AsRawFd::as_raw_fd(&segment.fd()));
    // SAFETY: it is never used again.
    unsafe { segment.end_life() };
    std::mem::forget(handler);
    // SAFETY: the handler was the mapping's only user, is never dropped, and cannot be used any more.
    unsafe {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let (may, how) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE);
        mmap_anonymous(base.as_ptr().cast(), length, may, how)
    }
    .expect("mapped");
    // SAFETY: its owner was forgotten: nobody uses or closes it again.
    unsafe { rustix::io::close(fd) };
}
