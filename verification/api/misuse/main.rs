//! What misuse does, row by row: `papers/misuse.md` names a test for each row, and [`page`] holds the page
//! against the source. Rows whose test stands elsewhere (`--test properties`, `survival`, `segment`) are not
//! repeated here.

#[path = "../../support/common.rs"]
mod common;
mod in_place;
mod limits;
mod maps;
mod messages;
mod named;
mod page;
mod references;
mod segments;
mod services;
mod structures;
mod told;
mod topics;
mod words;

use atomic_matrix::backend::Word;
use atomic_matrix::backend::orderings::{HEADER_WALK, HELD_STORE};
use atomic_matrix::handlers::{Block, BlockState, Handler, HandlerFunctions, Policy, Recovered};
use atomic_matrix::matrix::block_header::Header;
use atomic_matrix::matrix::core::AtomicMatrix;
use atomic_matrix::segment::Options;
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::{Region, WordIndex};
use atomic_matrix::{Error, Repaired, Shared};
use common::{MIB, Scratch, refused, rest_is_one_block, segment};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

#[test]
fn types_larger_than_the_sector_are_refused() {
    let (_scratch, h) = segment();
    refused!(h, h.allocate::<[u64; MIB]>(), Error::TooLarge { .. });
    refused!(h, h.allocate::<[u8; 1 << 33]>(), Error::TooLarge { .. });
}

/// Runs `act` in a forked child before it becomes `true`; all of it must be refused as [`Error::ForkedChild`].
fn forked(what: &str, act: impl Fn() -> bool + Send + Sync + 'static) {
    let mut command = Command::new("true");
    // SAFETY: the child only makes calls that are refused at once, and that take no lock which another thread holds.
    unsafe { command.pre_exec(move || if act() { Ok(()) } else { Err(std::io::ErrorKind::InvalidInput.into()) }) };
    let status = command.status().unwrap_or_else(|e| panic!("{what} was not refused in a forked child: {e}"));
    assert!(status.success());
}

#[test]
fn a_forked_child_may_not_change_anything() {
    let (_scratch, h) = segment();
    let mut block = h.allocate::<u64>().expect("room");
    h.store(&mut block, 7).expect("live");
    h.publish("block", &block).expect("new");
    let (offset, before) = (block.offset(), h.stats().expect("sound"));
    let is = |outcome: Result<(), Error>| matches!(outcome, Err(Error::ForkedChild { .. }));
    let child = h.clone();
    forked("allocate", move || is(child.allocate::<u64>().map(drop)));
    let child = h.clone();
    forked("join", move || is(child.join().map(drop)));
    let child = h.clone();
    forked("try_free", move || is(child.get_block::<u64>(offset).and_then(|block| child.try_free(block))));
    let child = h.clone();
    forked("hand_over", move || is(child.get_block::<u64>(offset).and_then(|block| child.hand_over(&block.pointer()))));
    let child = h.clone();
    forked("take", move || is(child.take::<u64>("block").map(drop)));
    let child = h.clone();
    forked("reap_with", move || is(child.reap_with(Policy::Keep).map(drop)));
    let child = h.clone();
    forked("store", move || is(child.get_block::<u64>(offset).and_then(|mut block| child.store(&mut block, 8))));
    let (child, bytes) = (h.clone(), block.pointer().cast());
    forked("store_bytes", move || is(child.store_bytes(&bytes, &[8; 8])));
    let child = h.clone();
    forked("reading", move || {
        child.get_block::<u64>(offset).and_then(|block| child.load(&block)).is_ok_and(|n| n == 7)
    });
    assert_eq!(h.stats().expect("sound"), before);
    assert_eq!(h.take::<u64>("block").expect("published still").pointer(), block.pointer());
}

#[test]
fn a_typed_block_freed_by_offset_is_not_freed_again() {
    let (_scratch, h) = segment();
    for again in [Handler::ack::<u64>, Handler::try_free::<u64>] {
        let block = h.allocate::<u64>().expect("room");
        h.free_at(block.offset()).expect("live");
        refused!(h, again(&h, block), Error::NotLive { .. });
    }
    let block = h.allocate::<u64>().expect("room");
    h.ack(block).expect("live");
    let block = h.allocate::<u64>().expect("room");
    h.try_free(block).expect("live");
    rest_is_one_block(&h);
}

