//! A segment's whole life on the watched thread, stage by stage, beside a peer whose calls are not watched.

use crate::common::{MIB, die};
use atomic_matrix::handlers::{Block, BlockState, Handler, HandlerFunctions, RelativePtr};
use atomic_matrix::segment::Options;
use atomic_matrix::{Error, Result};
use std::sync::mpsc::{Receiver, Sender, channel};

/// How the segment is made and found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A file that gets its name when it is ready.
    Usual,
    /// A file that has its name first, with a group, and its pages in memory.
    NamedFirst,
    /// A memory file, attached by its descriptor.
    Memory,
    /// A file that has lost its name.
    Rejoined,
    /// Where much is missing already: see [`Way::missing`].
    Poor,
}

pub(crate) const WAYS: [Way; 5] = [Way::Usual, Way::NamedFirst, Way::Memory, Way::Rejoined, Way::Poor];

impl Way {
    /// Calls that are always refused: no space can be reserved, no random number drawn, no barrier made.
    pub(crate) fn missing(self) -> &'static [(libc::c_long, i32)] {
        match self {
            Self::Poor => &[
                (libc::SYS_fallocate, libc::EOPNOTSUPP),
                (libc::SYS_getrandom, libc::ENOSYS),
                (libc::SYS_membarrier, libc::ENOSYS),
            ],
            _ => &[],
        }
    }
}

/// What the watched thread met.
#[derive(Default)]
pub(crate) struct Met {
    /// Errors, with the call of this crate that gave each.
    pub(crate) errors: Vec<(&'static str, Error)>,
    /// What is wrong.
    pub(crate) faults: Vec<String>,
}

impl Met {
    /// One call. Where a refusal comes once, the same call made again must work.
    fn attempt<T>(&mut self, what: &'static str, once: bool, mut call: impl FnMut() -> Result<T>) -> Option<T> {
        let first = match call() {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        self.errors.push((what, first));
        if !once {
            return None;
        }
        match call() {
            Ok(done) => Some(done),
            Err(second) => {
                self.faults.push(format!("{what} does not work when it is tried again: {second}"));
                None
            }
        }
    }

    fn check(&mut self, sound: bool, what: impl FnOnce() -> String) {
        if !sound {
            self.faults.push(what());
        }
    }
}

/// What the peer is asked to do; it answers when it is done.
pub(crate) enum Ask {
    /// Attach, take a block of 256 bytes, and park others of all sizes.
    Come,
    /// Attach once more, take blocks, and die with them.
    Die,
    /// Say what is wrong with the segment now that the others have left it, and leave.
    Leave,
}

/// A thread that nobody watches, attached to the same segment.
pub(crate) struct Peer {
    asks: Sender<Ask>,
    answers: Receiver<(u32, Option<String>)>,
}

impl Peer {
    pub(crate) fn start(options: Options) -> Self {
        let ((asks, asked), (answer, answers)) = (channel(), channel());
        std::thread::spawn(move || {
            let mut here = None;
            for ask in asked {
                let told = match ask {
                    Ask::Come => {
                        let handler = options.attach().expect("nobody refuses the peer anything");
                        let kept = handler.allocate_raw(256).expect("room").offset();
                        let parked: Vec<_> = (1..60).filter_map(|n| handler.allocate_raw(n * 16).ok()).collect();
                        parked.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
                        here = Some(handler);
                        (kept, None)
                    }
                    Ask::Die => {
                        let handler = options.attach().expect("nobody refuses the peer anything");
                        for size in [100, 5000, 70_000] {
                            let _ = handler.allocate_raw(size).expect("room");
                        }
                        die(handler);
                        (0, None)
                    }
                    Ask::Leave => (0, here.take().and_then(|handler| unsound(&handler))),
                };
                if answer.send(told).is_err() {
                    return;
                }
            }
        });
        Self { asks, answers }
    }

