import socket

import pytest

from ctl.reset import receive_into, send_reset
from tunneld.transport.base import WOULD_BLOCK
from tunneld.transport.local import LocalTransport


def pair() -> tuple[LocalTransport, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return LocalTransport(ours), theirs


def test_octets_before_a_reset_are_read_and_then_the_reset() -> None:
    transport, client = pair()
    view = memoryview(bytearray(100))
    assert transport.receive_into(view) == WOULD_BLOCK
    client.sendall(b"half")
    send_reset(client)
    client.close()
    assert not transport.has_pending
    assert transport.receive_into(view) == 4
    assert bytes(view[:4]) == b"half"
    assert transport.has_pending
    with pytest.raises(ConnectionResetError):
        transport.receive_into(view)
    transport.close()


def test_an_end_is_an_end() -> None:
    transport, client = pair()
    client.close()
    assert transport.receive_into(memoryview(bytearray(100))) == 0
    transport.close()


def test_an_abort_is_told_behind_what_was_sent() -> None:
    transport, client = pair()
    transport.send(memoryview(b"half"))
    assert transport.flush()
    transport.abort()
    with client:
        assert receive_into(client, memoryview(bytearray(100))) == (4, True)
        assert client.recv(1) == b""


def test_aborting_twice_is_harmless() -> None:
    transport, client = pair()
    client.close()
    transport.abort()
    transport.abort()
