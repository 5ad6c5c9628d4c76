//! The peers, behind one adapter.

mod blackboard;
mod boost;
mod heeds;
pub(crate) mod iceoryx;
pub(crate) mod matrix;
mod rust;
mod shaq;
mod sleepers;
mod sockets;

use crate::Outcome;
use crate::run::Task;
use crate::setting::{Kind, Setting};
use crate::{boards, fan, kills, maps, streams, wake};
use std::time::Duration;

/// The longest that anybody sleeps at a time.
pub(crate) const BOUND: Duration = Duration::from_millis(50);

/// What sends.
pub(crate) trait Out {
    /// Sends a message of so many bytes, the first eight of which are the value; one of more than 64 is
    /// written throughout. False: there is no room now, and the call is made again.
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool>;
    /// Lets the other side have what was sent.
    fn flush(&mut self) -> Outcome<()> {
        Ok(())
    }
}

/// What receives.
pub(crate) trait In {
    /// A message's value, if there is one; one of more than 64 bytes is read throughout. Its memory is given back.
    fn receive(&mut self, size: usize) -> Outcome<Option<u64>>;
    /// The same, asleep until there is one, no longer than [`BOUND`].
    fn wait(&mut self, size: usize) -> Outcome<Option<u64>> {
        let _ = size;
        Err("it does not sleep".into())
    }
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
    /// Bytes that are taken, behind the recovery of all who are dead; as far as it tells.
    fn taken(&self) -> Outcome<u64> {
        Ok(0)
    }
}

/// A peer of the tables.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) threads: bool,
    pub(crate) answers: fn(&Setting) -> bool,
}

pub(crate) fn all() -> Vec<Entry> {
    let entry = |name, key, threads, answers| Entry { name, key, threads, answers };
    let mut all = vec![];
    for threads in [false, true] {
        let mut add = |name, key, answers| all.push(entry(name, key, threads, answers));
        add("bare futex", "futex", |s| s.kind == Kind::Wake);
        add("AtomicMatrix channel", "channel", |s| s.polls() || matches!(s.kind, Kind::Wake | Kind::Kill));
        add("AtomicMatrix channel in batches of 32", "batches", |s| s.size == 64 && s.kind == Kind::Stream);
        add("AtomicMatrix channel of one and one", "single", |s| s.single() || s.kind == Kind::Wake);
        add("AtomicMatrix channel of one and one in batches of 32", "single-batches", |s| {
            s.size == 64 && s.kind == Kind::Stream && s.single()
        });
        add("AtomicMatrix topic", "topic", |s| {
            s.single() || matches!(s.kind, Kind::Fan | Kind::Wake | Kind::Memory | Kind::Kill)
        });
        add("AtomicMatrix topic with lossy subscribers", "lossy", |s| s.kind == Kind::Fan);
        add("AtomicMatrix board", "board", |s| s.kind == Kind::Board);
        add("AtomicMatrix map", "map", |s| matches!(s.kind, Kind::Look | Kind::Map));
        add("iceoryx2 0.10 pub/sub", "iceoryx2", |s| {
            s.single() || matches!(s.kind, Kind::Fan | Kind::Memory | Kind::Kill)
        });
        add("iceoryx2 0.10 pub/sub with payloads that grow", "iceoryx2-grows", |s| s.kind == Kind::Memory);
        add("iceoryx2 0.10 event", "event", |s| s.kind == Kind::Wake);
        add("iceoryx2 0.10 blackboard", "blackboard", |s| s.kind == Kind::Board);
        add("shaq 4.0 SPSC", "shaq-spsc", |s| s.single() && s.size <= 4096);
        add("shaq 4.0 MPMC", "shaq-mpmc", |s| (s.polls() && s.size <= 4096) || s.kind == Kind::Kill);
        add("shaq 4.0 broadcast", "shaq-fan", |s| s.kind == Kind::Fan);
        if boost::THERE {
            add("Boost message_queue", "boost", |s| s.polls() || matches!(s.kind, Kind::Wake | Kind::Kill));
            add("Boost unordered_map and mutex", "boost-map", |s| matches!(s.kind, Kind::Look | Kind::Map));
        }
        add("heed 0.22 (LMDB)", "heed", |s| matches!(s.kind, Kind::Look | Kind::Map));
        add("ipc-channel 0.23", "ipc-channel", Setting::single);
    }
    all.push(entry("crossbeam-channel 0.5", "crossbeam", true, |s| s.polls() || s.kind == Kind::Wake));
    all.push(entry("rtrb 0.4", "rtrb", true, Setting::single));
    all.push(entry("std RwLock", "rwlock", true, |s| s.kind == Kind::Board));
    all.push(entry("std HashMap and RwLock", "hash-map", true, |s| matches!(s.kind, Kind::Look | Kind::Map)));
    all
}

