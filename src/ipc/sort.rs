//! What sorts of structures there are, and what they are called.

use crate::error::Error;

/// What a structure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Sort {
    /// A bounded queue, many senders and receivers (ipc::ring).
    Channel = 1,
    /// A bounded queue with one sender and one receiver at a time (ipc::single).
    Single = 2,
    /// The last publications, each read by all; one that a reader has yet to read is not overwritten (ipc::log).
    Topic = 3,
    /// The last publications, which are overwritten whoever reads (ipc::log).
    Board = 4,
    /// A flag (ipc::sync).
    Event = 5,
    /// Permits, of which there are as many at first as its shape has readers.
    Semaphore = 6,
    /// A barrier for as many as its shape has readers.
    Barrier = 7,
    /// A lock, and what it protects in its cells.
    Lock = 8,
    /// Blocks under keys (ipc::table).
    Map = 9,
    /// A bounded queue whose messages are delivered again if their receiver dies (ipc::held); as many may
    /// be held as its shape has readers.
    Redelivering = 10,
    /// A value that all who have it open use at once, in its cells.
    Common = 11,
}

impl Sort {
    /// The sort of that number.
    pub(super) fn of(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Channel,
            2 => Self::Single,
            3 => Self::Topic,
            4 => Self::Board,
            5 => Self::Event,
            6 => Self::Semaphore,
            7 => Self::Barrier,
            8 => Self::Lock,
            9 => Self::Map,
            10 => Self::Redelivering,
            11 => Self::Common,
            _ => return None,
        })
    }

    /// What it is to its users, in one word.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Channel | Self::Single | Self::Redelivering => "channel",
            Self::Topic => "topic",
            Self::Board => "board",
            Self::Event => "event",
            Self::Semaphore => "semaphore",
            Self::Barrier => "barrier",
            Self::Lock => "mutex",
            Self::Map => "map",
            Self::Common => "common",
        }
    }

    /// What it is, for whoever has opened it as something else.
    fn described(self) -> &'static str {
        match self {
            Self::Channel => "a channel or a service",
            Self::Single => "a channel of one sender and one receiver (ChannelOptions::single)",
            Self::Topic => "a topic",
            Self::Board => "a board",
            Self::Event => "an event",
            Self::Semaphore => "a semaphore",
            Self::Barrier => "a barrier",
            Self::Lock => "a mutex",
            Self::Map => "a map",
            Self::Redelivering => "a channel that redelivers (ChannelOptions::redeliver)",
            Self::Common => "a value in common",
        }
    }
}

impl Error {
    /// What is under a name, or at an offset alone, is none of the `sorts` asked for, or not of the type asked for: it
    /// is of the sort and content `found`, or no structure at all. `expected`: what it is to the caller.
    pub(super) fn not_the_structure(
        expected: &'static str,
        (name, offset): (Option<&str>, u32),
        sorts: &[Sort],
        content: u32,
        found: Option<(Sort, u32)>,
    ) -> Self {
        Self::TypeMismatch {
            offset,
            name: name.map(str::to_owned),
            expected,
            expected_fingerprint: content,
            // Where it is of another sort, its type does not matter.
            found_fingerprint: found.filter(|(sort, _)| sorts.contains(sort)).map(|(_, content)| content),
            found: Some(found.map_or("a block, and no structure", |(sort, _)| sort.described())),
        }
    }
}
