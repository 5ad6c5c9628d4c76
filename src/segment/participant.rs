//! Participants: who uses a segment, and who has died.
//!
//! A participant is a thread's cache. Its slot's state word names the *life* of the attachment whose cache it
//! is, and the kernel tells whether that goes on ([`super::life`]): there are no heartbeats, and a process
//! that is stopped or slow lives. One compare-and-swap takes a slot.
//!
//! A number whose blocks others are just adopting can't be used again before they have done that, since they
//! may give them back: its recovery stays in force (segment::slot).
//!
//! Where every slot is held, a newcomer reserves a dead participant's number, recovers it, and takes it.
//! Others may help with that recovery as with any.

use super::layout::SlotWord;
use super::life::{NO_LIFE, life_in};
use super::mapping::Segment;
use super::region::Region;
use super::slot::{Dead, Ended, FREE, HELD, KIND, RECOVERING, Slots, epoch, free, held, recoverer};
use crate::backend::orderings::{JOIN_FENCE, SLOT_CLAIM, SLOT_LOOK, SLOT_WRITE};
use crate::backend::{Backend, Native, Word};
use crate::error::Result;

/// What a slot says about its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// The slot's number: the owner in headers.
    pub number: u16,
    /// The process, as it is called in its own PID namespace; 0 if it has not said so yet.
    pub pid: u32,
    /// Whether its process still runs, as the kernel says.
    pub alive: bool,
    /// The participant that is recovering it.
    pub recovered_by: Option<u16>,
}

/// How an attempt to become a participant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotFound {
    /// The slot was free.
    Free(u16),
    /// Every slot is held, but this one by a dead participant. Its number is reserved: whoever has walked for
    /// it may take it ([`Segment::succeed`]), or gives it up ([`Segment::give_up`]).
    Dead(Dead),
    /// Every slot is held, but one of them is just being given up, taken or recovered.
    Changing,
    /// Every slot is held by the living.
    AllHeld,
}

impl Segment {
    pub(super) fn slot(&self, number: u16, word: SlotWord) -> &crate::backend::NativeWord {
        self.word(self.layout().slot(number, word))
    }

    /// Takes a slot and says who we are: a free one. Else a dead participant's number is reserved, for its
    /// caller to recover it. Not one of those `passed` over.
    ///
    /// # Errors
    /// If this attachment's life can't begin.
    pub(crate) fn find_slot(&self, passed: &[u16]) -> Result<SlotFound> {
        let life = self.life()?;
        let slots = Slots(self);
        let numbers = slots.numbers().filter(|number| !passed.contains(number));
        let mut changing = false;
        for number in numbers.clone() {
            let found = self.slot(number, SlotWord::State).load(&SLOT_LOOK);
            if found & KIND == FREE {
                if self.take_slot(number, life) {
                    return Ok(SlotFound::Free(number));
                }
                changing = true;
            }
        }
        for number in numbers {
            let found = self.slot(number, SlotWord::State).load(&SLOT_LOOK);
            changing |= found & KIND != HELD;
            let life_over = |reserved| reserved == NO_LIFE || self.is_over(reserved);
            let reserved = match found & KIND {
                HELD if self.is_dead(found) => slots.declare_dead(number, found, number, life),
                HELD | FREE => continue,
                _ => slots
                    .begun(number)
                    .filter(|dead| life_over(dead.reserved_by()))
                    .and_then(|dead| slots.reserve(dead, life)),
            };
            changing = true;
            if let Some(dead) = reserved {
                return Ok(SlotFound::Dead(dead));
            }
        }
        Ok(if changing { SlotFound::Changing } else { SlotFound::AllHeld })
    }

    /// Takes the number that [`Segment::join`] has reserved and that its caller has walked for. False if it is pinned.
    pub(crate) fn succeed(&self, number: u16) -> Result<bool> {
        Ok(self.take_slot(number, self.life()?))
    }

    /// The number that [`Segment::join`] has reserved is anybody's again.
    pub(crate) fn give_up(&self, number: u16) {
        let slots = Slots(self);
        while let Some(dead) = slots.begun(number).filter(|dead| Some(dead.reserved_by()) == self.life().ok()) {
            if slots.reserve(dead, NO_LIFE).is_some() {
                break;
            }
        }
    }

