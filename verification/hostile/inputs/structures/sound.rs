//! Sound segments that hold each sort of structure in use, and changes of their words.

use super::super::Memory;
use super::super::file::{self, Value};
use super::OneWord;
use super::calls::{Names, Q};
use arbitrary::Arbitrary;
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::SlotWord;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use std::time::Duration;
use uuid::Uuid;

/// A structure's block: its words in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    first: usize,
    words: usize,
}

/// A segment file as words, and where its structures are.
#[derive(Clone)]
pub(crate) struct Sound {
    file: file::Sound,
    structures: Vec<Block>,
}

/// A change.
#[derive(Debug, Arbitrary)]
pub(crate) enum Edit {
    /// A word of a structure; with its header's seal made right again, as a forger would.
    Word { structure: u8, spot: Spot, value: Value, seal: bool },
    /// A cell, a hold or a cursor.
    Cell { structure: u8, spot: Spot, to: To },
    /// What the structure is.
    Shape { structure: u8, sort: u8, shift: u8, readers: u8, content: Option<u8> },
    /// A word of any block.
    Payload { granule: u16, word: u8, value: Value },
    /// A word of the heap, before anybody attaches.
    Heap(file::Edit),
}

/// A word of a structure.
#[derive(Debug, Arbitrary)]
pub(crate) enum Spot {
    /// Of the header's groups.
    Field(u8, u8),
    /// Of the users and what is behind them.
    Behind(u8),
    Any(u16),
}

/// What a cell may hold.
#[derive(Debug, Arbitrary)]
pub(crate) enum To {
    Empty(Ticket),
    Sealed(Ticket),
    Link { lap: u8, giver: u16, ahead: i8, at: At },
    Cursor { ticket: Ticket, owner: u8 },
    Guard { usage: u8, owner: u8, at: At },
}

/// A ticket.
#[derive(Debug, Arbitrary)]
pub(crate) enum Ticket {
    /// So far from the tail, or the head.
    Tail(i8),
    Head(i8),
    High(u8),
    Any(u64),
}

/// A block.
#[derive(Debug, Arbitrary)]
pub(crate) enum At {
    /// As a link elsewhere has it.
    Like {
        structure: u8,
        word: u8,
    },
    Structure(u8),
    Granule(u16),
    Any(u32),
}

/// Words of a group of a structure's header, and the groups.
const GROUP: usize = 16;
const GROUPS: usize = 6;
const SEAL: usize = 0;
const SHAPE: usize = 1;
const TAIL: usize = 2 * GROUP;
const HEAD: usize = 3 * GROUP;
const LINK: u64 = 1 << 63;

/// What a word becomes, from what it was and what it is in.
type Aim = fn(u64, &Sound, Block) -> u64;

/// The values at which words of structures are aimed.
pub(crate) const AIMED: [Aim; 32] = [
    |_, _, _| 0,
    |_, _, _| 1,
    |_, _, _| 2,
    |_, _, _| !0,
    |_, _, _| !0 - 1,
    |_, _, _| 1 << 63,
    |_, _, _| (1 << 63) - 1,
    |_, _, _| 1 << 62,
    |_, _, _| (1 << 62) - 1,
    |_, _, _| 1 << 53,
    |_, _, _| (1 << 53) - 1,
    |_, _, _| 1 << 32,
    |_, _, _| (1 << 32) - 1,
    |_, _, _| 0xFFFF,
    |old, _, _| old.wrapping_add(1),
    |old, _, _| old.wrapping_sub(1),
    |old, _, _| old.wrapping_add(8),
    |old, _, _| old ^ 1,
    |old, _, _| old ^ 1 << 63,
    |old, _, _| old ^ 1 << 58,
    |old, _, _| old ^ 1 << 28,
    |old, _, _| old.swap_bytes(),
    // A link in every lap but its own, of a giver and a block that there can't be.
    |old, _, _| LINK | old ^ 5 << 58,
    |old, _, _| LINK | old | 0x3FF << 48,
    |old, _, _| LINK | old | ((1 << 28) - 1),
    // The structure itself, and what another cell names.
    |old, sound, block| LINK | old & !((1 << 28) - 1) | sound.granule(block),
    |old, sound, block| sound.link_of(block).unwrap_or(old),
    |old, sound, _| sound.structures.iter().find_map(|other| sound.link_of(*other)).unwrap_or(old),
    |_, sound, block| sound.file.words[block.first + TAIL],
    // A shape of one cell, of no readers, of as many as can be.
    |old, _, _| old & !(0xFF << 48),
    |old, _, _| old & !(0xFFFF << 32),
    |old, _, _| old | 0xFFFF << 32,
];

