//! Blocks without `unsafe`: a [`Message`] is the only handle to its block, and so gives `&T` and `&mut T`.
//!
//! ```
//! use atomic_matrix::segment::Options;
//!
//! # fn main() -> atomic_matrix::Result<()> {
//! let handler = Options::new().memfd().size(8 << 20).create()?;
//! let mut frame = handler.message_slice::<u8>(3 << 20)?; // 3 MiB, filled where it lies
//! frame[0] = 7;
//! let reference = frame.into_ref()?; // unowned now: 64 bits for whatever queue there is
//! let frame = handler.take_ref(reference)?; // mine, here or in another process
//! assert_eq!((frame.len(), frame[0]), (3 << 20, 7));
//! # Ok::<(), atomic_matrix::Error>(())
//! # } // dropped: freed
//! ```
//!
//! **Why a reference to shared memory is sound here.** A message's block has one owner: whoever allocated it,
//! or took it by the one compare-and-swap that makes it somebody's ([`Handler::take_ref`], a channel's
//! receive). Its header says so to every process, and no call of this library reads or writes a block that
//! somebody holds as a message, but those that are given its bare offset ([`Handler::store`],
//! [`Handler::adopt_at`] and their like), whose pages say that the caller vouches for it. Other processes may
//! die; they do not lie (the crate's standing assumption: whoever may write the segment is trusted as one's
//! own threads are, and nothing protects against a process that scribbles over memory that it maps). What is
//! found in shared words is checked all the same: a length that does not fit its block is an error.
//!
//! What several read or write at the same time is no message: they copy ([`Handler::read_ref`]), or use a structure.
//!
//! *Killed* while it holds a message: its recovery frees the block. Killed in [`Message::into_ref`] before
//! its step: likewise; after it: the block is unowned, and stays until somebody takes or frees it by its
//! reference. A channel has no such gap.

use super::link::Taken;
use super::payload::{Framed, Payload, Referred};
use crate::backend::orderings::COPY_FENCE;
use crate::backend::payload;
use crate::backend::{Backend, Native};
use crate::error::{Error, Result};
use crate::handlers::{Block, Handler, RelativePtr};
use crate::matrix::heap::{Kind, Live};
use crate::packed::packed;
use crate::shared::{InPlace, Shared, mix, room};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A block that this handle alone reads and writes. Dropped, it is freed.
///
/// It may go to another thread. [`Message::into_ref`] lets it go to another process.
pub struct Message<'h, T: Payload + ?Sized> {
    handler: &'h Handler,
    value: NonNull<T>,
    pointer: RelativePtr<u8>,
    /// Whose it was, if it was received: its block goes back there.
    giver: u16,
}

// SAFETY: the handle is the only one to its value, and handlers may be used by any thread.
unsafe impl<T: Payload + ?Sized + Send> Send for Message<'_, T> {}
// SAFETY: through a shared handle there are shared references to the value only.
unsafe impl<T: Payload + ?Sized + Sync> Sync for Message<'_, T> {}

impl<T: Payload + ?Sized> Deref for Message<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the block is live and this handle's alone (see the module); any bytes are a value, and
        // `Message::over` has checked address and length.
        unsafe { self.value.as_ref() }
    }
}
impl<T: Payload + ?Sized> DerefMut for Message<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the block is live and this handle's alone, as for `deref`, and the handle is borrowed mutably.
        unsafe { self.value.as_mut() }
    }
}
impl<T: Payload + ?Sized> Drop for Message<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Refused in a forked child alone, whose parent has the block.
        if self.giver == 0 || !self.handler.free_message_to(&self.pointer, self.giver) {
            let _ = self.handler.free_message(&self.pointer);
        }
    }
}
impl<T: Payload + ?Sized + std::fmt::Debug> std::fmt::Debug for Message<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Message").field(&&**self).finish()
    }
}

impl<'h, T: Payload + ?Sized> Message<'h, T> {
    /// The message in a live block that is the caller's alone, whose type has been checked.
    pub(super) fn over(handler: &'h Handler, pointer: RelativePtr<u8>, items: usize) -> Self {
        let first = handler.resolve(&pointer).wrapping_add(T::HEAD);
        let value = NonNull::new(T::raw(first, items));
        Self { handler, value: value.expect("the segment's own block has an address"), pointer, giver: 0 }
    }

    /// The block's position, as plain data.
    pub fn offset(&self) -> u32 {
        self.pointer.offset()
    }

    /// The generation of the block.
    pub(super) fn generation(&self) -> u32 {
        self.pointer.generation()
    }

