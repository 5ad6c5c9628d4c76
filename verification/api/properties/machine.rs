//! The state machine: operations, and how one steps both sides.

use crate::common::{Scratch, check, fill, rest_is_one_block};
use crate::reference::Reference;
use atomic_matrix::handlers::{BlockState, Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::segment::Options;
use atomic_matrix::{Error, Shared, shared};
use proptest::prelude::*;
use std::alloc::Layout;
use std::collections::BTreeMap;

shared! {
    #[derive(Debug)]
    pub(crate) struct Record { key: u64, value: [u32; 60] }
}

/// Handlers attached to the segment: each has its own cache and parks its own blocks.
const HANDLERS: usize = 3;
/// Alignments are powers of two up to 4096.
const ALIGNMENTS: u32 = 13;

/// A segment to run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    granule: usize,
    /// Granules of the sector, about.
    granules: usize,
    strict: bool,
}

pub(crate) fn setups(strict: bool) -> impl Strategy<Value = Setup> {
    let granule = prop::sample::select(vec![16, 64, 256, 4096]);
    let granules = prop_oneof![1usize..8, 40usize..80, 100usize..700];
    (granule, granules).prop_map(move |(granule, granules)| Setup { granule, granules, strict })
}

/// How large a block is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    /// So many granules, less so many bytes.
    Granules(usize, usize),
    /// So many thousandths of the sector; 1000 is all of it.
    Share(usize),
    /// The largest hole that there is, less so many granules.
    Hole(usize),
}

fn sizes() -> impl Strategy<Value = Size> {
    prop_oneof![
        4 => (1usize..=40, 0usize..4).prop_map(|(granules, less)| Size::Granules(granules, less)),
        1 => (1usize..=1000).prop_map(Size::Share),
        1 => (0usize..3).prop_map(Size::Hole),
    ]
}

/// The types of typed blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Byte,
    Words,
    Record,
}

/// How a block is freed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    Pointer,
    Offset,
    Typed,
}

/// One operation of handler `.0`; blocks and names are picked modulo what there is.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Allocate(usize, Size, u32),
    AllocateTyped(usize, Type),
    Free(usize, usize, How),
    /// Through a pointer to a block that is gone.
    FreeAgain(usize, usize),
    /// At any offset.
    FreeForged(usize, u32),
    /// At a granule inside a live block, so many bytes off.
    FreeInside(usize, usize, usize),
    View(usize, usize, Type),
    Publish(usize, usize, usize),
    Lookup(usize, usize, Type),
    Withdraw(usize, usize),
    Heal(usize),
    /// Allocates blocks of this size until no more fits.
    Exhaust(usize, Size),
    /// Frees all but each fifth block.
    FreeMost(usize),
    /// Makes a live block the handler's own.
    Adopt(usize, usize),
    /// Makes a live block unowned; through a pointer to one that is gone, nothing.
    HandOver(usize, usize),
    /// Takes the block published under a name.
    Take(usize, usize, Type),
    /// Writes and reads bytes, from the start, at most as many as there are.
    Bytes(usize, usize, usize),
    /// Walks the blocks.
    Blocks(usize),
    /// Recovers the dead, of whom there are none.
    Reap(usize),
    /// Lets the handler go and attaches another.
    Reattach(usize),
}

