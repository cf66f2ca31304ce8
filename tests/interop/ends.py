"""The two ends of an interoperation: ours and the `h2` library's, with one interface.

Both hold the octets they get until told to consume them, and keep a log of all they were told.
"""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from frames import (
    Connection,
    ErrorCode,
    Event,
    GoAwayReceived,
    Headers,
    InformationalReceived,
    PingAcknowledged,
    RequestReceived,
    ResponseReceived,
    Role,
    SettingsAcknowledged,
    Stream,
    StreamReset,
    TrailersReceived,
)


@dataclass
class Log:
    """What one end was told, by stream."""

    heads: dict[int, Headers] = field(default_factory=dict)
    informational: dict[int, list[Headers]] = field(default_factory=dict)
    octets: dict[int, bytes] = field(default_factory=dict)
    trailers: dict[int, Headers] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    pings: list[bytes] = field(default_factory=list)
    settings_acknowledged: int = 0
    goaway: tuple[int, int] | None = None


class End(ABC):
    """One side of a connection. Octets in by `take`, out by `give`."""

    def __init__(self) -> None:
        self.log = Log()
        self.unconsumed: Counter[int] = Counter()
        """Octets that count for flow control and were not consumed, by stream."""

    @abstractmethod
    def give(self) -> bytes: ...

    @abstractmethod
    def take(self, octets: bytes) -> None: ...

    @abstractmethod
    def open(self, headers: Headers, *, end_stream: bool) -> int: ...

    @abstractmethod
    def can_open(self) -> bool: ...

    @abstractmethod
    def send_headers(self, stream_id: int, headers: Headers, *, end_stream: bool) -> None: ...

    @abstractmethod
    def room(self, stream_id: int) -> int:
        """Octets of DATA that the peer takes now on this stream."""

    @abstractmethod
    def send(self, stream_id: int, octets: bytes, padding: int | None = None) -> None:
        """Send up to `room` octets, in frames of the right size."""

    @abstractmethod
    def finish(self, stream_id: int) -> None: ...

    @abstractmethod
    def reset(self, stream_id: int, code: ErrorCode) -> None: ...

    @abstractmethod
    def credit(self, stream_id: int, size: int) -> None: ...

    @abstractmethod
    def granted(self, stream_id: int) -> int:
        """Octets of DATA that the peer may send on this stream."""

    @abstractmethod
    def change_settings(self, settings: dict[int, int]) -> None: ...

    @abstractmethod
    def ping(self, octets: bytes) -> None: ...

    def consume(self, stream_id: int, size: int) -> None:
        self.unconsumed[stream_id] -= size
        self.credit(stream_id, size)