static SOUND: LazyLock<Vec<Sound>> = LazyLock::new(|| {
    let small = || Options::new().memfd().id(Uuid::from_u128(7)).participants(6);
    vec![
        Sound::of(small().size(192 << 10)),
        Sound::of(small().size(192 << 10).strict(true)),
        Sound::of(small().size(192 << 10).granule(16)),
    ]
});

/// How many there are.
pub(crate) fn count() -> u8 {
    SOUND.len() as u8
}

/// One of the sound segments.
pub(crate) fn sound(which: u8) -> &'static Sound {
    &SOUND[usize::from(which) % SOUND.len()]
}

/// How many words each of its structures has.
pub(crate) fn words(which: u8) -> impl Iterator<Item = usize> {
    sound(which).structures.iter().map(|block| block.words)
}

/// Whether a word of a structure may mean something: of its header's groups the first ones, of cells, holds and a map's
/// places all, of cursors the first.
pub(crate) fn is_in_use(word: u16) -> bool {
    word % GROUP as u16 <= 3 || (GROUPS as u16 * GROUP as u16..176).contains(&word)
}

impl Sound {
    /// A segment that two attachments have used, which are gone without leaving.
    fn of(options: Options) -> Self {
        let made = options.create().expect("memory");
        let fd = || made.matrix().segment().fd().try_clone_to_owned().expect("a descriptor");
        let file = std::fs::File::from(fd());
        let mut sound = file::Sound::read(&made);
        // The number that is drawn at random: what a map's keys mean depends on it.
        sound.words[file::CREATION] = 7;
        sound.seal();
        file.write_all_at(&sound.bytes(), 0).expect("written");
        drop(made.clone());
        let (structures, words) = in_use(fd(), fd(), &file);
        sound.words = words;
        for number in 0..=sound.layout.params.participants as u16 {
            let mut set = |word, value: fn(u64) -> u64| {
                let at = sound.layout.slot(number, word).0;
                sound.words[at] = value(sound.words[at]);
            };
            // Nothing in it may depend on this process: an input means the same in every run.
            set(SlotWord::Process, |word| word.min(1));
            if number > 0 {
                set(SlotWord::Pid, |_| 0);
                // Of no life: of somebody dead.
                set(SlotWord::State, |word| word & !0xFFFF_FFFF);
            }
        }
        sound.words[1] = 0;
        file.write_all_at(&sound.bytes(), 0).expect("written");
        let looking = Options::from_fd(fd()).inspect().expect("sound");
        looking.verify().expect("sound");
        assert_eq!(looking.structures().expect("sound").len(), structures.len());
        Self { file: sound, structures }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.file.bytes()
    }

    fn block(&self, structure: u8) -> Block {
        self.structures[usize::from(structure) % self.structures.len()]
    }
    fn granule(&self, block: Block) -> u64 {
        (block.first as u64 * 8 - self.file.layout.sector) >> self.file.layout.params.granule_shift
    }
    fn cells_at(&self) -> usize {
        (GROUPS * GROUP + self.file.layout.params.participants).next_multiple_of(GROUP)
    }
    /// A link that stands in a structure.
    fn link_of(&self, block: Block) -> Option<u64> {
        let words = &self.file.words[block.first..][..block.words];
        words[self.cells_at()..].iter().copied().find(|word| word & LINK != 0)
    }