pub(crate) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let by = 0..HANDLERS;
    let which = any::<u16>().prop_map(usize::from);
    let name = 0usize..4;
    let types = prop::sample::select(vec![Type::Byte, Type::Words, Type::Record]);
    let how = prop::sample::select(vec![How::Pointer, How::Offset, How::Typed]);
    let align = prop_oneof![3 => Just(0u32), 1 => 0..ALIGNMENTS];
    let op = prop_oneof![
        12 => (by.clone(), sizes(), align).prop_map(|(by, size, align)| Op::Allocate(by, size, align)),
        4 => (by.clone(), types.clone()).prop_map(|(by, kind)| Op::AllocateTyped(by, kind)),
        14 => (by.clone(), which.clone(), how).prop_map(|(by, block, how)| Op::Free(by, block, how)),
        2 => (by.clone(), which.clone()).prop_map(|(by, block)| Op::FreeAgain(by, block)),
        1 => (by.clone(), prop_oneof![any::<u32>(), 0u32..1 << 17]).prop_map(|(by, at)| Op::FreeForged(by, at)),
        1 => (by.clone(), which.clone(), 0usize..3).prop_map(|(by, block, off)| Op::FreeInside(by, block, off)),
        2 => (by.clone(), which.clone(), types.clone()).prop_map(|(by, block, kind)| Op::View(by, block, kind)),
        4 => (by.clone(), which, name.clone()).prop_map(|(by, block, name)| Op::Publish(by, block, name)),
        1 => (by.clone(), name.clone(), types).prop_map(|(by, name, kind)| Op::Lookup(by, name, kind)),
        1 => (by.clone(), name).prop_map(|(by, name)| Op::Withdraw(by, name)),
        1 => by.clone().prop_map(Op::Heal),
        1 => (by.clone(), sizes()).prop_map(|(by, size)| Op::Exhaust(by, size)),
        1 => by.clone().prop_map(Op::FreeMost),
        1 => (by.clone(), any::<u16>()).prop_map(|(by, block)| Op::Adopt(by, block as usize)),
        1 => (by.clone(), any::<u16>()).prop_map(|(by, block)| Op::HandOver(by, block as usize)),
        4 => (by.clone(), 0usize..4, prop::sample::select(vec![Type::Byte, Type::Words, Type::Record]))
            .prop_map(|(by, name, kind)| Op::Take(by, name, kind)),
        1 => (by.clone(), any::<u16>(), 0usize..300).prop_map(|(by, block, n)| Op::Bytes(by, block as usize, n)),
        1 => by.clone().prop_map(Op::Blocks),
        1 => by.clone().prop_map(Op::Reap),
        1 => by.prop_map(Op::Reattach),
    ];
    prop::collection::vec(op, 1..150)
}

type Outcome = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => { if !$holds { return Err(format!($($what)*)); } };
}

/// A live block as the user knows it.
struct Live {
    pointer: RelativePtr<u8>,
    at: u64,
    usable: usize,
    seed: u64,
    kind: Option<Type>,
    /// The handler that it belongs to, or nobody.
    owner: Option<usize>,
}

/// A name's block when it was published.
struct Named {
    pointer: RelativePtr<u8>,
    kind: Option<Type>,
}

struct Machine {
    handlers: Vec<Handler>,
    reference: Reference,
    sector: u64,
    granule: u64,
    blocks: Vec<Live>,
    gone: Vec<RelativePtr<u8>>,
    names: BTreeMap<usize, Named>,
    serial: u64,
    /// What each handler was told of free memory when it was last refused.
    told: [Option<(u64, u64)>; HANDLERS],
}

/// Runs the operations on a fresh segment, checks after each, then frees everything and checks what is left.
pub(crate) fn run(setup: Setup, ops: &[Op]) -> Outcome {
    let scratch = Scratch::new();
    let mut machine = Machine::new(&scratch, setup)?;
    for (i, op) in ops.iter().enumerate() {
        let done = machine.step(op).and_then(|()| machine.agree());
        done.map_err(|what| format!("operation {i}, {op:?}: {what}"))?;
    }
    machine.finish()
}

impl Machine {
    fn new(scratch: &Scratch, Setup { granule, granules, strict }: Setup) -> Result<Self, String> {
        let options = Options::new().granule(granule).participants(HANDLERS).strict(strict);
        let Err(Error::SegmentTooSmall { minimum, .. }) = options.clone().size(1).create() else {
            return Err("a segment of one byte".to_owned());
        };
        let size = minimum as usize + (granules - 1) * (granule + 9);
        let first = options.size(size).id(scratch.0).create().map_err(|e| e.to_string())?;
        let handlers: Vec<_> = std::iter::once(first).chain((1..HANDLERS).map(|_| scratch.attach())).collect();
        let layout = handlers[0].matrix().heap().layout();
        let (start, granule) = (layout.sector, granule as u64);
        let sector = layout.granules as u64 * granule;
        let reference = Reference::new(start, sector, granule);
        let (blocks, gone, names) = Default::default();
        Ok(Self { handlers, reference, sector, granule, blocks, gone, names, serial: 0, told: [None; HANDLERS] })
    }

    fn bytes(&self, size: Size) -> u64 {
        let bytes = match size {
            Size::Granules(granules, less) => granules as u64 * self.granule - less as u64,
            Size::Share(thousandths) => self.sector * thousandths as u64 / 1000,
            Size::Hole(less) => self.reference.largest_hole().saturating_sub(less as u64 * self.granule),
        };
        bytes.clamp(1, self.sector)
    }

