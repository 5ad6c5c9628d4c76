"""Services: calls between processes, threads and tasks; who is killed is missed, and nobody waits for nothing."""

import asyncio
import multiprocessing
import os
import threading

import pytest

import atomic_matrix as am
from conftest import LONG

SERVER = """
    segment = am.Segment.attach(sys.argv[1])
    print("serves", flush=True)
    for request in segment.service("work").server():
        what = bytes(request)
        if what == b"die":
            print("has it", flush=True)
            time.sleep(600)
        elif what == b"drop":
            request.release()
        elif what.startswith(b"count"):
            for number in range(what[-1]):
                request.send(bytes([number]))
            request.finish()
        else:
            response = segment.message(len(request))
            response.array()[:] = request.array()[::-1]
            request.respond(response)
"""


def test_calls_go_to_another_process(segment, name, program):
    service = segment.service("work")
    server = program(SERVER, name)
    with service.client() as client:
        for size in (0, 1, 1000, 1 << 20):
            request = segment.message(size)
            request.array()[:] = [k % 251 for k in range(size)]
            sent = bytes(request)
            response = client.call(request, LONG)
            assert bytes(response) == sent[::-1] and request.released and response.readonly
        assert bytes(client.call(b"copied", LONG)) == b"deipoc"
        with client.stream(b"count\x64", LONG) as responses:
            assert [bytes(response)[0] for response in responses] == list(range(100))
            assert responses.recv() is None, "behind the last one"
        with pytest.raises(am.Unanswered, match="died: false"):
            client.call(b"drop", LONG)
        with pytest.raises(am.Unanswered, match="before the first|dropped it"):
            client.call(b"count\x00", LONG)
    service.remove()
    assert server.ended() == 0, "its loop ends with the service"


def test_a_killed_server_is_told_to_its_client_and_another_goes_on(segment, name, program):
    service = segment.service("work")
    client, one = service.client(), program(SERVER, name)
    assert one.line() == "serves"
    told = []

    def call() -> None:
        try:
            client.call(b"die", LONG)
        except am.Unanswered as why:
            told.append(str(why))

    calling = threading.Thread(target=call)
    calling.start()
    assert one.line() == "has it"
    other = program(SERVER, name)
    assert bytes(client.call(b"abc", LONG)) == b"cba", "beside the call that waits"
    one.kill()
    calling.join(LONG)
    assert len(told) == 1 and "died: true" in told[0] and "call again" in told[0]
    other.kill()
    with pytest.raises(am.Disconnected, match="start one"):
        client.call(b"abc", LONG)
    segment.reap()
    client.close()
    service.remove()
    del service
    assert segment.stats()["live_blocks"] == 0, "nothing is left"


def test_a_killed_client_is_missed_by_its_server(segment, name, program):
    server = segment.service("work").server()
    caller = program(
        """
        client = am.Segment.attach(sys.argv[1]).service("work").client()
        client.call(b"asked")
        """,
        name,
    )
    request = server.next(LONG)
    assert request.awaited and bytes(request) == b"asked"
    caller.kill()
    segment.reap()
    assert not request.awaited
    response = segment.message_from(b"late")
    with pytest.raises(am.Disconnected, match="caller"):
        request.respond(response)
    assert bytes(response) == b"late", "it is still its object's"
    request.release()
    with pytest.raises(am.Disconnected):
        server.next(LONG)


def test_calls_are_awaited(segment):
    service = segment.service("work", capacity=2)
    client, server = service.client(), service.server()

    async def serve() -> int:
        count = 0
        async for request in server:
            count += 1
            if bytes(request).startswith(b"stream"):
                for letter in bytes(request):
                    request.send(bytes([letter]))
                    await asyncio.sleep(0)
                request.finish()
            else:
                request.respond(bytes(request)[::-1])
        return count

    async def run() -> None:
        serving = asyncio.create_task(serve())
        calls = [client.call_async(f"call {k}".encode()) for k in range(20)]
        responses = await asyncio.gather(*calls)
        assert [bytes(response) for response in responses] == [f"call {k}".encode()[::-1] for k in range(20)]
        with await client.stream_async(b"streamed") as letters:
            assert b"".join([bytes(letter) async for letter in letters]) == b"streamed"
        service.remove()
        assert await serving == 21

    asyncio.run(asyncio.wait_for(run(), LONG))


def test_a_call_that_is_cancelled_is_told_to_its_server(segment):
    service = segment.service("work")
    client, server = service.client(), service.server()

    async def run() -> None:
        calling = asyncio.create_task(client.call_async(b"x"))
        request = await server.next_async()
        assert request.awaited
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert not request.awaited
        with pytest.raises(am.Disconnected, match="no more"):
            request.respond(b"late")

    asyncio.run(asyncio.wait_for(run(), LONG))
    with pytest.raises(am.Timeout, match="wait longer"):
        client.call(b"x", timeout=0.01)
    assert server.try_next() is None, "nobody waits for that one"


