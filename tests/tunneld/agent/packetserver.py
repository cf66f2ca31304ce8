"""A konnectivity server for an agent, written by hand over `ssl` and the `h2` library."""

import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import trio

from frames.packet import (
    CloseRequest,
    CloseResponse,
    Data,
    DialRequest,
    DialResponse,
    Packet,
    parse,
    serialize,
)
from tests.tunneld.peers import TlsPeer
from tests.tunneld.policies import OPEN_AGENT
from tunneld.agent.role import AgentRole
from tunneld.config import AgentConfig
from tunneld.conns import Conns
from tunneld.reactor import Reactor
from tunneld.role import Host, RoleState

Fields = list[tuple[str, str]]
GREETING: Fields = [(":status", "200"), ("content-type", "application/grpc")]
SERVER: Fields = [("serverid", "srv-1"), ("servercount", "1")]


class ServingTls(TlsPeer):
    """The server's side of TLS."""

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.stream = stream
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.notify = True


class Agent:
    """One connection of an agent, and its stream. Connect ids are counted from 1 here, wherever the
    agent begins."""

    def __init__(self, peer: TlsPeer) -> None:
        self.peer = peer
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        self.fields: Fields = []
        """Of the request."""
        self.packets: list[Packet] = []
        """Those not yet taken."""
        self.pings = 0
        self.stream_id = 0
        self.half_closed = False
        self.reset: int | None = None
        self.goaway: int | None = None
        self.over = False
        self.crediting = True
        """Whether what comes is credited."""
        self._octets = bytearray()
        self._first_id = 0
        """What the agent numbered its first connection with, less 1."""
        self._news = trio.Event()
        self._sending = trio.Lock()

    async def run(self, greet: Callable[["Agent"], Any]) -> None:
        self.h2.initiate_connection()
        await self.flush()
        try:
            while octets := await self.peer.receive_some():
                for event in self.h2.receive_data(octets):
                    self._take(event)
                    if isinstance(event, h2.events.RequestReceived):
                        greet(self)
                await self.flush()
                self._tell()
        except (ConnectionError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(self.peer.stream)
        self.over = True
        self._tell()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self.stream_id = event.stream_id or 0
                self.fields = [(str(name), str(value)) for name, value in event.headers]
            case h2.events.DataReceived():
                self._octets += event.data
                if self.crediting:
                    size = event.flow_controlled_length
                    self.h2.acknowledge_received_data(size, self.stream_id)
                self._parse()
            case h2.events.StreamEnded():
                self.half_closed = True
            case h2.events.StreamReset():
                self.reset = event.error_code
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code
            case h2.events.PingReceived():
                self.pings += 1

    def _parse(self) -> None:
        while len(self._octets) >= 5:
            flag, size = struct.unpack_from(">BI", self._octets)
            assert flag == 0
            if len(self._octets) < 5 + size:
                return
            packet = parse(memoryview(bytes(self._octets[5 : 5 + size])))
            if not self._first_id and isinstance(packet, DialResponse) and packet.connect_id:
                self._first_id = packet.connect_id - 1
            self.packets.append(_renumbered(packet, -self._first_id))
            del self._octets[: 5 + size]

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def flush(self) -> None:
        async with self._sending:
            try:
                await self.peer.send_all(self.h2.data_to_send())
            except ConnectionError:
                return  # the reader finds out, too

    async def until(self, true: Callable[[], object]) -> None:
        while not true():
            await self._news.wait()

    async def greet(self, *fields: tuple[str, str], end_stream: bool = False) -> None:
        self.h2.send_headers(self.stream_id, list(fields), end_stream=end_stream)
        await self.flush()

    async def send(self, *packets: Packet) -> None:
        """All in one go, as windows allow."""
        messages = [serialize(_renumbered(packet, self._first_id)) for packet in packets]
        octets = b"".join(struct.pack(">BI", 0, len(each)) + each for each in messages)
        await self.send_octets(octets)

    async def send_octets(self, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            await self.until(lambda: self.h2.local_flow_control_window(self.stream_id) > 0)
            window = self.h2.local_flow_control_window(self.stream_id)
            piece = view[: min(window, 16384)]
            self.h2.send_data(self.stream_id, bytes(piece))
            await self.flush()
            view = view[len(piece) :]

    async def end(self, status: int, message: str = "") -> None:
        fields = [("grpc-status", str(status)), ("grpc-message", message)]
        await self.greet(*fields, end_stream=True)

    async def next(self) -> Packet:
        await self.until(lambda: self.packets or self.over)
        assert self.packets, "the agent is gone"
        return self.packets.pop(0)

    async def data(self, connect_id: int, size: int) -> bytes:
        """So many octets of a connection, the next packets being nothing else."""
        octets = b""
        while len(octets) < size:
            packet = await self.next()
            assert isinstance(packet, Data)
            assert packet.connect_id == connect_id
            assert packet.data
            octets += bytes(packet.data)
        return octets

    async def dial(self, address: str, number: int = 7, protocol: str = "tcp") -> Packet:
        """Its answer."""
        await self.send(DialRequest(protocol, address, number))
        return await self.next()

    async def close(self, connect_id: int) -> None:
        await self.send(CloseRequest(connect_id))


def _renumbered(packet: Packet, change: int) -> Packet:
    if isinstance(packet, Data | CloseRequest | CloseResponse | DialResponse) and packet.connect_id:
        return replace(packet, connect_id=packet.connect_id + change)
    return packet


@dataclass
class PacketWorld:
    """A server of this kind, an agent of ours, endpoints."""

    nursery: trio.Nursery
    host: Host
    role: AgentRole
    listener: trio.SocketListener
    context: ssl.SSLContext
    states: list[tuple[RoleState, str]]
    greetings: list[Fields] = field(default_factory=list)
    """Of the next connections; `GREETING` and `SERVER` when there are no more."""
    silent: bool = False
    """Whether requests are left without a response."""
    done: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def agent(self) -> Agent:
        """The next connection, its request taken, and answered unless `silent`."""
        stream = await self.listener.accept()
        peer = ServingTls(stream, self.context)
        await peer.handshake()
        assert peer.tls.selected_alpn_protocol() == "h2"
        agent = Agent(peer)
        self.nursery.start_soon(agent.run, self._greet)
        await agent.until(lambda: agent.fields)
        return agent

    def _greet(self, agent: Agent) -> None:
        if not self.silent:
            fields = self.greetings.pop(0) if self.greetings else GREETING + SERVER
            ends = any(name == "grpc-status" for name, _ in fields) or fields[0][1] != "200"
            agent.h2.send_headers(agent.stream_id, fields, end_stream=ends)

    async def ready(self) -> Agent:
        """The first connection, once the agent takes it for one."""
        agent = await self.agent()
        await self.until(lambda: self.role.connected)
        return agent

    async def until(self, true: Callable[[], object]) -> None:
        while not true():  # noqa: ASYNC110 - nothing tells about things as various as these
            await trio.sleep(0.002)

    async def endpoint(self, serve: Callable[[trio.SocketStream], Any]) -> int:
        """Serve TCP by ``serve``, which need not close; returns the port."""

        async def handler(stream: trio.SocketStream) -> None:
            try:
                await serve(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                await trio.aclose_forcefully(stream)

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.nursery.start_soon(trio.serve_listeners, handler, listeners)
        port: int = listeners[0].socket.getsockname()[1]
        return port

    async def run(self, task_status: trio.TaskStatus[list[str]]) -> None:
        with self.scope:
            await self.role.run(task_status)
        self.done.set()

    @property
    def conns(self) -> Conns:
        return self.role._conns


@asynccontextmanager
async def open_packet_world(
    pki: Path, set_up: Callable[[AgentRole], None] = lambda role: None, **options: Any
) -> AsyncIterator[PacketWorld]:
    """The agent is being started; `PacketWorld.ready` takes its connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "agent/server.crt", pki / "agent/server.key")
    context.load_verify_locations(pki / "agent/ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["h2"])
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
    files = {"cert": "agent/agent.crt", "key": "agent/agent.key", "ca": "agent/ca.crt"}
    pace = {"backoff_min": 0.01, "backoff_max": 0.05}
    config = AgentConfig(
        policy=OPEN_AGENT, name="agent", server=address, **(files | pace | options)
    )
    reactor = Reactor()
    states: list[tuple[RoleState, str]] = []
    host = Host("agent", reactor, pki, lambda *state: states.append(state))
    role = AgentRole(config, host)
    set_up(role)
    async with trio.open_nursery() as outer:
        await outer.start(reactor.run)
        async with listener, trio.open_nursery() as nursery:
            world = PacketWorld(nursery, host, role, listener, context, states)
            await nursery.start(world.run)
            yield world
            nursery.cancel_scope.cancel()
        assert reactor.served == 0
        outer.cancel_scope.cancel()
    reactor.close()
