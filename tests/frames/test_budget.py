"""What windows grew by comes back to the process's budget, whichever way a stream ends."""

from collections.abc import Callable

import pytest

from frames import (
    Connection,
    ErrorCode,
    RemoteProtocolError,
    Role,
    Setting,
    Stream,
    StreamState,
    WindowBudget,
)
from tests.frames.peer import (
    OK,
    POST,
    SETTINGS_ACK,
    TRAILERS,
    Peer,
    data,
    goaway,
    reset,
    window_update,
)

BUDGET = 1 << 20


class World:
    """A connection with one stream whose window has grown, and its peer."""

    def __init__(self, role: Role, budget: WindowBudget) -> None:
        self.peer = Peer(Role.CLIENT if role is Role.SERVER else Role.SERVER)
        self.connection = Connection(role, lambda event: None, budget=budget)
        self.connection.initiate()
        self.receive(self.peer.hello())
        self.receive(SETTINGS_ACK)
        if role is Role.SERVER:
            self.receive(self.peer.headers(1, POST))
            self.connection.send_headers(self.connection.streams[1], OK)
        else:
            self.connection.open_stream(POST)
            self.receive(self.peer.headers(1, OK))
        self.stream: Stream = self.connection.streams[1]
        for _ in range(3):
            self.receive(data(1, bytes(16_384)))

    def receive(self, octets: bytes) -> None:
        self.connection.receive(memoryview(octets))

    def fail(self, octets: bytes) -> None:
        with pytest.raises(RemoteProtocolError):
            self.receive(octets)

    def end_ours(self) -> None:
        self.connection.commit_data(self.stream, 0, end_stream=True)


def end_both(world: World) -> None:
    world.receive(data(1, b"last", end_stream=True))
    world.end_ours()


def end_both_the_other_way(world: World) -> None:
    world.end_ours()
    world.receive(data(1, b"last", end_stream=True))


def end_with_trailers(world: World) -> None:
    world.end_ours()
    world.receive(world.peer.headers(1, TRAILERS, end_stream=True))


def change_the_initial_window_first(world: World) -> None:
    for size in (100, 100_000):
        world.connection.send_settings({Setting.INITIAL_WINDOW_SIZE: size})
        world.receive(SETTINGS_ACK)
    world.receive(reset(1))


ENDS: dict[str, Callable[[World], None]] = {
    "both ended": end_both,
    "both ended, we first": end_both_the_other_way,
    "trailers": end_with_trailers,
    "reset by us": lambda world: world.connection.reset_stream(world.stream, ErrorCode.CANCEL),
    "reset by the peer": lambda world: world.receive(reset(1)),
    "broken by the peer": lambda world: world.receive(window_update(1, 0)),
    "window overrun": lambda world: world.receive(data(1, bytes(16_384)) * 20),
    "initial window changed": change_the_initial_window_first,
    "connection closed": lambda world: world.connection.close(),
    "GOAWAY with an error": lambda world: world.connection.send_goaway(ErrorCode.CONNECT_ERROR),
    "connection broken by the peer": lambda world: world.fail(window_update(0, 0)),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_budget_is_whole_again_when_the_stream_has_ended(
    role: Role, end: Callable[[World], None]
) -> None:
    budget = WindowBudget(BUDGET)
    world = World(role, budget)
    if end is ENDS["window overrun"]:
        world.stream.receiver = lambda octets, end_stream: None
    assert budget.left < BUDGET
    end(world)
    assert world.stream.state is StreamState.CLOSED
    assert not world.connection.streams
    assert budget.left == BUDGET


def test_the_budget_is_whole_again_when_a_goaway_refuses_the_stream() -> None:
    budget = WindowBudget(BUDGET)
    world = World(Role.CLIENT, budget)
    world.receive(goaway(0))
    assert budget.left == BUDGET


def test_connections_share_what_there_is() -> None:
    budget = WindowBudget(65_535 + 1_000)
    first, second = World(Role.SERVER, budget), World(Role.SERVER, budget)
    assert first.stream.window_size == 2 * 65_535
    assert second.stream.window_size == 65_535
    assert budget.left == 1_000
    first.receive(reset(1))
    for _ in range(4):
        second.receive(data(1, bytes(16_384)))
    assert second.stream.window_size == 2 * 65_535
