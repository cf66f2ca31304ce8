"""What native tunnels allow: much of honest servers, and not without end."""

from frames import ErrorCode, Role
from frames.events import StreamReset
from tests.frames.peer import CONNECT, begun, breaks, reset
from tests.frames.test_abuse import rapid_reset
from tunneld import rh2


def test_a_thousand_dials_that_are_given_up_at_once_are_no_flood() -> None:
    side, peer = begun(Role.SERVER, ours=rh2.SETTINGS, limits=rh2.LIMITS)
    streams = range(3, 2_003, 2)
    side.receive_data(b"".join(peer.headers(each, CONNECT) for each in streams))
    events = side.receive_data(b"".join(map(reset, streams)))
    assert sum(isinstance(event, StreamReset) for event in events) == 1_000


def test_a_server_that_gives_up_dials_without_end_is_cut_off() -> None:
    side, peer = begun(Role.SERVER, ours=rh2.SETTINGS, limits=rh2.LIMITS)
    wire = b"".join(rapid_reset(peer, turn) for turn in range(5_001))
    assert breaks(side, wire) is ErrorCode.ENHANCE_YOUR_CALM
