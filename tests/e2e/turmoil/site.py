"""The lab, its daemons, and the programs at both ends.

Three daemons, as on three hosts: one keeps the network and runs no role, one is the server in
`public` with a worker, one has the agents in `private`: two processes of the id `alpha` and one of
`beta`, a worker each.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.chaos import leftovers, processes_of
from tests.e2e.conftest import Daemon, Lab
from tests.e2e.turmoil.clients import PORT
from tests.e2e.turmoil.network import Network
from tests.e2e.turmoil.orders import Program
from tunneld.certificate import Kind
from tunneld.registrar import Registrar

SERVER, ALPHA, BETA = "edge", "alpha", "beta"
KEEPALIVE = 2.0
"""Seconds; a dead tunnel is noticed within twice that."""
DRAIN = 2.0
BACKOFF = 4.0
"""Seconds, of agents, at most."""
PROCESSES = 2
"""Of alpha."""
DENIED = 4199

_EDGE = """
watch = false

[[role]]
kind = "server"
name = "{server}"
namespace = "{lab}-public"
keepalive = {keepalive}
drain-timeout = {drain}
dial-timeout = {dial_timeout}
tunnel = {{ listen = "2.2.2.2:8091", cert = "{pki}/agent/server.crt", \
key = "{pki}/agent/server.key", client-ca = "{pki}/agent/ca.crt" }}
[[role.frontends]]
listen = "2.2.2.2:8090"
cert = "{pki}/frontend/server.crt"
key = "{pki}/frontend/server.key"
client-ca = "{pki}/frontend/ca.crt"
[[role.policy.rules]]
action = "deny"
client = ["cert:client"]
port = [{denied}]
[[role.policy.rules]]
action = "allow"
client = ["cert:client"]
port = ["1-65535"]
"""

_AGENT = """
[[role]]
kind = "agent"
name = "{name}"
namespace = "{lab}-private"
server = "2.2.2.2:8091"
processes = {processes}
identifiers = "ipv4={claims}"
cert = "{pki}/agent/{cert}.crt"
key = "{pki}/agent/{cert}.key"
ca = "{pki}/agent/ca.crt"
keepalive = {keepalive}
drain-timeout = {drain}
backoff-max = {backoff}
policy = {{ open = true }}
"""


class Host:
    """A daemon with a configuration file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.daemon = Daemon(directory)
        self._file = directory / "tunneld.toml"
        self.pid = 0

    def write(self, text: str) -> None:
        new = self._file.with_name("new.toml")
        new.write_text(text)
        new.replace(self._file)

    def start(self) -> None:
        self.daemon.tunneld("start", "--config", str(self._file))
        self.pid = self.daemon.pid

    def workers(self) -> list[int]:
        return sorted(set(processes_of(self.daemon)) - {self.pid})

    def reload(self) -> list[dict[str, Any]]:
        """What has changed."""
        out = self.daemon.ctl("reload", "-o", "json").stdout
        return [json.loads(line) for line in out.splitlines()]

    def conns(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.daemon.json("conns")["conns"]
        return found

    def log(self) -> str:
        files = sorted(self.daemon.state.glob("tunneld.log*"), reverse=True)
        return "".join(file.read_text(errors="replace") for file in files)


class Site:
    """All of it; `open_site` builds and removes it."""

    def __init__(self, directory: Path, slots: int, seed: int) -> None:
        self.directory = directory
        self.keeper = Daemon(directory / "keeper")
        self.lab = Lab(self.keeper, f"u{os.getpid()}")
        self.network = Network(self.lab.name)
        self.registrar = Registrar(directory / "pki")
        self.edge = Host(directory / "edge")
        self.home = Host(directory / "home")
        self.settings: dict[str, Any] = {"denied": DENIED, "dial_timeout": 10.0}
        self._slots, self._seed = slots, seed
        self.clients: Program
        self.endpoint: Program

    def write(self, **settings: Any) -> None:
        """The server's configuration, with that in it."""
        self.settings |= settings
        common = {
            "lab": self.lab.name,
            "pki": self.registrar.directory,
            "keepalive": KEEPALIVE,
            "drain": DRAIN,
        }
        self.edge.write(_EDGE.format(server=SERVER, **common, **self.settings))
        alpha = {"name": ALPHA, "cert": "agent", "processes": PROCESSES, "claims": "192.168.1.2"}
        beta = {"name": BETA, "cert": BETA, "processes": 1, "claims": "127.0.0.1"}
        self.home.write(
            "watch = false\n"
            + "".join(_AGENT.format(backoff=BACKOFF, **common, **each) for each in (alpha, beta))
        )

    def build(self) -> None:
        self.keeper.start()
        self.lab.up("--bare")
        self.registrar.init(["2.2.2.2"], ALPHA)
        self.registrar.issue(Kind.AGENT, BETA)
        self.write()
        self.edge.start()
        self.home.start()
        self.start_endpoint()
        self.clients = self._program(
            "public", "clients", str(self.registrar.directory), str(self._slots), str(self._seed)
        )
        self.await_agents()

    def start_endpoint(self) -> None:
        self.endpoint = self._program("private", "endpoint", str(PORT))

    def _program(self, short: str, module: str, *argv: str) -> Program:
        command = (sys.executable, "-m", f"tests.e2e.turmoil.{module}", *argv)
        return Program(
            self.lab.inside(short, *command),
            self.keeper.environment,
            self.directory / f"{module}.log",
        )

    def await_agents(self) -> None:
        """Return when all agents have their tunnels."""
        end = time.monotonic() + 60
        while len(self.edge.daemon.json("agents")["agents"]) < PROCESSES + 1:
            if time.monotonic() > end:
                raise TimeoutError("not all agents have a tunnel")
            time.sleep(0.2)

    def roles(self) -> dict[str, list[int]]:
        """Processes by what they are."""
        return {
            "server's supervisor": [self.edge.pid],
            "server": self.edge.workers(),
            "agents' supervisor": [self.home.pid],
            "agents": self.home.workers(),
        }

    def remove(self) -> list[str]:
        """Stop everything and take the network down; what is left then."""
        for name in ("clients", "endpoint"):
            if hasattr(self, name):
                getattr(self, name).close()
        left = []
        for host in (self.home, self.edge):
            host.daemon.stop()
            left += [f"process {pid}" for pid in processes_of(host.daemon)]
        if self.network.path("public").exists():
            left += self.network.leftovers()
        self.keeper.ctl("ns", "down", "--name", self.lab.name, check=False)
        self.keeper.stop()
        return left + leftovers(self.keeper, self.lab)


@contextmanager
def open_site(directory: Path, slots: int, seed: int) -> Iterator[tuple[Site, list[str]]]:
    """A site, and where what is left of it will stand."""
    site = Site(directory, slots, seed)
    left: list[str] = []
    with ExitStack() as stack:
        stack.callback(lambda: left.extend(site.remove()))
        site.build()
        yield site, left
