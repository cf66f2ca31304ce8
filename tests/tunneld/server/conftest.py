"""A running tunnel for the tests here; programs of konnectivity for a server that is alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tunneld.server.konnectivitypeers import (
    Call,
    GrpcClient,
    is_clean,
    open_agent,
    open_client,
    tunnels,
)
from tests.tunneld.tunnelworld import World, open_world


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(pki, tmp_path) as opened:
        yield opened


@pytest.fixture
async def agent(world: World) -> AsyncIterator[Call]:
    """One of konnectivity's. At the end no connection may have left anything with its tunnel."""
    async with open_agent(world) as opened:
        yield opened
        if not opened.stream.ended:
            await world.until(lambda: is_clean(tunnels(world)[0]))


@pytest.fixture
async def client(world: World) -> AsyncIterator[GrpcClient]:
    async with open_client(world) as opened:
        yield opened
