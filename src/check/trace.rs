//! What happened in a play, access by access, and how it reads in words.

use crate::backend::orderings::OWN;
use crate::backend::{NativeWord, Site};
use std::cell::RefCell;

/// What an access did to its word.
#[derive(Debug, Clone, Copy)]
pub(super) enum Done {
    Read(u64),
    Wrote(u64),
    /// Before, after.
    Changed(u64, u64),
    /// Expected, found.
    Refused(u64, u64),
}

#[derive(Debug, Clone)]
enum Event {
    /// At a site of the structure's own.
    Access { seat: usize, site: &'static Site, word: usize, done: Done },
    /// A store that waited in its buffer reaches memory.
    Arrived { seat: usize, site: &'static Site, word: usize, value: u64 },
    /// A call of the heap's, which is through.
    Called { seat: usize, what: Call },
    /// Killed before an access, or behind the last one.
    Stopped { seat: usize, before: Option<&'static Site> },
}

/// A call of the heap's, by the offset of its block.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Allocates(u32),
    Frees(u32),
    HandsOver(u32),
    Adopts(u32),
    Recovers(usize),
}

/// Where the words of the blocks are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Payload {
    pub(super) base: usize,
    /// Words of a granule.
    pub(super) each: usize,
}

/// What happened in one play.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    payload: Payload,
    events: Vec<Event>,
    /// Blocks in the order in which each was met first: its offset, and its granules.
    blocks: Vec<(u32, u32)>,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// A play begins, over these words.
pub(super) fn begin(payload: Payload) {
    TRACE.set(Some(Trace { payload, ..Trace::default() }));
}

/// What has happened since.
pub(super) fn end() -> Trace {
    TRACE.take().unwrap_or_default()
}

fn note(event: impl FnOnce() -> Event) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            trace.events.push(event());
        }
    });
}

/// An access at a site of the structure's own.
pub(super) fn access(seat: usize, site: &'static Site, word: *const NativeWord, done: Done) {
    note(|| Event::Access { seat, site, word: word.addr(), done });
}

pub(super) fn arrived(seat: usize, site: &'static Site, word: *const NativeWord, value: u64) {
    if site.index == OWN {
        note(|| Event::Arrived { seat, site, word: word.addr(), value });
    }
}

pub(super) fn called(seat: Option<usize>, what: Call) {
    if let Some(seat) = seat {
        note(|| Event::Called { seat, what });
    }
}

pub(super) fn stopped(seat: usize, before: Option<&'static Site>) {
    note(|| Event::Stopped { seat, before });
}

/// A block is met, whoever allocates it.
pub(super) fn met(offset: u32, granules: u32) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        if !trace.blocks.contains(&(offset, granules)) {
            trace.blocks.push((offset, granules));
        }
    });
}

/// The names of blocks in a report: `a` is the one that was allocated first, and whatever lies in its place later.
#[derive(Debug)]
pub struct Names<'a>(&'a [(u32, u32)]);

impl Names<'_> {
    /// The name of the block at an offset, if one was ever allocated there.
    pub fn block(&self, offset: u64) -> Option<String> {
        let at = self.0.iter().position(|(begins, _)| u64::from(*begins) == offset)?;
        Some(Self::letters(at))
    }
    fn letters(at: usize) -> String {
        let letter = char::from(b'a' + (at % 26) as u8);
        if at < 26 { letter.to_string() } else { format!("{letter}{}", at / 26) }
    }
    /// The name of a word: its block and which of the block's words it is.
    fn word(&self, payload: Payload, address: usize) -> String {
        let index = address.wrapping_sub(payload.base) / size_of::<NativeWord>();
        let inside = |&(offset, granules): &(u32, u32)| {
            let first = (offset as usize - 1) * payload.each;
            (first..first + granules as usize * payload.each).contains(&index)
        };
        match self.0.iter().rposition(inside) {
            Some(at) => format!("{}[{}]", Self::letters(at), index - (self.0[at].0 as usize - 1) * payload.each),
            None => format!("word {index} of no block"),
        }
    }
}

