"""What the tests share: segments that are gone after each test, and programs in processes of their own."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

import atomic_matrix as am

# Nothing here takes seconds; a test that waits in vain fails instead of hanging.
LONG = 60.0


@pytest.fixture
def name() -> Iterator[str]:
    """A segment's name, which nobody has, and which stands for nothing after the test."""
    name = f"python test {uuid.uuid4()}"
    yield name
    try:
        with am.Segment.attach(name) as left:
            left.unlink()
    except am.SegmentNotFound:
        pass


@pytest.fixture
def segment(name: str) -> Iterator[am.Segment]:
    with am.Segment.create(name, size=16 << 20) as segment:
        yield segment


class Program:
    """A Python program in a process of its own."""

    def __init__(self, text: str, *arguments: str) -> None:
        # Whoever started the tests may ignore Ctrl-C (a shell's background job does), and children inherit that.
        heed = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        head = f"import sys, os, time, signal\nimport atomic_matrix as am\n{heed}"
        command = [sys.executable, "-c", head + textwrap.dedent(text), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        """The next line that it prints; none if it prints nothing in time, and then it is ended."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(LONG, self.process.kill)
        watchdog.start()
        try:
            return self.process.stdout.readline().strip()
        finally:
            watchdog.cancel()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(LONG) == -signal.SIGKILL

    def interrupt(self) -> None:
        os.kill(self.process.pid, signal.SIGINT)

    def ended(self) -> int:
        return self.process.wait(LONG)


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Starts programs, none of which outlives the test."""
    programs: list[Program] = []

    def start(text: str, *arguments: str) -> Program:
        programs.append(Program(text, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait(LONG)
        for pipe in (program.process.stdin, program.process.stdout):
            if pipe is not None:
                pipe.close()
