"""Variables of proxies, used and unused, right and wrong."""

import os

import pytest

from ctl.address import Address
from tests.tunneld.doctor.samples import only
from tunneld.doctor.environment import check_environment, environment_of

TARGET = Address("edge.example.org", 8091)


@pytest.mark.parametrize(
    ("setting", "environ", "verdict", "words"),
    [
        ("", {}, "pass", "no proxy is set; the agent connects directly"),
        ("", {"HTTPS_PROXY": "http://p:3128"}, "pass", "HTTPS_PROXY set, not used"),
        ("", {"https_proxy": "gopher://p"}, "warn", "https_proxy cannot be read"),
        ("", {"NO_PROXY": "*"}, "pass", "not used"),
        ("http://q:1", {}, "pass", "through the proxy"),
        ("environment", {}, "pass", "directly"),
        ("environment", {"HTTPS_PROXY": "http://p:3128"}, "pass", "goes through http://p:3128"),
        ("environment", {"HTTPS_PROXY": "gopher://p"}, "fail", "HTTPS_PROXY"),
        (
            "environment",
            {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "example.org"},
            "pass",
            "directly",
        ),
    ],
)
def test_the_environment_is_read_as_the_agent_does(
    setting: str, environ: dict[str, str], verdict: str, words: str
) -> None:
    found = only(check_environment(setting, TARGET, environ))
    assert (str(found.verdict), words in found.detail) == (verdict, True), found


def test_credentials_are_not_shown() -> None:
    environ = {"HTTPS_PROXY": "http://me:hunter2@p:3128"}
    for setting in ("", "environment"):
        assert "hunter2" not in only(check_environment(setting, TARGET, environ)).detail


def test_the_environment_of_a_process_is_that_it_was_started_with() -> None:
    found = environment_of(os.getpid())
    assert found is not None
    assert "PATH" in found
    assert environment_of(2**22 - 1) is None