impl Trace {
    /// What makes a play short: few changes of thread, then few steps.
    pub(super) fn length(&self) -> (usize, usize) {
        let seats = self.events.iter().map(Event::seat);
        let changes = seats.clone().zip(seats.skip(1)).filter(|(a, b)| a != b).count();
        (changes, self.events.len())
    }

    /// Whether somebody was killed.
    pub(super) fn has_death(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Stopped { .. }))
    }

    /// A line for each step. `show` writes a value, `who` a seat.
    pub(super) fn in_words(
        &self,
        show: impl Fn(u64, &Names<'_>) -> String,
        who: impl Fn(usize) -> String,
    ) -> Vec<String> {
        let names = Names(&self.blocks);
        let word = |address| names.word(self.payload, address);
        let show = |value| show(value, &names);
        let block = |offset: u32| names.block(offset.into()).unwrap_or_else(|| format!("the block at {offset}"));
        let line = |event: &Event| match *event {
            Event::Access { seat, site, word: address, done } => {
                let (who, site, word) = (who(seat), site.name, word(address));
                match done {
                    Done::Read(value) => format!("{who} at {site} reads {word}: {}", show(value)),
                    Done::Wrote(value) => format!("{who} at {site} writes {word}: {}", show(value)),
                    Done::Changed(old, new) => {
                        format!("{who} at {site} changes {word} from {} to {}", show(old), show(new))
                    }
                    Done::Refused(old, found) => {
                        format!("{who} at {site} expects {word} to be {}, and finds {}", show(old), show(found))
                    }
                }
            }
            Event::Arrived { seat, site, word: address, value } => {
                format!("{}'s store at {} reaches memory: {} is {}", who(seat), site.name, word(address), show(value))
            }
            Event::Called { seat, what } => match what {
                Call::Allocates(at) => format!("{} allocates {}", who(seat), block(at)),
                Call::Frees(at) => format!("{} frees {}", who(seat), block(at)),
                Call::HandsOver(at) => format!("{} hands {} over", who(seat), block(at)),
                Call::Adopts(at) => format!("{} adopts {}", who(seat), block(at)),
                Call::Recovers(dead) => format!("{} gives back what {} left", who(seat), who(dead)),
            },
            Event::Stopped { seat, before: Some(site) } => {
                let heaps = if site.index == OWN { "" } else { "the heap's " };
                format!("{} is killed before {heaps}{}", who(seat), site.name)
            }
            Event::Stopped { seat, before: None } => format!("{} is killed behind its last access", who(seat)),
        };
        self.events.iter().map(line).collect()
    }
}

impl Event {
    fn seat(&self) -> usize {
        match *self {
            Self::Access { seat, .. } | Self::Arrived { seat, .. } => seat,
            Self::Called { seat, .. } | Self::Stopped { seat, .. } => seat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_as_long_as_its_changes_of_thread_and_its_steps() {
        let length = |seats: &[usize]| {
            begin(Payload::default());
            seats.iter().for_each(|seat| called(Some(*seat), Call::Frees(1)));
            end().length()
        };
        assert_eq!([&[][..], &[0], &[1, 1, 1], &[0, 2, 2, 0, 1]].map(length), [(0, 0), (0, 1), (0, 3), (3, 5)]);
    }

    #[test]
    fn blocks_are_named_in_their_order_and_words_by_their_blocks() {
        let blocks: Vec<(u32, u32)> = (0..53).map(|at| (2 * at + 1, 1)).collect();
        let names = Names(&blocks);
        let told = [1, 51, 53, 103, 105].map(|offset| names.block(offset).unwrap_or_default());
        assert_eq!((told, names.block(2)), (["a", "z", "a1", "z1", "a2"].map(str::to_owned), None));

        let names = Names(&[(1, 1), (2, 2), (5, 1)]);
        let payload = Payload { base: 4096, each: 8 };
        let told = [0, 7, 8, 23, 24, 32, 39, 40].map(|index| names.word(payload, 4096 + index * 8));
        let expected = ["a[0]", "a[7]", "b[0]", "b[15]", "word 24 of no block", "c[0]", "c[7]", "word 40 of no block"];
        assert_eq!(told, expected);
    }
}
