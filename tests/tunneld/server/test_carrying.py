"""Connections through a whole tunnel: every kind of client, ends and resets in every order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest
import trio

from tests.tunneld.peers import (
    ESTABLISHED,
    Peer,
    TlsPeer,
    connect,
    open_h2,
    open_tls,
    open_unix,
    receive_all,
    reset_socket,
)
from tests.tunneld.tunnelworld import World

KINDS = ("tls", "tls-fin", "unix", "h2", "h2-unix")
Serve: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]

BULK = bytes(range(256)) * 4096 * 3
"""3 MiB: more than any buffer on the way, so that ends have to wait their turn."""


@asynccontextmanager
async def dialled(world: World, kind: str, port: int) -> AsyncIterator[Peer]:
    """A connection to an endpoint, by a client of one kind."""
    if kind.startswith("tls"):
        async with dialled_over_tls(world, port) as peer:
            peer.notify = kind == "tls"
            yield peer
        return
    authority = f"127.0.0.1:{port}"
    plain = kind.endswith("unix")
    raw = await (open_unix(world.unix_frontend) if plain else open_tls(world.frontend, world.pki))
    if kind == "unix":
        try:
            assert await connect(raw, authority) == ESTABLISHED
            yield raw
        finally:
            await trio.aclose_forcefully(raw.stream)
        return
    async with open_h2(raw) as client:
        stream = await client.connect(authority)
        assert (await stream.response())[":status"] == "200"
        yield stream


@asynccontextmanager
async def dialled_over_tls(world: World, port: int) -> AsyncIterator[TlsPeer]:
    peer = await open_tls(world.frontend, world.pki)
    try:
        assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
        yield peer
    finally:
        await trio.aclose_forcefully(peer.stream)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_comes_after_the_question_has_ended(world: World, kind: str) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        question = bytearray()
        async for data in stream:
            question += data
        await stream.send_all(bytes(reversed(question)))
        await stream.send_eof()

    port = await world.endpoint(answer)
    async with dialled(world, kind, port) as client:
        await client.send_all(BULK)
        await client.send_eof()
        got = await receive_all(client)
    assert got == BULK[::-1]
    await world.at_rest()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_question_goes_on_after_the_answer_has_ended(world: World, kind: str) -> None:
    got = bytearray()
    complete = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(BULK)
        await stream.send_eof()
        async for data in stream:
            got.extend(data)
        complete.set()

    port = await world.endpoint(answer)
    async with dialled(world, kind, port) as client:
        assert await receive_all(client) == BULK
        await client.send_all(BULK)
        await client.send_eof()
        await complete.wait()
    assert got == BULK
    await world.at_rest()


@pytest.mark.parametrize("kind", KINDS)
async def test_both_ways_flow_at_once(world: World, kind: str) -> None:
    port = await world.endpoint(echo)
    async with dialled(world, kind, port) as client, trio.open_nursery() as nursery:

        async def send() -> None:
            await client.send_all(BULK)
            await client.send_eof()

        nursery.start_soon(send)
        assert await receive_all(client) == BULK
    await world.at_rest()


@pytest.mark.parametrize("kind", KINDS)
async def test_all_octets_arrive_although_no_more_come(world: World, kind: str) -> None:
    """A TLS record holds more than one frame, and one read more than one record: what is left
    decrypted must not wait for the socket to become readable again."""
    sizes = (1, 16_384, 100_000, 131_072, 131_073, 200_000, 262_144, 500_000)
    port = await world.endpoint(echo)
    async with dialled(world, kind, port) as client:
        for size in sizes:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, BULK[:size])
                got = b""
                with trio.fail_after(5):
                    while len(got) < size:
                        got += await client.receive_some()
            assert got == BULK[:size]


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


# -- resets -----------------------------------------------------------------------------------

RESETTABLE = ("tls", "h2", "h2-unix")
"""A UNIX client cannot be reset, nor reset: its socket knows no RST."""


class Endpoint:
    """Accepts one connection, reads on, and tells how that ended."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.outcome = ""
        self.over = trio.Event()
        self.connected = trio.Event()
        self.stream: trio.SocketStream

    async def serve(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.connected.set()
        try:
            async for data in stream:
                self.got += data
            self.outcome = "end"
        except trio.BrokenResourceError as exc:
            self.outcome = type(exc.__cause__).__name__
        finally:
            self.over.set()


async def send_for_ever(peer: Peer) -> None:
    while True:
        await peer.send_all(BULK)
        await trio.lowlevel.checkpoint()


async def outcome_of(peer: Peer) -> tuple[bytes, str]:
    """All that comes, and how it ends."""
    octets = bytearray()
    try:
        while data := await peer.receive_some():
            octets += data
    except ConnectionError:
        return bytes(octets), "reset"
    return bytes(octets), "end"


@pytest.mark.parametrize("kind", RESETTABLE)
async def test_a_clients_reset_reaches_the_endpoint_behind_what_it_sent(
    world: World, kind: str
) -> None:
    endpoint = Endpoint()
    port = await world.endpoint(endpoint.serve)
    async with dialled(world, kind, port) as client:
        await client.send_all(b"unfinished")
        await world.until(lambda: endpoint.got)
        client.reset()
        await endpoint.over.wait()
    assert (bytes(endpoint.got), endpoint.outcome) == (b"unfinished", "ConnectionResetError")
    await world.at_rest()


@pytest.mark.parametrize("kind", RESETTABLE)
async def test_a_clients_reset_reaches_an_endpoint_that_has_ended(world: World, kind: str) -> None:
    endpoint = Endpoint()
    port = await world.endpoint(endpoint.serve)
    async with dialled(world, kind, port) as client:
        await endpoint.connected.wait()
        await endpoint.stream.send_eof()
        assert await client.receive_some() == b""
        client.reset()
        await endpoint.over.wait()
    assert endpoint.outcome == "ConnectionResetError"
    await world.at_rest()


@pytest.mark.parametrize("kind", RESETTABLE)
async def test_a_clients_reset_behind_its_end_is_noticed(world: World, kind: str) -> None:
    endpoint = Endpoint()

    async def serve(stream: trio.SocketStream) -> None:
        await endpoint.serve(stream)
        await trio.sleep_forever()

    port = await world.endpoint(serve)
    async with dialled(world, kind, port) as client:
        await client.send_eof()
        await endpoint.over.wait()
        assert endpoint.outcome == "end"
        client.reset()
        await world.until(lambda: not world.server.conns() + world.agent.conns())
    await world.at_rest()


@pytest.mark.parametrize("kind", RESETTABLE)
async def test_a_clients_reset_reaches_an_endpoint_that_does_not_read(
    world: World, kind: str
) -> None:
    outcome = ""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal outcome
        await world.until(lambda: not world.agent.conns())
        try:
            async for _ in stream:
                pass
            outcome = "end"
        except trio.BrokenResourceError as exc:
            outcome = type(exc.__cause__).__name__

    port = await world.endpoint(serve)
    async with dialled(world, kind, port) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_for_ever, client)
            await world.until(lambda: stalls(world))
            nursery.cancel_scope.cancel()
        client.reset()
        await world.until(lambda: outcome)
    assert outcome == "ConnectionResetError"
    await world.at_rest()


