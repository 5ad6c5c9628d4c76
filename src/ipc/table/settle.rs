//! What a recovery does to a table, and the last user.

use super::words::{NAMED, Use, cursor, owner, usage};
use super::{Bucket, IN, Table};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::ipc::link::{Cell, Link, Standing};
use crate::ipc::structure::Settled;
use crate::matrix::heap::ThreadCache;
use crate::segment::region::Region;

impl<'a, R: Region> Table<'a, R> {
    /// L-c, for one table: changes of the dead one are completed, what it had prepared is its own again, and
    /// its cursors leave. What it was the last to name becomes `me`'s: freed with the cache, or with the dead
    /// one's blocks if that is `me`.
    pub(in crate::ipc) fn settle(
        &self,
        dead: u16,
        me: u16,
        mut cache: Option<&mut ThreadCache>,
        settled: &mut Settled,
    ) {
        if R::Backend::takes(Mutant::LinksUnsettled) {
            self.buckets().for_each(|bucket| self.settle_bucket(bucket, dead, settled));
        }
        for word in self.structure.readers() {
            let found = word.load(&CURSOR_LOOK);
            if usage(found) == Use::None || owner(found) != dead {
                continue;
            }
            let (mut now, what) = (found, found & NAMED);
            if usage(found) == Use::Names {
                now = cursor(Use::Leaves, dead, what);
                let _ = word.cas(found, now, &CURSOR_CLAIM);
            }
            if usage(now) == Use::Leaves && R::Backend::takes(Mutant::DeadLeaveNothing) {
                R::Backend::fence(&CURSOR_FENCE);
                let inherited = self.retired(what).and_then(|live| self.inherit(me, what, live));
                if let (Some(live), Some(cache)) = (inherited, cache.as_deref_mut()) {
                    let _ = self.heap.free(cache, live.at, Some(live.header.generation()));
                }
            }
            let _ = word.cas(now, 0, &CURSOR_CLAIM);
        }
    }

    fn settle_bucket(&self, bucket: Bucket<'a, R>, dead: u16, settled: &mut Settled) {
        while !self.complete(bucket, Self::turn(bucket)) {
            R::Backend::pause();
        }
        // The dead one takes no further turn: what is prepared now stays so.
        for place in &bucket[1..] {
            let word = place.load(&CELL_LOOK);
            if let Cell::Link(link) = Cell::of(word)
                && link.lap() & IN == 0
                && link.giver() == dead
                && place.cas(word, 0, &CELL_CLEAR).is_ok()
            {
                settled.void_words += 1;
            }
        }
    }

    /// Frees what is left in the table of a structure that is REMOVED and that nobody uses.
    pub(in crate::ipc) fn drain(&self, cache: &mut ThreadCache) {
        for bucket in self.buckets() {
            while !self.complete(bucket, Self::turn(bucket)) {
                R::Backend::pause();
            }
            for place in &bucket[1..] {
                let word = place.load(&CELL_LOOK);
                let Cell::Link(link) = Cell::of(word) else { continue };
                let taken = match self.heap.standing(link) {
                    Standing::Pending(header) | Standing::Present(header) => {
                        self.heap.take_link(cache.owner(), link, header)
                    }
                    Standing::Void => None,
                };
                let _ = place.cas(word, 0, &CELL_CLEAR);
                if let Some(taken) = taken {
                    let _ = self.heap.free(cache, taken.live.at, Some(taken.live.header.generation()));
                }
            }
        }
    }

    /// Whether no place names a block any more.
    pub(in crate::ipc) fn is_drained(&self) -> bool {
        self.links().next().is_none()
    }

    /// The links that stand in the table just now, with what their blocks' headers say. Reads only.
    pub fn links(&self) -> impl Iterator<Item = (Link, Standing)> + use<'a, R> {
        let heap = self.heap;
        let places = self.buckets().flat_map(|bucket| &bucket[1..]);
        places.filter_map(move |place| match Cell::of(place.load(&CELL_LOOK)) {
            Cell::Link(link) => Some((link, heap.standing(link))),
            _ => None,
        })
    }
}
