"""How the daemon logs: structlog events become records, which go to sinks.

An event belongs to the role whose task logs it: `role_context` binds the name, and the tasks that
a role starts inherit it.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import structlog
from structlog.typing import EventDict, WrappedLogger

from tunneld.logbook import LogRecord, record

LEVEL_VARIABLE = "TUNNELD_LOG_LEVEL"
"""``debug``, ``info`` (the default), ``warning`` or ``error``; workers inherit it."""

_LEVELS = {**logging.getLevelNamesMapping(), "EXCEPTION": logging.ERROR}

Sink: TypeAlias = Callable[[str | None, LogRecord], None]
"""Takes the role's name (None: the daemon itself) and the record. Must not log."""


NAME = "event_name"
"""The field by which a line is a `tunneld.events.Event`."""


def configure(
    sinks: Sequence[Sink], least: int | None = None, *, quiet_events: bool = False
) -> None:
    """Send what this process logs to ``sinks``, in order.

    Args:
      least: level that is logged; None for `threshold`.
      quiet_events: whether they get `tunneld.events` below that level too.
    """
    level = threshold() if least is None else least

    def deliver(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
        role = event.pop("role", None)
        text = str(event.pop("event", ""))
        name = str(event.pop(NAME, ""))
        if not quiet_events and number_of(method) < level:
            raise structlog.DropEvent
        line = record(time.time(), method, text, event.items(), name)
        for sink in sinks:
            sink(None if role is None else str(role), line)
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            deliver,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


def role_context(role: str) -> AbstractContextManager[Any]:
    """What is logged inside, and by tasks started inside, belongs to ``role``."""
    return structlog.contextvars.bound_contextvars(role=role)


def threshold(level: str = "") -> int:
    """The number of the level that is logged: the environment's, else ``level``, else ``info``."""
    return number_of(os.environ.get(LEVEL_VARIABLE) or level or "info")


def number_of(level: str) -> int:
    """Of a level by its name."""
    return _LEVELS.get(level.upper(), logging.INFO)
