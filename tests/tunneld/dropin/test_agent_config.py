"""What the flags of proxy-agent mean for the role."""

import uuid

import pytest

from tunneld.config import AgentConfig
from tunneld.dropin.agent_config import agent_config
from tunneld.dropin.agent_flags import AgentOptions
from tunneld.dropin.flagtable import options, read
from tunneld.dropin.program import StartError


def config(*arguments: str) -> AgentConfig:
    return agent_config(options(AgentOptions, read(AgentOptions, list(arguments)), {}))


def test_by_default_it_connects_to_loopback() -> None:
    made = config("--ca-cert=a", "--agent-id=one")
    assert (made.server, made.agent_id, made.ca) == ("127.0.0.1:8091", "one", "a")
    assert (made.cert, made.key, made.token_path, made.identifiers) == ("", "", "", "")
    assert (made.sync_interval, made.sync_interval_cap, made.keepalive) == (1, 10, 10)
    assert made.alpn == ()
    assert not made.sync_forever


def test_flags_reach_the_configuration() -> None:
    made = config(
        "--ca-cert=a",
        "--agent-cert=c",
        "--agent-key=k",
        "--proxy-server-host=2001:db8::1",
        "--proxy-server-port=1",
        "--alpn-proto=x,y",
        "--agent-identifiers=host=b&ipv6=:::::",
        "--sync-interval=500ms",
        "--sync-interval-cap=2s",
        "--probe-interval=3s",
        "--sync-forever",
        "--keepalive-time=1m",
        "--service-account-token-path=t",
    )
    assert (made.cert, made.key) == ("c", "k")
    assert made.server == "[2001:db8::1]:1"
    assert made.alpn == ("x", "y")
    assert made.identifiers == "host=b&ipv6=:::::"
    assert (made.sync_interval, made.sync_interval_cap, made.probe_interval) == (0.5, 2, 3)
    assert (made.backoff_min, made.backoff_max) == (0.5, 2)
    assert made.sync_forever
    assert made.keepalive == 60
    assert made.token_path == "t"


@pytest.mark.parametrize("text", ["0", "9s", "-1h"])
def test_keepalive_has_the_minimum_of_grpc(text: str) -> None:
    assert config("--ca-cert=a", f"--keepalive-time={text}").keepalive == 10


def test_an_empty_id_is_drawn() -> None:
    assert uuid.UUID(config("--ca-cert=a", "--agent-id=").agent_id)


def test_a_ca_is_needed() -> None:
    with pytest.raises(StartError, match="--ca-cert must be set"):
        config()
