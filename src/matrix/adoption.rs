//! Adoption: a live block gets another owner while the one that it had may be about to free it.
//!
//! Where the block is the caller's own or unowned, one compare-and-swap does it. Else its owner A may be
//! about to store its header plainly (matrix::bias). Then the adopter T takes five steps:
//!
//! 1. T's slot says which block T adopts, and from A;
//! 2. compare-and-swap: the header says that T adopts it, by a number that no cache has. So no cache stores the
//!    header plainly from now on, but for a store of A's that is under way, and no other adopts the block;
//! 3. heavy fence;
//! 4. a look at A's slot: does it name the block?
//! 5. compare-and-swap: no, the block goes to its new owner; yes, back to A.
//!
//! A stopped adopter keeps from others that one block, until its recovery ends the adoption.

use super::block_header::{Header, LINKED, State, adopter, is_adopter, is_nobody};
use super::words::{Heap, Live, view};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::packed::packed;
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::Region;

/// How often an adopter's slot is read that does not say what the header says: as often it has ended one
/// adoption and begun the same one again, or the header is forged.
const ADOPTION_LOOKS: u32 = 1000;

packed! {
    /// A slot's word of the adoption that its holder is making.
    pub(super) struct Adopting {
        /// The block, plus one; 0 is none.
        NAMED: 32,
        /// Its owner before.
        FROM: 16,
        UNUSED: 16,
    }
}

view! {
    /// A live block changes its owner while that may be about to free it.
    pub struct Adoption, adoption
}

