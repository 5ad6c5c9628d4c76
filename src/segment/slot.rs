//! Slots: what a participant number's state word says, and how a dead holder's number becomes free again.
//!
//! ```text
//! FREE ──> HELD ──> RECOVERING ──> RECOVERED ──> FREE
//! ```
//!
//! Which holders are dead is decided elsewhere (segment::participant). From RECOVERING on, the word is the recovery's
//! name: it says by its epoch which holder has died. Any number of *recoverers* may walk for it at once. One that
//! stops holds up none of the others: a participant that needs what the dead one left helps (matrix::recovery). The
//! first to come to the end of its walk ends the recovery by one compare-and-swap, RECOVERING → RECOVERED.
//!
//! **Pins.** A recoverer that has stopped half-way must not meet the next holder of the number. A live block's word may
//! come back: the dead one's block is adopted, handed over, and adopted by a new holder of the same number,
//! all under one generation (a live block that changes its owner keeps it). So a recoverer *pins* the number before it
//! changes a word that bears it, and then looks again whether the recovery still stands. A number is released,
//! RECOVERED → FREE, only while it has no pin. Each side fences between its write and its look: either the recoverer
//! sees that the recovery has ended, and changes nothing; or the releaser sees the pin, and the number waits. A pin of
//! a participant that has been declared dead is void. What a stopped recoverer keeps from others is a number, not
//! memory.
//!
//! **Reserving.** A newcomer that has no number yet *reserves* the number that it walks for: the word of the recovery
//! names its life. It alone takes or releases the number, unless that life is over.

use super::layout::SlotWord;
use super::life::{LIFE, NO_LIFE, life_in};
use super::region::Region;
use crate::backend::orderings::{
    ADOPTING, HAZARD_CLEAR, OP_WRITE, PIN, PIN_FENCE, PIN_LOOK, SLOT_CLAIM, SLOT_LOOK, UNPIN_FENCE, VISIT, VISIT_LOOK,
};
use crate::backend::{Backend, Mutant, Word};
use crate::packed::packed;

packed! {
    /// A slot's state word.
    struct SlotState {
        /// The holder's life, or in a recovery that of the newcomer that has reserved the number.
        LIFE: 32,
        /// The recoverer that began.
        RECOVERER: 11,
        /// One more for each holder.
        EPOCH: 19,
        KIND: 2,
    }
}

pub(super) const KIND: u64 = SlotState::KIND.mask();
pub(super) const FREE: u64 = SlotState::KIND.of(0);
pub(super) const HELD: u64 = SlotState::KIND.of(1);
pub(super) const RECOVERING: u64 = SlotState::KIND.of(2);
const RECOVERED: u64 = SlotState::KIND.of(3);
const EPOCH: u64 = SlotState::EPOCH.mask();

pub(super) const fn held(before: u64, life: u32) -> u64 {
    // Epoch 0 is of a slot that nobody has had: it is passed by.
    let next = SlotState::EPOCH.get(before) % SlotState::EPOCH.max() + 1;
    HELD | SlotState::EPOCH.of(next) | SlotState::LIFE.of(life as u64)
}
pub(super) const fn free(state: u64) -> u64 {
    FREE | state & EPOCH
}
/// In the word of a free slot, where nobody recovers: its last holder has died, and did not leave.
const DIED: u64 = SlotState::RECOVERER.of(1);
pub(super) const fn recoverer(state: u64) -> u16 {
    SlotState::RECOVERER.get(state) as u16
}
pub(super) const fn epoch(state: u64) -> u32 {
    SlotState::EPOCH.get(state) as u32
}

/// How a participant has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It gave its number back: its process dropped the last handler, or the thread ended, and none of its process took
    /// the number over.
    Left,
    /// It died: what it had is given back by its recovery, which may go on still.
    Died,
    /// How is not known: its number is another's by now, or was never given to it.
    Unknown,
}

/// A dead holder of a number, told from those before and after it: the recovery that is in force for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// The number: the owner in headers.
    pub number: u16,
    /// The state word of its slot, as it was read.
    word: u64,
}

impl Dead {
    /// Whether a recoverer had come to the end of its walk by then: only the number waits.
    pub(crate) const fn is_recovered(self) -> bool {
        self.is(RECOVERED, self.word)
    }
    /// The life that has reserved the number, or [`NO_LIFE`].
    pub(super) const fn reserved_by(self) -> u32 {
        life_in(self.word)
    }
    /// Whether a slot's word is of this recovery, and of that kind.
    const fn is(self, kind: u64, word: u64) -> bool {
        word & (KIND | EPOCH) == kind | self.word & EPOCH
    }
}

/// The slots of a region.
pub struct Slots<'a, R: Region>(pub &'a R);

