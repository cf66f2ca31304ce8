"""The server role: its listeners, which agents it takes, and how it drains."""

import json
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from ctl.messages import ControlError
from frames import Role as Http2Role
from tests.tunneld.peers import ESTABLISHED, connect, open_tls, open_unix, receive_all
from tests.tunneld.tunnelworld import World, open_world
from tunneld import rh2
from tunneld.config import Frontend
from tunneld.relay import Relay
from tunneld.role import RoleError
from tunneld.server.role import ServerRole
from tunneld.session import Session, SessionError
from tunneld.socketend import SocketEnd
from tunneld.streamend import StreamEnd
from tunneld.tlscontext import client_context
from tunneld.transport.plain import PlainTransport
from tunneld.transport.stream import connect_tcp, connect_unix, handshake
from tunneld.transport.tls import TlsTransport


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def test_it_tells_where_it_listens(world: World) -> None:
    frontend, unix, tunnel = world.addresses
    assert frontend.startswith("127.0.0.1:")
    assert tunnel.startswith("127.0.0.1:")
    assert unix.endswith("/front.sock")
    assert (await trio.Path(world.unix_frontend).stat()).st_mode & 0o777 == 0o660


async def test_nothing_of_it_stays_when_it_is_cancelled(world: World) -> None:
    path = world.unix_frontend
    peer = await open_tls(world.frontend, world.pki)
    world.server_scope.cancel()
    await world.server_done.wait()
    assert not await trio.Path(path).exists()
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(*world.frontend)
    assert await peer.receive_some() == b""
    await trio.aclose_forcefully(peer.stream)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"listen": "192.0.2.1:0"}, "cannot listen on 192.0.2.1:0: Cannot assign requested"),
        ({"listen": "nonsense"}, "cannot listen: 'nonsense' has no port"),
        ({"cert": "missing.crt"}, "cannot use certificate .*missing.crt.*No such file"),
        ({"key": "agent/agent.key"}, "expected PEM files that belong together"),
        ({"client_ca": "frontend/client.key"}, "cannot use CA certificates"),
    ],
)
async def test_what_it_cannot_start_with_is_named(
    world: World, change: dict[str, str], text: str
) -> None:
    frontend = msgspec.structs.replace(world.server_config.frontends[0], **change)
    config = msgspec.structs.replace(world.server_config, frontends=(frontend,))
    with pytest.raises(RoleError, match=text):
        await ServerRole(config, world.host("other")).run()


async def test_an_address_in_use_is_named(world: World) -> None:
    frontend = msgspec.structs.replace(
        world.server_config.frontends[0], listen="{}:{}".format(*world.frontend)
    )
    config = msgspec.structs.replace(world.server_config, frontends=(frontend,))
    with pytest.raises(RoleError, match="stop what listens there"):
        await ServerRole(config, world.host("other")).run()


