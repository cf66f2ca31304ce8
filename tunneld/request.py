"""A control request and the table of methods that answer it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, TypeAlias

import msgspec
import trio
from msgspec import Meta, Struct

from ctl.messages import ControlError, Message
from tunneld.framestream import FrameStream


class Reply(Enum):
    """How a method answers."""

    RESULT = "result"
    STREAM = "stream"
    """Any number of items, then what the method returns as the ``end``."""
    HANDOVER = "handover"
    """The method has given the client's socket to somebody else, who answers on it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as its method sees it."""

    id: int
    stream: FrameStream
    after_reply: list[Callable[[], None]] = field(default_factory=list)
    """Called when the reply has been sent."""

    async def item(self, item: Message) -> None:
        """Send one item of a streamed reply; waits for a client that is slow to read."""
        await self.stream.send({"id": self.id, "item": item})

    @property
    def socket(self) -> trio.socket.SocketType:
        """The client's socket, for giving a copy of it away."""
        return self.stream.socket


Run: TypeAlias = Callable[[Any, Request], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Method:
    """One row of a method table: ``run`` gets an instance of ``params`` and the request, and
    raises `ControlError` to refuse."""

    params: type[Struct]
    run: Run
    reply: Reply = Reply.RESULT


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a method that takes none."""


class Envelope(Struct, frozen=True):
    """What every request has around its parameters."""

    id: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
    method: str
    params: dict[str, Any] = {}


def id_of(message: Message) -> int:
    """The id to answer by, 0 where the message has none."""
    request_id = message.get("id")
    return request_id if type(request_id) is int and request_id > 0 else 0


def bad_request(exc: msgspec.ValidationError, what: str) -> ControlError:
    """The refusal of a message or parameters of the wrong shape."""
    text, _, where = str(exc).replace("`", "").partition(" - at $")
    place = f"{what}{where.rstrip('.')}" if where else what
    return ControlError("bad_request", f"{place}: {text[:1].lower()}{text[1:]}")
