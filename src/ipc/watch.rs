//! Notice of a death: something to wait for that says how another participant has ended.
//!
//! ```
//! use atomic_matrix::ipc::Ended;
//! use std::time::Duration;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! # let fd = handler.matrix().segment().fd().try_clone_to_owned().expect("a descriptor");
//! # let other = atomic_matrix::segment::Options::from_fd(fd).attach()?;
//! let theirs = other.join()?; // in another process, which has sent this
//! let watch = handler.watch(theirs)?;
//! assert_eq!(watch.try_ended()?, None);
//! drop(other);
//! assert_eq!(watch.ended(Duration::from_secs(1))?, Some(Ended::Left));
//! # Ok(())
//! # }
//! ```
//!
//! Nobody sends heartbeats, and no clock decides: a participant is dead when the kernel says that its process is.
//! Whoever notices that first begins its recovery and rings for all who wait, for whatever it is. **Bound:** who
//! watches looks itself each 50 ms, whatever else it waits for, and begins the recovery if nobody has; that one has
//! left is seen then as well.
//!
//! A thread is told to have left once its number is given back. The first number that a process has had is kept until
//! the last handler goes, and passes to another thread of the process when this one ends: of such a one there is no
//! word before.
//!
//! **Progress.** A look is wait-free, and no system call. *Killed* while it watches: what it had is given back. A watch
//! has a structure of its own, of some KiB, that nobody else opens.

use super::channel::attached::Attached;
use super::descriptor::Readable;
use super::future::until;
use super::liveness::ParticipantId;
use super::select::Select;
use super::structure::{Role, Shape, Sort};
use super::wait::{NAP, deadline};
use crate::error::Result;
use crate::handlers::Handler;
use crate::segment::Ended;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[cfg(doc)]
use crate::error::Error;

/// Waits for a participant's end; from [`Handler::watch`]. Any thread may use it, and several at once.
pub struct Watch {
    attached: Arc<Attached>,
    participant: ParticipantId,
    /// When who waits has last looked for the dead.
    looked: Mutex<Instant>,
}

impl Handler {
    /// A watch over a participant of this segment, be it there still or not. O(participants).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn watch(&self, participant: ParticipantId) -> Result<Watch> {
        let shape = Shape { sort: Sort::Event, cells_shift: 0, readers: 0, content: 0 };
        Ok(Watch { attached: Attached::make(self, None, shape)?, participant, looked: Mutex::new(Instant::now()) })
    }

    /// Who has a participant's number now: to watch one of [`Handler::participants`]. None if nobody has.
    pub fn participant(&self, number: u16) -> Option<ParticipantId> {
        let here = (1..=self.matrix().heap().layout().params.participants).contains(&number.into());
        let id = ParticipantId { number, epoch: if here { self.matrix().segment().epoch(number) } else { 0 } };
        (here && self.end_of(id).is_none()).then_some(id)
    }

    fn end_of(&self, participant: ParticipantId) -> Option<Ended> {
        let ParticipantId { number, epoch } = participant;
        let here = (1..=self.matrix().heap().layout().params.participants).contains(&number.into());
        if here { self.matrix().segment().end_of(number, epoch) } else { Some(Ended::Unknown) }
    }
}

impl Watch {
    /// Who is watched.
    pub fn participant(&self) -> ParticipantId {
        self.participant
    }

    /// How it has ended, if that is known by now. Wait-free, and no system call: of one whose death nobody has noticed
    /// yet there is no word.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn try_ended(&self) -> Result<Option<Ended>> {
        self.attached.structure()?;
        Ok(self.attached.handler.end_of(self.participant))
    }

    /// As [`Watch::try_ended`], for who waits. Looks for the dead if nobody has for a nap: who waits for other things
    /// as well, which come all the time, never sleeps so long.
    fn find_ended(&self) -> Option<Result<Ended>> {
        let is_due = self.looked.try_lock().is_ok_and(|mut looked| {
            let is_due = looked.elapsed() >= NAP;
            if is_due {
                *looked = Instant::now();
            }
            is_due
        });
        if is_due && matches!(self.try_ended(), Ok(None)) {
            self.attached.look_after_the_dead();
        }
        self.try_ended().transpose()
    }

    /// Waits until it has ended, and says how; none if it has not until the time is over.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn ended(&self, timeout: Duration) -> Result<Option<Ended>> {
        // Behind a nap it is time to look for the dead.
        let attempt = |_| self.find_ended();
        self.attached.structure()?.bell(Role::Receiver).wait(deadline(timeout), attempt).transpose()
    }

    /// As [`Watch::ended`], as long as it takes.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn ended_async(&self) -> impl Future<Output = Result<Ended>> {
        until(&self.attached, Role::Receiver, || self.find_ended())
    }

    /// A descriptor that becomes readable when it may have ended.
    ///
    /// # Errors
    /// As [`Receiver::readable`](super::Receiver::readable).
    pub fn readable(&self) -> Result<Readable<'_>> {
        Readable::of(&self.attached, Role::Receiver)
    }
}

impl<'a, R> Select<'a, R> {
    /// Also waits for a participant's end; it has ended ever after.
    pub fn ended(self, watch: &'a Watch, mut then: impl FnMut(Result<Ended>) -> R + 'a) -> Self {
        self.with(&watch.attached, move || watch.find_ended().map(&mut then))
    }
}
