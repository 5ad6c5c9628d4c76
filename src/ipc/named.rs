//! Locks, events, semaphores and barriers by name.
//!
//! ```
//! use std::time::Duration;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let counters = handler.mutex::<[u64; 4]>("counters")?;
//! if let Some(mut counters) = counters.lock(Duration::from_secs(1))? {
//!     counters[0] += 1; // nobody else, in any process
//!     assert!(!counters.is_poisoned(), "whoever had it before has left it whole");
//! }
//! let ready = handler.event("ready")?;
//! ready.set()?;
//! assert!(ready.wait(Duration::from_secs(1))?);
//! # Ok::<(), atomic_matrix::Error>(())
//! # }
//! ```
//!
//! These wait by nature, each no longer than it is told. What a death does to each: `ipc::sync`. A [`Mutex`]
//! passes from a dead holder to one of those who wait, poisoned, after its recovery or a nap of 50 ms; permits
//! that a dead process had taken are gone; a barrier counts who has arrived, dead or alive.

use super::ParticipantId;
use super::channel::attached::Attached;
use super::structure::{MAX_CELLS_SHIFT, Role, Sort, TAIL};
use super::sync::barrier::{Gate, Passed};
use super::sync::event::Flag;
use super::sync::lock::{Busy, Lock};
use super::sync::semaphore::Permits;
use super::topic::open;
use super::wait::{Look, deadline};
use crate::backend::Native;
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::shared::{Shared, mix};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// The largest alignment of what a [`Mutex`] protects.
const ALIGN: usize = 128;
/// The largest size of that, in words.
const MOST_WORDS: usize = 1 << MAX_CELLS_SHIFT;

macro_rules! named {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub struct $name {
            pub(super) attached: Arc<Attached>,
        }
        impl $name {
            /// Removes it: its name is free, and its memory is freed after the last user.
            ///
            /// # Errors
            /// [`Error::ForkedChild`].
            pub fn remove(&self) -> Result<()> {
                self.attached.remove()
            }
        }
    };
}

named! {
    /// A flag that many wait for. One that is set before anybody waits is not lost.
    Event
}
named! {
    /// Permits that are taken and given.
    Semaphore
}
named! {
    /// A place where a known number of threads meet, again and again.
    Barrier
}

impl Handler {
    /// The event of that name, which is made, and not set, if there is none.
    ///
    /// # Errors
    /// As [`Handler::board`].
    pub fn event(&self, name: &str) -> Result<Event> {
        Ok(Event { attached: open::<Event>(self, Some(name), Sort::Event, 1, 0, 0)? })
    }
    /// An event without a name, not set: [`Handler::open_ref`] says what leads to it, and how long it stays.
    ///
    /// # Errors
    /// As [`Handler::unnamed_board`].
    pub fn unnamed_event(&self) -> Result<Event> {
        Ok(Event { attached: open::<Event>(self, None, Sort::Event, 1, 0, 0)? })
    }
    /// The semaphore of that name, which is made with so many permits if there is none.
    ///
    /// # Errors
    /// As [`Handler::board`].
    pub fn semaphore(&self, name: &str, permits: u16) -> Result<Semaphore> {
        Ok(Semaphore { attached: open::<Semaphore>(self, Some(name), Sort::Semaphore, 1, permits, 0)? })
    }
    /// A semaphore without a name, with so many permits: [`Handler::open_ref`] says what leads to it, and how long it
    /// stays.
    ///
    /// # Errors
    /// As [`Handler::unnamed_board`].
    pub fn unnamed_semaphore(&self, permits: u16) -> Result<Semaphore> {
        Ok(Semaphore { attached: open::<Semaphore>(self, None, Sort::Semaphore, 1, permits, 0)? })
    }
    /// The barrier of that name, which is made for so many (1 at least) if there is none.
    ///
    /// # Errors
    /// As [`Handler::board`].
    pub fn barrier(&self, name: &str, parties: u16) -> Result<Barrier> {
        Ok(Barrier { attached: open::<Barrier>(self, Some(name), Sort::Barrier, 1, parties.max(1), 0)? })
    }
    /// A barrier without a name, for so many (1 at least): [`Handler::open_ref`] says what leads to it, and how long it
    /// stays.
    ///
    /// # Errors
    /// As [`Handler::unnamed_board`].
    pub fn unnamed_barrier(&self, parties: u16) -> Result<Barrier> {
        Ok(Barrier { attached: open::<Barrier>(self, None, Sort::Barrier, 1, parties.max(1), 0)? })
    }
    /// The mutex of that name, which is made over a `T` of zeros if there is none.
    ///
    /// # Errors
    /// As [`Handler::board`]; [`Error::BadAlignment`] if a `T` is aligned to more than 128 bytes;
    /// [`Error::TooLarge`] if it is larger than 8 MiB.
    pub fn mutex<T: Shared>(&self, name: &str) -> Result<Mutex<T>> {
        self.mutex_of(Some(name))
    }
    /// A mutex without a name, over a `T` of zeros: [`Handler::open_ref`] says what leads to it, and how long it stays.
    ///
    /// # Errors
    /// As [`Handler::mutex`], of what has no name.
    pub fn unnamed_mutex<T: Shared>(&self) -> Result<Mutex<T>> {
        self.mutex_of(None)
    }

