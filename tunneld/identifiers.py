"""What an agent says it can reach: konnectivity's identifiers, URL query text.

    host=a.example&ipv4=10.0.0.1&ipv6=fd00::1&cidr=10.0.0.0/8&default-route=true

Keys may repeat, all but ``default-route``. konnectivity keeps values unchecked; here a value that
can't be what its key says is refused, since it could never match a destination.
"""

import ipaddress
import re
from urllib.parse import unquote_plus

KINDS = ("host", "ipv4", "ipv6", "cidr", "default-route")

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
"""As Go's `strconv.ParseBool` reads them."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class IdentifiersError(ValueError):
    """Not identifiers: the message says what was seen and what was expected."""


def parse_identifiers(text: str) -> dict[str, list[str]]:
    """Values by kind, in order; kinds that do not occur are absent.

    Raises:
      IdentifiersError: bad escape, unknown kind, or a value its kind does not allow.
    """
    if ";" in text:
        raise IdentifiersError("';' is no separator, expected '&' between identifiers")
    identifiers: dict[str, list[str]] = {}
    for pair in filter(None, text.split("&")):
        kind, value = _pair(pair)
        identifiers.setdefault(kind, []).append(value)
    if len(identifiers.get("default-route", [])) > 1:
        raise IdentifiersError("default-route is given twice")
    return identifiers


def parse_foreign_identifiers(text: str) -> dict[str, list[str]]:
    """The same of an agent of another make or version, which may say what we don't know or can't
    use; that is left out.

    Raises:
      IdentifiersError: not URL query text, as upstream sees it.
    """
    identifiers: dict[str, list[str]] = {}
    route_told = False
    for pair in filter(None, text.split("&")):
        if ";" in pair or _BAD_ESCAPE.search(pair):
            raise IdentifiersError(f"fail to parse url encoded string: {pair!r}")
        if unquote_plus(pair.partition("=")[0]) == "default-route":
            if route_told:  # its first value counts, even if it is none
                continue
            route_told = True
        try:
            kind, value = _pair(pair)
        except IdentifiersError:
            continue
        identifiers.setdefault(kind, []).append(value)
    return identifiers


def _pair(pair: str) -> tuple[str, str]:
    if _BAD_ESCAPE.search(pair):
        raise IdentifiersError(f"{pair!r} has a bad %-escape")
    key, equals, raw = pair.partition("=")
    kind, value = unquote_plus(key), unquote_plus(raw)
    if kind not in KINDS:
        raise IdentifiersError(f"unknown kind {kind!r}, expected one of {', '.join(KINDS)}")
    if not equals or not value:
        raise IdentifiersError(f"{kind} has no value, expected {kind}=…")
    return kind, _checked(kind, value)


def _checked(kind: str, value: str) -> str:
    try:
        if kind == "ipv4":
            ipaddress.IPv4Address(value)
        elif kind == "ipv6":
            ipaddress.IPv6Address(value)
        elif kind == "cidr":
            ipaddress.ip_network(value, strict=False)
    except ValueError as exc:
        raise IdentifiersError(f"{kind}={value}: {exc}") from exc
    if kind == "default-route" and value not in _TRUE | _FALSE:
        raise IdentifiersError(f"default-route={value}: expected true or false")
    return value


def is_default_route(identifiers: dict[str, list[str]]) -> bool:
    """Whether the agent takes destinations that no other agent claims."""
    return identifiers.get("default-route", ["false"])[0] in _TRUE
