//! Offsets and generations of any value against a sound heap: what is refused changes nothing, and what is
//! live keeps its bytes (S1, S5).

use arbitrary::Arbitrary;
use atomic_matrix::Error;
use atomic_matrix::handlers::{Handler, RelativePtr};
use atomic_matrix::segment::Options;
use std::collections::BTreeMap;

/// Calls that one input makes at most.
const CALLS: usize = 128;

/// What is done with a fresh heap.
#[derive(Debug, Arbitrary)]
pub(crate) struct Case {
    granule: u8,
    strict: bool,
    calls: Vec<Call>,
}

#[derive(Debug, Arbitrary)]
enum Call {
    Allocate(u16),
    /// A block that the caller holds.
    Free(u8),
    /// A pointer that was freed before.
    FreeStale(u8),
    StoreStale(u8),
    FreeAt(Offset),
    Resolve(Offset),
    Usable(Offset),
    State(Offset),
    Get(Offset),
    Adopt(Offset, Generation),
    HandOver(u8),
    HandOverStale(u8),
    Heal,
}

#[derive(Debug, Arbitrary)]
enum Offset {
    /// Near a live block's, so many bytes off.
    Near(u8, i8),
    /// A granule, so many bytes off.
    Granule(u16, i8),
    Any(u32),
}

#[derive(Debug, Arbitrary)]
enum Generation {
    None,
    /// The block's own, so many off.
    Near(i8),
    Any(u32),
}

/// A live block, as the caller knows it.
struct Mine {
    pointer: RelativePtr<u8>,
    pattern: Vec<u8>,
}

struct Player {
    handler: Handler,
    live: BTreeMap<u32, Mine>,
    stale: Vec<RelativePtr<u8>>,
    made: u8,
}

impl Case {
    /// Plays the calls; gives how many were made.
    pub(crate) fn play(&self) -> usize {
        let granule = [64, 16, 4096][usize::from(self.granule) % 3];
        let options = Options::new().memfd().participants(2).granule(granule).strict(self.strict);
        let handler = options.size(64 << 10).create().expect("memory");
        let mut player = Player { handler, live: BTreeMap::new(), stale: vec![], made: 0 };
        for size in [1, 700, 64, 3000] {
            player.allocate(size);
        }
        for call in self.calls.iter().take(CALLS) {
            player.make(call);
        }
        player.finish();
        self.calls.len().min(CALLS)
    }
}

impl Player {
    fn pick(&self, which: u8) -> Option<u32> {
        let i = usize::from(which).checked_rem(self.live.len())?;
        self.live.keys().nth(i).copied()
    }

    fn stale(&self, which: u8) -> Option<RelativePtr<u8>> {
        Some(self.stale[usize::from(which).checked_rem(self.stale.len())?])
    }

    fn offset(&self, offset: &Offset) -> u32 {
        let layout = self.handler.matrix().heap().layout();
        match *offset {
            Offset::Near(which, off) => self.pick(which).unwrap_or(0).wrapping_add_signed(off.into()),
            Offset::Granule(g, off) => {
                let at = layout.sector as u32 + u32::from(g) * layout.params.granule() as u32;
                at.wrapping_add_signed(off.into())
            }
            Offset::Any(offset) => offset,
        }
    }

    fn allocate(&mut self, size: usize) {
        let Ok(pointer) = self.handler.allocate_raw(size) else { return };
        let usable = self.handler.usable_size(&pointer).expect("live");
        assert!(usable >= size, "S2");
        self.made = self.made.wrapping_add(1);
        let pattern: Vec<u8> = (0..usable).map(|i| (i as u8).wrapping_mul(31) ^ self.made).collect();
        self.handler.store_bytes(&pointer, &pattern).expect("live");
        let before = self.live.insert(pointer.offset(), Mine { pointer, pattern });
        assert!(before.is_none(), "S1: a live block was given again");
    }

    fn freed(&mut self, offset: u32) {
        if let Some(mine) = self.live.remove(&offset) {
            self.stale.push(mine.pointer);
        }
    }

    fn intact(&self, offset: u32, mine: &Mine) {
        let mut found = vec![0; mine.pattern.len()];
        self.handler.load_bytes(&mine.pointer, &mut found).expect("S5: a live block was lost");
        assert!(found == mine.pattern, "S1: the block at {offset} was changed");
    }

