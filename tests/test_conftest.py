"""The rule of conftest.py: with TUNNELD_REQUIRE a skip is a failure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest
from conftest import need

def test_needs_what_is_missing():
    need(False, "no such program: nft")

@pytest.mark.skipif(True, reason="not on this kernel")
def test_skips_by_marker():
    assert False

def test_needs_what_is_there():
    need(True, "")

@pytest.mark.root
def test_is_roots():
    assert True

@pytest.mark.plain
def test_is_a_plain_users():
    assert True

@pytest.mark.xfail
def test_fails_as_expected():
    assert False
"""
MODULE = 'import pytest\npytest.importorskip("no_such_module_of_ours")\n'
CONFTEST = Path(__file__).with_name("conftest.py")


def run_suite(directory: Path, require: str) -> str:
    shutil.copy(CONFTEST, directory / "conftest.py")
    (directory / "test_it.py").write_text(SUITE)
    (directory / "test_module.py").write_text(MODULE)
    settings = directory / "pytest.ini"
    settings.write_text("[pytest]\nmarkers =\n  root\n  plain\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(settings)]
    done = subprocess.run(
        [*command, f"--rootdir={directory}", "--continue-on-collection-errors", str(directory)],
        env={**os.environ, "TUNNELD_REQUIRE": require, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("unset", ["", "0"])
def test_what_is_missing_is_skipped(tmp_path: Path, unset: str) -> None:
    assert "2 passed, 4 skipped, 1 xfailed" in run_suite(tmp_path, unset)


def test_what_is_missing_fails_when_required(tmp_path: Path) -> None:
    out = run_suite(tmp_path, "1")
    assert "1 failed, 2 passed, 1 skipped, 1 xfailed, 2 errors" in out
    assert "TUNNELD_REQUIRE is set, and this was skipped: Skipped: no such program: nft" in out
