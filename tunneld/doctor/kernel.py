"""What the kernel has for labs. Nothing here is needed by a tunnel."""

import os
from collections.abc import Iterator
from pathlib import Path

from tunneld.doctor.finding import Finding, noted

_SWITCHES = {
    "user/max_user_namespaces": "0",
    "kernel/unprivileged_userns_clone": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}
"""Settings below /proc/sys, and the value that keeps a plain user from making namespaces."""


def check_kernel(sysctl: Path = Path("/proc/sys")) -> Iterator[Finding]:
    """The kernel's release, and whether namespaces can be made as this user."""
    release = os.uname().release
    missing = [
        kind for kind in ("net", "mnt", "user") if not Path(f"/proc/self/ns/{kind}").exists()
    ]
    switches = [] if os.geteuid() == 0 else _forbidding(sysctl)
    if missing:
        text = f"no namespaces of the kinds {', '.join(missing)}: no labs here"
    elif switches:
        text = f"labs need another setting: sysctl {', '.join(switches)}"
    else:
        text = "it has namespaces for labs"
    yield noted("kernel", f"Linux {release}; {text}")


def _forbidding(sysctl: Path) -> list[str]:
    found = []
    for name, bad in _SWITCHES.items():
        try:
            value = (sysctl / name).read_text().strip()
        except OSError:
            continue
        if value == bad:
            found.append(f"{name.replace('/', '.')}={value}")
    return found
