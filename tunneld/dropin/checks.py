"""Checks of option values that both programs make; the error texts are konnectivity's."""

from pathlib import Path
from urllib.parse import unquote_plus

from tunneld.dropin.govalues import quote

LOWEST_PORT = 1024
HIGHEST_PORT = 49151
"""konnectivity allows no ports below (reserved) or above (ephemeral); here they earn a warning."""
MAX_PORT = 65535


class OptionsError(Exception):
    """Options that cannot be, alone or together."""


def check_file(path: str, problem: str) -> None:
    """There is something at ``path``, if it is not empty.

    Args:
      problem: begins the text of the error.
    Raises:
      OptionsError: nothing is there.
    """
    if not path:
        return
    try:
        Path(path).stat()
    except FileNotFoundError:
        raise OptionsError(f"{problem}, got stat {path}: no such file or directory") from None
    except OSError:
        return  # it is there; who reads it says what is wrong


def check_pair(cert: str, key: str, owner: str) -> None:
    """Both files of a certificate exist, or neither is named.

    Args:
      owner: whose it is, for the text of the error.
    Raises:
      OptionsError: one is named without the other, or does not exist.
    """
    if key:
        check_file(key, f"error checking {owner} key {key}")
        if not cert:
            _missing(f"{owner} cert", f"{owner} key", key)
    if cert:
        check_file(cert, f"error checking {owner} cert {cert}")
        if not key:
            _missing(f"{owner} key", f"{owner} cert", cert)


def _missing(missing: str, given: str, path: str) -> None:
    raise OptionsError(f"cannot have {missing} empty when {given} is set to {quote(path)}")


def check_size(size: int) -> None:
    """``--xfr-channel-size`` is positive.

    Raises:
      OptionsError: it is not.
    """
    if size <= 0:
        raise OptionsError(f"channel size {size} must be greater than 0")


def check_profiling(profiling: bool, contention: bool) -> None:
    """One kind of profiling needs the other.

    Raises:
      OptionsError: it is missing.
    """
    if contention and not profiling:
        raise OptionsError(
            "if --enable-contention-profiling is set, --enable-profiling must also be set"
        )


def check_query(text: str, keys: frozenset[str]) -> None:
    """``text`` is URL query text, with no keys but these. Values are not looked at.

    Raises:
      OptionsError: bad escape, semicolon, or another key.
    """
    pairs = [pair for pair in text.split("&") if pair]
    if any(";" in pair for pair in pairs):
        raise OptionsError("invalid semicolon separator in query")
    for pair in pairs:
        for part in pair.partition("=")[::2]:
            _check_escapes(part)
    for pair in pairs:
        key = unquote_plus(pair.partition("=")[0])
        if key not in keys:
            raise OptionsError(f"unknown address type: {key}")


def _check_escapes(text: str) -> None:
    digits = frozenset("0123456789abcdefABCDEF")
    for index, char in enumerate(text):
        escape = text[index : index + 3]
        if char == "%" and not (len(escape) == 3 and digits.issuperset(escape[1:])):
            raise OptionsError(f"invalid URL escape {quote(escape)}")