impl<'a, R: Region> Slots<'a, R> {
    pub(super) fn slot(&self, number: u16, word: SlotWord) -> &'a <R::Backend as Backend>::Word {
        self.0.word(self.0.layout().slot(number, word))
    }
    pub(super) fn state(&self, number: u16) -> u64 {
        self.slot(number, SlotWord::State).load(&SLOT_LOOK)
    }
    /// Every participant number.
    pub fn numbers(&self) -> std::ops::RangeInclusive<u16> {
        1..=self.0.layout().params.participants as u16
    }
    /// Whether the slot has no holder.
    pub(crate) fn is_free(&self, number: u16) -> bool {
        self.state(number) & KIND == FREE
    }
    /// Whether the slot has a holder, dead or alive.
    pub fn is_held(&self, number: u16) -> bool {
        self.state(number) & KIND == HELD
    }

    /// How that holder of the number has ended; none if it has the slot, and nobody has declared it dead.
    pub(crate) fn end_of(&self, number: u16, holder: u32) -> Option<Ended> {
        let state = self.state(number);
        match state & KIND {
            _ if epoch(state) != holder || holder == 0 => Some(Ended::Unknown),
            HELD => None,
            FREE if state & DIED == 0 => Some(Ended::Left),
            _ => Some(Ended::Died),
        }
    }

    /// Whether the slot's holder has been declared dead, and no newcomer acts under its number.
    pub(crate) fn is_abandoned(&self, number: u16) -> bool {
        self.begun(number).is_some_and(|dead| dead.reserved_by() == NO_LIFE)
    }

    /// Declares the holder that the word `found` tells of dead, and reserves its number for a newcomer's
    /// `life`, if there is one. None if the slot has changed since.
    pub(super) fn declare_dead(&self, number: u16, found: u64, by: u16, life: u32) -> Option<Dead> {
        let word =
            RECOVERING | found & EPOCH | SlotState::RECOVERER.of(u64::from(by)) | SlotState::LIFE.of(u64::from(life));
        let declared = self.slot(number, SlotWord::State).cas(found, word, &SLOT_CLAIM).is_ok();
        declared.then_some(Dead { number, word })
    }

    /// The recovery that is in force for a number, or that has ended and not released it yet.
    pub fn begun(&self, number: u16) -> Option<Dead> {
        let word = self.state(number);
        matches!(word & KIND, RECOVERING | RECOVERED).then_some(Dead { number, word })
    }

    /// Reserves the number of a recovery that has begun for a newcomer's life, or for none ([`NO_LIFE`]), instead of
    /// the life that has reserved it by now. None if the slot has changed.
    pub fn reserve(&self, dead: Dead, life: u32) -> Option<Dead> {
        let word = dead.word & !LIFE | u64::from(life);
        let reserved = self.slot(dead.number, SlotWord::State).cas(dead.word, word, &SLOT_CLAIM).is_ok();
        reserved.then_some(Dead { word, ..dead })
    }

    /// For models, which know which participant is dead: `by` says that this number's holder takes no step any more.
    pub fn bury(&self, number: u16, by: u16) -> Dead {
        loop {
            let dead = self.begun(number).or_else(|| self.declare_dead(number, self.state(number), by, NO_LIFE));
            if let Some(dead) = dead {
                return dead;
            }
        }
    }

    /// Takes a number that is free, or that has been recovered, is reserved for this life or for none, and
    /// is not pinned. Its holder's words are as the last one has left them until it [clears](Self::clear)
    /// them: no header bears the number.
    pub fn take(&self, number: u16, own: u32) -> bool {
        let found = self.state(number);
        let reserved = life_in(found);
        let free_to_take = match found & KIND {
            FREE => true,
            RECOVERED => (reserved == own || reserved == NO_LIFE) && !self.pinned().contains(&number),
            _ => false,
        };
        free_to_take && self.slot(number, SlotWord::State).cas(found, held(found, own), &SLOT_CLAIM).is_ok()
    }

    /// The words in which the last holder said what it was about to do: a newcomer begins with nothing.
    /// They are not read for a number that no header bears.
    pub fn clear(&self, number: u16) {
        self.slot(number, SlotWord::Op).store(0, &OP_WRITE);
        self.slot(number, SlotWord::Adopting).store(0, &ADOPTING);
        self.slot(number, SlotWord::Hazard).store(0, &HAZARD_CLEAR);
        self.slot(number, SlotWord::Visiting).store(0, &VISIT);
        self.slot(number, SlotWord::Pin).store(0, &PIN);
    }

    /// Whether this recovery is still in force: no recoverer has walked through. Asked behind a pin, it says that
    /// no header that bears the number is another holder's, until the pin is taken back.
    pub(crate) fn stands(&self, dead: Dead) -> bool {
        dead.is(RECOVERING, self.state(dead.number)) || R::Backend::mutated(Mutant::RecoveryRecheckDropped)
    }

    /// As `me`: the number must not be released until the pin is moved or taken back.
    pub(crate) fn pin(&self, me: u16, number: u16) {
        self.slot(me, SlotWord::Pin).store(number.into(), &PIN);
        if R::Backend::takes(Mutant::PinFenceDropped) {
            R::Backend::fence(&PIN_FENCE);
        }
    }

    /// As `me`: takes the pin back.
    pub(crate) fn unpin(&self, me: u16) {
        self.slot(me, SlotWord::Pin).store(0, &PIN);
    }

    /// Ends a recovery, behind a walk that was complete. True for the recoverer that did.
    pub(crate) fn end(&self, dead: Dead) -> bool {
        self.change(dead, RECOVERING, |word| RECOVERED | word & (EPOCH | LIFE))
    }

    /// Changes the word of a recovery that is of this kind, reserved or not; false if it is
    /// not, or not any more.
    fn change(&self, dead: Dead, kind: u64, to: impl Fn(u64) -> u64) -> bool {
        loop {
            let word = self.state(dead.number);
            if !dead.is(kind, word) {
                return false;
            }
            if self.slot(dead.number, SlotWord::State).cas(word, to(word), &SLOT_CLAIM).is_ok() {
                return true;
            }
        }
    }

    /// Which of these numbers are pinned: asked behind the end of their recoveries.
    pub(super) fn pinned(&self) -> Vec<u16> {
        R::Backend::fence(&UNPIN_FENCE);
        if R::Backend::mutated(Mutant::PinIgnored) {
            return vec![];
        }
        let pin = |me| self.slot(me, SlotWord::Pin).load(&PIN_LOOK) as u16;
        // A participant that has been declared dead takes no further step, and a free slot's pin is a dead one's.
        self.numbers().filter(|&me| self.is_held(me)).map(pin).filter(|&number| number != 0).collect()
    }

    /// As `me`, releases the numbers of those recoveries, which have ended, but for pinned and reserved ones.
    pub(crate) fn release(&self, me: u16, dead: &[Dead]) {
        // Visits of the dead come to their ends. Pinned meanwhile: a late one must not end a new holder's.
        for dead in dead {
            let visiting = self.slot(dead.number, SlotWord::Visiting);
            let visited = visiting.load(&VISIT_LOOK);
            if visited != 0 {
                self.pin(me, dead.number);
                if dead.is(RECOVERED, self.state(dead.number)) && self.is_abandoned(dead.number) {
                    let _ = visiting.cas(visited, 0, &VISIT);
                }
                self.unpin(me);
            }
        }
        let pinned = self.pinned();
        for dead in dead.iter().filter(|dead| !pinned.contains(&dead.number)) {
            let word = self.state(dead.number);
            if dead.is(RECOVERED, word) && life_in(word) == NO_LIFE {
                let _ = self.slot(dead.number, SlotWord::State).cas(word, free(word) | DIED, &SLOT_CLAIM);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::orderings::SLOT_WRITE;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    /// C1: what a dead one visited is let go behind the end of its recovery, while no newcomer acts under its number.
    #[test]
    fn c1_a_visit_of_the_dead_ends_behind_their_recovery() {
        let params = Params { participants: 4, ..Params::for_segment(64 << 10) };
        let region = BoxedRegion::<Native>::new(Layout::fit(64 << 10, params).expect("room for a sector"));
        let slots = Slots(&region);
        let (visiting, state) = (slots.slot(2, SlotWord::Visiting), slots.slot(2, SlotWord::State));
        let newcomer = 7 & LIFE;
        for (word, visits) in [(RECOVERING, 9), (RECOVERED | newcomer, 9), (RECOVERED, 0)] {
            state.store(word, &SLOT_WRITE);
            visiting.store(9, &VISIT);
            slots.release(1, &[slots.begun(2).expect("it has begun")]);
            assert_eq!(visiting.load(&VISIT_LOOK), visits);
            assert_eq!(slots.is_free(2), word == RECOVERED);
        }
    }

    /// C1: how a holder has ended is told until the number is another's.
    #[test]
    fn c1_how_a_holder_has_ended_is_told() {
        let params = Params { participants: 4, ..Params::for_segment(64 << 10) };
        let region = BoxedRegion::<Native>::new(Layout::fit(64 << 10, params).expect("room for a sector"));
        let slots = Slots(&region);
        let state = slots.slot(2, SlotWord::State);
        assert_eq!(slots.end_of(2, 0), Some(Ended::Unknown), "there was nobody");
        assert!(slots.take(2, 7));
        assert_eq!([0, 1, 2].map(|epoch| slots.end_of(2, epoch)), [Some(Ended::Unknown), None, Some(Ended::Unknown)]);
        let dead = slots.declare_dead(2, slots.state(2), 1, NO_LIFE).expect("it has not changed");
        assert_eq!(slots.end_of(2, 1), Some(Ended::Died));
        assert!(slots.end(dead));
        assert_eq!(slots.end_of(2, 1), Some(Ended::Died));
        slots.release(1, &[slots.begun(2).expect("it has begun")]);
        assert!(slots.is_free(2));
        assert_eq!(slots.end_of(2, 1), Some(Ended::Died));
        assert!(slots.take(2, 8));
        assert_eq!([1, 2].map(|epoch| slots.end_of(2, epoch)), [Some(Ended::Unknown), None]);
        state.store(free(slots.state(2)), &SLOT_WRITE);
        assert_eq!(slots.end_of(2, 2), Some(Ended::Left));
        // Behind the last epoch comes the first, which some have had: not that of nobody.
        state.store(held(HELD | SlotState::EPOCH.of(SlotState::EPOCH.max()), 0), &SLOT_WRITE);
        assert_eq!((epoch(slots.state(2)), slots.end_of(2, 1)), (1, None));
    }
}