    fn spot(&self, block: Block, spot: &Spot) -> usize {
        let word = match *spot {
            Spot::Field(group, word) => usize::from(group) % GROUPS * GROUP + usize::from(word) % 4,
            Spot::Behind(word) => GROUPS * GROUP + usize::from(word),
            Spot::Any(word) => word.into(),
        };
        block.first + word % block.words
    }
    fn ticket(&self, block: Block, ticket: &Ticket) -> u64 {
        let near = |word: usize, off: i8| self.file.words[block.first + word].wrapping_add_signed(off.into());
        match *ticket {
            Ticket::Tail(off) => near(TAIL, off),
            Ticket::Head(off) => near(HEAD, off),
            Ticket::High(bits) => !0 >> (bits % 64),
            Ticket::Any(ticket) => ticket,
        }
    }
    /// A block's granule, and the generation that its header has.
    fn at(&self, at: &At) -> (u64, u64) {
        let granule = match *at {
            At::Like { structure, word } => {
                let block = self.block(structure);
                self.file.words[self.spot(block, &Spot::Behind(word))] & ((1 << 28) - 1)
            }
            At::Structure(structure) => self.granule(self.block(structure)),
            At::Granule(granule) => u64::from(granule) % (u64::from(self.file.layout.granules) + 1),
            At::Any(granule) => granule.into(),
        };
        let inside = granule < self.file.layout.granules.into();
        let header = if inside { self.file.header(granule as u32) } else { 0 };
        (granule, header >> 30)
    }

    pub(crate) fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::Word { structure, spot, value, seal } => {
                let block = self.block(*structure);
                let at = self.spot(block, spot);
                self.file.words[at] = value.of(&self.file.words, self.file.words[at]);
                if *seal {
                    self.seal(block);
                }
            }
            Edit::Cell { structure, spot, to } => {
                let block = self.block(*structure);
                let at = self.spot(block, spot);
                self.file.words[at] = match to {
                    To::Empty(ticket) => self.ticket(block, ticket) & !(3 << 62),
                    To::Sealed(ticket) => self.ticket(block, ticket) & !(3 << 62) | 1 << 62,
                    To::Link { lap, giver, ahead, at } => {
                        let (granule, generation) = self.at(at);
                        let generation = generation.wrapping_add_signed((*ahead).into()) & 0xF_FFFF;
                        let lap = u64::from(*lap % 32);
                        LINK | lap << 58 | u64::from(*giver & 0x3FF) << 48 | generation << 28 | granule & 0xFFF_FFFF
                    }
                    To::Cursor { ticket, owner } => {
                        u64::from(*owner % 8) << 53 | self.ticket(block, ticket) & ((1 << 53) - 1)
                    }
                    To::Guard { usage, owner, at } => {
                        let (granule, generation) = self.at(at);
                        let named = (generation & 0xF_FFFF) << 28 | granule & 0xFFF_FFFF;
                        u64::from(*usage % 4) << 58 | u64::from(*owner % 8) << 48 | named
                    }
                };
            }
            Edit::Shape { structure, sort, shift, readers, content } => {
                let block = self.block(*structure);
                let old = self.file.words[block.first + SHAPE];
                let content = content
                    .map_or(old & 0xFFFF_FFFF, |other| self.file.words[self.block(other).first + SHAPE] & 0xFFFF_FFFF);
                let shape = u64::from(*sort) << 56 | u64::from(*shift) << 48 | u64::from(*readers) << 32 | content;
                self.file.words[block.first + SHAPE] = shape;
                self.seal(block);
            }
            Edit::Payload { granule, word, value } => {
                let layout = &self.file.layout;
                let granule = usize::from(*granule) % layout.granules as usize;
                let at = (layout.sector as usize + (granule << layout.params.granule_shift)) / 8;
                let at = (at + usize::from(*word)).min(self.file.words.len() - 1);
                self.file.words[at] = value.of(&self.file.words, self.file.words[at]);
            }
            Edit::Heap(edit) => self.file.edit(edit, &mut 0),
        }
    }

    /// Makes a structure's seal right again: splitmix64's finalizer of its shape.
    fn seal(&mut self, block: Block) {
        let mut z = self.file.words[block.first + SHAPE] ^ 0xA70C_6D61_7472_6978;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.file.words[block.first + SEAL] = z ^ z >> 31;
    }

    pub(crate) fn aim(&mut self, one: OneWord) {
        let block = self.block(one.structure);
        let word = usize::from(one.word) % block.words;
        let old = self.file.words[block.first + word];
        let aim = AIMED[usize::from(one.value) % AIMED.len()];
        self.file.words[block.first + word] = aim(old, self, block);
        if word == SHAPE {
            self.seal(block);
        }
    }

    /// An edit of structures' words in the file that others have mapped.
    pub(crate) fn edit_in(&mut self, edit: &Edit, memory: &Memory) {
        // The heap's own words change under nobody.
        if !matches!(edit, Edit::Heap(_)) {
            self.change(memory, |sound| sound.edit(edit));
        }
    }

    /// Changes words of the file as it stands.
    pub(crate) fn change(&mut self, memory: &Memory, change: impl FnOnce(&mut Self)) {
        self.file.words = memory.get().as_chunks().0.iter().map(|&word| u64::from_ne_bytes(word)).collect();
        let before = self.file.words.clone();
        change(self);
        for (at, (old, new)) in before.iter().zip(&self.file.words).enumerate() {
            if old != new {
                memory.set(at, *new);
            }
        }
    }
}

