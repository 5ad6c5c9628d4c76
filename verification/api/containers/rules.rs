//! The rules of allocators, as `Allocator`'s page has them, under random sequences of calls.

use crate::common::{rest_is_one_block, segment};
use allocator_api2::alloc::Allocator;
use atomic_matrix::Handler;
use proptest::prelude::*;
use std::alloc::Layout;
use std::ptr::NonNull;

#[derive(Debug, Clone)]
enum Call {
    Allocate(Layout),
    Zeroed(Layout),
    Grow(usize, Layout),
    GrowZeroed(usize, Layout),
    Shrink(usize, Layout),
    Deallocate(usize),
}

fn layouts() -> impl Strategy<Value = Layout> {
    let sizes = prop_oneof![1 => Just(0usize), 4 => 1..200usize, 3 => 200..5000usize, 2 => 5000..60_000usize];
    let aligns = prop_oneof![6 => 0..5u32, 1 => 5..13u32];
    (sizes, aligns).prop_map(|(size, align)| Layout::from_size_align(size, 1 << align).expect("a layout"))
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        4 => layouts().prop_map(Call::Allocate),
        1 => layouts().prop_map(Call::Zeroed),
        4 => (any::<usize>(), layouts()).prop_map(|(which, layout)| Call::Grow(which, layout)),
        2 => (any::<usize>(), layouts()).prop_map(|(which, layout)| Call::GrowZeroed(which, layout)),
        4 => (any::<usize>(), layouts()).prop_map(|(which, layout)| Call::Shrink(which, layout)),
        3 => any::<usize>().prop_map(Call::Deallocate),
    ];
    prop::collection::vec(call, 1..80)
}

/// Memory that was given, and the byte that fills what was asked for.
struct Memory {
    first: NonNull<u8>,
    layout: Layout,
    fill: u8,
}

impl Memory {
    fn given(given: NonNull<[u8]>, layout: Layout, fill: u8) -> Self {
        assert!(given.len() >= layout.size(), "as much as was asked for: {} for {layout:?}", given.len());
        let memory = Self { first: given.cast(), layout, fill };
        assert!(memory.first.addr().get().is_multiple_of(layout.align()), "{layout:?}");
        // SAFETY: so many bytes were given, and nobody else has them.
        unsafe { memory.first.write_bytes(fill, layout.size()) };
        memory
    }
    fn bytes(&self, count: usize) -> &[u8] {
        // SAFETY: so many bytes were given, and are this one's.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), count) }
    }
    fn is_whole(&self, count: usize) -> bool {
        self.bytes(count).iter().all(|&byte| byte == self.fill)
    }
}

fn with(layout: Layout, change: Layout, more: bool) -> Layout {
    let size = if more { layout.size() + change.size() } else { layout.size().min(change.size()) };
    Layout::from_size_align(size, change.align()).expect("a layout")
}

/// Plays the calls on an allocator; false if it ran out of memory.
fn play(allocator: impl Allocator, calls: &[Call]) -> Result<(), TestCaseError> {
    let (mut all, mut fill): (Vec<Memory>, u8) = (vec![], 0);
    for call in calls {
        fill = fill.wrapping_add(1).max(1);
        let at = match call {
            Call::Allocate(_) | Call::Zeroed(_) => 0,
            Call::Grow(which, _) | Call::GrowZeroed(which, _) | Call::Shrink(which, _) | Call::Deallocate(which) => {
                if all.is_empty() {
                    continue;
                }
                which % all.len()
            }
        };
        match *call {
            Call::Allocate(layout) => {
                all.extend(allocator.allocate(layout).ok().map(|given| Memory::given(given, layout, fill)));
            }
            Call::Zeroed(layout) => {
                let Ok(given) = allocator.allocate_zeroed(layout) else { continue };
                let zeros = Memory { first: given.cast(), layout, fill: 0 };
                prop_assert!(zeros.is_whole(layout.size()));
                all.push(Memory::given(given, layout, fill));
            }
            Call::Grow(_, change) | Call::GrowZeroed(_, change) => {
                let old = all.swap_remove(at);
                let (layout, zeroed) = (with(old.layout, change, true), matches!(call, Call::GrowZeroed(..)));
                // SAFETY: the allocator's, of that layout, and the new one is no smaller.
                let grown = unsafe {
                    match zeroed {
                        true => allocator.grow_zeroed(old.first, old.layout, layout),
                        false => allocator.grow(old.first, old.layout, layout),
                    }
                };
                let Ok(given) = grown else {
                    all.push(old);
                    continue;
                };
                let kept = Memory { first: given.cast(), ..old };
                prop_assert!(kept.is_whole(kept.layout.size()), "it has grown, and holds what it held");
                let rest = &kept.bytes(layout.size())[kept.layout.size()..];
                prop_assert!(!zeroed || rest.iter().all(|&byte| byte == 0));
                all.push(Memory::given(given, layout, fill));
            }
            Call::Shrink(_, change) => {
                let old = all.swap_remove(at);
                let layout = with(old.layout, change, false);
                // SAFETY: the allocator's, of that layout, and the new one is no larger.
                let Ok(given) = (unsafe { allocator.shrink(old.first, old.layout, layout) }) else {
                    all.push(old);
                    continue;
                };
                let kept = Memory { first: given.cast(), ..old };
                prop_assert!(kept.is_whole(layout.size()), "it has shrunk, and holds what is left");
                all.push(Memory::given(given, layout, fill));
            }
            Call::Deallocate(_) => {
                let old = all.swap_remove(at);
                prop_assert!(old.is_whole(old.layout.size()));
                // SAFETY: the allocator's, of that layout.
                unsafe { allocator.deallocate(old.first, old.layout) };
            }
        }
        prop_assert!(all.iter().all(|memory| memory.is_whole(memory.layout.size())), "nobody else has written it");
    }
    for old in all {
        // SAFETY: the allocator's, of that layout.
        unsafe { allocator.deallocate(old.first, old.layout) };
    }
    Ok(())
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn a_handlers_reference_keeps_the_rules_of_allocators(calls in calls()) {
        let (_scratch, handler) = segment();
        play(&handler, &calls)?;
        rest_is_one_block(&handler);
    }

    #[test]
    fn a_messages_allocator_keeps_the_rules_of_allocators(calls in calls()) {
        let (_scratch, handler) = segment();
        play(*handler.message_vec::<u8>().allocator(), &calls)?;
        rest_is_one_block(&handler);
    }
}

/// What one reference has allocated, another one of the same segment frees.
#[test]
fn references_to_one_segment_are_one_allocator() {
    let (_scratch, handler) = segment();
    let (layout, clone): (_, Handler) = (Layout::new::<[u64; 50]>(), handler.clone());
    let given = (&handler).allocate(layout).expect("room");
    // SAFETY: as allocated.
    unsafe { (&clone).deallocate(given.cast(), layout) };
    rest_is_one_block(&handler);
}
