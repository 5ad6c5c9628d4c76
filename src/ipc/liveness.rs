//! Liveness to lend: who am I, is that one alive, is this still the segment of that name.
//!
//! Nobody sends heartbeats. A participant is alive as long as the kernel says so (the evidence of recovery,
//! obligation C1), never by a clock.

use crate::error::Result;
use crate::handlers::Handler;
use crate::packed::packed;
use crate::segment::Named;
use std::fmt;

/// One participant, a thread that uses the segment: its number, and which of those it is who had that number
/// one after the other. Plain data, to be passed on: who holds a lock, who answers a request. It is never
/// another process's (but after 2^19 holders of one number); a thread that ends may leave it to another of its process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParticipantId {
    /// The number: the owner of its blocks.
    pub number: u16,
    /// How often the number was given to somebody.
    pub epoch: u32,
}

packed! {
    /// A participant's id as a number.
    struct IdBits { NUMBER: 16, EPOCH: 32, UNUSED: 16 }
}

impl ParticipantId {
    /// As a number, below 2^63 and never 0.
    pub const fn to_bits(self) -> u64 {
        IdBits::EPOCH.of(self.epoch as u64) | IdBits::NUMBER.of(self.number as u64)
    }
    /// From a number that [`ParticipantId::to_bits`] gave. Any number will do: one that was never given is nobody.
    pub const fn from_bits(bits: u64) -> Self {
        Self { number: IdBits::NUMBER.get(bits) as u16, epoch: IdBits::EPOCH.get(bits) as u32 }
    }
}

impl fmt::Debug for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "participant {} ({})", self.number, self.epoch)
    }
}

impl Handler {
    /// Makes this thread a participant, if it is none yet, and says which: what else happens with its first
    /// allocation. From then on, until the thread ends, others find it alive.
    ///
    /// ```
    /// let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let me = handler.join()?;
    /// assert!(handler.is_alive(me));
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoParticipantSlot`](crate::Error::NoParticipantSlot),
    /// [`Error::ForkedChild`](crate::Error::ForkedChild).
    pub fn join(&self) -> Result<ParticipantId> {
        let number = self.matrix().with_cache(|cache| cache.owner())?;
        Ok(ParticipantId { number, epoch: self.matrix().segment().epoch(number) })
    }

    /// Whether a participant is there: neither has left, nor is dead. It may be stopped. Of a thread that
    /// ended in a living process it may be true for a while: its number stays with the process. A system
    /// call.
    pub fn is_alive(&self, participant: ParticipantId) -> bool {
        let ParticipantId { number, epoch } = participant;
        let here = || (1..=self.matrix().heap().layout().params.participants).contains(&number.into());
        let current = || self.matrix().segment().epoch(number) == epoch;
        here() && current() && self.matrix().is_alive(number) && current()
    }

    /// Whether a participant has left, or has been declared dead: what the segment says, without a system call.
    pub(in crate::ipc) fn is_gone(&self, participant: ParticipantId) -> bool {
        let ParticipantId { number, epoch } = participant;
        let here = (1..=self.matrix().heap().layout().params.participants).contains(&number.into());
        !here || !self.matrix().segment().holds(number, epoch)
    }

    /// Whether the segment's name still means this segment. It is removed by [`Handler::unlink`] here or
    /// elsewhere, or by the system (logind's RemoveIPC, a cleaner of /dev/shm): then those attached go on,
    /// and nobody new comes; replaced, it means another segment that was made under the same name, with which
    /// this one's offsets have nothing to do.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`](crate::Error::PermissionDenied) and [`Error::Io`](crate::Error::Io) where
    /// the name cannot be looked at.
    pub fn still_named(&self) -> Result<Named> {
        self.matrix().segment().named_now()
    }

    /// Removes the segment's name if no other process takes part in it: for the last one out. Whether it did.
    ///
    /// A process that has attached and not allocated anything yet does not count: it joins first
    /// ([`Handler::join`]). Of two that leave at the same moment and see each other, neither removes it; they
    /// call this after their other handlers are dropped, or one of them makes it its task.
    ///
    /// # Errors
    /// As [`Handler::unlink`].
    pub fn unlink_if_alone(&self) -> Result<bool> {
        self.matrix().check_process()?;
        let alone = !self.matrix().segment().has_others()?;
        if alone {
            self.unlink()?;
        }
        Ok(alone)
    }
}
