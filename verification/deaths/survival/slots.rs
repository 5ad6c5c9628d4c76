//! Slots and threads: what a first call needs, and what becomes of a thread's slot when it ends.

use crate::common::{MIB, Scratch, rest_is_one_block};
use crate::participants::eventually;
use crate::support::{argument, child, succeed};
use atomic_matrix::Error;
use atomic_matrix::handlers::{BlockState, Handler, HandlerFunctions};
use atomic_matrix::segment::Options;
use std::alloc::Layout;

/// Bytes of stack that a thread's first call may need.
const STACK: usize = 16 << 10;
const PAINT: u8 = 0xA5;

extern "C" fn start(call: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: the address of a box that `touched` has made for this thread and that waits for it.
    unsafe { (*call.cast::<Box<dyn FnOnce() + Send>>()).as_mut_call() };
    std::ptr::null_mut()
}

trait CallOnce {
    fn as_mut_call(&mut self);
}

impl CallOnce for Box<dyn FnOnce() + Send> {
    fn as_mut_call(&mut self) {
        std::mem::replace(self, Box::new(|| ()))();
    }
}

/// Bytes that a thread touches of its stack, which is painted before.
fn touched(call: Box<dyn FnOnce() + Send>) -> usize {
    let (mut stack, mut call) = (vec![[PAINT; 4096]; 64], call);
    let bytes = size_of_val(&*stack);
    // SAFETY: the stack and the call outlive the thread, which is waited for.
    unsafe {
        let mut attributes = std::mem::zeroed();
        let mut thread = std::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstack(&mut attributes, stack.as_mut_ptr().cast(), bytes), 0);
        assert_eq!(libc::pthread_create(&mut thread, &attributes, start, (&raw mut call).cast()), 0);
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
        libc::pthread_attr_destroy(&mut attributes);
    }
    bytes - stack.as_flattened().iter().take_while(|&&byte| byte == PAINT).count()
}

/// What a call needs beyond an empty thread.
fn stack_of(call: impl FnOnce() + Send + 'static) -> usize {
    touched(Box::new(call)).saturating_sub(touched(Box::new(|| ())))
}

/// Live blocks of another thread's.
struct Others {
    small: u32,
    large: u32,
}

/// musl gives threads 128 KiB, some programs 16 or 32.
#[test]
fn a_threads_first_call_needs_little_stack() {
    type Call = fn(&Handler, Others);
    let calls: [(&str, Call); 14] = [
        ("allocate_raw", |h, _| {
            let _ = h.allocate_raw(100).expect("room");
        }),
        ("allocate, large", |h, _| {
            let _ = h.allocate_raw(100_000).expect("room");
        }),
        ("allocate, aligned", |h, _| {
            let _ = h.allocate_layout(Layout::from_size_align(5000, 4096).expect("sound")).expect("room");
        }),
        ("allocate, typed", |h, _| h.free(h.allocate::<[u64; 20]>().expect("room"))),
        ("free, large", |h, _| h.free_raw(h.allocate_raw(100_000).expect("room")).expect("live")),
        ("no room", |h, _| assert!(h.stats().and_then(|s| h.allocate_raw(s.sector_bytes as usize)).is_err())),
        ("free_at", |h, others| h.free_at(others.small).expect("live")),
        ("free_at, large", |h, others| h.free_at(others.large).expect("live")),
        ("adopt_at", |h, others| assert!(h.adopt_at(others.small, None).is_ok())),
        ("publish", |h, _| assert!(h.publish("a name", &h.allocate::<u64>().expect("room")).is_ok())),
        ("resize", |h, _| {
            let block = h.allocate_raw(4000).expect("room");
            assert!(h.resize(block, Layout::from_size_align(90_000, 16).expect("sound")).is_ok());
        }),
        ("message", |h, _| assert!(h.message_from(&[7_u8; 3000]).is_ok())),
        ("heal", |h, _| h.heal().expect("a slot")),
        ("reap", |h, _| assert!(h.reap().is_ok())),
    ];
    for (name, call) in calls {
        for dead in [false, true] {
            let scratch = Scratch::new();
            let handler = scratch.options().size(MIB).participants(3).create().expect("created");
            let [small, large] = [200, 100_000].map(|size| handler.allocate_raw(size).expect("room").offset());
            if dead {
                for _ in 0..2 {
                    let other = scratch.attach_unreaped();
                    let _lost = [(); 20].map(|()| other.allocate_raw(500).expect("room"));
                    crate::common::die(other);
                }
            }
            let own = handler.clone();
            let needs = stack_of(move || call(&own, Others { small, large }));
            println!("{name}{}: {needs} bytes", if dead { ", in a dead one's slot" } else { "" });
            assert!(needs <= STACK, "{name}: a thread's first call needs {needs} bytes of stack");
        }
    }
}

