"""The agent role: how it connects, comes back, notices a dead server, and drains."""

import itertools
import re
import socket
import ssl
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.tunneld.peers import ESTABLISHED, connect, open_unix, receive_all
from tests.tunneld.tunnelworld import World, open_world
from tunneld.agent.role import AgentRole
from tunneld.certificate import Kind
from tunneld.pki import Pki
from tunneld.role import RoleError, RoleState


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def reason_for_backoff(world: World, **change: str) -> str:
    """What an agent with another configuration says after its first try."""
    config = msgspec.structs.replace(world.agent_config, server=world.tunnel_address)
    role = AgentRole(msgspec.structs.replace(config, **change), world.host("other"))
    async with trio.open_nursery() as nursery:
        await nursery.start(role.run)
        await world.until(lambda: world.states[-1][1] is RoleState.BACKOFF)
        nursery.cancel_scope.cancel()
    return world.states[-1][2]


async def test_it_says_when_it_is_connected(world: World) -> None:
    assert world.states == [
        ("agent", RoleState.STARTING, f"connecting to {world.tunnel_address}"),
        ("agent", RoleState.READY, f"connected to {world.tunnel_address}"),
    ]
    (row,) = world.server.agents()
    assert (row["id"], row["state"], row["conns"]) == ("demo", "ready", 0)


async def test_it_comes_back_when_the_server_does(world: World) -> None:
    address = world.tunnel_address
    world.server_scope.cancel()
    await world.server_done.wait()
    await world.until(lambda: world.states[-1][1] is RoleState.BACKOFF)
    assert world.states[-1][2].startswith(f"no tunnel to {address}: ")
    tunnel = msgspec.structs.replace(world.server_config.tunnel, listen=address)
    world.server_config = msgspec.structs.replace(world.server_config, tunnel=tunnel)
    await world.start_server()
    await world.connected()
    await world.until(lambda: world.states[-1][1] is RoleState.READY)
    port = await world.endpoint(echo)
    peer = await open_unix(world.unix_frontend)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    await peer.stream.aclose()
    await world.at_rest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"server": "127.0.0.1:1"}, "no tunnel to 127.0.0.1:1: .*Connection refused|all attempts"),
        ({"server_name": "elsewhere"}, "the server's certificate is not accepted: Hostname mis"),
        ({"ca": "frontend/ca.crt"}, "the server's certificate is not accepted: "),
        (
            {"cert": "frontend/client.crt", "key": "frontend/client.key", "agent_id": "demo"},
            "TLS.*UNKNOWN_CA",
        ),
        ({"agent_id": "other"}, "agent id 'other' is not one its certificate allows: demo"),
    ],
)
async def test_why_there_is_no_tunnel_is_said(
    world: World, change: dict[str, str], reason: str
) -> None:
    said = await reason_for_backoff(world, **change)
    assert re.search(reason, said), said


async def test_a_frontend_is_no_place_for_an_agent(world: World) -> None:
    said = await reason_for_backoff(
        world,
        server=world.addresses[0],
        ca="frontend/ca.crt",
        cert="frontend/client.crt",
        key="frontend/client.key",
        agent_id="demo",
    )
    assert said.endswith(": unknown service AgentService: is that a tunnel listener?")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"server": "nonsense"}, "server: 'nonsense' has no port"),
        ({"cert": "missing.crt"}, "cannot use certificate .*missing.crt"),
        ({"ca": "agent/agent.key"}, "cannot use CA certificates"),
    ],
)
async def test_what_it_cannot_start_with_is_named(
    world: World, change: dict[str, str], text: str
) -> None:
    config = msgspec.structs.replace(world.agent_config, server="127.0.0.1:1")
    with pytest.raises(RoleError, match=text):
        await AgentRole(msgspec.structs.replace(config, **change), world.host("other")).run()


