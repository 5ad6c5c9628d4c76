//! The audit: what the allocator gets along with, and only performance would notice.
//!
//! Aids may be wrong (a hint lies, an index is stale), but they don't name what does not exist. A place in
//! the transfer cache that is kept for nobody, a bit that stands for nothing, or a block that is parked for a
//! number that no participant has, is lost for good.

use super::adoption::Adopting;
use super::block_header::{Header, State, is_nobody};
use super::operation::Op;
use super::stats::Fault;
use super::transfer_cache::filler_of;
use super::words::{Heap, view};
use crate::backend::Word;
use crate::backend::orderings::{BATCH_LOOK, HAZARD_LOOK, HINT_LOOK, OP_READ, PIN_LOOK, SLOT_LOOK};
use crate::segment::layout::{BATCH, CHUNK, Granule, SlotWord};
use crate::segment::region::{Region, WordIndex};
use crate::segment::slot::Slots;

/// The bits of a word beyond the first `used`.
const fn beyond(used: usize) -> u64 {
    if used >= 64 { 0 } else { !0 << used }
}

view! {
    /// What only performance would notice.
    pub struct Audit, auditing
}

impl<R: Region> Audit<'_, R> {
    /// Looks at everything that is not a header: places in the transfer cache, hints, slots. To be called at
    /// rest. O(spans / 64), and the transfer cache.
    pub(super) fn audit(self) -> Result<(), Fault> {
        self.audit_exchange()?;
        self.audit_hints()?;
        self.audit_slots()
    }

    /// Whether a tile's owner is somebody: a participant whose slot is held, or nobody as it should be. (In models
    /// nobody has joined, and caches need no slots.)
    pub(super) fn has_owner(self, header: Header) -> bool {
        let is_known = |number| is_nobody(number) || self.is_here(number);
        match header.state() {
            State::Inside | State::Free => true,
            // Who has left has finished it, and what the dead held is given back before their number is.
            State::Coalescing => self.is_here(header.owner()),
            State::Marked => self.is_here(header.owner()) && is_known(header.parked_by()),
            // Parked for one that has left, while it is on its way home: whoever heals takes it.
            State::Acked => is_nobody(header.owner()) || self.heap.is_participant(header.owner()),
            _ => is_known(header.holder()),
        }
    }

    fn is_here(self, number: u16) -> bool {
        let has_joined = || self.heap.word(self.heap.layout().highest()).load(&SLOT_LOOK) != 0;
        self.heap.is_participant(number) && !(Slots(self.heap.region()).is_free(number) && has_joined())
    }

    /// Places of the transfer cache in use: none, once every cache has been flushed and unowned blocks have been taken.
    pub fn places_in_use(self) -> usize {
        self.heap.layout().batch_controls().filter(|&at| self.heap.word(at).load(&BATCH_LOOK) != 0).count()
    }

    fn audit_exchange(self) -> Result<(), Fault> {
        let wrong = |&at: &WordIndex| {
            let control = self.heap.word(at).load(&BATCH_LOOK);
            // A batch may wait for one that has left: its number's next holder finds it. Who was at one has ended that.
            let is_somebodys =
                |number| self.heap.is_participant(number) && (control >> 32 != 2 || self.is_here(number));
            let is_unowned = filler_of(control).is_some_and(|number| !is_somebodys(number));
            is_unowned || control >> 32 > 2 || control & 0xFF > BATCH as u64 && control >> 32 == 1
        };
        match self.heap.layout().batch_controls().find(wrong) {
            Some(at) => {
                Err(Fault::Stray { what: "a place of the transfer cache", word: self.heap.word(at).load(&BATCH_LOOK) })
            }
            None => Ok(()),
        }
    }

    fn audit_hints(self) -> Result<(), Fault> {
        let layout = self.heap.layout();
        let check = |what, at: WordIndex, used: usize| match self.heap.word(at).load(&HINT_LOOK) & beyond(used) {
            0 => Ok(()),
            word => Err(Fault::Stray { what, word }),
        };
        let last = layout.chunks() - 1;
        check("a hint of spans", layout.leaf(last), layout.spans() as usize - last * CHUNK)?;
        for level in 0..layout.levels {
            let children = if level > 0 { layout.level_words[level - 1] } else { layout.chunks() };
            let last = layout.level_words[level] - 1;
            for class in 0..layout.classes {
                check("a hint of chunks", layout.tree(class, level, last), children - last * 64)?;
            }
        }
        let rows = layout.classes.div_ceil(8);
        for row in 0..rows {
            check("a hint of classes", layout.second_level(row), (layout.classes - row * 8).min(8))?;
        }
        check("a hint of rows", layout.first_level(), rows)
    }

    /// Slot 0 is nobody's, and no other names what does not exist.
    fn audit_slots(self) -> Result<(), Fault> {
        let granules = u64::from(self.heap.layout().granules);
        for number in 0..=self.heap.layout().params.participants as u16 {
            let fault = |what, word| Err(Fault::Stray { what, word });
            let hazard = self.heap.slot(number, SlotWord::Hazard).load(&HAZARD_LOOK);
            if hazard > if number == 0 { 0 } else { granules } {
                return fault("the granule that a slot names", hazard);
            }
            let adopting = self.heap.slot(number, SlotWord::Adopting).load(&HAZARD_LOOK);
            let from = Adopting::FROM.get(adopting) as u16;
            let is_known = is_nobody(from) || self.heap.is_participant(from);
            if Adopting::NAMED.get(adopting) > granules || !is_known || number == 0 && adopting != 0 {
                return fault("the adoption of a slot", adopting);
            }
            let pin = self.heap.slot(number, SlotWord::Pin).load(&PIN_LOOK);
            if pin > self.heap.layout().params.participants as u64 || number == 0 && pin != 0 {
                return fault("the pin of a slot", pin);
            }
            let op = self.heap.slot(number, SlotWord::Op).load(&OP_READ);
            let at = match Op::decode(op) {
                Op::None => Granule(0),
                Op::Cut { at, .. } | Op::Join { at, .. } | Op::Free { at, .. } => at,
            };
            if u64::from(at.0) >= granules || number == 0 && op != 0 {
                return fault("the operation of a slot", op);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::decorators::{Probe, set_mutant};
    use crate::backend::orderings::{FORMAT, SLOT_WRITE};
    use crate::backend::{Mutant, Native};
    use crate::matrix::block_header::adopter;
    use crate::matrix::heap::{Kind, Live, ThreadCache};
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    type Probed = Heap<BoxedRegion<Probe<Native>>>;

    fn heap() -> Probed {
        let params = Params { biased: true, participants: 6, batches: 1, ..Params::for_segment(4 << 20) };
        Heap::format(BoxedRegion::new(Layout::fit(4 << 20, params).expect("room for a sector")))
    }

    fn allocate(heap: &Probed, cache: &mut ThreadCache) -> Live {
        heap.allocate(cache, 8, 1, Kind::Raw).expect("room")
    }

    /// Blocks of one process's cache are freed by another process's, more than find a home, until both caches
    /// have been flushed. How many are still parked, for somebody to find.
    fn forgotten(freer: u16) -> u64 {
        let heap = heap();
        for number in 1..=6 {
            heap.slot(number, SlotWord::Process).store(u64::from(number), &SLOT_WRITE);
        }
        let (mut owner, mut freer) = (ThreadCache::new(2), ThreadCache::new(freer));
        let blocks: Vec<_> = (0..2000).map(|_| allocate(&heap, &mut owner)).collect();
        blocks.iter().for_each(|block| heap.free(&mut freer, block.at, None).expect("live"));
        assert!(heap.auditing().places_in_use() > 0, "the case is met");
        heap.parking().flush(&mut freer);
        heap.parking().flush(&mut owner);
        assert_eq!(heap.auditing().places_in_use(), 0, "at rest");
        heap.verify().expect("sound").parked.blocks
    }

    /// A block is freed while somebody adopts it; what the freer's cache, flushed, leaves in the transfer cache.
    fn freed_while_it_is_adopted() -> Result<usize, Fault> {
        let heap = heap();
        let (mut owner, mut freer) = (ThreadCache::new(1), ThreadCache::new(3));
        let block = allocate(&heap, &mut owner);
        let adopted = heap.adoption().rename(block.at, block.header, adopter(2)).expect("nobody else");
        heap.free(&mut freer, block.at, None).expect("live");
        assert_eq!((heap.look(block.at).state(), heap.look(block.at).owner()), (State::Acked, adopted.owner()));
        heap.parking().flush(&mut freer);
        heap.parking().flush(&mut owner);
        heap.auditing().audit().map(|()| heap.auditing().places_in_use())
    }

    #[test]
    fn l2_no_block_is_forgotten_and_no_place_lost() {
        assert_eq!((forgotten(3), forgotten(4)), (0, 0), "L2: blocks that nobody remembers");
        assert_eq!(freed_while_it_is_adopted(), Ok(0), "L2: a place of nobody");
    }

    #[test]
    fn mutant_limbo_forgotten_is_caught() {
        set_mutant(Some(Mutant::LimboForgotten));
        let left = (forgotten(3), forgotten(4));
        set_mutant(None);
        assert!(left.0 > 0 && left.1 == 0, "LimboForgotten survives: {left:?}");
    }

    #[test]
    fn mutant_adopted_sent_home_is_caught() {
        set_mutant(Some(Mutant::AdoptedSentHome));
        let caught = freed_while_it_is_adopted();
        set_mutant(None);
        assert!(matches!(caught, Err(Fault::Stray { .. })), "AdoptedSentHome survives: {caught:?}");
    }

    /// A number of which nobody has the slot, beside one that is held.
    const LEFT: u16 = 2;

    fn joined() -> (crate::handlers::Handler, Live) {
        let handler = crate::segment::Options::new().memfd().size(1 << 20).create().expect("created");
        handler.allocate_raw(100).expect("room");
        let mut live = None;
        let walk =
            handler.matrix().heap().walk(|at, header| live = live.or(header.is_live().then_some(Live { at, header })));
        walk.expect("sound");
        let live = live.filter(|live| live.header.owner() == 1).expect("the first one's");
        (handler, live)
    }

    /// What is held, marked, or being put into the transfer cache under a number whose slot is free, nobody ends.
    #[test]
    fn c1_what_is_in_the_hands_of_a_free_slots_number_is_told() {
        let (handler, live) = joined();
        let heap = handler.matrix().heap();
        let place = heap.place(live.at, live.header.size());
        let parked = |by| Header::new(State::Acked, by, live.header.generation(), place);
        let says = |at: WordIndex, word: u64| {
            let before = heap.word(at).load(&HINT_LOOK);
            heap.word(at).store(word, &FORMAT);
            let said = heap.verify().map_err(|fault| fault.to_string());
            heap.word(at).store(before, &FORMAT);
            said.err()
        };
        let header = heap.layout().header(live.at);
        let held = |by| Header::new(State::Coalescing, by, live.header.generation(), place);
        for (one, another) in [(held(1), held(LEFT)), (parked(1).marked(1), parked(1).marked(LEFT))] {
            assert_eq!(says(header, one.0), None, "{one:?}");
            assert!(says(header, another.0).is_some_and(|told| told.contains("no participant has")), "{another:?}");
        }
        assert!(says(header, parked(LEFT).marked(1).0).is_some_and(|told| told.contains("no participant has")));
        let control = heap.layout().batch_controls().next().expect("one");
        assert_eq!((says(control, 2 << 32 | 1), says(control, 1 << 32 | u64::from(LEFT) << 8)), (None, None));
        assert!(says(control, 2 << 32 | u64::from(LEFT)).is_some_and(|told| told.contains("transfer cache")));
    }

    /// What is parked for one that has left is no fault, but on its way: whoever heals takes it.
    #[test]
    fn c1_l2_what_is_parked_under_a_free_slots_number_comes_back() {
        let (handler, live) = joined();
        let heap = handler.matrix().heap();
        let place = heap.place(live.at, live.header.size());
        heap.header(live.at).store(Header::new(State::Acked, LEFT, live.header.generation(), place).0, &FORMAT);
        assert_eq!(heap.verify().expect("on its way").live.blocks, 0);
        handler.heal().expect("a slot");
        assert_eq!(heap.verify().map(|tally| (tally.parked.blocks, tally.free.blocks)), Ok((0, 1)));
    }

    /// So are the batches: a place that is kept for one that has left comes back with the number.
    #[test]
    fn l2_a_place_that_is_kept_for_one_that_has_left_comes_back_with_the_number() {
        let heap = heap();
        let (mut owner, mut freer) = (ThreadCache::new(2), ThreadCache::new(3));
        let blocks: Vec<_> = (0..40).map(|_| allocate(&heap, &mut owner)).collect();
        heap.parking().flush(&mut owner);
        blocks.iter().for_each(|block| heap.free(&mut freer, block.at, None).expect("live"));
        heap.parking().flush(&mut freer);
        assert!(heap.auditing().places_in_use() > 0, "the case is met");
        heap.heal(&mut freer);
        assert_eq!(heap.verify().expect("sound").free.blocks, 1, "the blocks need no place");
        heap.parking().flush(&mut ThreadCache::new(2));
        assert_eq!(heap.auditing().places_in_use(), 0, "at rest");
    }

    /// A block that is live under a number whose slot is free comes back to nobody.
    #[test]
    fn c1_what_is_live_under_a_free_slots_number_is_told() {
        let (handler, _) = joined();
        let heap = handler.matrix().heap();
        let slot = heap.slot(1, SlotWord::State);
        let held = slot.load(&SLOT_LOOK);
        heap.verify().expect("its slot is held");
        slot.store(0, &SLOT_WRITE);
        let told = heap.verify().expect_err("nobody has number 1").to_string();
        slot.store(held, &SLOT_WRITE);
        assert!(told.contains("no participant has"), "{told}");
        heap.verify().expect("held again");
    }

    /// What verification says to one wrong word.
    fn told(wrong: impl FnOnce(&Probed) -> (WordIndex, u64)) -> String {
        let heap = heap();
        allocate(&heap, &mut ThreadCache::new(1));
        let (at, word) = wrong(&heap);
        heap.verify().expect("sound so far");
        heap.word(at).store(word, &FORMAT);
        heap.verify().expect_err("a fault").to_string()
    }

    #[test]
    fn s4_l2_what_is_kept_for_nobody_is_told() {
        let slot = |heap: &Probed, number, word| heap.layout().slot(number, word);
        let with_bit = |heap: &Probed, at, bit: u32| (at, heap.word(at).load(&HINT_LOOK) | 1 << bit);
        let tile = |owner: u16, state| {
            move |heap: &Probed| {
                let mut found = None;
                heap.walk(|g, header| found = found.or(header.is_live().then_some((g, header)))).expect("sound");
                let (g, header) = found.expect("one is live");
                (heap.layout().header(g), Header::new(state, owner, header.generation(), header.low()).0)
            }
        };
        let lines = [
            (told(tile(7, State::Acked)), "no participant has"),
            (told(tile(7, State::Allocated)), "no participant has"),
            (told(tile(0, State::Coalescing)), "no participant has"),
            (told(tile(7, State::Coalescing)), "no participant has"),
            (told(|heap| (heap.layout().batch_controls().next().expect("one"), 2 << 32 | 7)), "transfer cache"),
            (
                told(|heap| (heap.layout().batch_controls().last().expect("one"), 1 << 32 | 7 << 8 | 3)),
                "transfer cache",
            ),
            (
                told(|heap| (heap.layout().batch_controls().last().expect("one"), 1 << 32 | 1 << 8 | 99)),
                "transfer cache",
            ),
            (told(|heap| (heap.layout().batch_controls().last().expect("one"), 3 << 32)), "transfer cache"),
            (told(|heap| (slot(heap, 0, SlotWord::Hazard), 1)), "granule that a slot names"),
            (told(|heap| (slot(heap, 1, SlotWord::Hazard), 1 << 40)), "granule that a slot names"),
            (told(|heap| (slot(heap, 1, SlotWord::Adopting), 7 << 32 | 1)), "adoption"),
            (told(|heap| (slot(heap, 1, SlotWord::Pin), 7)), "pin"),
            (told(|heap| (slot(heap, 0, SlotWord::Op), Op::Join { at: Granule(0), tag: 0 }.encode())), "operation"),
            (told(|heap| (slot(heap, 1, SlotWord::Op), Op::Free { at: Granule(!0), tag: 0 }.encode())), "operation"),
            (told(|heap| with_bit(heap, heap.layout().second_level(0), 9)), "hint of classes"),
            (told(|heap| with_bit(heap, heap.layout().first_level(), 63)), "hint of rows"),
        ];
        for (told, expected) in lines {
            assert!(told.contains(expected), "{told}, not {expected}");
        }
        // Words that stand for more than there is are there only where the sector's end is within them.
        let heap = heap();
        let last = heap.layout().chunks() - 1;
        let used = heap.layout().spans() as usize - last * CHUNK;
        if used < CHUNK {
            heap.word(heap.layout().leaf(last)).fetch_or(1 << used, &FORMAT);
            assert!(heap.verify().expect_err("a fault").to_string().contains("hint of spans"));
        }
    }
}
