//! AtomicMatrix: channels, of many or of one and one, message by message or in batches; topics, whose
//! subscribers hold the publisher up or are told what they have missed; boards; maps.

mod batch;
mod board;
mod ends;
mod fill;
mod map;

pub(crate) use batch::{Batches, SingleBatches};
pub(crate) use board::Boards;
pub(crate) use ends::{Channels, LossyTopics, Singles, Topics};
pub(crate) use fill::fill_up;
pub(crate) use map::Tables;

use crate::Outcome;
use crate::run::Task;
use atomic_matrix::{Handler, Options};

const WAYS: [&str; 2] = ["there", "back"];
const BYTES: usize = 64 << 20;
/// A message of 64 bytes.
type Small = [u64; 8];

/// What all of these are in: a segment. It stays mapped until the process ends, since messages are borrowed of it.
struct Segment {
    handler: &'static Handler,
    size: usize,
    cells: usize,
    readers: usize,
}

impl Segment {
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self::over(Options::new().name(&task.name).size(BYTES).populate(true).create()?, task))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Ok(Self::over(Options::new().name(&task.name).populate(true).attach()?, task))
    }
    fn over(handler: Handler, task: &Task) -> Self {
        let setting = &task.setting;
        let (size, cells, readers) = (setting.size, setting.cells, setting.pairs);
        Self { handler: Box::leak(Box::new(handler)), size, cells, readers }
    }
    /// Bytes in live blocks, behind a recovery.
    fn taken(&self) -> Outcome<u64> {
        self.handler.reap()?;
        Ok(self.handler.stats()?.live_bytes)
    }
    fn is_small(&self) -> bool {
        self.size == size_of::<Small>()
    }
}

/// Removes the segment of a run, if it is there.
pub(crate) fn clean(name: &str) {
    if let Ok(left) = Options::new().name(name).attach() {
        let _ = left.unlink(); // Gone already: fine.
    }
}
