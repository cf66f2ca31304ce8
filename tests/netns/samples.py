"""Topologies for tests, and strategies that make them."""

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from netns.topology import Topology
from netns.topology_map import parse_topology

PAIR: dict[str, Any] = {
    "name": "pair",
    "namespace": [{"name": "a"}, {"name": "b"}],
    "link": [
        {
            "ends": [
                {"namespace": "a", "address": "10.0.0.1/24"},
                {"namespace": "b", "address": "10.0.0.2/24"},
            ]
        }
    ],
}
"""The smallest network."""


def pair(**changes: Any) -> dict[str, Any]:
    """A copy of `PAIR` with other members."""
    return {**deepcopy(PAIR), **changes}


def shaped(**shape: str) -> Topology:
    """`PAIR` with a shaped link."""
    value = pair()
    value["link"][0]["shape"] = shape
    return parse_topology(value)


@st.composite
def topologies(draw: st.DrawFn) -> dict[str, Any]:
    """Maps of valid trees: each namespace but the first hangs on an earlier one."""
    names = draw(
        st.lists(
            st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
            min_size=1,
            max_size=6,
            unique=True,
        )
    )
    names = [name for name in names if name not in ("lo", "all", "default")] or ["only"]
    links = [
        _link(draw, names[draw(st.integers(0, index - 1))], names[index], index)
        for index in range(1, len(names))
    ]
    return {
        "name": "drawn",
        "namespace": [_namespace(draw, name) for name in names],
        "link": links,
        "role": draw(st.lists(st.fixed_dictionaries({"kind": st.text(max_size=5)}), max_size=2)),
    }


def _namespace(draw: st.DrawFn, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "forwards": draw(st.booleans()),
        "nameservers": draw(st.lists(st.ip_addresses(v=4).map(str), max_size=2)),
        "sysctls": draw(st.sampled_from([{}, {"net.ipv4.tcp_tw_reuse": "1"}])),
        "firewall": {
            "input": draw(st.sampled_from(["accept", "reject", "drop"])),
            "forward": draw(st.sampled_from(["accept", "reject", "drop"])),
            "accept": [{"source": "10.0.0.0/8", "established": draw(st.booleans())}],
        },
    }


def _link(draw: st.DrawFn, first: str, second: str, number: int) -> dict[str, Any]:
    shape = {
        "rate": draw(st.integers(8, 9999).map("{}kbit".format)),
        "delay": draw(st.integers(1, 999_999).map("{}us".format)),
        "loss": draw(st.integers(1, 1000).map(lambda tenths: f"{tenths / 10}%")),
    }
    return {
        "ends": [
            {"namespace": first, "address": f"10.{number}.0.1/24"},
            {"namespace": second, "address": f"10.{number}.0.2/24"},
        ],
        "shape": shape,
    }


ROUTED = parse_topology(
    pair(
        namespace=[
            {"name": "a", "routes": [{"to": "default", "via": "10.0.0.2"}]},
            {"name": "b", "forwards": True, "firewall": {"forward": "reject"}},
        ]
    )
)
"""Small, and with a step of every kind."""