def stalls(world: World) -> bool:
    """Whether the one connection fills every window on its way."""
    (session,) = [s for s in world.sessions() if s.connection.role.name == "CLIENT"]
    return any(stream.send_window <= 0 for stream in session.connection.streams.values())


@pytest.mark.parametrize("kind", RESETTABLE)
async def test_an_endpoints_reset_reaches_the_client_behind_what_it_sent(
    world: World, kind: str
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(b"the last words")
        reset_socket(stream.socket)

    port = await world.endpoint(serve)
    async with dialled(world, kind, port) as client:
        assert await outcome_of(client) == (b"the last words", "reset")
    await world.at_rest()


@pytest.mark.parametrize("kind", RESETTABLE)
async def test_an_endpoints_reset_behind_its_end_reaches_the_client(
    world: World, kind: str
) -> None:
    endpoint = Endpoint()
    port = await world.endpoint(endpoint.serve)
    async with dialled(world, kind, port) as client:
        await endpoint.connected.wait()
        await endpoint.stream.send_eof()
        assert await client.receive_some() == b""
        reset_socket(endpoint.stream.socket)
        with pytest.raises(ConnectionError):
            await send_for_ever(client)
    await world.at_rest()


@pytest.mark.parametrize("kind", RESETTABLE)
async def test_an_answer_ahead_of_a_reset_reaches_a_client_that_still_sends(
    world: World, kind: str
) -> None:
    """As with an HTTP server that refuses an upload: it answers and closes amid it."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"413 too much")
        await stream.aclose()  # with octets unread, so with RST

    port = await world.endpoint(serve)
    async with dialled(world, kind, port) as client, trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(ConnectionError):
                await send_for_ever(client)

        nursery.start_soon(send)
        assert await outcome_of(client) == (b"413 too much", "reset")
    await world.at_rest()


@pytest.mark.parametrize("kind", KINDS)
async def test_losing_the_agent_is_no_end(world: World, kind: str) -> None:
    endpoint = Endpoint()
    port = await world.endpoint(endpoint.serve)
    async with dialled(world, kind, port) as client:
        await endpoint.connected.wait()
        await endpoint.stream.send_all(b"unfinished")
        assert await client.receive_some() == b"unfinished"
        world.agent_scope.cancel()
        _, outcome = await outcome_of(client)
        assert outcome == ("end" if kind == "unix" else "reset")
        await endpoint.over.wait()
    assert endpoint.outcome == "ConnectionResetError"


@pytest.mark.parametrize("kind", KINDS)
async def test_losing_the_server_is_no_end(world: World, kind: str) -> None:
    endpoint = Endpoint()
    port = await world.endpoint(endpoint.serve)
    async with dialled(world, kind, port) as client:
        await endpoint.connected.wait()
        world.server_scope.cancel()
        _, outcome = await outcome_of(client)
        assert outcome == ("end" if kind == "unix" else "reset")
        await endpoint.over.wait()
    assert endpoint.outcome == "ConnectionResetError"


async def test_a_client_that_closes_amid_a_tls_record_is_no_end(world: World) -> None:
    endpoint = Endpoint()
    port = await world.endpoint(endpoint.serve)
    async with dialled_over_tls(world, port) as client:
        await endpoint.connected.wait()
        client.tls.write(bytes(1000))
        await client.stream.send_all(client.outgoing.read()[:-1])
        await client.stream.send_eof()
        await endpoint.over.wait()
    assert (bytes(endpoint.got), endpoint.outcome) == (b"", "ConnectionResetError")


async def test_octets_from_a_client_that_breaks_tls_are_no_end(world: World) -> None:
    endpoint = Endpoint()
    port = await world.endpoint(endpoint.serve)
    async with dialled_over_tls(world, port) as client:
        await client.send_all(b"good")
        await world.until(lambda: endpoint.got)
        client.tls.write(b"forged")
        record = bytearray(client.outgoing.read())
        record[-1] ^= 1
        await client.stream.send_all(record)
        await endpoint.over.wait()
    assert (bytes(endpoint.got), endpoint.outcome) == (b"good", "ConnectionResetError")
    await world.at_rest()
