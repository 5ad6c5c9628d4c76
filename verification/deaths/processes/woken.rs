//! Since when something is there that others wait for: words beside those of [`crate::held`], which a kill leaves as they are.
//!
//! Whoever has put something says when, behind its call. If it was killed before it could say that, it had put it before
//! it died, which whoever killed it says. So what a waiter got was there since then; of what nobody has said yet nothing is known.

use crate::held::{Clocks, STAMPS, monotonic};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Who puts something has a number below this.
const LIVES: usize = 512;
/// So many things of each are known at a time.
const KEPT: u64 = 64;
/// Words for each life: when its things were there, when those that it is to get were there, whose it is, and who works for it.
const EACH: usize = 2 * KEPT as usize + 2;
const OWN: usize = EACH - 2;
const WORKS: usize = EACH - 1;
/// Behind them, by the numbers of processes: when each has died.
const DIED: usize = LIVES * EACH;
const PLACES: usize = 512;
pub(crate) const WORDS: usize = DIED + PLACES;
/// Microseconds that a word has, below what says whose they are.
const MICROS: u32 = 40;

/// What a waiter got.
pub(crate) enum Waited {
    /// Something that was there since then.
    There(Duration),
    /// That who was to give it is dead, since then.
    Dead(Duration),
}

/// What a life has put, or is to get.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    From = 0,
    To = 1,
}

/// Whose, and now.
fn stamp(whose: u64) -> u64 {
    whose << MICROS | (monotonic().as_micros() as u64 & ((1 << MICROS) - 1))
}

/// When that was, if it is this one's.
fn read(word: u64, whose: u64) -> Option<Duration> {
    let now = monotonic();
    let ago = (now.as_micros() as u64).wrapping_sub(word) & ((1 << MICROS) - 1);
    let whole = whose & (u64::MAX >> MICROS);
    (word != 0 && word >> MICROS == whole).then(|| now.saturating_sub(Duration::from_micros(ago)))
}

fn place(way: Way, life: usize, k: u64) -> usize {
    assert!(life < LIVES);
    STAMPS + life * EACH + way as usize * KEPT as usize + (k % KEPT) as usize
}

impl Clocks<'_> {
    /// This process begins a life: the one of its number that died before is another.
    pub(crate) fn begins(self, life: u64) {
        let process = std::process::id();
        self.0[STAMPS + DIED + process as usize % PLACES].store(0, SeqCst);
        self.0[STAMPS + life as usize * EACH + OWN].store(process.into(), SeqCst);
    }
    /// This process works at thing `k` for a life.
    pub(crate) fn works_for(self, life: usize, k: u64) {
        assert!(life < LIVES);
        let works = (k + 1) << 32 | u64::from(std::process::id());
        self.0[STAMPS + life * EACH + WORKS].fetch_max(works, SeqCst);
    }
    /// Thing `k` is there now, or was before.
    pub(crate) fn there(self, way: Way, life: usize, k: u64) {
        self.0[place(way, life, k)].store(stamp(k + 1), SeqCst);
    }
    /// A process is dead.
    pub(crate) fn died(self, process: u32) {
        self.0[STAMPS + DIED + process as usize % PLACES].store(stamp(process.into()), SeqCst);
    }
    /// Since when thing `k` is there, as whoever put it has said.
    pub(crate) fn said(self, way: Way, life: usize, k: u64) -> Option<Duration> {
        read(self.0[place(way, life, k)].load(SeqCst), k + 1)
    }
    /// Since when whoever worked for a life at thing `k` is dead.
    pub(crate) fn dead_at(self, life: usize, k: u64) -> Option<Duration> {
        let works = self.0[STAMPS + life * EACH + WORKS].load(SeqCst);
        if works >> 32 == k + 1 { self.dead(works & 0xFFFF_FFFF) } else { None }
    }
    fn dead(self, process: u64) -> Option<Duration> {
        read(self.0[STAMPS + DIED + process as usize % PLACES].load(SeqCst), process)
    }
    /// Since when what a life's own process has put is there.
    pub(crate) fn since(self, life: usize, k: u64) -> Option<Waited> {
        let own = || self.dead(self.0[STAMPS + life * EACH + OWN].load(SeqCst));
        self.said(Way::From, life, k).or_else(own).map(Waited::There)
    }
}
