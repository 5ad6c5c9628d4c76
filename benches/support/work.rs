//! The workloads, for any peer.

use super::control::{Control, Patience, SLOTS, Side};
use super::mixes::Number;
use super::peers::Peer;
use super::{Arena, Outcome, Work};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What one worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Mix,
    Ping,
    Produce,
    Consume,
    /// The endurance mix.
    Seed,
    /// Another mix of sizes.
    Wide(Number),
    /// A hand-over of blocks of so many bytes.
    Send(u32),
    Receive(u32),
    /// The first use of fresh memory.
    First,
}

impl Role {
    /// What the peer gets for it.
    pub(crate) fn arena(self, workers: usize) -> Arena {
        match self {
            Self::Mix | Self::Ping | Self::Produce | Self::Consume | Self::Seed => Arena::SMALL,
            Self::Wide(_) | Self::Send(_) | Self::Receive(_) => Arena::wide(workers),
            Self::First => Arena::FIRST,
        }
    }
}

/// What one worker did.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Operations, pairs or messages; those of a producer are counted by its consumer.
    pub(crate) operations: u64,
    /// Processor time.
    pub(crate) processor: u64,
    /// Requests that the allocator refused; they don't count as operations.
    pub(crate) refused: u64,
}

/// Operations that were done, requests that were refused, and the worker's processor time at the end of its
/// work: what it still holds is freed after that.
#[derive(Debug, Clone, Copy)]
struct Count {
    operations: u64,
    refused: u64,
    processor: u64,
}

impl Count {
    /// The work ends here.
    fn end(operations: u64, refused: u64) -> Self {
        Self { operations, refused, processor: processor() }
    }
}

/// Live blocks that a worker of the mix keeps at most.
const LIVE: usize = 200;
/// The same in the endurance mix.
const QUOTA: usize = 10_000;
const PING: usize = 64;
const MESSAGE: usize = 128;
/// So many messages before it is freed, a receiver tells the allocator of one.
const AHEAD: u32 = 12;
/// Operations between two looks at the stop word.
const BURST: u64 = 64;

/// A fast linear congruential generator; only its high bits are good.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x2545_F491_4F6C_DD1D)
    }
    /// Below `bound`.
    #[inline(always)]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * bound) >> 32
    }
    /// A size of the mix.
    #[inline(always)]
    pub(crate) fn size(&mut self) -> usize {
        32 + self.below(513) as usize
    }
}

/// This thread's processor time, in nanoseconds.
pub(crate) fn processor() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Gives the two sides of a hand-over a core each, as far as there are two. Left alone, the scheduler takes
/// two that wait for each other for one that wakes the other, and may keep them on one core for a whole run.
pub(crate) fn part(role: Role) {
    let side = match role {
        Role::Produce | Role::Send(_) => 0,
        Role::Consume | Role::Receive(_) => 1,
        Role::Mix | Role::Ping | Role::Seed | Role::Wide(_) | Role::First => return,
    };
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    if let (true, Some(core)) = (allowed.count() > 1, cores.nth(side)) {
        let mut own = CpuSet::new();
        own.set(core);
        let _ = sched_setaffinity(None, &own); // The share of the cores tells if it was in vain.
    }
}

/// Waits for the start and works until the stop.
pub(crate) fn run<P: Peer>(peer: &P, control: &Control, role: Role, number: u64) -> Done {
    part(role);
    peer.enter();
    // What a thread's first operation costs (its place at the allocator, pages of its stack) is not the subject.
    if let Some(block) = peer.allocate(PING) {
        peer.free(block, PING);
    }
    if !control.await_start() {
        return Done::default();
    }
    let before = processor();
    let count = match role {
        Role::Mix => mix(peer, control, number),
        Role::Ping => ping(peer, control),
        Role::Produce => produce(peer, control),
        Role::Consume => consume(peer, control),
        Role::Seed => seed(peer, control, number),
        Role::Wide(mix) => wide(peer, control, mix, number),
        Role::Send(size) => send_sized(peer, control, size as usize),
        Role::Receive(size) => receive_sized(peer, control, size as usize),
        Role::First => Count::end(0, 0), // A run of its own way: [`first_use`].
    };
    Done { operations: count.operations, processor: count.processor - before, refused: count.refused }
}

#[inline(never)]
fn mix<P: Peer>(peer: &P, control: &Control, number: u64) -> Count {
    churn(peer, control, LIVE, Random::size, number)
}

