//! What is in a segment: counts, blocks, checks, and healing.

use super::handler::Handler;
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::kernel::nap;
use crate::matrix::block_header::State as BlockState;
use crate::matrix::heap::{Heap, Live};
use crate::matrix::size_class::of_size;
use crate::matrix::stats::{Fault, Tally};
use crate::matrix::sweep::Mended;
use crate::segment::layout::Layout;
use crate::segment::offsets::Offsets;
use crate::segment::region::Region;
use std::time::Duration;

/// Looks at a segment that may change meanwhile, before what looks like a fault is believed.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Looks again where a fault may be an operation in flight, which is gone at a later look. (It may be of a thread that
/// has ended for its scope: the blocks that it kept go home after that.) Nothing in flight explains blocks that do
/// not tile the sector.
pub(crate) fn look_patiently<T>(look: impl Fn() -> std::result::Result<T, Fault>) -> Result<T> {
    let mut looks = 1;
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(fault) if looks == LOOKS || matches!(fault, Fault::NotAHead { .. }) => {
                return Err(Error::Corrupt { what: fault.to_string() });
            }
            Err(_) => nap(BETWEEN_LOOKS),
        }
        looks += 1;
    }
}

/// What is in a segment at one moment. Bytes, unless a field says otherwise. Exact at rest; under load each block is
/// seen before or after whatever changes it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of the allocation sector.
    pub sector_bytes: u64,
    /// Bytes of a granule, the step of sizes.
    pub granule_bytes: u64,
    /// Live blocks.
    pub live_blocks: u64,
    /// Bytes in live blocks.
    pub live_bytes: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Bytes in free blocks.
    pub free_bytes: u64,
    /// Parked blocks: freed, and waiting unmerged for the next request of their size. They are not among the free
    /// ones: at rest, what is live, free, parked and in flight is the sector.
    pub parked_blocks: u64,
    /// Bytes in parked blocks.
    pub parked_bytes: u64,
    /// Blocks in the hands of an operation in flight.
    pub in_flight_blocks: u64,
    /// Bytes in them.
    pub in_flight_bytes: u64,
    /// The largest free block.
    pub largest_free: u64,
    /// External fragmentation: 1 − largest free / free; 0 when one block remains.
    pub fragmentation: f64,
    /// Shannon entropy of the free memory, in bits: −Σ p·log2 p over the free blocks' shares; 0 when one block remains.
    pub entropy_bits: f64,
    /// Pairs of free neighbours that are not merged: 0 at rest.
    pub missed_merges: u64,
}

/// One block of the sector, as [`Handler::blocks`] sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockInfo {
    /// Its offset, as [`RelativePtr::offset`](crate::RelativePtr::offset) says it.
    pub offset: u32,
    /// Bytes from the beginning of the sector to the block.
    pub position: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The smallest size of its size class, in bytes: all blocks of a class have the same.
    pub class_bytes: u64,
    /// Its state.
    pub state: BlockState,
    /// The participant that owns, parked or works on it; 0 is nobody, [`LINKED`](crate::LINKED) a structure,
    /// [`KEPT`](crate::KEPT) a dead one whose
    /// blocks were kept.
    pub owner: u16,
    /// Its generation.
    pub generation: u32,
    /// The fingerprint of its type, if it is live and typed.
    pub fingerprint: Option<u32>,
}

/// What [`Handler::repair`] had to mend: nothing, unless the segment was damaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Blocks that were set aside: stretches of the sector in which no block began although one should have.
    /// Nobody can tell whether somebody uses them, so they are live blocks from now on, owned by
    /// [`KEPT`](crate::KEPT), which are not handed out again. Whoever knows that nobody does frees them
    /// ([`Handler::orphans`] lists them).
    pub set_aside_blocks: u64,
    /// Bytes in them.
    pub set_aside_bytes: u64,
    /// Free blocks that reached over another block, and end before it now.
    pub shortened_blocks: u64,
}

impl Stats {
    pub(crate) fn of(layout: &Layout, tally: &Tally) -> Self {
        let bytes = |granules: u64| granules << layout.params.granule_shift;
        Self {
            sector_bytes: bytes(layout.granules as u64),
            granule_bytes: layout.params.granule() as u64,
            live_blocks: tally.live.blocks,
            live_bytes: bytes(tally.live.granules),
            free_blocks: tally.free.blocks,
            free_bytes: bytes(tally.free.granules),
            parked_blocks: tally.parked.blocks,
            parked_bytes: bytes(tally.parked.granules),
            in_flight_blocks: tally.in_flight.blocks,
            in_flight_bytes: bytes(tally.in_flight.granules),
            largest_free: bytes(tally.largest_free),
            fragmentation: tally.fragmentation(),
            entropy_bits: tally.entropy_bits(),
            missed_merges: tally.missed_merges,
        }
    }
}

/// Each block of a heap, as [`Handler::blocks`].
pub(crate) fn each_block<R: Region>(heap: &Heap<R>, offsets: Offsets, mut visit: impl FnMut(BlockInfo)) -> Result<()> {
    let shift = heap.layout().params.granule_shift;
    let walked = heap.walk(|at, header| {
        visit(BlockInfo {
            offset: offsets.offset(at),
            position: (at.0 as u64) << shift,
            bytes: (header.size() as u64) << shift,
            class_bytes: (of_size(header.size()).size() as u64) << shift,
            state: header.state(),
            owner: header.holder(),
            generation: header.generation(),
            fingerprint: heap.fingerprint(Live { at, header }),
        });
    });
    walked.map_err(|fault| Error::Corrupt { what: fault.to_string() })
}

