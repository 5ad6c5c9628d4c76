//! Topics: every subscriber sees every publication from its subscription on, once, in one order, where it lies.
//!
//! ```
//! use atomic_matrix::segment::Options;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = Options::new().memfd().size(1 << 20).create()?;
//! let prices = handler.topic::<[f64; 2]>("prices").cells(64).open_or_create()?;
//! let mut subscriber = prices.subscribe(0)?;
//! prices.publish_value([99.5, 100.5])?;
//! if let Some(price) = subscriber.try_next()? {
//!     assert_eq!(price[1], 100.5); // not copied: it stays until the guard is dropped
//! }
//! prices.remove()
//! # }
//! ```
//!
//! Publishing costs the same for any number of subscribers, and is lock-free as long as there is room: a
//! publication stays until every subscriber has passed it, so one that stops holds the publishers up once as
//! many are ahead of it as there are cells ([`Unsent::Full`]). Reading is wait-free. *Killed*: a publisher's
//! publication has happened or not; a subscriber's place is given up by its recovery, which a publisher that
//! waits begins itself, after a nap (`ipc::wait`). Nothing that was published is lost to anybody who is
//! alive.

use super::channel::attached::Attached;
use super::channel::{SendError, Unsent};
use super::link::Taken;
use super::log::{Log, Lowest, ReadStatus};
use super::message::Message;
use super::payload::Payload;
use super::structure::{MAX_CELLS_SHIFT, Role, Shape, Sort};
use super::wait::{Look, deadline};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::segment::region::MappedRegion;
use crate::shared::InPlace;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a topic's or a board's maker may choose.
pub struct TopicOptions<'h, 'n, T: ?Sized> {
    handler: &'h Handler,
    name: Option<&'n str>,
    cells: usize,
    subscribers: u16,
    of: PhantomData<fn() -> Box<T>>,
}

impl Handler {
    /// The topic of a name, to be made or opened.
    pub fn topic<'h, 'n, T: Payload + ?Sized>(&'h self, name: &'n str) -> TopicOptions<'h, 'n, T> {
        TopicOptions { handler: self, name: Some(name), cells: 64, subscribers: 16, of: PhantomData }
    }

    /// A topic without a name, to be made: [`Handler::open_ref`] says what leads to it, and how long it stays.
    pub fn unnamed_topic<T: Payload + ?Sized>(&self) -> TopicOptions<'_, 'static, T> {
        TopicOptions { handler: self, name: None, cells: 64, subscribers: 16, of: PhantomData }
    }
}

impl<T: Payload + ?Sized> TopicOptions<'_, '_, T> {
    /// How many publications there may be that somebody has yet to read, if it is made: rounded up to a power of two,
    /// 2^20 at most; 64 by default.
    pub fn cells(mut self, cells: usize) -> Self {
        self.cells = cells;
        self
    }
    /// How many subscribers there may be at once, if it is made; 16 by default.
    pub fn subscribers(mut self, subscribers: u16) -> Self {
        self.subscribers = subscribers;
        self
    }
    /// Makes the topic, or opens it if there is one of its name, whatever its cells.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`]; [`Error::BadOption`] for the cells or the empty name; [`Error::OutOfMemory`],
    /// [`Error::DirectoryFull`], [`Error::NameTooLong`], [`Error::ChangingHands`],
    /// [`Error::NoParticipantSlot`], [`Error::TooManyHandles`], [`Error::ForkedChild`].
    pub fn open_or_create(self) -> Result<Topic<T>> {
        if !(1..=1 << MAX_CELLS_SHIFT).contains(&self.cells) {
            let found = self.cells.to_string();
            return Err(Error::BadOption { option: "cells", found, allowed: "1 to 1048576 publications" });
        }
        let attached =
            open::<Topic<T>>(self.handler, self.name, Sort::Topic, self.cells, self.subscribers, T::FINGERPRINT)?;
        Ok(Topic::over(attached))
    }

    /// Opens the topic; it must be there.
    ///
    /// # Errors
    /// [`Error::NameUnknown`]; others as [`TopicOptions::open_or_create`].
    pub fn open(self) -> Result<Topic<T>> {
        let attached = find::<Topic<T>>(self.handler, self.name, Sort::Topic, T::FINGERPRINT)?;
        Ok(Topic::over(attached))
    }
}

/// The structure of that name, a `T` to who asks; it must be there.
pub(super) fn find<T: ?Sized>(
    handler: &Handler,
    name: Option<&str>,
    sort: Sort,
    content: u32,
) -> Result<Arc<Attached>> {
    let name = name.unwrap_or_default();
    let found = Attached::find::<T>(handler, name, Shape { sort, cells_shift: 0, readers: 0, content })?;
    found.ok_or_else(|| Error::NameUnknown { name: name.to_owned() })
}

