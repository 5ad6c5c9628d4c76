//! What must be refused, with an error that says so, and without a change (S5).

use crate::common::{MIB, Scratch, refused, rest_is_one_block, segment};
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::{Error, Result};
use std::alloc::Layout;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[test]
fn a_block_is_freed_once() {
    for strict in [false, true] {
        let scratch = Scratch::new();
        let h = scratch.options().size(MIB).strict(strict).create().expect("created");
        for size in [1, 100, 5000, 300_000] {
            let pointer = h.allocate_raw(size).expect("room");
            h.free_raw(pointer).expect("live");
            refused!(h, h.free_raw(pointer), Error::NotLive { .. });
            refused!(h, h.free_at(pointer.offset()), Error::NotLive { .. });
            refused!(h, h.usable_size(&pointer), Error::NotLive { .. });
            refused!(h, h.resolve_at(pointer.offset()), Error::NotLive { .. });
            refused!(h, h.store_bytes(&pointer, b"late"), Error::NotLive { .. });
            refused!(h, h.load_bytes(&pointer, &mut [0; 4]), Error::NotLive { .. });
            refused!(h, h.adopt_at(pointer.offset(), None), Error::NotLive { .. });
            let again = h.allocate_raw(size).expect("room");
            if again.offset() == pointer.offset() {
                refused!(h, h.free_raw(pointer), Error::Stale { .. });
                refused!(h, h.usable_size(&pointer), Error::Stale { .. });
                refused!(h, h.store_bytes(&pointer, b"late"), Error::Stale { .. });
            }
            h.free_raw(again).expect("live");
        }
        let block = h.allocate::<u64>().expect("room");
        let twin = h.get_block::<u64>(block.offset()).expect("live");
        h.try_free(block).expect("live");
        refused!(h, h.load(&twin), Error::NotLive { .. });
        h.free(twin); // says nothing, does nothing
        rest_is_one_block(&h);
    }
}

/// Generations have 20 bits: a stale pointer is refused after any number of reuses but a multiple of 2^20,
/// where it is taken for the block of today. The limit is pinned here, so that a change of it is noticed.
#[test]
fn s5_a_stale_pointer_is_refused_until_generations_wrap() {
    let (_scratch, h) = segment();
    let stale = h.allocate_raw(10).expect("room");
    h.free_raw(stale).expect("live");
    const WRAP: u32 = 1 << 20;
    for reuse in 1..=WRAP + 1 {
        let block = h.allocate_raw(10).expect("room");
        assert_eq!(block.offset(), stale.offset(), "the same place each time");
        if reuse != WRAP && (reuse % 997 == 0 || reuse.is_power_of_two() || reuse + 3 > WRAP) {
            assert!(matches!(h.free_raw(stale), Err(Error::Stale { .. })), "reuse {reuse}");
        }
        if reuse == WRAP {
            h.free_raw(stale).expect("the known limit: exactly 2^20 reuses");
        } else {
            h.free_raw(block).expect("live");
        }
    }
    rest_is_one_block(&h);
}

#[test]
fn forged_offsets_are_refused_everywhere() {
    let (_scratch, h) = segment();
    let block = h.allocate_raw(1000).expect("room");
    let layout = h.matrix().heap().layout().clone();
    let (first, end) = (layout.sector as u32, layout.bytes() as u32);
    for offset in [0, 1, 64, 4096, first - 64, first - 1, end, end + 64, u32::MAX, u32::MAX - 63, block.offset() + 1] {
        h.will_free_at(offset);
        refused!(h, h.free_at(offset), Error::BadOffset { .. });
        refused!(h, h.resolve_at(offset), Error::BadOffset { .. });
        refused!(h, h.usable_size_at(offset), Error::BadOffset { .. });
        refused!(h, h.get_block::<u64>(offset), Error::BadOffset { .. });
        refused!(h, h.state_at(offset), Error::BadOffset { .. });
        refused!(h, h.adopt_at(offset, None), Error::BadOffset { .. });
    }
    for offset in (first..end).step_by(16).filter(|&offset| offset != block.offset()) {
        h.will_free_at(offset);
        assert!(matches!(h.free_at(offset), Err(Error::NotLive { .. })));
    }
    h.free_at(block.offset()).expect("live");
    rest_is_one_block(&h);
}

