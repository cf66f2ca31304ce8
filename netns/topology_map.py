"""Topologies from TOML and maps, and back. The errors name the path of the offending value.

    name = "demo"

    [[namespace]]
    name = "public"
    routes = [{ to = "default", via = "2.2.2.1" }]

    [[link]]
    ends = [
      { namespace = "public", address = "2.2.2.2/27" },
      { namespace = "rtr-pub", address = "2.2.2.1/27" },
    ]

`netns/topologies/demo.toml` shows every table.
"""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from ipaddress import IPv4Network
from pathlib import Path

from netns import table as t
from netns.errors import NetnsError, TopologyError
from netns.quantity import (
    format_delay,
    format_loss,
    format_rate,
    parse_delay,
    parse_loss,
    parse_rate,
)
from netns.table import Table
from netns.topology import (
    EVERYWHERE,
    Accept,
    End,
    Firewall,
    Link,
    Masquerade,
    Namespace,
    Policy,
    Probe,
    Route,
    Shape,
    Topology,
)
from netns.validation import HOST_NAME, NAME, NAME_RULE, SYSCTL, check_topology


def builtin_topology(name: str) -> Topology:
    """A topology that comes with the program, ``demo`` for one.

    Raises:
      NetnsError: ``not_found``.
    """
    folder = resources.files("netns") / "topologies"
    names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir())
    if name not in names:
        raise NetnsError(
            "not_found", f"no built-in topology {name!r}", f"there are: {', '.join(names)}"
        )
    return _parse_toml(name, (folder / f"{name}.toml").read_bytes())


def load_topology(path: Path) -> Topology:
    """Read a TOML file.

    Raises:
      TopologyError: unreadable, not TOML, or not a topology.
    """
    try:
        text = path.read_bytes()
    except OSError as exc:
        raise TopologyError(str(path), f"cannot read: {exc.strerror}") from exc
    return _parse_toml(str(path), text)


def _parse_toml(source: str, text: bytes) -> Topology:
    try:
        value = tomllib.loads(text.decode())
    except ValueError as exc:  # a TOMLDecodeError or a UnicodeDecodeError
        raise TopologyError(source, f"not TOML: {exc}") from exc
    try:
        return parse_topology(value)
    except TopologyError as exc:
        raise TopologyError(f"{source}: {exc.where}", exc.reason, exc.hint) from exc


def parse_topology(value: object) -> Topology:
    """Read the map that a TOML file, or `topology_to_map`, gives.

    Raises:
      TopologyError: unknown key, wrong type, bad address or name, dangling reference.
    """
    topology = t.section(_parse_topology)("", value)
    check_topology(topology)
    return topology


_name = t.matching(NAME, f"a name: {NAME_RULE}")
_host_name = t.matching(HOST_NAME, "a host name")


def _parse_topology(table: Table) -> Topology:
    return Topology(
        name=table.take("name", _name),
        namespaces=table.take("namespace", t.rows(t.section(_parse_namespace))),
        links=table.take("link", t.rows(t.section(_parse_link)), ()),
        records=table.take(
            "records", t.mapping(HOST_NAME, "a host name", t.rows(t.any_address)), {}
        ),
        probes=table.take("probe", t.rows(t.section(_parse_probe)), ()),
        roles=table.take("role", t.rows(t.opaque), ()),
    )


def _parse_namespace(table: Table) -> Namespace:
    return Namespace(
        name=table.take("name", _name),
        forwards=table.take("forwards", t.flag, False),
        routes=table.take("routes", t.rows(t.section(_parse_route)), ()),
        firewall=table.take("firewall", t.section(_parse_firewall), None),
        nameservers=table.take("nameservers", t.rows(t.ipv4_address), ()),
        search=table.take("search", t.rows(_host_name), ()),
        sysctls=table.take("sysctls", t.mapping(SYSCTL, "a setting net.FAMILY.NAME", t.text), {}),
    )


def _parse_route(table: Table) -> Route:
    return Route(table.take("to", _destination), table.take("via", t.ipv4_address))


def _destination(path: str, value: object) -> IPv4Network:
    return EVERYWHERE if value == "default" else t.network(path, value)


def _parse_firewall(table: Table) -> Firewall:
    return Firewall(
        input=table.take("input", t.choice(Policy), Policy.ACCEPT),
        forward=table.take("forward", t.choice(Policy), Policy.ACCEPT),
        accept=table.take("accept", t.rows(t.section(_parse_accept)), ()),
        masquerade=table.take("masquerade", t.rows(t.section(_parse_masquerade)), ()),
    )


