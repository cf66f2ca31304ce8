"""What an agent does about a server's requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.tunneld.peers import connect, open_unix
from tests.tunneld.tunnelworld import open_world
from tunneld import log


@pytest.fixture
def logged() -> Iterator[list[tuple[str | None, str]]]:
    """Role and event of all that is logged during the test."""
    seen: list[tuple[str | None, str]] = []
    log.configure([lambda role, line: seen.append((role, line.event))])
    yield seen
    structlog.reset_defaults()


async def test_what_it_logs_about_requests_is_in_its_roles_log(
    pki: Path, tmp_path: Path, logged: list[tuple[str | None, str]]
) -> None:
    async with open_world(pki, tmp_path, agent=False) as world:
        with log.role_context("home"):
            await world.start_agent()
        await world.connected()
        peer = await open_unix(world.unix_frontend)
        await connect(peer, "nowhere.invalid:1")
        await peer.stream.aclose()
    assert ("home", "tunnel is up") in logged
    assert ("home", "dial failed") in logged