    fn at(&self, pointer: &RelativePtr<u8>) -> u64 {
        pointer.offset() as u64 * self.handlers[0].offset_unit() as u64
    }

    fn pick(&self, which: usize) -> Option<usize> {
        (!self.blocks.is_empty()).then(|| which % self.blocks.len())
    }

    fn step(&mut self, op: &Op) -> Outcome {
        match *op {
            Op::Allocate(by, size, align) => self.allocate(by, self.bytes(size), 1 << align).map(drop),
            Op::AllocateTyped(by, Type::Byte) => self.allocate_typed::<u8>(by, Type::Byte),
            Op::AllocateTyped(by, Type::Words) => self.allocate_typed::<[u64; 11]>(by, Type::Words),
            Op::AllocateTyped(by, Type::Record) => self.allocate_typed::<Record>(by, Type::Record),
            Op::Free(by, block, how) => match self.pick(block) {
                Some(i) => self.free(by, i, how),
                None => Ok(()),
            },
            Op::FreeAgain(by, which) => self.free_again(by, which),
            Op::FreeForged(by, offset) => self.free_forged(by, offset),
            Op::FreeInside(by, which, off) => match self.pick(which) {
                Some(i) if self.blocks[i].usable as u64 > self.granule => {
                    self.free_forged(by, (self.blocks[i].at + self.granule) as u32 + off as u32)
                }
                _ => Ok(()),
            },
            Op::View(by, which, kind) => match self.pick(which) {
                Some(i) => self.view(by, i, kind),
                None => Ok(()),
            },
            Op::Publish(by, which, name) => self.publish(by, which, name),
            Op::Lookup(by, name, kind) => self.lookup(by, name, kind),
            Op::Withdraw(by, name) => {
                let outcome = self.handlers[by].withdraw(&format!("name {name}"));
                match (self.names.remove(&name), outcome) {
                    (Some(_), Ok(())) | (None, Err(Error::NameUnknown { .. })) => Ok(()),
                    (_, outcome) => Err(format!("{outcome:?}")),
                }
            }
            Op::Heal(by) => self.heal(by),
            Op::Exhaust(by, size) => {
                let bytes = self.bytes(size);
                while self.allocate(by, bytes, 1)? {}
                Ok(())
            }
            Op::Adopt(by, which) => match self.pick(which) {
                Some(i) => {
                    let pointer = self.blocks[i].pointer;
                    self.handlers[by].adopt_at(pointer.offset(), None).map_err(|e| e.to_string())?;
                    self.blocks[i].owner = Some(by);
                    self.handlers[by].usable_size(&pointer).map(drop).map_err(|e| format!("after adoption: {e}"))
                }
                None => Ok(()),
            },
            Op::HandOver(by, which) => {
                if let Some(pointer) = which.checked_rem(self.gone.len()).map(|i| self.gone[i]) {
                    let outcome = self.handlers[by].hand_over(&pointer);
                    let refused = matches!(outcome, Err(Error::Stale { .. } | Error::NotLive { .. }));
                    ensure!(refused, "S5: {pointer:?}: {outcome:?}");
                }
                match self.pick(which) {
                    Some(i) => {
                        self.blocks[i].owner = None;
                        self.handlers[by].hand_over(&self.blocks[i].pointer).map_err(|e| e.to_string())
                    }
                    None => Ok(()),
                }
            }
            Op::Take(by, name, kind) => self.take(by, name, kind),
            Op::Bytes(by, which, count) => match self.pick(which) {
                Some(i) => self.bytes_survive(by, i, count),
                None => Ok(()),
            },
            Op::Blocks(by) => self.walk(by),
            Op::Reap(by) => {
                let recovered = self.handlers[by].reap().map_err(|e| e.to_string())?;
                ensure!(recovered == Default::default(), "nobody is dead: {recovered:?}");
                Ok(())
            }
            Op::Reattach(by) => {
                self.handlers.remove(by);
                // It left in good order.
                self.blocks.iter_mut().filter(|block| block.owner == Some(by)).for_each(|block| block.owner = None);
                let options = Options::new().id(self.handlers[0].id());
                self.handlers.insert(by, options.attach().map_err(|e| e.to_string())?);
                Ok(())
            }
            Op::FreeMost(by) => {
                while let Some(i) = self.blocks.iter().position(|block| !block.seed.is_multiple_of(5)) {
                    self.free(by, i, How::Pointer)?;
                }
                Ok(())
            }
        }
    }

