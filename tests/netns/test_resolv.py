"""The text of resolv.conf."""

from ipaddress import IPv4Address

from netns.resolv import resolv_conf
from netns.topology import Namespace


def test_servers_and_search_list_are_there() -> None:
    servers = (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
    space = Namespace("a", nameservers=servers, search=("svc", "example"))
    assert resolv_conf(space) == ("nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch svc example\n")


def test_namespace_without_servers_gets_none_rather_than_the_hosts() -> None:
    assert "nameserver " not in resolv_conf(Namespace("a"))
