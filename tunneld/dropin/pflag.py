"""Command lines in the syntax of Go's package pflag.

``--flag=value``, ``--flag value``; booleans ``--flag`` or ``--flag=false`` only; with a shorthand
also ``-f value``, ``-f=value``, ``-fvalue``. Flags and arguments may be mixed; ``--`` ends the
flags. Names may have underscores for hyphens. Error texts are pflag's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tunneld.dropin.duration import Nanoseconds, format_duration, parse_duration
from tunneld.dropin.govalues import (
    BadValueError,
    format_bool,
    format_float32,
    format_list,
    parse_bool,
    parse_float32,
    parse_int,
    parse_list,
    quote,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A type of values."""

    name: str
    """As help shows it behind the flag; "" for booleans."""
    parse: Callable[[str], T]
    """From a command line; raises `BadValueError`."""
    format: Callable[[T], str]
    """What ``parse`` reads as the same value."""
    implied: str | None = None
    """The text that a flag without ``=value`` stands for; None: the next argument is the value."""
    combine: Callable[[T, T], T] = lambda _, latest: latest
    """What a flag that is given again makes of the value it had and the new one."""


BOOL: Kind[bool] = Kind("", parse_bool, format_bool, implied="true")
INT: Kind[int] = Kind("int", parse_int, str)
FLOAT32: Kind[float] = Kind("float32", parse_float32, format_float32)
STRING: Kind[str] = Kind("string", str, str)
DURATION: Kind[Nanoseconds] = Kind("duration", parse_duration, format_duration)
STRINGS: Kind[tuple[str, ...]] = Kind(
    "strings", parse_list, format_list, combine=lambda before, latest: before + latest
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Generic[T]):
    """One row of a flag table."""

    name: str
    kind: Kind[T]
    default: T
    help: str
    environment: str = ""
    """Variable that sets the value, unless it is empty or the command line says otherwise."""
    draw: Callable[[], T] | None = None
    """Makes the value where neither command line nor environment has one."""
    unset: T | None = None
    """What counts if it is not given, where ours is not upstream's ``default``."""
    shorthand: str = ""
    """One letter."""
    aliases: tuple[str, ...] = ()
    """Other names, such as former ones."""
    deprecated: str = ""
    """Told to who uses the flag, and keeps it out of help."""

    @property
    def fallback(self) -> T:
        """What counts if it is not given, and not drawn."""
        return self.default if self.unset is None else self.unset


class FlagError(Exception):
    """The command line is not one; the message is pflag's."""


@dataclass(slots=True)
class Parsed:
    """A command line, read."""

    values: dict[str, Any] = field(default_factory=dict)
    """Values of the flags that were given, by name."""
    arguments: list[str] = field(default_factory=list)
    """What is no flag."""
    notices: list[str] = field(default_factory=list)
    """Lines for stderr."""


HELP = Flag(name="help", kind=BOOL, default=False, help="show this text", shorthand="h")
"""A flag of any program."""


def parse(flags: Iterable[Flag[Any]], arguments: Sequence[str]) -> Parsed:
    """Read ``arguments`` (without the program's name) by a table; ``--help`` is a flag of any.

    Raises:
      FlagError: unknown flag, missing or bad value.
    """
    reader = _Reader([*flags, HELP], arguments)
    reader.run()
    return reader.parsed


class _Reader:
    def __init__(self, flags: Sequence[Flag[Any]], arguments: Sequence[str]) -> None:
        self.parsed = Parsed()
        self._rest = list(reversed(arguments))
        self._by_name = {name: flag for flag in flags for name in (flag.name, *flag.aliases)}
        self._by_letter = {flag.shorthand: flag for flag in flags if flag.shorthand}

    def run(self) -> None:
        while self._rest:
            argument = self._rest.pop()
            if argument == "--":
                self.parsed.arguments += reversed(self._rest)
                return
            if argument.startswith("--"):
                self._long(argument)
            elif argument.startswith("-") and argument != "-":
                self._letters(argument[1:])
            else:
                self.parsed.arguments.append(argument)

    def _long(self, argument: str) -> None:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {argument}")
        flag = self._by_name.get(name.replace("_", "-"))
        if flag is None:
            raise FlagError(f"unknown flag: --{name}")
        self._set(flag, value if equals else self._value_of(flag, f"--{name}"))

    def _letters(self, letters: str) -> None:
        """One or more shorthands; a value takes the rest."""
        for index, letter in enumerate(letters):
            flag = self._by_letter.get(letter)
            if flag is None:
                raise FlagError(f"unknown shorthand flag: '{letter}' in -{letters[index:]}")
            rest = letters[index + 1 :]
            if rest.startswith("=") and len(rest) > 1:
                self._set(flag, rest[1:])
                return
            if rest and flag.kind.implied is None:
                self._set(flag, rest)
                return
            self._set(flag, self._value_of(flag, f"'{letter}' in -{letters[index:]}"))

    def _value_of(self, flag: Flag[Any], shown: str) -> str:
        if flag.kind.implied is not None:
            return flag.kind.implied
        if not self._rest:
            raise FlagError(f"flag needs an argument: {shown}")
        return self._rest.pop()

    def _set(self, flag: Flag[Any], text: str) -> None:
        try:
            value = flag.kind.parse(text)
        except BadValueError as exc:
            name = f"-{flag.shorthand}, --{flag.name}" if flag.shorthand else f"--{flag.name}"
            raise FlagError(f'invalid argument {quote(text)} for "{name}" flag: {exc}') from exc
        values = self.parsed.values
        if flag.name in values:
            value = flag.kind.combine(values[flag.name], value)
        values[flag.name] = value
        if flag.deprecated:
            notice = f"Flag --{flag.name} has been deprecated, {flag.deprecated}"
            self.parsed.notices.append(notice)
