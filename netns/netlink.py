"""pyroute2, loaded when first used (it takes 0.15 s), and its errors in words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from netns.errors import NetnsError


def open_netlink() -> Any:
    """An rtnetlink socket (`pyroute2.IPRoute`) of the calling thread's network namespace.

    It keeps to that namespace wherever the thread goes.
    """
    from pyroute2.iproute.linux import IPRoute

    return IPRoute()


def open_nftables() -> Any:
    """An nftables socket of the calling thread's network namespace, for tables of family inet."""
    from pyroute2.nftables.main import NFTables

    return NFTables(nfgen_family=_NFPROTO_INET)


_NFPROTO_INET = 1


@contextmanager
def told(operation: str, hints: dict[int, str] | None = None) -> Iterator[None]:
    """Turn a refusal of the kernel into a `NetnsError` that names the operation.

    Args:
      hints: what to do, by errno.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as exc:
        number = exc.code
        raise NetnsError(
            "forbidden" if number in (errno.EPERM, errno.EACCES) else "failed",
            f"cannot {operation}: the kernel says {os.strerror(number)!r}",
            (hints or {}).get(number, ""),
        ) from exc
