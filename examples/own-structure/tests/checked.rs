//! The stack under the checks. `--features planted` plants a fault in it, which they find.

use atomic_matrix::check::{Names, Scenario, explore};
#[cfg(not(feature = "planted"))]
use atomic_matrix::check::{explore_kills, store_buffers};
use atomic_matrix::memory::Memory;
use own_structure::Stack;

/// A call, and the number to push.
#[derive(Debug, Clone, Copy)]
enum Call {
    Push(u64),
    Pop,
}
use Call::{Pop, Push};

/// Threads that call, over a stack with some numbers.
#[derive(Debug, Clone, Copy)]
struct Calls {
    first: &'static [u64],
    threads: &'static [&'static [Call]],
    /// Whether somebody dies.
    deaths: bool,
}

impl Scenario for Calls {
    type Shared = Stack;
    /// What was pushed, and what was popped.
    type Outcome = Vec<u64>;

    fn threads(&self) -> usize {
        self.threads.len()
    }
    fn granules(&self) -> u32 {
        6
    }
    fn begin<M: Memory>(&self, memory: &M) -> Stack {
        let stack = Stack::new(memory).expect("there is room");
        assert!(self.first.iter().all(|&value| stack.push(memory, value)));
        stack
    }
    fn thread<M: Memory>(&self, number: usize, memory: &M, stack: &Stack) -> Vec<u64> {
        let call = |call: &Call| match *call {
            Push(value) => {
                assert!(stack.push(memory, value), "there is room");
                None
            }
            Pop => stack.pop(memory),
        };
        self.threads[number].iter().filter_map(call).collect()
    }
    /// Each number is popped once; and no block is left but the stack's.
    fn end<M: Memory>(&self, memory: &M, stack: &Stack, popped: &[Option<Vec<u64>>]) {
        let left = std::iter::from_fn(|| stack.pop(memory)).take(20);
        let mut out: Vec<u64> = left.chain(popped.iter().flatten().flatten().copied()).collect();
        out.sort_unstable();
        let pushed = self.threads.iter().flat_map(|calls| calls.iter());
        let pushed = pushed.filter_map(|call| if let Push(value) = call { Some(value) } else { None });
        let mut put: Vec<u64> = self.first.iter().chain(pushed).copied().collect();
        put.sort_unstable();
        assert!(out.windows(2).all(|two| two[0] != two[1]), "popped twice: {out:?}");
        assert!(out.iter().all(|value| put.contains(value)), "popped, and never pushed: {out:?}");
        assert!(self.deaths || out == put, "pushed {put:?}, popped {out:?}");
        assert!(memory.live() <= 1 + u64::from(self.deaths), "{} blocks are left", memory.live());
    }
    /// A head is a node's name and a count.
    fn show(&self, value: u64, names: &Names<'_>) -> String {
        let node = names.block(value & u64::from(u32::MAX));
        match (value >> 32, node) {
            (0, node) => node.unwrap_or_else(|| value.to_string()),
            (count, Some(node)) => format!("{node} (change {count})"),
            (count, None) => format!("nothing (change {count})"),
        }
    }
}

/// One pops while others take what is on top away and put it back.
const POP_BESIDE: Calls = Calls { first: &[1, 2], threads: &[&[Pop], &[Pop, Push(3)], &[Pop]], deaths: false };
#[cfg(not(feature = "planted"))]
const PUSH_AND_POP: Calls = Calls { first: &[], threads: &[&[Push(1), Pop], &[Push(2), Pop]], deaths: false };
#[cfg(not(feature = "planted"))]
const TAKE_ALL: Calls = Calls { first: &[1, 2], threads: &[&[Pop, Pop], &[Push(3), Pop]], deaths: false };
#[cfg(not(feature = "planted"))]
const ALL: [Calls; 3] = [POP_BESIDE, PUSH_AND_POP, TAKE_ALL];

#[test]
#[cfg(not(feature = "planted"))]
fn every_interleaving() {
    for calls in ALL {
        println!("{calls:?}: {:?}", explore(calls, 2).unwrap());
    }
}

#[test]
#[cfg(not(feature = "planted"))]
fn every_death() {
    for calls in ALL {
        println!("{calls:?}: {:?}", explore_kills(Calls { deaths: true, ..calls }, 1).unwrap());
    }
}

#[test]
#[cfg(not(feature = "planted"))]
fn store_buffers_of_x86() {
    for calls in ALL {
        println!("{calls:?}: {:?}", store_buffers(calls, 2000, 1).unwrap());
    }
}

#[test]
#[cfg(feature = "planted")]
fn the_fault_is_found_and_told() {
    let failure = explore(POP_BESIDE, 2).expect_err("a head that comes back is taken for the one from before");
    println!("{failure}");
    assert_eq!(failure.how, "with 2 preemptions");
    // The head of `a` is what it was when thread 0 looked, `c`, but what was below that has gone.
    assert!(failure.steps.iter().any(|step| step == "thread 0 at BELOW reads c[0]: b"), "{failure}");
    assert!(failure.steps.iter().any(|step| step == "thread 0 at SWING changes a[0] from c to b"), "{failure}");
}

#[test]
#[cfg(all(feature = "loom", not(feature = "planted")))]
fn loom() {
    atomic_matrix::check::loom(PUSH_AND_POP, 1);
}

#[test]
#[cfg(all(feature = "shuttle", not(feature = "planted")))]
fn shuttle() {
    ALL.into_iter().for_each(|calls| atomic_matrix::check::shuttle(calls, 2000));
}

/// The same stack in a segment.
#[test]
fn in_a_segment() {
    let handler = atomic_matrix::Options::new().memfd().size(1 << 20).create().expect("a segment");
    // SAFETY: nobody else uses this segment.
    let memory = unsafe { atomic_matrix::memory::Words::new(handler) };
    let stack = Stack::new(&memory).expect("there is room");
    assert!(stack.push(&memory, 7) && stack.push(&memory, 8));
    let other = Stack::at(stack.offset());
    assert_eq!([other.pop(&memory), other.pop(&memory), other.pop(&memory)], [Some(8), Some(7), None]);
    assert_eq!(memory.live(), 1);
}
