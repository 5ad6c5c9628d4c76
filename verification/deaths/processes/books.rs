//! The books of a campaign: words of a segment of their own, which a kill leaves as they are; and the workers that keep them, each a
//! process, which is this binary again.

use crate::common::{Rng, Scratch, setting};
use crate::held::{Clocks, Times, WORDS as TIMES};
use crate::woken::Way;
use atomic_matrix::Error;
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions};
use atomic_matrix::ipc::Message;
use atomic_matrix::segment::Options;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// So many words. The last one says that all shall end.
pub(crate) struct Books<const ALL: usize> {
    handler: Handler,
    block: Block<[u64; ALL]>,
    times: Block<[u64; TIMES]>,
}

impl<const ALL: usize> Books<ALL> {
    /// Empty ones.
    fn make(side: &Scratch) -> Self {
        let handler = side.options().size((ALL * 8 + (2 << 20)).next_power_of_two()).create().expect("created");
        handler.publish("books", &handler.allocate::<[u64; ALL]>().expect("room")).expect("published");
        handler.publish("times", &handler.allocate::<[u64; TIMES]>().expect("room")).expect("published");
        Self::find(handler)
    }
    /// Those that are there.
    fn find(handler: Handler) -> Self {
        let block = handler.lookup("books").expect("published");
        Self { times: handler.lookup("times").expect("published"), block, handler }
    }
    /// How long calls take.
    pub(crate) fn clocks(&self) -> Clocks<'_> {
        let first: *mut AtomicU64 = self.handler.resolve(&self.times.pointer()).cast();
        // SAFETY: the live block is as long, and aligned; everybody accesses it atomically; the handler lives as long.
        Clocks(unsafe { &*first.cast() })
    }
    pub(crate) fn word(&self, i: usize) -> &AtomicU64 {
        assert!(i < ALL);
        let first: *mut u64 = self.handler.resolve(&self.block.pointer()).cast();
        // SAFETY: in range of the live block; everybody accesses it atomically; the handler lives as long.
        unsafe { AtomicU64::from_ptr(first.add(i)) }
    }
    pub(crate) fn get(&self, i: usize) -> u64 {
        self.word(i).load(SeqCst)
    }
    pub(crate) fn stop(&self) {
        self.word(ALL - 1).store(1, SeqCst);
    }
    pub(crate) fn stopped(&self) -> bool {
        self.get(ALL - 1) != 0
    }
    /// Ticks number `k` off in a book of bits that begins at `book`. False if it was already.
    pub(crate) fn tick(&self, book: usize, k: u64) -> bool {
        let bit = 1 << (k % 64);
        self.word(book + k as usize / 64).fetch_or(bit, SeqCst) & bit == 0
    }
    pub(crate) fn ticked(&self, book: usize, k: u64) -> bool {
        self.get(book + k as usize / 64) >> (k % 64) & 1 == 1
    }
}

/// How many words value `k` of a worker has.
pub(crate) type Length = fn(u64) -> u64;
/// A value of no more than some cache lines.
pub(crate) const SMALL: Length = |k| 2 + k % 50;

/// What value `k` of a worker is made of: each word follows from both.
pub(crate) fn words(life: u64, k: u64, length: Length) -> impl Iterator<Item = u64> {
    let first = life << 32 | k;
    (0..length(k)).map(move |i| if i == 0 { first } else { first ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15) })
}

