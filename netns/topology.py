"""A topology as plain frozen data: namespaces, the links between them, what each one does.

It knows no files, no kernel and no lab; `topology_map` reads and writes it, `validation` says
whether it can be. Rates are bits a second, delays seconds, losses a fraction of 1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address

Address = IPv4Address | IPv6Address
EVERYWHERE = IPv4Network("0.0.0.0/0")


class Policy(StrEnum):
    """What happens to a packet that no rule accepts; a rejected one is answered by ICMP."""

    ACCEPT = "accept"
    REJECT = "reject"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a link does to packets, each way; zero means nothing."""

    rate: int = 0
    delay: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link: a device with one address in one namespace."""

    namespace: str
    device: str
    address: IPv4Interface


@dataclass(frozen=True, slots=True)
class Link:
    """A virtual cable between two namespaces."""

    ends: tuple[End, End]
    shape: Shape | None = None

    @property
    def title(self) -> str:
        """For people: the two namespaces."""
        return f"{self.ends[0].namespace} to {self.ends[1].namespace}"


@dataclass(frozen=True, slots=True)
class Route:
    """Packets for ``destination`` go to the neighbour ``via``."""

    destination: IPv4Network
    via: IPv4Address


@dataclass(frozen=True, slots=True)
class Accept:
    """A rule for forwarded packets: all that is given must match; empty and None match all."""

    incoming: str = ""
    outgoing: str = ""
    source: IPv4Network | None = None
    destination: IPv4Network | None = None
    established: bool = False
    """Only packets of connections that an earlier rule let in, and errors about them."""


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Packets from ``source`` that leave by ``outgoing`` get that device's address."""

    source: IPv4Network
    outgoing: str


@dataclass(frozen=True, slots=True)
class Firewall:
    """What a namespace lets in (``input``) and through (``forward``, after ``accept``)."""

    input: Policy = Policy.ACCEPT
    forward: Policy = Policy.ACCEPT
    accept: tuple[Accept, ...] = ()
    masquerade: tuple[Masquerade, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """One host or router of the lab."""

    name: str
    forwards: bool = False
    routes: tuple[Route, ...] = ()
    firewall: Firewall | None = None
    nameservers: tuple[IPv4Address, ...] = ()
    """Of its resolv.conf; a namespace without any cannot resolve names."""
    search: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """A fact that `netns.check` proves: does ``target`` answer when asked from ``source``?"""

    source: str
    target: IPv4Address
    answers: bool
    seen_as: IPv4Address | None = None
    """The address that the target sees as the sender of a TCP connection, behind NAT."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The whole network, and the roles that somebody else runs in it."""

    name: str
    namespaces: tuple[Namespace, ...]
    links: tuple[Link, ...] = ()
    records: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    """Host names that the lab's DNS server shall know."""
    probes: tuple[Probe, ...] = ()
    roles: tuple[Mapping[str, object], ...] = ()
    """Opaque tables; `netns` passes them on unread."""

    def namespace(self, name: str) -> Namespace:
        """The namespace of that name.

        Raises:
          KeyError: there is none.
        """
        for namespace in self.namespaces:
            if namespace.name == name:
                return namespace
        raise KeyError(name)

    def ends(self) -> Iterator[End]:
        """The ends of all links."""
        for link in self.links:
            yield from link.ends

    def ends_of(self, namespace: str) -> list[End]:
        """The devices of one namespace, in the order of the links."""
        return [end for end in self.ends() if end.namespace == namespace]
