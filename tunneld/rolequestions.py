"""The questions of the control socket that every role answers, wherever it runs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ctl.messages import ControlError
from tunneld.listing import AGENT_SORTS, CONN_SORTS, Query, Row, page_of
from tunneld.questions import Answers
from tunneld.role import Role

MAX_REASON = 200
"""Characters of why something was killed."""


class Kill(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of ``kill``."""

    what: Literal["conn", "client", "agent"]
    name: Annotated[str, Meta(min_length=1, max_length=512)]
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class RoleQuestions:
    """What a running role of that name answers."""

    def __init__(self, name: str, role: Role) -> None:
        self._name = name
        self._role = role

    def table(self) -> Answers:
        """By question."""
        return {
            "conns": (Query, self._conns),
            "agents": (Query, self._agents),
            "kill": (Kill, self._kill),
        }

    async def _conns(self, query: Query) -> Row:
        rows = [{**row, "role": self._name} for row in self._role.conns()]
        return _page(rows, query, CONN_SORTS)

    async def _agents(self, query: Query) -> Row:
        rows = [{**row, "server": self._name} for row in self._role.agents()]
        return _page(rows, query, AGENT_SORTS)

    async def _kill(self, params: Kill) -> dict[str, Any]:
        return {"killed": self._role.kill(params.what, params.name, params.reason)}


def _page(rows: list[Row], query: Query, sorts: Mapping[str, str]) -> Row:
    try:
        return page_of(rows, query, sorts)
    except ValueError as exc:
        raise ControlError("bad_request", str(exc)) from exc
