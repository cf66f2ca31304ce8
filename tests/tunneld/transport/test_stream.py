"""Transports as trio streams: cancellation, vanishing peers, ends, and last words."""

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

from tests.tunneld.transport.pairs import contexts, reset, tcp_pair, tls_pair
from tunneld.tlscontext import refusal
from tunneld.transport import stream as stream_module
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import (
    TransportStream,
    connect_tcp,
    connect_unix,
    handshake,
    linger,
)
from tunneld.transport.tls import TlsTransport

Pair = tuple[TransportStream, TransportStream]


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, pki: Path) -> Iterator[Pair]:
    transports = tls_pair(pki) if request.param == "tls" else map(PlainTransport, tcp_pair())
    first, second = map(TransportStream, transports)
    yield first, second
    for stream in (first, second):
        stream.transport.close()


async def test_it_keeps_trio_s_rules_for_streams() -> None:
    async def make() -> Pair:
        first, second = map(TransportStream, map(PlainTransport, tcp_pair()))
        return first, second

    await check_half_closeable_stream(make, None)


async def test_it_keeps_trio_s_rules_with_tls_too(pki: Path) -> None:
    async def make() -> Pair:
        first, second = map(TransportStream, tls_pair(pki))
        return first, second

    await check_half_closeable_stream(make, None)


async def test_streams_that_wait_side_by_side_get_their_own_octets() -> None:
    pairs = [tuple(map(TransportStream, map(PlainTransport, tcp_pair()))) for _ in range(3)]
    got: dict[int, bytes] = {}

    async def receive(number: int) -> None:
        got[number] = await pairs[number][0].receive_some()

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(receive, number)
        await wait_all_tasks_blocked()
        for number, (_, theirs) in enumerate(pairs):
            await theirs.send_all(b"%d" % number * 1_000)
    assert got == {number: b"%d" % number * 1_000 for number in range(3)}
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


async def test_much_is_sent_as_the_peer_reads(pair: Pair) -> None:
    ours, theirs = pair
    octets = bytes(range(256)) * 50_000

    async def send() -> None:
        await ours.send_all(octets)
        await ours.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        got = bytearray()
        async for data in theirs:
            got += data
    assert got == octets


async def test_a_cancelled_read_loses_nothing(pair: Pair) -> None:
    ours, theirs = pair
    with trio.move_on_after(0):
        await theirs.receive_some()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.receive_some)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await ours.send_all(b"all of it")
    assert await theirs.receive_some() == b"all of it"


async def test_a_cancelled_write_is_no_end(pair: Pair) -> None:
    ours, theirs = pair
    with trio.move_on_after(0.05):
        await ours.send_all(bytes(50_000_000))
    assert ours.transport.unsent
    await ours.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await read_to_end(theirs)


async def read_to_end(stream: TransportStream) -> None:
    async for _ in stream:
        pass


async def test_an_end_waits_for_what_a_cancelled_write_has_left(pair: Pair) -> None:
    ours, theirs = pair
    with trio.move_on_after(0.05):
        await ours.send_all(bytes(50_000_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_eof)
        left = ours.transport.unsent
        got = 0
        async for data in theirs:
            got += len(data)
    assert got >= left > 0


async def test_closing_is_an_end(pair: Pair) -> None:
    ours, theirs = pair
    await ours.send_all(b"everything")
    await ours.aclose()
    assert await theirs.receive_some() == b"everything"
    assert await theirs.receive_some() == b""


async def test_aborting_is_none(pair: Pair) -> None:
    ours, theirs = pair
    ours.abort()
    ours.abort()
    assert ours.closed
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive_some()


async def test_what_is_unread_is_received_next(pair: Pair) -> None:
    ours, theirs = pair
    await ours.send_all(b"later")
    theirs.unread(b"second ")
    theirs.unread(b"first ")
    assert await theirs.receive_some(3) == b"fir"
    assert await theirs.receive_some() == b"st second "
    assert await theirs.receive_some() == b"later"
    theirs.unread(b"left")
    assert theirs.take_early() == b"left"
    assert theirs.take_early() == b""


async def test_a_detached_stream_is_closed_and_its_transport_is_not(pair: Pair) -> None:
    ours, theirs = pair
    transport = ours.detach()
    assert ours.closed
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")
    await ours.aclose()
    transport.send(memoryview(b"still open"))
    transport.flush()
    assert await theirs.receive_some() == b"still open"


async def test_a_vanished_peer_breaks_reading_and_writing(pair: Pair) -> None:
    ours, theirs = pair
    reset(theirs.transport.sock)
    with pytest.raises(trio.BrokenResourceError):
        await ours.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"x")


