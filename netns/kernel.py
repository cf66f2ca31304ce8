"""The few system calls that Python 3.11 does not have. Imports little: `enter` starts with it.

A namespace belongs to the thread: who calls `unshare` or `setns` changes the calling thread alone.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

_PR_SET_DUMPABLE = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces.

    Raises:
      OSError: EPERM without the capability, ENOSPC at a limit of /proc/sys/user.
    """
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Move the calling thread into the namespace that ``fd`` refers to.

    Raises:
      OSError: EINVAL if it is no namespace of that kind, EPERM without the capability.
    """
    _check(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), flags, data.encode()
    )
    _check(result, target)


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def let_own_user_look() -> None:
    """Let processes of our own user open our /proc/PID/ns files again.

    Gaining capabilities in a new user namespace makes a process "undumpable", and its /proc files
    root's (proc(5), PR_SET_DUMPABLE).
    """
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def enter(path: str, flags: int) -> None:
    """`setns` by path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, flags)
    finally:
        os.close(fd)


def _check(result: int, name: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