    /// A call with an offset that may be anything: it succeeds exactly if a live block begins there.
    fn agrees<T>(&self, offset: u32, result: &Result<T, Error>) {
        let live = self.live.contains_key(&offset);
        match result {
            Ok(_) => assert!(live, "S5: offset {offset} was accepted"),
            Err(Error::NotLive { offset: told, .. } | Error::BadOffset { offset: told, .. }) => {
                assert!(!live && *told == offset, "S5: live block {offset} was refused");
            }
            Err(other) => panic!("S5: {other}"),
        }
    }

    fn make(&mut self, call: &Call) {
        let h = self.handler.clone();
        match call {
            Call::Allocate(size) => self.allocate(usize::from(*size)),
            Call::Free(which) => {
                if let Some(offset) = self.pick(*which) {
                    self.intact(offset, &self.live[&offset]);
                    h.free_raw(self.live[&offset].pointer).expect("live");
                    self.freed(offset);
                }
            }
            Call::FreeStale(which) => {
                if let Some(pointer) = self.stale(*which) {
                    assert!(h.free_raw(pointer).is_err(), "S5: freed twice");
                }
            }
            Call::StoreStale(which) => {
                if let Some(pointer) = self.stale(*which) {
                    assert!(h.store_bytes(&pointer, b"late").is_err() && h.usable_size(&pointer).is_err(), "S5");
                    assert!(h.load_bytes(&pointer, &mut [0; 4]).is_err(), "S5");
                }
            }
            Call::FreeAt(offset) => {
                let offset = self.offset(offset);
                self.agrees(offset, &h.free_at(offset));
                self.freed(offset);
            }
            Call::Resolve(offset) => {
                let offset = self.offset(offset);
                self.agrees(offset, &h.resolve_at(offset));
            }
            Call::Usable(offset) => {
                let offset = self.offset(offset);
                let usable = h.usable_size_at(offset);
                self.agrees(offset, &usable);
                if let Ok(usable) = usable {
                    assert_eq!(usable, self.live[&offset].pattern.len());
                }
            }
            Call::State(offset) => {
                let offset = self.offset(offset);
                if self.live.contains_key(&offset) {
                    assert_eq!(h.state_at(offset).expect("live").name(), "ALLOCATED");
                } else if let Ok(state) = h.state_at(offset) {
                    assert_ne!(state.name(), "ALLOCATED", "S5");
                }
            }
            Call::Get(offset) => {
                let offset = self.offset(offset);
                let refused = h.get_block::<u64>(offset).expect_err("no block is typed");
                let typed = matches!(refused, Error::TypeMismatch { .. });
                assert_eq!(typed, self.live.contains_key(&offset), "S5: {refused}");
            }
            Call::Adopt(offset, generation) => {
                let offset = self.offset(offset);
                let own = self.live.get(&offset).map(|mine| mine.pointer.generation());
                let generation = match *generation {
                    Generation::None => None,
                    Generation::Near(off) => Some(own.unwrap_or(0).wrapping_add_signed(off.into())),
                    Generation::Any(generation) => Some(generation),
                };
                let adopted = h.adopt_at(offset, generation);
                match (own, generation) {
                    (Some(own), Some(asked)) if own != asked => {
                        assert!(matches!(adopted, Err(Error::Stale { found, .. }) if found == own), "S5");
                    }
                    _ => self.agrees(offset, &adopted),
                }
            }
            Call::HandOver(which) => {
                if let Some(offset) = self.pick(*which) {
                    h.hand_over(&self.live[&offset].pointer).expect("live");
                }
            }
            Call::HandOverStale(which) => {
                if let Some(pointer) = self.stale(*which) {
                    assert!(h.hand_over(&pointer).is_err(), "S5");
                }
            }
            Call::Heal => h.heal().expect("a slot"),
        }
    }

    fn finish(self) {
        let bytes: usize = self.live.values().map(|mine| mine.pattern.len()).sum();
        let stats = self.handler.verify().expect("S4: the heap is sound");
        assert_eq!((stats.live_blocks, stats.live_bytes), (self.live.len() as u64, bytes as u64), "S1 S5");
        for (offset, mine) in &self.live {
            self.intact(*offset, mine);
            self.handler.free_raw(mine.pointer).expect("live");
        }
        self.handler.heal().expect("a slot");
        assert_eq!(self.handler.verify().expect("sound").free_blocks, 1, "L3");
    }
}
