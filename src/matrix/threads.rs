//! Which cache a thread has in which matrix: found without a lock, a destructor's flag or a kernel call,
//! however many matrices it uses.
//!
//! Each thread has a *seat*, a small number of its own, and each matrix a table of its threads' caches by
//! their seats. So the way from a matrix to a thread's cache is the same two loads, whichever matrix the
//! thread used before. Threads that come when all seats are taken look through their own list instead, and
//! take the thorough steps.

use super::heap::ThreadCache;
use crate::backend::seats::{self, SEATS};
use std::cell::{Cell, RefCell};
use std::ptr::{NonNull, null_mut};
use std::sync::Weak;

/// A cache, in memory of its own that a forked child finds zeroed.
pub(super) struct CachePage {
    /// The matrix's instance; 0 in a forked child.
    pub(super) instance: u64,
    pub(super) cache: ThreadCache,
}

impl CachePage {
    /// Writes an empty cache where it is to stand: it is larger than some threads' stacks.
    ///
    /// # Safety
    /// The page is valid for writes, aligned, and the caller's alone for `'a`; what stands in it is not used any more.
    pub(super) unsafe fn write<'a>(page: *mut Self, instance: u64, owner: u16, ceiling: usize) -> &'a mut ThreadCache {
        // SAFETY: the caller's; afterwards both fields are written.
        unsafe {
            (&raw mut (*page).instance).write(instance);
            ThreadCache::write(&raw mut (*page).cache, owner, ceiling);
            &mut (*page).cache
        }
    }
}

/// Whose the caches are.
pub(super) trait Keeper {
    /// Its threads' caches.
    fn seats(&self) -> &Seats;
    /// The thread that uses this cache ends.
    fn thread_ends(&self, page: *mut CachePage);
}

/// The seat of a thread that has none: at its place there never is a cache.
const NO_SEAT: u8 = SEATS as u8;
const PLACES: usize = u8::MAX as usize + 1;
const _: () = assert!(SEATS < PLACES && NO_SEAT as usize == SEATS);

type SeatCell = Cell<*mut CachePage>;

/// A matrix's table: the cache of each thread that has a seat; null for none.
pub(super) struct Seats {
    /// Of a matrix of the usual sort; else empty.
    usual: [SeatCell; PLACES],
    /// Of any other; else there is none.
    other: Box<[SeatCell]>,
}

// SAFETY: a place is read and written by the thread alone that has this seat, and what one thread wrote there
// happened before the next one got the seat (backend::seats). The cache that it leads to is that thread's.
unsafe impl Sync for Seats {}
// SAFETY: the table is read and written under the same rule, wherever it was moved to: the pointers belong to no
// thread by themselves.
unsafe impl Send for Seats {}

/// A cache, and its matrix's instance, which is never 0.
#[derive(Clone, Copy)]
struct Last {
    instance: u64,
    page: NonNull<CachePage>,
}
const NONE: Last = Last { instance: 0, page: NonNull::dangling() };

thread_local! {
    /// The cache that was used last: where that is most often the one that is wanted, a comparison is quicker
    /// than the table.
    static LAST: Cell<Last> = const { Cell::new(NONE) };
    /// This thread's seat. Without a destructor, so that reading it is one load.
    static SEAT: Cell<u8> = const { Cell::new(NO_SEAT) };
    /// All caches of this thread, to give them back when it ends.
    static MINE: RefCell<Mine> = const { RefCell::new(Mine { caches: Vec::new() }) };
}

struct Mine {
    caches: Vec<Got>,
}

/// A cache of this thread, and of which matrix.
struct Got {
    instance: u64,
    page: *mut CachePage,
    matrix: Weak<dyn Keeper>,
}

impl Drop for Mine {
    fn drop(&mut self) {
        LAST.set(NONE);
        let seat = SEAT.replace(NO_SEAT);
        for got in self.caches.drain(..) {
            if let Some(matrix) = got.matrix.upgrade() {
                matrix.seats().set(seat, null_mut());
                matrix.thread_ends(got.page);
            }
        }
        seats::give_back(usize::from(seat));
    }
}

impl Seats {
    /// An empty table. Of matrices that are not of the usual sort, [`Seats::usual`] finds nothing.
    pub(super) fn new(is_usual: bool) -> Self {
        let empty = || Cell::new(null_mut());
        let others = if is_usual { 0 } else { PLACES };
        Self { usual: std::array::from_fn(|_| empty()), other: (0..others).map(|_| empty()).collect() }
    }

    /// This thread's cache in the matrix of this instance, whose table this is, if it has a seat and the
    /// matrix is of the usual sort.
    #[inline(always)]
    pub(super) fn usual(&self, instance: u64) -> Option<NonNull<CachePage>> {
        let last = LAST.get();
        if last.instance == instance {
            return Some(last.page);
        }
        let page = NonNull::new(self.usual[usize::from(SEAT.get())].get())?;
        LAST.set(Last { instance, page });
        Some(page)
    }

    /// The same of any matrix, and where the thread has no seat.
    #[inline(always)]
    pub(super) fn find(&self, instance: u64) -> *mut CachePage {
        let seat = SEAT.get();
        if seat == NO_SEAT { find_without_seat(instance) } else { self.place(seat).get() }
    }

