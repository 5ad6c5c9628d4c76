//! The directory: a few named blocks, so that a process finds what another made.
//!
//! An entry is 16 words: a state word, the block (granule and generation), its type fingerprint, the name's length,
//! 96 bytes of name. Publications take turns through one word, `version | entry`, so that a name is never published
//! twice: a publisher fills an entry, marks it PREPARED with the next version, looks through all entries, and then
//! advances the turn with one compare-and-swap, which fails if anybody published meanwhile. An entry is published from
//! that instant: readers count a PREPARED entry that the turn names as published, and whoever wants the next turn
//! first marks it READY. Nobody waits for anybody (L1).

use super::layout::DIRECTORY_WORDS;
use super::region::Region;
use crate::backend::orderings::{DIR_CLAIM, DIR_LOOK, DIR_WRITE};
use crate::backend::{Backend, Word};

/// The most entries that a directory can have: the turn word has so many bits for one.
pub const MAX_ENTRIES: usize = 1 << TURN_BITS;
const TURN_BITS: u32 = 14;
/// The most bytes of a name.
pub const NAME_LIMIT: usize = (DIRECTORY_WORDS - NAME) * 8;
const STATE: usize = 0;
const BLOCK: usize = 1;
const FINGERPRINT: usize = 2;
const LENGTH: usize = 3;
const NAME: usize = 4;

/// A state word: kind (2 bits), participant that fills it (11 bits), version (50 bits).
const KIND: u64 = 3 << 62;
const EMPTY: u64 = 0;
const BUSY: u64 = 1 << 62;
const PREPARED: u64 = 2 << 62;
const READY: u64 = 3 << 62;
const VERSION: u64 = (1 << 50) - 1;

/// The participant field of a state word.
const fn by(owner: u16) -> u64 {
    (owner as u64) << 50
}

/// What an entry says about its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The block's offset as published.
    pub offset: u32,
    /// The block's generation.
    pub generation: u32,
    /// Its type fingerprint, or none for untyped bytes.
    pub fingerprint: Option<u32>,
}

/// A publication, as it was found: this one, not a later one under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its block.
    pub block: Entry,
    entry: usize,
    state: u64,
}

/// Why nothing was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The name is published already.
    Taken,
    /// Every entry is in use.
    Full,
}

/// The turn word: version (50 bits), entry (14 bits).
#[derive(Clone, Copy)]
struct Turn(u64);
impl Turn {
    fn version(self) -> u64 {
        self.0 >> TURN_BITS
    }
    fn entry(self) -> usize {
        self.0 as usize % MAX_ENTRIES
    }
    fn next(self, entry: usize) -> Self {
        Self((self.version() + 1) << TURN_BITS | (entry % MAX_ENTRIES) as u64)
    }
}

/// The directory of a region.
pub struct Directory<'a, R: Region>(pub &'a R);

