//! A map that is open: its table, and cursors of it.

use super::error::Refused;
use crate::error::{Error, Result};
use crate::handlers::Handler;
use crate::ipc::channel::attached::Attached;
use crate::ipc::link::Link;
use crate::ipc::payload::Payload;
use crate::ipc::structure::{Role, Structure};
use crate::ipc::table::{By, Key, Table};
use crate::matrix::heap::Live;
use crate::segment::region::MappedRegion;
use siphasher::sip::SipHasher13;
use std::marker::PhantomData;
use std::sync::Arc;

/// The second half of the hash's key; the first is the segment's creation number.
const HASH_KEY: u64 = 0x6D61_7472_6978_6D61;

/// A map that this process has open. Any thread may use it.
pub struct Map<T: ?Sized> {
    pub(in crate::ipc) attached: Arc<Attached>,
    pub(in crate::ipc) of: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Clone for Map<T> {
    fn clone(&self) -> Self {
        Self { attached: self.attached.clone(), of: PhantomData }
    }
}

impl<T: Payload + ?Sized> Map<T> {
    /// The segment's handler.
    pub fn handler(&self) -> &Handler {
        &self.attached.handler
    }
    #[inline(always)]
    pub(super) fn table(&self) -> Result<Table<'_, MappedRegion>> {
        Ok(Table::of(self.attached.structure()?))
    }
    /// Calls with a cursor.
    pub(super) fn with<A>(
        &self,
        (cursor, home): (usize, u16),
        call: impl FnOnce(&Table<'_, MappedRegion>, &mut By<'_>) -> A,
    ) -> Result<A> {
        self.attached.with(|cache, structure| call(&Table::of(structure), &mut By { cache, cursor, home }))
    }
    /// What `copy` makes of what is under a key, without a cursor; of what was freed meanwhile nothing is told.
    #[inline]
    pub(super) fn copied<V>(&self, key: &[u8], mut copy: impl FnMut(Live) -> Result<V>) -> Result<Option<V>> {
        let copied = self.table()?.copied(&self.key(key), |live, _| copy(live));
        Ok(copied.and_then(Result::ok))
    }
    pub(super) fn drop_cursor(&self, cursor: usize) {
        if let Ok(table) = self.table() {
            table.drop_cursor(cursor);
        }
    }
    pub(super) fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        let hasher = SipHasher13::new_with_keys(self.handler().creation().get(), HASH_KEY);
        Key { hash: hasher.hash(bytes), bytes }
    }

    /// A cursor, and whose it is.
    pub(super) fn hold(&self) -> Result<(usize, u16)> {
        let home = self.handler().matrix().home()?;
        let table = self.table()?;
        let cursor = table.hold(home).or_else(|| {
            // Those of the dead are nobody's any more.
            self.attached.look_after_the_dead();
            table.hold(home)
        });
        Ok((cursor.ok_or(Error::MapRefused { why: Refused::NoGuard })?, home))
    }

    /// A cursor that names a block is nobody's any more; what it was the last to name is freed. In a forked
    /// child nothing happens: its parent has the cursor.
    pub(super) fn leave(&self, held: (usize, u16), link: Link) {
        let (cursor, home) = held;
        let told = |structure: Structure<'_, MappedRegion>, was_retired| {
            Table::of(structure).drop_cursor(cursor);
            if was_retired {
                structure.bell(Role::Sender).ring_after_store(u32::MAX);
            }
        };
        let left = self.attached.with(|cache, structure| {
            told(structure, Table::of(structure).unname(&mut By { cache, cursor, home }, Some(link)));
        });
        if left.is_err()
            && let Ok(structure) = self.attached.structure()
        {
            // This thread has no number: it becomes the process's, and is freed as another thread's.
            let (was_retired, freed) = Table::of(structure).leave(cursor, home, home, link);
            if let Some(live) = freed {
                let _ = self.handler().matrix().free(Ok(live));
            }
            told(structure, was_retired);
        }
    }
}