impl Handler {
    /// Merges all that is free or parked, whoever parked it. O(blocks).
    ///
    /// Where the blocks do not tile the sector (a program has stored where it should not, say), what is damaged is
    /// set aside, without touching anybody's block: [`Handler::repair`] tells how much. Then everything else can be
    /// used on.
    ///
    /// # Errors
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`]; [`Error::NoMembarrier`] if blocks that other
    /// threads have parked could not be taken, because the call is refused by now: the others are merged.
    /// [`Error::Corrupt`] if there is damage that could not be set aside: less than 64 bytes, or beside blocks that
    /// never stood still.
    pub fn heal(&self) -> Result<()> {
        self.repair().map(drop)
    }

    /// [Heals](Handler::heal), and tells what was damaged. O(blocks), and O(bytes) where something was.
    ///
    /// # Errors
    /// As for [`Handler::heal`].
    pub fn repair(&self) -> Result<Repaired> {
        let healed = Native::noting_refused_fences(|| self.matrix.with_cache(|cache| self.matrix.heap().repair(cache)));
        match healed {
            (Ok(_), true) => Err(Error::NoMembarrier),
            (Ok(Mended { left: Some(fault), .. }), _) => Err(Error::Corrupt { what: fault.to_string() }),
            (Ok(mended), _) => Ok(Repaired {
                set_aside_blocks: mended.set_aside.blocks,
                set_aside_bytes: mended.set_aside.granules << self.matrix.heap().layout().params.granule_shift,
                shortened_blocks: mended.shortened,
            }),
            (Err(error), _) => Err(error),
        }
    }

    /// Counts what is in the segment. O(blocks); reads only.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the blocks do not tile the sector.
    pub fn stats(&self) -> Result<Stats> {
        let tally = self.matrix.heap().tally().map_err(|fault| Error::Corrupt { what: fault.to_string() })?;
        Ok(Stats::of(self.matrix.heap().layout(), &tally))
    }

    /// Calls `visit` for each block, in the order of the sector; O(blocks), reads only. Under load each block
    /// is seen before or after whatever changes it, and blocks may overlap or leave gaps where they were
    /// merged or cut meanwhile.
    ///
    /// ```
    /// # use atomic_matrix::handlers::HandlerFunctions;
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let block = handler.allocate::<[u8; 100]>()?;
    /// let mut found = None;
    /// handler.blocks(|info| if info.offset == block.offset() { found = Some(info) })?;
    /// assert_eq!(found.map(|info| info.bytes), Some(112));
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the blocks do not tile the sector; those before the fault have been visited.
    pub fn blocks(&self, visit: impl FnMut(BlockInfo)) -> Result<()> {
        each_block(self.matrix.heap(), self.matrix.offsets(), visit)
    }

    /// Walks the sector and checks it: blocks tile it, every free block is hinted on every level, no two free
    /// neighbours are left unmerged. O(blocks); reads only. To be called at rest: operations in flight may
    /// look like faults, so what looks like one is looked at up to ten times, 10 ms apart.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the first fault of the last look, if each found one.
    pub fn verify(&self) -> Result<Stats> {
        let tally = look_patiently(|| self.matrix.heap().verify())?;
        Ok(Stats::of(self.matrix.heap().layout(), &tally))
    }

    /// The state of the block that begins at an offset: FREE → ALLOCATED → ACKED → COALESCING → FREE. `Inside` where no
    /// block begins; `Typed` and `TypedSmall` are live as `Allocated` is; `Marked` is parked as `Acked` is.
    ///
    /// # Errors
    /// [`Error::BadOffset`].
    pub fn state_at(&self, offset: u32) -> Result<BlockState> {
        Ok(self.matrix.heap().look(self.granule(offset)?).state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// How many looks are taken, and what they come to, if one is clean and all others find this.
    fn looks(clean: u32, fault: Fault) -> (u32, bool) {
        let looks = Cell::new(0);
        let seen = look_patiently(|| {
            looks.set(looks.get() + 1);
            if looks.get() == clean { Ok(()) } else { Err(fault) }
        });
        (looks.get(), seen.is_ok())
    }

    #[test]
    fn what_is_seen_at_each_look_is_a_fault() {
        let header = crate::matrix::block_header::Header(0);
        let passing = [
            Fault::NotHinted { granule: 1, header },
            Fault::MissedMerge { pairs: 7 },
            Fault::OfNobody { granule: 1, header },
            Fault::Stray { what: "a word", word: 3 },
            Fault::Uncovered { covered: 1, granules: 2 },
        ];
        assert_eq!(passing.map(|fault| looks(2, fault)), [(2, true); 5], "what may pass is looked at again");
        assert_eq!((looks(LOOKS, passing[0]), looks(LOOKS + 1, passing[0])), ((LOOKS, true), (LOOKS, false)));
        assert_eq!(looks(2, Fault::NotAHead { granule: 1, header }), (1, false), "nothing in flight explains this one");
    }

    /// A scope waits for what its threads were to do. What they do as they end comes later: blocks go home.
    #[test]
    fn a_scopes_threads_may_be_ending_while_the_segment_is_verified() {
        let handler = crate::segment::Options::new().memfd().size(8 << 20).create().expect("created");
        for _ in 0..300 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let blocks: Vec<_> =
                        (0..500).map(|i| handler.allocate_raw(i % 7 * 900 + 16).expect("room")).collect();
                    blocks.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
                });
            });
            assert_eq!(handler.verify().expect("sound").live_blocks, 0);
        }
    }
}
