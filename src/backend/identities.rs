//! Serials of this process for what processes agree on: equal keys get equal serials, different keys different ones.
//!
//! A key takes five words, and a serial half a word, so that a fast path compares one register. A key once seen is
//! remembered until the process ends, since values that carry its serial may live as long (56 bytes each).
//!
//! No lock is taken: a child that is forked while another thread holds one would wait for it for ever.
#![allow(clippy::disallowed_types, reason = "this folder is where raw atomics live")]

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// What is to be told apart.
pub(crate) type IdentityKey = [u64; 5];

/// A key that has been seen. It never changes and is never freed.
struct SeenKey {
    key: IdentityKey,
    serial: u32,
    next: *const SeenKey,
}

/// Lists of keys, by their hash: the newest stands first.
struct SeenKeys {
    lists: [AtomicPtr<SeenKey>; 256],
    last: AtomicU32,
}

impl SeenKeys {
    const fn new() -> Self {
        Self { lists: [const { AtomicPtr::new(std::ptr::null_mut()) }; 256], last: AtomicU32::new(0) }
    }

    fn serial_of(&self, key: IdentityKey) -> Option<u32> {
        let hash = key.iter().fold(0_u64, |hash, word| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let list = &self.lists[(hash >> 56) as usize];
        let mut first = list.load(Ordering::Acquire);
        let mut node: Option<Box<SeenKey>> = None;
        loop {
            if let Some(serial) = find(first, &key) {
                return Some(serial);
            }
            let mut new = match node.take() {
                Some(node) => node,
                None => Box::new(SeenKey { key, serial: self.fresh()?, next: first }),
            };
            new.next = first;
            let new = Box::into_raw(new);
            match list.compare_exchange(first, new, Ordering::Release, Ordering::Acquire) {
                // SAFETY: `new` came from `Box::into_raw` above and is published from here on: nobody writes it.
                Ok(_) => return Some(unsafe { (*new).serial }),
                Err(found) => {
                    first = found;
                    // SAFETY: `new` came from `Box::into_raw` above, and the transfer cache failed: nobody else has it.
                    node = Some(unsafe { Box::from_raw(new) });
                }
            }
        }
    }

    /// A serial that was not given before; none when all are given.
    fn fresh(&self) -> Option<u32> {
        let next = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| last.checked_add(1));
        next.ok().map(|last| last + 1)
    }
}

fn find(mut at: *const SeenKey, key: &IdentityKey) -> Option<u32> {
    // SAFETY: a list holds published nodes, which are never freed; the acquire load that led here, or the chain from
    // it, happens after each node's release.
    while let Some(known) = unsafe { at.as_ref() } {
        if known.key == *key {
            return Some(known.serial);
        }
        at = known.next;
    }
    None
}

/// The serial of a key in this process, from 1 on. None after 2^32 - 1 different keys. O(keys seen / 256).
pub(crate) fn serial_of(key: IdentityKey) -> Option<u32> {
    static TABLE: SeenKeys = SeenKeys::new();
    TABLE.serial_of(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn equal_keys_have_equal_serials_and_no_others_do() {
        let table = SeenKeys::new();
        // A key, and each one that differs from it by one bit.
        let one: IdentityKey = [7; 5];
        let flipped = (0..5 * 64).map(|bit| {
            let mut key = one;
            key[bit / 64] ^= 1 << (bit % 64);
            key
        });
        let keys: Vec<IdentityKey> = std::iter::once(one).chain(flipped).collect();
        let ask = || keys.iter().map(|&key| table.serial_of(key).expect("few keys")).collect::<Vec<_>>();
        let answers: BTreeSet<Vec<u32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(answers.len(), 1, "all threads were told the same");
        let distinct: BTreeSet<u32> = answers.into_iter().flatten().collect();
        assert!(distinct.len() == keys.len() && !distinct.contains(&0));
    }

    #[test]
    fn when_all_serials_are_given_there_is_none() {
        let table = SeenKeys { last: AtomicU32::new(u32::MAX - 1), ..SeenKeys::new() };
        assert_eq!(table.serial_of([1; 5]), Some(u32::MAX));
        assert_eq!((table.serial_of([2; 5]), table.serial_of([1; 5])), (None, Some(u32::MAX)));
    }
}
