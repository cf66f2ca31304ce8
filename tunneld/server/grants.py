"""What an agent may say of itself, by what proves who it is."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any

from tunneld.addresses import IpNetwork
from tunneld.config import AgentGrant
from tunneld.rules import Patterns, check_host, check_network
from tunneld.server.claims import Claims, as_address, normal_name


class ClaimError(Exception):
    """An agent claims what it may not; the text says what, and who it is."""


class Grant:
    """One grant of the configuration, ready to be asked.

    Raises:
      RuleError: it makes no sense.
    """

    def __init__(self, config: AgentGrant) -> None:
        self.config = config
        self.identities = Patterns(config.identity)
        self.ids = Patterns(config.id) if config.id else None
        self.hosts = Patterns([check_host(each) for each in config.host], ignore_case=True)
        self.networks = [check_network(each) for each in config.cidr]

    def names(self, name: str) -> bool:
        """Whether a host name may be claimed."""
        return bool(self.hosts.texts) and self.hosts.match(name)

    def covers(self, network: IpNetwork) -> bool:
        """Whether all addresses of a network may be claimed."""
        return any(_is_within(network, each) for each in self.networks)

    def to_map(self) -> dict[str, Any]:
        """For `tunnelctl policy explain`."""
        config = self.config
        return {
            "identity": list(config.identity),
            "id": list(config.id),
            "host": list(config.host),
            "cidr": list(config.cidr),
            "default_route": config.default_route,
        }


class Grants(list[Grant]):
    """All of them. None: an agent may claim what it likes, under an id that its certificate or
    token names."""

    def __init__(self, configs: Iterable[AgentGrant]) -> None:
        super().__init__(map(Grant, configs))

    def check(
        self, identities: Sequence[str], ids: Sequence[str], agent_id: str, claims: Claims
    ) -> None:
        """Check what an agent says of itself, and have ``claims`` tell whether it takes what
        nobody claims.

        Args:
          identities: who it has proved to be, as ``cert:NAME``.
          ids: agent ids that those name.
        Raises:
          ClaimError: it says too much.
        """
        if not self:
            return
        who = ", ".join(identities) or "an agent without certificate and token"
        grants = [
            grant for grant in self if any(grant.identities.match(each) for each in identities)
        ]
        if not grants:
            raise ClaimError(f"no grant is about {who}")
        taken = [grant for grant in grants if _may_be(grant, agent_id, ids)]
        if not taken:
            raise ClaimError(f"agent id {agent_id!r} is granted to others than {who}")
        excess = [*_excess(claims, taken)]
        if excess:
            raise ClaimError(f"{who} may not claim {', '.join(excess)}")
        claims.takes_unclaimed = any(grant.config.default_route for grant in taken)


def _may_be(grant: Grant, agent_id: str, ids: Sequence[str]) -> bool:
    return grant.ids.match(agent_id) if grant.ids is not None else agent_id in ids


def _excess(claims: Claims, grants: Sequence[Grant]) -> Iterable[str]:
    """What is claimed and not granted, as identifiers."""
    for kind, values in claims.identifiers.items():
        for value in values:
            if not any(_grants(grant, kind, value) for grant in grants):
                yield f"{kind}={value}"


def _grants(grant: Grant, kind: str, value: str) -> bool:
    match kind:
        case "default-route":
            return grant.config.default_route or not Claims({kind: [value]}).is_default_route
        case "cidr":
            return grant.covers(ipaddress.ip_network(value, strict=False))
    address = as_address(value)
    if address is not None:
        return grant.covers(ipaddress.ip_network(address))
    return grant.names(normal_name(value))


def _is_within(network: IpNetwork, other: IpNetwork) -> bool:
    """Whether a network is another one or part of it."""
    return (
        network.version == other.version
        and network.prefixlen >= other.prefixlen
        and network.network_address in other
    )
