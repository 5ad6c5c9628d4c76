//! The loom backend: words of the model checker, with run-time switches for modes, mutants and weakened orderings.
//!
//! All threads of a model run on one thread of the operating system, so that thread-local [`Setting`]s reach all of
//! them and no other model.
#![allow(clippy::disallowed_types, reason = "this folder is where raw atomics live")]

use super::orderings::OWN_STORE;
use super::{Backend, Mutant, Site, Word};
use loom::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How a model is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setting {
    /// Every load is a read-modify-write, every store a swap: all interleavings, no weak memory.
    pub all_rmw: bool,
    /// A deliberate fault.
    pub mutant: Option<Mutant>,
    /// The indices of sites and the orderings that they have instead of their own.
    pub weakened: [Option<(usize, Ordering)>; 2],
    /// The indices of sites in front of which others have their turn. The checker itself, with weak memory, lets
    /// nobody in between a store and a load or a fence that follows.
    pub points: [Option<usize>; 3],
}

thread_local! {
    static SETTING: std::cell::Cell<Setting> = const { std::cell::Cell::new(Setting::PLAIN) };
}

loom::lazy_static! {
    /// What every access at one of [`Setting::points`] changes, so that the checker tries them in each order.
    static ref POINT: AtomicU64 = AtomicU64::new(0);
}

/// In front of an access at a site.
fn point(site: &Site) {
    let Setting { all_rmw, points, .. } = SETTING.get();
    if !all_rmw && points.contains(&Some(site.index)) {
        POINT.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often a site was passed since [`Passes::reset`], over all threads of the models that this thread ran:
/// what tells a model that took the path it is about from one that passed without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passes {
    /// Loads.
    pub loads: u64,
    /// Stores and read-modify-writes that changed the word; fences.
    pub changes: u64,
    /// Compare-and-swaps that found another value: somebody was quicker.
    pub refusals: u64,
}

/// Sites that are counted: more than [`TABLE`](super::orderings::TABLE) has.
const COUNTED: usize = 128;

thread_local! {
    static PASSES: [std::cell::Cell<Passes>; COUNTED] =
        const { [const { std::cell::Cell::new(Passes { loads: 0, changes: 0, refusals: 0 }) }; COUNTED] };
}

impl Passes {
    /// Forgets what was counted on this thread.
    pub fn reset() {
        PASSES.with(|all| all.iter().for_each(|one| one.set(Self::default())));
    }
    /// What was counted at a site.
    pub fn of(site: &Site) -> Self {
        PASSES.with(|all| all[site.index].get())
    }
    fn note(site: &Site, count: impl FnOnce(&mut Self)) {
        PASSES.with(|all| {
            let mut passes = all[site.index].get();
            count(&mut passes);
            all[site.index].set(passes);
        });
    }
    fn changed(site: &Site) {
        Self::note(site, |passes| passes.changes += 1);
    }
}

impl Setting {
    const PLAIN: Self = Self { all_rmw: false, mutant: None, weakened: [None; 2], points: [None; 3] };

    /// Makes it hold for the models that this thread runs from now on.
    pub fn set(self) {
        SETTING.set(self);
    }
    /// What holds for this thread.
    pub fn get() -> Self {
        SETTING.get()
    }
}

/// The orderings one step weaker than `order`.
pub const fn weaker(order: Ordering) -> &'static [Ordering] {
    match order {
        Ordering::SeqCst => &[Ordering::AcqRel],
        Ordering::AcqRel => &[Ordering::Acquire, Ordering::Release],
        Ordering::Acquire | Ordering::Release => &[Ordering::Relaxed],
        _ => &[],
    }
}

/// The orderings of success and failure at a site under this thread's setting.
fn orders(site: &Site) -> (Ordering, Ordering) {
    match SETTING.get().weakened.into_iter().flatten().find(|(index, _)| *index == site.index) {
        Some((_, order)) => {
            let fail = match order {
                Ordering::AcqRel | Ordering::Acquire => Ordering::Acquire,
                _ => Ordering::Relaxed,
            };
            (order, fail)
        }
        _ => (site.order, site.fail),
    }
}

/// The loom model checker's atomics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loom;

/// A word of [`Loom`], and who sleeps on it, if anybody ever does.
#[derive(Debug)]
pub struct LoomWord(AtomicU64, OnceLock<Waiters>);

/// Who sleeps on a word. The lock stands for the kernel's, under which it looks at the word.
#[derive(Debug)]
struct Waiters {
    asleep: loom::sync::Mutex<usize>,
    woken: loom::sync::Condvar,
    /// Those who sleep on others as well. Only accessed under the lock.
    on_several: std::sync::Mutex<Vec<Arc<Several>>>,
}

/// One that sleeps on several words: whether it was woken.
#[derive(Debug)]
struct Several {
    woken: loom::sync::Mutex<bool>,
    call: loom::sync::Condvar,
}

