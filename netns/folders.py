"""Directories outside of the lab's own: made where missing, removed by who made them.

Several labs share /run/netns and /etc/netns, and the last one to go is rarely the one that made
them. So what we make also gets an extended attribute, by which every lab knows it as ours.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from netns import kernel

_ATTRIBUTE = "trusted.tunneld"
_MADE = b"made"
_MOUNTED = b"mounted"


def missing(folders: Iterable[Path]) -> tuple[str, ...]:
    """Those that are not there."""
    return tuple(str(folder) for folder in folders if not folder.exists())


def make(folder: Path) -> None:
    """Make a directory, if it is not there."""
    try:
        folder.mkdir(mode=0o755)
    except FileExistsError:
        return
    _note(folder, _MADE)


def remove(folder: Path, ours: bool) -> None:
    """Remove a directory that we made and that is empty; anything else stays.

    Args:
      ours: whether the lab's own journal says that we made it.
    """
    noted = _noted(folder)
    made = ours or _MADE in noted
    if not (made or _MOUNTED in noted) or not folder.is_dir():
        return
    if any(folder.iterdir()):
        if made and _MADE not in noted:  # killed before it was noted: the next lab must know
            _note(folder, noted + _MADE)
        return
    try:
        if is_mount_point(folder):
            # Without MNT_DETACH this fails when somebody mounts a namespace in there meanwhile.
            kernel.umount(str(folder), kernel.UMOUNT_NOFOLLOW)
        if made:
            folder.rmdir()
        else:
            _note(folder, b"")
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.ENOENT):
            raise


def share(folder: Path) -> None:
    """Make a directory a shared mount point, as `ip netns add` does.

    Namespaces that are mounted or unmounted in it then are so in all mount namespaces that got a
    copy of it, rather than live on in those.
    """
    try:
        kernel.mount("", str(folder), "none", kernel.MS_SHARED | kernel.MS_REC)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # EINVAL: not a mount point yet
            raise
        _note(folder, _noted(folder) + _MOUNTED)
        kernel.mount(str(folder), str(folder), "none", kernel.MS_BIND | kernel.MS_REC)
        kernel.mount("", str(folder), "none", kernel.MS_SHARED | kernel.MS_REC)


def is_mount_point(folder: Path) -> bool:
    """Whether something is mounted exactly there, be it the directory on itself."""
    with Path("/proc/self/mountinfo").open("rb") as mounts:
        # proc(5): the fifth field is the mount point, with octal escapes for white space.
        return any(line.split()[4] == os.fsencode(folder) for line in mounts)


def _note(folder: Path, what: bytes) -> None:
    try:
        if what:
            os.setxattr(folder, _ATTRIBUTE, what)
        else:
            os.removexattr(folder, _ATTRIBUTE)
    except OSError as exc:
        # Not on this file system, or not in a container: then only the journal knows, and an
        # empty directory may be left when labs go in another order than they came.
        if exc.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
            raise


def _noted(folder: Path) -> bytes:
    try:
        return os.getxattr(folder, _ATTRIBUTE)
    except OSError as exc:
        if exc.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA, errno.ENOENT):
            raise
        return b""
