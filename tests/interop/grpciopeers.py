"""Who dials by konnectivity's protocol over `grpcio`: a client over its call of ProxyService, a
server over an agent's of AgentService."""

import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.interop.grpciocalls import (
    PacketCall,
    close_dial,
    close_request,
    data,
    dial_request,
    open_call,
    proxy,
)

PIECE = 16 * 1024
"""Octets of payload in a packet."""

_randoms = itertools.count(0x7FFFFFFF_00000000)


class RefusedError(Exception):
    """A dial failed; the text is the peer's."""


class LostError(Exception):
    """A call ended amid a dial or a connection."""


class Connection:
    """One connection of a `Dialler`."""

    def __init__(self, dialler: "Dialler", connect_id: int) -> None:
        self.id = connect_id
        self.closed = trio.Event()
        """Set when CLOSE_RSP came."""
        self.error = ""
        """CLOSE_RSP's."""
        self.came, self._octets = trio.open_memory_channel[bytes](math.inf)
        self._dialler = dialler

    async def send_all(self, octets: bytes, piece: int = PIECE) -> None:
        """In packets of ``piece`` octets each."""
        for start in range(0, len(octets), piece):
            await self._dialler.call.send(data(self.id, octets[start : start + piece]))

    async def receive_some(self) -> bytes:
        """One packet's payload, or b"" after CLOSE_RSP.

        Raises:
          LostError: the call ended without one.
        """
        try:
            return await self._octets.receive()
        except trio.EndOfChannel:
            if not self.closed.is_set():
                raise LostError from None
            return b""

    async def close(self) -> bytes:
        """CLOSE_REQ; what came before it was confirmed."""
        await self._dialler.call.send(close_request(self.id))
        octets = b""
        while more := await self.receive_some():
            octets += more
        return octets


class Dialler:
    """Dials over a call, in which `run` runs."""

    def __init__(self, call: PacketCall) -> None:
        self.call = call
        self.connections: dict[int, Connection] = {}
        """Those not closed yet."""
        self.drained = trio.Event()
        self.strays: list[Any] = []
        """Packets of connections and dials that there are not."""
        self._pending: dict[int, trio.MemorySendChannel[Any]] = {}

    async def run(self) -> None:
        try:
            while True:
                self._take(await self.call.receive())
        except trio.EndOfChannel:
            for answers in self._pending.values():
                answers.close()
            for connection in self.connections.values():
                connection.came.close()

    async def dial(
        self, address: str, random: int | None = None, protocol: str = "tcp"
    ) -> Connection:
        """Cancelling gives the dial up.

        Raises:
          RefusedError: it failed.
          LostError: the call ended instead.
        """
        number = next(_randoms) if random is None else random
        self._pending[number], answers = trio.open_memory_channel[Any](1)
        await self.call.send(dial_request(address, number, protocol))
        try:
            answer = await answers.receive()
        except trio.EndOfChannel:
            raise LostError from None
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self.call.send(close_dial(number))
            raise
        finally:
            del self._pending[number]
        if answer.error:
            raise RefusedError(answer.error)
        return self.connections[answer.connectID]

    def _take(self, packet: Any) -> None:
        match packet.WhichOneof("payload"):
            case "dialResponse" if packet.dialResponse.random in self._pending:
                answer = packet.dialResponse
                if not answer.error:
                    connection = Connection(self, answer.connectID)
                    self.connections[answer.connectID] = connection
                self._pending[answer.random].send_nowait(answer)
            case "data" if packet.data.connectID in self.connections:
                assert packet.data.data
                self.connections[packet.data.connectID].came.send_nowait(packet.data.data)
            case "closeResponse" if packet.closeResponse.connectID in self.connections:
                connection = self.connections.pop(packet.closeResponse.connectID)
                connection.error = packet.closeResponse.error
                connection.closed.set()
                connection.came.close()
            case "drain":
                self.drained.set()
            case _:
                self.strays.append(packet)


@asynccontextmanager
async def open_client(channel: Any, timeout: float | None = None) -> AsyncIterator[Dialler]:
    """A call of ProxyService: one dial, and its connection."""
    async with open_call(proxy(channel), timeout=timeout) as call, trio.open_nursery() as nursery:
        dialler = Dialler(call)
        nursery.start_soon(dialler.run)
        yield dialler
        nursery.cancel_scope.cancel()