async def test_a_unix_socket_in_use_is_left_alone_and_a_stale_one_replaced(
    world: World, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(
        world.server_config, frontends=(Frontend(listen=f"unix:{world.unix_frontend}"),)
    )
    with pytest.raises(RoleError, match="Address already in use"):
        await ServerRole(config, world.host("other")).run()
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    config = msgspec.structs.replace(config, frontends=(Frontend(listen=f"unix:{stale}"),))
    async with trio.open_nursery() as nursery:
        await nursery.start(ServerRole(config, world.host("other")).run)
        await (await open_unix(str(stale))).stream.aclose()
        nursery.cancel_scope.cancel()
    assert not stale.exists()


# -- which agents it takes --------------------------------------------------------------------


def answers(reply: Callable[[StreamEnd], None]) -> Callable[[StreamEnd, object], None]:
    def on_request(end: StreamEnd, headers: object) -> None:
        reply(end)

    return on_request


async def agent_session(
    world: World, on_request: Callable[[StreamEnd, object], None], alpn: str = rh2.ALPN
) -> Session:
    """An agent of its own kind, as far as TLS."""
    pki = world.pki / "agent"
    context = client_context(
        str(pki / "agent.crt"), str(pki / "agent.key"), str(pki / "ca.crt"), [alpn]
    )
    host, port = world.tunnel_address.rsplit(":", 1)
    sock = await connect_tcp(host, int(port))
    transport = TlsTransport(sock, context, server_side=False, server_hostname=host)
    await handshake(transport)
    return Session(world.reactor, transport, Http2Role.SERVER, on_request=on_request)


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (200, '{"agent-id": "other"}', "agent id 'other' is not one its certificate allows: demo"),
        (200, '{"agent-id": 5}', "unusable answer of the agent: Expected `str`"),
        (200, "nonsense", "unusable answer of the agent: JSON is malformed"),
        (
            200,
            '{"agent-id": "demo", "identifiers": "host=%zz"}',
            "unusable answer of the agent: fail to parse url encoded string",
        ),
        (404, '{"agent-id": "demo"}', "asked who it is, it answers 404"),
        (200, " " * 70_000, "no answer to who it is, of at most 65536 octets"),
    ],
)
async def test_an_agent_that_may_not_join_is_told_why(
    pki: Path, tmp_path: Path, status: int, body: str, text: str
) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        session = await agent_session(world, answers(lambda end: end.reply(status, body)))
        with pytest.raises(SessionError) as caught:
            await session.run()
        assert text in str(caught.value)
        assert world.server.agents() == []
        await world.until(lambda: not world.reactor.served)


