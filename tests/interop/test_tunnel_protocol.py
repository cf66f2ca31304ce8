"""The tunnel protocol as docs/reference/tunnel-protocol.md says it: another server and another
agent, written from that page with the `h2` library alone, against ours."""

import hashlib
import hmac
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from tests.tunneld.policies import OPEN_AGENT, OPEN_SERVER
from tunneld import client, secretsfile
from tunneld.agent.role import AgentRole
from tunneld.config import AgentConfig, Frontend, ServerConfig, TunnelListener
from tunneld.pki import Pki
from tunneld.reactor import Reactor
from tunneld.role import Host, Role, RoleState
from tunneld.secret import of_token
from tunneld.server.role import ServerRole
from tunneld.transport.base import abort_socket

WHO = "/.well-known/tunneld/agent"
CONNECT_ERROR = 0xA
_PREFACE = 24
_HEADER = 9
"""Octets of the connection preface, and of a frame's header."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("etc") / "pki"
    Pki(directory).init(["127.0.0.1"], "home")
    return directory


class Peer:
    """One end of a tunnel by `h2`: collects what comes, by stream."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], *, is_server: bool) -> None:
        self.stream = stream
        # The server of the tunnel is HTTP/2's client (section 2).
        config = h2.config.H2Configuration(
            client_side=is_server,
            header_encoding="utf-8",
            validate_outbound_headers=False,  # h2 knows no CONNECT
            validate_inbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.headers: dict[int, dict[str, str]] = defaultdict(dict)
        self.body: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[int] = []
        self.closed = False
        self._greeted = False
        self._news = trio.Event()
        self._writing = trio.Lock()

    async def run(self) -> None:
        """Receive until the other end closes."""
        await self.flush()
        octets = b""
        while more := await self.stream.receive_some():
            octets = await self._take_frames(octets + more)
            await self.flush()
            self._tell()
        self.closed = True
        self._tell()

    async def _take_frames(self, octets: bytes) -> bytes:
        """Frame by frame, for the sake of `take`; returns what is incomplete."""
        if not self.h2.config.client_side and not self._greeted:
            self._greeted = True
            self.h2.receive_data(octets[:_PREFACE])
            octets = octets[_PREFACE:]
        while len(octets) >= _HEADER and len(octets) >= (
            size := _HEADER + int.from_bytes(octets[:3], "big")
        ):
            for event in self.h2.receive_data(octets[:size]):
                await self.take(event)
            octets = octets[size:]
        return octets

    async def take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived | h2.events.RequestReceived):
            assert event.stream_id is not None
            self.headers[event.stream_id] = dict(event.headers or [])  # type: ignore[arg-type]
        elif isinstance(event, h2.events.DataReceived):
            assert event.stream_id is not None
            self.body[event.stream_id] += event.data or b""
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id or 0)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id or 0] = int(event.error_code or 0)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append(event.last_stream_id or 0)
            # h2 takes a GOAWAY for the end (its issue 1181); streams run on (section 9).
            machine = self.h2.state_machine
            machine.state = h2.connection.ConnectionState.CLIENT_OPEN

    async def flush(self) -> None:
        async with self._writing:
            if octets := self.h2.data_to_send():
                await self.stream.send_all(octets)

    async def request(self, headers: list[tuple[str, str]], *, end: bool) -> int:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers, end_stream=end)
        await self.flush()
        return number

    async def connect(self, port: int) -> int:
        """A dial, and its answer."""
        authority = f"127.0.0.1:{port}"
        number = await self.request([(":method", "CONNECT"), (":authority", authority)], end=False)
        await self.until(lambda: bool(self.headers[number]))
        return number

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(20):
            while not condition():
                self._news = trio.Event()
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()


def host_of(role: str, directory: Path, reactor: Reactor) -> Host:
    def set_state(state: RoleState, reason: str) -> None:
        pass

    return Host(name=role, reactor=reactor, state_dir=directory, set_state=set_state)


@asynccontextmanager
async def running(role: Role, reactor: Reactor) -> AsyncIterator[list[str]]:
    async with trio.open_nursery() as nursery:
        await nursery.start(reactor.run)
        yield await nursery.start(role.run)
        nursery.cancel_scope.cancel()
    reactor.close()


# -- another server, our agent ----------------------------------------------------------------


