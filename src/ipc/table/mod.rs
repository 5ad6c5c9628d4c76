//! The table under maps: from keys to blocks, for any number of participants, of which any may be killed at any step.
//!
//! A bucket is a *turn* and 15 places. A place is empty, or holds a link that is *prepared* or *in*. The turn
//! says which change was made last: `version | new place | old place`. All changes of the keys of a bucket
//! are one after the other, each by one compare-and-swap on the turn. The key stands in the block itself,
//! behind the value (its *label*).
//!
//! ```text
//! put(key, B), A owns (A, g)                          get(key)
//!  1 an empty place n ← link(A, g+1, B), prepared      1 t ← turn
//!  2 t ← turn; complete t                              2 each place that is in, and not t.old;
//!  3 find the key, as get does: place o, or none         or prepared, and t.new, with a link L:
//!  4 turn t → t' = (version + 1, n, o)  ◀ takes effect     cursor ← names L; fence; turn still t?
//!    else cursor ← nothing; again from 2                  its label is the key: there it is
//!  5 complete t'                                          else cursor ← nothing
//!  6 what was in place o is named by the cursor        3 turn still t? it is not there
//!
//! complete t, anyone                                  cursor ← nothing, when it named L = (B, g)
//!  1 place t.new is prepared: turn still t?            1 cursor ← leaves L
//!    (A, g) → (LINKED, g+1); prepared → in             2 fence; is B's header (LINKED, g+1), *retired*?
//!  2 place t.old is in, (B, g): turn still t?          3 fence; a cursor names L?
//!    (LINKED, g) → (LINKED, g+1), *retired*            4 no: (LINKED, g+1) → (R, g+2), and it is R's
//!    in → empty                                        5 cursor ← nothing; what is R's is freed
//! ```
//!
//! `take` is `put` without a new place. Each arrow but those of the own cursor is one compare-and-swap on an
//! exact word.
//!
//! **Progress.** All calls are lock-free: one begins anew only because another's change of the bucket took effect. No
//! call waits for one that has stopped: a change that stands is completed by the next caller that meets it. A stopped
//! caller hides a place of its bucket at most, and its cursor.
//!
//! `copied(key, copy)` names nothing: it does `copy` in the place of 2's naming, and counts if the turn is the same
//! behind a fence behind that.
//!
//! **Who has a block (M1).** A block in a place that is in, or the turn's new one, is the table's. A retired
//! block is *in the hands of the cursors that name it*: of the putter that displaced it, which has named it since
//! before the turn, and of its readers. The last to leave has it, by one compare-and-swap. A cursor that names L
//! behind its fence, while the turn is t, under which L is in, is seen by the caller that retires
//! L or looks after that: of its fence and theirs one comes first; were it theirs, behind the later turn, the
//! reader would have seen that turn. So no block is freed, or written, while it is read; and of several that
//! leave at once, the last to fence sees that no cursor names it any more, and that it is retired.
//!
//! **Killed** before step 4 of a put, A has its block still, and its recovery empties the place and frees it;
//! behind it, the change is made, and any caller completes it. A cursor of the dead leaves in their name. All
//! that a dead one held was its own, or named by its cursor.

mod cursors;
mod label;
mod settle;
mod words;

pub use words::{By, Key, MAX_KEY, NotPut, Owned, When, label_words};

use super::link::{Cell, Link, Standing};
use super::structure::{CLOSED, Structure};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::block_header::{Header, LINKED};
use crate::matrix::heap::{Heap, Live};
use crate::segment::region::Region;
use words::{BucketTurn, after};

/// log2 of the words of a bucket: the turn and 15 places. A table of fewer words has one smaller bucket.
pub const BUCKET_SHIFT: u32 = 4;
/// In the bits of a link that say a lap elsewhere: that it is in; above it, the bits of [`Key::tag`].
const IN: u64 = 1;

/// What a look at a bucket's places found.
enum Seen {
    /// The key, at a place; the cursor names the block.
    At(usize, Link, Live),
    /// Not the key.
    Nothing,
    /// The turn has changed.
    Moved,
}

/// A structure's table.
pub struct Table<'a, R: Region> {
    structure: Structure<'a, R>,
    heap: &'a Heap<R>,
    cells: &'a [<R::Backend as Backend>::Word],
    bucket_shift: u32,
}

