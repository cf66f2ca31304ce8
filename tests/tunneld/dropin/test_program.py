"""What a program says and returns around its work."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
import trio

from tunneld.dropin.checks import OptionsError
from tunneld.dropin.flagtable import flag
from tunneld.dropin.klogflags import KlogOptions
from tunneld.dropin.pflag import BOOL, INT
from tunneld.dropin.program import Program, StartError, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(KlogOptions):
    port: int = flag(INT, 8090, "a port", environment="TEST_PORT")
    old: bool = flag(BOOL, False, "nothing", deprecated="it is old")


def check(options: Options) -> list[str]:
    if options.port == 0:
        raise OptionsError("port 0 cannot be")
    return ["that is a low port"] if options.port < 1024 else []


Serve = Callable[[Options], Awaitable[int]]


def start(*arguments: str, serve: Serve | None = None, **environment: str) -> int:
    async def nothing(options: Options) -> int:
        return options.port % 100

    program = Program(
        name="program",
        about="Does something.",
        options=Options,
        invalid="failed to validate options with",
        check=check,
        serve=serve or nothing,
    )
    return run(program, arguments, environment)


@pytest.fixture(autouse=True)
def logging() -> Iterator[None]:
    """Put logging back, which a program configures for its process."""
    yield
    structlog.reset_defaults()


def test_the_exit_code_is_that_of_the_work() -> None:
    assert start() == 90
    assert start("--port=8000") == 0
    assert start(TEST_PORT="8001") == 1


def test_help_goes_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert start("--help", "--port=1") == 0
    out, err = capfd.readouterr()
    assert out.startswith("Does something.\n\nUsage:\n  program [flags]\n\nFlags:\n")
    assert "      --port int " in out
    assert "--old" not in out
    assert err == ""


def test_a_bad_command_line_is_told_with_the_usage(capfd: pytest.CaptureFixture[str]) -> None:
    assert start("--x") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("Error: unknown flag: --x\nUsage:\n  program [flags]\n")


def test_a_bad_environment_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert start(TEST_PORT="x") == 1
    assert "Error: bad value of the variable TEST_PORT: " in capfd.readouterr().err


def test_options_that_cannot_be_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert start("--port=0") == 1
    assert capfd.readouterr().err == (
        "Error: failed to validate options with port 0 cannot be\nsee: program --help\n"
    )


def test_warnings_are_logged(capfd: pytest.CaptureFixture[str]) -> None:
    assert start("--port=23") == 23
    assert "warning that is a low port" in capfd.readouterr().err


def test_deprecated_flags_are_told_about(capfd: pytest.CaptureFixture[str]) -> None:
    assert start("--old") == 90
    assert capfd.readouterr().err == "Flag --old has been deprecated, it is old\n"


def test_arguments_that_are_no_flags_are_ignored() -> None:
    assert start("help", "--port=8000", "and", "so", "on") == 0


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_why_it_cannot_start_is_told_from_any_depth(
    depth: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async def serve(_: Options) -> int:
        async with contextlib.AsyncExitStack() as stack:
            for _level in range(depth):
                await stack.enter_async_context(trio.open_nursery())
            raise StartError("there is no certificate")

    assert start(serve=serve) == 1
    assert capfd.readouterr().err == "Error: there is no certificate\nsee: program --help\n"


def test_a_bug_is_no_such_reason() -> None:
    async def serve(_: Options) -> int:
        async with trio.open_nursery():
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        start(serve=serve)


async def log_a_little(_: Options) -> int:
    log = structlog.get_logger()
    log.debug("details", number=1)
    log.info("course")
    log.warning("trouble")
    log.error("failure")
    return 0


@pytest.mark.parametrize(
    ("v", "events"),
    [
        ("-v=-1", ["failure"]),
        ("-v0", ["trouble", "failure"]),
        ("-v4", ["course", "trouble", "failure"]),
        ("--v=5", ["details", "course", "trouble", "failure"]),
    ],
)
def test_verbosity_decides_what_is_logged(
    v: str, events: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert start(v, serve=log_a_little) == 0
    assert [line.split()[2] for line in capfd.readouterr().err.splitlines()] == events


def test_logs_may_go_to_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"
    assert start("--logtostderr=false", f"--log-file={file}", serve=log_a_little) == 0
    assert capfd.readouterr().err == ""
    assert len(file.read_text().splitlines()) == 3
    assert file.stat().st_mode & 0o777 == 0o600


def test_logs_may_go_to_both(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"
    flags = ["--logtostderr=false", "--alsologtostderr", f"--log_file={file}"]
    assert start(*flags, "--log-file-max-size=0", serve=log_a_little) == 0
    assert capfd.readouterr().err == file.read_text()


@pytest.mark.parametrize("flags", [["--log-file=/nowhere/log"], ["--logtostderr=false"]])
def test_logs_go_to_stderr_otherwise(flags: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert start(*flags, serve=log_a_little) == 0
    assert len(capfd.readouterr().err.splitlines()) == 3


def test_a_log_file_that_cannot_be_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "missing" / "log"
    assert start("--logtostderr=false", f"--log-file={file}") == 1
    assert f"Error: cannot log to {file}: No such file" in capfd.readouterr().err
