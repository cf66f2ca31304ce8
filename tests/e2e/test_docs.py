"""The Python programs of docs/how-to/use-from-programs.md run as they are printed."""

import sys
from pathlib import Path

import pytest

from tests.docpages import ROOT, Block, blocks_of
from tests.e2e.conftest import PRIVATE, Lab, running
from tests.e2e.test_real_programs import PROGRAMS

pytestmark = pytest.mark.e2e

PAGE = ROOT / "docs/how-to/use-from-programs.md"
EXAMPLES = [block for block in blocks_of(PAGE) if block.language == "python"]


def example(word: str, directory: Path) -> str:
    """The one example with ``word`` in it, as a file."""
    (block,) = [each for each in EXAMPLES if word in each.text]
    return write(block, directory)


def write(block: Block, directory: Path) -> str:
    file = directory / "example.py"
    file.write_text(block.text)
    return str(file)


@pytest.mark.parametrize(
    ("word", "module", "expected"),
    [
        ("import h11", "h11", "Everything is ok"),
        ("import httpcore", "httpcore", "404 not found"),
        ("import grpc", "grpc", "Hello demo!"),
    ],
)
def test_programs_through_the_daemon(
    lab: Lab, tmp_path: Path, word: str, module: str, expected: str
) -> None:
    pytest.importorskip(module)
    done = lab.daemon.run(sys.executable, example(word, tmp_path))
    assert expected in done.stdout.decode()


def test_the_program_through_the_frontend(lab: Lab, tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    frontend = lab.pki / "frontend"
    lab.daemon.ctl(
        *("certs", "issue", "server", "docs", "--san", PRIVATE, "--dir", str(lab.pki), "--force")
    )
    files = [str(frontend / name) for name in ("docs.crt", "docs.key")]
    server = [sys.executable, str(PROGRAMS / "https_server.py"), PRIVATE, "8444", *files]
    program = example("import httpx", tmp_path)
    url = f"https://{PRIVATE}:8444/"
    with running(lab.popen("private", *server), b"ready"):
        done = lab.exec("public", sys.executable, program, str(frontend), url)
    assert done.stdout == b"private\n"
