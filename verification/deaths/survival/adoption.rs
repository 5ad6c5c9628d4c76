//! Blocks that are adopted while their owner dies, leaves, or has stopped while it freed them. The words are
//! written as such a participant leaves them: which of its steps lead there is for the models (`--test tso`)
//! and the enumeration of its stops (`c1_`).

use crate::common::{MIB, Scratch, die, rest_is_one_block};
use crate::participants::eventually;
use crate::support::{argument, child, succeed};
use crate::told;
use atomic_matrix::Error;
use atomic_matrix::backend::orderings::{ADOPTING, HAZARD_SET, HELD_STORE};
use atomic_matrix::backend::{Backend, Native, Word};
use atomic_matrix::handlers::{BlockState, Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::matrix::block_header::Header;
use atomic_matrix::matrix::core::AtomicMatrix;
use atomic_matrix::segment::layout::{Granule, SlotWord};
use atomic_matrix::segment::region::Region;
use std::io::Write;
use std::time::{Duration, Instant};
use uuid::Uuid;

fn granule(handler: &Handler, offset: u32) -> Granule {
    let layout = handler.matrix().heap().layout();
    Granule(((offset as u64 - layout.sector) >> layout.params.granule_shift) as u32)
}

fn owner(handler: &Handler, offset: u32) -> u16 {
    handler.matrix().heap().look(granule(handler, offset)).owner()
}

fn slot(handler: &Handler, number: u16, word: SlotWord) -> &<Native as Backend>::Word {
    let heap = handler.matrix().heap();
    heap.region().word(heap.layout().slot(number, word))
}

/// The block's owner names it, as if it had stopped while it freed it; or names nothing any more.
fn names(handler: &Handler, number: u16, offset: u32, named: bool) {
    let g = granule(handler, offset).0 as u64;
    slot(handler, number, SlotWord::Hazard).store(if named { g + 1 } else { 0 }, &HAZARD_SET);
}

/// A block of `from`'s is between the two compare-and-swaps of an adoption by `adopter`, and will be given back.
struct Adoption<'h> {
    handler: &'h Handler,
    adopter: u16,
    offset: u32,
    before: Header,
}

impl<'h> Adoption<'h> {
    fn begins(handler: &'h Handler, adopter: u16, block: &RelativePtr<u8>) -> Self {
        let (heap, offset) = (handler.matrix().heap(), block.offset());
        let g = granule(handler, offset);
        let before = heap.look(g);
        let from = (before.owner() as u64) << 32;
        slot(handler, adopter, SlotWord::Adopting).store(from | (g.0 as u64 + 1), &ADOPTING);
        let adopted = Header::new(before.state(), 1 << 10 | adopter, before.generation(), before.low());
        heap.region().word(heap.layout().header(g)).store(adopted.0, &HELD_STORE);
        Self { handler, adopter, offset, before }
    }
    fn give_back(self) {
        let heap = self.handler.matrix().heap();
        let g = granule(self.handler, self.offset);
        heap.region().word(heap.layout().header(g)).store(self.before.0, &HELD_STORE);
        slot(self.handler, self.adopter, SlotWord::Adopting).store(0, &ADOPTING);
    }
}

fn dead(handler: &Handler) -> Vec<u16> {
    handler.participants().iter().filter(|p| !p.alive).map(|p| p.number).collect()
}

#[test]
fn the_dead_keep_their_slot_while_their_block_is_adopted() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let (adopter, other) = (scratch.attach(), scratch.attach());
    let own = adopter.allocate_raw(100).expect("room");
    let block = other.allocate_raw(100).expect("room");
    let (a, t) = (owner(&handler, block.offset()), owner(&handler, own.offset()));
    let adoption = Adoption::begins(&handler, t, &block);
    die(other);
    for _ in 0..3 {
        let recovered = handler.reap().expect("a slot");
        assert_eq!((recovered.participants, recovered.live_blocks, recovered.open_adoptions), (0, 0, 1));
        assert_eq!(dead(&handler), [a], "the next recovery looks again");
    }
    // Newcomers get other slots.
    let newcomer = scratch.attach();
    assert_ne!(owner(&handler, newcomer.allocate_raw(100).expect("room").offset()), a);
    drop(newcomer);
    adoption.give_back();
    let recovered = handler.reap().expect("a slot");
    assert_eq!((recovered.participants, recovered.live_blocks, recovered.open_adoptions), (1, 1, 0));
    assert_eq!(dead(&handler), []);
    handler.blocks(|info| assert!(info.offset != block.offset() || info.owner != a)).expect("sound");
    adopter.free_raw(own).expect("live");
    let left = handler.stats().expect("sound").live_blocks;
    assert_eq!(left, 1, "the newcomer's, which left in good order");
}

