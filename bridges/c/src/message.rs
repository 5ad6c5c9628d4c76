//! Messages: bytes with one owner, filled where they lie, sent and received without a copy.

use crate::call::{Out, Outcome, call, copy_out, give, given};
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::Handler;
use atomic_matrix::ipc::{Message, Ref, Unbound};
use std::mem::MaybeUninit;

/// A message in this process's hands: what a Rust program has as `Message<[u8]>`. Its bytes are
/// this handle's alone, to be read and written. It is freed when this process dies, and by nothing
/// else but the calls below.
///
/// It may be moved to another place or thread; a copy of it is the same message, of which one may
/// be used. What was sent, handed over, published or freed has `data` null.
#[repr(C)]
pub struct amx_message {
    /// The first byte, aligned to 16 bytes.
    pub data: *mut u8,
    /// Bytes that may be read and written.
    pub size: usize,
    /// The library's own.
    pub opaque: MaybeUninit<[u64; 4]>,
}

/// What leads to a message that is unowned: plain data, the same in every process of the segment.
pub type amx_ref = u64;

const _: () = assert!(size_of::<Unbound<[u8]>>() <= 32 && align_of::<Unbound<[u8]>>() <= 8);

impl amx_message {
    pub(crate) fn of(mut message: Message<'_, [u8]>) -> Self {
        let (data, size) = (message.as_mut_ptr(), message.len());
        let mut opaque = MaybeUninit::<[u64; 4]>::uninit();
        // SAFETY: the words are large enough, and aligned, as the constant above says.
        unsafe { opaque.as_mut_ptr().cast::<Unbound<[u8]>>().write(message.unbind()) };
        Self { data, size, opaque }
    }

    fn none() -> Self {
        Self { data: std::ptr::null_mut(), size: 0, opaque: MaybeUninit::zeroed() }
    }

    /// Takes the message out of the handle, which holds none then. If it is not this segment's, or
    /// was freed by another way, it stays.
    pub(crate) fn take<'h>(&mut self, handler: &'h Handler) -> Outcome<Message<'h, [u8]>> {
        if self.data.is_null() {
            return Err(Failure::bad("the handle holds no message: it was sent, handed over, published or freed"));
        }
        // SAFETY: a handle that holds a message was made by `of`: its words are an `Unbound`, whose
        // every field is a plain number. It has no destructor, and what is read here is used no
        // more if this handle holds none afterwards, or if `bind` refuses it.
        let unbound = unsafe { self.opaque.as_ptr().cast::<Unbound<[u8]>>().read() };
        let message = unbound.bind(handler)?;
        *self = Self::none();
        Ok(message)
    }

    /// What becomes of a message that `act` may give back.
    pub(crate) fn pass<W: Into<Failure>>(
        message: Option<&mut Self>,
        handler: &Handler,
        act: impl for<'h> FnOnce(Message<'h, [u8]>) -> Result<(), (Message<'h, [u8]>, W)>,
    ) -> Outcome {
        let handle = given(message, "message")?;
        act(handle.take(handler)?).map_err(|(message, why)| {
            *handle = Self::of(message);
            why.into()
        })
    }
}

/// Allocates a message of `size` bytes (0 to as many as the segment has room for), which are
/// whatever was there before. O(1). AMX_OUT_OF_MEMORY, AMX_TOO_LARGE, AMX_NO_PLACE.
#[unsafe(no_mangle)]
pub extern "C" fn amx_message_allocate(
    segment: Option<&amx_segment>,
    size: usize,
    message: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let handler = &given(segment, "segment")?.handler;
        give(message, "message", || Ok(amx_message::of(handler.message_slice(size)?)))
    })
}

/// Keeps the first `size` bytes of a message. The block stays as large as it is.
#[unsafe(no_mangle)]
pub extern "C" fn amx_message_truncate(
    segment: Option<&amx_segment>,
    message: Option<&mut amx_message>,
    size: usize,
) -> amx_status {
    call(|| {
        let handle = given(message, "message")?;
        let mut message = handle.take(&given(segment, "segment")?.handler)?;
        message.truncate(size);
        *handle = amx_message::of(message);
        Ok(())
    })
}

/// Frees a message. AMX_NOT_LIVE if its block was freed by another way, AMX_FOREIGN if it is of
/// another segment.
#[unsafe(no_mangle)]
pub extern "C" fn amx_message_free(segment: Option<&amx_segment>, message: Option<&mut amx_message>) -> amx_status {
    call(|| {
        drop(given(message, "message")?.take(&given(segment, "segment")?.handler)?);
        Ok(())
    })
}

/// Lets a message go: it is unowned until somebody takes it by the reference, and no death frees it.
#[unsafe(no_mangle)]
pub extern "C" fn amx_message_hand_over(
    segment: Option<&amx_segment>,
    message: Option<&mut amx_message>,
    reference: Option<&mut MaybeUninit<amx_ref>>,
) -> amx_status {
    call(|| {
        let handler = &given(segment, "segment")?.handler;
        let handle = given(message, "message")?;
        give(reference, "reference", || Ok(handle.take(handler)?.into_ref()?.to_bits()))
    })
}

/// Takes the message that a reference leads to: of all who try, one gets it.
/// AMX_OWNED if somebody has it, AMX_NOT_LIVE if it was freed, AMX_WRONG_TYPE if it holds no bytes.
#[unsafe(no_mangle)]
pub extern "C" fn amx_message_adopt(
    segment: Option<&amx_segment>,
    reference: amx_ref,
    message: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let handler = &given(segment, "segment")?.handler;
        give(message, "message", || Ok(amx_message::of(handler.take_ref(Ref::from_bits(reference))?)))
    })
}

/// Copies what a reference leads to, whoever has it. `size` is told in any case;
/// AMX_BUFFER_TOO_SMALL if it is more than `capacity`. If somebody writes it meanwhile the copy is
/// a mixture; if it is freed meanwhile: AMX_NOT_LIVE.
#[unsafe(no_mangle)]
pub extern "C" fn amx_ref_read(
    segment: Option<&amx_segment>,
    reference: amx_ref,
    buffer: *mut u8,
    capacity: usize,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    let read = |size: Out<'_, usize>| -> Outcome {
        let copy = given(segment, "segment")?.handler.read_slice(Ref::<[u8]>::from_bits(reference))?;
        copy_out(&copy, buffer, capacity, size)
    };
    call(|| read(size))
}

/// Frees the message that a reference leads to, if it is unowned.
#[unsafe(no_mangle)]
pub extern "C" fn amx_ref_free(segment: Option<&amx_segment>, reference: amx_ref) -> amx_status {
    call(|| Ok(given(segment, "segment")?.handler.free_ref(Ref::<[u8]>::from_bits(reference))?))
}
