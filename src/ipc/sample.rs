//! Publications that outlive the next one: a subscriber may have several at once, and pass them in any order.
//!
//! ```
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let images = handler.topic::<[u8]>("images").cells(64).open_or_create()?;
//! let samples = images.subscribe(0)?.into_samples();
//! for image in 1..=2 {
//!     images.try_publish(handler.message_from(&[image; 1000])?)?;
//! }
//! let (first, second) = (samples.try_next()?, samples.try_next()?);
//! assert_eq!(first.map(|image| image[0]), Some(1)); // passed
//! assert_eq!(second.map(|image| image[0]), Some(2));
//! # Ok(())
//! # }
//! ```
//!
//! The subscriber's cursor stays at the oldest sample that somebody has, and with it stays all that was
//! published since (T1). So whoever keeps a sample holds the publishers up once as many are ahead of it as
//! the topic has cells. *Killed*: the cursor falls with its participant, and the samples with it.

use super::link::Taken;
use super::log::{Log, ReadStatus};
use super::message::Message;
use super::payload::Payload;
use super::structure::Role;
use super::topic::Subscriber;
use super::wait::{Look, deadline};
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Reads what is published, as [`Subscriber`] does, but what it gives out borrows nothing. Any thread may use
/// it, and several at once: each publication goes to one of them.
pub struct Samples<T: ?Sized>(Arc<Source<T>>);

struct Source<T: ?Sized> {
    subscriber: Subscriber<T>,
    given: Mutex<Given>,
}

/// What was given out, from the cursor on.
struct Given {
    /// The number of the publication at the cursor.
    first: u64,
    /// For each of them, whether it was passed. The first was not.
    passed: VecDeque<bool>,
}

impl<T: Payload + ?Sized> Subscriber<T> {
    /// This subscriber as one that may have several publications at once.
    pub fn into_samples(self) -> Samples<T> {
        // In a forked child nothing is given out.
        let structure = self.attached().structure();
        let first = structure.map_or(0, |structure| Log::of(structure).position(self.index()));
        Samples(Arc::new(Source { subscriber: self, given: Mutex::new(Given { first, passed: VecDeque::new() }) }))
    }
}

impl<T: ?Sized> Source<T> {
    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A publication was passed: the cursor goes to the oldest that was not.
    fn pass(&self, number: u64) {
        let mut given = self.given();
        let at = number - given.first;
        given.passed[at as usize] = true;
        while given.passed.front() == Some(&true) {
            given.passed.pop_front();
            given.first += 1;
            self.subscriber.attached().advance(self.subscriber.index());
        }
    }
}

impl<T: Payload + ?Sized> Samples<T> {
    /// What was published next, if there is anything yet. Lock-free, unless several threads of this process
    /// do so at once.
    ///
    /// # Errors
    /// As [`Subscriber::try_next`].
    pub fn try_next(&self) -> Result<Option<Sample<T>>> {
        let subscriber = &self.0.subscriber;
        let log = Log::of(subscriber.attached().structure()?);
        loop {
            let mut given = self.0.given();
            let ahead = given.passed.len() as u64;
            let number = given.first + ahead;
            let (live, link) = match log.look_ahead(subscriber.index(), ahead) {
                ReadStatus::Block(live, link) => (live, link),
                ReadStatus::Nothing => return Ok(None),
                ReadStatus::Closed => return Err(Error::TopicClosed),
                // The cursor has moved, or stays at one that somebody has.
                ReadStatus::Lagged(lost) if ahead == 0 => {
                    given.first += lost;
                    continue;
                }
                ReadStatus::Lagged(_) => {
                    given.passed.push_back(true);
                    continue;
                }
            };
            given.passed.push_back(false);
            drop(given);
            let message = Message::<T>::received(&subscriber.attached().handler, Taken { live, giver: link.giver() });
            // Never freed by this one: it is the topic's.
            let Some(message) = message.map(ManuallyDrop::new) else {
                self.0.pass(number);
                return Err(Error::BadOffset { offset: 0, why: "what was published there is of another type" });
            };
            return Ok(Some(Sample { value: NonNull::from(&**message), number, cursor: self.0.clone() }));
        }
    }

    /// As [`Samples::try_next`], but waits for a publication until the time is over.
    ///
    /// # Errors
    /// As [`Subscriber::try_next`].
    pub fn next_timeout(&self, timeout: Duration) -> Result<Option<Sample<T>>> {
        let attached = self.0.subscriber.attached();
        let attempt = |look| {
            if look == Look::Thorough {
                attached.look_after_the_dead();
            }
            self.try_next().transpose()
        };
        attached.structure()?.bell(Role::Receiver).wait(deadline(timeout), attempt).transpose()
    }
}

/// A publication: it stays as it is until this is dropped, and its subscriber's place is taken until then.
pub struct Sample<T: Payload + ?Sized> {
    cursor: Arc<Source<T>>,
    number: u64,
    value: NonNull<T>,
}

// SAFETY: it gives shared references to the value alone, and its cursor may be moved on by any thread.
unsafe impl<T: Payload + ?Sized + Sync> Send for Sample<T> {}
// SAFETY: likewise.
unsafe impl<T: Payload + ?Sized + Sync> Sync for Sample<T> {}

impl<T: Payload + ?Sized> Sample<T> {
    /// Which it is of all that were ever published, from 0 on.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl<T: Payload + ?Sized> Deref for Sample<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: `Message::received` has checked address, length and type; the cursor, which is at this
        // publication or before it, keeps the block from being taken out, so nobody writes it; and the
        // handler that the cursor has keeps it mapped.
        unsafe { self.value.as_ref() }
    }
}
impl<T: Payload + ?Sized> Drop for Sample<T> {
    fn drop(&mut self) {
        self.cursor.pass(self.number);
    }
}
impl<T: Payload + ?Sized + std::fmt::Debug> std::fmt::Debug for Sample<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sample").field(&&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::testing::handler;

    /// Freed by somebody who had no right to: it is passed over, behind one that is held as well.
    #[test]
    fn c2_a_publication_that_is_gone_is_passed_over() {
        let handler = handler();
        let topic = handler.topic::<u64>("numbers").cells(8).open_or_create().expect("made");
        let samples = topic.subscribe(0).expect("a place").into_samples();
        let subscriber = &samples.0.subscriber;
        let log = Log::of(subscriber.attached().structure().expect("ours"));
        let lose = |ahead| {
            let ReadStatus::Block(live, _) = log.look_ahead(subscriber.index(), ahead) else { panic!("it is there") };
            handler.matrix().heap().adoption().rename(live.at, live.header, 1).expect("nobody changes it");
        };
        let next = || samples.try_next().expect("open").expect("it was published");
        (1..=5).for_each(|k| topic.publish_value(k).expect("room"));
        lose(0);
        let second = next();
        lose(1);
        let fourth = next();
        assert_eq!((*second, *fourth, fourth.number()), (2, 4, 3));
        drop((second, fourth));
        assert_eq!(*next(), 5);
        assert!(samples.try_next().expect("open").is_none());
    }
}
