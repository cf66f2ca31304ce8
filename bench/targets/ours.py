"""`tunneld start` on both hosts, as docs/how-to/deploy-two-hosts.md has it."""

import subprocess
import sys
from pathlib import Path

from bench.certs import AGENT_ID
from bench.lab import SERVER_ADDRESS
from bench.process import Process
from bench.targets.base import AGENT_PORT, FRONTEND_PORT, Target, destination, through_connect
from bench.world import World

CHECKOUT = Path(__file__).parents[2]


_OPEN = "policy = { open = true }\n"


class Ours(Target):
    server_options = ""
    """Lines of TOML for the server's role."""

    def __init__(self, name: str = "ours", sources: Path = CHECKOUT, *, unix: bool = False) -> None:
        """
        Args:
          unix: clients use a UNIX socket, without TLS.
          sources: the checkout whose packages are run, with this environment's dependencies.
        """
        super().__init__()
        self.name = name
        self.security = f"{'none (UNIX socket)' if unix else 'mutual TLS'}; mutual TLS"
        self._sources = sources
        self._unix = unix

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return revision(self._sources) if self._sources == CHECKOUT else self.name

    def start(self, world: World) -> None:
        self.start_server(world)
        self.start_agent(world)

    def start_server(self, world: World) -> Process:
        roles = server_roles(world, self.server_options)
        server = self.start_daemon(world, "server", world.network.public(), roles)
        server.wait_listening(AGENT_PORT)
        return server

    def start_agent(self, world: World) -> Process:
        return self.start_daemon(world, "agent", world.network.private(), agent_roles(world))

    def start_daemon(self, world: World, role: str, inside: list[str], roles: str) -> Process:
        """Run ``tunneld start`` by the command ``inside``, with ``roles`` as configuration."""
        directory = self.directory(world, role)
        directory.mkdir(mode=0o700, exist_ok=True)
        config = directory / "tunneld.toml"
        if not (self._sources / "tunneld/rules.py").exists():  # a revision that knows no policy
            roles = roles.replace(_OPEN, "")
        config.write_text(roles)
        argv = [
            *(*inside, sys.executable, "-P", "-m", *self.program(world, role)),
            *("start", "--foreground", "--config", str(config)),
            *("--control", str(control_socket(directory)), "--state", str(directory)),
        ]
        return self.spawn(world, role, argv, {"PYTHONPATH": str(self._sources)})

    def directory(self, world: World, role: str) -> Path:
        """Of the daemon that has this role."""
        return world.directory / f"{self.name}-{role}"

    def program(self, world: World, role: str) -> list[str]:
        """The module that is run, and its arguments before those of `tunneld`."""
        return ["tunneld"]

    def route(self, world: World) -> list[str]:
        if self._unix:
            return ["--proxy", f"unix:{_socket(world)}", *destination()]
        return through_connect(world)


def control_socket(directory: Path) -> Path:
    return directory / "control.sock"


def _socket(world: World) -> Path:
    return world.directory / "frontend.sock"


def server_roles(world: World, options: str = "") -> str:
    return f"""
[[role]]
kind = "server"
name = "server"
{_OPEN}frontends = [
  {{ listen = "127.0.0.1:{FRONTEND_PORT}", {_identity(world, "frontend")} }},
  {{ listen = "unix:{_socket(world)}" }},
]
tunnel = {{ listen = "{SERVER_ADDRESS}:{AGENT_PORT}", {_identity(world, "agent")} }}
{options}
"""


def agent_roles(world: World, name: str = AGENT_ID) -> str:
    directory = world.certificates / "agent"
    return f"""
[[role]]
kind = "agent"
name = "{name}"
{_OPEN}agent-id = "{name}"
server = "{SERVER_ADDRESS}:{AGENT_PORT}"
cert = "{directory}/agent.crt"
key = "{directory}/agent.key"
ca = "{directory}/ca.crt"
"""


def _identity(world: World, side: str) -> str:
    directory = world.certificates / side
    return (
        f'cert = "{directory}/server.crt", key = "{directory}/server.key", '
        f'client-ca = "{directory}/ca.crt"'
    )


def revision(checkout: Path) -> str:
    """The commit that is checked out, with a mark if there are changes beside it."""
    done = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=10"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "no git"
