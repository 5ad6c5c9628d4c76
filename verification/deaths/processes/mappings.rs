//! One segment at several addresses, and one larger than memory.

use crate::common::{MIB, Scratch, check, fill, rest_is_one_block};
use atomic_matrix::handlers::HandlerFunctions;
use std::time::Instant;

#[test]
fn offsets_mean_the_same_at_two_addresses() {
    let scratch = Scratch::new();
    let one = scratch.options().size(MIB).create().expect("created");
    let other = scratch.attach();
    let mut block = one.allocate::<[u64; 32]>().expect("room");
    one.store(&mut block, [7; 32]).expect("live");
    let seen = other.get_block::<[u64; 32]>(block.offset()).expect("the same block");
    assert_eq!(other.load(&seen).expect("live"), [7; 32]);
    assert_ne!(one.resolve(&block.pointer()), other.resolve(&block.pointer()), "two mappings");
    assert_eq!(seen.pointer(), block.pointer());
    one.publish("block", &block).expect("a new name");
    assert_eq!(other.lookup::<[u64; 32]>("block").expect("published").offset(), block.offset());
    other.try_free(seen).expect("freed where it was not allocated");
    one.try_free(block).expect_err("it is gone");
    rest_is_one_block(&other);
    rest_is_one_block(&one);
}

/// Offsets count granules above 4 GiB; nothing takes time in proportion to the segment.
#[test]
fn a_sparse_segment_of_64_gib_is_reached_to_both_ends() {
    let start = Instant::now();
    let scratch = Scratch::new();
    let handler = scratch.options().size(64 << 30).reserve(false).create().expect("a sparse file needs no room");
    let other = scratch.attach();
    let created = start.elapsed();
    assert!(handler.offset_unit() > 1);
    let sector = handler.stats().expect("sound").sector_bytes as usize;

    let high = handler.allocate_raw(100_000).expect("room");
    let most = handler.allocate_raw(sector - 8 * MIB).expect("room");
    let low: Vec<_> = (0..100).map(|i| handler.allocate_raw(1 + i * 100).expect("room")).collect();
    for (i, pointer) in std::iter::once(&high).chain(&low).enumerate() {
        let usable = handler.usable_size(pointer).expect("live");
        fill(&handler, pointer, usable, i as u64);
    }
    let bytes = |offset: u32| offset as u64 * handler.offset_unit() as u64;
    assert!(bytes(high.offset()) > 60 << 30 && low.iter().any(|pointer| bytes(pointer.offset()) < 16 << 30));
    handler.store_bytes(&most, b"beginning of a large block").expect("room");
    for (i, pointer) in std::iter::once(&high).chain(&low).enumerate() {
        let usable = other.usable_size_at(pointer.offset()).expect("live");
        check(&other, pointer, usable, i as u64);
        assert_eq!(other.resolve_at(pointer.offset()).expect("live"), other.resolve(pointer));
        other.free_at(pointer.offset()).expect("live");
    }
    let mut begins = [0; 26];
    other.load_bytes(&most, &mut begins).expect("live");
    assert_eq!(&begins, b"beginning of a large block");
    other.free_raw(most).expect("live");
    rest_is_one_block(&handler);
    println!("64 GiB: opened twice in {created:?}, all in {:?}", start.elapsed());
}
