//! Settling: what a recovery does with the links of the dead, in all structures, before it frees
//! their blocks (L-c).
//!
//! It walks twice. First the links of the dead are completed, in every structure; then comes what
//! they held, where a channel delivers that again ([`held`](super::held)). Whoever sends on what it
//! holds puts a link to it into another structure first; if that stands, it is complete by the
//! second walk, and so the hold is void: the message is in one of the two.
//!
//! It rings for what it has settled. What the walk behind it does, the freeing of blocks, is awaited as well: a
//! request's header tells its client that nobody works at it any more. A client that was called before that
//! falls asleep again. So its bell is rung once more, behind the walk (`Heap::ring_clients`) and before the recovery
//! ends: if the recoverer dies in between, the next one walks and rings again. A walk that is set aside, where an
//! allocation has found room, rings for what it has freed so far.

use super::log::Log;
use super::ring::Ring;
use super::structure::{Role, Settled, Sort, Structure};
use super::table::Table;
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::matrix::heap::{Heap, Live, ThreadCache};
use crate::segment::region::Region;

/// The two walks of settling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SettlingWalk {
    /// The links of the dead, in all structures.
    Links,
    /// What they held.
    Holds,
}

impl<R: Region> Structure<'_, R> {
    /// L-c, for one structure. What a dead one's end makes somebody's becomes `me`'s, and is freed
    /// if there is a cache.
    fn settle(self, dead: u16, me: u16, cache: Option<&mut ThreadCache>, step: SettlingWalk, settled: &mut Settled) {
        let early = R::Backend::mutated(Mutant::HoldsBeforeLinks);
        if self.shape.has_holds() && (step == SettlingWalk::Holds) != early {
            Ring::of(self).settle_holds(dead, settled);
        }
        if step == SettlingWalk::Links {
            match self.shape.sort {
                Sort::Channel | Sort::Single | Sort::Redelivering => {
                    Ring::of(self).settle(dead, settled);
                }
                Sort::Topic | Sort::Board => Log::of(self).settle(dead, settled),
                Sort::Map => Table::of(self).settle(dead, me, cache, settled),
                // Who waits looks itself whether the holder lives; a value in common is as it is.
                Sort::Event | Sort::Semaphore | Sort::Barrier | Sort::Lock | Sort::Common => {}
            }
        }
        // Once nothing of it is left here.
        if (step == SettlingWalk::Holds) == self.shape.has_holds() {
            self.forget(dead);
        }
    }
}

impl<R: Region> Heap<R> {
    /// L-c: completes the links of the dead participant in all structures, empties void words, and
    /// counts it among no users. The first step of its recovery, before its blocks are freed.
    /// Several may do this at once, any number of times. O(tiles + cells of structures).
    pub fn settle_links(&self, cache: &mut ThreadCache, dead: u16) -> Settled {
        self.settle_links_of(cache.owner(), Some(cache), &[dead], |_| true)
    }

    /// The same for all of the dead in one walk, as far as each may still be settled: `pins` says
    /// so, and that nobody else gets its number meanwhile. Without a cache, as a newcomer that
    /// visits under the number that it has reserved, nothing is freed.
    pub(crate) fn settle_links_of(
        &self,
        me: u16,
        mut cache: Option<&mut ThreadCache>,
        dead: &[u16],
        mut pins: impl FnMut(u16) -> bool,
    ) -> Settled {
        let mut settled = Settled::default();
        if self.region().word(self.layout().structures()).load(&STRUCTURE_LOOK) == 0 {
            return settled;
        }
        // A block that a dead one was adopting is its owner's again before anything is told by whose it is.
        for &dead in dead.iter().filter(|&&dead| pins(dead)) {
            self.adoption().finish_adoption(dead);
        }
        // What somebody held is looked at behind all links: whoever sent it on has put a link to it
        // into another structure, perhaps.
        if self.settle_step(me, &mut cache, dead, &mut pins, SettlingWalk::Links, &mut settled) {
            self.settle_step(me, &mut cache, dead, &mut pins, SettlingWalk::Holds, &mut settled);
        }
        settled
    }

    /// One walk over all structures; whether one of them has holds.
    fn settle_step(
        &self,
        me: u16,
        cache: &mut Option<&mut ThreadCache>,
        dead: &[u16],
        pins: &mut impl FnMut(u16) -> bool,
        step: SettlingWalk,
        settled: &mut Settled,
    ) -> bool {
        let mut holds = false;
        self.each_tile(|g, header| {
            if header.is_typed() && header.owner() == 0 {
                let live = Live { at: g, header };
                let _ = Structure::visit(self, me, live, |structure| {
                    holds |= structure.shape.has_holds();
                    if step == SettlingWalk::Links || structure.shape.has_holds() {
                        for &dead in dead.iter().filter(|&&dead| pins(dead)) {
                            structure.settle(dead, me, cache.as_deref_mut(), step, settled);
                        }
                        // Who waits for the dead one looks again.
                        [Role::Sender, Role::Receiver].iter().for_each(|&role| structure.bell(role).ring(u32::MAX));
                        settled.structures += u64::from(step == SettlingWalk::Links);
                        if step == SettlingWalk::Links && structure.is_hidden() {
                            settled.clients.push(live);
                        }
                    }
                });
                self.free_if_left(cache, live);
            }
            true
        });
        holds
    }

    /// Behind a visit: the last user may have died, on its way out perhaps; or it left during this visit.
    fn free_if_left(&self, cache: &mut Option<&mut ThreadCache>, live: Live) {
        if let Some(cache) = cache
            && Structure::at(self, live).is_some_and(|structure| structure.ends_with_users())
        {
            Structure::drain_removed(self, cache, live);
            Structure::free_if_unused(self, cache, live);
        }
    }

    /// Clients look again, whose requests the dead may have had: to be called behind the walk that has freed those,
    /// or where it is set aside, and before the recovery ends. `rings` are theirs, as the settling has found them.
    pub(crate) fn ring_clients(&self, me: u16, mut cache: Option<&mut ThreadCache>, rings: &[Live]) {
        for &live in rings.iter().filter(|_| R::Backend::takes(Mutant::RungEarly)) {
            let _ = Structure::visit(self, me, live, |ring| ring.bell(Role::Receiver).ring(u32::MAX));
            self.free_if_left(&mut cache, live);
        }
    }
}
