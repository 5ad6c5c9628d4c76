//! What can go wrong: one enum, each message saying what was asked, what was found and what would help.

mod advice;
mod asked;
mod debug;
mod messages;
mod mismatch;
mod system;

use advice::{advice, whom_to_trust};
use asked::{Wanted, another_type, called, word};
pub(crate) use messages::errors;
use std::path::PathBuf;
use uuid::Uuid;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

errors! {
/// Every error of this crate. Sizes are in bytes.
///
/// `{:?}`, which a `main` that returns an error prints, is the message; `{:#?}` are the fields.
#[non_exhaustive]
pub enum Error {
    // Allocating and freeing.
    /// No free block is large enough. What is free was counted by the last walk over the blocks: as long as nobody
    /// has given anything back, a request for as much or more is refused without another one, and says the same
    /// again, although less may be free by now.
    #[error(
        "out of memory: {requested} bytes asked for; {free} bytes are free, {largest} of them in one piece; \
            free blocks, call heal(), or make a larger segment"
    )]
    OutOfMemory {
        /// Bytes asked for.
        requested: u64,
        /// Bytes that are free, parked or in flight, at most.
        free: u64,
        /// Bytes of the largest free block, at most.
        largest: u64,
    },
    /// The segment's parking is biased, and this process may not call membarrier(2).
    #[error(
        "the segment needs membarrier(2) (private expedited and global, Linux 4.14), which this kernel or \
            sandbox refuses; allow the call, or create the segment with Options::biased(false)"
    )]
    NoMembarrier,
    /// A block of no bytes was asked for.
    #[error("a block of 0 bytes was asked for; ask for at least 1")]
    ZeroSize,
    /// More was asked for than the whole sector holds.
    #[error("{requested} bytes asked for, but the whole sector has {largest}; make a larger segment or split the data")]
    TooLarge {
        /// Bytes asked for; what has a length has 16 or more in front, which count.
        requested: u64,
        /// Bytes of the sector.
        largest: u64,
    },
    /// The alignment is more than a segment can promise.
    #[error("alignment {requested} asked for, but at most {largest} can be had; align within a larger block")]
    BadAlignment {
        /// The alignment asked for.
        requested: usize,
        /// The largest alignment.
        largest: usize,
    },
    /// The offset can't be a block of this segment.
    #[error(
        "offset {offset} is not a block of this segment: {why}; pass on offsets that an allocation gave, unchanged"
    )]
    BadOffset {
        /// The offset given.
        offset: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The block is not live: freed already, or never allocated.
    #[error(
        "the block at offset {offset} is not live (its state is {state}): it was freed before, or the offset is \
            forged; free each block once"
    )]
    NotLive {
        /// The offset given.
        offset: u32,
        /// The state found.
        state: &'static str,
    },
    /// The block is changing hands, and whoever does that did not come to an end for half a second: it is
    /// slow, stopped or dead. Nothing has changed.
    #[error(
        "the block at offset {offset} is changing hands: participant {participant} is adopting or freeing it; \
            try again, or reap() if that one has died"
    )]
    ChangingHands {
        /// The offset given.
        offset: u32,
        /// Whose it is, or who adopts it.
        participant: u16,
    },
    /// The block was freed and its place allocated anew since the pointer was made.
    #[error(
        "the pointer to offset {offset} is stale: it is of generation {expected}, the block there now is of \
            generation {found}; drop pointers to freed blocks"
    )]
    Stale {
        /// The offset given.
        offset: u32,
        /// The generation of the pointer.
        expected: u32,
        /// The generation found.
        found: u32,
    },
    /// The block holds another type.
    #[error("{}", another_type(Wanted { offset, name, expected, expected_fingerprint }, *found, *found_fingerprint))]
    TypeMismatch {
        /// The offset given.
        offset: u32,
        /// The name given, if it was asked for by one.
        name: Option<String>,
        /// The name of the type asked for.
        expected: &'static str,
        /// Its fingerprint.
        expected_fingerprint: u32,
        /// The fingerprint found, if the block is typed.
        found_fingerprint: Option<u32>,
        /// What was found under the name of a structure: "a topic", for instance.
        found: Option<&'static str>,
    },
    /// The block is shorter than what should go into it.
    #[error("the block at offset {offset} has {usable} usable bytes, {needed} are needed; allocate a larger one")]
    TooSmall {
        /// The offset given.
        offset: u32,
        /// Bytes needed.
        needed: u64,
        /// Bytes of the block.
        usable: u64,
    },
    /// The block belongs to another segment.
    #[error(
        "the block at offset {offset} is not of this segment ({segment}), but of another, or of an earlier one \
            of the same id; use a handler of the segment that it was allocated from"
    )]
    ForeignBlock {
        /// The block's offset, in its own segment.
        offset: u32,
        /// The segment that was asked.
        segment: Uuid,
    },
    /// Somebody has the block.
    #[error(
        "the block at offset {offset} is participant {participant}'s, and can be taken once that one has let it go, \
            by one alone; if that is 0, it is unowned: take it with `take_ref` or `adopt_at`"
    )]
    Owned {
        /// The block's offset.
        offset: u32,
        /// Whose it is; 0 if it was let go just now.
        participant: u16,
    },
    /// A structure has the block: it was sent, published or set, or is the structure itself.
    #[error(
        "the block at offset {offset} is a structure's; receive or read it there, or open the structure by its name \
            and remove it"
    )]
    InStructure {
        /// The block's offset.
        offset: u32,
    },
    /// The bytes are no UTF-8.
    #[error(
        "the bytes of the block at offset {offset} are not UTF-8; read them as bytes, or do not write them meanwhile"
    )]
    NotText {
        /// The block's offset.
        offset: u32,
    },
    /// Every participant slot is held.
    #[error(
        "all {participants} participant slots of the segment are held; let a process or thread leave, or create \
            the segment with more (Options::participants)"
    )]
    NoParticipantSlot {
        /// Slots of the segment.
        participants: usize,
    },

    // The directory of named blocks.
    /// The name is published already.
    #[error("the name {name:?} is published already; withdraw it first or choose another")]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// Nothing is published under the name.
    #[error("nothing is published under {name:?}; check the spelling, or wait until the other side has published it")]
    NameUnknown {
        /// The name asked for.
        name: String,
    },
    /// The name is too long for the directory.
    #[error("the name {name:?} has {length} bytes; names have 1 to {limit}: choose another")]
    NameTooLong {
        /// The name asked for.
        name: String,
        /// Its bytes.
        length: usize,
        /// The most bytes.
        limit: usize,
    },
    /// Every directory entry is taken.
    #[error("all {entries} directory entries are taken; withdraw names, or make a larger segment")]
    DirectoryFull {
        /// Entries of the directory.
        entries: usize,
    },

    /// The heap's words contradict each other.
    #[error("the heap is damaged: {what}; heal() sets aside what is damaged, or stop its users, unlink the \
        segment and make a new one")]
    Corrupt {
        /// The first fault found.
        what: String,
    },

    // Creating and attaching.
    /// An option has a value that can't be used, or is missing.
    #[error("option {option}: {found}; {allowed}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// What was given.
        found: String,
        /// What would do.
        allowed: &'static str,
    },
    /// The segment would not hold a single granule behind its metadata.
    #[error(
        "a segment of {asked} bytes is too small: its metadata and one granule take {minimum}; ask for more than that, \
            64 KiB for instance"
    )]
    SegmentTooSmall {
        /// Bytes asked for.
        asked: u64,
        /// The least bytes.
        minimum: u64,
    },
    /// The granules of the segment could not be counted.
    #[error("a segment of {asked} bytes is too large: granules of {granule} bytes reach {maximum}; {hint}")]
    SegmentTooLarge {
        /// Bytes asked for.
        asked: u64,
        /// The most bytes with this granule.
        maximum: u64,
        /// Bytes of the granule.
        granule: usize,
        /// Which granule would do.
        hint: String,
    },
    /// A segment of this name exists.
    #[error(
        "{} exists already; attach to it, unlink it, or choose another {}",
        called(asked, name.display()),
        word(asked)
    )]
    AlreadyExists {
        /// The name in plain words, if it was asked for by one.
        asked: Option<String>,
        /// The segment's path.
        name: PathBuf,
    },
    /// No segment of this name exists.
    #[error("there is no {}; check the {}, or create it first", called(asked, name.display()), word(asked))]
    NotFound {
        /// The name in plain words, if it was asked for by one.
        asked: Option<String>,
        /// The segment's path.
        name: PathBuf,
    },
    /// The kernel refused access to the segment's file, or to its directory.
    #[error(
        "no permission to {what}; the creator chooses who may attach (Options::mode and Options::group), the \
            directory's owner who may create, and a sandbox may refuse the call to everybody"
    )]
    PermissionDenied {
        /// What was tried.
        what: String,
    },
    /// The process, or the machine, has no file descriptor left.
    #[error("could not {what}: no descriptor is left; close files, or raise the limit (ulimit -n, fs.file-max)")]
    NoDescriptor {
        /// What was tried.
        what: String,
    },
    /// There is not enough room for the segment.
    #[error("no space for a segment: {needed} bytes are needed, {free} are free; {hint}")]
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// What would help.
        hint: String,
    },
    /// The process may not make files this large.
    #[error(
        "a segment of {needed} bytes exceeds this process's file size limit (RLIMIT_FSIZE) of {limit} bytes; \
            raise it (ulimit -f) or make a smaller segment"
    )]
    FileSizeLimit {
        /// Bytes needed.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The segment has another size than asked for.
    #[error(
        "a segment of {asked} bytes was asked for, but the existing one was made with {found}; ask for {found}, \
            or attach without a size"
    )]
    SizeMismatch {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that the creator asked for.
        found: u64,
    },
    /// The segment has another id than asked for.
    #[error("{} was asked for, but the file is segment {found}; check path and {}", called(name, asked), word(name))]
    IdMismatch {
        /// The name in plain words, if it was asked for by one.
        name: Option<String>,
        /// The id asked for.
        asked: Uuid,
        /// The id in the header.
        found: Uuid,
    },
    /// A parameter of the segment differs from what was asked for, or its header contradicts itself.
    #[error(
        "the segment's {what} is {found}, expected {expected}; attach with the creator's options and version, \
            or unlink the segment and make a new one"
    )]
    LayoutMismatch {
        /// Which parameter.
        what: &'static str,
        /// The value expected.
        expected: u64,
        /// The value found.
        found: u64,
    },
    /// The file is not a segment.
    #[error("{} is not a segment ({why}); it was left untouched: check the name, or choose another \
        one", name.display())]
    NotASegment {
        /// The file's path.
        name: PathBuf,
        /// What tells.
        why: &'static str,
    },
    /// The file is shorter or longer than its header says.
    #[error("{} has {found} bytes, expected {expected}: it was cut, or is no segment; unlink it and make a new \
        one", name.display())]
    WrongLength {
        /// The file's path.
        name: PathBuf,
        /// Bytes expected (at least).
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The segment was made by another version of the format.
    #[error(
        "the segment has format version {found}, this program reads version {expected}; use one version of \
            atomic-matrix on all sides, or remove the segment's file and make the segment anew"
    )]
    WrongVersion {
        /// This program's version.
        expected: u64,
        /// The segment's version.
        found: u64,
    },
    /// The segment was made on a machine of the other byte order.
    #[error("{} was made with the other byte order (this machine is {here}-endian); make it anew on this \
        machine", name.display())]
    WrongEndianness {
        /// The file's path.
        name: PathBuf,
        /// This machine's byte order.
        here: &'static str,
    },
    /// The header's checksum does not match.
    #[error(
        "the segment's header is damaged: its checksum is {found:#018x}, computed {expected:#018x}; unlink it \
            and make a new one"
    )]
    HeaderDamaged {
        /// The checksum of the words found.
        expected: u64,
        /// The checksum stored.
        found: u64,
    },
    /// The name is a symbolic link.
    #[error("{} is a symbolic link, and links are not followed; give the path of the segment itself", name.display())]
    Symlink {
        /// The path.
        name: PathBuf,
    },
    /// The name is not a regular file.
    #[error("{} is a {kind}, not a regular file; choose another name", name.display())]
    NotAFile {
        /// The path.
        name: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file could be cut by whoever has it open.
    #[error(
        "{} is not sealed against being cut (missing: {missing}); have it made with Options::memfd, or trust \
            its maker and use Options::from_fd",
        name.display()
    )]
    NotSealed {
        /// The descriptor.
        name: PathBuf,
        /// Seals that it has not.
        missing: String,
    },
    /// The file belongs to a user who is not trusted.
    #[error(
        "{} belongs to user {owner}, this process runs as user {user}; {}",
        name.display(),
        whom_to_trust(*owner)
    )]
    WrongOwner {
        /// The path.
        name: PathBuf,
        /// The owner's user id.
        owner: u32,
        /// This process's effective user id.
        user: u32,
    },
    /// The creator died while it formatted the segment.
    #[error("the creator of {} (process {pid}) died before it was ready; remove the file and try \
        again", name.display())]
    CreatorDied {
        /// The path.
        name: PathBuf,
        /// The creator's process id.
        pid: u64,
    },
    /// The segment did not become ready in time.
    #[error(
        "{} was not ready after {waited_ms} ms (its creator is {}); wait longer (Options::patience), or remove \
            the file and try again",
        name.display(),
        match pid { Some(pid) => format!("process {pid}"), None => "unknown".to_owned() }
    )]
    NotReady {
        /// The path.
        name: PathBuf,
        /// The creator's process id, if it got so far as to say.
        pid: Option<u64>,
        /// Milliseconds waited.
        waited_ms: u64,
    },
    /// The name kept appearing and disappearing.
    #[error("segment {} was created and unlinked by others {attempts} times while this process tried to open \
        it; try again", name.display())]
    Raced {
        /// The path.
        name: PathBuf,
        /// Attempts made.
        attempts: u32,
    },
    /// The name belongs to another segment by now.
    #[error("{} names another file by now, so it was not removed; whoever made that one may unlink it", name.display())]
    NameReplaced {
        /// The path.
        name: PathBuf,
    },
    /// A message was not sent, and was freed: [`SendError`](crate::ipc::SendError) would have had it.
    #[error("a message was not sent: {why}")]
    NotSent {
        /// Why.
        why: crate::ipc::Unsent,
    },
    /// No message was received.
    #[error("no message was received: {why}")]
    NotReceived {
        /// Why.
        why: crate::ipc::Unreceived,
    },
    /// A map refused: where there was a message, it was freed, and [`InsertError`](crate::ipc::InsertError)
    /// would have had it.
    #[error("the map refused: {why}")]
    MapRefused {
        /// Why.
        why: crate::ipc::Refused,
    },
    /// A call has no response.
    #[error("the call failed: {why}")]
    CallFailed {
        /// Why.
        why: crate::ipc::Failed,
    },
    /// A response was not sent, and was freed: [`RespondError`](crate::ipc::RespondError) would have had it.
    #[error("the response was not sent: {why}")]
    NotAnswered {
        /// Why.
        why: crate::ipc::Unanswered,
    },
    /// A topic has as many subscribers as it was made for.
    #[error("the topic has {subscribers} subscribers, as many as it was made for; drop one, or make it with \
        more (TopicOptions::subscribers)")]
    NoSubscriberSlot {
        /// How many there may be.
        subscribers: u16,
    },
    /// The channel has one sender and one receiver at a time, and there is one.
    #[error("the channel has one {role} at a time, and participant {participant} is that; wait until it is dropped or \
        its process ends, or make the channel without ChannelOptions::single")]
    RoleTaken {
        /// "sender" or "receiver".
        role: &'static str,
        /// Who has it, as [`ParticipantId`](crate::ipc::ParticipantId) counts.
        participant: u16,
    },
    /// This process has a structure open, or sends or receives through it, as often as can be counted.
    #[error("this process holds {most} handles of one sort to the structure, as many as are counted; drop some, \
        or share one between threads")]
    TooManyHandles {
        /// How many there may be.
        most: u64,
    },
    /// The thread has the mutex already.
    #[error("this thread has locked the mutex already, and would wait for itself; drop its guard first")]
    LockedByCaller,
    /// A lossy subscriber was too slow.
    #[error("{missed} publications were overwritten before this subscriber read them, and it goes on at the oldest \
        that is there; read faster, or make the topic with more cells (TopicOptions::cells)")]
    Lagged {
        /// How many it has missed since what it read last.
        missed: u64,
    },
    /// Nobody publishes any more, and everything was read.
    #[error("the topic was removed, and all that was published is read; open or create it anew")]
    TopicClosed,
    /// A forked child tried to unlink its parent's segment.
    #[error(
        "process {caller} did not open this segment, process {opener} did (this is a forked child); unlink it \
            there, or attach anew in the child"
    )]
    ForkedChild {
        /// The process that opened it.
        opener: u32,
        /// The process that called.
        caller: u32,
    },
    /// The kernel refused huge pages.
    #[error(
        "the kernel refused huge pages for the segment (madvise(2): {source}); do without Options::huge_pages, \
            enable them in /sys/kernel/mm/transparent_hugepage, or use a path on hugetlbfs"
    )]
    HugePagesRefused {
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The segment's pages could not be brought into memory.
    #[error(
        "the segment's {bytes} bytes could not be brought into memory (madvise(2), MADV_POPULATE_WRITE, Linux \
            5.14: {source}); free memory, keep Options::reserve on, or do without Options::populate"
    )]
    NotPopulated {
        /// Bytes of the segment.
        bytes: u64,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Another failure of the system: a call was refused by the kernel or by a sandbox.
    #[error("could not {what}: {source}; {}", advice(source))]
    Io {
        /// What was tried, and with which call.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::HugePagesRefused { source } | Self::NotPopulated { source, .. } | Self::Io { source, .. } => {
                Some(source)
            }
            _ => None,
        }
    }
}

// An error travels through every fast path's return value: keep it within a cache line and a half.
const _: () = assert!(size_of::<Error>() <= 96);
