//! Blocks: memory of any size, by offset and generation, for whoever has a queue of its own.

use crate::call::{Outcome, call, give, given};
use crate::segment::amx_segment;
use crate::status::{Failure, amx_status};
use atomic_matrix::{Handler, RelativePtr};
use std::alloc::Layout;
use std::mem::MaybeUninit;

/// A block's position: plain data, which means the same in every process of the segment and may
/// itself lie in it. A block that was freed since is told by its generation (20 bits: kept through
/// exactly a multiple of 2^20 reuses of one place it would go unnoticed).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct amx_block {
    /// The offset from the segment's beginning, in steps of `offset_unit`.
    pub offset: u32,
    /// Which block it is of those that were there one after the other.
    pub generation: u32,
}

fn of(pointer: RelativePtr<u8>) -> amx_block {
    amx_block { offset: pointer.offset(), generation: pointer.generation() }
}

fn layout(size: usize, alignment: usize) -> Outcome<Layout> {
    let bad = |_| Failure::bad("the alignment is no power of two, or the size more than can be; check them");
    Layout::from_size_align(size, alignment.max(1)).map_err(bad)
}

fn with(
    segment: Option<&amx_segment>,
    block: amx_block,
    act: impl FnOnce(&Handler, RelativePtr<u8>) -> Outcome,
) -> amx_status {
    call(|| {
        let handler = &given(segment, "segment")?.handler;
        act(handler, handler.pointer_at(block.offset, block.generation)?)
    })
}

/// Allocates `size` bytes, aligned to `alignment` (a power of two up to 4096; 0 for 16 bytes),
/// holding whatever was there before. The block is this process's: freed if it dies. `address` may
/// be null. O(1). AMX_OUT_OF_MEMORY, AMX_TOO_LARGE, AMX_BAD_ARGUMENT, AMX_NO_PLACE.
#[unsafe(no_mangle)]
pub extern "C" fn amx_block_allocate(
    segment: Option<&amx_segment>,
    size: usize,
    alignment: usize,
    block: Option<&mut MaybeUninit<amx_block>>,
    address: Option<&mut MaybeUninit<*mut u8>>,
) -> amx_status {
    call(|| {
        let handler = &given(segment, "segment")?.handler;
        give(block, "block", || {
            let pointer = match alignment {
                0 => handler.allocate_raw(size)?,
                _ => handler.allocate_layout(layout(size, alignment)?)?,
            };
            if let Some(address) = address {
                address.write(handler.resolve(&pointer));
            }
            Ok(of(pointer))
        })
    })
}

/// Makes a block `size` bytes large, aligned to `alignment` (as for amx_block_allocate()): where it is, if
/// this process owns it and there is room behind it, else by a copy to another place. The position is
/// another one then: the one from before is stale. A block of another owner may move, too; nobody else may use it meanwhile. `address` may be
/// null. AMX_NOT_LIVE, AMX_OWNED if it is in a structure, and as amx_block_allocate(): then it is as it was.
#[unsafe(no_mangle)]
pub extern "C" fn amx_block_resize(
    segment: Option<&amx_segment>,
    block: Option<&mut amx_block>,
    size: usize,
    alignment: usize,
    address: Option<&mut MaybeUninit<*mut u8>>,
) -> amx_status {
    call(|| {
        let handler = &given(segment, "segment")?.handler;
        let block = given(block, "block")?;
        let pointer = handler.pointer_at(block.offset, block.generation)?;
        let resized = handler.resize(pointer, layout(size, alignment)?)?;
        *block = of(resized);
        if let Some(address) = address {
            address.write(handler.resolve(&resized));
        }
        Ok(())
    })
}

/// Frees a block, whoever allocated it. AMX_NOT_LIVE if it was freed before, AMX_BAD_OFFSET,
/// AMX_OWNED if it is in a structure: nothing has changed then.
#[unsafe(no_mangle)]
pub extern "C" fn amx_block_free(segment: Option<&amx_segment>, block: amx_block) -> amx_status {
    with(segment, block, |handler, pointer| Ok(handler.free_raw(pointer)?))
}

/// Where a live block lies in this process, and how many bytes it has. Either may be null.
#[unsafe(no_mangle)]
pub extern "C" fn amx_block_address(
    segment: Option<&amx_segment>,
    block: amx_block,
    address: Option<&mut MaybeUninit<*mut u8>>,
    size: Option<&mut MaybeUninit<usize>>,
) -> amx_status {
    with(segment, block, |handler, pointer| {
        if let Some(size) = size {
            size.write(handler.usable_size(&pointer)?);
        }
        if let Some(address) = address {
            address.write(handler.resolve(&pointer));
        }
        Ok(())
    })
}

/// Gives a block up before its position is passed on: it is unowned until somebody adopts it, and
/// no death frees it.
#[unsafe(no_mangle)]
pub extern "C" fn amx_block_hand_over(segment: Option<&amx_segment>, block: amx_block) -> amx_status {
    with(segment, block, |handler, pointer| Ok(handler.hand_over(&pointer)?))
}

/// Makes this process the owner of a block that another passed on: freed if this one dies.
#[unsafe(no_mangle)]
pub extern "C" fn amx_block_adopt(segment: Option<&amx_segment>, block: amx_block) -> amx_status {
    with(segment, block, |handler, pointer| {
        handler.adopt_at(pointer.offset(), Some(pointer.generation()))?;
        Ok(())
    })
}
