"""konnectivity's agents and clients for a server of ours: the `h2` library, protobuf by hand."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.connection
import h2.errors
import h2.events
import trio
from trio.testing import wait_all_tasks_blocked

from tests.tunneld.peers import H2Client, H2Stream, PlainPeer, TlsPeer, open_tls, open_unix
from tests.tunneld.tunnelworld import World, open_world
from tunneld.server.packettunnel import PacketTunnel
from tunneld.sharedchannel import queue_budget

# -- packets ----------------------------------------------------------------------------------

_KINDS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "DIAL_REQ": (0, 2, ("protocol", "address", "random")),
    "DIAL_RSP": (1, 3, ("error", "cid", "random")),
    "CLOSE_REQ": (2, 5, ("cid",)),
    "CLOSE_RSP": (3, 6, ("error", "cid")),
    "DATA": (4, 4, ("cid", "", "data")),
    "DIAL_CLS": (5, 7, ("random",)),
    "DRAIN": (6, 8, ()),
}
"""Value of the type, number of the payload's field, and the payload's own fields from 1 on."""


@dataclass(frozen=True)
class Packet:
    """Of one of konnectivity's types; what is not its own is left at its default."""

    kind: str
    cid: int = 0
    random: int = 0
    error: str = ""
    protocol: str = ""
    address: str = ""
    data: bytes = b""

    def encode(self) -> bytes:
        """As Go writes it: defaults left out."""
        number, member, names = _KINDS[self.kind]
        body = b""
        for index, name in enumerate(names, 1):
            value = getattr(self, name) if name else ""
            if isinstance(value, int):
                body += _varint(index << 3) + _varint(value) if value else b""
            elif value:
                octets = value.encode() if isinstance(value, str) else value
                body += _varint(index << 3 | 2) + _varint(len(octets)) + octets
        head = b"\x08" + _varint(number) if number else b""
        return head + _varint(member << 3 | 2) + _varint(len(body)) + body

    @classmethod
    def decode(cls, octets: bytes) -> "Packet":
        """Takes nothing but what konnectivity's programs write."""
        fields = dict(_fields(octets))
        number = fields.pop(1, 0)
        [(kind, (_, member, names))] = [
            (kind, each) for kind, each in _KINDS.items() if each[0] == number
        ]
        values: dict[str, Any] = {}
        for index, value in _fields(fields.pop(member)):
            name = names[index - 1]
            assert value not in (0, b""), f"{kind}.{name} is a default, and was sent"
            is_text = name in ("error", "protocol", "address")
            values[name] = value.decode() if is_text else value
        assert not fields, f"more than a payload: {fields}"
        return cls(kind, **values)


def _varint(value: int) -> bytes:
    value %= 1 << 64
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


def _fields(octets: bytes) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    pos = 0

    def varint() -> int:
        nonlocal pos
        value = shift = 0
        while octets[pos] & 0x80:
            value |= (octets[pos] & 0x7F) << shift
            shift, pos = shift + 7, pos + 1
        value |= octets[pos] << shift
        pos += 1
        return value

    while pos < len(octets):
        tag = varint()
        value: Any = varint()
        if tag & 7 == 2:
            value, pos = octets[pos : pos + value], pos + value
            assert pos <= len(octets)
        elif value >= 1 << 63:
            value -= 1 << 64
        found.append((tag >> 3, value))
    return found


def dial_req(address: str, random: int = 7, protocol: str = "tcp") -> Packet:
    return Packet("DIAL_REQ", random=random, address=address, protocol=protocol)


def dial_rsp(random: int, cid: int = 0, error: str = "") -> Packet:
    return Packet("DIAL_RSP", random=random, cid=cid, error=error)


def dial_cls(random: int) -> Packet:
    return Packet("DIAL_CLS", random=random)


def close_req(cid: int) -> Packet:
    return Packet("CLOSE_REQ", cid=cid)


def close_rsp(cid: int, error: str = "") -> Packet:
    return Packet("CLOSE_RSP", cid=cid, error=error)


def data(cid: int, octets: bytes) -> Packet:
    return Packet("DATA", cid=cid, data=octets)


DRAIN = Packet("DRAIN")


def message(octets: bytes) -> bytes:
    """As a gRPC message."""
    return struct.pack(">BI", 0, len(octets)) + octets


# -- calls ------------------------------------------------------------------------------------

_GOAWAY = 7
"""Type of the frame."""


