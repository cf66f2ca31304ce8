"""konnectivity's servers by `grpcio`, and a balancer that makes one address of theirs."""

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import trio

from tests.interop.grpciocalls import PacketCall, by_name, generated, server_credentials
from tests.interop.grpciopeers import Dialler


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
        self._pool = ThreadPoolExecutor(32)  # one for each call
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
            for agent in server.agents:
                agent.call.close()
            with trio.CancelScope(shield=True):
                await server.stop()


class Balancer:
    """One address for several servers; each takes its turn."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self.address = "{}:{}".format(*listener.socket.getsockname())
        self.servers: list[Server] = []
        self._turns = itertools.count()
        self._listener = listener

    async def run(self) -> None:
        await trio.serve_listeners(self._serve, [self._listener])

    async def _serve(self, agent: trio.SocketStream) -> None:
        server = self.servers[next(self._turns) % len(self.servers)]
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        except OSError:
            return  # as a balancer that has not noticed yet
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, agent, stream)
            await self._copy(stream, agent)
            nursery.cancel_scope.cancel()

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for octets in source:
                await sink.send_all(octets)
            await sink.send_eof()
        except trio.BrokenResourceError:
            return


@asynccontextmanager
async def open_balancer(servers: Sequence[Server]) -> AsyncIterator[Balancer]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        balancer = Balancer(listener)
        balancer.servers += servers
        nursery.start_soon(balancer.run)
        yield balancer
        nursery.cancel_scope.cancel()
