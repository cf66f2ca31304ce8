"""Which destinations an agent dials: its own rules hold whatever a server asks for, and the
server's rules about addresses hold where the agent has resolved the name."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

import structlog

from tunneld import config as configuration
from tunneld.addresses import written_address
from tunneld.events import Event, emit
from tunneld.rules import Clause, Rule, clauses_of, deciding, from_text, to_text

log = structlog.get_logger(__name__)

_KEPT = 4096
"""Destinations that are remembered: clients come again to the same."""
_OPEN = configuration.DestinationRule(action="allow", name="open = true")


class AddressCheck:
    """What the rules say of each address of one destination."""

    def __init__(
        self, policy: "DestinationPolicy", host: str, port: int, server: Sequence[Clause]
    ) -> None:
        self._policy = policy
        self._host, self._port = host, port
        self._server = server

    def __format__(self, _: str) -> str:
        own = self._policy.clauses(self._host, self._port)
        labels = " or ".join(dict.fromkeys(clause.label for clause in own))
        server = f"; of the server: {to_text(self._server)}" if self._server else ""
        return f"{labels}{server}"

    def why_not(self, address: str) -> str:
        """Why the address is not dialled; "" if it is."""
        clause = self._policy.deciding(self._host, self._port, address)
        if not clause.allow:
            why = f"denied by the agent's policy ({clause.label})"
            if not self._policy.shadow:
                return why
            emit(Event.POLICY_WOULD_DENY, address=address, rule=clause.label)
        if self._server:
            clause = deciding(self._server, ipaddress.ip_address(address))
            if not clause.allow:
                return f"denied by the server's policy ({clause.label})"
        return ""


class DestinationPolicy:
    """The agent's rules as they are now."""

    def __init__(self, config: configuration.DestinationPolicy) -> None:
        self.replace(config)

    def replace(self, config: configuration.DestinationPolicy) -> None:
        """Go by other rules, from the next dial on.

        Raises:
          RuleError: one makes no sense; nothing has changed.
        """
        is_open = config.open and not config.rules
        metadata = config.metadata == "allow"
        rules = [_OPEN] if is_open else config.rules
        self.rules = [Rule(each, number, metadata=metadata) for number, each in enumerate(rules, 1)]
        self.is_open = is_open
        self.shadow = config.mode == "shadow"
        self.deciding = lru_cache(_KEPT)(self._deciding)

    def clauses(self, host: str, port: int) -> tuple[Clause, ...]:
        """What the agent's own rules say of a destination's addresses."""
        name = None if written_address(host) is not None else host.rstrip(".")
        return clauses_of(rule for rule in self.rules if rule.takes(name, port))

    def _deciding(self, host: str, port: int, address: str) -> Clause:
        """The clause of the agent's own that is about an address which the destination has;
        remembered under the name ``deciding``."""
        return deciding(self.clauses(host, port), ipaddress.ip_address(address))

    def check(self, host: str, port: int, server_rules: str = "") -> AddressCheck:
        """For one dial.

        Args:
          server_rules: what the server says of addresses (`tunneld.rules.to_text`), if anything.
        Raises:
          ValueError: that cannot be read.
        """
        server = from_text(server_rules) if server_rules else ()
        return AddressCheck(self, host, port, server)
