"""Messages between two processes, in Python: this package beside what else there is. bridges/python/benchmark runs it.

Streams: one process fills messages (NumPy's `fill`, every byte), the other looks at the first and the last byte of each.
Latency: a message goes there and back, of which one byte is written; half of the median round trip. Peers take turns, and
the best and the median of all turns are told; each turn has processes of its own. iceoryx2's receiver polls without
sleeping, which is its quickest way; the others sleep.
"""

import argparse
import csv
import ctypes
import multiprocessing as mp
import statistics
import sys
import time
import uuid
from multiprocessing import shared_memory
from typing import Any, Callable

import numpy as np

CONTEXT = mp.get_context("spawn")


def cells(size: int) -> int:
    """Messages that may be on their way."""
    return 64 if size < 1 << 16 else 16


class Matrix:
    """This package: a channel there, and one back."""

    name = "atomic_matrix"

    def __init__(self, size: int) -> None:
        import atomic_matrix as am

        self.size = size
        room = (3 * cells(size) + 8) * (size + 4096) + (4 << 20)
        self.segment = am.Segment.create(f"benchmark {uuid.uuid4()}", size=room)

    def open(self, first: bool) -> None:
        channels = [self.segment.channel(name, capacity=cells(self.size)) for name in ("there", "back")]
        self.out, self.into = (channels if first else channels[::-1])
        self.out, self.into = self.out.sender(), self.into.receiver()

    def send(self, write: Callable[[np.ndarray], Any]) -> None:
        message = self.segment.message(self.size)
        write(message.array())
        self.out.send(message)

    def receive(self, read: Callable[[np.ndarray], Any]) -> None:
        with self.into.recv() as message:
            read(message.array())

    def close(self) -> None:
        self.segment.unlink()


class Queue:
    """multiprocessing.Queue: objects are pickled, and go through a pipe."""

    name = "multiprocessing.Queue"

    def __init__(self, size: int) -> None:
        self.size = size
        self.queues = [CONTEXT.Queue(cells(size)), CONTEXT.Queue(cells(size))]

    def open(self, first: bool) -> None:
        self.out, self.into = self.queues if first else self.queues[::-1]

    def send(self, write: Callable[[np.ndarray], Any]) -> None:
        array = np.empty(self.size, np.uint8)
        write(array)
        self.out.put(array)

    def receive(self, read: Callable[[np.ndarray], Any]) -> None:
        read(self.into.get())

    def close(self) -> None:
        for queue in self.queues:
            queue.close()


class SharedMemory:
    """multiprocessing.shared_memory with cells of one size, and two semaphores: what one writes by hand."""

    name = "multiprocessing.shared_memory"

    def __init__(self, size: int) -> None:
        self.size = size
        self.memories = [shared_memory.SharedMemory(create=True, size=cells(size) * size) for _ in range(2)]
        self.semaphores = [(CONTEXT.Semaphore(cells(size)), CONTEXT.Semaphore(0)) for _ in range(2)]

    def open(self, first: bool) -> None:
        self.cells = [
            [np.ndarray(self.size, np.uint8, memory.buf, cell * self.size) for cell in range(cells(self.size))]
            for memory in self.memories
        ]
        self.ways, self.turns = ((0, 1) if first else (1, 0)), [0, 0]

    def next_cell(self, way: int) -> np.ndarray:
        self.turns[way] += 1
        return self.cells[way][self.turns[way] % cells(self.size)]

    def send(self, write: Callable[[np.ndarray], Any]) -> None:
        way = self.ways[0]
        self.semaphores[way][0].acquire()
        write(self.next_cell(way))
        self.semaphores[way][1].release()

    def receive(self, read: Callable[[np.ndarray], Any]) -> None:
        way = self.ways[1]
        self.semaphores[way][1].acquire()
        read(self.next_cell(way))
        self.semaphores[way][0].release()

    def close(self) -> None:
        self.cells = []
        for memory in self.memories:
            memory.close()
            memory.unlink()


class Iceoryx2:
    """iceoryx2's Python package: a service there, and one back; the receiver polls."""

    name = "iceoryx2"

    def __init__(self, size: int) -> None:
        self.size, self.names = size, [f"benchmark {uuid.uuid4()}" for _ in range(2)]

    def open(self, first: bool) -> None:
        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Error)
        self.node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        services = []
        for name in self.names:
            service = self.node.service_builder(iox2.ServiceName.new(name))
            builder = service.publish_subscribe(iox2.Slice[ctypes.c_uint8])
            builder = builder.subscriber_max_buffer_size(cells(self.size)).enable_safe_overflow(False)
            services.append(builder.open_or_create())
        out, into = services if first else services[::-1]
        self.out = out.publisher_builder().initial_max_slice_len(self.size)
        self.out = self.out.backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered).create()
        self.into, self.services = into.subscriber_builder().create(), services
        # Neither side sends before both are there.
        for service in services:
            while service.dynamic_config.number_of_subscribers < 1 or service.dynamic_config.number_of_publishers < 1:
                time.sleep(0.001)

    def send(self, write: Callable[[np.ndarray], Any]) -> None:
        sample = self.out.loan_slice_uninit(self.size)
        write(np.frombuffer((ctypes.c_uint8 * self.size).from_address(sample.payload_ptr), np.uint8))
        sample.assume_init().send()

    def receive(self, read: Callable[[np.ndarray], Any]) -> None:
        while (sample := self.into.receive()) is None:
            pass
        read(np.frombuffer((ctypes.c_uint8 * self.size).from_address(sample.payload_ptr), np.uint8))
        sample.delete()

    def close(self) -> None:
        pass


