"""Tables of flags as dataclasses."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.dropin.agent_flags import AgentOptions
from tunneld.dropin.flagtable import flag, flags_of, options, read
from tunneld.dropin.klogflags import GO_BOOL, LEVEL, LOCATION, MODULES, SEVERITY, UINT
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
)
from tunneld.dropin.server_flags import ServerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    port: int = flag(INT, 8090, "a port", environment="TEST_PORT")
    bind_address: str = flag(STRING, "", "an address", aliases=("host",))
    id: str = flag(STRING, "", "an id", environment="TEST_ID", draw=lambda: "drawn")


def load(*arguments: str, **environment: str) -> Options:
    return options(Options, read(Options, list(arguments)), environment)


def test_the_fields_are_the_flags() -> None:
    assert [(each.name, each.kind, each.default) for each in flags_of(Options)] == [
        ("bind-address", STRING, ""),
        ("id", STRING, ""),
        ("port", INT, 8090),
    ]


def test_the_command_line_comes_before_the_environment_and_that_before_the_default() -> None:
    assert load() == Options(port=8090, bind_address="", id="drawn")
    assert load(TEST_PORT="1", TEST_ID="a") == Options(port=1, id="a")
    assert load("--port=2", "--id=b", TEST_PORT="1", TEST_ID="a") == Options(port=2, id="b")


def test_an_empty_variable_is_none_but_an_empty_argument_is_a_value() -> None:
    assert load(TEST_ID="").id == "drawn"
    assert load("--id=", TEST_ID="a").id == ""


def test_a_bad_value_of_the_environment_is_refused() -> None:
    with pytest.raises(FlagError, match="bad value of the variable TEST_PORT"):
        load(TEST_PORT="x")


def test_a_former_name_sets_the_field() -> None:
    assert load("--host=::1").bind_address == "::1"


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
VALUES: dict[Kind[Any], st.SearchStrategy[Any]] = {
    BOOL: st.booleans(),
    GO_BOOL: st.booleans(),
    INT: st.integers(-(1 << 63), (1 << 63) - 1),
    DURATION: st.integers(-(1 << 63), (1 << 63) - 1),
    FLOAT32: st.floats(width=32, allow_nan=False),
    STRING: TEXT,
    STRINGS: st.lists(TEXT).map(tuple),
    UINT: st.integers(0, (1 << 64) - 1),
    LEVEL: INT32,
    SEVERITY: INT32,
    MODULES: st.from_regex(r"(\w+=[0-9]{1,4}(,\w*/\*=[0-9])?)?", fullmatch=True),
    LOCATION: st.just(":0") | st.from_regex(r"\w+\.go:[1-9][0-9]{0,3}", fullmatch=True),
}


@pytest.mark.parametrize("table", [ServerOptions, AgentOptions])
@given(data=st.data())
def test_any_values_of_all_flags_read_as_they_are_written(
    table: type[ServerOptions] | type[AgentOptions], data: st.DataObject
) -> None:
    flags: list[Flag[Any]] = flags_of(table)
    values = {each.name: data.draw(VALUES[each.kind]) for each in flags}
    arguments = [f"--{each.name}={each.kind.format(values[each.name])}" for each in flags]
    assert read(table, arguments).values == values


@pytest.mark.parametrize("table", [ServerOptions, AgentOptions])
def test_every_default_reads_as_it_is_written(
    table: type[ServerOptions] | type[AgentOptions],
) -> None:
    for each in flags_of(table):
        assert each.kind.parse(each.kind.format(each.default)) == each.default, each.name
