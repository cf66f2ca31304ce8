"""Command lines as konnectivity's users write them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.dropin.duration import HOUR
from tunneld.dropin.pflag import (
    BOOL,
    DURATION,
    FLOAT32,
    INT,
    STRING,
    STRINGS,
    Flag,
    FlagError,
    Kind,
    parse,
)


def flag(name: str, kind: Kind[Any], **more: Any) -> Flag[Any]:
    return Flag(name=name, kind=kind, default=None, help="", **more)


FLAGS = [
    flag("mode", STRING),
    flag("server-port", INT),
    flag("enable-profiling", BOOL),
    flag("keepalive-time", DURATION),
    flag("kubeconfig-qps", FLOAT32),
    flag("cipher-suites", STRINGS),
    flag("lease-label-selector", STRING, aliases=("lease-label",)),
    flag("quiet", BOOL, shorthand="q"),
    flag("v", INT, shorthand="v"),
    flag("old", BOOL, deprecated="it has no effect"),
]


def values(*arguments: str) -> dict[str, Any]:
    parsed = parse(FLAGS, arguments)
    assert parsed.arguments == []
    return parsed.values


def refusal(*arguments: str) -> str:
    with pytest.raises(FlagError) as caught:
        parse(FLAGS, arguments)
    return str(caught.value)


def test_a_value_follows_an_equals_sign_or_is_the_next_argument() -> None:
    assert values("--mode=grpc") == {"mode": "grpc"}
    assert values("--mode", "grpc") == {"mode": "grpc"}
    assert values("--mode", "--server-port=1") == {"mode": "--server-port=1"}
    assert values("--mode=a=b") == {"mode": "a=b"}
    assert values("--mode=") == {"mode": ""}


def test_what_is_not_given_is_absent() -> None:
    assert values() == {}


def test_a_bool_never_takes_the_next_argument() -> None:
    assert values("--enable-profiling") == {"enable-profiling": True}
    assert values("--enable-profiling=false") == {"enable-profiling": False}
    assert values("--enable-profiling=T") == {"enable-profiling": True}
    parsed = parse(FLAGS, ["--enable-profiling", "false"])
    assert parsed.values == {"enable-profiling": True}
    assert parsed.arguments == ["false"]


def test_each_kind_reads_its_values() -> None:
    assert values("--server-port=0x1f9a", "--keepalive-time=1h0m0s", "--kubeconfig-qps=2.5") == {
        "server-port": 8090,
        "keepalive-time": HOUR,
        "kubeconfig-qps": 2.5,
    }


def test_the_last_of_several_values_counts() -> None:
    assert values("--mode=grpc", "--mode", "http-connect") == {"mode": "http-connect"}


def test_lists_add_up() -> None:
    assert values("--cipher-suites=a,b", "--cipher-suites", '"c,d"', "--cipher-suites=[]") == {
        "cipher-suites": ("a", "b", "c,d")
    }
    assert values("--cipher-suites=[]") == {"cipher-suites": ()}


def test_underscores_are_hyphens() -> None:
    assert values("--server_port=1", "--keepalive_time", "0") == {
        "server-port": 1,
        "keepalive-time": 0,
    }


def test_a_flag_may_have_a_former_name() -> None:
    assert values("--lease-label=a") == {"lease-label-selector": "a"}


@pytest.mark.parametrize("written", [["-v", "7"], ["-v7"], ["-v=7"], ["--v=7"], ["--v", "7"]])
def test_a_shorthand_is_written_in_many_ways(written: list[str]) -> None:
    assert values(*written) == {"v": 7}


def test_shorthands_may_stand_together() -> None:
    assert values("-qv7") == {"quiet": True, "v": 7}
    assert values("-qv", "7") == {"quiet": True, "v": 7}
    assert values("-q=false") == {"quiet": False}


def test_help_is_a_flag_of_any_program() -> None:
    for written in (["--help"], ["-h"], ["-qh"]):
        assert values(*written)["help"] is True
    assert values("--help=false") == {"help": False}


def test_arguments_may_stand_between_flags() -> None:
    parsed = parse(FLAGS, ["a", "-", "--mode=x", "", "b"])
    assert parsed.arguments == ["a", "-", "", "b"]
    assert parsed.values == {"mode": "x"}


def test_two_hyphens_end_the_flags() -> None:
    parsed = parse(FLAGS, ["a", "--", "--mode=x", "-z", "--"])
    assert parsed.arguments == ["a", "--mode=x", "-z", "--"]
    assert parsed.values == {}


def test_a_deprecated_flag_is_told_about() -> None:
    parsed = parse(FLAGS, ["--old"])
    assert parsed.notices == ["Flag --old has been deprecated, it has no effect"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--x"], "unknown flag: --x"),
        (["--x_y=1"], "unknown flag: --x_y"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-qxyz"], "unknown shorthand flag: 'x' in -xyz"),
        (["-mode"], "unknown shorthand flag: 'm' in -mode"),
        (["--mode"], "flag needs an argument: --mode"),
        (["--cipher_suites"], "flag needs an argument: --cipher_suites"),
        (["-v"], "flag needs an argument: 'v' in -v"),
        (["-qv"], "flag needs an argument: 'v' in -v"),
        (["--=a"], "bad flag syntax: --=a"),
        (["---mode"], "bad flag syntax: ---mode"),
        (
            ["--server-port=abc"],
            (
                'invalid argument "abc" for "--server-port" flag: '
                'strconv.ParseInt: parsing "abc": invalid syntax'
            ),
        ),
        (
            ["--server_port", ""],
            (
                'invalid argument "" for "--server-port" flag: '
                'strconv.ParseInt: parsing "": invalid syntax'
            ),
        ),
        (
            ["-vx"],
            (
                'invalid argument "x" for "-v, --v" flag: '
                'strconv.ParseInt: parsing "x": invalid syntax'
            ),
        ),
        (
            ["-v="],
            (
                'invalid argument "=" for "-v, --v" flag: '
                'strconv.ParseInt: parsing "=": invalid syntax'
            ),
        ),
        (
            ["--enable-profiling=maybe"],
            (
                'invalid argument "maybe" for "--enable-profiling" flag: '
                'strconv.ParseBool: parsing "maybe": invalid syntax'
            ),
        ),
        (
            ["--keepalive-time=5"],
            'invalid argument "5" for "--keepalive-time" flag: time: missing unit in duration "5"',
        ),
    ],
)
def test_errors_are_those_of_pflag(arguments: list[str], problem: str) -> None:
    assert refusal(*arguments) == problem


def test_an_error_counts_though_help_is_asked_for() -> None:
    assert refusal("--help", "--x") == "unknown flag: --x"


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_command_line_is_read_or_refused(arguments: list[str]) -> None:
    try:
        parse(FLAGS, arguments)
    except FlagError:
        pass