#[test]
fn blocks_of_another_segment_are_refused() {
    let ((_one, h), (_other, other)) = (segment(), segment());
    let foreign = other.allocate_raw(100).expect("room");
    let _same_place = h.allocate_raw(100).expect("room");
    refused!(h, h.free_raw(foreign), Error::ForeignBlock { .. });
    refused!(h, h.usable_size(&foreign), Error::ForeignBlock { .. });
    refused!(h, h.store_bytes(&foreign, b"x"), Error::ForeignBlock { .. });
    refused!(h, h.load_bytes(&foreign, &mut [0]), Error::ForeignBlock { .. });
    assert!(h.resolve(&foreign).is_null());
    let mut typed = other.allocate::<u64>().expect("room");
    refused!(h, h.load(&typed), Error::ForeignBlock { .. });
    refused!(h, h.store(&mut typed, 1), Error::ForeignBlock { .. });
    refused!(h, h.publish("foreign", &typed), Error::ForeignBlock { .. });
    refused!(h, h.try_free(typed), Error::ForeignBlock { .. });
    assert_eq!(other.stats().expect("sound").live_blocks, 2);
}

#[test]
fn requests_that_cannot_be_met_say_why() {
    let (_scratch, h) = segment();
    let sector = h.stats().expect("sound").sector_bytes as usize;
    refused!(h, h.allocate_raw(0), Error::ZeroSize);
    refused!(h, h.allocate_layout(Layout::new::<()>()), Error::ZeroSize);
    // A type of no bytes has a block, as any other.
    let nothing = h.allocate::<[u64; 0]>().expect("room");
    assert_eq!(h.load(&nothing).expect("live"), [0; 0]);
    h.try_free(nothing).expect("live");
    refused!(h, h.allocate_raw(sector + 1), Error::TooLarge { .. });
    refused!(h, h.allocate_raw(usize::MAX), Error::TooLarge { .. });
    refused!(h, h.allocate_raw(1 << 32), Error::TooLarge { .. });
    let aligned = |align| Layout::from_size_align(100, align).expect("a layout");
    for align in [8192, 1 << 20, 1 << 40] {
        refused!(h, h.allocate_layout(aligned(align)), Error::BadAlignment { .. });
    }
    for shift in 0..=12 {
        let pointer = h.allocate_layout(aligned(1 << shift)).expect("room");
        assert_eq!(h.resolve(&pointer).addr() % (1 << shift), 0);
        h.free_raw(pointer).expect("live");
    }
    let all = h.allocate_raw(sector);
    let all = all.or_else(|_| h.heal().and_then(|()| h.allocate_raw(sector))).expect("the whole sector");
    refused!(h, h.allocate_raw(1), Error::OutOfMemory { requested: 1, free: 0, largest: 0 });
    h.free_raw(all).expect("live");
    rest_is_one_block(&h);
}