#[test]
fn whoever_has_the_offset_may_free() {
    let (scratch, h) = segment();
    let other = scratch.attach();
    let theirs = other.allocate_raw(100).expect("room");
    h.free_at(theirs.offset()).expect("live");
    refused!(other, other.free_raw(theirs), Error::NotLive { .. });
    drop(other);
    rest_is_one_block(&h);
}

#[test]
fn foreign_blocks_are_neither_handed_over_nor_acked() {
    let ((_one, h), (_other, other)) = (segment(), segment());
    let _same_place = h.allocate::<u64>().expect("room");
    let foreign = other.allocate::<u64>().expect("room");
    refused!(h, h.hand_over(&foreign.pointer()), Error::ForeignBlock { .. });
    refused!(h, h.ack(foreign), Error::ForeignBlock { .. });
}

#[test]
fn a_freed_block_resolves_into_the_mapping() {
    let (_scratch, h) = segment();
    let pointer = h.allocate_raw(1000).expect("room");
    let address = h.resolve(&pointer);
    h.free_raw(pointer).expect("live");
    assert_eq!(h.resolve(&pointer), address, "an address is arithmetic");
    let segment = h.matrix().segment();
    assert!((0..segment.len()).contains(&(address.addr() - segment.base().addr().get())));
}

#[test]
fn a_cast_pointer_has_the_blocks_bounds() {
    let (_scratch, h) = segment();
    let small = h.allocate::<u32>().expect("room");
    let bytes = small.pointer().cast::<u8>();
    let usable = h.usable_size(&bytes).expect("live");
    refused!(h, h.load_bytes(&bytes, &mut vec![0; usable + 1]), Error::TooSmall { .. });
    refused!(h, h.store_bytes(&bytes, &vec![0; usable + 1]), Error::TooSmall { .. });
    h.store_bytes(&bytes, &vec![9; usable]).expect("as long as the block");
    h.store_bytes(&bytes, &[]).expect("nothing to copy");
    h.load_bytes(&bytes, &mut []).expect("nothing to copy");
    assert_eq!(h.load(&small).expect("live"), 0x0909_0909);
    assert_eq!(small.pointer().cast::<[u64; 1000]>().cast::<u32>(), small.pointer());
}

/// A copy and a free at once: the copy may meet the block that stands there next, but neither its neighbours
/// nor the heap's own words.
#[test]
fn a_copy_beside_a_free_stays_within_the_segment() {
    let (_scratch, h) = segment();
    let before = h.allocate::<[u8; 64]>().expect("room");
    let shared = h.allocate::<[u8; 64]>().expect("room");
    let after = h.allocate::<[u8; 64]>().expect("room");
    let offset = shared.offset();
    let (go, copied) = (std::sync::Barrier::new(2), std::sync::Mutex::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            go.wait();
            for turn in 0..u64::MAX {
                if turn >= 20_000 && *copied.lock().expect("no panic") > 0 {
                    break;
                }
                let Ok(mut block) = h.get_block::<[u8; 64]>(offset) else { continue };
                let bytes = block.pointer().cast::<u8>();
                let done = h.store(&mut block, [7; 64]).is_ok()
                    && h.load(&block).is_ok()
                    && h.store_bytes(&bytes, &[8; 64]).is_ok()
                    && h.load_bytes(&bytes, &mut [0; 64]).is_ok();
                *copied.lock().expect("no panic") += u32::from(done);
            }
        });
        go.wait();
        let (mut mine, mut turn) = (shared, 0);
        // Until a copy was made, which on a busy machine may take longer.
        while turn < 20_000 || *copied.lock().expect("no panic") == 0 {
            turn += 1;
            h.free(mine);
            mine = h.allocate::<[u8; 64]>().expect("room");
        }
    });
    assert!(*copied.lock().expect("no panic") > 0, "some copies were made");
    for neighbour in [before, after] {
        let value = h.load(&neighbour).expect("live");
        assert!(value.iter().all(|byte| *byte == value[0] && ![7, 8].contains(byte)), "{value:?}");
    }
    assert_eq!(h.verify().expect("sound").live_blocks, 3);
}

/// What the kernel says of the mapping at an address: its flags, in two letters each.
fn mapping_flags(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
    let mut inside = false;
    for line in maps.lines() {
        if let Some((from, _)) = line.split_once('-')
            && let Ok(from) = usize::from_str_radix(from, 16)
        {
            inside = from == address;
        }
        if let Some(flags) = line.strip_prefix("VmFlags: ").filter(|_| inside) {
            return flags.to_owned();
        }
    }
    panic!("no mapping at {address:#x}")
}

