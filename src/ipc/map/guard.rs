//! What a map gives out: a value that is in it, and one that is no longer.

use super::opened::Map;
use crate::handlers::Handler;
use crate::ipc::link::{Link, Taken};
use crate::ipc::message::Message;
use crate::ipc::payload::Payload;
use crate::ipc::structure::Role;
use crate::ipc::table::Owned;
use crate::ipc::wait::{Look, deadline};
use crate::matrix::heap::Live;
use crate::shared::Shared;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::time::Duration;

/// A cursor of the map that names a block, which therefore stays as it is.
pub(super) struct Pinned<'m, T: Payload + ?Sized> {
    map: &'m Map<T>,
    /// The cursor, and whose it is.
    held: (usize, u16),
    link: Link,
    /// Never freed by this one.
    value: ManuallyDrop<Message<'m, T>>,
}

impl<'m, T: Payload + ?Sized> Pinned<'m, T> {
    /// None if the block is of another type; then the cursor is nobody's.
    pub(super) fn new(map: &'m Map<T>, held: (usize, u16), live: Live, link: Link) -> Option<Self> {
        match Message::received(map.handler(), Taken { live, giver: 0 }) {
            Some(message) => Some(Self { map, held, link, value: ManuallyDrop::new(message) }),
            None => {
                map.leave(held, link);
                None
            }
        }
    }
}

impl<T: Payload + ?Sized> Drop for Pinned<'_, T> {
    fn drop(&mut self) {
        self.map.leave(self.held, self.link);
    }
}

/// A value that is in the map, or was when it was looked up: it stays as it is until this guard is dropped,
/// whoever replaces it or takes it out meanwhile.
///
/// Nobody waits for it, but for [`Displaced::into_message`]. A guard takes one of the map's places for guards
/// ([`MapOptions::guards`](super::MapOptions::guards)).
pub struct Entry<'m, T: Payload + ?Sized>(pub(super) Pinned<'m, T>);

impl<T: Payload + ?Sized> Deref for Entry<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}
impl<T: Shared> Entry<'_, T> {
    /// A copy of the value.
    pub fn value(&self) -> T {
        **self
    }
}
impl<T: Payload + ?Sized + std::fmt::Debug> std::fmt::Debug for Entry<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&&**self).finish()
    }
}

/// A value that was replaced or taken out: whoever did so has it. Dropped, it is freed, as soon as nobody
/// reads it any more.
pub struct Displaced<'m, T: Payload + ?Sized>(OldValue<'m, T>);

enum OldValue<'m, T: Payload + ?Sized> {
    /// Nobody else reads it.
    Own(Message<'m, T>),
    /// Others may read it still.
    Read(Pinned<'m, T>),
}

impl<'m, T: Payload + ?Sized> Displaced<'m, T> {
    /// Of what the caller has displaced, and its cursor named. None if it is of another type; then it is freed.
    pub(super) fn new(map: &'m Map<T>, held: (usize, u16), was: Link, owned: Owned) -> Option<Self> {
        let found = match owned {
            Owned::Mine(live) => {
                map.drop_cursor(held.0);
                return Self::own(map.handler(), live, was);
            }
            Owned::Shared => map.handler().matrix().heap().live_at(was.at()),
            Owned::Gone => {
                map.drop_cursor(held.0);
                return None;
            }
        };
        let Ok(live) = found else {
            map.leave(held, was);
            return None;
        };
        Pinned::new(map, held, live, was).map(|named| Self(OldValue::Read(named)))
    }

    fn own(handler: &'m Handler, live: Live, was: Link) -> Option<Self> {
        let message = Message::received(handler, Taken { live, giver: was.giver() });
        if message.is_none() {
            let _ = handler.free_message(&handler.pointer(live));
        }
        message.map(|message| Self(OldValue::Own(message)))
    }

    /// As a message of its own, to be written or sent on, once nobody reads it any more. Who has got a guard
    /// before it was displaced is waited for, no longer than this; nobody gets another one.
    ///
    /// # Errors
    /// Itself, if somebody still reads it then.
    pub fn into_message(self, timeout: Duration) -> Result<Message<'m, T>, Self> {
        let named = match self.0 {
            OldValue::Own(message) => return Ok(message),
            OldValue::Read(named) => ManuallyDrop::new(named),
        };
        let (map, handler) = (named.map, named.map.handler());
        let attempt = |look| {
            if look == Look::Thorough {
                map.attached.look_after_the_dead();
            }
            match map.with(named.held, |table, by| table.own(by, named.link)) {
                Ok(Owned::Mine(live)) => Some(live),
                Ok(Owned::Shared | Owned::Gone) | Err(_) => None,
            }
        };
        let structure = map.attached.structure();
        let owned = structure.ok().and_then(|it| it.bell(Role::Sender).wait(deadline(timeout), attempt));
        match owned {
            Some(live) => {
                map.drop_cursor(named.held.0);
                // Of this type: it has been looked at.
                match Self::own(handler, live, named.link) {
                    Some(Self(OldValue::Own(message))) => Ok(message),
                    _ => unreachable!("a block that nobody writes is of another type"),
                }
            }
            None => Err(Self(OldValue::Read(ManuallyDrop::into_inner(named)))),
        }
    }
}

impl<T: Payload + ?Sized> Deref for Displaced<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.0 {
            OldValue::Own(message) => message,
            OldValue::Read(named) => &named.value,
        }
    }
}
impl<T: Shared> Displaced<'_, T> {
    /// A copy of the value.
    pub fn value(&self) -> T {
        **self
    }
}
impl<T: Payload + ?Sized + std::fmt::Debug> std::fmt::Debug for Displaced<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Displaced").field(&&**self).finish()
    }
}
