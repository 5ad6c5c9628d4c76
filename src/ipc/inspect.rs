//! What structures there are in a segment, and what is in them: for tools. Reads only, and stops nobody.

use super::link::{Cell, Cells, Link, Standing};
use super::log::Log;
use super::ring::Ring;
use super::structure::{CLOSED, HEAD, Role, Sort, Structure, TAIL};
use super::table::Table;
use crate::backend::orderings::{CELL_LOOK, SLEEPERS_LOOK, STRUCTURE_LOOK, TICKET_LOOK};
use crate::backend::{Word, payload};
use crate::error::Result;
use crate::handlers::{Handler, each_block};
use crate::matrix::heap::{Heap, Live};
use crate::segment::directory::Directory;
use crate::segment::layout::Granule;
use crate::segment::offsets::Offsets;
use crate::segment::region::Region;

/// How often a map's bucket is looked at that changes meanwhile.
const TRIES: u32 = 100;
/// Bytes that are told of a value in a structure's own cells.
const MOST_OF_VALUE: usize = 4096;

/// A structure at about one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StructureInfo {
    /// The offset of its block.
    pub offset: u32,
    /// Its names; none if it was removed and is used still, or was made without one.
    pub names: Vec<String>,
    /// What it is: "channel", "topic", "board", "map", "event", "semaphore", "barrier", "mutex" or "common".
    pub kind: &'static str,
    /// The fingerprint of the type that it is for; 0 where there is none.
    pub content: u32,
    /// How much there is room for: messages, publications, or places of a map.
    pub capacity: u64,
    /// How much is in it: messages, publications of which a subscriber has yet to read some, entries,
    /// permits, 1 for an event that is set.
    pub depth: u64,
    /// How much was ever put into it, if it counts that: messages or publications.
    pub ever: Option<u64>,
    /// Who has it open: each participant's handles, senders and receivers. A topic's subscribers are not among them.
    pub users: Vec<Users>,
    /// Participants whose subscriptions hold a topic's publishers up, and how many publications each has yet to read.
    pub subscribers: Vec<(u16, u64)>,
    /// Participants that hold messages of a redelivering channel, and how many each has yet to acknowledge.
    pub holding: Vec<(u16, u64)>,
    /// Who has a mutex, as [`ParticipantId`](super::ParticipantId) counts.
    pub held_by: Option<u16>,
    /// Senders, or publishers, that are asleep, and receivers, or others who wait.
    pub asleep: (u64, u64),
    /// Nobody puts anything in any more.
    pub closed: bool,
    /// It has no name, and is freed after its last user.
    pub removed: bool,
}

/// One participant's part in a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Users {
    /// The participant. Of a process's threads the first one stands for all.
    pub participant: u16,
    /// Handles: how often it has the structure open.
    pub handles: u64,
    /// Senders.
    pub senders: u64,
    /// Receivers.
    pub receivers: u64,
}

/// A block in a channel, a topic, a board or a map, or the value of a mutex or in common, at about one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContentInfo {
    /// Which it is of all that were ever put there, from 0 on; in a map, its place.
    pub number: u64,
    /// The key that it is under, in a map.
    pub key: Option<Vec<u8>>,
    /// The block's offset.
    pub offset: u32,
    /// Its bytes.
    pub bytes: u64,
    /// The fingerprint of its type; of what is in the structure itself, the structure's.
    pub fingerprint: Option<u32>,
    /// The participant who put it there; 0 for what is in the structure itself.
    pub giver: u16,
    /// Its first bytes: a value of variable length has its length (8 bytes) and 8 more in front.
    pub first: Vec<u8>,
}

