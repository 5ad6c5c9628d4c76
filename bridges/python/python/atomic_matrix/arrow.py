"""Arrow's record batches in messages: written into the segment, and read there without a copy. Needs pyarrow.

A batch lies in a message as a stream of Arrow's IPC format, as the Rust crate `atomic-matrix-arrow` writes and reads it.
"""

import pyarrow as pa

from ._errors import TypeMismatch
from ._native import Message, Sample, Segment, Value

__all__ = ["read", "write"]


def write(segment: Segment, batch: pa.RecordBatch) -> Message:
    """A message with this batch, to be sent or published: each buffer is copied once, into the segment."""
    counted = pa.MockOutputStream()
    _write(counted, batch)
    message = segment.message(counted.size())
    with memoryview(message) as view:
        # Whatever refers to the view is gone when this returns.
        _write(pa.FixedSizeBufferWriter(pa.py_buffer(view)), batch)
    return message


def _write(to: pa.NativeFile, batch: pa.RecordBatch) -> None:
    with pa.ipc.new_stream(to, batch.schema) as stream:
        stream.write_batch(batch)
    to.close()


def read(held: Message | Sample | Value) -> pa.RecordBatch:
    """The batch that a message, a sample or a value holds, where it lies.

    Its arrays, and all that is sliced from them, keep those bytes as they are, as every view does. What is no batch
    raises `TypeMismatch`.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(held)) as stream:
            batch = stream.read_next_batch()
        batch.validate(full=True)
    except (pa.ArrowException, OSError, StopIteration) as why:
        advice = "send what atomic_matrix.arrow.write has made"
        raise TypeMismatch(f"there is no record batch in it ({why}); {advice}") from None
    return batch
