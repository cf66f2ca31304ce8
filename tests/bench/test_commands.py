"""Arguments of the commands, and the network that they ask for."""

import argparse
from collections import Counter
from ipaddress import IPv4Address, IPv4Network

import pytest

from bench import beside, compare, growth
from bench.__main__ import COMMANDS, main
from bench.errors import BenchError
from bench.lab import topology
from bench.targets import make_target
from netns.topology import Accept, Route
from netns.validation import check_topology


def options(*arguments: str) -> argparse.Namespace:
    return beside.parse(arguments)


def test_a_quick_run_measures_what_takes_long_once() -> None:
    steps = beside.plan(options("--quick"), ["ours", "ssh"])
    rounds = Counter(step.group for step in steps if step.target == "ours")
    assert (rounds["traffic"], rounds["idle"]) == (3, 1)
    assert beside.seconds(options("--quick")) < beside.seconds(options())


def test_measures_and_rounds_can_be_chosen() -> None:
    steps = beside.plan(options("--measures", "echo-1,idle", "--rounds", "2"), ["ours"])
    assert [(step.group, step.round) for step in steps] == [
        ("echo", 0),
        ("echo", 1),
        ("idle", 0),
        ("idle", 1),
    ]


def test_unknown_target_is_named_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match="no target 'wireguard'; there are: ours, "):
        make_target("wireguard")


def test_compare_takes_one_revision_or_two() -> None:
    assert compare.parse(["main~3"]).after is None
    assert compare.parse(["a", "b", "--quick"]).after == "b"


def test_counts_are_put_in_order() -> None:
    assert growth.counts("100,10") == (10, 100)
    assert growth.counts("") == ()


def test_limit_of_files_that_is_too_low_is_said() -> None:
    with pytest.raises(BenchError, match="connections need"):
        growth.raise_file_limit(10**12)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_says_what_it_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*([command] if command else []), "--help"])
    assert ended.value.code == 0
    assert f"usage: sh dev bench {command}".strip() in capsys.readouterr().out


@pytest.mark.plain
def test_who_is_not_root_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["startup"]) == 1
    assert "needs root" in capsys.readouterr().err


def test_network_is_the_demos_with_one_way_in() -> None:
    network = topology()
    check_topology(network)
    firewall = network.namespace("rtr-priv").firewall
    assert firewall is not None
    assert firewall.accept[-1] == Accept(incoming="rtr-pub", outgoing="private")
    way = Route(IPv4Network("192.168.1.0/27"), IPv4Address("10.10.10.2"))
    assert way in network.namespace("rtr-pub").routes
