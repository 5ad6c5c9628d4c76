//! A batch that is built where it will be read.

use crate::error::{Error, Result};
use crate::layout::{ALIGNMENT, Body, END, PREFIX, schema_bytes};
use arrow_array::ArrowPrimitiveType;
use arrow_schema::{DataType, SchemaRef};
use atomic_matrix::Handler;
use atomic_matrix::ipc::Message;
use std::ops::Range;

/// A batch of so many rows in a message, to be filled column by column. It holds whatever bytes were there
/// before, but no row is null, and texts are empty.
pub struct Builder<'h> {
    message: Message<'h, [u8]>,
    schema: SchemaRef,
    rows: usize,
    body: Body,
    /// Where the metadata begins in the message, and the body.
    metadata_at: usize,
    body_at: usize,
}

impl<'h> Builder<'h> {
    /// A batch whose columns all have items of a fixed size. O(columns), and a bit for each row that may be null.
    ///
    /// # Errors
    /// [`Error::Column`] if a column has none; [`Error::Matrix`] if there is no memory.
    pub fn new(handler: &'h Handler, schema: SchemaRef, rows: usize) -> Result<Self> {
        Self::with_text(handler, schema, rows, &[])
    }

    /// The same, with columns of `Utf8` or `Binary`: for each of them, its number and its bytes altogether.
    ///
    /// # Errors
    /// As [`Builder::new`].
    pub fn with_text(handler: &'h Handler, schema: SchemaRef, rows: usize, text: &[(usize, usize)]) -> Result<Self> {
        let body = Body::of(&schema, rows, text)?;
        let begin = schema_bytes(&schema)?;
        let metadata = body.metadata(rows, &vec![0; body.columns.len()]).len();
        let metadata_at = begin.len() + PREFIX;
        let bytes = (metadata_at + metadata + ALIGNMENT).checked_add(body.bytes + END.len());
        let mut message = handler.message_slice::<u8>(bytes.unwrap_or(usize::MAX))?;
        // The body begins at a multiple of 64 bytes, wherever the message does.
        let first = message.as_ptr().addr();
        let body_at = (first + metadata_at + metadata).next_multiple_of(ALIGNMENT) - first;
        message.truncate(body_at + body.bytes + END.len());
        message[..begin.len()].copy_from_slice(&begin);
        message[body_at + body.bytes..].copy_from_slice(&END);
        let mut this = Self { message, schema, rows, body, metadata_at, body_at };
        for number in 0..this.body.columns.len() {
            let column = this.body.columns[number].clone();
            column.validity.into_iter().for_each(|range| this.bytes(range).fill(0xFF));
            column.offsets.into_iter().for_each(|range| this.bytes(range).fill(0));
        }
        Ok(this)
    }

    fn bytes(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.message[self.body_at + range.start..self.body_at + range.end]
    }
    fn column(&self, column: usize) -> Result<(&crate::layout::Column, &DataType)> {
        let found = self.body.columns.get(column);
        let what = || format!("there are {}", self.body.columns.len());
        let found = found.ok_or_else(|| Error::Column { column, what: what() })?;
        Ok((found, self.schema.field(column).data_type()))
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A column's items.
    ///
    /// # Errors
    /// [`Error::Column`] if it has another type, or there is none.
    pub fn values<T: ArrowPrimitiveType>(&mut self, column: usize) -> Result<&mut [T::Native]> {
        let (found, of) = self.column(column)?;
        if *of != T::DATA_TYPE {
            return Err(Error::Column { column, what: format!("it has {of}, not {}", T::DATA_TYPE) });
        }
        let range = found.values.clone();
        let rows = self.rows;
        let bytes = self.bytes(range);
        debug_assert_eq!(bytes.len(), rows * size_of::<T::Native>());
        debug_assert!(bytes.as_ptr().cast::<T::Native>().is_aligned());
        // SAFETY: the column has so many bytes and begins at a multiple of 64, which is more than any of
        // Arrow's items needs; any bytes are such an item: a number, or several.
        Ok(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), rows) })
    }

    /// A column's bits, lowest first: whether each row is there (1) or null. Bits behind the last row are nobody's.
    ///
    /// # Errors
    /// [`Error::Column`] if it may not be null, or there is none.
    pub fn validity(&mut self, column: usize) -> Result<&mut [u8]> {
        let (found, _) = self.column(column)?;
        let none = || Error::Column { column, what: "it may not be null; make its field nullable".to_owned() };
        let range = found.validity.clone().ok_or_else(none)?;
        Ok(self.bytes(range))
    }

    /// Fills a column of `Utf8` or `Binary`, row by row.
    ///
    /// # Errors
    /// [`Error::Column`] if it is none, if there are more or fewer rows, or more bytes than it was made for.
    pub fn text<'t>(&mut self, column: usize, rows: impl IntoIterator<Item = &'t [u8]>) -> Result<()> {
        let (found, of) = self.column(column)?;
        let wrong = |what: String| Error::Column { column, what };
        let Some(offsets) = found.offsets.clone() else { return Err(wrong(format!("it has {of}: use `values`"))) };
        let (values, mut end, mut filled) = (found.values.clone(), 0_usize, 0_usize);
        for row in rows {
            let next = end.checked_add(row.len()).filter(|&next| next <= values.len() && next <= i32::MAX as usize);
            let Some(next) = next.filter(|_| filled < self.rows) else {
                let (rows, bytes) = (self.rows, values.len());
                return Err(wrong(format!("more than {rows} rows, or {bytes} bytes; make the batch for more")));
            };
            self.bytes(values.start + end..values.start + next).copy_from_slice(row);
            filled += 1;
            let at = offsets.start + 4 * filled;
            self.bytes(at..at + 4).copy_from_slice(&(next as i32).to_le_bytes());
            end = next;
        }
        match filled == self.rows {
            true => Ok(()),
            false => Err(wrong(format!("{filled} rows were given, it has {}", self.rows))),
        }
    }

    /// The batch as a message, to be sent, published or put into a map. O(columns), and a bit for each row
    /// that may be null.
    pub fn finish(mut self) -> Message<'h, [u8]> {
        let rows = self.rows;
        let columns = self.body.columns.clone();
        let nulls = columns.into_iter().map(|column| match column.validity {
            Some(range) => rows - ones(self.bytes(range), rows),
            None => 0,
        });
        let nulls: Vec<usize> = nulls.collect();
        let metadata = self.body.metadata(rows, &nulls);
        let padded = (self.body_at - self.metadata_at) as u32;
        let prefix = self.metadata_at - PREFIX;
        self.message[prefix..prefix + 4].copy_from_slice(&END[..4]);
        self.message[prefix + 4..self.metadata_at].copy_from_slice(&padded.to_le_bytes());
        let place = &mut self.message[self.metadata_at..self.body_at];
        place[metadata.len()..].fill(0);
        place[..metadata.len()].copy_from_slice(&metadata);
        self.message
    }
}

/// Ones among the first bits.
fn ones(bits: &[u8], rows: usize) -> usize {
    let whole = &bits[..rows / 8];
    let rest = bits.get(rows / 8).map_or(0, |last| last & ((1_u16 << (rows % 8)) - 1) as u8);
    whole.iter().chain([&rest]).map(|bits| bits.count_ones() as usize).sum()
}