class OurEnd(End):
    """`frames.Connection`."""

    def __init__(self, role: Role, settings: dict[int, int] | None = None) -> None:
        super().__init__()
        self.connection = Connection(role, self._on_event, settings=settings)
        self.streams: dict[int, Stream] = {}
        self._kept = b""
        self.connection.initiate()

    def give(self) -> bytes:
        octets = bytes(self.connection.tx.waiting())
        self.connection.sent()
        return octets

    def take(self, octets: bytes) -> None:
        view = memoryview(self._kept + octets)
        self._kept = bytes(view[self.connection.receive(view) :])

    def can_open(self) -> bool:
        return self.connection.can_open

    def open(self, headers: Headers, *, end_stream: bool) -> int:
        stream = self.connection.open_stream(headers, end_stream=end_stream)
        self._collect(stream)
        return stream.id

    def send_headers(self, stream_id: int, headers: Headers, *, end_stream: bool) -> None:
        self.connection.send_headers(self.streams[stream_id], headers, end_stream=end_stream)

    def room(self, stream_id: int) -> int:
        windows = self.streams[stream_id].send_window, self.connection.send_window
        return max(0, min(windows))

    def send(self, stream_id: int, octets: bytes, padding: int | None = None) -> None:
        assert self.connection.send_data(self.streams[stream_id], octets) == len(octets)

    def finish(self, stream_id: int) -> None:
        self.connection.commit_data(self.streams[stream_id], 0, end_stream=True)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        self.connection.reset_stream(self.streams[stream_id], code)

    def credit(self, stream_id: int, size: int) -> None:
        self.connection.consume(self.streams[stream_id], size)

    def granted(self, stream_id: int) -> int:
        return min(self.streams[stream_id].receive_window, self.connection.receive_window)

    def change_settings(self, settings: dict[int, int]) -> None:
        self.connection.send_settings(settings)

    def ping(self, octets: bytes) -> None:
        self.connection.send_ping(octets)

    def _collect(self, stream: Stream) -> None:
        self.streams[stream.id] = stream
        self.log.octets[stream.id] = b""

        def receive(octets: memoryview, end_stream: bool) -> None:
            self.log.octets[stream.id] += octets
            self.unconsumed[stream.id] += len(octets)
            if end_stream:
                self.log.ended.add(stream.id)

        stream.receiver = receive

    def _on_event(self, event: Event) -> None:
        log = self.log
        match event:
            case RequestReceived():
                self._collect(self.connection.streams[event.stream_id])
                self._head(event.stream_id, event.headers, event.end_stream)
            case ResponseReceived():
                self._head(event.stream_id, event.headers, event.end_stream)
            case InformationalReceived():
                log.informational.setdefault(event.stream_id, []).append(event.headers)
            case TrailersReceived():
                log.trailers[event.stream_id] = event.headers
                log.ended.add(event.stream_id)
            case StreamReset():
                assert event.by_peer, event.reason
                log.resets[event.stream_id] = event.code
            case PingAcknowledged():
                log.pings.append(event.data)
            case SettingsAcknowledged():
                log.settings_acknowledged += 1
            case GoAwayReceived():
                log.goaway = event.last_stream_id, event.code

    def _head(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        self.log.heads[stream_id] = headers
        if end_stream:
            self.log.ended.add(stream_id)


class TheirEnd(End):
    """`h2.connection.H2Connection`."""

    def __init__(self, role: Role, settings: dict[int, int] | None = None) -> None:
        super().__init__()
        config = h2.config.H2Configuration(
            client_side=role is Role.CLIENT, header_encoding=None, validate_inbound_headers=True
        )
        self.connection = h2.connection.H2Connection(config)
        if settings:
            self.connection.local_settings = h2.settings.Settings(
                client=role is Role.CLIENT,
                initial_values={
                    h2.settings.SettingCodes(code): settings[code] for code in settings
                },
            )
        self.connection.initiate_connection()

    def give(self) -> bytes:
        return self.connection.data_to_send()

    def take(self, octets: bytes) -> None:
        for event in self.connection.receive_data(octets):
            self._on_event(event)

    def can_open(self) -> bool:
        limit = self.connection.remote_settings.max_concurrent_streams
        return self.connection.open_outbound_streams < limit

    def open(self, headers: Headers, *, end_stream: bool) -> int:
        stream_id: int = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream_id, headers, end_stream=end_stream)
        return stream_id

    def send_headers(self, stream_id: int, headers: Headers, *, end_stream: bool) -> None:
        self.connection.send_headers(stream_id, headers, end_stream=end_stream)

    def room(self, stream_id: int) -> int:
        return max(0, self.connection.local_flow_control_window(stream_id))

    def send(self, stream_id: int, octets: bytes, padding: int | None = None) -> None:
        while octets:
            window = self.connection.local_flow_control_window(stream_id)
            if padding is not None and window < len(octets) + 1 + padding:
                padding = None
            extra = 0 if padding is None else 1 + padding
            size = min(len(octets), self.connection.max_outbound_frame_size - extra)
            piece, octets = octets[:size], octets[size:]
            self.connection.send_data(stream_id, piece, pad_length=padding)

    def finish(self, stream_id: int) -> None:
        self.connection.end_stream(stream_id)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        self.connection.reset_stream(stream_id, h2.errors.ErrorCodes(code))

    def credit(self, stream_id: int, size: int) -> None:
        if size:
            self.connection.acknowledge_received_data(size, stream_id)

    def granted(self, stream_id: int) -> int:
        return self.connection.remote_flow_control_window(stream_id)

    def change_settings(self, settings: dict[int, int]) -> None:
        self.connection.update_settings(dict(settings))

    def ping(self, octets: bytes) -> None:
        self.connection.ping(octets)

    def prioritize(self, stream_id: int, weight: int, depends_on: int, exclusive: bool) -> None:
        """PRIORITY (client role)."""
        self.connection.prioritize(stream_id, weight, depends_on, exclusive)

    def _on_event(self, event: h2.events.Event) -> None:
        log = self.log
        match event:
            case h2.events.RequestReceived() | h2.events.ResponseReceived():
                log.heads[event.stream_id] = plain(event.headers)
                log.octets[event.stream_id] = b""
            case h2.events.InformationalResponseReceived():
                log.informational.setdefault(event.stream_id, []).append(plain(event.headers))
            case h2.events.TrailersReceived():
                log.trailers[event.stream_id] = plain(event.headers)
            case h2.events.DataReceived():
                log.octets[event.stream_id] += event.data
                self.unconsumed[event.stream_id] += event.flow_controlled_length
            case h2.events.StreamEnded():
                log.ended.add(event.stream_id)
            case h2.events.StreamReset():
                assert event.remote_reset
                log.resets[event.stream_id] = int(event.error_code)
            case h2.events.PingAckReceived():
                log.pings.append(event.ping_data)
            case h2.events.SettingsAcknowledged():
                log.settings_acknowledged += 1
            case h2.events.ConnectionTerminated():
                log.goaway = event.last_stream_id or 0, int(event.error_code or 0)


def plain(headers: object) -> Headers:
    """Names and values as octets, without what h2 and hpack wrap them in."""
    assert isinstance(headers, list)
    return [(bytes(name), bytes(value)) for name, value in headers]


def pair(we_are: Role, settings: dict[int, int] | None = None) -> tuple[OurEnd, TheirEnd]:
    """Both ends, with SETTINGS exchanged."""
    ours = OurEnd(we_are, settings)
    theirs = TheirEnd(Role.SERVER if we_are is Role.CLIENT else Role.CLIENT)
    exchange(ours, theirs)
    return ours, theirs


def exchange(one: End, other: End) -> None:
    """Carry octets both ways until there are none."""
    while True:
        forth, back = one.give(), other.give()
        if not forth and not back:
            return
        other.take(forth)
        one.take(back)
