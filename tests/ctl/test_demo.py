"""The demo as a process: real daemon, real roles; in namespaces where the kernel lets us."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctl.messages import Message
from tests.conftest import need

DEMO = [sys.executable, "-P", "-m", "ctl", "demo"]
FORBIDDING = (
    "echo 0 > /proc/sys/user/max_user_namespaces; "
    'exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
)
"""For a shell in a user namespace: no further ones, and no rights to make others."""


@pytest.fixture
def environment(short_tmp: Path) -> Iterator[dict[str, str]]:
    """Variables for a demo; afterwards, its place is as empty as it was."""
    place = short_tmp / "t"
    place.mkdir()
    yield {**os.environ, "TMPDIR": str(place)}
    assert list(place.iterdir()) == []
    assert _processes_that_mention(place) == []


def _processes_that_mention(place: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if f"={place}/".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def run_demo(environment: dict[str, str], *before: str) -> list[Message]:
    """The objects that a demo printed, which must have succeeded."""
    done = subprocess.run(
        [*before, *DEMO, "-o", "json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.e2e
def test_the_story_is_proved_and_leaves_nothing(environment: dict[str, str]) -> None:
    items = run_demo(environment)
    need("on loopback" not in items[0]["detail"], "this kernel forbids namespaces to us")
    assert items[0]["detail"].startswith("in a lab of network namespaces")
    assert [item["step"] for item in items] == list(range(len(items)))
    assert all(item["ok"] for item in items)
    stopped = [item["title"] for item in items if item["title"].startswith("stop and start")]
    assert len(stopped) == 6
    assert items[-1]["detail"] == "no process and no socket is left"


@pytest.mark.e2e
@pytest.mark.root
def test_without_namespaces_it_runs_on_loopback_and_says_so_first(
    environment: dict[str, str],
) -> None:
    need(shutil.which("unshare") and shutil.which("setpriv"), "util-linux")
    forbid = ["unshare", "--user", "--map-root-user", "sh", "-c", FORBIDDING, "sh"]
    items = run_demo(environment, *forbid)
    assert items[0]["detail"].startswith("on loopback, since there can be no namespaces here")
    assert {item["ok"] for item in items} == {True, None}
    skipped = [item["title"] for item in items if item["ok"] is None]
    assert "check the network's shape" in skipped
    assert "use the tunnel as a byte pipe" not in skipped


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_story_that_is_interrupted_leaves_nothing(
    environment: dict[str, str], number: signal.Signals
) -> None:
    with subprocess.Popen(
        DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(" 3  "):
                break
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_the_first_step_that_fails_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    package = tmp_path / "tunneld"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import sys; sys.exit('error[failed]: it cannot start\\nhint: none')"
    )
    done = subprocess.run(
        DEMO,
        env={
            **environment,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED tunneld start: expected success, got exit code 1" in done.stdout
    assert "step 1 failed: start a daemon of its own" in done.stderr
    assert "error[failed]: it cannot start" in done.stderr
