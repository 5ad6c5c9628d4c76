//! Structures: blocks whose words many participants change. When one may be written, and when its block may be freed,
//! is in `reclaim`.
//!
//! All words of a structure lie in the structure's own block. That block is unowned, and has a reserved type
//! fingerprint, so that the recovery's own walk finds it: there is no registry, and no limit to their number.
//!
//! ```text
//! [ seal, shape | state, deaths, highest, awaited call | tail | head
//!   | bell, sleepers of receivers | the same of senders ] [ users ] [ cells ]
//! ```
//!
//! **A maker that dies** leaves a block of its own, which its recovery frees, whatever the policy for blocks
//! of the dead is: it has no user yet, and nothing is in it. A newcomer that finds its name meanwhile finds a block
//! that has an owner, and counts it as not published.

use super::link::Cell;
pub use super::sort::Sort;
use super::wait::Bell;
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Reach, Word};
use crate::matrix::block_header::FINGERPRINT_MASK;
use crate::matrix::heap::{Exhausted, Heap, Kind, Live, ThreadCache};
use crate::segment::layout::{Granule, Layout};
use crate::segment::region::Region;
use std::ptr::NonNull;

/// The fingerprint of structures' blocks: [`crate::Shared`] types have none of the last sixteen.
pub const STRUCTURE: u32 = FINGERPRINT_MASK;
/// log2 of the most cells.
pub const MAX_CELLS_SHIFT: u32 = 20;

/// What a structure's maker chose: one word of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// What it is.
    pub sort: Sort,
    /// log2 of its cells.
    pub cells_shift: u32,
    /// Cursors of readers; or permits, or parties, or holds.
    pub readers: u16,
    /// What is in the blocks that it holds.
    pub content: u32,
}

impl Shape {
    const SEAL: u64 = 0xA70C_6D61_7472_6978;

    fn word(self) -> u64 {
        (self.sort as u64) << 56 | (self.cells_shift as u64) << 48 | (self.readers as u64) << 32 | self.content as u64
    }
    /// Whatever the word holds (C2).
    fn of(word: u64) -> Option<Self> {
        let sort = Sort::of(word >> 56)?;
        let (cells_shift, readers) = ((word >> 48) as u32 & 0xFF, (word >> 32) as u16);
        let shape = Self { sort, cells_shift, readers, content: word as u32 };
        // A map's bucket is a turn and a place at least.
        let least = u32::from(sort == Sort::Map);
        ((least..=MAX_CELLS_SHIFT).contains(&cells_shift) && shape.word() == word).then_some(shape)
    }
    /// A checksum: splitmix64's finalizer.
    fn seal(self) -> u64 {
        let mut z = self.word() ^ Self::SEAL;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
    /// Cells.
    pub fn cells(self) -> usize {
        1 << self.cells_shift
    }
    /// Words of such a structure.
    pub fn words(self, layout: &Layout) -> usize {
        self.places(layout).words
    }
    /// Where its parts lie. Some divisions: keep the answer where it is wanted often.
    pub(super) fn places(self, layout: &Layout) -> Places {
        let (cells, group) = (cells_at(layout), group(layout));
        let end = cells + self.cells();
        // The cursors of readers have a pair of cache lines each; in their place there may be holds.
        let readers = if self.cursors() + self.holds() == 0 { end } else { end.next_multiple_of(group) };
        Places { cells, readers, words: readers + self.cursors() * group + self.holds(), group }
    }
    /// Whether it knows what its receivers hold.
    pub(super) fn has_holds(self) -> bool {
        self.sort == Sort::Redelivering
    }
    /// Holds of receivers: a word each.
    fn holds(self) -> usize {
        if self.has_holds() { self.readers.into() } else { 0 }
    }
    /// Cursors of readers.
    fn cursors(self) -> usize {
        if matches!(self.sort, Sort::Topic | Sort::Board | Sort::Map) { self.readers.into() } else { 0 }
    }
    /// Whether its cells wait for tickets.
    fn has_tickets(self) -> bool {
        matches!(self.sort, Sort::Channel | Sort::Single | Sort::Redelivering | Sort::Topic | Sort::Board)
    }
    /// Granules of such a structure.
    pub fn granules(self, layout: &Layout) -> u32 {
        self.words(layout).div_ceil(layout.granule_words()) as u32
    }
}

/// Where the cells of a structure begin, and its readers' cursors or holds; and how many words it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    cells: usize,
    readers: usize,
    words: usize,
    /// Words of a group of the header, and of a cursor's pair of cache lines.
    group: usize,
}