    /// The message in a block that was just received, and is the caller's alone. None if it is of another
    /// type, or does not hold what it says.
    #[inline]
    pub(super) fn received(handler: &'h Handler, Taken { live, giver }: Taken) -> Option<Self> {
        let pointer = handler.pointer(live);
        let items = handler.items_of::<T>(live).ok()?;
        let first = handler.address(pointer.offset()).wrapping_add(T::HEAD);
        // SAFETY: so many items lie in the block, which is the caller's alone.
        let whole = unsafe { T::is_whole(first, items) };
        whole.then(|| {
            let mut message = Self::over(handler, pointer, items);
            message.giver = giver;
            message
        })
    }

    /// The segment's handler.
    pub fn handler(&self) -> &'h Handler {
        self.handler
    }

    pub(super) fn giver(&self) -> u16 {
        self.giver
    }

    pub(super) fn with_giver(mut self, giver: u16) -> Self {
        self.giver = giver;
        self
    }

    pub(super) fn pointer(&self) -> RelativePtr<u8> {
        self.pointer
    }

    /// The block is unowned: what leads to it.
    pub(super) fn given(self) -> Ref<T> {
        let (handler, pointer) = self.forget();
        Ref::new(handler, pointer.offset(), pointer.generation())
    }

    pub(super) fn forget(self) -> (&'h Handler, RelativePtr<u8>) {
        let message = ManuallyDrop::new(self);
        (message.handler, message.pointer)
    }

    /// Lets the block go: it is unowned until somebody takes it by the reference, and its maker's death does
    /// not free it.
    ///
    /// # Errors
    /// As [`Handler::hand_over`]; the block is freed then, if it can be.
    pub fn into_ref(self) -> Result<Ref<T>> {
        self.handler.hand_over(&self.pointer)?;
        Ok(self.given())
    }
}

impl<T: Shared> Message<'_, T> {
    /// The block as one that is not freed when its handle is dropped, for the calls that take [`Block`]s.
    pub fn into_block(self) -> Block<T> {
        let (_, pointer) = self.forget();
        Block::at(pointer.cast())
    }
}

impl<T: Shared> Message<'_, [T]> {
    /// Keeps the first `items` items, if there are more. The block stays as large as it is.
    pub fn truncate(&mut self, items: usize) {
        if items < self.len() {
            let first = self.handler.resolve(&self.pointer);
            write_length(first, items);
            let value = NonNull::new(<[T]>::raw(first.wrapping_add(<[T]>::HEAD), items));
            self.value = value.expect("the segment's own block has an address");
        }
    }
}

/// A block's position in 64 bits: plain data, which means the same in every process of the segment. It leads to a
/// message, or to a structure ([`Ref::to`], [`Handler::open_ref`]). What it leads to is checked when it is used: that
/// the block is still live and was not freed meanwhile, its type, its length.
///
/// It may lie in shared memory itself: it is [`Shared`]. `offset | generation | segment`, 32 + 20 + 12 bits,
/// of which the last are of
/// [`Handler::creation`]: another segment's reference is refused, but for one in 4096. The generation comes back after
/// 2^20 reuses of one place.
#[repr(transparent)]
pub struct Ref<T: ?Sized>(u64, PhantomData<fn() -> T>);

packed! {
    /// A reference's bits.
    struct RefBits { OFFSET: 32, GENERATION: 20, SEGMENT: 12 }
}

impl<T: ?Sized> Clone for Ref<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Ref<T> {}
impl<T: ?Sized> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T: ?Sized> Eq for Ref<T> {}
impl<T: ?Sized> std::fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ref({}, generation {})", self.offset(), self.generation())
    }
}
// SAFETY: one number and nothing else (`repr(transparent)`), which means the same in every process of the segment, and
// is checked when it is used.
unsafe impl<T: Referred + ?Sized + 'static> Shared for Ref<T> {
    const FINGERPRINT: u32 = mix("reference", &[T::LEADS_TO]);
}

impl<T: ?Sized> Ref<T> {
    pub(super) fn new(handler: &Handler, offset: u32, generation: u32) -> Self {
        let position = RefBits::OFFSET.of(offset.into()) | RefBits::GENERATION.of(generation.into());
        Self(position | RefBits::SEGMENT.of(segment_bits(handler)), PhantomData)
    }
    /// As a number, to be passed on.
    pub const fn to_bits(self) -> u64 {
        self.0
    }
    /// From a number that [`Ref::to_bits`] gave, here or elsewhere. Any number will do: what is wrong is
    /// refused when it is used.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits, PhantomData)
    }
    /// The block's offset.
    pub const fn offset(self) -> u32 {
        RefBits::OFFSET.get(self.0) as u32
    }
    /// The block's generation.
    pub const fn generation(self) -> u32 {
        RefBits::GENERATION.get(self.0) as u32
    }
}

fn segment_bits(handler: &Handler) -> u64 {
    RefBits::SEGMENT.get(handler.creation().get())
}

