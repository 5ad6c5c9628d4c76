"""What the extension module has. Every wait takes seconds: `None` waits for as long as it takes, 0 does not wait."""

from collections.abc import AsyncIterator, Iterator
from os import PathLike
from types import TracebackType
from typing import Any, final

from numpy import ndarray
from numpy.typing import DTypeLike
from typing_extensions import Buffer, Self

class _Bytes:
    """Bytes of the segment, with Python's buffer protocol: `memoryview(it)` and `numpy.asarray(it)` copy nothing.

    A view has a reference to its object, and keeps the bytes as they are for as long as it lives, whatever is called
    meanwhile.
    """

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __bytes__(self) -> bytes:
        """A copy."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Releases it."""
    def array(self, dtype: DTypeLike = None, shape: int | tuple[int, ...] | None = None) -> ndarray[Any, Any]:
        """A NumPy array over the bytes: of uint8 and one dimension, unless said otherwise. Nothing is copied."""
    def __dlpack__(self, **options: Any) -> Any:
        """DLPack, of uint8 and one dimension, read-only where the bytes are: `numpy.from_dlpack(it)`,
        `torch.from_dlpack(it)`. Nothing is copied. Made by NumPy."""
    def __dlpack_device__(self) -> tuple[int, int]: ...
    def release(self) -> None:
        """There are no new views, and the bytes are given back as soon as the last view is gone."""
    @property
    def nbytes(self) -> int: ...
    @property
    def readonly(self) -> bool: ...
    @property
    def released(self) -> bool:
        """Whether it was released, or sent."""
    @property
    def address(self) -> int:
        """Where the bytes begin, in this process."""

@final
class Message(_Bytes):
    """A block that is this process's alone: writable if it was made here, read-only if it was received.

    Dropped, it is freed. If this process dies, it is freed.
    """

    def writable(self) -> Self:
        """This message as one that may be written: a received message belongs to its receiver alone."""

@final
class Sample(_Bytes):
    """A publication, where it lies.

    Several may be kept; the oldest that is kept holds publishers up once the topic is full of newer ones.
    """

@final
class Value(_Bytes):
    """A map's value, where it lies, or one that was taken out.

    It takes one of the map's places for guards until it is released.
    """

