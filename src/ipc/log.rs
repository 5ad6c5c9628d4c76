//! The log under topics and boards: the last n publications, for any number of publishers and readers, of
//! which any may be killed at any step.
//!
//! Ticket t has cell t mod n, which keeps its link until the publisher of ticket t + n takes the block out. A
//! reader is a *cursor*, one word: whose it is, and the ticket that it reads next. It takes nothing: a
//! publication costs the same for any number of readers.
//!
//! ```text
//! publish(B), A owns (A, g)                          read, cursor at c
//!  1 t ← tail                                         1 w ← cell[c mod n]
//!  2 w ← cell[t mod n]                                   filled: c     → 2
//!     empty(t)    → 5                                    empty(c), filled: c−n → nothing yet
//!     filled: t   → tail t → t + 1, again                later         → overrun: cursor to the oldest, told
//!     filled: t−n → tail still t?                     2 lossless: the block stays while the cursor does
//!       a cursor ≤ t−n → Full (lossless)                lossy: copy, fence, cell still w? else overrun
//!       its header: not void → header → (A, g')         3 cursor c → c + 1
//!  3    cell w → empty(t)                            join, history of h < n
//!  4    what was taken is freed, again                1 cursor ← c = tail − h, joins += 1
//!  5 cell empty(t) → link(A, g+1, B)  ◀ takes effect  2 fence; tail < c + n? else again
//!  6 header (A, g) → (LINKED, g+1)
//!  7 tail t → t + 1
//! ```
//!
//! Publishing is **lock-free**, reading **wait-free** (lossy: a copy that was overrun is told as such, and
//! the next begins at the oldest). **Killed**: a publisher before 5 has its block still, and it is freed with
//! it; what it took out of the ring in 2 is its own, and freed likewise; after 5 it is published, and 6 and 7
//! are anybody's. A reader's cursor falls with its participant.
//!
//! **What a cursor protects (T1).** The block of ticket c is taken by a publisher that has read tail = c + n
//! and then the cursors. A reader that joins writes its cursor, fences, and reads tail < c + n. Were the
//! publisher's fence first, the reader would find the tail at c + n; so the reader's was, and the publisher
//! sees the cursor. (On x86 the publisher's costs nothing: it has but two looks to keep in their order, of
//! which the first found what was stored after the reader's look at the tail.) A publisher remembers the
//! lowest cursor that it has seen, and how many had joined: as long as nobody has joined since, no cursor is
//! lower.
//!
//! **A copy is whole (B1)** if its cell is unchanged behind it: a block is freed, and so written, only after
//! its cell has been emptied.

use super::link::{Cell, Cells, Link, Standing};
use super::ring::NotSent;
use super::structure::{CLOSED, Settled, Sort, Structure, TAIL};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::heap::{Heap, Live, ThreadCache};
use crate::packed::packed;
use crate::segment::region::Region;

packed! {
    /// A cursor's word; 0 has no reader.
    struct ReadCursor {
        /// The ticket that it reads next.
        TICKET: 53,
        OWNER: 11,
    }
}
const TICKETS: u64 = ReadCursor::TICKET.mask();

const fn cursor(owner: u16, ticket: u64) -> u64 {
    ReadCursor::OWNER.of(owner as u64) | ReadCursor::TICKET.of(ticket)
}
const fn owner(word: u64) -> u16 {
    ReadCursor::OWNER.get(word) as u16
}
const fn ticket(word: u64) -> u64 {
    ReadCursor::TICKET.get(word)
}

/// What a publisher remembers of the cursors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lowest {
    ticket: u64,
    joins: u64,
    known: bool,
}

/// What a reader finds at its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadStatus {
    /// A publication: its block, and the link that names it as long as it is there.
    Block(Live, Link),
    /// Nothing yet.
    Nothing,
    /// Nothing, and the log is closed.
    Closed,
    /// So many publications were overwritten before they were read; the cursor is at the oldest now.
    Lagged(u64),
}