/// The mapping is aligned to pages, so an alignment above 4096 is promised only if it is kept.
#[test]
fn what_is_promised_of_large_granules_is_kept() {
    for granule in [4096, 16_384, 65_536] {
        let scratch = Scratch::new();
        let h = scratch.options().size(4 * MIB).granule(granule).create().expect("created");
        for other in [scratch.attach(), scratch.attach(), h.clone()] {
            for align in [4096, 8192, 16_384, 65_536] {
                match other.allocate_layout(Layout::from_size_align(100, align).expect("a layout")) {
                    Ok(pointer) => {
                        let address = other.resolve(&pointer).addr();
                        assert!(address.is_multiple_of(align), "granule {granule}: {address:#x} for {align}");
                        other.free_raw(pointer).expect("live");
                    }
                    Err(Error::BadAlignment { requested, largest }) => assert!(requested > largest),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

#[test]
fn types_are_checked() {
    let (_scratch, h) = segment();
    let raw = h.allocate_raw(64).expect("room");
    let small = h.allocate::<u32>().expect("room");
    let large = h.allocate::<[u32; 100]>().expect("room");
    refused!(h, h.get_block::<u32>(raw.offset()), Error::TypeMismatch { found_fingerprint: None, .. });
    refused!(h, h.get_block::<i32>(small.offset()), Error::TypeMismatch { .. });
    refused!(h, h.get_block::<[u32; 101]>(large.offset()), Error::TypeMismatch { .. });
    refused!(h, h.get_block::<[u32; 99]>(large.offset()), Error::TypeMismatch { .. });
    assert_eq!(h.get_block::<[u32; 100]>(large.offset()).expect("its type").pointer(), large.pointer());
    refused!(h, h.store_bytes(&raw, &[0; 65]), Error::TooSmall { .. });
    h.publish("large", &large).expect("new");
    refused!(h, h.lookup::<u32>("large"), Error::TypeMismatch { .. });
    h.free(large);
    refused!(h, h.lookup::<[u32; 100]>("large"), Error::NotLive { .. });
    let next = h.allocate::<[u32; 100]>().expect("room");
    let seen = h.lookup::<[u32; 100]>("large");
    assert!(matches!(seen, Err(Error::NotLive { .. } | Error::Stale { .. })), "{seen:?}");
    refused!(h, h.publish("large", &next), Error::NameTaken { .. });
}

#[test]
fn names_are_bounded() {
    let (_scratch, h) = segment();
    let block = h.allocate::<u64>().expect("room");
    for name in ["x".repeat(97), "x".repeat(5000)] {
        refused!(h, h.publish(&name, &block), Error::NameTooLong { .. });
        refused!(h, h.lookup::<u64>(&name), Error::NameTooLong { .. });
        refused!(h, h.withdraw(&name), Error::NameTooLong { .. });
    }
    refused!(h, h.publish("", &block), Error::BadOption { .. });
    let longest = "é".repeat(48);
    h.publish(&longest, &block).expect("96 bytes");
    assert_eq!(h.lookup::<u64>(&longest).expect("published").pointer(), block.pointer());
    refused!(h, h.lookup::<u64>(&"é".repeat(47)), Error::NameUnknown { .. });
    refused!(h, h.withdraw("another"), Error::NameUnknown { .. });
    let entries = h.matrix().heap().layout().params.directory;
    (1..entries).for_each(|i| h.publish(&format!("{i}"), &block).expect("room"));
    refused!(h, h.publish("one more", &block), Error::DirectoryFull { .. });
    h.withdraw("7").expect("published");
    h.publish("one more", &block).expect("room again");
}

/// More threads than participants: whoever comes too late is told, and may come again.
#[test]
fn threads_beyond_the_slots_are_told() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).participants(2).create().expect("created");
    let (here, done) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
    std::thread::scope(|scope| {
        let hold = || {
            let block = handler.allocate_raw(10).expect("a slot");
            here.wait();
            done.wait();
            handler.free_raw(block).expect("live");
        };
        let threads = [scope.spawn(hold), scope.spawn(hold)];
        here.wait();
        refused!(handler, handler.allocate_raw(10), Error::NoParticipantSlot { participants: 2 });
        done.wait();
        // The scope would wait for what they run, but not for what their ends do: that is when they leave their slots.
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
    handler.allocate_raw(10).expect("a slot that a thread has left");
}

#[test]
fn handlers_and_blocks_may_go_to_other_threads() {
    fn checked<T: Send + Sync>() {}
    checked::<Handler>();
    checked::<Block<u64>>();
    checked::<RelativePtr<std::cell::Cell<u8>>>();
}

/// Runs `use_it` in a forked child; it must be refused there as [`Error::ForkedChild`].
fn in_a_forked_child<T>(what: &str, use_it: impl Fn() -> Result<T> + Send + Sync + 'static) {
    let mut command = Command::new("true");
    // SAFETY: between fork and exec the closure refuses quickly: it takes no lock that another thread may have held.
    unsafe {
        command.pre_exec(move || match use_it() {
            Err(Error::ForkedChild { opener, caller }) if opener != caller => Ok(()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::InvalidInput)),
        })
    };
    let status = command.status().unwrap_or_else(|e| panic!("{what} was not refused in a forked child: {e}"));
    assert!(status.success());
}

#[test]
fn a_forked_child_is_refused() {
    for warm in [false, true] {
        let (_scratch, h) = segment();
        if warm {
            // This thread has a cache and parked blocks, which the child must not use.
            let blocks = [(); 10].map(|()| h.allocate_raw(100).expect("room"));
            blocks.into_iter().for_each(|block| h.free_raw(block).expect("live"));
        }
        let maker = h.clone();
        let block = std::thread::spawn(move || maker.allocate::<u64>().expect("room")).join().expect("no panic");
        let (pointer, offset) = (block.pointer(), block.offset());
        h.publish("block", &block).expect("new");
        let before = h.stats().expect("sound");
        let copy = || h.clone();
        let child = copy();
        in_a_forked_child("allocate", move || child.allocate_raw(100));
        let child = copy();
        in_a_forked_child("allocate a large one", move || child.allocate_raw(100_000));
        let child = copy();
        in_a_forked_child("free", move || child.free_raw(pointer.cast()));
        let child = copy();
        in_a_forked_child("free by offset", move || child.free_at(offset));
        let child = copy();
        in_a_forked_child("heal", move || child.heal());
        let child = copy();
        in_a_forked_child("withdraw", move || child.withdraw("block"));
        let child = copy();
        in_a_forked_child("publish", move || child.publish("other", &child.get_block::<u64>(offset)?));
        let child = copy();
        in_a_forked_child("adopt", move || child.adopt_at(offset, None));
        let child = copy();
        in_a_forked_child("reap", move || child.reap());
        let child = copy();
        in_a_forked_child("unlink", move || child.unlink());
        assert_eq!(h.stats().expect("sound"), before, "nothing has changed");
        h.try_free(block).expect("live");
        rest_is_one_block(&h);
    }
}
