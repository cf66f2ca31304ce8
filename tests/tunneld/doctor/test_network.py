"""Names and connections, real ones on loopback."""

import socket

import pytest

from ctl.address import Address
from tests.tunneld.doctor.samples import only
from tunneld.doctor.network import Connecting, Resolver


def test_a_name_has_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    infos = [
        (family, socket.SOCK_STREAM, 6, "", where)
        for family, where in (
            (socket.AF_INET, ("192.0.2.1", 8091)),
            (socket.AF_INET, ("192.0.2.1", 8091)),
            (socket.AF_INET6, ("2001:db8::1", 8091, 0, 0)),
        )
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
    resolver = Resolver(Address("edge.example.org", 8091))
    found = only(resolver.check())
    assert str(found.verdict) == "pass"
    assert "edge.example.org is 192.0.2.1, 2001:db8::1, in " in found.detail
    assert [str(place) for place in resolver.places] == ["192.0.2.1:8091", "[2001:db8::1]:8091"]


def test_an_address_needs_no_name_server() -> None:
    found = only(Resolver(Address("127.0.0.1", 1)).check())
    assert found.detail == "127.0.0.1 is an address"


@pytest.mark.parametrize("host", ["nosuch.invalid", "a..b", "x" * 70])
def test_a_name_that_does_not_resolve_fails(host: str) -> None:
    resolver = Resolver(Address(host, 1))
    found = only(resolver.check())
    assert (str(found.verdict), bool(found.action)) == ("fail", True)
    assert resolver.places == []


def test_a_silent_name_server_is_told_from_a_wrong_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    assert "resolv.conf" in only(Resolver(Address("edge", 1)).check()).action


def test_each_address_is_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        places = []
        for port in (listener.getsockname()[1], unheard.getsockname()[1]):
            resolver = Resolver(Address("127.0.0.1", port))
            list(resolver.check())
            places += resolver.places
        connecting = Connecting(places)
        found = list(connecting.check())
    assert [str(each.verdict) for each in found] == ["pass", "fail"]
    assert "Connection refused" in found[1].detail
    assert "nothing listens there" in found[1].action
    assert connecting.reached == places[:1]
