//! Participants: who uses a segment, and who has died.
//!
//! A participant is a thread's lane. Its slot's state word names the *life* of the attachment whose lane it is, and the kernel tells
//! whether that goes on ([`super::life`]): there are no heartbeats, and a process that is stopped or slow lives. One compare-and-swap takes a slot.
//!
//! A number whose blocks others are just adopting can't be used again before they have done that, since they may give them back: its
//! slot stays a dead participant's.
//!
//! Where every slot is held, a newcomer takes over a dead participant's, and is the next holder before anything is recovered.
//! Until it has recovered what its predecessor left, both are one participant to everybody else; if it is killed meanwhile, what is
//! left is a dead participant as before.

use super::layout::SlotWord;
use super::life::{LIFE, NO_LIFE, life_in};
use super::mapping::Segment;
use super::region::Region;
use crate::backend::orderings::{JOIN_FENCE, SLOT_CLAIM, SLOT_LOOK, SLOT_WRITE};
use crate::backend::{Backend, Native, Word};
use crate::error::Result;

/// A slot's state word: kind (2 bits), epoch (19 bits, one more for each holder), recoverer (11 bits), the holder's life (32 bits).
const KIND: u64 = 3 << 62;
const FREE: u64 = 0;
const HELD: u64 = 1 << 62;
const RECOVERING: u64 = 2 << 62;
const EPOCH_AT: u32 = 43;
const EPOCH: u64 = ((1 << 19) - 1) << EPOCH_AT;

const fn next_epoch(state: u64) -> u64 {
    state & !EPOCH | (state + (1 << EPOCH_AT)) & EPOCH
}
const fn held(before: u64, life: u32) -> u64 {
    HELD | next_epoch(before) & EPOCH | life as u64
}
const fn recovering(state: u64, by: u16) -> u64 {
    RECOVERING | state & (EPOCH | LIFE) | (by as u64) << 32
}
const fn free(state: u64) -> u64 {
    FREE | state & EPOCH
}
fn recoverer(state: u64) -> u16 {
    (state >> 32 & 0x7FF) as u16
}

/// What a slot says about its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// The slot's number: the owner in tokens.
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
pub(crate) enum Joined {
    /// The slot was free.
    Free(u16),
    /// The slot was a dead participant's, which nobody has recovered: that is for its new holder to do, before anything else.
    TakenOver(u16),
    /// Every slot is held, but one of them is just being given up, taken or recovered.
    Changing,
    /// Every slot is held by the living.
    AllHeld,
}

impl Segment {
    pub(super) fn slot(&self, number: u16, word: SlotWord) -> &crate::backend::NativeWord {
        self.word(self.layout().slot(number, word))
    }

    /// Takes a slot and says who we are: a free one, else a dead participant's. Not one of those `passed` over.
    ///
    /// # Errors
    /// If this attachment's life can't begin.
    pub(crate) fn join(&self, passed: &[u16]) -> Result<Joined> {
        let life = self.life()?;
        let numbers = (1..=self.layout().params.participants as u16).filter(|number| !passed.contains(number));
        let mut changing = false;
        for number in numbers.clone() {
            let found = self.slot(number, SlotWord::State).load(&SLOT_LOOK);
            if found & KIND == FREE {
                if self.take_slot(number, found, life) {
                    return Ok(Joined::Free(number));
                }
                changing = true;
            }
        }
        for number in numbers {
            let found = self.slot(number, SlotWord::State).load(&SLOT_LOOK);
            changing |= found & KIND != HELD;
            if self.is_dead(found) {
                if self.take_slot(number, found, life) {
                    return Ok(Joined::TakenOver(number));
                }
                changing = true;
            }
        }
        Ok(if changing { Joined::Changing } else { Joined::AllHeld })
    }

    /// Takes the slot whose word was read as `found`, if it still is.
    fn take_slot(&self, number: u16, found: u64, life: u32) -> bool {
        // Others may be taking it, too, or a survivor to recover it: one of them changes the word.
        if self.slot(number, SlotWord::State).cas(found, held(found, life), &SLOT_CLAIM).is_err() {
            return false;
        }
        self.slot(number, SlotWord::Pid).store(u64::from(self.opener()), &SLOT_WRITE);
        self.slot(number, SlotWord::Process).store(Native::process(), &SLOT_WRITE);
        // Before the first token is looked at: a thief that takes the last holder's process for this one has marked what it wants
        // by then.
        Native::fence(&JOIN_FENCE);
        true
    }

    /// Gives a slot of this process back.
    pub(crate) fn leave(&self, number: u16) {
        self.release_dead(number);
    }

