//! Maps: from byte strings to values of any size, for any number of processes.
//!
//! ```
//! use atomic_matrix::segment::Options;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = Options::new().memfd().size(1 << 20).create()?;
//! let users = handler.map::<[u8]>("users").capacity(1000).open_or_create()?;
//! let mut name = users.message_slice(b"ada", 12)?; // with room for the key, filled where it lies
//! name.copy_from_slice(b"Ada Lovelace");
//! users.insert(b"ada", name)?;
//! let found = users.get(b"ada")?; // not copied: it stays as it is until the guard is dropped
//! assert_eq!(found.as_deref(), Some(&b"Ada Lovelace"[..]));
//! let taken = users.take(b"ada")?; // mine, although `found` still reads it
//! assert_eq!(taken.as_deref(), Some(&b"Ada Lovelace"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! A value is a [`Message`]'s block, which the map has from the insertion on; replacing or taking it gives it
//! back. One key has one value: each change is one step for everybody, so that whoever looks a key up while
//! it is replaced finds the old value or the new one.
//!
//! **Progress.** Every call is lock-free: it needs nobody else's step, and begins anew only because a change
//! of keys that share its bucket took effect. Readers keep nobody from replacing or taking out what they
//! read. [`Displaced::into_message`] alone waits, for those who read the value still, and no longer than it
//! is told.
//!
//! **Killed.** Who puts something in, replaces it or takes it out: that has happened or not, and what was his
//! is freed by a recovery, which any process does in passing. Who reads: nothing; what he was the last to
//! read is freed. Nothing is lost, and nobody needs to do anything (`ipc::table`, obligations M1, M2, Q3).
//!
//! **Limits.** Keys of 0 to 4096 bytes. A map for n entries (131 072 at most) has buckets of 15 places, two
//! entries to each on the average if it is full; a key whose bucket is full is refused ([`Refused::Full`])
//! and the message comes back. With n entries in it, that happens to one bucket of 10^9; a map takes several
//! times n before it is likely. Replacing needs a place, too, until it is done. 8 bytes a place, so 64 bytes
//! an entry at most, beside the entries themselves, which lie in the common heap. A process that stops inside
//! a call hides one place and one guard until it goes on, or is recovered.

mod error;
mod guard;
mod opened;
#[cfg(test)]
mod tests;

pub use error::{InsertError, Refused};
pub use guard::{Displaced, Entry};
pub use opened::Map;

use super::link::Link;
use super::message::Message;
use super::payload::Payload;
use super::structure::Sort;
use super::table::{BUCKET_SHIFT, By, Key, MAX_KEY, Table, When, label_words};
use super::topic::{find, open};
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::matrix::heap::Live;
use crate::segment::region::MappedRegion;
use crate::shared::{InPlace, Shared, zeroed};
use guard::Pinned;
use std::marker::PhantomData;

/// The most entries that a map may be made for.
const MAX_CAPACITY: usize = 1 << 17;
/// Entries for each bucket of a full map.
const LOAD: usize = 2;
const MAX_GUARDS: u16 = 1024;

/// What a look-up finds: the cursor that names it and whose that is, the block, the link to it.
type LookedUp = ((usize, u16), Live, Link);

/// What a map's maker may choose; from [`Handler::map`].
#[must_use = "a map is opened by `open_or_create`"]
pub struct MapOptions<'h, 'n, T: ?Sized> {
    handler: &'h Handler,
    name: Option<&'n str>,
    capacity: usize,
    guards: u16,
    of: PhantomData<fn() -> Box<T>>,
}

impl Handler {
    /// The map of that name with values of `T`, to be made or opened.
    pub fn map<'h, 'n, T: Payload + ?Sized>(&'h self, name: &'n str) -> MapOptions<'h, 'n, T> {
        MapOptions { handler: self, name: Some(name), capacity: 256, guards: 64, of: PhantomData }
    }

