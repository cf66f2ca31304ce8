"""konnectivity's proxy-server and proxy-agent, and pairs of one of theirs with one of ours."""

import re
import shutil
import sysconfig
from pathlib import Path

from bench.certs import AGENT_ID
from bench.lab import SERVER_ADDRESS
from bench.targets.base import AGENT_PORT, FRONTEND_PORT, Target, through_connect
from bench.targets.ours import CHECKOUT, revision
from bench.world import World
from tests.interop.konnectivity.build import (
    MODULE,
    OLDEST_GO,
    BuildError,
    Programs,
    build,
    go_version,
)


class Konnectivity(Target):
    """Mode http-connect, all else at its default."""

    security = "mutual TLS; mutual TLS"

    def __init__(
        self, name: str = "konnectivity", *, our_server: bool = False, our_agent: bool = False
    ) -> None:
        super().__init__()
        self.name = name
        self._our_server = our_server
        self._our_agent = our_agent
        self._programs: Programs | None = None

    def missing(self) -> str:
        go = shutil.which("go")
        if not go or go_version(go) < OLDEST_GO:
            return "no Go of version 1.21 or newer to build it with"
        try:
            self._programs = build(go)
        except BuildError as exc:
            return str(exc)
        return ""

    def version(self) -> str:
        found = re.search(r"apiserver-network-proxy (v\S+)", (MODULE / "go.mod").read_text())
        theirs = f"konnectivity {found[1] if found else 'unknown'}"
        if self._our_server or self._our_agent:
            return f"{revision(CHECKOUT)}, {theirs}"
        return theirs

    def start(self, world: World) -> None:
        assert self._programs is not None
        server = _ours("proxy-server") if self._our_server else self._programs.server
        agent = _ours("proxy-agent") if self._our_agent else self._programs.agent
        argv = world.network.public(server, *self._server_flags(world))
        self.spawn(world, "server", argv).wait_listening(AGENT_PORT)
        self.spawn(world, "agent", world.network.private(agent, *_agent_flags(world)))

    def route(self, world: World) -> list[str]:
        return through_connect(world)

    def _server_flags(self, world: World) -> list[str]:
        return [
            "--mode=http-connect",
            f"--server-port={FRONTEND_PORT}",
            *_identity(world.certificates / "frontend", "server-{}", "server-ca-cert", "server"),
            f"--agent-port={AGENT_PORT}",
            *_identity(world.certificates / "agent", "cluster-{}", "cluster-ca-cert", "server"),
        ]


def _agent_flags(world: World) -> list[str]:
    return [
        f"--agent-id={AGENT_ID}",
        f"--proxy-server-host={SERVER_ADDRESS}",
        f"--proxy-server-port={AGENT_PORT}",
        *_identity(world.certificates / "agent", "agent-{}", "ca-cert", "agent"),
    ]


def _identity(directory: Path, own: str, authority: str, name: str) -> list[str]:
    return [
        f"--{authority}={directory / 'ca.crt'}",
        f"--{own.format('cert')}={directory / f'{name}.crt'}",
        f"--{own.format('key')}={directory / f'{name}.key'}",
    ]


def _ours(program: str) -> Path:
    return Path(sysconfig.get_path("scripts")) / program
