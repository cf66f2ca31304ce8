"""Certificates, CAs and revocation lists that change under a server with clients and agents."""

import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tests.tunneld.peers import (
    ESTABLISHED,
    TlsPeer,
    client_context,
    connect,
    open_h2,
    open_tls,
    receive_all,
)
from tests.tunneld.tunnelworld import World, open_world
from tunneld.certificate import Kind, make_crl, utc_now
from tunneld.config import ServerConfig
from tunneld.pki import Side
from tunneld.registrar import Registrar
from tunneld.role import RoleError

CRL = ("frontend/ca.crl",)


@pytest.fixture
async def world(registrar: Registrar, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(registrar.directory, tmp_path) as opened:
        yield opened


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)
    await stream.send_eof()


async def established(world: World, port: int, context: ssl.SSLContext | None = None) -> TlsPeer:
    peer = await open_tls(world.frontend, world.pki, context=context)
    assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
    return peer


async def assert_goes_on(peer: TlsPeer) -> None:
    await peer.send_all(b"still here")
    assert await peer.receive_some() == b"still here"


async def assert_refused(world: World, context: ssl.SSLContext, why: str) -> None:
    """TLS 1.3 has the server look at the client's certificate behind the client's handshake."""
    peer = await open_tls(world.frontend, world.pki, context=context)
    with pytest.raises(ssl.SSLError, match=why):
        await peer.receive_some()
    await trio.aclose_forcefully(peer.stream)


def reload(world: World, config: ServerConfig | None = None) -> list[tuple[str, str, str]]:
    """Have the server reload; what has changed."""
    prepared = world.server.prepare(config or world.server_config)
    prepared.commit()
    return [(each.field, each.old, each.new) for each in prepared.changes]


def with_lists(config: ServerConfig) -> ServerConfig:
    frontend = msgspec.structs.replace(config.frontends[0], crl=CRL)
    tunnel = msgspec.structs.replace(config.tunnel, crl=("agent/ca.crl",))
    return msgspec.structs.replace(
        config, frontends=(frontend, *config.frontends[1:]), tunnel=tunnel
    )


async def test_nothing_happens_when_nothing_has_changed(world: World) -> None:
    before = world.server._tls.tunnel()()
    assert reload(world) == []
    assert world.server._tls.tunnel()() is before


async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    world: World, registrar: Registrar
) -> None:
    port = await world.endpoint(echo)
    before = await established(world, port)
    registrar.renew(["frontend/server"])
    fields = [field for field, _, _ in reload(world)]
    assert fields == ["frontends[0].cert", "frontends[0].key"]
    after = await established(world, port)
    shown = [each.tls.getpeercert(binary_form=True) for each in (before, after)]
    assert shown[0] != shown[1]
    for peer in (before, after):
        await assert_goes_on(peer)
        await trio.aclose_forcefully(peer.stream)
    await world.at_rest()


