//! The latest value of something: some read it as fast as they can, others set it.

use crate::Outcome;
use crate::control::{Control, Words};
use crate::run::Task;
use crate::setting::Setting;
use crate::worker::{Chunks, each};

/// A value of 64 bytes: all words are the same, unless it is torn.
pub(crate) type Value = [u64; 8];

/// Where a value is found.
pub(crate) trait Values: Sized + Sync {
    type Latest: Latest;
    /// Made by the first process of a run.
    fn make(task: &Task) -> Outcome<Self>;
    /// Opened by the others.
    fn open(task: &Task) -> Outcome<Self>;
    /// A worker's own handle; it writes, or it reads.
    fn end(&self, writes: bool) -> Outcome<Self::Latest>;
}

/// What reads or sets it.
pub(crate) trait Latest {
    fn get(&mut self) -> Outcome<Value>;
    fn set(&mut self, value: Value) -> Outcome<()>;
}

/// One process's part, for one peer.
pub(crate) fn part<V: Values>(task: &Task) -> Outcome<()> {
    let control = Control::open(&task.name)?;
    let (words, setting) = (control.words(), &task.setting);
    let make = || {
        let values = V::make(task)?;
        // Somebody has set it once.
        values.end(true)?.set([1; 8])?;
        Ok(values)
    };
    let values = words.first_makes(task.first, make, || V::open(task))?;
    each(task, &|worker| {
        let writes = worker >= setting.pairs;
        let end = values.end(writes)?;
        words.await_start();
        words.timed(worker, || match writes {
            true => write(end, words),
            false => read(end, words, setting, worker),
        })
    })
}

#[inline(never)]
fn read(mut end: impl Latest, words: &Words, setting: &Setting, worker: usize) -> Outcome<u64> {
    let mut read = 0;
    let mut chunks = Chunks::new(setting, &words.results[worker].fastest);
    while !words.stopped() {
        for _ in 0..32 {
            let value = std::hint::black_box(end.get()?);
            if value[0] == 0 || value.iter().any(|word| *word != value[0]) {
                return Err(format!("torn: {value:?}").into());
            }
            read += 1;
            chunks.one(read);
        }
    }
    Ok(read)
}

#[inline(never)]
fn write(mut end: impl Latest, words: &Words) -> Outcome<u64> {
    let mut set = 0;
    while !words.stopped() {
        for _ in 0..32 {
            set += 1;
            end.set([set; 8])?;
        }
    }
    Ok(set)
}
