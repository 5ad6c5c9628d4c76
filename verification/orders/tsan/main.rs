//! A workload for ThreadSanitizer: threads that use one segment and access payload plainly (S1, S3), and the same of
//! structures ([`structures`]).
//!
//! `verification/orders/tsan/run` builds it with the sanitizer, runs it, and runs the controls, which must be
//! reported: they show that a missing happens-before would be seen. Without a harness, since libtest itself
//! gives false alarms.
//!
//! The threads share nothing but the segment and relaxed numbers. The sanitizer does not understand fences, so whatever
//! is clean here is clean by the headers' acquire and release alone.
#![allow(
    clippy::disallowed_types,
    reason = "threads pass offsets on without any ordering, which no site of the table does"
)]

mod structures;

use atomic_matrix::Error;
use atomic_matrix::backend::orderings::{CELL_PUT, HAZARD_CLEAR, HAZARD_SET, LET_GO, OWN_STORE, PARK, TICKET_STEP};
use atomic_matrix::backend::{Backend, Native, NativeWord, Site, Word};
use atomic_matrix::handlers::{Handler, HandlerFunctions, Policy, RelativePtr};
use atomic_matrix::matrix::heap::{Heap, Kind, ThreadCache};
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use atomic_matrix::segment::size_class::Larges;
use std::cell::UnsafeCell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: usize = 4;

/// Threads that have not come to their end.
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// Starts a thread. std's own joining and its `Arc` end with fences and futexes that the sanitizer does not
/// see, so nothing of them is used: the handle is forgotten, and what threads share is never dropped.
fn spawn(work: impl FnOnce() + Send + 'static) {
    RUNNING.fetch_add(1, Ordering::Relaxed);
    std::mem::forget(thread::spawn(|| {
        work();
        RUNNING.fetch_sub(1, Ordering::Release);
    }));
}