@dataclass
class Call:
    """A gRPC stream of packets, as its client has it."""

    client: "GrpcClient"
    stream: H2Stream
    packets: list[Packet] = field(default_factory=list)
    """Those that came and were not taken."""
    _sending: trio.Lock = field(default_factory=trio.Lock)

    async def send(self, *packets: Packet) -> None:
        """All in one go, as far as windows allow."""
        await self.send_octets(b"".join(message(packet.encode()) for packet in packets))

    async def send_octets(self, octets: bytes) -> None:
        async with self._sending:
            await self.stream.send_all(octets)

    async def next(self) -> Packet:
        """The next packet; `ConnectionError` when the stream has ended instead."""
        while not self.parse():
            if self.stream.ended or self.stream.error:
                raise ConnectionError(f"no packet: {self.stream.error or self.trailers}")
            await self.stream.news.wait()
        return self.packets.pop(0)

    async def data(self, cid: int, size: int) -> bytes:
        """So many octets of a connection, the next packets being nothing else."""
        octets = b""
        while len(octets) < size:
            packet = await self.next()
            assert packet == data(cid, packet.data), packet
            assert packet.data
            octets += packet.data
        return octets

    def parse(self) -> list[Packet]:
        """Whatever has come and was not taken."""
        octets = self.stream.octets
        while len(octets) >= 5:
            flag, size = struct.unpack_from(">BI", octets)
            assert flag == 0
            if len(octets) < 5 + size:
                break
            self.packets.append(Packet.decode(bytes(octets[5 : 5 + size])))
            del octets[: 5 + size]
        return self.packets

    async def credit(self, size: int) -> None:
        """Let the server send ``size`` octets more, for a stream that is not `reading`."""
        self.client.connection.acknowledge_received_data(size, self.stream.id)
        await self.client.flush()

    @property
    def trailers(self) -> dict[str, str]:
        return self.client.trailers.get(self.stream.id, {})

    async def end(self) -> None:
        """Half-close."""
        await self.stream.send_eof()

    def reset(self) -> None:
        self.stream.reset()

    async def status(self) -> tuple[int, str]:
        """Once the server has ended the stream. Packets that came before it do not matter."""
        while not self.stream.ended:
            if self.stream.error and not self.trailers:
                raise ConnectionError(self.stream.error)
            await self.stream.news.wait()
        fields = self.trailers or self.stream.headers
        assert list(fields)[-2:] == ["grpc-status", "grpc-message"]
        return int(fields["grpc-status"]), fields["grpc-message"]


class PatientConnection(h2.connection.H2Connection):
    """Takes what comes behind a GOAWAY, which the library does not."""

    deaf = False
    """Whether nothing that comes is heard, nor answered."""
    _kept = b""

    def receive_data(self, data: Any) -> list[h2.events.Event]:
        self._kept += b"" if self.deaf else bytes(data)
        events: list[h2.events.Event] = []
        while len(self._kept) >= 9:
            size = 9 + int.from_bytes(self._kept[:3], "big")
            if len(self._kept) < size:
                break
            frame, self._kept = self._kept[:size], self._kept[size:]
            events += super().receive_data(frame)
            if frame[3] == _GOAWAY:
                self.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        return events


class GrpcClient(H2Client):
    """HTTP/2 for calls."""

    def __init__(self, peer: PlainPeer | TlsPeer, nursery: trio.Nursery) -> None:
        super().__init__(peer, nursery)
        self.trailers: dict[int, dict[str, str]] = {}
        self.events: list[str] = []
        """Names of the events that matter to the order of an end."""
        self.connection: PatientConnection = PatientConnection(self.connection.config)

    async def call(self, path: str, *metadata: tuple[str, str], **pseudo: str) -> Call:
        """A call as grpc-go makes it; ``pseudo`` replaces ``:…`` headers."""
        fields = {"method": "POST", "scheme": "https", "path": path, "authority": "127.0.0.1"}
        head = [(f":{name}", value) for name, value in {**fields, **pseudo}.items()]
        head += [("content-type", "application/grpc"), ("user-agent", "grpc-go/1.83.0")]
        head += [("te", "trailers"), *metadata]
        return Call(self, await self.request(head))

    async def proxy(self, *metadata: tuple[str, str], **pseudo: str) -> Call:
        return await self.call("/ProxyService/Proxy", *metadata, **pseudo)

    async def connect_agent(
        self, agent_id: str = "demo", *metadata: tuple[str, str], identifiers: str = ""
    ) -> Call:
        """An agent; it is one when `greeted`."""
        about = [("agentid", agent_id), ("agentidentifiers", identifiers)]
        return await self.call("/AgentService/Connect", *about, *metadata)

    async def cut_off(self) -> None:
        """End the connection without a word of HTTP/2 or TLS."""
        async with self._sending:
            self.peer.stream.socket.shutdown(socket.SHUT_WR)

    def _on_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.TrailersReceived():
                fields = {str(name): str(value) for name, value in event.headers}
                self.trailers[event.stream_id or 0] = fields
                self.events.append("trailers")
            case h2.events.ConnectionTerminated():
                self.events.append("GOAWAY")
        super()._on_event(event)


async def greeted(call: Call) -> dict[str, str]:
    """The head of the server's answer."""
    response = await call.stream.response()
    assert response[":status"] == "200"
    assert response["content-type"] == "application/grpc"
    return response


