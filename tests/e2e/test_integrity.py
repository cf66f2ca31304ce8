"""Octets arrive whole or not at all, and one stalled reader is its own problem."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import PRIVATE, Lab, running
from tests.e2e.load import PORT

pytestmark = pytest.mark.e2e

MIB = 1 << 20


@pytest.fixture(scope="module")
def loaded(lab: Lab) -> Iterator[Lab]:
    """The lab with the test endpoint in `private`."""
    argv = [sys.executable, "-m", "tests.e2e.endpoint", PRIVATE, str(PORT), str(PORT + 1)]
    with running(lab.popen("private", *argv), b"ready"):
        yield lab


def load(lab: Lab, command: str, *numbers: int) -> Any:
    argv = [sys.executable, "-m", "tests.e2e.load", str(lab.pki), command, *map(str, numbers)]
    return json.loads(lab.exec("public", *argv).stdout)


def test_64_connections_carry_every_octet_with_half_close(loaded: Lab) -> None:
    result = load(loaded, "integrity", 64, 128 * MIB)
    assert result["right"] == result["of"] == 64


def test_the_200_comes_alone_before_an_endpoint_that_speaks_first(loaded: Lab) -> None:
    result = load(loaded, "banners", 300)
    assert result["right"] == result["of"]


def test_a_reset_is_no_clean_end(loaded: Lab) -> None:
    result = load(loaded, "cut")
    assert result["end"] != "clean"


def test_a_stalled_reader_stalls_only_itself(loaded: Lab) -> None:
    result = load(loaded, "isolation", 2)
    assert result["stalled"]["mb_per_s"] > 0
    assert result["stalled"]["echoes_per_s"] > 0


def test_nothing_stays_behind(loaded: Lab) -> None:
    assert loaded.daemon.json("conns")["conns"] == []
