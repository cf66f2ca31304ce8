"""Programs that are not ours against `h2_server`: h2spec, h2load, nghttp.

h2spec is a Go program (`go install github.com/summerwind/h2spec/cmd/h2spec@latest`); it is looked
for in $H2SPEC, in $PATH, in $GOBIN, and in ~/go/bin. The others are in Debian's nghttp2-client.
"""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.conftest import need

SERVER = Path(__file__).with_name("h2_server.py")
ROOT = SERVER.parents[2]


@pytest.fixture(scope="module")
def port() -> Generator[str]:
    """Where `h2_server` listens; it must have nothing to complain of in the end."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        yield server.stdout.readline().strip().rpartition(":")[2]
        running = server.poll() is None
        server.terminate()
        assert server.stderr.read() == ""
        assert running


def program(name: str, package: str) -> str:
    """Where ``name`` is; the test is skipped without it."""
    path = os.pathsep.join(
        [os.environ.get("PATH", ""), os.environ.get("GOBIN", ""), str(Path.home() / "go" / "bin")]
    )
    found = os.environ.get(name.upper()) or shutil.which(name, path=path)
    need(found, f"no such program: {name} ({package})")
    assert found
    return found


def run(*command: str, timeout: float = 60) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
    )
    return done.stdout + done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("strict", [False, True])
def test_h2spec_finds_nothing(port: str, strict: bool, tmp_path: Path) -> None:
    """All of it: generic, http2, hpack."""
    report = tmp_path / "report.xml"
    h2spec = program("h2spec", "github.com/summerwind/h2spec/cmd/h2spec")
    options = ["--strict"] if strict else []
    out = run(h2spec, "--port", port, "--junit-report", str(report), *options)
    cases = list(ET.parse(report).getroot().iter("testcase"))
    failed = [
        f"{case.get('package')} {case.get('classname')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    assert failed == [], out
    assert len(cases) > 140
    assert " 0 failed" in out


@pytest.mark.e2e
def test_h2load_gets_every_answer(port: str) -> None:
    h2load = program("h2load", "nghttp2-client")
    out = run(h2load, "-n", "5000", "-c", "10", "-m", "100", f"http://127.0.0.1:{port}/")
    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in out


@pytest.mark.e2e
def test_h2load_uploads_within_our_windows(port: str, tmp_path: Path) -> None:
    h2load = program("h2load", "nghttp2-client")
    body = tmp_path / "body"
    body.write_bytes(bytes(3_000_000))
    url = f"http://127.0.0.1:{port}/"
    out = run(h2load, "-n", "40", "-c", "4", "-m", "5", "-d", str(body), url)
    assert "40 succeeded, 0 failed, 0 errored, 0 timeout" in out
    assert "40 2xx" in out


@pytest.mark.e2e
def test_h2load_may_keep_its_window_as_small_as_it_likes(port: str) -> None:
    """One octet at first: each body of ours waits for credit, many times over."""
    h2load = program("h2load", "nghttp2-client")
    options = ["-n", "300", "-c", "3", "-m", "20", "-w", "1", "-W", "16"]
    out = run(h2load, *options, f"http://127.0.0.1:{port}/")
    assert "300 succeeded, 0 failed, 0 errored, 0 timeout" in out


@pytest.mark.e2e
def test_nghttp_uploads_and_reads_the_answer(port: str, tmp_path: Path) -> None:
    nghttp = program("nghttp", "nghttp2-client")
    body = tmp_path / "body"
    body.write_bytes(bytes(200_000))
    out = run(nghttp, f"--data={body}", f"http://127.0.0.1:{port}/path")
    assert out == "POST of 200000 octets, thank you\n"


@pytest.mark.e2e
def test_nghttp_sends_trailers_padding_and_continuations(port: str, tmp_path: Path) -> None:
    nghttp = program("nghttp", "nghttp2-client")
    body = tmp_path / "body"
    body.write_bytes(b"x" * 1_000)
    out = run(
        nghttp,
        "--verbose",
        "--trailer=x-check: 1",
        "--padding=100",
        "--continuation",
        f"--data={body}",
        f"http://127.0.0.1:{port}/",
    )
    assert "POST of 1000 octets, thank you" in out
    assert "<length=1100, flags=0x08" in out, "DATA, padded"
    block = re.search(r"send HEADERS frame <length=(\d+), flags=0x24", out)
    assert block
    assert int(block[1]) > 16_384, "more than one frame takes"
