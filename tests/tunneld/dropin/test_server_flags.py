"""The flags of proxy-server: konnectivity's names, types, defaults and refusals."""

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.tunneld.dropin import upstream
from tunneld.dropin.checks import OptionsError
from tunneld.dropin.flagtable import flags_of, options, read
from tunneld.dropin.pflag import FlagError
from tunneld.dropin.server_flags import CBC_CIPHERS, CIPHERS, TLS13_CIPHERS, ServerOptions, check


def load(*arguments: str, environment: Mapping[str, str] | None = None) -> ServerOptions:
    return options(ServerOptions, read(ServerOptions, list(arguments)), environment or {})


def refusal(*arguments: str) -> str:
    with pytest.raises(OptionsError) as caught:
        check(load(*arguments))
    return str(caught.value)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has cert.pem, key.pem and ca.pem."""
    monkeypatch.chdir(tmp_path)
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).touch()


TCP = "--server-ca-cert=ca.pem"
TLS = ["--server-cert=cert.pem", "--server-key=key.pem", TCP]
CLUSTER = ["--cluster-cert=cert.pem", "--cluster-key=key.pem"]
TOKENS = ["--agent-namespace=a", "--agent-service-account=b", "--authentication-audience=c"]
UDS = ["--uds-name=socket", "--server-port=0"]


@pytest.mark.parametrize("row", upstream.rows(upstream.SERVER + upstream.KLOG))
def test_each_of_konnectivitys_flags_has_its_type_and_default(row: upstream.Row) -> None:
    name, kind, default = row
    (flag,) = (each for each in flags_of(ServerOptions) if name in (each.name, *each.aliases))
    assert flag.kind.name == kind
    assert flag.default == (flag.kind.parse(default) if default else type(flag.default)())


def test_there_are_no_other_flags_but_the_hidden_one() -> None:
    known = {name for name, _, _ in upstream.rows(upstream.SERVER + upstream.KLOG)}
    assert {each.name for each in flags_of(ServerOptions)} - known == {"warn-on-channel-limit"}


def test_the_hidden_flag_is_deprecated() -> None:
    (notice,) = read(ServerOptions, ["--warn-on-channel-limit=false"]).notices
    assert notice == (
        "Flag --warn-on-channel-limit has been deprecated, This behavior is now thread safe and "
        "always on. This flag will be removed in a future release."
    )


def test_the_id_is_given_or_in_the_environment_or_drawn() -> None:
    environment = {"PROXY_SERVER_ID": "from-environment"}
    assert load("--server-id=given", environment=environment).server_id == "given"
    assert load(environment=environment).server_id == "from-environment"
    drawn = load().server_id
    assert uuid.UUID(drawn).version == 4
    assert drawn != load().server_id


@pytest.mark.parametrize("text", ["--cipher-suites=[]", "--cipher-suites="])
def test_an_empty_list_of_ciphers_is_the_default(text: str) -> None:
    assert load(text).cipher_suites == load().cipher_suites == ()


@pytest.mark.parametrize(
    ("v", "level"),
    [
        (-1, logging.ERROR),
        (0, logging.WARNING),
        (1, logging.INFO),
        (4, logging.INFO),
        (5, logging.DEBUG),
    ],
)
def test_verbosity_is_a_level(v: int, level: int) -> None:
    assert load(f"-v={v}").log_level() == level


@pytest.mark.parametrize("arguments", [[*TLS, *CLUSTER], [*UDS, *CLUSTER], [*TLS, *TOKENS]])
def test_ordinary_options_are_accepted_without_a_warning(arguments: list[str]) -> None:
    assert check(load(*arguments)) == []


@pytest.mark.parametrize("owner", ["server", "cluster"])
@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("key=no", "error checking {0} key no, got stat no: no such file or directory"),
        ("key=key.pem", 'cannot have {0} cert empty when {0} key is set to "key.pem"'),
        ("cert=no", "error checking {0} cert no, got stat no: no such file or directory"),
        ("cert=cert.pem", 'cannot have {0} key empty when {0} cert is set to "cert.pem"'),
        ("ca-cert=no", "error checking {0} CA cert no, got stat no: no such file or directory"),
    ],
)
def test_certificate_files_are_there_and_come_in_pairs(owner: str, flag: str, problem: str) -> None:
    assert refusal(f"--{owner}-{flag}") == problem.format(owner)


def test_a_file_that_cannot_be_looked_at_is_left_to_its_reader() -> None:
    assert check(load(*UDS, "--kubeconfig=key.pem/below-a-file")) == []


CHANNEL = "channel size 0 must be greater than 0"
STAT = "no such file or directory"
PROFILES = "if --enable-contention-profiling is set, --enable-profiling must also be set"
NO_CIPHER = "not supported, doesn't exist or considered as insecure"
VERSIONS = "VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--mode=x"], "mode must be set to either 'grpc' or 'http-connect' not \"x\""),
        (["--mode="], "mode must be set to either 'grpc' or 'http-connect' not \"\""),
        (["--uds-name=s"], "server port should be set to 0 not 8090 for UDS"),
        ([*UDS, *TLS], "server key should not be set for UDS"),
        ([*UDS, TCP], "server ca cert should not be set for UDS"),
        ([], "server ca cert must be set when in TCP mode (uds-name is empty)"),
        ([TCP, "--enable-contention-profiling"], PROFILES),
        ([TCP, "--kubeconfig=no"], f'checking KubeconfigPath "no", got stat no: {STAT}'),
        ([TCP, "--proxy-strategies="], "ProxyStrategies cannot be empty"),
        (
            [TCP, "--proxy-strategies=,"],
            "invalid proxy strategies: proxy strategies cannot be empty",
        ),
        (
            [TCP, "--proxy-strategies=default,x"],
            "invalid proxy strategies: unknown proxy strategy: x",
        ),
        ([TCP, "--xfr-channel-size=0"], CHANNEL),
        (
            [TCP, "--tls-min-version=x"],
            f'unsupported TLS version "x", supported values are: {VERSIONS}',
        ),
        (
            [TCP, "--cipher-suites=TLS_RSA_WITH_AES_128_GCM_SHA256"],
            f"cipher suite TLS_RSA_WITH_AES_128_GCM_SHA256 {NO_CIPHER}",
        ),
        ([TCP, "--enable-lease-controller", "--lease-label=x"], "invalid label format: x"),
        ([TCP, "--enable-lease-controller", "--lease-label=a=b=c"], "invalid label format: a=b=c"),
        ([TCP, "--enable-lease-controller", "--lease-label="], "empty string provided"),
        (
            [TCP, "--graceful-shutdown-timeout=-1s"],
            "graceful-shutdown-timeout must be >= 0, got -1s",
        ),
        ([TCP, "--backend-dial-timeout=-90s"], "backend-dial-timeout must be >= 0, got -1m30s"),
    ],
)
def test_combinations_are_refused_in_konnectivitys_words(
    arguments: list[str], problem: str
) -> None:
    assert refusal(*arguments) == problem


@pytest.mark.parametrize("given", range(3))
def test_the_check_of_tokens_needs_three_flags(given: int) -> None:
    missing = TOKENS[given].partition("=")[0]
    others = [each for each in TOKENS if each != TOKENS[given]]
    problem = f"{missing} cannot be empty when agent authentication is enabled"
    assert refusal(TCP, *others) == problem
    assert (
        refusal(TCP, *TOKENS, "--cluster-ca-cert=ca.pem")
        == "--cluster-ca-cert can not be used when agent authentication is enabled"
    )


def test_of_several_mistakes_the_first_in_konnectivitys_order_is_told() -> None:
    assert refusal("--xfr-channel-size=0", "--mode=x", "--lease-label=").startswith("mode must")


@pytest.mark.parametrize("owner", ["server", "agent", "admin", "health"])
@pytest.mark.parametrize(
    ("port", "kind"), [(1, "reserved"), (1023, "reserved"), (49152, "ephemeral")]
)
def test_ports_that_konnectivity_refuses_earn_a_warning(owner: str, port: int, kind: str) -> None:
    text = f"please do not try to use {kind} port {port} for the {owner} port"
    assert check(load(*TLS, f"--{owner}-port={port}")) == [text]


@pytest.mark.parametrize(("port", "kind"), [(-1, "reserved"), (65536, "ephemeral")])
def test_numbers_that_are_no_ports_are_refused(port: int, kind: str) -> None:
    text = f"please do not try to use {kind} port {port} for the agent port"
    assert refusal(TCP, f"--agent-port={port}") == text


@pytest.mark.parametrize("name", [*CIPHERS, *TLS13_CIPHERS])
def test_the_ciphers_of_go_are_accepted(name: str) -> None:
    assert check(load(TCP, f"--cipher-suites={name}")) == []


@pytest.mark.parametrize("name", CBC_CIPHERS)
def test_ciphers_that_http2_does_not_allow_earn_a_warning(name: str) -> None:
    (warning,) = check(load(TCP, f"--cipher-suites={name},{CIPHERS[0]}"))
    assert name in warning


@pytest.mark.parametrize("version", ["VersionTLS10", "VersionTLS11"])
def test_versions_of_tls_that_nobody_should_use_earn_a_warning(version: str) -> None:
    (warning,) = check(load(TCP, f"--tls-min-version={version}"))
    assert version in warning


def test_strategies_keep_their_order_and_may_repeat() -> None:
    given = load("--proxy-strategies=destHost,,default,destHost")
    assert given.strategies() == ("destHost", "default", "destHost")


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("--stderrthreshold=foo", 'strconv.ParseInt: parsing "foo": invalid syntax'),
        ("--logtostderr=maybe", "parse error"),
        ("--log-file-max-size=-1", "parse error"),
        ("--log-backtrace-at=foo", "syntax error: expect file.go:234"),
        ("--log-backtrace-at=foo:bar", "syntax error: expect file.go:234"),
        ("--log-backtrace-at=foo.go:0", "negative or zero value for level"),
        ("--vmodule=foo", "syntax error: expect comma-separated list of filename=N"),
        ("--vmodule=a=b", "syntax error: expect comma-separated list of filename=N"),
        ("--vmodule=a=-1", "negative value for vmodule level"),
        ("--v=2147483648", 'strconv.ParseInt: parsing "2147483648": value out of range'),
    ],
)
def test_values_for_logging_are_refused_in_klogs_words(argument: str, problem: str) -> None:
    with pytest.raises(FlagError) as caught:
        load(argument)
    assert str(caught.value).endswith(f" flag: {problem}")


@pytest.mark.parametrize(
    "argument",
    [
        "--stderrthreshold=warning",
        "--stderrthreshold=9",
        "--log_backtrace_at=foo.go:12",
        "--log-backtrace-at=",
        "--vmodule=a=1,,b/*=2",
        "--log_dir=/nowhere",
        "--logtostderr",
    ],
)
def test_values_for_logging_are_accepted(argument: str) -> None:
    load(argument)
