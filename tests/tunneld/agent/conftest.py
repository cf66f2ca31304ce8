"""A running tunnel for the tests here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tunneld.tunnelworld import World, open_world


@pytest.fixture
async def world(pki: Path, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(pki, tmp_path) as opened:
        yield opened
