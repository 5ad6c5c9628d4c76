//! Labels: the key of a block, at its end, behind the value: `key, rounded up to words | hash | bytes of the key`.

use super::Table;
use super::words::{Key, LABEL_WORDS, MAX_KEY};
use crate::backend::orderings::*;
use crate::backend::{Backend, Word};
use crate::ipc::link::Link;
use crate::matrix::heap::Live;
use crate::segment::layout::Granule;
use crate::segment::region::Region;

impl<'a, R: Region> Table<'a, R> {
    /// The words of a block, if it is live.
    fn words(&self, at: Granule) -> Option<&'a [<R::Backend as Backend>::Word]> {
        let size = self.heap.live_at(at).ok()?.header.size() as usize;
        self.heap.region().payload(at, size * self.heap.layout().granule_words())
    }

    /// Labels a live block of the caller's own with a key: at its end, so many words as [`Key::label_words`],
    /// where no value may stand. False if it has not so many, or the key is too long.
    pub fn write_label(&self, live: Live, key: &Key<'_>) -> bool {
        let Some(words) = self.words(live.at) else { return false };
        if key.bytes.len() > MAX_KEY || words.len() < key.label_words() {
            return false;
        }
        let (rest, last) = words.split_at(words.len() - LABEL_WORDS);
        let first = rest.len() - key.bytes.len().div_ceil(8);
        rest[first..].iter().zip(key.words()).for_each(|(word, value)| word.store(value, &LABEL_WRITE));
        last[0].store(key.hash, &LABEL_WRITE);
        last[1].store(key.bytes.len() as u64, &LABEL_WRITE);
        true
    }

    /// The words of the key that a block is labelled with, its hash, and how many bytes it has. The cursor names it.
    fn label(&self, link: Link) -> Option<(impl Iterator<Item = u64> + use<'a, R>, u64, usize)> {
        let words = self.words(link.at())?;
        let (rest, last) = words.split_at(words.len().checked_sub(LABEL_WORDS)?);
        let bytes = last[1].load(&LABEL_LOOK) as usize;
        // Whatever stands there (C2).
        let first = rest.len().checked_sub(bytes.div_ceil(8)).filter(|_| bytes <= MAX_KEY)?;
        Some((rest[first..].iter().map(|word| word.load(&LABEL_LOOK)), last[0].load(&LABEL_LOOK), bytes))
    }
    pub(super) fn is_labelled(&self, link: Link, key: &Key<'_>) -> bool {
        // As many words on both sides, where there are as many bytes.
        self.label(link).is_some_and(|(words, hash, bytes)| {
            hash == key.hash && bytes == key.bytes.len() && words.zip(key.words()).all(|(one, other)| one == other)
        })
    }
    pub(super) fn key_of(&self, link: Link) -> Option<Vec<u8>> {
        let (words, _, bytes) = self.label(link)?;
        let mut key: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        key.truncate(bytes);
        Some(key)
    }
}
