//! Batches where they lie.

use crate::error::Result;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_buffer::alloc::Allocation;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::ArrowError;
use atomic_matrix::Handler;
use atomic_matrix::ipc::{Message, Sample, Unbound};
use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;
use std::sync::Arc;

/// A message that arrays hold: freed with the last of them.
struct Block {
    handler: Handler,
    unbound: Option<Unbound<[u8]>>,
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(unbound) = self.unbound.take() {
            // Bound, it is a message, and dropped; refused if somebody has freed it by its offset.
            let _ = unbound.bind(&self.handler);
        }
    }
}

/// The batch that a message holds, where it lies: its arrays have the message from now on.
///
/// O(columns), and O(bytes) for texts, which are looked at.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if it holds none; the message is freed then.
pub fn batch(message: Message<'_, [u8]>) -> Result<RecordBatch> {
    let (first, bytes) = (NonNull::from(&message[..]).cast(), message.len());
    let block = Block { handler: message.handler().clone(), unbound: Some(message.unbind()) };
    // SAFETY: the message's bytes, which its block has until it is dropped, and which nobody writes, as it is
    // their only handle.
    decoded(unsafe { buffer(first, bytes, block) })
}

/// The batch that a sample of a topic holds, where it lies: its arrays have the sample from now on.
///
/// # Errors
/// As [`batch`].
pub fn sampled(sample: Sample<[u8]>) -> Result<RecordBatch> {
    let (first, bytes) = (NonNull::from(&sample[..]).cast(), sample.len());
    // SAFETY: the publication's bytes, which nobody writes until the sample is dropped.
    decoded(unsafe { buffer(first, bytes, sample) })
}

/// # Safety
/// The bytes are there, and nobody writes them, until the owner is dropped.
unsafe fn buffer(first: NonNull<u8>, bytes: usize, owner: impl Send + Sync + 'static) -> Buffer {
    // Nothing that is broken by a panic is looked at behind one: owners are only dropped.
    let owner: Arc<dyn Allocation> = Arc::new(AssertUnwindSafe(owner));
    // SAFETY: the caller's.
    unsafe { Buffer::from_custom_allocation(first, bytes, owner) }
}

fn decoded(mut bytes: Buffer) -> Result<RecordBatch> {
    // Instead of a copy: what is not aligned was made by nobody here.
    let mut decoder = StreamDecoder::new().with_require_alignment(true);
    let batch = decoder.decode(&mut bytes)?;
    Ok(batch.ok_or_else(|| ArrowError::IpcError("the message holds no record batch".to_owned()))?)
}
