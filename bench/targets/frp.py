"""frp: yamux over mutual TLS."""

from pathlib import Path

from bench.errors import BenchError
from bench.lab import PRIVATE_ADDRESS, SERVER_ADDRESS
from bench.targets.base import AGENT_PORT, Target, forwarded
from bench.targets.gopeers import build_peers, module_version
from bench.world import ENDPOINT_PORT, SERVICES, World

_FIRST_FORWARDED = 7000


class Frp(Target):
    """All else at its defaults: one multiplexed connection, no encryption of its own inside."""

    name = "frp"
    security = "none (loopback); mutual TLS"

    def __init__(self) -> None:
        super().__init__()
        self._programs = Path()

    def missing(self) -> str:
        try:
            self._programs = build_peers()
        except BenchError as exc:
            return str(exc)
        return ""

    def version(self) -> str:
        return f"frp {module_version('github.com/fatedier/frp')}"

    def start(self, world: World) -> None:
        server = world.directory / "frps.toml"
        server.write_text(f"""
bindAddr = "{SERVER_ADDRESS}"
bindPort = {AGENT_PORT}
proxyBindAddr = "127.0.0.1"
transport.tls.force = true
{_identity(world, "server")}
""")
        argv = world.network.public(self._programs / "frps", "-c", server)
        self.spawn(world, "server", argv).wait_listening(AGENT_PORT)
        agent = world.directory / "frpc.toml"
        agent.write_text(f"""
serverAddr = "{SERVER_ADDRESS}"
serverPort = {AGENT_PORT}
{_identity(world, "agent")}
{"".join(map(_proxy, range(SERVICES)))}
""")
        self.spawn(world, "agent", world.network.private(self._programs / "frpc", "-c", agent))

    def route(self, world: World) -> list[str]:
        return forwarded(_FIRST_FORWARDED)


def _identity(world: World, name: str) -> str:
    directory = world.certificates / "agent"
    return f"""
transport.tls.certFile = "{directory}/{name}.crt"
transport.tls.keyFile = "{directory}/{name}.key"
transport.tls.trustedCaFile = "{directory}/ca.crt"
"""


def _proxy(service: int) -> str:
    return f"""
[[proxies]]
name = "service-{service}"
type = "tcp"
localIP = "{PRIVATE_ADDRESS}"
localPort = {ENDPOINT_PORT + service}
remotePort = {_FIRST_FORWARDED + service}
"""
