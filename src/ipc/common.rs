//! Values in common: a value with atomics, which all who have it open use at once, where it lies.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! atomic_matrix::in_place! {
//!     /// What all processes have done together.
//!     struct Done { limit: u64, jobs: AtomicU64, bytes: AtomicU64 }
//! }
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let done = handler.common_with::<Done>("done", |done| done.limit = 1000)?; // whoever comes first sets the limit
//! let shared = done.get()?;
//! if shared.jobs.fetch_add(1, Relaxed) < shared.limit {
//!     shared.bytes.fetch_add(4096, Relaxed);
//! }
//! assert_eq!(shared.bytes.load(Relaxed), 4096);
//! # Ok(())
//! # }
//! ```
//!
//! **Why `&T` is sound for several at once.** The value lies in the structure's own block, which stays as long as
//! somebody is counted among its users. All bytes are written before it has a name. From then on every process has
//! `&T`, never `&mut T`, and so writes its atomics alone ([`InPlace`]).
//!
//! **Progress.** As each atomic's: wait-free. *Killed*: each atomic is as the last access left it; of two that belong
//! together one may be written and the other not (a [`Mutex`](super::Mutex) says so, by poisoning). Nothing has to be
//! repaired. Killed while it makes it: its half is given back.
//!
//! **Limits.** 8 MiB, aligned to 128 bytes at most. The orderings are the caller's, and no checker sees these accesses:
//! structures of one's own are written on [`memory`](crate::memory), which the checkers drive.

use super::channel::attached::Attached;
use super::named::cells_for;
use super::structure::{Shape, Sort};
use super::topic::open_filled;
use crate::error::Result;
use crate::handlers::Handler;
use crate::shared::{InPlace, mix};
use std::marker::PhantomData;
use std::sync::Arc;

#[cfg(doc)]
use crate::error::Error;

/// A value that all who have it open use at once, in any process. Clones share it.
pub struct Common<T> {
    pub(super) attached: Arc<Attached>,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Common<T> {
    fn clone(&self) -> Self {
        Self { attached: self.attached.clone(), of: PhantomData }
    }
}

impl Handler {
    /// The value of that name, which is made of zeros if there is none. O(bytes) if it is made, O(1) otherwise.
    ///
    /// # Errors
    /// As [`Handler::board`]; [`Error::BadAlignment`] if a `T` is aligned to more than 128 bytes;
    /// [`Error::TooLarge`] if it is larger than 8 MiB.
    pub fn common<T: InPlace>(&self, name: &str) -> Result<Common<T>> {
        self.common_with(name, |_| ())
    }

    /// The value of that name. If there is none it is made: of zeros, and as `fill` leaves it, which nobody else has
    /// seen before that. Of several who come first at once one makes it; `fill` may run for the others, and what they
    /// have made is freed.
    ///
    /// # Errors
    /// As [`Handler::common`].
    pub fn common_with<T: InPlace>(&self, name: &str, fill: impl FnMut(&mut T)) -> Result<Common<T>> {
        self.common_of(Some(name), fill)
    }

    /// A value without a name, made as [`Handler::common_with`] makes one: [`Handler::open_ref`] says what leads to it,
    /// and how long it stays.
    ///
    /// # Errors
    /// As [`Handler::common`], of what has no name.
    pub fn unnamed_common<T: InPlace>(&self, fill: impl FnMut(&mut T)) -> Result<Common<T>> {
        self.common_of(None, fill)
    }

    fn common_of<T: InPlace>(&self, name: Option<&str>, mut fill: impl FnMut(&mut T)) -> Result<Common<T>> {
        let content = mix("common", &[<T as InPlace>::PRINT]);
        let cells_shift = cells_for::<T>()?.next_power_of_two().trailing_zeros();
        let shape = Shape { sort: Sort::Common, cells_shift, readers: 0, content };
        let attached = open_filled::<Common<T>>(self, name, shape, |first| {
            // SAFETY: the cells are as many bytes at least, at that alignment (`cells_for`; they begin a pair of cache
            // lines), and zeroed: any bytes are a `T`. Nobody else has seen them.
            fill(unsafe { first.cast::<T>().as_mut() });
        })?;
        Common::over(attached)
    }
}

impl<T: InPlace> Common<T> {
    pub(super) fn over(attached: Arc<Attached>) -> Result<Self> {
        attached.holds::<T>(cells_for::<T>()?)?;
        Ok(Self { attached, of: PhantomData })
    }

    /// The value, where it lies. Wait-free, and no system call.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn get(&self) -> Result<&T> {
        let structure = self.attached.structure()?;
        // SAFETY: as many bytes lie there, at that alignment (`Common::over`; the fingerprint is the type's),
        // and any bytes are a `T`. The block stays while this process is counted among its users, which `self` sees to.
        // Since it has a name nobody has a `&mut` to it, so that its atomics alone are written (`InPlace`).
        Ok(unsafe { structure.first_cell().cast::<T>().as_ref() })
    }

    /// Removes it: its name is free, and its memory is freed after the last user.
    ///
    /// # Errors
    /// [`Error::ForkedChild`].
    pub fn remove(&self) -> Result<()> {
        self.attached.remove()
    }
}
