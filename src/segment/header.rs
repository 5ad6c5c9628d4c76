//! The init guard and the header: what a segment says about itself, and why an attacher believes it.
//!
//! ```text
//! word 0      guard: raw (0), formatting, ready
//! word 1      process id of the creator; 0 once the segment has had its name, or needs none
//! word 2      magic
//! word 3      format version: major (32 bits), minor
//! word 4      endianness marker
//! words 5-10  granule shift, participants, batches, directory entries, header words, line words
//! words 11-15 granules, metadata words, sector offset, total bytes, bytes asked for
//! words 16-17 id
//! word 18     flags (bit 0: strict, bit 1: keep the blocks of the dead, bit 2: parked blocks are biased); a
//!             program refuses those that it does not know
//! word 19     creation number: drawn at random, never 0; tells this segment from every other one that had or
//!             will have its id
//! word 20     FNV-1a checksum of words 2 to 19
//! ```
//!
//! An attacher reads all of it into a copy and checks the copy (C2): nothing of a file is trusted, or used to compute
//! with, before its range is known.

use super::layout::{Layout, MAX_BATCHES, MAX_GRANULES, MAX_PARTICIPANTS, Params};
use super::region::{MappedRegion, Region, WordIndex};
use super::size_class::Larges;
use crate::backend::Word;
use crate::backend::orderings::{FORMAT, GUARD_WRITE};
use crate::error::{Error, Result};
use std::num::NonZeroU64;
use std::path::Path;
use uuid::Uuid;

/// Major version of the format. Any change of the layout or of a word's meaning counts it up.
pub const VERSION: u64 = 8;
/// Minor version: what is new since then, and older programs may do without (`papers/format.md`). Those of
/// one major version attach to each other.
pub const MINOR: u64 = 0;
/// Where the minor version stands in its word.
const MINOR_AT: u32 = 32;
/// Words set aside for guard and header: one small page.
pub(crate) const HEADER_WORDS: usize = 512;
/// Words of a cache line.
pub(crate) const LINE_WORDS: usize = 8;
/// Words of guard and header in use.
pub(crate) const WORDS: usize = 21;
/// Bytes of guard and header in use: no segment is shorter.
pub(crate) const BYTES: usize = WORDS * 8;

const MAGIC: u64 = u64::from_be_bytes(*b"AtMatrix");
const MARKER: u64 = 0x0102_0304_0506_0708;
const STRICT: u64 = 1;
const KEEP: u64 = 2;
const BIASED: u64 = 4;
const CHECKSUM: usize = WORDS - 1;
/// The most directory entries that an attacher believes.
const MAX_DIRECTORY: usize = super::directory::MAX_ENTRIES;

/// Values of the guard's first word.
pub(crate) mod guard {
    /// Nobody has begun to format the file.
    pub(crate) const RAW: u64 = 0;
    /// The process in the guard's second word formats it.
    pub(crate) const FORMATTING: u64 = super::MAGIC.rotate_left(17);
    /// The segment may be used.
    pub(crate) const READY: u64 = super::MAGIC.rotate_left(34);
    /// Where the state is.
    pub(crate) const STATE: super::WordIndex = super::WordIndex(0);
    /// Where the creator's process id is, until the segment has its name.
    pub(crate) const CREATOR: super::WordIndex = super::WordIndex(1);
}

/// Guard and header as words.
pub(crate) type Copy = [u64; WORDS];

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) layout: Layout,
    /// Bytes of the file.
    pub(crate) total: u64,
    /// Bytes that the creator asked for.
    pub(crate) requested: u64,
    pub(crate) id: Uuid,
    /// Tells this segment from every other one, those of the same id included.
    pub(crate) creation: NonZeroU64,
    pub(crate) strict: bool,
    pub(crate) keep: bool,
}

impl SegmentHeader {
    fn encode(&self) -> Copy {
        let Params { granule_shift, participants, batches, directory, header_words, line_words, biased, larges: _ } =
            self.layout.params;
        let (id_high, id_low) = self.id.as_u64_pair();
        let mut words = [
            guard::RAW,
            0,
            MAGIC,
            VERSION | MINOR << MINOR_AT,
            MARKER,
            granule_shift.into(),
            participants as u64,
            batches as u64,
            directory as u64,
            header_words as u64,
            line_words as u64,
            self.layout.granules.into(),
            self.layout.words as u64,
            self.layout.sector,
            self.total,
            self.requested,
            id_high,
            id_low,
            if self.strict { STRICT } else { 0 } | if self.keep { KEEP } else { 0 } | if biased { BIASED } else { 0 },
            self.creation.get(),
            0,
        ];
        words[CHECKSUM] = checksum(&words);
        words
    }

    /// Writes everything but the guard.
    pub(crate) fn write(&self, region: &MappedRegion) {
        for (index, value) in self.encode().into_iter().enumerate().skip(2) {
            region.word(WordIndex(index)).store(value, &FORMAT);
        }
    }

