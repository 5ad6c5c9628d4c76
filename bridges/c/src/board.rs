//! Boards: the latest value of something, read as a copy that is never torn.

use crate::call::{bytes, call, copy_out, give, given, text, timeout};
use crate::message::amx_message;
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::ipc::Board;
use std::ffi::c_char;
use std::mem::MaybeUninit;

/// A board of bytes: what a Rust program opens as `board::<[u8]>`. Any thread may use it, and
/// several at once.
pub struct amx_board {
    pub(crate) board: Board<[u8]>,
    handler: atomic_matrix::Handler,
}

/// Opens the board of that name, or makes it. AMX_WRONG_TYPE if that name is something else's.
#[unsafe(no_mangle)]
pub extern "C" fn amx_board_open(
    segment: Option<&amx_segment>,
    name: *const c_char,
    board: Option<&mut MaybeUninit<Option<Box<amx_board>>>>,
) -> amx_status {
    call(|| {
        let (handler, name) = (&given(segment, "segment")?.handler, text(name, "name")?);
        give(board, "board", || Ok(Some(Box::new(amx_board { board: handler.board(name)?, handler: handler.clone() }))))
    })
}

/// Closes the handle; the board stays.
#[unsafe(no_mangle)]
pub extern "C" fn amx_board_close(board: Option<Box<amx_board>>) {
    call(|| {
        drop(board);
        Ok(())
    });
}

/// Removes the board: its name is free, nobody sets it any more, and its memory is freed after the
/// last user.
#[unsafe(no_mangle)]
pub extern "C" fn amx_board_remove(board: Option<&amx_board>) -> amx_status {
    call(|| Ok(given(board, "board")?.board.remove()?))
}

/// Sets the value to a copy of these bytes. Lock-free. AMX_OUT_OF_MEMORY, AMX_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn amx_board_set(board: Option<&amx_board>, data: *const u8, size: usize) -> amx_status {
    call(|| {
        let amx_board { board, handler } = given(board, "board")?;
        Ok(board.set_message(handler.message_from(bytes(data, size)?)?)?)
    })
}

/// Sets the value to a message's, which was filled where it lies. AMX_CLOSED: the message is freed then.
#[unsafe(no_mangle)]
pub extern "C" fn amx_board_set_message(board: Option<&amx_board>, message: Option<&mut amx_message>) -> amx_status {
    call(|| {
        let amx_board { board, handler } = given(board, "board")?;
        Ok(board.set_message(given(message, "message")?.take(handler)?)?)
    })
}

/// Copies the newest value: AMX_EMPTY if none was set. `size` is told whenever there is one;
/// AMX_BUFFER_TOO_SMALL if it is more than `capacity`.
#[unsafe(no_mangle)]
pub extern "C" fn amx_board_get(
    board: Option<&amx_board>,
    buffer: *mut u8,
    capacity: usize,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    call(|| match given(board, "board")?.board.get_items()? {
        Some(value) => copy_out(&value, buffer, capacity, size),
        None => Err(Failure::new(amx_status::AmxEmpty, "no value was set yet; wait with amx_board_changed()")),
    })
}

/// As amx_board_get(), for a value that is not the one that `seen` says, which is waited for, for
/// so many nanoseconds: AMX_TIMEOUT. `seen` is 0 at first, and says afterwards that the copied one
/// was seen. What did not fit into the buffer was not seen.
#[unsafe(no_mangle)]
pub extern "C" fn amx_board_changed(
    board: Option<&amx_board>,
    seen: Option<&mut u64>,
    nanoseconds: u64,
    buffer: *mut u8,
    capacity: usize,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    call(|| {
        let (board, seen) = (&given(board, "board")?.board, given(seen, "seen")?);
        let mut now = *seen;
        let Some(value) = board.changed_items(&mut now, timeout(nanoseconds))? else {
            return Err(Failure::new(amx_status::AmxTimeout, "no other value was set until the time was over"));
        };
        copy_out(&value, buffer, capacity, size)?;
        *seen = now;
        Ok(())
    })
}
