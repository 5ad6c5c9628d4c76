//! Participants: who uses a segment, and who has died.
//!
//! A participant is a thread's lane. Its slot is held by a lock on a byte of the segment's file, of the kind that belongs
//! to the open file description (`F_OFD_SETLK`, fcntl(2)): the kernel releases it however the process ends. There are
//! no heartbeats, and a process that is stopped or slow holds its locks. A child that was forked keeps its
//! parent's description open, so the slot also says process id, start time and PID namespace: within the same
//! namespace, a process that is gone, or whose id has another start time now, is dead even if its child holds the lock.
//! Across namespaces only the lock counts.
//!
//! A number whose blocks others are just adopting can't be used again before they have done that, since they may give them back: its
//! slot stays a dead participant's.
//!
//! Where every slot is held, a newcomer takes over a dead participant's: it gets the lock, which nobody alive can hold then, and
//! is the next holder before anything is recovered. Until it has recovered what its predecessor left, both are one
//! participant to everybody else; if it is killed meanwhile, what is left is a dead participant as before.

use super::Segment;
use super::layout::SlotWord;
use super::region::Region;
use crate::backend::orderings::{JOIN_FENCE, SLOT_CLAIM, SLOT_LOOK, SLOT_WRITE};
use crate::backend::{Backend, Native, Word};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::io::Errno;
use rustix::process::Pid;

/// A slot's state word: kind (2 bits), epoch (19 bits, one more for each holder), recoverer (11 bits), process id (32 bits).
const KIND: u64 = 3 << 62;
const FREE: u64 = 0;
const HELD: u64 = 1 << 62;
const RECOVERING: u64 = 2 << 62;
const EPOCH_AT: u32 = 43;
const EPOCH: u64 = ((1 << 19) - 1) << EPOCH_AT;
const PID: u64 = 0xFFFF_FFFF;

const fn next_epoch(state: u64) -> u64 {
    state & !EPOCH | (state + (1 << EPOCH_AT)) & EPOCH
}
const fn held(before: u64, pid: u32) -> u64 {
    HELD | next_epoch(before) & EPOCH | pid as u64
}
const fn recovering(state: u64, by: u16) -> u64 {
    RECOVERING | state & (EPOCH | PID) | (by as u64) << 32
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
    /// The process, as it is called in its own PID namespace.
    pub pid: u32,
    /// Whether it still runs.
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
    /// Every slot is held by the living, or by the dead whose forked child holds their lock.
    AllHeld,
}

/// What can be known of a process of this PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Gone,
    /// It runs; its start time in clock ticks after boot (`/proc/PID/stat`, field 22).
    Since(u64),
    /// It is there, but `/proc` does not tell: other users' processes are hidden, or no descriptor is left.
    Unknown,
}

fn process(pid: u32) -> Process {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    // The command's name, in parentheses, may hold anything.
    let mut fields = stat.as_deref().and_then(|stat| stat.rsplit_once(')')).map(|(_, rest)| rest.split_whitespace());
    let told = fields.as_mut().and_then(|fields| {
        let (state, threads) = (fields.next()?, fields.nth(16)?.parse::<u64>().ok()?);
        Some((state, threads, fields.nth(1)?.parse().ok()?))
    });
    match told {
        // The state is the main thread's, and the number of threads counts it: one that has ended leaves the others running.
        Some(("Z" | "X", 0 | 1, _)) => Process::Gone,
        Some((_, _, since)) => Process::Since(since),
        None => match i32::try_from(pid).ok().and_then(Pid::from_raw).map(rustix::process::test_kill_process) {
            None | Some(Err(Errno::SRCH)) => Process::Gone,
            Some(_) => Process::Unknown,
        },
    }
}

/// A process's start time, 0 if it can't be known.
fn start_time(pid: u32) -> u64 {
    match process(pid) {
        Process::Since(since) => since,
        _ => 0,
    }
}

/// This process's PID namespace, 0 if `/proc` is not there.
fn namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}

