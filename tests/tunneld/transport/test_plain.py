"""A transport without TLS."""

import socket

import pytest

from tests.tunneld.transport.pairs import receive, receive_to_end, reset, tcp_pair
from tunneld.transport.base import WOULD_BLOCK, abort_socket
from tunneld.transport.plain import PlainTransport

MIB = 1 << 20


def test_nothing_to_read_is_told_from_the_end() -> None:
    ours, theirs = map(PlainTransport, tcp_pair())
    view = memoryview(bytearray(10))
    assert ours.receive_into(view) == WOULD_BLOCK
    theirs.send(memoryview(b"abc"))
    assert ours.receive_into(view) == 3
    theirs.send_eof()
    assert ours.receive_into(view) == 0
    assert not ours.has_pending
    ours.close()
    theirs.close()


def test_what_the_socket_does_not_take_is_kept_and_sent_later() -> None:
    ours, theirs = map(PlainTransport, tcp_pair())
    octets = bytes(range(256)) * 64 * 1024  # 16 MiB
    ours.send(memoryview(octets))
    kept = ours.unsent
    assert 0 < kept < len(octets)
    assert not ours.flush()
    ours.send(memoryview(b"behind"))
    assert ours.unsent == kept + len(b"behind")
    got = bytearray()
    while not ours.flush():
        got += receive(theirs)
    assert ours.unsent == 0
    ours.send_eof()
    got += receive_to_end(theirs, ours)
    assert got == octets + b"behind"
    ours.close()
    theirs.close()


def test_reading_goes_on_after_our_end() -> None:
    ours, theirs = map(PlainTransport, tcp_pair())
    assert ours.send_eof()
    assert theirs.receive_into(memoryview(bytearray(1))) == 0
    theirs.send(memoryview(b"answer"))
    assert receive(ours) == b"answer"
    ours.close()
    theirs.close()


def test_an_abort_is_no_end() -> None:
    ours, theirs = map(PlainTransport, tcp_pair())
    ours.abort()
    with pytest.raises(ConnectionResetError):
        receive(theirs)
    theirs.close()


def test_octets_from_before_a_reset_are_read_first() -> None:
    ours, theirs = tcp_pair()
    ours.send(b"last words")
    reset(ours)
    transport = PlainTransport(theirs)
    assert receive(transport) == b"last words"
    with pytest.raises(ConnectionResetError):
        receive(transport)
    transport.close()


def test_sending_to_a_peer_that_is_gone_is_an_error() -> None:
    ours, theirs = tcp_pair()
    reset(theirs)
    transport = PlainTransport(ours)
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        transport.send(memoryview(b"x"))
    transport.abort()


def test_aborting_a_unix_socket_closes_it() -> None:
    ours, theirs = socket.socketpair()
    abort_socket(ours)
    assert theirs.recv(1) == b""
    theirs.close()
