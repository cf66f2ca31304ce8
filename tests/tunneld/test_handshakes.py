"""Who has to go when too many are on their way in."""

import socket
from collections.abc import Awaitable, Callable

import pytest
import structlog.testing
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tunneld.handshakes import CrowdedOutError, Handshakes, source_of

Enter = Callable[[str], Awaitable[None]]


class Caller(socket.socket):
    """A socket with a peer at some address."""

    def __init__(self, address: str) -> None:
        super().__init__(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._address = address

    def getpeername(self) -> tuple[str, int]:
        return self._address, 1


class Doors:
    """Tasks that come in and stay amid their handshake, and how each ended."""

    def __init__(self, limit: int, nursery: trio.Nursery) -> None:
        self.handshakes = Handshakes(limit)
        self.ends: list[tuple[str, type[Exception]]] = []
        self._nursery = nursery

    async def come(self, *addresses: str) -> None:
        for address in addresses:
            self._nursery.start_soon(self._stay, address)
            await wait_all_tasks_blocked()

    async def _stay(self, address: str) -> None:
        with Caller(address) as sock:
            try:
                with self.handshakes.hurry(sock, 10):
                    await trio.sleep_forever()
            except (trio.TooSlowError, CrowdedOutError) as exc:
                self.ends.append((address, type(exc)))


async def test_who_is_too_slow_is_told_so(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        doors = Doors(2, nursery)
        started = trio.current_time()
        await doors.come("10.0.0.1")
        assert len(doors.handshakes) == 1
    assert trio.current_time() - started == 10
    assert doors.ends == [("10.0.0.1", trio.TooSlowError)]
    assert len(doors.handshakes) == 0


async def test_who_is_in_may_stay_and_counts_no_more(autojump_clock: MockClock) -> None:
    handshakes = Handshakes(1)
    with Caller("10.0.0.1") as sock, handshakes.hurry(sock, 10) as handshake:
        handshake.done()
        handshake.done()
        assert len(handshakes) == 0
        with handshakes.hurry(sock, 10):
            await trio.sleep(1)
        await trio.sleep(100)


async def test_who_has_come_further_gets_more_time(autojump_clock: MockClock) -> None:
    with Caller("10.0.0.1") as sock, Handshakes(1).hurry(sock, 10) as handshake:
        await trio.sleep(9)
        handshake.extend(10)
        await trio.sleep(9)


async def test_who_is_in_may_be_ended_from_outside() -> None:
    handshakes = Handshakes(1)
    with Caller("10.0.0.1") as sock, handshakes.hurry(sock, 10) as handshake:
        handshake.done()
        handshake.end()
        await trio.sleep_forever()
    assert handshake.scope.cancelled_caught


async def test_an_error_in_the_block_is_passed_on() -> None:
    handshakes = Handshakes(1)
    with Caller("10.0.0.1") as sock, pytest.raises(EOFError), handshakes.hurry(sock, 10):
        raise EOFError
    assert len(handshakes) == 0


async def test_the_oldest_makes_room(nursery: trio.Nursery) -> None:
    doors = Doors(3, nursery)
    await doors.come("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
    assert doors.ends == [("10.0.0.1", CrowdedOutError)]
    await doors.come("10.0.0.1")
    assert doors.ends[1:] == [("10.0.0.2", CrowdedOutError)]
    assert len(doors.handshakes) == 3
    assert doors.handshakes.crowded_out == 2


async def test_of_the_address_that_has_most_of_them(nursery: trio.Nursery) -> None:
    doors = Doors(4, nursery)
    await doors.come("10.0.0.1", "10.9.9.9", "10.9.9.9", "10.0.0.2")
    await doors.come(*["10.9.9.9"] * 50)
    assert doors.ends == [("10.9.9.9", CrowdedOutError)] * 50


async def test_a_network_of_ipv6_counts_as_one(nursery: trio.Nursery) -> None:
    doors = Doors(3, nursery)
    await doors.come("2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8::1:0:0:1")
    assert doors.ends == [("2001:db8:0:1::1", CrowdedOutError)]


async def test_nobody_is_let_in_any_more(nursery: trio.Nursery) -> None:
    doors = Doors(3, nursery)
    await doors.come("10.0.0.1", "10.0.0.2")
    doors.handshakes.end_all()
    await wait_all_tasks_blocked()
    assert sorted(doors.ends) == [("10.0.0.1", trio.TooSlowError), ("10.0.0.2", trio.TooSlowError)]


async def test_the_log_has_few_lines_of_many(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    with structlog.testing.capture_logs() as logs:
        doors = Doors(1, nursery)
        await doors.come(*["10.0.0.1"] * 100)
        await trio.sleep(9)
        await doors.come("10.0.0.1")
        await trio.sleep(2)
        await doors.come("10.0.0.2")
    assert [(line["closed"], line["last"]) for line in logs] == [(1, "10.0.0.1"), (100, "10.0.0.1")]


async def test_no_more_than_a_share_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, 256))
    assert Handshakes(1000).limit == 64
    assert Handshakes(10).limit == 10


def test_sources_of_sockets() -> None:
    with Caller("10.0.0.1") as sock:
        assert source_of(sock) == "10.0.0.1"
    with Caller("fe80::1:2:3:4%eth0") as sock:
        assert source_of(sock) == "fe80::/64"
    with socket.socket() as sock:
        assert source_of(sock) == "gone"
    left, right = socket.socketpair()
    with left, right:
        assert source_of(left) == "local"
