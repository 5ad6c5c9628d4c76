"""Messages: whose bytes they are, who may write them, and that no view ever shows what is not its own."""

import ctypes
import gc

import numpy as np
import pytest

import atomic_matrix as am
from conftest import LONG


def lies_in(segment: am.Segment, address: int, nbytes: int) -> bool:
    base, size = segment.mapping
    return base <= address and address + nbytes <= base + size


def test_a_message_is_filled_and_read_where_it_lies(segment):
    channel = segment.channel("frames")
    sender, receiver = channel.sender(), channel.receiver()
    message = segment.message(4096)
    assert (len(message), message.nbytes, message.readonly) == (4096, 4096, False)
    array = message.array(np.uint16, (32, 64))
    assert lies_in(segment, array.ctypes.data, array.nbytes), "nothing is copied"
    array[:] = np.arange(2048).reshape(32, 64)
    address = message.address
    del array
    sender.send(message)
    assert message.released
    received = receiver.recv(LONG)
    assert (received.address, received.readonly) == (address, True), "its bytes have not moved"
    assert received.array(np.uint16)[2047] == 2047
    assert bytes(received) == np.arange(2048, dtype=np.uint16).tobytes()


def test_bytes_of_other_objects_are_copied(segment):
    channel = segment.channel("bytes")
    sender, receiver = channel.sender(), channel.receiver()
    grid = np.arange(12.0).reshape(3, 4)
    for data in (b"abc", bytearray(b"abc"), memoryview(b"abc"), b"", grid):
        sender.send(data)
        assert bytes(receiver.recv(LONG)) == bytes(memoryview(data))
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        sender.send(grid[:, ::2])  # not one after the other
    with pytest.raises(TypeError):
        sender.send("text")
    assert bytes(segment.message_from(grid)) == grid.tobytes()


def test_an_empty_message(segment):
    message = segment.message(0)
    assert len(message) == 0 and bytes(message) == b"" and memoryview(message).nbytes == 0


def test_what_is_received_is_read_only_until_its_receiver_says_otherwise(segment):
    channel = segment.channel("frames")
    sender, receiver = channel.sender(), channel.receiver()
    sender.send(b"abc")
    received = receiver.recv(LONG)
    with pytest.raises(TypeError):
        memoryview(received)[0] = 1
    with pytest.raises(ValueError):
        received.array()[0] = 1
    with pytest.raises(TypeError):
        (ctypes.c_char * 1).from_buffer(received)  # asks for a buffer to write
    memoryview(received.writable())[0] = ord("x")
    sender.send(received)  # taken, changed, passed on, without a copy
    assert bytes(receiver.recv(LONG)) == b"xbc"


def test_a_message_that_is_viewed_is_not_sent(segment):
    channel = segment.channel("frames")
    sender, receiver = channel.sender(), channel.receiver()
    message = segment.message(100)
    view, array = memoryview(message), message.array()
    for views in (2, 1):
        with pytest.raises(am.Viewed, match=f"{views} views.*release"):
            sender.send(message)
        assert not message.released, "it is still there"
        view.release() if views == 2 else None
    array[0] = 9
    del array
    sender.send(message)
    for refused in (lambda: sender.send(message), lambda: message.writable()):
        with pytest.raises(am.Released):
            refused()
    with pytest.raises(BufferError):
        memoryview(message)
    assert receiver.recv(LONG).array()[0] == 9


def test_a_tensor_by_dlpack_is_a_view(segment):
    before = segment.stats()["live_blocks"]
    message = segment.message_from(b"abcd")
    assert message.__dlpack_device__() == (1, 0), "the processor's memory"
    tensor = np.from_dlpack(message)
    assert (tensor.dtype, tensor.shape, tensor.ctypes.data) == (np.uint8, (4,), message.address), "nothing is copied"
    channel = segment.channel("frames")
    sender, receiver = channel.sender(), channel.receiver()
    with pytest.raises(am.Viewed):
        sender.send(message)
    copied = np.from_dlpack(message, copy=True)
    assert not lies_in(segment, copied.ctypes.data, copied.nbytes)
    del tensor
    gc.collect()
    sender.send(message)
    with pytest.raises((am.Released, BufferError)):
        np.from_dlpack(message)
    received = receiver.recv(LONG)
    tensor = np.from_dlpack(received)
    assert bytes(tensor) == b"abcd" and not tensor.flags.writeable, "what is received is read-only"
    del received
    channel.remove()
    del sender, receiver, channel
    gc.collect()
    assert bytes(tensor) == b"abcd" and segment.stats()["live_blocks"] == before + 1, "it keeps its bytes"
    del tensor
    gc.collect()
    assert segment.stats()["live_blocks"] == before


def test_views_outlive_their_message_and_keep_its_bytes(segment):
    before = segment.stats()["live_blocks"]
    message = segment.message_from(b"kept" * 1000)
    view, array = memoryview(message), message.array()
    with message:
        pass
    assert message.released
    with pytest.raises(BufferError):
        memoryview(message)
    del message
    gc.collect()
    others = [segment.message_from(b"over" * 1000) for _ in range(100)]
    assert view[:4] == b"kept" and bytes(array[-4:]) == b"kept", "nobody has got these bytes"
    del others, array
    gc.collect()
    assert segment.stats()["live_blocks"] == before + 1, "the last view has them"
    view.release()
    assert segment.stats()["live_blocks"] == before


def test_views_outlive_the_segment_object(name):
    with am.Segment.create(name, size=1 << 20) as segment:
        channel = segment.channel("frames")
        channel.sender().send(b"last")
        array = channel.receiver().recv(LONG).array()
        segment.unlink()
    del segment, channel
    gc.collect()
    assert bytes(array) == b"last", "it stays mapped for the view"


def test_memory_that_is_not_there_is_refused(segment):
    with pytest.raises(am.OutOfMemory, match="larger segment"):
        segment.message(1 << 30)
    with pytest.raises(MemoryError):
        [segment.message(1 << 20) for _ in range(100)]
    with pytest.raises(OverflowError):
        segment.message(-1)
    assert segment.message(100).nbytes == 100, "what the failed ones had is free again"
