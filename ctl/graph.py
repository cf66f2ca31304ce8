"""A lab's links as text: a chain where the links form one, else a line for each link.

public 2.2.2.2/27 ── 2.2.2.1/27 rtr-pub 10.10.10.1/27 ── 10.10.10.2/27 rtr-priv
"""

from collections.abc import Iterator

from ctl.messages import Message

_CABLE = "──"

End = tuple[str, str]
"""Namespace and address."""


def format_graph(topology: Message) -> Iterator[str]:
    """Lines that show the links, then what runs in which namespace."""
    links = [_ends(link) for link in _maps(topology, "link") if len(_maps(link, "ends")) == 2]
    chain = _order(links)
    if chain is not None:
        yield _format_chain(chain)
    else:
        for (a, a_address), (b, b_address) in links:
            yield f"{a} {a_address} {_CABLE} {b_address} {b}"
    for link in _maps(topology, "link"):
        if link.get("shape"):
            between = f" {_CABLE} ".join(str(end.get("namespace")) for end in _maps(link, "ends"))
            yield f"{between}: {_pairs(link['shape'])}"
    roles = [(role, role.get("namespace")) for role in _maps(topology, "role")]
    if roles:
        yield ""
    for role, namespace in roles:
        where = role.get("listen") or role.get("server") or ""
        yield f"{namespace or '-'}: {role.get('kind')} {role.get('name')} {where}".rstrip()


def _order(links: list[tuple[End, End]]) -> list[tuple[End, End]] | None:
    """The links end to end, each turned to follow the one before; None if they are no chain."""
    if not links:
        return None
    degree: dict[str, int] = {}
    for pair in links:
        for namespace, _address in pair:
            degree[namespace] = degree.get(namespace, 0) + 1
    here = next((name for name, count in degree.items() if count == 1), None)
    rest, chain = list(links), []
    while rest and here is not None:
        found = next((link for link in rest if here in (link[0][0], link[1][0])), None)
        if found is None:
            return None
        rest.remove(found)
        chain.append(found if found[0][0] == here else (found[1], found[0]))
        here = chain[-1][1][0]
    return chain if not rest and max(degree.values()) <= 2 else None


def _format_chain(chain: list[tuple[End, End]]) -> str:
    words = [chain[0][0][0]]
    for (_left, left_address), (right, right_address) in chain:
        words += [left_address, _CABLE, right_address, right]
    return " ".join(words)


def _ends(link: Message) -> tuple[End, End]:
    a, b = ((str(end.get("namespace")), str(end.get("address"))) for end in _maps(link, "ends"))
    return a, b


def _maps(table: Message, key: str) -> list[Message]:
    value = table.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _pairs(shape: object) -> str:
    if not isinstance(shape, dict):
        return str(shape)
    return ", ".join(f"{key} {value}" for key, value in shape.items())
