"""Labs that are torn down whatever a test did to them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.netns.programs import PLAIN, Site, kill_started, new_site

_TRY = "from netns import kernel; kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)"


@pytest.fixture(autouse=True)
def _no_program_outlives_its_test() -> Iterator[None]:
    yield
    kill_started()


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Site]:
    """A site for a lab of named namespaces; the test is marked `root`."""
    site = new_site(tmp_path)
    yield site
    site.down()
    assert site.remains() == []


@pytest.fixture
def rootless(tmp_path: Path) -> Iterator[Site]:
    """A site for a lab in a user namespace."""
    tried = subprocess.run([*PLAIN, sys.executable, "-c", _TRY], capture_output=True, check=False)
    need(tried.returncode == 0, "user namespaces for plain users, which this kernel forbids")
    site = new_site(tmp_path, PLAIN)
    yield site
    site.down()
    assert site.remains() == []


@pytest.fixture(params=[pytest.param("named", marks=pytest.mark.root), "rootless"])
def site(request: pytest.FixtureRequest) -> Site:
    """Each of the two kinds in turn."""
    found: Site = request.getfixturevalue(request.param)
    return found