    /// Reads the copy of a header whose guard says ready, in a file of `length` bytes.
    pub(crate) fn decode(words: &Copy, length: u64, name: &Path) -> Result<Self> {
        recognise(words, name)?;
        let params = params(words)?;
        let granules = ranged("number of granules", words[11], 1, MAX_GRANULES as u64)? as u32;
        let layout = Layout::new(granules, params);
        expect("number of granules in whole spans", layout.granules as u64, granules as u64)?;
        expect("number of metadata words", layout.words as u64, words[12])?;
        expect("sector offset", layout.sector, words[13])?;
        let total = ranged("size", words[14], layout.bytes(), isize::MAX as u64)?;
        if total != length {
            return Err(Error::WrongLength { name: name.into(), expected: total, found: length });
        }
        ranged("flags word", words[18], 0, STRICT | KEEP | BIASED)?;
        let requested = ranged("requested size", words[15], 1, total)?;
        let id = Uuid::from_u64_pair(words[16], words[17]);
        let creation = NonZeroU64::new(words[19]);
        let no_number = Error::LayoutMismatch { what: "creation number", expected: 1, found: 0 };
        let creation = creation.ok_or(no_number)?;
        let flag = |bit| words[18] & bit != 0;
        Ok(Self { layout, total, requested, id, creation, strict: flag(STRICT), keep: flag(KEEP) })
    }
}

/// Is this a segment that this program can read, and is its header whole?
fn recognise(words: &Copy, name: &Path) -> Result<()> {
    let foreign = |word: u64, ours: u64| word == ours.swap_bytes();
    if foreign(words[2], MAGIC) || (words[2] == MAGIC && words[4] != MARKER && foreign(words[4], MARKER)) {
        return Err(wrong_endianness(name));
    }
    if words[2] != MAGIC {
        return Err(Error::NotASegment { name: name.into(), why: "its header has no magic number" });
    }
    let major = words[3] & ((1 << MINOR_AT) - 1);
    if major != VERSION {
        return Err(Error::WrongVersion { expected: VERSION, found: major });
    }
    let sum = checksum(words);
    if words[CHECKSUM] != sum {
        return Err(Error::HeaderDamaged { expected: sum, found: words[CHECKSUM] });
    }
    expect("endianness marker", MARKER, words[4])
}

/// The parameters, each within the range in which the layout arithmetic can't overflow.
fn params(words: &Copy) -> Result<Params> {
    Ok(Params {
        granule_shift: ranged("granule shift", words[5], 4, 16)? as u32,
        participants: ranged("number of participants", words[6], 1, MAX_PARTICIPANTS as u64)? as usize,
        batches: ranged("number of batches", words[7], 0, MAX_BATCHES as u64)? as usize,
        directory: ranged("number of directory entries", words[8], 0, MAX_DIRECTORY as u64)? as usize,
        header_words: ranged("number of header words", words[9], HEADER_WORDS as u64, HEADER_WORDS as u64)? as usize,
        biased: words[18] & BIASED != 0,
        line_words: ranged("number of words in a line", words[10], LINE_WORDS as u64, LINE_WORDS as u64)? as usize,
        larges: Larges::USUAL,
    })
}

/// What the guard in a copy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    Raw,
    Formatting { pid: u64 },
    Ready,
    Garbage,
    OtherEndian,
}

impl Guard {
    pub(crate) fn of(words: &[u64]) -> Self {
        match words[0] {
            guard::RAW => Self::Raw,
            guard::FORMATTING => Self::Formatting { pid: words[1] },
            guard::READY => Self::Ready,
            other if [guard::FORMATTING, guard::READY].contains(&other.swap_bytes()) => Self::OtherEndian,
            _ => Self::Garbage,
        }
    }
}

/// Says who formats the segment. Nobody else writes the guard before [`ready`].
pub(crate) fn formatting(region: &MappedRegion) {
    region.word(guard::CREATOR).store(std::process::id().into(), &FORMAT);
    region.word(guard::STATE).store(guard::FORMATTING, &GUARD_WRITE);
}

/// Says that the segment may be used.
pub(crate) fn ready(region: &MappedRegion) {
    region.word(guard::STATE).store(guard::READY, &GUARD_WRITE);
}

/// Says that the segment has its name, or needs none: its creator is done with it.
pub(crate) fn named(region: &MappedRegion) {
    region.word(guard::CREATOR).store(0, &GUARD_WRITE);
}

/// Whether the segment in a copy of guard and header has had a name.
pub(crate) fn had_name(words: &[u64]) -> bool {
    words[1] == 0
}

/// Whether the header in a copy says this id.
pub(crate) fn says_id(words: &[u64], id: Uuid) -> bool {
    (words[16], words[17]) == id.as_u64_pair()
}

pub(crate) fn wrong_endianness(name: &Path) -> Error {
    let here = if cfg!(target_endian = "little") { "little" } else { "big" };
    Error::WrongEndianness { name: name.into(), here }
}