impl Handler {
    /// The structures that there are. O(blocks); for a handler that only inspects as well.
    ///
    /// Each is seen at about one moment while others use it: its numbers need not fit together.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let orders = handler.channel::<u64>("orders").create()?;
    /// orders.sender()?.send_value(7)?;
    /// let found = handler.structures()?;
    /// assert_eq!((found[0].kind, found[0].depth, &*found[0].names[0]), ("channel", 1, "orders"));
    /// assert_eq!(handler.contents(&found[0], 8)[0].first, 7u64.to_ne_bytes());
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::blocks`].
    pub fn structures(&self) -> Result<Vec<StructureInfo>> {
        structures(self.matrix().heap(), self.matrix().offsets())
    }

    /// What is in a channel, from the oldest message on, in a topic or a board, from the oldest publication on, or in
    /// a map, in no order; of each block as many bytes as `most`, at most. Nothing is taken. What is taken or
    /// overwritten meanwhile is left out. Of a mutex and of a value in common: the value, and a mixture if somebody
    /// writes it meanwhile. O(places) and the bytes.
    pub fn contents(&self, structure: &StructureInfo, most: usize) -> Vec<ContentInfo> {
        let offsets = self.matrix().offsets();
        contents(self.matrix().heap(), offsets, structure.offset, |g, bytes| {
            let mut first = vec![0; bytes.min(most)];
            // SAFETY: the block was live and has as many bytes, inside the mapping; copies are atomic byte for byte.
            unsafe { payload::copy_out(self.address(offsets.offset(g)), &mut first) };
            first
        })
    }
}

/// Every structure of a heap, as [`Handler::structures`].
pub(super) fn structures<R: Region>(heap: &Heap<R>, offsets: Offsets) -> Result<Vec<StructureInfo>> {
    let mut names = vec![];
    Directory(heap.region()).each(|name, block| {
        names.push((block.offset, block.generation, String::from_utf8_lossy(name).into_owned()));
    });
    let mut found = vec![];
    each_block(heap, offsets, |block| {
        let Some(live) = structure_at(heap, offsets, block.offset) else { return };
        let Some(structure) = Structure::at(heap, live) else { return };
        let of = |(offset, generation, name): &(u32, u32, String)| {
            (*offset == block.offset && *generation == block.generation).then(|| name.clone())
        };
        let info = look(structure, block.offset, names.iter().filter_map(of).collect());
        // What was read of a block that was freed meanwhile means nothing.
        if heap.look(live.at) == live.header {
            found.push(info);
        }
    })?;
    Ok(found)
}

fn structure_at<R: Region>(heap: &Heap<R>, offsets: Offsets, offset: u32) -> Option<Live> {
    let live = heap.live_at(offsets.granule(offset)).ok()?;
    heap.is_structure(live).then_some(live)
}

/// What is in the structure at an offset, as [`Handler::contents`]; `copy` copies the first of so many bytes
/// that the block of a granule has.
pub(super) fn contents<R: Region>(
    heap: &Heap<R>,
    offsets: Offsets,
    offset: u32,
    copy: impl Fn(Granule, usize) -> Vec<u8>,
) -> Vec<ContentInfo> {
    let Some(structure) = structure_at(heap, offsets, offset).and_then(|live| Structure::at(heap, live)) else {
        return vec![];
    };
    let (sort, shift) = (structure.shape.sort, structure.shape.cells_shift);
    match sort {
        Sort::Channel | Sort::Single | Sort::Redelivering | Sort::Topic | Sort::Board => {}
        Sort::Map => return entries(heap, offsets, structure, &copy),
        Sort::Lock | Sort::Common => return vec![value(structure, offset)],
        Sort::Event | Sort::Semaphore | Sort::Barrier => return vec![],
    }
    let cells = Cells::<R::Backend>::of(&structure.words[structure.cells..], shift);
    let tail = structure.field(TAIL).load(&TICKET_LOOK);
    let oldest = tail.saturating_sub(cells.n());
    let queues = matches!(sort, Sort::Channel | Sort::Single | Sort::Redelivering);
    let first = if queues { structure.field(HEAD).load(&TICKET_LOOK).max(oldest) } else { oldest };
    // One more: a sender may be about to tell of it.
    let content = |number: u64| {
        let word = cells.at(number).load(&CELL_LOOK);
        let Cell::Link(link) = Cell::of(word) else { return None };
        let header = match heap.standing(link) {
            Standing::Pending(header) | Standing::Present(header) if link.lap() == cells.lap(number) => header,
            _ => return None,
        };
        let live = Live { at: link.at(), header };
        let bytes = (header.size() as usize) << heap.layout().params.granule_shift;
        let first = copy(live.at, bytes);
        let fingerprint = heap.fingerprint(live);
        let there = cells.at(number).load(&CELL_LOOK) == word && heap.look(live.at).generation() == header.generation();
        let (offset, bytes) = (offsets.offset(live.at), bytes as u64);
        there.then(|| ContentInfo { number, key: None, offset, bytes, fingerprint, giver: link.giver(), first })
    };
    (first..=tail).take(cells.n() as usize).filter_map(content).collect()
}

/// What is in a map. A bucket that changes each time it is copied is left out.
fn entries<R: Region>(
    heap: &Heap<R>,
    offsets: Offsets,
    map: Structure<'_, R>,
    copy: &impl Fn(Granule, usize) -> Vec<u8>,
) -> Vec<ContentInfo> {
    let table = Table::of(map);
    let entry = |place: usize, live: Live, link: Link, key: Vec<u8>| {
        let bytes = (live.header.size() as usize) << heap.layout().params.granule_shift;
        ContentInfo {
            number: place as u64,
            key: Some(key),
            offset: offsets.offset(live.at),
            bytes: bytes as u64,
            fingerprint: heap.fingerprint(live),
            giver: link.giver(),
            first: copy(live.at, bytes),
        }
    };
    (0..table.bucket_count()).filter_map(|bucket| table.entries(bucket, TRIES, entry)).flatten().collect()
}

/// The value in a structure's own cells.
fn value<R: Region>(structure: Structure<'_, R>, offset: u32) -> ContentInfo {
    let words = &structure.words[structure.cells..][..structure.shape.cells()];
    let first = words.iter().flat_map(|word| word.load(&CELL_LOOK).to_ne_bytes());
    let (bytes, print) = (words.len() as u64 * 8, Some(structure.shape.content));
    ContentInfo {
        number: 0,
        key: None,
        offset,
        bytes,
        fingerprint: print,
        giver: 0,
        first: first.take(MOST_OF_VALUE).collect(),
    }
}

fn look<R: Region>(structure: Structure<'_, R>, offset: u32, names: Vec<String>) -> StructureInfo {
    let shape = structure.shape;
    let (tail, head) = (structure.field(TAIL).load(&TICKET_LOOK), structure.field(HEAD).load(&TICKET_LOOK));
    let cells = shape.cells() as u64;
    let subscribers: Vec<_> = match shape.sort {
        Sort::Topic => Log::of(structure).readers().map(|(who, next)| (who, tail.saturating_sub(next))).collect(),
        _ => vec![],
    };
    let (capacity, depth, ever) = match shape.sort {
        Sort::Channel | Sort::Single | Sort::Redelivering => (cells, tail.saturating_sub(head).min(cells), Some(tail)),
        Sort::Topic => (cells, subscribers.iter().map(|(_, behind)| *behind).max().unwrap_or(0), Some(tail)),
        Sort::Board => (cells, u64::from(tail > 0), Some(tail)),
        Sort::Map => (cells, Table::of(structure).len() as u64, None),
        Sort::Event => (1, tail, None),
        Sort::Semaphore => (shape.readers.into(), tail, None),
        Sort::Barrier => (shape.readers.into(), tail & u64::from(u32::MAX), None),
        Sort::Lock => (1, u64::from(tail & (u64::MAX >> 1) != 0), None),
        Sort::Common => (1, 1, None),
    };
    let holding = if shape.has_holds() { Ring::of(structure).workers() } else { vec![] };
    let held_by = (shape.sort == Sort::Lock && tail & (u64::MAX >> 1) != 0).then_some(tail as u16);
    let user = |(at, word): (usize, u64)| Users {
        participant: at as u16 + 1,
        handles: Role::User.count(word),
        senders: Role::Sender.count(word),
        receivers: Role::Receiver.count(word),
    };
    let words = structure.users().iter().map(|user| user.load(&STRUCTURE_LOOK)).enumerate();
    let asleep = |role| structure.bell(role).sleepers.load(&SLEEPERS_LOOK) & u64::from(u32::MAX);
    StructureInfo {
        offset,
        names,
        kind: shape.sort.kind(),
        content: shape.content,
        capacity,
        depth,
        ever,
        users: words.filter(|(_, word)| *word != 0).map(user).collect(),
        subscribers,
        holding,
        held_by,
        asleep: (asleep(Role::Sender), asleep(Role::Receiver)),
        closed: structure.state() & CLOSED != 0,
        removed: structure.is_removed(),
    }
}