    /// Takes a slot, if it may be taken.
    fn take_slot(&self, number: u16, life: u32) -> bool {
        // Others may be taking it, too, or a survivor to recover it: one of them changes the word.
        if !Slots(self).take(number, life) {
            return false;
        }
        Slots(self).clear(number);
        self.slot(number, SlotWord::Pid).store(u64::from(self.opener()), &SLOT_WRITE);
        self.slot(number, SlotWord::Process).store(Native::process(), &SLOT_WRITE);
        let highest = self.word(self.layout().highest());
        loop {
            let found = highest.load(&SLOT_LOOK);
            if found >= u64::from(number) || highest.cas(found, number.into(), &SLOT_CLAIM).is_ok() {
                break;
            }
        }
        // Before the first header is looked at: a thief that takes the last holder's process for this one has
        // marked what it wants by then.
        Native::fence(&JOIN_FENCE);
        true
    }

    /// Gives a slot of this process back.
    pub(crate) fn leave(&self, number: u16) {
        let word = self.slot(number, SlotWord::State);
        self.slot(number, SlotWord::Process).store(0, &SLOT_WRITE);
        self.slot(number, SlotWord::Pid).store(0, &SLOT_WRITE);
        word.store(free(word.load(&SLOT_LOOK)), &SLOT_WRITE);
    }

    /// Everybody who holds a slot.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        participants(self, |life| self.is_over(life))
    }

    /// Who holds a slot.
    pub(crate) fn participant(&self, number: u16) -> Option<Participant> {
        participant(self, number, &|life| self.is_over(life))
    }

    /// Whether anybody alive takes part who is not of this attachment.
    pub(crate) fn has_others(&self) -> Result<bool> {
        let mine = self.life()?;
        let others = self.participants().into_iter().filter(|participant| participant.alive);
        Ok(others.into_iter().any(|participant| self.life_at(participant.number) != mine))
    }

    /// How often a slot was given to somebody: it tells its holders apart.
    pub(crate) fn epoch(&self, number: u16) -> u32 {
        epoch(self.slot(number, SlotWord::State).load(&SLOT_LOOK))
    }

    /// How that holder of a number has ended, as the segment says.
    pub(crate) fn end_of(&self, number: u16, held: u32) -> Option<Ended> {
        Slots(self).end_of(number, held)
    }

    /// Whether that holder has the slot, and nobody has declared it dead.
    pub(crate) fn holds(&self, number: u16, held: u32) -> bool {
        let state = self.slot(number, SlotWord::State).load(&SLOT_LOOK);
        state & KIND == HELD && epoch(state) == held
    }

    /// Whether a slot is held, and its holder is dead. A life begins before its first slot is taken and ends
    /// after its last one is given up: so this one is gone, unless the slot has changed hands since the word
    /// was read, which the caller's compare-and-swap notices.
    fn is_dead(&self, state: u64) -> bool {
        state & KIND == HELD && self.is_over(life_in(state))
    }

    /// Everybody who has died, as participant `me` declares, and those who have been declared dead and whose
    /// numbers are not released yet: their recoveries may stand still, and are helped.
    pub(crate) fn take_dead(&self, me: u16) -> Vec<Dead> {
        let slots = Slots(self);
        let word = |number| (number, self.slot(number, SlotWord::State).load(&SLOT_LOOK));
        // All words are read before the first question: one answer serves all slots of a life (C1).
        let read: Vec<_> = slots.numbers().map(word).filter(|(_, state)| state & KIND != FREE).collect();
        let mut asked: Vec<(u32, bool)> = vec![];
        let mut is_over = |life| match asked.iter().rev().find(|(other, _)| *other == life) {
            Some((_, over)) => *over,
            None => {
                let over = self.is_over(life);
                asked.push((life, over));
                over
            }
        };
        let dead = |(number, state): (u16, u64)| {
            let is_dead = state & KIND == HELD && is_over(life_in(state));
            let declared = if is_dead { slots.declare_dead(number, state, me, NO_LIFE) } else { None };
            let dead = declared.or_else(|| slots.begun(number))?;
            // A newcomer that has reserved the number and died takes it no more.
            let reserved = dead.reserved_by();
            let over = reserved != NO_LIFE && self.is_over(reserved);
            Some(if over { slots.reserve(dead, NO_LIFE).unwrap_or(dead) } else { dead })
        };
        read.into_iter().filter_map(dead).collect()
    }

    /// A slot of this process's becomes a dead participant's, as if the process had died.
    pub(crate) fn abandon(&self, number: u16) {
        let word = self.slot(number, SlotWord::State);
        let state = word.load(&SLOT_LOOK);
        word.store(held(state, NO_LIFE), &SLOT_WRITE);
    }
}

