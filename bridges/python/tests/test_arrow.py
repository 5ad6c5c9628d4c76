"""Record batches: read where they lie, which they keep; and Rust reads and writes the same."""

import gc
import os
import subprocess

import pytest

import atomic_matrix as am
from conftest import LONG

pa = pytest.importorskip("pyarrow")
arrow = pytest.importorskip("atomic_matrix.arrow")


def made(rows: int = 10_000) -> "pa.RecordBatch":
    return pa.record_batch(
        {
            "key": pa.array(range(rows), pa.int64()),
            "price": pa.array([None if row % 3 == 0 else row / 2 for row in range(rows)], pa.float64()),
            "name": [f"row {row}" for row in range(rows)],
            "lists": [[row] * (row % 3) for row in range(rows)],
            "words": pa.array(["a", "b", "c", "d"] * (rows // 4)).dictionary_encode(),
        }
    )


def lies_in(segment: am.Segment, batch: "pa.RecordBatch") -> None:
    base, size = segment.mapping
    columns = [column for column in batch.columns if not pa.types.is_dictionary(column.type)]
    words = [column for column in batch.columns if pa.types.is_dictionary(column.type)]
    columns += [part for column in words for part in (column.indices, column.dictionary)]
    buffers = [buffer for column in columns for buffer in column.buffers() if buffer is not None]
    assert buffers and all(base <= buffer.address and buffer.address + buffer.size <= base + size for buffer in buffers)


def test_a_batch_is_read_where_it_lies(segment):
    channel = segment.channel("batches")
    sender, receiver = channel.sender(), channel.receiver()
    sender.send(arrow.write(segment, made()))
    received = arrow.read(receiver.recv(LONG))
    assert received.equals(made())
    lies_in(segment, received)


def test_the_last_array_has_the_message(segment):
    message = arrow.write(segment, made())
    batch = arrow.read(message)
    with pytest.raises(am.Viewed):
        segment.channel("batches").sender().send(message)
    kept = batch.column("price").slice(100, 3)
    message.release()
    before = segment.stats()["live_blocks"]
    del message, batch
    gc.collect()
    others = [segment.message_from(b"x" * 100_000) for _ in range(20)]
    assert kept.to_pylist() == [50.0, 50.5, None], "nobody has got these bytes"
    del others, kept
    gc.collect()
    assert segment.stats()["live_blocks"] == before - 1


def test_samples_and_values_hold_batches(segment):
    topic, users = segment.topic("batches"), segment.map("tables")
    subscribers = [topic.subscribe() for _ in range(2)]
    topic.publish(arrow.write(segment, made()))
    read = [arrow.read(subscriber.next(LONG)) for subscriber in subscribers]
    assert read[0].equals(made()) and read[0].column(0).buffers()[1].address == read[1].column(0).buffers()[1].address
    users["table"] = arrow.write(segment, made())
    value = arrow.read(users["table"])
    lies_in(segment, value)
    assert value.equals(made())


def test_what_is_no_batch_is_refused(segment):
    for wrong in (b"", b"none", b"\xff" * 100, bytes(100)):
        with pytest.raises(am.TypeMismatch, match="arrow.write"):
            arrow.read(segment.message_from(wrong))
    with pytest.raises(am.OutOfMemory):
        arrow.write(segment, pa.record_batch({"large": pa.array(range(4_000_000))}))


@pytest.mark.skipif("ARROW_ECHO" not in os.environ, reason="bridges/arrow/test builds the program in Rust")
def test_rust_reads_and_writes_the_same(segment, name):
    there, back = segment.channel("there"), segment.channel("back")
    sender, receiver = there.sender(), back.receiver()
    rust = subprocess.Popen([os.environ["ARROW_ECHO"], name])
    try:
        sender.send(arrow.write(segment, made()))
        built, echoed = (arrow.read(receiver.recv(LONG)) for _ in range(2))
        there.close()
        assert rust.wait(LONG) == 0
    finally:
        rust.kill()
        rust.wait(LONG)
    assert echoed.equals(made())
    lies_in(segment, built)
    assert built.to_pydict() == {"key": [0, 1, 2], "price": [0.5, None, 2.5], "name": ["a", "", "bc"]}
    assert all(buffer.address % 64 == 0 for column in built.columns for buffer in column.buffers() if buffer)
