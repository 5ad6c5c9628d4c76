//! Lossy subscriptions: copies of what is published, for who must hold nobody up.
//!
//! ```
//! use atomic_matrix::Error;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let ticks = handler.topic::<u64>("ticks").cells(4).open_or_create()?;
//! let mut display = ticks.subscribe_lossy(0)?;
//! (0..10).try_for_each(|tick| ticks.publish_value(tick))?; // nobody is waited for
//! let Err(Error::Lagged { missed }) = display.try_next() else { panic!("it was too slow") };
//! assert_eq!(display.try_next()?, Some(missed)); // the oldest that is there
//! # Ok(())
//! # }
//! ```
//!
//! Any topic may have them, beside others that lose nothing, and any number of them: where such a subscriber
//! is lies in its own process, so publishers do not know of it. It copies what it reads, and looks behind
//! that whether the publication is there still (B1). One that was too slow is told exactly how many it has
//! missed, and goes on at the oldest that there is (T1). Reading is wait-free, O(bytes). *Killed, stopped,
//! forgotten*: nothing is held, and nobody waits.

use super::channel::attached::Attached;
use super::log::{Log, ReadStatus};
use super::payload::Payload;
use super::structure::Role;
use super::topic::Topic;
use super::wait::{Look, deadline};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::matrix::heap::Live;
use crate::shared::Shared;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// What a lossy subscriber can copy: values, and slices of them.
pub trait Copied: Payload {
    /// The copy: of a slice a vector.
    type Copy;
    /// A copy of a live block's value. Others may free the block meanwhile: then it is whatever it is, and dropped.
    ///
    /// # Errors
    /// As [`Handler::take_ref`], if the block is of another type.
    #[doc(hidden)]
    const COPIED: fn(&Handler, Live) -> Result<Self::Copy>;
}

impl<T: Shared> Copied for T {
    type Copy = T;
    const COPIED: fn(&Handler, Live) -> Result<T> = Handler::copy_value;
}
impl<T: Shared> Copied for [T] {
    type Copy = Vec<T>;
    const COPIED: fn(&Handler, Live) -> Result<Vec<T>> = Handler::copy_items::<T, [T]>;
}

impl<T: Copied + ?Sized> Topic<T> {
    /// Subscribes to copies of what is published from now on, and of as many as `history` of the last before
    /// that, as far as they are there. It takes none of the places that the topic was made with.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn subscribe_lossy(&self, history: u64) -> Result<LossySubscriber<T>> {
        let attached = Arc::clone(self.attached());
        let next = Log::of(attached.structure()?).begin(history);
        Ok(LossySubscriber { attached, next, of: PhantomData })
    }
}

/// Reads copies of what is published, and holds nobody up. A thread uses it at a time; it may go to another.
pub struct LossySubscriber<T: ?Sized> {
    attached: Arc<Attached>,
    next: u64,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: Copied + ?Sized> LossySubscriber<T> {
    /// A copy of what was published next, if there is anything yet. Wait-free.
    ///
    /// # Errors
    /// [`Error::Lagged`] if some were overwritten before they were read: the next call goes on at the oldest
    /// that is there. [`Error::TopicClosed`] if nothing will come any more; as [`Handler::take_ref`] if what
    /// was published is not a `T`, which is passed; [`Error::ForkedChild`].
    pub fn try_next(&mut self) -> Result<Option<T::Copy>> {
        let (attached, next) = self.parts();
        copy_next::<T>(attached, next)
    }

    /// What it reads, and which publication next.
    pub(super) fn parts(&mut self) -> (&Arc<Attached>, &mut u64) {
        (&self.attached, &mut self.next)
    }

    /// The same, but waits for a publication until the time is over.
    ///
    /// # Errors
    /// As [`LossySubscriber::try_next`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<T::Copy>> {
        let attached = Arc::clone(&self.attached);
        let attempt = |look| {
            if look == Look::Thorough {
                attached.look_after_the_dead();
            }
            self.try_next().transpose()
        };
        attached.structure()?.bell(Role::Receiver).wait(deadline(timeout), attempt).transpose()
    }
}

/// A copy of the publication `next`, which is one further then.
pub(super) fn copy_next<T: Copied + ?Sized>(attached: &Attached, next: &mut u64) -> Result<Option<T::Copy>> {
    let log = Log::of(attached.structure()?);
    loop {
        match log.look_from(next) {
            ReadStatus::Block(live, link) => {
                let copy = T::COPIED(&attached.handler, live);
                if log.is_still_at(*next, link) {
                    *next += 1;
                    return copy.map(Some);
                }
                // Overwritten meanwhile: the next look says so.
            }
            ReadStatus::Nothing => return Ok(None),
            ReadStatus::Closed => return Err(Error::TopicClosed),
            ReadStatus::Lagged(missed) => return Err(Error::Lagged { missed }),
        }
    }
}
