"""`sh dev bench startup`: how long our programs take until they are of use."""

import argparse
import os
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.conditions import conditions
from bench.errors import BenchError
from bench.records import Record, add_record_options, keep
from bench.results import spread_of
from bench.table import markdown
from tunneld.pki import Pki

_LAB = "bench-startup"
_TIMEOUT = 60


@dataclass(frozen=True)
class Took:
    wall: float
    """Seconds."""
    cpu: float
    """Seconds, of the program and those it waited for; wall time depends on what else runs."""


@dataclass(frozen=True)
class Measure:
    title: str
    limit: float | None
    """Seconds that it shall take at most."""
    took: list[Took]

    def row(self) -> tuple[str, ...]:
        wall = spread_of([each.wall * 1000 for each in self.took])
        cpu = spread_of([each.cpu * 1000 for each in self.took])
        assert wall is not None
        assert cpu is not None
        if self.limit is None:
            return self.title, wall.text(0), cpu.text(0), "", ""
        limit = self.limit * 1000
        met = "met" if wall.median < limit else f"missed by {wall.median / limit - 1:.0%}"
        return self.title, wall.text(0), cpu.text(0), f"< {limit:g}", met


class Daemon:
    """A daemon with directories of its own; `start` and `stop` may alternate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        places = {
            "TUNNELD_CONTROL": str(directory / "control.sock"),
            "TUNNELD_STATE": str(directory / "state"),
        }
        self.environment = {**os.environ, **places}

    def run(self, program: str, *arguments: str, text: bytes = b"") -> Took:
        """
        Raises:
          BenchError: it failed.
        """
        argv = [str(Path(sysconfig.get_path("scripts")) / program), *arguments]
        before = os.times()
        started = time.monotonic()
        done = subprocess.run(
            argv,
            input=text,
            env=self.environment,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
        wall = time.monotonic() - started
        after = os.times()
        if done.returncode:
            raise BenchError(f"{program} {' '.join(arguments)}: {done.stderr.decode().strip()}")
        cpu = after.children_user + after.children_system
        return Took(wall, cpu - before.children_user - before.children_system)

    def start(self, *options: str) -> Took:
        return self.run("tunneld", "start", *options)

    def stop(self) -> Took:
        return self.run("tunneld", "stop")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sh dev bench startup", description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    add_record_options(parser)
    return parser.parse_args(arguments)


def run(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    text = startup_table(options.times)
    print(text)
    keep(Record("startup", conditions({}), text), options, arguments)
    return 0


def startup_table(times: int) -> str:
    rows = [measure.row() for measure in measures(times)]
    return markdown(("ms", "wall", "CPU", "goal", ""), rows)


def measures(times: int) -> Iterator[Measure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        daemon = Daemon(Path(directory))
        yield Measure("`tunnelctl dial` until it asks the daemon", 0.1, _connects(daemon, times))
        config = _tunnel(Path(directory), echo := _free_port())
        yield Measure(
            "`tunneld start`, server and agent, until ready", 1, _starts(daemon, config, times)
        )
        with _running(daemon, "--config", str(config)):
            time.sleep(1)  # the agent connects
            dials = [
                daemon.run("tunnelctl", "dial", f"127.0.0.1:{echo}", text=b"hello\n")
                for _ in range(times)
            ]
        yield Measure("`tunnelctl dial` to an echo and back, whole run", None, dials)
        yield Measure("`tunnelctl ns up`, the demo", 2, _labs(daemon, max(3, times // 3)))


def _connects(daemon: Daemon, times: int) -> list[Took]:
    """A socket in the daemon's place takes the time."""
    path = daemon.environment["TUNNELD_CONTROL"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        took = [_connect_once(daemon, listener) for _ in range(times)]
    Path(path).unlink()
    return took


def _connect_once(daemon: Daemon, listener: socket.socket) -> Took:
    program = Path(sysconfig.get_path("scripts")) / "tunnelctl"
    started = time.monotonic()
    with subprocess.Popen(
        [program, "dial", "127.0.0.1:7"],
        env=daemon.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        listener.settimeout(_TIMEOUT)
        connection, _ = listener.accept()
        wall = time.monotonic() - started
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        connection.close()
        process.kill()
    return Took(wall, cpu)


def _starts(daemon: Daemon, config: Path, times: int) -> list[Took]:
    took = []
    for _ in range(times):
        took.append(daemon.start("--config", str(config)))
        daemon.stop()
    return took


def _labs(daemon: Daemon, times: int) -> list[Took]:
    took = []
    with _running(daemon):
        for _ in range(times):
            try:
                took.append(daemon.run("tunnelctl", "ns", "up", "--name", _LAB))
            finally:
                daemon.run("tunnelctl", "ns", "down", "--name", _LAB)
    return took


@contextmanager
def _running(daemon: Daemon, *options: str) -> Iterator[None]:
    daemon.start(*options)
    try:
        yield
    finally:
        daemon.stop()


def _tunnel(directory: Path, echo: int) -> Path:
    """A configuration with a server, an agent and an echo on loopback."""
    pki = directory / "pki"
    Pki(pki).init(["127.0.0.1"], "bench")
    tunnel = f"127.0.0.1:{_free_port()}"
    identity = 'cert = "pki/agent/{0}.crt", key = "pki/agent/{0}.key"'
    path = directory / "tunneld.toml"
    path.write_text(f"""
[[role]]
kind = "server"
name = "server"
policy = {{ open = true }}
frontends = [{{ listen = "unix:frontend.sock" }}]
tunnel = {{ listen = "{tunnel}", {identity.format("server")}, client-ca = "pki/agent/ca.crt" }}

[[role]]
kind = "agent"
name = "agent"
policy = {{ open = true }}
server = "{tunnel}"
cert = "pki/agent/agent.crt"
key = "pki/agent/agent.key"
ca = "pki/agent/ca.crt"

[[role]]
kind = "echo"
name = "echo"
listen = "127.0.0.1:{echo}"
""")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