/// The recovery of a dead adopter gives the block back to its owner: as long as that one lives, it is unowned
/// to adopt or free.
#[test]
fn what_a_dead_adopter_was_adopting_is_an_orphan_only_if_its_owner_is_dead() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let (adopter, other) = (scratch.attach(), scratch.attach());
    let own = adopter.allocate_raw(100).expect("room").offset();
    let block = other.allocate_raw(100).expect("room");
    let (a, t) = (owner(&handler, block.offset()), owner(&handler, own));
    let _open = Adoption::begins(&handler, t, &block);
    die(adopter);
    let orphans = || -> Vec<u32> { handler.orphans().expect("sound").iter().map(|block| block.offset).collect() };
    assert_eq!(orphans(), [own]);
    assert_eq!(handler.reap().expect("a slot").live_blocks, 1);
    assert_eq!((orphans().len(), owner(&handler, block.offset())), (0, a));
    // Both dead.
    let adopter = scratch.attach();
    let own = adopter.allocate_raw(100).expect("room").offset();
    let _open = Adoption::begins(&handler, owner(&handler, own), &block);
    die(adopter);
    die(other);
    let mut both = vec![own, block.offset()];
    both.sort();
    assert_eq!(orphans(), both);
    assert_eq!(handler.reap().expect("a slot").live_blocks, 2);
    rest_is_one_block(&handler);
}

#[test]
fn whoever_leaves_keeps_its_slot_while_its_block_is_adopted() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let (adopter, other) = (scratch.attach(), scratch.attach());
    let own = adopter.allocate_raw(100).expect("room");
    let (block, second) = (other.allocate_raw(100).expect("room"), other.allocate_raw(100).expect("room"));
    let (a, t) = (owner(&handler, block.offset()), owner(&handler, own.offset()));
    // For ever: as if it had died, but its other block is unowned.
    let adoption = Adoption::begins(&handler, t, &block);
    drop(other);
    assert_eq!((dead(&handler), owner(&handler, second.offset())), (vec![a], 0));
    adoption.give_back();
    let recovered = handler.reap().expect("a slot");
    assert_eq!((recovered.participants, recovered.live_blocks, recovered.open_adoptions), (1, 1, 0));
    // For a while: it is waited for, and both are unowned.
    let other = scratch.attach();
    let third = other.allocate_raw(100).expect("room");
    let adoption = Adoption::begins(&handler, t, &third);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            adoption.give_back();
        });
        drop(other);
    });
    // It may have been given back too late on a busy machine; then it was as above.
    let late = dead(&handler).len();
    let recovered = handler.reap().expect("a slot");
    assert_eq!((recovered.participants, recovered.live_blocks), (late as u64, late as u64));
    if late == 0 {
        assert_eq!(owner(&handler, third.offset()), 0);
        handler.free_at(third.offset()).expect("live, and unowned");
    }
    handler.free_at(second.offset()).expect("live, and unowned");
    adopter.free_raw(own).expect("live");
    drop(adopter);
    rest_is_one_block(&handler);
}

/// Both are dead, and all slots are theirs: whoever comes takes a slot that can be used, and nothing is lost.
#[test]
fn owner_and_adopter_are_dead_and_all_slots_are_theirs() {
    for adopter_lives in [true, false] {
        let scratch = Scratch::new();
        let handler = scratch.options().size(MIB).participants(2).create().expect("created");
        let (adopter, other) = (scratch.attach(), scratch.attach());
        let own = adopter.allocate_raw(100).expect("room");
        let block = other.allocate_raw(100).expect("room");
        let t = owner(&handler, own.offset());
        let adoption = Adoption::begins(&handler, t, &block);
        die(other);
        if adopter_lives {
            // Whoever attaches finds no slot to recover the dead with, and may look all the same.
            let refused = scratch.attach().allocate_raw(100);
            assert!(matches!(refused, Err(Error::NoParticipantSlot { .. })), "{refused:?}");
            // Whoever waits for a slot gets the dead one's as soon as that may be used.
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    let newcomer = scratch.attach();
                    let got = std::iter::from_fn(|| Some(newcomer.allocate_raw(100))).take(50).find_map(Result::ok);
                    got.map(|block| newcomer.free_raw(block))
                });
                std::thread::sleep(Duration::from_millis(10));
                adoption.give_back();
                assert!(waits.join().expect("no panic").is_some(), "it gets the slot at last");
            });
        } else {
            die(adopter);
            let newcomer = scratch.attach();
            let _ = newcomer.allocate_raw(100).expect("the adopter's slot, if not the owner's");
            drop(newcomer);
            let newcomer = scratch.attach();
            newcomer.reap().expect("a slot");
            assert_eq!(dead(&newcomer), []);
            continue;
        }
        let newcomer = scratch.attach();
        newcomer.free_raw(newcomer.allocate_raw(100).expect("the owner's slot")).expect("live");
        adopter.free_raw(own).expect("live");
        drop((newcomer, adopter));
        rest_is_one_block(&handler);
    }
}

