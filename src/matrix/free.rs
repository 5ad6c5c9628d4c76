//! Free: onto the own stack, back to the lane whose block it is, or merged.

use super::lane::{Lane, is_parkable};
use super::token::{State, Token, is_nobody, place};
use super::words::{Heap, Live, Refusal};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{Geometry, Granule};
use crate::segment::region::Region;
use crate::segment::size_class::{Bin, EXACT};

impl<R: Region> Heap<R> {
    /// Frees the live block that begins at `g`: one compare-and-swap where it is parked, else the Ripple.
    ///
    /// With a `generation`, only the block of that generation.
    ///
    /// # Errors
    /// [`Refusal`], and nothing has changed (S5).
    #[inline]
    pub fn free(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> Result<(), Refusal> {
        if self.free_quickly(lane, g, generation) {
            return Ok(());
        }
        self.free_slowly(lane, g, generation)
    }

    /// Frees a live block onto the lane's own stack, if it is still the lane's own, of less than `EXACT` granules, typed as told or untyped,
    /// and there is room: no locked instruction. False: nothing was done.
    ///
    /// What is stored, and where, follows from the token that the caller has: nothing waits for the one in memory, which is only compared.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`], and the token's position is that of the granule in its span, as an allocation gave them.
    #[inline(always)]
    pub unsafe fn free_live(&self, lane: &mut Lane, live: Live, typed: bool, geometry: &impl Geometry) -> bool {
        let Live { at: g, token } = live;
        let (busy, owners) = (lane.busy, Token(lane.live_bits));
        let own = if typed { token.is_typed() && token.owner() == owners.owner() } else { token.held_by_same(owners) };
        let size = if typed { token.size() } else { token.low_size() };
        if g.0 >= lane.roomy || !own || size >= EXACT {
            return false;
        }
        // SAFETY: as in `pop_own`.
        let word = unsafe { self.region().token_in_range(g, geometry.span_shift()) };
        let change = |now: Token| {
            let blind = R::Backend::mutated(Mutant::GenerationIgnored) && now.meaning() == token.meaning();
            let live = if blind { now } else { token };
            // Another segment's pointer with this one's tag fits no token here.
            debug_assert!(now != token || token.position() == g.0 & ((1 << geometry.span_shift()) - 1));
            let parked = match typed {
                true => Token::new(State::Acked, live.owner(), live.generation(), place(live.position(), size)),
                false => live.parked(),
            };
            ((now == token || blind) && lane.stacks.get_mut(size as usize)?.push(g)).then_some((parked, ()))
        };
        // SAFETY: as above.
        unsafe { self.change_own(busy, g, word, change) }.is_some()
    }

    /// Frees the untyped live block at `g`, whichever it is, onto the lane's own stack, if it is the lane's own, of less than `EXACT`
    /// granules, and there is room: no locked instruction. False: nothing was done.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(always)]
    pub unsafe fn free_own(&self, lane: &mut Lane, g: Granule, geometry: &impl Geometry) -> bool {
        let (live_bits, busy, shift) = (lane.live_bits, lane.busy, geometry.span_shift());
        if g.0 >= lane.roomy {
            return false;
        }
        // SAFETY: as in `pop_own`.
        let word = unsafe { self.region().token_in_range(g, shift) };
        // Another lane may have written it last, or may own it: then one transfer of its line serves the look and the change.
        word.expect_write();
        let expected = live_bits | u64::from(place(g.0 & ((1 << shift) - 1), 0));
        let change = |token: Token| {
            // The size, if everything else is as it should be.
            let size = token.meaning() ^ expected;
            if size.wrapping_sub(1) >= EXACT as u64 - 1 {
                return None;
            }
            lane.stacks.get_mut(size as usize)?.push(g).then(|| (token.parked(), ()))
        };
        // SAFETY: as above.
        unsafe { self.change_own(busy, g, word, change) }.is_some()
    }

    /// The block at `g` will be freed soon: its token's line may come. No access.
    #[inline(always)]
    pub fn will_free(&self, g: Granule) {
        self.token(g).expect_write();
    }

    /// Frees a block where that takes one read-modify-write at most. False: nothing was done.
    #[inline]
    pub fn free_quickly(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> bool {
        let anothers = self.biased() && Token(self.token(g).load(&TOKEN_HINT)).owner() != lane.owner();
        if anothers { self.free_homeward(lane, g, generation) } else { self.free_to_stack(lane, g, generation) }
    }

    /// Frees the live block at `g` onto the lane's own stack, if it is the lane's own (or, without bias, anybody's) and there
    /// is room: no locked instruction, without bias one. False: nothing was done.
    #[inline(never)]
    pub fn free_to_stack(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> bool {
        let (owner, busy) = (lane.owner, self.busy_of(lane));
        let may_park = |token: Token| {
            let token = self.said_of(g, token);
            let size = token.size();
            let bin = Bin::of(size)?;
            let current = generation.is_none_or(|held| held == token.generation());
            let fits = token.is_live()
                && self.fits_sector(g, token)
                && (current || R::Backend::mutated(Mutant::GenerationIgnored));
            (fits && lane.stacks[bin.0].has_room())
                .then(|| (Token::new(State::Acked, owner, token.generation(), self.place(g, size)), bin))
        };
        let parked = if busy == 0 {
            let token = Token(self.token(g).load(&TOKEN_HINT));
            may_park(token)
                .filter(|(acked, _)| !self.biased() && self.token(g).cas(token.0, acked.0, &PARK).is_ok())
                .map(|(_, bin)| bin)
        } else {
            let change = |token: Token| may_park(token).filter(|_| token.owner() == owner);
            // SAFETY: `busy_of` is in range.
            unsafe { self.change_own(busy, g, self.token(g), change) }
        };
        parked.is_some_and(|bin| lane.stacks[bin.0].push(g))
    }

    /// Frees another lane's block: it goes back to that lane's parked blocks by one compare-and-swap. False: nothing was done.
    #[inline(never)]
    pub fn free_homeward(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> bool {
        let token = self.look(g);
        let (owner, size) = (token.owner(), token.size());
        let current = generation.is_none_or(|held| held == token.generation());
        if !self.biased()
            || !token.is_live()
            || !self.fits_sector(g, token)
            || !is_parkable(size)
            || !(current || R::Backend::mutated(Mutant::GenerationIgnored))
            || is_nobody(owner)
            || owner == lane.owner
        {
            return false;
        }
        let acked = Token::new(State::Acked, owner, token.generation(), self.place(g, size));
        if self.token(g).cas(token.0, acked.0, &PARK).is_err() {
            return false;
        }
        match self.parking_bin(lane, size) {
            // Whoever adopts it says what becomes of it.
            _ if self.is_adopting(owner) => {}
            Some(bin) => self.send_home(lane, bin, owner, g),
            None => self.merge_batch(lane, &[g.0]),
        }
        true
    }

    #[cold]
    #[inline(never)]
    fn free_slowly(&self, lane: &mut Lane, g: Granule, generation: Option<u32>) -> Result<(), Refusal> {
        self.bind(lane);
        if g.0 >= self.layout().granules {
            return Err(Refusal::OutOfRange);
        }
        let token = self.look(g);
        if !token.is_live() || !self.fits_sector(g, token) {
            return Err(Refusal::NotLive(token));
        }
        if generation.is_some_and(|held| held != token.generation()) && !R::Backend::mutated(Mutant::GenerationIgnored)
        {
            return Err(Refusal::Stale(token));
        }
        let size = token.size();
        // A block that its lane stores plainly stays that lane's: it was refused above only because it changed meanwhile.
        if self.biased() && is_parkable(size) && !is_nobody(token.owner()) && token.owner() != lane.owner() {
            if self.free_homeward(lane, g, generation) {
                return Ok(());
            }
            return self.free_anew(lane, g, token, self.look(g));
        }
        let acked = Token::new(State::Acked, lane.owner(), token.generation(), self.place(g, size));
        if let Err(found) = self.token(g).cas(token.0, acked.0, &PARK) {
            return self.free_anew(lane, g, token, self.said_of(g, Token(found)));
        }
        match self.parking_bin(lane, size) {
            Some(bin) => self.remember(lane, bin, g),
            None => drop(self.coalesce(lane, g, acked)),
        }
        Ok(())
    }

    /// The block read as `token` has become `found` before it could be freed. If it only changed hands (adopted, handed over, its
    /// owner left), it is the same block all the same.
    fn free_anew(&self, lane: &mut Lane, g: Granule, token: Token, found: Token) -> Result<(), Refusal> {
        let same = found.is_live() && found.generation() == token.generation();
        if same && !R::Backend::mutated(Mutant::NewOwnerRefused) {
            return self.free_slowly(lane, g, Some(token.generation()));
        }
        Err(Refusal::NotLive(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::biased;
    use crate::matrix::words::Kind;

    /// A lane of a large heap, used with a small one by mistake, names granules within the small one's words.
    #[test]
    fn s5_a_lane_of_another_heap_stays_within_this_ones_words() {
        let (large, small) = (biased(4 << 20, 1024), biased(64 << 10, 4));
        let mut lane = Lane::new(1000);
        large.allocate(&mut lane, 8, 1, Kind::Raw).expect("room");
        let mut other = Lane::new(1);
        let block = small.allocate(&mut other, 8, 1, Kind::Raw).expect("room");
        assert!(lane.busy as usize > small.layout().words, "the case is met");
        assert!(!small.free_to_stack(&mut lane, block.at, None), "it is another lane's");
    }

    /// The quick ways to free leave what the thorough one leaves, typed or not, whatever the size and wherever in its span.
    #[test]
    fn s4_a_quick_free_leaves_what_a_thorough_one_leaves() {
        let (quick, thorough) = (biased(1 << 20, 4), biased(1 << 20, 4));
        let (mut lane, mut other) = (Lane::new(1), Lane::new(1));
        let layout = quick.layout();
        let mut positions = std::collections::BTreeSet::new();
        for (round, size) in (0..4).flat_map(|round| (layout.span_mask + 1..EXACT).map(move |size| (round, size))) {
            for kind in [Kind::Raw, Kind::Typed(0x1FF_FFFF), Kind::Typed(round)] {
                let mut made = vec![];
                for _ in 0..4 {
                    let block = quick.allocate(&mut lane, size, 1, kind).expect("room");
                    assert_eq!(thorough.allocate(&mut other, size, 1, kind), Ok(block));
                    made.push(block);
                }
                for block in made {
                    let typed = kind != Kind::Raw;
                    assert_eq!(typed, block.token.is_typed());
                    let stale = Live { token: Token(block.token.0 ^ Token::new(State::Inside, 0, 1, 0).0), ..block };
                    // SAFETY: one heap for each lane, and its own geometry.
                    unsafe {
                        assert!(!quick.free_live(&mut lane, stale, typed, layout), "S5: another generation");
                        assert!(!quick.free_live(&mut lane, block, !typed, layout), "S5: of another kind");
                        let freed = quick.free_live(&mut lane, block, typed, layout);
                        assert!(freed || !lane.stacks[size as usize].has_room(), "{size} {kind:?}");
                        if !freed {
                            quick.free(&mut lane, block.at, Some(block.token.generation())).expect("live");
                        }
                    }
                    thorough.free(&mut other, block.at, Some(block.token.generation())).expect("live");
                    assert_eq!(quick.look(block.at), thorough.look(block.at), "{size} {kind:?}");
                    positions.insert(block.token.position());
                }
            }
        }
        assert_eq!(positions.len(), 4, "everywhere in a span: {positions:?}");
    }
}
