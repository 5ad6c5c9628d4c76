//! Which cache a thread has in which matrix: found without a lock, a destructor's flag or a kernel call,
//! however many matrices it uses.

use super::heap::ThreadCache;
use std::cell::{Cell, RefCell};
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
    /// The thread that uses this cache ends.
    fn thread_ends(&self, page: *mut CachePage);
}

/// A cache of this thread, and of which matrix.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub(super) instance: u64,
    pub(super) page: *mut CachePage,
}

const NOBODY: Last = Last { instance: 0, page: std::ptr::null_mut() };

/// This thread's caches by their matrices' instances, each at the first free place from its instance's last
/// bits on. At least half of the places are free. No matrix has an instance of 0, and none has another's.
#[derive(Clone, Copy)]
struct Table {
    places: *const Last,
    mask: usize,
}

const NO_TABLE: Table = Table { places: std::ptr::null(), mask: 0 };

thread_local! {
    /// The cache that was used last. Without a destructor, so that reading it is one load.
    static LAST: Cell<Last> = const { Cell::new(NOBODY) };
    /// The table of [`MINE`], without a destructor, too.
    static TABLE: Cell<Table> = const { Cell::new(NO_TABLE) };
    /// All caches of this thread, to give them back when it ends.
    static MINE: RefCell<Mine> = const { RefCell::new(Mine { caches: Vec::new(), places: Vec::new() }) };
}

struct Mine {
    caches: Vec<(Last, Weak<dyn Keeper>)>,
    places: Vec<Last>,
}

impl Drop for Mine {
    fn drop(&mut self) {
        LAST.set(NOBODY);
        TABLE.set(NO_TABLE);
        for (last, matrix) in self.caches.drain(..) {
            if let Some(matrix) = matrix.upgrade() {
                matrix.thread_ends(last.page);
            }
        }
    }
}

/// This thread's cache in a matrix; null if it has none.
#[inline(always)]
pub(super) fn find(instance: u64) -> *mut CachePage {
    let last = LAST.get();
    if last.instance == instance { last.page } else { look_up(instance) }
}

/// As [`find`], for a cache that was not the last one used. It is from here on.
#[inline(always)]
fn look_up(instance: u64) -> *mut CachePage {
    let Table { places, mask } = TABLE.get();
    if places.is_null() {
        return std::ptr::null_mut();
    }
    let mut at = instance as usize & mask;
    loop {
        // SAFETY: the table has mask + 1 places, which live until `TABLE` is changed, in this thread.
        let found = unsafe { *places.add(at) };
        if found.instance == instance {
            LAST.set(found);
            return found.page;
        }
        if found.instance == NOBODY.instance {
            return std::ptr::null_mut();
        }
        at = (at + 1) & mask;
    }
}

/// Notes a cache that this thread has got. False if the thread is ending and keeps nothing any more.
pub(super) fn keep(got: Last, matrix: Weak<dyn Keeper>) -> bool {
    let kept = MINE.try_with(|mine| {
        let Mine { caches, places } = &mut *mine.borrow_mut();
        TABLE.set(NO_TABLE);
        caches.retain(|(other, matrix)| matrix.strong_count() > 0 && other.instance != got.instance);
        caches.push((got, matrix));
        let mask = (2 * caches.len()).next_power_of_two() - 1;
        places.clear();
        places.resize(mask + 1, NOBODY);
        for (last, _) in caches {
            let mut at = last.instance as usize & mask;
            while places[at].instance != NOBODY.instance {
                at = (at + 1) & mask;
            }
            places[at] = *last;
        }
        TABLE.set(Table { places: places.as_ptr(), mask });
        LAST.set(got);
    });
    kept.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Options;

    /// A hundred matrices, made in any order, dropped and made again: each has its own cache, wherever its
    /// instance stands in the table.
    #[test]
    fn each_matrix_has_its_own_cache_however_many_there_are() {
        let make = || Options::new().memfd().size(1 << 20).create().expect("created");
        let mut handlers: Vec<_> = (0..100).map(|_| make()).collect();
        for round in 0..5 {
            for handler in &handlers {
                let block = handler.allocate_raw(100).expect("room");
                let found = find(handler.matrix().instance());
                assert!(!found.is_null() && found == LAST.get().page, "it has just been used");
                // SAFETY: this thread's page, which nobody uses just now.
                assert_eq!(unsafe { (*found).instance }, handler.matrix().instance());
                handler.free_raw(block).expect("live");
            }
            let mut pages: Vec<_> = handlers.iter().map(|h| find(h.matrix().instance())).collect();
            assert!(pages.iter().all(|page| !page.is_null()));
            pages.sort();
            pages.dedup();
            assert_eq!(pages.len(), handlers.len());
            handlers.iter_mut().skip(round).step_by(3).for_each(|handler| *handler = make());
        }
        assert!(find(u64::MAX).is_null());
    }
}
