"""Waiting in an event loop: by a descriptor of this process. A task that is cancelled has taken nothing."""

import asyncio
from typing import Any, Callable

from ._errors import Closed, Disconnected, Timeout, Unanswered

__all__ = ["ask", "call", "following", "get", "send", "serving"]

# How long it takes until it is looked again whether there is room for a request, or a client.
_AGAIN = 0.01


async def _until(open_bell: Callable[[], Any], attempt: Callable[[], Any]) -> Any:
    """Tries until there is something. What is taken is taken in this task's own step, and returned in it."""
    found = attempt()
    if found is not None:
        return found
    loop, bell, rung = asyncio.get_running_loop(), open_bell(), asyncio.Event()
    descriptor = bell.fileno()
    loop.add_reader(descriptor, rung.set)
    try:
        while True:
            # In this order: what comes behind `arm` rings, what came before it is found.
            rung.clear()
            bell.arm()
            found = attempt()
            if found is not None:
                return found
            await rung.wait()
    finally:
        loop.remove_reader(descriptor)
        bell.close()


async def get(source: Any) -> Any:
    """What comes next."""
    return await _until(source._bell, source._try)


async def following(source: Any) -> Any:
    """What comes next, for `async for`."""
    try:
        return await get(source)
    except Closed:
        raise StopAsyncIteration from None


async def send(sender: Any, data: Any) -> None:
    """Sends once there is room."""

    def attempt() -> Any:
        try:
            sender.send(data, timeout=0)
            return True
        except Timeout:
            return None

    await _until(sender._bell, attempt)


async def ask(client: Any, data: Any) -> Any:
    """Sends a request once there is room: its responses."""
    while True:
        try:
            return client.stream(data, timeout=0)
        except Timeout:
            await asyncio.sleep(_AGAIN)


async def call(client: Any, data: Any) -> Any:
    """The first response. A task that is cancelled waits no more, and the server is told so."""
    with await ask(client, data) as responses:
        async for response in responses:
            return response
    raise Unanswered("the server ended its responses before the first; see what it does with such a request")


async def serving(server: Any) -> Any:
    """The next request, for `async for`. Where there is no client, one may come."""
    while True:
        try:
            return await get(server)
        except Disconnected:
            await asyncio.sleep(_AGAIN)
        except Closed:
            raise StopAsyncIteration from None