@pytest.mark.parametrize(
    ("file", "octets", "text"),
    [
        ("server.crt", b"", "cannot use certificate .*server.crt"),
        ("server.crt", b"-----BEGIN CERTIFICATE-----\nMIIB", "cannot use certificate .*server.crt"),
        ("server.key", None, "No such file"),
        ("ca.crt", b"nonsense", "cannot use CA certificates"),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing(
    world: World, registrar: Registrar, file: str, octets: bytes | None, text: str
) -> None:
    port = await world.endpoint(echo)
    peer = await established(world, port)
    trusting = client_context(world.pki)
    path = registrar.directory / "frontend" / file
    if octets is None:
        path.unlink()
    else:
        path.write_bytes(octets)
    config = msgspec.structs.replace(world.server_config, dial_timeout=0.001)
    with pytest.raises(RoleError, match=text):
        world.server.prepare(config)
    await assert_goes_on(peer)
    again = await established(world, port, trusting)
    for each in (peer, again):
        await trio.aclose_forcefully(each.stream)
    await world.at_rest()


async def test_a_key_that_is_not_the_certificate_s_changes_nothing(
    world: World, registrar: Registrar
) -> None:
    other = registrar.key_path(Side.AGENT, "server").read_bytes()
    registrar.key_path(Side.FRONTEND, "server").write_bytes(other)
    with pytest.raises(RoleError, match="expected PEM files that belong together"):
        world.server.prepare(world.server_config)


async def test_clients_of_the_old_ca_and_the_new_one_are_taken_until_the_old_one_ends(
    world: World, registrar: Registrar
) -> None:
    port = await world.endpoint(echo)
    old = client_context(world.pki)
    first = await established(world, port, old)
    registrar.add_authority(Side.FRONTEND)
    old.load_verify_locations(registrar.certificate_path(Side.FRONTEND, "ca"))
    registrar.renew(["client", "frontend/server"])
    assert [field for field, _, _ in reload(world)] == [
        "frontends[0].cert",
        "frontends[0].key",
        "frontends[0].client-ca",
    ]
    new = client_context(world.pki)
    peers = [first, await established(world, port, old), await established(world, port, new)]
    registrar.drop_authority(Side.FRONTEND)
    reload(world)
    await assert_refused(world, old, "UNKNOWN_CA")
    peers.append(await established(world, port, new))
    for peer in peers:  # who was in stays in
        await assert_goes_on(peer)
        await trio.aclose_forcefully(peer.stream)
    await world.at_rest()


async def test_a_revoked_client_is_refused_and_its_connections_end(
    world: World, registrar: Registrar
) -> None:
    port = await world.endpoint(echo)
    registrar.issue(Kind.CLIENT, "other")
    honest = client_context(world.pki)
    honest.load_cert_chain(
        registrar.certificate_path(Side.FRONTEND, "other"),
        registrar.key_path(Side.FRONTEND, "other"),
    )
    revoked = client_context(world.pki)
    staying = await established(world, port, honest)
    going = await established(world, port, revoked)
    idle = await open_tls(world.frontend, world.pki, context=revoked)
    await world.until(lambda: len(world.server._frontends.peers) == 3)
    registrar.revoke("client")
    registrar.refresh_lists()
    reload(world, with_lists(world.server_config))
    assert await receive_all_or_reset(going) == b""
    assert await receive_all_or_reset(idle) == b""
    await assert_refused(world, revoked, "CERTIFICATE_REVOKED")
    await assert_goes_on(staying)
    again = await established(world, port, honest)
    for peer in (staying, going, idle, again):
        await trio.aclose_forcefully(peer.stream)
    await world.at_rest()


async def test_a_revoked_client_amid_its_handshake_is_found_later(
    registrar: Registrar, tmp_path: Path
) -> None:
    options = {"head_timeout": 0.5}
    async with open_world(registrar.directory, tmp_path, server_options=options) as world:
        port = await world.endpoint(echo)
        peer = TlsPeer(
            await trio.open_tcp_stream(*world.frontend), client_context(world.pki), "127.0.0.1"
        )
        await world.until(lambda: len(world.server._frontends.peers) == 1)
        registrar.revoke("client")
        registrar.refresh_lists()
        reload(world, msgspec.structs.replace(with_lists(world.server_config)))
        await trio.testing.wait_all_tasks_blocked()
        await peer.handshake()  # by what the server knew when it accepted
        assert await connect(peer, f"127.0.0.1:{port}") == ESTABLISHED
        assert await receive_all_or_reset(peer) == b""
        await trio.aclose_forcefully(peer.stream)
        await world.at_rest()


async def receive_all_or_reset(peer: TlsPeer) -> bytes:
    with trio.fail_after(10):
        try:
            return await receive_all(peer)
        except (ConnectionError, trio.BrokenResourceError):
            return b""


async def test_the_streams_of_a_revoked_http2_client_end(
    world: World, registrar: Registrar
) -> None:
    port = await world.endpoint(echo)
    peer = await open_tls(world.frontend, world.pki, "h2")
    async with open_h2(peer) as client:
        stream = await client.connect(f"127.0.0.1:{port}")
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        registrar.revoke("client")
        registrar.refresh_lists()
        reload(world, with_lists(world.server_config))
        await world.until(lambda: not world.server.conns())
    await world.at_rest()


async def test_the_tunnel_of_a_revoked_agent_ends_and_it_does_not_come_back(
    world: World, registrar: Registrar
) -> None:
    registrar.revoke("agent")
    registrar.refresh_lists()
    reload(world, with_lists(world.server_config))
    await world.until(lambda: not world.server.agents())
    await world.until(lambda: any("CERTIFICATE_REVOKED" in each[2] for each in world.states))
    assert world.server.agents() == []
    registrar.issue(Kind.AGENT, "demo")
    for suffix in (".crt", ".key"):
        new = registrar.directory / "agent" / f"demo{suffix}"
        new.replace(registrar.directory / "agent" / f"agent{suffix}")
    config = msgspec.structs.replace(world.agent_config, server=world.tunnel_address)
    world.agent.prepare(config).commit()
    await world.connected()


async def test_a_list_that_has_expired_lets_nobody_in(world: World, registrar: Registrar) -> None:
    authority = registrar._authority(Side.FRONTEND)
    registrar.refresh_lists()
    old = make_crl(authority, {}, 1, utc_now() - timedelta(days=40))
    write_list(registrar, old)
    reload(world, with_lists(world.server_config))
    await assert_refused(world, client_context(world.pki), "CERTIFICATE_EXPIRED")
    registrar.refresh_lists()
    reload(world, with_lists(world.server_config))
    peer = await established(world, await world.endpoint(echo))
    await trio.aclose_forcefully(peer.stream)
    await world.at_rest()


async def test_a_list_that_another_ca_of_that_name_signed_is_not_taken(
    world: World, registrar: Registrar, tmp_path: Path
) -> None:
    registrar.refresh_lists()
    impostor = Registrar(tmp_path / "other")
    impostor.init()
    write_list(registrar, make_crl(impostor._authority(Side.FRONTEND), {}, 1, utc_now()))
    with pytest.raises(RoleError, match="is not signed by the CA of that name"):
        world.server.prepare(with_lists(world.server_config))


def write_list(registrar: Registrar, crl: object) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    assert isinstance(crl, x509.CertificateRevocationList)
    registrar.list_path(Side.FRONTEND).write_bytes(crl.public_bytes(Encoding.DER))


async def test_settings_change_for_what_comes(world: World) -> None:
    slow = await world.endpoint(echo)
    config = msgspec.structs.replace(
        world.server_config, head_timeout=0.05, konnectivity_wording=True
    )
    reload(world, config)
    peer = await open_tls(world.frontend, world.pki)
    with trio.fail_after(5):
        assert await receive_all(peer) == b""
    await trio.aclose_forcefully(peer.stream)
    again = await established(world, slow)
    await trio.aclose_forcefully(again.stream)
    await world.at_rest()


async def test_what_is_in_use_is_told_with_its_expiry(world: World) -> None:
    found = {(key, fact.subject) for key, fact in world.server.certificates()}
    assert found == {
        ("frontends[0].cert", "server"),
        ("frontends[0].client-ca", "tunneld frontend CA"),
        ("tunnel.cert", "server"),
        ("tunnel.client-ca", "tunneld agent CA"),
    }
