"""Traffic shaping of one device: tbf for the rate, netem for delay and loss."""

import errno
from typing import Any

from netns.netlink import told
from netns.topology import End, Shape

_ROOT = 0x10000
_UNDER_RATE = 0x10001

_MTU_WITH_HEADER = 1514
_BURST_TIME = 0.01
"""Seconds of traffic that may leave at once; less than a timer tick of old kernels would starve."""
_QUEUE_TIME = 0.05
"""Seconds that a packet may wait for its turn; more is dropped, as a router would."""
_DELAYED_PACKETS = 10_000
"""Packets in flight within a delay: a gigabit with full packets for 100 ms."""


def shape_device(netlink: Any, index: int, end: End, shape: Shape) -> None:
    """Shape what the device sends.

    Raises:
      NetnsError: the kernel lacks the queueing discipline, or refuses.
    """
    parent = {}
    if shape.rate:
        with told(f"limit the rate of {end.device} in {end.namespace}", _hints("tbf", "TBF")):
            netlink.tc("add", "tbf", index, handle=_ROOT, **tbf_parameters(shape.rate))
        parent = {"parent": _UNDER_RATE}
    if shape.delay or shape.loss:
        with told(
            f"delay or lose packets of {end.device} in {end.namespace}", _hints("netem", "NETEM")
        ):
            netlink.tc("add", "netem", index, handle=0x20000, **parent, **netem_parameters(shape))


def tbf_parameters(rate: int) -> dict[str, int]:
    """For `pyroute2`: octets a second, octets of the bucket and of the queue.

    Args:
      rate: bits a second.
    """
    octets = rate // 8
    burst = max(round(octets * _BURST_TIME), 2 * _MTU_WITH_HEADER)
    return {
        "rate": octets,
        "burst": burst,
        "limit": burst + max(round(octets * _QUEUE_TIME), burst),
    }


def netem_parameters(shape: Shape) -> dict[str, float]:
    """For `pyroute2`: microseconds and percent."""
    return {
        "delay": round(shape.delay * 1e6),
        "loss": shape.loss * 100,
        "limit": _DELAYED_PACKETS,
    }


def _hints(kind: str, option: str) -> dict[int, str]:
    missing = (
        f"the kernel has no {kind} (CONFIG_NET_SCH_{option}, module `sch_{kind}`): "
        "load or install it, or take it out of the link's `shape`"
    )
    return {errno.ENOENT: missing, errno.EOPNOTSUPP: missing}
