"""Texts of values as Go's packages strconv, flag and encoding/csv read and write them.

Error texts are Go's, since users and scripts know them.
"""

import math
import re
import struct
from dataclasses import dataclass
from typing import NoReturn

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_DIGITS = {2: "[01]", 8: "[0-7]", 10: "[0-9]", 16: "[0-9A-Fa-f]"}
_PREFIXES = {"0b": 2, "0o": 8, "0x": 16}
_DECIMAL = re.compile(
    r"[+-]?([0-9]+(_[0-9]+)*\.?([0-9]+(_[0-9]+)*)?|\.[0-9]+(_[0-9]+)*)([eE][+-]?[0-9]+)?"
)
_HEXADECIMAL = re.compile(
    r"[+-]?0[xX](_?[0-9a-fA-F]+(_[0-9a-fA-F]+)*\.?([0-9a-fA-F]+(_[0-9a-fA-F]+)*)?|\.[0-9a-fA-F]+)"
    r"[pP][+-]?[0-9]+"
)
_SPECIAL = re.compile(r"[+-]?(inf|infinity)|nan", re.IGNORECASE)

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}


class BadValueError(ValueError):
    """A text is not such a value; the message is Go's."""


def quote(text: str) -> str:
    """In double quotes, as ``%q`` and `strconv.Quote` write it.

    Octets of the command line that are not UTF-8 (Python keeps them as lone surrogates) become
    ``\\xNN``.
    """
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if char.isprintable():
        return char
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def parse_bool(text: str) -> bool:
    """1, t, T, TRUE, true, True, or 0, f, F, FALSE, false, False.

    Raises:
      BadValueError: anything else.
    """
    if text in _TRUE:
        return True
    if text not in _FALSE:
        _refuse("ParseBool", text, "invalid syntax")
    return False


def format_bool(value: bool) -> str:
    """``true`` or ``false``."""
    return "true" if value else "false"


def parse_int(text: str, base: int = 0, bits: int = 64) -> int:
    """A signed integer.

    Args:
      base: 0 takes it from the prefix: ``0x``, ``0o``, ``0b``, ``0`` (octal), and allows an
        underscore between digits.
      bits: size that the value must fit.
    Raises:
      BadValueError: no integer, or out of range.
    """
    value = _integer(text, base)
    if value is None:
        _refuse("ParseInt", text, "invalid syntax")
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        _refuse("ParseInt", text, "value out of range")
    return value


def parse_uint(text: str) -> int:
    """An unsigned integer of 64 bits; prefixes as in `parse_int`. Its errors are those of Go's
    package flag.

    Raises:
      BadValueError: no integer, negative, or out of range.
    """
    value = None if text[:1] in ("+", "-") else _integer(text, 0)
    if value is None:
        raise BadValueError("parse error")
    if value >= 1 << 64:
        raise BadValueError("value out of range")
    return value


def _integer(text: str, base: int) -> int | None:
    digits = text[1:] if text[:1] in ("+", "-") else text
    prefixed = base == 0
    if prefixed:
        base, digits = _base_of(digits)
    digit = _DIGITS[base]
    # Behind a prefix, the octal "0" too, an underscore may come first.
    first = "_?" if prefixed and base != 10 else ""
    pattern = f"{first}{digit}+(_{digit}+)*" if prefixed else f"{digit}+"
    if not re.fullmatch(pattern, digits):
        return None
    # A hundred digits of any base are out of range as more of them are, and cheap to read.
    value = int(digits.replace("_", "").lstrip("0")[:100] or "0", base)
    return -value if text.startswith("-") else value


def _base_of(digits: str) -> tuple[int, str]:
    base = _PREFIXES.get(digits[:2].lower())
    if base is not None:
        return base, digits[2:]
    if len(digits) > 1 and digits[0] == "0":
        return 8, digits[1:]
    return 10, digits


def parse_float32(text: str) -> float:
    """A float of 32 bits: decimal, hexadecimal with ``p`` exponent, ``inf`` or ``nan``.

    Raises:
      BadValueError: no number, or too large.
    """
    if _SPECIAL.fullmatch(text):
        return float(text)
    if _HEXADECIMAL.fullmatch(text):
        value = _from_hexadecimal(text.replace("_", ""))
    elif _DECIMAL.fullmatch(text):
        value = float(text.replace("_", ""))
    else:
        _refuse("ParseFloat", text, "invalid syntax")
    rounded = _round32(value)
    if math.isinf(rounded):
        _refuse("ParseFloat", text, "value out of range")
    return rounded


def _from_hexadecimal(text: str) -> float:
    try:
        return float.fromhex(text)
    except OverflowError:
        return math.inf


def _round32(value: float) -> float:
    """The nearest float of 32 bits; infinite when there is none."""
    try:
        rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.inf
    return rounded


def format_float32(value: float) -> str:
    """The shortest text that reads as the same float of 32 bits."""
    if not math.isfinite(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    texts = (f"{value:.{digits}g}" for digits in range(1, 10))
    return next((text for text in texts if _round32(float(text)) == value), repr(value))


def parse_list(text: str) -> tuple[str, ...]:
    """One record of comma separated values, quoted where need be; ``[]`` is the empty list, as
    programs print it.

    Raises:
      BadValueError: bad quotes.
    """
    if text in ("", "[]"):
        return ()
    record = _Record(text)
    record.skip_empty_lines()
    fields = [record.field()]
    while record.comma():
        fields.append(record.field())
    return tuple(fields)


def format_list(values: tuple[str, ...]) -> str:
    """What `parse_list` reads."""
    if values in ((), ("",), ("[]",)):
        return "[]" if not values else f'"{values[0]}"'
    return ",".join(map(_csv_field, values))


def _csv_field(value: str) -> str:
    if re.search(r'[,"\r\n]', value):
        return '"' + value.replace('"', '""') + '"'
    return value


@dataclass(slots=True)
class _Record:
    """A reader of one CSV record. A line end outside quotes ends it; what follows is ignored."""

    text: str
    position: int = 0

    def skip_empty_lines(self) -> None:
        """Pass line ends ahead of the record; there must be one."""
        match = re.compile(r"(\r?\n)*").match(self.text)
        assert match is not None  # it matches nothing at least
        self.position = match.end()
        if self.position == len(self.text):
            raise BadValueError("EOF")

    def comma(self) -> bool:
        """Whether another field follows; passes the comma."""
        found = self.text.startswith(",", self.position)
        self.position += found
        return found

    def field(self) -> str:
        if self.text.startswith('"', self.position):
            return self._quoted()
        match = re.compile(r"[^,\r\n]*").match(self.text, self.position)
        assert match is not None  # it matches nothing at least
        if '"' in match[0]:
            self._fail(self.position + match[0].index('"'), 'bare " in non-quoted-field')
        self.position = match.end()
        return match[0]

    def _quoted(self) -> str:
        match = re.compile(r'"((?:[^"]|"")*+)"').match(self.text, self.position)
        if match is None:
            self._fail(len(self.text), 'extraneous or missing " in quoted-field')
        self.position = match.end()
        if self.text[self.position : self.position + 1] not in ("", ",", "\r", "\n"):
            self._fail(self.position - 1, 'extraneous or missing " in quoted-field')
        return match[1].replace('""', '"')

    def _fail(self, position: int, problem: str) -> NoReturn:
        before = self.text[:position]
        line = before.count("\n") + 1
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape")) + 1
        raise BadValueError(f"parse error on line {line}, column {column}: {problem}")


def _refuse(function: str, text: str, problem: str) -> NoReturn:
    raise BadValueError(f"strconv.{function}: parsing {quote(text)}: {problem}")
