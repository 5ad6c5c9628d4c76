//! The workloads.

use serde::{Deserialize, Serialize};

/// What the workers of a run do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Half of them send, half receive.
    Stream,
    /// One sends, one sends back.
    Latency,
    /// One publishes, all others read all of it, in turns.
    Fan,
    /// Some read a value, others set it.
    Board,
    /// All look up keys.
    Look,
    /// All look up keys, and replace one in ten.
    Map,
    /// There and back between two who sleep.
    Wake,
    /// Memory that subscribers who are behind take.
    Memory,
    /// One is killed again and again.
    Kill,
}

/// A workload with a size and a number of workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) kind: Kind,
    /// Bytes of a message.
    pub(crate) size: usize,
    /// Those who receive or read.
    pub(crate) pairs: usize,
    /// Those who send or set.
    pub(crate) senders: usize,
    /// Messages on their way at most.
    pub(crate) cells: usize,
}

impl Setting {
    pub(crate) fn workers(&self) -> usize {
        self.pairs + self.senders
    }
    pub(crate) fn rising(&self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Board | Kind::Look | Kind::Map)
    }
    pub(crate) fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Stream => "Mmsg/s",
            Kind::Board | Kind::Look | Kind::Map => "Mop/s",
            Kind::Latency | Kind::Fan | Kind::Wake => "ns",
            Kind::Memory => "MiB",
            Kind::Kill => "ms",
        }
    }
    /// Whether messages go from one side to the other while both poll.
    pub(crate) fn polls(&self) -> bool {
        matches!(self.kind, Kind::Stream | Kind::Latency)
    }
    /// The same, from one sender to one receiver.
    pub(crate) fn single(&self) -> bool {
        self.polls() && self.pairs == 1
    }
}

pub(crate) fn all() -> Vec<Setting> {
    let setting = |name: &str, what: &str, kind, size, pairs, senders, cells| {
        let (name, what) = (name.to_owned(), what.to_owned());
        Setting { name, what, kind, size, pairs, senders, cells }
    };
    let (small, fan) = (64, "a publication of 64 bytes, read by");
    vec![
        setting("S", "stream of 64 bytes, 1 to 1", Kind::Stream, small, 1, 1, 1024),
        setting("L", "one way, 64 bytes, both sides poll", Kind::Latency, small, 1, 1, 1024),
        setting("M2", "stream of 64 bytes, 2 to 2", Kind::Stream, small, 2, 2, 1024),
        setting("M4", "stream of 64 bytes, 4 to 4", Kind::Stream, small, 4, 4, 1024),
        setting("Z4K", "stream of 4 KiB, written and read, 1 to 1", Kind::Stream, 4 << 10, 1, 1, 1024),
        setting("Z1M", "stream of 1 MiB, written and read, 1 to 1", Kind::Stream, 1 << 20, 1, 1, 16),
        setting("F1", &format!("{fan} 1"), Kind::Fan, small, 1, 1, 1024),
        setting("F4", &format!("{fan} 4"), Kind::Fan, small, 4, 1, 1024),
        setting("F16", &format!("{fan} 16"), Kind::Fan, small, 16, 1, 1024),
        setting("B1", "reads of a value of 64 bytes, 1 reader", Kind::Board, small, 1, 0, 1),
        setting("B2", "the same, 2 readers", Kind::Board, small, 2, 0, 1),
        setting("BW", "the same, 1 reader beside a writer", Kind::Board, small, 1, 1, 1),
        setting("KG", "keys of 32 bytes looked up, 1 worker", Kind::Look, small, 1, 0, 1),
        setting("K1", "the same, one in ten replaced", Kind::Map, small, 1, 0, 1),
        setting("K2", "the same, 2 workers", Kind::Map, small, 2, 0, 1),
        setting("W", "one way between two who sleep", Kind::Wake, small, 1, 1, 16),
        setting("D", "memory reserved for 16 subscribers", Kind::Memory, 1 << 20, 16, 1, 64),
        setting("DR", "the same, pages that are there", Kind::Memory, 1 << 20, 16, 1, 64),
        setting("X", "a survivor held up by kills of a sender", Kind::Kill, small, 1, 1, 1024),
    ]
}
