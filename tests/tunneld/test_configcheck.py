"""Mistakes in ways through HTTP; `test_configfile` has those in everything else."""

from pathlib import Path
from typing import Any

import pytest

from tests.tunneld.policies import OPEN_AGENT, OPEN_SERVER
from tunneld.config import AgentConfig, Frontend, ServerConfig, TunnelListener, WebsocketListener
from tunneld.configcheck import group_problems, role_problems
from tunneld.schema import struct_problems

WAYS = "HOST:PORT, wss://HOST/PATH, or ws://HOST/PATH"


def problems(role: ServerConfig | AgentConfig) -> list[str]:
    return [str(problem) for problem in role_problems(role, "role[0]")]


def agent(pki: Path, **options: Any) -> AgentConfig:
    settings = {
        "server": "edge.example.org:8091",
        "cert": str(pki / "agent/agent.crt"),
        "key": str(pki / "agent/agent.key"),
        "ca": str(pki / "agent/ca.crt"),
        **options,
    }
    return AgentConfig(name="home", policy=OPEN_AGENT, **settings)


def server(pki: Path, **options: Any) -> ServerConfig:
    return ServerConfig(
        name="edge",
        policy=OPEN_SERVER,
        frontends=(Frontend(listen=f"unix:{pki}/front.sock"),),
        tunnel=TunnelListener(
            listen="127.0.0.1:8091",
            cert=str(pki / "agent/server.crt"),
            key=str(pki / "agent/server.key"),
            client_ca=str(pki / "agent/ca.crt"),
        ),
        websocket=WebsocketListener(**{"listen": "127.0.0.1:8092", **options}),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"server": "wss://edge.example.org/tunnel"},
        {"server": "ws://[::1]:8092/tunnel?a=b"},
        {"http_proxy": "environment"},
        {"http_proxy": "http://me:secret@proxy:3128"},
        {"http_proxy": "https://proxy", "http_proxy_ca": "frontend/ca.crt"},
        {"server": "wss://edge.example.org", "websocket_ca": "frontend/ca.crt"},
        {"http_proxy": "http://proxy", "http_proxy_credentials": "agent/ca.crt"},
    ],
)
def test_an_agent_may_go_out_in_many_ways(pki: Path, options: dict[str, str]) -> None:
    paths = {key: str(pki / text) for key, text in options.items() if text.endswith(".crt")}
    assert problems(agent(pki, **(options | paths))) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"server": "http://edge"},
            f"role[0].server: 'http://edge': 'http' is no way to a server; expected {WAYS}",
        ),
        (
            {"http_proxy": "socks5://proxy"},
            "role[0].http-proxy: a proxy of kind 'socks5'; expected http://… or https://…",
        ),
        (
            {"http_proxy": "http://me@proxy"},
            "role[0].http-proxy: the proxy's credentials have no ':'; expected USER:PASSWORD",
        ),
        (
            {"http_proxy_credentials": "/nowhere"},
            "role[0].http-proxy-credentials: cannot read /nowhere: No such file or directory",
        ),
        (
            {"http_proxy_ca": "/nowhere"},
            "role[0].http-proxy-ca: cannot read /nowhere: No such file or directory",
        ),
        (
            {"websocket_ca": "/dev/null"},
            "role[0].websocket-ca: /dev/null holds no PEM certificate: NO_CERTIFICATE_OR_CRL_FOUND",
        ),
    ],
)
def test_an_agents_way_out_is_checked(pki: Path, options: dict[str, str], says: str) -> None:
    assert problems(agent(pki, **options)) == [says]


def test_a_websocket_listener_may_be_plain_or_have_tls(pki: Path) -> None:
    files = {"cert": str(pki / "frontend/server.crt"), "key": str(pki / "frontend/server.key")}
    assert problems(server(pki)) == []
    assert problems(server(pki, **files, trusted_proxies=("10.0.0.0/8", "::1"))) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"listen": "127.0.0.1"}, "listen: '127.0.0.1' has no port; expected HOST:PORT"),
        ({"path": "tunnel"}, "path: 'tunnel': expected '/' and visible ASCII characters"),
        ({"path": "/a b"}, "path: '/a b': expected '/' and visible ASCII characters"),
        ({"cert": "/nowhere"}, "cert: cannot read /nowhere: No such file or directory"),
        ({"trusted_proxies": ("::1", "10.0.0.1/8")}, "trusted-proxies[1]: 10.0.0.1/8 has host"),
        ({"trusted_proxies": ("proxy",)}, "trusted-proxies[0]: 'proxy' does not appear to be"),
    ],
)
def test_a_websocket_listener_is_checked(pki: Path, options: dict[str, Any], says: str) -> None:
    assert problems(server(pki, **options))[0].startswith(f"role[0].websocket.{says}")


def test_its_address_is_taken_once(pki: Path) -> None:
    (problem,) = group_problems([(server(pki, listen="127.0.0.1:8091"), "role[0]")])
    taken = "'127.0.0.1:8091' is taken by role[0].tunnel.listen, choose another"
    assert str(problem) == f"role[0].websocket.listen: {taken}"


def test_every_mistake_in_its_table_is_told() -> None:
    table = {"websocket": {"paht": "/", "trusted-proxies": 1}}
    found = [str(problem) for problem in struct_problems(table, ServerConfig, "role[0]")]
    assert [each for each in found if "websocket" in each] == [
        "role[0].websocket.paht: unknown key, did you mean path?",
        "role[0].websocket.listen: is missing",
        "role[0].websocket.trusted-proxies: expected array, got int, seen 1",
    ]
    (problem,) = [
        str(each)
        for each in struct_problems({"websocket": 1}, ServerConfig, "role[0]")
        if "websocket" in each.path
    ]
    assert problem.startswith("role[0].websocket: expected ")
