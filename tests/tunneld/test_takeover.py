"""The successor's half of an upgrade, with the test for the old process."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import trio

from tunneld.inherited import InheritedSockets, LentListener
from tunneld.takeover import Inheritance, Order, Takeover


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, its = socket.socketpair()
    ours.settimeout(10)
    with ours, its:
        yield ours, its


def begin(line: tuple[socket.socket, socket.socket], **order: Any) -> Takeover:
    ours, its = line
    given: dict[str, Any] = {"locks": {}, "listeners": [], "ready": [], "detached": True} | order
    ours.sendall(msgspec.json.encode(Order(**given)) + b"\n")
    return Takeover(its.detach())


def said(sock: socket.socket) -> Any:
    return json.loads(sock.makefile().readline())


async def test_agents_are_fetched_once_it_listens(
    line: tuple[socket.socket, socket.socket], nursery: trio.Nursery
) -> None:
    takeover = begin(line)
    takeover.handover.arrive("edge")
    nursery.start_soon(takeover.fetch_agents)
    assert await trio.to_thread.run_sync(said, line[0]) == {"state": "listening"}
    line[0].sendall(b'{"agents":{"edge":["home"]}}\n')
    with trio.fail_after(10):
        assert await takeover.handover.wait("edge") == {"home"}
    takeover.handover.leave("edge")
    assert said(line[0]) == {"state": "serving"}


async def test_an_old_process_that_is_gone_holds_nobody_up(
    line: tuple[socket.socket, socket.socket],
) -> None:
    takeover = begin(line)
    assert not takeover.is_alone
    line[0].close()
    assert takeover.is_alone
    with trio.fail_after(10):
        await takeover.fetch_agents()
        assert await takeover.handover.wait("edge") == set()
    takeover.close()


def test_listeners_are_taken_in_by_address(line: tuple[socket.socket, socket.socket]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as own,
        socket.create_server(("127.0.0.2", 0)) as lent,
    ):
        address = "{}:{}".format(*own.getsockname())
        inheritances = [
            Inheritance(own.fileno(), listen=address),
            Inheritance(lent.fileno(), name="front", lent=True),
        ]
        takeover = begin(line, listeners=inheritances)
        registry = InheritedSockets()
        takeover.claim(registry)
        [ours] = registry.claim(address)
        assert ours.fileno() == own.detach()
        assert not isinstance(ours, LentListener)
        assert registry.claim(address) == [], "it is given for good"
        [again] = registry.claim("systemd:front")
        assert isinstance(again, LentListener)
        lent.detach()
        again.close()
        ours.close()
        assert registry.keep_only([]) != []
        takeover.close()


@pytest.mark.parametrize("octets", [b"", b"{}\n", b"nonsense\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_order_is_refused(
    line: tuple[socket.socket, socket.socket], octets: bytes
) -> None:
    line[0].sendall(octets)
    line[0].shutdown(socket.SHUT_WR)
    with pytest.raises(ValueError):
        Takeover(line[1].detach())
