"""Which files a role is watched for."""

from pathlib import Path

from tests.tunneld.policies import OPEN_AGENT, OPEN_SERVER
from tunneld.config import (
    AgentConfig,
    EchoConfig,
    Frontend,
    ServerConfig,
    TunnelListener,
    WebsocketListener,
)
from tunneld.rolefiles import files_of

BASE = Path("/base")


def test_a_server_has_those_of_its_listeners_each_once() -> None:
    config = ServerConfig(
        name="edge",
        policy=OPEN_SERVER,
        frontends=(
            Frontend(listen=":1", cert="c", key="k", client_ca="a", crl=("r", "s")),
            Frontend(listen="unix:/s", secrets="users"),
        ),
        tunnel=TunnelListener(listen=":2", cert="c", key="k", client_ca="/other", secrets="users"),
        websocket=WebsocketListener(listen=":3", cert="w", key="x"),
    )
    names = ["c", "k", "a", "r", "s", "users", "other", "w", "x"]
    assert files_of(config, BASE) == [
        "/other" if name == "other" else f"/base/{name}" for name in names
    ]


def test_an_agent_has_its_certificates_and_not_what_it_reads_each_time() -> None:
    config = AgentConfig(
        name="home", server="h:1", policy=OPEN_AGENT, cert="c", key="k", ca="a", token_path="t"
    )
    assert files_of(config, BASE) == ["/base/c", "/base/k", "/base/a"]


def test_an_endpoint_has_none() -> None:
    assert files_of(EchoConfig(name="echo"), BASE) == []