@asynccontextmanager
async def open_grpc(peer: PlainPeer | TlsPeer) -> AsyncIterator[GrpcClient]:
    """HTTP/2 over ``peer``, while the block runs."""
    try:
        async with trio.open_nursery() as nursery:
            client = GrpcClient(peer, nursery)
            await client.start({})
            yield client
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(peer.stream)


def agent_context(pki: Path, *, certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "agent/ca.crt"))
    if certificate:
        context.load_cert_chain(pki / "agent/agent.crt", pki / "agent/agent.key")
    context.set_alpn_protocols(["h2"])
    return context


@asynccontextmanager
async def open_agents(world: World, *, certificate: bool = True) -> AsyncIterator[GrpcClient]:
    """A connection to the listener for agents."""
    host, port = world.tunnel_address.rsplit(":", 1)
    context = agent_context(world.pki, certificate=certificate)
    peer = await open_tls((host, int(port)), world.pki, context=context)
    assert peer.tls.selected_alpn_protocol() == "h2"
    async with open_grpc(peer) as client:
        yield client


@asynccontextmanager
async def open_agent(
    world: World, agent_id: str = "demo", *, identifiers: str = ""
) -> AsyncIterator[Call]:
    """An agent that has joined, on a connection of its own."""
    known = len(world.server.agents())
    async with open_agents(world) as client:
        agent = await client.connect_agent(agent_id, identifiers=identifiers)
        await greeted(agent)
        await world.until(lambda: len(world.server.agents()) > known)
        yield agent


@asynccontextmanager
async def open_client(world: World, *, unix: bool = False) -> AsyncIterator[GrpcClient]:
    """A connection to a frontend."""
    if unix:
        async with open_grpc(await open_unix(world.unix_frontend)) as client:
            yield client
        return
    async with open_grpc(await open_tls(world.frontend, world.pki, "h2")) as client:
        yield client


async def dialled(client: GrpcClient, agent: Call, cid: int = 1) -> tuple[Call, int]:
    """A connection that stands: the call, and its connect id for the client."""
    front = await client.proxy()
    await front.send(dial_req("endpoint:80", random=70 + cid))
    asked = await agent.next()
    assert asked == dial_req("endpoint:80", asked.random)
    await agent.send(dial_rsp(asked.random, cid))
    answer = await front.next()
    assert answer == dial_rsp(70 + cid, answer.cid)
    return front, answer.cid


async def asked(agent: Call, address: str = "endpoint:80", protocol: str = "tcp") -> int:
    """The number of the next dial."""
    packet = await agent.next()
    assert packet == dial_req(address, packet.random, protocol)
    return packet.random


async def is_silent(*calls: Call) -> bool:
    """Whether nothing more comes on either."""
    await wait_all_tasks_blocked()
    return not any(call.parse() or call.stream.ended or call.stream.error for call in calls)


def failures(world: World) -> dict[str, int]:
    counts = world.server.telemetry.dial_failure_count
    return {reason: count for reason, count in counts.items() if count}


async def end(front: Call, agent: Call, cid: int = 1) -> None:
    """Half-close: the agent is asked to close, and the call ends well."""
    await front.end()
    assert await agent.next() == close_req(cid)
    await agent.send(close_rsp(cid))
    assert await front.status() == (0, "")


async def leave(front: Call, how: str) -> None:
    match how:
        case "end":
            await front.end()
        case "reset":
            front.reset()
        case "close":
            await front.client.cut_off()


# -- the server -------------------------------------------------------------------------------


@asynccontextmanager
async def open_server(pki: Path, tmp_path: Path, **options: Any) -> AsyncIterator[World]:
    """A server without an agent of ours, which must be as new when the block ends."""
    options = {"any_agent_id": True} | options
    before = queue_budget.left
    async with open_world(pki, tmp_path, agent=False, server_options=options) as world:
        yield world
        with trio.fail_after(10):
            while left_behind(world):  # noqa: ASYNC110 - as `World.until`
                await trio.sleep(0.002)
        assert queue_budget.left == before


def left_behind(world: World) -> list[object]:
    """What agents and clients that have gone left."""
    telemetry = world.server.telemetry
    gauges = {
        "http": telemetry.http_connections,
        "pending": telemetry.pending_backend_dials,
        "established": telemetry.established_connections,
        "stalls": telemetry.tunneld_stalls.count,
        "descriptors": world.reactor.served,
        **telemetry.grpc_connections,
    }
    found: list[object] = [*world.server.conns(), *world.server.agents()]
    found += [gauge for gauge in gauges.items() if gauge[1]]
    found += world.server._frontends._http2._sessions
    return found


def tunnels(world: World) -> list[PacketTunnel]:
    """Those of the agents that have joined, in order."""
    return [each for each in world.server._registry.tunnels if isinstance(each, PacketTunnel)]


def is_clean(tunnel: PacketTunnel) -> bool:
    """Whether no connection has left anything, and all octets that came have been credited."""
    stream = tunnel._end.stream
    credited = stream.receive_window + stream.unacked == stream.window_size
    return credited and not (tunnel._pending or tunnel._channels or tunnel._closing or tunnel.conns)