pub(super) fn write_length(first: *mut u8, items: usize) {
    // SAFETY: the caller's own block, which has as many bytes at least, in front of its value.
    unsafe { payload::copy_in(&(items as u64).to_le_bytes(), first) };
}

impl Handler {
    /// A message for a `T`, to be filled through `&mut`; it holds whatever bytes were there before. O(1) amortised, as
    /// [`Handler::allocate_raw`].
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let mut message = handler.message::<[u64; 100]>()?;
    /// message[99] = 7;
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HandlerFunctions::allocate`](crate::handlers::HandlerFunctions::allocate).
    #[inline]
    pub fn message<T: InPlace>(&self) -> Result<Message<'_, T>> {
        let pointer = self.allocate_bytes(room::<T>(), align_of::<T>(), Kind::Typed(T::FINGERPRINT))?;
        Ok(Message::over(self, pointer, 1))
    }

    /// A message with this value.
    ///
    /// # Errors
    /// As [`Handler::message`].
    #[inline]
    pub fn message_of<T: InPlace>(&self, value: T) -> Result<Message<'_, T>> {
        let mut message = self.message()?;
        *message = value;
        Ok(message)
    }

    /// A message of so many items (0 to as many as the segment has room for), which are whatever bytes were
    /// there before. O(1) amortised.
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn message_slice<T: InPlace>(&self, items: usize) -> Result<Message<'_, [T]>> {
        self.filled_message(items, |_| ())
    }

    /// A message with a header and so many items, which are whatever bytes were there before. O(1) amortised.
    ///
    /// ```
    /// # let handler = atomic_matrix::segment::Options::new().memfd().size(1 << 20).create()?;
    /// let mut image = handler.message_framed::<[u32; 2], u8>(640 * 480)?;
    /// image.header = [640, 480];
    /// image.items.fill(0);
    /// # Ok::<(), atomic_matrix::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handler::message`].
    pub fn message_framed<H: InPlace, T: InPlace>(&self, items: usize) -> Result<Message<'_, Framed<H, T>>> {
        self.filled_message(items, |_| ())
    }

    /// A message of so many items, after `fill` has had the address of the first: it makes them a value,
    /// where any bytes are none.
    pub(super) fn filled_message<T: Payload + ?Sized>(
        &self,
        items: usize,
        fill: impl FnOnce(*mut u8),
    ) -> Result<Message<'_, T>> {
        self.filled_message_with(items, 0, fill)
    }

    /// The same, with so many bytes more behind the value, rounded up to 8.
    pub(super) fn filled_message_with<T: Payload + ?Sized>(
        &self,
        items: usize,
        room: usize,
        fill: impl FnOnce(*mut u8),
    ) -> Result<Message<'_, T>> {
        let most = self.sector_bytes();
        let too_large = || Error::TooLarge { requested: u64::MAX, largest: most };
        let with_room = |bytes: usize| match room {
            0 => Some(bytes),
            _ => bytes.checked_next_multiple_of(8)?.checked_add(room),
        };
        let bytes = T::bytes(items).and_then(with_room);
        let bytes = bytes.filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(too_large)?;
        let pointer = self.allocate_bytes(bytes, T::ALIGN, Kind::Typed(T::FINGERPRINT))?;
        let first = self.resolve(&pointer);
        if T::HEAD > 0 {
            write_length(first, items);
        }
        fill(first.wrapping_add(T::HEAD));
        Ok(Message::over(self, pointer, items))
    }

    /// Takes the block that a reference leads to, if it is unowned: of all who try, one gets it, and is the
    /// only one who has it.
    ///
    /// # Errors
    /// [`Error::NotLive`], [`Error::Stale`], [`Error::BadOffset`], [`Error::ForeignBlock`],
    /// [`Error::TypeMismatch`], [`Error::TooSmall`] as [`Handler::get_block`]; [`Error::Owned`] if somebody
    /// has it, [`Error::InStructure`] if a structure has; [`Error::NoParticipantSlot`],
    /// [`Error::ForkedChild`].
    pub fn take_ref<T: Payload + ?Sized>(&self, reference: Ref<T>) -> Result<Message<'_, T>> {
        let (live, _) = self.find_ref(reference)?;
        let pointer = self.take_live(reference.offset(), live)?;
        // Nobody changes it any more: now what it says of itself counts.
        self.whole_message(reference, pointer).inspect_err(|_| drop(self.hand_over(&pointer)))
    }

    /// The message in a block that is this call's alone, as it says of itself.
    pub(super) fn whole_message<T: Payload + ?Sized>(
        &self,
        reference: Ref<T>,
        pointer: RelativePtr<u8>,
    ) -> Result<Message<'_, T>> {
        let (_, items) = self.find_ref(reference)?;
        let first = self.address(reference.offset()).wrapping_add(T::HEAD);
        // SAFETY: so many items lie in the block, which is this call's alone.
        let whole = unsafe { T::is_whole(first, items) };
        if whole { Ok(Message::over(self, pointer, items)) } else { Err(Error::NotText { offset: reference.offset() }) }
    }

    /// A copy of the value that a reference leads to, whoever has it: for values that several read. If
    /// somebody writes it meanwhile the copy is a mixture; if it is freed meanwhile, that is told.
    ///
    /// # Errors
    /// As [`Handler::take_ref`], but for [`Error::Owned`] and [`Error::NoParticipantSlot`].
    pub fn read_ref<T: Shared>(&self, reference: Ref<T>) -> Result<T> {
        let value = self.copy_value(self.live_ref(reference)?)?;
        self.is_still(reference)?;
        Ok(value)
    }

    /// A copy of the items that a reference leads to, as [`Handler::read_ref`].
    ///
    /// # Errors
    /// As [`Handler::read_ref`].
    pub fn read_slice<T: Shared>(&self, reference: Ref<[T]>) -> Result<Vec<T>> {
        self.read_items(reference)
    }

    /// A copy of what has items of `T` one after the other.
    pub(super) fn read_items<T: Shared, P: Payload + ?Sized>(&self, reference: Ref<P>) -> Result<Vec<T>> {
        let values = self.copy_items::<T, P>(self.live_ref(reference)?)?;
        self.is_still(reference)?;
        Ok(values)
    }

    /// Frees the block that a reference leads to, if it is unowned: takes it, and drops what it took.
    ///
    /// A block that somebody has is refused, since its owner reads and writes it through a [`Message`].
    ///
    /// # Errors
    /// [`Error::NotLive`], [`Error::Stale`], [`Error::BadOffset`], [`Error::ForeignBlock`] as
    /// [`Handler::get_block`]; [`Error::Owned`] if somebody has it, [`Error::InStructure`] if a structure
    /// has; [`Error::NoParticipantSlot`], [`Error::ForkedChild`].
    pub fn free_ref<T: ?Sized>(&self, reference: Ref<T>) -> Result<()> {
        let taken = self.take_live(reference.offset(), self.live_ref(reference)?)?;
        self.free_message(&taken)
    }

    /// Makes a live block that is unowned this thread's.
    fn take_live(&self, offset: u32, live: Live) -> Result<RelativePtr<u8>> {
        self.refuse_structures(offset, live)?;
        let ours = self.matrix().with_cache(|cache| {
            let free = live.header.owner() == 0;
            free.then(|| {
                self.matrix().heap().adoption().rename_from(cache.owner(), live.at, live.header, cache.owner())
            })
            .flatten()
        })?;
        let header = ours.ok_or_else(|| Error::Owned { offset, participant: self.owner_at(live) })?;
        Ok(self.pointer(Live { at: live.at, header }))
    }

    pub(super) fn live_ref<T: ?Sized>(&self, reference: Ref<T>) -> Result<Live> {
        if RefBits::SEGMENT.get(reference.0) != segment_bits(self) {
            return Err(Error::ForeignBlock { offset: reference.offset(), segment: self.id() });
        }
        let live = self.live_at(reference.offset())?;
        match live.header.generation() == reference.generation() {
            true => Ok(live),
            false => Err(Error::Stale {
                offset: reference.offset(),
                expected: reference.generation(),
                found: live.header.generation(),
            }),
        }
    }

    fn is_still<T: ?Sized>(&self, reference: Ref<T>) -> Result<()> {
        Native::fence(&COPY_FENCE);
        self.live_ref(reference).map(|_| ())
    }

    fn owner_at(&self, live: Live) -> u16 {
        self.matrix().heap().look(live.at).holder()
    }

    /// The live block of a reference, and how many items it says that it has: checked against type, alignment and size.
    pub(super) fn find_ref<T: Payload + ?Sized>(&self, reference: Ref<T>) -> Result<(Live, usize)> {
        let live = self.live_ref(reference)?;
        Ok((live, self.items_of::<T>(live)?))
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::ipc::testing::handler;

    /// S5: behind the copy of a value it is asked once more whether its block is still the reference's.
    #[test]
    fn s5_a_block_that_was_freed_meanwhile_is_not_still_there() {
        let made = handler();
        let message = made.message_of(7_u64).expect("room");
        let reference = message.into_ref().expect("it is ours");
        made.is_still(reference).expect("it is there");
        made.free_ref(reference).expect("it is nobody's");
        assert!(matches!(made.is_still(reference), Err(Error::NotLive { .. } | Error::Stale { .. })));
    }
}
