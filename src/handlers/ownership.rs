//! Whose a block is: handing over, adopting, and what the dead leave.

use super::handler::Handler;
use super::inspect::BlockInfo;
use super::pointer::RelativePtr;
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::kernel::nap;
use crate::matrix::block_header::{KEPT, State as BlockState, is_adopter};
use crate::matrix::heap::{Live, Refusal};
use crate::matrix::recovery::{Policy, Recovered};
use crate::segment::Participant;
use std::time::{Duration, Instant};

/// How long a caller that gives a block another owner waits for one that is just freeing or adopting it.
/// (Publishing waits for the one, and then perhaps for the other.)
const GIVE_WAIT: Duration = Duration::from_millis(500);
const BETWEEN_GIVES: Duration = Duration::from_micros(100);

/// Tries until it is settled; false if it is not for [`GIVE_WAIT`].
pub(super) fn until_settled(mut settled: impl FnMut() -> bool) -> bool {
    let mut begun = None;
    loop {
        if settled() {
            return true;
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > GIVE_WAIT {
            return false;
        }
        nap(BETWEEN_GIVES);
    }
}

impl Handler {
    /// Gives a live block up before its offset is passed on: it belongs to nobody until somebody adopts it, so that its
    /// maker's death does not free a block that is on its way. O(1): a compare-and-swap; a small block of another
    /// thread costs what it costs to adopt it ([`Handler::adopt_at`]).
    ///
    /// # Errors
    /// As [`Handler::free_raw`]; [`Error::ChangingHands`] after half a second; [`Error::NoParticipantSlot`];
    /// [`Error::NoMembarrier`] if the block is another thread's and the call is refused by now.
    pub fn hand_over<T>(&self, pointer: &RelativePtr<T>) -> Result<()> {
        let live = self.live(pointer)?;
        self.matrix.with_cache(|cache| self.give(cache.owner(), pointer.offset, live, 0))?
    }

    /// Makes this process the owner of the live block at an offset that another one passed on. A block
    /// belongs to whoever allocated it until it is handed over or adopted. When an owner dies, its blocks are
    /// given back; when it leaves in good order (its last handler is dropped), they stay and belong to
    /// nobody.
    ///
    /// A block of at most 1920 bytes that another process owns costs a barrier on every processor: some milliseconds
    /// (13 were measured). One of another thread of the same process costs some microseconds. A larger one, an
    /// unowned one, and any in a segment without bias cost a compare-and-swap.
    ///
    /// `generation` is what [`RelativePtr::generation`] said on the other side: without it, an offset that was freed
    /// meanwhile could mean another block by now. The caller vouches that nobody holds the block as a
    /// [`Message`](crate::ipc::Message): [`Handler::take_ref`] takes what nobody holds.
    ///
    /// # Errors
    /// [`Error::BadOffset`], [`Error::NotLive`], [`Error::Stale`], [`Error::InStructure`],
    /// [`Error::ChangingHands`], [`Error::NoParticipantSlot`], [`Error::ForkedChild`];
    /// [`Error::NoMembarrier`] if the call is refused by now.
    pub fn adopt_at(&self, offset: u32, generation: Option<u32>) -> Result<RelativePtr<u8>> {
        let live = self.live_of(offset, generation)?;
        self.matrix.with_cache(|cache| {
            self.give(cache.owner(), offset, live, cache.owner())?;
            Ok(self.pointer(live.of(cache.owner())))
        })?
    }

    /// Gives a live block to `to`, as the participant `me`. Whoever is just freeing or adopting it is waited
    /// for, but not for long.
    fn give(&self, me: u16, offset: u32, live: Live, to: u16) -> Result<()> {
        self.refuse_structures(offset, live)?;
        let (mut now, mut given) = (live, Ok(()));
        let give = || {
            until_settled(|| {
                given = self.matrix.heap().ownership().give_from(me, now, to);
                match given {
                    Err(found) if live.is_still(found) => now.header = found,
                    _ => return true,
                }
                // Without a fence no other gets it, however long that is waited for.
                Native::fence_was_refused()
            })
        };
        let (_, refused) = Native::noting_refused_fences(give);
        given.map_err(|found| match found.is_live() {
            _ if live.is_still(found) && refused => Error::NoMembarrier,
            _ if live.is_still(found) => Error::ChangingHands { offset, participant: found.holder() },
            true => self.refusal(offset, Refusal::Stale { held: live.header.generation(), found }),
            false => self.refusal(offset, Refusal::NotLive(found)),
        })
    }

    /// Recovers participants that have died: finishes what they had begun, frees their blocks (or keeps them,
    /// with [`Options::keep_orphans`](crate::Options::keep_orphans)), releases their slots (but not before
    /// others have ended adoptions from them: [`Recovered::open_adoptions`]). It happens by itself when
    /// somebody attaches, and before an allocation fails. O(blocks) if somebody has died, else
    /// O(participants).
    ///
    /// # Errors
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn reap(&self) -> Result<Recovered> {
        self.reap_with(self.matrix.policy())
    }

    /// As [`Handler::reap`], with a choice of what happens to the live blocks of the dead.
    ///
    /// # Errors
    /// As [`Handler::reap`].
    pub fn reap_with(&self, policy: Policy) -> Result<Recovered> {
        self.matrix.reap(policy)
    }

    /// Live blocks that the dead left: of participants that nobody has recovered yet, and those that a recovery kept
    /// ([`Policy::Keep`], [`Options::keep_orphans`](crate::Options::keep_orphans)). O(blocks); reads only.
    ///
    /// ```
    /// # use atomic_matrix::segment::Options;
    /// let handler = Options::new().memfd().size(1 << 20).keep_orphans(true).create()?;
    /// for orphan in handler.orphans()? {
    ///     match handler.adopt_at(orphan.offset, Some(orphan.generation)) { // or free_at(orphan.offset)
    ///         Ok(mine) => println!("{} is mine", mine.offset()),
    ///         Err(error) => eprintln!("{error}"), // somebody else was first, or it is changing hands
    ///     }
    /// }
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::blocks`].
    pub fn orphans(&self) -> Result<Vec<BlockInfo>> {
        let dead: Vec<u16> = self.participants().iter().filter(|p| !p.alive).map(|p| p.number).collect();
        let mut orphans = vec![];
        self.blocks(|block| {
            let live = matches!(block.state, BlockState::Allocated | BlockState::Typed | BlockState::TypedSmall);
            let left = |owner| owner == KEPT || dead.contains(&owner);
            if live
                && left(block.owner)
                && self.whose_after_adoption(&block).is_none_or(|owner| owner == 0 || left(owner))
            {
                orphans.push(block);
            }
        })?;
        Ok(orphans)
    }

    /// The owner to which a live block returns that a dead participant was adopting: its recovery gives it back (C1).
    /// None if it is not being adopted.
    fn whose_after_adoption(&self, block: &BlockInfo) -> Option<u16> {
        let heap = self.matrix.heap();
        let g = self.granule(block.offset).ok()?;
        let header = heap.look(g);
        is_adopter(header.owner()).then(|| heap.adoption().adopted_from(g, header)).flatten()
    }

    /// The segment's participants, the dead ones that nobody has recovered yet included. Reads only.
    pub fn participants(&self) -> Vec<Participant> {
        self.matrix.participants()
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::segment::Options;

    /// S5: what was freed meanwhile, and is another's block by now, is given to nobody.
    #[test]
    fn s5_a_later_block_in_the_same_place_is_not_given() {
        let made = Options::new().memfd().size(4 << 20).create().expect("created");
        let me = made.join().expect("a slot").number;
        let before = made.allocate_raw(5000).expect("room");
        let live = made.live(&before).expect("it is live");
        made.free_raw(before).expect("it is ours");
        assert!(matches!(made.give(me, before.offset, live, 0), Err(Error::NotLive { .. })));
        let again = made.allocate_raw(5000).expect("room");
        assert_eq!(again.offset, before.offset, "the place that was freed last");
        assert!(matches!(made.give(me, before.offset, live, 0), Err(Error::Stale { .. })));
        assert_eq!(made.live(&again).expect("it is live").header.owner(), me);
    }
}