/// The structure of that name, a `T` to who asks, made if there is none, or if no name is given.
pub(super) fn open<T: ?Sized>(
    handler: &Handler,
    name: Option<&str>,
    sort: Sort,
    cells: usize,
    readers: u16,
    content: u32,
) -> Result<Arc<Attached>> {
    let cells = cells.next_power_of_two();
    debug_assert!(cells <= 1 << MAX_CELLS_SHIFT);
    open_filled::<T>(handler, name, Shape { sort, cells_shift: cells.trailing_zeros(), readers, content }, |_| ())
}

/// The same, of a shape; if it is made, `fill` has its cells first.
pub(super) fn open_filled<T: ?Sized>(
    handler: &Handler,
    name: Option<&str>,
    shape: Shape,
    mut fill: impl FnMut(NonNull<u8>),
) -> Result<Arc<Attached>> {
    loop {
        if let Some(name) = name
            && let Some(found) = Attached::find::<T>(handler, name, shape)?
        {
            return Ok(found);
        }
        match Attached::make_filled(handler, name, shape, &mut fill) {
            Err(Error::NameTaken { .. }) => {}
            made => return made,
        }
    }
}

/// One try to publish a message; wakes all who wait for one.
pub(super) fn put<T: Payload + ?Sized>(
    attached: &Attached,
    message: &Message<'_, T>,
    lowest: &mut Lowest,
) -> std::result::Result<(), Unsent> {
    attached.put(message, u32::MAX, |cache, structure, live| Log::of(structure).publish(cache, live, lowest))
}

/// A topic that this process has open. Any thread may publish.
pub struct Topic<T: ?Sized> {
    pub(super) attached: Arc<Attached>,
    lowest: Mutex<Lowest>,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: Payload + ?Sized> Topic<T> {
    pub(super) fn over(attached: Arc<Attached>) -> Self {
        Self { attached, lowest: Mutex::default(), of: PhantomData }
    }

    /// The segment's handler, to allocate messages with.
    pub fn handler(&self) -> &Handler {
        &self.attached.handler
    }

    /// Publishes, if there is room now. Lock-free; the message is not copied.
    ///
    /// # Errors
    /// [`SendError`] with the message.
    pub fn try_publish<'m>(&self, message: Message<'m, T>) -> std::result::Result<(), SendError<'m, T>> {
        let put = self.put(&message);
        message.sent(put)
    }

    /// Publishes, and waits for the slowest subscriber until the time is over.
    ///
    /// # Errors
    /// [`SendError`] with the message.
    pub fn publish_timeout<'m>(
        &self,
        message: Message<'m, T>,
        timeout: Duration,
    ) -> std::result::Result<(), SendError<'m, T>> {
        let put = match self.put(&message) {
            Err(Unsent::Full) => self.attached.put_patiently(deadline(timeout), || self.put(&message), || None),
            put => put,
        };
        message.sent(put)
    }

    fn put(&self, message: &Message<'_, T>) -> std::result::Result<(), Unsent> {
        // Whoever finds it locked looks at the cursors itself.
        match self.lowest.try_lock() {
            Ok(mut lowest) => put(&self.attached, message, &mut lowest),
            Err(_) => put(&self.attached, message, &mut Lowest::default()),
        }
    }

    /// Subscribes to all that is published from now on, and to as many as `history` of the last before that,
    /// as far as they are there.
    ///
    /// # Errors
    /// [`Error::NoSubscriberSlot`]; [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn subscribe(&self, history: u64) -> Result<Subscriber<T>> {
        subscribe(&self.attached, history).map(|index| Subscriber {
            attached: self.attached.clone(),
            index,
            of: PhantomData,
        })
    }

    /// How many were ever published. 0 in a forked child, which has no part in it.
    pub fn published(&self) -> u64 {
        self.attached.structure().map_or(0, |structure| Log::of(structure).published())
    }

    pub(super) fn attached(&self) -> &Arc<Attached> {
        &self.attached
    }

    /// Removes the topic: its name is free, nobody publishes any more, and its memory is freed after the last user.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn remove(&self) -> Result<()> {
        self.attached.remove()
    }
}

impl<T: InPlace> Topic<T> {
    /// Allocates a message for the value and publishes it, if there is room now.
    ///
    /// # Errors
    /// As [`Topic::try_publish`] and [`Handler::message`].
    pub fn publish_value(&self, value: T) -> Result<()> {
        Ok(self.try_publish(self.handler().message_of(value)?)?)
    }

    /// As [`Topic::publish_value`], and waits for the slowest subscriber until the time is over.
    ///
    /// # Errors
    /// As [`Topic::publish_timeout`] and [`Handler::message`].
    pub fn publish_value_timeout(&self, value: T, timeout: Duration) -> Result<()> {
        Ok(self.publish_timeout(self.handler().message_of(value)?, timeout)?)
    }
}

