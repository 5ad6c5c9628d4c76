"""Channels, topics, boards and maps: what they give, and what they refuse."""

import gc
import threading

import pytest

import atomic_matrix as am
from conftest import LONG


def test_channels_keep_their_order_and_say_why_they_refuse(segment):
    channel = segment.channel("orders", capacity=2)
    assert (channel.capacity, len(channel), channel.ends()) == (2, 0, (0, 0))
    sender, receiver = channel.sender(), channel.receiver()
    assert channel.ends() == (1, 1)
    assert receiver.try_recv() is None
    with pytest.raises(am.Timeout, match="sender is there"):
        receiver.recv(timeout=0)
    with pytest.raises(TimeoutError):
        receiver.recv(timeout=0.01)
    sender.send(b"1")
    sender.send(b"2")
    third = segment.message_from(b"3")
    for timeout in (0, 0.01):
        with pytest.raises(am.Timeout, match="still yours"):
            sender.send(third, timeout=timeout)
    assert [bytes(receiver.recv(LONG)) for _ in range(2)] == [b"1", b"2"]
    sender.send(third, timeout=0)
    assert bytes(receiver.recv(LONG)) == b"3"
    for wrong in (-1, float("nan")):
        with pytest.raises(am.BadOption, match="None"):
            receiver.recv(wrong)
    sender.send(b"last")
    channel.close()
    with pytest.raises(am.Closed):
        sender.send(b"late")
    assert [bytes(message) for message in receiver] == [b"last"], "what is in it, and then it ends"
    with pytest.raises(am.Closed):
        receiver.recv()


def test_the_last_sender_that_leaves_is_noticed(segment):
    channel = segment.channel("orders")
    receiver = channel.receiver()
    with channel.sender() as sender:
        sender.send(b"1")
    with pytest.raises(am.Closed, match="closed in this process"):
        sender.send(b"2")
    assert bytes(receiver.recv(LONG)) == b"1"
    with pytest.raises(am.Disconnected):
        receiver.recv(LONG)


def test_what_has_a_name_has_one_sort(segment):
    segment.channel("name")
    for other in (segment.topic, segment.board, segment.map):
        with pytest.raises(am.TypeMismatch):
            other("name")
    with pytest.raises(am.NameUnknown, match="spelling"):
        segment.channel("unknown", create=False)
    with pytest.raises(am.BadOption):
        segment.channel("empty", capacity=0)


def test_another_segments_message_is_refused_and_stays(segment):
    with am.Segment.create(size=1 << 20, memfd=True) as other:
        message = other.message_from(b"theirs")
        with pytest.raises(am.MatrixError, match="segment"):
            segment.channel("mine").sender().send(message)
        assert bytes(message) == b"theirs"


def test_every_subscriber_sees_every_publication(segment):
    topic = segment.topic("news", cells=8)
    subscribers = [topic.subscribe() for _ in range(3)]
    message = segment.message_from(b"0")
    address = message.address
    topic.publish(message)
    topic.publish(b"1")
    for subscriber in subscribers:
        first, second = subscriber.next(LONG), subscriber.next(LONG)
        assert (bytes(first), bytes(second), first.address) == (b"0", b"1", address), "where it was written"
        assert first.readonly and subscriber.try_next() is None
        with pytest.raises(TypeError):
            memoryview(first)[0] = 1
        with pytest.raises(am.Timeout):
            subscriber.next(0.01)
    assert topic.published == 2
    assert bytes(topic.subscribe(history=1).next(LONG)) == b"1"


def test_samples_and_their_arrays_outlive_the_next_one(segment):
    topic = segment.topic("news", cells=4)
    subscriber = topic.subscribe()
    arrays = []
    for number in range(4):
        topic.publish(bytes([number]) * 1000, timeout=0)
        arrays.append(subscriber.next(LONG).array())
    with pytest.raises(am.Timeout):
        topic.publish(b"4", timeout=0.01)  # the oldest is still looked at
    assert [int(array[999]) for array in arrays] == [0, 1, 2, 3]
    del arrays[0]
    gc.collect()
    topic.publish(b"4", timeout=0)
    assert [int(array[999]) for array in arrays] == [1, 2, 3]
    subscriber.close()
    with pytest.raises(am.Timeout):
        topic.publish(b"5", timeout=0)
    del arrays
    gc.collect()
    topic.publish(b"5", timeout=0)


