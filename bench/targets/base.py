"""What is measured: the programs of one way through the network, and how a client uses it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.lab import PRIVATE_ADDRESS
from bench.process import Process
from bench.world import ENDPOINT_PORT, World

FRONTEND_PORT = 8090
AGENT_PORT = 8091


class Target(ABC):
    """One instance is started and stopped many times."""

    name: str
    security: str
    """What protects the client's leg, and what the tunnel."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        """``server`` and ``agent``, as far as there are any."""

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot run on this machine; empty if it can. Builds what has to be built."""

    @abstractmethod
    def version(self) -> str:
        """What the programs say they are."""

    @abstractmethod
    def start(self, world: World) -> None:
        """Start the programs; a client may still have to wait for the tunnel."""

    @abstractmethod
    def route(self, world: World) -> list[str]:
        """The load program's options by which it reaches the endpoint, from the public host."""

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.kill()
        self.processes.clear()

    def spawn(
        self,
        world: World,
        role: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        process = Process(argv, world.log(f"{self.name}-{role}"), environment)
        self.processes[role] = process
        return process


def through_connect(world: World) -> list[str]:
    """CONNECT over HTTP/1.1 with mutual TLS, on the public host's loopback."""
    return [
        *("--proxy", f"127.0.0.1:{FRONTEND_PORT}"),
        *tls_options(world.certificates / "frontend"),
        *destination(),
    ]


def destination() -> list[str]:
    """The endpoint's services, by the addresses they have."""
    return ["--dest", f"{PRIVATE_ADDRESS}:{{s}}", "--base", str(ENDPOINT_PORT)]


def tls_options(directory: Path) -> list[str]:
    return [
        *("--tls", "--sni", "localhost", "--ca", f"{directory / 'ca.crt'}"),
        *("--cert", f"{directory / 'client.crt'}", "--key", f"{directory / 'client.key'}"),
    ]


def forwarded(first_port: int) -> list[str]:
    """Ports on the public host's loopback, one for each service of the endpoint."""
    return ["--dest", "127.0.0.1:{s}", "--base", str(first_port)]
