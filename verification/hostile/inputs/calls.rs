//! What is done with a hostile segment: attach, verify, and a bounded mix of every call there is.
//!
//! Nothing may crash, run for ever, or touch a byte outside the mapping, whatever the file holds; attaching and looking
//! changes nothing; an error says what is wrong.

use super::Memory;
use super::file::{NAMES, Segment};
use arbitrary::Arbitrary;
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions, Policy, RelativePtr};
use atomic_matrix::{Error, Result, Shared};
use rustix::mm::{MapFlags, ProtFlags};
use std::alloc::Layout;

/// Calls that one input makes at most.
const CALLS: usize = 64;

/// A segment file and what is done with it.
#[derive(Debug, Arbitrary)]
pub(crate) struct Case {
    segment: Segment,
    calls: Vec<Call>,
}

/// One call.
#[derive(Debug, Arbitrary)]
enum Call {
    Allocate(u32),
    Granules(u8),
    Typed(Type),
    Aligned {
        size: u16,
        log: u8,
    },
    Free(u8),
    FreeAt(Offset),
    Resolve(Offset),
    Usable(Offset),
    State(Offset),
    Get(Type, Offset),
    Adopt {
        offset: Offset,
        generation: Option<u8>,
    },
    HandOver(u8),
    Store {
        which: u8,
        bytes: u16,
    },
    Load {
        which: u8,
        bytes: u16,
    },
    Publish {
        name: u8,
        of: Type,
        offset: Offset,
    },
    Lookup(Type, u8),
    Take(Type, u8),
    Withdraw(u8),
    Heal,
    Reap {
        keep: bool,
    },
    Look,
    /// Another attachment makes the calls from here on, or the first one again.
    Other,
    /// The attachment leaves, and another comes.
    Again,
}

/// A type that blocks are asked for.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Type {
    Byte,
    Words,
    Page,
}

/// An offset.
#[derive(Debug, Arbitrary)]
enum Offset {
    /// Of a block that a call gave.
    Block(u8),
    /// Of a granule.
    Granule(u16),
    Any(u32),
}

type Words = [u64; 5];
type Page = [[u64; 256]; 2];

/// How far an input got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The file was refused.
    Refused,
    /// It was attached to, and so many calls were made.
    Attached(usize),
}

impl Case {
    /// Makes the file and plays the calls on it.
    pub(crate) fn play(&self, memory: &Memory) -> Reached {
        let bytes = self.segment.bytes();
        memory.put(&bytes);
        let options = memory.options();
        if let Some(looking) = accepted(options.inspect()) {
            look(&looking);
        }
        assert!(memory.get() == bytes, "C2: looking changed the file");
        let Some(first) = accepted(options.attach()) else { return Reached::Refused };
        let mut player = Player { _guard: Guard::behind(&first), handlers: vec![first], at: 0, held: vec![] };
        for call in self.calls.iter().take(CALLS) {
            player.make(call, memory);
        }
        player.finish();
        Reached::Attached(self.calls.len().min(CALLS))
    }
}

/// The value, or none after a look at the error's message.
pub(super) fn accepted<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            let tells = match &error {
                // Which granule, or how many.
                Error::Corrupt { what } => what.contains("granule") || what.contains(|c: char| c.is_ascii_digit()),
                _ => true,
            };
            assert!(tells && message.len() > 20, "C2: {message:?} does not say what is wrong");
            None
        }
    }
}

/// All calls that write nothing.
pub(super) fn look(handler: &Handler) {
    accepted(handler.stats());
    accepted(handler.verify());
    let mut blocks = 0;
    let walked = handler.blocks(|info| {
        blocks += 1;
        let _ = handler.state_at(info.offset);
        if blocks <= 100 {
            let _ = (handler.usable_size_at(info.offset), handler.resolve_at(info.offset));
            let _ = handler.get_block::<Words>(info.offset).and_then(|block| handler.load(&block));
        }
    });
    accepted(walked);
    let layout = handler.matrix().heap().layout();
    assert!(blocks <= layout.granules, "C2: more blocks than granules");
    // Every offset at which a block could begin, and some at which none can.
    for g in 0..u64::from(layout.granules).min(200) + 2 {
        let from = layout.sector + (g << layout.params.granule_shift);
        if let Ok(bytes) = handler.usable_size_at((from / handler.offset_unit() as u64) as u32) {
            assert!(from + bytes as u64 <= layout.bytes(), "C2: a block of {bytes} bytes at {from} leads outside");
        }
    }
    assert!(handler.participants().len() <= handler.matrix().heap().layout().params.participants);
}

