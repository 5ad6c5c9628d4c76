//! Between threads: crossbeam's bounded channel and rtrb, each of boxes, and a value and a table behind a lock.

use super::{BOUND, In, Out, Peer, fill, read};
use crate::Outcome;
use crate::boards::{Latest, Value, Values};
use crate::maps::{Key, Maps, Store, sum};
use crate::run::Task;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// What goes through.
type Words = Box<[u64]>;

/// A box of so many bytes, written.
#[inline(always)]
fn boxed(size: usize, value: u64) -> Box<[u64]> {
    let boxed = Box::<[u64]>::new_uninit_slice(size / 8);
    // SAFETY: as many words as are there are written, or are plain numbers that nobody reads.
    let mut words = unsafe { boxed.assume_init() };
    fill(&mut words, value);
    words
}

pub(crate) struct Crossbeam([Pair; 2]);
type Pair = (crossbeam_channel::Sender<Words>, crossbeam_channel::Receiver<Words>);
pub(crate) struct CrossbeamOut(crossbeam_channel::Sender<Box<[u64]>>, Option<Box<[u64]>>);

impl Peer for Crossbeam {
    type Out = CrossbeamOut;
    type In = crossbeam_channel::Receiver<Box<[u64]>>;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self([0, 1].map(|_| crossbeam_channel::bounded(task.setting.cells))))
    }
    fn output(&self, way: usize) -> Outcome<CrossbeamOut> {
        Ok(CrossbeamOut(self.0[way].0.clone(), None))
    }
    fn input(&self, way: usize) -> Outcome<Self::In> {
        Ok(self.0[way].1.clone())
    }
}

impl Out for CrossbeamOut {
    #[inline(always)]
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool> {
        let words = self.1.take().unwrap_or_else(|| boxed(size, value));
        self.1 = self.0.try_send(words).err().map(crossbeam_channel::TrySendError::into_inner);
        Ok(self.1.is_none())
    }
}

impl In for crossbeam_channel::Receiver<Box<[u64]>> {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        Ok(self.try_recv().ok().map(|words| read(&words)))
    }
    fn wait(&mut self, _: usize) -> Outcome<Option<u64>> {
        Ok(self.recv_timeout(BOUND).ok().map(|words| read(&words)))
    }
}

type Ends<A, B> = [(Mutex<Option<A>>, Mutex<Option<B>>); 2];

/// An end that only one has.
pub(super) fn taken<T>(end: &Mutex<Option<T>>) -> Outcome<T> {
    Ok(end.lock().map_err(|_| "a worker panicked")?.take().ok_or("an end for two")?)
}

pub(crate) struct Rtrb(Ends<rtrb::Producer<Words>, rtrb::Consumer<Words>>);
pub(crate) struct RtrbOut(rtrb::Producer<Box<[u64]>>, Option<Box<[u64]>>);

impl Peer for Rtrb {
    type Out = RtrbOut;
    type In = rtrb::Consumer<Box<[u64]>>;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self([0, 1].map(|_| {
            let (to, from) = rtrb::RingBuffer::new(task.setting.cells);
            (Mutex::new(Some(to)), Mutex::new(Some(from)))
        })))
    }
    fn output(&self, way: usize) -> Outcome<RtrbOut> {
        Ok(RtrbOut(taken(&self.0[way].0)?, None))
    }
    fn input(&self, way: usize) -> Outcome<Self::In> {
        taken(&self.0[way].1)
    }
}

impl Out for RtrbOut {
    #[inline(always)]
    fn send(&mut self, size: usize, value: u64) -> Outcome<bool> {
        let words = self.1.take().unwrap_or_else(|| boxed(size, value));
        self.1 = self.0.push(words).err().map(|rtrb::PushError::Full(words)| words);
        Ok(self.1.is_none())
    }
}

impl In for rtrb::Consumer<Box<[u64]>> {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        Ok(self.pop().ok().map(|words| read(&words)))
    }
}

pub(crate) struct Locked(Arc<RwLock<Value>>);

impl Values for Locked {
    type Latest = Arc<RwLock<Value>>;
    fn make(_: &Task) -> Outcome<Self> {
        Ok(Self(Arc::default()))
    }
    fn open(_: &Task) -> Outcome<Self> {
        Err("it has threads alone".into())
    }
    fn end(&self, _: bool) -> Outcome<Self::Latest> {
        Ok(self.0.clone())
    }
}

impl Latest for Arc<RwLock<Value>> {
    #[inline(always)]
    fn get(&mut self) -> Outcome<Value> {
        Ok(*self.read().unwrap_or_else(PoisonError::into_inner))
    }
    #[inline(always)]
    fn set(&mut self, value: Value) -> Outcome<()> {
        *self.write().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }
}

pub(crate) struct LockedTable(Arc<RwLock<HashMap<Key, Value>>>);

impl Maps for LockedTable {
    type Store = Arc<RwLock<HashMap<Key, Value>>>;
    fn make(_: &Task) -> Outcome<Self> {
        Ok(Self(Arc::default()))
    }
    fn open(_: &Task) -> Outcome<Self> {
        Err("it has threads alone".into())
    }
    fn store(&self) -> Outcome<Self::Store> {
        Ok(self.0.clone())
    }
}

impl Store for Arc<RwLock<HashMap<Key, Value>>> {
    #[inline(always)]
    fn get(&mut self, key: &Key) -> Outcome<u64> {
        let table = self.read().unwrap_or_else(PoisonError::into_inner);
        Ok(sum(table.get(key).ok_or("a key is missing")?))
    }
    #[inline(always)]
    fn put(&mut self, key: &Key, value: Value) -> Outcome<()> {
        self.write().unwrap_or_else(PoisonError::into_inner).insert(*key, value);
        Ok(())
    }
}
