"""Settings of a network namespace in /proc/sys/net, which shows the calling thread's one."""

import errno
from pathlib import Path

from netns.errors import NetnsError
from netns.topology import Namespace

_FORWARD = "net.ipv4.ip_forward"


def write_sysctls(namespace: Namespace) -> None:
    """Set forwarding and the namespace's own settings in the calling thread's namespace.

    A new namespace copies forwarding from the host (net.core.devconf_inherit_init_net), so a host
    that does not forward must be told so. It comes first since it resets others.

    Raises:
      NetnsError: no such setting, bad value, or /proc/sys is read-only.
    """
    _write(namespace.name, _FORWARD, str(int(namespace.forwards)))
    for key, value in namespace.sysctls.items():
        _write(namespace.name, key, value)


def forwards_here() -> bool:
    """Whether the calling thread's namespace forwards IPv4."""
    return _path(_FORWARD).read_text().strip() == "1"


def _write(namespace: str, key: str, value: str) -> None:
    try:
        _path(key).write_text(value)
    except OSError as exc:
        message = f"cannot set {key} = {value} in {namespace}: {exc.strerror}"
        if exc.errno == errno.ENOENT:
            raise NetnsError(
                "failed", message, "namespaces of this kernel have no such setting"
            ) from exc
        if exc.errno == errno.EINVAL:
            raise NetnsError("failed", message, "the kernel does not take that value") from exc
        hint = "is /proc/sys writable here? in a container it may be mounted read-only"
        raise NetnsError("forbidden", message, hint) from exc


def _path(key: str) -> Path:
    return Path("/proc/sys", *key.split("."))
