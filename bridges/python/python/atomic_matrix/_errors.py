"""The exceptions. Each message says what was asked, what was found, and what would help."""


class MatrixError(Exception):
    """What every exception of this package is."""


class Timeout(MatrixError, TimeoutError):
    """There was no message, or no room for one, until the time was over."""


class Closed(MatrixError):
    """Nothing will come, or be taken, any more: it was closed or removed, by this process or another."""


class Disconnected(Closed):
    """The other side's last end has left or died."""


class Unanswered(MatrixError):
    """The server that had the request died, or dropped it; call again if it may be done twice."""


class Released(MatrixError, ValueError):
    """The message was sent, released, or is just being sent."""


class Viewed(MatrixError, BufferError):
    """The message has memoryviews or arrays, so that it can't be sent."""


class ForkedChild(MatrixError):
    """A forked child uses what its parent has attached to."""


class OutOfMemory(MatrixError, MemoryError):
    """The segment, or the place for it, has no room."""


class NoPlace(MatrixError):
    """All places are taken: participants, subscribers, names, a map's entries or its guards."""


class TypeMismatch(MatrixError, TypeError):
    """What has the name is something else."""


class NameTaken(MatrixError):
    """The name stands for something already."""


class NameUnknown(MatrixError, LookupError):
    """Nothing has this name."""


class SegmentExists(MatrixError, FileExistsError):
    """There is a segment of this name already."""


class SegmentNotFound(MatrixError, FileNotFoundError):
    """There is no segment of this name."""


class PermissionDenied(MatrixError, PermissionError):
    """The segment's maker does not let this user attach."""


class BadOption(MatrixError, ValueError):
    """An option has a value that can't be used."""