    /// False if the heap was full, and rightly so.
    fn allocate(&mut self, by: usize, size: u64, align: usize) -> Result<bool, String> {
        let layout = Layout::from_size_align(size as usize, align).map_err(|e| e.to_string())?;
        let answer = match align {
            1 => self.handlers[by].allocate_raw(size as usize),
            _ => self.handlers[by].allocate_layout(layout),
        };
        self.answered(by, size, align as u64, None, answer)
    }

    fn allocate_typed<T: Shared>(&mut self, by: usize, kind: Type) -> Outcome {
        let size = size_of::<T>() as u64;
        if size > self.sector {
            return Ok(());
        }
        let answer = self.handlers[by].allocate::<T>().map(|block| block.pointer().cast());
        self.answered(by, size, align_of::<T>() as u64, Some(kind), answer).map(drop)
    }

    fn answered(
        &mut self,
        by: usize,
        size: u64,
        align: u64,
        kind: Option<Type>,
        answer: Result<RelativePtr<u8>, Error>,
    ) -> Result<bool, String> {
        match answer {
            Ok(pointer) => {
                let usable = self.handlers[by].usable_size(&pointer).map_err(|e| e.to_string())?;
                let at = self.at(&pointer);
                self.reference.allocated(at, usable as u64, size, align)?;
                let address = self.handlers[by].resolve(&pointer).addr() as u64;
                ensure!(address.is_multiple_of(align), "the address {address:#x} is not a multiple of {align}");
                self.serial += 1;
                fill(&self.handlers[by], &pointer, usable, self.serial);
                self.blocks.push(Live { pointer, at, usable, seed: self.serial, kind, owner: Some(by) });
                Ok(true)
            }
            Err(Error::OutOfMemory { requested, free, largest }) => {
                let holes = self.reference.holes();
                ensure!(self.reference.may_refuse(size, align), "L2: no {size} bytes at {align} in {holes:?}");
                // Exactly what is free; or no less, where it was told before: of that, some may have been taken since.
                let (told, before) = ((free, largest), self.told[by].replace((free, largest)));
                let known = (self.reference.free_bytes(), self.reference.largest_hole());
                let again = before.is_some() && free >= known.0 && largest >= known.1;
                ensure!(requested == size, "OutOfMemory says {requested}, asked for {size}");
                ensure!(told == known || again, "OutOfMemory says {told:?}, expected {known:?}, before {before:?}");
                Ok(false)
            }
            Err(other) => Err(other.to_string()),
        }
    }

    fn free(&mut self, by: usize, i: usize, how: How) -> Outcome {
        let handler = &self.handlers[by];
        let block = self.blocks.swap_remove(i);
        check(handler, &block.pointer, block.usable, block.seed);
        let offset = block.pointer.offset();
        let freed = match (how, block.kind) {
            (How::Pointer, _) | (How::Typed, None) => handler.free_raw(block.pointer),
            (How::Offset, _) => handler.free_at(offset),
            (How::Typed, Some(Type::Byte)) => handler.get_block::<u8>(offset).and_then(|b| handler.try_free(b)),
            (How::Typed, Some(Type::Words)) => handler.get_block::<[u64; 11]>(offset).and_then(|b| handler.ack(b)),
            (How::Typed, Some(Type::Record)) => handler.get_block::<Record>(offset).map(|b| handler.free(b)),
        };
        freed.map_err(|e| format!("a live block was refused: {e}"))?;
        ensure!(self.reference.freed(block.at), "the reference does not know {}", block.at);
        self.gone.push(block.pointer);
        Ok(())
    }

    fn free_again(&mut self, by: usize, which: usize) -> Outcome {
        let Some(pointer) = which.checked_rem(self.gone.len()).map(|i| self.gone[i]) else { return Ok(()) };
        let reused = self.reference.is_live(self.at(&pointer));
        match (self.handlers[by].free_raw(pointer), reused) {
            (Err(Error::Stale { .. }), true) | (Err(Error::NotLive { .. }), false) => Ok(()),
            (outcome, reused) => Err(format!("S5: {pointer:?}, reused: {reused}: {outcome:?}")),
        }
    }

    fn free_forged(&mut self, by: usize, offset: u32) -> Outcome {
        let at = offset as u64 * self.handlers[0].offset_unit() as u64;
        if self.reference.is_live(at) {
            return Ok(());
        }
        let handler = &self.handlers[by];
        for outcome in [handler.free_at(offset), handler.resolve_at(offset).map(drop)] {
            let refused = matches!(outcome, Err(Error::NotLive { .. } | Error::BadOffset { .. }));
            ensure!(refused, "S5: offset {offset}: {outcome:?}");
        }
        Ok(())
    }

