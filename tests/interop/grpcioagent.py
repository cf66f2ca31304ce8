"""konnectivity's agent by `grpcio`."""

import itertools
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.interop.grpciocalls import (
    Metadata,
    PacketCall,
    close_response,
    connect,
    data,
    dial_response,
    open_call,
)

_PIECE = 16 * 1024
"""Octets of payload in a packet."""


class Agent:
    """Dials for the server of ``call``, as konnectivity's agent does."""

    def __init__(self, call: PacketCall) -> None:
        self.call = call
        self.randoms: list[int] = []
        """Of the dials so far."""
        self.given_up: list[int] = []
        """Of those that the server gave up."""
        self.asked_to_close: list[int] = []
        """Connect ids, in the order of CLOSE_REQ."""
        self.deaf = False
        """Whether dials are left unanswered."""
        self._ids = itertools.count(1)
        self._endpoints: dict[int, trio.MemorySendChannel[bytes]] = {}

    @property
    def connections(self) -> set[int]:
        """Connect ids of those that are open."""
        return set(self._endpoints)

    async def run(self) -> None:
        """Serve until the call ends."""
        async with trio.open_nursery() as dials:
            try:
                while True:
                    await self._take(await self.call.receive(), dials)
            except trio.EndOfChannel:
                dials.cancel_scope.cancel()

    async def _take(self, packet: Any, dials: trio.Nursery) -> None:
        match packet.WhichOneof("payload"):
            case "dialRequest":
                self.randoms.append(packet.dialRequest.random)
                if not self.deaf:
                    dials.start_soon(self._dial, packet.dialRequest, next(self._ids))
            case "data":
                await self._take_data(packet.data.connectID, packet.data.data)
            case "closeRequest":
                await self._close(packet.closeRequest.connectID)
            case "closeDial":
                self.given_up.append(packet.closeDial.random)

    async def _take_data(self, connect_id: int, octets: bytes) -> None:
        assert octets
        if connect_id in self._endpoints:
            self._endpoints[connect_id].send_nowait(octets)
        else:
            await self.call.send(close_response(connect_id, "unrecognized connectID"))

    async def _close(self, connect_id: int) -> None:
        self.asked_to_close.append(connect_id)
        if connect_id in self._endpoints:
            self._endpoints[connect_id].close()
        else:
            await self.call.send(close_response(connect_id, "Unknown connectID"))

    async def _dial(self, request: Any, connect_id: int) -> None:
        host, _, port = request.address.rpartition(":")
        endpoint = trio.socket.socket()
        with endpoint:
            try:
                await endpoint.connect((host, int(port)))
            except OSError as exc:
                reason = os.strerror(exc.errno or 0).lower()
                error = f"dial {request.protocol} {request.address}: connect: {reason}"
                await self.call.send(dial_response(request.random, 0, error))
                return
            await self._carry(trio.SocketStream(endpoint), request.random, connect_id)

    async def _carry(self, endpoint: trio.SocketStream, random: int, connect_id: int) -> None:
        self._endpoints[connect_id], octets = trio.open_memory_channel[bytes](math.inf)
        await self.call.send(dial_response(random, connect_id))
        try:
            async with trio.open_nursery() as ways:
                ways.start_soon(self._from_server, octets, endpoint, ways)
                while piece := await endpoint.receive_some(_PIECE):
                    await self.call.send(data(connect_id, bytes(piece)))
                ways.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass  # konnectivity's agent says no more of it either
        finally:
            del self._endpoints[connect_id]
        await self.call.send(close_response(connect_id))

    async def _from_server(
        self,
        octets: trio.MemoryReceiveChannel[bytes],
        endpoint: trio.SocketStream,
        ways: trio.Nursery,
    ) -> None:
        """Up to CLOSE_REQ, which ends the other way too."""
        async for piece in octets:
            await endpoint.send_all(piece)
        ways.cancel_scope.cancel()


@asynccontextmanager
async def open_agent(
    channel: Any, agent_id: str = "grpcio", identifiers: str = ""
) -> AsyncIterator[Agent]:
    """An agent, once the server has taken it."""
    metadata: Metadata = [("agentid", agent_id), ("agentidentifiers", identifiers)]
    async with open_call(connect(channel), metadata) as call, trio.open_nursery() as nursery:
        agent = Agent(call)
        with trio.fail_after(10):
            await call.greeted.wait()
        nursery.start_soon(agent.run)
        yield agent
        nursery.cancel_scope.cancel()
