"""Stack profiles in the formats of others: pprof's, for ``go tool pprof``, and folded stacks.

pprof's is a gzipped protobuf message, ``perftools.profiles.Profile`` (google/pprof,
proto/profile.proto). Of it we write: sample types, samples with the thread as label, locations,
functions, the string table, times and the period. There are no addresses: all is symbolized.
"""

import gzip
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from tunneld.stacks import INTERVAL, Frame, StackProfile

_VARINT = 0
_LENGTH_DELIMITED = 2

_NS_PER_S = 1_000_000_000

K = TypeVar("K", bound=Hashable)


def serialize_pprof(profile: StackProfile) -> bytes:
    """``profile`` for ``go tool pprof``: ``samples`` in ``count``, ``wall`` in ``nanoseconds``."""
    return gzip.compress(_Writer().message(profile))


def serialize_folded(profile: StackProfile) -> bytes:
    """A line for each stack, thread and outermost function first, ``;`` between, and the number
    of samples at the end: what flamegraph.pl and speedscope read."""
    counts: dict[str, int] = {}
    for stack, observed in profile.stacks.items():
        names = [stack.thread, *(each.function for each in reversed(stack.frames))]
        line = ";".join(name.replace(";", ":") for name in names)
        counts[line] = counts.get(line, 0) + observed.samples
    return "".join(f"{line} {count}\n" for line, count in sorted(counts.items())).encode()


class _Table(Generic[K]):
    """Numbers things in the order in which they are first met."""

    def __init__(self, first: int) -> None:
        self._first = first
        self.numbers: dict[K, int] = {}

    def number(self, key: K) -> int:
        return self.numbers.setdefault(key, self._first + len(self.numbers))


class _Writer:
    """One message and its tables. Field numbers are profile.proto's."""

    def __init__(self) -> None:
        self._strings: _Table[str] = _Table(0)
        self._strings.number("")  # the format wants it first
        self._locations: _Table[Frame] = _Table(1)
        self._functions: _Table[tuple[str, str, int]] = _Table(1)
        """By name, file and first line."""

    def message(self, profile: StackProfile) -> bytes:
        parts = [
            _nested(1, self._value_type("samples", "count")),
            _nested(1, self._value_type("wall", "nanoseconds")),
        ]
        for stack, observed in profile.stacks.items():
            locations = [self._locations.number(frame) for frame in stack.frames]
            label = _integer(1, self._string("thread")) + _integer(2, self._string(stack.thread))
            values = (observed.samples, observed.nanoseconds)
            parts.append(_nested(2, _packed(1, locations) + _packed(2, values) + _nested(3, label)))
        # What is met on the way here goes into the tables, so they come last.
        parts += [self._location(each, number) for each, number in self._locations.numbers.items()]
        parts += [self._function(each, number) for each, number in self._functions.numbers.items()]
        parts += [
            _integer(9, profile.started),
            _integer(10, profile.nanoseconds),
            _nested(11, self._value_type("wall", "nanoseconds")),
            _integer(12, int(INTERVAL * _NS_PER_S)),
            _integer(14, self._string("wall")),
        ]
        parts += [_nested(6, each.encode()) for each in self._strings.numbers]
        return b"".join(parts)

    def _string(self, text: str) -> int:
        return self._strings.number(text)

    def _value_type(self, kind: str, unit: str) -> bytes:
        return _integer(1, self._string(kind)) + _integer(2, self._string(unit))

    def _location(self, frame: Frame, number: int) -> bytes:
        code = frame.code
        function = (frame.function, code.co_filename, code.co_firstlineno)
        line = _integer(1, self._functions.number(function)) + _integer(2, frame.line)
        return _nested(4, _integer(1, number) + _nested(4, line))

    def _function(self, function: tuple[str, str, int], number: int) -> bytes:
        name, filename, first_line = function
        return _nested(
            5,
            _integer(1, number)
            + _integer(2, self._string(name))
            + _integer(3, self._string(name))
            + _integer(4, self._string(filename))
            + _integer(5, first_line),
        )


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _nested(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _packed(field: int, values: Iterable[int]) -> bytes:
    return _nested(field, b"".join(map(_varint, values)))


def _varint(value: int) -> bytes:
    """Seven bits an octet, the lowest first; the top bit says that more follow. Not negative."""
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