/// Every call that only looks, those included that finish what another has begun to publish.
fn look_up(handler: &Handler) {
    look(handler);
    for name in NAMES {
        accepted(handler.lookup::<Words>(name).and_then(|block| handler.load(&block)));
    }
}

/// A page behind a mapping that nobody may touch, where the kernel has one to give.
pub(super) struct Guard(Option<*mut core::ffi::c_void>);

const PAGE: usize = 4096;

impl Guard {
    pub(super) fn behind(handler: &Handler) -> Self {
        let segment = handler.matrix().segment();
        let end = segment.base().as_ptr().wrapping_add(segment.len().next_multiple_of(PAGE)).cast();
        // SAFETY: a fresh mapping; NOREPLACE leaves whatever is there alone.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(end, PAGE, ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE)
        };
        Self(mapped.ok())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(page) = self.0 {
            // SAFETY: mapped above, and nobody has a pointer to it.
            unsafe { rustix::mm::munmap(page, PAGE) }.expect("it was mapped");
        }
    }
}

struct Player {
    _guard: Guard,
    handlers: Vec<Handler>,
    at: usize,
    held: Vec<RelativePtr<u8>>,
}

impl Player {
    fn handler(&self) -> &Handler {
        &self.handlers[self.at]
    }

    fn pick(&self, which: u8) -> Option<RelativePtr<u8>> {
        let i = usize::from(which).checked_rem(self.held.len())?;
        Some(self.held[i])
    }

    fn offset(&self, offset: &Offset) -> u32 {
        let layout = self.handler().matrix().heap().layout();
        match *offset {
            Offset::Block(which) => self.pick(which).map_or(0, |pointer| pointer.offset()),
            Offset::Granule(g) => (layout.sector + (u64::from(g) << layout.params.granule_shift)) as u32,
            Offset::Any(offset) => offset,
        }
    }

    fn keep(&mut self, pointer: Option<RelativePtr<u8>>) {
        if let Some(pointer) = pointer {
            self.in_sector(pointer.offset(), 1);
            self.held.push(pointer);
        }
    }

    /// Whatever a call gives lies in the sector.
    fn in_sector(&self, offset: u32, bytes: usize) {
        let h = self.handler();
        let layout = h.matrix().heap().layout();
        let from = u64::from(offset) * h.offset_unit() as u64;
        assert!(from >= layout.sector && from + bytes as u64 <= layout.bytes(), "C2: offset {offset} leads outside");
    }

    fn typed<T: Shared>(&mut self, block: Result<Block<T>>) {
        if let Some(mut block) = accepted(block) {
            self.in_sector(block.offset(), size_of::<T>());
            let h = self.handler();
            if let Some(value) = accepted(h.load(&block)) {
                accepted(h.store(&mut block, value));
            }
            self.held.push(block.pointer().cast());
        }
    }

