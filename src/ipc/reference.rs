//! Structures by reference: what leads to one in 64 bits, so that it needs no name.
//!
//! ```
//! use atomic_matrix::ipc::{Channel, Ref};
//!
//! atomic_matrix::shared! {
//!     /// A question, and where its answer is awaited.
//!     struct Question { number: u64, answer: Ref<Channel<u64>> }
//! }
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
//! let questions = handler.channel::<Question>("questions").create()?;
//! let (ask, asked) = (questions.sender()?, questions.receiver()?);
//!
//! let answers = handler.unnamed_channel::<u64>().capacity(1).create()?; // mine, until I send what leads to it
//! let answer = answers.receiver()?;
//! ask.send_value(Question { number: 7, answer: Ref::to(&answers) })?;
//!
//! let question = asked.recv()?; // in another process
//! handler.open_ref(question.answer)?.sender()?.send_value(question.number * 6)?;
//!
//! assert_eq!(*answer.recv()?, 42);
//! # Ok(())
//! # }
//! ```
//!
//! **What is checked.** A reference says the segment, the offset and the generation, as every [`Ref`] does. Opening it
//! checks these, that a structure is there, and its sort and type, as opening a name does; then this process is counted
//! among its users. So a reference that is late, forged or another segment's is an error, and opens nothing.
//!
//! **How long a structure without a name stays.** As long as somebody has it open: a reference alone keeps nothing. It
//! is closed and freed, with what is in it, when its last user leaves. *Killed*: the dead use it no more after their
//! recovery, which frees it if it was the last. Killed while it makes it: its half is given back. Whoever opens it in
//! the instant in which the last user leaves has it, or is told that it is gone ([`Error::NotLive`]). A structure that
//! has a name stays until it is removed, as ever, and may be opened by reference as well. If the last user leaves in a
//! thread that finds no participant slot, it is closed and not freed: that is done by the next recovery of somebody
//! dead.

use super::board::Board;
use super::channel::attached::Attached;
use super::channel::{Channel, Mode};
use super::common::Common;
use super::map::Map;
use super::message::Ref;
use super::named::{Barrier, Event, Mutex, Semaphore};
use super::payload::{Payload, Referred};
use super::service::{Service, content_of};
use super::sort::Sort;
use super::structure::Shape;
use super::topic::Topic;
use crate::error::Result;
use crate::handlers::Handler;
use crate::shared::{InPlace, Shared, mix};
use std::any::type_name;
use std::marker::PhantomData;
use std::sync::Arc;

#[cfg(doc)]
use crate::error::Error;

/// This process's part in a structure.
pub struct StructurePart(pub(in crate::ipc) Arc<Attached>);

/// A structure that can be opened by reference: a channel, a service, a topic, a board, a map, a lock or one of its
/// like, a value in common.
pub trait Structural: Sized {
    /// What structure that is.
    #[doc(hidden)]
    const SORT: Sort;
    /// Of what type.
    #[doc(hidden)]
    const CONTENT: u32;
    /// The one that this process has a part in. A part in another sort of structure, or one of another type, is
    /// refused: anybody may call this.
    #[doc(hidden)]
    fn over(part: StructurePart) -> Result<Self>;
    /// This process's part in it.
    #[doc(hidden)]
    fn part(&self) -> StructurePart;
}

/// `[generics] type, sort, content, |attached| value`: a type that keeps its part in `attached`.
macro_rules! structural {
    ([$($generics:tt)*] $type:ty, $sort:expr, $content:expr, |$attached:ident| $made:expr) => {
        impl<$($generics)*> Structural for $type {
            const SORT: Sort = $sort;
            const CONTENT: u32 = $content;
            fn over(StructurePart($attached): StructurePart) -> Result<Self> {
                $attached.is_of(Self::SORT, Self::CONTENT, type_name::<Self>())?;
                $made
            }
            fn part(&self) -> StructurePart {
                StructurePart(self.attached.clone())
            }
        }
        impl<$($generics)*> Referred for $type {
            const LEADS_TO: u32 = mix("structure", &[$sort as u32, $content]);
        }
    };
}

structural!([T: Payload + ?Sized] Board<T>, Sort::Board, T::FINGERPRINT, |attached| Ok(Self::over(attached)));
structural!(
    [T: InPlace] Common<T>, Sort::Common, mix("common", &[<T as InPlace>::PRINT]),
    |attached| Self::over(attached)
);
structural!([] Event, Sort::Event, 0, |attached| Ok(Self { attached }));
structural!([] Semaphore, Sort::Semaphore, 0, |attached| Ok(Self { attached }));
structural!([] Barrier, Sort::Barrier, 0, |attached| Ok(Self { attached }));
structural!([T: Shared] Mutex<T>, Sort::Lock, mix("mutex", &[T::FINGERPRINT]), |attached| Self::over(attached));
structural!(
    [T: Payload + ?Sized] Topic<T>, Sort::Topic, T::FINGERPRINT,
    |attached| Ok(Self::over(attached))
);
structural!([T: Payload + ?Sized, M: Mode] Channel<T, M>, M::SORT, T::FINGERPRINT, |attached| Ok(Self::of(attached)));
structural!([T: Payload + ?Sized] Map<T>, Sort::Map, T::FINGERPRINT, |attached| Ok(Self { attached, of: PhantomData }));
structural!(
    [Q: Payload + ?Sized, A: Payload + ?Sized] Service<Q, A>, Sort::Channel,
    content_of::<Q, A>(), |attached| Ok(Self { attached, of: PhantomData })
);

impl<S: Structural> Ref<S> {
    /// What leads to a structure, for whoever shall open it ([`Handler::open_ref`]). It keeps it from nothing.
    pub fn to(structure: &S) -> Self {
        let StructurePart(attached) = structure.part();
        let offset = attached.handler.matrix().offsets().offset(attached.live.at);
        Self::new(&attached.handler, offset, attached.live.header.generation())
    }
}

impl Handler {
    /// Opens the structure that a reference leads to ([`Ref::to`]), whether it has a name or none: as opening it by its
    /// name. O(1), lock-free.
    ///
    /// A reference keeps nothing. A structure without a name ([`Handler::unnamed_channel`] and its like) stays as long
    /// as some process has it open, be it an end of it alone; when the last one has left, or has died and was
    /// recovered, it is freed, with what is in it.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// use atomic_matrix::ipc::{Channel, Ref};
    /// let answers = handler.unnamed_channel::<u64>().capacity(1).create()?;
    /// let answer = answers.receiver()?;
    /// let number = Ref::to(&answers).to_bits(); // 64 bits: in a message, on a board, in a variable of the environment
    /// // In another process:
    /// let theirs = handler.open_ref(Ref::<Channel<u64>>::from_bits(number))?;
    /// theirs.sender()?.send_value(42)?;
    /// assert_eq!(*answer.recv()?, 42);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ForeignBlock`], [`Error::BadOffset`], [`Error::Stale`]; [`Error::NotLive`] if it was removed, or its
    /// last user has left; [`Error::TypeMismatch`] if what is there is no structure of this sort and type;
    /// [`Error::ChangingHands`] if it is just being made; [`Error::NoParticipantSlot`], [`Error::TooManyHandles`],
    /// [`Error::ForkedChild`].
    pub fn open_ref<S: Structural>(&self, reference: Ref<S>) -> Result<S> {
        let live = self.live_ref(reference)?;
        let shape = Shape { sort: S::SORT, cells_shift: 0, readers: 0, content: S::CONTENT };
        S::over(StructurePart(Attached::open_at(self, live, shape, type_name::<S>())?))
    }
}
