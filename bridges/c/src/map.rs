//! Maps: values under keys, read where they lie, and replaced or taken out in one step.

use crate::call::{Out, Outcome, bytes, call, copy_out, give, given, text, timeout};
use crate::message::amx_message;
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::ipc::{Entry, InsertError, Map, Message};
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A map of bytes: what a Rust program opens as `map::<[u8]>`. Any thread may use it, and several at once.
pub struct amx_map(Arc<Map<[u8]>>);

/// A value that is read where it lies: it stays as it is until this is closed, whoever replaces it or
/// takes it out meanwhile.
pub struct amx_entry {
    // Dropped before the map that it borrows.
    _entry: Entry<'static, [u8]>,
    _map: Arc<Map<[u8]>>,
}

/// What is called with each key: `context` is the caller's own, the key is good during the call.
pub type amx_visit = Option<unsafe extern "C" fn(context: *mut c_void, key: *const u8, size: usize)>;

/// Opens the map of that name, or makes it for `capacity` entries (1 to 131 072; 0 for 256) and as many
/// guards and calls at once as `guards` (1 to 1024; 0 for 64). AMX_WRONG_TYPE if that name is something else's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_open(
    segment: Option<&amx_segment>,
    name: *const c_char,
    capacity: usize,
    guards: u16,
    map: Option<&mut MaybeUninit<Option<Box<amx_map>>>>,
) -> amx_status {
    call(|| {
        let mut options = given(segment, "segment")?.handler.map(text(name, "name")?);
        if capacity > 0 {
            options = options.capacity(capacity);
        }
        if guards > 0 {
            options = options.guards(guards);
        }
        give(map, "map", || Ok(Some(Box::new(amx_map(Arc::new(options.open_or_create()?))))))
    })
}

/// Closes the handle; the map stays, with what is in it.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_close(map: Option<Box<amx_map>>) {
    call(|| {
        drop(map);
        Ok(())
    });
}

/// Removes the map: its name is free, and its memory is freed after the last user, with what is in it.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_remove(map: Option<&amx_map>) -> amx_status {
    call(|| Ok(given(map, "map")?.0.remove()?))
}

/// Entries in it: exact when nobody is inside a call. O(places).
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_length(map: Option<&amx_map>) -> usize {
    crate::call::answer(0, || Ok(given(map, "map")?.0.len()))
}

/// Allocates a message of `size` bytes with room for its key, which is put in without a copy.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_allocate(
    map: Option<&amx_map>,
    key: *const u8,
    key_size: usize,
    size: usize,
    message: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let (map, key) = (&given(map, "map")?.0, bytes(key, key_size)?);
        give(message, "message", || Ok(amx_message::of(map.message_slice(key, size)?)))
    })
}

fn put(
    map: Option<&amx_map>,
    key: (*const u8, usize),
    message: Option<&mut amx_message>,
    put: impl for<'h> FnOnce(&Map<[u8]>, &[u8], Message<'h, [u8]>) -> Result<(), InsertError<'h, [u8]>>,
) -> amx_status {
    call(|| {
        let (map, key) = (&given(map, "map")?.0, bytes(key.0, key.1)?);
        amx_message::pass(message, map.handler(), |message| {
            put(map, key, message).map_err(|InsertError { message, why }| (message, why))
        })
    })
}

/// Puts a message under a key, and frees what was there, as soon as nobody reads it. Lock-free. AMX_FULL,
/// AMX_CLOSED, AMX_FOREIGN, AMX_BAD_ARGUMENT if the key has more than 4096 bytes. What is not put in
/// stays in the caller's hands. A message that amx_map_allocate() did not make may be copied.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_insert(
    map: Option<&amx_map>,
    key: *const u8,
    key_size: usize,
    message: Option<&mut amx_message>,
) -> amx_status {
    put(map, (key, key_size), message, |map, key, message| map.insert(key, message).map(drop))
}

/// As amx_map_insert(), if the key is not there: AMX_NAME_TAKEN. Of several who try, one succeeds.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_insert_new(
    map: Option<&amx_map>,
    key: *const u8,
    key_size: usize,
    message: Option<&mut amx_message>,
) -> amx_status {
    put(map, (key, key_size), message, |map, key, message| map.insert_new(key, message))
}

