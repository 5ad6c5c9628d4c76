"""Messages, topics, boards, maps and services in memory that processes share, without a copy.

    import atomic_matrix as am

    with am.Segment.open_or_create("camera", size=64 << 20) as segment:
        frames = segment.channel("frames").sender()
        message = segment.message(3 << 20)          # a block of this process's own
        message.array(shape=(1024, 1024, 3))[:] = 7  # filled where it lies
        frames.send(message)                        # the channel's now

A receiver, in another process:

    with am.Segment.attach("camera") as segment:
        for message in segment.channel("frames").receiver():
            image = message.array(shape=(1024, 1024, 3))  # where it was written
"""

from ._errors import (
    BadOption,
    Closed,
    Disconnected,
    ForkedChild,
    MatrixError,
    NameTaken,
    NameUnknown,
    NoPlace,
    OutOfMemory,
    PermissionDenied,
    Released,
    SegmentExists,
    SegmentNotFound,
    Timeout,
    TypeMismatch,
    Unanswered,
    Viewed,
)
from ._native import (
    Board,
    Channel,
    Client,
    Map,
    Message,
    Receiver,
    Request,
    Responses,
    Sample,
    Segment,
    Sender,
    Server,
    Service,
    Subscriber,
    Topic,
    Value,
)

__all__ = [
    "BadOption",
    "Board",
    "Channel",
    "Client",
    "Closed",
    "Disconnected",
    "ForkedChild",
    "Map",
    "MatrixError",
    "Message",
    "NameTaken",
    "NameUnknown",
    "NoPlace",
    "OutOfMemory",
    "PermissionDenied",
    "Receiver",
    "Released",
    "Request",
    "Responses",
    "Sample",
    "Segment",
    "SegmentExists",
    "SegmentNotFound",
    "Sender",
    "Server",
    "Service",
    "Subscriber",
    "Timeout",
    "Topic",
    "TypeMismatch",
    "Unanswered",
    "Value",
    "Viewed",
]
