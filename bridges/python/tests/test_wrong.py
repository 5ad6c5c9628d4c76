"""What is asked wrongly: an exception of its kind, with what would help, in Python's words; nothing changes."""

import uuid

import pytest

import atomic_matrix as am

HUGE = 1 << 62


def _wrong(segment, other):
    """Each wrong call, and its exception."""
    create, attach = am.Segment.create, am.Segment.attach
    message = segment.message(8)
    message.release()
    closed = segment.channel("closed")
    sender, receiver = closed.sender(), closed.receiver()
    removed = segment.topic("removed")
    removed.remove()
    board = segment.board("board")
    board.remove()
    sender.close()
    receiver.close()
    few = segment.topic("few", subscribers=1)
    taken = few.subscribe()
    return [
        (am.BadOption, lambda: create("", size=1 << 20)),
        (am.BadOption, lambda: create(other, size=0)),
        (am.BadOption, lambda: create(other, size=1 << 60)),
        (OverflowError, lambda: create(other, size=-1)),
        (TypeError, lambda: create(other, size="1")),
        (am.BadOption, lambda: create(other, size=1 << 20, participants=0)),
        (am.BadOption, lambda: create(other, size=1 << 20, participants=5000)),
        (am.BadOption, lambda: create(other, size=1 << 20, mode=0o7777)),
        (am.BadOption, lambda: create(other, size=1 << 20, id=str(uuid.uuid4()))),
        (am.BadOption, lambda: attach()),
        (am.BadOption, lambda: attach(path="/etc")),
        (am.MatrixError, lambda: attach(path="/etc/passwd")),
        (am.BadOption, lambda: attach(id="zz")),
        (am.SegmentNotFound, lambda: attach(other)),
        (am.BadOption, lambda: segment.channel("")),
        (am.BadOption, lambda: segment.board("x" * 97)),
        (am.BadOption, lambda: segment.channel("new", capacity=0)),
        (am.BadOption, lambda: segment.channel("new", capacity=HUGE)),
        (am.OutOfMemory, lambda: segment.channel("new", capacity=1 << 20).capacity),
        (am.BadOption, lambda: segment.topic("new", cells=0)),
        (am.BadOption, lambda: segment.map("new", capacity=0)),
        (am.BadOption, lambda: segment.map("new", guards=0)),
        (am.BadOption, lambda: segment.service("new", capacity=HUGE)),
        (am.OutOfMemory, lambda: segment.message(HUGE)),
        (am.OutOfMemory, lambda: segment.message(1 << 21)),
        (OverflowError, lambda: segment.message(-1)),
        (TypeError, lambda: segment.message_from("text")),
        (BufferError, lambda: segment.message_from(memoryview(bytes(10))[::2])),
        (am.Released, lambda: segment.channel("open").sender().send(message)),
        (BufferError, lambda: memoryview(message)),
        (am.BadOption, lambda: segment.channel("open").receiver().recv(float("nan"))),
        (am.BadOption, lambda: segment.channel("open").receiver().recv(1e300)),
        (am.BadOption, lambda: segment.topic("news").subscribe().next(-1)),
        (am.Closed, lambda: sender.send(b"x")),
        (am.Closed, lambda: receiver.recv(0)),
        (am.Closed, lambda: removed.publish(b"x")),
        (am.Closed, lambda: board.set(b"x")),
        (am.NoPlace, lambda: few.subscribe() or taken),
        (am.BadOption, lambda: segment.map("map").insert(b"k" * 5000, b"x")),
        (am.BadOption, lambda: segment.map("map").get(5)),
        (KeyError, lambda: segment.map("map")["missing"]),
        (am.TypeMismatch, lambda: segment.topic("open")),
        (TypeError, lambda: segment.channel("open").sender().send(None)),
    ]


def test_wrong_calls_are_refused_in_pythons_words():
    other = f"python test {uuid.uuid4()}"
    with am.Segment.create(size=1 << 20, memfd=True) as segment:
        for at, (kind, call) in enumerate(_wrong(segment, other)):
            with pytest.raises(kind) as raised:
                call()
            text = str(raised.value)
            assert "::" not in text and "heal()" not in text and len(text) < 300, (at, text)
            if isinstance(raised.value, am.MatrixError):
                assert ";" in text or ":" in text, f"{at}: it says what would help: {text}"
        segment.topic("new", cells=1)
    with pytest.raises(am.SegmentNotFound):
        am.Segment.attach(other)
