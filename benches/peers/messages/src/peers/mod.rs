//! The peers, behind one adapter.

mod boost;
mod iceoryx;
mod matrix;
mod rust;
mod shaq;
mod sockets;

use crate::Outcome;
use crate::run::{Setting, Task, part};

/// What sends.
pub(crate) trait Out {
    /// Sends a message of so many bytes, the first eight of which are the value; one of more than 64 is
    /// written throughout. False: there is no room now, and the call is made again.
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool>;
    /// Lets the other side have what was sent.
    fn flush(&mut self) {}
}

/// What receives.
pub(crate) trait In {
    /// A message's value, if there is one; one of more than 64 bytes is read throughout. Its memory is given back.
    fn receive(&mut self, size: usize) -> Outcome<Option<u64>>;
}

/// What messages go through.
pub(crate) trait Peer: Sized + Sync {
    type Out: Out;
    type In: In;
    /// Made by the first process of a run.
    fn make(task: &Task) -> Outcome<Self>;
    /// Opened by the others.
    fn open(task: &Task) -> Outcome<Self> {
        let _ = task;
        Err("it has threads alone".into())
    }
    /// An end of the one way (0) or of the way back (1).
    fn output(&self, way: usize) -> Outcome<Self::Out>;
    fn input(&self, way: usize) -> Outcome<Self::In>;
}

/// A peer of the tables.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) threads: bool,
    pub(crate) answers: fn(&Setting) -> bool,
}

/// Whether one sender and one receiver are all.
fn single(setting: &Setting) -> bool {
    setting.pairs == 1
}
fn small(setting: &Setting) -> bool {
    setting.size <= 4096
}

pub(crate) fn all() -> Vec<Entry> {
    let entry = |name, key, threads, answers| Entry { name, key, threads, answers };
    let mut all = vec![];
    for threads in [false, true] {
        all.push(entry("AtomicMatrix channel", "channel", threads, |_| true));
        all.push(entry("AtomicMatrix topic", "topic", threads, single));
        all.push(entry("iceoryx2 0.10 pub/sub", "iceoryx2", threads, single));
        all.push(entry("shaq 4.0 SPSC", "shaq-spsc", threads, |s| single(s) && small(s)));
        all.push(entry("shaq 4.0 MPMC", "shaq-mpmc", threads, small));
        if boost::THERE {
            all.push(entry("Boost message_queue", "boost", threads, |_| true));
        }
        all.push(entry("ipc-channel 0.23", "ipc-channel", threads, single));
    }
    all.push(entry("crossbeam-channel 0.5", "crossbeam", true, |_| true));
    all.push(entry("rtrb 0.4", "rtrb", true, single));
    all
}

/// Removes what a run has left that is not found by its name.
pub(crate) fn clean(name: &str) {
    matrix::clean(name);
}

/// One process's part in a run.
pub(crate) fn work(task: &Task) -> Outcome<()> {
    match (task.peer.as_str(), task.setting.size) {
        ("channel", _) => part::<matrix::Channels>(task),
        ("topic", _) => part::<matrix::Topics>(task),
        ("iceoryx2", _) => part::<iceoryx::Services>(task),
        ("shaq-spsc", 64) => part::<shaq::Single<8>>(task),
        ("shaq-spsc", 4096) => part::<shaq::Single<512>>(task),
        ("shaq-mpmc", 64) => part::<shaq::Many<8>>(task),
        ("shaq-mpmc", 4096) => part::<shaq::Many<512>>(task),
        ("boost", _) => part::<boost::Queues>(task),
        ("ipc-channel", _) => part::<sockets::Sockets>(task),
        ("crossbeam", _) => part::<rust::Crossbeam>(task),
        ("rtrb", _) => part::<rust::Rtrb>(task),
        (other, _) => Err(format!("no peer {other}").into()),
    }
}

/// Fills a message's words.
#[inline(always)]
pub(crate) fn fill(words: &mut [u64], value: u64) {
    if words.len() > 8 {
        words.fill(value);
    } else {
        // SAFETY: a reference's target; written although nobody reads it again, as users do.
        unsafe { (&raw mut words[0]).write_volatile(value) }
    }
}

/// Reads a message's words, one of each line.
#[inline(always)]
pub(crate) fn read(words: &[u64]) -> u64 {
    let lines = if words.len() > 8 { words.iter().step_by(8).fold(0, |sum, word| sum ^ word) } else { 0 };
    std::hint::black_box(lines);
    words[0]
}
