//! What is received and not yet acknowledged, where a channel delivers it again if its receiver
//! dies.
//!
//! Behind the cells of its ring such a channel has *holds*: words that name what receivers hold.
//! The cell of the ring is empty as soon as a message is taken; from then on its hold alone leads
//! to it.
//!
//! ```text
//! hold = 0                           free
//!      | about to (R, g, B)          R is about to take B from the ring, under g, or has just done so
//!      | keeps (k, giver, g, B)      B was received for the k-th time, or waits to be
//! ```
//!
//! Who has the block is told by its header alone, as for every link. For a hold that keeps (g, B):
//!
//! | B's header | the message is | what may be done, and by whom |
//! |---|---|---|
//! | live, owner X, g | *held* by X | X: acknowledge, give back; X's recovery: give back |
//! | live, any owner, g − 1 | *pending*: given back, and not let go yet | anyone: let go, → (LINKED, g); a receiver: → (R, g) |
//! | live, LINKED, g | *present*: given back | a receiver: → (R, g), where it is |
//! | anything else | *void*: it was sent on | anyone: empty the word |
//!
//! ```text
//! receive, R                                       give back (X, or X's recovery)
//!  1 something given back: header → (R, g); done    1 keeps (k, g, B) → keeps (k + 1, g + 1, B)   ◀ takes effect
//!  2 the ring has (g, B): a free hold → about to    2 header (X, g) → (LINKED, g + 1)
//!  3 header → (R, g)               ◀ takes effect   3 returned += 1
//!  4 hold = keeps (1, g, B)                        acknowledge, X
//!  5 the cell is emptied, the head steps on         1 keeps (k, g, B) → 0      ◀ takes effect, and frees the block
//! ```
//!
//! **Killed.** Before 3 R has nothing: its recovery empties the hold. After 3 the message is R's,
//! and the hold says so: it names the receiver and the generation under which it has the block, or
//! keeps it. So R's recovery finds all that R held, and gives it back. R, or a recoverer, may die while
//! it gives back: the next recoverer repeats its steps. Of several recoverers of R none goes on behind a
//! hold before its block is let go, by itself or by another: what is R's behind that, a recovery frees. A
//! receiver that acknowledges and is killed before it has freed the block has acknowledged: its recovery
//! frees it.
//!
//! **Sent on.** A worker that forwards a message puts its link into the next ring first, under g + 1, and
//! empties the hold second. A recovery completes links in *all* rings before it looks at any hold:
//! if the link stands, the header is (LINKED, g + 1) by then and the hold is void. So the message
//! is in one of the two, whenever its holder dies.
//!
//! A receiver that asks whether something was given back compares two counts. `returned` grows behind each
//! return; `scanned` is what it was before a look at all holds that found nothing. A return that
//! was killed before it counted is counted by its recovery.
//!
//! **Progress.** Lock-free; O(1) while nothing is given back, and O(holds) for the receipt after a
//! return. As many messages may be held at a time as there are holds: beyond that the channel is as
//! if empty, until one is acknowledged.

use super::link::{Cell, LAPS, Link, Taken};
use super::ring::{NotReceived, Ring};
use super::structure::{RETURNED, Role, SCANNED, Settled, WANTED};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::block_header::{Header, LINKED};
use crate::matrix::heap::Live;
use crate::segment::region::Region;
use std::collections::BTreeMap;

/// The most that deliveries are counted.
pub const MOST_DELIVERIES: u64 = LAPS - 1;

/// Where a message is held: which word, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    index: usize,
    link: Link,
}

impl Hold {
    /// How often the message was received, this time included; [`MOST_DELIVERIES`] is as often or
    /// more.
    pub const fn deliveries(self) -> u64 {
        self.link.lap()
    }
}

/// What a hold that keeps a message says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Held(u16),
    Pending(Header),
    Present(Header),
    Void,
}

/// A hold's word.
fn link_of(word: u64) -> Option<Link> {
    match Cell::of(word) {
        Cell::Link(link) => Some(link),
        Cell::Empty(_) | Cell::Sealed(_) => None,
    }
}

