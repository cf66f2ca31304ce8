"""What is different between two configurations, and what each difference takes."""

import msgspec
import pytest

from tests.tunneld.policies import OPEN_AGENT, OPEN_SERVER
from tunneld.config import (
    AgentConfig,
    EchoConfig,
    Frontend,
    GreeterConfig,
    RoleConfig,
    Rule,
    ServerConfig,
    TunnelListener,
)
from tunneld.configdiff import LIVE, Change, How, compare

SERVER = ServerConfig(
    name="edge",
    frontends=(Frontend(listen=":1", cert="c", key="k", client_ca="a"), Frontend(listen="unix:/s")),
    tunnel=TunnelListener(listen=":2", cert="c", key="k", client_ca="a"),
    policy=OPEN_SERVER,
)
AGENT = AgentConfig(name="home", server="h:1", ca="a", agent_id="x", policy=OPEN_AGENT)
ECHO = EchoConfig(name="echo")


def test_equal_configurations_do_not_differ() -> None:
    assert compare([SERVER, AGENT, ECHO], [ECHO, SERVER, AGENT]) == []


def test_roles_come_and_go() -> None:
    assert compare([ECHO], [AGENT]) == [
        Change("echo", "", "", "", How.REMOVE),
        Change("home", "", "", "", How.ADD),
    ]


def test_a_role_of_another_kind_restarts() -> None:
    assert compare([ECHO], [GreeterConfig(name="echo")]) == [
        Change("echo", "kind", "echo", "greeter", How.RESTART)
    ]


def test_fields_of_tables_are_named_as_the_file_has_them() -> None:
    first = msgspec.structs.replace(SERVER.frontends[0], client_ca="b", listen=":9")
    tunnel = msgspec.structs.replace(SERVER.tunnel, crl=("x", "y"))
    new = msgspec.structs.replace(SERVER, frontends=(first, SERVER.frontends[1]), tunnel=tunnel)
    assert compare([SERVER], [new]) == [
        Change("edge", "frontends[0].listen", ":1", ":9", How.RESTART),
        Change("edge", "frontends[0].client-ca", "a", "b", How.LIVE),
        Change("edge", "tunnel.crl", "[]", '["x","y"]', How.LIVE),
    ]


def test_another_number_of_tables_is_one_change() -> None:
    new = msgspec.structs.replace(SERVER, frontends=SERVER.frontends[:1])
    assert compare([SERVER], [new]) == [
        Change("edge", "frontends", "2 tables", "1 table", How.RESTART)
    ]


def test_all_of_a_policy_is_live() -> None:
    rules = (Rule(action="allow"), Rule(action="deny"))
    policy = msgspec.structs.replace(OPEN_SERVER, open=False, rules=rules)
    with_rules = msgspec.structs.replace(SERVER, policy=policy)
    assert {change.how for change in compare([SERVER], [with_rules])} == {How.LIVE}
    other = msgspec.structs.replace(rules[1], host=("a.example",))
    policy = msgspec.structs.replace(policy, rules=(rules[0], other))
    assert compare([with_rules], [msgspec.structs.replace(SERVER, policy=policy)]) == [
        Change("edge", "policy.rules[1].host", "[]", '["a.example"]', How.LIVE)
    ]


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("user:secret@h:1", "***@h:1"),
        ("http://user:sec/ret@h:1", "http://***@h:1"),
        ("https://user:s@cret@h:1", "https://***@h:1"),
        ("http://h:1", "http://h:1"),
        ("environment", "environment"),
    ],
)
def test_passwords_are_left_out_of_what_a_proxy_may_be(proxy: str, shown: str) -> None:
    [change] = compare([AGENT], [msgspec.structs.replace(AGENT, http_proxy=proxy)])
    assert change.new == shown


def test_passwords_are_left_out() -> None:
    proxies = ("http://user:secret@h:1", "http://user:other@h:2")
    old, new = (msgspec.structs.replace(AGENT, http_proxy=each) for each in proxies)
    assert compare([old], [new]) == [
        Change("home", "http-proxy", "http://***@h:1", "http://***@h:2", How.LIVE)
    ]


@pytest.mark.parametrize(
    ("field", "value", "how"),
    [
        ("server", "h:2", How.RESTART),
        ("identifiers", "host=a", How.RESTART),
        ("agent_id", "y", How.RESTART),
        ("namespace", "n", How.RESTART),
        ("processes", 2, How.RESTART),
        ("keepalive", 3.0, How.LIVE),
        ("drain_timeout", 3.0, How.LIVE),
    ],
)
def test_what_is_built_into_an_agent_takes_a_restart(field: str, value: object, how: How) -> None:
    [change] = compare([AGENT], [msgspec.structs.replace(AGENT, **{field: value})])
    assert change.how is how


def test_long_values_are_cut() -> None:
    new = msgspec.structs.replace(AGENT, identifiers="host=" + "a" * 500)
    [change] = compare([AGENT], [new])
    assert len(change.new) == 200


@pytest.mark.parametrize("kind", LIVE)
def test_what_is_live_is_a_field(kind: type[RoleConfig]) -> None:
    known = {field.name for field in msgspec.structs.fields(kind)}
    assert {name.partition(".")[0] for name in LIVE[kind]} <= known
