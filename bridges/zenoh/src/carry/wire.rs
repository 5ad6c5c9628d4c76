//! What goes over the wire beside the messages' bytes: attachments of a few words.

use zenoh::sample::Sample;

/// Begins each attachment: what it is, and the version.
const MAGIC: u32 = 0x414d_4201;

/// From the outward bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) kind: Kind,
    /// Who counts: changes when a topic's numbers begin anew.
    pub(super) source: u64,
    /// Of the message; of a greeting, the first one that can be sent.
    pub(super) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Greeting,
    Message,
    Lossy,
}

/// From the inward bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) state: State,
    pub(super) source: u64,
    /// All before this one have been put in.
    pub(super) next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// It takes what comes.
    Takes,
    /// There is no room for the next one at present.
    Full,
    /// What came was not the next one.
    Gap,
    /// Who sends has to greet first.
    Unknown,
    /// The answer to a greeting.
    Greeted,
}

fn packed(kind: u32, words: [u64; 2]) -> Vec<u8> {
    let heads = [MAGIC, kind].into_iter().flat_map(u32::to_le_bytes);
    heads.chain(words.into_iter().flat_map(u64::to_le_bytes)).collect()
}

fn unpacked(sample: &Sample) -> Option<(u32, [u64; 2])> {
    let bytes = sample.attachment()?.to_bytes();
    let bytes: [u8; 24] = bytes.as_ref().try_into().ok()?;
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (half(0) == MAGIC).then(|| (half(4), [word(8), word(16)]))
}

impl Sent {
    pub(super) fn packed(self) -> Vec<u8> {
        packed(self.kind as u32, [self.source, self.number])
    }
    pub(super) fn of(sample: &Sample) -> Option<Self> {
        let (kind, [source, number]) = unpacked(sample)?;
        let kinds = [Kind::Greeting, Kind::Message, Kind::Lossy];
        Some(Self { kind: *kinds.get(kind as usize)?, source, number })
    }
}

impl Taken {
    pub(super) fn packed(self) -> Vec<u8> {
        packed(self.state as u32, [self.source, self.next])
    }
    pub(super) fn of(sample: &Sample) -> Option<Self> {
        let (state, [source, next]) = unpacked(sample)?;
        let states = [State::Takes, State::Full, State::Gap, State::Unknown, State::Greeted];
        Some(Self { state: *states.get(state as usize)?, source, next })
    }
}