    /// A map without a name, to be made: [`Handler::open_ref`] says what leads to it, and how long it stays.
    pub fn unnamed_map<T: Payload + ?Sized>(&self) -> MapOptions<'_, 'static, T> {
        MapOptions { handler: self, name: None, capacity: 256, guards: 64, of: PhantomData }
    }
}

impl<T: Payload + ?Sized> MapOptions<'_, '_, T> {
    /// For how many entries it is made, if it is: 1 to 131 072; 256 by default. See the limits in the module's text.
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }
    /// How many guards and calls in progress there may be at once, in all processes, if it is made: 1 to 1024;
    /// 64 by default. 128 bytes each.
    pub fn guards(mut self, guards: u16) -> Self {
        self.guards = guards;
        self
    }
    /// Makes the map, or opens it if there is one of its name, whatever it was made for.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::TypeMismatch`] if what has that name is no map of this type;
    /// [`Error::OutOfMemory`], [`Error::DirectoryFull`], [`Error::NameTooLong`], [`Error::ChangingHands`],
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn open_or_create(self) -> Result<Map<T>> {
        if !(1..=MAX_CAPACITY).contains(&self.capacity) {
            let found = self.capacity.to_string();
            return Err(Error::BadOption { option: "capacity", found, allowed: "1 to 131072 entries" });
        }
        if !(1..=MAX_GUARDS).contains(&self.guards) {
            let found = self.guards.to_string();
            return Err(Error::BadOption { option: "guards", found, allowed: "1 to 1024" });
        }
        let cells = self.capacity.div_ceil(LOAD).next_power_of_two() << BUCKET_SHIFT;
        let attached = open::<Map<T>>(self.handler, self.name, Sort::Map, cells, self.guards, T::FINGERPRINT)?;
        Ok(Map { attached, of: PhantomData })
    }

    /// Opens the map; it must be there.
    ///
    /// # Errors
    /// [`Error::NameUnknown`]; others as [`MapOptions::open_or_create`].
    pub fn open(self) -> Result<Map<T>> {
        let attached = find::<Map<T>>(self.handler, self.name, Sort::Map, T::FINGERPRINT)?;
        Ok(Map { attached, of: PhantomData })
    }
}