    fn ask(&self, ask: Ask) -> (u32, Option<String>) {
        self.asks.send(ask).expect("the peer lives");
        self.answers.recv().expect("the peer lives")
    }
}

/// What is live can be freed, and then no byte is missing.
fn unsound(handler: &Handler) -> Option<String> {
    let whole = || {
        let mut live = vec![];
        handler.blocks(|block| live.extend((block.state == BlockState::Allocated).then_some(block.offset)))?;
        handler.reap()?;
        live.into_iter()
            .filter(|&offset| handler.usable_size_at(offset).is_ok())
            .try_for_each(|at| handler.free_at(at))?;
        handler.heal()?;
        handler.verify()
    };
    match whole() {
        Ok(stats) if (stats.free_blocks, stats.free_bytes) == (1, stats.sector_bytes) => None,
        Ok(stats) => Some(format!("afterwards bytes are missing: {stats:?}")),
        Err(error) => Some(format!("afterwards: {error}")),
    }
}

/// Plays the life. `once`: a refusal comes once.
pub(crate) fn play(way: Way, options: &Options, peer: &Peer, once: bool) -> Met {
    let mut met = Met::default();
    let Some(first) = met.attempt("create", once, || options.create()) else { return met };
    if way == Way::Memory {
        memory_file(&mut met, &first, once);
        return met;
    }
    if way == Way::Rejoined {
        rejoin(&mut met, options, first, once);
        return met;
    }
    let (adopted, _) = peer.ask(Ask::Come);
    peer.ask(Ask::Die);
    let second = met.attempt("attach", once, || options.attach());
    let handler = second.as_ref().unwrap_or(&first);
    let blocks = work(&mut met, handler, once);
    names(&mut met, handler, once);
    let ours = met.attempt("adopt", once, || handler.adopt_at(adopted, None));
    if let Some(block) = ours {
        met.attempt("free what was adopted", once, || handler.free_raw(block));
    }
    heal(&mut met, handler, once);
    recover(&mut met, handler, peer, once);
    for block in blocks {
        met.attempt("free", once, || handler.free_raw(block));
    }
    met.attempt("unlink", once, || first.unlink());
    drop((first, second));
    if let Some(fault) = peer.ask(Ask::Leave).1 {
        met.faults.push(fault);
    }
    met
}

/// First call, and steady work: every size, aligned ones, freed in another order than allocated; what is not
/// freed is returned.
fn work(met: &mut Met, handler: &Handler, once: bool) -> Vec<RelativePtr<u8>> {
    let Some(block) = met.attempt("first call", once, || handler.allocate_raw(100)) else { return vec![] };
    let mut blocks = vec![block];
    for size in (16..600).step_by(48).chain([4000, 30_000]) {
        blocks.extend(met.attempt("allocate", once, || handler.allocate_raw(size)));
    }
    let layout = std::alloc::Layout::from_size_align(1000, 4096).expect("a layout");
    blocks.extend(met.attempt("allocate aligned", once, || handler.allocate_layout(layout)));
    while blocks.len() > 5 {
        let block = blocks.swap_remove(blocks.len() / 2);
        met.attempt("free", once, || handler.free_raw(block));
    }
    blocks
}

fn names(met: &mut Met, handler: &Handler, once: bool) {
    let Some(block) = met.attempt("allocate typed", once, || handler.allocate::<u64>()) else { return };
    let published = met.attempt("publish", once, || handler.publish("name", &block));
    if published.is_none() {
        met.attempt("free what was not published", once, || handler.free_raw(block.pointer().cast()));
        return;
    }
    let found = met.attempt("look up", once, || handler.lookup::<u64>("name"));
    met.check(found.is_some_and(|found: Block<u64>| found.offset() == block.offset()), || "another block".into());
    if let Some(taken) = met.attempt("take", once, || handler.take::<u64>("name")) {
        met.attempt("free typed", once, || handler.free_raw(taken.pointer().cast()));
    }
}

fn heal(met: &mut Met, handler: &Handler, once: bool) {
    if met.attempt("heal", once, || handler.heal()).is_some() {
        let stats = handler.stats().expect("sound");
        met.check(stats.parked_blocks == 0 && stats.missed_merges == 0, || {
            format!("heal says that it is done, and leaves {stats:?}")
        });
    }
}

/// What the dead held comes back: at once, or as soon as nobody refuses anything any more.
fn recover(met: &mut Met, handler: &Handler, peer: &Peer, once: bool) {
    peer.ask(Ask::Die);
    if let Some(recovered) = met.attempt("reap", once, || handler.reap()) {
        let dead = handler.participants().iter().any(|participant| !participant.alive);
        met.check(!dead || recovered.open_adoptions > 0, || format!("{recovered:?}, and there are dead"));
    }
}

fn memory_file(met: &mut Met, first: &Handler, once: bool) {
    let fd = || first.matrix().segment().fd().try_clone_to_owned();
    let attach = || Options::from_sealed_fd(fd().map_err(|e| io("duplicate the descriptor", e))?).attach();
    if let Some(second) = met.attempt("attach by descriptor", once, attach) {
        work(met, &second, once);
    }
    heal(met, first, once);
}

fn rejoin(met: &mut Met, options: &Options, first: Handler, once: bool) {
    let removed = met.attempt("unlink", once, || first.unlink());
    let second = met.attempt("rejoin", once, || options.clone().rejoin(true).open_or_create());
    if let (Some(second), Some(())) = (second, removed)
        && once
    {
        met.check(second.creation() == first.creation(), || NOT_FOUND.to_owned());
    }
}

/// Of a segment that has lost its name.
pub(crate) const NOT_FOUND: &str = "the segment in use was not found";

/// This test's own call.
fn io(what: &str, source: std::io::Error) -> Error {
    Error::Io { what: format!("{what} with fcntl(2) in this test"), source }
}

/// The segment's size: small, so that a run is short.
pub(crate) const BYTES: usize = MIB;
