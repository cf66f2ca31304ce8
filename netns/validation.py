"""Whether a topology can be: names, and the addresses and devices that refer to each other."""

import re
from collections.abc import Iterable
from itertools import combinations

from netns.errors import NetnsError, TopologyError
from netns.topology import End, Firewall, Link, Namespace, Probe, Shape, Topology

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
HOST_NAME = re.compile(
    r"(?=.{1,253}$)(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*"
)
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
"""IFNAMSIZ is 16 with the final zero."""
SYSCTL = re.compile(r"net(?:\.[A-Za-z0-9_-]+){2,}")

NAME_RULE = "letters, digits, '.', '_' and '-' inside, 63 characters at most"


def check_lab_name(name: object) -> str:
    """The name, if it can be that of a directory and a prefix of namespaces.

    Raises:
      NetnsError: ``bad_request``.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise NetnsError("bad_request", f"bad lab name {name!r}", f"use {NAME_RULE}")
    return name


def check_topology(topology: Topology) -> None:
    """Check what one table alone cannot show.

    Raises:
      TopologyError: the first thing that is wrong, with its path.
    """
    if not topology.namespaces:
        raise TopologyError("namespace", "a topology needs at least one")
    _check_unique("namespace", "name", [space.name for space in topology.namespaces])
    for index, link in enumerate(topology.links):
        _check_link(f"link[{index}]", link, topology)
    _check_addresses(topology)
    for index, namespace in enumerate(topology.namespaces):
        _check_namespace(f"namespace[{index}]", namespace, topology.ends_of(namespace.name))
    for index, probe in enumerate(topology.probes):
        _check_probe(f"probe[{index}]", probe, topology)


def _check_unique(where: str, what: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise TopologyError(f"{where}[{index}].{what}", f"{str(value)!r} is there twice")
        seen.add(value)


def _check_link(where: str, link: Link, topology: Topology) -> None:
    known = [namespace.name for namespace in topology.namespaces]
    for index, end in enumerate(link.ends):
        if end.namespace not in known:
            raise TopologyError(
                f"{where}.ends[{index}].namespace",
                f"no namespace {end.namespace!r}",
                f"namespaces are {', '.join(known)}",
            )
        _check_end(f"{where}.ends[{index}]", end)
    if link.shape == Shape():
        raise TopologyError(f"{where}.shape", "shapes nothing", "give rate, delay or loss")
    a, b = link.ends
    if a.namespace == b.namespace:
        raise TopologyError(f"{where}.ends", f"both are in {a.namespace!r}; a link joins two")
    if a.address.ip == b.address.ip:
        raise TopologyError(f"{where}.ends", f"both have the address {a.address.ip}")
    if a.address.network != b.address.network:
        raise TopologyError(
            f"{where}.ends", f"{a.address} and {b.address} are in different subnets"
        )


def _check_end(where: str, end: End) -> None:
    if not DEVICE.fullmatch(end.device) or end.device in ("lo", "all", "default"):
        raise TopologyError(
            f"{where}.device",
            f"bad device name {end.device!r}",
            "give a name of 1 to 15 letters, digits, '.', '_', '-' (the default is the name of "
            "the other end's namespace)",
        )
    network = end.address.network
    if network.prefixlen < 31 and end.address.ip in (
        network.network_address,
        network.broadcast_address,
    ):
        raise TopologyError(f"{where}.address", f"{end.address} names the subnet, not a host in it")
    if end.address.ip.is_multicast or end.address.ip.is_loopback or end.address.ip.is_unspecified:
        raise TopologyError(f"{where}.address", f"{end.address} cannot be a host's address")


def _check_addresses(topology: Topology) -> None:
    where = [
        (f"link[{number}].ends[{side}]", end)
        for number, link in enumerate(topology.links)
        for side, end in enumerate(link.ends)
    ]
    for (_, first), (path, second) in combinations(where, 2):
        if first.address.ip == second.address.ip:
            raise TopologyError(
                f"{path}.address",
                f"{second.address.ip} is already the address of {first.namespace!r}",
            )
        if first.namespace != second.namespace:
            continue
        if first.device == second.device:
            raise TopologyError(
                f"{path}.device",
                f"{second.namespace!r} has a device {second.device!r} already",
                "name one of them with `device`",
            )
        if first.address.network.overlaps(second.address.network):
            raise TopologyError(
                f"{path}.address",
                f"{second.address.network} overlaps {first.address.network}, which "
                f"{second.namespace!r} reaches by {first.device!r}",
            )


def _check_namespace(where: str, namespace: Namespace, ends: list[End]) -> None:
    _check_unique(f"{where}.routes", "to", [route.destination for route in namespace.routes])
    for index, route in enumerate(namespace.routes):
        if not any(route.via in end.address.network for end in ends):
            raise TopologyError(
                f"{where}.routes[{index}].via",
                f"{route.via} is in no subnet of {namespace.name!r}",
                f"its addresses are {_list(str(end.address) for end in ends)}",
            )
        if any(route.via == end.address.ip for end in ends):
            raise TopologyError(
                f"{where}.routes[{index}].via", f"{route.via} is {namespace.name!r} itself"
            )
    if namespace.firewall is not None:
        _check_firewall(f"{where}.firewall", namespace.firewall, [end.device for end in ends])


def _check_firewall(where: str, firewall: Firewall, devices: list[str]) -> None:
    named = [
        *((f"accept[{n}].in", rule.incoming) for n, rule in enumerate(firewall.accept)),
        *((f"accept[{n}].out", rule.outgoing) for n, rule in enumerate(firewall.accept)),
        *((f"masquerade[{n}].out", rule.outgoing) for n, rule in enumerate(firewall.masquerade)),
    ]
    for path, device in named:
        if device and device not in devices:
            raise TopologyError(
                f"{where}.{path}", f"no device {device!r}", f"devices are {_list(devices)}"
            )


def _check_probe(where: str, probe: Probe, topology: Topology) -> None:
    known = [namespace.name for namespace in topology.namespaces]
    if probe.source not in known:
        raise TopologyError(
            f"{where}.from", f"no namespace {probe.source!r}", f"namespaces are {_list(known)}"
        )
    if probe.seen_as is None:
        return
    if not probe.answers:
        raise TopologyError(f"{where}.seen-as", "a target that must not answer sees nobody")
    if all(end.address.ip != probe.target for end in topology.ends()):
        raise TopologyError(
            f"{where}.seen-as", f"{probe.target} is no address of the lab, we cannot look there"
        )


def _list(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
