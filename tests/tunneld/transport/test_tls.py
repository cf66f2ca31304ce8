"""A transport with TLS: against itself, and against Python's own SSLSocket."""

import ssl
import threading
from pathlib import Path

import pytest

from tests.tunneld.transport.pairs import (
    contexts,
    receive,
    receive_to_end,
    reset,
    tcp_pair,
    tls_pair,
)
from tunneld.transport.base import WOULD_BLOCK
from tunneld.transport.tls import TlsTransport

BULK = bytes(range(251)) * 40_000
"""10 MB: more than the sockets take at once."""


def close(*transports: TlsTransport) -> None:
    for transport in transports:
        transport.close()


def test_octets_of_every_amount_arrive(pki: Path) -> None:
    server, client = tls_pair(pki)
    for size in (1, 100, 16_384, 16_385, 100_000):
        client.send(memoryview(BULK[:size]))
        assert client.flush()
        got = b""
        while len(got) < size:
            got += receive(server)
        assert got == BULK[:size]
    assert receive(server) == b""
    close(server, client)


@pytest.mark.parametrize("view", [1, 7, 1000, 16_384, 300_000])
def test_a_view_of_any_size_gets_all_of_a_record_in_time(pki: Path, view: int) -> None:
    server, client = tls_pair(pki)
    octets = BULK[: 40 * view] if view < 10_000 else BULK[:100_000]
    client.send(memoryview(octets))
    client.flush()
    client.send_eof()
    assert receive_to_end(server, client, view) == octets
    close(server, client)


def test_octets_that_readiness_does_not_show_are_told(pki: Path) -> None:
    server, client = tls_pair(pki)
    client.send(memoryview(b"0123456789"))
    client.flush()
    assert receive(server, 4) == b"0123"
    assert server.has_pending
    assert receive(server, 6) == b"456789"
    assert not server.has_pending
    client.send(memoryview(b"last"))
    client.send_eof()
    assert receive(server, 4) == b"last"
    while server.has_pending and receive(server, 4):
        pass
    assert server.receive_into(memoryview(bytearray(1))) == 0
    close(server, client)


def test_a_slow_peer_gets_everything_in_order(pki: Path) -> None:
    server, client = tls_pair(pki)
    for start in range(0, len(BULK), 300_000):
        server.send(memoryview(BULK)[start : start + 300_000])
    assert not server.flush()
    assert 0 < server.unsent <= len(BULK)
    got = bytearray()
    while not server.flush():
        got += receive(client)
    assert server.unsent == 0
    server.send_eof()
    got += receive_to_end(client, server)
    assert got == BULK
    close(server, client)


def test_both_half_closes_stand_alone(pki: Path) -> None:
    server, client = tls_pair(pki)
    assert client.send_eof()
    assert server.receive_into(memoryview(bytearray(1))) == 0
    server.send(memoryview(b"answer"))
    assert server.flush()
    assert receive(client) == b"answer"
    assert server.send_eof()
    assert client.receive_into(memoryview(bytearray(1))) == 0
    close(server, client)


def test_an_end_of_ours_loses_nothing_that_has_come(pki: Path) -> None:
    """OpenSSL gives up at the first octet that it finds when it shuts down."""
    server, client = tls_pair(pki)
    client.send(memoryview(BULK[:50_000]))
    client.flush()
    assert receive(server, 10) == BULK[:10]
    assert server.has_pending
    assert server.send_eof()
    assert server.has_pending
    client.send(memoryview(b"and more"))
    client.flush()
    client.send_eof()
    assert receive_to_end(server, client, 1000) == BULK[10:50_000] + b"and more"
    close(server, client)


def test_an_end_of_ours_does_not_hide_the_peers(pki: Path) -> None:
    server, client = tls_pair(pki)
    client.send(memoryview(b"all there is"))
    client.send_eof()
    assert receive(server, 3) == b"all"
    assert server.send_eof()
    assert receive_to_end(server, client, 5) == b" there is"
    close(server, client)


def test_an_end_waits_behind_octets_that_the_socket_does_not_take(pki: Path) -> None:
    server, client = tls_pair(pki)
    server.send(memoryview(BULK))
    got = bytearray()
    while not server.flush():
        got += receive(client)
    done = server.send_eof()
    got += receive_to_end(client, server)
    assert done or server.flush()
    assert got == BULK
    close(server, client)


@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2])
def test_a_fin_alone_is_an_end_where_that_is_allowed(
    pki: Path, version: ssl.TLSVersion | None
) -> None:
    server, client = tls_pair(pki, fin_is_end=True, version=version)
    client.send(memoryview(b"question"))
    client.flush()
    client.sock.shutdown(1)
    assert receive_to_end(server, client) == b"question"
    server.send(memoryview(b"answer"))
    assert server.flush()
    assert receive(client) == b"answer"
    assert server.send_eof()
    assert client.receive_into(memoryview(bytearray(1))) == 0
    close(server, client)


def test_a_fin_alone_is_an_error_elsewhere(pki: Path) -> None:
    server, client = tls_pair(pki)
    client.send(memoryview(b"question"))
    client.flush()
    client.sock.shutdown(1)
    assert receive(server) == b"question"
    with pytest.raises(ConnectionResetError, match="without close_notify"):
        receive(server)
    close(server, client)


@pytest.mark.parametrize("cut", [1, 4, 5, 20])
def test_a_fin_amid_a_record_is_an_error_everywhere(pki: Path, cut: int) -> None:
    server, client = tls_pair(pki, fin_is_end=True)
    client.send(memoryview(b"whole"))
    client.flush()
    client.tls.write(b"cut off")
    client.sock.send(client._outgoing.read()[:cut])
    client.sock.shutdown(1)
    assert receive(server) == b"whole"
    with pytest.raises(ConnectionResetError, match="amid a TLS record"):
        receive_to_end(server, client)
    close(server, client)


