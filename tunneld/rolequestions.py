"""The questions of the control socket that every role answers, wherever it runs."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ctl.messages import ControlError
from tunneld.listing import AGENT_SORTS, CONN_SORTS, Query, Row, page_of
from tunneld.questions import Answers
from tunneld.reactor import Reactor
from tunneld.request import Nothing
from tunneld.role import Role
from tunneld.rolemetrics import process_metrics

MAX_REASON = 200
"""Characters of why something was killed."""


class Kill(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of ``kill``."""

    what: Literal["conn", "client", "agent"]
    name: Annotated[str, Meta(min_length=1, max_length=512)]
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class RoleQuestions:
    """What a running role of that name answers."""

    def __init__(self, name: str, role: Role, reactor: Reactor) -> None:
        self._name = name
        self._role = role
        self._reactor = reactor

    def table(self) -> Answers:
        """By question."""
        return {
            "conns": (Query, self._conns),
            "agents": (Query, self._agents),
            "kill": (Kill, self._kill),
            "metrics": (Nothing, self._metrics),
            "ready": (Nothing, self._ready),
        }

    async def _conns(self, query: Query) -> Row:
        rows = [{**row, "role": self._name} for row in self._role.conns()]
        return _page(rows, query, CONN_SORTS)

    async def _agents(self, query: Query) -> Row:
        rows = [{**row, "server": self._name} for row in self._role.agents()]
        return _page(rows, query, AGENT_SORTS)

    async def _kill(self, params: Kill) -> dict[str, Any]:
        return {"killed": self._role.kill(params.what, params.name, params.reason)}

    async def _metrics(self, _: Nothing) -> dict[str, Any]:
        process = {"pid": os.getpid(), "metrics": await process_metrics(self._reactor)}
        return {"metrics": self._role.metrics(), "in": process}

    async def _ready(self, _: Nothing) -> dict[str, Any]:
        return {"checks": [list(check) for check in await self._role.readiness()]}


def _page(rows: list[Row], query: Query, sorts: Mapping[str, str]) -> Row:
    try:
        return page_of(rows, query, sorts)
    except ValueError as exc:
        raise ControlError("bad_request", str(exc)) from exc
