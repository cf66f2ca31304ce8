"""A program whose certificate files change."""

from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from tests.tunneld.peers import open_tls
from tests.tunneld.tunnelworld import open_world
from tunneld.dropin.followfiles import follow_files
from tunneld.registrar import Registrar


async def test_a_new_certificate_is_shown_and_a_bad_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registrar = Registrar(tmp_path / "pki")
    registrar.init(["127.0.0.1"], "demo")
    monkeypatch.chdir(registrar.directory)  # where relative names of a program's flags start
    async with open_world(registrar.directory, tmp_path) as world, trio.open_nursery() as nursery:
        nursery.start_soon(follow_files, world.server, world.server_config)

        async def shown() -> bytes | None:
            peer = await open_tls(world.frontend, world.pki)
            await trio.aclose_forcefully(peer.stream)
            return peer.tls.getpeercert(binary_form=True)

        first = await shown()
        registrar.renew(["frontend/server"])
        with trio.fail_after(20):
            while await shown() == first:  # noqa: ASYNC110 - the files are looked at now and then
                await trio.sleep(0.05)
        second = await shown()
        with capture_logs() as lines:
            (registrar.directory / "frontend/server.crt").write_text("nonsense")
            await world.until(lambda: any("not reloaded" in line["event"] for line in lines))
        assert await shown() == second
        nursery.cancel_scope.cancel()
