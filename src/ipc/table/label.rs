//! Labels: the key of a block, at its end, behind the value: `key, rounded up to words | hash | bytes of the key`.

use super::Table;
use super::words::{Key, LABEL_WORDS, MAX_KEY};
use crate::backend::orderings::*;
use crate::backend::{Backend, Word};
use crate::ipc::link::Link;
use crate::matrix::heap::Live;
use crate::segment::layout::Granule;
use crate::segment::region::Region;

type LabelWords<'a, R> = &'a [<<R as Region>::Backend as Backend>::Word];

impl<'a, R: Region> Table<'a, R> {
    /// A block and its words, if it is live.
    #[inline]
    fn words(&self, at: Granule) -> Option<(Live, LabelWords<'a, R>)> {
        let live = self.heap.live_at(at).ok()?;
        let words = live.header.size() as usize * self.heap.layout().granule_words();
        Some((live, self.heap.region().payload(at, words)?))
    }

    /// Labels a live block of the caller's own with a key: at its end, so many words as [`Key::label_words`],
    /// where no value may stand. False if it has not so many, or the key is too long.
    pub fn write_label(&self, live: Live, key: &Key<'_>) -> bool {
        let Some((_, words)) = self.words(live.at) else { return false };
        if key.bytes.len() > MAX_KEY || words.len() < key.label_words() {
            return false;
        }
        let (rest, last) = words.split_at(words.len() - LABEL_WORDS);
        let first = rest.len() - key.bytes.len().div_ceil(8);
        let (whole, end) = key.words();
        rest[first..].iter().zip(whole.chain(end)).for_each(|(word, value)| word.store(value, &LABEL_WRITE));
        last[0].store(key.hash, &LABEL_WRITE);
        last[1].store(key.bytes.len() as u64, &LABEL_WRITE);
        true
    }

    /// The block of a link, the words of the key that it is labelled with, its hash, and how many bytes it has. The
    /// cursor names the block; or what is made of it counts only if it is in behind that still.
    #[inline]
    fn label(&self, link: Link) -> Option<(Live, LabelWords<'a, R>, u64, usize)> {
        let (live, words) = self.words(link.at())?;
        let (rest, last) = words.split_at(words.len().checked_sub(LABEL_WORDS)?);
        let bytes = last[1].load(&LABEL_LOOK) as usize;
        // Whatever stands there (C2).
        let first = rest.len().checked_sub(bytes.div_ceil(8)).filter(|_| bytes <= MAX_KEY)?;
        Some((live, &rest[first..], last[0].load(&LABEL_LOOK), bytes))
    }
    /// The block of a link, if it is labelled with this key.
    #[inline]
    pub(super) fn labelled(&self, link: Link, key: &Key<'_>) -> Option<Live> {
        let (live, words, hash, bytes) = self.label(link)?;
        if hash != key.hash || bytes != key.bytes.len() {
            return None;
        }
        // As many words on both sides, where there are as many bytes.
        let (whole, end) = key.words();
        let last = words.get(whole.len()).map(|word| word.load(&LABEL_LOOK));
        let is = last == end && words.iter().zip(whole).all(|(word, value)| word.load(&LABEL_LOOK) == value);
        is.then_some(live)
    }
    pub(super) fn key_of(&self, link: Link) -> Option<Vec<u8>> {
        let (_, words, _, bytes) = self.label(link)?;
        let mut key: Vec<u8> = words.iter().flat_map(|word| word.load(&LABEL_LOOK).to_le_bytes()).collect();
        key.truncate(bytes);
        Some(key)
    }
}
