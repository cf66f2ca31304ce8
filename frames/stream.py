"""One stream: its state table (RFC 9113 section 5.1, figure 2) and its windows."""

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from frames.errors import ErrorCode, LocalProtocolError, StreamProtocolError

Receiver: TypeAlias = Callable[[memoryview, bool], None]
"""Takes a stream's octets: ``(data, end_stream)``. ``data`` is valid for the call alone, and may
be empty when only the end came. The receiver owes `Connection.consume` for what it took."""


class StreamState(Enum):
    """Without the reserved states: there is no server push here."""

    IDLE = "idle"
    OPEN = "open"
    HALF_CLOSED_LOCAL = "half-closed (local)"
    HALF_CLOSED_REMOTE = "half-closed (remote)"
    CLOSED = "closed"


class StreamInput(Enum):
    """What moves a stream; END_STREAM on a HEADERS frame is an input of its own."""

    SEND_HEADERS = "send HEADERS"
    RECV_HEADERS = "receive HEADERS"
    SEND_DATA = "send DATA"
    RECV_DATA = "receive DATA"
    SEND_END = "send END_STREAM"
    RECV_END = "receive END_STREAM"
    SEND_RESET = "send RST_STREAM"
    RECV_RESET = "receive RST_STREAM"


_S = StreamState
_I = StreamInput

# Rule 1: everything that changes a stream's state stands in this table. Rule 2: a pair that is
# not in it is illegal, for us (LocalProtocolError) as for the peer (STREAM_CLOSED).
TRANSITIONS: dict[tuple[StreamState, StreamInput], StreamState] = {
    (_S.IDLE, _I.SEND_HEADERS): _S.OPEN,
    (_S.IDLE, _I.RECV_HEADERS): _S.OPEN,
    (_S.OPEN, _I.SEND_HEADERS): _S.OPEN,
    (_S.OPEN, _I.RECV_HEADERS): _S.OPEN,
    (_S.OPEN, _I.SEND_DATA): _S.OPEN,
    (_S.OPEN, _I.RECV_DATA): _S.OPEN,
    (_S.OPEN, _I.SEND_END): _S.HALF_CLOSED_LOCAL,
    (_S.OPEN, _I.RECV_END): _S.HALF_CLOSED_REMOTE,
    (_S.OPEN, _I.SEND_RESET): _S.CLOSED,
    (_S.OPEN, _I.RECV_RESET): _S.CLOSED,
    (_S.HALF_CLOSED_LOCAL, _I.RECV_HEADERS): _S.HALF_CLOSED_LOCAL,
    (_S.HALF_CLOSED_LOCAL, _I.RECV_DATA): _S.HALF_CLOSED_LOCAL,
    (_S.HALF_CLOSED_LOCAL, _I.RECV_END): _S.CLOSED,
    (_S.HALF_CLOSED_LOCAL, _I.SEND_RESET): _S.CLOSED,
    (_S.HALF_CLOSED_LOCAL, _I.RECV_RESET): _S.CLOSED,
    (_S.HALF_CLOSED_REMOTE, _I.SEND_HEADERS): _S.HALF_CLOSED_REMOTE,
    (_S.HALF_CLOSED_REMOTE, _I.SEND_DATA): _S.HALF_CLOSED_REMOTE,
    (_S.HALF_CLOSED_REMOTE, _I.SEND_END): _S.CLOSED,
    (_S.HALF_CLOSED_REMOTE, _I.SEND_RESET): _S.CLOSED,
    (_S.HALF_CLOSED_REMOTE, _I.RECV_RESET): _S.CLOSED,
}

_RECEIVING = frozenset({_S.OPEN, _S.HALF_CLOSED_LOCAL})
_SENDING = frozenset({_S.OPEN, _S.HALF_CLOSED_REMOTE})


class Stream:
    """State and windows of one stream; owned by its connection.

    Attributes:
      can_send, can_receive: whether our side, the peer's side is still open.
      sends_data, takes_data: whether DATA may go, may come: besides, the head must be there.
      send_window: octets we may send; negative after the peer lowered its initial size.
      receive_window: octets the peer may send.
      unacked: octets consumed that the peer has not been credited with.
      window_size: what ``receive_window`` is credited up to.
      receiver: takes the octets; until one is set they are dropped and credited.
      is_connect: a request that became, or may become, a tunnel (RFC 9113 section 8.5).
      is_head: a HEAD request of ours, whose response has no body.
      blocked: set by a sender that waits for the window; a `WindowOpened` event clears it.
      body_left: octets that the content-length header still promises; None without one.
    """

    __slots__ = (
        "blocked",
        "body_left",
        "can_receive",
        "can_send",
        "head_received",
        "head_sent",
        "id",
        "is_connect",
        "is_head",
        "receive_window",
        "receiver",
        "send_window",
        "sends_data",
        "state",
        "takes_data",
        "unacked",
        "window_size",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.state = StreamState.IDLE
        self.can_send = False
        self.can_receive = False
        self.sends_data = False
        self.takes_data = False
        self.send_window = send_window
        self.receive_window = receive_window
        self.window_size = receive_window
        self.unacked = 0
        self.receiver: Receiver | None = None
        self.blocked = False
        self.is_connect = False
        self.is_head = False
        self.head_received = False
        self.head_sent = False
        self.body_left: int | None = None

    def move_local(self, move: StreamInput) -> None:
        """Apply what we do.

        Raises:
          LocalProtocolError: not allowed in this state.
        """
        state = TRANSITIONS.get((self.state, move))
        if state is None:
            raise LocalProtocolError(f"stream {self.id} is {self.state.value}: cannot {move.value}")
        self._enter(state)

    def move_remote(self, move: StreamInput) -> None:
        """Apply what the peer did.

        Raises:
          StreamProtocolError: STREAM_CLOSED, not allowed in this state.
        """
        state = TRANSITIONS.get((self.state, move))
        if state is None:
            text = f"stream {self.id} is {self.state.value}: peer cannot {move.value[8:]}"
            raise StreamProtocolError(self.id, ErrorCode.STREAM_CLOSED, text)
        self._enter(state)

    def got_head(self) -> None:
        """The peer's request, or its final response, has come."""
        self.head_received = True
        self.takes_data = self.can_receive

    def gave_head(self) -> None:
        """Our request, or our final response, has gone out."""
        self.head_sent = True
        self.sends_data = self.can_send

    def _enter(self, state: StreamState) -> None:
        self.state = state
        self.can_send = state in _SENDING
        self.can_receive = state in _RECEIVING
        self.sends_data = self.can_send and self.head_sent
        self.takes_data = self.can_receive and self.head_received
