"""Limits of processes that are too low, and that are not."""

import resource
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from tests.conftest import need
from tests.tunneld.doctor.samples import only
from tunneld.config import AgentConfig, AgentLimits, EchoConfig
from tunneld.doctor.descriptors import ROOMY, check_descriptors, limits_of, needed, open_by

AGENT = AgentConfig(name="home", server="edge:1", ca="/ca")


@pytest.fixture
def process() -> Iterator[int]:
    """One that waits, with pipes open."""
    argv = [sys.executable, "-c", "input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as running:
        yield running.pid
        assert running.stdin is not None
        running.stdin.write(b"\n")
        running.stdin.flush()


@pytest.mark.parametrize(
    ("limit", "verdict", "words"),
    [
        (64, "fail", "its roles need"),
        (1024, "warn", "connections at once"),
        (ROOMY, "pass", "open"),
    ],
)
def test_the_limit_of_the_role_s_process_counts(
    process: int, limit: int, verdict: str, words: str
) -> None:
    _, hard = limits_of(process)
    need(hard >= limit, f"a hard limit of {limit} descriptors, it is {hard}")
    resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, hard))
    found = only(check_descriptors([AGENT], process))
    assert (str(found.verdict), words in found.detail) == (verdict, True)
    assert f"process {process} may open {limit}" in found.detail


def test_a_process_that_is_gone_is_noted() -> None:
    assert str(only(check_descriptors([AGENT], 2**22 - 1)).verdict) == "info"
    assert open_by(2**22 - 1) is None


def test_without_a_process_the_limit_here_stands_for_it() -> None:
    assert "a process started here" in only(check_descriptors([AGENT], None)).detail


def test_a_limit_that_the_configuration_goes_beyond_is_warned_of(process: int) -> None:
    config = msgspec.structs.replace(AGENT, limits=AgentLimits(connections=1 << 40))
    found = only(check_descriptors([config], process))
    assert (str(found.verdict), "`limits`" in found.detail) == ("warn", True)


def test_roles_that_carry_connections_need_more() -> None:
    assert needed([]) < needed([EchoConfig(name="echo")]) < needed([AGENT])