/// The words of a structure's header: the group, of which each begins a pair of cache lines, and the word in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field(usize, usize);

pub(super) const SEAL: Field = Field(0, 0);
pub(super) const SHAPE: Field = Field(0, 1);
/// How often messages were given back, and how many of those returns a look at the holds stands for.
pub(super) const RETURNED: Field = Field(0, 2);
pub(super) const SCANNED: Field = Field(0, 3);
pub(super) const STATE: Field = Field(1, 0);
pub(super) const DEATHS: Field = Field(1, 1);
pub(super) const HIGHEST: Field = Field(1, 2);
pub(super) const AWAITED: Field = Field(1, 3);
pub(super) const TAIL: Field = Field(2, 0);
/// The one sender's number, if there may be one alone; beside it the head as that one has seen it last.
pub(super) const SENDER: Field = Field(2, 1);
pub(super) const SEEN: Field = Field(2, 2);
pub(super) const HEAD: Field = Field(3, 0);
/// The one receiver's number.
pub(super) const RECEIVER: Field = Field(3, 1);
/// In its place, where there may be many: a receiver waits until a message is acknowledged.
pub(super) const WANTED: Field = RECEIVER;
const RECEIVERS_RINGS: Field = Field(4, 0);
const RECEIVERS_ASLEEP: Field = Field(4, 1);
const SENDERS_RINGS: Field = Field(5, 0);
const SENDERS_ASLEEP: Field = Field(5, 1);
const GROUPS: usize = 6;

/// Words of a group.
#[inline(always)]
fn group(layout: &Layout) -> usize {
    (layout.params.line_words * 2).max(4)
}
fn users_at(layout: &Layout) -> usize {
    GROUPS * group(layout)
}
fn cells_at(layout: &Layout) -> usize {
    (users_at(layout) + layout.params.participants).next_multiple_of(group(layout))
}

/// Nothing may be put in any more: a receiver that finds the ring empty seals it.
pub(super) const CLOSED: u64 = 1;
/// The structure is freed as soon as it has no user.
pub(super) const REMOVED: u64 = 2;
/// There was a sender, or a receiver, at some time.
pub(super) const HAD_SENDERS: u64 = 4;
pub(super) const HAD_RECEIVERS: u64 = 8;
/// No name leads to it: whoever finds that it has no user removes it.
pub(super) const UNNAMED: u64 = 16;
/// Above this: how often a user has left, or died, or the channel was closed.
pub(super) const CHANGES_AT: u32 = 8;

/// The roles of a structure's users. A participant's word counts how often it has each, 16 bits a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// A process that has the structure open.
    User = 0,
    /// A sender.
    Sender = 16,
    /// A receiver.
    Receiver = 32,
}

impl Role {
    const fn one(self) -> u64 {
        1 << self as u32
    }
    /// The role at the other end.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
            Self::User => Self::User,
        }
    }
    /// How many of this role a participant's word counts.
    pub(super) const fn count(self, word: u64) -> u64 {
        word >> self as u32 & MOST_COUNTED
    }
}

/// A participant is counted so often at most in each role.
pub const MOST_COUNTED: u64 = 0xFFFF;

/// Why a participant is not counted among the users of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotJoined {
    /// The structure is REMOVED: it takes no new users.
    Removed,
    /// The participant is counted [`MOST_COUNTED`] times in this role already.
    TooMany,
}

/// What settling the links of the dead found.
#[derive(Debug, Clone, Default)]
pub struct Settled {
    /// Structures that were looked at.
    pub structures: u64,
    /// Links of the dead that were completed: their messages are sent.
    pub links: u64,
    /// Words of taken blocks that were emptied.
    pub void_words: u64,
    /// Messages that workers held, and that wait to be delivered again.
    pub returned: u64,
    /// Rings of clients, who may wait for what the dead worked at.
    pub clients: Vec<Live>,
}

/// A structure that its caller may read; and write, while it is counted among its users, or visits it.
pub struct Structure<'a, R: Region> {
    pub(super) heap: &'a Heap<R>,
    pub(super) words: &'a [<R::Backend as Backend>::Word],
    /// What its maker chose.
    pub shape: Shape,
    /// Its block.
    pub at: Granule,
    pub(super) cells: usize,
    readers: usize,
    group: usize,
}

impl<R: Region> Clone for Structure<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: Region> Copy for Structure<'_, R> {}

impl<'a, R: Region> Structure<'a, R> {
    /// Makes a structure in a block of the cache's own, which no other has seen. It becomes everybody's
    /// when the block is made unowned.
    ///
    /// # Errors
    /// [`Exhausted`] when no block fits.
    pub fn make(heap: &'a Heap<R>, cache: &mut ThreadCache, shape: Shape) -> Result<Live, Exhausted> {
        Self::make_within(Reach::System, heap, cache, shape)
    }