/// Removes what a run has left that is not found by its name.
pub(crate) fn clean(name: &str) {
    matrix::clean(name);
}

/// One process's part in a run.
pub(crate) fn work(task: &Task) -> Outcome<()> {
    // Each workload with its peers alone: all of them with all would be built for long.
    match (task.setting.kind, task.peer.as_str()) {
        (Kind::Stream | Kind::Latency, _) => work_at_polling(task),
        (Kind::Fan, "topic") => fan::part::<matrix::Topics>(task),
        (Kind::Fan, "lossy") => fan::part::<matrix::LossyTopics>(task),
        (Kind::Fan, "iceoryx2") => fan::part::<iceoryx::Services>(task),
        (Kind::Fan, "shaq-fan") => fan::part::<shaq::Fan>(task),
        (Kind::Board, "board") => boards::part::<matrix::Boards>(task),
        (Kind::Board, "blackboard") => boards::part::<blackboard::Blackboard>(task),
        (Kind::Board, "rwlock") => boards::part::<rust::Locked>(task),
        (Kind::Look | Kind::Map, "map") => maps::part::<matrix::Tables>(task),
        (Kind::Look | Kind::Map, "boost-map") => maps::part::<boost::Tables>(task),
        (Kind::Look | Kind::Map, "heed") => maps::part::<heeds::Heed>(task),
        (Kind::Look | Kind::Map, "hash-map") => maps::part::<rust::LockedTable>(task),
        (Kind::Wake, "futex") => wake::part::<sleepers::Futexes>(task),
        (Kind::Wake, "channel") => wake::part::<matrix::Channels>(task),
        (Kind::Wake, "single") => wake::part::<matrix::Singles>(task),
        (Kind::Wake, "topic") => wake::part::<matrix::Topics>(task),
        (Kind::Wake, "event") => wake::part::<sleepers::Events>(task),
        (Kind::Wake, "boost") => wake::part::<boost::Queues>(task),
        (Kind::Wake, "crossbeam") => wake::part::<rust::Crossbeam>(task),
        (Kind::Kill, "channel") => kills::part::<matrix::Channels>(task),
        (Kind::Kill, "topic") => kills::part::<matrix::Topics>(task),
        (Kind::Kill, "iceoryx2") => kills::part::<iceoryx::Services>(task),
        (Kind::Kill, "shaq-mpmc") => kills::part::<shaq::Many<8>>(task),
        (Kind::Kill, "boost") => kills::part::<boost::Queues>(task),
        (_, other) => Err(format!("no peer {other}").into()),
    }
}

fn work_at_polling(task: &Task) -> Outcome<()> {
    match (task.peer.as_str(), task.setting.size) {
        ("channel", _) => streams::part::<matrix::Channels>(task),
        ("batches", _) => streams::part::<matrix::Batches>(task),
        ("single", _) => streams::part::<matrix::Singles>(task),
        ("single-batches", _) => streams::part::<matrix::SingleBatches>(task),
        ("topic", _) => streams::part::<matrix::Topics>(task),
        ("iceoryx2", _) => streams::part::<iceoryx::Services>(task),
        ("shaq-spsc", 64) => streams::part::<shaq::Single<8>>(task),
        ("shaq-spsc", 4096) => streams::part::<shaq::Single<512>>(task),
        ("shaq-mpmc", 64) => streams::part::<shaq::Many<8>>(task),
        ("shaq-mpmc", 4096) => streams::part::<shaq::Many<512>>(task),
        ("boost", _) => streams::part::<boost::Queues>(task),
        ("ipc-channel", _) => streams::part::<sockets::Sockets>(task),
        ("crossbeam", _) => streams::part::<rust::Crossbeam>(task),
        ("rtrb", _) => streams::part::<rust::Rtrb>(task),
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
