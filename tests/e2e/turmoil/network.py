"""What befalls the lab's network: its links, its NAT, its rate. As root, through netlink."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

from netns.shaping import tbf_parameters
from netns.spaces import entered

_UPLINK = "rtr-priv"
"""Of `rtr-pub`: its end of the link to the NAT."""
_LOOSE = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")
_TIME_WAIT = 0x06


class Network:
    """The namespaces of a lab.

    Args:
      lab: its name.
    """

    def __init__(self, lab: str) -> None:
        self._lab = lab

    def path(self, short: str) -> Path:
        return Path("/run/netns") / f"{self._lab}-{short}"

    def uplink_down(self) -> None:
        """Pull the cable between the two routers, at the far end: no route is lost."""
        self._set_uplink("down")

    def uplink_up(self) -> None:
        self._set_uplink("up")

    def forget_nat(self) -> None:
        """Have the NAT lose all of its connections."""
        with entered(self.path("rtr-priv")), NFCTSocket() as conntrack:
            conntrack.flush()

    def be_strict(self, strict: bool) -> None:
        """Whether the NAT takes no packet of a TCP connection that it has not seen begin."""
        with entered(self.path("rtr-priv")):
            _LOOSE.write_text("0" if strict else "1")

    def limit_rate(self, rate: int) -> None:
        """Have no more than ``rate`` bits a second leave either router towards the other."""
        for short, device in (("rtr-pub", _UPLINK), ("rtr-priv", "rtr-pub")):
            with self._device(short, device) as (netlink, index):
                netlink.tc("add", "tbf", index, handle=0x10000, **tbf_parameters(rate))

    def unlimit_rate(self) -> None:
        for short, device in (("rtr-pub", _UPLINK), ("rtr-priv", "rtr-pub")):
            with self._device(short, device) as (netlink, index):
                netlink.tc("del", index=index, root=True)

    def leftovers(self) -> list[str]:
        """Processes, sockets and queueing disciplines that should not be there when all is over."""
        found = []
        for short in ("public", "rtr-pub", "rtr-priv", "private"):
            inode = self.path(short).stat().st_ino
            found += [f"{short}: process {pid}" for pid in _processes_in(inode)]
            with entered(self.path(short)), IPRoute() as netlink:
                found += [f"{short}: tcp {line}" for line in _open_tcp()]
                kinds = [each.get_attr("TCA_KIND") for each in netlink.get_qdiscs()]
                found += [f"{short}: qdisc {kind}" for kind in kinds if kind == "tbf"]
        return found

    def _set_uplink(self, state: str) -> None:
        with self._device("rtr-pub", _UPLINK) as (netlink, index):
            netlink.link("set", index=index, state=state)

    @contextmanager
    def _device(self, short: str, device: str) -> Iterator[tuple[Any, int]]:
        with entered(self.path(short)), IPRoute() as netlink:
            (index,) = netlink.link_lookup(ifname=device)
            yield netlink, index


def _processes_in(inode: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                there = (entry / "ns/net").stat().st_ino
            except OSError:
                continue
            if there == inode:
                found.append(int(entry.name))
    return found


def _open_tcp() -> list[str]:
    """Lines of the calling thread's namespace about sockets that somebody still holds."""
    lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if int(line.split()[3], 16) != _TIME_WAIT]
