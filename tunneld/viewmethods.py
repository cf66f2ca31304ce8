"""The control methods that show what goes on, and end it: `tunnelctl agents`, `conns`, `events`,
`kill`, `metrics`."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ctl.messages import ControlError, Message
from tunneld.config import ServerConfig
from tunneld.eventlog import EventLog, event_map, lost_events, wanted
from tunneld.health import Health
from tunneld.listing import AGENT_SORTS, CONN_SORTS, Query, check, joined
from tunneld.request import Method, Nothing, Reply, Request
from tunneld.rolequestions import Kill
from tunneld.roster import Entry
from tunneld.scrape import Scrape
from tunneld.supervisor import Supervisor

_CHUNK = 200_000
"""Characters of metrics in one item."""
ANSWER_TIMEOUT = 3.0
"""Seconds for a role to list or to end something."""


class Events(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``events``."""

    since: float = 0.0
    """Unix seconds; 0 stands for all that are remembered."""
    follow: bool = False
    event: Annotated[str, Meta(max_length=100)] = ""
    """Shell pattern of the names that are wanted."""
    role: str = ""


class ViewMethods:
    """See the module."""

    def __init__(
        self, supervisor: Supervisor, events: EventLog, health: Health, scrape: Scrape
    ) -> None:
        self._supervisor = supervisor
        self._events = events
        self._checks = health
        self._scrape = scrape

    def table(self) -> dict[str, Method]:
        """Methods by name."""
        return {
            "agents": Method(Query, self._agents),
            "conns": Method(Query, self._conns),
            "kill": Method(Kill, self._kill),
            "metrics": Method(Nothing, self._metrics, Reply.STREAM),
            "health": Method(Nothing, self._health),
            "events": Method(Events, self._tell_events, Reply.STREAM),
        }

    async def _agents(self, query: Query, request: Request) -> Message:
        return await self._list("agents", query, AGENT_SORTS)

    async def _conns(self, query: Query, request: Request) -> Message:
        return await self._list("conns", query, CONN_SORTS)

    async def _list(self, what: str, query: Query, sorts: Mapping[str, str]) -> Message:
        try:
            check(query, sorts)
        except ValueError as exc:
            raise ControlError("bad_request", str(exc)) from exc
        question = msgspec.to_builtins(query)
        answers = await self._supervisor.ask_all(what, question, ANSWER_TIMEOUT)
        page = joined([answer for _, answer in answers], query, sorts)
        return {what: page.pop("rows"), **page}

    async def _kill(self, params: Kill, request: Request) -> Message:
        question: dict[str, Any] = msgspec.to_builtins(params)
        # A connection of a server and an agent of one daemon has one id: the server ends it.
        for among in (_is_server, _is_no_server):
            answers = await self._supervisor.ask_all("kill", question, ANSWER_TIMEOUT, among)
            if killed := [
                {"role": role, "name": name}
                for role, answer in answers
                for name in answer["killed"]
            ]:
                return {"killed": killed}
        raise _nothing(params)

    async def _metrics(self, _: Nothing, request: Request) -> Message:
        text = await self._scrape.text()
        for begin in range(0, len(text), _CHUNK):
            await request.item({"text": text[begin : begin + _CHUNK]})
        return {}

    async def _health(self, _: Nothing, request: Request) -> Message:
        alive, ready = await self._checks.alive(), await self._checks.ready()
        return {
            "alive": [check.to_map() for check in alive],
            "ready": [check.to_map() for check in ready],
        }

    async def _tell_events(self, params: Events, request: Request) -> Message:
        cursor = self._events.cursor_since(params.since)
        while True:
            lines, lost = self._events.read(cursor)
            cursor += lost + len(lines)
            if lost:
                await request.item(lost_events(time.time(), lost))
            for line in lines:
                if wanted(line, params.event, params.role):
                    await request.item(event_map(line))
            if not params.follow or not await self._events.wait_beyond(cursor):
                return {}


def _is_server(entry: Entry) -> bool:
    return isinstance(entry.config, ServerConfig)


def _is_no_server(entry: Entry) -> bool:
    return not _is_server(entry)


_WHERE = {"conn": "conns", "client": "conns", "agent": "agents"}
_WORDS = {"conn": "connection", "client": "connection of client", "agent": "agent"}


def _nothing(params: Kill) -> ControlError:
    return ControlError(
        "not_found",
        f"no {_WORDS[params.what]} {params.name!r} here",
        f"see: tunnelctl {_WHERE[params.what]}",
    )
