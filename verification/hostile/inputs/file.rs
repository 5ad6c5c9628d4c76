//! Segment files of any content: any bytes at all, a header of any values, or a sound segment with words changed.

use arbitrary::Arbitrary;
use atomic_matrix::backend::orderings::HEADER_WALK;
use atomic_matrix::backend::{Native, Word};
use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::matrix::block_header::{Header, State};
use atomic_matrix::matrix::heap::Heap;
use atomic_matrix::matrix::operation::Op;
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::{DIRECTORY_WORDS, Granule, Layout, Params, SlotWord};
use atomic_matrix::segment::region::{BoxedRegion, Region, WordIndex};
use atomic_matrix::segment::size_class::Larges;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;
use uuid::Uuid;

/// Names that the sound segments publish blocks under, and names that nobody does.
pub(crate) const NAMES: [&str; 6] = [
    "a",
    "b",
    "twelve-bytes",
    "unowned",
    "",
    "a name of ninety-seven bytes, which is more than \
    an entry of the directory has room for ........",
];

/// A segment file.
#[derive(Debug, Arbitrary)]
pub(crate) enum Segment {
    /// Any bytes, then zeros up to so many pages.
    Bytes { pages: u8, bytes: Vec<u8> },
    /// A sound segment, changed.
    Sound { which: u8, edits: Vec<Edit> },
    /// A segment of any parameters, its body empty, changed.
    Made { parameters: Parameters, formatted: bool, edits: Vec<Edit> },
}

/// What the header of a made segment says; out-of-range values are for [`Edit::SegmentHeader`].
#[derive(Debug, Arbitrary)]
pub(crate) struct Parameters {
    shift: u8,
    participants: u8,
    batches: u8,
    directory: u8,
    granules: u16,
    strict: bool,
}

/// One change.
#[derive(Debug, Arbitrary)]
pub(crate) enum Edit {
    /// A word of guard and header.
    SegmentHeader { word: u8, value: Value },
    /// Makes the header's checksum right again, as a forger would.
    Seal,
    /// A word of an array.
    Word { area: Area, index: u16, value: Value },
    /// A header.
    Header { at: u16, state: u8, owner: u8, generation: u8, low: Low },
    /// Who holds a slot.
    Slot { number: u8, kind: u8, recoverer: u8, life: Life },
    /// The operation that a slot announces.
    Op { owner: u8, kind: u8, at: u16, size: Low },
    /// The header that a slot quotes: as it stands at a granule.
    Quote { owner: u8, at: u16 },
    /// A batch of the transfer cache.
    Batch { bin: u8, batch: u8, kind: u8, owner: u8, count: u8, indices: [u16; 2] },
    /// A directory entry.
    Entry { entry: u8, kind: u8, owner: u8, version: u8, name: u8, block: Low, generation: u8 },
    /// Whose turn it is in the directory.
    Turn { version: u8, entry: u16 },
    /// Any values from an index on.
    Noise { area: Area, index: u16, words: u16, seed: u64 },
    /// One value from an index on.
    Fill { area: Area, index: u16, words: u16, value: Value },
    /// The file's length, in bytes more or less.
    Length(i16),
}

/// An array of the segment.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Area {
    Slots,
    Exchange,
    Directory,
    Turn,
    First,
    Second,
    Trees,
    Leaves,
    Headers,
}

/// What a word becomes.
#[derive(Debug, Arbitrary)]
pub(crate) enum Value {
    Set(u64),
    Small(u8),
    Ones,
    Flip(u8),
    Add(i8),
    Swapped,
    Like(u16),
}

/// A header's low field, or another number that may be a granule's: small, near the sector's end, or any.
#[derive(Debug, Arbitrary)]
pub(crate) enum Low {
    Small(u8),
    Granule(u16),
    FromEnd(i8),
    ToNext,
    Any(u32),
}

/// A life's number.
#[derive(Debug, Arbitrary)]
pub(crate) enum Life {
    Nobodys,
    Last,
    First,
    Any(u32),
}

impl Value {
    pub(super) fn of(&self, words: &[u64], old: u64) -> u64 {
        match *self {
            Self::Set(value) => value,
            Self::Small(value) => value.into(),
            Self::Ones => !0,
            Self::Flip(bit) => old ^ 1 << (bit % 64),
            Self::Add(n) => old.wrapping_add_signed(n.into()),
            Self::Swapped => old.swap_bytes(),
            Self::Like(other) => words[other as usize % words.len()],
        }
    }
}

