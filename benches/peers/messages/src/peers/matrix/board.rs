//! A board.

use super::{Segment, Small};
use crate::Outcome;
use crate::boards::{Latest, Values};
use crate::run::Task;
use atomic_matrix::ipc::Board;

pub(crate) struct Boards(Segment);

impl Values for Boards {
    type Latest = Board<Small>;
    fn make(task: &Task) -> Outcome<Self> {
        Ok(Self(Segment::make(task)?))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Ok(Self(Segment::open(task)?))
    }
    fn end(&self, _writes: bool) -> Outcome<Board<Small>> {
        Ok(self.0.handler.board("latest")?)
    }
}

impl Latest for Board<Small> {
    #[inline(always)]
    fn get(&mut self) -> Outcome<Small> {
        Ok(Board::get(self)?.unwrap_or_default())
    }
    #[inline(always)]
    fn set(&mut self, value: Small) -> Outcome<()> {
        Ok(Board::set(self, value)?)
    }
}
