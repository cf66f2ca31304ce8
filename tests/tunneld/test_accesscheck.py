"""What `check-config` says of secrets, users, plain frontends and forwards."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunneld import secretsfile
from tunneld.config import ServerConfig
from tunneld.configfile import ConfigError, load_roles
from tunneld.secret import of_token

Check = Callable[..., list[str]]


@pytest.fixture
def check(pki: Path) -> Check:
    """The problems of a server with these keys beside its own."""
    path = pki / "secrets"
    if not path.exists():
        secretsfile.add(path, of_token("home", "t1"))

    def check(frontend: dict[str, object], **server: object) -> list[str]:
        table = {
            "kind": "server",
            "name": "edge",
            "policy": {"open": True},
            "frontends": [{"listen": "127.0.0.1:0", **frontend}],
            "tunnel": TUNNEL | {"client-ca": "agent/ca.crt"},
            **server,
        }
        try:
            load_roles([table], pki, source="test", at="role")
        except ConfigError as exc:
            return [str(problem) for problem in exc.problems]
        return []

    return check


TLS = {"cert": "frontend/server.crt", "key": "frontend/server.key"}
TUNNEL = {"listen": "127.0.0.1:0", "cert": "agent/server.crt", "key": "agent/server.key"}
FORWARD = {"name": "db", "listen": "127.0.0.1:0", "to": "db.internal:5432"}


@pytest.mark.parametrize(
    "frontend",
    [
        {**TLS, "secrets": "secrets"},
        {**TLS, "secrets": "secrets", "client-ca": "frontend/ca.crt"},
        {"plain": True},
        {"plain": True, "secrets": "secrets", "listen": "[::1]:0"},
        {"plain": True, "listen": "localhost:0"},
        {"listen": "unix:front.sock", "users": ["root", "12345"], "secrets": "secrets"},
    ],
)
def test_every_way_to_know_clients_is_accepted(check: Check, frontend: dict[str, object]) -> None:
    assert check(frontend) == []


@pytest.mark.parametrize(
    ("frontend", "problem"),
    [
        (TLS, "client-ca: is missing, as is secrets: one of them has to tell who clients are"),
        ({"secrets": "secrets"}, "cert: is missing, a frontend on TCP that is not plain needs it"),
        ({**TLS, "secrets": "nowhere"}, "secrets: cannot read secrets in "),
        ({**TLS, "secrets": "agent/ca.crt"}, "secrets: "),
        ({**TLS, "secrets": "secrets", "users": ["root"]}, "users: is for UNIX sockets"),
        ({**TLS, "secrets": "secrets", "crl": ["x"]}, "crl: is of no use without client-ca"),
        ({"plain": True, "listen": "0.0.0.0:0"}, "plain: 0.0.0.0:0 can be reached from elsewhere"),
        ({"plain": True, "listen": ":0"}, "plain: :0 can be reached from elsewhere"),
        ({"plain": True, "listen": "edge.example:0"}, "plain: edge.example:0 can be reached"),
        ({"plain": True, **TLS}, "cert: is not for a plain frontend"),
        ({"listen": "unix:x.sock", "users": ["no such"]}, "users[0]: there is no user 'no such'"),
        ({"listen": "unix:x.sock", "secrets": "nowhere"}, "secrets: cannot read secrets in "),
    ],
)
def test_mistakes_in_a_frontend_are_found(
    check: Check, frontend: dict[str, object], problem: str
) -> None:
    assert any(each.startswith(f"role[0].frontends[0].{problem}") for each in check(frontend))


@pytest.mark.parametrize(
    ("tunnel", "problems"),
    [
        ({"secrets": "secrets"}, []),
        ({"secrets": "secrets", "client-ca": "agent/ca.crt"}, []),
        ({}, ["role[0].tunnel.client-ca: is missing, as is secrets: one of them has to tell who"]),
        ({"secrets": "nowhere"}, ["role[0].tunnel.secrets: cannot read secrets in "]),
    ],
)
def test_agents_are_known_by_certificates_or_tokens(
    check: Check, tunnel: dict[str, str], problems: list[str]
) -> None:
    found = check({"plain": True}, tunnel=TUNNEL | tunnel)
    assert len(found) == len(problems)
    assert all(each.startswith(text) for each, text in zip(found, problems, strict=True))


@pytest.mark.parametrize(
    ("forward", "problem"),
    [
        ({"name": "a b"}, "name: 'a b' is no name"),
        ({"listen": "nowhere"}, "listen: 'nowhere' has no port"),
        ({"listen": "unix:/none/x.sock"}, "listen: directory /none does not exist"),
        ({"to": "db.internal"}, "to: 'db.internal' has no port"),
        ({"agent": "x" * 254}, "agent: 254 characters, limit 253"),
        ({"allow-from": ["10.0.0.1/8"]}, "allow-from[0]: 10.0.0.1/8 has host bits set"),
        ({"listen": "unix:x.sock", "allow-from": ["10.0.0.0/8"]}, "allow-from: is not for a UNIX"),
    ],
)
def test_mistakes_in_a_forward_are_found(
    check: Check, forward: dict[str, object], problem: str
) -> None:
    (found,) = check({"plain": True}, forwards=[FORWARD | forward])
    assert found.startswith(f"role[0].forwards[0].{problem}")


def test_file_names_start_at_the_base(pki: Path) -> None:
    secrets = pki / "secrets"
    if not secrets.exists():
        secretsfile.add(secrets, of_token("home", "t1"))
    table = {
        "kind": "server",
        "name": "edge",
        "policy": {"open": True},
        "frontends": [{"listen": "unix:front.sock", "secrets": "secrets"}],
        "tunnel": TUNNEL | {"secrets": "secrets"},
        "forwards": [FORWARD | {"listen": "unix:forward.sock"}],
    }
    (role,) = load_roles([table], pki, source="test", at="role")
    assert isinstance(role, ServerConfig)
    assert role.frontends[0].secrets == role.tunnel.secrets == str(secrets)
    assert role.forwards[0].listen == f"unix:{pki}/forward.sock"


def test_forwards_have_names_and_addresses_of_their_own(check: Check) -> None:
    forwards = [FORWARD | {"listen": "127.0.0.1:70"}, FORWARD | {"listen": "127.0.0.1:70"}]
    found = check({"plain": True}, forwards=forwards)
    taken = "is taken by role[0].forwards[0]"
    assert found == [
        f"role[0].forwards[1].name: 'db' {taken}.name, choose another",
        f"role[0].forwards[1].listen: '127.0.0.1:70' {taken}.listen, choose another",
    ]