    fn view(&self, by: usize, i: usize, kind: Type) -> Outcome {
        let block = &self.blocks[i];
        let seen = self.get(by, block.pointer.offset(), kind);
        match (block.kind == Some(kind), seen) {
            (true, Ok(pointer)) if pointer == block.pointer => Ok(()),
            (false, Err(Error::TypeMismatch { .. })) => Ok(()),
            (_, seen) => Err(format!("a block of {:?}: {seen:?}", block.kind)),
        }
    }

    fn get(&self, by: usize, offset: u32, kind: Type) -> Result<RelativePtr<u8>, Error> {
        let handler = &self.handlers[by];
        match kind {
            Type::Byte => handler.get_block::<u8>(offset).map(|b| b.pointer()),
            Type::Words => handler.get_block::<[u64; 11]>(offset).map(|b| b.pointer().cast()),
            Type::Record => handler.get_block::<Record>(offset).map(|b| b.pointer().cast()),
        }
    }

    fn publish(&mut self, by: usize, which: usize, name: usize) -> Outcome {
        let typed: Vec<_> = self.blocks.iter().filter(|block| block.kind.is_some()).collect();
        let Some(block) = which.checked_rem(typed.len()).map(|i| typed[i]) else { return Ok(()) };
        let handler = &self.handlers[by];
        let (offset, text) = (block.pointer.offset(), format!("name {name}"));
        let outcome = match block.kind {
            Some(Type::Byte) => handler.get_block::<u8>(offset).and_then(|b| handler.publish(&text, &b)),
            Some(Type::Words) => handler.get_block::<[u64; 11]>(offset).and_then(|b| handler.publish(&text, &b)),
            _ => handler.get_block::<Record>(offset).and_then(|b| handler.publish(&text, &b)),
        };
        match (self.names.contains_key(&name), outcome) {
            (true, Err(Error::NameTaken { .. })) => Ok(()),
            (false, Ok(())) => {
                let pointer = block.pointer;
                self.names.insert(name, Named { pointer, kind: block.kind });
                self.blocks.iter_mut().filter(|block| block.pointer == pointer).for_each(|block| block.owner = None);
                Ok(())
            }
            (taken, outcome) => Err(format!("taken: {taken}: {outcome:?}")),
        }
    }

    fn lookup(&self, by: usize, name: usize, kind: Type) -> Outcome {
        let (handler, text) = (&self.handlers[by], format!("name {name}"));
        let outcome = match kind {
            Type::Byte => handler.lookup::<u8>(&text).map(|b| b.pointer()),
            Type::Words => handler.lookup::<[u64; 11]>(&text).map(|b| b.pointer().cast()),
            Type::Record => handler.lookup::<Record>(&text).map(|b| b.pointer().cast()),
        };
        let Some(named) = self.names.get(&name) else {
            ensure!(matches!(outcome, Err(Error::NameUnknown { .. })), "nothing is published: {outcome:?}");
            return Ok(());
        };
        let live = self.blocks.iter().any(|block| block.pointer == named.pointer);
        let right = match &outcome {
            Ok(pointer) => live && *pointer == named.pointer && named.kind == Some(kind),
            Err(Error::TypeMismatch { .. }) => !live || named.kind != Some(kind),
            Err(Error::NotLive { .. } | Error::Stale { .. }) => !live,
            Err(_) => false,
        };
        ensure!(right, "published as {:?}, live: {live}: {outcome:?}", named.kind);
        Ok(())
    }