/// A structure's log.
pub struct Log<'a, R: Region> {
    structure: Structure<'a, R>,
    heap: &'a Heap<R>,
    cells: Cells<'a, R::Backend>,
}

impl<'a, R: Region> Log<'a, R> {
    /// The log of a structure. The caller of what writes is one of its users, or visits it.
    #[inline(always)]
    pub fn of(structure: Structure<'a, R>) -> Self {
        let Structure { heap, words, shape, cells, .. } = structure;
        Self { structure, heap, cells: Cells::of(&words[cells..], shape.cells_shift) }
    }

    #[inline(always)]
    fn tail(&self) -> &'a <R::Backend as Backend>::Word {
        self.structure.field(TAIL)
    }
    fn joins(&self) -> &'a <R::Backend as Backend>::Word {
        self.structure.field(super::structure::HEAD)
    }
    fn is_lossless(&self) -> bool {
        self.structure.shape.sort == Sort::Topic
    }
    #[inline(always)]
    fn step(&self, ticket: u64) {
        let _ = self.tail().cas(ticket, ticket.wrapping_add(1), &TICKET_STEP);
    }
    #[inline(always)]
    fn has_moved(&self, ticket: u64) -> bool {
        R::Backend::takes(Mutant::TailUnvalidated) && self.tail().load(&TICKET_RECHECK) != ticket
    }

    /// Publishes a live block of the cache's own.
    ///
    /// # Errors
    /// [`NotSent`], and the block is still the cache's.
    pub fn publish(&self, cache: &mut ThreadCache, block: Live, lowest: &mut Lowest) -> Result<(), NotSent> {
        if block.header.owner() != cache.owner() || !block.header.is_live() {
            return Err(NotSent::NotOwn);
        }
        loop {
            if self.structure.state() & CLOSED != 0 {
                return Err(NotSent::Closed);
            }
            if let Some(ended) = self.publish_at_tail(cache, block, lowest) {
                return ended;
            }
            R::Backend::pause();
        }
    }

    /// One look at the tail's cell, and what follows from it. None if that did not end the call.
    fn publish_at_tail(
        &self,
        cache: &mut ThreadCache,
        block: Live,
        lowest: &mut Lowest,
    ) -> Option<Result<(), NotSent>> {
        let t = self.tail().load(&TICKET_LOOK);
        let cell = self.cells.at(t);
        let word = cell.load(&CELL_LOOK);
        match Cell::of(word) {
            Cell::Empty(ticket) if ticket == t => {
                let link =
                    Link::new(self.cells.lap(t), cache.owner(), Heap::<R>::linked_generation(block.header), block.at);
                cell.cas(word, Cell::Link(link).word(), &CELL_PUT).ok()?;
                self.heap.let_go(link, block.header);
                self.step(t);
                return Some(Ok(()));
            }
            Cell::Link(link) if link.lap() == self.cells.lap(t) => self.step(t),
            Cell::Link(link) if link.lap() == self.cells.lap(t.wrapping_sub(self.cells.n())) => {
                if self.has_moved(t) {
                    return None;
                }
                let oldest = t.wrapping_sub(self.cells.n());
                if self.is_lossless() && R::Backend::takes(Mutant::CursorsIgnored) && self.is_read(oldest, lowest) {
                    return Some(Err(NotSent::Full));
                }
                self.take_out(cache, t, word, link);
            }
            _ => return (!self.has_moved(t)).then_some(Err(NotSent::Damaged)),
        }
        None
    }

    /// Takes the block of a link out of the cell that waits for ticket `t`, empties the cell, and frees the
    /// block; as far as no other was quicker.
    fn take_out(&self, cache: &mut ThreadCache, t: u64, word: u64, link: Link) {
        let taken = match self.heap.standing(link) {
            Standing::Pending(header) | Standing::Present(header) => {
                let Some(taken) = self.heap.take_link(cache.owner(), link, header) else { return };
                Some(taken.live)
            }
            Standing::Void => None,
        };
        let mut free = |live: Option<Live>| {
            if let Some(live) = live {
                let _ = self.heap.free(cache, live.at, Some(live.header.generation()));
            }
        };
        let early = R::Backend::mutated(Mutant::FreedBeforeCleared);
        if early {
            free(taken);
        }
        let _ = self.cells.at(t).cas(word, Cell::Empty(t).word(), &CELL_CLEAR);
        if !early {
            free(taken);
        }
    }

    /// Whether a cursor is at this ticket, or before it.
    fn is_read(&self, oldest: u64, lowest: &mut Lowest) -> bool {
        // Between the look at the tail and those at the cursors: this one has stored nothing that a reader has to see.
        R::Backend::fence_between_loads(&CURSOR_FENCE);
        let joins = self.joins().load(&CURSOR_LOOK);
        let same = R::Backend::check(lowest.joins == joins, Mutant::JoinsIgnored);
        if lowest.known && same && lowest.ticket > oldest {
            return false;
        }
        let cursors = self.cursors().map(|word| word.load(&CURSOR_LOOK)).filter(|&word| word != 0);
        let ticket = cursors.map(ticket).min().unwrap_or(TICKETS);
        *lowest = Lowest { ticket, joins, known: true };
        ticket <= oldest
    }

    fn cursors(&self) -> impl Iterator<Item = &'a <R::Backend as Backend>::Word> {
        self.structure.readers()
    }

    /// The readers, and which ticket each reads next.
    pub fn readers(&self) -> impl Iterator<Item = (u16, u64)> {
        let held = |word: u64| (word != 0).then(|| (owner(word), ticket(word)));
        self.cursors().filter_map(move |word| held(word.load(&CURSOR_LOOK)))
    }

    /// Becomes a reader, as `me`, of the last `history` publications (n − 1 at most) and all that come: which
    /// cursor is its own. None if all are held.
    pub fn join(&self, me: u16, history: u64) -> Option<usize> {
        let first = self.begin(history);
        let index = self
            .cursors()
            .position(|word| word.load(&CURSOR_LOOK) == 0 && word.cas(0, cursor(me, first), &CURSOR_CLAIM).is_ok())?;
        let word = self.structure.reader(index)?;
        let mut from = first;
        loop {
            self.joins().fetch_add(1, &CURSOR_JOIN);
            R::Backend::fence(&CURSOR_FENCE);
            let tail = self.tail().load(&TICKET_LOOK);
            if R::Backend::check(tail.min(TICKETS) < from + self.cells.n(), Mutant::JoinUnvalidated) {
                return Some(index);
            }
            from = self.begin(history);
            word.store(cursor(me, from), &CURSOR_STEP);
            R::Backend::pause();
        }
    }

    /// What is at a cursor, which is the caller's.
    pub fn look(&self, index: usize) -> ReadStatus {
        self.look_ahead(index, 0)
    }

    /// What is so many tickets ahead of a cursor, which is the caller's and of a lossless log: as long as the
    /// cursor stays where it is, so does all that was published from its ticket on. A publication that is
    /// void there is told as one lost, and the cursor moves only if that one is at it.
    pub fn look_ahead(&self, index: usize, ahead: u64) -> ReadStatus {
        let Some(mine) = self.structure.reader(index) else { return ReadStatus::Closed };
        if ahead >= self.cells.n() {
            return self.nothing();
        }
        let word = mine.load(&CURSOR_OWN);
        let mut c = ticket(word) + ahead;
        let found = self.look_at(&mut c, self.is_lossless());
        if ahead == 0 && matches!(found, ReadStatus::Lagged(_)) {
            mine.store(cursor(owner(word), c), &CURSOR_STEP);
        }
        found
    }

    /// What is at a ticket that nothing protects: if it was overrun it goes to the oldest that is there. What
    /// was copied of a block counts if the cell names it behind that ([`Log::is_still_at`]).
    pub fn look_from(&self, c: &mut u64) -> ReadStatus {
        self.look_at(c, false)
    }

    /// Whether no more than the tickets up to this one were published when a cell was read. A link has its lap modulo
    /// 32: of a ticket that nothing keeps the tail tells whether the link is a later lap's, whose publisher had found
    /// the tail there.
    fn is_tail_within(&self, last: u64) -> bool {
        R::Backend::check(self.tail().load(&TICKET_RECHECK) <= last, Mutant::LapBelieved)
    }

    /// What is at a ticket, which a cursor keeps or nothing does.
    fn look_at(&self, c: &mut u64, kept: bool) -> ReadStatus {
        let n = self.cells.n();
        let not_beyond = |last| kept || self.is_tail_within(last);
        match Cell::of(self.cells.at(*c).load(&CELL_LOOK)) {
            Cell::Link(link) if link.lap() == self.cells.lap(*c) && not_beyond(*c + n) => {
                match self.heap.live_at(link.at()) {
                    Ok(live) if self.heap.standing(link) != Standing::Void => ReadStatus::Block(live, link),
                    // Being overwritten; or freed by somebody who had no right to.
                    _ => self.overrun(c, 1),
                }
            }
            Cell::Empty(ticket) if ticket == *c => self.nothing(),
            Cell::Link(link) if *c >= n && link.lap() == self.cells.lap(*c - n) && not_beyond(*c) => self.nothing(),
            _ => self.overrun(c, 0),
        }
    }

    fn nothing(&self) -> ReadStatus {
        if self.structure.state() & CLOSED == 0 { ReadStatus::Nothing } else { ReadStatus::Closed }
    }

    /// Whether the cell still names this block: then a copy of it that was made before is whole.
    pub fn is_still(&self, index: usize, link: Link) -> bool {
        R::Backend::fence(&COPY_FENCE);
        let Some(mine) = self.structure.reader(index) else { return false };
        self.names(ticket(mine.load(&CURSOR_OWN)), link)
    }
    #[inline(always)]
    fn names(&self, ticket: u64, link: Link) -> bool {
        let still = self.cells.at(ticket).load(&CELL_LOOK) == Cell::Link(link).word();
        R::Backend::check(still, Mutant::CopyUnvalidated)
    }

    /// The cursor is one further.
    pub fn advance(&self, index: usize) {
        if let Some(mine) = self.structure.reader(index) {
            let word = mine.load(&CURSOR_OWN);
            mine.store(cursor(owner(word), ticket(word) + 1), &CURSOR_STEP);
        }
    }

    /// A reader was overrun: it goes to the oldest that is there, and `least` further at least.
    fn overrun(&self, c: &mut u64, least: u64) -> ReadStatus {
        let tail = self.tail().load(&TICKET_LOOK).min(TICKETS);
        let oldest = (tail + 1).saturating_sub(self.cells.n()).max(*c + least);
        // No cursor goes beyond the last ticket (C2').
        let lost = oldest.min(TICKETS).saturating_sub(*c);
        if lost == 0 {
            return self.nothing();
        }
        *c += lost;
        ReadStatus::Lagged(if R::Backend::mutated(Mutant::LagMiscounted) { lost - 1 } else { lost })
    }

    /// This cursor's reader leaves.
    pub fn leave(&self, index: usize) {
        if let Some(mine) = self.structure.reader(index) {
            mine.store(0, &CURSOR_STEP);
        }
    }

    /// The newest publication, if there is one: as of an instant within the call. For logs of two cells at
    /// least: it begins anew only if others have published n − 1 meanwhile.
    pub fn newest(&self) -> Option<(Live, Link, u64)> {
        loop {
            let (link, last) = self.newest_link()?;
            match self.heap.live_at(link.at()) {
                Ok(live) => return Some((live, link, last)),
                // Freed by somebody who had no right to: there is none.
                Err(_) if self.is_still_at(last, link) => return None,
                // Overwritten meanwhile: there is a newer one.
                Err(_) => R::Backend::pause(),
            }
        }
    }

    /// The newest publication's link and its ticket, without a look at the block.
    #[inline]
    pub fn newest_link(&self) -> Option<(Link, u64)> {
        loop {
            let t = self.tail().load(&TICKET_LOOK);
            match Cell::of(self.cells.at(t).load(&CELL_LOOK)) {
                Cell::Link(link) if link.lap() == self.cells.lap(t) => self.step(t),
                _ => {
                    let last = t.checked_sub(1)?;
                    let found = match Cell::of(self.cells.at(last).load(&CELL_LOOK)) {
                        Cell::Link(link) if link.lap() == self.cells.lap(last) => Some(link),
                        _ => None,
                    };
                    if self.tail().load(&TICKET_RECHECK) == t {
                        // Its cell loses it only behind the tail's next lap: none that is a log's (C2').
                        return Some((found?, last));
                    }
                }
            }
            R::Backend::pause();
        }
    }

    /// As [`Log::newest`], for whoever may not write, and so helps nobody: of those whose tickets nobody has
    /// counted yet, the last one that is there.
    pub fn newest_unhelped(&self) -> Option<(Live, Link, u64)> {
        loop {
            let mut t = self.tail().load(&TICKET_LOOK);
            let named = |ticket| match Cell::of(self.cells.at(ticket).load(&CELL_LOOK)) {
                Cell::Link(link) if link.lap() == self.cells.lap(ticket) => Some(link),
                _ => None,
            };
            // No more than there are cells (C2).
            for _ in 0..self.cells.n() {
                t = t.wrapping_add(named(t).is_some().into());
            }
            let last = t.checked_sub(1)?;
            match named(last) {
                Some(link) if self.is_tail_within(last.saturating_add(self.cells.n())) => {
                    match self.heap.live_at(link.at()) {
                        Ok(live) => return Some((live, link, last)),
                        Err(_) if self.is_still_at(last, link) => return None,
                        Err(_) => {}
                    }
                }
                // No publication moves the tail past a cell without a link.
                None if self.tail().load(&TICKET_RECHECK) == t => return None,
                _ => {}
            }
            R::Backend::pause();
        }
    }

    /// Whether the cell of a ticket still names this block: then a copy of it that was made before is whole.
    #[inline]
    pub fn is_still_at(&self, ticket: u64, link: Link) -> bool {
        R::Backend::fence(&COPY_FENCE);
        self.names(ticket, link)
    }

    /// The ticket that a cursor reads next.
    pub fn position(&self, index: usize) -> u64 {
        self.structure.reader(index).map_or(0, |word| ticket(word.load(&CURSOR_OWN)))
    }
    /// Whether a cursor is this participant's.
    pub fn is_held(&self, index: usize, by: u16) -> bool {
        self.structure.reader(index).is_some_and(|word| owner(word.load(&CURSOR_LOOK)) == by)
    }
    /// The links that stand in the log just now, with what their blocks' headers say. Reads only.
    pub fn links(&self) -> impl Iterator<Item = (Link, Standing)> + use<'a, R> {
        let heap = self.heap;
        self.cells.links().map(move |(_, _, link)| (link, heap.standing(link)))
    }

    /// The ticket of the oldest of the last `history` publications (n − 1 at most), as far as there are so many.
    pub fn begin(&self, history: u64) -> u64 {
        self.published().min(TICKETS).saturating_sub(history.min(self.cells.n() - 1))
    }

    /// Publications so far.
    pub fn published(&self) -> u64 {
        self.tail().load(&TICKET_LOOK)
    }

    /// L-c, for one log: the dead one's pending links are completed, its cursors fall, and a void word at the
    /// tail is emptied.
    pub(super) fn settle(&self, dead: u16, settled: &mut Settled) {
        for (_, _, link) in self.cells.links() {
            if link.giver() == dead
                && let Standing::Pending(header) = self.heap.standing(link)
                && R::Backend::takes(Mutant::LinksUnsettled)
            {
                settled.links += self.heap.let_go(link, header) as u64;
            }
        }
        for mine in self.cursors() {
            let word = mine.load(&CURSOR_LOOK);
            if word != 0 && owner(word) == dead {
                let _ = mine.cas(word, 0, &CURSOR_CLAIM);
            }
        }
        let t = self.tail().load(&TICKET_LOOK);
        let word = self.cells.at(t).load(&CELL_LOOK);
        if let Cell::Link(link) = Cell::of(word)
            && link.lap() != self.cells.lap(t)
            && !self.has_moved(t)
            && self.heap.standing(link) == Standing::Void
        {
            settled.void_words += 1;
            let _ = self.cells.at(t).cas(word, Cell::Empty(t).word(), &CELL_CLEAR);
        }
    }

    /// Frees what is left in the log of a structure that is REMOVED and has no user.
    pub(super) fn drain(&self, cache: &mut ThreadCache) {
        for (cell, word, link) in self.cells.links() {
            let taken = match self.heap.standing(link) {
                Standing::Pending(header) | Standing::Present(header) => {
                    self.heap.take_link(cache.owner(), link, header)
                }
                Standing::Void => None,
            };
            let _ = cell.cas(word, Cell::Sealed(0).word(), &CELL_CLEAR);
            if let Some(taken) = taken {
                let _ = self.heap.free(cache, taken.live.at, Some(taken.live.header.generation()));
            }
        }
    }

    /// Whether no cell names a block any more.
    pub(super) fn is_drained(&self) -> bool {
        self.cells.links().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::ipc::structure::Shape;
    use crate::ipc::testing::heap;
    use crate::segment::region::BoxedRegion;

    /// A topic of four cells.
    fn log<'a>(heap: &'a Heap<BoxedRegion<Native>>, cache: &mut ThreadCache) -> Log<'a, BoxedRegion<Native>> {
        let shape = Shape { sort: Sort::Topic, cells_shift: 2, readers: 1, content: 7 };
        let made = Structure::make(heap, cache, shape).expect("room");
        Log::of(Structure::at(heap, made).expect("it was made"))
    }

    /// Somebody has written the last ticket to a cursor: it stays its reader's.
    #[test]
    fn c2p_a_cursor_behind_its_last_ticket_is_its_readers_still() {
        let (heap, mut cache) = (heap(), ThreadCache::new(1));
        let log = log(&heap, &mut cache);
        let index = log.join(1, 0).expect("a cursor");
        log.structure.reader(index).expect("its own").store(cursor(1, TICKETS), &CURSOR_STEP);
        log.advance(index);
        assert!(log.is_held(index, 1));
    }

    /// Somebody has written the last ticket to the tail, and a link of its lap into its cell.
    #[test]
    fn c2p_the_newest_behind_the_last_ticket_is_none() {
        let (heap, mut cache) = (heap(), ThreadCache::new(1));
        let log = log(&heap, &mut cache);
        log.tail().store(u64::MAX, &STRUCTURE_WRITE);
        log.cells.at(u64::MAX).store(u64::MAX, &STRUCTURE_WRITE);
        assert!(log.newest_unhelped().is_none());
        assert!(log.newest().is_none());
    }

    /// Somebody has written over the cells behind samples that are held, and a tail far ahead: no more are looked for
    /// than there are cells.
    #[test]
    fn c2p_nobody_looks_further_ahead_than_there_are_cells() {
        let (heap, mut cache) = (heap(), ThreadCache::new(1));
        let log = log(&heap, &mut cache);
        let index = log.join(1, 0).expect("a cursor");
        log.tail().store(TICKETS, &STRUCTURE_WRITE);
        (0..4).for_each(|cell| log.cells.at(cell).store(0, &STRUCTURE_WRITE));
        assert!(matches!(log.look_ahead(index, 3), ReadStatus::Lagged(_)));
        assert!(matches!(log.look_ahead(index, 4), ReadStatus::Nothing));
    }
}