/// Waits for the threads.
fn join() {
    while RUNNING.load(Ordering::Acquire) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Offsets on their way to other threads.
const MAILBOXES: usize = 16;

/// Passes blocks on without an ordering: offset and generation as one relaxed word.
struct Post([AtomicU64; MAILBOXES]);

impl Post {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; MAILBOXES])
    }
    /// Puts a block into an empty box; gives it back if there is none.
    fn send(&self, pointer: RelativePtr<u8>, from: usize) -> bool {
        let word = u64::from(pointer.offset()) | u64::from(pointer.generation()) << 32;
        (0..MAILBOXES).any(|i| {
            let to = &self.0[(from + i) % MAILBOXES];
            to.compare_exchange(0, word, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }
    fn receive(&self, from: usize) -> Option<(u32, u32)> {
        let word =
            (0..MAILBOXES).map(|i| self.0[(from + i) % MAILBOXES].swap(0, Ordering::Relaxed)).find(|&w| w != 0)?;
        Some((word as u32, (word >> 32) as u32))
    }
}

/// Writes every word of a block plainly.
fn fill(handler: &Handler, pointer: &RelativePtr<u8>, seed: u64) {
    let (first, words) = payload(handler, pointer);
    for i in 0..words {
        // SAFETY: in the block (its own size says so); the caller holds it alone, which is what is checked here.
        unsafe { first.add(i).write(seed ^ i as u64) };
    }
}

/// Reads every word of a block plainly.
fn check(handler: &Handler, pointer: &RelativePtr<u8>) {
    let (first, words) = payload(handler, pointer);
    // SAFETY: as in `fill`.
    let seed = unsafe { first.read() };
    for i in 0..words {
        // SAFETY: as in `fill`.
        assert_eq!(unsafe { first.add(i).read() }, seed ^ i as u64, "S1: broken payload");
    }
}

fn payload(handler: &Handler, pointer: &RelativePtr<u8>) -> (*mut u64, usize) {
    let bytes = handler.usable_size(pointer).expect("held");
    (handler.resolve(pointer).cast(), bytes / 8)
}

/// Whether something has come to its end, and how much was done.
struct Clock {
    over: AtomicBool,
    done: [AtomicU64; 5],
}

/// What [`Clock::done`] counts.
#[derive(Clone, Copy)]
enum Did {
    Free,
    Adopt,
    Take,
    Heal,
    Recover,
}

impl Clock {
    fn new() -> Self {
        Self { over: AtomicBool::new(false), done: [const { AtomicU64::new(0) }; 5] }
    }
    fn runs(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
    fn did(&self, what: Did) {
        self.done[what as usize].fetch_add(1, Ordering::Relaxed);
    }
    fn count(&self, what: Did) -> u64 {
        self.done[what as usize].load(Ordering::Relaxed)
    }
}

/// One thread: allocate, write, read, free; give blocks to others and take theirs, by mail and by name; heal; reap.
fn work(me: usize, handler: &Handler, post: &Post, clock: &Clock) {
    let mut random = fastrand::Rng::with_seed(me as u64);
    let mut held: Vec<RelativePtr<u8>> = vec![];
    let mut serial = (me as u64) << 56;
    while clock.runs() {
        serial += 1;
        match random.u32(..100) {
            0..40 => {
                let size = [64, 64, 200, 640, 1000, 3000, 9000][random.usize(..7)];
                match handler.allocate_raw(size) {
                    Ok(pointer) => {
                        fill(handler, &pointer, serial);
                        held.push(pointer);
                    }
                    Err(Error::OutOfMemory { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            40..70 if !held.is_empty() => {
                let pointer = held.swap_remove(random.usize(..held.len()));
                check(handler, &pointer);
                handler.free_raw(pointer).expect("held");
                clock.did(Did::Free);
            }
            70..82 if !held.is_empty() => {
                let pointer = held.swap_remove(random.usize(..held.len()));
                handler.hand_over(&pointer).expect("held");
                if !post.send(pointer, me) {
                    held.push(handler.adopt_at(pointer.offset(), None).expect("nobody has it"));
                }
            }
            82..92 => {
                if let Some((offset, generation)) = post.receive(random.usize(..MAILBOXES)) {
                    let pointer = handler.adopt_at(offset, Some(generation)).expect("on its way to us alone");
                    check(handler, &pointer);
                    fill(handler, &pointer, serial);
                    held.push(pointer);
                    clock.did(Did::Adopt);
                }
            }
            92..97 => by_name(handler, &mut random, serial, clock),
            97 if serial.is_multiple_of(8) => {
                handler.heal().expect("a slot");
                clock.did(Did::Heal);
            }
            98 => drop(handler.reap().expect("a slot")),
            _ => {}
        }
        if held.len() > 40 {
            for pointer in held.drain(..30) {
                handler.free_raw(pointer).expect("held");
            }
        }
    }
    held.into_iter().for_each(|pointer| handler.free_raw(pointer).expect("held"));
}

/// Publishes a typed block, or takes one that somebody has published.
fn by_name(handler: &Handler, random: &mut fastrand::Rng, serial: u64, clock: &Clock) {
    let name = ["red", "green", "blue"][random.usize(..3)];
    if let Ok(block) = handler.take::<[u64; 40]>(name) {
        // SAFETY: taken: of all who tried we alone have it.
        let value = unsafe { handler.read(&block) };
        assert!(value.iter().all(|&word| word == value[0]), "S1: broken payload");
        handler.free(block);
        clock.did(Did::Take);
    } else if let Ok(mut block) = handler.allocate::<[u64; 40]>() {
        // SAFETY: just allocated.
        unsafe { handler.write(&mut block, [serial; 40]) };
        let pointer = block.pointer();
        if handler.publish(name, &block).is_err() {
            handler.free_raw(pointer.cast()).expect("held");
        }
    }
}

/// Participants that end and are recovered by another, beside the others' work. The flag stands for the kernel, which
/// tells a survivor that a process is gone.
fn die_and_recover(handler: &'static Handler, clock: &'static Clock) {
    let heap = handler.matrix().heap();
    let last = heap.layout().params.participants as u16;
    let gone = forever(AtomicU64::new(0));
    spawn(move || {
        let mut round = 0;
        while clock.runs() {
            let mut dead = ThreadCache::new(last);
            for size in [1, 3, 7, 40, 2] {
                if let Ok(live) = heap.allocate(&mut dead, size, 1, Kind::Raw) {
                    let at = heap.layout().sector as usize + live.at.index() * heap.layout().params.granule();
                    // SAFETY: the block is this cache's, and has 64 bytes at least.
                    unsafe { handler.matrix().segment().base().add(at).cast::<u64>().write(round) };
                    if size == 2 {
                        let _ = heap.free(&mut dead, live.at, None);
                    }
                }
            }
            round += 1;
            gone.store(round * 2 - 1, Ordering::Release);
            while clock.runs() && gone.load(Ordering::Acquire) == round * 2 - 1 {
                thread::yield_now();
            }
        }
    });
    spawn(move || {
        let mut cache = ThreadCache::new(last - 1);
        while clock.runs() {
            let seen = gone.load(Ordering::Acquire);
            if seen % 2 == 1 {
                heap.recoveries().recover(&mut cache, last, Policy::GiveBack);
                heap.parking().flush(&mut cache);
                clock.did(Did::Recover);
                gone.store(seen + 1, Ordering::Release);
            }
            thread::yield_now();
        }
    });
}

/// The whole workload for a while.
fn clean(time: Duration, strict: bool) {
    let handler = forever(Options::new().memfd().size(1 << 20).strict(strict).create().expect("memory"));
    let (post, clock) = (forever(Post::new()), forever(Clock::new()));
    let start = Instant::now();
    for me in 0..THREADS {
        spawn(move || work(me, handler, post, clock));
    }
    die_and_recover(handler, clock);
    thread::sleep(time);
    clock.over.store(true, Ordering::Relaxed);
    join();
    let heap = handler.matrix().heap();
    let last = heap.layout().params.participants as u16;
    // The last one may have died behind its recoverer's last look.
    heap.recoveries().recover(&mut ThreadCache::new(last - 1), last, Policy::GiveBack);
    while let Some((offset, _)) = post.receive(0) {
        handler.free_at(offset).expect("on its way");
    }
    for name in ["red", "green", "blue"] {
        if let Ok(block) = handler.take::<[u64; 40]>(name) {
            handler.free(block);
        }
    }
    handler.heal().expect("a slot");
    let stats = handler.verify().expect("S4: sound");
    assert_eq!((stats.live_blocks, stats.free_blocks), (0, 1), "S1 L3 C1");
    let [frees, adopted, taken, heals, recovered] =
        [Did::Free, Did::Adopt, Did::Take, Did::Heal, Did::Recover].map(|what| clock.count(what));
    println!(
        "strict {strict}: {frees} frees, {adopted} adopted, {taken} taken by name, {heals} heals, {recovered} \
            recovered, {:.1?}",
        start.elapsed()
    );
    assert!(frees.min(adopted).min(taken).min(heals).min(recovered) > 0, "some of the calls were never made");
}

/// Control: a block's number is passed on, and its reader does not adopt it.
fn unadopted() {
    let handler = forever(Options::new().memfd().size(1 << 20).create().expect("memory"));
    let post = forever(Post::new());
    spawn(|| {
        let pointer = handler.allocate_raw(64).expect("room");
        fill(handler, &pointer, 1);
        assert!(post.send(pointer, 0));
    });
    spawn(|| {
        let (offset, _) = loop {
            if let Some(received) = post.receive(0) {
                break received;
            }
        };
        let address = handler.resolve_at(offset).expect("live").cast::<u64>();
        // SAFETY: in the mapping. The race is the point.
        println!("{}", unsafe { address.read() });
    });
    join();
}

/// A backend whose ordering at one site is weakened.
struct Weakened<const SITE: usize>;
struct WeakWord<const SITE: usize>(NativeWord);

/// The sites that can be weakened, and what they become. (Most releases and acquires of a block's way are
/// there twice, at the free and at the merge for instance: that each is needed where it stands, is shown by
/// loom's schedules.)
const WEAK: [&[(&Site, &Site)]; 4] = [
    &[(&PARK, &Site { order: Ordering::Acquire, ..PARK })],
    // The thief reads the owner's slot as well as the header: either alone is enough. (To the sanitizer a
    // word's release outlasts later relaxed stores, so that the name's would hide the missing one of its
    // clearing.)
    &[
        (&HAZARD_SET, &Site { order: Ordering::Relaxed, ..HAZARD_SET }),
        (&OWN_STORE, &Site { order: Ordering::Relaxed, ..OWN_STORE }),
        (&HAZARD_CLEAR, &Site { order: Ordering::Relaxed, ..HAZARD_CLEAR }),
    ],
    // The receiver reads the cell, the header and the tail: each alone is enough.
    &[
        (&CELL_PUT, &Site { order: Ordering::Relaxed, ..CELL_PUT }),
        (&LET_GO, &Site { order: Ordering::Relaxed, ..LET_GO }),
        (&TICKET_STEP, &Site { order: Ordering::Relaxed, ..TICKET_STEP }),
    ],
    // Nothing: the same workload as it is.
    &[],
];
const UNCHANGED: usize = 3;

/// What an access at `site` becomes.
const fn weakened<const SITE: usize>(site: &'static Site) -> &'static Site {
    let mut i = 0;
    while i < WEAK[SITE].len() {
        let (at, weak) = const { WEAK[SITE] }[i];
        if site.index == at.index {
            return weak;
        }
        i += 1;
    }
    site
}

impl<const SITE: usize> Word for WeakWord<SITE> {
    fn load(&self, site: &'static Site) -> u64 {
        self.0.load(site)
    }
    fn store(&self, value: u64, site: &'static Site) {
        self.0.store(value, weakened::<SITE>(site));
    }
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        self.0.cas(old, new, weakened::<SITE>(site))
    }
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        self.0.fetch_or(bits, site)
    }
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        self.0.fetch_and(bits, site)
    }
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        self.0.fetch_add(n, site)
    }
}

/// A granule's payload, written plainly.
struct Cell(UnsafeCell<u64>);
// SAFETY: that only one thread at a time accesses it is what is checked here.
unsafe impl Sync for Cell {}
// SAFETY: a number.
unsafe impl Send for Cell {}

impl<const SITE: usize> Backend for Weakened<SITE> {
    type Word = WeakWord<SITE>;
    type Cell = Cell;
    fn word(value: u64) -> Self::Word {
        WeakWord(Native::word(value))
    }
    fn cell() -> Cell {
        Cell(UnsafeCell::new(0))
    }
    fn touch(cell: &Cell) {
        // SAFETY: the toucher holds the granule alone, which is what is checked here.
        unsafe { *cell.0.get() += 1 };
    }
    fn fence(site: &'static Site) {
        Native::fence(site);
    }
    fn pause() {
        Native::pause();
    }
}

/// Threads that allocate, touch and free on a heap whose backend may be weakened.
fn on_a_heap<const SITE: usize>() {
    let params = Params {
        granule_shift: 4,
        participants: 4,
        batches: 2,
        directory: 0,
        header_words: 0,
        line_words: 8,
        biased: true,
        larges: Larges::USUAL,
    };
    let heap = forever(Heap::format(BoxedRegion::<Weakened<SITE>>::new(Layout::new(2400, params))));
    for owner in 1..=4 {
        spawn(move || {
            // Two park, two merge everything at once; all use each other's memory through the sector.
            let mut cache = if owner % 2 == 0 { ThreadCache::new(owner) } else { ThreadCache::with_ceiling(owner, 0) };
            let mut random = fastrand::Rng::with_seed(owner.into());
            for round in 0..3000 {
                let size = random.u32(1..160);
                if let Ok(live) = heap.allocate(&mut cache, size, 1, Kind::Raw) {
                    heap.region().touch(live.at, size);
                    heap.free(&mut cache, live.at, None).expect("held");
                }
                if round % 100 == 0 {
                    heap.parking().flush(&mut cache);
                }
            }
        });
    }
    join();
    println!("a heap of its own: 4 threads, 12000 rounds");
}

/// A sector with two participants and nothing else.
const fn for_two(biased: bool) -> Params {
    Params {
        granule_shift: 6,
        participants: 2,
        batches: 0,
        directory: 0,
        header_words: 0,
        line_words: 8,
        biased,
        larges: Larges::USUAL,
    }
}

/// One thread uses a block and parks it; another takes it in a sweep, told by a number without an ordering that it may.
/// The sweep heals: one that looks for room first reads the counts of what was given back, which order it as well.
fn handed_on<const SITE: usize>(biased: bool) {
    let heap = forever(Heap::format(BoxedRegion::<Weakened<SITE>>::new(Layout::new(1, for_two(biased)))));
    let parked = forever(AtomicBool::new(false));
    spawn(|| {
        let mut cache = ThreadCache::new(1);
        let live = heap.allocate(&mut cache, 1, 1, Kind::Raw).expect("room");
        heap.region().touch(live.at, 1);
        heap.free(&mut cache, live.at, None).expect("held");
        parked.store(true, Ordering::Relaxed);
    });
    spawn(|| {
        while !parked.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let mut cache = ThreadCache::new(2);
        heap.heal(&mut cache);
        let live = heap.allocate(&mut cache, 1, 1, Kind::Raw).expect("the other's parked block");
        heap.region().touch(live.at, 1);
    });
    join();
    println!("a parked block is taken by another thread");
}

/// A payload handed over by fences around relaxed accesses: right, and yet reported, since the sanitizer
/// understands no fences.
fn fenced() {
    let (payload, told) = forever((Cell(UnsafeCell::new(0)), AtomicBool::new(false)));
    spawn(move || {
        // SAFETY: the other thread reads it only when it has been told, behind the fences.
        unsafe { payload.0.get().write(1) };
        fence(Ordering::Release);
        told.store(true, Ordering::Relaxed);
    });
    spawn(move || {
        while !told.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        fence(Ordering::Acquire);
        // SAFETY: as above.
        println!("{}", unsafe { payload.0.get().read() });
    });
    join();
}

fn main() -> ExitCode {
    let seconds = std::env::var("MATRIX_TSAN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        told(info);
        std::process::exit(3);
    }));
    match std::env::args().nth(1).unwrap_or_default().as_str() {
        "" | "clean" => {
            clean(Duration::from_secs(seconds), false);
            clean(Duration::from_secs(seconds), true);
            on_a_heap::<UNCHANGED>();
            handed_on::<UNCHANGED>(false);
            handed_on::<UNCHANGED>(true);
            structures::clean(Duration::from_secs(seconds));
            structures::sent::<UNCHANGED>();
        }
        "unadopted" => unadopted(),
        // Without bias a block is parked by compare-and-swap, with it by a plain store.
        "park" => handed_on::<0>(false),
        "own" => handed_on::<1>(true),
        "link" => structures::sent::<2>(),
        "fences" => fenced(),
        other => {
            eprintln!("no workload {other:?}: clean, unadopted, park, own, link or fences");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
