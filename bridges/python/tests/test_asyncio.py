"""Event loops: channels, topics and boards are awaited, and nothing is lost when a task is cancelled."""

import asyncio

import pytest

import atomic_matrix as am
from conftest import LONG


def test_a_topic_is_iterated(segment, name, program):
    topic = segment.topic("frames", cells=4)

    async def view() -> list[bytes]:
        seen = []
        async for frame in topic:
            seen.append(bytes(frame)[:1])
            if len(seen) == 1:
                print_line()
        return seen

    publisher = program(
        """
        topic = am.Segment.attach(sys.argv[1]).topic("frames")
        while True:  # until somebody has seen one: subscriptions begin with what comes
            topic.publish(b"-")
            if sys.stdin in __import__("select").select([sys.stdin], [], [], 0.01)[0]:
                break
        for letter in b"abcdefgh":
            topic.publish(bytes([letter]) * 100_000)
        topic.remove()
        """,
        name,
    )

    def print_line() -> None:
        publisher.process.stdin.write("seen\n")
        publisher.process.stdin.flush()

    seen = asyncio.run(asyncio.wait_for(view(), LONG))
    assert seen[0] == b"-" and b"".join(seen).strip(b"-") == b"abcdefgh"
    assert publisher.ended() == 0


def test_a_channel_is_awaited_at_both_ends(segment):
    channel = segment.channel("work", capacity=2)
    sender, receiver = channel.sender(), channel.receiver()

    async def send() -> None:
        for number in range(20):
            await sender.send_async(bytes([number]))
        channel.close()

    async def receive() -> list[int]:
        return [bytes(message)[0] async for message in receiver]

    async def both() -> list[int]:
        sending = asyncio.create_task(send())
        received = await asyncio.wait_for(receive(), LONG)
        await sending
        return received

    assert asyncio.run(both()) == list(range(20))


def test_a_cancelled_wait_takes_nothing(segment):
    channel = segment.channel("work")
    sender, receiver = channel.sender(), channel.receiver()

    async def run() -> None:
        for round in range(50):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receiver.recv_async(), 0.0005)
        waits = asyncio.create_task(receiver.recv_async())
        await asyncio.sleep(0.01)
        sender.send(b"there")
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert bytes(await asyncio.wait_for(receiver.recv_async(), LONG)) == b"there"
        with pytest.raises(am.Disconnected):
            sender.close()
            await asyncio.wait_for(receiver.recv_async(), LONG)

    asyncio.run(run())


def test_several_tasks_wait_for_one_receiver(segment):
    channel = segment.channel("work")
    sender, receiver = channel.sender(), channel.receiver()

    async def run() -> list[bytes]:
        waits = [asyncio.create_task(receiver.recv_async()) for _ in range(5)]
        await asyncio.sleep(0.01)
        for number in range(5):
            sender.send(bytes([number]))
        return [bytes(message) for message in await asyncio.wait_for(asyncio.gather(*waits), LONG)]

    assert sorted(asyncio.run(run())) == [bytes([number]) for number in range(5)]


def test_a_boards_changes_are_iterated(segment):
    board = segment.board("state")

    async def run() -> bytes:
        changes = asyncio.create_task(board.changed_async())
        await asyncio.sleep(0.01)
        board.set(b"new")
        return await asyncio.wait_for(changes, LONG)

    assert asyncio.run(run()) == b"new"
