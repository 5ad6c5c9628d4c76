//! shaq's queues in a file: messages lie in the queue itself, of one size; nothing is allocated.

use super::{In, Out, Peer, fill, read};
use crate::Outcome;
use crate::run::Task;
use shaq::broadcast::{Broadcast, BroadcastConfig, Consumer, Producer, ProducerId};
use std::fs::{File, OpenOptions};

/// The files of the two ways.
fn files(task: &Task, kind: &str) -> Outcome<[File; 2]> {
    let open = |way| {
        let path = format!("/dev/shm/{}-{kind}-{way}", task.name);
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    };
    Ok([open(0)?, open(1)?])
}

macro_rules! queues {
    ($peer:ident, $kind:literal, $module:ident) => {
        pub(crate) struct $peer<const N: usize>([File; 2]);

        impl<const N: usize> Peer for $peer<N> {
            type Out = shaq::$module::Producer<[u64; N]>;
            type In = shaq::$module::Consumer<[u64; N]>;
            fn make(task: &Task) -> Outcome<Self> {
                let files = files(task, $kind)?;
                for file in &files {
                    let size = (task.setting.cells * N * 8 + 8192).next_multiple_of(4096);
                    // SAFETY: made once, by this process; the words are plain numbers.
                    let made = unsafe { shaq::$module::Producer::<[u64; N]>::create(file, size) };
                    drop(made.map_err(|error| format!("{error:?}"))?);
                }
                Ok(Self(files))
            }
            fn open(task: &Task) -> Outcome<Self> {
                Ok(Self(files(task, $kind)?))
            }
            fn output(&self, way: usize) -> Outcome<Self::Out> {
                // SAFETY: as many as there may be, one for each sender of the run; the words are plain numbers.
                Ok(unsafe { Self::Out::join(&self.0[way]) }.map_err(|error| format!("{error:?}"))?)
            }
            fn input(&self, way: usize) -> Outcome<Self::In> {
                // SAFETY: as many as there may be, one for each receiver of the run; the words are plain numbers.
                Ok(unsafe { Self::In::join(&self.0[way]) }.map_err(|error| format!("{error:?}"))?)
            }
        }

        impl<const N: usize> Out for shaq::$module::Producer<[u64; N]> {
            #[inline(always)]
            fn send(&mut self, _: usize, value: u64) -> Outcome<bool> {
                let mut words = [0; N];
                fill(&mut words, value);
                Ok(self.try_write(words).is_ok())
            }
        }

        impl<const N: usize> In for shaq::$module::Consumer<[u64; N]> {
            #[inline(always)]
            fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
                Ok(self.try_read().map(|words| read(&words)))
            }
        }
    };
}

queues!(Single, "spsc", spsc);
queues!(Many, "mpmc", mpmc);

/// One to all, from a ring of its own for each publisher.
pub(crate) struct Fan(Broadcast<[u64; 8]>);

impl Peer for Fan {
    type Out = Producer<[u64; 8]>;
    type In = Consumer<[u64; 8]>;
    fn make(task: &Task) -> Outcome<Self> {
        let [file, _] = files(task, "fan")?;
        let setting = &task.setting;
        let config =
            BroadcastConfig { capacity: setting.cells, producer_slots: 1, consumer_slots: setting.pairs.max(1) };
        // SAFETY: made once, by this process; the words are plain numbers.
        Ok(Self(unsafe { Broadcast::create(&file, config) }.map_err(|error| format!("{error:?}"))?))
    }
    fn open(task: &Task) -> Outcome<Self> {
        let [file, _] = files(task, "fan")?;
        // SAFETY: made by the first process; the words are plain numbers.
        Ok(Self(unsafe { Broadcast::join(&file) }.map_err(|error| format!("{error:?}"))?))
    }
    fn output(&self, way: usize) -> Outcome<Self::Out> {
        Ok(self.0.producer(ProducerId::new(way as u64)).map_err(|error| format!("{error:?}"))?)
    }
    fn input(&self, _: usize) -> Outcome<Self::In> {
        Ok(self.0.consumer().map_err(|error| format!("{error:?}"))?)
    }
}

impl Out for Producer<[u64; 8]> {
    #[inline(always)]
    fn send(&mut self, _: usize, value: u64) -> Outcome<bool> {
        let mut words = [0; 8];
        fill(&mut words, value);
        Ok(self.try_write(words).is_ok())
    }
}

impl In for Consumer<[u64; 8]> {
    #[inline(always)]
    fn receive(&mut self, _: usize) -> Outcome<Option<u64>> {
        Ok(self.try_read().map(|words| read(&words)))
    }
}
