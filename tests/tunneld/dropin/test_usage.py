"""The text of ``--help``."""

from dataclasses import dataclass

import pytest

from tests.tunneld.dropin import upstream
from tunneld.dropin.agent_flags import AgentOptions
from tunneld.dropin.flagtable import flag, flags_of
from tunneld.dropin.pflag import BOOL, DURATION, INT, STRING, STRINGS
from tunneld.dropin.server_flags import ServerOptions
from tunneld.dropin.usage import usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    mode: str = flag(STRING, "grpc", "what clients speak")
    bind: str = flag(STRING, "", "an address", aliases=("host",))
    verbose: int = flag(INT, 4, "how much to log", shorthand="v")
    wait: int = flag(DURATION, 3_600_000_000_000, "how long to wait for something to happen at all")
    profile: bool = flag(BOOL, False, "serve profiles")
    clean: bool = flag(BOOL, True, "clean up")
    names: tuple[str, ...] = flag(STRINGS, ("a", "b"), "some names")
    id: str = flag(STRING, "", "an id", environment="THE_ID", draw=str)
    old: bool = flag(BOOL, True, "hidden", deprecated="it is old")


TEXT = """\
Usage:
  program [flags]

Flags:
      --bind string     an address
      --clean           clean up (default true)
  -h, --help            show this text
      --host string     former name of --bind
      --id string       an id; also by the variable THE_ID (default: drawn at random)
      --mode string     what clients speak (default "grpc")
      --names strings   some names (default [a,b])
      --profile         serve profiles
  -v, --verbose int     how much to log (default 4)
      --wait duration   how long to wait for something to happen at all (default 1h0m0s)"""


def test_each_flag_has_a_line_with_its_type_and_default() -> None:
    assert usage("program", flags_of(Options)) == TEXT


def test_long_explanations_are_wrapped() -> None:
    lines = usage("program", flags_of(Options), width=60).splitlines()
    start = next(index for index, line in enumerate(lines) if "--wait" in line)
    assert lines[start:] == [
        "      --wait duration   how long to wait for something to happen",
        "                        at all (default 1h0m0s)",
    ]


@pytest.mark.parametrize(
    ("table", "listing"), [(ServerOptions, upstream.SERVER), (AgentOptions, upstream.AGENT)]
)
def test_all_flags_are_listed(
    table: type[ServerOptions] | type[AgentOptions], listing: str
) -> None:
    text = usage("program", flags_of(table))
    for name, kind, _ in upstream.rows(listing + upstream.KLOG):
        assert f"--{name} {kind}".rstrip() in text
