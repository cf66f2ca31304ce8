"""Connecting to endpoints: every address tried, failures told apart, in Go's words."""

import errno
import os
import socket
import struct
from contextlib import closing

import pytest
import trio

from tests.conftest import need
from tests.tunneld.server.test_frontend import Full
from tunneld.agent.connect import connect
from tunneld.caller import SERVER
from tunneld.dialing import (
    FAILED,
    NAME_TIMEOUT,
    OVERLOADED,
    REFUSED,
    TIMEOUT,
    UNKNOWN_NAME,
    UNREACHABLE,
    DialError,
    Kind,
)
from tunneld.dialrecord import DialRecord


async def failure(host: str, port: int, timeout: float = 5.0, network: str = "tcp") -> DialError:
    with pytest.raises(DialError) as caught:
        await connect(host, port, timeout, network)
    return caught.value


async def test_a_listener_is_reached_without_blocking_and_without_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await connect("127.0.0.1", listener.getsockname()[1], 1.0)
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


async def test_the_address_is_noted_even_if_it_resets_at_once() -> None:
    """Where rules ask for it, the server would take a missing one for a denial."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        record = DialRecord(SERVER, f"localhost:{port}")
        sock = await connect("localhost", port, 5, "tcp4", record=record)
        with closing(sock):
            client, _ = listener.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            assert record.address == f"127.0.0.1:{port}"


async def test_a_name_is_resolved_and_each_address_tried() -> None:
    """``localhost`` may be ::1 too, where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await connect("localhost", listener.getsockname()[1], 5.0)
        assert sock.getpeername()[0] == "127.0.0.1"
        sock.close()


async def test_ipv6_is_reached() -> None:
    need(socket.has_dualstack_ipv6(), "IPv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        sock = await connect("::1", listener.getsockname()[1], 1.0)
        sock.close()


@pytest.mark.parametrize(("network", "host"), [("tcp4", "::1"), ("tcp6", "127.0.0.1")])
async def test_an_address_of_the_other_family_does_not_suit(network: str, host: str) -> None:
    error = await failure(host, 1, network=network)
    assert str(error) == f"dial {network}: address {host}: no suitable address found"


async def test_a_name_is_reached_by_the_family_asked_for_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        sock = await connect("localhost", port, 5.0, "tcp4")
        sock.close()
        error = await failure("localhost", port, network="tcp6")
    assert str(error).startswith("dial tcp6")


async def test_nobody_listening_is_refused() -> None:
    error = await failure("127.0.0.1", 1)
    assert error.kind is REFUSED
    assert str(error) == "dial tcp 127.0.0.1:1: connect: connection refused"


@pytest.mark.parametrize("host", ["nosuch.invalid", "a..b", "x" * 70, "1.2.3.4%eth0", "."])
async def test_a_name_that_does_not_resolve_is_unknown(host: str) -> None:
    error = await failure(host, 80)
    assert error.kind in (UNKNOWN_NAME, NAME_TIMEOUT)  # without a name server, the latter
    assert str(error).startswith(f"dial tcp: lookup {host}: ")


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENETUNREACH, UNREACHABLE, "network is unreachable"),
        (errno.EHOSTUNREACH, UNREACHABLE, "no route to host"),
        (errno.ETIMEDOUT, TIMEOUT, "connection timed out"),
        (errno.EMFILE, OVERLOADED, "too many open files"),
        (errno.EACCES, FAILED, "permission denied"),
    ],
)
async def test_each_error_of_the_kernel_has_its_kind(
    number: int, kind: Kind, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(socket.socket):
        def connect_ex(self, address: object) -> int:
            return number

    monkeypatch.setattr(socket, "socket", Refusing)
    error = await failure("127.0.0.1", 80)
    assert error.kind is kind
    assert str(error) == f"dial tcp 127.0.0.1:80: connect: {text}"


async def test_an_address_without_an_answer_times_out() -> None:
    with closing(Full()) as full:
        error = await failure("127.0.0.1", full.port, 0.05)
    assert error.kind is TIMEOUT
    assert str(error) == f"dial tcp 127.0.0.1:{full.port}: i/o timeout"


async def test_a_slow_address_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """In real time: an autojumping clock would not wait for the thread that looks up names."""
    with closing(Full()) as full, socket.create_server(("127.0.0.1", 0)) as listener:
        ports = (full.port, listener.getsockname()[1])
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", p)) for p in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kw: infos)
        sock = await connect("two.example", 80, 5.0)
        assert sock.getpeername()[1] == ports[1]
        sock.close()


async def test_the_first_error_counts_when_all_addresses_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", p)) for p in (1, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kw: infos)
    assert str(await failure("two.example", 80)).startswith("dial tcp 127.0.0.1:1: ")


async def test_a_cancelled_connect_leaves_no_socket() -> None:
    before = open_descriptors()
    with closing(Full()) as full:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect, "127.0.0.1", full.port, 5.0)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert open_descriptors() == before


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are all that matters
