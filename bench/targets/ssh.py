"""OpenSSH: the private host runs ``ssh -R`` to an sshd on the public one."""

import shutil
import subprocess
from pathlib import Path

from bench.lab import PRIVATE_ADDRESS, SERVER_ADDRESS
from bench.targets.base import Target, forwarded
from bench.world import ENDPOINT_PORT, SERVICES, World

_PORT = 2222
_FIRST_FORWARDED = 7000
_SSHD = "/usr/sbin/sshd"
"""It wants to be started by its full path."""

_PRIVILEGE_SEPARATION = Path("/run/sshd")


class Ssh(Target):
    name = "ssh"
    security = "none (loopback); ssh"

    def missing(self) -> str:
        if not shutil.which("ssh"):
            return "no such program: ssh (openssh-client)"
        return "" if Path(_SSHD).exists() else f"no such program: {_SSHD} (openssh-server)"

    def version(self) -> str:
        done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False)
        return done.stderr.strip().partition(",")[0]

    def start(self, world: World) -> None:
        directory = world.directory / "ssh"
        if not directory.exists():
            _prepare(directory)
        _PRIVILEGE_SEPARATION.mkdir(exist_ok=True)
        argv = world.network.public(_SSHD, "-D", "-e", "-f", directory / "sshd_config")
        self.spawn(world, "server", argv).wait_listening(_PORT)
        forwards = [
            word
            for service in range(SERVICES)
            for word in ("-R", _forward(_FIRST_FORWARDED + service, ENDPOINT_PORT + service))
        ]
        options = (
            "StrictHostKeyChecking=no",
            f"UserKnownHostsFile={directory / 'known_hosts'}",
            "ExitOnForwardFailure=yes",
            "LogLevel=ERROR",
        )
        argv = world.network.private(
            *("ssh", "-N", "-F", "none", "-i", directory / "user", "-p", _PORT),
            *(word for option in options for word in ("-o", option)),
            *forwards,
            f"root@{SERVER_ADDRESS}",
        )
        self.spawn(world, "agent", argv)

    def route(self, world: World) -> list[str]:
        return forwarded(_FIRST_FORWARDED)


def _forward(here: int, there: int) -> str:
    return f"127.0.0.1:{here}:{PRIVATE_ADDRESS}:{there}"


def _prepare(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    for name in ("host", "user"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(argv, check=True)
    shutil.copy(directory / "user.pub", directory / "authorized_keys")
    (directory / "sshd_config").write_text(f"""
Port {_PORT}
ListenAddress {SERVER_ADDRESS}
HostKey {directory}/host
AuthorizedKeysFile {directory}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PidFile none
""")
