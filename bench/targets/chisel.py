"""chisel: SSH in a WebSocket, as it is or in TLS."""

import re
import subprocess
from pathlib import Path

from bench.errors import BenchError
from bench.lab import PRIVATE_ADDRESS, SERVER_ADDRESS
from bench.targets.base import AGENT_PORT, Target, forwarded
from bench.targets.gopeers import build_peers, module_version
from bench.world import ENDPOINT_PORT, SERVICES, World

_FIRST_FORWARDED = 7000
_LOGIN = "bench:a-password-of-the-bench"


class Chisel(Target):
    """The client knows the server by its key's fingerprint, the server the client by a password;
    with TLS both by certificates too."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.name = "chisel-tls" if tls else "chisel"
        self.security = f"none (loopback); ssh{' in mutual TLS' if tls else ''}"
        self._tls = tls
        self._program = Path()

    def missing(self) -> str:
        try:
            self._program = build_peers() / "chisel"
        except BenchError as exc:
            return str(exc)
        return ""

    def version(self) -> str:
        return f"chisel {module_version('github.com/jpillora/chisel')}"

    def start(self, world: World) -> None:
        key = world.directory / "chisel.key"
        if not key.exists():
            subprocess.run(
                [self._program, "server", "--keygen", key], check=True, capture_output=True
            )
        identity = world.certificates / "agent"
        server: list[object] = ["--keyfile", key, "--reverse", "--auth", _LOGIN]
        if self._tls:
            server += _tls_options(identity, "server")
        options = ("--host", SERVER_ADDRESS, "--port", AGENT_PORT, *server)
        argv = world.network.public(self._program, "server", *options)
        process = self.spawn(world, "server", argv)
        process.wait_listening(AGENT_PORT)
        client: list[object] = ["--fingerprint", _fingerprint(process.log), "--auth", _LOGIN]
        if self._tls:
            client += _tls_options(identity, "agent")
        url = f"{'https' if self._tls else 'http'}://{SERVER_ADDRESS}:{AGENT_PORT}"
        remotes = [
            f"R:127.0.0.1:{_FIRST_FORWARDED + n}:{PRIVATE_ADDRESS}:{ENDPOINT_PORT + n}"
            for n in range(SERVICES)
        ]
        argv = world.network.private(self._program, "client", *client, url, *remotes)
        self.spawn(world, "agent", argv)

    def route(self, world: World) -> list[str]:
        return forwarded(_FIRST_FORWARDED)


def _tls_options(directory: Path, name: str) -> list[object]:
    return [
        *("--tls-ca", directory / "ca.crt", "--tls-cert", directory / f"{name}.crt"),
        *("--tls-key", directory / f"{name}.key"),
    ]


def _fingerprint(log: Path) -> str:
    """The server says it in its log."""
    found = re.findall(r"Fingerprint (\S+)", log.read_text())
    if not found:
        raise BenchError("chisel's server names no fingerprint")
    return str(found[-1])
