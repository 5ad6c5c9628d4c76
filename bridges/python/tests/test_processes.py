"""Real processes: messages between them, forks, spawns, Ctrl-C, and one that is killed."""

import multiprocessing
import os
import pickle
import signal
import threading
import time

import pytest

import atomic_matrix as am
from conftest import LONG


def test_messages_go_between_processes(segment, name, program):
    there, back = segment.channel("there"), segment.channel("back")
    echo = program(
        """
        segment = am.Segment.attach(sys.argv[1])
        back = segment.channel("back").sender()
        for message in segment.channel("there").receiver():
            memoryview(message.writable())[0] = 99
            back.send(message)
        """,
        name,
    )
    sender, receiver = there.sender(), back.receiver()
    for size in (1, 1000, 1 << 20):
        message = segment.message(size)
        view = memoryview(message)
        view[-1] = size % 251
        view.release()
        sender.send(message)
        echoed = memoryview(receiver.recv(LONG))
        assert (len(echoed), echoed[0]) == (size, 99) and (size == 1 or echoed[-1] == size % 251)
    there.close()
    assert echo.ended() == 0


def test_a_killed_receiver_loses_its_own_message_alone(segment, name, program):
    channel = segment.channel("work")
    sender = channel.sender()
    for number in range(4):
        sender.send(bytes([number]) * 100_000)
    worker = program(
        """
        segment = am.Segment.attach(sys.argv[1])
        receiver = segment.channel("work").receiver()
        array = memoryview(receiver.recv())
        unsent = segment.message(1 << 20)
        print(array[0], flush=True)
        time.sleep(600)
        """,
        name,
    )
    assert worker.line() == "0"
    held = segment.stats()["live_bytes"]
    worker.kill()
    receiver = channel.receiver()
    assert [receiver.recv(LONG).array()[0] for _ in range(3)] == [1, 2, 3], "each of the others, once"
    segment.reap()
    stats = segment.stats()
    assert held - stats["live_bytes"] >= 1 << 20, "what the dead one held is free"
    assert channel.ends()[1] == 1, "its end is nobody's"


def test_a_killed_sender_is_missed_by_its_receiver(segment, name, program):
    channel = segment.channel("work")
    receiver = channel.receiver()
    worker = program(
        """
        sender = am.Segment.attach(sys.argv[1]).channel("work").sender()
        sender.send(b"sent")
        print("sent", flush=True)
        time.sleep(600)
        """,
        name,
    )
    assert worker.line() == "sent"
    worker.kill()
    assert bytes(receiver.recv(LONG)) == b"sent", "what was sent is there"
    with pytest.raises(am.Disconnected, match="died: true"):
        receiver.recv(LONG)


def test_a_killed_subscriber_holds_nobody_up(segment, name, program):
    topic = segment.topic("news", cells=2)
    worker = program(
        """
        subscriber = am.Segment.attach(sys.argv[1]).topic("news").subscribe()
        print("there", flush=True)
        kept = memoryview(subscriber.next())
        print("kept", flush=True)
        time.sleep(600)
        """,
        name,
    )
    assert worker.line() == "there"
    topic.publish(b"0")
    assert worker.line() == "kept"
    topic.publish(b"1")
    with pytest.raises(am.Timeout):
        topic.publish(b"2", timeout=0.01)
    worker.kill()
    topic.publish(b"2", timeout=LONG)


WAITS = ["receiver.recv()", "sender.send(b'x')", "subscriber.next()", "board.changed()", "next(receiver)"]
WAITS += ["client.call(b'x')", "next(client.stream(b'x'))", "server.next()", "next(server)"]


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_a_wait(name, program, what):
    waiting = program(
        """
        with am.Segment.create(sys.argv[1], size=1 << 20) as segment:
            full = segment.channel("full", capacity=1)
            sender, kept = full.sender(), full.receiver()
            sender.send(b"x")
            empty = segment.channel("empty")
            receiver, other = empty.receiver(), empty.sender()
            subscriber, board = segment.topic("news").subscribe(), segment.board("state")
            work, idle = segment.service("work"), segment.service("idle")
            client, nobody = work.client(), work.server()
            server, silent = idle.server(), idle.client()
            print("waits", flush=True)
            try:
                WAIT
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            assert len(full) == 1
            segment.unlink()
        """.replace("WAIT", what),
        name,
    )
    assert waiting.line() == "waits"
    time.sleep(0.1)  # it is more likely to be inside the wait; either way it has to end
    waiting.interrupt()
    assert waiting.line() == "interrupted"
    assert waiting.ended() == 0


