"""Without root: a user and mount namespace of our own, in which the lab is built and held.

In it we are root over network namespaces that we make. Files of the lab are on a tmpfs that only
this mount namespace has, so the end of the process that holds it leaves an empty directory.
"""

import os
from pathlib import Path

from netns import kernel
from netns.permission import attempt


def become_holder(held: Path) -> None:
    """Move the calling process, which has one thread, into new user and mount namespaces.

    Our own user becomes root there; all other users appear as "nobody".

    Args:
      held: an empty directory of ours; a tmpfs is then mounted on it.
    Raises:
      NetnsError: ``forbidden``.
    """
    uid, gid = os.geteuid(), os.getegid()
    attempt("make a user namespace", lambda: kernel.unshare(kernel.CLONE_NEWUSER))
    kernel.let_own_user_look()
    attempt("map users into it", lambda: _map_users(uid, gid))
    attempt("make a mount namespace", lambda: kernel.unshare(kernel.CLONE_NEWNS))
    attempt("mount a tmpfs in it", lambda: _mount_tmpfs(held))


def _map_users(uid: int, gid: int) -> None:
    # user_namespaces(7): without setgroups denied, an unprivileged process may not map groups.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _mount_tmpfs(held: Path) -> None:
    # Slave: what is unmounted on the host must not live on in here, what we mount stays here.
    kernel.mount("", "/", "none", kernel.MS_SLAVE | kernel.MS_REC)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", str(held), "tmpfs", flags, "mode=0755,size=1m")