#[test]
fn core_files_leave_the_segment_out() {
    for on in [false, true] {
        let h = Options::new().memfd().size(MIB).in_core_dumps(on).create().expect("created");
        let flags = mapping_flags(h.matrix().segment().base().addr().get());
        assert_eq!(flags.split(' ').any(|flag| flag == "dd"), !on, "{flags}");
    }
}

#[test]
fn a_region_has_no_words_but_its_own() {
    let (_scratch, h) = segment();
    let (region, words) = (h.matrix().heap().region(), h.matrix().heap().layout().words);
    let _ = region.word(WordIndex(words - 1)).load(&HEADER_WALK);
    for beyond in [words, usize::MAX] {
        std::panic::catch_unwind(|| region.word(WordIndex(beyond)).load(&HEADER_WALK)).expect_err("it has none");
    }
}

#[test]
fn a_foreign_block_is_neither_written_nor_read() {
    let ((_one, h), (_other, other)) = (segment(), segment());
    let mut same_place = h.allocate::<u64>().expect("room");
    h.store(&mut same_place, 7).expect("live");
    let mut foreign = other.allocate::<u64>().expect("room");
    assert_eq!(foreign.offset(), same_place.offset());
    let mut told = |call: &mut dyn FnMut(&mut Block<u64>)| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(&mut foreign))).expect_err("refused");
        let text = panic.downcast_ref::<String>().expect("a message").clone();
        let error = Error::ForeignBlock { offset: foreign.offset(), segment: h.id() };
        assert_eq!(text, error.to_string());
    };
    // SAFETY: the blocks are live and nobody else uses them.
    told(&mut |foreign| unsafe { h.write(foreign, 1) });
    // SAFETY: as above.
    told(&mut |foreign| assert_eq!(unsafe { h.read(foreign) }, 0));
    assert_eq!(h.load(&same_place).expect("live"), 7);
}

#[test]
fn a_freed_block_written_all_the_same_breaks_no_metadata() {
    let (_scratch, h) = segment();
    let mut blocks = [(); 8].map(|()| h.allocate::<[u64; 8]>().expect("room"));
    for block in &mut blocks {
        h.free_at(block.offset()).expect("live");
        // SAFETY: none is due: the block is freed. Nobody else uses this segment, and its 64 bytes are inside
        // the sector.
        unsafe { h.write(block, [u64::MAX; 8]) };
        // SAFETY: as above.
        assert_eq!(unsafe { h.read(block) }, [u64::MAX; 8]);
        refused!(h, h.store(block, [1; 8]), Error::NotLive { .. });
        refused!(h, h.load(block), Error::NotLive { .. });
    }
    rest_is_one_block(&h);
}

#[test]
fn a_freed_block_is_not_written() {
    let (_scratch, h) = segment();
    let block = h.allocate::<u64>().expect("room");
    let [mut late, twin] = [(); 2].map(|()| h.get_block::<u64>(block.offset()).expect("live"));
    h.try_free(block).expect("live");
    refused!(h, h.store(&mut late, 1), Error::NotLive { .. });
    refused!(h, h.usable_size_at(late.offset()), Error::NotLive { .. });
    refused!(h, h.get_block::<u64>(late.offset()), Error::NotLive { .. });
    let next = h.allocate::<u64>().expect("room");
    assert_eq!(next.offset(), late.offset(), "the same place");
    refused!(h, h.store(&mut late, 1), Error::Stale { .. });
    refused!(h, h.load(&twin), Error::Stale { .. });
}

/// A type with another's fingerprint.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
struct Liar([u64; 100]);
// SAFETY: plain numbers; the fingerprint lies, which is what is tested.
unsafe impl Shared for Liar {
    const FINGERPRINT: u32 = u64::FINGERPRINT;
}

#[test]
fn a_lying_type_stays_within_the_block() {
    let (_scratch, h) = segment();
    let block = h.allocate::<u64>().expect("room");
    refused!(h, h.get_block::<Liar>(block.offset()), Error::TooSmall { .. });
}

