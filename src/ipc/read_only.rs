//! A segment attached to for reading alone: its names, the values under them, boards and topics, as
//! copies.
//!
//! ```
//! use atomic_matrix::Options;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! # let name = format!("read only {}", std::process::id());
//! let camera = Options::new().name(&name).size(1 << 20).mode(0o644).create()?;
//! camera.board::<[u32; 2]>("limits")?.set([10, 20])?;
//! let looker = Options::new().name(&name).attach_read_only()?; // another user may do that
//! assert_eq!(looker.latest::<[u32; 2]>("limits")?, Some((1, [10, 20])));
//! # camera.unlink()
//! # }
//! ```
//!
//! It is mapped without the right to write, so nothing that this process does can damage it. It takes
//! no slot and no lock: it is never recovered, keeps nothing alive, holds nobody up, and nobody knows of
//! it.
//!
//! So it *can't promise* what a participant can: no value waits for it. A copy that was overwritten
//! meanwhile is made anew; publications of a topic that it does not come to in time are gone. A block that
//! is published under a name may be written by its owner while it is copied: such a copy is a mixture, as
//! with [`Handler::read_ref`](crate::Handler::read_ref). It trusts the segment's owner: one who cuts the file
//! ends its readers by SIGBUS ([`Options::trust_owner`]). And whoever may read a file may lock it: one who
//! means harm can keep newcomers out by that, and the dead unrecovered; what is in the segment he can't
//! change.

use super::board::Board;
use super::copied::{copied_items, copied_value};
use super::inspect::{ContentInfo, StructureInfo, contents, structures};
use super::log::Log;
use super::payload::Payload;
use super::structure::{Sort, Structure};
use crate::backend::orderings::COPY_FENCE;
use crate::backend::{Backend, Native, payload};
use crate::error::{Error, Result};
use crate::handlers::{BlockInfo, Name, Participant, Stats, check_name, each_block, look_patiently, refused};
use crate::matrix::heap::{Heap, Live};
use crate::segment::directory::{Directory, NamedBlock};
use crate::segment::offsets::Offsets;
use crate::segment::{Options, View};
use crate::shared::Shared;
use std::any::type_name;
use std::num::NonZeroU64;
use uuid::Uuid;

/// What a segment was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Bytes of its file.
    pub bytes: u64,
    /// Bytes of its allocation sector.
    pub sector_bytes: u64,
    /// Bytes of a granule, the step of sizes.
    pub granule_bytes: u64,
    /// Bytes of one step of an offset.
    pub offset_unit: u64,
    /// Slots for participants.
    pub participants: u64,
    /// Names that there is room for.
    pub directory_entries: u64,
    /// Nothing is parked.
    pub strict: bool,
    /// Live blocks of the dead are kept.
    pub keeps_orphans: bool,
}

/// A segment that this process can look at, and can't change. Any thread may use it.
pub struct ReadOnly {
    heap: Heap<View>,
    offsets: Offsets,
}

impl Options {
    /// Attaches to an existing segment for reading alone: the right to read its file is enough. The
    /// dead are not recovered.
    ///
    /// # Errors
    /// As [`Options::attach`]; [`Error::WrongOwner`] for another user's segment, unless it is said
    /// that this one is trusted ([`Options::trust_owner`]); [`Error::BadOption`] for a descriptor.
    pub fn attach_read_only(&self) -> Result<ReadOnly> {
        let heap = Heap::new(self.view()?);
        if !heap.has_sentinel() {
            return Err(Error::Corrupt { what: "the header behind the last granule is not as it was made".to_owned() });
        }
        let (layout, total) = (heap.layout(), heap.region().header().total);
        let unit_shift = if total <= 1 << 32 { 0 } else { layout.params.granule_shift };
        Ok(ReadOnly { offsets: Offsets::new(layout, unit_shift), heap })
    }
}

impl ReadOnly {
    /// The segment's id.
    pub fn id(&self) -> Uuid {
        self.heap.region().header().id
    }

    /// As [`Handler::creation`](crate::Handler::creation).
    pub fn creation(&self) -> NonZeroU64 {
        self.heap.region().header().creation
    }

    /// Counts what is in the segment. O(blocks).
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the blocks do not tile the sector.
    pub fn stats(&self) -> Result<Stats> {
        let tally = self.heap.tally().map_err(|fault| Error::Corrupt { what: fault.to_string() })?;
        Ok(Stats::of(self.heap.layout(), &tally))
    }

    /// What the segment was made with.
    pub fn info(&self) -> SegmentInfo {
        let (header, params) = (self.heap.region().header(), self.heap.layout().params);
        SegmentInfo {
            bytes: header.total,
            sector_bytes: u64::from(self.heap.layout().granules) << params.granule_shift,
            granule_bytes: params.granule() as u64,
            offset_unit: if header.total <= 1 << 32 { 1 } else { params.granule() as u64 },
            participants: params.participants as u64,
            directory_entries: params.directory as u64,
            strict: header.strict,
            keeps_orphans: header.keep,
        }
    }

    /// As [`Handler::verify`](crate::Handler::verify).
    ///
    /// # Errors
    /// As [`Handler::verify`](crate::Handler::verify).
    pub fn verify(&self) -> Result<Stats> {
        let tally = look_patiently(|| self.heap.verify())?;
        Ok(Stats::of(self.heap.layout(), &tally))
    }

    /// Each block, as [`Handler::blocks`](crate::Handler::blocks).
    ///
    /// # Errors
    /// As [`Handler::blocks`](crate::Handler::blocks).
    pub fn blocks(&self, visit: impl FnMut(BlockInfo)) -> Result<()> {
        each_block(&self.heap, self.offsets, visit)
    }

