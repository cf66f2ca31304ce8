"""Running a program in the background, known to be ready: fork, leave the terminal, report.

To be used before any thread or event loop exists.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

Tell: TypeAlias = Callable[[dict[str, Any]], None]
"""Sends the one message that whoever waits in `detach` gets. Later calls do nothing."""


def detach(body: Callable[[Tell], None]) -> dict[str, Any] | None:
    """Run ``body`` in a process without terminal, session and parent.

    Its directory is ``/``, its standard streams are /dev/null.

    Returns:
      What it told, as soon as it did; None if it ended without a word.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _leave(body, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as answers:
        text = answers.read()
    if not text:
        return None
    message: dict[str, Any] = json.loads(text)
    return message


def _leave(body: Callable[[Tell], None], writer: int) -> None:
    """The rest of the child's life: it never returns."""
    status = 1
    try:
        os.setsid()
        if os.fork() == 0:  # no session leader: never again gets a terminal
            _close_standard_streams()
            os.chdir("/")
            body(_teller(writer))
        status = 0
    except BaseException:  # the parent's stack must not run on in here
        traceback.print_exc()
    finally:
        os._exit(status)


def _teller(writer: int) -> Tell:
    open_end = [writer]

    def tell(message: dict[str, Any]) -> None:
        if open_end:
            with os.fdopen(open_end.pop(), "wb") as pipe:
                pipe.write(json.dumps(message).encode())

    return tell


def _close_standard_streams() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