#[test]
fn what_is_gone_is_neither_handed_over_nor_adopted() {
    let (scratch, h) = segment();
    let other = scratch.attach();
    let gone = h.allocate_raw(100).expect("room");
    h.free_raw(gone).expect("live");
    refused!(h, h.hand_over(&gone), Error::NotLive { .. });
    refused!(h, h.pointer_at(gone.offset(), gone.generation()), Error::NotLive { .. });
    let next = h.allocate_raw(100).expect("room");
    assert_eq!(next.offset(), gone.offset(), "the same place");
    refused!(h, h.hand_over(&gone), Error::Stale { .. });
    refused!(other, other.adopt_at(gone.offset(), Some(gone.generation())), Error::Stale { .. });
    refused!(other, other.pointer_at(gone.offset(), gone.generation()), Error::Stale { .. });
    refused!(other, other.pointer_at(gone.offset() + 1, gone.generation()), Error::BadOffset { .. });
    assert_eq!(other.pointer_at(next.offset(), next.generation()).expect("live").offset(), next.offset());
    // Twice, and by somebody who does not own it.
    let owner = || {
        let mut owner = None;
        h.blocks(|block| {
            if block.offset == next.offset() {
                owner = Some(block.owner)
            }
        })
        .expect("sound");
        owner
    };
    assert_ne!(owner(), Some(0));
    other.hand_over(&next).expect("live");
    h.hand_over(&next).expect("live");
    assert_eq!(owner(), Some(0));
    h.free_raw(next).expect("unowned is anybody's");
}

#[test]
fn two_adopt_one_block() {
    let (scratch, h) = segment();
    let handlers = [scratch.attach(), scratch.attach()];
    for _ in 0..200 {
        let block = h.allocate_raw(100).expect("room");
        h.hand_over(&block).expect("live");
        let freed = std::thread::scope(|scope| {
            let adopt = |handler: &'static str, h: &Handler| {
                let mine =
                    h.adopt_at(block.offset(), Some(block.generation())).unwrap_or_else(|e| panic!("{handler}: {e}"));
                assert_eq!(mine, block);
            };
            let both =
                [("one", &handlers[0]), ("other", &handlers[1])].map(|(name, h)| scope.spawn(move || adopt(name, h)));
            both.into_iter().for_each(|one| one.join().expect("no panic"));
            handlers.iter().filter(|handler| handler.free_raw(block).is_ok()).count()
        });
        assert_eq!(freed, 1);
    }
    drop(handlers);
    rest_is_one_block(&h);
}

#[test]
fn who_stops_while_it_adopts_keeps_that_one_block() {
    let (scratch, h) = segment();
    let block = h.allocate_raw(100).expect("room");
    let (stopped, other) = (scratch.attach(), scratch.attach());
    stopped.free_raw(stopped.allocate_raw(5000).expect("room")).expect("live");
    let heap = h.matrix().heap();
    let g = Granule(((block.offset() as u64 - heap.layout().sector) >> heap.layout().params.granule_shift) as u32);
    let word = heap.region().word(heap.layout().header(g));
    // As the one that stops leaves it between the two compare-and-swaps of an adoption.
    let header = heap.look(g);
    let numbers: Vec<_> = h.participants().iter().map(|participant| participant.number).collect();
    let adopter = numbers.into_iter().find(|&number| number != header.owner()).expect("it has allocated");
    let adopted = Header::new(header.state(), 1 << 10 | adopter, header.generation(), header.low());
    word.store(adopted.0, &HELD_STORE);
    refused!(other, other.adopt_at(block.offset(), None), Error::ChangingHands { participant, .. } if participant == adopter);
    refused!(h, h.hand_over(&block), Error::ChangingHands { participant, .. } if participant == adopter);
    word.store(header.0, &HELD_STORE);
    let adopted = other.adopt_at(block.offset(), Some(block.generation())).expect("live, and nobody changes it");
    other.free_raw(adopted).expect("live");
    drop((stopped, other));
    rest_is_one_block(&h);
}

#[test]
fn an_empty_name_is_refused() {
    let (_scratch, h) = segment();
    let block = h.allocate::<u64>().expect("room");
    refused!(h, h.publish("", &block), Error::BadOption { .. });
    refused!(h, h.lookup::<u64>(""), Error::BadOption { .. });
    refused!(h, h.take::<u64>(""), Error::BadOption { .. });
    refused!(h, h.withdraw(""), Error::BadOption { .. });
    assert!(h.withdraw("").expect_err("empty").to_string().contains("1 to 96"));
}