def test_a_wait_lets_other_threads_run(segment):
    channel = segment.channel("work")
    receiver, got = channel.receiver(), []
    threads = [threading.Thread(target=lambda: got.append(bytes(receiver.recv(LONG)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    sender = channel.sender()
    sender.send(b"1")
    sender.send(b"2")
    for thread in threads:
        thread.join(LONG)
    assert sorted(got) == [b"1", b"2"]


def _in_a_forked_child(segment, sender, receiver, subscriber, message, board, users, kept):
    """Every way in is refused; what was seen before is there; a new attachment works."""
    refused = 0
    for call in (
        lambda: segment.message(1),
        lambda: segment.channel("work"),
        lambda: sender.send(b"x"),
        lambda: sender.send(message),
        lambda: receiver.recv(1),
        lambda: subscriber.next(1),
        lambda: memoryview(message),
        lambda: board.get(),
        lambda: board.set(b"x"),
        lambda: users.get("key"),
        lambda: users.insert("key", b"x"),
        lambda: segment.unlink(),
    ):
        try:
            call()
        except (am.ForkedChild, BufferError) as why:
            assert "attach anew" in str(why), why
            refused += 1
    assert refused == 12, refused
    assert bytes(kept) == b"parent's"
    return True


def test_a_forked_child_is_refused_and_attaches_anew(segment, name):
    channel = segment.channel("work")
    things = [segment, channel.sender(), channel.receiver(), segment.topic("news").subscribe()]
    message = segment.message_from(b"parent's")
    board, users = segment.board("state"), segment.map("users")
    things += [message, board, users, memoryview(message)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _in_a_forked_child(*things)
            del things, message
            with am.Segment.attach(name) as anew:
                anew.channel("work").sender().send(b"from the child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(things[2].recv(LONG)) == b"from the child"
    assert bytes(message) == b"parent's", "the child has freed nothing of its parent's"
    things[-1].release()
    things[1].send(message)
    assert bytes(things[2].recv(LONG)) == b"parent's"


def _work(segment_or_name, count):
    segment = segment_or_name if isinstance(segment_or_name, am.Segment) else am.Segment.attach(segment_or_name)
    with segment:
        sender = segment.channel("results").sender()
        for number in range(count):
            sender.send(number.to_bytes(8, "little") * 1000)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(segment, name, method):
    context = multiprocessing.get_context(method)
    channel = segment.channel("results", capacity=4)
    receiver, kept = channel.receiver(), channel.sender()
    # What is passed to a spawned process is pickled; a forked one attaches by the name.
    workers = [context.Process(target=_work, args=(segment if method == "spawn" else name, 50)) for _ in range(2)]
    for worker in workers:
        worker.start()
    received = [int.from_bytes(bytes(receiver.recv(LONG))[:8], "little") for _ in range(100)]
    assert sorted(received) == sorted(2 * list(range(50)))
    for worker in workers:
        worker.join(LONG)
        assert worker.exitcode == 0


def test_segments_are_pickled_by_their_place(segment, tmp_path):
    assert pickle.loads(pickle.dumps(segment)).id == segment.id
    with am.Segment.create(size=1 << 20, path=tmp_path / "file") as in_file:
        assert pickle.loads(pickle.dumps(in_file)).id == in_file.id
    with am.Segment.create(size=1 << 20, memfd=True) as nameless:
        with pytest.raises(TypeError, match="give it one"):
            pickle.dumps(nameless)


def test_the_default_action_of_a_signal_ends_a_wait(name, program):
    waiting = program(
        """
        segment = am.Segment.create(sys.argv[1], size=1 << 20)
        receiver, kept = segment.channel("work").receiver(), segment.channel("work").sender()
        print("waits", flush=True)
        receiver.recv()
        """,
        name,
    )
    assert waiting.line() == "waits"
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.ended() == -signal.SIGTERM
