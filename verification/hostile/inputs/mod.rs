//! Hostile segments (C2), structures (C2') and offsets (S5), made from a few bytes that a fuzzer chooses.
//!
//! [`file`] says how such bytes become a segment file, [`calls`] what is then done with it, [`structures`] does both
//! for what lies in it, [`offsets`] plays forged offsets against a sound heap. The fuzz targets
//! (`verification/hostile/fuzz`) and the ordinary tests (`verification/hostile/corpus`) share all of it, so that an input
//! found by one is replayed by the other.
#![allow(dead_code, reason = "each user takes a part")]

pub(crate) mod calls;
pub(crate) mod file;
pub(crate) mod offsets;
pub(crate) mod structures;

use arbitrary::{Arbitrary, Unstructured};
use atomic_matrix::segment::Options;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Bytes of an input at most: an input is a list of changes and calls, and longer ones say nothing new.
pub(crate) const INPUT: usize = 4096;

/// A value from a fuzzer's bytes; any bytes are one.
pub(crate) fn decode<'a, T: Arbitrary<'a>>(input: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(input)).ok()
}

/// A file in memory, used for one segment after the other.
pub(crate) struct Memory(File);

impl Memory {
    pub(crate) fn new() -> Self {
        let fd = rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC).expect("memory");
        Self(fd.into())
    }
    pub(crate) fn put(&self, bytes: &[u8]) {
        self.0.set_len(0).expect("cut");
        self.0.write_all_at(bytes, 0).expect("written");
    }
    /// Changes a word, for whoever has the file mapped as well.
    pub(crate) fn set(&self, word: usize, value: u64) {
        self.0.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("written");
    }
    pub(crate) fn get(&self) -> Vec<u8> {
        let length = self.0.metadata().expect("known").len() as usize;
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    }
    /// Options that attach to what is in the file, and wait for nobody.
    pub(crate) fn options(&self) -> Options {
        Options::from_fd(self.0.try_clone().expect("a descriptor").into()).patience(Duration::ZERO)
    }
}