/// Makes values one after the other and passes them on, until all shall end. The books count what was begun and what is
/// passed on; `pass` gives back what could not be passed on just now.
pub(crate) fn pass_on<'h, const ALL: usize>(
    handler: &'h Handler,
    books: &Books<ALL>,
    (life, each, length): (u64, usize, Length),
    [begun, told]: [usize; 2],
    mut pass: impl FnMut(Message<'h, [u64]>) -> Result<(), Message<'h, [u64]>>,
) {
    let (begun, told) = (books.word(begun + life as usize), books.word(told + life as usize));
    for k in 0..each as u64 {
        let mut message = loop {
            match books.clocks().heap(|| handler.message_slice::<u64>(length(k) as usize)) {
                Ok(message) => break message,
                Err(Error::OutOfMemory { .. }) if books.stopped() => return,
                Err(Error::OutOfMemory { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        message.iter_mut().zip(words(life, k, length)).for_each(|(word, value)| *word = value);
        begun.store(k + 1, SeqCst);
        let mut next = Some(message);
        while let Some(message) = next.take() {
            next = pass(message).err();
            if next.is_some() && books.stopped() {
                begun.store(k, SeqCst);
                return;
            }
        }
        books.clocks().there(Way::From, life as usize, k);
        told.store(k + 1, SeqCst);
        if books.stopped() {
            return;
        }
    }
}

/// Whose value it says that it is, and which of its.
pub(crate) fn sign(value: &[u64]) -> (usize, u64) {
    let first = value.first().copied().unwrap_or(u64::MAX);
    ((first >> 32) as usize, first & 0xFFFF_FFFF)
}

/// Whose value it is, and which of its, if it is whole.
pub(crate) fn whole(value: &[u64], (lives, each, length): (usize, usize, Length)) -> Option<(usize, u64)> {
    let (life, k) = sign(value);
    let known = life < lives && (k as usize) < each && value.iter().copied().eq(words(life as u64, k, length));
    known.then_some((life, k))
}

/// So many workers of a crew are killed at once, at most.
pub(crate) const MOST_AT_ONCE: usize = 3;
/// So many are killed in a round, before its books are balanced.
const A_ROUND: u64 = 500;

/// The segment of a campaign, its books, and the ignored test that its workers run.
pub(crate) struct Crew {
    pub(crate) heap: Scratch,
    side: Scratch,
    role: &'static str,
    slow: bool,
}

impl Crew {
    pub(crate) fn new<const ALL: usize>(role: &'static str, slow: bool) -> (Self, Books<ALL>) {
        let crew = Self { heap: Scratch::new(), side: Scratch::new(), role, slow };
        let books = Books::make(&crew.side);
        (crew, books)
    }
    /// A worker's process; `life` says which one it is, or what it does.
    pub(crate) fn spawn(&self, life: u64) -> Child {
        Command::new(std::env::current_exe().expect("this binary"))
            .args(["--ignored", "--exact", self.role])
            .env("MATRIX_ROLE_SEGMENT", self.heap.0.to_string())
            .env("MATRIX_ROLE_BOOKS", self.side.0.to_string())
            .env("MATRIX_ROLE_LIFE", life.to_string())
            .env("MATRIX_ROLE_SLOW", u8::from(self.slow).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("spawned")
    }

    /// Workers, by their lives, that `may` be are killed, one to three at once, and replaced, or stopped for a while, with
    /// `pauses` of so many milliseconds between, until the time is over, or so many were killed or lived: how many of those
    /// with a life of their own were killed, and of those with life 0.
    pub(crate) fn kills(
        &self,
        clocks: Clocks<'_>,
        workers: &mut [(u64, Child)],
        random: &mut Rng,
        (kills, until, most): (u64, Instant, usize),
        pauses: std::ops::Range<usize>,
        may: impl Fn(u64) -> bool,
    ) -> [u64; 2] {
        let mut lives = workers.iter().map(|(life, _)| *life).max().expect("there are some");
        let mut killed = [0; 2];
        while Instant::now() < until && killed[0] + killed[1] < kills && lives as usize + MOST_AT_ONCE < most {
            std::thread::sleep(Duration::from_millis((pauses.start + random.below(pauses.len())) as u64));
            let at = random.below(workers.len());
            if !may(workers[at].0) {
                continue;
            }
            if random.below(5) == 0 {
                stop_for_a_while(clocks, &workers[at].1, random);
                continue;
            }
            let now = self.kill_some(clocks, workers, random, at, &mut lives, &may);
            (0..2).for_each(|of| killed[of] += now[of]);
        }
        killed
    }

    /// Kills one to three workers at once, from that one on, of those that may be, and replaces them.
    pub(crate) fn kill_some(
        &self,
        clocks: Clocks<'_>,
        workers: &mut [(u64, Child)],
        random: &mut Rng,
        first: usize,
        lives: &mut u64,
        may: &impl Fn(u64) -> bool,
    ) -> [u64; 2] {
        let (all, end) = (workers.len(), first + 1 + random.below(MOST_AT_ONCE));
        let dying: Vec<usize> = (first..end).map(|at| at % all).filter(|&at| may(workers[at].0)).collect();
        dying.iter().for_each(|&at| signal(&workers[at].1, Signal::KILL));
        let mut killed = [0; 2];
        let replace = |at: usize| {
            let (life, worker) = &mut workers[at];
            killed[usize::from(*life == 0)] += 1;
            if *life != 0 {
                *lives += 1;
                *life = *lives;
            }
            std::mem::replace(worker, self.spawn(*life))
        };
        // Their successors come while they are dying.
        let mut dead: Vec<Child> = dying.into_iter().map(replace).collect();
        dead.iter_mut().for_each(|worker| ended(clocks, worker));
        killed
    }
}

/// What a worker is given: the segment, the books, and its life. None where the role is run by hand.
pub(crate) fn at_work<const ALL: usize>() -> Option<(Handler, Books<ALL>, u64)> {
    let attach = |name: &str| {
        let id = std::env::var(name).ok()?;
        Some(Options::new().id(Uuid::parse_str(&id).expect("an id")).attach().expect("it exists"))
    };
    let (handler, side) = (attach("MATRIX_ROLE_SEGMENT")?, attach("MATRIX_ROLE_BOOKS")?);
    let (books, life) = (Books::find(side), setting("MATRIX_ROLE_LIFE", 0));
    books.clocks().begins(life);
    Some((handler, books, life))
}

pub(crate) fn is_slow() -> bool {
    setting("MATRIX_ROLE_SLOW", 0) != 0
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).expect("it is one"), signal).expect("it is ours");
}

/// How long somebody is stopped: up to 30 ms; one in fifty times up to `MATRIX_STOP_SECONDS`.
pub(crate) fn a_while(random: &mut Rng) -> Duration {
    let seconds = setting("MATRIX_STOP_SECONDS", 0) as usize;
    let most = if random.below(50) == 0 && seconds > 0 { seconds * 1000 } else { 30 };
    Duration::from_millis(random.below(most) as u64)
}

/// Stops a worker for so long as it takes `meanwhile`.
pub(crate) fn stop<T>(clocks: Clocks<'_>, child: &Child, meanwhile: impl FnOnce() -> T) -> T {
    clocks.stops(child.id());
    let begun = Instant::now();
    signal(child, Signal::STOP);
    let result = meanwhile();
    clocks.was_stopped(begun.elapsed());
    signal(child, Signal::CONT);
    clocks.stops(child.id());
    result
}

fn stop_for_a_while(clocks: Clocks<'_>, child: &Child, random: &mut Rng) {
    stop(clocks, child, || std::thread::sleep(a_while(random)));
}

/// Whoever was sent SIGKILL has ended by that, or had ended well before.
fn ended(clocks: Clocks<'_>, child: &mut Child) {
    let status = child.wait().expect("it has ended");
    clocks.died(child.id());
    let killed = status.signal() == Some(Signal::KILL.as_raw());
    assert!(killed || status.success(), "a worker failed before it was killed: {status}");
}

/// All workers end in good order.
pub(crate) fn all_end<const ALL: usize>(books: &Books<ALL>, workers: impl IntoIterator<Item = Child>) {
    books.stop();
    for mut worker in workers {
        assert!(worker.wait().expect("it has ended").success(), "a worker failed");
    }
}

/// Waits, not for ever, until a count of the books has grown by so much.
pub(crate) fn grows<const ALL: usize>(books: &Books<ALL>, count: usize, by: u64) {
    let (before, patience) = (books.get(count), Instant::now());
    while books.get(count) < before + by && patience.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// As many kills as `MATRIX_KILLS` says, in rounds of some hundreds; or for `MATRIX_KILL_SECONDS`, two by default. And how
/// long the workers' calls took, which `MATRIX_HELD_MS` bounds.
pub(crate) fn in_rounds(what: &str, round: impl Fn(u64, u64, Instant) -> (u64, Times)) {
    let (seed, kills) = (setting("MATRIX_SEED", 7), setting("MATRIX_KILLS", 0));
    let (mut killed, mut rounds, mut times) = (0, 0, Times::default());
    loop {
        rounds += 1;
        let (most, seconds) = match kills {
            0 => (u64::MAX, setting("MATRIX_KILL_SECONDS", 2)),
            kills => (A_ROUND.min(kills - killed), 7200),
        };
        let (more, took) = round(seed + rounds, most, Instant::now() + Duration::from_secs(seconds));
        killed += more;
        times.add(&took);
        if killed >= kills {
            break;
        }
    }
    println!("{what}: {killed} kills in {rounds} rounds, all books balance\n{times}");
    if kills >= 2000 && setting("MATRIX_STOP_SECONDS", 0) > 1 {
        assert!(times.long_stops() > 0, "nobody was stopped for seconds");
    }
    match setting("MATRIX_HELD_MS", 0) {
        0 => {}
        most => times.are_within(Duration::from_millis(most)),
    }
}