def test_a_reset_is_an_error(pki: Path) -> None:
    server, client = tls_pair(pki, fin_is_end=True)
    reset(client.sock)
    with pytest.raises(ConnectionResetError):
        receive(server)
    close(server)


def test_an_abort_is_an_error_for_the_peer(pki: Path) -> None:
    server, client = tls_pair(pki)
    server.abort()
    with pytest.raises(ConnectionResetError):
        receive(client)
    close(client)


def test_a_forged_record_is_an_error_and_the_peer_is_told(pki: Path) -> None:
    server, client = tls_pair(pki)
    client.tls.write(b"forged")
    record = bytearray(client._outgoing.read())
    record[-1] ^= 1
    client.sock.send(record)
    with pytest.raises(ssl.SSLError):
        receive(server)
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        receive(client)
    close(server, client)


def test_a_handshake_with_the_wrong_peer_fails_and_the_peer_is_told(pki: Path) -> None:
    server_side, client_side = contexts(pki)
    ours, theirs = tcp_pair()
    server = TlsTransport(ours, server_side, server_side=True)
    client = TlsTransport(theirs, client_side, server_side=False, server_hostname="elsewhere")
    assert not client.handshake_step()
    assert not server.handshake_step()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.handshake_step()
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_CERTIFICATE"):
        server.handshake_step()
    close(server, client)


def test_a_peer_that_closes_amid_the_handshake_is_told_from_one_that_is_slow(pki: Path) -> None:
    server_side, _ = contexts(pki)
    ours, theirs = tcp_pair()
    server = TlsTransport(ours, server_side, server_side=True)
    assert not server.handshake_step()
    theirs.close()
    with pytest.raises(EOFError):
        server.handshake_step()
    close(server)


def test_octets_behind_the_handshake_are_not_lost(pki: Path) -> None:
    server_side, client_side = contexts(pki)
    ours, theirs = tcp_pair()
    server = TlsTransport(ours, server_side, server_side=True)
    client = TlsTransport(theirs, client_side, server_side=False, server_hostname="127.0.0.1")
    client.handshake_step()
    server.handshake_step()
    assert client.handshake_step()
    client.send(memoryview(b"early"))
    client.flush()
    assert server.handshake_step()
    assert receive(server) == b"early"
    close(server, client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_python_s_own_sockets_talk_to_it(pki: Path, version: ssl.TLSVersion) -> None:
    """Blocking, in a thread of its own: echo, with a close_notify each way."""
    server_side, client_side = contexts(pki)
    client_side.maximum_version = version
    ours, theirs = tcp_pair()
    theirs.setblocking(True)
    got = bytearray()

    def talk() -> None:
        with client_side.wrap_socket(
            theirs, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as sock:
            writing = threading.Thread(target=sock.sendall, args=(BULK[:1_000_000],))
            writing.start()
            while len(got) < 1_000_000:
                got.extend(sock.recv(100_000))
            writing.join()
            sock.unwrap()

    thread = threading.Thread(target=talk)
    thread.start()
    server = TlsTransport(ours, server_side, server_side=True)
    ours.setblocking(False)
    while not server.handshake_step():
        pass
    view = memoryview(bytearray(65536))
    while size := server.receive_into(view):
        if size != WOULD_BLOCK:
            server.send(view[:size])
        server.flush()
    while not server.flush():
        pass
    server.send_eof()
    thread.join()
    assert got == BULK[:1_000_000]
    close(server)


def test_no_session_tickets_are_given_out(pki: Path) -> None:
    """Every connection proves anew that its certificate is good."""
    server, client = tls_pair(pki)
    server.send(memoryview(b"x"))
    server.flush()
    receive(client)
    assert client.tls.session is not None
    assert not client.tls.session.has_ticket
    close(server, client)


@pytest.mark.parametrize("whole", [0, 1, 3])
def test_a_fin_is_an_end_between_records_and_nowhere_else(pki: Path, whole: int) -> None:
    """Whatever came before it, and however that was cut."""
    record_size = 5 + len(b"hello") + 1 + 16
    for cut in range(record_size):
        server, client = tls_pair(pki, fin_is_end=True)
        receive(client)
        for _ in range(whole + 1):
            client.tls.write(b"hello")
        octets = client._outgoing.read()
        assert len(octets) == (whole + 1) * record_size
        for octet in octets[: whole * record_size + cut]:
            client.sock.send(bytes([octet]))
        client.sock.shutdown(1)
        if cut:
            with pytest.raises(ConnectionResetError, match="amid a TLS record"):
                receive_to_end(server, client)
        else:
            assert receive_to_end(server, client) == b"hello" * whole
        close(server, client)


@pytest.mark.parametrize("size", [100, 16_384, 100_000, 1_000_000])
def test_what_a_turn_sends_fills_no_large_buffers_of_openssl(pki: Path, size: int) -> None:
    """OpenSSL would keep them for as long as the connection lives."""
    server, client = tls_pair(pki)
    message = memoryview(BULK[:size])
    count = 2_000_000 // size if size > 100 else 100
    for _ in range(count):
        server.send(message)
        assert server._outgoing.pending < 270_000
    assert server.unsent == count * size
    got = 0
    while not server.flush():
        got += len(receive(client))
    while got < count * size:
        got += len(receive(client))
    assert server.unsent == 0
    close(server, client)
