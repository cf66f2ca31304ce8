"""What a client shows of itself in ``proxy-authorization`` (RFC 9110 section 11)."""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

CHALLENGE: Final = 'Basic realm="tunneld", charset="UTF-8", Bearer'
"""``proxy-authenticate``: what a client may show."""


@dataclass(frozen=True, slots=True, repr=False)
class Basic:
    """A name and a password, or that name's token (RFC 7617)."""

    name: str
    password: str


@dataclass(frozen=True, slots=True, repr=False)
class Bearer:
    """A token (RFC 6750 section 2.1)."""

    token: str


Credentials: TypeAlias = Basic | Bearer


def parse_credentials(values: Iterable[bytes]) -> Credentials | None:
    """What the values of the header say, of which there may be one; None for nothing that is
    understood. Octets that are not UTF-8 are kept as Python does it for file names."""
    seen = list(values)
    if len(seen) != 1:
        return None
    scheme, _, rest = seen[0].strip().partition(b" ")
    rest = rest.strip()
    match scheme.lower():
        case b"bearer" if rest:
            return Bearer(rest.decode("utf-8", "surrogateescape"))
        case b"basic":
            return _parse_basic(rest)
    return None


def _parse_basic(octets: bytes) -> Basic | None:
    try:
        text = base64.b64decode(octets, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return None
    name, colon, password = text.partition(":")
    return Basic(name, password) if colon else None
