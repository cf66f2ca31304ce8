"""What an agent answers about its dials and its policy: for `tunnelctl trace` and `policy`."""

from typing import Any

from msgspec import Struct

from tunneld.addresses import written_address
from tunneld.agent.policy import DestinationPolicy
from tunneld.agent.requests import Requests
from tunneld.caller import Caller
from tunneld.dialing import DialError, join_authority
from tunneld.dialquestions import Last, tell_last
from tunneld.dialrecord import DialRecord
from tunneld.questions import Answers
from tunneld.rules import NO_RULE, deciding, to_text


class Destination(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``trace`` and ``policy.test``."""

    host: str
    port: int
    client: str = "control"
    """Of no account: an agent does not know the clients."""
    agent: str | None = None
    """Of no account either."""
    address: str = ""
    """That the name resolves to, if it is one."""


class Show(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of ``policy.show``."""


class AgentQuestions:
    """See the module."""

    def __init__(self, requests: Requests, policy: DestinationPolicy) -> None:
        self._requests = requests
        self._policy = policy

    def table(self) -> Answers:
        """Answers by question."""
        return {
            "trace": (Destination, self._trace),
            "trace.last": (Last, self._last),
            "policy.test": (Destination, self._test),
            "policy.show": (Show, self._show),
        }

    async def _trace(self, params: Destination) -> dict[str, Any]:
        """Dial as if a server had asked, and hang up at once."""
        destination = join_authority(params.host, params.port)
        record = DialRecord(Caller("control", "trace"), destination)
        record.wanted = True
        try:
            await self._requests.try_out(record)
        except DialError as exc:
            record.failed(exc)
        return record.to_map(where="agent")

    async def _last(self, params: Last) -> dict[str, Any]:
        return tell_last(self._requests.records, params, where="agent")

    async def _test(self, params: Destination) -> dict[str, Any]:
        clauses = self._policy.clauses(params.host, params.port)
        address = written_address(params.address or params.host)
        if address is not None:
            clauses = (deciding(clauses, address),)
        allowed = {clause.allow for clause in clauses}
        decision = "depends" if len(allowed) > 1 else "allow" if True in allowed else "deny"
        return {
            "client": "any server",
            "destination": join_authority(params.host, params.port),
            "is_name": written_address(params.host) is None,
            "mode": "shadow" if self._policy.shadow else "enforce",
            "depends_on_agent": False,
            "decision": decision,
            "rule": " or ".join(dict.fromkeys(clause.label for clause in clauses)),
            "clauses": [{"text": to_text([each]), "rule": each.label} for each in clauses],
            "agents": [],
        }

    async def _show(self, _: Show) -> dict[str, Any]:
        policy = self._policy
        nothing = {"rule": NO_RULE.label, "action": "deny"}
        return {
            "open": policy.is_open,
            "mode": "shadow" if policy.shadow else "enforce",
            "rules": [*(rule.to_map() for rule in policy.rules), nothing],
            "agents": [],
        }
