"""What closing a socket means to the other end."""

import os
import socket

import pytest

from tests.tunneld.transport.pairs import tcp_pair
from tunneld.transport.base import (
    ClosedTransport,
    abort_socket,
    close_in_order,
    reset_at_death,
)


def die(sock: socket.socket) -> None:
    """Close it as the kernel does for a process that is killed."""
    os.close(sock.detach())


def test_death_resets() -> None:
    ours, theirs = tcp_pair()
    with theirs:
        reset_at_death(ours)
        die(ours)
        with pytest.raises(ConnectionResetError):
            theirs.recv(100)


def test_a_close_in_order_loses_nothing() -> None:
    ours, theirs = tcp_pair()
    with theirs:
        reset_at_death(ours)
        ours.send(b"all of it")
        close_in_order(ours)
        ours.close()
        assert theirs.recv(100) == b"all of it"
        assert theirs.recv(100) == b""


def test_an_abort_resets() -> None:
    ours, theirs = tcp_pair()
    with theirs:
        abort_socket(ours)
        with pytest.raises(ConnectionResetError):
            theirs.recv(100)


def test_a_unix_socket_is_left_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reset_at_death(ours)
        die(ours)
        assert theirs.recv(100) == b""


def test_a_closed_transport_has_nobody_at_the_other_end() -> None:
    closed = ClosedTransport()
    view = memoryview(bytearray(10))
    for action in (
        lambda: closed.receive_into(view),
        lambda: closed.send(view),
        closed.flush,
        closed.send_eof,
    ):
        with pytest.raises(OSError, match="Bad file descriptor"):
            action()
    closed.close()
    closed.abort()
    assert (closed.has_pending, closed.unsent) == (False, 0)