    fn mutex_of<T: Shared>(&self, name: Option<&str>) -> Result<Mutex<T>> {
        let content = mix("mutex", &[T::FINGERPRINT]);
        Mutex::over(open::<Mutex<T>>(self, name, Sort::Lock, cells_for::<T>()?, 0, content)?)
    }
}

/// How many cells of a structure a value takes.
///
/// # Errors
/// As [`Handler::mutex`], of what cannot lie there.
pub(super) fn cells_for<T>() -> Result<usize> {
    if align_of::<T>() > ALIGN {
        return Err(Error::BadAlignment { requested: align_of::<T>(), largest: ALIGN });
    }
    let words = size_of::<T>().div_ceil(8).max(1);
    if words > MOST_WORDS {
        return Err(Error::TooLarge { requested: size_of::<T>() as u64, largest: MOST_WORDS as u64 * 8 });
    }
    Ok(words)
}

impl Event {
    pub(super) fn attached(&self) -> &Arc<Attached> {
        &self.attached
    }
    fn flag(&self) -> Result<Flag<'_, Native>> {
        let structure = self.attached.structure()?;
        Ok(Flag { flag: structure.field(TAIL), bell: structure.bell(Role::Receiver) })
    }
    /// Sets it: whoever waits goes on, and whoever comes, until it is cleared. Wait-free.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn set(&self) -> Result<()> {
        self.flag()?.set();
        Ok(())
    }
    /// Clears it, and says whether it was set: one of several who clear it is told so. Wait-free.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn clear(&self) -> Result<bool> {
        Ok(self.flag()?.clear())
    }
    /// Clears it, if it is set.
    pub(super) fn try_clear(&self) -> Result<Option<()>> {
        let flag = self.flag()?;
        Ok((flag.is_set() && flag.clear()).then_some(()))
    }
    /// Whether it is set.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn is_set(&self) -> Result<bool> {
        Ok(self.flag()?.is_set())
    }
    /// Waits until it is set; false if it is not until the time is over.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        Ok(self.flag()?.wait(deadline(timeout)))
    }
    /// Waits until it is set, and clears it: each setting lets one go on of those who wait in this way.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn wait_and_clear(&self, timeout: Duration) -> Result<bool> {
        Ok(self.flag()?.wait_and_clear(deadline(timeout)))
    }
}

impl Semaphore {
    pub(super) fn attached(&self) -> &Arc<Attached> {
        &self.attached
    }
    fn permits(&self) -> Result<Permits<'_, Native>> {
        let structure = self.attached.structure()?;
        Ok(Permits { count: structure.field(TAIL), bell: structure.bell(Role::Receiver) })
    }
    /// Takes a permit, if there is one now. Lock-free.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn try_take(&self) -> Result<bool> {
        Ok(self.permits()?.try_take())
    }
    /// Takes a permit; false if there is none until the time is over.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn take(&self, timeout: Duration) -> Result<bool> {
        Ok(self.permits()?.take(deadline(timeout)))
    }
    /// Gives so many permits. Lock-free.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn give(&self, permits: u32) -> Result<()> {
        self.permits()?.give(permits);
        Ok(())
    }
    /// How many there are now.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn available(&self) -> Result<u64> {
        Ok(self.permits()?.available())
    }
}

