"""Rules about destinations, first match decides, and their form for the address that is dialled.

A rule may ask for the name, which is known at once, and for the address, which a name has only
where it is resolved. So all rules that fit a dial are brought into a short list of clauses about
the address alone: whoever resolves the name goes by it, on the very address that is dialled.

    rules    deny cidr 10.9.0.0/16 · allow host *.corp.example port 443 · allow cidr 10.0.0.0/8
    dial     db.corp.example:443
    clauses  deny 10.9.0.0/16; deny METADATA; allow *
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

from tunneld.addresses import METADATA, NAT64, IpAddress, IpNetwork, real_address
from tunneld.config import DestinationRule
from tunneld.config import Rule as RuleConfig

MAX_RULES_TEXT: Final = 16 * 1024
"""Characters of clauses as text."""
_ANY = "*"


class RuleError(ValueError):
    """A rule that says nothing sensible: the message says what was seen and expected."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Clause:
    """What becomes of some addresses, or of all."""

    allow: bool
    networks: tuple[IpNetwork, ...]
    """() stands for all."""
    label: str
    """Of the rule that it comes from, for people."""

    def takes(self, address: IpAddress) -> bool:
        """Whether it is about this address, as `real_address` gives it."""
        return not self.networks or any(address in network for network in self.networks)

    def __str__(self) -> str:
        networks = ",".join(map(str, self.networks)) or _ANY
        return f"{'allow' if self.allow else 'deny'} {networks}"


NO_RULE: Final = Clause(allow=False, networks=(), label="no rule allows it")
METADATA_CLAUSE: Final = Clause(
    allow=False, networks=METADATA, label="metadata addresses, which no rule names"
)


class Patterns:
    """Names with ``*`` for any characters; none stand for every name."""

    __slots__ = ("_regex", "texts")

    def __init__(self, texts: Sequence[str], *, ignore_case: bool = False) -> None:
        self.texts = tuple(texts)
        pattern = "|".join(translate(_escaped(text)) for text in texts)
        self._regex = re.compile(pattern, re.IGNORECASE if ignore_case else 0) if texts else None

    def match(self, name: str) -> bool:
        return self._regex is None or self._regex.match(name) is not None


def _escaped(text: str) -> str:
    """For `translate`, which gives ``?`` and ``[`` a meaning too."""
    return text.replace("[", "[[]").replace("?", "[?]")


class Rule:
    """A rule of the configuration, a server's or an agent's, ready to be asked.

    Args:
      number: from 1, for rules without a name.
      metadata: whether metadata addresses are like all others.
    Raises:
      RuleError: it makes no sense.
    """

    def __init__(self, config: DestinationRule, number: int, *, metadata: bool = False) -> None:
        self.config = config
        self.allow = config.action == "allow"
        self.label = config.name or f"rule {number}"
        self.clients = Patterns(config.client if isinstance(config, RuleConfig) else ())
        self.agents = Patterns(config.agent if isinstance(config, RuleConfig) else ())
        self.networks = tuple(_network_of_rule(text) for text in config.cidr)
        self._hosts = Patterns([check_host(text) for text in config.host], ignore_case=True)
        self._ports = [_ports(value) for value in config.port]
        self.opens_metadata = (
            self.allow
            and not metadata
            and (not self.networks or any(map(_is_more_than_metadata, self.networks)))
        )
        """Whether metadata addresses are among many that it allows, and so are not meant."""

    def to_map(self) -> dict[str, Any]:
        """For `tunnelctl policy explain`."""
        config = self.config
        keys = ("client", "agent", "host", "cidr", "port")
        said = {key: list(getattr(config, key, ())) for key in keys}
        return {"rule": self.label, "action": config.action, **said}

    def takes(self, name: str | None, port: int) -> bool:
        """Whether it may be about a destination, as far as its address does not matter.

        Args:
          name: None for a destination that is an address: no rule about names is about it.
        """
        if self._ports and not any(port in ports for ports in self._ports):
            return False
        return self._hosts.match(name) if name is not None else not self._hosts.texts


