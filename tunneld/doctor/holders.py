"""Which process listens on a TCP port, as /proc tells it."""

from pathlib import Path

_PROC = Path("/proc")
_LISTEN = "0A"
"""Of the state column in /proc/net/tcp: TCP_LISTEN."""


def holder_of(port: int, proc: Path = _PROC) -> str:
    """The process, for people: ``nginx, pid 812``; "" if it is nobody, or not for us to know."""
    inodes = _inodes(port, proc)
    if not inodes:
        return ""
    for process in proc.iterdir():
        if process.name.isdigit() and inodes & _sockets_of(process):
            return f"{_name(process)}, pid {process.name}"
    return ""


def _inodes(port: int, proc: Path) -> set[str]:
    """Of the sockets that listen on the port, whatever their addresses."""
    found = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, lines):
            # sl, local_address (hex address:port), rem_address, st, …, inode the tenth
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{columns[9]}]")
    return found


def _sockets_of(process: Path) -> set[str]:
    found = set()
    try:
        for each in (process / "fd").iterdir():
            try:
                found.add(str(each.readlink()))
            except FileNotFoundError:
                continue  # closed since
    except OSError:
        return set()  # ended, or another user's
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a process"