    /// The same by fences of this reach ([`Heap::allocate_within`]).
    ///
    /// # Errors
    /// As for [`Structure::make`].
    pub(crate) fn make_within(
        reach: Reach,
        heap: &'a Heap<R>,
        cache: &mut ThreadCache,
        shape: Shape,
    ) -> Result<Live, Exhausted> {
        let layout = heap.layout();
        // From now on a recovery looks for structures.
        heap.region().word(layout.structures()).fetch_add(1, &STRUCTURE_CHANGE);
        let align = (layout.params.line_words * 2 / layout.granule_words()).max(1) as u32;
        let live = heap.allocate_within(reach, cache, shape.granules(layout), align, Kind::Typed(STRUCTURE))?;
        let Some(words) = heap.region().payload(live.at, shape.words(layout)) else {
            let _ = heap.free(cache, live.at, None);
            return Err(Exhausted { free: 0, largest: 0 });
        };
        // Every page is touched, so that there is memory for it, and its words are as they should be.
        words[..cells_at(layout)].iter().for_each(|word| word.store(0, &STRUCTURE_WRITE));
        for (ticket, cell) in words[cells_at(layout)..][..shape.cells()].iter().enumerate() {
            let empty = Cell::Empty(ticket as u64).word();
            cell.store(if shape.has_tickets() { empty } else { 0 }, &STRUCTURE_WRITE);
        }
        words[cells_at(layout) + shape.cells()..].iter().for_each(|word| word.store(0, &STRUCTURE_WRITE));
        let field = |Field(first, word): Field| &words[first * group(layout) + word];
        if shape.sort == Sort::Semaphore {
            field(TAIL).store(shape.readers.into(), &STRUCTURE_WRITE);
        }
        field(SHAPE).store(shape.word(), &STRUCTURE_WRITE);
        field(SEAL).store(shape.seal(), &STRUCTURE_WRITE);
        Ok(live)
    }

    /// The structure in the block that begins at `at`, if one does and its header is whole. Reads only.
    pub fn at(heap: &'a Heap<R>, live: Live) -> Option<Self> {
        if heap.fingerprint(live) != Some(STRUCTURE) {
            return None;
        }
        let layout = heap.layout();
        let header = heap.region().payload(live.at, cells_at(layout))?;
        let field = |Field(first, word): Field| header[first * group(layout) + word].load(&STRUCTURE_LOOK);
        let shape = Shape::of(field(SHAPE)).filter(|shape| shape.seal() == field(SEAL))?;
        let fits = shape.granules(layout) <= live.header.size();
        let Places { cells, readers, words, group } = shape.places(layout);
        let words = heap.region().payload(live.at, words).filter(|_| fits)?;
        Some(Self { heap, words, shape, at: live.at, cells, readers, group })
    }

    /// Whether this block, which has a structure's fingerprint and is unowned still, has no whole header: its maker has
    /// written that before it let the block go, and whoever frees it changes the block's header first (C2').
    pub(super) fn is_damaged(heap: &'a Heap<R>, live: Live) -> bool {
        let structure = heap.is_structure(live) && live.header.owner() == 0;
        structure && Self::at(heap, live).is_none() && heap.look(live.at) == live.header
    }

