//! Calls on names, and on blocks that everybody knows, for histories that must be linearizable.

use super::linear::Span;
use super::sequential::{Call, Id};
use atomic_matrix::backend::Backend;
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::directory::{Directory, NamedBlock, NotPublished};
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::BoxedRegion;
use fastrand::Rng;
use std::sync::Mutex;

pub(crate) const fn id(block: Live) -> Id {
    (block.at.0, block.header.generation())
}

/// One call on a directory of two names, or on blocks that everybody knows.
pub(crate) fn call<B: Backend>(
    heap: &Heap<BoxedRegion<B>>,
    cache: &mut ThreadCache,
    known: &Mutex<Vec<Live>>,
    random: &mut Rng,
) -> Call {
    let directory = Directory(heap.region());
    let name = random.u8(0..2);
    let pick = |random: &mut Rng| {
        let known = known.lock().unwrap();
        (!known.is_empty()).then(|| known[random.usize(0..known.len())])
    };
    match random.u32(0..10) {
        0..3 => {
            let Some(block) = pick(random) else { return Call::Excused };
            let entry = NamedBlock { offset: block.at.0, generation: block.header.generation(), fingerprint: None };
            // What is one's own or unowned may be published.
            let ours = |live: &Live| id(*live) == id(block) && [0, cache.owner()].contains(&live.header.owner());
            let Some(live) = heap.live_at(block.at).ok().filter(ours) else { return Call::Excused };
            match heap.ownership().publish(cache.owner(), &[name], live, entry) {
                Ok(_) => Call::Publish { name, block: id(block), done: true },
                Err(NotPublished::Taken) => Call::Publish { name, block: id(block), done: false },
                // Others may have been filling entries.
                Err(NotPublished::Full) => Call::Excused,
            }
        }
        3..5 => {
            let found = directory.lookup(&[name]).map(|found| (found.block.offset, found.block.generation));
            Call::Lookup { name, found }
        }
        5..7 => {
            let got = directory.lookup(&[name]).and_then(|found| {
                let live = heap.live_at(Granule(found.block.offset)).ok()?;
                let same = live.header.generation() == found.block.generation;
                (same && heap.ownership().take_published(cache.owner(), live, found)).then_some(id(live))
            });
            Call::Take { name, got }
        }
        7 => Call::Withdraw { name, done: directory.withdraw(&[name]) },
        8 => match heap.allocate(cache, random.u32(1..4), 1, Kind::Raw) {
            Ok(block) => {
                known.lock().unwrap().push(block);
                Call::Allocate { block: id(block), size: block.header.size() }
            }
            Err(_) => Call::Excused,
        },
        _ => {
            let Some(block) = pick(random) else { return Call::Excused };
            let freed = heap.free(cache, block.at, Some(block.header.generation()));
            Call::Free { block: id(block), done: freed.is_ok() }
        }
    }
}

/// Answers that are right whatever else is: a take that gets nothing while somebody else is taking or
/// publishing, which are two steps each (the name, and whose the block is).
pub(crate) fn excuse(history: &mut [Span<Call>]) {
    let copy = history.to_vec();
    for span in history {
        let two_steps = |call: Call| matches!(call, Call::Take { .. } | Call::Publish { .. });
        let mut others = copy.iter().filter(|other| other.from != span.from && other.overlaps(span));
        if matches!(span.call, Call::Take { got: None, .. }) && others.any(|other| two_steps(other.call)) {
            span.call = Call::Excused;
        }
    }
}
