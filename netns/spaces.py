"""Network namespaces with a name: made, marked, entered, removed."""

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns import kernel
from netns.mark import is_marked, is_marked_file, mark, place_file, temporary_name
from netns.netlink import open_netlink, told
from netns.permission import attempt
from netns.places import namespace_inode
from netns.topology import Namespace

_LOOPBACK = 1
"""Index of `lo` in every network namespace."""


@dataclass(frozen=True, slots=True)
class Space:
    """A namespace under construction: the calling thread need not be in it to work on it."""

    namespace: Namespace
    full_name: str
    fd: int
    """Of the namespace itself."""
    netlink: Any

    def close(self) -> None:
        """Let go of it; a namespace that has a name stays."""
        self.netlink.close()
        os.close(self.fd)


def make_space(namespace: Namespace, full_name: str, path: Path, lab: str, token: str) -> Space:
    """Make a namespace with ``lo`` up, mounted on ``path``; the calling thread is then in it.

    Raises:
      FileExistsError: ``path`` is taken.
      NetnsError: ``forbidden``.
    """
    attempt("make a network namespace", lambda: kernel.unshare(kernel.CLONE_NEWNET))
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    space = Space(namespace, full_name, fd, open_netlink())
    try:
        with told(f"set up lo in {full_name}"):
            space.netlink.link("set", index=_LOOPBACK, state="up", ifalias=mark(lab, token))
        place_file(path, lab, token, "")
        source = f"/proc/self/fd/{fd}"
        attempt(
            f"mount it on {path}",
            lambda: kernel.mount(source, str(path), "none", kernel.MS_BIND),
        )
    except BaseException:
        space.close()
        raise
    return space


@contextmanager
def entered(path: Path | str) -> Iterator[None]:
    """Be in the namespace of that file, then back where the calling thread was.

    Raises:
      OSError: it is no network namespace, or we may not enter.
    """
    back = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.enter(str(path), kernel.CLONE_NEWNET)
        try:
            yield
        finally:
            kernel.setns(back, kernel.CLONE_NEWNET)
    finally:
        os.close(back)


def mark_here() -> str:
    """The mark of the calling thread's namespace, or "" if it has none."""
    with open_netlink() as netlink:
        (loopback,) = netlink.get_links(_LOOPBACK)
        return str(loopback.get_attr("IFLA_IFALIAS") or "")


def addresses_here() -> set[str]:
    """IPv4 addresses with prefix lengths in the calling thread's namespace, loopback's too."""
    with open_netlink() as netlink:
        return {
            f"{found.get_attr('IFA_LOCAL')}/{found['prefixlen']}"
            for found in netlink.get_addr(family=socket.AF_INET)
        }


def is_ours(path: Path, token: str) -> bool:
    """Whether the namespace mounted on ``path`` bears the lab's mark."""
    with entered(path):
        return is_marked(mark_here(), token)


def remove_space(path: Path, token: str) -> bool:
    """Take the name of a namespace away, if both are the lab's; whether nothing is left there.

    The namespace itself goes with the last process in it.
    """
    temporary_name(path, token).unlink(missing_ok=True)
    while namespace_inode(path) is not None:
        if not is_ours(path, token):
            return False
        kernel.umount(str(path), kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)
    if is_marked_file(path, token):
        path.unlink(missing_ok=True)
    return not path.exists()


def stands(path: Path, token: str, addresses: Iterable[str]) -> bool:
    """Whether a namespace of the lab is mounted on ``path`` and has all these addresses."""
    with entered(path):
        return is_marked(mark_here(), token) and addresses_here() >= set(addresses)
