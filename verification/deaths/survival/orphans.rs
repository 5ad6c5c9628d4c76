//! Blocks that the dead leave: given back, or kept and listed.

use crate::common::{MIB, Scratch, die, rest_is_one_block};
use atomic_matrix::Error;
use atomic_matrix::handlers::{BlockInfo, Handler, HandlerFunctions, KEPT, Policy};

/// A participant allocates three blocks of its own, one that it hands over and one that it publishes, and dies.
fn dies_with_five(scratch: &Scratch) -> [u32; 5] {
    let other = scratch.attach();
    let own = [(); 3].map(|()| other.allocate_raw(1000).expect("room").offset());
    let handed = other.allocate_raw(1000).expect("room");
    other.hand_over(&handed).expect("live");
    let published = other.allocate::<[u64; 100]>().expect("room");
    other.publish("published", &published).expect("new");
    let all = [own[0], own[1], own[2], handed.offset(), published.offset()];
    die(other);
    all
}

fn offsets(orphans: &[BlockInfo]) -> Vec<u32> {
    let mut offsets: Vec<u32> = orphans.iter().map(|block| block.offset).collect();
    offsets.sort_unstable();
    offsets
}

fn live(handler: &Handler, offset: u32) -> bool {
    handler.usable_size_at(offset).is_ok()
}

#[test]
fn by_default_they_are_given_back_and_what_was_handed_over_stays() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let all = dies_with_five(&scratch);
    let before = handler.orphans().expect("sound");
    assert_eq!(offsets(&before).len(), 3, "listed until somebody recovers: {before:?}");
    assert!(before.iter().all(|block| block.owner != 0 && block.owner != KEPT));
    // Whoever attaches recovers.
    let newcomer = scratch.attach();
    assert_eq!(newcomer.orphans().expect("sound"), []);
    assert_eq!(all.map(|offset| live(&handler, offset)), [false, false, false, true, true]);
    assert!(handler.lookup::<[u64; 100]>("published").is_ok());
    handler.free_at(all[3]).expect("live");
    handler.free_at(all[4]).expect("live");
    drop(newcomer);
    rest_is_one_block(&handler);
}

#[test]
fn a_segment_may_keep_them_and_then_they_are_listed() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).keep_orphans(true).create().expect("created");
    assert!(handler.matrix().segment().keeps_orphans());
    let all = dies_with_five(&scratch);
    let mut own = all[..3].to_vec();
    own.sort_unstable();
    assert_eq!(offsets(&handler.orphans().expect("sound")), own);
    // By attaching, by a call, and by an allocation that finds no room: they are kept, whoever recovers.
    let newcomer = scratch.attach();
    assert_eq!(newcomer.participants().iter().filter(|p| !p.alive).count(), 0, "recovered");
    let kept = newcomer.orphans().expect("sound");
    assert_eq!((offsets(&kept), kept.iter().all(|block| block.owner == KEPT)), (own.clone(), true));
    handler.reap().expect("a slot");
    let sector = handler.stats().expect("sound").sector_bytes as usize;
    assert!(matches!(handler.allocate_raw(sector), Err(Error::OutOfMemory { .. })));
    assert_eq!(offsets(&handler.orphans().expect("sound")), own);
    // Adopted, one is somebody's again; freed, it is gone.
    handler.adopt_at(kept[0].offset, Some(kept[0].generation)).expect("live");
    assert_eq!(handler.orphans().expect("sound").len(), 2);
    all.iter().for_each(|&offset| handler.free_at(offset).expect("live"));
    assert_eq!(handler.orphans().expect("sound"), []);
    drop(newcomer);
    rest_is_one_block(&handler);
    let opposite = scratch.options().keep_orphans(false).attach();
    assert!(matches!(opposite, Err(Error::LayoutMismatch { expected: 0, found: 1, .. })), "{opposite:?}");
}

#[test]
fn one_recovery_may_keep_them_or_give_them_back() {
    for (in_segment, asked, left) in [(false, Policy::Keep, 3), (true, Policy::GiveBack, 0)] {
        let scratch = Scratch::new();
        let handler = scratch.options().size(MIB).keep_orphans(in_segment).create().expect("created");
        dies_with_five(&scratch);
        let recovered = handler.reap_with(asked).expect("a slot");
        assert_eq!((recovered.participants, recovered.live_blocks), (1, 3));
        assert_eq!(handler.orphans().expect("sound").len(), left);
    }
}

/// A published block whose publisher died before it had given it up can be taken by its name.
#[test]
fn a_kept_block_is_taken_by_its_name() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).keep_orphans(true).create().expect("created");
    let other = scratch.attach();
    let block = other.allocate::<u64>().expect("room");
    other.publish("name", &block).expect("new");
    // As if it had died inside publish: the block is still its own.
    other.adopt_at(block.offset(), None).expect("live");
    die(other);
    handler.reap().expect("a slot");
    assert_eq!(handler.orphans().expect("sound").len(), 1);
    assert_eq!(handler.take::<u64>("name").expect("kept").offset(), block.offset());
    assert_eq!(handler.orphans().expect("sound"), []);
}

/// A name goes with its block, when somebody recovers: its publisher died before it had given the block up, or somebody
/// has freed it since.
#[test]
fn names_of_what_is_gone_are_withdrawn() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let other = scratch.attach();
    let [own, freed, kept] = [(); 3].map(|()| other.allocate::<u64>().expect("room"));
    for (name, block) in [("own", &own), ("freed", &freed), ("kept", &kept)] {
        other.publish(name, block).expect("new");
    }
    // As if it had died inside publish: the block is still its own.
    other.adopt_at(own.offset(), None).expect("live");
    handler.free_at(freed.offset()).expect("live");
    die(other);
    assert_eq!(handler.names().len(), 3);
    handler.reap().expect("a slot");
    let names: Vec<_> = handler.names().into_iter().map(|name| name.name).collect();
    assert_eq!(names, ["kept"]);
}

/// What the dead hold is free memory, too: an allocation that finds no room recovers them first.
#[test]
fn running_out_of_memory_recovers_the_dead() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let sector = handler.stats().expect("sound").sector_bytes as usize;
    let other = scratch.attach();
    other.allocate_raw(sector * 6 / 10).expect("room");
    die(other);
    let most = handler.allocate_raw(sector * 8 / 10).expect("what the dead one held is found");
    handler.free_raw(most).expect("live");
    assert!(handler.participants().iter().all(|p| p.alive));
    rest_is_one_block(&handler);
}
