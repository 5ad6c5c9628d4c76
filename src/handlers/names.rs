//! Names: blocks are published, looked up and taken.

use super::handler::Handler;
use super::ownership::until_settled;
use super::pointer::{Block, RelativePtr};
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::matrix::heap::Live;
use crate::segment::directory::{Directory, NAME_LIMIT, NamedBlock, NotPublished, Published};
use crate::segment::region::MappedRegion;
use crate::shared::Shared;

/// A published name, as [`Handler::names`] sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Name {
    /// The name.
    pub name: String,
    /// The block's offset, as [`RelativePtr::offset`](crate::RelativePtr::offset) says it.
    pub offset: u32,
    /// The block's generation.
    pub generation: u32,
    /// The fingerprint of its type, if it is typed.
    pub fingerprint: Option<u32>,
    /// Whether that block is still live: not freed since it was published.
    pub live: bool,
}

impl Handler {
    /// Publishes a live block under a name of at most 96 bytes, so that other processes find it. The block
    /// then belongs to nobody: it survives its maker, until somebody adopts or frees it. Publish what is your
    /// own or unowned: a block that another process owns would be taken from it. O(directory entries); a small block
    /// of another thread costs what it costs to adopt it ([`Handler::adopt_at`]).
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NameTooLong`], [`Error::BadOption`] for the empty name,
    /// [`Error::DirectoryFull`]; for the block [`Error::ForeignBlock`], [`Error::BadOffset`], [`Error::NotLive`],
    /// [`Error::Stale`] or [`Error::ChangingHands`] (after half a second, twice at most); [`Error::NoMembarrier`] if
    /// it is another thread's and the call is refused by now; [`Error::NoParticipantSlot`] and [`Error::ForkedChild`].
    pub fn publish<T>(&self, name: &str, block: &Block<T>) -> Result<()> {
        self.publish_as(name, &block.pointer.cast(), false).map(|_| ())
    }

    /// Publishes a live block under a name that is free, or `replaces` what it stands for: what that was.
    pub(crate) fn publish_as(&self, name: &str, block: &RelativePtr<u8>, replaces: bool) -> Result<Option<NamedBlock>> {
        check_name(name)?;
        // Whose it is has to be known, so that nobody else's is taken.
        let mut found = self.live(block);
        until_settled(|| {
            found = self.live(block);
            !found.as_ref().is_ok_and(|live| live.is_changing_hands())
        });
        let live = found?;
        if live.is_changing_hands() {
            return Err(Error::ChangingHands { offset: block.offset(), participant: live.header.holder() });
        }
        let fingerprint = self.matrix.heap().fingerprint(live);
        let entry = NamedBlock { offset: block.offset(), generation: block.generation(), fingerprint };
        let heap = self.matrix.heap();
        let publish = |owner| {
            let (mut given, old) = match replaces {
                true => heap.ownership().replace(owner, name.as_bytes(), live, entry)?,
                false => (heap.ownership().publish(owner, name.as_bytes(), live, entry)?, None),
            };
            // Without a fence it stays its owner's, however long that is waited for.
            let settled = || {
                given = given || heap.ownership().publish_given(owner, live);
                given || Native::fence_was_refused()
            };
            until_settled(settled);
            Ok((given, old))
        };
        let publish = || self.matrix.with_cache(|cache| publish(cache.owner()));
        let (given, no_fence) = Native::noting_refused_fences(publish);
        let (given, old) = given?.map_err(|refused| match refused {
            NotPublished::Taken => Error::NameTaken { name: name.to_owned() },
            NotPublished::Full => Error::DirectoryFull { entries: heap.layout().params.directory },
        })?;
        if given {
            return Ok(old);
        }
        if let Some(found) = self.directory().lookup(name.as_bytes()).filter(|found| found.block == entry) {
            self.directory().withdraw_this(found);
        }
        if no_fence {
            return Err(Error::NoMembarrier);
        }
        Err(Error::ChangingHands { offset: entry.offset, participant: heap.look(live.at).holder() })
    }

    /// The block published under a name. O(directory entries).
    ///
    /// # Errors
    /// [`Error::NameUnknown`], [`Error::NameTooLong`], [`Error::BadOption`] for the empty name,
    /// [`Error::TypeMismatch`], [`Error::TooSmall`], and [`Error::NotLive`] or [`Error::Stale`] if the block was freed
    /// since.
    pub fn lookup<T: Shared>(&self, name: &str) -> Result<Block<T>> {
        self.find_published(name).map(|(block, _)| block)
    }

    /// What is published under a name.
    pub(crate) fn published_under(&self, name: &str) -> Result<NamedBlock> {
        check_name(name)?;
        let found = self.directory().lookup(name.as_bytes());
        found.map(|found| found.block).ok_or_else(|| Error::NameUnknown { name: name.to_owned() })
    }

    fn find_published<T: Shared>(&self, name: &str) -> Result<(Block<T>, Published)> {
        check_name(name)?;
        let found = self.directory().lookup(name.as_bytes());
        let found = found.ok_or_else(|| Error::NameUnknown { name: name.to_owned() })?;
        let NamedBlock { offset, generation: expected, .. } = found.block;
        let block = self.get_block::<T>(offset).map_err(|error| error.of_name(name))?;
        if block.generation() != expected {
            return Err(Error::Stale { offset, expected, found: block.generation() });
        }
        Ok((block, found))
    }

    /// Takes the block published under a name: of all who try, one gets it, and owns it from then on. The
    /// name is free again. O(directory entries).
    ///
    /// # Errors
    /// As [`Handler::lookup`]; [`Error::NameUnknown`] also if somebody else takes it at the same moment, or has adopted
    /// it since; [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn take<T: Shared>(&self, name: &str) -> Result<Block<T>> {
        let (block, found) = self.find_published::<T>(name)?;
        let live = self.live(&block.pointer)?;
        Ok(Block { pointer: self.take_found(name, live, found)? })
    }

    /// As [`Handler::take`], for a block whose type `check` looks at.
    pub(crate) fn take_checked(&self, name: &str, check: impl FnOnce(Live) -> Result<()>) -> Result<RelativePtr<u8>> {
        check_name(name)?;
        let found = self.directory().lookup(name.as_bytes());
        let found = found.ok_or_else(|| Error::NameUnknown { name: name.to_owned() })?;
        let live = self.live_of(found.block.offset, Some(found.block.generation))?;
        check(live)?;
        self.take_found(name, live, found)
    }

    fn take_found<T>(&self, name: &str, live: Live, found: Published) -> Result<RelativePtr<T>> {
        let take = |owner| self.matrix.heap().ownership().take_published(owner, live, found).then(|| live.of(owner));
        let won = self.matrix.with_cache(|cache| take(cache.owner()))?;
        let ours = won.ok_or_else(|| Error::NameUnknown { name: name.to_owned() })?;
        Ok(self.pointer(ours))
    }

    /// Withdraws a name. The block stays allocated. O(directory entries).
    ///
    /// # Errors
    /// [`Error::NameUnknown`], [`Error::NameTooLong`], [`Error::BadOption`] for the empty name,
    /// [`Error::ForkedChild`].
    pub fn withdraw(&self, name: &str) -> Result<()> {
        self.matrix.check_process()?;
        check_name(name)?;
        let withdrawn = self.directory().withdraw(name.as_bytes());
        if withdrawn { Ok(()) } else { Err(Error::NameUnknown { name: name.to_owned() }) }
    }

    /// Everything that is published just now, in no particular order. O(directory entries); reads only.
    pub fn names(&self) -> Vec<Name> {
        let mut names = vec![];
        self.directory().each(|name, entry| {
            let live = self.live_at(entry.offset).is_ok_and(|live| live.header.generation() == entry.generation);
            let NamedBlock { offset, generation, fingerprint } = entry;
            names.push(Name {
                name: String::from_utf8_lossy(name).into_owned(),
                offset,
                generation,
                fingerprint,
                live,
            });
        });
        names
    }

    fn directory(&self) -> Directory<'_, MappedRegion> {
        Directory(self.matrix.heap().region())
    }
}

/// Whether a name is one that the directory can hold.
pub(crate) fn check_name(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(Error::BadOption {
            option: "name",
            found: "it is empty".to_owned(),
            allowed: "names have 1 to 96 bytes",
        }),
        1..=NAME_LIMIT => Ok(()),
        length => Err(Error::NameTooLong { name: name.to_owned(), length, limit: NAME_LIMIT }),
    }
}