/// A segment file as words, with the layout that it was made with.
#[derive(Clone)]
pub(super) struct Sound {
    pub(super) layout: Layout,
    pub(super) words: Vec<u64>,
}

const GUARD_READY: u64 = MAGIC.rotate_left(34);
const MAGIC: u64 = u64::from_be_bytes(*b"AtMatrix");
/// The word of the number that is drawn when a segment is made.
pub(super) const CREATION: usize = 19;
const CHECKSUM: usize = 20;

/// The sound segments that changes begin from.
static SOUND: LazyLock<Vec<Sound>> = LazyLock::new(|| {
    let small = || Options::new().memfd().id(Uuid::from_u128(7)).participants(3).size(32 << 10);
    vec![
        Sound::of(small(), |_| {}),
        Sound::of(small(), used),
        Sound::of(small().strict(true), used),
        Sound::of(small().granule(16).size(160 << 10), used),
        Sound::of(small().granule(4096).size(64 << 10), used),
    ]
});

/// Leaves live blocks of several kinds, free ones of several sizes, parked ones, batches in exchange, published names.
fn used(handler: &Handler) {
    for name in ["a", "b", "twelve-bytes"] {
        if let Ok(mut block) = handler.allocate::<[u64; 5]>() {
            handler.store(&mut block, [3; 5]).expect("live");
            handler.publish(name, &block).expect("room in the directory");
        }
    }
    let sizes = [1, 64, 65, 200, 500, 1000, 2000, 16, 48, 130, 64, 64, 300, 64];
    let held: Vec<_> = sizes.iter().cycle().take(56).map_while(|&size| handler.allocate_raw(size).ok()).collect();
    for pointer in held.iter().step_by(2).chain(held.iter().skip(1).step_by(4)) {
        handler.free_raw(*pointer).expect("live");
    }
}

impl Sound {
    fn of(options: Options, use_it: impl Fn(&Handler)) -> Self {
        let handler = options.create().expect("memory");
        use_it(&handler);
        // While its participant still holds its slot, and with what it has parked.
        let mut sound = Self::read(&handler);
        // Nothing in it may depend on this process: an input means the same in every run.
        for number in 0..=3 {
            for word in [SlotWord::State, SlotWord::Pid] {
                let at = sound.layout.slot(number, word).0;
                sound.words[at] = 0;
            }
        }
        sound.words[1] = 0;
        sound
    }

