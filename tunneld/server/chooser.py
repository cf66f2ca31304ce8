"""Which agent takes a dial, if any may: the policy and the strategies together."""

import structlog

from tunneld.addresses import written_address
from tunneld.dialing import NO_AGENT, PROHIBITED, DialError, host_of
from tunneld.dialrecord import DialRecord
from tunneld.events import Event, emit
from tunneld.rules import deciding, to_text
from tunneld.server.policy import Policy, Ruling, Verdict, denial
from tunneld.server.registry import Permits, Registry, Tunnel

log = structlog.get_logger(__name__)


class Chooser:
    """See the module."""

    def __init__(self, registry: Registry, policy: Policy) -> None:
        self._registry = registry
        self._policy = policy

    def choose(self, record: DialRecord, agent: str | None = None) -> tuple[Tunnel, Verdict]:
        """The tunnel for a dial, and what the rules say of it.

        Args:
          agent: id of the only agent that it may be.
        Raises:
          DialError: nobody may or can take it.
        """
        client, authority = record.caller.name, record.destination
        policy, host = self._policy, host_of(authority)
        ruling = policy.ruling(client, authority)
        permits = None
        if policy.shadow:
            pass
        elif ruling.depends_on_agent:
            permits = _permits(ruling)
        elif (verdict := _through_any(ruling)).denied:
            raise self._denied(record, verdict)
        try:
            tunnel = self._registry.choose(host, _only(agent, permits))
        except DialError:
            record.step("strategy", "{}", _Review(self._registry, host, ruling, agent))
            if permits is not None:
                self._why_denied(record, ruling, host, agent)
            if agent is not None:
                why = f"agent {agent} is not connected, or takes no dials"
                text = f"currently no tunnels available: No agent available ({why})"
                raise DialError(NO_AGENT, text) from None
            raise
        verdict = _through(ruling, tunnel)
        record.rule, record.agent = verdict.label, tunnel.info.agent_id
        if record.wanted:
            record.step("policy", "{}", verdict)
            record.step("strategy", "{}", _Review(self._registry, host, ruling, agent))
        record.step("agent", "{} at {}, round trip {}", record.agent, tunnel.peer, _Rtt(tunnel))
        if not verdict.denied:
            policy.decisions[verdict.label, "allow"] += verdict.decided
        else:  # in shadow mode only
            self._would_deny(record, verdict.label)
        return tunnel, verdict

    async def next_agent(self) -> None:
        """Return when another agent has come."""
        await self._registry.next_joined()

    def agents(self) -> list[str]:
        """Ids of the agents that are connected."""
        return list(dict.fromkeys(tunnel.info.agent_id for tunnel in self._registry.tunnels))

    def verdict(self, ruling: Ruling, agent: str) -> Verdict:
        """For an agent, which need not be connected; then it is taken for one of ours."""
        of_it = (each for each in self._registry.tunnels if each.info.agent_id == agent)
        checks = all(tunnel.checks_addresses for tunnel in of_it)
        return ruling.through(agent, checks_addresses=checks)

    def rules_for(self, verdict: Verdict) -> str:
        """What the agent has to know, to go by a verdict; "" for nothing. In shadow mode it shall
        dial whatever it is asked to, and where nobody wrote any rules its own are enough."""
        if verdict.decided or self._policy.shadow or self._policy.is_open:
            return ""
        return to_text(verdict.clauses)

    def judge(self, record: DialRecord, verdict: Verdict) -> None:
        """Look at the address that the agent has dialled, where the verdict depends on it.

        Raises:
          DialError: it is denied.
        """
        if verdict.decided or self._policy.is_open:
            return
        host, _, _ = record.address.rpartition(":")
        address = written_address(host.strip("[]"))
        if address is None:
            text = f"agent {record.agent} does not say which address it has dialled"
            if self._policy.shadow:
                log.warning("cannot tell whether it would be denied", reason=text, dial=record.id)
                return
            raise DialError(PROHIBITED, f"denied by the server's policy: {text}")
        clause = deciding(verdict.clauses, address)
        record.rule = clause.label
        if clause.allow:
            self._policy.decisions[clause.label, "allow"] += 1
        elif self._policy.shadow:
            self._would_deny(record, clause.label)
        else:  # it was told so, and has dialled nevertheless
            log.error(
                "agent goes by no rules", agent=record.agent, address=record.address, dial=record.id
            )
            raise self._denied(record, Verdict((clause,)))

    def _denied(self, record: DialRecord, verdict: Verdict) -> DialError:
        record.rule = verdict.label
        self._policy.decisions[verdict.label, "deny"] += 1
        record.step("policy", "denied: {}", verdict.label)
        return DialError(PROHIBITED, denial(verdict, record.caller.name, record.destination))

    def _would_deny(self, record: DialRecord, label: str) -> None:
        self._policy.decisions[label, "would deny"] += 1
        record.step("policy", "would be denied: {}", label)
        emit(
            Event.POLICY_WOULD_DENY,
            client=str(record.caller),
            destination=record.destination,
            rule=label,
            dial=record.id,
        )

    def _why_denied(self, record: DialRecord, ruling: Ruling, host: str, agent: str | None) -> None:
        """Where it is for the rules that there is no agent, say so.

        Raises:
          DialError: it is.
        """
        try:
            tunnel = self._registry.choose(host, _only(agent, None))
        except DialError:
            return
        raise self._denied(record, _through(ruling, tunnel))


class _Review:
    """What became of each agent, worded when somebody asks. The agents may be others by then, but
    a trace asks at once, and so does a dial that has failed."""

    def __init__(self, registry: Registry, host: str, ruling: Ruling, agent: str | None) -> None:
        def why_not(tunnel: Tunnel) -> str:
            if agent is not None and tunnel.info.agent_id != agent:
                return f"is not {agent}"
            verdict = _through(ruling, tunnel)
            return f"denied by the policy ({verdict.label})" if verdict.denied else ""

        self._text = " | ".join(
            f"{strategy}: {words}" for strategy, words in registry.review(host, why_not)
        )

    def __format__(self, _: str) -> str:
        return self._text


class _Rtt:
    def __init__(self, tunnel: Tunnel) -> None:
        self._rtt = tunnel.rtt

    def __format__(self, _: str) -> str:
        return "unknown" if self._rtt is None else f"{self._rtt * 1000:.1f} ms"


def _through(ruling: Ruling, tunnel: Tunnel) -> Verdict:
    return ruling.through(tunnel.info.agent_id, checks_addresses=tunnel.checks_addresses)


def _through_any(ruling: Ruling) -> Verdict:
    """The verdict where it is the same for all agents."""
    return ruling.through("", checks_addresses=True)


def _permits(ruling: Ruling) -> Permits:
    return lambda tunnel: not _through(ruling, tunnel).denied


def _only(agent: str | None, permits: Permits | None) -> Permits | None:
    if agent is None:
        return permits
    return lambda tunnel: tunnel.info.agent_id == agent and (permits is None or permits(tunnel))