fn checksum(words: &Copy) -> u64 {
    let mut bytes = [0; 8 * (CHECKSUM - 2)];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(&words[2..CHECKSUM]) {
        *bytes = word.to_ne_bytes();
    }
    const_fnv1a_hash::fnv1a_hash_64(&bytes, None)
}

fn expect(what: &'static str, expected: u64, found: u64) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::LayoutMismatch { what, expected, found }) }
}

fn ranged(what: &'static str, found: u64, low: u64, high: u64) -> Result<u64> {
    expect(what, found.clamp(low, high.max(low)), found).map(|()| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (SegmentHeader, u64) {
        let layout = Layout::fit(1 << 20, Params::for_segment(1 << 20)).expect("a megabyte is enough");
        let creation = NonZeroU64::MAX;
        let (total, requested, id) = (1 << 20, 1_000_000, Uuid::new_v4());
        let header = SegmentHeader { layout, total, requested, id, creation, strict: true, keep: true };
        (header, 1 << 20)
    }

    fn decode(words: &Copy, length: u64) -> Result<SegmentHeader> {
        SegmentHeader::decode(words, length, Path::new("test"))
    }

    #[test]
    fn what_is_written_is_read() {
        let (header, length) = example();
        assert_eq!(decode(&header.encode(), length).expect("valid"), header);
    }

    #[test]
    fn minor_versions_attach_to_each_other() {
        let (header, length) = example();
        let mut words = header.encode();
        for minor in [0, 1, u32::MAX.into()] {
            words[3] = VERSION | minor << MINOR_AT;
            words[CHECKSUM] = checksum(&words);
            assert_eq!(decode(&words, length).expect("of this major version"), header);
        }
        for major in [0, VERSION - 1, VERSION + 1] {
            words[3] = major | 3 << MINOR_AT;
            words[CHECKSUM] = checksum(&words);
            assert!(matches!(decode(&words, length), Err(Error::WrongVersion { found, .. }) if found == major));
        }
    }

    /// The directory's turn word has 14 bits for an entry: a segment with more would publish into other
    /// entries than it says.
    #[test]
    fn no_more_directory_entries_are_believed_than_the_turn_word_can_name() {
        let with = |directory| {
            let layout = Layout::fit(4 << 20, Params { directory, ..Params::for_segment(4 << 20) }).expect("it fits");
            let header = SegmentHeader { layout, total: 4 << 20, ..example().0 };
            decode(&header.encode(), 4 << 20)
        };
        assert_eq!(with(16_384).expect("as many as can be named").layout.params.directory, 16_384);
        let text = with(16_385).expect_err("one too many").to_string();
        assert!(
            text.contains("number of directory entries") && text.contains("16384") && text.contains("16385"),
            "{text}"
        );
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (header, length) = example();
        for word in 2..WORDS {
            for bit in 0..64 {
                let mut words = header.encode();
                words[word] ^= 1 << bit;
                assert!(decode(&words, length).is_err(), "word {word}, bit {bit}");
            }
        }
    }

    #[test]
    fn c2_hostile_values_with_a_valid_checksum_never_panic() {
        let (header, length) = example();
        let values =
            [0, 1, 3, 17, 63, 64, 65, 1 << 16, (1 << 30) - 1, 1 << 30, u32::MAX.into(), 1 << 40, 1 << 63, u64::MAX];
        for word in 2..CHECKSUM {
            for other in 2..CHECKSUM {
                for value in values {
                    let mut words = header.encode();
                    (words[word], words[other]) = (value, value);
                    words[CHECKSUM] = checksum(&words);
                    if let Ok(read) = decode(&words, length) {
                        assert!(read.layout.bytes() <= length && read.total == length);
                    }
                }
            }
        }
    }

    #[test]
    fn c2_another_byte_order_is_told_from_no_segment() {
        let (header, length) = example();
        let mut words = header.encode();
        words[4] = MARKER.swap_bytes();
        assert!(matches!(decode(&words, length), Err(Error::WrongEndianness { .. })));
        words[2] = MAGIC.swap_bytes();
        assert!(matches!(decode(&words, length), Err(Error::WrongEndianness { .. })));
        words[2] = 7;
        assert!(matches!(decode(&words, length), Err(Error::NotASegment { .. })));
    }

    #[test]
    fn a_segment_that_had_a_name_has_no_creator_any_more() {
        assert!(had_name(&[guard::READY, 0]) && !had_name(&[guard::READY, 7]));
    }

    #[test]
    fn the_guard_is_told_from_garbage() {
        assert_eq!(Guard::of(&[0, 7]), Guard::Raw);
        assert_eq!(Guard::of(&[guard::FORMATTING, 7]), Guard::Formatting { pid: 7 });
        assert_eq!(Guard::of(&[guard::READY, 7]), Guard::Ready);
        assert_eq!(Guard::of(&[guard::READY.swap_bytes(), 7]), Guard::OtherEndian);
        assert_eq!(Guard::of(&[1, 7]), Guard::Garbage);
    }
}
