//! The values of a type that a segment holds.

use super::message::Ref;
use super::payload::Payload;
use crate::error::Result;
use crate::handlers::Handler;
use crate::shared::Shared;

impl Handler {
    /// References to all live blocks that hold a `T`, whosever they are, in the order of the sector.
    /// O(blocks); reads only.
    ///
    /// Weakly consistent: a block that is there throughout is among them, once; one that comes or goes
    /// meanwhile may be. Each reference is checked when it is used.
    ///
    /// # Errors
    /// As [`Handler::blocks`].
    pub fn refs<T: Payload + ?Sized>(&self) -> Result<Vec<Ref<T>>> {
        let mut found = vec![];
        self.blocks(|block| {
            if block.fingerprint == Some(T::FINGERPRINT) {
                found.push(Ref::new(self, block.offset, block.generation));
            }
        })?;
        Ok(found)
    }

    /// A copy of each value of this type that is live, with its reference. As [`Handler::refs`]; blocks that
    /// are freed before it is their turn, or while they are copied, are left out.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let kept: Vec<_> = (0..3u64).map(|number| handler.message_of(number)).collect::<Result<_, _>>()?;
    /// let sum: u64 = handler.iter::<u64>()?.map(|(_, number)| number).sum();
    /// assert_eq!((kept.len(), sum), (3, 3));
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::blocks`].
    pub fn iter<T: Shared>(&self) -> Result<impl Iterator<Item = (Ref<T>, T)> + '_> {
        let found = self.refs::<T>()?;
        Ok(found.into_iter().filter_map(|reference| Some((reference, self.read_ref(reference).ok()?))))
    }
}
