//! Gathers what is in a segment.

use crate::args::State;
use crate::target::Found;
use crate::{Failure, args};
use atomic_matrix::handlers::{BlockInfo, KEPT, Participant, Stats};
use atomic_matrix::ipc::ReadOnly;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Looks at a segment that changes meanwhile, before what looks like damage is believed.
const LOOKS: u32 = 10;
pub(crate) const BETWEEN: Duration = Duration::from_millis(20);

/// Repeats a look that found damage: what an operation in flight explains is gone at the next one.
pub(crate) fn patiently<T>(tries: u32, look: impl Fn() -> atomic_matrix::Result<T>) -> atomic_matrix::Result<T> {
    for _ in 1..tries {
        if let Ok(seen) = look() {
            return Ok(seen);
        }
        std::thread::sleep(BETWEEN);
    }
    look()
}

/// Stats of a segment that may be under load.
pub(crate) fn stats(looker: &ReadOnly) -> atomic_matrix::Result<Stats> {
    patiently(LOOKS, || looker.stats())
}

/// All blocks of a segment that may be under load, through `see` into a fresh `T` at each try.
pub(crate) fn fold<T: Default>(looker: &ReadOnly, see: impl Fn(&mut T, BlockInfo)) -> Result<T, Failure> {
    let seen = patiently(LOOKS, || {
        let mut seen = T::default();
        looker.blocks(|block| see(&mut seen, block))?;
        Ok(seen)
    });
    seen.map_err(Failure::of)
}

/// Blocks and their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
    }
    pub(crate) fn json(self) -> Value {
        json!({ "blocks": self.blocks, "bytes": self.bytes })
    }
}

/// What one participant has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Holding {
    pub(crate) live: Amount,
    pub(crate) parked: Amount,
    pub(crate) in_flight: Amount,
}

impl Holding {
    fn json(self) -> Value {
        json!({ "live": self.live.json(), "parked": self.parked.json(), "in_flight": self.in_flight.json() })
    }
}

/// A segment at one moment.
pub(crate) struct Sight {
    pub(crate) stats: Stats,
    pub(crate) participants: Vec<Participant>,
    /// By participant number, 0 for nobody.
    pub(crate) holdings: BTreeMap<u16, Holding>,
    /// Free blocks by the smallest size of their class.
    pub(crate) free_by_class: BTreeMap<u64, Amount>,
}

#[derive(Default)]
struct Walked {
    holdings: BTreeMap<u16, Holding>,
    free_by_class: BTreeMap<u64, Amount>,
}

impl Sight {
    pub(crate) fn of(looker: &ReadOnly) -> Result<Self, Failure> {
        let stats = stats(looker).map_err(Failure::of)?;
        let walked = fold(looker, |walked: &mut Walked, block| {
            let state = State::of(block.state);
            if state == State::Free {
                return walked.free_by_class.entry(block.class_bytes).or_default().add(block.bytes);
            }
            let holding = walked.holdings.entry(block.owner).or_default();
            match state {
                State::Parked => holding.parked.add(block.bytes),
                State::InFlight => holding.in_flight.add(block.bytes),
                _ => holding.live.add(block.bytes),
            }
        })?;
        let Walked { holdings, free_by_class } = walked;
        Ok(Self { stats, participants: looker.participants(), holdings, free_by_class })
    }

    pub(crate) fn amount(&self, state: State) -> Amount {
        amount(&self.stats, state)
    }

    pub(crate) fn json(&self) -> Value {
        let s = &self.stats;
        let holder = |number: u16| self.holdings.get(&number).copied().unwrap_or_default().json();
        let participants: Vec<Value> = self
            .participants
            .iter()
            .map(|p| {
                let mut value = participant_json(p);
                value["holds"] = holder(p.number);
                value
            })
            .collect();
        let classes: Vec<Value> = self
            .free_by_class
            .iter()
            .map(|(class, amount)| json!({ "class_bytes": class, "blocks": amount.blocks, "bytes": amount.bytes }))
            .collect();
        json!({
            "sector_bytes": s.sector_bytes,
            "granule_bytes": s.granule_bytes,
            "live": self.amount(State::Live).json(),
            "free": self.amount(State::Free).json(),
            "parked": self.amount(State::Parked).json(),
            "in_flight": self.amount(State::InFlight).json(),
            "largest_free": s.largest_free,
            "fragmentation": s.fragmentation,
            "entropy_bits": s.entropy_bits,
            "missed_merges": s.missed_merges,
            "free_by_class": classes,
            "participants": participants,
            "nobody_holds": holder(0),
            "kept_from_the_dead": holder(KEPT),
        })
    }
}

pub(crate) fn amount(s: &Stats, state: State) -> Amount {
    let (blocks, bytes) = match state {
        args::State::Live => (s.live_blocks, s.live_bytes),
        args::State::Free => (s.free_blocks, s.free_bytes),
        args::State::Parked => (s.parked_blocks, s.parked_bytes),
        args::State::InFlight => (s.in_flight_blocks, s.in_flight_bytes),
    };
    Amount { blocks, bytes }
}

/// How many blocks there are.
pub(crate) fn blocks(stats: &Stats) -> u64 {
    State::ALL.into_iter().map(|state| amount(stats, state).blocks).sum()
}

fn participant_json(p: &Participant) -> Value {
    json!({ "number": p.number, "pid": p.pid, "alive": p.alive, "recovered_by": p.recovered_by })
}

/// "2 alive", "1 alive, 1 dead".
pub(crate) fn alive_and_dead(participants: &[Participant]) -> (u64, u64) {
    let alive = participants.iter().filter(|p| p.alive).count() as u64;
    (alive, participants.len() as u64 - alive)
}

/// What a segment is, apart from its content.
pub(crate) fn identity(found: &Found, looker: &ReadOnly) -> Value {
    let info = looker.info();
    let owner = std::fs::symlink_metadata(&found.path).ok().map(|meta| meta.uid());
    json!({
        "id": looker.id().to_string(),
        "path": found.path.to_string_lossy(),
        "bytes": info.bytes,
        "owner": owner,
        "strict": info.strict,
        "participant_slots": info.participants,
        "offset_unit": info.offset_unit,
    })
}

/// One object of both.
pub(crate) fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}
