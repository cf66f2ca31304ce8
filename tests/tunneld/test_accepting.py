"""Listening sockets whose connections go to the data plane."""

import errno
import os
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.tunneld.transport.pairs import reset
from tunneld.accepting import (
    accept_each,
    address_of,
    close_listener,
    is_local,
    listen,
    listen_unix,
    name_of,
    peer_of,
    shared_address,
)
from tunneld.role import RoleError


async def test_tcp_addresses_are_listened_on_and_named() -> None:
    (sock,) = await listen("127.0.0.1:0")
    assert not sock.getblocking()
    assert address_of(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
    with socket.create_connection(sock.getsockname()) as client:
        assert peer_of(client) == address_of(sock)
    close_listener(sock)
    close_listener(sock)
    assert sock.fileno() == -1


async def test_an_empty_host_is_listened_on_at_every_address() -> None:
    sockets = await listen(":0")
    port = sockets[0].getsockname()[1]
    names = {address_of(sock).rsplit(":", 1)[0] for sock in sockets}
    assert "0.0.0.0" in names
    assert names <= {"0.0.0.0", "[::]"}
    for sock in sockets:
        close_listener(sock)
    again = await listen(f":{port}")
    with socket.create_connection(("127.0.0.1", port)):
        pass
    for sock in again:
        close_listener(sock)


async def test_unix_addresses_are_listened_on_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    (sock,) = await listen(f"unix:{path}")
    assert address_of(sock) == f"unix:{path}"
    assert path.is_socket()
    close_listener(sock)
    assert not path.exists()


async def test_an_inherited_socket_is_shared_and_leaves_the_file_to_its_owner(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.sock"
    owner = listen_unix(f"unix:{path}")
    address = shared_address([owner])
    assert is_local(address)
    (heir,) = await listen(address)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        heir.accept()[0].close()
    close_listener(heir)
    assert path.is_socket()
    close_listener(owner)
    assert not path.exists()


async def test_a_host_may_be_called_fd() -> None:
    assert not is_local("fd:7")
    with pytest.raises(RoleError, match="fd:7"):
        await listen("fd:7")


async def test_ports_are_shared_by_those_who_say_so() -> None:
    (first,) = await listen("127.0.0.1:0", reuse_port=True)
    address = address_of(first)
    (second,) = await listen(address, reuse_port=True)
    with pytest.raises(RoleError, match="in use"):
        await listen(address)
    for sock in (first, second):
        close_listener(sock)


def test_names_of_sockets() -> None:
    assert name_of(socket.AF_INET, ("1.2.3.4", 5)) == "1.2.3.4:5"
    assert name_of(socket.AF_INET6, ("fd00::1", 5, 0, 0)) == "[fd00::1]:5"
    assert name_of(socket.AF_UNIX, "") == "unix"
    with socket.socket() as unconnected:
        assert peer_of(unconnected) == "gone"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("192.0.2.1:0", "cannot listen on 192.0.2.1:0: Cannot assign requested address"),
        ("nosuch.invalid:0", "the name does not resolve here"),
        ("127.0.0.1", "has no port"),
        ("unix:/nonexistent/x.sock", "cannot listen on unix:/nonexistent/x.sock: No such file"),
        (f"unix:/{'x' * 200}", "AF_UNIX path too long"),
    ],
)
async def test_what_cannot_be_listened_on_is_said(address: str, text: str) -> None:
    with pytest.raises(RoleError, match=text):
        await listen(address)


async def test_each_connection_gets_its_handler() -> None:
    (sock,) = await listen("127.0.0.1:0")
    peers: list[str] = []

    async def handler(accepted: socket.socket) -> None:
        assert not accepted.getblocking()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        peers.append(peer_of(accepted))
        accepted.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_each, sock, handler, nursery)
        clients = [socket.create_connection(sock.getsockname()) for _ in range(40)]
        await wait_all_tasks_blocked()
        assert len(peers) == 40
        nursery.cancel_scope.cancel()
    for client in clients:
        client.close()
    close_listener(sock)


async def test_connections_that_were_reset_meanwhile_are_no_matter() -> None:
    (sock,) = await listen("127.0.0.1:0")
    served: list[socket.socket] = []

    async def handler(accepted: socket.socket) -> None:
        served.append(accepted)
        accepted.close()

    for _ in range(10):
        reset(socket.create_connection(sock.getsockname()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_each, sock, handler, nursery)
        with socket.create_connection(sock.getsockname()):
            await wait_all_tasks_blocked()
            assert served
        nursery.cancel_scope.cancel()
    close_listener(sock)


class Exhausted(socket.socket):
    """A listener in a process without descriptors, for a time."""

    failures = 3
    error = errno.EMFILE

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(self.error, os.strerror(self.error))
        return super().accept()


async def test_without_descriptors_connections_wait(autojump_clock: MockClock) -> None:
    listener = Exhausted()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    served = trio.Event()

    async def handler(accepted: socket.socket) -> None:
        accepted.close()
        served.set()

    with socket.create_connection(listener.getsockname()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_each, listener, handler, nursery)
            started = trio.current_time()
            await served.wait()
            assert trio.current_time() - started == pytest.approx(0.3)
            nursery.cancel_scope.cancel()
    listener.close()


async def test_an_error_that_no_wait_helps_ends_it() -> None:
    listener = Exhausted()
    listener.error = errno.EINVAL
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    async def handler(accepted: socket.socket) -> None:
        accepted.close()

    with socket.create_connection(listener.getsockname()):
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="Invalid argument"):
                await accept_each(listener, handler, nursery)
    listener.close()
