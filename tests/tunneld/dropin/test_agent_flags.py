"""The flags of proxy-agent: konnectivity's names, types, defaults and refusals."""

import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.tunneld.dropin import upstream
from tunneld.dropin.agent_flags import AgentOptions, check
from tunneld.dropin.checks import OptionsError
from tunneld.dropin.flagtable import flags_of, options, read


def load(*arguments: str, environment: Mapping[str, str] | None = None) -> AgentOptions:
    return options(AgentOptions, read(AgentOptions, list(arguments)), environment or {})


def refusal(*arguments: str) -> str:
    with pytest.raises(OptionsError) as caught:
        check(load(*arguments))
    return str(caught.value)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has cert.pem, key.pem, ca.pem and token."""
    monkeypatch.chdir(tmp_path)
    for name in ("cert.pem", "key.pem", "ca.pem", "token"):
        (tmp_path / name).touch()


@pytest.mark.parametrize("row", upstream.rows(upstream.AGENT + upstream.KLOG))
def test_each_of_konnectivitys_flags_has_its_type_and_default(row: upstream.Row) -> None:
    name, kind, default = row
    (flag,) = (each for each in flags_of(AgentOptions) if name in (each.name, *each.aliases))
    assert flag.kind.name == kind
    assert flag.default == (flag.kind.parse(default) if default else type(flag.default)())


def test_there_are_no_other_flags_but_the_latter_name_of_one() -> None:
    known = {name for name, _, _ in upstream.rows(upstream.AGENT + upstream.KLOG)}
    assert {each.name for each in flags_of(AgentOptions)} - known == {"lease-label-selector"}


@pytest.mark.parametrize("name", ["lease-label", "lease-label-selector", "lease_label"])
def test_the_selector_of_leases_has_two_names(name: str) -> None:
    assert load(f"--{name}=a in (b, c)").lease_label_selector == "a in (b, c)"


def test_the_id_is_given_or_in_the_environment_or_drawn() -> None:
    environment = {"PROXY_AGENT_ID": "from-environment"}
    assert load("--agent-id=given", environment=environment).agent_id == "given"
    assert load(environment=environment).agent_id == "from-environment"
    assert uuid.UUID(load().agent_id).version == 4


def test_an_empty_list_of_protocols_is_the_default() -> None:
    assert load("--alpn-proto=[]").alpn_proto == ()
    assert load("--alpn-proto=a,b", "--alpn-proto=c").alpn_proto == ("a", "b", "c")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--agent-cert=cert.pem", "--agent-key=key.pem", "--ca-cert=ca.pem"],
        ["--service-account-token-path=token"],
        ["--server-count-source="],
        ["--server-count-source=max", "--count-server-leases"],
        ["--sync-interval=10s"],
    ],
)
def test_ordinary_options_are_accepted_without_a_warning(arguments: list[str]) -> None:
    assert check(load(*arguments)) == []


STAT = "no such file or directory"
PROFILES = "if --enable-contention-profiling is set, --enable-profiling must also be set"
SOURCES = "--server-count-source must be one of '', 'default', 'max', got x"
TOKEN = f"error checking service account token path no, got stat no: {STAT}"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--agent-key=no"], f"error checking agent key no, got stat no: {STAT}"),
        (
            ["--agent-key=key.pem"],
            'cannot have agent cert empty when agent key is set to "key.pem"',
        ),
        (["--agent-cert=no"], f"error checking agent cert no, got stat no: {STAT}"),
        (
            ["--agent-cert=cert.pem"],
            'cannot have agent key empty when agent cert is set to "cert.pem"',
        ),
        (["--ca-cert=no"], f"error checking agent CA cert no, got stat no: {STAT}"),
        (["--proxy-server-port=0"], "proxy server port 0 must be greater than 0"),
        (["--proxy-server-port=65536"], "proxy server port 65536 must be at most 65535"),
        (["--health-server-port=0"], "health server port 0 must be greater than 0"),
        (["--admin-server-port=-1"], "admin server port -1 must be greater than 0"),
        (["--xfr-channel-size=0"], "channel size 0 must be greater than 0"),
        (["--enable-contention-profiling"], PROFILES),
        (["--sync-interval=11s"], "sync interval 11s must be less than sync interval cap 10s"),
        (["--sync-interval=0"], "sync interval 0s must be greater than 0s"),
        (["--service-account-token-path=no"], TOKEN),
        (["--kubeconfig=no"], f'error checking KubeconfigPath "no", got stat no: {STAT}'),
        (["--server-count-source=x"], SOURCES),
    ],
)
def test_combinations_are_refused_in_konnectivitys_words(
    arguments: list[str], problem: str
) -> None:
    assert refusal(*arguments) == problem


@pytest.mark.parametrize(
    "identifiers",
    [
        "host=localhost&host=node1.example&cidr=127.0.0.1/16&default-route=true",
        "ipv4=1.2.3.4&ipv4=5.6.7.8&ipv6=:::::",
        "",
        "&&",
        "host",
        "host=",
        "ipv4=no-address&default-route=maybe&default-route=2",
        "ho%73t=%C3%A9+",
    ],
)
def test_identifiers_have_known_keys_and_any_values(identifiers: str) -> None:
    assert check(load(f"--agent-identifiers={identifiers}")) == []


@pytest.mark.parametrize(
    ("identifiers", "problem"),
    [
        ("foo=1", "unknown address type: foo"),
        ("uid=1", "unknown address type: uid"),
        ("Host=a", "unknown address type: Host"),
        ("=a", "unknown address type: "),
        ("host=a;host=b", "invalid semicolon separator in query"),
        ("host=%zz", 'invalid URL escape "%zz"'),
        ("host=%a", 'invalid URL escape "%a"'),
        ("%=a", 'invalid URL escape "%"'),
        ("foo=1&host=%z&a;b", "invalid semicolon separator in query"),
    ],
)
def test_other_identifiers_are_refused(identifiers: str, problem: str) -> None:
    text = refusal(f"--agent-identifiers={identifiers}")
    assert text == f"agent address is invalid: {problem}"
