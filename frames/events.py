"""What a connection tells its user, in order, by `Connection.on_event`.

Octets of a stream are not events: they go straight to the stream's receiver.
"""

from dataclasses import dataclass
from typing import TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case and values, in wire order, pseudo-headers first."""


class Event:
    """Base of all."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class RequestReceived(Event):
    """The peer opened a stream (server role). With ``end_stream`` it has nothing more to send."""

    stream_id: int
    headers: Headers
    end_stream: bool


@dataclass(frozen=True, slots=True)
class ResponseReceived(Event):
    """The final response to our request (client role)."""

    stream_id: int
    headers: Headers
    end_stream: bool


@dataclass(frozen=True, slots=True)
class InformationalReceived(Event):
    """A 1xx response; the final one follows."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class TrailersReceived(Event):
    """Trailers; they end the peer's side of the stream."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class DataReceived(Event):
    """Octets of one stream, in order; only from `buffered.BufferedConnection`."""

    stream_id: int
    data: bytes
    end_stream: bool


@dataclass(frozen=True, slots=True)
class StreamReset(Event):
    """The stream is gone: the peer reset it, or broke it and we did (``by_peer`` False)."""

    stream_id: int
    code: int
    by_peer: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WindowOpened(Event):
    """A stream that was marked blocked may send again; stream id 0: the whole connection."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class SettingsReceived(Event):
    """The peer's settings changed; they are in force and acknowledged."""

    settings: dict[int, int]


@dataclass(frozen=True, slots=True)
class SettingsAcknowledged(Event):
    """The peer has our oldest unacknowledged SETTINGS in force."""


@dataclass(frozen=True, slots=True)
class PingAcknowledged(Event):
    """The peer's answer to our PING."""

    data: bytes


@dataclass(frozen=True, slots=True)
class GoAwayReceived(Event):
    """The peer takes no new streams; ours above ``last_stream_id`` were reset (REFUSED_STREAM)."""

    last_stream_id: int
    code: int
    debug: bytes