def clauses_of(rules: Iterable[Rule]) -> tuple[Clause, ...]:
    """What rules, each of which may be about the destination, say of its address. The last clause
    is about all addresses that are left."""
    clauses: list[Clause] = []
    guarded = False
    for rule in rules:
        if rule.opens_metadata and not guarded:
            clauses.append(METADATA_CLAUSE)
            guarded = True
        clauses.append(Clause(rule.allow, rule.networks, rule.label))
        if not rule.networks:
            break
    else:
        clauses.append(NO_RULE)
    while len(clauses) > 1 and clauses[-2].allow == clauses[-1].allow:
        del clauses[-2]
    return tuple(clauses)


def deciding(clauses: Sequence[Clause], address: IpAddress) -> Clause:
    """The first clause that is about ``address``; the last one is about any."""
    address = real_address(address)
    return next(clause for clause in clauses if clause.takes(address))


def to_text(clauses: Sequence[Clause]) -> str:
    """``deny 10.9.0.0/16,fe80::/10; allow *``: as the server tells them to its agent."""
    return "; ".join(map(str, clauses))


@lru_cache(64)  # servers say the same again and again; each text may be long
def from_text(text: str) -> tuple[Clause, ...]:
    """Read what `to_text` wrote.

    Raises:
      ValueError: it did not.
    """
    if len(text) > MAX_RULES_TEXT:
        raise ValueError(f"rules of {len(text)} characters, limit {MAX_RULES_TEXT}")
    clauses = []
    for number, part in enumerate(text.split(";"), 1):
        action, _, networks = part.strip().partition(" ")
        if action not in ("allow", "deny"):
            raise ValueError(f"{part.strip()[:80]!r}: expected 'allow' or 'deny'")
        about = () if networks == _ANY else tuple(map(ipaddress.ip_network, networks.split(",")))
        clauses.append(Clause(action == "allow", about, f"clause {number} of the server's rules"))
    if clauses[-1].networks:
        clauses.append(NO_RULE)
    return tuple(clauses)


def _is_more_than_metadata(network: IpNetwork) -> bool:
    """Whether metadata addresses are in a network, and others too."""
    return any(
        network.version == each.version
        and network.overlaps(each)
        and network.prefixlen < each.prefixlen
        for each in METADATA
    )


def check_network(text: str) -> IpNetwork:
    """A network or an address of the configuration.

    Raises:
      RuleError: it is none.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as exc:
        raise RuleError("cidr", f"{text!r}: {exc}; expected 10.0.0.0/8 or an address") from exc
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise RuleError("cidr", f"{text!r}: write the IPv4 network, which covers mapped addresses")
    return network


def _network_of_rule(text: str) -> IpNetwork:
    network = check_network(text)
    if network.version == 6 and network.subnet_of(NAT64):
        raise RuleError("cidr", f"{text!r}: write the IPv4 network, which covers NAT64's addresses")
    return network


def check_host(text: str) -> str:
    """A host name of the configuration, which may hold ``*``.

    Raises:
      RuleError: it is none.
    """
    name = text.rstrip(".")
    try:
        ipaddress.ip_network(text)
    except ValueError:
        pass
    else:
        raise RuleError("host", f"{text!r} is an address: put it under cidr")
    if not re.fullmatch(r"[A-Za-z0-9_*-]+(\.[A-Za-z0-9_*-]+)*", name):
        raise RuleError("host", f"{text!r} is no host name, expected db.example or *.example")
    return name


def _ports(value: int | str) -> range:
    first, dash, last = str(value).partition("-")
    numbers = [first, last] if dash else [first, first]
    if all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers):
        low, high = map(int, numbers)
        if 0 < low <= high < 65536:
            return range(low, high + 1)
    raise RuleError("port", f"{value!r} is no port, expected 1-65535 or a range as 8000-8099")