# -- handshakes -------------------------------------------------------------------------------


async def test_a_handshake_waits_for_its_peer(pki: Path) -> None:
    server_side, client_side = contexts(pki)
    ours, theirs = tcp_pair()
    server = TlsTransport(ours, server_side, server_side=True)
    client = TlsTransport(theirs, client_side, server_side=False, server_hostname="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handshake, server)
        await wait_all_tasks_blocked()
        nursery.start_soon(handshake, client)
    assert server.tls.version() == "TLSv1.3"
    server.close()
    client.close()


async def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSession | None:
    """Of a client that resumes a session, if there is one; its session then."""
    ours, theirs = tcp_pair()
    at_server = TlsTransport(ours, server, server_side=True)
    at_client = TlsTransport(theirs, client, server_side=False, server_hostname="127.0.0.1")
    if session is not None:
        at_client.tls.session = session
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handshake, at_client)
            await handshake(at_server)
        assert at_server.tls.session_reused == (session is not None)
        return at_client.tls.session
    finally:
        at_server.close()
        at_client.close()


async def test_a_resumed_session_does_not_outlast_its_certificate(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.2 can resume one for two hours, and OpenSSL looks at no certificate then."""
    server, client = contexts(pki)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    session = await shake_hands(server, client)
    await shake_hands(server, client, session)
    later = time.time() + 100 * 365 * 86_400
    monkeypatch.setattr(stream_module, "time", SimpleNamespace(time=lambda: later))
    with pytest.raises(ExceptionGroup) as caught:
        await shake_hands(server, client, session)
    [error] = caught.value.exceptions
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert refusal(error) == "TLS: its certificate is not accepted: certificate has expired"


async def test_a_handshake_with_a_silent_peer_can_be_cancelled(
    pki: Path, autojump_clock: MockClock
) -> None:
    ours, theirs = tcp_pair()
    server = TlsTransport(ours, contexts(pki)[0], server_side=True)
    with trio.move_on_after(10) as scope:
        await handshake(server)
    assert scope.cancelled_caught
    server.close()
    theirs.close()


async def test_closing_amid_a_handshake_is_quiet(pki: Path) -> None:
    ours, theirs = tcp_pair()
    stream = TransportStream(TlsTransport(ours, contexts(pki)[0], server_side=True))
    await stream.aclose()
    assert theirs.recv(1) == b""
    theirs.close()


# -- last words -------------------------------------------------------------------------------


async def test_lingering_lets_a_reply_arrive_ahead_of_the_close() -> None:
    ours, theirs = map(TransportStream, map(PlainTransport, tcp_pair()))
    await theirs.send_all(bytes(100_000))
    await ours.send_all(b"the reply")

    async def close() -> None:
        await linger(ours.transport.sock)
        await ours.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        await theirs.send_all(bytes(100_000))
        assert await theirs.receive_some() == b"the reply"
        assert await theirs.receive_some() == b""
        await theirs.aclose()


async def test_lingering_ends_in_time(autojump_clock: MockClock) -> None:
    ours, theirs = tcp_pair()
    started = trio.current_time()
    await linger(ours, 2.5)
    assert trio.current_time() - started == pytest.approx(2.5)
    ours.close()
    theirs.close()


async def test_lingering_ends_when_the_peer_goes_on_and_on() -> None:
    ours, theirs = tcp_pair()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        stream = TransportStream(PlainTransport(theirs))
        try:
            while True:
                await stream.send_all(bytes(1 << 20))
                sent += 1 << 20
        except trio.BrokenResourceError:
            await stream.aclose()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await linger(ours, 1000)
            ours.close()
    assert 16 << 20 <= sent < 64 << 20


async def test_lingering_after_a_peer_that_is_gone_returns() -> None:
    ours, theirs = tcp_pair()
    reset(theirs)
    await linger(ours)
    ours.close()


# -- connecting -------------------------------------------------------------------------------


async def test_connecting_gives_non_blocking_sockets(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await connect_tcp(*listener.getsockname())
        assert not sock.getblocking()
        sock.close()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "x.sock"))
        listener.listen()
        sock = await connect_unix(str(tmp_path / "x.sock"))
        assert not sock.getblocking()
        sock.close()


async def test_connecting_to_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Connection refused|all attempts to connect"):
        await connect_tcp("127.0.0.1", 1)
    with pytest.raises(OSError, match="No such file"):
        await connect_unix(str(tmp_path / "nobody.sock"))