    fn make(&mut self, call: &Call, memory: &Memory) {
        let h = self.handler().clone();
        match call {
            Call::Allocate(size) => {
                let pointer = accepted(h.allocate_raw(*size as usize));
                self.keep(pointer);
            }
            Call::Granules(n) => {
                let granule = h.matrix().heap().layout().params.granule();
                let pointer = accepted(h.allocate_raw(usize::from(*n) * granule));
                self.keep(pointer);
            }
            Call::Typed(Type::Byte) => self.typed(h.allocate::<u8>()),
            Call::Typed(Type::Words) => self.typed(h.allocate::<Words>()),
            Call::Typed(Type::Page) => self.typed(h.allocate::<Page>()),
            Call::Aligned { size, log } => {
                if let Ok(layout) = Layout::from_size_align(usize::from(*size), 1 << (log % 14)) {
                    let pointer = accepted(h.allocate_layout(layout));
                    self.keep(pointer);
                }
            }
            Call::Free(which) => {
                if let Some(pointer) = self.pick(*which) {
                    accepted(h.free_raw(pointer));
                }
            }
            Call::FreeAt(offset) => {
                accepted(h.free_at(self.offset(offset)));
            }
            Call::Resolve(offset) => {
                let offset = self.offset(offset);
                if accepted(h.resolve_at(offset)).is_some() {
                    self.in_sector(offset, 1);
                }
            }
            Call::Usable(offset) => {
                let offset = self.offset(offset);
                if let Some(bytes) = accepted(h.usable_size_at(offset)) {
                    self.in_sector(offset, bytes);
                }
            }
            Call::State(offset) => {
                accepted(h.state_at(self.offset(offset)));
            }
            Call::Get(Type::Byte, offset) => self.typed(h.get_block::<u8>(self.offset(offset))),
            Call::Get(Type::Words, offset) => self.typed(h.get_block::<Words>(self.offset(offset))),
            Call::Get(Type::Page, offset) => self.typed(h.get_block::<Page>(self.offset(offset))),
            Call::Adopt { offset, generation } => {
                let pointer = accepted(h.adopt_at(self.offset(offset), generation.map(u32::from)));
                self.keep(pointer);
            }
            Call::HandOver(which) => {
                if let Some(pointer) = self.pick(*which) {
                    accepted(h.hand_over(&pointer));
                }
            }
            Call::Store { which, bytes } => {
                if let Some(pointer) = self.pick(*which) {
                    accepted(h.store_bytes(&pointer, &vec![0xA5; usize::from(*bytes)]));
                }
            }
            Call::Load { which, bytes } => {
                if let Some(pointer) = self.pick(*which) {
                    accepted(h.load_bytes(&pointer, &mut vec![0; usize::from(*bytes)]));
                }
            }
            Call::Publish { name, of, offset } => {
                let (name, offset) = (NAMES[usize::from(*name) % NAMES.len()], self.offset(offset));
                accepted(match of {
                    Type::Byte => h.get_block::<u8>(offset).and_then(|block| h.publish(name, &block)),
                    Type::Words => h.get_block::<Words>(offset).and_then(|block| h.publish(name, &block)),
                    Type::Page => h.get_block::<Page>(offset).and_then(|block| h.publish(name, &block)),
                });
            }
            Call::Lookup(of, name) => {
                let name = NAMES[usize::from(*name) % NAMES.len()];
                match of {
                    Type::Byte => self.typed(h.lookup::<u8>(name)),
                    Type::Words => self.typed(h.lookup::<Words>(name)),
                    Type::Page => self.typed(h.lookup::<Page>(name)),
                }
            }
            Call::Take(of, name) => {
                let name = NAMES[usize::from(*name) % NAMES.len()];
                match of {
                    Type::Byte => self.typed(h.take::<u8>(name)),
                    Type::Words => self.typed(h.take::<Words>(name)),
                    Type::Page => self.typed(h.take::<Page>(name)),
                }
            }
            Call::Withdraw(name) => {
                accepted(h.withdraw(NAMES[usize::from(*name) % NAMES.len()]));
            }
            Call::Heal => {
                accepted(h.heal());
            }
            Call::Reap { keep } => {
                accepted(h.reap_with(if *keep { Policy::Keep } else { Policy::GiveBack }));
            }
            Call::Look => look_up(&h),
            Call::Other => {
                if self.handlers.len() < 2 {
                    self.handlers.extend(accepted(memory.options().attach()));
                }
                self.at = (self.at + 1) % self.handlers.len();
            }
            Call::Again => {
                drop(h);
                if let Some(other) = accepted(memory.options().attach()) {
                    self.handlers[self.at] = other;
                }
            }
        }
    }

    fn finish(self) {
        let h = self.handler();
        look_up(h);
        accepted(h.heal());
        look_up(h);
    }
}
