"""Names that are taken by what somebody else made: refuse before anything is built."""

from collections.abc import Iterable
from pathlib import Path

from netns.errors import NetnsError
from netns.places import ETC, NAMED, namespace_inode
from netns.resolv import FILE
from netns.spaces import entered, mark_here


def refuse(names: Iterable[str]) -> None:
    """Refuse full names of which a namespace, or a resolv.conf, is there.

    Raises:
      NetnsError: ``exists``.
    """
    for name in names:
        space, resolv = NAMED / name, ETC / name / FILE
        if space.exists() or space.is_symlink():
            raise NetnsError(
                "exists",
                f"there is a namespace {name!r} already, {_maker(space)}",
                f"remove it (ip netns delete {name}), or give the lab another name, which "
                "prefixes its namespaces",
            )
        if resolv.exists() or resolv.is_symlink():
            raise NetnsError(
                "exists",
                f"{resolv} is there already, and this lab did not make it",
                "move it away, or give the lab another name, which prefixes its namespaces",
            )


def _maker(space: Path) -> str:
    stranger = "and this lab did not make it"
    if namespace_inode(space) is None:
        return stranger
    with entered(space):
        return mark_here() or stranger
