//! For Python's test: sends a batch that it has built in the segment, and then a copy of each that it receives.
//! `cargo run --example echo SEGMENT`; channels `there` and `back`.

use arrow_array::types::{Float64Type, Int64Type};
use arrow_schema::{DataType, Field, Schema};
use atomic_matrix::Options;
use atomic_matrix_arrow::{Builder, batch, copied};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).ok_or("give the segment's name")?;
    let handler = Options::new().name(&name).attach()?;
    let receiver = handler.channel::<[u8]>("there").open_or_create()?.receiver()?;
    let sender = handler.channel::<[u8]>("back").open_or_create()?.sender()?;
    let schema = Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("price", DataType::Float64, true),
        Field::new("name", DataType::Utf8, false),
    ]);
    let mut builder = Builder::with_text(&handler, Arc::new(schema), 3, &[(2, 3)])?;
    builder.values::<Int64Type>(0)?.copy_from_slice(&[0, 1, 2]);
    builder.values::<Float64Type>(1)?.copy_from_slice(&[0.5, 0.0, 2.5]);
    builder.validity(1)?[0] = 0b101;
    builder.text(2, [&b"a"[..], b"", b"bc"])?;
    sender.send(builder.finish()).map_err(atomic_matrix::Error::from)?;
    for message in &receiver {
        let received = batch(message)?; // where it was written
        sender.send(copied(&handler, &received)?).map_err(atomic_matrix::Error::from)?;
    }
    Ok(())
}
