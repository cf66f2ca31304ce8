"""A connection with a list of events in place of calls: for tests, tools, and whatever is rare."""

from collections.abc import Mapping

from frames.connection import Connection
from frames.errors import RemoteProtocolError
from frames.events import DataReceived, Event, Headers, RequestReceived
from frames.limits import Limits
from frames.settings import DEFAULT_WINDOW
from frames.stream import Stream
from frames.streamids import Role


class BufferedConnection:
    """Octets in, events out; calls on `connection`, octets out.

    Octets of a stream count as consumed as soon as they are an event.
    """

    def __init__(
        self,
        role: Role,
        *,
        settings: Mapping[int, int] | None = None,
        limits: Limits | None = None,
        receive_window: int = DEFAULT_WINDOW,
    ) -> None:
        self.connection = Connection(
            role, self._on_event, settings=settings, limits=limits, receive_window=receive_window
        )
        self._kept = b""
        self._events: list[Event] = []

    def open_stream(self, headers: Headers, *, end_stream: bool = False) -> Stream:
        """`Connection.open_stream`, with the stream's octets becoming events."""
        stream = self.connection.open_stream(headers, end_stream=end_stream)
        self._collect(stream)
        return stream

    def receive_data(self, data: bytes) -> list[Event]:
        """Take in octets, cut anywhere.

        Raises:
          RemoteProtocolError: the connection is over; `take_events` has what came before.
        """
        view = memoryview(self._kept + data)
        try:
            used = self.connection.receive(view)
        except RemoteProtocolError:
            self._kept = b""
            raise
        self._kept = bytes(view[used:])
        return self.take_events()

    def take_events(self) -> list[Event]:
        """Events not returned yet."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """All octets that wait to be sent; they count as sent from now on."""
        octets = bytes(self.connection.tx.waiting())
        self.connection.sent()
        return octets

    def _on_event(self, event: Event) -> None:
        self._events.append(event)
        if isinstance(event, RequestReceived) and not event.end_stream:
            self._collect(self.connection.streams[event.stream_id])

    def _collect(self, stream: Stream) -> None:
        def receive(octets: memoryview, end_stream: bool) -> None:
            self._events.append(DataReceived(stream.id, bytes(octets), end_stream))
            self.connection.consume(stream, len(octets))

        stream.receiver = receive
