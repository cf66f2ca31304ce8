"""Flag tables as dataclasses: each field is a flag, and its value once a command line is read.

Of ``server_port: int = flag(INT, 8090, "port for clients")``, the flag is ``--server-port``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, cast

from tunneld.dropin.govalues import BadValueError
from tunneld.dropin.pflag import Flag, FlagError, Kind, Parsed, parse

T = TypeVar("T")


class Table(Protocol):
    """A dataclass whose fields are made by `flag`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


TableT = TypeVar("TableT", bound=Table)


def flag(
    kind: Kind[T],
    default: T,
    help: str,  # noqa: A002 (as in argparse)
    *,
    environment: str = "",
    draw: Callable[[], T] | None = None,
    unset: T | None = None,
    shorthand: str = "",
    aliases: tuple[str, ...] = (),
    deprecated: str = "",
) -> T:
    """A field of a table; the parameters are those of `Flag`. Typed as its value, as
    `dataclasses.field` is."""
    nameless = Flag(
        name="",
        kind=kind,
        default=default,
        help=help,
        environment=environment,
        draw=draw,
        unset=unset,
        shorthand=shorthand,
        aliases=aliases,
        deprecated=deprecated,
    )
    return dataclasses.field(default=default, metadata={"flag": nameless})


def flags_of(table: type[Table]) -> list[Flag[Any]]:
    """The flags of a table, in the order of their names."""
    flags: list[Flag[Any]] = [
        dataclasses.replace(field.metadata["flag"], name=field.name.replace("_", "-"))
        for field in dataclasses.fields(table)
    ]
    return sorted(flags, key=lambda each: each.name)


def read(table: type[TableT], arguments: list[str]) -> Parsed:
    """Read a command line by ``table``.

    Raises:
      FlagError: as `pflag.parse`.
    """
    return parse(flags_of(table), arguments)


def options(table: type[TableT], parsed: Parsed, environment: Mapping[str, str]) -> TableT:
    """The values of all flags: of the command line, else the environment, else drawn or default.

    Raises:
      FlagError: a variable of the environment has a bad value.
    """
    values = {each.name: _value(each, parsed, environment) for each in flags_of(table)}
    return table(**{name.replace("-", "_"): value for name, value in values.items()})


def _value(each: Flag[T], parsed: Parsed, environment: Mapping[str, str]) -> T:
    if each.name in parsed.values:
        return cast(T, parsed.values[each.name])
    text = environment.get(each.environment, "") if each.environment else ""
    if text:
        try:
            return each.kind.parse(text)
        except BadValueError as exc:
            raise FlagError(f"bad value of the variable {each.environment}: {exc}") from exc
    return each.fallback if each.draw is None else each.draw()