impl Barrier {
    /// Arrives, and waits for the others: true for one of each round, the last to come. None if they do not
    /// come until the time is over; then this arrival does not count.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn meet(&self, timeout: Duration) -> Result<Option<bool>> {
        let structure = self.attached.structure()?;
        let parties = self.attached.shape.readers.into();
        let gate = Gate { round: structure.field(TAIL), bell: structure.bell(Role::Receiver), parties };
        Ok(gate.meet(deadline(timeout)).map(|passed| passed == Passed::Leader))
    }
}

/// A value that one at a time uses, in any process.
pub struct Mutex<T> {
    pub(super) attached: Arc<Attached>,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self { attached: self.attached.clone(), of: PhantomData }
    }
}

impl<T: Shared> Mutex<T> {
    pub(super) fn over(attached: Arc<Attached>) -> Result<Self> {
        attached.holds::<T>(cells_for::<T>()?)?;
        Ok(Self { attached, of: PhantomData })
    }
    pub(super) fn attached(&self) -> &Arc<Attached> {
        &self.attached
    }
    fn words(&self) -> Result<Lock<'_, Native>> {
        let structure = self.attached.structure()?;
        Ok(Lock { word: structure.field(TAIL), bell: structure.bell(Role::Receiver) })
    }

    /// Locks it, if it is free now or its holder is found dead.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>> {
        let me = self.attached.handler.join()?.to_bits();
        self.guard(self.words()?.try_take(me, |holder| self.is_dead(holder)))
    }

    /// Locks it; none if it is not free until the time is over.
    ///
    /// # Errors
    /// [`Error::LockedByCaller`]: this thread has it. [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn lock(&self, timeout: Duration) -> Result<Option<MutexGuard<'_, T>>> {
        let me = self.attached.handler.join()?.to_bits();
        let is_dead = |holder, look| match look {
            // A holder's slot has what it does: it is not read beside it.
            Look::Spinning => false,
            Look::Thorough => self.is_dead(holder),
            // No system call: what a recovery has declared before it rang.
            Look::Quick => self.attached.handler.is_gone(ParticipantId::from_bits(holder)),
        };
        self.guard(self.words()?.take(me, deadline(timeout), is_dead))
    }

    fn guard(&self, taken: std::result::Result<bool, Busy>) -> Result<Option<MutexGuard<'_, T>>> {
        match taken {
            Ok(poisoned) => {
                let panics = std::thread::panicking();
                Ok(Some(MutexGuard { mutex: self, poisoned, panics, value: self.value()? }))
            }
            Err(Busy::Held(_)) => Ok(None),
            Err(Busy::Mine) => Err(Error::LockedByCaller),
        }
    }

    fn is_dead(&self, holder: u64) -> bool {
        !self.attached.handler.is_alive(ParticipantId::from_bits(holder))
    }

    fn value(&self) -> Result<NonNull<T>> {
        let structure = self.attached.structure()?;
        Ok(structure.first_cell().cast())
    }

    /// Removes it: its name is free, and its memory is freed after the last user.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn remove(&self) -> Result<()> {
        self.attached.remove()
    }
}

/// A [`Mutex`] that this thread has locked. Dropped, it is released; poisoned, if this thread is panicking.
#[must_use = "it is released when this is dropped"]
pub struct MutexGuard<'m, T: Shared> {
    mutex: &'m Mutex<T>,
    poisoned: bool,
    panics: bool,
    /// In the structure's own block; not to go to another thread, whose lock it is not.
    value: NonNull<T>,
}

impl<T: Shared> MutexGuard<'_, T> {
    /// Whether a holder died or panicked since the value was last whole: it may be half-written.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
    /// Says that the value is whole again.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn cure(&mut self) -> Result<()> {
        self.mutex.words()?.cure();
        self.poisoned = false;
        Ok(())
    }
}

impl<T: Shared> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: as many bytes lie there, at that alignment (`Mutex::over`; the fingerprint is the
        // type's), any bytes are a `T`, and whoever has the lock is the only one who accesses them.
        unsafe { self.value.as_ref() }
    }
}
impl<T: Shared> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as many bytes lie there, at that alignment (`Handler::mutex`), any bytes are a `T`, and
        // whoever has the lock is the only one who accesses them; this guard is borrowed for as long.
        unsafe { self.value.as_mut() }
    }
}
impl<T: Shared> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // A forked child has not the lock: its parent has.
        let Ok(words) = self.mutex.words() else { return };
        if std::thread::panicking() && !self.panics {
            words.poison();
        }
        words.release();
    }
}
