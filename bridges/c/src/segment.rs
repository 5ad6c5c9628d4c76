//! Segments: made, attached to, closed, unlinked, looked at.

use crate::call::{Handle, Out, Outcome, call, give, given, text};
use crate::status::{Failure, amx_status};
use atomic_matrix::{Handler, Options};
use std::ffi::c_char;

/// A process's way into a segment. Any thread may use it, and several at once; it is closed by one
/// of them, last. What was opened through it goes on after that.
pub struct amx_segment {
    pub(crate) handler: Handler,
}

/// Where a segment is, and what its maker chooses. What is 0 or null is left at its default, so
/// begin with `{0}`.
#[repr(C)]
#[derive(Debug)]
pub struct amx_options {
    /// Its name, from which its place in /dev/shm follows: the same in every language.
    pub name: *const c_char,
    /// Its file, where it has no name, or is elsewhere than in /dev/shm.
    pub path: *const c_char,
    /// Bytes, to create it. To attach, 0 or what it was made with.
    pub size: u64,
    /// Threads that may use it at once, to create it.
    pub participants: u32,
    /// Who may attach, as for chmod(2), to create it. 0600 unless said otherwise.
    pub mode: u32,
    /// Live blocks of the dead are kept until somebody adopts or frees them, rather than freed; to
    /// create it.
    pub keep_orphans: bool,
}

/// What is in a segment at one moment, in bytes and blocks. Exact when nobody is inside a call.
#[repr(C)]
#[derive(Debug)]
pub struct amx_stats {
    /// Bytes of all blocks together.
    pub sector_bytes: u64,
    /// Live blocks, those of structures and what is in them included.
    pub live_blocks: u64,
    /// Bytes in them.
    pub live_bytes: u64,
    /// Bytes that can be allocated: free, or parked for the next request of their size.
    pub free_bytes: u64,
    /// Bytes of the largest free block.
    pub largest_free: u64,
    /// Bytes of a step of offsets.
    pub offset_unit: u64,
}

/// What a recovery of the dead found.
#[repr(C)]
#[derive(Debug)]
pub struct amx_recovered {
    /// Participants recovered.
    pub participants: u64,
    /// Live blocks of theirs, freed or kept.
    pub live_blocks: u64,
}

fn options(options: Option<&amx_options>) -> Outcome<Options> {
    let given = given(options, "options")?;
    let mut options = Options::new();
    if !given.name.is_null() {
        options = options.name(text(given.name, "options.name")?);
    }
    if !given.path.is_null() {
        options = options.path(text(given.path, "options.path")?);
    }
    if given.size > 0 {
        let too_large = |_| Failure::bad("options.size is more than this machine can address; ask for less");
        options = options.size(usize::try_from(given.size).map_err(too_large)?);
    }
    if given.participants > 0 {
        options = options.participants(given.participants as usize);
    }
    if given.mode > 0 {
        options = options.mode(given.mode);
    }
    Ok(if given.keep_orphans { options.keep_orphans(true) } else { options })
}

fn open(
    segment: Out<'_, Handle<amx_segment>>,
    given: Option<&amx_options>,
    open: impl FnOnce(&Options) -> atomic_matrix::Result<Handler>,
) -> amx_status {
    call(|| give(segment, "segment", || Ok(Some(Box::new(amx_segment { handler: open(&options(given)?)? })))))
}

/// Makes a segment; its name must be free. AMX_EXISTS, AMX_BAD_ARGUMENT, AMX_PERMISSION, AMX_SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn amx_segment_create(
    options: Option<&amx_options>,
    segment: Option<&mut std::mem::MaybeUninit<Option<Box<amx_segment>>>>,
) -> amx_status {
    open(segment, options, Options::create)
}

/// Attaches to a segment, and recovers the dead in it. AMX_NOT_FOUND, AMX_NOT_A_SEGMENT, AMX_PERMISSION.
#[unsafe(no_mangle)]
pub extern "C" fn amx_segment_attach(
    options: Option<&amx_options>,
    segment: Option<&mut std::mem::MaybeUninit<Option<Box<amx_segment>>>>,
) -> amx_status {
    open(segment, options, Options::attach)
}

/// Attaches to a segment, or makes it, however many processes call this at the same moment.
#[unsafe(no_mangle)]
pub extern "C" fn amx_segment_open_or_create(
    options: Option<&amx_options>,
    segment: Option<&mut std::mem::MaybeUninit<Option<Box<amx_segment>>>>,
) -> amx_status {
    open(segment, options, Options::open_or_create)
}

/// Closes the handle. Null is closed already.
#[unsafe(no_mangle)]
pub extern "C" fn amx_segment_close(segment: Option<Box<amx_segment>>) {
    call(|| {
        drop(segment);
        Ok(())
    });
}

/// Removes the segment's name: those attached go on, and nobody new comes. Its memory goes with its
/// last user.
#[unsafe(no_mangle)]
pub extern "C" fn amx_segment_unlink(segment: Option<&amx_segment>) -> amx_status {
    call(|| Ok(given(segment, "segment")?.handler.unlink()?))
}

/// Recovers the dead: what they had begun is finished, and what they had is freed, or kept. It
/// happens by itself when somebody attaches, before an allocation fails, and while somebody waits.
/// `recovered` may be null.
#[unsafe(no_mangle)]
pub extern "C" fn amx_segment_reap(
    segment: Option<&amx_segment>,
    recovered: Option<&mut std::mem::MaybeUninit<amx_recovered>>,
) -> amx_status {
    call(|| {
        let found = given(segment, "segment")?.handler.reap()?;
        if let Some(recovered) = recovered {
            recovered.write(amx_recovered { participants: found.participants, live_blocks: found.live_blocks });
        }
        Ok(())
    })
}

/// What is in the segment. O(blocks). AMX_DAMAGED if its words contradict each other.
#[unsafe(no_mangle)]
pub extern "C" fn amx_segment_stats(
    segment: Option<&amx_segment>,
    stats: Option<&mut std::mem::MaybeUninit<amx_stats>>,
) -> amx_status {
    call(|| {
        let handler = &given(segment, "segment")?.handler;
        give(stats, "stats", || {
            let found = handler.stats()?;
            Ok(amx_stats {
                sector_bytes: found.sector_bytes,
                live_blocks: found.live_blocks,
                live_bytes: found.live_bytes,
                free_bytes: found.free_bytes + found.parked_bytes,
                largest_free: found.largest_free,
                offset_unit: handler.offset_unit() as u64,
            })
        })
    })
}
