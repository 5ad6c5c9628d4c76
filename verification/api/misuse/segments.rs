//! Segments: which one is meant, what is asked of one that is made, and what stays when it is removed.

use crate::common::{MIB, Scratch, refused, rest_is_one_block, segment};
use atomic_matrix::Error;
use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::matrix::core::AtomicMatrix;
use atomic_matrix::segment::Options;
use std::path::Path;

#[test]
fn sizes_of_segments_are_checked() {
    let scratch = Scratch::new();
    let make = |size| AtomicMatrix::bootstrap(Some(scratch.0), size).map(drop);
    for size in [0, 1] {
        assert!(matches!(make(size), Err(Error::SegmentTooSmall { .. })));
    }
    assert!(matches!(make(usize::MAX), Err(Error::SegmentTooLarge { .. })));
    assert!(matches!(make(60 << 30), Err(Error::NoSpace { .. })), "60 GiB of memory");
    make(MIB).expect("created");
    for size in [MIB / 2, 2 * MIB] {
        assert!(matches!(make(size), Err(Error::SizeMismatch { found: 0x10_0000, .. })));
    }
    make(MIB).expect("attached");
}

/// A block of a segment that is gone, used with a later one under the same id: refused even where a block of
/// the same size stands at the same offset in the same generation.
#[test]
fn a_block_of_a_former_segment_of_the_same_id_is_refused() {
    let scratch = Scratch::new();
    let create = || scratch.options().size(MIB).create().expect("created");
    let (former, raw_size) = (create(), 100);
    let (mut block, raw) = (former.allocate::<u64>().expect("room"), former.allocate_raw(raw_size).expect("room"));
    former.store(&mut block, 1).expect("live");
    former.unlink().expect("ours");
    let h = create();
    assert!(former.id() == h.id() && former.creation() != h.creation());
    let (mut same, same_raw) = (h.allocate::<u64>().expect("room"), h.allocate_raw(raw_size).expect("room"));
    h.store(&mut same, 2).expect("live");
    assert_eq!((same.offset(), same.generation()), (block.offset(), block.generation()), "they differ in nothing else");
    assert_eq!((same_raw.offset(), same_raw.generation()), (raw.offset(), raw.generation()));
    refused!(h, h.load(&block), Error::ForeignBlock { .. });
    refused!(h, h.store(&mut block, 9), Error::ForeignBlock { .. });
    refused!(h, h.publish("former", &block), Error::ForeignBlock { .. });
    refused!(h, h.hand_over(&raw), Error::ForeignBlock { .. });
    refused!(h, h.store_bytes(&raw, b"x"), Error::ForeignBlock { .. });
    refused!(h, h.load_bytes(&raw, &mut [0]), Error::ForeignBlock { .. });
    refused!(h, h.usable_size(&raw), Error::ForeignBlock { .. });
    refused!(h, h.free_raw(raw), Error::ForeignBlock { .. });
    refused!(h, h.try_free(block), Error::ForeignBlock { .. });
    assert!(h.resolve(&raw).is_null());
    assert_ne!(same.pointer(), former.get_block::<u64>(same.offset()).expect("live").pointer());
    assert_eq!((h.load(&same).expect("live"), h.stats().expect("sound").live_blocks), (2, 2));
    assert_eq!(former.stats().expect("sound").live_blocks, 2);
}

/// All of an id tells segments apart, and more than the id: ids of version 1 that one host made (their last
/// 64 bits are equal), hand-made ones, ids that differ by one bit, and the copy of a file.
#[test]
fn segments_are_told_apart_by_all_of_their_id() {
    let base = uuid::Uuid::new_v4().as_u128() & !(0xF << 76) | 1 << 76;
    let ids = (0..128).step_by(3).map(|bit| base ^ 1 << bit).chain([base]);
    let segments: Vec<_> = ids
        .map(|id| {
            let scratch = Scratch(uuid::Uuid::from_u128(id));
            let h = scratch.options().size(64 << 10).participants(1).create().expect("created");
            let block = h.allocate_raw(100).expect("room");
            (scratch, h, block)
        })
        .collect();
    let (_, h, own) = &segments[0];
    for (_, other, foreign) in &segments[1..] {
        assert_eq!((foreign.offset(), foreign.generation()), (own.offset(), own.generation()));
        refused!(h, h.free_raw(*foreign), Error::ForeignBlock { .. });
        refused!(other, other.free_raw(*own), Error::ForeignBlock { .. });
    }
}

#[test]
fn a_copy_of_a_segments_file_is_another_segment() {
    let (scratch, h) = segment();
    let block = h.allocate_raw(100).expect("room");
    let file = h.matrix().segment().path().expect("a name").to_owned();
    let copied = file.with_file_name(format!("atomic-matrix-{}-copy", scratch.0));
    std::fs::copy(&file, &copied).expect("copied");
    let copy = Options::new().path(&copied).inspect();
    std::fs::remove_file(&copied).expect("removed");
    let copy = copy.expect("it is a segment");
    assert_eq!((copy.id(), copy.creation()), (h.id(), h.creation()));
    refused!(copy, copy.free_raw(block), Error::ForeignBlock { .. });
    let again = scratch.attach();
    again.free_raw(block).expect("another mapping of the same segment");
}

