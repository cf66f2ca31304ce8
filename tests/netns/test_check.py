"""The check proves what is so, and finds what is not."""

import os
from typing import Any

import pytest

from netns import builtin_topology, check_argv, parse_topology
from tests.netns.programs import Program, Site
from tests.netns.samples import pair

DEMO = builtin_topology("demo")

DNS_SERVER = """
import socket, sys
import dns.message, dns.rrset
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
print(flush=True)
while True:
    wire, peer = server.recvfrom(512)
    response = dns.message.make_response(dns.message.from_wire(wire))
    if response.question[0].name.to_text() == "local-server.svc.":
        response.answer.append(dns.rrset.from_text("local-server.svc.", 1, "IN", "A", sys.argv[2]))
    server.sendto(response.to_wire(), peer)
"""


def check(site: Site) -> tuple[dict[str, bool | None], dict[str, str], dict[str, Any]]:
    """Verdicts and details by check, without the lab's prefix, and the last message."""
    program = Program([*site.prefix, *check_argv(site.directory)])
    *items, last = program.messages()
    program.close()
    rows = [message["item"] for message in items]
    short = [row["check"].replace(f"{site.name}-", "") for row in rows]
    return (
        {name: row["ok"] for name, row in zip(short, rows, strict=True)},
        {name: row["detail"] for name, row in zip(short, rows, strict=True)},
        last,
    )


def serve_names(site: Site, namespace: str, at: str, answer: str) -> Program:
    script = f"import sys; sys.argv = ['', {at!r}, {answer!r}]\n{DNS_SERVER}"
    server = site.spawn(namespace, script)
    server.wait_for_line()
    return server


def test_demo_is_as_the_design_says(site: Site) -> None:
    site.up(DEMO).last()
    serve_names(site, "private", "192.168.1.2", "192.168.1.2")
    verdicts, details, last = check(site)
    assert last == {"result": {"ok": True}}
    assert set(verdicts.values()) == {True}
    assert details["public sees private as 10.10.10.2"] == "saw 10.10.10.2"
    assert "echo reply after" in details["private reaches public (2.2.2.2) by ICMP"]
    unreachable = details["public does not reach private (192.168.1.2) by ICMP"]
    assert unreachable == "network unreachable, says 2.2.2.1"
    resolved = details["local-server.svc resolves in private"]
    assert resolved == "192.168.1.2 says 192.168.1.2"
    assert "local-server.svc does not resolve in public" in verdicts


def test_names_are_left_open_where_no_server_answers(site: Site) -> None:
    site.up(DEMO).last()
    verdicts, details, last = check(site)
    assert last == {"result": {"ok": True}}
    assert verdicts["local-server.svc resolves in private"] is None
    assert "no DNS server answers" in details["local-server.svc resolves in private"]


def test_wrong_answer_of_a_server_is_found(site: Site) -> None:
    site.up(DEMO).last()
    serve_names(site, "private", "192.168.1.2", "192.168.1.3")
    verdicts, details, last = check(site)
    assert last == {"result": {"ok": False}}
    assert verdicts["local-server.svc resolves in private"] is False
    assert details["local-server.svc resolves in private"] == "192.168.1.2 says 192.168.1.3"


def test_router_that_knows_the_way_in_still_lets_nobody_in(site: Site) -> None:
    """Not the missing route keeps public out, but the firewall: given a route, it rejects."""
    site.up(DEMO).last()
    add_route = (
        "from netns.netlink import open_netlink; "
        "open_netlink().route('add', dst='192.168.1.0/27', gateway='10.10.10.2')"
    )
    site.shell("rtr-pub", add_route)
    verdicts, details, _ = check(site)
    title = "public does not reach private (192.168.1.2) by"
    assert verdicts[f"{title} ICMP"] is verdicts[f"{title} TCP"] is True
    assert details[f"{title} ICMP"] == "prohibited by a filter, says 10.10.10.2"
    assert details[f"{title} TCP"] == f"TCP: {os.strerror(113)}"


def test_firewall_that_lets_all_in_is_found(site: Site) -> None:
    site.up(DEMO).last()
    open_up = (
        "from netns.netlink import open_netlink, open_nftables; "
        "open_nftables().table('del', name='tunneld'); "
    )
    add_route = "open_netlink().route('add', dst='192.168.1.0/27', gateway='10.10.10.2')"
    site.shell("rtr-priv", open_up)
    site.shell("rtr-pub", open_up + add_route)
    verdicts, details, last = check(site)
    assert last == {"result": {"ok": False}}
    assert verdicts["public does not reach private (192.168.1.2) by ICMP"] is False
    assert verdicts["public does not reach private (192.168.1.2) by TCP"] is False
    assert verdicts["public sees private as 10.10.10.2"] is False
    assert details["public sees private as 10.10.10.2"] == "saw 192.168.1.2"


def test_missing_address_and_forwarding_are_found(site: Site) -> None:
    site.up(parse_topology(pair())).last()
    spoil = (
        "from netns.netlink import open_netlink; "
        "open_netlink().addr('del', index=2, address='10.0.0.1', prefixlen=24); "
        "open('/proc/sys/net/ipv4/ip_forward', 'w').write('1')"
    )
    site.shell("a", spoil)
    verdicts, details, last = check(site)
    assert last == {"result": {"ok": False}}
    assert verdicts == {"a stands": False, "b stands": True}
    assert details["a stands"] == "without 10.0.0.1/24; forwarding is on"


def test_target_outside_of_the_lab_is_asked_by_icmp_alone(site: Site) -> None:
    probe = {"from": "a", "to": "192.0.2.1", "answers": True}
    site.up(parse_topology(pair(probe=[probe]))).last()
    verdicts, details, _ = check(site)
    assert verdicts["a reaches 192.0.2.1 by ICMP"] is False
    assert details["a reaches 192.0.2.1 by ICMP"] == f"echo: {os.strerror(101)}"


@pytest.mark.parametrize("up", [False, True], ids=["without a lab", "after its holder died"])
def test_lab_that_is_not_up_is_refused(rootless: Site, up: bool) -> None:
    if up:
        builder = rootless.up(parse_topology(pair()))
        builder.last()
        builder.kill()
    _, _, last = check(rootless)
    assert last["error"]["code"] == "not_found"