impl<T: Payload + ?Sized> Map<T> {
    /// Puts a message under a key, and gives back what was there: the map has the message from now on. Lock-free.
    ///
    /// A message with room for its key ([`Map::message_slice`], [`Map::message`]) stays where it is; another
    /// may have to be copied: O(bytes).
    ///
    /// # Errors
    /// [`InsertError`] with the message: not [`Refused::Exists`], nor [`Refused::Unknown`].
    pub fn insert<'m>(
        &self,
        key: &[u8],
        message: Message<'m, T>,
    ) -> std::result::Result<Option<Displaced<'_, T>>, InsertError<'m, T>> {
        self.put(key, message, When::Always)
    }

    /// As [`Map::insert`], if the key is not there: of several who try, one succeeds.
    ///
    /// # Errors
    /// [`InsertError`] with the message: [`Refused::Exists`] if the key is there.
    pub fn insert_new<'m>(&self, key: &[u8], message: Message<'m, T>) -> std::result::Result<(), InsertError<'m, T>> {
        self.put(key, message, When::Absent).map(drop)
    }

    /// As [`Map::insert`], if the key is there. What was there is none only if it was freed by its offset, by
    /// somebody who had no right to.
    ///
    /// # Errors
    /// [`InsertError`] with the message: [`Refused::Unknown`] if the key is not there.
    pub fn replace<'m>(
        &self,
        key: &[u8],
        message: Message<'m, T>,
    ) -> std::result::Result<Option<Displaced<'_, T>>, InsertError<'m, T>> {
        self.put(key, message, When::Present)
    }

    fn put<'m>(
        &self,
        key: &[u8],
        message: Message<'m, T>,
        when: When,
    ) -> std::result::Result<Option<Displaced<'_, T>>, InsertError<'m, T>> {
        let (key, handler) = (self.key(key), self.handler());
        let why = if key.bytes.len() > MAX_KEY {
            Some(Refused::KeyTooLong)
        } else if message.handler().creation() != handler.creation() {
            Some(Refused::NotOwn)
        } else {
            None
        };
        if let Some(why) = why {
            return Err(InsertError { message, why });
        }
        let copy = match self.with_room(&key, &message) {
            Ok(copy) => copy,
            Err(why) => return Err(InsertError { message, why }),
        };
        match self.put_block(&key, copy.as_ref().unwrap_or(&message), when) {
            Ok(displaced) => {
                match copy {
                    // The original is freed.
                    Some(copy) => _ = copy.forget(),
                    None => _ = message.forget(),
                }
                Ok(displaced)
            }
            Err(why) => Err(InsertError { message, why }),
        }
    }

    /// A copy of the message that has room for its key, if it has none itself.
    fn with_room(
        &self,
        key: &Key<'_>,
        message: &Message<'_, T>,
    ) -> std::result::Result<Option<Message<'_, T>>, Refused> {
        self.handler().copy_with_room(message, key.label_words() * 8).map_err(|error| match error {
            Error::OutOfMemory { .. } | Error::TooLarge { .. } => Refused::OutOfMemory,
            Error::NotLive { .. } => Refused::NotOwn,
            _ => Refused::NoParticipant,
        })
    }

    fn put_block(
        &self,
        key: &Key<'_>,
        message: &Message<'_, T>,
        when: When,
    ) -> std::result::Result<Option<Displaced<'_, T>>, Refused> {
        let put = |table: &Table<'_, MappedRegion>, by: &mut By<'_>| {
            let live = self.attached.own(by.cache, message).map_err(|_| Refused::NotOwn)?;
            if !table.write_label(live, key) {
                return Err(Refused::NotOwn);
            }
            Ok(table.put(by, live, key, when)?)
        };
        let put = self.change(put).map_err(|error| match error {
            Error::MapRefused { why } => why,
            _ => Refused::NoParticipant,
        });
        put?
    }

    /// Calls with a cursor, and makes what it names a [`Displaced`].
    fn change<E>(
        &self,
        call: impl FnOnce(&Table<'_, MappedRegion>, &mut By<'_>) -> std::result::Result<Option<Link>, E>,
    ) -> Result<std::result::Result<Option<Displaced<'_, T>>, E>> {
        let held = self.hold()?;
        let changed = self.with(held, |table, by| Ok(call(table, by)?.map(|was| (was, table.own(by, was)))));
        if !matches!(changed, Ok(Ok(Some(_)))) {
            self.drop_cursor(held.0);
        }
        Ok(changed?.map(|was| was.and_then(|(was, owned)| Displaced::new(self, held, was, owned))))
    }

    /// The value under a key, where it lies: it stays as it is until the guard is dropped. Lock-free.
    ///
    /// # Errors
    /// [`Error::MapRefused`] if as many guards and calls as the map was made for are at work;
    /// [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry<'_, T>>> {
        let key = self.key(key);
        // All of it in one step, if a cursor is free.
        let found = self.attached.with(|cache, structure| {
            let (table, home) = (Table::of(structure), self.attached.home());
            let cursor = table.hold(home)?;
            let found = table.get(&mut By { cache, cursor, home }, &key);
            if found.is_none() {
                table.drop_cursor(cursor);
            }
            Some(found.map(|(live, link)| ((cursor, home), live, link)))
        })?;
        let found = match found {
            Some(found) => found,
            None => self.get_patiently(&key)?,
        };
        Ok(found.and_then(|(held, live, link)| Pinned::new(self, held, live, link)).map(Entry))
    }

    /// As [`Map::get`], where no cursor was free.
    #[cold]
    fn get_patiently(&self, key: &Key<'_>) -> Result<Option<LookedUp>> {
        let held = self.hold()?;
        let found = self.with(held, |table, by| table.get(by, key));
        if !matches!(found, Ok(Some(_))) {
            self.drop_cursor(held.0);
        }
        Ok(found?.map(|(live, link)| (held, live, link)))
    }

    /// Whether a key is there. Takes no guard, and writes nothing. Lock-free.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.copied(key, |_| Ok(()))?.is_some())
    }

    /// Takes the value under a key out: of several who try, one gets it. Lock-free.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn take(&self, key: &[u8]) -> Result<Option<Displaced<'_, T>>> {
        let key = self.key(key);
        let taken = self.change(|table, by| Ok::<_, std::convert::Infallible>(table.take(by, &key)))?;
        Ok(taken.unwrap_or_default())
    }

    /// The keys that are there. O(places) and the keys' bytes.
    ///
    /// Weakly consistent: a key that is there throughout is among them once, replaced or not; one that comes
    /// or goes meanwhile may be.
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn keys(&self) -> Result<Vec<Vec<u8>>> {
        let held = self.hold()?;
        let keys =
            self.with(held, |table, by| (0..table.bucket_count()).flat_map(|bucket| table.keys(by, bucket)).collect());
        self.drop_cursor(held.0);
        keys
    }

    /// Keys and values. As [`Map::keys`]; a key that has gone when it is its turn is left out.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let squares = handler.map::<u64>("squares").open_or_create()?;
    /// for number in 0..10u64 {
    ///     squares.insert_value(&number.to_le_bytes(), number * number)?;
    /// }
    /// let mut sum = 0;
    /// for entry in squares.iter()? {
    ///     let (_key, square) = entry?;
    ///     sum += *square;
    /// }
    /// assert_eq!(sum, 285);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Map::get`].
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<(Vec<u8>, Entry<'_, T>)>>> {
        let keys = self.keys()?;
        Ok(keys.into_iter().filter_map(|key| {
            let found = self.get(&key).transpose()?;
            Some(found.map(|entry| (key, entry)))
        }))
    }

    /// Entries in it: exact when nobody is inside a call. O(places).
    pub fn len(&self) -> usize {
        self.table().map_or(0, |table| table.len())
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// For how many entries it was made, or a few more.
    pub fn capacity(&self) -> usize {
        (self.attached.shape.cells() >> BUCKET_SHIFT) * LOAD
    }

    /// Removes the map: its name is free, nobody puts anything in any more, and its memory is freed after the
    /// last user, with what is in it.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn remove(&self) -> Result<()> {
        self.attached.remove()
    }
}

