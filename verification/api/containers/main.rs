//! Rust's own containers in a segment (the feature `allocator-api2`): the rules of allocators, held against plain
//! memory, and what becomes of a container that is handed over.

#[path = "../../support/common.rs"]
mod common;
mod messages;
mod rules;

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use atomic_matrix::{Error, Handler, HandlerFunctions};
use common::{rest_is_one_block, segment};
use hashbrown::HashMap;
use proptest::prelude::*;
use std::alloc::Layout;
use std::hash::RandomState;

fn config() -> ProptestConfig {
    let cases = common::setting("PROPTEST_CASES", 100) as u32;
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[derive(Debug, Clone)]
enum Change {
    Push(u64),
    Insert(usize, u64),
    Extend(u16),
    Truncate(usize),
    SwapRemove(usize),
    Drain(usize, usize),
    Reserve(usize),
    ShrinkToFit,
    CloneIt,
}

fn changes() -> impl Strategy<Value = std::vec::Vec<Change>> {
    let change = prop_oneof![
        6 => any::<u64>().prop_map(Change::Push),
        2 => (any::<usize>(), any::<u64>()).prop_map(|(at, value)| Change::Insert(at, value)),
        3 => (0..3000u16).prop_map(Change::Extend),
        2 => any::<usize>().prop_map(Change::Truncate),
        1 => any::<usize>().prop_map(Change::SwapRemove),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Drain(from, to)),
        1 => (0..5000usize).prop_map(Change::Reserve),
        2 => Just(Change::ShrinkToFit),
        1 => Just(Change::CloneIt),
    ];
    prop::collection::vec(change, 1..60)
}