impl<R: Region> Adoption<'_, R> {
    /// Gives the live block read as `header` another owner. None if it has changed. For the cache that owns
    /// it, and for blocks that are unowned or a dead one's; see `Adoption::rename_from`.
    pub fn rename(self, g: Granule, header: Header, owner: u16) -> Option<Header> {
        let renamed = Header::new(header.state(), owner, header.generation(), header.low());
        self.heap.header(g).cas(header.0, renamed.0, &ADOPT).is_ok().then_some(renamed)
    }

    /// Whether the block's owner, another than `me`, says that it is about to store its header: an adoption would
    /// be in vain, and its fence as well.
    pub fn is_named(self, me: u16, live: Live) -> bool {
        let owner = live.header.owner();
        self.heap.biased()
            && owner != me
            && self.heap.is_participant(owner)
            && self.heap.bias().is_hazardous(owner, live.at)
    }

    /// Gives, as `me`, the live block read as `header` another owner, also a block of another's. None if it has
    /// changed, if its owner is freeing it, if another is just adopting it, or if it is a structure's.
    ///
    /// One compare-and-swap where it is this cache's or unowned, else two and a heavy fence.
    pub fn rename_from(self, me: u16, g: Granule, header: Header, to: u16) -> Option<Header> {
        let owner = header.owner();
        if owner == LINKED {
            return None;
        }
        if !self.heap.biased() || is_nobody(owner) || owner == me || self.heap.layout().bin_of(header.size()).is_none()
        {
            return self.rename(g, header, to);
        }
        if self.heap.bias().is_adopting(owner) {
            return None;
        }
        // First the header says that this adopter has it: its owner may be about to store that it is parked, and no
        // other may build on it before that is ruled out. The slot says whose it was, for the recoverer of an adopter
        // that dies here.
        let adopting = self.heap.slot(me, SlotWord::Adopting);
        adopting.store(Adopting::FROM.of(owner as u64) | Adopting::NAMED.of(g.0 as u64 + 1), &ADOPTING);
        let ours = self.rename(g, header, adopter(me));
        let given = ours.and_then(|_| {
            let other = self.still_names(me, owner, g);
            self.end_adoption(me, g, other, to).filter(|_| other.is_none())
        });
        adopting.store(0, &ADOPTING);
        given
    }

    /// Fences, and says whether `owner`, whose block at `g` is being adopted, may be about to store its
    /// header. No other may, whatever slots name it: a stale index, or a pointer to a block that was
    /// theirs, leads many to one that is not. Where there is no fence to be had, it may.
    fn still_names(self, caller: u16, owner: u16, g: Granule) -> Option<u16> {
        let fenced = R::Backend::heavy_fence(&THIEF_FENCE, self.heap.bias().reach(caller, std::iter::once(owner)));
        if R::Backend::mutated(Mutant::BystanderBelieved) {
            return (1..=self.heap.layout().params.participants as u16)
                .find(|&other| self.heap.bias().is_hazardous(other, g));
        }
        (!fenced || self.heap.bias().is_hazardous(owner, g)).then_some(owner)
    }

    /// What `me` is adopting at `g` goes back to `other`, if there is one. Else it becomes `to`'s; or
    /// unowned, if it is parked or marked by now. The header of a live block.
    fn end_adoption(self, me: u16, g: Granule, other: Option<u16>, to: u16) -> Option<Header> {
        loop {
            let now = self.heap.look(g);
            if now.parked_by() != adopter(me) {
                return None;
            }
            let ended = match now.is_given_up() {
                true => Header::new(State::Acked, other.unwrap_or(0), now.generation(), self.heap.place(g, now.size())),
                false if now.is_live() => Header::new(now.state(), other.unwrap_or(to), now.generation(), now.low()),
                false => return None,
            };
            if self.heap.header(g).cas(now.0, ended.0, &ADOPT).is_ok() {
                return ended.is_live().then_some(ended);
            }
            R::Backend::pause();
        }
    }

    /// The dead participant's adoption comes to its end: the block is whose it was. That takes no fence: its
    /// owner may store the header. The number is pinned, so that the word is no later adoption's.
    pub(crate) fn finish_adoption(self, dead: u16) {
        let named = self.heap.slot(dead, SlotWord::Adopting).load(&HAZARD_LOOK);
        if let Some(g) = (Adopting::NAMED.get(named) as u32).checked_sub(1).map(Granule)
            && g.0 < self.heap.layout().granules
            && self.heap.look(g).parked_by() == adopter(dead)
        {
            // A number that is no participant's was not written by an adoption (C2).
            let owner = Some(Adopting::FROM.get(named) as u16).filter(|&owner| self.heap.is_participant(owner));
            self.end_adoption(dead, g, owner, dead);
        }
    }

    /// The owner from which another is just adopting the live block at `g`, read as `header`: it may yet become that
    /// owner's again. 0 if it is not being adopted. None if it has changed meanwhile.
    ///
    /// An adopter's slot names the block for as long as its header says that it adopts it.
    pub(crate) fn adopted_from(self, g: Granule, header: Header) -> Option<u16> {
        if !header.is_live() || !is_adopter(header.owner()) || !self.heap.is_participant(header.holder()) {
            return Some(0);
        }
        for _ in 0..ADOPTION_LOOKS {
            let named = self.heap.slot(header.holder(), SlotWord::Adopting).load(&HAZARD_LOOK);
            if Adopting::NAMED.get(named) == g.0 as u64 + 1 {
                return Some(Adopting::FROM.get(named) as u16);
            }
            // Each time it has ended and begun anew, or no adoption wrote that.
            if self.heap.look(g) != header {
                return None;
            }
        }
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::decorators::{Probe, stopped_at};
    use crate::matrix::heap::{Kind, ThreadCache};
    use crate::matrix::recovery::Policy;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    /// Only where there is a bias does an owner name blocks, and only another's name matters.
    #[test]
    fn s1_another_owners_name_stands_in_the_way() {
        for biased in [true, false] {
            let params = Params { biased, participants: 8, ..Params::for_segment(64 << 10) };
            let layout = Layout::fit(64 << 10, params).expect("room for a sector");
            let heap = Heap::format(BoxedRegion::<Native>::new(layout));
            let block = heap.allocate(&mut ThreadCache::new(1), 8, 1, Kind::Raw).expect("room");
            let is_named = |me, owner| {
                let header = Header::new(block.header.state(), owner, block.header.generation(), block.header.low());
                heap.adoption().is_named(me, Live { header, ..block })
            };
            assert!(!is_named(1, 1) && !is_named(2, 1));
            heap.slot(1, SlotWord::Hazard).store(block.at.0 as u64 + 1, &HAZARD_SET);
            assert_eq!([is_named(2, 1), is_named(1, 1), is_named(2, 0), is_named(1, 2)], [biased, false, false, false]);
            let ours = heap.ownership().give_from(1, block, 1);
            assert!(ours.is_ok(), "its owner gives it");
        }
    }

    /// What its slot names besides, a participant does not adopt: before its first step it names a block that is
    /// another's still, and behind its last one a block that is its own.
    #[test]
    fn c1_a_block_is_being_adopted_as_long_as_its_header_says_so() {
        let params = Params { biased: true, participants: 8, ..Params::for_segment(64 << 10) };
        let heap = Heap::format(BoxedRegion::<Native>::new(Layout::fit(64 << 10, params).expect("room for a sector")));
        let mut owner = ThreadCache::new(1);
        let Live { at, header } = heap.allocate(&mut owner, 8, 1, Kind::Raw).expect("room");
        let names = |number, from: u64, g: Granule| {
            let named = Adopting::FROM.of(from) | Adopting::NAMED.of(g.0 as u64 + 1);
            heap.slot(number, SlotWord::Adopting).store(named, &ADOPTING);
        };
        let from = |header| heap.adoption().adopted_from(at, header);
        names(1, 3, at);
        assert_eq!(from(header), Some(0), "its own by now");
        names(2, 1, at);
        assert_eq!(from(header), Some(0), "its owner's still");
        let adopted = heap.adoption().rename(at, header, adopter(2)).expect("it is as it was");
        assert_eq!(from(adopted), Some(1));
        names(2, 1, Granule(at.0 + 4));
        assert_eq!(from(adopted), Some(0), "no adoption wrote that");
        heap.adoption().rename(at, adopted, 1).expect("it is as it was");
        assert_eq!(from(adopted), None, "it has changed");
        let strangers = Header::new(header.state(), adopter(9), header.generation(), header.low());
        assert_eq!(from(strangers), Some(0), "no participant has that number");
    }

    /// An adopter is killed at each of its accesses, beside an owner that names the block or does not, and a
    /// third that frees it then or does not; its recoverer as well, at each of its own. The block is its
    /// owner's or freed, and no byte is lost.
    #[test]
    fn c1_an_adoption_is_ended_wherever_it_stops() {
        const CASES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];
        let params = Params { biased: true, participants: 8, ..Params::for_segment(64 << 10) };
        let layout = Layout::fit(64 << 10, params).expect("room for a sector");
        let mut stops = 0;
        for (named, freed) in CASES {
            let (mut adopter_ends, mut k) = (false, 0);
            while !adopter_ends {
                let (mut recoverer_ends, mut deep) = (false, 0);
                while !recoverer_ends {
                    let what = format!("stopped at {k} and {deep}, named {named}, freed {freed}");
                    let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(layout.clone()));
                    let (mut owner, mut third) = (ThreadCache::new(1), ThreadCache::new(3));
                    let block = heap.allocate(&mut owner, 8, 1, Kind::Raw).expect("room");
                    let (at, generation) = (block.at, block.header.generation());
                    let hazard = heap.slot(1, SlotWord::Hazard);
                    hazard.store(if named { at.0 as u64 + 1 } else { 0 }, &HAZARD_SET);
                    adopter_ends = stopped_at(k, || heap.adoption().rename_from(2, at, block.header, 2)).is_some();
                    if freed {
                        heap.free(&mut third, at, Some(generation)).expect(&what);
                    }
                    let adopted = heap.look(at).owner() == 2;
                    let recover =
                        |by: u16, dead| heap.recoveries().recover(&mut ThreadCache::new(by), dead, Policy::GiveBack);
                    recoverer_ends = stopped_at(deep, || recover(4, 2)).is_some();
                    if !recoverer_ends {
                        recover(5, 4);
                        recover(5, 2);
                    }
                    let now = heap.look(at);
                    match now.is_live() {
                        true => assert_eq!((now.owner(), now.generation(), freed), (1, generation, false), "{what}"),
                        false => assert!(freed || adopted, "S1: its owner may be about to store it, {what}"),
                    }
                    hazard.store(0, &HAZARD_CLEAR);
                    if now.is_live() {
                        heap.free(&mut owner, at, Some(generation)).expect(&what);
                    }
                    heap.heal(&mut third);
                    let tally = heap.verify().expect(&what);
                    assert_eq!((tally.free.blocks, tally.free.granules), (1, layout.granules as u64), "{what}");
                    stops += 1;
                    deep += 1;
                }
                k += 1;
            }
        }
        println!("{stops} stops");
        assert!(stops > 500, "{stops}");
    }
}
