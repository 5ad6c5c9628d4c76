//! The directory: a few named blocks, so that a process finds what another made.
//!
//! An entry is 16 words: a state word, the block (granule and generation), its type fingerprint, the name's length,
//! 96 bytes of name. Publications take turns through one word, `version | entry`, so that a name is never published
//! twice: a publisher fills an entry, marks it PREPARED with the next version, looks through all entries, and then
//! advances the turn with one compare-and-swap, which fails if anybody published meanwhile. An entry is published from
//! that instant: readers count a PREPARED entry that the turn names as published, and whoever wants the next turn
//! first marks it READY. Nobody waits for anybody (L1).
//!
//! A publication may *replace* one of the same name: its entry says which, and whoever marks it READY first
//! makes that one CLAIMED, as the replacer's, who empties it. So the name stands for the old block until the
//! turn, and for the new one from it on; and of one who replaces it and one who withdraws or takes it, one
//! has it. A reader that finds no entry of a name looks again if the turn has moved meanwhile.

use super::layout::DIRECTORY_WORDS;
use super::region::Region;
use crate::backend::orderings::{DIR_CLAIM, DIR_LOOK, DIR_WRITE};
use crate::backend::{Backend, Mutant, Word};
use crate::packed::packed;

/// The most entries that a directory can have: the turn word has so many bits for one.
pub const MAX_ENTRIES: usize = 1 << TURN_BITS;
const TURN_BITS: u32 = 14;
/// The most bytes of a name.
pub const NAME_LIMIT: usize = (DIRECTORY_WORDS - NAME) * 8;
const STATE: usize = 0;
const BLOCK: usize = 1;
const FINGERPRINT: usize = 2;
/// The name's length (8 bits); the entry that this one replaces, plus one (16 bits); and its version (40 bits).
const LENGTH: usize = 3;
const NAME: usize = 4;

packed! {
    /// An entry's state word.
    struct EntryState {
        VERSION: 50,
        /// The participant that fills it.
        FILLER: 11,
        UNUSED: 1,
        KIND: 2,
    }
}
const KIND: u64 = EntryState::KIND.mask();
const EMPTY: u64 = EntryState::KIND.of(0);
const CLAIMED: u64 = EntryState::KIND.of(1);
const PREPARED: u64 = EntryState::KIND.of(2);
const READY: u64 = EntryState::KIND.of(3);
const VERSION: u64 = EntryState::VERSION.mask();
const OWNERS: u16 = EntryState::FILLER.max() as u16;

packed! {
    /// An entry's length word.
    struct Length {
        /// Of the name, in bytes.
        NAME: 8,
        /// The entry that this one replaces, plus one.
        REPLACED: 16,
        /// And the end of its version.
        REPLACED_VERSION: 40,
    }
}
packed! {
    /// An entry's word of its block.
    struct BlockWord { OFFSET: 32, GENERATION: 32 }
}
packed! {
    /// An entry's word of its block's type.
    struct Print { FINGERPRINT: 32, IS_TYPED: 1, UNUSED: 31 }
}
const _: () = assert!(MAX_ENTRIES < Length::REPLACED.max() as usize && NAME_LIMIT <= Length::NAME.max() as usize);

const fn length_word(length: usize, replaced: Option<(usize, u64)>) -> u64 {
    let replaced = match replaced {
        Some((entry, state)) => Length::REPLACED.of(entry as u64 + 1) | Length::REPLACED_VERSION.of(state),
        None => 0,
    };
    Length::NAME.of(length as u64) | replaced
}
const fn name_length(word: u64) -> u64 {
    Length::NAME.get(word)
}

/// The participant field of a state word.
const fn by(owner: u16) -> u64 {
    EntryState::FILLER.of(owner as u64)
}

/// A replaced entry, READY before, as it is until its replacer (whose PREPARED entry it was) empties it.
const fn held_by(prepared: u64, ready: u64) -> u64 {
    CLAIMED | prepared & by(OWNERS) | ready & VERSION
}

/// What an entry says about its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedBlock {
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
    pub block: NamedBlock,
    entry: usize,
    state: u64,
}

