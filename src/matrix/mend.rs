//! Mending: the tiling is restored where it is broken, and no block in use is touched (S1, C2).
//!
//! A break is where a block should begin, and none does. The protocol leaves none. A late helper may, in
//! spite of its tag (see [`super::block_header`]), and so may a stray store of some program. What once stood
//! there, nobody can tell any more: a free block, most likely, or one that somebody uses. So the stretch up
//! to the next block becomes a live block of nobody who lives ([`KEPT`]): it is handed out no more, and
//! whoever knows that it is nobody's frees it.
//!
//! Why nobody's work is disturbed: let the tile before the break be read twice as the same word, which
//! announces nothing the second time, and the inside word at its end in between. At that moment a block
//! should have begun there (S4): only a join takes its head away, and a join that has frozen anything stands
//! until its commit changes the word. So this is damage, and no operation in flight. Nobody writes into the
//! stretch by the protocol, since heads change only where one stands; and the block behind it stays where it
//! is, since only a join with a block to its left takes a head away.
//!
//! The other way round, a head within a free block says that somebody's block may begin there. The free block
//! is taken, ends before that head from then on, and what follows is looked at as everything else is.

use super::block_header::{Header, KEPT, State};
use super::operation::Held;
use super::stats::{Count, Fault};
use super::thread_cache::ThreadCache;
use super::words::{Heap, view};
use crate::backend::orderings::{ERASE, HEADER_WALK, HELD_STORE};
use crate::backend::{Backend, Word};
use crate::segment::layout::Granule;
use crate::segment::region::Region;

/// New starts of one mending: each is somebody else's finished operation, or a mended place.
const STARTS: u32 = 100;

/// What healing has mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mended {
    /// Stretches of which nobody can tell what they are: live blocks from now on, of no participant's ([`KEPT`]).
    pub set_aside: Count,
    /// Free blocks that reached over another block: they end before it now.
    pub shortened: u64,
    /// What is left: a break that is shorter than a span, or that others have kept from being mended.
    pub left: Option<Fault>,
}

/// How one step of mending ended.
enum MendStep {
    /// The next tile begins there, behind this one.
    On(Granule, Option<Header>),
    /// Somebody else works here: begin anew.
    Anew,
}

view! {
    /// How a broken tiling is restored.
    pub(super) struct Mending, mending
}

