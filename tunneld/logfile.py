"""Where log lines go: a file of bounded size, or a descriptor such as stderr."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from tunneld.logbook import LogRecord

MAX_SIZE = 10 << 20
"""Octets of the log file before it becomes ``NAME.1`` in place of the previous one."""

_BARE = re.compile(r"[\w.:/@+,\[\]%-]+")
"""Values that stand without quotes."""
_CONTROL = re.compile(r"[\x7f-\x9f]")
"""What steers some terminals, and JSON need not escape."""


class Output:
    """Writes lines to a descriptor.

    A full disk or a reader that is gone must not end the daemon: what can't be written is counted
    and reported ahead of the next line that can.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0

    def write(self, text: str) -> None:
        """Write ``text`` and a newline. Blocks as long as the kernel does."""
        if self._lost:
            text = f"{self._lost} log lines could not be written\n{text}"
        data = memoryview(f"{text}\n".encode("utf-8", "backslashreplace"))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            self._lost = 0
        except OSError:
            self._lost += 1


class LogFile(Output):
    """Appends lines to a file, mode 0600, that is put aside when it has grown too large."""

    def __init__(self, path: Path, max_size: int = MAX_SIZE, descriptor: int | None = None) -> None:
        """Open ``path``, on ``descriptor`` if given: a daemon's stderr is its log file.

        Raises:
          OSError: it cannot be opened.
        """
        super().__init__(_open(path))
        self._path = path
        self._max_size = max_size
        if descriptor is not None:
            own, self._descriptor = self._descriptor, descriptor
            self._exchange(own)

    def write(self, text: str) -> None:
        super().write(text)
        if os.fstat(self._descriptor).st_size >= self._max_size:
            self._rotate()

    def close(self) -> None:
        os.close(self._descriptor)

    def _rotate(self) -> None:
        try:
            try:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            except FileNotFoundError:
                pass  # put aside already, and then there was no descriptor for another
            descriptor = _open(self._path)
        except OSError:
            return  # the old file grows on; the next line tries again
        self._exchange(descriptor)

    def _exchange(self, descriptor: int) -> None:
        os.dup2(descriptor, self._descriptor, inheritable=self._descriptor <= 2)
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def render(line: LogRecord, role: str | None) -> str:
    """One line of text, and a traceback indented below it.

    Peers have a say in values: control characters are escaped, so that none can forge a line.
    """
    when = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds")
    fields = dict(line.fields)
    traceback = fields.pop("exception", None)
    pairs = [*([("role", role)] if role else []), *fields.items()]
    words = [when.replace("+00:00", "Z"), f"{line.level:<7}", _escaped(line.event)]
    text = " ".join([*words, *(f"{_escaped(key)}={_value(value)}" for key, value in pairs)])
    for row in str(traceback).splitlines() if traceback else ():
        text += f"\n    | {_escaped(row)}"
    return text


def render_json(line: LogRecord, role: str | None) -> str:
    """As a JSON object: ``time`` (RFC 3339), ``level``, ``message``; ``event`` and ``role``
    where there are any; then the fields, those of such a name with an underscore behind it."""
    when = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds")
    item = {
        "time": when.replace("+00:00", "Z"),
        "level": line.level,
        "message": line.event,
        **({"event": line.name} if line.name else {}),
        **({"role": role} if role else {}),
    }
    for key, value in line.fields.items():
        item[f"{key}_" if key in item else key] = value
    text = json.dumps(item, ensure_ascii=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _value(value: object) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else _escaped(json.dumps(text, ensure_ascii=False))