/// An owner that died while it freed a block keeps it from adopters, but not them for long: until it is recovered.
#[test]
fn an_owner_that_died_while_it_freed_a_block_keeps_that_one() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).keep_orphans(true).create().expect("created");
    let adopter = scratch.attach();
    let other = scratch.attach();
    let block = other.allocate::<[u64; 12]>().expect("room");
    let (offset, generation) = (block.offset(), block.generation());
    let a = owner(&handler, offset);
    names(&handler, a, offset, true);
    die(other);
    let found = adopter.adopt_at(offset, Some(generation));
    assert!(matches!(found, Err(Error::ChangingHands { participant, .. }) if participant == a), "{found:?}");
    let same = adopter.get_block::<[u64; 12]>(offset).expect("live");
    let found = adopter.publish("name", &same);
    assert!(matches!(found, Err(Error::ChangingHands { participant, .. }) if participant == a), "{found:?}");
    assert_eq!((adopter.names(), owner(&handler, offset)), (vec![], a), "nothing has changed");
    handler.reap().expect("a slot");
    adopter.publish("name", &same).expect("kept");
    adopter.withdraw("name").expect("published");
    adopter.adopt_at(offset, Some(generation)).expect("kept");
    adopter.free_at(offset).expect("live");
    drop(adopter);
    rest_is_one_block(&handler);
}

/// Who publishes a block that another is just adopting waits for that, a while: it can't be told whose it was.
#[test]
fn who_publishes_waits_for_an_adopter() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let (adopter, other) = (scratch.attach(), scratch.attach());
    let own = adopter.allocate_raw(100).expect("room");
    let block = other.allocate::<[u64; 12]>().expect("room");
    let (a, t) = (owner(&handler, block.offset()), owner(&handler, own.offset()));
    let adoption = Adoption::begins(&handler, t, &block.pointer().cast());
    let found = other.publish("name", &block);
    assert!(matches!(found, Err(Error::ChangingHands { participant, .. }) if participant == t), "{found:?}");
    assert_eq!(handler.names(), [], "nothing has changed");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(handler.names(), [], "not before it is known whose it is");
            adoption.give_back();
        });
        match other.publish("name", &block) {
            Ok(()) => assert_eq!(owner(&handler, block.offset()), 0, "published: unowned"),
            // On a machine so busy that it was given back after half a second.
            Err(error) => assert!(matches!(error, Error::ChangingHands { .. }), "{error}"),
        }
    });
    assert!([0, a].contains(&owner(&handler, block.offset())));
    handler.free_at(block.offset()).expect("live");
    adopter.free_raw(own).expect("live");
    drop((adopter, other));
    rest_is_one_block(&handler);
}

/// The adopter that comes first asks the owner's process by a call that takes milliseconds; the other, of the
/// same process, waits for it.
#[test]
fn two_of_one_process_adopt_a_third_processs_blocks() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let mut third = child("adoption::has_blocks", &scratch.0.to_string());
    told(&mut third, "has");
    let mut blocks = vec![];
    handler
        .blocks(|info| {
            if info.state == BlockState::Allocated {
                blocks.push(info);
            }
        })
        .expect("sound");
    assert_eq!(blocks.len(), 40);
    let two = [scratch.attach(), scratch.attach()];
    for block in blocks {
        std::thread::scope(|scope| {
            for h in &two {
                scope.spawn(move || {
                    eventually("it is adopted: nobody has stopped", || {
                        let begun = Instant::now();
                        match h.adopt_at(block.offset, Some(block.generation)) {
                            // On a machine so busy that the call takes half a second. Sooner nobody is refused.
                            Err(Error::ChangingHands { .. }) => {
                                assert!(begun.elapsed() > Duration::from_millis(400), "it waits for the other");
                                false
                            }
                            adopted => adopted.map(|_| true).expect("live"),
                        }
                    });
                });
            }
        });
        handler.free_at(block.offset).expect("live");
    }
    third.stdin.take().expect("piped").write_all(b"done\n").expect("it waits");
    succeed(third);
    eventually("it has left", || handler.participants().iter().all(|p| p.pid == std::process::id()));
    drop(two);
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: owns blocks until it is told to leave"]
fn has_blocks() {
    let Some(id) = argument() else { return };
    let handler = AtomicMatrix::attach(Uuid::parse_str(&id).expect("an id")).expect("it exists");
    for _ in 0..40 {
        let _ = handler.allocate_raw(100).expect("room");
    }
    println!("\nhas 40");
    std::io::stdin().read_line(&mut String::new()).expect("readable");
}
