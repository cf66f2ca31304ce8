"""Topologies as pictures."""

from typing import Any

from hypothesis import given

from netns import builtin_topology, draw, draw_dot, parse_topology
from tests.netns.samples import pair, shaped, topologies

PAIR_DRAWN = """\
┌───┐
│ a │
└───┘
  │ 10.0.0.1/24 dev b
  │
  │ 10.0.0.2/24 dev a
┌───┐
│ b │
└───┘
"""


def test_two_namespaces_stand_one_below_the_other() -> None:
    assert draw(parse_topology(pair())) == PAIR_DRAWN


def test_demo_stands_in_the_order_of_its_links() -> None:
    text = draw(builtin_topology("demo"))
    names = ["public", "rtr-pub", "rtr-priv", "private"]
    tops = [text.index(f"│ {name} ") for name in names]
    assert tops == sorted(tops)
    assert "│ NAT: 192.168.1.0/27 leaves by rtr-pub as its own" in text
    assert "│ lets through to 2.2.2.2 " in text


def test_names_can_be_replaced() -> None:
    assert "│ X-a │" in draw(parse_topology(pair()), title=lambda name: f"X-{name}")


def test_shape_is_written_on_the_cable() -> None:
    text = draw(shaped(rate="10mbit", delay="5ms", loss="1%"))
    assert "  │ 10mbit a second, 5ms each way, 1% lost\n" in text


def test_link_that_closes_a_ring_is_a_line_of_text() -> None:
    ends = [("a", 1, "b", 2), ("b", 1, "c", 2), ("c", 1, "a", 2)]
    ring = parse_topology(
        {
            "name": "ring",
            "namespace": [{"name": name} for name in "abc"],
            "link": [
                {
                    "ends": [
                        {"namespace": first, "address": f"10.0.{number}.{low}/24"},
                        {"namespace": second, "address": f"10.0.{number}.{high}/24"},
                    ]
                }
                for number, (first, low, second, high) in enumerate(ends)
            ],
        }
    )
    assert draw(ring).endswith("└───┘\nc 10.0.2.1/24 ── 10.0.2.2/24 a\n")


def test_parallel_links_are_all_there() -> None:
    value = pair()
    value["link"].append(
        {
            "ends": [
                {"namespace": "a", "address": "10.1.0.1/24", "device": "x"},
                {"namespace": "b", "address": "10.1.0.2/24", "device": "y"},
            ]
        }
    )
    assert draw(parse_topology(value)).endswith("a 10.1.0.1/24 ── 10.1.0.2/24 b\n")


@given(topologies())
def test_every_namespace_and_address_is_drawn_once(value: dict[str, Any]) -> None:
    topology = parse_topology(value)
    lines = draw(topology).splitlines()
    assert sum(line.startswith("┌") for line in lines) == len(topology.namespaces)
    text = "\n".join(lines)
    assert all(text.count(str(end.address)) == 1 for end in topology.ends())


@given(topologies())
def test_dot_has_a_node_for_each_namespace_and_an_edge_for_each_link(value: dict[str, Any]) -> None:
    topology = parse_topology(value)
    lines = draw_dot(topology).splitlines()
    assert sum(" [label=" in line for line in lines) == len(topology.namespaces)
    assert sum('" -- "' in line for line in lines) == len(topology.links)
    assert (lines[0], lines[-1]) == ('graph "drawn" {', "}")
