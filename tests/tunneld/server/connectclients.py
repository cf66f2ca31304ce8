"""Clients of a UNIX frontend whose dials an agent of konnectivity answers, or the test itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.tunneld.peers import ESTABLISHED, PlainPeer, open_unix
from tests.tunneld.server.konnectivitypeers import (
    Call,
    close_rsp,
    dial_req,
    dial_rsp,
)
from tests.tunneld.tunnelworld import World
from tunneld.caller import CONTROL
from tunneld.dialing import DialError, Kind
from tunneld.dialrecord import DialRecord
from tunneld.server.packettunnel import PacketTunnel


@asynccontextmanager
async def asking(world: World) -> AsyncIterator[PlainPeer]:
    """A client that has asked for an endpoint."""
    peer = await open_unix(world.unix_frontend)
    try:
        await peer.send_all(b"CONNECT endpoint:80 HTTP/1.1\r\n\r\n")
        yield peer
    finally:
        await trio.aclose_forcefully(peer.stream)


async def answer(agent: Call, cid: int = 1, error: str = "") -> int:
    """Answer the next dial; returns its number."""
    asked = await agent.next()
    assert asked == dial_req("endpoint:80", asked.random)
    await agent.send(dial_rsp(asked.random, cid, error))
    return asked.random


@asynccontextmanager
async def connected(world: World, agent: Call, cid: int = 1) -> AsyncIterator[PlainPeer]:
    """A client whose connection stands; closed by the agent in the end."""
    async with asking(world) as peer:
        await answer(agent, cid)
        assert await receive(peer, len(ESTABLISHED)) == ESTABLISHED
        yield peer
        if not agent.stream.ended and not agent.stream.error:
            await agent.send(close_rsp(cid))


async def cut(peer: PlainPeer) -> bool:
    """Whether the next thing that the client sees is that it is over. A UNIX socket knows no
    reset."""
    try:
        return await peer.receive_some() == b""
    except ConnectionError:
        return True


async def receive_all_of_it(peer: PlainPeer) -> bytes:
    """All octets up to an end of any kind."""
    octets = bytearray()
    try:
        while more := await peer.receive_some():
            octets += more
    except ConnectionError:
        pass
    return bytes(octets)


async def receive(peer: PlainPeer, size: int) -> bytes:
    octets = b""
    while len(octets) < size and (more := await peer.receive_some()):
        octets += more
    return octets


class Dialling:
    """A dial without a client."""

    def __init__(self, tunnel: PacketTunnel, nursery: trio.Nursery, timeout: float = 10) -> None:
        self.scope = trio.CancelScope()
        self.error: Exception | None = None
        self.done = trio.Event()
        nursery.start_soon(self._dial, tunnel, timeout)

    async def _dial(self, tunnel: PacketTunnel, timeout: float) -> None:
        with self.scope:
            try:
                channel = await tunnel.dial(
                    "endpoint:80", "tcp", timeout, DialRecord(CONTROL, "endpoint:80"), ""
                )
                channel.abort()
            except (DialError, trio.TooSlowError) as exc:
                self.error = exc
        self.done.set()

    async def failed(self) -> tuple[Kind, str]:
        await self.done.wait()
        assert isinstance(self.error, DialError)
        return self.error.kind, str(self.error)
