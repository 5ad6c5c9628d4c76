//! Keys and values: some look up keys of 32 bytes, and replace one in ten of what they find, or none.

use crate::Outcome;
use crate::boards::Value;
use crate::control::{Control, Words};
use crate::run::Task;
use crate::setting::{Kind, Setting};
use crate::worker::{Chunks, each};

pub(crate) type Key = [u8; 32];
/// Keys, all of which are there.
pub(crate) const KEYS: usize = 10_000;

/// Where values are found by their keys.
pub(crate) trait Maps: Sized + Sync {
    type Store: Store;
    /// Made by the first process of a run.
    fn make(task: &Task) -> Outcome<Self>;
    /// Opened by the others.
    fn open(task: &Task) -> Outcome<Self>;
    /// A worker's own handle.
    fn store(&self) -> Outcome<Self::Store>;
}

pub(crate) trait Store {
    /// The value's words, added up.
    fn get(&mut self, key: &Key) -> Outcome<u64>;
    fn put(&mut self, key: &Key, value: Value) -> Outcome<()>;
}

pub(crate) fn sum(value: &Value) -> u64 {
    value.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

fn keys() -> Vec<Key> {
    let key = |number: usize| {
        let mut key = *b"a key of thirty-two bytes ------";
        key[24..].copy_from_slice(&(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        key
    };
    (0..KEYS).map(key).collect()
}

/// One process's part, for one peer.
pub(crate) fn part<M: Maps>(task: &Task) -> Outcome<()> {
    let control = Control::open(&task.name)?;
    let (words, setting, keys) = (control.words(), &task.setting, keys());
    let make = || {
        let maps = M::make(task)?;
        let mut store = maps.store()?;
        keys.iter().zip(1..).try_for_each(|(key, number)| store.put(key, [number; 8]))?;
        Ok(maps)
    };
    let maps = words.first_makes(task.first, make, || M::open(task))?;
    each(task, &|worker| {
        let store = maps.store()?;
        words.await_start();
        words.timed(worker, || mix(store, &keys, words, setting, worker))
    })
}

#[inline(never)]
fn mix(mut store: impl Store, keys: &[Key], words: &Words, setting: &Setting, worker: usize) -> Outcome<u64> {
    let mut chunks = Chunks::new(setting, &words.results[worker].fastest);
    let replaces = setting.kind == Kind::Map;
    let (mut done, mut random) = (0, worker as u64 * 0x5851_F42D + 88_172_645_463_325_252);
    while !words.stopped() {
        for _ in 0..32 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = (random >> 33) as usize % KEYS;
            if replaces && random.is_multiple_of(10) {
                store.put(&keys[number], [number as u64 + 1; 8])?;
            } else if store.get(&keys[number])? != (number as u64 + 1) * 8 {
                return Err("another key's value".into());
            }
            done += 1;
            chunks.one(done);
        }
    }
    Ok(done)
}
