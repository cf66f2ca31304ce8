"""Reads typed values out of a map, each error with the path of the value.

A *converter* takes the path and the raw value, and gives the typed one or raises `TopologyError`.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, ip_address
from typing import Any, TypeVar

from netns.errors import TopologyError

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Converter = Callable[[str, object], T]

_REQUIRED: Any = object()


class Table:
    """One map, whose keys must all be taken before `finish`."""

    def __init__(self, path: str, value: object) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise TopologyError(path, f"expected a table, got {_kind(value)}")
        self.path = path
        self._values = dict(value)
        self._asked: list[str] = []

    def take(self, key: str, convert: Converter[T], default: T = _REQUIRED) -> T:
        """The converted value of ``key``; without a default the key must be there."""
        self._asked.append(key)
        if key in self._values:
            return convert(join(self.path, key), self._values.pop(key))
        if default is _REQUIRED:
            raise TopologyError(join(self.path, key), "missing")
        return default

    def finish(self) -> None:
        """Refuse the keys that nobody took."""
        for key in self._values:
            raise TopologyError(
                join(self.path, key), "unknown key", f"keys here are {', '.join(self._asked)}"
            )


def join(path: str, key: str) -> str:
    """The path of a member."""
    return f"{path}.{key}" if path else key


def section(parse: Callable[[Table], T]) -> Converter[T]:
    """A table, read by ``parse``, which need not call `Table.finish`."""

    def convert(path: str, value: object) -> T:
        table = Table(path, value)
        result = parse(table)
        table.finish()
        return result

    return convert


def rows(convert: Converter[T]) -> Converter[tuple[T, ...]]:
    """An array of what ``convert`` reads."""

    def convert_all(path: str, value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise TopologyError(path, f"expected an array, got {_kind(value)}")
        return tuple(convert(f"{path}[{index}]", item) for index, item in enumerate(value))

    return convert_all


def mapping(pattern: re.Pattern[str], what: str, convert: Converter[T]) -> Converter[dict[str, T]]:
    """A map with free keys that match ``pattern``."""

    def convert_all(path: str, value: object) -> dict[str, T]:
        values = Table(path, value)._values
        for key in values:
            if not pattern.fullmatch(key):
                raise TopologyError(path, f"{key!r} is not {what}")
        return {key: convert(f'{path}."{key}"', item) for key, item in values.items()}

    return convert_all


def text(path: str, value: object) -> str:
    """A string of printable characters."""
    if not isinstance(value, str):
        raise TopologyError(path, f"expected a string, got {_kind(value)}")
    if not value.isprintable():
        raise TopologyError(path, f"control characters in {value!r}")
    return value


def matching(pattern: re.Pattern[str], what: str) -> Converter[str]:
    """A string that matches as a whole."""

    def convert(path: str, value: object) -> str:
        string = text(path, value)
        if not pattern.fullmatch(string):
            raise TopologyError(path, f"{string!r} is not {what}")
        return string

    return convert


def flag(path: str, value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TopologyError(path, f"expected true or false, got {_kind(value)}")
    return value


def choice(enum: type[E]) -> Converter[E]:
    """A member of the enum, by value."""

    def convert(path: str, value: object) -> E:
        if value not in list(enum):
            raise TopologyError(path, f"{value!r} is not one of {', '.join(enum)}")
        return enum(str(value))

    return convert


def opaque(path: str, value: object) -> dict[str, object]:
    """A map that is passed on unread."""
    return Table(path, value)._values


def ipv4_address(path: str, value: object) -> IPv4Address:
    """``a.b.c.d``."""
    return _parsed(path, value, IPv4Address, "an IPv4 address such as 192.0.2.1")


def any_address(path: str, value: object) -> IPv4Address | IPv6Address:
    """An IPv4 or IPv6 address."""
    return _parsed(path, value, ip_address, "an IP address")


def interface(path: str, value: object) -> IPv4Interface:
    """``a.b.c.d/prefix``."""
    if "/" not in text(path, value):
        raise TopologyError(path, f"{value!r} has no prefix length", "write 192.0.2.1/24")
    return _parsed(path, value, IPv4Interface, "an address with prefix such as 192.0.2.1/24")


def network(path: str, value: object) -> IPv4Network:
    """``a.b.c.d/prefix`` without host bits, or one address."""
    return _parsed(path, value, IPv4Network, "a network such as 192.0.2.0/24")


def _parsed(path: str, value: object, parse: Callable[[str], T], what: str) -> T:
    string = text(path, value)
    try:
        return parse(string)
    except ValueError as exc:
        raise TopologyError(path, f"{string!r} is not {what}: {exc}") from exc


def _kind(value: object) -> str:
    kinds: dict[type, str] = {
        dict: "a table",
        list: "an array",
        tuple: "an array",
        str: "a string",
    }
    return kinds.get(type(value), repr(value))