    fn place(&self, seat: u8) -> &SeatCell {
        self.other.get(usize::from(seat)).unwrap_or(&self.usual[usize::from(seat)])
    }

    fn set(&self, seat: u8, page: *mut CachePage) {
        if seat != NO_SEAT {
            self.place(seat).set(page);
        }
    }
}

/// The cache of a thread that has no cache yet, or that came when all seats were taken.
#[cold]
fn find_without_seat(instance: u64) -> *mut CachePage {
    let found = MINE.try_with(|mine| {
        let mine = mine.try_borrow().ok()?;
        mine.caches.iter().find(|got| got.instance == instance).map(|got| got.page)
    });
    found.ok().flatten().unwrap_or(null_mut())
}

/// Notes a cache that this thread has got in the matrix of this instance. False if the thread is ending and
/// keeps nothing any more.
pub(super) fn keep(instance: u64, page: *mut CachePage, matrix: Weak<dyn Keeper>) -> bool {
    let kept = MINE.try_with(|mine| {
        let caches = &mut mine.borrow_mut().caches;
        LAST.set(NONE);
        caches.retain(|other| other.matrix.strong_count() > 0 && other.instance != instance);
        // A thread that came when all seats were taken gets none while it has a cache: each cache is found in
        // the same way.
        if caches.is_empty() && SEAT.get() == NO_SEAT {
            SEAT.set(seats::take().map_or(NO_SEAT, |seat| seat as u8));
        }
        if let Some(matrix) = matrix.upgrade() {
            matrix.seats().set(SEAT.get(), page);
        }
        caches.push(Got { instance, page, matrix });
    });
    kept.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::Handler;
    use crate::segment::Options;
    use std::sync::Barrier;

    fn make() -> Handler {
        Options::new().memfd().size(1 << 20).create().expect("created")
    }

    fn page_of(handler: &Handler) -> *mut CachePage {
        handler.matrix().seats().find(handler.matrix().instance())
    }

    /// A hundred matrices, made in any order, dropped and made again: each has its own cache.
    #[test]
    fn each_matrix_has_its_own_cache_however_many_there_are() {
        let mut handlers: Vec<_> = (0..100).map(|_| make()).collect();
        for round in 0..5 {
            for handler in &handlers {
                let block = handler.allocate_raw(100).expect("room");
                let found = page_of(handler);
                assert!(
                    !found.is_null()
                        && NonNull::new(found) == handler.matrix().seats().usual(handler.matrix().instance()),
                    "it has just been used"
                );
                // SAFETY: this thread's page, which nobody uses just now.
                assert_eq!(unsafe { (*found).instance }, handler.matrix().instance());
                handler.free_raw(block).expect("live");
            }
            let mut pages: Vec<_> = handlers.iter().map(page_of).collect();
            assert!(pages.iter().all(|page| !page.is_null()));
            pages.sort();
            pages.dedup();
            assert_eq!(pages.len(), handlers.len());
            handlers.iter_mut().skip(round).step_by(3).for_each(|handler| *handler = make());
        }
        assert!(page_of(&make()).is_null());
    }

    /// A thread that goes from matrix to matrix remembers none that is gone.
    #[test]
    fn a_thread_forgets_the_matrices_that_are_gone() {
        let kept = make();
        for _ in 0..20 {
            for handler in [&kept, &make()] {
                handler.free_raw(handler.allocate_raw(100).expect("room")).expect("live");
            }
            assert!(MINE.with_borrow(|mine| mine.caches.len()) <= 3);
        }
    }

    /// Threads with seats, and some that got none: each has one cache in each matrix, and finds it again.
    #[test]
    fn threads_with_any_seat_or_none_have_caches() {
        const THREADS: usize = 40;
        let options = || Options::new().memfd().size(8 << 20).participants(THREADS + 60);
        let (one, other) = (options().create().expect("created"), options().create().expect("created"));
        for without_any in [false, true] {
            let all_are_here = Barrier::new(THREADS);
            let run = |without| {
                let use_it = |handler: &Handler| {
                    handler.free_raw(handler.allocate_raw(100).expect("a slot and room")).expect("live");
                    page_of(handler)
                };
                let (first, second) = if without {
                    seats::with_none_left(|| (use_it(&one), use_it(&other)))
                } else {
                    (use_it(&one), use_it(&other))
                };
                all_are_here.wait();
                assert!(!first.is_null() && !second.is_null() && first != second);
                assert_eq!((use_it(&one), use_it(&other)), (first, second), "a cache is found again");
                let seat = SEAT.get();
                all_are_here.wait();
                (first as usize, seat)
            };
            let ended: Vec<_> = std::thread::scope(|scope| {
                let run = &run;
                let spawned: Vec<_> =
                    (0..THREADS).map(|at| scope.spawn(move || run(without_any && at % 2 == 0))).collect();
                spawned.into_iter().map(|thread| thread.join().expect("it works")).collect()
            });
            assert_eq!(
                ended.iter().filter(|(_, seat)| *seat == NO_SEAT).count(),
                if without_any { THREADS / 2 } else { 0 }
            );
            let mut pages: Vec<_> = ended.iter().map(|(page, _)| page).collect();
            pages.sort();
            pages.dedup();
            assert_eq!(pages.len(), THREADS, "no cache is two threads'");
        }
    }
}
