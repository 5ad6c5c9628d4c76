//! Events: something happened, and is not forgotten before somebody looks.

use crate::call::{call, give, given, text, timeout};
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::ipc::Event;
use std::ffi::c_char;
use std::mem::MaybeUninit;

/// An event: set or not. Any thread may use it, and several at once.
pub struct amx_event(Event);

/// Opens the event of that name, or makes it, not set. AMX_WRONG_TYPE if that name is something else's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_event_open(
    segment: Option<&amx_segment>,
    name: *const c_char,
    event: Option<&mut MaybeUninit<Option<Box<amx_event>>>>,
) -> amx_status {
    call(|| {
        let (handler, name) = (&given(segment, "segment")?.handler, text(name, "name")?);
        give(event, "event", || Ok(Some(Box::new(amx_event(handler.event(name)?)))))
    })
}

/// Closes the handle; the event stays.
#[unsafe(no_mangle)]
pub extern "C" fn amx_event_close(event: Option<Box<amx_event>>) {
    call(|| {
        drop(event);
        Ok(())
    });
}

/// Removes the event: its name is free, and its memory is freed after the last user.
#[unsafe(no_mangle)]
pub extern "C" fn amx_event_remove(event: Option<&amx_event>) -> amx_status {
    call(|| Ok(given(event, "event")?.0.remove()?))
}

/// Sets it, and wakes all who wait. Set twice, it is set.
#[unsafe(no_mangle)]
pub extern "C" fn amx_event_set(event: Option<&amx_event>) -> amx_status {
    call(|| Ok(given(event, "event")?.0.set()?))
}

/// Waits until it is set, for so many nanoseconds: AMX_TIMEOUT. With `clear`, it is not set any
/// more then, and one of those who wait got it.
#[unsafe(no_mangle)]
pub extern "C" fn amx_event_wait(event: Option<&amx_event>, clear: bool, nanoseconds: u64) -> amx_status {
    call(|| {
        let event = &given(event, "event")?.0;
        let wait = timeout(nanoseconds);
        let set = if clear { event.wait_and_clear(wait)? } else { event.wait(wait)? };
        set.then_some(()).ok_or_else(|| Failure::new(amx_status::AmxTimeout, "it was not set until the time was over"))
    })
}
