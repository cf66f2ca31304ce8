"""The demo's network under names of its own, with one way in for the target `direct`."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bench.errors import BenchError
from netns import Lab, Topology, builtin_topology, enter_argv, read_lab, tear_down
from netns import up_argv as build_argv
from netns import up_request as build_request
from netns.topology import Accept, Route

NAME = "bench"
DIRECTORY = Path("/run/tunneld-bench")
"""Always the same, so that each run removes what an earlier one may have left."""

SERVER_ADDRESS = "2.2.2.2"
PRIVATE_ADDRESS = "192.168.1.2"


class Network:
    """The lab while it stands."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def public(self, *argv: object) -> list[str]:
        """The command line that runs ``argv`` on the public host."""
        return self._inside("public", argv)

    def private(self, *argv: object) -> list[str]:
        """The same on the host behind NAT."""
        return self._inside("private", argv)

    @contextmanager
    def slow(self, rate: int) -> Iterator[None]:
        """Bound both ways between the routers, in bits a second, while the block runs."""
        self._shape(rate)
        try:
            yield
        finally:
            self._shape(0)

    def _shape(self, rate: int) -> None:
        for here, there in (("rtr-priv", "rtr-pub"), ("rtr-pub", "rtr-priv")):
            program = [sys.executable, "-P", "-m", "bench.shape", there, str(rate)]
            argv = self._inside(here, program)
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, cwd="/")
            if done.returncode:
                raise BenchError(f"cannot bound the link: {done.stderr.strip()[-300:]}")

    def _inside(self, namespace: str, argv: Sequence[object]) -> list[str]:
        return [*enter_argv(self._lab, namespace), *map(str, argv)]


@contextmanager
def open_network() -> Iterator[Network]:
    """Build the lab, and remove it with all processes inside of it.

    Raises:
      BenchError: another benchmark runs.
      NetnsError: the lab cannot be built or removed.
    """
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    with (DIRECTORY / "bench.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BenchError("another benchmark is running on this machine") from exc
        lab = DIRECTORY / "lab"
        tear_down(lab)
        try:
            _build(lab)
            stands = read_lab(lab)
            assert stands is not None
            yield Network(stands)
        finally:
            tear_down(lab)


def topology() -> Topology:
    """The demo's, where the routers also let the public host reach the private one."""
    demo = builtin_topology("demo")
    spaces = {space.name: space for space in demo.namespaces}
    inner, outer = spaces["rtr-priv"], spaces["rtr-pub"]
    assert inner.firewall is not None
    door = Accept(incoming="rtr-pub", outgoing="private")
    spaces["rtr-priv"] = replace(
        inner, firewall=replace(inner.firewall, accept=(*inner.firewall.accept, door))
    )
    way = Route(destination=IPv4Network("192.168.1.0/27"), via=IPv4Address("10.10.10.2"))
    spaces["rtr-pub"] = replace(outer, routes=(*outer.routes, way))
    return replace(demo, namespaces=tuple(spaces.values()), roles=())


def _build(directory: Path) -> None:
    # Its stdin stays open until it has ended: the end of it would mean "give up".
    with subprocess.Popen(
        build_argv(directory), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as builder:
        assert builder.stdin is not None
        assert builder.stdout is not None
        builder.stdin.write(build_request(NAME, topology()))
        builder.stdin.flush()
        for line in builder.stdout:
            message = json.loads(line)
            if "error" in message:
                raise BenchError(f"cannot build the network: {message['error']['message']}")