/// The lock of a slot's byte.
fn byte_lock(number: u16, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: number as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

impl Segment {
    fn slot(&self, number: u16, word: SlotWord) -> &crate::backend::NativeWord {
        self.word(self.layout().slot(number, word))
    }

    /// Locks or unlocks a slot's byte; false if another description holds it.
    fn lock_slot(&self, number: u16, lock: bool) -> bool {
        let kind = if lock { libc::F_WRLCK } else { libc::F_UNLCK };
        fcntl(self.fd(), FcntlArg::F_OFD_SETLK(&byte_lock(number, kind))).is_ok()
    }

    /// Whether another description holds a slot's byte. It is only asked for, never locked: a look must not make a living
    /// process pass over the slot.
    fn slot_is_locked(&self, number: u16) -> bool {
        let mut range = byte_lock(number, libc::F_WRLCK);
        // If the kernel can't say, nobody is declared dead.
        fcntl(self.fd(), FcntlArg::F_OFD_GETLK(&mut range)).is_err() || range.l_type != libc::F_UNLCK as libc::c_short
    }

    /// Takes a slot, locks it and says who we are: a free one, else a dead participant's. `mine` tells the slots of this
    /// description, whose locks say nothing to it. Not for two threads at once on one description.
    pub(crate) fn join(&self, mine: &impl Fn(u16) -> bool) -> Joined {
        let numbers = 1..=self.layout().params.participants as u16;
        let mut changing = false;
        for number in numbers.clone() {
            let found = self.slot(number, SlotWord::State).load(&SLOT_LOOK);
            if found & KIND == FREE && !mine(number) {
                if self.take_slot(number, FREE) {
                    return Joined::Free(number);
                }
                changing = true;
            }
        }
        for number in numbers {
            let found = self.slot(number, SlotWord::State).load(&SLOT_LOOK);
            changing |= found & KIND != HELD;
            if found & KIND == HELD && !mine(number) && self.is_dead(number, found, mine) {
                if self.take_slot(number, HELD) {
                    return Joined::TakenOver(number);
                }
                changing = true;
            }
        }
        if changing { Joined::Changing } else { Joined::AllHeld }
    }

    /// Locks a slot's byte and takes the slot, if it is of this kind then. The lock alone proves that a slot which says HELD is a dead
    /// participant's: the living hold theirs from before they take a slot until after they have given it up.
    fn take_slot(&self, number: u16, kind: u64) -> bool {
        if !self.lock_slot(number, true) {
            return false;
        }
        let (state, pid) = (self.slot(number, SlotWord::State), self.opener());
        let found = state.load(&SLOT_LOOK);
        let taken = found & KIND == kind && {
            // Who we are, before the slot is ours: whoever sees it held and finds the last holder's start time here would take us
            // for a process that is gone. The byte's lock lets nobody else write meanwhile.
            self.slot(number, SlotWord::Start).store(start_time(pid), &SLOT_WRITE);
            self.slot(number, SlotWord::Namespace).store(namespace(), &SLOT_WRITE);
            self.slot(number, SlotWord::Process).store(Native::process(), &SLOT_WRITE);
            // A survivor may be taking the slot to recover it: it needs no lock, and one of the two changes the word.
            state.cas(found, held(found, pid), &SLOT_CLAIM).is_ok()
        };
        // Before the first token is looked at: a thief that takes the last holder's process for this one has marked what it wants
        // by then.
        Native::fence(&JOIN_FENCE);
        if !taken {
            self.lock_slot(number, false);
        }
        taken
    }

    /// Gives a slot of this process back.
    pub(crate) fn leave(&self, number: u16) {
        self.release_dead(number);
        self.lock_slot(number, false);
    }

    /// Everybody who holds a slot. `mine` tells the caller's own slots, which its own lock says nothing about; it is asked after
    /// a slot has been read, so that it knows of every thread that had joined by then.
    ///
    /// A forked child has no slots of its own, and its lock is its parent's as well: of `parent`'s slots it tells nothing, either.
    pub(crate) fn participants(&self, mine: &impl Fn(u16) -> bool, parent: Option<u32>) -> Vec<Participant> {
        (1..=self.layout().params.participants as u16)
            .filter_map(|number| {
                let word = self.slot(number, SlotWord::State);
                let is_dead = |state: u64| match parent {
                    Some(parent) if parent == state as u32 => self.is_gone(number, state),
                    _ => self.is_dead(number, state, mine),
                };
                let mut state = word.load(&SLOT_LOOK);
                let mut alive = state & KIND == HELD && !is_dead(state);
                // One that leaves in good order frees the slot before its lock: what looks dead must look so twice.
                if state & KIND == HELD && !alive {
                    state = word.load(&SLOT_LOOK);
                    alive = state & KIND == HELD && !is_dead(state);
                }
                (state & KIND != FREE).then(|| Participant {
                    number,
                    pid: state as u32,
                    alive,
                    recovered_by: (state & KIND == RECOVERING).then(|| recoverer(state)),
                })
            })
            .collect()
    }

    /// Whether the holder of a held slot is dead.
    fn is_dead(&self, number: u16, state: u64, mine: &impl Fn(u16) -> bool) -> bool {
        if mine(number) {
            return false;
        }
        if !self.slot_is_locked(number) {
            // Nobody holds it. A holder locks before it takes the slot, so this one is gone; unless the slot changed hands
            // meanwhile: the caller's compare-and-swap notices.
            return true;
        }
        self.is_gone(number, state)
    }

    /// Whether the process that holds a held slot has ended, as far as one of the same PID namespace can tell.
    fn is_gone(&self, number: u16, state: u64) -> bool {
        let started = self.slot(number, SlotWord::Start).load(&SLOT_LOOK);
        let here = namespace();
        let same_namespace = here != 0 && self.slot(number, SlotWord::Namespace).load(&SLOT_LOOK) == here;
        same_namespace
            && match process(state as u32) {
                Process::Gone => true,
                Process::Since(since) => started != 0 && since != started,
                Process::Unknown => false,
            }
    }

    /// Takes one dead participant's slot, to recover it as participant `me`: its number, or none if nobody is dead.
    pub(crate) fn take_dead(&self, me: u16, mine: &impl Fn(u16) -> bool) -> Option<u16> {
        (1..=self.layout().params.participants as u16).find(|&number| {
            let word = self.slot(number, SlotWord::State);
            let state = word.load(&SLOT_LOOK);
            let dead = match state & KIND {
                HELD => self.is_dead(number, state, mine),
                // Its recoverer died as well: that one's slot tells. One that has been released left no recovery behind.
                RECOVERING if recoverer(state) != me => {
                    let by = self.slot(recoverer(state), SlotWord::State).load(&SLOT_LOOK);
                    by & KIND == HELD && self.is_dead(recoverer(state), by, mine)
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
        word.store(HELD | next_epoch(state) & EPOCH | state & PID, &SLOT_WRITE);
    }

    /// A slot of this process's becomes a dead participant's, as if the process had died.
    pub(crate) fn abandon(&self, number: u16) {
        self.lock_slot(number, false);
    }

    /// A slot that this process holds or has recovered may be used again.
    pub(crate) fn release_dead(&self, number: u16) {
        let word = self.slot(number, SlotWord::State);
        self.slot(number, SlotWord::Process).store(0, &SLOT_WRITE);
        word.store(free(word.load(&SLOT_LOOK)), &SLOT_WRITE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_start_time_and_nobody_has_none() {
        assert!(matches!(process(std::process::id()), Process::Since(1..)));
        assert_eq!(
            (process(u32::MAX), process(0), process(i32::MAX as u32)),
            (Process::Gone, Process::Gone, Process::Gone)
        );
        assert_ne!(namespace(), 0);
    }

    /// A recoverer dies between taking a dead one's slot and releasing it: the next one recovers both.
    #[test]
    fn c1_a_dead_recoverers_work_is_taken_over() {
        use crate::segment::Options;
        let made = Options::new().memfd().size(1 << 20).create().expect("created");
        let attach = || {
            let fd = made.matrix().segment().fd().try_clone_to_owned().expect("duplicated");
            Options::from_fd(fd).inspect().expect("attached")
        };
        // Frees the kernel's locks as a kill would: the slot's byte is unlocked, its words stay.
        let die = |handler: &crate::handlers::Handler| {
            let number = handler.participants().iter().map(|p| p.number).max().expect("a participant");
            assert!(handler.matrix().segment().lock_slot(number, false));
            number
        };
        let (first, second) = (attach(), attach());
        let _held = [(); 2].map(|()| first.allocate_raw(1000).expect("room"));
        let dead = die(&first);
        let _own = second.allocate_raw(1000).expect("room");
        let recoverer = die(&second);
        assert_eq!(second.matrix().segment().take_dead(recoverer, &|number| number == recoverer), Some(dead));
        let seen = made.participants();
        assert_eq!(seen.iter().find(|p| p.number == dead).and_then(|p| p.recovered_by), Some(recoverer));
        let recovered = made.reap().expect("a slot");
        assert_eq!((recovered.participants, recovered.live_blocks), (2, 3));
        assert_eq!((made.participants().len(), made.stats().expect("sound").live_blocks), (1, 0));
        // They never come back, not even to leave.
        std::mem::forget((first, second));
    }
}
