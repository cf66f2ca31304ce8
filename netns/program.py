"""How the lab's programs talk with whoever spawned them: JSON lines.

Stdout: ``{"item": {...}}`` any number of times, then one ``{"result": {...}}`` or
``{"error": {"code", "message", "hint"}}``. The exit status is 0 after a result, else 1.
Stderr: what people may read when even that fails.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from netns.errors import NetnsError

Map = dict[str, object]
Report = Callable[[Map], None]
"""Takes the items of a program as they come."""

_STDIN, _STDOUT = 0, 1
_MAX_REQUEST = 1 << 20


def run(body: Callable[[], None]) -> int:
    """Run a program's body, turn what it raises into the error line; the exit status."""
    try:
        body()
    except NetnsError as exc:
        return _fail(exc)
    except OSError as exc:
        return _fail(NetnsError("failed", f"{exc.strerror}: {exc.filename or 'no file'}"))
    except Exception as exc:
        traceback.print_exc()
        return _fail(NetnsError("internal", f"{type(exc).__name__}: {exc}", "please report this"))
    return 0


def emit(kind: str, value: object) -> None:
    """Write one line; if nobody reads any more the work goes on, for half of it is worse."""
    data = json.dumps({kind: value}).encode() + b"\n"
    try:
        while data:
            data = data[os.write(_STDOUT, data) :]
    except BrokenPipeError:
        pass


def _fail(error: NetnsError) -> int:
    emit("error", error.to_map())
    return 1


def emit_item(item: Map) -> None:
    """Write an item."""
    emit("item", item)


@contextmanager
def step(title: str, detail: str = "") -> Iterator[None]:
    """Emit the items before and after a step; none after one that fails."""
    emit_item({"step": title, "state": "start", "detail": detail})
    yield
    emit_item({"step": title, "state": "done", "detail": detail})


def skip(title: str, detail: str) -> None:
    """Emit the item of a step that was not needed."""
    emit_item({"step": title, "state": "skip", "detail": detail})


def read_request() -> Map:
    """The first line of stdin.

    Raises:
      NetnsError: ``bad_request``: no JSON map in one line.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(_STDIN, 65536)
        if not data or len(line) > _MAX_REQUEST:
            raise NetnsError("bad_request", f"no request on stdin, just {len(line)} octets")
        line += data
    try:
        value = json.loads(line)
    except ValueError as exc:
        raise NetnsError("bad_request", f"the request is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise NetnsError("bad_request", "the request is not a map")
    return value


def call(argv: list[str], report: Report) -> Map:
    """Spawn a program that needs no request, wait for its end, give its result.

    Raises:
      NetnsError: the program's error.
    """
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            if "item" in message:
                report(message["item"])
            elif "error" in message:
                raise NetnsError(**message["error"])
            else:
                result: Map = message["result"]
                return result
    raise NetnsError("failed", f"{argv[3]} ended with status {process.returncode} and no result")


def main(body: Callable[[Path], None], argv: list[str]) -> int:
    """The entry of a program whose one argument is the lab's directory."""
    if len(argv) != 1:
        print("usage: one argument, the lab's directory", file=sys.stderr)  # noqa: T201
        return 2
    return run(lambda: body(Path(argv[0])))