#[test]
fn what_is_not_there_is_not_attached_to() {
    let scratch = Scratch::new();
    assert!(matches!(AtomicMatrix::attach(scratch.0), Err(Error::NotFound { .. })));
    assert!(matches!(scratch.options().attach(), Err(Error::NotFound { .. })));
    assert!(matches!(scratch.options().inspect(), Err(Error::NotFound { .. })));
    assert!(matches!(scratch.options().create(), Err(Error::BadOption { option: "size", .. })));
    assert!(matches!(scratch.options().create_segment(), Err(Error::BadOption { option: "size", .. })));
    let with = scratch.options().create_segment_with(|_| panic!("never called"));
    assert!(matches!(with, Err(Error::BadOption { option: "size", .. })));
    scratch.options().size(MIB).create().expect("created");
    assert!(matches!(scratch.options().size(MIB).create(), Err(Error::AlreadyExists { .. })));
    let nowhere = Path::new("/dev/shm/nowhere/at/all");
    for made in [Options::new().path(nowhere).attach(), Options::new().path(nowhere).size(MIB).create()] {
        match made {
            Err(error @ Error::Io { .. }) => assert!(error.to_string().contains("/dev/shm/nowhere/at"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_squatter_is_left_alone() {
    let scratch = Scratch::new();
    let file = format!("/dev/shm/atomic-matrix-{}", scratch.0);
    let notes = "somebody's notes, and longer than a header is\n".repeat(10);
    std::fs::write(&file, &notes).expect("written");
    let options = scratch.options().size(MIB);
    assert!(matches!(options.open_or_create(), Err(Error::NotASegment { .. })));
    assert!(matches!(options.open_or_create_segment(), Err(Error::NotASegment { .. })));
    let with = options.open_or_create_segment_with(|_| panic!("never called"));
    assert!(matches!(with, Err(Error::NotASegment { .. })));
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), notes);
}

#[test]
fn inspecting_is_a_promise_of_the_caller() {
    let (scratch, h) = segment();
    let looking = scratch.options().inspect().expect("it exists");
    assert_eq!(h.participants(), []);
    let block = looking.allocate_raw(100).expect("it becomes a participant");
    assert_eq!(h.participants().len(), 1);
    looking.free_raw(block).expect("live");
    drop(looking);
    rest_is_one_block(&h);
}

#[test]
fn policies_are_compared() {
    let scratch = Scratch::new();
    scratch.options().size(MIB).keep_orphans(false).biased(false).create().expect("created");
    assert!(matches!(scratch.options().keep_orphans(true).attach(), Err(Error::LayoutMismatch { .. })));
    assert!(matches!(scratch.options().biased(true).attach(), Err(Error::LayoutMismatch { .. })));
    scratch.options().keep_orphans(false).biased(false).attach().expect("the same");
}

#[test]
fn a_sparse_segment_is_made_however_large() {
    let scratch = Scratch::new();
    let h = scratch.options().size(40 << 30).reserve(false).create().expect("40 GiB, none of them taken");
    let block = h.allocate_raw(10 << 30).expect("room in the sector");
    h.store_bytes(&block, b"one page is touched").expect("there is memory for it");
    let file = std::fs::metadata(format!("/dev/shm/atomic-matrix-{}", scratch.0)).expect("named");
    let taken = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
    assert!(taken < 64 << 20, "{taken} bytes are taken");
}

#[test]
fn unlinking_again_does_nothing() {
    let (scratch, h) = segment();
    let other = scratch.attach();
    h.unlink().expect("the name goes");
    h.unlink().expect("nothing to do");
    other.unlink().expect("nothing to do");
    other.matrix().segment().unlink().expect("nothing to do");
    assert!(matches!(scratch.options().attach(), Err(Error::NotFound { .. })));
}

#[test]
fn those_attached_go_on_after_unlinking() {
    let (scratch, h) = segment();
    let other = scratch.attach();
    let before = h.allocate_raw(100).expect("room");
    h.unlink().expect("the name goes");
    let block = other.allocate::<u64>().expect("room");
    other.publish("late", &block).expect("new");
    h.free(h.take::<u64>("late").expect("published"));
    h.free_raw(before).expect("live");
    assert_eq!(h.reap().expect("a slot").participants, 0);
    // A new segment of the same id is another one.
    let anew = scratch.options().size(MIB).create().expect("the name is free");
    let foreign = anew.allocate_raw(100).expect("room");
    assert_eq!(h.stats().expect("sound").live_blocks, 0, "{foreign:?} is not here");
    drop(other);
    rest_is_one_block(&h);
    h.verify().expect("sound");
}