impl<R: Region> Mending<'_, R> {
    /// Mends what breaks the tiling. O(spans).
    pub(super) fn mend(self, cache: &mut ThreadCache) -> Mended {
        let (mut mended, mut starts) = (Mended::default(), 0);
        // The tile before, as it was read.
        let (mut at, mut before) = (Granule(0), None);
        while at.0 < self.heap.layout().granules {
            let header = self.heap.look(at);
            let is_head = header.state() != State::Inside && self.heap.fits_sector(at, header);
            let step = match is_head {
                true => self.mend_tile(cache, &mut mended, at, header),
                false => self.mend_break(cache, &mut mended, at, before),
            };
            match step {
                MendStep::On(next, tile) => {
                    before = tile.map(|tile| (at, tile));
                    at = next;
                }
                MendStep::Anew if starts < STARTS => {
                    starts += 1;
                    (at, before) = (Granule(0), None);
                    R::Backend::pause();
                }
                MendStep::Anew => {
                    mended.left = Some(Fault::NotAHead { granule: at.0, header });
                    break;
                }
            }
        }
        mended
    }

    /// A tile: its operation is finished, and if it is free, no other block begins within it.
    fn mend_tile(self, cache: &mut ThreadCache, mended: &mut Mended, g: Granule, header: Header) -> MendStep {
        if header.state() == State::Coalescing && self.heap.operations().help(cache, g, header) {
            return MendStep::Anew;
        }
        let within = if header.is_free() { self.head_within(g, header) } else { None };
        let Some(head) = within else { return MendStep::On(g.plus(header.size()), Some(header)) };
        let Some(held) = self.heap.operations().take(cache, g, header, header.size()) else { return MendStep::Anew };
        let place = self.heap.place(g, head.0 - g.0);
        let front = Header::new(State::Coalescing, cache.owner(), held.header.next_generation(), place);
        self.heap.header(g).store(front.0, &HELD_STORE);
        self.heap.operations().ripple(cache, Held { at: g, header: front });
        mended.shortened += 1;
        MendStep::Anew
    }

    /// Where the block begins whose head stands in a span, if one does.
    fn head_in(self, span: u32) -> Option<Granule> {
        let (g, header) = self.heap.tile_in(span)?;
        (self.heap.header_at(g, header) == header).then_some(g)
    }

    /// Where within a free block another block's head stands.
    fn head_within(self, g: Granule, header: Header) -> Option<Granule> {
        let first = self.heap.layout().span(g);
        (first + 1..first + self.heap.spans(g, header.size())).find_map(|span| self.head_in(span))
    }

    /// A break behind the tile `before`: all up to the next head is set aside.
    fn mend_break(
        self,
        cache: &mut ThreadCache,
        mended: &mut Mended,
        g: Granule,
        before: Option<(Granule, Header)>,
    ) -> MendStep {
        let (span, found) = (self.heap.layout().span(g), Header(self.heap.header(g).load(&HEADER_WALK)));
        let is_break = match before {
            None => g.0 == 0,
            Some((at, seen)) => {
                let is_announced = seen.state() == State::Coalescing && self.heap.operations().help(cache, at, seen);
                !is_announced && at.plus(seen.size()) == g && self.heap.operations().still(at, seen)
            }
        };
        if !is_break {
            return MendStep::Anew;
        }
        if let Some(head) = self.head_in(span) {
            // The next block begins in the same span: there is no header for what stands before it.
            mended.left = Some(Fault::NotAHead { granule: g.0, header: found });
            return MendStep::On(head, None);
        }
        let end = self.erase_up_to_head(span + 1);
        let size = end.0 - g.0;
        let kept = Header::new(State::Allocated, KEPT, found.next_generation(), self.heap.place(g, size));
        if self.heap.header(g).cas(found.0, kept.0, &ERASE).is_err() {
            return MendStep::Anew;
        }
        mended.set_aside.blocks += 1;
        mended.set_aside.granules += u64::from(size);
        MendStep::On(end, Some(kept))
    }

    /// Where the next block begins, from a span on. Words that are neither a block's nor inside words become
    /// inside words.
    fn erase_up_to_head(self, from: u32) -> Granule {
        for span in from..self.heap.layout().spans() {
            if let Some(head) = self.head_in(span) {
                return head;
            }
            let word = self.heap.look_at_span(span);
            if word.state() != State::Inside {
                let erased = Header::new(State::Inside, word.tag(), word.next_generation(), 0);
                let _ = self.heap.header(self.heap.layout().first_of(span)).cas(word.0, erased.0, &ERASE);
            }
        }
        Granule(self.heap.layout().granules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::orderings::FORMAT;
    use crate::matrix::block_header::place;
    use crate::matrix::heap::{Kind, Live};
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;
    use crate::segment::size_class::Larges;

    type Boxed = Heap<BoxedRegion<Native>>;

    /// What befalls a heap at one of its tiles; false if it can't.
    type Damage = fn(&Boxed, Granule, Header) -> bool;

    fn set(heap: &Boxed, g: Granule, header: Header) -> bool {
        heap.header(g).store(header.0, &FORMAT);
        true
    }

    /// Writes a head in the middle of a free block of eight spans at least.
    fn set_within(heap: &Boxed, g: Granule, header: Header, state: State, owner: u16, spans: u32) -> bool {
        let middle = heap.layout().first_of(heap.layout().span(g) + 4);
        header.is_free()
            && heap.spans(g, header.size()) >= 8
            && set(heap, middle, Header::new(state, owner, 9, place(0, spans * heap.least())))
    }

    const DAMAGE: &[(&str, Damage)] = &[
        ("frozen", |heap, g, header| set(heap, g, Header::new(State::Inside, 7, header.next_generation(), 0))),
        ("a footer", |heap, g, header| set(heap, g, Header::new(State::Inside, 7, header.generation(), 3))),
        ("zeroed", |heap, g, _| set(heap, g, Header(0))),
        // Where a span has several granules, that is a block that begins at the last one.
        ("all ones", |heap, g, _| heap.layout().span_mask == 0 && set(heap, g, Header(!0))),
        ("a live block of no size", |heap, g, _| set(heap, g, Header::new(State::Allocated, 2, 3, heap.place(g, 0)))),
        ("a free block beyond the sector", |heap, g, _| {
            set(heap, g, Header::new(State::Free, 2, 3, heap.place(g, 9999)))
        }),
        ("a held head in a free block", |heap, g, header| set_within(heap, g, header, State::Coalescing, 2, 2)),
        ("a live head in a free block", |heap, g, header| set_within(heap, g, header, State::Allocated, 2, 3)),
        ("a free head in a free block", |heap, g, header| set_within(heap, g, header, State::Free, 0, 1)),
        ("a parked head in a free block", |heap, g, header| set_within(heap, g, header, State::Acked, 0, 1)),
        ("a free block is too short", |heap, g, header| {
            let less = header.size().saturating_sub(heap.least());
            let fits = header.is_free() && heap.fits_granules(g, less);
            fits && set(heap, g, Header::new(State::Free, 1, 5, heap.place(g, less)))
        }),
    ];

    /// Blocks of every state, and those that are live.
    fn scene(shift: u32, biased: bool) -> (Boxed, ThreadCache, Vec<Live>) {
        let params = Params {
            granule_shift: shift,
            participants: 4,
            batches: 2,
            directory: 0,
            header_words: 2,
            line_words: 1,
            biased,
            larges: Larges::USUAL,
        };
        let heap = Heap::format(BoxedRegion::new(Layout::new(600, params)));
        let (mut cache, mut other) = (ThreadCache::with_ceiling(1, 8), ThreadCache::with_ceiling(2, 0));
        let mut blocks = vec![];
        for round in 0..4 {
            for size in [4, 9, 33, 5, 40, 12] {
                let kind = if round % 2 == 0 { Kind::Raw } else { Kind::Typed(77) };
                let owner = if size == 9 { &mut other } else { &mut cache };
                blocks.push(heap.allocate(owner, size, 1, kind).expect("room"));
            }
        }
        // Some are freed, and stay parked, or become one with what is beside them.
        let mut live = vec![];
        for (at, block) in blocks.into_iter().enumerate() {
            match at % 3 == 1 || at == 8 {
                true => heap.free(&mut cache, block.at, None).expect("live"),
                false => live.push(block),
            }
        }
        (heap, cache, live)
    }

    /// Damages the tile that is the `at`th, heals, and uses what is left; false at the end.
    fn damaged(what: &str, damage: Damage, at: usize, shift: u32, biased: bool) -> Option<bool> {
        let (heap, mut cache, mut live) = scene(shift, biased);
        let what = format!("{what}, tile {at}, granules of {} bytes, biased {biased}", 1 << shift);
        let mut tiles = vec![];
        heap.walk(|g, header| tiles.push((g, header))).expect("sound so far");
        let &(g, header) = tiles.get(at)?;
        if !damage(&heap, g, header) {
            return Some(false);
        }
        live.retain(|block| block.at != g);
        let mended = heap.repair(&mut cache);
        assert_eq!(mended.left, None, "{what}: {mended:?}");
        heap.verify().unwrap_or_else(|fault| panic!("{what}: {fault}, {mended:?}"));
        assert_eq!(heap.repair(&mut cache), Mended::default(), "{what}: once is enough");
        for block in &live {
            assert_eq!(heap.live_at(block.at), Ok(*block), "{what}: a live block was touched");
        }
        // All that is free is handed out, and none of it was anybody's.
        let mut taken = vec![false; heap.layout().granules as usize];
        let mut take = |g: Granule, size: u32| {
            for one in &mut taken[g.index()..][..size as usize] {
                assert!(!std::mem::replace(one, true), "S1: {what}");
            }
        };
        live.iter().for_each(|block| take(block.at, block.header.size()));
        if header.is_live() {
            take(g, header.size());
        }
        let mut strict = ThreadCache::with_ceiling(3, 0);
        for size in [100, 30, 4, 1] {
            while let Ok(block) = heap.allocate(&mut strict, size, 1, Kind::Raw) {
                take(block.at, block.header.size());
                live.push(block);
            }
        }
        // Who knows better frees what was set aside.
        let mut kept = vec![];
        heap.walk(|g, header| kept.extend((header.is_live() && header.owner() == KEPT).then_some(g))).expect("S4");
        assert_eq!(kept.len() as u64, mended.set_aside.blocks, "{what}");
        for g in live.iter().map(|block| block.at).chain(kept) {
            heap.free(&mut strict, g, None).expect("live");
        }
        assert_eq!(heap.repair(&mut strict), Mended::default(), "{what}");
        let tally = heap.verify().unwrap_or_else(|fault| panic!("{what}: {fault}"));
        assert_eq!(tally.free.granules + tally.live.granules + tally.in_flight.granules, 600, "{what}");
        Some(true)
    }

    /// A live block may begin where its head stands in a free one: that ends before it from then on, and is counted.
    #[test]
    fn s1_c2_a_free_block_ends_before_a_head_within() {
        let (heap, mut cache, _) = scene(6, false);
        let mut found = None;
        let is_large = |g: Granule, header: Header| header.is_free() && heap.spans(g, header.size()) >= 8;
        heap.walk(|g, header| found = found.or(is_large(g, header).then_some((g, header)))).expect("sound");
        let (g, header) = found.expect("one is large");
        assert!(set_within(&heap, g, header, State::Allocated, 2, 3));
        let mended = heap.mending().mend(&mut cache);
        assert_eq!(mended, Mended { shortened: 1, ..mended });
        assert_eq!((mended.left, heap.look(g).size()), (None, 4 * heap.least()));
        heap.verify().expect("S4");
    }

    #[test]
    fn s1_c2_damage_of_every_kind_is_set_aside() {
        for &(what, damage) in DAMAGE {
            let mut met = 0;
            for (shift, biased) in [(6, false), (6, true), (4, false), (4, true)] {
                met += (0..).map_while(|at| damaged(what, damage, at, shift, biased)).filter(|done| *done).count();
            }
            assert!(met >= 2, "{what}: met {met} times");
        }
    }
}