    /// A name's block is to be had once, by its type, while it is live and unowned.
    fn take(&mut self, by: usize, name: usize, kind: Type) -> Outcome {
        let (handler, text) = (&self.handlers[by], format!("name {name}"));
        let outcome = match kind {
            Type::Byte => handler.take::<u8>(&text).map(|b| b.pointer()),
            Type::Words => handler.take::<[u64; 11]>(&text).map(|b| b.pointer().cast()),
            Type::Record => handler.take::<Record>(&text).map(|b| b.pointer().cast()),
        };
        let Some(named) = self.names.get(&name) else {
            ensure!(matches!(outcome, Err(Error::NameUnknown { .. })), "nothing is published: {outcome:?}");
            return Ok(());
        };
        let block = self.blocks.iter_mut().find(|block| block.pointer == named.pointer);
        let (live, owner) = (block.is_some(), block.as_ref().and_then(|block| block.owner));
        let right = match &outcome {
            Ok(pointer) => live && owner.is_none() && *pointer == named.pointer && named.kind == Some(kind),
            // Somebody has adopted it since, or it was published twice and taken once.
            Err(Error::NameUnknown { .. }) => owner.is_some() && named.kind == Some(kind),
            Err(Error::TypeMismatch { .. }) => !live || named.kind != Some(kind),
            Err(Error::NotLive { .. } | Error::Stale { .. }) => !live,
            Err(_) => false,
        };
        ensure!(right, "published as {:?}, live: {live}: {outcome:?}", named.kind);
        if outcome.is_ok() {
            block.into_iter().for_each(|block| block.owner = Some(by));
            self.names.remove(&name);
            // Once only.
            let again = handler.lookup::<u8>(&text).map(|b| b.pointer());
            ensure!(matches!(again, Err(Error::NameUnknown { .. })), "taken, and still published: {again:?}");
        }
        Ok(())
    }

    fn bytes_survive(&self, by: usize, i: usize, count: usize) -> Outcome {
        let (handler, block) = (&self.handlers[by], &self.blocks[i]);
        let bytes: Vec<u8> = (0..count).map(|n| n as u8 ^ 0x5A).collect();
        let mut read = vec![0; count];
        if count > block.usable {
            let outcomes = [handler.store_bytes(&block.pointer, &bytes), handler.load_bytes(&block.pointer, &mut read)];
            ensure!(outcomes.iter().all(|o| matches!(o, Err(Error::TooSmall { .. }))), "{outcomes:?}");
            return Ok(());
        }
        handler.store_bytes(&block.pointer, &bytes).map_err(|e| e.to_string())?;
        handler.load_bytes(&block.pointer, &mut read).map_err(|e| e.to_string())?;
        fill(handler, &block.pointer, block.usable, block.seed);
        ensure!(read == bytes, "{count} bytes were not what had been written");
        Ok(())
    }

    /// S4: the blocks cover the sector, one after the other, and the live ones are those that the user knows.
    fn walk(&self, by: usize) -> Outcome {
        let (mut end, mut gap, mut live) = (0, false, vec![]);
        let visited = self.handlers[by].blocks(|info| {
            gap |= info.position != end;
            end = info.position + info.bytes;
            if matches!(info.state, BlockState::Allocated | BlockState::Typed | BlockState::TypedSmall) {
                live.push((info.offset, info.generation, info.bytes as usize));
            }
        });
        visited.map_err(|e| e.to_string())?;
        ensure!(!gap && end == self.sector, "S4: a gap, or {end} of {} bytes", self.sector);
        let mut known: Vec<_> =
            self.blocks.iter().map(|b| (b.pointer.offset(), b.pointer.generation(), b.usable)).collect();
        known.sort_unstable();
        ensure!(live == known, "live blocks {live:?}, expected {known:?}");
        Ok(())
    }

    /// L3: everything not live is merged.
    fn heal(&mut self, by: usize) -> Outcome {
        self.handlers[by].heal().map_err(|e| e.to_string())?;
        let stats = self.handlers[by].stats().map_err(|e| e.to_string())?;
        let healed = (stats.free_blocks, stats.largest_free, stats.parked_blocks);
        let expected = (self.reference.holes().len() as u64, self.reference.largest_hole(), 0);
        ensure!(healed == expected, "L3: healed to {healed:?}, expected {expected:?}");
        Ok(())
    }

    /// What must hold between any two operations.
    fn agree(&self) -> Outcome {
        let stats = self.handlers[0].verify().map_err(|e| e.to_string())?;
        let live = (stats.live_blocks, stats.live_bytes);
        let known = (self.reference.live_blocks(), self.reference.live_bytes());
        ensure!(live == known, "live blocks and bytes: {live:?}, expected {known:?}");
        let rest = stats.free_bytes + stats.parked_bytes;
        ensure!(rest == self.reference.free_bytes() && stats.in_flight_blocks == 0, "S4: {stats:?}");
        Ok(())
    }

    fn finish(mut self) -> Outcome {
        while let Some(last) = self.blocks.len().checked_sub(1) {
            self.free(last % HANDLERS, last, How::Pointer)?;
        }
        self.agree()?;
        self.handlers.iter().for_each(rest_is_one_block);
        Ok(())
    }
}
