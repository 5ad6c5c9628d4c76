//! How a batch lies in its message: `schema | batch's metadata | body | end`, a stream of Arrow's IPC format.
//! The metadata is padded so that the body begins at a multiple of 64 bytes, in every process: segments are
//! mapped at pages.

use crate::error::{Error, Result};
use arrow_ipc::writer::StreamWriter;
use arrow_ipc::{Buffer, FieldNode, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder};
use arrow_schema::{DataType, Field, Schema};
use flatbuffers::FlatBufferBuilder;
use std::ops::Range;

/// What buffers are aligned to.
pub(crate) const ALIGNMENT: usize = 64;
/// A continuation marker and a length, in front of each message of the stream; the length 0 ends it.
pub(crate) const PREFIX: usize = 8;
pub(crate) const END: [u8; PREFIX] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// A column's bytes in the body.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// A bit for each row, if it may be null.
    pub(crate) validity: Option<Range<usize>>,
    /// Where each row's bytes end, if they have no fixed size.
    pub(crate) offsets: Option<Range<usize>>,
    pub(crate) values: Range<usize>,
}

/// The columns of a body, and its bytes.
pub(crate) struct Body {
    pub(crate) columns: Vec<Column>,
    pub(crate) bytes: usize,
}

impl Body {
    /// # Errors
    /// [`Error::Column`] if a column has neither items of a fixed size nor 32-bit offsets.
    pub(crate) fn of(schema: &Schema, rows: usize, text: &[(usize, usize)]) -> Result<Self> {
        let mut bytes = 0_usize;
        let mut place = |length: Option<usize>| {
            let begin = bytes;
            let end =
                length.and_then(|length| begin.checked_add(length)).filter(|&end| end < isize::MAX as usize / 2)?;
            bytes = end.next_multiple_of(ALIGNMENT);
            Some(begin..end)
        };
        let mut column = |number: usize, field: &Field| {
            let validity = field.is_nullable().then(|| place(Some(rows.div_ceil(8))));
            let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Binary);
            let offsets = is_text.then(|| place(rows.checked_add(1).and_then(|ends| ends.checked_mul(4))));
            let asked = text.iter().rev().find(|(of, _)| *of == number).map_or(0, |(_, bytes)| *bytes);
            let values = match field.data_type().primitive_width() {
                Some(width) => place(rows.checked_mul(width)),
                None if is_text => place(Some(asked)),
                None => return Err(unsupported(number, field)),
            };
            let too_large = || Error::Column { column: number, what: format!("{rows} rows are too many; split them") };
            Ok(Column {
                validity: validity.map(|range| range.ok_or_else(too_large)).transpose()?,
                offsets: offsets.map(|range| range.ok_or_else(too_large)).transpose()?,
                values: values.ok_or_else(too_large)?,
            })
        };
        let columns = schema.fields().iter().enumerate().map(|(number, field)| column(number, field));
        let columns = columns.collect::<Result<_>>()?;
        Ok(Self { columns, bytes })
    }

    /// The metadata of a batch with this body.
    pub(crate) fn metadata(&self, rows: usize, nulls: &[usize]) -> Vec<u8> {
        let buffer = |range: &Range<usize>| Buffer::new(range.start as i64, range.len() as i64);
        let buffers: Vec<Buffer> = self
            .columns
            .iter()
            .flat_map(|column| {
                // A column without nulls has a validity of no bytes.
                let validity = column.validity.as_ref().map_or_else(|| Buffer::new(0, 0), buffer);
                let rest = column.offsets.iter().chain([&column.values]).map(buffer);
                std::iter::once(validity).chain(rest.collect::<Vec<_>>())
            })
            .collect();
        let nodes: Vec<FieldNode> = nulls.iter().map(|&nulls| FieldNode::new(rows as i64, nulls as i64)).collect();
        let mut bytes = FlatBufferBuilder::new();
        let (nodes, buffers) = (bytes.create_vector(&nodes), bytes.create_vector(&buffers));
        let mut batch = RecordBatchBuilder::new(&mut bytes);
        batch.add_length(rows as i64);
        batch.add_nodes(nodes);
        batch.add_buffers(buffers);
        let batch = batch.finish();
        let mut message = MessageBuilder::new(&mut bytes);
        message.add_version(MetadataVersion::V5);
        message.add_header_type(MessageHeader::RecordBatch);
        message.add_bodyLength(self.bytes as i64);
        message.add_header(batch.as_union_value());
        let message = message.finish();
        bytes.finish(message, None);
        bytes.finished_data().to_vec()
    }
}

fn unsupported(column: usize, field: &Field) -> Error {
    let what = format!(
        "{} ({}) can't be built in the segment, only items of a fixed size, Utf8 and Binary; build it outside, and \
         use `copied`",
        field.name(),
        field.data_type()
    );
    Error::Column { column, what }
}

/// The stream's beginning.
pub(crate) fn schema_bytes(schema: &Schema) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    drop(StreamWriter::try_new(&mut bytes, schema)?);
    // Dropped, it may have ended the stream.
    if bytes.ends_with(&END) {
        bytes.truncate(bytes.len() - END.len());
    }
    Ok(bytes)
}
