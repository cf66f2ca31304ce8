"""Topologies from TOML and maps, and back."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns import (
    NetnsError,
    TopologyError,
    builtin_topology,
    load_topology,
    parse_topology,
    topology_to_map,
)
from netns.topology import Accept, Masquerade, Policy, Probe, Shape
from tests.netns.samples import pair, shaped, topologies


def test_demo_has_the_addresses_of_the_design() -> None:
    demo = builtin_topology("demo")
    addresses = {
        space.name: [str(end.address) for end in demo.ends_of(space.name)]
        for space in demo.namespaces
    }
    assert addresses == {
        "public": ["2.2.2.2/27"],
        "rtr-pub": ["2.2.2.1/27", "10.10.10.1/27"],
        "rtr-priv": ["10.10.10.2/27", "192.168.1.1/27"],
        "private": ["192.168.1.2/27"],
    }
    assert [space.name for space in demo.namespaces if space.forwards] == ["rtr-pub", "rtr-priv"]


def test_demo_masquerades_the_private_network_alone_and_lets_in_only_answers() -> None:
    firewall = builtin_topology("demo").namespace("rtr-priv").firewall
    assert firewall is not None
    assert firewall.masquerade == (Masquerade(IPv4Network("192.168.1.0/27"), "rtr-pub"),)
    assert firewall.accept == (
        Accept(incoming="private", outgoing="rtr-pub"),
        Accept(incoming="rtr-pub", outgoing="private", established=True),
    )
    assert (firewall.input, firewall.forward) == (Policy.DROP, Policy.REJECT)


def test_demo_resolves_names_in_private_only() -> None:
    demo = builtin_topology("demo")
    servers = {space.name: space.nameservers for space in demo.namespaces if space.nameservers}
    assert servers == {"private": (IPv4Address("192.168.1.2"),)}
    assert demo.records == {"local-server.svc": (IPv4Address("192.168.1.2"),)}


def test_unknown_builtin_topology_names_those_there_are() -> None:
    with pytest.raises(NetnsError) as caught:
        builtin_topology("nothing")
    assert (caught.value.code, caught.value.hint) == ("not_found", "there are: demo")


def test_device_is_named_after_the_other_end_unless_given() -> None:
    value = pair()
    value["link"][0]["ends"][1]["device"] = "eth0"
    first, second = parse_topology(value).links[0].ends
    assert (first.device, second.device) == ("b", "eth0")
    assert first.address == IPv4Interface("10.0.0.1/24")


def test_default_is_the_route_to_everywhere() -> None:
    value = pair(
        namespace=[{"name": "a", "routes": [{"to": "default", "via": "10.0.0.2"}]}, {"name": "b"}]
    )
    (route,) = parse_topology(value).namespace("a").routes
    assert route.destination == IPv4Network("0.0.0.0/0")


def test_shape_is_read_in_bits_seconds_and_fractions() -> None:
    shape = shaped(rate="1.5mbit", delay="20ms", loss="0.5%").links[0].shape
    assert shape == Shape(rate=1_500_000, delay=0.02, loss=0.005)


def test_probe_is_read() -> None:
    probe = {"from": "a", "to": "10.0.0.2", "answers": True, "seen-as": "10.0.0.1"}
    (read,) = parse_topology(pair(probe=[probe])).probes
    assert read == Probe("a", IPv4Address("10.0.0.2"), True, IPv4Address("10.0.0.1"))


def test_roles_are_passed_on_unread() -> None:
    role = {"kind": "x", "anything": [{"goes": 1}]}
    assert parse_topology(pair(role=[role])).roles == (role,)


@given(topologies())
def test_map_and_back_is_the_same_topology(value: dict[str, Any]) -> None:
    topology = parse_topology(value)
    assert parse_topology(topology_to_map(topology)) == topology


def test_demo_survives_map_and_back() -> None:
    demo = builtin_topology("demo")
    assert parse_topology(topology_to_map(demo)) == demo


Change = Callable[[dict[str, Any]], object]

REFUSED: list[tuple[Change, str]] = [
    (lambda v: v.pop("name"), "name: missing"),
    (lambda v: v.update(name="-x"), "name: '-x' is not a name"),
    (lambda v: v.update(name=5), "name: expected a string, got 5"),
    (lambda v: v.update(colour="red"), "colour: unknown key"),
    (lambda v: v.update(namespace={}), "namespace: expected an array, got a table"),
    (lambda v: v.update(namespace=[]), "namespace: a topology needs at least one"),
    (lambda v: v["namespace"].append("c"), "namespace[2]: expected a table, got a string"),
    (lambda v: v["namespace"].append({"name": "a"}), "namespace[2].name: 'a' is there twice"),
    (lambda v: v["namespace"].append({"name": "x/y"}), "namespace[2].name: 'x/y' is not a name"),
    (lambda v: v["namespace"].append({"name": "."}), "namespace[2].name: '.' is not a name"),
    (
        lambda v: v["namespace"].append({"name": "n" * 64}),
        f"namespace[2].name: '{'n' * 64}' is not",
    ),
    (lambda v: v["namespace"][0].update(forward=True), "namespace[0].forward: unknown key"),
    (
        lambda v: v["namespace"][0].update(forwards=1),
        "namespace[0].forwards: expected true or false",
    ),
    (
        lambda v: v["namespace"][0].update(nameservers=["dns"]),
        "namespace[0].nameservers[0]: 'dns' is not an IPv4 address",
    ),
    (
        lambda v: v["namespace"][0].update(search=["a b"]),
        "namespace[0].search[0]: 'a b' is not a host name",
    ),
    (
        lambda v: v["namespace"][0].update(sysctls={"kernel.panic": "1"}),
        "namespace[0].sysctls: 'kernel.panic' is not a setting",
    ),
    (
        lambda v: v["namespace"][0].update(sysctls={"net.ipv4../../x": "1"}),
        "namespace[0].sysctls: 'net.ipv4../../x' is not a setting",
    ),
    (
        lambda v: v["namespace"][0].update(routes=[{"to": "10.0.0.1/8", "via": "10.0.0.2"}]),
        "namespace[0].routes[0].to: '10.0.0.1/8' is not a network",
    ),
    (
        lambda v: v["namespace"][0].update(routes=[{"to": "default", "via": "10.9.0.2"}]),
        "namespace[0].routes[0].via: 10.9.0.2 is in no subnet of 'a'",
    ),
    (
        lambda v: v["namespace"][0].update(routes=[{"to": "default", "via": "10.0.0.1"}]),
        "namespace[0].routes[0].via: 10.0.0.1 is 'a' itself",
    ),
    (
        lambda v: v["namespace"][0].update(routes=[{"to": "default", "via": "10.0.0.2"}] * 2),
        "namespace[0].routes[1].to: '0.0.0.0/0' is there twice",
    ),
    (
        lambda v: v["namespace"][0].update(firewall={"input": "deny"}),
        "namespace[0].firewall.input: 'deny' is not one of accept, reject, drop",
    ),
    (
        lambda v: v["namespace"][0].update(firewall={"accept": [{"in": "eth7"}]}),
        "namespace[0].firewall.accept[0].in: no device 'eth7'",
    ),
    (
        lambda v: v["namespace"][0].update(
            firewall={"masquerade": [{"source": "10.0.0.0/24", "out": "x"}]}
        ),
        "namespace[0].firewall.masquerade[0].out: no device 'x'",
    ),
    (lambda v: v["link"][0]["ends"].pop(), "link[0].ends: a link has two ends, got 1"),
    (
        lambda v: v["link"][0]["ends"][0].update(namespace="c"),
        "link[0].ends[0].namespace: no namespace 'c'",
    ),
    (
        lambda v: v["link"][0]["ends"][1].update(namespace="a"),
        "link[0].ends: both are in 'a'",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(address="10.0.0.300/24"),
        "link[0].ends[0].address: '10.0.0.300/24' is not an address",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(address="10.0.0.1"),
        "link[0].ends[0].address: '10.0.0.1' has no prefix length",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(address="fd00::1/64"),
        "link[0].ends[0].address: 'fd00::1/64' is not an address",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(address="10.0.0.0/24"),
        "link[0].ends[0].address: 10.0.0.0/24 names the subnet",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(address="10.0.0.255/24"),
        "link[0].ends[0].address: 10.0.0.255/24 names the subnet",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(address="224.0.0.1/24"),
        "link[0].ends[0].address: 224.0.0.1/24 cannot be a host's",
    ),
    (
        lambda v: v["link"][0]["ends"][1].update(address="10.0.0.1/24"),
        "link[0].ends: both have the address 10.0.0.1",
    ),
    (
        lambda v: v["link"][0]["ends"][1].update(address="10.0.1.2/24"),
        "link[0].ends: 10.0.0.1/24 and 10.0.1.2/24 are in different subnets",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(device="a name"),
        "link[0].ends[0].device: bad device name 'a name'",
    ),
    (
        lambda v: v["link"][0]["ends"][0].update(device="sixteen-letters-"),
        "link[0].ends[0].device: bad device name",
    ),
    (lambda v: v["link"][0]["ends"][0].update(device="lo"), "link[0].ends[0].device: bad device"),
    (lambda v: v["link"].append(v["link"][0]), "link[1].ends[0].address: 10.0.0.1 is already"),
    (
        lambda v: v["link"].append(
            {
                "ends": [
                    {"namespace": "a", "address": "10.1.0.1/24"},
                    {"namespace": "b", "address": "10.1.0.2/24"},
                ]
            }
        ),
        "link[1].ends[0].device: 'a' has a device 'b' already",
    ),
    (
        lambda v: v["link"].append(
            {
                "ends": [
                    {"namespace": "a", "address": "10.0.0.65/26", "device": "x"},
                    {"namespace": "b", "address": "10.0.0.66/26", "device": "y"},
                ]
            }
        ),
        "link[1].ends[0].address: 10.0.0.64/26 overlaps 10.0.0.0/24",
    ),
    (lambda v: v["link"][0].update(shape={}), "link[0].shape: shapes nothing"),
    (lambda v: v["link"][0].update(shape={"jitter": "1ms"}), "link[0].shape.jitter: unknown key"),
    (lambda v: v["link"][0].update(shape={"rate": 100}), "link[0].shape.rate: expected a string"),
    (lambda v: v.update(records={"a b": ["10.0.0.1"]}), "records: 'a b' is not a host name"),
    (lambda v: v.update(records={"a": ["b"]}), "records.\"a\"[0]: 'b' is not an IP address"),
    (
        lambda v: v.update(probe=[{"from": "c", "to": "10.0.0.1", "answers": True}]),
        "probe[0].from: no namespace 'c'",
    ),
    (
        lambda v: v.update(
            probe=[{"from": "a", "to": "10.0.0.2", "answers": False, "seen-as": "10.0.0.1"}]
        ),
        "probe[0].seen-as: a target that must not answer",
    ),
    (
        lambda v: v.update(
            probe=[{"from": "a", "to": "9.9.9.9", "answers": True, "seen-as": "10.0.0.1"}]
        ),
        "probe[0].seen-as: 9.9.9.9 is no address of the lab",
    ),
    (lambda v: v.update(role=["x"]), "role[0]: expected a table, got a string"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refused_topology_names_what_is_wrong_and_where(change: Change, message: str) -> None:
    value = pair()
    change(value)
    with pytest.raises(TopologyError) as caught:
        parse_topology(value)
    assert caught.value.code == "bad_request"
    assert caught.value.message.startswith(message)


def test_file_gives_the_same_as_the_map(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text('name = "two"\n[[namespace]]\nname = "a"\n')
    assert load_topology(file) == parse_topology({"name": "two", "namespace": [{"name": "a"}]})


def test_error_in_a_file_names_the_file_and_the_path(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('name = "two"\n[[namespace]]\nname = "a"\nfrowards = true\n')
    with pytest.raises(TopologyError) as caught:
        load_topology(file)
    assert caught.value.message == f"{file}: namespace[0].frowards: unknown key"
    assert caught.value.hint.startswith("keys here are name, forwards, ")


def test_text_that_is_not_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("name = \n")
    with pytest.raises(TopologyError, match=r"not TOML: .*line 1"):
        load_topology(file)


def test_octets_that_are_not_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(b"name = \xff")
    with pytest.raises(TopologyError, match="not TOML"):
        load_topology(file)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot read: No such file"):
        load_topology(tmp_path / "none.toml")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.data())
def test_garbage_is_refused_and_never_crashes(data: st.DataObject) -> None:
    value = pair()
    holder: Any = data.draw(
        st.sampled_from(
            [value, value["namespace"][0], value["link"][0], value["link"][0]["ends"][0]]
        )
    )
    keys = [*holder, "routes", "firewall", "sysctls", "records", "probe", "role", "shape"]
    holder[data.draw(st.sampled_from(keys))] = data.draw(json_values)
    with suppress(TopologyError):  # or it is a topology by chance; anything else fails
        parse_topology(value)