impl<R: Region> Directory<'_, R> {
    fn word(&self, entry: usize, word: usize) -> &<R::Backend as Backend>::Word {
        self.0.word(self.0.layout().directory(entry, word))
    }
    fn turn_word(&self) -> &<R::Backend as Backend>::Word {
        self.0.word(self.0.layout().directory_turn())
    }
    fn entries(&self) -> usize {
        self.0.layout().params.directory
    }

    /// The turn, after its entry has been marked READY.
    fn turn(&self) -> Turn {
        let turn = Turn(self.turn_word().load(&DIR_LOOK));
        if turn.version() > 0 && turn.entry() < self.entries() {
            let word = self.word(turn.entry(), STATE);
            let state = word.load(&DIR_LOOK);
            if state & (KIND | VERSION) == PREPARED | turn.version() & VERSION {
                let _ = word.cas(state, READY | state & VERSION, &DIR_CLAIM);
            }
        }
        turn
    }

    /// The entry's state if it is published and has this name.
    fn named(&self, entry: usize, name: &[u8]) -> Option<u64> {
        let state = self.word(entry, STATE).load(&DIR_LOOK);
        if state & KIND != READY || self.word(entry, LENGTH).load(&DIR_LOOK) != name.len() as u64 {
            return None;
        }
        let same = name.chunks(8).enumerate().all(|(i, part)| {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            self.word(entry, NAME + i).load(&DIR_LOOK) == u64::from_le_bytes(bytes)
        });
        (same && self.word(entry, STATE).load(&DIR_LOOK) == state).then_some(state)
    }

    fn find(&self, name: &[u8]) -> Option<(usize, u64)> {
        (0..self.entries()).find_map(|entry| Some((entry, self.named(entry, name)?)))
    }

    /// Publishes a block under a name of at most [`NAME_LIMIT`] bytes.
    ///
    /// # Errors
    /// [`Refused`], and nothing has changed.
    pub fn publish(&self, owner: u16, name: &[u8], block: Entry) -> Result<(), Refused> {
        debug_assert!(name.len() <= NAME_LIMIT);
        let entry = (0..self.entries()).find(|&entry| {
            let state = self.word(entry, STATE);
            state.load(&DIR_LOOK) == EMPTY && state.cas(EMPTY, BUSY | by(owner), &DIR_CLAIM).is_ok()
        });
        let Some(entry) = entry else {
            let taken = {
                self.turn();
                self.find(name).is_some()
            };
            return Err(if taken { Refused::Taken } else { Refused::Full });
        };
        let fingerprint = block.fingerprint.map_or(0, |print| print as u64 | 1 << 32);
        self.word(entry, BLOCK).store(block.offset as u64 | (block.generation as u64) << 32, &DIR_WRITE);
        self.word(entry, FINGERPRINT).store(fingerprint, &DIR_WRITE);
        self.word(entry, LENGTH).store(name.len() as u64, &DIR_WRITE);
        for (i, part) in name.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            self.word(entry, NAME + i).store(u64::from_le_bytes(bytes), &DIR_WRITE);
        }
        loop {
            let turn = self.turn();
            if self.find(name).is_some() {
                self.word(entry, STATE).store(EMPTY, &DIR_WRITE);
                return Err(Refused::Taken);
            }
            let next = turn.next(entry);
            let version = next.version() & VERSION;
            let prepared = PREPARED | by(owner) | version;
            self.word(entry, STATE).store(prepared, &DIR_WRITE);
            if self.turn_word().cas(turn.0, next.0, &DIR_CLAIM).is_ok() {
                let _ = self.word(entry, STATE).cas(prepared, READY | version, &DIR_CLAIM);
                return Ok(());
            }
            R::Backend::pause();
        }
    }

    /// What is published under a name.
    pub fn lookup(&self, name: &[u8]) -> Option<Published> {
        self.turn();
        loop {
            let (entry, state) = self.find(name)?;
            let block = self.entry(entry);
            if self.word(entry, STATE).load(&DIR_LOOK) == state {
                return Some(Published { block, entry, state });
            }
            R::Backend::pause();
        }
    }

    /// Withdraws this publication; false if somebody else has, whatever the name stands for by now.
    pub fn withdraw_this(&self, found: Published) -> bool {
        self.word(found.entry, STATE).cas(found.state, EMPTY, &DIR_CLAIM).is_ok()
    }

    /// Withdraws a name; false if it is not published. The block stays allocated.
    pub fn withdraw(&self, name: &[u8]) -> bool {
        self.turn();
        while let Some((entry, state)) = self.find(name) {
            if self.word(entry, STATE).cas(state, EMPTY, &DIR_CLAIM).is_ok() {
                return true;
            }
        }
        false
    }

    /// Empties the entries that a dead participant was filling; what it had published stays.
    pub fn recover(&self, dead: u16) {
        self.turn();
        for entry in 0..self.entries() {
            let word = self.word(entry, STATE);
            let state = word.load(&DIR_LOOK);
            let filling = matches!(state & KIND, BUSY | PREPARED);
            if filling && state & by(0x7FF) == by(dead) {
                let _ = word.cas(state, EMPTY, &DIR_CLAIM);
            }
        }
    }

    /// Withdraws every published entry whose block `live` refuses.
    pub fn retain(&self, live: impl Fn(Entry) -> bool) {
        self.turn();
        for entry in 0..self.entries() {
            let word = self.word(entry, STATE);
            let state = word.load(&DIR_LOOK);
            if state & KIND == READY && !live(self.entry(entry)) {
                // A version is used once: if the entry has changed since, this fails.
                let _ = word.cas(state, EMPTY, &DIR_CLAIM);
            }
        }
    }

    /// Calls `visit` with each published name and its block. Entries that change meanwhile are seen before or after, or not.
    pub fn each(&self, mut visit: impl FnMut(&[u8], Entry)) {
        // Reads only: the entry that the turn names is published even if nobody has marked it READY yet.
        let turn = Turn(self.turn_word().load(&DIR_LOOK));
        for entry in 0..self.entries() {
            let word = self.word(entry, STATE);
            let state = word.load(&DIR_LOOK);
            let in_turn = turn.version() > 0
                && turn.entry() == entry
                && state & (KIND | VERSION) == PREPARED | turn.version() & VERSION;
            if state & KIND != READY && !in_turn {
                continue;
            }
            let length = (self.word(entry, LENGTH).load(&DIR_LOOK) as usize).min(NAME_LIMIT);
            let mut name = [0; NAME_LIMIT];
            for (i, part) in name.chunks_exact_mut(8).enumerate() {
                part.copy_from_slice(&self.word(entry, NAME + i).load(&DIR_LOOK).to_le_bytes());
            }
            let block = self.entry(entry);
            // Marking a PREPARED entry READY changes nothing else.
            if word.load(&DIR_LOOK) & VERSION == state & VERSION {
                visit(&name[..length], block);
            }
        }
    }

    fn entry(&self, entry: usize) -> Entry {
        let block = self.word(entry, BLOCK).load(&DIR_LOOK);
        let print = self.word(entry, FINGERPRINT).load(&DIR_LOOK);
        let fingerprint = (print >> 32 != 0).then_some(print as u32);
        Entry { offset: block as u32, generation: (block >> 32) as u32, fingerprint }
    }
}
