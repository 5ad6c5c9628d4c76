//! The heap as a whole: how it is made, and the names under which it is used. What it does stands in the files beside this one.

pub use super::lane::Lane;
use super::token::{State, Token};
pub use super::words::{Exhausted, Heap, Kind, Live, Refusal};
use crate::backend::Word;
use crate::backend::orderings::FORMAT;
use crate::segment::layout::Granule;
use crate::segment::region::Region;
use crate::segment::size_class::of_size;

/// Behind the last span: a live block that is nobody's, and that no call accepts.
const SENTINEL: Token = Token::new(State::Allocated, 0, 0, 1);

impl<R: Region> Heap<R> {
    /// Makes one free block of a zeroed region that nobody else uses yet.
    pub fn format(region: R) -> Self {
        let heap = Self { region };
        let granules = heap.layout().granules;
        heap.token(Granule(granules)).store(SENTINEL.0, &FORMAT);
        let last = heap.layout().spans() - 1;
        if last > 0 {
            let at = heap.layout().first_of(last);
            heap.token(at).store(Token::new(State::Inside, 0, 0, last).0, &FORMAT);
        }
        heap.token(Granule(0)).store(Token::new(State::Free, 0, 0, granules).0, &FORMAT);
        heap.hint(Granule(0), of_size(granules), true);
        heap
    }

    /// Whether the sentinel behind the last granule stands as [`Heap::format`] left it; everything out of range reads it (C2).
    pub fn has_sentinel(&self) -> bool {
        self.look(Granule(self.layout().granules)) == SENTINEL
    }
}