    /// A segment as it stands.
    pub(super) fn read(handler: &Handler) -> Self {
        let segment = handler.matrix().segment();
        let layout = segment.layout().clone();
        let file = std::fs::File::from(segment.fd().try_clone_to_owned().expect("a descriptor"));
        let mut bytes = vec![0; segment.len()];
        file.read_exact_at(&mut bytes, 0).expect("read");
        let words = bytes.as_chunks().0.iter().map(|&word| u64::from_ne_bytes(word)).collect();
        Self { layout, words }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// What stands in a granule's header.
    pub(super) fn header(&self, granule: u32) -> u64 {
        self.words[self.layout.header(Granule(granule)).0]
    }

    fn made(parameters: &Parameters, formatted: bool) -> Self {
        let params = Params {
            granule_shift: 4 + u32::from(parameters.shift) % 13,
            participants: 1 + usize::from(parameters.participants) % 20,
            batches: usize::from(parameters.batches) % 65,
            directory: usize::from(parameters.directory) % 40,
            header_words: 512,
            line_words: 8,
            biased: false,
            larges: Larges::USUAL,
        };
        let most = (128 << 10 >> params.granule_shift).max(1);
        let layout = Layout::new(1 + u32::from(parameters.granules) % most, params);
        let total = layout.bytes().next_multiple_of(4096);
        let mut words = vec![0; total as usize / 8];
        if formatted {
            let heap = Heap::format(BoxedRegion::<Native>::new(layout.clone()));
            for (i, word) in words.iter_mut().enumerate().take(layout.words) {
                *word = heap.region().word(WordIndex(i)).load(&HEADER_WALK);
            }
        }
        let sentinel = layout.header(Granule(layout.granules)).0;
        words[sentinel] = Header::new(State::Allocated, 0, 0, 1).0;
        let header = [
            GUARD_READY,
            0,
            MAGIC,
            atomic_matrix::segment::VERSION,
            0x0102_0304_0506_0708,
            params.granule_shift.into(),
            params.participants as u64,
            params.batches as u64,
            params.directory as u64,
            params.header_words as u64,
            params.line_words as u64,
            layout.granules.into(),
            layout.words as u64,
            layout.sector,
            total,
            total,
            7,
            7,
            parameters.strict.into(),
            7,
        ];
        words[..header.len()].copy_from_slice(&header);
        let mut made = Self { layout, words };
        made.seal();
        made
    }

    pub(super) fn seal(&mut self) {
        let bytes: Vec<u8> = self.words[2..CHECKSUM].iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.words[CHECKSUM] = const_fnv1a_hash::fnv1a_hash_64(&bytes, None);
    }

    /// The words of an area; at least one, perhaps another's.
    fn area(&self, area: Area) -> std::ops::Range<usize> {
        let (layout, p) = (&self.layout, &self.layout.params);
        let tree = if layout.levels > 0 { layout.tree(0, 0, 0).0 } else { 0 };
        let (from, words) = match area {
            Area::Slots => (layout.slot(0, SlotWord::State).0, (p.participants + 1) * 16),
            Area::Exchange if p.batches > 0 => {
                let first = layout.transfer_slot(0, 0).0;
                (first, layout.batch_map(layout.bins - 1).0 + 1 - first)
            }
            Area::Directory if p.directory > 0 => (layout.directory(0, 0).0, p.directory * DIRECTORY_WORDS),
            Area::Exchange | Area::Directory | Area::Turn => (layout.directory_turn().0, 1),
            Area::First => (layout.first_level().0, 1),
            Area::Second => (layout.second_level(0).0, layout.classes.div_ceil(8)),
            Area::Trees => (tree, layout.leaf(0).0 - tree),
            Area::Leaves => (layout.leaf(0).0, layout.chunks()),
            Area::Headers => (layout.header(Granule(0)).0, layout.spans() as usize + 1),
        };
        from..from + words
    }

    /// A granule, or the one behind the last.
    fn granule(&self, at: u16) -> Granule {
        Granule(u32::from(at) % (self.layout.granules + 1))
    }

    fn low(&self, low: &Low, at: Granule) -> u32 {
        match *low {
            Low::Small(n) => n.into(),
            Low::Granule(g) => self.granule(g).0,
            Low::FromEnd(n) => self.layout.granules.saturating_sub(at.0).wrapping_add_signed(n.into()),
            Low::ToNext => {
                let inside = |g: u32| Header(self.words[self.layout.header(Granule(g)).0]).state() == State::Inside;
                (at.0 + 1..self.layout.granules).take_while(|&g| inside(g)).count() as u32 + 1
            }
            Low::Any(n) => n,
        }
    }

    pub(super) fn edit(&mut self, edit: &Edit, length: &mut i64) {
        let owners = self.layout.params.participants as u16 + 2;
        match edit {
            Edit::SegmentHeader { word, value } => {
                let word = usize::from(*word) % (CHECKSUM + 1);
                self.words[word] = value.of(&self.words[..=CHECKSUM], self.words[word]);
            }
            Edit::Seal => self.seal(),
            Edit::Word { area, index, value } => {
                let area = self.area(*area);
                let at = area.start + usize::from(*index) % area.len();
                self.words[at] = value.of(&self.words[area], self.words[at]);
            }
            Edit::Header { at, state, owner, generation, low } => {
                let g = self.granule(*at);
                let low = self.low(low, g);
                let owner = u64::from(*owner) % u64::from(owners);
                let (state, generation) = (u64::from(*state % 8), u64::from(*generation));
                let at = self.layout.header(g).0;
                self.words[at] = state << 61 | owner << 50 | generation << 30 | u64::from(low) & ((1 << 30) - 1);
            }
            Edit::Slot { number, kind, recoverer, life } => {
                let number = u16::from(*number) % owners;
                let life = match *life {
                    Life::Nobodys => 0,
                    Life::Last => u32::MAX,
                    Life::First => 1,
                    Life::Any(life) => life,
                };
                let at = self.layout.slot(number, SlotWord::State).0;
                let recoverer = u64::from(*recoverer) % u64::from(owners);
                self.words[at] = u64::from(*kind % 4) << 62 | recoverer << 32 | u64::from(life);
            }
            Edit::Op { owner, kind, at, size } => {
                let g = self.granule(*at);
                let size = self.low(size, g);
                let op = match kind % 4 {
                    0 => Op::None,
                    1 => Op::Cut { at: g, size },
                    2 => Op::Join { at: g, tag: size as u16 },
                    _ => Op::Free { at: g, tag: size as u16 },
                };
                let at = self.layout.slot(u16::from(*owner) % owners, SlotWord::Op).0;
                self.words[at] = op.encode();
            }
            Edit::Quote { owner, at } => {
                let header = self.words[self.layout.header(self.granule(*at)).0];
                let at = self.layout.slot(u16::from(*owner) % owners, SlotWord::Right).0;
                self.words[at] = header;
            }
            Edit::Batch { bin, batch, kind, owner, count, indices } => {
                let batches = self.layout.params.batches;
                if batches > 0 {
                    let bin = usize::from(*bin) % self.layout.bins;
                    let (owner, at) = (*owner % 8, usize::from(*batch / 2));
                    let mut control = u64::from(*kind % 8) << 32 | u64::from(owner) << 8 | u64::from(*count);
                    let slot = if *batch % 2 == 0 {
                        let map = self.layout.batch_map(bin).0;
                        self.words[map] |= 1 << (at % batches);
                        self.layout.transfer_slot(bin, at % batches).0
                    } else {
                        control |= (bin as u64) << 24;
                        self.layout.home_of(u16::from(owner), bin, at % self.layout.ring()).0
                    };
                    self.words[slot] = control;
                    self.words[slot + 1] = u64::from(indices[0]) | u64::from(indices[1]) << 32;
                }
            }
            Edit::Entry { entry, kind, owner, version, name, block, generation } => {
                let entries = self.layout.params.directory;
                if entries > 0 {
                    let g = self.low(block, Granule(0));
                    let offset = self.layout.sector + (u64::from(g) << self.layout.params.granule_shift);
                    let name = NAMES[usize::from(*name) % NAMES.len()].as_bytes();
                    let state = u64::from(*kind % 4) << 62 | u64::from(*owner % 8) << 50 | u64::from(*version);
                    let mut words =
                        vec![state, offset & 0xFFFF_FFFF | u64::from(*generation) << 32, 0, name.len() as u64];
                    for part in name.chunks(8).take(DIRECTORY_WORDS - 4) {
                        let mut bytes = [0; 8];
                        bytes[..part.len()].copy_from_slice(part);
                        words.push(u64::from_le_bytes(bytes));
                    }
                    let at = self.layout.directory(usize::from(*entry) % entries, 0).0;
                    self.words[at..at + words.len()].copy_from_slice(&words);
                }
            }
            Edit::Turn { version, entry } => {
                let at = self.layout.directory_turn().0;
                self.words[at] = u64::from(*version) << 14 | u64::from(*entry % (1 << 14));
            }
            Edit::Noise { area, index, words, seed } => {
                let mut noise = fastrand::Rng::with_seed(*seed);
                for at in self.part(*area, *index, *words) {
                    self.words[at] = noise.u64(..);
                }
            }
            Edit::Fill { area, index, words, value } => {
                for at in self.part(*area, *index, *words) {
                    self.words[at] = value.of(&self.words, self.words[at]);
                }
            }
            Edit::Length(more) => *length += i64::from(*more),
        }
    }

    fn part(&self, area: Area, index: u16, words: u16) -> std::ops::Range<usize> {
        let area = self.area(area);
        let from = area.start + usize::from(index) % area.len();
        from..area.end.min(from + usize::from(words))
    }
}

impl Segment {
    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (mut sound, edits) = match self {
            Self::Bytes { pages, bytes } => {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len().max(usize::from(pages % 16) * 4096), 0);
                return bytes;
            }
            Self::Sound { which, edits } => (SOUND[usize::from(*which) % SOUND.len()].clone(), edits),
            Self::Made { parameters, formatted, edits } => (Sound::made(parameters, *formatted), edits),
        };
        let mut length = sound.words.len() as i64 * 8;
        for edit in edits {
            sound.edit(edit, &mut length);
        }
        let mut bytes = sound.bytes();
        bytes.resize(usize::try_from(length).unwrap_or(0).min(1 << 20), 0);
        bytes
    }
}
