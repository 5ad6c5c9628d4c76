//! Batches that were built elsewhere.

use crate::error::Result;
use arrow_array::RecordBatch;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use atomic_matrix::Handler;
use atomic_matrix::ipc::Message;
use std::io::Write;

/// A message with a copy of a batch of any types, as it lies in this process. O(bytes).
///
/// # Errors
/// [`Error::Matrix`](crate::Error::Matrix) if there is no memory; [`Error::Arrow`](crate::Error::Arrow) for
/// what Arrow's IPC format does not have.
pub fn copied<'h>(handler: &'h Handler, batch: &RecordBatch) -> Result<Message<'h, [u8]>> {
    let mut bytes = Counted(0);
    write(batch, &mut bytes)?;
    let mut message = handler.message_slice(bytes.0)?;
    write(batch, &mut &mut message[..])?;
    Ok(message)
}

fn write(batch: &RecordBatch, to: &mut impl Write) -> Result<()> {
    // Messages begin at multiples of 16 bytes.
    let options = IpcWriteOptions::try_new(16, false, arrow_ipc::MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(to, &batch.schema(), options)?;
    writer.write(batch)?;
    Ok(writer.finish()?)
}

/// Bytes that were written, and are nowhere.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
