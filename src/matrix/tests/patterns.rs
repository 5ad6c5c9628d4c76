//! Threads fill their blocks, and find them as they left them.

use super::{Rng, Scratch};
use crate::handlers::Handler;

impl Rng {
    fn fill(&self, block: &mut [u64]) {
        block.iter_mut().zip(self.0..).for_each(|(word, value)| *word = value.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }
}

#[test]
fn threads_keep_their_patterns() {
    let scratch = Scratch::new(2 << 20);
    let handler = &scratch.0;
    let checked: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=8u64).map(|seed| scope.spawn(move || keep_patterns(handler, seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no pattern is broken")).sum()
    });
    println!("{checked} patterns checked");
    handler.heal().unwrap();
    let stats = handler.verify().unwrap();
    assert_eq!((stats.free_blocks, stats.free_bytes), (1, stats.sector_bytes), "{stats:?}");
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Fills whole blocks with patterns of their own and checks each before it is freed.
fn keep_patterns(handler: &Handler, seed: u64) -> u64 {
    let mut rng = Rng(seed << 32);
    let (mut live, mut checked) = (vec![], 0);
    let (mut expected, mut found) = ([0u64; 512], [0u8; 4096]);
    for step in 0..20_000 {
        if step < 15_000 && live.len() < 40 && rng.below(10) < 6 {
            let pointer = handler.allocate_raw(1 + rng.below(3000) as usize).unwrap();
            let usable = handler.usable_size(&pointer).unwrap();
            let pattern = Rng(seed << 48 | step);
            pattern.fill(&mut expected[..usable / 8]);
            handler.store_bytes(&pointer, &bytes_of(&expected[..usable / 8])).unwrap();
            live.push((pointer, usable, pattern));
        } else if !live.is_empty() {
            let (pointer, usable, pattern) = live.swap_remove(rng.below(live.len() as u32) as usize);
            pattern.fill(&mut expected[..usable / 8]);
            handler.load_bytes(&pointer, &mut found[..usable]).unwrap();
            assert!(found[..usable] == bytes_of(&expected[..usable / 8]), "S1");
            handler.free_raw(pointer).unwrap();
            checked += 1;
        }
    }
    assert!(live.is_empty());
    checked
}
