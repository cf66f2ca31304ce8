"""The units of docs/how-to/systemd, as systemd itself sees them."""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from tests.conftest import need
from tests.docpages import ROOT, Block, blocks_of, read
from tunneld.config import ServerConfig

FOLDER = ROOT / "docs/how-to/systemd"
UNITS = sorted(FOLDER.iterdir())
PAGE = FOLDER.parent / "run-as-a-service.md"
EXPOSED = 2.0
"""What `systemd-analyze security` may say at most, of 10."""


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", read(FOLDER / unit), re.MULTILINE)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as instances, their programs ones that exist here."""
    for unit in UNITS:
        text = re.sub(r"/opt/tunneld/bin/\w+", "/bin/true", read(unit))
        for name in (unit.name, unit.name.replace("@", "@server")):
            (tmp_path / name).write_text(text)
    return tmp_path


def analyze(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    need(program, "systemd-analyze (package systemd)")
    return subprocess.run(
        [str(program), *argv], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("suffix", ["service", "socket"])
def test_systemd_has_no_objection(installed: Path, suffix: str) -> None:
    done = analyze("verify", installed / f"tunneld@server.{suffix}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_objects_to_mistakes(installed: Path) -> None:
    unit = installed / "tunneld@server.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogs"))
    assert "WatchDogs" in analyze("verify", unit).stderr


@pytest.mark.parametrize(
    "block", [pytest.param(b, id=b.id) for b in blocks_of(PAGE) if b.language == "ini"]
)
def test_systemd_has_no_objection_to_units_of_the_page(installed: Path, block: Block) -> None:
    name = block.text.split()[1].replace("@", "@server")
    unit = installed / name
    unit.parent.mkdir(exist_ok=True)
    unit.write_text(block.text)
    whole = unit if unit.suffix == ".socket" else installed / "tunneld@server.service"
    done = analyze("verify", whole)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_exposed_to_little(installed: Path) -> None:
    threshold = f"--threshold={EXPOSED * 10:g}"
    unit = installed / "tunneld@server.service"
    done = analyze("security", "--offline=true", threshold, "--no-pager", unit)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_the_service_is_told_as_the_daemon_speaks() -> None:
    unit = "tunneld@.service"
    assert values(unit, "Type") == ["notify"]
    assert values(unit, "NotifyAccess") == []  # the main process speaks, which is the default
    assert "--foreground" in values(unit, "ExecStart")[0]
    assert int(values(unit, "WatchdogSec")[0]) > 0


def test_the_service_gets_longer_than_its_roles() -> None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(ServerConfig)}
    assert int(values("tunneld@.service", "TimeoutStopSec")[0]) > defaults["drain_timeout"] > 0


def test_the_sockets_are_those_of_the_example() -> None:
    page = FOLDER.parent / "deploy-two-hosts.md"
    [server] = [each for each in blocks_of(page) if 'kind = "server"' in each.text]
    wanted = re.findall(r'listen = "([^"]+)"', server.text)
    assert values("tunneld@.socket", "ListenStream") == wanted
