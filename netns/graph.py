"""A topology as a picture: text for a terminal, DOT for Graphviz. Pure.

    +----------------------------+
    | public                     |
    +----------------------------+
      | 2.2.2.2/27 dev rtr-pub
      |
      | 2.2.2.1/27 dev public
    +----------------------------+
    | rtr-pub   forwards, …      |
    +----------------------------+

Namespaces stand one below the other, in the order in which links lead from one to the next; a link
between two that are not neighbours in that order is a line of text at the end.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network

from netns.quantity import format_delay, format_loss, format_rate
from netns.topology import Firewall, Link, Namespace, Policy, Shape, Topology

Title = Callable[[str], str]
"""From a namespace's name to what is written."""


def draw(topology: Topology, title: Title = str) -> str:
    """Boxes and lines for a terminal with Unicode, each line ended.

    Args:
      title: gives the name to show, such as the full name in a lab.
    """
    order = _walk(topology)
    boxes = [[title(space.name), *_properties(space, topology)] for space in order]
    width = max(len(line) for box in boxes for line in box)
    left = list(topology.links)
    lines: list[str] = []
    for index, (space, box) in enumerate(zip(order, boxes, strict=True)):
        lines += _box(box, width)
        if index + 1 < len(order):
            below = order[index + 1]
            link = next((link for link in left if _joins(link, space, below)), None)
            lines += [""] if link is None else _cable(link, space.name)
            left = [other for other in left if other is not link]
    lines += _others(left, title)
    return "\n".join(lines) + "\n"


def draw_dot(topology: Topology, title: Title = str) -> str:
    """The topology in Graphviz's language, for `dot -Tsvg`."""
    lines = [f"graph {_quote(topology.name)} {{", "  node [shape=box, fontname=monospace];"]
    for space in topology.namespaces:
        label = "\n".join([title(space.name), *_properties(space, topology)])
        lines.append(f"  {_quote(space.name)} [label={_quote(label)}];")
    for link in topology.links:
        first, second = link.ends
        attributes = [
            f"taillabel={_quote(str(first.address))}",
            f"headlabel={_quote(str(second.address))}",
            *([f"label={_quote(_shape(link.shape))}"] if link.shape else []),
        ]
        lines.append(
            f"  {_quote(first.namespace)} -- {_quote(second.namespace)} [{', '.join(attributes)}];"
        )
    return "\n".join([*lines, "}"]) + "\n"


def _walk(topology: Topology) -> list[Namespace]:
    """Every namespace once, depth first along the links, starting at the end of a chain."""
    neighbours: dict[str, list[str]] = {space.name: [] for space in topology.namespaces}
    for link in topology.links:
        first, second = (end.namespace for end in link.ends)
        neighbours[first].append(second)
        neighbours[second].append(first)
    starts = sorted(topology.namespaces, key=lambda space: len(neighbours[space.name]) != 1)
    order: list[str] = []
    todo = [space.name for space in reversed(starts)]
    while todo:
        name = todo.pop()
        if name not in order:
            order.append(name)
            todo += reversed(neighbours[name])
    return [topology.namespace(name) for name in order]


def _properties(space: Namespace, topology: Topology) -> Iterator[str]:
    if space.forwards:
        yield "forwards"
    if space.firewall is not None:
        yield from _firewall(space.firewall)
    if space.nameservers:
        yield f"asks {', '.join(map(str, space.nameservers))} for names"
    roles = [
        str(role.get("name")) for role in topology.roles if role.get("namespace") == space.name
    ]
    if roles:
        yield f"runs {', '.join(roles)}"


def _firewall(firewall: Firewall) -> Iterator[str]:
    for nat in firewall.masquerade:
        yield f"NAT: {nat.source} leaves by {nat.outgoing} as its own"
    for rule in firewall.accept if firewall.forward is not Policy.ACCEPT else ():
        parts = [
            *([f"from {rule.incoming}"] if rule.incoming else []),
            *([f"from {_network(rule.source)}"] if rule.source else []),
            *([f"to {rule.outgoing}"] if rule.outgoing else []),
            *([f"to {_network(rule.destination)}"] if rule.destination else []),
            *(["if established"] if rule.established else []),
        ]
        yield f"lets through {' '.join(parts) or 'all'}"
    if firewall.forward is not Policy.ACCEPT:
        yield f"{firewall.forward.value}s everything else"
    if firewall.input is not Policy.ACCEPT:
        yield f"{firewall.input.value}s what is sent to it"


def _joins(link: Link, first: Namespace, second: Namespace) -> bool:
    return {end.namespace for end in link.ends} == {first.name, second.name}


def _box(lines: Sequence[str], width: int) -> list[str]:
    bar = "─" * (width + 2)
    return [f"┌{bar}┐", *(f"│ {line.ljust(width)} │" for line in lines), f"└{bar}┘"]


def _cable(link: Link, upper: str) -> list[str]:
    first, second = link.ends if link.ends[0].namespace == upper else reversed(link.ends)
    return [
        f"  │ {first.address} dev {first.device}",
        f"  │{' ' + _shape(link.shape) if link.shape else ''}",
        f"  │ {second.address} dev {second.device}",
    ]


def _others(links: Iterable[Link], title: Title) -> Iterator[str]:
    for link in links:
        first, second = link.ends
        shape = f" ({_shape(link.shape)})" if link.shape else ""
        yield (
            f"{title(first.namespace)} {first.address} ── "
            f"{second.address} {title(second.namespace)}{shape}"
        )


def _shape(shape: Shape) -> str:
    return ", ".join(
        [
            *([f"{format_rate(shape.rate)} a second"] if shape.rate else []),
            *([f"{format_delay(shape.delay)} each way"] if shape.delay else []),
            *([f"{format_loss(shape.loss)} lost"] if shape.loss else []),
        ]
    )


def _network(network: IPv4Network) -> str:
    return str(network.network_address if network.prefixlen == 32 else network)


def _quote(text: str) -> str:
    # A JSON string of printable text and line ends is a DOT string too.
    return json.dumps(text, ensure_ascii=False)