    /// Everybody who holds a slot.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        (1..=self.layout().params.participants as u16).filter_map(|number| self.participant(number)).collect()
    }

    /// Who holds a slot.
    pub(crate) fn participant(&self, number: u16) -> Option<Participant> {
        let word = self.slot(number, SlotWord::State);
        let mut state = word.load(&SLOT_LOOK);
        let mut dead = self.is_dead(state);
        // One that leaves in good order frees the slot before its life ends: what looks dead must look so twice.
        if dead {
            state = word.load(&SLOT_LOOK);
            dead = self.is_dead(state);
        }
        (state & KIND != FREE).then(|| Participant {
            number,
            pid: self.slot(number, SlotWord::Pid).load(&SLOT_LOOK) as u32,
            alive: state & KIND == HELD && !dead,
            recovered_by: (state & KIND == RECOVERING).then(|| recoverer(state)),
        })
    }

    /// Whether anybody alive takes part who is not of this attachment.
    pub(crate) fn has_others(&self) -> Result<bool> {
        let mine = self.life()?;
        let others = self.participants().into_iter().filter(|participant| participant.alive);
        Ok(others.into_iter().any(|participant| self.life_at(participant.number) != mine))
    }

    /// How often a slot was given to somebody: it tells its holders apart.
    pub(crate) fn epoch(&self, number: u16) -> u32 {
        ((self.slot(number, SlotWord::State).load(&SLOT_LOOK) & EPOCH) >> EPOCH_AT) as u32
    }

    /// Whether a slot is held, and its holder is dead. A life begins before its first slot is taken and ends after its last one is given
    /// up: so this one is gone, unless the slot has changed hands since the word was read, which the caller's compare-and-swap notices.
    fn is_dead(&self, state: u64) -> bool {
        state & KIND == HELD && self.is_over(life_in(state))
    }

    /// Takes one dead participant's slot, to recover it as participant `me`: its number, or none if nobody is dead.
    pub(crate) fn take_dead(&self, me: u16) -> Option<u16> {
        (1..=self.layout().params.participants as u16).find(|&number| {
            let word = self.slot(number, SlotWord::State);
            let state = word.load(&SLOT_LOOK);
            let dead = match state & KIND {
                HELD => self.is_dead(state),
                // Its recoverer died as well: that one's slot tells. One that has been released left no recovery behind.
                RECOVERING if recoverer(state) != me => {
                    let by = self.slot(recoverer(state), SlotWord::State).load(&SLOT_LOOK);
                    self.is_dead(by)
                }
                _ => false,
            };
            dead && word.cas(state, recovering(state, me), &SLOT_CLAIM).is_ok()
        })
    }

    /// Slots that a dead recoverer had taken become this one's to recover, before the dead one's number can be reused. Where both have
    /// the same number, because `me` has taken the slot over, only the epoch tells them apart.
    pub(crate) fn inherit(&self, dead: u16, me: u16) -> Vec<u16> {
        let mut inherited = vec![];
        for number in 1..=self.layout().params.participants as u16 {
            let word = self.slot(number, SlotWord::State);
            let state = word.load(&SLOT_LOOK);
            if state & KIND == RECOVERING
                && recoverer(state) == dead
                && word.cas(state, recovering(next_epoch(state), me), &SLOT_CLAIM).is_ok()
            {
                inherited.push(number);
            }
        }
        inherited
    }

    /// A slot that this process has taken to recover it is a dead participant's again: it can't be released yet.
    ///
    /// In a new epoch: whoever has read the word of this recovery, and found its recoverer dead later, must not take a later one for it.
    pub(crate) fn put_back(&self, number: u16) {
        let word = self.slot(number, SlotWord::State);
        let state = word.load(&SLOT_LOOK);
        word.store(held(state, NO_LIFE), &SLOT_WRITE);
    }

    /// A slot of this process's becomes a dead participant's, as if the process had died.
    pub(crate) fn abandon(&self, number: u16) {
        self.put_back(number);
    }

    /// A slot that this process holds or has recovered may be used again.
    pub(crate) fn release_dead(&self, number: u16) {
        let word = self.slot(number, SlotWord::State);
        self.slot(number, SlotWord::Process).store(0, &SLOT_WRITE);
        self.slot(number, SlotWord::Pid).store(0, &SLOT_WRITE);
        word.store(free(word.load(&SLOT_LOOK)), &SLOT_WRITE);
    }
}

#[cfg(test)]
mod tests {

    /// A recoverer dies between taking a dead one's slot and releasing it: the next one recovers both.
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
        assert_eq!(second.matrix().segment().take_dead(recoverer), Some(dead));
        let seen = made.participants();
        assert_eq!(seen.iter().find(|p| p.number == dead).and_then(|p| p.recovered_by), Some(recoverer));
        let recovered = made.reap().expect("a slot");
        assert_eq!((recovered.participants, recovered.live_blocks), (2, 3));
        assert_eq!((made.participants().len(), made.stats().expect("sound").live_blocks), (1, 0));
        // They never come back, not even to leave.
        std::mem::forget((first, second));
    }
}