/// The same change to both.
fn change(ours: &mut Vec<u64, &Handler>, plain: &mut std::vec::Vec<u64>, change: &Change) {
    let within = |at: usize| at % (plain.len() + 1);
    match *change {
        Change::Push(value) => {
            ours.push(value);
            plain.push(value);
        }
        Change::Insert(at, value) => {
            let at = within(at);
            ours.insert(at, value);
            plain.insert(at, value);
        }
        Change::Extend(count) => {
            ours.extend((0..count).map(u64::from));
            plain.extend((0..count).map(u64::from));
        }
        Change::Truncate(length) => {
            let length = within(length);
            ours.truncate(length);
            plain.truncate(length);
        }
        Change::SwapRemove(at) if !plain.is_empty() => {
            let at = at % plain.len();
            assert_eq!(ours.swap_remove(at), plain.swap_remove(at));
        }
        Change::SwapRemove(_) => {}
        Change::Drain(from, to) => {
            let (from, to) = (within(from), within(to));
            let range = from.min(to)..from.max(to);
            assert!(ours.drain(range.clone()).eq(plain.drain(range)));
        }
        Change::Reserve(more) => {
            ours.try_reserve(more).expect("there is room");
            assert!(ours.capacity() >= plain.len() + more);
        }
        Change::ShrinkToFit => ours.shrink_to_fit(),
        Change::CloneIt => *ours = ours.clone(),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_vector_is_as_a_plain_one(all in prop::collection::vec(changes(), 1..4)) {
        let (_scratch, handler) = segment();
        // Several at once, so that they lie in each other's way, and in what the others have left.
        let mut vectors: std::vec::Vec<_> = all.iter().map(|_| (Vec::new_in(&handler), vec![])).collect();
        for step in 0..60 {
            for (changes, (ours, plain)) in all.iter().zip(&mut vectors) {
                if let Some(done) = changes.get(step) {
                    change(ours, plain, done);
                    prop_assert_eq!(ours.as_slice(), plain.as_slice());
                }
            }
        }
        drop(vectors);
        rest_is_one_block(&handler);
    }

    #[test]
    fn a_hash_table_is_as_a_plain_one(changes in prop::collection::vec((any::<u8>(), any::<u64>(), 0..4u8), 1..400)) {
        let (_scratch, handler) = segment();
        let mut ours = HashMap::<u8, u64, RandomState, &Handler>::with_hasher_in(RandomState::new(), &handler);
        let mut plain = std::collections::HashMap::new();
        for (key, value, what) in changes {
            match what {
                0 => prop_assert_eq!(ours.remove(&key), plain.remove(&key)),
                1 => ours.shrink_to_fit(),
                _ => prop_assert_eq!(ours.insert(key, value), plain.insert(key, value)),
            }
            prop_assert_eq!(ours.get(&key), plain.get(&key));
        }
        prop_assert_eq!(ours.len(), plain.len());
        prop_assert!(ours.iter().all(|(key, value)| plain.get(key) == Some(value)));
        drop(ours);
        rest_is_one_block(&handler);
    }
}

/// Values with something to drop are dropped once, and memory is refused, not invented.
#[test]
fn a_full_segment_is_told_and_nothing_is_lost() {
    let (_scratch, handler) = segment();
    let mut vector = Vec::new_in(&handler);
    let mut told = false;
    for at in 0..u64::MAX {
        if vector.len() == vector.capacity() && vector.try_reserve(1 + vector.len()).is_err() {
            told = true;
            break;
        }
        vector.push(at);
    }
    assert!(told && vector.iter().copied().eq(0..vector.len() as u64), "what there was is there");
    assert!(Box::<[u8; 64], &Handler>::try_new_in([0; 64], &handler).is_ok(), "less there is");
    assert!(Vec::<u8, &Handler>::new_in(&handler).try_reserve(isize::MAX as usize).is_err());
    drop(vector);
    rest_is_one_block(&handler);
    let counted = std::rc::Rc::new(());
    let mut vector: Vec<std::rc::Rc<()>, &Handler> = Vec::new_in(&handler);
    vector.extend((0..1000).map(|_| counted.clone()));
    vector.truncate(500);
    assert_eq!(std::rc::Rc::strong_count(&counted), 501);
    drop(vector);
    assert_eq!(std::rc::Rc::strong_count(&counted), 1);
    rest_is_one_block(&handler);
}

/// What lies behind a block is free, or is not: it grows where it is, or is moved, and holds what it held.
#[test]
fn a_block_grows_where_it_is_if_there_is_room() {
    let (_scratch, handler) = segment();
    let layout = |bytes: usize| Layout::array::<u8>(bytes).expect("small");
    let blocks: std::vec::Vec<_> = (0..6).map(|_| handler.allocate_raw(64 << 10).expect("room")).collect();
    // Blocks are cut from the end: the one that was made before lies behind.
    let [last, behind, first] = [blocks[3], blocks[4], blocks[5]];
    handler.store_bytes(&first, &[7; 1000]).expect("live");
    handler.free_raw(behind).expect("live");
    let grown = handler.resize(first, layout(100 << 10)).expect("room");
    assert_eq!(grown.offset(), first.offset(), "it stays where it is");
    assert!(matches!(handler.free_raw(first), Err(Error::Stale { .. })), "to whom has an old pointer it was freed");
    assert!(handler.usable_size(&grown).expect("live") >= 100 << 10);
    let moved = handler.resize(grown, layout(300 << 10)).expect("room");
    assert_ne!(moved.offset(), grown.offset(), "a live block is in the way: {last:?}");
    let mut kept = [0; 1000];
    handler.load_bytes(&moved, &mut kept).expect("live");
    assert_eq!(kept, [7; 1000]);
    let shrunk = handler.resize(moved, layout(2000)).expect("it is live");
    assert_eq!(shrunk.offset(), moved.offset());
    assert!(handler.usable_size(&shrunk).expect("live") < 2200);
    let aligned = handler.resize(shrunk, Layout::from_size_align(2000, 4096).expect("a layout")).expect("room");
    assert!(handler.resolve(&aligned).addr().is_multiple_of(4096));
    for block in [blocks[0], blocks[1], blocks[2], last, aligned] {
        handler.free_raw(block).expect("live");
    }
    rest_is_one_block(&handler);
}

/// A type goes with its block, and who has resized it is told by the generation.
#[test]
fn a_typed_block_keeps_its_type() {
    let (_scratch, handler) = segment();
    let block = handler.allocate::<[u64; 4]>().expect("room");
    let grown = handler.resize(block.pointer().cast(), Layout::new::<[u64; 600]>()).expect("room");
    assert!(handler.get_block::<[u64; 4]>(grown.offset()).is_ok());
    assert!(matches!(handler.get_block::<[u64; 5]>(grown.offset()), Err(Error::TypeMismatch { .. })));
    handler.free_at(grown.offset()).expect("live");
    rest_is_one_block(&handler);
}

#[test]
fn what_cannot_be_resized_is_told() {
    let (_scratch, handler) = segment();
    let (_other_scratch, other) = segment();
    let bytes = |count| Layout::array::<u8>(count).expect("small");
    let block = handler.allocate_raw(100).expect("room");
    assert!(matches!(handler.resize(block, bytes(0)), Err(Error::ZeroSize)));
    assert!(matches!(handler.resize(block, bytes(1 << 40)), Err(Error::TooLarge { .. })));
    let page = Layout::from_size_align(100, 8192).expect("a layout");
    assert!(matches!(handler.resize(block, page), Err(Error::BadAlignment { .. })));
    assert!(matches!(other.resize(block, bytes(200)), Err(Error::ForeignBlock { .. })));
    let all = handler.stats().expect("sound").sector_bytes as usize;
    assert!(matches!(handler.resize(block, bytes(all)), Err(Error::OutOfMemory { .. })));
    assert!(handler.usable_size(&block).is_ok(), "it is as it was");
    let address = handler.resolve(&block).cast_const();
    assert_eq!(handler.pointer_to(address).expect("it begins there"), block);
    let wrong = [address.wrapping_add(1), std::ptr::null(), address.wrapping_add(1 << 40)];
    assert!(wrong.into_iter().all(|wrong| matches!(handler.pointer_to(wrong), Err(Error::BadOffset { .. }))));
    handler.free_raw(block).expect("live");
    assert!(matches!(handler.pointer_to(address), Err(Error::NotLive { .. })));
    assert!(matches!(handler.resize(block, bytes(50)), Err(Error::NotLive { .. })));
    let again = handler.allocate_raw(100).expect("room");
    assert_eq!(again.offset(), block.offset());
    assert!(matches!(handler.resize(block, bytes(50)), Err(Error::Stale { .. })));
    handler.free_raw(again).expect("live");
    rest_is_one_block(&handler);
}
