"""The malformed connections of `malformed`, in memory, against `frames` as a server."""

import pytest

from frames import BufferedConnection, ConnectionState, RemoteProtocolError, Role
from tests.frames.peer import frames_in
from tests.interop.malformed import ACK, CONNECTIONS, GOAWAY, PING, RST_STREAM, Malformed, frame


def test_there_are_more_than_a_hundred_and_no_two_alike() -> None:
    assert len(CONNECTIONS) >= 100
    assert len({case.wire for case in CONNECTIONS.values()}) == len(CONNECTIONS)


def listening() -> BufferedConnection:
    side = BufferedConnection(Role.SERVER, receive_window=1 << 20)
    side.connection.initiate()
    return side


@pytest.mark.parametrize("size", [None, 1, 1_000], ids=["whole", "octets", "pieces"])
@pytest.mark.parametrize("case", CONNECTIONS.values(), ids=CONNECTIONS)
def test_it_ends_as_it_should_however_it_is_cut(case: Malformed, size: int | None) -> None:
    side = listening()
    size = size or len(case.wire)
    sent = b""
    error: RemoteProtocolError | None = None
    for start in range(0, len(case.wire), size):
        try:
            side.receive_data(case.wire[start : start + size])
        except RemoteProtocolError as exc:
            error = exc
        sent += side.data_to_send()
        if error is not None:
            break
    said = [(kind, stream_id, payload) for kind, _, stream_id, payload in frames_in(sent)]
    if case.stream_id:
        assert error is None
        assert (RST_STREAM, case.stream_id, case.code.to_bytes(4)) in said
        goes_on(side)
    else:
        assert error is not None
        assert error.code == case.code
        kind, _, payload = said[-1]
        assert kind == GOAWAY
        assert payload[4:8] == case.code.to_bytes(4)
        assert side.connection.state is ConnectionState.CLOSED


def goes_on(side: BufferedConnection) -> None:
    """One bad stream does not harm the next."""
    assert side.connection.state is ConnectionState.OPEN
    side.receive_data(frame(PING, 0, 0, b"all well"))
    assert side.data_to_send() == frame(PING, ACK, 0, b"all well")
