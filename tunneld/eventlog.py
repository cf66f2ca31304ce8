"""The latest `tunneld.events` of all roles, for `tunnelctl events`."""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from tunneld.events import KEPT
from tunneld.logbook import LogRecord, RoleLog


class EventLog(RoleLog):
    """See the module. Who reads too slowly misses some, and is told how many."""

    def __init__(self) -> None:
        super().__init__(KEPT)

    def take(self, role: str | None, line: LogRecord) -> None:
        """Keep a log line, if it is an event; a sink of `tunneld.log`."""
        if line.name:
            fields = {**line.fields, "role": role} if role is not None else line.fields
            self.add(replace(line, fields=fields))

    def cursor_since(self, since: float) -> int:
        """Where the events begin that are no older than ``since`` (Unix seconds)."""
        lines, _ = self.read(self.cursor(KEPT))
        return self.cursor(sum(line.time >= since for line in lines))


def event_map(line: LogRecord) -> dict[str, Any]:
    """An event as the control protocol has it."""
    return {
        "time": line.time,
        "event": line.name,
        "level": line.level,
        "text": line.event,
        "fields": dict(line.fields),
    }


def lost_events(time: float, number: int) -> dict[str, Any]:
    """What stands in place of events that are forgotten already."""
    fields: Mapping[str, Any] = {"lost": number}
    text = f"{number} events are lost: too many came at once"
    item = {"time": time, "event": "events.lost", "level": "warning", "text": text}
    return {**item, "fields": fields}


def wanted(line: LogRecord, pattern: str, role: str) -> bool:
    """Whether an event is one of a kind and a role; "" stands for all. Kinds are shell patterns."""
    if pattern and not fnmatchcase(line.name, pattern):
        return False
    return not role or line.fields.get("role") == role