/// As the mix, with other sizes and numbers of live blocks.
#[inline(never)]
fn wide<P: Peer>(peer: &P, control: &Control, mix: Number, number: u64) -> Count {
    let mix = mix.mix();
    churn(peer, control, mix.live, |random| mix.size(random), number)
}

/// Allocates seven times of ten, as long as fewer blocks live than may; else frees one of them at random.
#[inline(always)]
fn churn<P: Peer>(peer: &P, control: &Control, most: usize, size: impl Fn(&mut Random) -> usize, number: u64) -> Count {
    let mut random = Random::new(number + 1);
    let mut live: Vec<(P::Block, usize)> = Vec::with_capacity(most);
    let (mut operations, mut refused) = (0, 0);
    while !control.stopped() {
        for _ in 0..BURST {
            if live.len() < most && random.below(10) < 7 {
                let size = size(&mut random);
                let Some(mut block) = peer.allocate(size) else {
                    refused += 1;
                    continue;
                };
                peer.touch(&mut block, operations);
                live.push((block, size));
            } else if !live.is_empty() {
                let (block, size) = live.swap_remove(random.below(live.len() as u64) as usize);
                peer.free(block, size);
            } else {
                continue;
            }
            operations += 1;
        }
    }
    let count = Count::end(operations, refused);
    for (block, size) in live {
        peer.free(block, size);
    }
    count
}

/// The endurance workload: up to 10 000 live blocks, the mix's sizes and shares, nothing touched.
#[inline(never)]
fn seed<P: Peer>(peer: &P, control: &Control, number: u64) -> Count {
    let mut random = Random::new(number + 1);
    let mut live: Vec<(P::Block, usize)> = Vec::with_capacity(QUOTA);
    let (mut operations, mut refused) = (0, 0);
    while !control.stopped() {
        let (mut done, mut payload) = (0, 0);
        for _ in 0..16 * BURST {
            if live.len() < QUOTA && random.below(10) < 7 {
                let size = random.size();
                let Some(block) = peer.allocate(size) else {
                    refused += 1;
                    continue;
                };
                live.push((block, size));
                payload += size as i64;
            } else if !live.is_empty() {
                let (block, size) = live.swap_remove(random.below(live.len() as u64) as usize);
                peer.free(block, size);
                payload -= size as i64;
            } else {
                continue;
            }
            done += 1;
        }
        operations += done;
        control.tell(done, payload);
    }
    let count = Count::end(operations, refused);
    control.rest();
    let held: usize = live.iter().map(|(_, size)| size).sum();
    for (block, size) in live {
        peer.free(block, size);
    }
    control.tell(0, -(held as i64));
    count
}

#[inline(never)]
fn ping<P: Peer>(peer: &P, control: &Control) -> Count {
    let (mut pairs, mut refused) = (0, 0);
    while !control.stopped() {
        for _ in 0..BURST {
            let Some(mut block) = peer.allocate(PING) else {
                refused += 1;
                continue;
            };
            peer.touch(&mut block, pairs);
            peer.free(block, PING);
            pairs += 1;
        }
    }
    Count::end(pairs, refused)
}

#[inline(never)]
fn produce<P: Peer>(peer: &P, control: &Control) -> Count {
    // The consumer counts the messages.
    let refused = match P::WIDE {
        true => send::<P, true, SLOTS>(peer, control, MESSAGE),
        false => send::<P, false, SLOTS>(peer, control, MESSAGE),
    };
    Count::end(0, refused)
}

/// Larger messages than this go through a ring of [`FEW`].
const MANY_UP_TO: usize = 64 << 10;
const FEW: u32 = 64;

/// As [`produce`], with messages of `size` bytes, 64 MiB of which are on their way at most.
#[inline(never)]
fn send_sized<P: Peer>(peer: &P, control: &Control, size: usize) -> Count {
    let refused = match (P::WIDE, size > MANY_UP_TO) {
        (true, false) => send::<P, true, SLOTS>(peer, control, size),
        (false, false) => send::<P, false, SLOTS>(peer, control, size),
        (true, true) => send::<P, true, FEW>(peer, control, size),
        (false, true) => send::<P, false, FEW>(peer, control, size),
    };
    Count::end(0, refused)
}

/// Returns how many requests were refused, each of which was made again.
#[inline(always)]
fn send<P: Peer, const WIDE: bool, const MOST: u32>(peer: &P, control: &Control, size: usize) -> u64 {
    let mut ring = Side::<WIDE, MOST>::new(control);
    let (mut messages, mut refused) = (0, 0);
    while !control.stopped() {
        for _ in 0..BURST {
            let mut patience = Patience::default();
            let mut block = loop {
                match peer.allocate(size) {
                    Some(block) => break block,
                    None if control.stopped() => {
                        ring.end();
                        return refused;
                    }
                    None => {
                        refused += 1;
                        ring.tell();
                        patience.wait();
                    }
                }
            };
            peer.touch(&mut block, messages);
            ring.send(peer.pass(block));
            messages += 1;
        }
    }
    ring.end();
    refused
}

