"""The ways through the network, by name."""

from collections.abc import Callable

from bench.errors import BenchError
from bench.targets.base import Target
from bench.targets.chisel import Chisel
from bench.targets.direct import Direct
from bench.targets.frp import Frp
from bench.targets.konnectivity import Konnectivity
from bench.targets.ours import Ours
from bench.targets.rathole import Rathole
from bench.targets.ssh import Ssh

TARGETS: dict[str, Callable[[], Target]] = {
    "ours": Ours,
    "direct": Direct,
    "ssh": Ssh,
    "konnectivity": Konnectivity,
    "chisel": Chisel,
    "chisel-tls": lambda: Chisel(tls=True),
    "frp": Frp,
    "rathole": Rathole,
    "ours-go": lambda: Konnectivity("ours-go", our_server=True),
    "go-ours": lambda: Konnectivity("go-ours", our_agent=True),
}
"""``ours-go`` is our server with konnectivity's agent, ``go-ours`` the other way round."""


def make_target(name: str) -> Target:
    """
    Raises:
      BenchError: no such target.
    """
    if name not in TARGETS:
        raise BenchError(f"no target {name!r}; there are: {', '.join(TARGETS)}")
    return TARGETS[name]()