#[test]
fn a_freed_block_is_not_published() {
    let (_scratch, h) = segment();
    let block = h.allocate::<u64>().expect("room");
    let twin = h.get_block::<u64>(block.offset()).expect("live");
    h.publish("gone", &block).expect("new");
    h.free(block);
    refused!(h, h.publish("late", &twin), Error::NotLive { .. });
    refused!(h, h.take::<u64>("gone"), Error::NotLive { .. });
    let names = h.names();
    assert!(names.len() == 1 && names[0].name == "gone" && !names[0].live, "{names:?}");
    h.withdraw("gone").expect("a name can go without its block");
    assert_eq!(h.names(), []);
}

#[test]
fn a_name_is_taken_once() {
    let (_scratch, h) = segment();
    let block = h.allocate::<u64>().expect("room");
    refused!(h, h.take::<u64>("block"), Error::NameUnknown { .. });
    h.publish("block", &block).expect("new");
    refused!(h, h.take::<i64>("block"), Error::TypeMismatch { .. });
    assert_eq!(h.take::<u64>("block").expect("published").pointer(), block.pointer());
    refused!(h, h.take::<u64>("block"), Error::NameUnknown { .. });
    h.publish("block", &block).expect("new again");
    h.withdraw("block").expect("published");
    refused!(h, h.withdraw("block"), Error::NameUnknown { .. });
}

#[test]
fn blocks_outlive_handlers_and_threads() {
    let (scratch, h) = segment();
    let other = scratch.attach();
    // Allocated by a thread whose clone, and with it its thread, is gone; and by a handler dropped elsewhere.
    let clone = h.clone();
    let by_clone = std::thread::spawn(move || clone.allocate_raw(100).expect("room")).join().expect("no panic");
    let by_other = other.allocate_raw(100).expect("room");
    std::thread::spawn(move || drop(other)).join().expect("no panic");
    let stats = h.stats().expect("sound");
    assert_eq!(stats.live_blocks, 2);
    h.free_raw(by_clone).expect("live");
    h.free_raw(by_other).expect("live");
    refused!(h, h.free_raw(by_other), Error::NotLive { .. });
    // The last handler of all, in another thread: the segment stays, and what is live in it.
    let kept = h.allocate_raw(500).expect("room");
    std::thread::spawn(move || drop(h)).join().expect("no panic");
    let again = scratch.attach();
    assert_eq!(again.stats().expect("sound").live_blocks, 1);
    again.free_raw(kept).expect("the same segment");
    rest_is_one_block(&again);
}

#[test]
fn damage_is_reported_and_not_followed() {
    let (_scratch, h) = segment();
    let held = h.allocate_raw(1000).expect("room");
    let first = h.matrix().segment().layout().header(Granule(0));
    let word = h.matrix().segment().word(first);
    let was = atomic_matrix::backend::Word::load(word, &atomic_matrix::backend::orderings::HEADER_LOOK);
    let set = |to| atomic_matrix::backend::Word::store(word, to, &atomic_matrix::backend::orderings::FORMAT);
    // No block begins the sector; one that is longer than it.
    for wrong in [0, was | ((1 << 30) - 1)] {
        set(wrong);
        assert!(matches!(h.stats(), Err(Error::Corrupt { .. })), "{wrong:#x}");
        assert!(matches!(h.verify(), Err(Error::Corrupt { .. })), "{wrong:#x}");
        assert!(matches!(h.blocks(|_| ()), Err(Error::Corrupt { .. })), "{wrong:#x}");
        assert!(matches!(h.orphans(), Err(Error::Corrupt { .. })), "{wrong:#x}");
    }
    set(was);
    h.free_raw(held).expect("live");
    rest_is_one_block(&h);
}

