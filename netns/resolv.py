"""A namespace's resolv.conf, where `ip netns exec` and `netns.enter` find it."""

from pathlib import Path

from netns import folders
from netns.mark import is_marked_file, place_file, temporary_name
from netns.topology import Namespace

FILE = "resolv.conf"


def resolv_conf(namespace: Namespace) -> str:
    """The text of resolv.conf(5).

    A namespace without nameservers gets a file without: else programs in it would wait for the
    host's, which they cannot reach.
    """
    lines = [f"nameserver {address}" for address in namespace.nameservers]
    if not lines:
        lines = ["# no nameserver: names do not resolve here"]
    if namespace.search:
        lines.append(f"search {' '.join(namespace.search)}")
    return "\n".join(lines) + "\n"


def place_resolv_conf(namespace: Namespace, etc: Path, lab: str, token: str) -> None:
    """Put the file into the directory ``etc``, made if missing.

    Raises:
      FileExistsError: there is one.
    """
    folders.make(etc)
    place_file(etc / FILE, lab, token, resolv_conf(namespace), prefix="# ")


def remove_resolv_conf(etc: Path, token: str, ours: bool) -> bool:
    """Take it away if it is the lab's, and then the directory; whether none is left there.

    Args:
      ours: whether the lab's journal says that it made the directory.
    """
    path = etc / FILE
    temporary_name(path, token).unlink(missing_ok=True)
    if is_marked_file(path, token):
        path.unlink(missing_ok=True)
    folders.remove(etc, ours)
    return not path.exists()
