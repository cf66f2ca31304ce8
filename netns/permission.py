"""What the kernel lets us do with namespaces, and whom to ask when it does not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from netns.errors import NetnsError
from netns.journal import Mode

_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21

_SWITCHES = (
    # path, value that forbids, what it is; the first that forbids is the cause
    ("user/max_user_namespaces", "0", "the limit of user namespaces"),
    ("user/max_net_namespaces", "0", "the limit of network namespaces"),
    ("user/max_mnt_namespaces", "0", "the limit of mount namespaces"),
    ("kernel/unprivileged_userns_clone", "0", "Debian's switch for user namespaces"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor's restriction of user namespaces",
    ),
)

_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.ENOSYS, errno.EINVAL)
"""How unshare(2) and its followers say no: without permission, at a limit, not built in."""


def choose_mode() -> Mode:
    """`ROOT` with the capabilities for named namespaces, else `ROOTLESS`."""
    wanted = 1 << _CAP_SYS_ADMIN | 1 << _CAP_NET_ADMIN
    capable = _effective_capabilities() & wanted == wanted
    return Mode.ROOT if os.geteuid() == 0 and capable else Mode.ROOTLESS


def attempt(what: str, act: Callable[[], None]) -> None:
    """Do what the kernel may not let us.

    Args:
      what: as in ``make a user namespace``.
    Raises:
      NetnsError: ``forbidden``.
      OSError: it failed for another reason.
    """
    try:
        act()
    except OSError as exc:
        if exc.errno not in _REFUSALS:
            raise
        raise forbidden(what, exc) from exc


def forbidden(tried: str, error: OSError, sysctl: Path = Path("/proc/sys")) -> NetnsError:
    """The error for a step that needs what the kernel refuses.

    Args:
      tried: what we did, as in ``make a user namespace``.
      sysctl: where the switches are read.
    """
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    message = f"the kernel does not let us {tried}: {name} ({error.strerror})"
    for path, bad, what in _SWITCHES:
        if _read(sysctl / path) == bad:
            key = path.replace("/", ".")
            value = "0" if bad == "1" else ("1" if key.startswith("kernel.") else "10000")
            return NetnsError(
                "forbidden",
                f"{message}; {what}, sysctl {key}, is {bad}",
                f"as root: sysctl -w {key}={value}; or run the daemon as root",
            )
    return NetnsError("forbidden", message, _no_switch_hint(error))


def _no_switch_hint(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "as root: raise the limits user.max_*_namespaces of sysctl; too many are in use"
    return (
        "in a container, start it with more rights (docker: --privileged, or "
        "--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined); elsewhere run the daemon as root"
    )


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