def test_a_removed_topic_ends(segment):
    topic = segment.topic("news")
    subscriber = topic.subscribe()
    topic.publish(b"last")
    topic.remove()
    assert [bytes(sample) for sample in subscriber] == [b"last"]
    with pytest.raises(am.Closed):
        topic.publish(b"late")


def test_a_topic_has_places_for_so_many(segment):
    topic = segment.topic("news", subscribers=1)
    kept = topic.subscribe()
    with pytest.raises(am.NoPlace):
        topic.subscribe()
    kept.close()
    topic.subscribe()


def test_a_board_has_the_latest_value(segment):
    board, reader = segment.board("state"), segment.board("state")
    assert board.get() is None
    with pytest.raises(am.Timeout):
        reader.changed(timeout=0.01)
    board.set(b"first")
    message = segment.message_from(b"second, and longer")
    board.set(message)
    assert message.released and board.get() == b"second, and longer"
    assert reader.changed(LONG) == b"second, and longer"
    with pytest.raises(am.Timeout):
        reader.changed(timeout=0)
    threading.Timer(0.05, board.set, [b"third"]).start()
    assert reader.changed(LONG) == b"third", "a waiting reader lets other threads run"
    board.remove()
    with pytest.raises(am.Closed):
        board.set(b"late")


def test_a_map_gives_values_where_they_lie(segment):
    users = segment.map("users", capacity=100)
    assert len(users) == 0 and users.get("ada") is None and "ada" not in users
    users["ada"] = b"Ada"
    message = users.message("grace", 5)
    memoryview(message)[:] = b"Grace"
    address = message.address
    users.insert("grace", message)
    assert message.released and users["grace"].address == address, "it stays where it is"
    assert users[b"ada"].readonly and bytes(users[b"ada"]) == b"Ada"
    assert sorted(users.keys()) == sorted(users) == [b"ada", b"grace"] and len(users) == 2
    kept = memoryview(users["ada"])
    users["ada"] = b"Countess"
    taken = users.pop("ada")
    assert (bytes(kept), bytes(taken)) == (b"Ada", b"Countess"), "who reads has it as it was"
    assert users.pop("ada") is None
    for missing in (lambda: users["ada"], lambda: users.__delitem__("ada")):
        with pytest.raises(KeyError):
            missing()
    del users["grace"]
    with pytest.raises(am.BadOption, match="str"):
        users[1] = b"x"
    with pytest.raises(am.BadOption):
        users[b"x" * 5000] = b"x"


def test_a_map_has_places_for_so_many_guards(segment):
    small = segment.map("small", guards=1)
    small["key"] = b"value"
    with small["key"]:
        with pytest.raises(am.NoPlace, match="guards="):
            small["key"]
    assert bytes(small["key"]) == b"value"


def test_nothing_is_left(name):
    with am.Segment.create(name, size=4 << 20) as segment:
        made = [segment.channel("c"), segment.topic("t"), segment.board("b"), segment.map("m")]
        made[0].sender().send(b"x")
        made[1].publish(b"x")
        made[2].set(b"x")
        made[3]["x"] = b"x"
        for structure in made:
            structure.remove()
        del made, structure
        gc.collect()
        assert segment.stats()["live_blocks"] == 0
        assert segment.stats()["free_blocks"] >= 1


def test_segments_say_why_they_refuse(name, tmp_path):
    with pytest.raises(am.SegmentNotFound, match="create it first"):
        am.Segment.attach(name)
    with pytest.raises(FileNotFoundError):
        am.Segment.attach(path=tmp_path / "none")
    with pytest.raises(am.BadOption, match="UUID"):
        am.Segment.attach(id="none")
    with pytest.raises(am.BadOption, match="one of them"):
        am.Segment.attach("a", id="b")
    with am.Segment.create(name, size=1 << 20) as segment:
        with pytest.raises(FileExistsError):
            am.Segment.create(name, size=1 << 20)
        assert am.Segment.attach(id=segment.id).id == segment.id
        with pytest.raises(am.BadOption):
            am.Segment.open_or_create(name, size=1 << 21)
    with pytest.raises(am.Closed, match="attach anew"):
        segment.message(1)
    in_file = am.Segment.create(size=1 << 20, path=tmp_path / "file")
    assert am.Segment.attach(path=tmp_path / "file").id == in_file.id
    in_file.unlink()
    assert repr(segment) == "<Segment, closed>" and "bytes" in repr(in_file)