/// Everybody who holds a slot; `is_over` tells whose life is.
pub(super) fn participants(region: &impl Region, is_over: impl Fn(u32) -> bool) -> Vec<Participant> {
    let numbers = 1..=region.layout().params.participants as u16;
    numbers.filter_map(|number| participant(region, number, &is_over)).collect()
}

/// Who holds a slot.
fn participant(region: &impl Region, number: u16, is_over: &impl Fn(u32) -> bool) -> Option<Participant> {
    let slot = |word| region.word(region.layout().slot(number, word)).load(&SLOT_LOOK);
    let is_dead = |state: u64| state & KIND == HELD && is_over(life_in(state));
    let mut state = slot(SlotWord::State);
    let mut dead = is_dead(state);
    // One that leaves in good order frees the slot before its life ends: what looks dead must look so twice.
    if dead {
        state = slot(SlotWord::State);
        dead = is_dead(state);
    }
    matches!(state & KIND, HELD | RECOVERING).then(|| Participant {
        number,
        pid: slot(SlotWord::Pid) as u32,
        alive: state & KIND == HELD && !dead,
        recovered_by: (state & KIND == RECOVERING).then(|| recoverer(state)),
    })
}

#[cfg(test)]
mod tests {

    /// A recoverer dies between declaring another dead and releasing its number: the next one recovers both.
    #[test]
    fn c1_a_dead_recoverers_work_is_taken_over() {
        use crate::segment::Options;
        let made = Options::new().memfd().size(1 << 20).create().expect("created");
        let attach = || {
            let fd = made.matrix().segment().fd().try_clone_to_owned().expect("duplicated");
            Options::from_fd(fd).inspect().expect("attached")
        };
        // Ends the life as a kill would; the slot's words stay.
        let die = |handler: &crate::handlers::Handler| {
            let number = handler.participants().iter().map(|p| p.number).max().expect("a participant");
            // SAFETY: only slots are touched from here on, and the handlers are forgotten.
            unsafe { handler.matrix().segment().end_life() };
            number
        };
        let (first, second) = (attach(), attach());
        let _held = [(); 2].map(|()| first.allocate_raw(1000).expect("room"));
        let dead = die(&first);
        let _own = second.allocate_raw(1000).expect("room");
        let recoverer = die(&second);
        let taken = second.matrix().segment().take_dead(recoverer);
        assert!(taken.iter().any(|taken| taken.number == dead), "{taken:?}");
        let seen = made.participants();
        assert_eq!(seen.iter().find(|p| p.number == dead).and_then(|p| p.recovered_by), Some(recoverer));
        let recovered = made.reap().expect("a slot");
        assert_eq!((recovered.participants, recovered.live_blocks), (2, 3));
        assert_eq!((made.participants().len(), made.stats().expect("sound").live_blocks), (1, 0));
        // They never come back, not even to leave.
        std::mem::forget((first, second));
    }

    /// A newcomer has reserved a dead one's number: it keeps it, whoever else comes, for as long as it lives.
    #[test]
    fn c1_a_reserved_number_is_a_living_newcomers() {
        use super::{NO_LIFE, Slots};
        use crate::segment::Options;
        let made = Options::new().memfd().size(1 << 20).create().expect("created");
        let attach = || {
            let fd = made.matrix().segment().fd().try_clone_to_owned().expect("duplicated");
            Options::from_fd(fd).inspect().expect("attached")
        };
        let me = made.join().expect("a slot").number;
        let (dying, newcomer) = (attach(), attach());
        let dead = dying.join().expect("a slot").number;
        // SAFETY: only slots are touched from here on, and the handlers are forgotten.
        unsafe { dying.matrix().segment().end_life() };
        let segment = made.matrix().segment();
        let (slots, life) = (Slots(segment), newcomer.matrix().segment().life().expect("a life"));
        slots.declare_dead(dead, slots.state(dead), me, life).expect("nobody else has");
        let reserved =
            || segment.take_dead(me).iter().find(|taken| taken.number == dead).map(|taken| taken.reserved_by());
        assert_eq!(reserved(), Some(life));
        // SAFETY: only slots are touched from here on, and the handlers are forgotten.
        unsafe { newcomer.matrix().segment().end_life() };
        assert_eq!(reserved(), Some(NO_LIFE));
        std::mem::forget((dying, newcomer));
    }
}
