"""What all targets of a run share: network, certificates, load program, endpoint, log files."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cache import built
from bench.certs import make_certificates
from bench.errors import BenchError
from bench.lab import DIRECTORY, PRIVATE_ADDRESS, Network, open_network
from bench.process import Process

ENDPOINT_PORT = 9000
"""Of the first of the endpoint's services: source, sink, echo, and one that reads nothing."""

SERVICES = 4
_LOAD = Path(__file__).parent / "load"


@dataclass(frozen=True)
class World:
    network: Network
    directory: Path
    load: Path
    """The load program."""
    endpoint: Process

    @property
    def certificates(self) -> Path:
        return self.directory / "certificates"

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


def build_load() -> Path:
    """The load program's path.

    Raises:
      BenchError: there is no C compiler, or not OpenSSL's headers.
    """
    sources = [*_LOAD.glob("*.c"), *_LOAD.glob("*.h")]
    if not shutil.which("cc"):
        raise BenchError("no C compiler for the load program (gcc, libssl-dev)")
    argv = ["cc", "-O2", "-o", "OUT/load", *sorted(_LOAD.glob("*.c")), "-lssl", "-lcrypto"]
    return built("load", sources, argv, _LOAD) / "load"


@contextmanager
def open_world() -> Iterator[World]:
    """Everything up, and nothing left of it afterwards."""
    load = build_load()
    with ExitStack() as stack:
        network = stack.enter_context(open_network())
        directory = DIRECTORY / "run"
        shutil.rmtree(directory, ignore_errors=True)  # of a run that was killed
        directory.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, directory)
        make_certificates(directory / "certificates")
        argv = network.private(load, "endpoint", "--bind", PRIVATE_ADDRESS, "--base", ENDPOINT_PORT)
        endpoint = Process(argv, directory / "endpoint.log")
        stack.callback(endpoint.kill)
        endpoint.wait_listening(ENDPOINT_PORT)
        yield World(network, directory, load, endpoint)