def _parse_accept(table: Table) -> Accept:
    return Accept(
        incoming=table.take("in", t.text, ""),
        outgoing=table.take("out", t.text, ""),
        source=table.take("source", t.network, None),
        destination=table.take("destination", t.network, None),
        established=table.take("established", t.flag, False),
    )


def _parse_masquerade(table: Table) -> Masquerade:
    return Masquerade(table.take("source", t.network), table.take("out", t.text))


def _parse_link(table: Table) -> Link:
    ends = table.take("ends", t.rows(t.section(_parse_end)))
    if len(ends) != 2:
        raise TopologyError(t.join(table.path, "ends"), f"a link has two ends, got {len(ends)}")
    a, b = ends
    return Link(
        (_with_device(a, b.namespace), _with_device(b, a.namespace)),
        table.take("shape", t.section(_parse_shape), None),
    )


def _parse_end(table: Table) -> End:
    return End(
        table.take("namespace", t.text),
        table.take("device", t.text, ""),
        table.take("address", t.interface),
    )


def _with_device(end: End, default: str) -> End:
    return End(end.namespace, end.device or default, end.address)


def _parse_shape(table: Table) -> Shape:
    return Shape(
        rate=table.take("rate", parse_rate, 0),
        delay=table.take("delay", parse_delay, 0.0),
        loss=table.take("loss", parse_loss, 0.0),
    )


def _parse_probe(table: Table) -> Probe:
    return Probe(
        source=table.take("from", t.text),
        target=table.take("to", t.ipv4_address),
        answers=table.take("answers", t.flag),
        seen_as=table.take("seen-as", t.ipv4_address, None),
    )


Map = dict[str, object]


def topology_to_map(topology: Topology) -> Map:
    """The map that `parse_topology` reads back; strings, numbers, lists and maps only."""
    return _without_empty(
        {
            "name": topology.name,
            "namespace": [_namespace_to_map(namespace) for namespace in topology.namespaces],
            "link": [_link_to_map(link) for link in topology.links],
            "records": {name: _texts(found) for name, found in topology.records.items()},
            "probe": [_probe_to_map(probe) for probe in topology.probes],
            "role": [dict(role) for role in topology.roles],
        },
        keep=("name", "namespace"),
    )


def _namespace_to_map(namespace: Namespace) -> Map:
    return _without_empty(
        {
            "name": namespace.name,
            "forwards": namespace.forwards,
            "routes": [
                {"to": str(route.destination), "via": str(route.via)} for route in namespace.routes
            ],
            "firewall": namespace.firewall and _firewall_to_map(namespace.firewall),
            "nameservers": _texts(namespace.nameservers),
            "search": list(namespace.search),
            "sysctls": dict(namespace.sysctls),
        }
    )


def _firewall_to_map(firewall: Firewall) -> Map:
    return {
        "input": firewall.input.value,
        "forward": firewall.forward.value,
        "accept": [
            _without_empty(
                {
                    "in": rule.incoming,
                    "out": rule.outgoing,
                    "source": rule.source and str(rule.source),
                    "destination": rule.destination and str(rule.destination),
                    "established": rule.established,
                }
            )
            for rule in firewall.accept
        ],
        "masquerade": [
            {"source": str(rule.source), "out": rule.outgoing} for rule in firewall.masquerade
        ],
    }


def _link_to_map(link: Link) -> Map:
    return _without_empty(
        {
            "ends": [
                {"namespace": end.namespace, "device": end.device, "address": str(end.address)}
                for end in link.ends
            ],
            "shape": link.shape and _shape_to_map(link.shape),
        }
    )


def _shape_to_map(shape: Shape) -> Map:
    return _without_empty(
        {
            "rate": shape.rate and format_rate(shape.rate),
            "delay": shape.delay and format_delay(shape.delay),
            "loss": shape.loss and format_loss(shape.loss),
        }
    )


def _probe_to_map(probe: Probe) -> Map:
    return _without_empty(
        {
            "from": probe.source,
            "to": str(probe.target),
            "answers": probe.answers,
            "seen-as": probe.seen_as and str(probe.seen_as),
        },
        keep=("answers",),
    )


def _texts(values: Iterable[object]) -> list[str]:
    return [str(value) for value in values]


def _without_empty(values: Mapping[str, object], keep: tuple[str, ...] = ()) -> Map:
    return {key: value for key, value in values.items() if value or key in keep}
