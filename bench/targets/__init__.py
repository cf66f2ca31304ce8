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
    "ours-unix": lambda: Ours("ours-unix", unix=True),
    "direct": Direct,
    "ssh": Ssh,
    "konnectivity": Konnectivity,
    "chisel": Chisel,
    "chisel-tls": lambda: Chisel(tls=True),
    "frp": Frp,
    "rathole": Rathole,
    "ours-konnectivity": lambda: Konnectivity("ours-konnectivity", our_server=True),
    "konnectivity-ours": lambda: Konnectivity("konnectivity-ours", our_agent=True),
}
"""``ours-konnectivity`` is our server with konnectivity's agent, ``konnectivity-ours`` the other
way round; ``ours-unix`` has a client's leg without TLS, as those have that forward ports."""


def make_target(name: str) -> Target:
    """
    Raises:
      BenchError: no such target.
    """
    if name not in TARGETS:
        raise BenchError(f"no target {name!r}; there are: {', '.join(TARGETS)}")
    return TARGETS[name]()