impl Waiters {
    /// Those who sleep on others as well, for whom the caller has the lock.
    fn on_several(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Several>>> {
        self.on_several.lock().expect("no thread panics under the lock")
    }
}

impl LoomWord {
    #[track_caller]
    fn sleepers(&self) -> &Waiters {
        self.1.get_or_init(|| Waiters {
            asleep: loom::sync::Mutex::new(0),
            woken: loom::sync::Condvar::new(),
            on_several: std::sync::Mutex::default(),
        })
    }
}

impl LoomWord {
    /// The kernel's look, under the lock.
    #[track_caller]
    fn peek(&self) -> u64 {
        if SETTING.get().all_rmw { self.0.fetch_add(0, Ordering::AcqRel) } else { self.0.load(Ordering::Relaxed) }
    }
}

impl Word for LoomWord {
    #[track_caller]
    fn load(&self, site: &'static Site) -> u64 {
        Passes::note(site, |passes| passes.loads += 1);
        point(site);
        if SETTING.get().all_rmw { self.0.fetch_add(0, Ordering::AcqRel) } else { self.0.load(orders(site).0) }
    }
    #[track_caller]
    fn store(&self, value: u64, site: &'static Site) {
        Passes::changed(site);
        if SETTING.get().all_rmw {
            self.0.swap(value, Ordering::AcqRel);
        } else if site.index == OWN_STORE.index {
            // The checker can lose a plain store that races a read-modify-write (it orders the latter behind
            // it and lets it read an older value). No other site stores where somebody else may compare and
            // swap.
            self.0.swap(value, orders(site).0);
        } else {
            self.0.store(value, orders(site).0);
        }
    }
    #[track_caller]
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        point(site);
        let (order, fail) = match SETTING.get().all_rmw {
            true => (Ordering::AcqRel, Ordering::Acquire),
            false => orders(site),
        };
        // The checker's own failing compare-and-swap always reads the newest value; a processor's may read an
        // older one.
        let found = if SETTING.get().all_rmw { old } else { self.0.load(fail) };
        let result = if found == old { self.0.compare_exchange(old, new, order, fail) } else { Err(found) };
        Passes::note(site, |passes| *if result.is_ok() { &mut passes.changes } else { &mut passes.refusals } += 1);
        result
    }
    #[track_caller]
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        Passes::changed(site);
        self.0.fetch_or(bits, orders(site).0)
    }
    #[track_caller]
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        Passes::changed(site);
        self.0.fetch_and(bits, orders(site).0)
    }
    #[track_caller]
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        Passes::changed(site);
        self.0.fetch_add(n, orders(site).0)
    }
}

/// The stand-in for a granule's payload: two accesses of which neither happens before the other fail the model.
#[derive(Debug)]
pub struct LoomCell(loom::cell::UnsafeCell<u64>);

// SAFETY: the checker runs all its threads on one thread of the operating system, and fails the model at the
// first access that races another one.
unsafe impl Send for LoomCell {}
// SAFETY: the checker runs all its threads on one thread of the operating system, and fails the model where
// accesses race.
unsafe impl Sync for LoomCell {}

impl Backend for Loom {
    type Word = LoomWord;
    type Cell = LoomCell;

    #[track_caller]
    fn word(value: u64) -> LoomWord {
        if SETTING.get().points != [None; 3] {
            // By the thread that begins, so that no other learns anything from it.
            let _: &AtomicU64 = &POINT;
        }
        LoomWord(AtomicU64::new(value), OnceLock::new())
    }
    #[track_caller]
    fn cell() -> LoomCell {
        LoomCell(loom::cell::UnsafeCell::new(0))
    }
    #[track_caller]
    fn touch(cell: &LoomCell) {
        cell.0.with_mut(|at| {
            // SAFETY: `with_mut` hands out the cell's own address, and has failed the model if anybody else uses it.
            unsafe { *at = at.read().wrapping_add(1) }
        });
    }
    #[track_caller]
    fn fence(site: &'static Site) {
        Passes::changed(site);
        point(site);
        match orders(site).0 {
            // A weakened one: there is no such fence.
            Ordering::Relaxed => {}
            order => loom::sync::atomic::fence(order),
        }
    }
    fn pause() {
        loom::thread::yield_now();
    }
    #[track_caller]
    fn wait(word: &LoomWord, expected: u64, _at_most: Duration) -> bool {
        let sleepers = word.sleepers();
        let mut asleep = sleepers.asleep.lock().expect("no thread panics under the lock");
        if word.peek() as u32 == expected as u32 {
            *asleep += 1;
            drop(sleepers.woken.wait(asleep));
        }
        false
    }
    // Word by word, each look and falling asleep under that word's lock, as the kernel does it.
    #[track_caller]
    fn wait_any(words: &[(&LoomWord, u64)], _at_most: Duration) -> bool {
        let me = Arc::new(Several { woken: loom::sync::Mutex::new(false), call: loom::sync::Condvar::new() });
        let falls_asleep = words.iter().all(|(word, expected)| {
            let sleepers = word.sleepers();
            let _lock = sleepers.asleep.lock().expect("no thread panics under the lock");
            let asleep = word.peek() as u32 == *expected as u32;
            if asleep {
                sleepers.on_several().push(Arc::clone(&me));
            }
            asleep
        });
        if falls_asleep {
            let mut woken = me.woken.lock().expect("no thread panics under the lock");
            while !*woken {
                woken = me.call.wait(woken).expect("no thread panics under the lock");
            }
        }
        for (word, _) in words {
            let sleepers = word.sleepers();
            let _lock = sleepers.asleep.lock().expect("no thread panics under the lock");
            sleepers.on_several().retain(|other| !Arc::ptr_eq(other, &me));
        }
        false
    }
    // Those who sleep on several first: they are the ones who may have use for another word's call.
    #[track_caller]
    fn wake(word: &LoomWord, most: u32) -> usize {
        let sleepers = word.sleepers();
        let mut asleep = sleepers.asleep.lock().expect("no thread panics under the lock");
        let called: Vec<_> = {
            let mut on_several = sleepers.on_several();
            let called = on_several.len().min(most as usize);
            on_several.drain(..called).collect()
        };
        for one in &called {
            *one.woken.lock().expect("no thread panics under the lock") = true;
            one.call.notify_one();
        }
        let woken = (*asleep).min(most as usize - called.len());
        *asleep -= woken;
        (0..woken).for_each(|_| sleepers.woken.notify_one());
        called.len() + woken
    }
    fn mutated(mutant: Mutant) -> bool {
        SETTING.get().mutant == Some(mutant)
    }
}