async def test_an_agent_that_does_not_say_who_it_is_is_refused(
    pki: Path, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        session = await agent_session(world, answers(lambda end: None))
        with pytest.raises(SessionError, match="no answer to who it is"):
            await session.run()
        assert world.server.agents() == []


async def test_an_agent_that_vanishes_before_it_is_asked_hurts_nobody(
    pki: Path, tmp_path: Path
) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        for _ in range(20):
            session = await agent_session(world, answers(lambda end: None))
            session._transport.abort()
        await world.start_agent()
        await world.connected()


async def test_an_agent_that_vanishes_when_it_has_answered_is_not_listed(
    pki: Path, tmp_path: Path
) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:

        def reply_and_vanish(end: StreamEnd) -> None:
            end.reply(200, json.dumps({"agent-id": "demo"}))
            scope.cancel()

        for _ in range(20):
            session = await agent_session(world, answers(reply_and_vanish))
            with trio.CancelScope() as scope:
                await session.run()
        await world.until(lambda: not world.reactor.served)
        assert world.server.agents() == []


async def test_a_peer_without_the_tunnels_protocol_is_refused(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        session = await agent_session(world, answers(lambda end: None), alpn="h2")
        with pytest.raises(SessionError):
            await session.run()


async def test_a_clients_certificate_opens_no_tunnel(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        context = ssl.create_default_context(cafile=str(pki / "agent/ca.crt"))
        context.load_cert_chain(pki / "frontend/client.crt", pki / "frontend/client.key")
        host, port = world.tunnel_address.rsplit(":", 1)
        peer = await open_tls((host, int(port)), pki, context=context)
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            await peer.receive_some()
        await trio.aclose_forcefully(peer.stream)


async def test_garbage_on_the_tunnels_listener_hurts_nobody(world: World) -> None:
    host, port = world.tunnel_address.rsplit(":", 1)
    for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(1000)):
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(garbage)
        await stream.send_eof()
        while await stream.receive_some(1000):
            pass
        await stream.aclose()
    assert len(world.server.agents()) == 1


async def test_several_agents_share_the_dials_by_load(
    world: World, tmp_path: Path, pki: Path
) -> None:
    first = world.agent
    await world.start_agent()
    await world.until(lambda: len(world.server.agents()) == 2)
    port = await world.endpoint(echo)
    peers = [await open_unix(world.unix_frontend) for _ in range(6)]
    for peer in peers:
        assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    assert [row["conns"] for row in world.server.agents()] == [3, 3]
    assert len(first.conns()) == len(world.agent.conns()) == 3
    for peer in peers:
        await peer.stream.aclose()


# -- for the control socket -------------------------------------------------------------------


async def test_a_local_dial_is_carried_behind_its_acceptance(world: World) -> None:
    port = await world.endpoint(echo)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    accepted: list[str] = []

    def accept(agent: str) -> bytes:
        accepted.append(agent)
        return b"accepted "

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.server.dial_local, theirs, "127.0.0.1", port, accept)
        ours.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        await stream.send_all(b"hello")
        await stream.send_eof()
        got = b""
        async for data in stream:
            got += data
    assert (got, accepted) == (b"accepted hello", ["demo"])
    assert theirs.fileno() == -1
    await stream.aclose()
    await world.at_rest()


async def test_a_local_dial_that_fails_leaves_the_socket_open(world: World) -> None:
    ours, theirs = socket.socketpair()
    with pytest.raises(ControlError) as caught:
        await world.server.dial_local(theirs, "127.0.0.1", 1, lambda agent: b"never")
    assert caught.value.code == "refused"
    theirs.sendall(b"still there")
    assert ours.recv(100) == b"still there"
    ours.close()
    theirs.close()


async def test_a_local_client_that_has_gone_leaves_nothing(world: World) -> None:
    port = await world.endpoint(echo)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.close()
    await world.server.dial_local(theirs, "127.0.0.1", port, lambda agent: b"accepted")
    assert theirs.fileno() == -1
    await world.at_rest()


# -- draining ---------------------------------------------------------------------------------


async def test_a_drain_lets_connections_end_and_takes_no_new_ones(world: World) -> None:
    port = await world.endpoint(echo)
    peer = await open_tls(world.frontend, world.pki)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    idle = await open_tls(world.frontend, world.pki)
    world.server_host.drain.set()
    assert await receive_all(idle) == b""
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream(*world.frontend)
    assert not world.server_done.is_set()
    await peer.send_all(b"still served")
    assert await peer.receive_some() == b"still served"
    await peer.send_eof()
    assert await receive_all(peer) == b""
    await world.server_done.wait()
    await trio.aclose_forcefully(peer.stream)
    await trio.aclose_forcefully(idle.stream)


async def test_a_drain_lets_the_streams_of_http2_clients_end(world: World) -> None:
    """The client is a session of ours: the h2 library takes no frame behind a GOAWAY."""
    port = await world.endpoint(echo)
    transport = PlainTransport(await connect_unix(world.unix_frontend))
    client = Session(world.reactor, transport, Http2Role.CLIENT)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    carried = PlainTransport(theirs)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_session, client))
        end = client.open([(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:%d" % port)])
        await end.arrived.wait()
        nursery.start_soon(Relay(SocketEnd(world.reactor, carried, "client"), end).run)
        world.server_host.drain.set()
        await world.until(lambda: client.draining)
        nursery.start_soon(send_and_end, stream, bytes(300_000))
        got = 0
        async for data in stream:
            got += len(data)
        assert got == 300_000
    await world.server_done.wait()
    await stream.aclose()


async def test_a_drained_server_sends_its_agents_away_in_peace(world: World) -> None:
    world.server_host.drain.set()
    await world.server_done.wait()
    await world.until(lambda: any("the server is about to go" in each[2] for each in world.states))


async def test_a_drain_without_anybody_ends_at_once(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        world.server_host.drain.set()
        await world.server_done.wait()


async def run_session(session: Session, task_status: trio.TaskStatus[None]) -> None:
    await session.run(task_status=task_status)


async def send_and_end(stream: trio.SocketStream, octets: bytes) -> None:
    await stream.send_all(octets)
    await stream.send_eof()
