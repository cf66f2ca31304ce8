"""rathole: a TLS connection for each forwarded connection."""

import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)

from bench.cache import built
from bench.errors import BenchError
from bench.lab import PRIVATE_ADDRESS, SERVER_ADDRESS
from bench.targets.base import AGENT_PORT, Target, forwarded
from bench.world import ENDPOINT_PORT, SERVICES, World

_VERSION = "0.5.0"
_FIRST_FORWARDED = 7000
_PASSWORD = "bench"
_HERE = Path(__file__).parent


class Rathole(Target):
    """It has TLS with a certificate for the server alone; the client shows a token."""

    name = "rathole"
    security = "none (loopback); TLS and a token"

    def __init__(self) -> None:
        super().__init__()
        self._program = Path()

    def missing(self) -> str:
        cargo = shutil.which("cargo")
        if not cargo:
            return "no cargo to build it with"
        features = "server,client,tls"
        argv = [
            *(cargo, "install", f"rathole@{_VERSION}", "--root", "OUT"),
            *("--no-default-features", "--features", features),
        ]
        try:
            self._program = built("rathole", [], argv, _HERE) / "bin/rathole"
        except BenchError as exc:
            return str(exc)
        return ""

    def version(self) -> str:
        return f"rathole {_VERSION}"

    def start(self, world: World) -> None:
        identity = world.directory / "rathole.pfx"
        if not identity.exists():
            _write_identity(world.certificates / "agent", identity)
        server = world.directory / "rathole-server.toml"
        server.write_text(f"""
[server]
bind_addr = "{SERVER_ADDRESS}:{AGENT_PORT}"
default_token = "a token of the bench"
[server.transport]
type = "tls"
[server.transport.tls]
pkcs12 = "{identity}"
pkcs12_password = "{_PASSWORD}"
{"".join(_service("server", "bind_addr", "127.0.0.1", _FIRST_FORWARDED, n) for n in _NUMBERS)}
""")
        argv = world.network.public(self._program, "--server", server)
        self.spawn(world, "server", argv).wait_listening(AGENT_PORT)
        client = world.directory / "rathole-client.toml"
        client.write_text(f"""
[client]
remote_addr = "{SERVER_ADDRESS}:{AGENT_PORT}"
default_token = "a token of the bench"
[client.transport]
type = "tls"
[client.transport.tls]
trusted_root = "{world.certificates / "agent/ca.crt"}"
hostname = "localhost"
{"".join(_service("client", "local_addr", PRIVATE_ADDRESS, ENDPOINT_PORT, n) for n in _NUMBERS)}
""")
        self.spawn(world, "agent", world.network.private(self._program, "--client", client))

    def route(self, world: World) -> list[str]:
        return forwarded(_FIRST_FORWARDED)


_NUMBERS = range(SERVICES)


def _service(side: str, key: str, host: str, first_port: int, number: int) -> str:
    return f"""
[{side}.services.service{number}]
{key} = "{host}:{first_port + number}"
"""


def _write_identity(directory: Path, path: Path) -> None:
    """The server's certificate and key as PKCS #12."""
    certificate = x509.load_pem_x509_certificate((directory / "server.crt").read_bytes())
    key = load_pem_private_key((directory / "server.key").read_bytes(), None)
    encryption = BestAvailableEncryption(_PASSWORD.encode())
    octets = pkcs12.serialize_key_and_certificates(
        b"server",
        key,  # type: ignore[arg-type]  # of all kinds of keys, some cannot be in such a file
        certificate,
        None,
        encryption,
    )
    path.write_bytes(octets)
