//! For tests: a backend of which nobody sleeps, and that has no more than each must have.
//!
//! Whoever would sleep does what the test says instead ([`meanwhile`]), as another thread might, and goes on. It is
//! noted what was slept at ([`slept`]), and how often a step was taken that leaves no other trace ([`taken`]).

use super::{Backend, Native, NativeWord, Site};
use std::cell::{Cell, RefCell};
use std::time::Duration;

pub(crate) struct Awake;

/// Steps that leave no trace in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traceless {
    pub(crate) fences: u32,
    pub(crate) pauses: u32,
    pub(crate) touches: u32,
}

thread_local! {
    static SLEPT: RefCell<Vec<usize>> = const { RefCell::new(vec![]) };
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    static TAKEN: Cell<Traceless> = const { Cell::new(Traceless { fences: 0, pauses: 0, touches: 0 }) };
}

/// What happens when somebody falls asleep next.
pub(crate) fn meanwhile(act: impl FnOnce() + 'static) {
    MEANWHILE.set(Some(Box::new(act)));
}

/// Of each sleep since this was asked last, how many words it was at; 0 for one that can be at one word alone.
pub(crate) fn slept() -> Vec<usize> {
    SLEPT.take()
}

/// The steps since this was asked last.
pub(crate) fn taken() -> Traceless {
    TAKEN.take()
}

fn take(count: impl FnOnce(&mut Traceless)) {
    let mut taken = TAKEN.get();
    count(&mut taken);
    TAKEN.set(taken);
}

fn sleep(words: usize) {
    SLEPT.with_borrow_mut(|slept| slept.push(words));
    if let Some(act) = MEANWHILE.take() {
        act();
    }
}

impl Backend for Awake {
    type Word = NativeWord;
    /// Not of size 0, as a checker's is not.
    type Cell = u8;
    fn word(value: u64) -> NativeWord {
        Native::word(value)
    }
    fn cell() -> u8 {
        0
    }
    fn touch(_: &u8) {
        take(|taken| taken.touches += 1);
    }
    fn fence(site: &'static Site) {
        take(|taken| taken.fences += 1);
        Native::fence(site);
    }
    fn pause() {
        take(|taken| taken.pauses += 1);
    }
    fn wait(_: &NativeWord, _: u64, _: Duration) -> bool {
        sleep(0);
        false
    }
    fn wait_any(words: &[(&NativeWord, u64)], _: Duration) -> bool {
        sleep(words.len());
        false
    }
    fn wake(_: &NativeWord, _: u32) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Reach;
    use crate::backend::decorators::{Probe, stopped_at};
    use crate::backend::orderings::RING_FENCE;
    use crate::segment::layout::{Granule, Layout, Params};
    use crate::segment::region::{BoxedRegion, Region};
    use std::sync::atomic::Ordering;

    /// Has what it must have, and so all that a backend need not say for itself.
    struct Least;
    impl Backend for Least {
        type Word = NativeWord;
        type Cell = ();
        fn word(value: u64) -> NativeWord {
            Native::word(value)
        }
        fn cell() {}
        fn touch((): &()) {}
        fn fence(site: &'static Site) {
            Awake::fence(site);
        }
        fn pause() {
            Awake::pause();
        }
    }

    /// Every fence is a full one, and whoever would sleep yields.
    #[test]
    fn what_a_backend_does_not_say_is_the_strongest() {
        let fences = [Least::fence, Least::light_fence, Least::fence_behind_rmw, Least::fence_between_loads];
        for fence in fences {
            taken();
            fence(&RING_FENCE);
            assert_eq!(taken().fences, 1);
        }
        assert!(Least::heavy_fence(&RING_FENCE, Reach::System), "it was not refused");
        assert_eq!(taken().fences, 1);
        let word = Least::word(0);
        assert!(!Least::wait(&word, 0, Duration::ZERO) && !Least::wait_any(&[(&word, 0)], Duration::ZERO));
        assert_eq!((taken().pauses, Least::wake(&word, 1)), (2, 0));
    }

    /// S1, S3: of a block each granule's payload is noted, by every sort of region that has any.
    #[test]
    fn s1_s3_each_granule_of_a_block_is_touched() {
        let params = Params { participants: 4, ..Params::for_segment(64 << 10) };
        let layout = Layout::fit(64 << 10, params).expect("room for a sector");
        let region = BoxedRegion::<Probe<Awake>>::new(layout);
        taken();
        region.touch(Granule(8), 5);
        assert_eq!(taken().touches, 5);
        Region::touch(&&region, Granule(region.layout().granules - 4), 4);
        assert_eq!(taken().touches, 4);
    }

    #[test]
    fn an_accesss_ordering_where_it_fails_acquires_if_it_does() {
        let fails = |order| Site::own("", order, "").fail;
        assert_eq!([Ordering::AcqRel, Ordering::Acquire].map(fails), [Ordering::Acquire; 2]);
        assert_eq!([Ordering::Release, Ordering::Relaxed].map(fails), [Ordering::Relaxed; 2]);
    }

    /// Only the end of a participant is taken for one.
    #[test]
    fn a_panic_of_an_operation_that_may_be_stopped_goes_on() {
        let panics = || stopped_at(1, || std::panic::resume_unwind(Box::new("its own")));
        assert!(std::panic::catch_unwind(panics).is_err_and(|payload| payload.is::<&str>()));
    }
}
