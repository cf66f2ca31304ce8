"""A gRPC client on `h2` in memory, which shows every frame's effect on the server's connection."""

import struct
from collections import defaultdict
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings

from tunneld.endpoints.grpc import GrpcConnection

HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/test.Service/Echo",
    ":authority": "x",
    "content-type": "application/grpc",
    "te": "trailers",
}


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message with its gRPC prefix."""
    return struct.pack(">BI", flag, len(message)) + message


@dataclass
class Reply:
    """What came back on one stream."""

    head: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """``grpc-status``, of the trailers or of a Trailers-Only response."""
        return int((self.trailers or self.head)["grpc-status"])

    @property
    def message(self) -> str:
        return (self.trailers or self.head)["grpc-message"]


class Client:
    """Joined to a server's connection without a wire between."""

    def __init__(self, server: GrpcConnection, initial_window: int | None = None) -> None:
        self.server = server
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        if initial_window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: initial_window})
        self.credits_data = initial_window is None
        self.replies: dict[int, Reply] = defaultdict(Reply)
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.wire = bytearray()
        """All octets that the server sent."""
        self.exchange()

    def exchange(self) -> None:
        """Carry octets both ways until neither end has any."""
        while True:
            to_server = self.h2.data_to_send()
            if to_server:
                self.server.receive_data(to_server)
            to_client = self.server.data_to_send()
            self.wire += to_client
            for event in self.h2.receive_data(to_client):
                self._note(event)
            if not to_server and not to_client:
                return

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.replies[event.stream_id].head = _text(event.headers)
            case h2.events.TrailersReceived():
                self.replies[event.stream_id].trailers = _text(event.headers)
            case h2.events.DataReceived():
                self.replies[event.stream_id].body += event.data
                if self.credits_data:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.replies[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.replies[event.stream_id].reset = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.goaway = event

    def open(self, headers: dict[str, str] | None = None, *, end_stream: bool = False) -> int:
        """Begin a call; ``headers`` replace some, and ``""`` removes one."""
        stream_id = self.h2.get_next_available_stream_id()
        fields = {**HEADERS, **(headers or {})}
        self.h2.send_headers(
            stream_id, [(k, v) for k, v in fields.items() if v], end_stream=end_stream
        )
        return stream_id

    def call(self, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        """A whole call with this body."""
        stream_id = self.open(headers)
        self.send(stream_id, body)
        return self.replies[stream_id]

    def send(self, stream_id: int, body: bytes, *, end_stream: bool = True) -> None:
        """Send a body in as many frames as the windows want, unless the stream ends before."""
        rest = memoryview(body)
        while rest and not self.is_over(stream_id):
            size = min(self.h2.local_flow_control_window(stream_id), 16384, len(rest))
            assert size > 0, "the server does not credit what it gets"
            self.h2.send_data(stream_id, bytes(rest[:size]))
            rest = rest[size:]
            self.exchange()
        if end_stream and not self.is_over(stream_id):
            self.h2.end_stream(stream_id)
        self.exchange()

    def is_over(self, stream_id: int) -> bool:
        reply = self.replies[stream_id]
        return reply.reset is not None or reply.ended or self.goaway is not None


def _text(headers: object) -> dict[str, str]:
    assert isinstance(headers, list)
    return {str(name): str(value) for name, value in headers}