@final
class Segment:
    """Memory that several processes of this host share."""

    @staticmethod
    def create(
        name: str | None = None,
        *,
        size: int,
        id: str | None = None,
        path: str | PathLike[str] | None = None,
        memfd: bool = False,
        participants: int | None = None,
        mode: int = 0o600,
        keep_orphans: bool = False,
    ) -> Segment:
        """Makes one of `size` bytes. Its name stands for an id; without both an id is drawn.

        `path` is a directory or a file instead of /dev/shm; `memfd` gives it no name at all. `participants` threads
        may use it at once; `mode` says who may attach; `keep_orphans` keeps what the dead have held.
        """
    @staticmethod
    def open_or_create(
        name: str | None = None,
        *,
        size: int,
        id: str | None = None,
        path: str | PathLike[str] | None = None,
        participants: int | None = None,
        mode: int = 0o600,
        keep_orphans: bool = False,
    ) -> Segment:
        """Makes one, or attaches to it, however many processes do so at once."""
    @staticmethod
    def attach(name: str | None = None, *, id: str | None = None, path: str | PathLike[str] | None = None) -> Segment:
        """Attaches to one. So does unpickling a segment."""
    @property
    def id(self) -> str: ...
    @property
    def mapping(self) -> tuple[int, int]:
        """Where it is mapped in this process, and how many bytes."""
    def stats(self) -> dict[str, int]:
        """`free_bytes`, `free_blocks`, `largest_free`, `live_blocks`, `live_bytes`, and living `participants`."""
    def message(self, nbytes: int) -> Message:
        """A new message, which holds whatever bytes were there before."""
    def message_from(self, data: Buffer) -> Message:
        """A new message with a copy of these bytes."""
    def channel(self, name: str, *, capacity: int = 64, create: bool = True) -> Channel:
        """The channel of that name, which is made if there is none, unless `create` is false.

        In Rust: `channel::<[u8]>`.
        """
    def topic(self, name: str, *, cells: int = 64, subscribers: int = 16) -> Topic:
        """The topic of that name, which is made if there is none. In Rust: `topic::<[u8]>`."""
    def board(self, name: str) -> Board:
        """The board of that name, which is made if there is none. In Rust: `board::<[u8]>`."""
    def map(self, name: str, *, capacity: int = 256, guards: int = 64) -> Map:
        """The map of that name, which is made if there is none. In Rust: `map::<[u8]>`."""
    def service(self, name: str, *, capacity: int = 64) -> Service:
        """The service of that name, which is made if there is none, with room for so many requests that wait.

        In Rust: `service::<[u8], [u8]>`.
        """
    def reap(self) -> int:
        """Recovers participants that have died, which others do in passing; how many."""
    def unlink(self) -> None:
        """Takes its name away. Its memory goes with its last user."""
    def close(self) -> None:
        """This object leaves it. It stays mapped until the last message, view, channel or other object of it is gone."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Channel:
    """A bounded queue: each message goes to one receiver, and its bytes stay where they are."""

    def sender(self) -> Sender: ...
    def receiver(self) -> Receiver: ...
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    def ends(self) -> tuple[int, int]:
        """Senders and receivers that there are now, in all processes."""
    def close(self) -> None:
        """Nobody sends any more; receivers get what is in it."""
    def remove(self) -> None:
        """Takes its name away and closes it."""

@final
class Sender:
    """Any thread may use it."""

    def send(self, data: Message | Buffer, timeout: float | None = None) -> None:
        """Sends a message as it lies, which is gone then, or a copy of other bytes.

        Refused, the message is still its object's.
        """
    async def send_async(self, data: Message | Buffer) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Receiver:
    """Any thread may use it, and several at once.

    Iterated, it ends when the channel is closed or its last sender has gone.
    """

    def recv(self, timeout: float | None = None) -> Message: ...
    def try_recv(self) -> Message | None: ...
    async def recv_async(self) -> Message: ...
    def __iter__(self) -> Iterator[Message]: ...
    def __next__(self) -> Message: ...
    def __aiter__(self) -> AsyncIterator[Message]: ...
    async def __anext__(self) -> Message: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Topic:
    """Every subscriber sees every publication from its subscription on, once, in one order.

    Iterated, it is subscribed to.
    """

    def publish(self, data: Message | Buffer, timeout: float | None = None) -> None:
        """As `Sender.send`; waits for the slowest subscriber."""
    def subscribe(self, history: int = 0) -> Subscriber:
        """Sees all that is published from now on, and as many of the last before that."""
    @property
    def published(self) -> int:
        """How many were ever published."""
    def __iter__(self) -> Iterator[Sample]: ...
    def __aiter__(self) -> AsyncIterator[Sample]: ...
    def remove(self) -> None: ...

@final
class Subscriber:
    """Reads what is published. Iterated, it ends when the topic is removed."""

    def next(self, timeout: float | None = None) -> Sample: ...
    def try_next(self) -> Sample | None: ...
    async def next_async(self) -> Sample: ...
    def __iter__(self) -> Iterator[Sample]: ...
    def __next__(self) -> Sample: ...
    def __aiter__(self) -> AsyncIterator[Sample]: ...
    async def __anext__(self) -> Sample: ...
    def close(self) -> None:
        """It gives its place up, as soon as its last sample is gone."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Board:
    """The latest value, written by any number of processes, and read as a copy that is never torn.

    Iterated by `async for`, it gives what changes.
    """

    def set(self, data: Message | Buffer) -> None: ...
    def get(self) -> bytes | None: ...
    def changed(self, timeout: float | None = None) -> bytes:
        """The newest value, once it is not the one that this object gave last by `changed`."""
    async def changed_async(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    def remove(self) -> None: ...

@final
class Map:
    """Values under keys: bytes, or a str, which stands for its UTF-8 bytes. Each change is one step for everybody."""

    def message(self, key: bytes | str, nbytes: int, /) -> Message:
        """A new message with room for its key: inserted, it stays where it is."""
    def insert(self, key: bytes | str, data: Message | Buffer, /) -> None: ...
    def __setitem__(self, key: bytes | str, data: Message | Buffer, /) -> None: ...
    def get(self, key: bytes | str, /) -> Value | None: ...
    def __getitem__(self, key: bytes | str, /) -> Value: ...
    def pop(self, key: bytes | str, /) -> Value | None:
        """Takes a value out: of several who try, one gets it."""
    def __delitem__(self, key: bytes | str, /) -> None: ...
    def __contains__(self, key: bytes | str, /) -> bool: ...
    def __len__(self) -> int: ...
    def keys(self) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def remove(self) -> None: ...

@final
class Service:
    """Requests, each to one of the servers, and the responses to each."""

    def client(self) -> Client: ...
    def server(self) -> Server: ...
    def remove(self) -> None:
        """Takes its name away: nobody calls any more."""

@final
class Client:
    """Calls. Any thread and any task may use it, and several at once."""

    def call(self, data: Message | Buffer, timeout: float | None = None) -> Message:
        """The first response. Where there is no server yet, one is waited for.

        `Unanswered` if the server died or dropped the request; `Disconnected` if the last server has gone.
        """
    def stream(self, data: Message | Buffer, timeout: float | None = None) -> Responses:
        """All responses, as they come. The timeout is for room for the request."""
    async def call_async(self, data: Message | Buffer) -> Message: ...
    async def stream_async(self, data: Message | Buffer) -> Responses: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Responses:
    """The responses to one call. Iterated, they end behind the last; closed before that, the server is told so."""

    def recv(self, timeout: float | None = None) -> Message | None:
        """The next one; None behind the last."""
    def __iter__(self) -> Iterator[Message]: ...
    def __next__(self) -> Message: ...
    def __aiter__(self) -> AsyncIterator[Message]: ...
    async def __anext__(self) -> Message: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Server:
    """Any thread may use it, and several at once: each request goes to one of them.

    Iterated, it waits where there is no client, and ends when the service is removed.
    """

    def next(self, timeout: float | None = None) -> Request:
        """The oldest request that somebody waits for. `Disconnected` once there is no client any more."""
    def try_next(self) -> Request | None: ...
    async def next_async(self) -> Request: ...
    def __iter__(self) -> Iterator[Request]: ...
    def __next__(self) -> Request: ...
    def __aiter__(self) -> AsyncIterator[Request]: ...
    async def __anext__(self) -> Request: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Request(_Bytes):
    """A request, where it lies. Released without a response, whoever waits is told so."""

    def respond(self, data: Message | Buffer) -> None:
        """The last response, as a message that is gone then, or a copy of other bytes. The request's bytes stay."""
    def send(self, data: Message | Buffer, timeout: float | None = None) -> None:
        """A response behind which others come; waits for a caller that has not taken those before."""
    def finish(self) -> None:
        """There is no further response."""
    def writable(self) -> Self:
        """This request as one that may be written: it is its server's alone."""
    @property
    def awaited(self) -> bool:
        """Whether somebody waits for it, as far as anybody has found out."""
