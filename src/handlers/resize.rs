//! Blocks change their size: where they are, or by moving.

use super::handler::Handler;
use super::pointer::RelativePtr;
use crate::backend::payload;
use crate::error::{Error, Result};
use crate::matrix::heap::{Kind, Live};
use crate::segment::layout::SECTOR_ALIGN;
use std::alloc::Layout;

/// Bytes that are copied at once where others may be writing them.
const PIECE: usize = 4096;

impl Handler {
    /// Gives a block another size, and this alignment (up to 4096 bytes): the block as it is now. What it
    /// holds is kept, up to the smaller of both sizes.
    ///
    /// A block of this thread's own grows where it is, if what is free behind it is enough, and no larger
    /// than the block will be (a larger hole is left whole); it shrinks where it is. Otherwise it is moved:
    /// allocated anew, copied, and freed. O(1) where it stays, O(bytes) where it moves.
    ///
    /// To everybody else, who keeps an older pointer or offset, the block was freed, here and now: its
    /// generation is another. The caller vouches that nobody holds it as a
    /// [`Message`](crate::ipc::Message). Killed in the middle of this call, its owner leaves no block, also
    /// where blocks of the dead are kept.
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let block = handler.allocate_raw(100)?;
    /// handler.store_bytes(&block, b"stays")?;
    /// let block = handler.resize(block, Layout::array::<u8>(5000).expect("small"))?;
    /// let mut kept = [0; 5];
    /// handler.load_bytes(&block, &mut kept)?;
    /// assert_eq!(&kept, b"stays");
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::free_raw`] and [`Handler::allocate_layout`]; [`Error::InStructure`]. Nothing has changed then.
    pub fn resize(&self, pointer: RelativePtr<u8>, layout: Layout) -> Result<RelativePtr<u8>> {
        self.resize_with(pointer, layout, |from, to, bytes| {
            let mut piece = [0; PIECE];
            for at in (0..bytes).step_by(PIECE) {
                let piece = &mut piece[..(bytes - at).min(PIECE)];
                // SAFETY: both blocks are live and have that many bytes; copies are atomic byte for byte.
                unsafe {
                    payload::copy_out(from.wrapping_add(at), piece);
                    payload::copy_in(piece, to.wrapping_add(at));
                }
            }
        })
    }

    /// As [`Handler::resize`]; `copy` copies so many bytes from one block to another.
    pub(crate) fn resize_with(
        &self,
        pointer: RelativePtr<u8>,
        layout: Layout,
        copy: impl FnOnce(*const u8, *mut u8, usize),
    ) -> Result<RelativePtr<u8>> {
        let live = self.live(&pointer)?;
        self.refuse_structures(pointer.offset, live)?;
        if layout.align() > SECTOR_ALIGN {
            return Err(Error::BadAlignment { requested: layout.align(), largest: SECTOR_ALIGN });
        }
        let has = self.bytes(live);
        let is_aligned = self.address(pointer.offset).addr().is_multiple_of(layout.align());
        if layout.size() > 0 && is_aligned {
            if let Some(resized) = self.resize_in_place(live, layout.size())? {
                return Ok(self.pointer(resized));
            }
            if layout.size() <= has {
                return Ok(pointer);
            }
        }
        let kind = self.matrix.heap().fingerprint(live).map_or(Kind::Raw, Kind::Typed);
        let moved: RelativePtr<u8> = self.allocate_bytes(layout.size(), layout.align(), kind)?;
        copy(self.address(pointer.offset), self.address(moved.offset), has.min(layout.size()));
        match self.free_pointer(&pointer, kind != Kind::Raw) {
            Ok(()) => Ok(moved),
            Err(error) => {
                let _ = self.free_pointer(&moved, kind != Kind::Raw);
                Err(error)
            }
        }
    }

    /// None if the block is not this thread's, or there is no room behind it; nothing has changed then.
    fn resize_in_place(&self, live: Live, bytes: usize) -> Result<Option<Live>> {
        let heap = self.matrix.heap();
        let granules = (bytes as u64).div_ceil(1 << heap.layout().params.granule_shift);
        if granules > u64::from(heap.layout().granules) {
            return Err(Error::TooLarge { requested: bytes as u64, largest: self.sector_bytes() });
        }
        self.matrix.with_cache(|cache| heap.resizing().resize(cache, live, granules as u32))
    }

    /// Makes this process's own live block one of this kind: raw, or typed.
    ///
    /// # Errors
    /// As [`Handler::adopt_at`].
    #[cfg(feature = "allocator-api2")]
    pub(crate) fn label(&self, pointer: &RelativePtr<u8>, kind: Kind) -> Result<RelativePtr<u8>> {
        // It may be another thread's, which would free it by a plain store.
        let mine = self.adopt_at(pointer.offset, Some(pointer.generation()))?;
        let live = self.live(&mine)?;
        let labelled = self.matrix.with_cache(|cache| self.matrix.heap().resizing().label_as(cache, live, kind))?;
        let gone = || Error::NotLive { offset: pointer.offset, state: self.matrix.heap().look(live.at).state().name() };
        labelled.map(|live| self.pointer(live)).ok_or_else(gone)
    }

    /// The live block that begins at an address in this process: the other way round from [`Handler::resolve`].
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let block = handler.allocate_raw(100)?;
    /// let address = handler.resolve(&block);
    /// assert_eq!(handler.pointer_to(address)?, block);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BadOffset`] if no block can begin there, [`Error::NotLive`].
    pub fn pointer_to(&self, address: *const u8) -> Result<RelativePtr<u8>> {
        let segment = self.matrix.segment();
        let bytes = address.addr().wrapping_sub(segment.base().addr().get());
        let offset = (bytes >> self.matrix.offset_shift()) as u32;
        if bytes >= segment.len() {
            return Err(Error::BadOffset { offset: 0, why: "the address is none of this segment's" });
        }
        if !bytes.is_multiple_of(self.offset_unit()) {
            return Err(Error::BadOffset { offset, why: "no block can begin there: it is not at a granule" });
        }
        Ok(self.pointer(self.live_at(offset)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Options;

    fn handler() -> Handler {
        Options::new().memfd().size(4 << 20).create().expect("created")
    }

    /// S1: as many bytes are copied as both blocks have, whatever lies behind them.
    #[test]
    fn s1_a_block_that_moves_takes_its_own_bytes_with_it() {
        let made = handler();
        let filled = |bytes: usize, with: u8| {
            let block = made.allocate_raw(bytes).expect("room");
            made.store_bytes(&block, &vec![with; bytes]).expect("it is live");
            block
        };
        let (one, block, other) = (filled(20_000, 2), filled(5008, 1), filled(20_000, 2));
        let behind = |other: u32| (5008..5200).contains(&other.wrapping_sub(block.offset()));
        assert!(behind(one.offset()) || behind(other.offset()), "one behind the other");
        let moved = made.resize(block, Layout::array::<u8>(12_000).expect("small")).expect("room");
        let mut bytes = vec![0; 12_000];
        made.load_bytes(&moved, &mut bytes).expect("it is live");
        assert!(bytes[..5008].iter().all(|&byte| byte == 1) && !bytes.contains(&2));
    }

    /// Typed or not, a block that moves is freed, and what it becomes is of its kind.
    #[test]
    fn s1_a_block_that_moves_keeps_its_kind_and_leaves_its_place() {
        let made = handler();
        let live_blocks = || made.stats().expect("sound").live_blocks;
        for size in [100, 5000] {
            let raw = made.allocate_raw(size).expect("room");
            let typed = made.allocate_bytes::<u8>(size, 8, Kind::Typed(77)).expect("room");
            let _between = made.allocate_raw(size).expect("room");
            for (pointer, kind) in [(raw, None), (typed, Some(77))] {
                let before = live_blocks();
                let moved = made.resize(pointer, Layout::array::<u8>(8 * size).expect("small")).expect("room");
                assert!(moved.offset() != pointer.offset() && live_blocks() == before);
                assert_eq!(made.matrix().heap().fingerprint(made.live(&moved).expect("it is live")), kind);
                made.free_pointer(&moved, kind.is_some()).expect("it is ours");
            }
        }
    }

    /// The block is freed by somebody who had no right to while it moves: neither it nor its copy is left.
    #[test]
    fn s1_a_move_that_fails_leaves_nothing() {
        let made = handler();
        let live_blocks = || made.stats().expect("sound").live_blocks;
        for kind in [Kind::Raw, Kind::Typed(77)] {
            for size in [100, 5000] {
                let before = live_blocks();
                let pointer = made.allocate_bytes::<u8>(size, 8, kind).expect("room");
                let _behind = made.allocate_raw(64).expect("room");
                let layout = Layout::array::<u8>(8 * size).expect("small");
                let frees = |_, _, _| made.free_at(pointer.offset()).expect("it is live");
                assert!(matches!(
                    made.resize_with(pointer, layout, frees),
                    Err(Error::NotLive { .. } | Error::Stale { .. })
                ));
                assert_eq!(live_blocks(), before + 1);
            }
        }
    }

    /// In a segment whose offsets are granules, too.
    #[test]
    fn s1_an_address_leads_to_its_block_in_a_large_segment() {
        let large = Options::new().memfd().size(5 << 30).reserve(false).create().expect("created");
        assert!(large.matrix().segment().offset_unit() > 1);
        let block = large.allocate_raw(100).expect("room");
        let address = large.resolve(&block);
        assert_eq!(large.pointer_to(address).expect("it begins there"), block);
        let refused = large.pointer_to(address.wrapping_add(1));
        assert!(matches!(refused, Err(Error::BadOffset { offset, .. }) if offset == block.offset()));
    }
}