@asynccontextmanager
async def other_server(
    pki: Path, tmp_path: Path, token: str = ""
) -> AsyncIterator[tuple[Peer, Host]]:
    """Ours is the agent; it has dialled, and the tunnel stands."""
    (tmp_path / "token").write_text(token)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "agent/server.crt", pki / "agent/server.key")
    context.load_verify_locations(pki / "agent/ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["rh2"])
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
    config = AgentConfig(
        policy=OPEN_AGENT,
        name="agent",
        server=address,
        identifiers="default-route=true",
        cert=str(pki / "agent/agent.crt"),
        key=str(pki / "agent/agent.key"),
        ca=str(pki / "agent/ca.crt"),
        token_path=str(tmp_path / "token") if token else "",
    )
    reactor = Reactor()
    host = host_of("agent", tmp_path, reactor)
    async with listener, running(AgentRole(config, host), reactor):
        tcp = await listener.accept()
        stream = trio.SSLStream(tcp, context, server_side=True, https_compatible=True)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == "rh2"
        peer = Peer(stream, is_server=True)
        async with served(peer):
            yield peer, host


@asynccontextmanager
async def served(peer: Peer) -> AsyncIterator[None]:
    async with peer.stream.transport_stream, trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def endpoint(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    """A TCP endpoint; gives its port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    """Answers when the other side has said all: half-close, both ways."""
    octets = b""
    while data := await stream.receive_some():
        octets += data
    await stream.send_all(octets)
    await stream.send_eof()


async def greet(server: Peer, challenge: str | None = None) -> int:
    """Ask the agent who it is; returns the number of the stream."""
    who = [(":method", "GET"), (":scheme", "https"), (":authority", "agent"), (":path", WHO)]
    about = [("tunneld-server-id", "other"), ("tunneld-server-count", "1")]
    if challenge is not None:
        about.append(("tunneld-challenge", challenge))
    number = await server.request(who + about, end=True)
    await server.until(lambda: number in server.ended)
    return number


async def test_our_agent_says_who_it_is(pki: Path, tmp_path: Path) -> None:
    async with other_server(pki, tmp_path) as (server, _):
        number = await greet(server)
        assert server.headers[number][":status"] == "200"
        answer = json.loads(server.body[number])
    assert answer["agent-id"] == "home"
    assert answer["identifiers"] == "default-route=true"
    assert answer["capabilities"] == ["connect", "rules", "leave"]


def prove(token: str, challenge: str, agent_id: str) -> str:
    """Section 3.1."""
    client_key = hmac.digest(token.encode(), b"tunneld token", "sha256")
    stored = hashlib.sha256(client_key).digest()
    key_id = hashlib.sha256(b"tunneld key id" + stored).hexdigest()[:16]
    mask = hmac.digest(stored, bytes.fromhex(challenge) + b"\0" + agent_id.encode(), "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, mask, strict=True))
    return f"Proof {key_id} {proof.hex()}"


@pytest.mark.parametrize(
    ("challenge", "authorization"),
    [
        (None, "Bearer tnl_home"),
        ("ab" * 32, prove("tnl_home", "ab" * 32, "home")),
        ("", ""),
        ("AB" * 32, ""),
        ("ab" * 31 + "a", ""),
    ],
)
async def test_our_agent_proves_its_token_where_it_is_challenged(
    pki: Path, tmp_path: Path, challenge: str | None, authorization: str
) -> None:
    async with other_server(pki, tmp_path, "tnl_home") as (server, _):
        number = await greet(server, challenge)
        answer = json.loads(server.body[number])
    assert answer["authorization"] == authorization


async def test_our_agent_carries_a_connection_with_half_close(pki: Path, tmp_path: Path) -> None:
    async with other_server(pki, tmp_path) as (server, _), endpoint(echo) as port:
        number = await server.connect(port)
        assert server.headers[number] == {
            ":status": "200",
            "tunneld-address": f"127.0.0.1:{port}",
        }
        server.h2.send_data(number, b"hello", end_stream=True)
        await server.flush()
        await server.until(lambda: number in server.ended)
        assert server.body[number] == b"hello"


async def test_our_agent_says_why_a_dial_failed(pki: Path, tmp_path: Path) -> None:
    async with other_server(pki, tmp_path) as (server, _):
        (unused,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = unused.socket.getsockname()[1]
        await unused.aclose()
        number = await server.connect(port)
        await server.until(lambda: number in server.ended)
        head = server.headers[number]
    text = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert head[":status"] == "502"
    assert head["proxy-status"] == (f'tunneld-agent; error=connection_refused; details="{text}"')
    assert server.body[number].decode() == text


async def test_a_reset_of_the_endpoint_is_a_reset_of_the_stream(pki: Path, tmp_path: Path) -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        abort_socket(stream.socket._sock)  # type: ignore[attr-defined]

    async with other_server(pki, tmp_path) as (server, _), endpoint(reset) as port:
        number = await server.connect(port)
        server.h2.send_data(number, b"x")
        await server.flush()
        await server.until(lambda: number in server.resets)
        assert server.resets[number] == CONNECT_ERROR
        assert number not in server.ended


async def test_a_reset_of_the_stream_is_a_reset_of_the_endpoint(pki: Path, tmp_path: Path) -> None:
    broken = trio.Event()

    async def expect_reset(stream: trio.SocketStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        broken.set()

    async with other_server(pki, tmp_path) as (server, _), endpoint(expect_reset) as port:
        number = await server.connect(port)
        server.h2.reset_stream(number, CONNECT_ERROR)
        await server.flush()
        with trio.fail_after(20):
            await broken.wait()


async def test_our_agent_drains(pki: Path, tmp_path: Path) -> None:
    async with other_server(pki, tmp_path) as (server, host), endpoint(echo) as port:
        await greet(server)
        number = await server.connect(port)
        host.drain.set()
        await server.until(lambda: bool(server.goaways))
        assert server.goaways == [2**31 - 1]
        server.h2.send_data(number, b"still carried", end_stream=True)
        await server.flush()
        await server.until(lambda: server.closed)
        assert server.body[number] == b"still carried"
        assert server.goaways == [2**31 - 1, number]


# -- another agent, our server ----------------------------------------------------------------


class OtherAgent(Peer):
    """Echoes what is dialled on port 7; knows no other name or port. May have a token."""

    token = ""

    async def take(self, event: h2.events.Event) -> None:
        await super().take(event)
        if isinstance(event, h2.events.RequestReceived):
            number = event.stream_id or 0
            self.answer(number, self.headers[number])
        elif isinstance(event, h2.events.StreamEnded) and self.body[event.stream_id or 0]:
            number = event.stream_id or 0
            self.h2.send_data(number, self.body[number], end_stream=True)

    def answer(self, number: int, head: dict[str, str]) -> None:
        if head.get(":path") == WHO:
            about = {"agent-id": "home", "later": "versions may add"}
            if self.token:
                about["authorization"] = prove(self.token, head["tunneld-challenge"], "home")
            body = json.dumps(about).encode()
            self.h2.send_headers(number, [(":status", "200")])
            self.h2.send_data(number, body, end_stream=True)
        elif head[":authority"].endswith(":7"):
            self.h2.send_headers(number, [(":status", "200")])
        else:
            why = 'other; error=dns_error; details="no such \\"name\\""'
            headers = [(":status", "502"), ("proxy-status", why)]
            self.h2.send_headers(number, headers, end_stream=True)


@asynccontextmanager
async def other_agent(pki: Path, tmp_path: Path, token: str = "") -> AsyncIterator[client.Client]:
    """Ours are server and client. The agent has a token, or a certificate."""
    secrets = tmp_path / "secrets"
    secretsfile.add(secrets, of_token("home", "tnl_home"))
    tunnel = TunnelListener(
        listen="127.0.0.1:0",
        cert=str(pki / "agent/server.crt"),
        key=str(pki / "agent/server.key"),
        client_ca="" if token else str(pki / "agent/ca.crt"),
        secrets=str(secrets) if token else "",
    )
    frontend = Frontend(listen=f"unix:{tmp_path}/front")
    reactor = Reactor()
    host = host_of("server", tmp_path, reactor)
    role = ServerRole(
        ServerConfig(policy=OPEN_SERVER, name="server", frontends=(frontend,), tunnel=tunnel), host
    )
    context = ssl.create_default_context(cafile=pki / "agent/ca.crt")
    if not token:
        context.load_cert_chain(pki / "agent/agent.crt", pki / "agent/agent.key")
    context.set_alpn_protocols(["rh2"])
    async with running(role, reactor) as (_, address):
        port = int(address.rpartition(":")[2])
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        name = "127.0.0.1"
        stream = trio.SSLStream(tcp, context, server_hostname=name, https_compatible=True)
        await stream.do_handshake()
        agent = OtherAgent(stream, is_server=False)
        agent.token = token
        async with served(agent):
            with trio.fail_after(20):
                while not role.agents():  # noqa: ASYNC110 - nothing tells us
                    await trio.sleep(0.01)
            async with client.connect(f"unix:{tmp_path}/front") as clients:
                yield clients


@pytest.mark.parametrize("token", ["", "tnl_home"])
async def test_our_server_dials_through_another_agent(
    pki: Path, tmp_path: Path, token: str
) -> None:
    async with other_agent(pki, tmp_path, token) as clients:
        stream = await clients.dial("anywhere", 7)
        await stream.send_all(b"hello")
        await stream.send_eof()
        assert await stream.receive_some() == b"hello"
        assert await stream.receive_some() == b""


async def test_our_server_passes_another_agents_reason_on(pki: Path, tmp_path: Path) -> None:
    async with other_agent(pki, tmp_path) as clients:
        with pytest.raises(client.DialError) as caught:
            await clients.dial("anywhere", 8)
    assert caught.value.code == "dns"
    assert caught.value.message == 'no such "name"'