impl<T: InPlace> Map<[T]> {
    /// A message of so many items, which are whatever bytes were there before, with room for its key.
    ///
    /// # Errors
    /// As [`Handler::message_slice`].
    pub fn message_slice(&self, key: &[u8], items: usize) -> Result<Message<'_, [T]>> {
        self.handler().filled_message_with(items, label_words(key) * 8, |_| ())
    }
}

impl<T: InPlace> Map<T> {
    /// A message for a `T`, whatever bytes were there before, with room for its key.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn message(&self, key: &[u8]) -> Result<Message<'_, T>> {
        self.handler().filled_message_with(1, label_words(key) * 8, |_| ())
    }
}

impl<T: Shared> Map<T> {
    /// Puts a value under a key: a copy of what was there, if anything was.
    ///
    /// # Errors
    /// As [`Map::insert`] and [`Handler::message`].
    pub fn insert_value(&self, key: &[u8], value: T) -> Result<Option<T>> {
        let mut message = self.message(key)?;
        *message = value;
        Ok(self.insert(key, message)?.map(|displaced| displaced.value()))
    }

    /// A copy of the value under a key, if it is there. Takes no guard, and writes nothing: for values of no more than
    /// some hundred bytes the quickest look-up, and the one that any number may do at once. Lock-free.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn get_value(&self, key: &[u8]) -> Result<Option<T>> {
        let mut value = zeroed::<T>();
        let copied = self.copied(key, |live| self.handler().copy_value_into(live, &mut value))?;
        Ok(copied.map(|()| value))
    }
}