fn owners(handler: &Handler) -> Vec<u16> {
    let mut owners = vec![];
    let is_live = |state| matches!(state, BlockState::Allocated | BlockState::Typed | BlockState::TypedSmall);
    handler.blocks(|block| owners.extend(is_live(block.state).then_some(block.owner))).expect("sound");
    owners.sort();
    owners.dedup();
    owners
}

/// Threads that have ended keep no slot from others; what they allocated stays their process's.
#[test]
fn slots_of_ended_threads_go_back_to_the_segment() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).participants(32).create().expect("created");
    let home = handler.allocate_raw(100).expect("room");
    for _ in 0..3 {
        // All slots at once.
        let barrier = std::sync::Barrier::new(31);
        std::thread::scope(|scope| {
            for _ in 0..31 {
                scope.spawn(|| {
                    handler.free_raw(handler.allocate_raw(300).expect("room")).expect("live");
                    let _kept = [(); 3].map(|()| handler.allocate_raw(200).expect("room"));
                    barrier.wait();
                });
            }
        });
        // A scope does not wait for what its threads do at their very end.
        eventually("the process's home is left", || handler.participants().len() == 1);
    }
    assert_eq!((owners(&handler).len(), handler.stats().expect("sound").live_blocks), (1, 1 + 3 * 31 * 3));
    // Another process's threads have them.
    let other = scratch.attach();
    let barrier = std::sync::Barrier::new(31);
    std::thread::scope(|scope| {
        for _ in 0..31 {
            scope.spawn(|| {
                other.free_raw(other.allocate_raw(300).expect("a slot")).expect("live");
                barrier.wait();
            });
        }
    });
    eventually("both homes are left", || handler.participants().len() == 2);
    let last = scratch.attach();
    last.free_raw(home).expect("live");
    // When the process dies, its ended threads' blocks are given back with its own.
    crate::common::die(handler);
    assert_eq!(last.reap().expect("a slot").live_blocks, 3 * 31 * 3);
    drop(other);
    rest_is_one_block(&last);
}

/// Where a walk takes long, a process keeps a few slots for its next threads, and no more.
#[test]
fn a_large_heap_keeps_a_few_slots_for_the_next_threads() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(8 * MIB).participants(64).create().expect("created");
    let many: Vec<_> = (0..6000).map(|_| handler.allocate_raw(500).expect("room")).collect();
    // However many end, one after another or all at once: no more than four stay beside the process's home.
    for threads in [1, 4, 5, 6, 40] {
        let barrier = std::sync::Barrier::new(threads);
        std::thread::scope(|scope| {
            let (handler, barrier) = (&handler, &barrier);
            let all: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(move || {
                        let _kept = handler.allocate_raw(200).expect("room");
                        barrier.wait();
                    })
                })
                .collect();
            all.into_iter().for_each(|thread| thread.join().expect("no panic"));
        });
        let left = handler.participants().len();
        assert!((1..=1 + 64 / 16).contains(&left), "{left} of {threads}");
    }
    handler.free_raw(many[0]).expect("live");
}

/// Who has no slot frees all the same: nothing is lost, and nothing freed twice.
#[test]
fn without_a_slot_blocks_are_freed_all_the_same() {
    for (biased, strict) in [(true, false), (false, false), (false, true)] {
        let scratch = Scratch::new();
        let options = scratch.options().size(4 * MIB).participants(1);
        let holder = options.biased(biased).strict(strict).create().expect("created");
        let small: Vec<_> = (0..200).map(|i| holder.allocate_raw(1 + i * 13).expect("room")).collect();
        let large: Vec<_> = (0..20).map(|i| holder.allocate_raw(4000 + i * 5000).expect("room")).collect();
        let typed: Vec<u32> = (0..50).map(|_| holder.allocate::<[u64; 30]>().expect("room").offset()).collect();
        let given: Vec<_> = (0..20).map(|_| holder.allocate_raw(700).expect("room")).collect();
        given.iter().for_each(|block| holder.hand_over(block).expect("live"));
        let other = scratch.attach();
        assert!(matches!(other.allocate_raw(100), Err(Error::NoParticipantSlot { participants: 1 })));
        for block in small.iter().chain(&large).chain(&given) {
            other.free_raw(*block).expect("live");
            assert!(matches!(other.free_raw(*block), Err(Error::NotLive { .. })));
            assert!(matches!(holder.free_raw(*block), Err(Error::NotLive { .. })));
        }
        for offset in &typed[1..] {
            other.free_at(*offset).expect("live");
            assert!(matches!(other.free_at(*offset), Err(Error::NotLive { .. })));
        }
        other.free(other.get_block::<[u64; 30]>(typed[0]).expect("live"));
        assert!(matches!(other.free_at(3), Err(Error::BadOffset { .. })));
        assert_eq!(holder.stats().expect("sound").live_blocks, 0);
        // What was freed is found by whoever runs short.
        let most = holder.stats().expect("sound").sector_bytes as usize * 9 / 10;
        holder.free_raw(holder.allocate_raw(most).expect("everything was freed")).expect("live");
        rest_is_one_block(&holder);
    }
}

