//! A segment that is mapped for reading alone: by whoever may not, or does not want to, change a
//! bit of it.
//!
//! It takes no lock and no slot, and nobody knows of it. Whoever has one calls nothing that writes
//! a word.

use super::header::SegmentHeader;
use super::layout::{Granule, Layout};
use super::life::{Descriptor, NO_LIFE};
use super::participant::{Participant, participants};
use super::region::{MappedRegion, Region, WordIndex};
use crate::backend::{Native, NativeWord};
use crate::error::{Error, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::ptr::NonNull;

/// The mapping and its words.
pub(crate) struct View {
    /// Over `map`, which never moves its memory and is dropped with it.
    region: MappedRegion,
    map: MmapRaw,
    header: SegmentHeader,
    /// To ask who lives: that takes no lock, and the right to read.
    descriptor: Descriptor,
}

impl View {
    /// Maps the file that the header describes.
    pub(super) fn new(file: File, header: SegmentHeader) -> Result<Self> {
        let failed = |source| Error::io(format!("map {} bytes with mmap(2) for reading", header.total), source);
        let length = usize::try_from(header.total).map_err(|_| failed(std::io::ErrorKind::OutOfMemory.into()))?;
        let map = MmapOptions::new().len(length).map_raw_read_only(&file).map_err(failed)?;
        let base = NonNull::new(map.as_mut_ptr()).filter(|_| header.layout.bytes() <= map.len() as u64);
        let short = || Error::Corrupt { what: "the mapping is shorter than the layout".to_owned() };
        // SAFETY: the mapping is page-aligned and has at least `layout.bytes()` bytes; it lives as
        // long as the region, in the same struct. It can't be written, and nothing that has a view
        // writes.
        let region = unsafe { MappedRegion::new(base.ok_or_else(short)?, header.layout.clone()) };
        Ok(Self { region, map, header, descriptor: Descriptor::new(file)? })
    }

    /// Everybody who holds a slot. Whoever can't be told to be dead lives.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        participants(self, |life| life == NO_LIFE || self.descriptor.tells_dead(life).unwrap_or(false))
    }

    /// What the segment says of itself.
    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Where the payload of a granule begins.
    pub(crate) fn address(&self, g: Granule) -> *mut u8 {
        let layout = self.region.layout();
        let at = layout.sector as usize + (g.index().min(layout.granules as usize) << layout.params.granule_shift);
        self.map.as_mut_ptr().wrapping_add(at)
    }
}

impl Region for View {
    type Backend = Native;
    fn layout(&self) -> &Layout {
        self.region.layout()
    }
    fn word(&self, index: WordIndex) -> &NativeWord {
        self.region.word(index)
    }
    fn touch(&self, _: Granule, _: u32) {}
    fn payload(&self, first: Granule, count: usize) -> Option<&[NativeWord]> {
        self.region.payload(first, count)
    }
}
