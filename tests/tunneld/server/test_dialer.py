"""Dials of a server, as far as neither frontends nor agents matter."""

from pathlib import Path

import trio

from tests.tunneld.peers import open_unix, receive_all
from tests.tunneld.tunnelworld import open_world


async def test_of_an_endless_destination_little_is_kept(pki: Path, tmp_path: Path) -> None:
    async with open_world(pki, tmp_path) as world:
        peer = await open_unix(world.unix_frontend)
        await peer.send_all(b"CONNECT " + b"a" * 50_000 + b":80 HTTP/1.1\r\n\r\n")
        assert b"more than 320 characters" in await receive_all(peer)
        await trio.aclose_forcefully(peer.stream)
        [record] = (await world.server.ask("trace.last", {}))["dials"]
        assert record["destination"] == "a" * 320
        assert len(record["error"]) < 200
        await world.at_rest()
