"""Programs for each test, in a directory of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tunneld.dropin.world import World, open_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world
