//! Arrow's record batches in AtomicMatrix: built in the segment, sent, and read there by other processes,
//! without a copy.
//!
//! A batch lies in a message of bytes as a stream of Arrow's IPC format, so that every implementation of
//! Arrow reads it where it lies: this crate, and pyarrow through `atomic_matrix.arrow`. Its columns begin at
//! multiples of 64 bytes.
//!
//! ```
//! use arrow_array::cast::AsArray;
//! use arrow_array::types::Float64Type;
//! use arrow_schema::{DataType, Field, Schema};
//! use atomic_matrix::Options;
//! use atomic_matrix_arrow::{Builder, batch};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), atomic_matrix_arrow::Error> {
//! # let handler = Options::new().memfd().size(1 << 20).create()?;
//! let channel = handler.channel::<[u8]>("prices").open_or_create()?;
//! let (sender, receiver) = (channel.sender()?, channel.receiver()?); // in this process or in another
//! let schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Float64, false)]));
//! let mut builder = Builder::new(&handler, schema, 1000)?;
//! builder.values::<Float64Type>(0)?.fill(99.5); // written where it lies
//! sender.send(builder.finish()).map_err(atomic_matrix::Error::from)?;
//!
//! let batch = batch(receiver.recv().map_err(atomic_matrix::Error::from)?)?; // read where it was written
//! assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(999), 99.5);
//! # Ok(())
//! # }
//! ```
//!
//! **Lifetime.** A batch's arrays, and all that is sliced from them, keep the message, or the sample; the
//! last one frees it. *Killed*: who holds a batch is freed of it by a recovery, as of every message.

mod builder;
mod error;
mod layout;
mod read;
mod write;

pub use builder::Builder;
pub use error::{Error, Result};
pub use read::{batch, sampled};
pub use write::copied;