/// One operation of each kind, on a segment that this thread has used before.
fn use_it(handler: &Handler, buffer: &mut [u8; 64]) {
    let block = handler.allocate_raw(64).expect("room");
    handler.store_bytes(&block, buffer).expect("live");
    handler.load_bytes(&block, buffer).expect("live");
    handler.free_raw(block).expect("live");
    handler.free_at(handler.allocate_raw(500).expect("room").offset()).expect("live");
    handler.free(handler.allocate::<[u64; 9]>().expect("room"));
}

fn segments(count: usize) -> Vec<Handler> {
    (0..count).map(|_| Options::new().memfd().size(MIB).create().expect("created")).collect()
}

/// However many segments a thread uses in turn, what it has used before takes no kernel call.
#[test]
fn sixty_segments_in_turn_take_no_kernel_call() {
    print!("{}", succeed(child("slots::makes_no_kernel_call", "")));
}

#[test]
#[ignore = "a role: dies of its first kernel call"]
fn makes_no_kernel_call() {
    if argument().is_none() {
        return;
    }
    if !cfg!(target_arch = "x86_64") {
        return println!("SKIPPED: the filter is written for x86-64");
    }
    let (all, mut buffer) = (segments(60), [7; 64]);
    let mut round = || all.iter().for_each(|handler| use_it(handler, &mut buffer));
    (0..3).for_each(|_| round());
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_exit_group as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: gives up rights of this thread; the program outlives the call.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    if installed == 0 {
        (0..50).for_each(|_| round());
    }
    // SAFETY: ends the process at once: any other call would kill it.
    unsafe { libc::_exit(0) };
}

/// `cargo test --release -p verification --test survival slots::fifty -- --ignored --nocapture`
#[test]
#[ignore = "by hand, in release: it measures"]
fn fifty_segments_in_turn_are_as_quick_as_one() {
    let time = |handlers: &[Handler], operation: &mut dyn FnMut(&Handler)| {
        let mut best = f64::MAX;
        for _ in 0..20 {
            let begun = std::time::Instant::now();
            for _ in 0..50_000 / handlers.len() {
                handlers.iter().for_each(&mut *operation);
            }
            best = best.min(begun.elapsed().as_nanos() as f64 / 50_000.0);
        }
        best
    };
    let mut buffer = [7; 64];
    let mut pair = |handler: &Handler| handler.free_raw(handler.allocate_raw(64).expect("room")).expect("live");
    let mut mix = |handler: &Handler| use_it(handler, &mut buffer);
    // Which lines share a set of the processor's cache is chance: each time other segments, at other addresses.
    let print = |name: &str, operation: &mut dyn FnMut(&Handler)| {
        let (mut all_ratios, mut all_times) = (vec![], [f64::MAX; 4]);
        for _ in 0..15 {
            let all = segments(50);
            let times = [1, 5, 16, 50].map(|count| time(&all[..count], operation));
            all_ratios.push(times[3] / times[0]);
            (0..4).for_each(|at| all_times[at] = all_times[at].min(times[at]));
        }
        all_ratios.sort_by(f64::total_cmp);
        let [one, five, sixteen, fifty] = all_times;
        println!(
            "{name}: one {one:.1} ns, in turn five {five:.1} ns, sixteen {sixteen:.1} ns, fifty {fifty:.1} ns: {:.2} \
                (median of 15 ratios {:.2})",
            fifty / one,
            all_ratios[7]
        );
    };
    print("a pair", &mut pair);
    print("a mix", &mut mix);
}
