"""What the flags of proxy-server mean for the role."""

import pytest

from tunneld.config import Frontend, ServerConfig, TunnelListener
from tunneld.dropin.flagtable import options, read
from tunneld.dropin.program import StartError
from tunneld.dropin.server_config import server_config
from tunneld.dropin.server_flags import CIPHERS, ServerOptions

SERVER = ["--server-cert=c", "--server-key=k", "--server-ca-cert=a"]
CLUSTER = ["--cluster-cert=cc", "--cluster-key=ck"]


def config(*arguments: str) -> ServerConfig:
    return server_config(options(ServerOptions, read(ServerOptions, list(arguments)), {}))


def test_by_default_it_listens_on_all_addresses_and_speaks_both() -> None:
    made = config(*SERVER, *CLUSTER, "--server-id=one")
    assert made.frontends == (Frontend(listen=":8090", cert="c", key="k", client_ca="a"),)
    assert made.tunnel == TunnelListener(listen=":8091", cert="cc", key="ck", client_ca="")
    assert (made.mode, made.strategies) == ("any", ("default",))
    assert (made.server_id, made.server_count) == ("one", 1)
    assert (made.dial_timeout, made.keepalive, made.frontend_keepalive) == (0, 10, 60)


def test_a_mode_that_is_given_restricts_it() -> None:
    assert config(*SERVER, *CLUSTER, "--mode=grpc").mode == "grpc"


def test_it_behaves_as_konnectivity_where_our_server_does_not() -> None:
    made = config(*SERVER, *CLUSTER)
    assert made.any_agent_id
    assert made.konnectivity_wording


def test_flags_reach_the_configuration() -> None:
    made = config(
        *SERVER,
        *CLUSTER,
        "--mode=http-connect",
        "--cluster-ca-cert=ca",
        "--server-bind-address=::1",
        "--agent-bind-address=127.0.0.1",
        "--server-port=1",
        "--agent-port=2",
        "--proxy-strategies=destHost,default",
        "--server-count=3",
        "--backend-dial-timeout=1500ms",
        "--keepalive-time=30s",
        "--frontend-keepalive-time=1m",
        "--tls-min-version=VersionTLS13",
        f"--cipher-suites={CIPHERS[0]}",
    )
    tls = {"tls_min_version": "1.3", "ciphers": (CIPHERS[0],)}
    (frontend,) = made.frontends
    assert (frontend.listen, made.tunnel.listen) == ("[::1]:1", "127.0.0.1:2")
    for listener in (frontend, made.tunnel):
        assert {name: getattr(listener, name) for name in tls} == tls
    assert made.tunnel.client_ca == "ca"
    assert (made.mode, made.strategies) == ("http-connect", ("destHost", "default"))
    assert (made.server_count, made.dial_timeout) == (3, 1.5)
    assert (made.keepalive, made.frontend_keepalive) == (30, 60)


@pytest.mark.parametrize("version", ["VersionTLS10", "VersionTLS11", "VersionTLS12"])
def test_no_version_of_tls_before_1_2_is_spoken(version: str) -> None:
    made = config(*SERVER, *CLUSTER, f"--tls-min-version={version}")
    assert made.tunnel.tls_min_version == "1.2"


def test_a_unix_socket_takes_the_place_of_tls() -> None:
    made = config(*CLUSTER, "--uds-name=/run/x", "--server-port=0")
    assert made.frontends == (Frontend(listen="unix:/run/x"),)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 7200), ("1ms", 1), ("-1s", 1), ("1s", 1), ("90s", 90)]
)
def test_keepalive_is_bounded_as_in_grpc(text: str, seconds: float) -> None:
    made = config(*SERVER, *CLUSTER, f"--keepalive-time={text}")
    assert made.keepalive == seconds


def test_there_is_one_server_at_least() -> None:
    assert config(*SERVER, *CLUSTER, "--server-count=0").server_count == 1


def test_certificates_for_both_listeners_are_needed() -> None:
    with pytest.raises(StartError, match="--server-cert and --server-key must be set"):
        config(*CLUSTER)
    with pytest.raises(StartError, match="--cluster-cert and --cluster-key must be set"):
        config(*SERVER)
