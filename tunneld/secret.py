"""One hashed secret: a line of a file of secrets (`tunneld.secretsfile`).

    NAME:token:STORED[:expires=TIME]
    NAME:scrypt:N:R:P:SALT:KEY[:expires=TIME]

STORED, SALT and KEY are hexadecimal; TIME is that of RFC 3339. A token is random, so that hashing
it once is enough (`tunneld.tokenproof`); a password that somebody chose takes scrypt (RFC 7914).
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from tunneld.tokenproof import stored_key

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,252}")
"""An agent's id may have 253 characters; a colon would end a user name (RFC 7617 section 2)."""
_HEX = re.compile(r"(?:[0-9a-f]{2}){16,64}")
_STORED_SIZE = 32
_SALT_SIZE = 16
_KEY_SIZE = 32
_COST = (1 << 14, 8, 5)
"""N, r and p as OWASP's cheat sheet on storing passwords has them for 16 MiB."""
_MAX_MEMORY = 64 << 20
"""Octets that one check may take: 128 * N * r (RFC 7914 section 2)."""
_MAX_PARALLEL = 64


class SecretError(Exception):
    """A line that is no secret: what was seen, and what was expected."""


@dataclass(frozen=True, slots=True)
class TokenHash:
    """Of a random token."""

    stored: bytes


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """Of a password, by scrypt."""

    n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    def matches(self, password: str) -> bool:
        """Takes its time, and a processor: to be called in a thread."""
        return hmac.compare_digest(self._derive(password), self.key)

    @classmethod
    def of(cls, password: str, cost: tuple[int, int, int] = _COST) -> "PasswordHash":
        """A new hash, with a salt of its own."""
        empty = cls(*cost, secrets.token_bytes(_SALT_SIZE), bytes(_KEY_SIZE))
        return cls(*cost, empty.salt, empty._derive(password))

    def _derive(self, password: str) -> bytes:
        return hashlib.scrypt(
            password.encode("utf-8", "surrogateescape"),
            salt=self.salt,
            n=self.n,
            r=self.r,
            p=self.p,
            maxmem=2 * _MAX_MEMORY,
            dklen=len(self.key),
        )


Hash: TypeAlias = TokenHash | PasswordHash


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as a server knows it."""

    name: str
    hash: Hash
    expires: datetime | None = None

    @property
    def kind(self) -> str:
        """As the file has it."""
        return "token" if isinstance(self.hash, TokenHash) else "scrypt"

    def has_expired(self, now: float) -> bool:
        """Whether it counts no more at ``now``, in Unix time."""
        return self.expires is not None and self.expires.timestamp() <= now

    def line(self) -> str:
        """The line for it, without its end."""
        match self.hash:
            case TokenHash(stored):
                fields = [stored.hex()]
            case PasswordHash(n, r, p, salt, key):
                fields = [str(n), str(r), str(p), salt.hex(), key.hex()]
        if self.expires is not None:
            fields.append(f"expires={format_time(self.expires)}")
        return ":".join([self.name, self.kind, *fields])


def of_token(name: str, token: str, expires: datetime | None = None) -> Secret:
    """The secret of a token.

    Raises:
      SecretError: ``name`` cannot be one.
    """
    return Secret(check_name(name), TokenHash(stored_key(token)), expires)


def of_password(name: str, password: str, expires: datetime | None = None) -> Secret:
    """The secret of a password.

    Raises:
      SecretError: ``name`` cannot be one.
    """
    return Secret(check_name(name), PasswordHash.of(password), expires)


def check_name(name: str) -> str:
    """``name``, if a secret can have it.

    Raises:
      SecretError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise SecretError(
            f"{name[:80]!r} is no name of a secret, expected 1-253 letters, digits, '.', '_', '@',"
            " '+' or '-' that begin with a letter or digit"
        )
    return name


def parse_line(line: str) -> Secret:
    """Parse a line that is not empty and no comment.

    Raises:
      SecretError: it is no secret. The text does not quote what may be one.
    """
    name, _, rest = line.partition(":")
    kind, _, rest = rest.partition(":")
    check_name(name)
    count = {"token": 1, "scrypt": 5}.get(kind)
    if count is None:
        raise SecretError(f"{kind[:20]!r} is no kind of secret, expected token or scrypt")
    fields = rest.split(":", count)
    if len(fields) < count:
        raise SecretError(f"a {kind} secret has {count} fields behind its kind, got {len(fields)}")
    expires = _parse_options(fields[count]) if len(fields) > count else None
    made = _parse_token(fields[0]) if kind == "token" else _parse_scrypt(fields[:count])
    return Secret(name, made, expires)


def _parse_token(text: str) -> TokenHash:
    stored = _parse_hex(text)
    if len(stored) != _STORED_SIZE:
        raise SecretError(f"a token's hash has {_STORED_SIZE} octets, got {len(stored)}")
    return TokenHash(stored)


def _parse_scrypt(fields: list[str]) -> PasswordHash:
    if not all(each.isascii() and each.isdigit() and len(each) < 10 for each in fields[:3]):
        raise SecretError("scrypt's N, R and P must be numbers")
    n, r, p = map(int, fields[:3])
    if n < 2 or n & (n - 1) or not r or not 0 < p <= _MAX_PARALLEL or 128 * n * r > _MAX_MEMORY:
        raise SecretError(
            f"scrypt with N={n}, R={r}, P={p}: N must be a power of 2, P at most {_MAX_PARALLEL},"
            f" and 128*N*R at most {_MAX_MEMORY} octets"
        )
    return PasswordHash(n, r, p, _parse_hex(fields[3]), _parse_hex(fields[4]))


def _parse_hex(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise SecretError("a hash or salt must be 16 to 64 octets in lower-case hexadecimal")
    return bytes.fromhex(text)


def _parse_options(text: str) -> datetime:
    key, _, value = text.partition("=")
    if key != "expires":
        raise SecretError(f"unknown option {key[:20]!r}, expected expires=TIME")
    return parse_time(value)


def parse_time(text: str) -> datetime:
    """A time of RFC 3339, or a date, whose first moment (UTC) is meant.

    Raises:
      SecretError: it is neither.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise SecretError(
            f"{text[:40]!r} is no time, expected one as in 2027-01-31T12:00:00Z"
        ) from None


def format_time(time: datetime) -> str:
    """As RFC 3339 has it, in UTC."""
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