/// A cursor of the log, held by this process.
pub(super) fn subscribe(attached: &Attached, history: u64) -> Result<usize> {
    let home = attached.handler.matrix().home()?;
    let structure = attached.structure()?;
    let join = || Log::of(structure).join(home, history);
    let index = join().or_else(|| {
        // Those of the dead are nobody's any more.
        attached.look_after_the_dead();
        join()
    });
    index.ok_or(Error::NoSubscriberSlot { subscribers: attached.shape.readers })
}

impl Attached {
    /// A subscriber has read what is at its cursor, or can't: publishers that wait for that are woken.
    pub(super) fn advance(&self, index: usize) {
        // A forked child has no cursor: its parent has.
        if let Ok(structure) = self.structure() {
            Log::of(structure).advance(index);
            structure.bell(Role::Sender).ring_after_store(u32::MAX);
        }
    }
}

/// Reads what is published. A thread uses it at a time; it may go to another.
pub struct Subscriber<T: ?Sized> {
    attached: Arc<Attached>,
    index: usize,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: Payload + ?Sized> Subscriber<T> {
    fn log(&self) -> Result<Log<'_, MappedRegion>> {
        Ok(Log::of(self.attached.structure()?))
    }

    /// What was published next, if there is anything yet: it stays as it is until the guard is dropped, which
    /// moves this subscriber on. Wait-free.
    ///
    /// # Errors
    /// [`Error::TopicClosed`] if nothing will come any more; as [`Handler::take_ref`] if what was published
    /// is not a `T`.
    pub fn try_next(&mut self) -> Result<Option<Reading<'_, T>>> {
        match self.log()?.look(self.index) {
            ReadStatus::Block(live, link) => {
                let message = Message::received(&self.attached.handler, Taken { live, giver: link.giver() });
                let Some(message) = message else {
                    self.attached.advance(self.index);
                    return Err(Error::BadOffset { offset: 0, why: "what was published there is of another type" });
                };
                Ok(Some(Reading {
                    value: std::mem::ManuallyDrop::new(message),
                    index: self.index,
                    attached: &self.attached,
                }))
            }
            ReadStatus::Nothing | ReadStatus::Lagged(_) => Ok(None),
            ReadStatus::Closed => Err(Error::TopicClosed),
        }
    }

    /// As [`Subscriber::try_next`], but waits for a publication as long as it takes.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// # let prices = handler.topic::<u64>("prices").open_or_create()?;
    /// # let mut subscriber = prices.subscribe(0)?;
    /// # (1..=3).try_for_each(|price| prices.publish_value(price))?;
    /// # prices.remove()?;
    /// let mut sum = 0;
    /// while let Ok(price) = subscriber.await_next() {
    ///     sum += *price;
    /// } // until the topic is removed
    /// assert_eq!(sum, 6);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Subscriber::try_next`].
    pub fn await_next(&mut self) -> Result<Reading<'_, T>> {
        self.wait_until(None)?;
        // It is at this subscriber's cursor, and stays there.
        self.try_next()?.ok_or(Error::TopicClosed)
    }

    /// As [`Subscriber::try_next`], but waits for a publication until the time is over.
    ///
    /// # Errors
    /// As [`Subscriber::try_next`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Reading<'_, T>>> {
        self.wait_until(deadline(timeout))?;
        self.try_next()
    }

    fn wait_until(&self, until: Option<Instant>) -> Result<()> {
        let (log, attached, index) = (self.log()?, &self.attached, self.index);
        let attempt = |look| {
            if look == Look::Thorough {
                attached.look_after_the_dead();
            }
            (!matches!(log.look(index), ReadStatus::Nothing)).then_some(())
        };
        attached.structure()?.bell(Role::Receiver).wait(until, attempt);
        Ok(())
    }
}

impl<T: ?Sized> Subscriber<T> {
    pub(super) fn index(&self) -> usize {
        self.index
    }
    pub(super) fn attached(&self) -> &Arc<Attached> {
        &self.attached
    }
    /// Whether [`Subscriber::try_next`] has something to say.
    pub(super) fn has_next(&self) -> bool {
        let found = self.attached.structure().map(|structure| Log::of(structure).look(self.index));
        !matches!(found, Ok(ReadStatus::Nothing | ReadStatus::Lagged(_)))
    }
}

impl<T: ?Sized> Drop for Subscriber<T> {
    fn drop(&mut self) {
        // A forked child has no cursor: its parent has.
        if let Ok(structure) = self.attached.structure() {
            Log::of(structure).leave(self.index);
            structure.bell(Role::Sender).ring_after_store(u32::MAX);
        }
    }
}

/// A publication that is just read: nobody overwrites it.
pub struct Reading<'s, T: Payload + ?Sized> {
    /// Never freed by this one: it is the topic's.
    value: std::mem::ManuallyDrop<Message<'s, T>>,
    index: usize,
    attached: &'s Attached,
}

impl<T: Payload + ?Sized> Deref for Reading<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
impl<T: Payload + ?Sized> Drop for Reading<'_, T> {
    fn drop(&mut self) {
        self.attached.advance(self.index);
    }
}