async def test_a_silent_server_is_given_up_and_tried_again_ever_later(
    pki: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """One that accepts, and never says a word of TLS."""
    times: list[float] = []

    async def silent(stream: trio.SocketStream) -> None:
        times.append(trio.current_time())
        await stream.receive_some(10_000)
        await trio.sleep_forever()

    options = {"backoff_min": 1.0, "backoff_max": 4.0}
    async with open_world(pki, tmp_path, agent=False, agent_options=options) as world:
        port = await world.endpoint(silent)
        world.addresses[-1] = f"127.0.0.1:{port}"
        await world.start_agent()
        await trio.sleep(100)
        assert world.states[-1][2] == f"no tunnel to 127.0.0.1:{port}: no answer in 10 s"
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(10 <= gap <= 14.001 for gap in gaps)
    assert len(gaps) >= 6


# -- draining ---------------------------------------------------------------------------------


async def test_a_drained_agent_finishes_and_takes_no_more(world: World) -> None:
    port = await world.endpoint(echo)
    peer = await open_unix(world.unix_frontend)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    world.agent_host.drain.set()
    await world.until(lambda: world.server.agents()[0]["state"] == "draining")
    other = await open_unix(world.unix_frontend)
    assert (await connect(other, f"127.0.0.1:{port}")).startswith(b"HTTP/1.1 503 ")
    await other.stream.aclose()
    await peer.send_all(b"still served")
    assert await peer.receive_some() == b"still served"
    await peer.send_eof()
    assert await receive_all(peer) == b""
    await world.agent_done.wait()
    assert world.server.agents() == []
    await peer.stream.aclose()


async def test_an_idle_agent_drains_at_once(world: World) -> None:
    world.agent_host.drain.set()
    await world.agent_done.wait()
    await world.until(lambda: world.server.agents() == [])


async def test_an_agent_without_a_server_drains_at_once(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        world.addresses[-1] = "127.0.0.1:1"
        await world.start_agent()
        world.agent_host.drain.set()
        await world.agent_done.wait()


async def test_dials_that_cross_a_drain_are_served_or_refused_with_a_reason(world: World) -> None:
    port = await world.endpoint(echo)
    replies: list[bytes] = []

    async def dial() -> None:
        peer = await open_unix(world.unix_frontend)
        replies.append(await connect(peer, f"127.0.0.1:{port}"))
        await peer.stream.aclose()

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(dial)
            if number == 20:
                world.agent_host.drain.set()
            await trio.lowlevel.checkpoint()
    await world.agent_done.wait()
    assert {reply.split(b" ")[1] for reply in replies} <= {b"200", b"503"}


async def test_it_says_who_it_is_by_its_certificate(pki: Path, tmp_path: Path) -> None:
    Pki(pki).issue(Kind.AGENT, "second", force=True)
    options = {"cert": "agent/second.crt", "key": "agent/second.key"}
    async with open_world(pki, tmp_path, agent_options=options) as world:
        assert world.server.agents()[0]["id"] == "second"


# -- connections ------------------------------------------------------------------------------


async def serve_tls(world: World, *alpn: str) -> tuple[str, list[str | None]]:
    """A listener that speaks ``alpn``: its address, and what it chose for each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world.pki / "agent/server.crt", world.pki / "agent/server.key")
    if alpn:
        context.set_alpn_protocols(alpn)
    chosen: list[str | None] = []

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True)
        await tls.do_handshake()
        chosen.append(tls.selected_alpn_protocol())
        await tls.receive_some()

    return f"127.0.0.1:{await world.endpoint(serve)}", chosen


async def test_a_server_without_a_protocol_of_ours_is_none(world: World) -> None:
    address, _ = await serve_tls(world)
    said = await reason_for_backoff(world, server=address)
    assert said.endswith(": it speaks neither rh2 nor h2: is that a tunnel listener?")


@pytest.mark.parametrize(
    ("spoken", "choice"),
    [(["h2", "rh2", "x"], "x"), (["h2"], "h2"), (["rh2", "h2"], "rh2")],
)
async def test_other_protocols_may_be_offered_too(
    world: World, spoken: list[str], choice: str
) -> None:
    """OpenSSL's server goes by its own order of preference, as Go's does."""
    address, chosen = await serve_tls(world, *sorted(spoken, key=lambda name: name != choice))
    config = msgspec.structs.replace(world.agent_config, server=address, alpn=("x",))
    async with trio.open_nursery() as nursery:
        await nursery.start(AgentRole(config, world.host("other")).run)
        await world.until(lambda: chosen)
        nursery.cancel_scope.cancel()
    assert chosen[0] == choice


async def test_tunnels_break_when_nobody_acknowledges(world: World) -> None:
    (link,) = world.agent.links
    sock = link.session._transport.sock  # type: ignore[attr-defined]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