    /// Who uses the segment, as [`Handler::participants`](crate::Handler::participants).
    pub fn participants(&self) -> Vec<Participant> {
        self.heap.region().participants()
    }

    /// The structures that there are, as [`Handler::structures`](crate::Handler::structures).
    ///
    /// # Errors
    /// As [`Handler::blocks`](crate::Handler::blocks).
    pub fn structures(&self) -> Result<Vec<StructureInfo>> {
        structures(&self.heap, self.offsets)
    }

    /// What is in a channel, a topic or a board, as [`Handler::contents`](crate::Handler::contents).
    pub fn contents(&self, structure: &StructureInfo, most: usize) -> Vec<ContentInfo> {
        contents(&self.heap, self.offsets, structure.offset, |g, bytes| {
            let mut first = vec![0; bytes.min(most)];
            // SAFETY: the block was live and has as many bytes, inside the mapping; copies are atomic byte for byte.
            unsafe { payload::copy_out(self.heap.region().address(g), &mut first) };
            first
        })
    }

    /// Everything that is published just now, in no particular order.
    pub fn names(&self) -> Vec<Name> {
        let mut names = vec![];
        Directory(self.heap.region()).each(|name, entry| {
            let NamedBlock { offset, generation, fingerprint } = entry;
            let (name, live) = (String::from_utf8_lossy(name).into_owned(), self.live(entry).is_ok());
            names.push(Name { name, offset, generation, fingerprint, live });
        });
        names
    }

    /// A copy of the value that is published under a name. A mixture if its owner writes it meanwhile.
    ///
    /// # Errors
    /// [`Error::NameUnknown`], [`Error::NameTooLong`], [`Error::BadOption`] for the empty name,
    /// [`Error::TypeMismatch`], [`Error::NotLive`] or [`Error::Stale`] if it was freed, be it meanwhile.
    pub fn read<T: Shared>(&self, name: &str) -> Result<T> {
        self.published(name, |live| self.copy_value(live))
    }

    /// A copy of the items that are published under a name, as [`ReadOnly::read`].
    ///
    /// # Errors
    /// As [`ReadOnly::read`].
    pub fn read_items<T: Shared>(&self, name: &str) -> Result<Vec<T>> {
        self.published(name, |live| self.copy_items(live))
    }

    /// A copy of the newest value of a board, or of what was published last in a topic, and which
    /// of all that ever were it is, from 1 on; none if there is none. Never torn. Lock-free: it
    /// begins anew if it was overwritten meanwhile.
    ///
    /// # Errors
    /// [`Error::NameUnknown`], [`Error::NameTooLong`], [`Error::BadOption`] for the empty name;
    /// [`Error::TypeMismatch`] if what has that name is no board or topic of this type.
    pub fn latest<T: Shared>(&self, name: &str) -> Result<Option<(u64, T)>> {
        self.newest::<T, _>(name, |live| self.copy_value(live))
    }

    /// As [`ReadOnly::latest`], for items.
    ///
    /// # Errors
    /// As [`ReadOnly::latest`].
    pub fn latest_items<T: Shared>(&self, name: &str) -> Result<Option<(u64, Vec<T>)>> {
        self.newest::<[T], _>(name, |live| self.copy_items(live))
    }

    fn live(&self, entry: NamedBlock) -> Result<Live> {
        let live = self.heap.live_of(self.offsets.granule(entry.offset), Some(entry.generation));
        live.map_err(|refusal| refused(entry.offset, refusal))
    }

    fn entry(&self, name: &str) -> Result<NamedBlock> {
        check_name(name)?;
        let found = Directory(self.heap.region()).find_unhelped(name.as_bytes());
        found.ok_or_else(|| Error::NameUnknown { name: name.to_owned() })
    }

    fn published<V>(&self, name: &str, copy: impl FnOnce(Live) -> Result<V>) -> Result<V> {
        let entry = self.entry(name)?;
        let copied = copy(self.live(entry)?).map_err(|error| error.of_name(name))?;
        Native::fence(&COPY_FENCE);
        self.live(entry).map(|_| copied)
    }

    fn newest<T: Payload + ?Sized, V>(&self, name: &str, copy: impl Fn(Live) -> Result<V>) -> Result<Option<(u64, V)>> {
        let entry = self.entry(name)?;
        let live = self.live(entry)?;
        let found = Structure::at(&self.heap, live);
        let fits = |found: &Structure<'_, View>| {
            matches!(found.shape.sort, Sort::Topic | Sort::Board) && found.shape.content == T::FINGERPRINT
        };
        let Some(structure) = found.filter(fits) else {
            let found = found.map(|found| (found.shape.sort, found.shape.content));
            let (at, sorts) = ((Some(name), entry.offset), [Sort::Topic, Sort::Board]);
            return Err(Error::not_the_structure(type_name::<Board<T>>(), at, &sorts, T::FINGERPRINT, found));
        };
        let log = Log::of(structure);
        while let Some((block, link, ticket)) = log.newest_unhelped() {
            let copied = copy(block);
            if log.is_still_at(ticket, link) {
                // The structure was there all the while: no other one has its words.
                self.live(entry)?;
                return copied.map(|value| Some((ticket + 1, value)));
            }
            self.live(entry)?;
        }
        self.live(entry).map(|_| None)
    }

    fn copy_value<T: Shared>(&self, live: Live) -> Result<T> {
        copied_value(&self.heap, live, self.offsets.offset(live.at), self.heap.region().address(live.at))
    }

    fn copy_items<T: Shared>(&self, live: Live) -> Result<Vec<T>> {
        copied_items::<T, [T], _>(&self.heap, live, self.offsets.offset(live.at), self.heap.region().address(live.at))
    }
}