/// What a receiver writes before it takes a link's block.
fn about_to(me: u16, link: Link) -> Link {
    Link::new(0, me, link.generation(), link.at())
}

/// What stands in a hold from the moment on at which its message goes back.
fn given_back(link: Link) -> Link {
    let deliveries = link.lap().max(1) + 1;
    Link::new(deliveries.min(MOST_DELIVERIES), link.giver(), link.generation() + 1, link.at())
}

impl<R: Region> Ring<'_, R> {
    fn kept(&self, link: Link) -> Kept {
        let Ok(Live { header, .. }) = self.heap.live_at(link.at()) else { return Kept::Void };
        let owner = header.owner();
        if header.generation() == link.generation() {
            if owner == LINKED { Kept::Present(header) } else { Kept::Held(owner) }
        } else if owner != LINKED && header.next_generation() == link.generation() {
            Kept::Pending(header)
        } else {
            Kept::Void
        }
    }

    /// The holds that keep something, from `first` on, each with its index and what it says.
    fn keeping(&self, first: usize) -> impl Iterator<Item = (usize, Link)> {
        let holds = self.structure.holds();
        let at = move |k: usize| (first + k) % holds.len();
        let link = move |index: usize| Some((index, link_of(holds[index].load(&CELL_LOOK))?));
        (0..holds.len()).map(at).filter_map(link).filter(|(_, link)| link.lap() > 0)
    }

    /// Who holds messages, at about one moment, and how many: for tools.
    pub(super) fn workers(&self) -> Vec<(u16, u64)> {
        let mut workers = BTreeMap::new();
        for (_, link) in self.keeping(0) {
            if let Kept::Held(worker) = self.kept(link) {
                *workers.entry(worker).or_default() += 1;
            }
        }
        workers.into_iter().collect()
    }

    /// Receives what was given back, or else the oldest message of the ring: it is `me`'s, and held
    /// until it is acknowledged, given back or sent on.
    ///
    /// # Errors
    /// [`NotReceived`]; it is not closed while another holds anything.
    pub fn receive_held(&self, me: u16) -> Result<(Taken, Hold), NotReceived> {
        loop {
            let returned = self.structure.field(RETURNED).load(&STRUCTURE_LOOK);
            if let Some(got) = self.take_returned(me, returned) {
                return Ok(got);
            }
            let got = self.receive_into_a_hold(me);
            // Behind the look that found the ring empty: was something given back since the look at
            // the holds?
            if got.is_err() && self.structure.field(RETURNED).load(&STRUCTURE_LOOK) != returned {
                R::Backend::pause();
                continue;
            }
            return match got {
                Err(NotReceived::Closed) if self.others_hold(me) => Err(NotReceived::Empty),
                got => got,
            };
        }
    }

    /// Takes something that was given back, if `returned` says that there may be something.
    fn take_returned(&self, me: u16, returned: u64) -> Option<(Taken, Hold)> {
        let scanned = self.structure.field(SCANNED);
        let seen = scanned.load(&STRUCTURE_LOOK);
        if seen == returned {
            return None;
        }
        let take = |(index, link): (usize, Link)| {
            let (Kept::Pending(header) | Kept::Present(header)) = self.kept(link) else { return None };
            Some((self.heap.take_link(me, link, header)?, Hold { index, link }))
        };
        let found = self.keeping(self.first_hold(me)).find_map(take);
        if found.is_none() && seen < returned {
            let now = self.structure.field(RETURNED).load(&STRUCTURE_LOOK);
            let upto = if R::Backend::mutated(Mutant::ScanOvertold) { now } else { returned };
            let _ = scanned.cas(seen, upto, &STRUCTURE_CHANGE);
        }
        found
    }

    /// Where a receiver begins to look for a free hold: apart from others'.
    fn first_hold(&self, me: u16) -> usize {
        (me as usize).wrapping_mul(self.heap.layout().params.line_words) % self.structure.holds().len().max(1)
    }

    /// Receives from the ring, with a hold.
    fn receive_into_a_hold(&self, me: u16) -> Result<(Taken, Hold), NotReceived> {
        let holds = self.structure.holds();
        let mut mine = None;
        let late = R::Backend::mutated(Mutant::HoldWrittenLate);
        let mut note = |link: Link| {
            let noted = about_to(me, link);
            let word = Cell::Link(if late { Link::new(0, me, 0, link.at()) } else { noted }).word();
            match mine {
                Some(index) => {
                    let hold: &<R::Backend as Backend>::Word = &holds[index];
                    hold.store(word, &CURSOR_STEP);
                }
                None => mine = self.claim_hold(me, word),
            }
            mine.is_some()
        };
        let got = self.receive_noting(me, &mut note);
        let Some(index) = mine else { return Err(got.err().unwrap_or(NotReceived::AllHeld)) };
        match got {
            Ok(taken) => {
                let link = Link::new(1, taken.giver, taken.live.header.generation(), taken.live.at);
                holds[index].store(Cell::Link(link).word(), &CURSOR_STEP);
                Ok((taken, Hold { index, link }))
            }
            Err(why) => {
                holds[index].store(0, &CURSOR_STEP);
                if R::Backend::takes(Mutant::HoldLeftUntold) {
                    R::Backend::fence(&RING_FENCE);
                    self.tell_of_a_free_hold();
                }
                Err(why)
            }
        }
    }

    /// A free hold, which says this now.
    fn claim_hold(&self, me: u16, word: u64) -> Option<usize> {
        let (holds, first) = (self.structure.holds(), self.first_hold(me));
        let claim = || {
            let free = |&index: &usize| {
                if R::Backend::mutated(Mutant::HoldClaimedPlainly) && holds[index].load(&CELL_LOOK) == 0 {
                    holds[index].store(word, &CURSOR_STEP);
                    return true;
                }
                holds[index].load(&CELL_LOOK) == 0 && holds[index].cas(0, word, &CELL_CLEAR).is_ok()
            };
            (0..holds.len()).map(|k| (first + k) % holds.len()).find(free)
        };
        claim().or_else(|| {
            // What was sent on by one that died before it emptied its hold, or has not come there
            // yet.
            for (index, link) in self.keeping(0) {
                if self.kept(link) == Kept::Void {
                    self.empty_hold(index, link);
                }
            }
            self.want_a_change();
            claim()
        })
    }

    fn empty_hold(&self, index: usize, link: Link) -> bool {
        self.structure.holds()[index].cas(Cell::Link(link).word(), 0, &CELL_CLEAR).is_ok()
    }

    /// The next to empty a hold wakes the waiters: for a hold, or for the end.
    fn want_a_change(&self) {
        self.structure.field(WANTED).fetch_or(1, &STRUCTURE_CHANGE);
        R::Backend::fence(&SLEEP_FENCE);
    }

    /// Whether another than `me` holds a message, or one was given back: then more may come, even without a
    /// sender. A waiter for the end of that is woken.
    pub(super) fn others_hold(&self, me: u16) -> bool {
        self.want_a_change();
        let mut others = self.structure.holds().iter().filter_map(|hold| link_of(hold.load(&CELL_LOOK)));
        others.any(|link| match link.lap() {
            0 => link.giver() != me,
            _ => !matches!(self.kept(link), Kept::Void) && self.kept(link) != Kept::Held(me),
        })
    }

    /// The message is dealt with: it is not delivered again. Its block is the caller's, to be freed or
    /// kept.
    pub fn acknowledge(&self, hold: Hold) {
        self.empty_hold(hold.index, hold.link);
        if R::Backend::mutated(Mutant::AcknowledgementUntold) {
            return;
        }
        R::Backend::fence_behind_rmw(&RING_FENCE);
        self.tell_of_a_free_hold();
    }

    /// Behind the fence: whoever waits for a hold, or for the end, looks again.
    fn tell_of_a_free_hold(&self) {
        let wanted = self.structure.field(WANTED);
        if wanted.load(&STRUCTURE_LOOK) != 0 && wanted.cas(1, 0, &STRUCTURE_CHANGE).is_ok() {
            self.structure.bell(Role::Receiver).ring(u32::MAX);
        }
    }

    /// The message goes back, for the next receiver, whose delivery is counted as one more.
    pub fn give_back(&self, hold: Hold) {
        if self.put_back(hold.index, hold.link) {
            self.structure.field(RETURNED).fetch_add(1, &STRUCTURE_CHANGE);
            self.structure.bell(Role::Receiver).ring(1);
        }
    }

    /// The first two steps of a return; false if the hold says something else by now. Whoever finds
    /// the first one done by another recovery does the second, if that has not come to it yet.
    fn put_back(&self, index: usize, link: Link) -> bool {
        let back = given_back(link);
        if R::Backend::mutated(Mutant::ReturnedBeforeHold)
            && let Kept::Held(_) = self.kept(link)
            && let Ok(Live { header, .. }) = self.heap.live_at(link.at())
        {
            self.heap.let_go(back, header);
        }
        let word = Cell::Link(back).word();
        let put = self.structure.holds()[index].cas(Cell::Link(link).word(), word, &CELL_CLEAR);
        let is_back = put.is_ok() || (put == Err(word) && R::Backend::takes(Mutant::ReturnUnhelped));
        if is_back {
            self.let_go_back(back);
        }
        is_back
    }

    /// Lets a block go that was given back. Its owner may pass to another thread of its process
    /// meanwhile, which ends.
    fn let_go_back(&self, back: Link) {
        while let Kept::Pending(header) = self.kept(back) {
            if self.heap.let_go(back, header) {
                return;
            }
            R::Backend::pause();
        }
    }

    /// L-c for holds, behind all rings' links: what the dead one held, or was about to take and
    /// has, goes back.
    pub(super) fn settle_holds(&self, dead: u16, settled: &mut Settled) {
        if R::Backend::mutated(Mutant::HoldsUnsettled) {
            return;
        }
        let mut returned = 0;
        for (index, hold) in self.structure.holds().iter().enumerate() {
            let Some(link) = link_of(hold.load(&CELL_LOOK)) else { continue };
            let kept = self.kept(link);
            match (link.lap(), kept) {
                (0, Kept::Held(owner)) if link.giver() == dead && owner == dead => {
                    returned += u64::from(self.put_back(index, link));
                }
                (0, _) if link.giver() == dead => _ = self.empty_hold(index, link),
                (0, _) => {}
                // Of an owner 0: it was held by one that left, and had forgotten it.
                (_, Kept::Held(owner)) if owner == dead || owner == 0 => {
                    returned += u64::from(self.put_back(index, link));
                }
                (_, Kept::Held(_)) => {}
                (_, Kept::Pending(header)) => {
                    if header.owner() == dead {
                        self.let_go_back(link);
                    }
                    returned += 1;
                }
                // Perhaps by one that died before it counted.
                (_, Kept::Present(_)) => returned += 1,
                (_, Kept::Void) => settled.void_words += u64::from(self.empty_hold(index, link)),
            }
        }
        settled.returned += returned;
        if returned > 0 && R::Backend::takes(Mutant::ReturnUncounted) {
            self.structure.field(RETURNED).fetch_add(1, &STRUCTURE_CHANGE);
        }
    }

    /// Whether a message stands in a hold without a holder.
    pub(super) fn has_returned(&self) -> bool {
        self.keeping(0).any(|(_, link)| matches!(self.kept(link), Kept::Pending(_) | Kept::Present(_)))
    }

    /// Takes what was given back, whatever the counts say: for who empties a structure that nobody
    /// uses.
    pub(super) fn take_any_returned(&self, me: u16) -> Option<Taken> {
        self.keeping(0).find_map(|(index, link)| {
            let (Kept::Pending(header) | Kept::Present(header)) = self.kept(link) else { return None };
            let taken = self.heap.take_link(me, link, header)?;
            self.empty_hold(index, link);
            Some(taken)
        })
    }

    /// How many messages are held, and how many were given back and wait. Reads only.
    pub fn holds(&self) -> (u64, u64) {
        self.keeping(0).fold((0, 0), |(held, back), (_, link)| match self.kept(link) {
            Kept::Held(_) => (held + 1, back),
            Kept::Pending(_) | Kept::Present(_) => (held, back + 1),
            Kept::Void => (held, back),
        })
    }
}