/// What stands where a block should begin is set aside, the rest is used on; who knows that it is nobody's frees it.
#[test]
fn damage_is_set_aside_and_told() {
    let (_scratch, h) = segment();
    let blocks: Vec<_> = (0..3).map(|_| h.allocate_raw(1000).expect("room")).collect();
    assert_eq!(h.repair().expect("a slot"), Repaired::default());
    let mut damaged = vec![];
    h.blocks(|info| damaged.push(info)).expect("sound");
    let info = *damaged.iter().find(|info| info.offset == blocks[1].offset()).expect("it is live");
    let at = Granule((info.position >> h.matrix().segment().layout().params.granule_shift) as u32);
    let word = h.matrix().segment().word(h.matrix().segment().layout().header(at));
    atomic_matrix::backend::Word::store(word, 0, &atomic_matrix::backend::orderings::FORMAT);
    assert!(matches!(h.verify(), Err(Error::Corrupt { .. })));
    let repaired = h.repair().expect("all of it");
    let (blocks_aside, bytes_aside) = (repaired.set_aside_blocks, repaired.set_aside_bytes);
    assert_eq!((blocks_aside, bytes_aside, repaired.shortened_blocks), (1, info.bytes, 0));
    h.heal().expect("nothing is left to do");
    let stats = h.verify().expect("sound");
    assert_eq!((stats.live_blocks, stats.parked_blocks), (3, 0));
    assert_eq!(h.orphans().expect("sound").first().map(|orphan| orphan.offset), Some(info.offset));
    // Whoever holds the block is told that it is another one by now.
    let mut blocks = blocks.into_iter();
    h.free_raw(blocks.next().expect("three")).expect("live");
    let lost = blocks.next().expect("three");
    refused!(h, h.free_raw(lost), Error::Stale { .. });
    h.free_raw(blocks.next().expect("three")).expect("live");
    h.free_at(info.offset).expect("unowned");
    rest_is_one_block(&h);
}

#[test]
fn reaping_the_living_does_nothing() {
    let (scratch, h) = segment();
    let other = scratch.attach();
    let theirs = other.allocate_raw(100).expect("room");
    for policy in [Policy::GiveBack, Policy::Keep] {
        assert_eq!(h.reap_with(policy).expect("a slot"), Recovered::default());
    }
    assert_eq!(h.reap().expect("a slot"), Recovered::default());
    assert_eq!(h.orphans().expect("sound"), []);
    other.free_raw(theirs).expect("live");
}

#[test]
fn an_onlooker_without_a_slot_can_look_only() {
    let scratch = Scratch::new();
    let h = scratch.options().size(MIB).participants(1).create().expect("created");
    let block = h.allocate_raw(100).expect("the only slot");
    let other = scratch.attach();
    assert_eq!(other.stats().expect("sound").live_blocks, 1);
    refused!(h, other.heal(), Error::NoParticipantSlot { participants: 1 });
    refused!(h, other.reap(), Error::NoParticipantSlot { participants: 1 });
    assert_eq!(other.usable_size(&block).expect("live"), 112);
    drop(h);
    other.heal().expect("the slot is free");
}

#[test]
fn getters_answer_in_every_state() {
    let scratch = Scratch::new();
    let h = AtomicMatrix::options().id(scratch.0).size(MIB + 1).create().expect("created");
    let block = h.allocate::<u64>().expect("room");
    let (pointer, offset, generation) = (block.pointer(), block.offset(), block.generation());
    let see = move |h: &Handler| {
        let segment = h.matrix().segment();
        // SAFETY: used while the segment lives.
        let region = unsafe { segment.region() };
        (
            ((h.id(), h.creation()), h.offset_unit(), h.participants().len(), h.names().len()),
            (
                segment.base().addr(),
                segment.len(),
                segment.requested_len(),
                segment.layout().clone(),
                (segment.id(), segment.creation()),
            ),
            (segment.path().map(Path::to_owned), segment.strict(), segment.keeps_orphans(), segment.created()),
            (segment.opener(), std::os::fd::AsRawFd::as_raw_fd(&segment.fd()), segment.offset_unit()),
            (h.matrix().heap().layout().clone(), region.layout().clone()),
        )
    };
    let before = see(&h);
    h.free(block);
    assert_eq!((pointer.offset(), pointer.generation()), (offset, generation), "what they said before");
    assert_eq!(h.state_at(offset).expect("a granule"), BlockState::Acked);
    h.unlink().expect("the name goes");
    std::thread::spawn({
        let h = h.clone();
        move || drop(h)
    })
    .join()
    .expect("no panic");
    assert!(see(&h) == before);
    let child = h.clone();
    forked("looking", move || see(&child) == before);
    let mut sum = Recovered::default();
    sum.add(Recovered { participants: 2, ..Recovered::default() });
    assert_eq!(sum.participants, 2);
    let _ = Options::new();
}
