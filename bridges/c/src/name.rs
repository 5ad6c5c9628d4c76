//! Names: messages are published, looked up and taken.

use crate::call::{call, give, given, text};
use crate::message::{amx_message, amx_ref};
use crate::segment::amx_segment;
use crate::status::amx_status;
use std::ffi::c_char;
use std::mem::MaybeUninit;

/// Publishes a message under a name of 1 to 96 bytes. It is unowned then, and stays until somebody
/// takes it. AMX_NAME_TAKEN, AMX_DIRECTORY_FULL; the message is freed then.
#[unsafe(no_mangle)]
pub extern "C" fn amx_name_publish(
    segment: Option<&amx_segment>,
    name: *const c_char,
    message: Option<&mut amx_message>,
) -> amx_status {
    call(|| {
        let (handler, name) = (&given(segment, "segment")?.handler, text(name, "name")?);
        given(message, "message")?.take(handler)?.publish(name)?;
        Ok(())
    })
}

/// A reference to the message of that name, to be read by amx_ref_read(). AMX_NAME_UNKNOWN,
/// AMX_WRONG_TYPE.
#[unsafe(no_mangle)]
pub extern "C" fn amx_name_lookup(
    segment: Option<&amx_segment>,
    name: *const c_char,
    reference: Option<&mut MaybeUninit<amx_ref>>,
) -> amx_status {
    call(|| {
        let (handler, name) = (&given(segment, "segment")?.handler, text(name, "name")?);
        give(reference, "reference", || Ok(handler.lookup_ref::<[u8]>(name)?.to_bits()))
    })
}

/// Takes the message of that name: of all who try, one gets it. The name is free again.
/// AMX_NAME_UNKNOWN, AMX_WRONG_TYPE.
#[unsafe(no_mangle)]
pub extern "C" fn amx_name_take(
    segment: Option<&amx_segment>,
    name: *const c_char,
    message: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let (handler, name) = (&given(segment, "segment")?.handler, text(name, "name")?);
        give(message, "message", || Ok(amx_message::of(handler.take_message(name)?)))
    })
}

/// Takes the name away. What it stood for stays. AMX_NAME_UNKNOWN.
#[unsafe(no_mangle)]
pub extern "C" fn amx_name_withdraw(segment: Option<&amx_segment>, name: *const c_char) -> amx_status {
    call(|| Ok(given(segment, "segment")?.handler.withdraw(text(name, "name")?)?))
}
