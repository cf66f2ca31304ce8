import pytest

from tunneld.config import AgentGrant
from tunneld.identifiers import parse_identifiers
from tunneld.server.claims import Claims
from tunneld.server.grants import ClaimError, Grants

HOME = AgentGrant(
    identity=("cert:home",), host=("*.home.example",), cidr=("192.168.0.0/16", "fd00::/8")
)
EDGE = AgentGrant(identity=("cert:edge-*",), id=("edge-*", "spare"), default_route=True)


def check(identifiers: str, agent_id: str = "home", who: str = "cert:home") -> Claims:
    claims = Claims(parse_identifiers(identifiers))
    Grants([HOME, EDGE]).check([who], [who.partition(":")[2]], agent_id, claims)
    return claims


@pytest.mark.parametrize(
    "identifiers",
    [
        "",
        "host=db.home.example",
        "host=DB.Home.example.",
        "ipv4=192.168.1.2",
        "host=192.168.1.2",
        "ipv6=fd00::1",
        "ipv6=::ffff:192.168.1.2",
        "cidr=192.168.1.0/24",
        "cidr=192.168.0.0/16&cidr=fd00::/64",
        "default-route=false",
    ],
)
def test_what_is_granted_may_be_claimed(identifiers: str) -> None:
    check(identifiers)


@pytest.mark.parametrize(
    ("identifiers", "excess"),
    [
        ("host=db.corp.example", "host=db.corp.example"),
        ("host=home.example.evil", "host=home.example.evil"),
        ("ipv4=10.0.0.1", "ipv4=10.0.0.1"),
        ("host=10.0.0.1", "host=10.0.0.1"),
        ("cidr=192.0.0.0/8", "cidr=192.0.0.0/8"),
        ("cidr=0.0.0.0/0", "cidr=0.0.0.0/0"),
        ("cidr=::/0", "cidr=::/0"),
        ("default-route=true", "default-route=true"),
        ("ipv4=192.168.1.2&ipv4=10.0.0.1&host=x", "ipv4=10.0.0.1, host=x"),
    ],
)
def test_what_is_not_granted_may_not(identifiers: str, excess: str) -> None:
    with pytest.raises(ClaimError) as caught:
        check(identifiers)
    assert str(caught.value) == f"cert:home may not claim {excess}"


def test_an_id_is_the_identity_s_own_or_one_that_is_granted() -> None:
    check("", "edge-2", "cert:edge-1")
    check("", "spare", "cert:edge-1")
    with pytest.raises(ClaimError, match="agent id 'home' is granted to others than cert:edge-1"):
        check("", "home", "cert:edge-1")
    with pytest.raises(ClaimError, match="agent id 'edge-1' is granted to others"):
        check("", "edge-1")


def test_an_agent_without_a_grant_is_refused() -> None:
    with pytest.raises(ClaimError, match="no grant is about cert:stranger"):
        check("", "stranger", "cert:stranger")
    with pytest.raises(ClaimError, match="no grant is about secret:home"):
        check("", "home", "secret:home")


def test_without_grants_anything_may_be_claimed() -> None:
    claims = Claims(parse_identifiers("cidr=0.0.0.0/0&default-route=true"))
    Grants([]).check([], [], "anybody", claims)
    assert claims.takes_unclaimed


def test_who_has_no_default_route_is_not_asked_for_what_nobody_claims() -> None:
    assert not check("host=a.home.example").takes_unclaimed
    assert check("", "edge-1", "cert:edge-1").takes_unclaimed


def test_a_whole_uri_can_be_granted() -> None:
    grant = AgentGrant(identity=("cert:spiffe://mesh/ns/prod/sa/home",), cidr=("10.0.0.0/8",))
    claims = Claims(parse_identifiers("cidr=10.1.0.0/16"))

    def come(uri: str) -> None:
        Grants([grant]).check(["cert:home", f"cert:{uri}"], ["home"], "home", claims)

    come("spiffe://mesh/ns/prod/sa/home")
    with pytest.raises(ClaimError, match="no grant is about cert:home, cert:spiffe://mesh/ns/evil"):
        come("spiffe://mesh/ns/evil/sa/home")
