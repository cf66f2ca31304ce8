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

Sink: TypeAlias = Callable[[str | None, LogRecord], None]
"""Takes the role's name (None: the daemon itself) and the record. Must not log."""


def configure(sinks: Sequence[Sink]) -> None:
    """Send the events of this process to ``sinks``, in order."""

    def deliver(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
        role = event.pop("role", None)
        text = str(event.pop("event", ""))
        line = record(time.time(), method, text, event.items())
        for sink in sinks:
            sink(None if role is None else str(role), line)
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            deliver,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level()),
    )


def role_context(role: str) -> AbstractContextManager[Any]:
    """What is logged inside, and by tasks started inside, belongs to ``role``."""
    return structlog.contextvars.bound_contextvars(role=role)


def _level() -> int:
    name = os.environ.get(LEVEL_VARIABLE, "info").upper()
    return logging.getLevelNamesMapping().get(name, logging.INFO)