def test_an_exception_in_a_server_is_told_to_the_caller(segment):
    service = segment.service("work")
    client, server = service.client(), service.server()

    def serve() -> None:
        with pytest.raises(ZeroDivisionError):
            with server.next(LONG) as request:
                request.respond(bytes([1 // len(request)]))

    serving = threading.Thread(target=serve)
    serving.start()
    with pytest.raises(am.Unanswered):
        client.call(b"", LONG)
    serving.join(LONG)


def test_threads_share_a_client_and_a_server(segment):
    service = segment.service("work", capacity=4)
    client, server = service.client(), service.server()
    wrong = []

    def serve() -> None:
        for request in server:
            request.respond(bytes(request) * 2)

    def call(first: int) -> None:
        for number in range(first, first + 100):
            asked = number.to_bytes(4, "little")
            if bytes(client.call(asked, LONG)) != asked * 2:
                wrong.append(number)

    serving = [threading.Thread(target=serve) for _ in range(2)]
    calling = [threading.Thread(target=call, args=(1000 * k,)) for k in range(4)]
    for thread in serving + calling:
        thread.start()
    for thread in calling:
        thread.join(LONG)
    service.remove()
    for thread in serving:
        thread.join(LONG)
    assert not wrong and not any(thread.is_alive() for thread in serving + calling)


def test_services_say_why_they_refuse(segment):
    segment.channel("taken")
    with pytest.raises(am.TypeMismatch):
        segment.service("taken")
    for capacity in (0, (1 << 20) + 1):
        with pytest.raises(am.BadOption):
            segment.service("work", capacity=capacity)
    service = segment.service("work", capacity=1)
    client = service.client()
    with pytest.raises(am.Timeout):
        client.call(b"no server came", timeout=0.01)
    server = service.server()
    with pytest.raises(am.Timeout, match="wait longer"):
        server.next(timeout=0)
    with pytest.raises(am.BadOption, match="None"):
        client.call(b"x", timeout=-1)
    with pytest.raises(TypeError):
        client.call("a str has no bytes")
    first = client.stream(b"first")
    second = segment.message_from(b"second")
    with pytest.raises(am.Timeout, match="still yours"):
        client.stream(second, timeout=0.01)
    assert bytes(second) == b"second"
    request = server.next(LONG)
    kept = request.array()
    assert request.readonly and not request.writable().readonly
    viewed = segment.message_from(b"viewed")
    view = memoryview(viewed)
    with pytest.raises(am.Viewed):
        request.respond(viewed)
    view.release()
    for number in range(16):
        request.send(bytes([number]), timeout=0)
    with pytest.raises(am.Timeout):
        request.send(b"more than a caller keeps", timeout=0.01)
    assert first.recv(LONG).array()[0] == 0
    request.respond(viewed)
    for again in (lambda: request.respond(b"again"), lambda: request.send(b"again"), request.finish):
        with pytest.raises(am.Released, match="answered before"):
            again()
    assert bytes(kept) == b"first", "what is viewed stays"
    request.release()
    assert bytes(kept) == b"first"
    with pytest.raises(am.Released):
        request.respond(b"again")
    assert len([bytes(response) for response in first]) == 16
    first.close()
    with pytest.raises(am.Closed, match="call again"):
        first.recv()
    client.close()
    with pytest.raises(am.Closed, match="closed in this process"):
        client.call(b"x")
    service.remove()
    with pytest.raises(am.Closed):
        service.client().call(b"x", LONG)
    with pytest.raises(am.Closed):
        server.next(LONG)
    server.close()
    with pytest.raises(am.Closed, match="closed in this process"):
        server.try_next()


def _serves(segment: am.Segment) -> None:
    with segment, segment.service("work").server() as server:
        for _ in range(3):
            request = server.next(LONG)
            request.respond(bytes(request)[::-1])


def test_a_spawned_process_serves(segment):
    worker = multiprocessing.get_context("spawn").Process(target=_serves, args=(segment,))
    worker.start()
    client = segment.service("work").client()
    assert [bytes(client.call(word, LONG)) for word in (b"ab", b"cd", b"ef")] == [b"ba", b"dc", b"fe"]
    worker.join(LONG)
    assert worker.exitcode == 0


def test_a_forked_child_makes_no_calls_of_its_parents(segment, name):
    service = segment.service("work")
    client, server = service.client(), service.server()
    responses = client.stream(b"asked")
    request = server.next(LONG)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            refused = 0
            for use in (
                lambda: client.call(b"x", 1),
                lambda: server.next(1),
                lambda: responses.recv(1),
                lambda: request.respond(b"x"),
                lambda: request.finish(),
                lambda: request.awaited,
                lambda: service.client(),
            ):
                try:
                    use()
                except am.ForkedChild:
                    refused += 1
            del responses, request, client, server
            with am.Segment.attach(name) as anew:
                asked = anew.service("work").client().stream(b"from the child")
                asked.close()
            code = 0 if refused == 7 else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    request.respond(b"answered")
    assert bytes(responses.recv(LONG)) == b"answered", "the child has ended nothing of its parent's"
