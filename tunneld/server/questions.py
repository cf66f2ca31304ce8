"""What a server answers about its dials and its policy: for `tunnelctl trace` and `policy`."""

from typing import Any

from msgspec import Struct

from tunneld.addresses import written_address
from tunneld.caller import Caller
from tunneld.conns import Conn
from tunneld.dialing import DialError, host_of, join_authority
from tunneld.dialquestions import Last, tell_last
from tunneld.dialrecord import DialRecord
from tunneld.questions import Answers
from tunneld.relay import DialledEnd
from tunneld.rules import NO_RULE, Clause, deciding, to_text
from tunneld.server.chooser import Chooser
from tunneld.server.dialer import Dialer
from tunneld.server.policy import Policy, Verdict


class Trace(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``trace``."""

    host: str
    port: int
    client: str = "control"
    agent: str | None = None


class Test(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``policy.test``."""

    host: str
    port: int
    client: str
    agent: str | None = None
    address: str = ""
    """That the name resolves to, if it is one."""


class Show(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``policy.show``."""


class ServerQuestions:
    """See the module."""

    def __init__(self, dialer: Dialer, chooser: Chooser, policy: Policy) -> None:
        self._dialer = dialer
        self._chooser = chooser
        self._policy = policy

    def table(self) -> Answers:
        """Answers by question."""
        return {
            "trace": (Trace, self._trace),
            "trace.last": (Last, self._last),
            "policy.test": (Test, self._test),
            "policy.show": (Show, self._show),
        }

    async def _trace(self, params: Trace) -> dict[str, Any]:
        """Dial, and hang up at once."""

        async def hang_up(end: DialledEnd, conn: Conn) -> None:
            pass

        caller = Caller(params.client, "trace")
        record = DialRecord(caller, join_authority(params.host, params.port))
        record.wanted = True
        try:
            await self._dialer.connect(
                caller, record.destination, hang_up, agent=params.agent, record=record
            )
        except DialError:
            pass  # the record tells
        return record.to_map()

    async def _last(self, params: Last) -> dict[str, Any]:
        return tell_last(self._dialer.records, params)

    async def _test(self, params: Test) -> dict[str, Any]:
        authority = join_authority(params.host, params.port)
        try:
            ruling = self._policy.ruling(params.client, authority)
        except DialError as exc:
            raise exc.to_control() from exc
        agents = [params.agent] if params.agent is not None else self._chooser.agents()
        verdicts = [
            {"agent": agent, **_words(self._chooser.verdict(ruling, agent), params.address)}
            for agent in agents
        ]
        anybody = _words(ruling.through("", checks_addresses=True), params.address)
        return {
            "client": params.client,
            "destination": authority,
            "is_name": written_address(host_of(authority)) is None,
            "mode": "shadow" if self._policy.shadow else "enforce",
            "depends_on_agent": ruling.depends_on_agent,
            **anybody,
            "agents": verdicts if ruling.depends_on_agent else [],
        }

    async def _show(self, _: Show) -> dict[str, Any]:
        policy = self._policy
        rows = [{**rule.to_map(), **policy.counts(rule.label)} for rule in policy.rules]
        nothing = {"rule": NO_RULE.label, "action": "deny", **policy.counts(NO_RULE.label)}
        return {
            "open": policy.is_open,
            "mode": "shadow" if policy.shadow else "enforce",
            "rules": [*rows, nothing],
            "agents": [grant.to_map() for grant in policy.grants],
        }


def _words(verdict: Verdict, address: str) -> dict[str, Any]:
    """A verdict as the control protocol has it."""
    clauses = verdict.clauses
    known = written_address(address) if address else None
    if known is not None:
        clauses = (deciding(clauses, known),)
    if len(clauses) > 1:
        return {"decision": "depends", "rule": verdict.label, "clauses": _clauses(clauses)}
    decision = "allow" if clauses[0].allow else "deny"
    return {"decision": decision, "rule": clauses[0].label, "clauses": _clauses(clauses)}


def _clauses(clauses: tuple[Clause, ...]) -> list[dict[str, str]]:
    return [{"text": to_text([clause]), "rule": clause.label} for clause in clauses]