PEERS = [Matrix, SharedMemory, Queue, Iceoryx2]


def greet(peer: Any, first: bool) -> None:
    """A message there and back: a stream that begins before iceoryx2's ports have met loses some of it."""
    ways = [lambda: peer.send(lambda array: array.fill(0)), lambda: peer.receive(lambda array: None)]
    for way in ways if first else ways[::-1]:
        way()


def produce(peer: Any, messages: int, there: Any) -> None:
    peer.open(False)
    there.set()
    greet(peer, True)
    for number in range(messages):
        peer.send(lambda array: array.fill(number % 251))
    peer.receive(lambda array: None)  # until all have been looked at


def answer(peer: Any, messages: int, there: Any) -> None:
    peer.open(False)
    there.set()
    for number in range(messages):
        peer.receive(lambda array: None)
        peer.send(lambda array: array.__setitem__(0, number % 251))


def stream(peer: Any, messages: int) -> float:
    """Messages a second, from the first one's arrival on."""

    def look(number: int, array: np.ndarray) -> None:
        assert array[0] == array[-1] == number % 251, number

    greet(peer, False)
    peer.receive(lambda array: look(0, array))
    begun = time.perf_counter()
    for number in range(1, messages):
        peer.receive(lambda array: look(number, array))
    taken = time.perf_counter() - begun
    peer.send(lambda array: None)
    return (messages - 1) / taken


def latency(peer: Any, messages: int) -> float:
    """Microseconds one way."""
    trips = []
    for number in range(messages):
        begun = time.perf_counter()
        peer.send(lambda array: array.__setitem__(0, number % 251))
        peer.receive(lambda array: None)
        trips.append(time.perf_counter() - begun)
    return statistics.median(trips) / 2 * 1e6


def turn(kind: type, size: int, messages: int, theirs: Callable[..., None], ours: Callable[..., float]) -> float:
    peer, there = kind(size), CONTEXT.Event()
    try:
        process = CONTEXT.Process(target=theirs, args=(peer, messages, there), daemon=True)
        process.start()
        if kind is not Iceoryx2:  # whose sides wait for each other
            there.wait(60)
        peer.open(True)
        measured = ours(peer, messages)
        process.join(60)
        assert process.exitcode == 0, f"{kind.name} ended with {process.exitcode}"
        return measured
    finally:
        peer.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--turns", type=int, default=5, help="turns of each peer")
    arguments.add_argument("--scale", type=float, default=1.0, help="times the usual number of messages")
    arguments.add_argument("--csv", help="a file for every turn's figure")
    options = arguments.parse_args()
    peers = PEERS
    try:
        import iceoryx2  # noqa: F401
    except ImportError:
        print("iceoryx2 is not installed, and is left out", file=sys.stderr)
        peers = [peer for peer in PEERS if peer is not Iceoryx2]
    rows = []
    for size, streamed, sent in ((4096, 20_000, 4000), (1 << 20, 3000, 1000)):
        for measure, count, theirs, ours in (("rate", streamed, produce, stream), ("latency", sent, answer, latency)):
            for number in range(options.turns):
                for kind in peers:
                    value = turn(kind, size, max(10, int(count * options.scale)), theirs, ours)
                    rows.append((kind.name, size, measure, number, value))
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("peer", "bytes", "measure", "turn", "value"))
            writer.writerows(rows)
    table(rows, peers)


def table(rows: list[tuple[str, int, str, int, float]], peers: list[type]) -> None:
    """Best (median) of the turns."""

    def told(kind: type, size: int, measure: str) -> str:
        values = [row[4] for row in rows if row[:3] == (kind.name, size, measure)]
        best = max(values) if measure == "rate" else min(values)
        digits = 0 if best >= 100 else 1
        return f"{best:,.{digits}f} ({statistics.median(values):,.{digits}f})"

    columns = [(size, measure) for size in (4096, 1 << 20) for measure in ("rate", "latency")]
    print("| | 4 KiB, messages/s | 4 KiB, µs | 1 MiB, messages/s | 1 MiB, µs |\n|---|---|---|---|---|")
    for kind in peers:
        print(f"| {kind.name} | " + " | ".join(told(kind, *column) for column in columns) + " |")
    rates = {kind: max(row[4] for row in rows if row[:3] == (kind.name, 1 << 20, "rate")) for kind in (Matrix, Queue)}
    print(f"\nat 1 MiB, {rates[Matrix] / rates[Queue]:.0f} times the rate of multiprocessing.Queue")


if __name__ == "__main__":
    main()