    /// The words of a structure that the caller is counted among the users of.
    pub(super) fn words_at(heap: &'a Heap<R>, at: Granule, places: Places) -> &'a [<R::Backend as Backend>::Word] {
        heap.region().payload(at, places.words).unwrap_or_default()
    }

    /// A structure that the caller is counted among the users of, without a look at its header: its words, its shape,
    /// and where what lies of that shape.
    #[inline(always)]
    pub(super) fn known(
        heap: &'a Heap<R>,
        words: &'a [<R::Backend as Backend>::Word],
        at: Granule,
        shape: Shape,
        places: Places,
    ) -> Self {
        let Places { cells, readers, group, .. } = places;
        Self { heap, words, shape, at, cells, readers, group }
    }

    #[inline(always)]
    pub(super) fn field(&self, Field(first, word): Field) -> &'a <R::Backend as Backend>::Word {
        &self.words[first * self.group + word]
    }
    /// The first byte of its cells, which begin a pair of cache lines.
    pub(super) fn first_cell(&self) -> NonNull<u8> {
        NonNull::from(&self.words[self.cells..]).cast()
    }
    /// The cursors of readers.
    pub(super) fn readers(&self) -> impl Iterator<Item = &'a <R::Backend as Backend>::Word> + use<'a, R> {
        let (words, first, group) = (self.words, self.readers, self.group);
        (0..self.shape.cursors()).map_while(move |reader| words.get(first + reader * group))
    }
    /// One of them.
    #[inline(always)]
    pub(super) fn reader(&self, reader: usize) -> Option<&'a <R::Backend as Backend>::Word> {
        let at = self.readers + reader * self.group;
        if reader < self.shape.cursors() { self.words.get(at) } else { None }
    }
    /// The holds of receivers.
    pub(super) fn holds(&self) -> &'a [<R::Backend as Backend>::Word] {
        &self.words[self.readers..][..self.shape.holds()]
    }
    pub(super) fn users(&self) -> &'a [<R::Backend as Backend>::Word] {
        &self.words[users_at(self.heap.layout())..][..self.heap.layout().params.participants]
    }
    fn user(&self, number: u16) -> Option<&'a <R::Backend as Backend>::Word> {
        self.users().get((number as usize).checked_sub(1)?)
    }

    /// Counts one more of a role among the users: the participant `me`, which visits the structure; as
    /// another than a user, it is counted already.
    ///
    /// # Errors
    /// [`NotJoined`]: it is counted no more often than before.
    pub fn join(&self, me: u16, role: Role) -> Result<(), NotJoined> {
        if role == Role::User && self.is_removed() {
            return Err(NotJoined::Removed);
        }
        let user = self.user(me).ok_or(NotJoined::TooMany)?;
        let mut highest = self.field(HIGHEST).load(&STRUCTURE_LOOK);
        while highest < me as u64 {
            match self.field(HIGHEST).cas(highest, me as u64, &STRUCTURE_CHANGE) {
                Ok(_) => break,
                Err(found) => highest = found,
            }
        }
        let mut counted = user.load(&STRUCTURE_LOOK);
        loop {
            // One more would count as another role's.
            if role.count(counted) == MOST_COUNTED {
                return Err(NotJoined::TooMany);
            }
            match user.cas(counted, counted + role.one(), &STRUCTURE_CHANGE) {
                Ok(_) => break,
                Err(found) => counted = found,
            }
        }
        match role {
            Role::User => {}
            Role::Sender => _ = self.field(STATE).fetch_or(HAD_SENDERS, &STRUCTURE_CHANGE),
            Role::Receiver => _ = self.field(STATE).fetch_or(HAD_RECEIVERS, &STRUCTURE_CHANGE),
        }
        if role != Role::User {
            // A count that is under way, and has passed this one's word, begins again.
            self.field(STATE).fetch_add(1 << CHANGES_AT, &STRUCTURE_CHANGE);
        }
        Ok(())
    }

    /// Counts one more user, if the structure stays: it may have had none, and be removed by who has seen that.
    ///
    /// Whoever comes changes the state behind its count, and whoever removes what has no user changes it from what it
    /// was before the look at the users. So of the two changes the later one finds the other: the comer that the
    /// structure is removed, or the remover that it has to look again, and then at the comer's count.
    ///
    /// # Errors
    /// [`NotJoined`]: the caller, which visits it still, is counted no more.
    pub fn enter(&self, me: u16) -> Result<(), NotJoined> {
        self.join(me, Role::User)?;
        let state = self.field(STATE).fetch_add(1 << CHANGES_AT, &STRUCTURE_CHANGE);
        if R::Backend::check(state & REMOVED == 0, Mutant::EnteredUnasked) {
            return Ok(());
        }
        self.leave(me, Role::User);
        Err(NotJoined::Removed)
    }

    /// Removes the structure if no user is counted: whether that is so.
    pub(super) fn remove_if_unused(&self) -> bool {
        loop {
            let state = self.state();
            if self.is_used() {
                return false;
            }
            // A hidden one is not closed yet.
            let removed = state | REMOVED | CLOSED;
            if R::Backend::mutated(Mutant::RemovedUnasked) {
                self.remove();
                return !self.is_used();
            }
            if self.field(STATE).cas(state, removed, &STRUCTURE_CHANGE).is_ok() {
                return true;
            }
            R::Backend::pause();
        }
    }

    /// One of a role leaves. If it was the last use, the structure must not be written any more, and
    /// [`Structure::free_if_unused`] has its turn.
    pub fn leave(&self, number: u16, role: Role) {
        let Some(user) = self.user(number) else { return };
        if role != Role::User {
            // A waiter that sees the change looks at the users, and the leaver is counted as a user until later.
            user.fetch_add(role.one().wrapping_neg(), &STRUCTURE_CHANGE);
            self.field(STATE).fetch_add(1 << CHANGES_AT, &STRUCTURE_CHANGE);
            return;
        }
        user.fetch_add(role.one().wrapping_neg(), &STRUCTURE_CHANGE);
    }

    #[cfg(test)]
    pub(super) fn step_out(&self, number: u16, role: Role) {
        let Some(user) = self.user(number) else { return };
        user.fetch_add(role.one().wrapping_neg(), &STRUCTURE_CHANGE);
    }

    /// Whether it is freed as soon as it has no user.
    pub fn is_removed(&self) -> bool {
        self.state() & REMOVED != 0
    }

    /// The bell on which those of a role sleep until the others have put something.
    #[inline(always)]
    pub fn bell(&self, sleepers: Role) -> Bell<'a, R::Backend> {
        match sleepers {
            Role::Sender => Bell::new(self.field(SENDERS_RINGS), self.field(SENDERS_ASLEEP)),
            _ => Bell::new(self.field(RECEIVERS_RINGS), self.field(RECEIVERS_ASLEEP)),
        }
    }

    /// The state word.
    #[inline(always)]
    pub(super) fn state(&self) -> u64 {
        self.field(STATE).load(&STRUCTURE_LOOK)
    }

    /// How many of a role there are now.
    pub fn count(&self, role: Role) -> u64 {
        let highest = self.field(HIGHEST).load(&STRUCTURE_LOOK) as usize;
        self.users().iter().take(highest).map(|user| role.count(user.load(&STRUCTURE_LOOK))).sum()
    }

    /// How many of a role have died, rather than left, since the structure was made (modulo 2^32).
    pub fn deaths(&self, role: Role) -> u32 {
        let deaths = self.field(DEATHS).load(&STRUCTURE_LOOK);
        if role == Role::Receiver { (deaths >> 32) as u32 } else { deaths as u32 }
    }

    /// Whether a user is counted.
    pub(super) fn is_used(&self) -> bool {
        self.users().iter().any(|user| user.load(&STRUCTURE_LOOK) != 0)
    }

    /// Its users may go on, and newcomers are turned away. The block is freed after the last user.
    pub fn remove(&self) {
        self.field(STATE).fetch_or(REMOVED | CLOSED, &STRUCTURE_CHANGE);
    }

    /// No name will lead to it: it is removed once it has no user. For its maker, which is counted among its users, and
    /// has let nobody see it yet.
    pub fn leave_to_users(&self) {
        self.field(STATE).fetch_or(UNNAMED, &STRUCTURE_CHANGE);
    }

    /// Whether it is freed when it has no user: it was removed, or no name leads to it.
    pub(super) fn ends_with_users(&self) -> bool {
        let state = self.state();
        state & REMOVED != 0 || (state & UNNAMED != 0 && R::Backend::takes(Mutant::UnnamedKept))
    }

    /// Whether it is a ring without a name, of somebody who uses it.
    pub(super) fn is_hidden(&self) -> bool {
        self.shape.sort == Sort::Channel && self.state() & (REMOVED | CLOSED) == REMOVED
    }

    /// It has no users but its maker, and is freed after that, visited or not. For a structure without a
    /// name, which is found by its place.
    pub fn hide(&self) {
        self.field(STATE).fetch_or(REMOVED, &STRUCTURE_CHANGE);
    }

    /// The dead participant uses it no more.
    pub(super) fn forget(&self, dead: u16) {
        if self.shape.sort == Sort::Single && R::Backend::takes(Mutant::RolesKept) {
            [Role::Sender, Role::Receiver].iter().for_each(|&role| self.drop_role(dead, role));
        }
        let Some(user) = self.user(dead) else { return };
        let word = user.load(&STRUCTURE_LOOK);
        // One of several recoverers counts the deaths.
        if word != 0 && user.cas(word, 0, &STRUCTURE_CHANGE).is_ok() {
            let deaths = Role::Sender.count(word) | Role::Receiver.count(word) << 32;
            self.field(DEATHS).fetch_add(deaths, &STRUCTURE_CHANGE);
        }
        // Each of them tells of a change: the dead one may have died on its way out, or an earlier recoverer before it
        // told.
        self.field(STATE).fetch_add(1 << CHANGES_AT, &STRUCTURE_CHANGE);
    }
}

impl<R: Region> Heap<R> {
    /// Whether a live block is a structure. One that has an owner was never let go by its maker: it has no users, and
    /// nothing is in it.
    pub(crate) fn is_structure(&self, live: Live) -> bool {
        self.fingerprint(live) == Some(STRUCTURE)
    }
}
