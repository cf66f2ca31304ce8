"""Servers and agents, ours and konnectivity's, by the same flags."""

import sysconfig
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.conftest import need
from tests.interop.konnectivity.build import go_programs
from tests.interop.konnectivity.clients import Place
from tests.interop.konnectivity.metrics import Metrics, parse_metrics
from tests.interop.konnectivity.processes import Process, free_port, http_get, wait_for


class Maker(StrEnum):
    """Whose program it is."""

    OURS = "ours"
    GO = "go"


class Mode(StrEnum):
    """What a server speaks with its clients. One of konnectivity has to be told, and speaks one."""

    ANY = ""
    GRPC = "grpc"
    CONNECT = "http-connect"


def program(maker: Maker, name: str) -> Path:
    """``name`` is server or agent; the test is skipped where it is missing."""
    if maker is Maker.GO:
        return Path(getattr(go_programs(), name))
    path = Path(sysconfig.get_path("scripts")) / f"proxy-{name}"
    need(path.exists(), f"no such program: {path.name} (it comes with the installed package)")
    return path


class Program(Process):
    """A server or an agent, with its health and admin ports."""

    def __init__(self, name: str, argv: list[str], log: Path, health: int, admin: int) -> None:
        super().__init__(name, argv, log)
        self.health = health
        self.admin = admin

    async def metrics(self) -> Metrics:
        status, text = await http_get(self.health, "/metrics")
        if status != 200:
            raise RuntimeError(f"{self.name}: /metrics is {status}")
        return parse_metrics(text)


@dataclass(frozen=True)
class World:
    """What the programs of one run share."""

    directory: Path
    """Short: UNIX sockets lie there."""
    pki: Path
    server_flags: tuple[str, ...] = ()
    agent_flags: tuple[str, ...] = ()


class Server(Program):
    def __init__(
        self,
        world: World,
        maker: Maker,
        mode: Mode,
        *,
        uds: bool = False,
        agent_address: str = "127.0.0.1",
        name: str = "server",
    ) -> None:
        self.maker = maker
        self.agent_port = free_port()
        path = world.directory / f"{name}.sock" if uds else None
        self.place = Place(0 if uds else free_port(), path)
        health, admin = free_port(), free_port()
        argv = [
            str(program(maker, "server")),
            *_frontend_flags(world, self.place),
            *_tls_flags(world.pki / "agent", "cluster-ca-cert", "cluster-{}", "server"),
            f"--agent-bind-address={agent_address}",
            f"--agent-port={self.agent_port}",
            "--health-bind-address=127.0.0.1",
            f"--health-port={health}",
            f"--admin-port={admin}",
            *([f"--mode={mode}"] if mode else []),
            *(["--v=2"] if maker is Maker.GO else []),
            *world.server_flags,
        ]
        super().__init__(f"{maker} server", argv, world.directory / f"{name}.log", health, admin)

    async def started(self) -> None:
        """Up, with an agent or without."""
        await wait_for(self, self.health, "/healthz")

    async def ready(self) -> None:
        """Up and with an agent."""
        await wait_for(self, self.health, "/readyz")

    async def lonely(self) -> None:
        """Up and without an agent."""
        await wait_for(self, self.health, "/readyz", 500)


class Agent(Program):
    def __init__(
        self,
        world: World,
        maker: Maker,
        server_port: int,
        *,
        agent_id: str = "demo",
        name: str = "agent",
        host: str = "127.0.0.1",
        inside: tuple[str, ...] = (),
        flags: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
          host: where the agent finds the server.
          inside: a command that runs the agent elsewhere, as ``ip netns exec NAME`` does.
        """
        self.maker = maker
        self.agent_id = agent_id
        health, admin = free_port(), free_port()
        argv = [
            *inside,
            str(program(maker, "agent")),
            *_tls_flags(world.pki / "agent", "ca-cert", "agent-{}", "agent"),
            f"--proxy-server-host={host}",
            f"--proxy-server-port={server_port}",
            f"--agent-id={agent_id}",
            "--health-server-host=127.0.0.1",
            f"--health-server-port={health}",
            f"--admin-server-port={admin}",
            *(["--v=2"] if maker is Maker.GO else []),
            *world.agent_flags,
            *flags,
        ]
        super().__init__(f"{maker} agent", argv, world.directory / f"{name}.log", health, admin)

    async def ready(self) -> None:
        """Up and with a server."""
        await wait_for(self, self.health, "/readyz")


def _frontend_flags(world: World, place: Place) -> list[str]:
    if place.path:
        return [f"--uds-name={place.path}", "--server-port=0"]
    return [
        "--server-bind-address=127.0.0.1",
        f"--server-port={place.port}",
        *_tls_flags(world.pki / "frontend", "server-ca-cert", "server-{}", "server"),
    ]


def _tls_flags(directory: Path, authority: str, own: str, name: str) -> list[str]:
    return [
        f"--{authority}={directory / 'ca.crt'}",
        f"--{own.format('cert')}={directory / f'{name}.crt'}",
        f"--{own.format('key')}={directory / f'{name}.key'}",
    ]