/// As amx_map_insert(), if the key is there: AMX_NAME_UNKNOWN.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_replace(
    map: Option<&amx_map>,
    key: *const u8,
    key_size: usize,
    message: Option<&mut amx_message>,
) -> amx_status {
    put(map, (key, key_size), message, |map, key, message| map.replace(key, message).map(drop))
}

fn no_such_key() -> Failure {
    Failure::new(amx_status::AmxNameUnknown, "the key is not in the map; insert it, or wait until somebody has")
}

/// Copies the value under a key: AMX_NAME_UNKNOWN if there is none. `size` is told whenever there is one;
/// AMX_BUFFER_TOO_SMALL if it is more than `capacity`. AMX_NO_PLACE if as many as the map was made for
/// are at work.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_get(
    map: Option<&amx_map>,
    key: *const u8,
    key_size: usize,
    buffer: *mut u8,
    capacity: usize,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    let get = |size: Out<'_, usize>| -> Outcome {
        let (map, key) = (&given(map, "map")?.0, bytes(key, key_size)?);
        let entry = map.get(key)?.ok_or_else(no_such_key)?;
        copy_out(&entry, buffer, capacity, size)
    };
    call(|| get(size))
}

/// Reads the value under a key where it lies, until `entry` is closed, which takes one of the map's
/// guards. AMX_NAME_UNKNOWN, AMX_NO_PLACE.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_read(
    map: Option<&amx_map>,
    key: *const u8,
    key_size: usize,
    entry: Option<&mut MaybeUninit<Option<Box<amx_entry>>>>,
    data: Option<&mut MaybeUninit<*const u8>>,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    call(|| {
        let (map, key) = (&given(map, "map")?.0, bytes(key, key_size)?);
        let (data, size) = (given(data, "data")?, given(size, "size")?);
        give(entry, "entry", || {
            let found = map.get(key)?.ok_or_else(no_such_key)?;
            data.write(found.as_ptr());
            size.write(found.len());
            // SAFETY: the entry borrows the map, which stays where it is as long as the handle beside it, and
            // that is dropped after it.
            let found = unsafe { std::mem::transmute::<Entry<'_, [u8]>, Entry<'static, [u8]>>(found) };
            Ok(Some(Box::new(amx_entry { _entry: found, _map: map.clone() })))
        })
    })
}

/// Closes it: its bytes are read no more.
#[unsafe(no_mangle)]
pub extern "C" fn amx_entry_close(entry: Option<Box<amx_entry>>) {
    call(|| {
        drop(entry);
        Ok(())
    });
}

/// Takes the value under a key out: of several who try, one gets it; AMX_NAME_UNKNOWN. Whoever reads it is
/// waited for, for so many nanoseconds, and then it is a copy (AMX_OUT_OF_MEMORY: it is out, and freed).
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_take(
    map: Option<&amx_map>,
    key: *const u8,
    key_size: usize,
    nanoseconds: u64,
    message: Option<&mut MaybeUninit<amx_message>>,
) -> amx_status {
    call(|| {
        let (map, key) = (&given(map, "map")?.0, bytes(key, key_size)?);
        give(message, "message", || {
            let taken = map.take(key)?.ok_or_else(no_such_key)?;
            Ok(amx_message::of(match taken.into_message(timeout(nanoseconds)) {
                Ok(message) => message,
                Err(read) => map.handler().message_from(&read)?,
            }))
        })
    })
}

/// Calls `visit` with each key: one that is there throughout is among them once. The map may be used
/// meanwhile, also by `visit`, which throws no exception.
#[unsafe(no_mangle)]
pub extern "C" fn amx_map_keys(map: Option<&amx_map>, visit: amx_visit, context: *mut c_void) -> amx_status {
    call(|| each_key(&given(map, "map")?.0, visit, context))
}

fn each_key(map: &Map<[u8]>, visit: amx_visit, context: *mut c_void) -> Outcome {
    let visit = given(visit, "visit")?;
    for key in map.keys()? {
        // SAFETY: the caller's own function, with the caller's own context, and a key that is there.
        unsafe { visit(context, key.as_ptr(), key.len()) };
    }
    Ok(())
}