/// Uses each sort of structure by two attachments to a segment, and gives their blocks and the file's words, with
/// something in flight everywhere: messages, a stream of responses, cursors, holds, a lock, an arrival.
fn in_use(one: OwnedFd, other: OwnedFd, file: &std::fs::File) -> (Vec<Block>, Vec<u64>) {
    let attach = |fd| Options::from_fd(fd).attach().expect("sound");
    let (a, b) = (attach(one), attach(other));
    let (here, there) = (Names::open(&a).expect("made"), Names::open(&b).expect("found"));
    // More than a lap, and some left.
    let queue = (here.queue.sender().expect("one"), there.queue.receiver().expect("one"));
    let single = (here.single.sender().expect("one"), there.single.receiver().expect("one"));
    for number in 0..13 {
        queue.0.send_value(number).expect("room");
        single.0.send_value(number).expect("room");
        if number < 10 {
            drop((queue.1.try_recv().expect("sent"), single.1.try_recv().expect("sent")));
        }
    }
    let jobs = (here.jobs.sender().expect("one"), there.jobs.worker().expect("one"));
    (0..4).for_each(|number| jobs.0.send_value(number).expect("room"));
    let held = [jobs.1.try_recv().expect("sent"), jobs.1.try_recv().expect("sent")];
    drop(jobs.1.try_recv().expect("sent"));
    let subscribers = [&here.topic, &there.topic].map(|topic| topic.subscribe(1).expect("a place"));
    let [mut first, mut second] = subscribers;
    for number in 0..9_u8 {
        here.topic.try_publish(a.message_from(&[number; 20]).expect("room")).expect("room");
        here.board.set(u64::from(number)).expect("room");
        drop(first.try_next().expect("open"));
        if number < 6 {
            drop(second.try_next().expect("open"));
        }
    }
    let samples = second.into_samples();
    let sample = samples.try_next().expect("open");
    for key in 0..9_u8 {
        here.map.insert(&[key; 3], a.message_from(&[key; 40]).expect("room")).expect("room");
    }
    let read = there.map.get(&[1; 3]).expect("a guard");
    let taken = here.map.take(&[1; 3]).expect("a guard");
    let (client, waits, server) = (
        here.service.client().expect("one"),
        there.service.client().expect("one"),
        there.service.server().expect("one"),
    );
    let stream = client.stream(a.message_of(1_u64).expect("room"), Duration::ZERO).expect("asked");
    let request = server.try_next().expect("asked");
    (0..3).for_each(|part| request.send(b.message_of(part).expect("room"), Duration::ZERO).expect("room"));
    let waiting = waits.stream(b.message_of(2_u64).expect("room"), Duration::ZERO).expect("asked");
    let locked = there.mutex.lock(Q).expect("free");
    here.event.set().expect("ours");
    here.desks.try_take().expect("ours");
    let unit = a.offset_unit();
    let mut structures = vec![];
    for found in a.structures().expect("sound") {
        let words = a.usable_size_at(found.offset).expect("live") / 8;
        structures.push((Block { first: found.offset as usize * unit / 8, words }, found.kind));
    }
    let mut bytes = vec![0; a.matrix().segment().len()];
    file.read_exact_at(&mut bytes, 0).expect("read");
    let mut words: Vec<u64> = bytes.as_chunks().0.iter().map(|&word| u64::from_ne_bytes(word)).collect();
    // One of two has arrived.
    let gate = structures.iter().find(|(_, kind)| *kind == "barrier").expect("made").0;
    words[gate.first + TAIL] = 1;
    drop((held, sample, read, taken, waiting, request, stream, locked));
    (structures.into_iter().map(|(block, _)| block).collect(), words)
}
