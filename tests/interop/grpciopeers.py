"""Peers of konnectivity's protocol by `grpcio`: who dials over a call, and who is dialled.

Dialler   a server's side of an agent's call, or a client's side of its own
Agent     konnectivity's agent, endpoints included
Server    what agents connect to
"""

import itertools
import math
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import trio

from tests.interop.grpciocalls import (
    Metadata,
    PacketCall,
    by_name,
    close_dial,
    close_request,
    close_response,
    data,
    dial_request,
    dial_response,
    generated,
    open_call,
    server_credentials,
)

PIECE = 16 * 1024
"""Octets of payload in a packet."""

_randoms = itertools.count(0x7FFFFFFF_00000000)


class RefusedError(Exception):
    """A dial failed; the text is the peer's."""


class LostError(Exception):
    """A call ended amid a dial or a connection."""


# -- who dials --------------------------------------------------------------------------------


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
    proxy = generated().services.ProxyServiceStub(channel).Proxy
    async with open_call(proxy, timeout=timeout) as call, trio.open_nursery() as nursery:
        dialler = Dialler(call)
        nursery.start_soon(dialler.run)
        yield dialler
        nursery.cancel_scope.cancel()


# -- who is dialled ---------------------------------------------------------------------------


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
                while piece := await endpoint.receive_some(PIECE):
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
    connect = generated().services.AgentServiceStub(channel).Connect
    metadata: Metadata = [("agentid", agent_id), ("agentidentifiers", identifiers)]
    async with open_call(connect, metadata) as call, trio.open_nursery() as nursery:
        agent = Agent(call)
        with trio.fail_after(10):
            await call.greeted.wait()
        nursery.start_soon(agent.run)
        yield agent
        nursery.cancel_scope.cancel()


# -- what agents connect to -------------------------------------------------------------------


class Server:
    """One of the servers that agents connect to.

    Args:
      count: how many there are, as it says.
      port: 0 for any.
      options: grpcio's.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        pki: Path,
        server_id: str,
        count: int = 1,
        *,
        port: int = 0,
        options: Sequence[tuple[str, object]] = (),
    ) -> None:
        self.id = server_id
        self.refusal: tuple[Any, str] | None = None
        """The status that calls are refused by."""
        self.agents: list[Dialler] = []
        """Those that have come, and those that have gone."""
        self._count = count
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._pool = ThreadPoolExecutor()
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0), *options])
        generated().services.add_AgentServiceServicer_to_server(self, self._server)
        self.port: int = self._server.add_secure_port(f"127.0.0.1:{port}", server_credentials(pki))
        self._server.start()

    def Connect(self, packets: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        """AgentService's, in a thread of grpcio's."""
        if self.refusal is not None:
            context.abort(*self.refusal)
        call: PacketCall = trio.from_thread.run_sync(
            self._welcome, packets, context, trio_token=self._token
        )
        context.send_initial_metadata([("serverid", self.id), ("servercount", str(self._count))])
        return call.outgoing()

    def _welcome(self, packets: Iterator[Any], context: Any) -> PacketCall:
        call = PacketCall()
        call.attach(context)
        call.metadata = by_name(context.invocation_metadata())
        context.add_callback(call.end)
        dialler = Dialler(call)
        self._nursery.start_soon(self._serve, call, packets)
        self._nursery.start_soon(dialler.run)
        self.agents.append(dialler)
        return call

    async def _serve(self, call: PacketCall, packets: Iterator[Any]) -> None:
        await call.run(packets)
        call.end()

    @property
    def live(self) -> list[Dialler]:
        """Agents that are connected."""
        return [agent for agent in self.agents if not agent.call.over.is_set()]

    async def stop(self, grace: float | None = None) -> None:
        """Listen no more; GOAWAY, and after ``grace`` seconds the connections end."""
        stopped = self._server.stop(grace)
        await trio.to_thread.run_sync(stopped.wait)
        self._pool.shutdown()


@asynccontextmanager
async def open_server(
    pki: Path, server_id: str, count: int = 1, **options: Any
) -> AsyncIterator[Server]:
    """A server that runs until the end of the block, or until it is stopped."""
    async with trio.open_nursery() as nursery:
        server = Server(nursery, pki, server_id, count, **options)
        try:
            yield server
        finally:
            with trio.CancelScope(shield=True):
                await server.stop()