#[inline(never)]
fn consume<P: Peer>(peer: &P, control: &Control) -> Count {
    let operations = match P::WIDE {
        true => receive::<P, true, SLOTS>(peer, control, MESSAGE),
        false => receive::<P, false, SLOTS>(peer, control, MESSAGE),
    };
    Count::end(operations, 0)
}

#[inline(never)]
fn receive_sized<P: Peer>(peer: &P, control: &Control, size: usize) -> Count {
    let operations = match (P::WIDE, size > MANY_UP_TO) {
        (true, false) => receive::<P, true, SLOTS>(peer, control, size),
        (false, false) => receive::<P, false, SLOTS>(peer, control, size),
        (true, true) => receive::<P, true, FEW>(peer, control, size),
        (false, true) => receive::<P, false, FEW>(peer, control, size),
    };
    Count::end(operations, 0)
}

#[inline(always)]
fn receive<P: Peer, const WIDE: bool, const MOST: u32>(peer: &P, control: &Control, size: usize) -> u64 {
    let mut ring = Side::<WIDE, MOST>::new(control);
    let mut messages = 0;
    while let Some(message) = ring.receive() {
        if let Some(later) = ring.later(AHEAD) {
            peer.expect_passed(later);
        }
        peer.free_passed(message, size);
        messages += 1;
    }
    messages
}

/// Blocks of the first use, 1 GiB in all.
const PAGES: u64 = (1 << 30) / PAGE as u64;
const PAGE: usize = 4096;

/// The first use of an allocator: `create` makes it, over fresh memory, then it gives out 1 GiB in blocks of a page,
/// the first bytes of which are touched. An operation is a block.
pub(crate) fn first_use<P: Peer>(create: impl FnOnce() -> Outcome<P>) -> Outcome<Work> {
    let mut blocks = Vec::with_capacity(PAGES as usize);
    let (started, before) = (Instant::now(), processor());
    let peer = create()?;
    peer.enter();
    let mut refused = 0;
    for page in 0..PAGES {
        match peer.allocate(PAGE) {
            Some(mut block) => {
                peer.touch(&mut block, page);
                blocks.push(block);
            }
            None => refused += 1,
        }
    }
    let (window, processor) = (started.elapsed(), processor() - before);
    let operations = blocks.len() as u64;
    blocks.into_iter().for_each(|block| peer.free(block, PAGE));
    Ok(Work { done: vec![Done { operations, processor, refused }], window })
}

/// How full one mix makes an arena.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Filled {
    /// Payload as a share of all bytes that the peer takes, when the first request is refused.
    pub(crate) fresh: f64,
    /// The same after half of it was freed and the rest replaced many times.
    pub(crate) churned: f64,
}

/// How well blocks fill an arena.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Packing {
    /// Payload asked for and given, as a share of all bytes that the peer takes.
    pub(crate) packed: f64,
    /// Whether, everything freed, a block of 90 % of what can become blocks was there at the first try.
    pub(crate) whole: bool,
}

/// Fills until nothing fits (64 sizes in a row don't), frees everything, and asks for one large block.
pub(crate) fn pack<P: Peer>(peer: &P) -> Option<Packing> {
    pack_sizes(peer, 32, 544)
}

/// As [`pack`], with sizes from `least` to `most` bytes.
pub(crate) fn pack_sizes<P: Peer>(peer: &P, least: usize, most: usize) -> Option<Packing> {
    let (all, usable) = peer.arena()?;
    peer.enter();
    let mut random = Random::new(1);
    let mut blocks = vec![];
    let (mut payload, mut refused) = (0, 0);
    while refused < 64 {
        let size = least + random.below((most - least) as u64 + 1) as usize;
        let Some(mut block) = peer.allocate(size) else {
            refused += 1;
            continue;
        };
        peer.touch(&mut block, payload as u64);
        payload += size;
        refused = 0;
        blocks.push((block, size));
    }
    for (block, size) in blocks {
        peer.free(block, size);
    }
    let large = usable / 10 * 9;
    let whole = peer.allocate(large).map(|block| peer.free(block, large)).is_some();
    Some(Packing { packed: payload as f64 / all as f64, whole })
}
