//! Rust's own containers in a segment: a handler's reference is an allocator.
//!
//! What one process builds in place lies where everything else does, grows there, and goes on without a copy:
//! to another process by its offset ([`Handler::pointer_to`], [`Handler::hand_over`]), or as a message
//! ([`ipc::MessageVec`](crate::ipc::MessageVec)). The crate is allocator-api2 0.2, which mirrors the allocators
//! of Rust's nightly and is what hashbrown and others take.
//!
//! A container holds pointers of this process, so only what has none means the same elsewhere: the elements
//! of a `Vec`, the value of a `Box`; not a hash table.

use super::handler::Handler;
use allocator_api2::alloc::{AllocError, Allocator};
use std::alloc::Layout;
use std::ptr::NonNull;

/// Where what has no bytes is said to be.
fn nowhere(layout: Layout) -> NonNull<[u8]> {
    let address = std::ptr::without_provenance_mut(layout.align());
    NonNull::slice_from_raw_parts(NonNull::new(address).unwrap_or(NonNull::dangling()), 0)
}

impl Handler {
    /// The block that begins at an address, as an allocator gives it, and what it has.
    fn memory_at(&self, first: *mut u8, bytes: usize) -> Result<NonNull<[u8]>, AllocError> {
        let first = NonNull::new(first).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(first, bytes))
    }

    /// # Safety
    /// `first` is a block of this allocator's with `old` bytes, which is the caller's alone.
    unsafe fn resize_memory(&self, first: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let pointer = self.pointer_to(first.as_ptr()).map_err(|_| AllocError)?;
        let resized = self.resize_with(pointer, new, |from, to, bytes| {
            // SAFETY: two blocks of so many bytes at least, both the caller's alone.
            unsafe { std::ptr::copy_nonoverlapping(from, to, bytes.min(old.size())) }
        });
        let resized = resized.map_err(|_| AllocError)?;
        self.memory_at(self.resolve(&resized), self.usable_size(&resized).map_err(|_| AllocError)?)
    }
}

// SAFETY: a block is live, and stays where it is, until it is freed by its address here: nobody else knows its
// offset but whoever is given it, and the calls that take a bare offset say that their caller vouches for it
// (crate::ipc::message). The segment is mapped while the handler lives, which the reference borrows; all
// references to handlers of the segment are the same allocator. What has no bytes has no block.
unsafe impl Allocator for &Handler {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nowhere(layout));
        }
        let block = self.allocate_layout(layout).map_err(|_| AllocError)?;
        let bytes = (block.header.size() as usize) << self.matrix.heap().layout().params.granule_shift;
        self.memory_at(self.address(block.offset), bytes)
    }

    unsafe fn deallocate(&self, first: NonNull<u8>, layout: Layout) {
        // Refused in a forked child alone, whose parent has the block.
        if layout.size() > 0
            && let Ok(block) = self.pointer_to(first.as_ptr())
        {
            let _ = self.free_raw(block);
        }
    }

    unsafe fn grow(&self, first: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate(new);
        }
        let usable = self.pointer_to(first.as_ptr()).and_then(|block| self.usable_size(&block));
        match usable {
            // What was rounded up to will do.
            Ok(usable) if usable >= new.size() && first.addr().get().is_multiple_of(new.align()) => {
                self.memory_at(first.as_ptr(), usable)
            }
            // SAFETY: the caller's.
            _ => unsafe { self.resize_memory(first, old, new) },
        }
    }

    unsafe fn grow_zeroed(&self, first: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's.
        let grown = unsafe { self.grow(first, old, new) }?;
        let (more, bytes) = (grown.cast::<u8>().as_ptr().wrapping_add(old.size()), grown.len() - old.size());
        // SAFETY: the block has as many bytes behind those that it had, and is the caller's alone.
        unsafe { more.write_bytes(0, bytes) };
        Ok(grown)
    }

    unsafe fn shrink(&self, first: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if new.size() == 0 {
            // SAFETY: the caller's.
            unsafe { self.deallocate(first, old) };
            return Ok(nowhere(new));
        }
        // SAFETY: the caller's.
        unsafe { self.resize_memory(first, old, new) }
    }
}