/// Why nothing was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPublished {
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
        debug_assert!(entry < MAX_ENTRIES);
        Self((self.version() + 1) << TURN_BITS | entry as u64)
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
                self.complete(turn.entry(), state);
            }
        }
        turn
    }

    /// Ends a publication that has had its turn: what it replaces is emptied, then it is READY.
    fn complete(&self, entry: usize, prepared: u64) {
        let word = self.word(entry, STATE);
        let replaced = self.replaced(entry);
        // What was read is this publication's, and not a later one's in the same entry.
        if let Some((old, version)) = replaced
            && word.load(&DIR_LOOK) == prepared
        {
            let old = self.word(old, STATE);
            let state = old.load(&DIR_LOOK);
            if state & KIND == READY && state & Length::REPLACED_VERSION.max() == version {
                // A version is used once: if the entry has changed since, this fails.
                let _ = old.cas(state, held_by(prepared, state), &DIR_CLAIM);
            }
        }
        let _ = word.cas(prepared, READY | prepared & VERSION, &DIR_CLAIM);
    }

    /// The entry that this one replaces, and the end of its version.
    fn replaced(&self, entry: usize) -> Option<(usize, u64)> {
        let length = self.word(entry, LENGTH).load(&DIR_LOOK);
        let old = Length::REPLACED.get(length) as usize;
        (1..=self.entries()).contains(&old).then(|| (old - 1, Length::REPLACED_VERSION.get(length)))
    }

    /// The entry's state if it is published and has this name.
    fn named(&self, entry: usize, name: &[u8]) -> Option<u64> {
        let state = self.word(entry, STATE).load(&DIR_LOOK);
        if state & KIND != READY || name_length(self.word(entry, LENGTH).load(&DIR_LOOK)) != name.len() as u64 {
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
    /// [`NotPublished`], and nothing has changed.
    pub fn publish(&self, owner: u16, name: &[u8], block: NamedBlock) -> Result<(), NotPublished> {
        self.publish_or_replace(owner, name, block, false).map(|_| ())
    }

    /// Publishes a block under a name, whatever stood under it before: that block, if there was one. There is
    /// an instant before which the name stands for that, and from which on for this.
    ///
    /// # Errors
    /// [`NotPublished::Full`], and nothing has changed.
    pub fn replace(&self, owner: u16, name: &[u8], block: NamedBlock) -> Result<Option<NamedBlock>, NotPublished> {
        self.publish_or_replace(owner, name, block, true)
    }

    fn publish_or_replace(
        &self,
        owner: u16,
        name: &[u8],
        block: NamedBlock,
        replaces: bool,
    ) -> Result<Option<NamedBlock>, NotPublished> {
        debug_assert!(name.len() <= NAME_LIMIT);
        let entry = (0..self.entries()).find(|&entry| {
            let state = self.word(entry, STATE);
            state.load(&DIR_LOOK) == EMPTY && state.cas(EMPTY, CLAIMED | by(owner), &DIR_CLAIM).is_ok()
        });
        let Some(entry) = entry else {
            let taken = {
                self.turn();
                !replaces && self.find(name).is_some()
            };
            return Err(if taken { NotPublished::Taken } else { NotPublished::Full });
        };
        self.fill(entry, name, block);
        loop {
            let turn = self.turn();
            let found = self.find(name);
            if found.is_some() && !replaces {
                self.word(entry, STATE).store(EMPTY, &DIR_WRITE);
                return Err(NotPublished::Taken);
            }
            self.word(entry, STATE).store(CLAIMED | by(owner), &DIR_WRITE);
            self.word(entry, LENGTH).store(length_word(name.len(), found), &DIR_WRITE);
            let block_before = found.map(|(old, _)| self.entry(old));
            let next = turn.next(entry);
            let version = next.version() & VERSION;
            let prepared = PREPARED | by(owner) | version;
            self.word(entry, STATE).store(prepared, &DIR_WRITE);
            if self.turn_word().cas(turn.0, next.0, &DIR_CLAIM).is_ok() {
                self.complete(entry, prepared);
                return Ok(found.and_then(|(old, state)| {
                    let (word, held) = (self.word(old, STATE), held_by(prepared, state));
                    // Withdrawn or taken meanwhile: whoever did that was first, and has it.
                    let ours = R::Backend::check(word.load(&DIR_LOOK) == held, Mutant::WithdrawnReplaced);
                    // Nobody else changes it.
                    ours.then(|| word.store(EMPTY, &DIR_WRITE)).and(block_before)
                }));
            }
            R::Backend::pause();
        }
    }

    /// Writes what a CLAIMED entry of the caller's says.
    fn fill(&self, entry: usize, name: &[u8], block: NamedBlock) {
        let fingerprint =
            block.fingerprint.map_or(0, |print| Print::FINGERPRINT.of(print as u64) | Print::IS_TYPED.mask());
        let named = BlockWord::OFFSET.of(block.offset as u64) | BlockWord::GENERATION.of(block.generation as u64);
        self.word(entry, BLOCK).store(named, &DIR_WRITE);
        self.word(entry, FINGERPRINT).store(fingerprint, &DIR_WRITE);
        for (i, part) in name.chunks(8).enumerate() {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            self.word(entry, NAME + i).store(u64::from_le_bytes(bytes), &DIR_WRITE);
        }
    }

    /// What is published under a name.
    pub fn lookup(&self, name: &[u8]) -> Option<Published> {
        loop {
            let turn = self.turn();
            match self.find(name) {
                Some((entry, state)) => {
                    let block = self.entry(entry);
                    if self.word(entry, STATE).load(&DIR_LOOK) == state {
                        return Some(Published { block, entry, state });
                    }
                }
                // It may have been replaced behind the search, by an entry in front of it.
                None if self.is_turn(turn) => return None,
                None => {}
            }
            R::Backend::pause();
        }
    }

    /// What is published under a name, for whoever may not write, and so marks nothing READY.
    pub fn find_unhelped(&self, name: &[u8]) -> Option<NamedBlock> {
        loop {
            let turn = Turn(self.turn_word().load(&DIR_LOOK));
            let mut found = None;
            self.each(|other, entry| {
                if other == name {
                    found = Some(entry);
                }
            });
            if found.is_some() || self.is_turn(turn) {
                return found;
            }
            R::Backend::pause();
        }
    }

    /// Whether nothing was published since this turn.
    fn is_turn(&self, turn: Turn) -> bool {
        R::Backend::mutated(Mutant::TurnUnvalidated) || self.turn_word().load(&DIR_LOOK) == turn.0
    }

    /// Withdraws this publication; false if somebody else has, whatever the name stands for by now.
    pub fn withdraw_this(&self, found: Published) -> bool {
        self.word(found.entry, STATE).cas(found.state, EMPTY, &DIR_CLAIM).is_ok()
    }

    /// Withdraws a name; false if it is not published. The block stays allocated.
    pub fn withdraw(&self, name: &[u8]) -> bool {
        loop {
            let turn = self.turn();
            match self.find(name) {
                Some((entry, state)) if self.word(entry, STATE).cas(state, EMPTY, &DIR_CLAIM).is_ok() => return true,
                None if self.is_turn(turn) => return false,
                Some(_) | None => {}
            }
            R::Backend::pause();
        }
    }

    /// Empties the entries that a dead participant was filling; what it had published stays.
    pub fn recover(&self, dead: u16) {
        self.turn();
        for entry in 0..self.entries() {
            let word = self.word(entry, STATE);
            let state = word.load(&DIR_LOOK);
            let filling = matches!(state & KIND, CLAIMED | PREPARED);
            if filling && state & by(OWNERS) == by(dead) {
                let _ = word.cas(state, EMPTY, &DIR_CLAIM);
            }
        }
    }

    /// Withdraws every published entry whose block `live` refuses.
    pub fn retain(&self, live: impl Fn(NamedBlock) -> bool) {
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

    /// Calls `visit` with each published name and its block. Entries that change meanwhile are seen before or
    /// after, or not.
    pub fn each(&self, mut visit: impl FnMut(&[u8], NamedBlock)) {
        // Reads only: the entry that the turn names is published even if nobody has marked it READY yet.
        let turn = Turn(self.turn_word().load(&DIR_LOOK));
        let replaced = self.replaced_in(turn);
        for entry in 0..self.entries() {
            let word = self.word(entry, STATE);
            let state = word.load(&DIR_LOOK);
            let in_turn = turn.version() > 0
                && turn.entry() == entry
                && state & (KIND | VERSION) == PREPARED | turn.version() & VERSION;
            let gone = replaced == Some((entry, state & Length::REPLACED_VERSION.max()));
            if state & KIND != READY && !in_turn || gone {
                continue;
            }
            let length = (name_length(self.word(entry, LENGTH).load(&DIR_LOOK)) as usize).min(NAME_LIMIT);
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

    /// What the publication of this turn replaces, if that is not emptied yet.
    fn replaced_in(&self, turn: Turn) -> Option<(usize, u64)> {
        let entry = Some(turn.entry()).filter(|&entry| turn.version() > 0 && entry < self.entries())?;
        let state = self.word(entry, STATE).load(&DIR_LOOK);
        let prepared = state & (KIND | VERSION) == PREPARED | turn.version() & VERSION;
        let replaced = self.replaced(entry).filter(|_| prepared);
        replaced.filter(|_| self.word(entry, STATE).load(&DIR_LOOK) == state)
    }

    fn entry(&self, entry: usize) -> NamedBlock {
        let block = self.word(entry, BLOCK).load(&DIR_LOOK);
        let print = self.word(entry, FINGERPRINT).load(&DIR_LOOK);
        let fingerprint = (Print::IS_TYPED.get(print) != 0).then_some(Print::FINGERPRINT.get(print) as u32);
        let (offset, generation) = (BlockWord::OFFSET.get(block) as u32, BlockWord::GENERATION.get(block) as u32);
        NamedBlock { offset, generation, fingerprint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::decorators::{Probe, interrupted_at, stopped_at};
    use crate::matrix::heap::Heap;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;
    use std::sync::Arc;

    type OwnHeap = Heap<BoxedRegion<Probe<Native>>>;

    fn block(offset: u32) -> NamedBlock {
        NamedBlock { offset, generation: 1, fingerprint: None }
    }
    fn heap() -> OwnHeap {
        let params = Params { participants: 4, ..Params::for_segment(64 << 10) };
        let layout = Layout::fit(64 << 10, params).expect("room for a sector");
        Heap::format(BoxedRegion::new(layout))
    }
    /// What is seen by whoever may not write: each name's offset.
    fn seen(directory: &Directory<'_, BoxedRegion<Probe<Native>>>) -> Vec<(String, u32)> {
        let mut seen = vec![];
        directory.each(|name, block| seen.push((String::from_utf8_lossy(name).into_owned(), block.offset)));
        seen.sort();
        seen
    }
    /// Of each entry the kind, as far as it is in use.
    fn kinds(directory: &Directory<'_, BoxedRegion<Probe<Native>>>) -> Vec<u64> {
        let states = (0..directory.entries()).map(|entry| directory.word(entry, STATE).load(&DIR_LOOK));
        states.filter(|&state| state != EMPTY).map(|state| state & KIND).collect()
    }

    /// Wherever its publisher dies: what was seen under the name is seen behind the next publication, too.
    #[test]
    fn c1_a_publication_that_was_seen_stays() {
        let (mut seen, mut ended) = (0, false);
        for k in 0.. {
            if ended {
                break;
            }
            let heap = heap();
            let directory = Directory(heap.region());
            ended = stopped_at(k, || directory.publish(1, b"first", block(64))).is_some();
            let there = directory.find_unhelped(b"first");
            directory.publish(2, b"second", block(128)).expect("there is an entry");
            directory.publish(2, b"third", block(192)).expect("there is an entry");
            assert_eq!(directory.find_unhelped(b"first"), there, "stopped at {k}");
            seen += u32::from(there.is_some() && !ended);
        }
        assert!(seen > 0, "it is seen before its publisher is done");
    }

    /// Wherever it ends: the name stands for one block throughout, seen by whoever helps and whoever may not write; and
    /// what it had begun is emptied by its recovery.
    #[test]
    fn c1_of_a_replacement_one_block_is_seen_and_nothing_is_left() {
        let (mut ended, mut helped) = (false, 0);
        for k in 0.. {
            if ended {
                break;
            }
            let heap = heap();
            let directory = Directory(heap.region());
            directory.publish(1, b"name", block(64)).expect("there is an entry");
            ended = stopped_at(k, || directory.replace(2, b"name", block(128))).is_some();
            let now = seen(&directory);
            assert_eq!(now.len(), 1, "stopped at {k}: {now:?}");
            assert_eq!(directory.find_unhelped(b"name").map(|found| found.offset), Some(now[0].1));
            assert_eq!(directory.lookup(b"name").map(|found| found.block.offset), Some(now[0].1), "stopped at {k}");
            helped += u32::from(kinds(&directory).contains(&CLAIMED) && now[0].1 == 128);
            assert_eq!(seen(&directory), now);
            directory.recover(2);
            assert_eq!((seen(&directory), kinds(&directory)), (now, vec![READY]), "stopped at {k}");
        }
        assert!(helped > 0, "somebody else makes it READY, and empties nothing: that is its replacer's");
        let held = held_by(PREPARED | by(5) | 77, READY | by(3) | 33);
        assert_eq!((held & KIND, EntryState::FILLER.get(held), held & VERSION), (CLAIMED, 5, 33));
        assert_eq!(held_by(PREPARED | by(OWNERS) | VERSION, READY), CLAIMED | by(OWNERS));
        assert_eq!(held_by(PREPARED, READY | VERSION), CLAIMED | VERSION);
    }

    /// Who has prepared an entry for a turn that another gets is not seen.
    #[test]
    fn c1_a_turn_publishes_one_entry() {
        let (mut ended, mut same) = (false, 0);
        for k in 0.. {
            if ended {
                break;
            }
            let heap = heap();
            let directory = Directory(heap.region());
            directory.publish(1, b"before", block(64)).expect("there is an entry");
            ended = stopped_at(k, || directory.publish(1, b"stopped", block(128))).is_some();
            let there = directory.find_unhelped(b"stopped");
            directory.publish(2, b"other", block(192)).expect("there is an entry");
            assert_eq!(directory.find_unhelped(b"stopped"), there, "stopped at {k}");
            same += u32::from(kinds(&directory).contains(&PREPARED));
        }
        assert!(same > 0, "two were prepared for the same turn");
    }

    /// Whoever completes a publication changes the entry that it replaces, and not what stands there by now.
    #[test]
    fn c1_what_has_changed_since_is_not_replaced() {
        let heap = heap();
        let directory = Directory(heap.region());
        directory.publish(1, b"old", block(64)).expect("there is an entry");
        let (old, state) = directory.find(b"old").expect("it was published");
        let later = state + EntryState::VERSION.of(1);
        for now in [later, CLAIMED | state & VERSION, PREPARED | state & VERSION, EMPTY] {
            let prepared = PREPARED | by(2) | 9;
            directory.word(old, STATE).store(now, &DIR_WRITE);
            directory.word(old + 1, LENGTH).store(length_word(3, Some((old, state))), &DIR_WRITE);
            directory.word(old + 1, STATE).store(prepared, &DIR_WRITE);
            directory.complete(old + 1, prepared);
            assert_eq!(directory.word(old, STATE).load(&DIR_LOOK), now);
            assert_eq!(directory.word(old + 1, STATE).load(&DIR_LOOK), READY | 9);
        }
    }

    /// A turn that names the place behind the last entry, as no publication writes it: nothing is read there (C2).
    #[test]
    fn c2_a_turn_of_no_entry_names_nothing() {
        let heap = heap();
        let directory = Directory(heap.region());
        directory.publish(1, b"name", block(64)).expect("there is an entry");
        let turn = Turn(9 << TURN_BITS | directory.entries() as u64);
        directory.turn_word().store(turn.0, &DIR_WRITE);
        assert!(directory.lookup(b"name").is_some() && directory.find_unhelped(b"name").is_some());
        assert_eq!((directory.replaced_in(turn), directory.turn_word().load(&DIR_LOOK)), (None, turn.0));
    }

    /// A reader is overtaken at any place by one who replaces what it looks for, by an entry in front of it.
    #[test]
    fn c1_a_name_that_is_replaced_meanwhile_is_found() {
        let mut met = 0;
        for k in 0.. {
            let heap = Arc::new(heap());
            let directory = Directory(heap.region());
            directory.publish(1, b"front", block(64)).expect("there is an entry");
            directory.publish(1, b"name", block(128)).expect("there is an entry");
            assert!(directory.withdraw(b"front"));
            let other = Arc::clone(&heap);
            let replace = move || {
                let replaced = Directory(other.region()).replace(2, b"name", block(192));
                assert_eq!(replaced.map(|old| old.map(|old| old.offset)), Ok(Some(128)));
            };
            let (found, interrupted) = interrupted_at(k, replace, || directory.lookup(b"name"));
            let found = found.map(|found| found.block.offset);
            assert!(matches!(found, Some(128 | 192)), "it is there throughout; overtaken at {k}");
            met += u32::from(found == Some(192));
            if !interrupted {
                break;
            }
        }
        assert!(met > 1);
    }
}