/// A bucket: its turn, then its places.
type Bucket<'a, R> = &'a [<<R as Region>::Backend as Backend>::Word];

impl<'a, R: Region> Table<'a, R> {
    /// The table of a structure. The caller of what writes is one of its users, or visits it.
    #[inline(always)]
    pub fn of(structure: Structure<'a, R>) -> Self {
        let Structure { heap, words, shape, cells, .. } = structure;
        let bucket_shift = shape.cells_shift.clamp(1, BUCKET_SHIFT);
        Self { structure, heap, cells: words.get(cells..cells + shape.cells()).unwrap_or_default(), bucket_shift }
    }

    fn buckets(&self) -> impl Iterator<Item = Bucket<'a, R>> + use<'a, R> {
        self.cells.chunks_exact(1 << self.bucket_shift)
    }
    /// Buckets.
    pub fn bucket_count(&self) -> usize {
        self.cells.len() >> self.bucket_shift
    }
    #[inline(always)]
    fn bucket(&self, hash: u64) -> Bucket<'a, R> {
        let mask = (self.cells.len() >> self.bucket_shift) - 1;
        &self.cells[(hash as usize & mask) << self.bucket_shift..][..1 << self.bucket_shift]
    }
    #[inline(always)]
    fn turn(bucket: Bucket<'a, R>) -> BucketTurn {
        BucketTurn(bucket[0].load(&TURN_LOOK))
    }
    #[inline(always)]
    fn is_turn(bucket: Bucket<'a, R>, turn: BucketTurn, unchecked: Mutant) -> bool {
        R::Backend::mutated(unchecked) || bucket[0].load(&TURN_RECHECK) == turn.0
    }

    /// Puts a live block of the cache's own in, under the key that it is labelled with, and displaces what
    /// was there: the link to that, which the cursor names from now on. [`Table::own`] says whether it is the
    /// caller's.
    ///
    /// # Errors
    /// [`NotPut`], and the block is still the cache's; the cursor names nothing.
    pub fn put(&self, by: &mut By<'_>, block: Live, key: &Key<'_>, when: When) -> Result<Option<Link>, NotPut> {
        if block.header.owner() != by.cache.owner() || !block.header.is_live() {
            return Err(NotPut::NotOwn);
        }
        if self.structure.state() & CLOSED != 0 {
            return Err(NotPut::Closed);
        }
        let bucket = self.bucket(key.hash);
        let generation = Heap::<R>::linked_generation(block.header);
        let link = Link::new(key.tag() << 1, by.cache.owner(), generation, block.at);
        let place = self.prepare(bucket, link).ok_or(NotPut::Full)?;
        loop {
            let turn = Self::turn(bucket);
            if !self.complete(bucket, turn) {
                R::Backend::pause();
                continue;
            }
            let (old, was) = match self.seek(bucket, turn, key, by) {
                Seen::At(old, was, _) => (old, Some(was)),
                Seen::Nothing => (0, None),
                Seen::Moved => {
                    R::Backend::pause();
                    continue;
                }
            };
            let refused = match (when, was) {
                (When::Absent, Some(_)) => Some(NotPut::Exists),
                (When::Present, None) => Some(NotPut::Unknown),
                _ => None,
            };
            if let Some(why) = refused {
                let stands = was.is_some() || Self::is_turn(bucket, turn, Mutant::AbsentUnvalidated);
                self.unname(by, was);
                if !stands {
                    continue;
                }
                // Nobody else changes it: only the turn's new place is anybody's.
                let _ = bucket[place].cas(Cell::Link(link).word(), 0, &CELL_CLEAR);
                return Err(why);
            }
            let next = turn.next(place, old);
            if bucket[0].cas(turn.0, next.0, &TURN_CHANGE).is_ok() {
                self.complete(bucket, next);
                return Ok(was);
            }
            self.unname(by, was);
            R::Backend::pause();
        }
    }

    /// Takes what is under a key out: the link to it, which the cursor names from now on, as for [`Table::put`].
    pub fn take(&self, by: &mut By<'_>, key: &Key<'_>) -> Option<Link> {
        let bucket = self.bucket(key.hash);
        loop {
            let turn = Self::turn(bucket);
            if self.complete(bucket, turn) {
                match self.seek(bucket, turn, key, by) {
                    Seen::At(old, was, _) => {
                        let next = turn.next(0, old);
                        if bucket[0].cas(turn.0, next.0, &TURN_CHANGE).is_ok() {
                            self.complete(bucket, next);
                            return Some(was);
                        }
                        self.unname(by, Some(was));
                    }
                    Seen::Nothing if Self::is_turn(bucket, turn, Mutant::AbsentUnvalidated) => return None,
                    Seen::Nothing | Seen::Moved => {}
                }
            }
            R::Backend::pause();
        }
    }

    /// What is under a key: the cursor names it, and it stays as it is until [`Table::unname`].
    pub fn get(&self, by: &mut By<'_>, key: &Key<'_>) -> Option<(Live, Link)> {
        let bucket = self.bucket(key.hash);
        loop {
            let turn = Self::turn(bucket);
            match self.seek(bucket, turn, key, by) {
                Seen::At(_, link, live) => {
                    if Heap::<R>::standing_of(link, live.header) != Standing::Void
                        || Self::is_retired(link, live.header)
                    {
                        return Some((live, link));
                    }
                    // Freed by somebody who had no right to: it is not there.
                    self.unname(by, Some(link));
                    return None;
                }
                Seen::Nothing if Self::is_turn(bucket, turn, Mutant::AbsentUnvalidated) => return None,
                Seen::Nothing | Seen::Moved => {}
            }
            R::Backend::pause();
        }
    }

    /// What `copy` makes of what is under a key, of which nothing is named: whoever displaces the block may free it
    /// meanwhile. So it counts only if the bucket has not changed behind it: then the block was in it throughout.
    #[inline]
    pub fn copied<V>(&self, key: &Key<'_>, mut copy: impl FnMut(Live, Link) -> V) -> Option<V> {
        let bucket = self.bucket(key.hash);
        loop {
            let turn = Self::turn(bucket);
            let copied = Self::wanted(bucket, turn, key).find_map(|(_, link)| {
                self.heap.region().expect_look(link.at());
                let live = self.labelled(link, key)?;
                (Heap::<R>::standing_of(link, live.header) != Standing::Void).then(|| copy(live, link))
            });
            R::Backend::fence(&COPY_FENCE);
            if Self::is_turn(bucket, turn, Mutant::CopyUnvalidated) {
                return copied;
            }
            R::Backend::pause();
        }
    }

    /// The keys of a bucket, all of one instant.
    pub fn keys(&self, by: &mut By<'_>, bucket: usize) -> Vec<Vec<u8>> {
        let bucket = self.bucket(bucket as u64);
        'again: loop {
            let (turn, mut keys) = (Self::turn(bucket), vec![]);
            for (_, link) in Self::current(bucket, turn) {
                if !self.name(by, bucket, turn, link) {
                    R::Backend::pause();
                    continue 'again;
                }
                keys.extend(self.key_of(link));
                self.unname(by, Some(link));
            }
            if Self::is_turn(bucket, turn, Mutant::AbsentUnvalidated) {
                return keys;
            }
        }
    }

    /// What `see` makes of each entry of a bucket, by its place, block, link and key: all of one instant, copied as by
    /// [`Table::copied`]; none if the bucket has changed at each of so many tries.
    pub(in crate::ipc) fn entries<V>(
        &self,
        bucket: usize,
        tries: u32,
        see: impl Fn(usize, Live, Link, Vec<u8>) -> V,
    ) -> Option<Vec<V>> {
        let (first, bucket) = (bucket << self.bucket_shift, self.bucket(bucket as u64));
        (0..tries).find_map(|_| {
            let turn = Self::turn(bucket);
            let entry = |(place, link): (usize, Link)| {
                let live = self.heap.live_at(link.at()).ok()?;
                let key = self.key_of(link)?;
                (Heap::<R>::standing_of(link, live.header) != Standing::Void)
                    .then(|| see(first + place, live, link, key))
            };
            let seen = Self::current(bucket, turn).filter_map(entry).collect();
            R::Backend::fence(&COPY_FENCE);
            Self::is_turn(bucket, turn, Mutant::CopyUnvalidated).then_some(seen)
        })
    }

    /// Places that are in, at about the same time: exact while no call is under way.
    pub fn len(&self) -> usize {
        self.buckets().map(|bucket| Self::current(bucket, Self::turn(bucket)).count()).sum()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is in a bucket while the turn is this: places and links.
    fn current(bucket: Bucket<'a, R>, turn: BucketTurn) -> impl Iterator<Item = (usize, Link)> {
        Self::current_of(bucket, turn, |_| true)
    }

    /// Those of them whose words may be wanted.
    #[inline(always)]
    fn current_of(
        bucket: Bucket<'a, R>,
        turn: BucketTurn,
        may_be: impl Fn(u64) -> bool,
    ) -> impl Iterator<Item = (usize, Link)> {
        bucket.iter().enumerate().skip(1).filter_map(move |(place, word)| {
            let word = word.load(&CELL_LOOK);
            let Cell::Link(link) = (if may_be(word) { Cell::of(word) } else { return None }) else { return None };
            let is_in = link.lap() & IN != 0;
            let replaced = place == turn.old_place() && R::Backend::takes(Mutant::DisplacedShown);
            (if is_in { !replaced } else { place == turn.new_place() }).then_some((place, link))
        })
    }

    /// Those of them that may be a key's, by the words' own bits: most places are empty, or another key's.
    #[inline(always)]
    fn wanted(bucket: Bucket<'a, R>, turn: BucketTurn, key: &Key<'_>) -> impl Iterator<Item = (usize, Link)> {
        let (mask, wanted) = Link::bits_of_lap(!IN, key.tag() << 1);
        Self::current_of(bucket, turn, move |word: u64| word & mask == wanted)
    }

    /// Looks for a key under a turn. What is found the cursor names.
    fn seek(&self, bucket: Bucket<'a, R>, turn: BucketTurn, key: &Key<'_>, by: &mut By<'_>) -> Seen {
        for (place, link) in Self::wanted(bucket, turn, key) {
            self.heap.region().expect_look(link.at());
            if !self.name(by, bucket, turn, link) {
                return Seen::Moved;
            }
            if let Some(live) = self.labelled(link, key) {
                return Seen::At(place, link, live);
            }
            self.unname(by, Some(link));
        }
        Seen::Nothing
    }

    /// An empty place for a link, prepared: it is not seen until a turn says so.
    fn prepare(&self, bucket: Bucket<'a, R>, link: Link) -> Option<usize> {
        let claim = || {
            (1..bucket.len()).find(|&place| {
                bucket[place].load(&CELL_LOOK) == 0 && bucket[place].cas(0, Cell::Link(link).word(), &CELL_PUT).is_ok()
            })
        };
        claim().or_else(|| {
            // The last change may not have emptied its old place yet.
            let turn = Self::turn(bucket);
            self.complete(bucket, turn);
            claim()
        })
    }

    /// Completes the change that a turn says. False if it has been completed, and the turn is another.
    fn complete(&self, bucket: Bucket<'a, R>, turn: BucketTurn) -> bool {
        let (new, old) = (turn.new_place(), turn.old_place());
        if new != 0
            && let Some(place) = bucket.get(new)
            && let Cell::Link(link) = Cell::of(place.load(&CELL_LOOK))
            && link.lap() & IN == 0
        {
            if !Self::is_turn(bucket, turn, Mutant::TurnUnchecked) {
                return false;
            }
            let let_go = || {
                if let Standing::Pending(header) = self.heap.standing(link) {
                    self.heap.let_go(link, header);
                }
            };
            let late = R::Backend::mutated(Mutant::InBeforeLetGo);
            if !late {
                let_go();
            }
            let is_in = Link::new(link.lap() | IN, link.giver(), link.generation(), link.at());
            let _ = place.cas(Cell::Link(link).word(), Cell::Link(is_in).word(), &CELL_PUT);
            if late {
                let_go();
            }
        }
        if old != 0
            && let Some(place) = bucket.get(old)
            && let Cell::Link(link) = Cell::of(place.load(&CELL_LOOK))
            && link.lap() & IN != 0
        {
            if !Self::is_turn(bucket, turn, Mutant::TurnUnchecked) {
                return false;
            }
            let early = R::Backend::mutated(Mutant::EmptiedBeforeRetired);
            if early {
                let _ = place.cas(Cell::Link(link).word(), 0, &CELL_CLEAR);
            }
            if let Standing::Present(header) = self.heap.standing(link) {
                let retired = Header::new(header.state(), LINKED, after(header.generation()), header.low());
                let _ = self.heap.header(link.at()).cas(header.0, retired.0, &RETIRE);
            }
            if !early {
                let _ = place.cas(Cell::Link(link).word(), 0, &CELL_CLEAR);
            }
        }
        true
    }
}
