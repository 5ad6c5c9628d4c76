//! The cursors of a table: what protects a block that is read, and who has one that was displaced (M1).

use super::words::{BucketTurn, By, NAMED, Owned, Use, after, block, cursor, named, usage};
use super::{Bucket, Table};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::ipc::link::Link;
use crate::ipc::structure::HEAD;
use crate::matrix::block_header::{Header, LINKED};
use crate::matrix::heap::Live;
use crate::segment::region::Region;

impl<'a, R: Region> Table<'a, R> {
    fn cursor(&self, index: usize) -> Option<&'a <R::Backend as Backend>::Word> {
        self.structure.reader(index)
    }

    /// A cursor for the participant `me`, with which it reads and changes the table. None if all are held.
    pub fn hold(&self, me: u16) -> Option<usize> {
        let most = usize::from(self.structure.shape.readers);
        let near = usize::from(me) % most.max(1);
        let mine = cursor(Use::Held, me, 0);
        let free = |&index: &usize| {
            self.cursor(index)
                .is_some_and(|word| word.load(&CURSOR_LOOK) == 0 && word.cas(0, mine, &CURSOR_CLAIM).is_ok())
        };
        let index = if free(&near) { near } else { (near + 1..most).chain(0..near).find(free)? };
        // Whoever looks at the cursors looks as far as this.
        let highest = self.structure.field(HEAD);
        let mut known = highest.load(&CURSOR_LOOK);
        while known <= index as u64 {
            match highest.cas(known, index as u64 + 1, &CURSOR_JOIN) {
                Ok(_) => break,
                Err(found) => known = found,
            }
        }
        Some(index)
    }

    /// The cursor is nobody's again. It names nothing.
    pub fn drop_cursor(&self, index: usize) {
        if let Some(word) = self.cursor(index) {
            word.store(0, &CURSOR_STEP);
        }
    }

    /// The cursor names a link that is in under a turn. False if the turn has changed; then it names nothing.
    pub(super) fn name(&self, by: &mut By<'_>, bucket: Bucket<'a, R>, turn: BucketTurn, link: Link) -> bool {
        let Some(word) = self.cursor(by.cursor) else { return false };
        word.store(cursor(Use::Names, by.home, named(link)), &CURSOR_STEP);
        R::Backend::fence(&CURSOR_FENCE);
        let stands = Self::is_turn(bucket, turn, Mutant::NameUnvalidated);
        if !stands {
            self.unname(by, Some(link));
        }
        stands
    }

    /// The cursor names nothing any more. If the block is retired, and nobody else names it, it is freed.
    /// Whether it is retired.
    pub fn unname(&self, by: &mut By<'_>, was: Option<Link>) -> bool {
        let Some(link) = was else { return false };
        let (was_retired, freed) = self.leave(by.cursor, by.home, by.cache.owner(), link);
        if let Some(live) = freed {
            let _ = self.heap.free(by.cache, live.at, Some(live.header.generation()));
        }
        was_retired
    }

    /// The same without a cache: also the block, if it has become `me`'s.
    pub fn leave(&self, index: usize, home: u16, me: u16, link: Link) -> (bool, Option<Live>) {
        let Some(word) = self.cursor(index) else { return (false, None) };
        let early = R::Backend::mutated(Mutant::CursorDroppedEarly);
        let leaves = if early { Use::Held } else { Use::Leaves };
        word.store(cursor(leaves, home, named(link)), &CURSOR_STEP);
        R::Backend::fence(&CURSOR_FENCE);
        let retired = self.retired(named(link));
        let inherited = retired.and_then(|live| self.inherit(me, named(link), live));
        word.store(cursor(Use::Held, home, 0), &CURSOR_STEP);
        (retired.is_some(), inherited)
    }

    /// The header of a retired block, as long as nobody has it.
    #[inline]
    pub(super) fn retired(&self, named: u64) -> Option<Live> {
        let (at, retired) = block(named);
        let live = self.heap.live_at(at).ok()?;
        (live.header.owner() == LINKED && live.header.generation() == retired).then_some(live)
    }
    /// Whether the header says so, of a link's block.
    pub(super) fn is_retired(link: Link, header: Header) -> bool {
        header.owner() == LINKED && header.generation() == after(link.generation())
    }

    /// Takes a block that is retired, for `me`, unless somebody names it.
    pub(super) fn inherit(&self, me: u16, what: u64, live: Live) -> Option<Live> {
        if R::Backend::mutated(Mutant::RetiredForgotten) {
            return None;
        }
        R::Backend::fence(&CURSOR_FENCE);
        if self.is_named(what, usize::MAX) {
            return None;
        }
        self.take_retired(me, live)
    }

    fn take_retired(&self, me: u16, live: Live) -> Option<Live> {
        // Under another generation, so that what led to it while it was retired is told so (S5).
        let generation = after(live.header.generation());
        let ours = Header::new(live.header.state(), me, generation, live.header.low());
        self.heap.header(live.at).cas(live.header.0, ours.0, &TAKE).ok()?;
        Some(Live { at: live.at, header: ours })
    }

    /// Whether a cursor other than this one names a block. Behind a fence.
    fn is_named(&self, what: u64, but: usize) -> bool {
        let highest = self.structure.field(HEAD).load(&CURSOR_LOOK) as usize;
        let mut cursors = self.structure.readers().take(highest).enumerate();
        cursors.any(|(index, word)| {
            let word = word.load(&CURSOR_LOOK);
            index != but && usage(word) == Use::Names && word & NAMED == what
        })
    }

    /// Whether what the cursor names, and the caller has displaced, is the caller's alone: then its block is,
    /// and may be written.
    pub fn own(&self, by: &mut By<'_>, was: Link) -> Owned {
        let Some(word) = self.cursor(by.cursor) else { return Owned::Gone };
        R::Backend::fence(&CURSOR_FENCE);
        if self.is_named(named(was), by.cursor) && R::Backend::takes(Mutant::ReadersIgnored) {
            return Owned::Shared;
        }
        let taken = self.retired(named(was)).and_then(|live| self.take_retired(by.cache.owner(), live));
        word.store(cursor(Use::Held, by.home, 0), &CURSOR_STEP);
        taken.map_or(Owned::Gone, Owned::Mine)
    }
}
