"""The control methods about dials and the policy: roles answer them, wherever they run."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ctl.address import MAX_HOST, MAX_PORT
from ctl.messages import ControlError, Message
from tunneld.config import AgentConfig, ServerConfig
from tunneld.dialrecord import KEPT
from tunneld.request import Method, Request
from tunneld.supervisor import Supervisor


class _Params(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    role: str | None = None
    """The server or agent that is asked; None stands for the only server, or else agent."""


class Destination(_Params, frozen=True, kw_only=True):
    """``trace``."""

    host: Annotated[str, Meta(min_length=1, max_length=MAX_HOST)]
    port: Annotated[int, Meta(ge=1, le=MAX_PORT)]
    client: str = "control"
    agent: str | None = None


class Test(Destination, frozen=True, kw_only=True):
    """``policy.test``."""

    address: str = ""


class Last(_Params, frozen=True, kw_only=True):
    """``trace.last``."""

    dial: str = ""
    limit: Annotated[int, Meta(ge=1, le=KEPT)] = 20


class Show(_Params, frozen=True, kw_only=True):
    """``policy.show``."""


class DialMethods:
    """See the module."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def table(self) -> dict[str, Method]:
        """Methods by name."""
        return {
            "trace": Method(Destination, self._trace),
            "trace.last": Method(Last, self._last),
            "policy.test": Method(Test, self._test),
            "policy.show": Method(Show, self._show),
        }

    async def _trace(self, params: Destination, request: Request) -> Message:
        return await self._ask_one("trace", params)

    async def _test(self, params: Test, request: Request) -> Message:
        return await self._ask_one("policy.test", params)

    async def _last(self, params: Last, request: Request) -> Message:
        question = {"dial": params.dial, "limit": params.limit}
        dials = [
            {**dial, "role": role}
            for role, answer in await self._ask("trace.last", params.role, question)
            for dial in answer["dials"]
        ]
        if params.dial and not dials:
            raise ControlError(
                "not_found",
                f"no failed dial {params.dial!r} is remembered here",
                f"the last {KEPT} of each role are: tunnelctl trace --last",
            )
        dials.sort(key=lambda dial: -dial["since"])
        return {"dials": dials[: params.limit]}

    async def _show(self, params: Show, request: Request) -> Message:
        answers = await self._ask("policy.show", params.role, {})
        return {"policies": [{"role": role, **answer} for role, answer in answers]}

    async def _ask(
        self, method: str, role: str | None, question: Message
    ) -> list[tuple[str, Message]]:
        """The answers of one role, or of all that know the question."""
        if role is None:
            return await self._supervisor.ask_all(method, question)
        return [(role, each) for each in await self._supervisor.ask(role, method, question)]

    async def _ask_one(self, method: str, params: _Params) -> Message:
        """The answer of a role; of its first process, where it has several."""
        role = params.role or self._only_role()
        question: dict[str, Any] = msgspec.to_builtins(params)
        del question["role"]
        return {"role": role, **(await self._supervisor.ask(role, method, question))[0]}

    def _only_role(self) -> str:
        roster = self._supervisor.roster
        for kind in (ServerConfig, AgentConfig):
            names = [entry.name for entry in roster if isinstance(entry.config, kind)]
            if len(names) == 1:
                return names[0]
            if names:
                raise ControlError(
                    "bad_request", f"several could be meant: {', '.join(names)}", "name it: --role"
                )
        raise ControlError("not_found", "no server or agent role runs here", "try: tunnelctl ns up")
