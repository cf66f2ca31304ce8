"""A file of hashed secrets: reading, looking up, and changing it.

One secret a line (`tunneld.secret`); empty lines and lines that begin with ``#`` are kept as they
are. Nobody but its owner may read it: passwords that people choose can be guessed from their
hashes, however slow that is.
"""

import fcntl
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunneld.secret import PasswordHash, Secret, SecretError, TokenHash, parse_line
from tunneld.tokenproof import is_proof, key_id, parse_authorization, stored_key

MAX_SIZE = 16 << 20
"""Octets of a file."""
_NEW = "# Hashed secrets of tunneld; see: tunnelctl secrets --help\n"


class SecretsError(Exception):
    """The file cannot be used; the text names it, says what is wrong, and what to do."""


class SecretsFile:
    """The secrets of a file, as they were when it was last read.

    Raises:
      SecretsError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        """Counts how often it was read: what was found before may not hold any more."""
        self._by_name: dict[str, Secret] = {}
        self._by_stored: dict[bytes, Secret] = {}
        self._by_key_id: dict[str, Secret] = {}
        self._nobody: PasswordHash | None = None
        self.reload()

    def reload(self) -> None:
        """Read the file anew.

        Raises:
          SecretsError: it cannot be used; what was read before stays.
        """
        self.take(self.read())

    def read(self) -> dict[str, Secret]:
        """What the file has now, for `take`.

        Raises:
          SecretsError: it cannot be used.
        """
        return {each.name: each for each in load(self.path)}

    def take(self, found: dict[str, Secret]) -> None:
        """Go by these."""
        tokens = {s.hash.stored: s for s in found.values() if isinstance(s.hash, TokenHash)}
        self._by_name = found
        self._by_stored = tokens
        self._by_key_id = {key_id(stored): secret for stored, secret in tokens.items()}
        self._nobody = _nobody_among(found.values())
        self.generation += 1

    def secrets(self) -> list[Secret]:
        """All of them, in the order of the file."""
        return list(self._by_name.values())

    def check_token(self, token: str) -> str | None:
        """Whose token it is, if it is one that counts now."""
        stored = stored_key(token)
        secret = self._by_stored.get(stored)
        if secret is None or secret.has_expired(time.time()):
            return None
        return secret.name

    def check_proof(self, authorization: str, challenge: bytes, agent_id: str) -> str | None:
        """Whose token an agent has proved to know, if it is one that counts now."""
        parsed = parse_authorization(authorization)
        secret = self._by_key_id.get(parsed[0]) if parsed else None
        if parsed is None or secret is None or secret.has_expired(time.time()):
            return None
        assert isinstance(secret.hash, TokenHash)
        known = is_proof(parsed[1], secret.hash.stored, challenge, agent_id)
        return secret.name if known else None

    def password_of(self, name: str) -> PasswordHash | None:
        """What to compare the password of ``name`` with. Of one that has none, or whose has
        expired, it is a hash that nothing matches and that takes as long; None if the file has no
        passwords at all."""
        secret = self._by_name.get(name)
        if secret is None or secret.has_expired(time.time()):
            return self._nobody
        return secret.hash if isinstance(secret.hash, PasswordHash) else self._nobody


def _nobody_among(found: Iterable[Secret]) -> PasswordHash | None:
    """A hash as costly as the others, whose password nobody knows."""
    costs = [(s.hash.n, s.hash.r, s.hash.p) for s in found if isinstance(s.hash, PasswordHash)]
    if not costs:
        return None
    return PasswordHash(*costs[0], secrets.token_bytes(16), secrets.token_bytes(32))


def load(path: Path) -> list[Secret]:
    """The secrets of a file.

    Raises:
      SecretsError: it cannot be used.
    """
    return list(_parse(path, _read(path)))


def add(path: Path, secret: Secret, *, force: bool = False) -> None:
    """Append a secret to a file, which is made if there is none.

    Args:
      force: whether one of that name is replaced.
    Raises:
      SecretsError: there is one of that name, or the file cannot be changed.
    """
    with _changing(path) as lines:
        if any(each.name == secret.name for each in _parse(path, lines)):
            if not force:
                raise SecretsError(
                    f"{path} has a secret {secret.name} already; choose another name, or replace it"
                    " with --force"
                )
            lines[:] = _without(lines, secret.name)
        lines.append(secret.line())


def remove(path: Path, name: str) -> None:
    """Take a secret out of a file.

    Raises:
      SecretsError: there is none of that name, or the file cannot be changed.
    """
    with _changing(path) as lines:
        kept = _without(lines, name)
        if len(kept) == len(lines):
            raise SecretsError(f"{path} has no secret {name}; see: tunnelctl secrets list {path}")
        lines[:] = kept


def _without(lines: list[str], name: str) -> list[str]:
    return [line for line in lines if line.partition(":")[0].strip() != name]


def _parse(path: Path, lines: list[str]) -> Iterator[Secret]:
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            secret = parse_line(line.strip())
        except SecretError as exc:
            raise SecretsError(f"{path}, line {number}: {exc}") from None
        if secret.name in seen:
            first = seen[secret.name]
            raise SecretsError(f"{path}, line {number}: {secret.name} is in line {first} already")
        seen[secret.name] = number
        yield secret


def _read(path: Path) -> list[str]:
    """The lines of a file that its owner alone may read."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise SecretsError(
                    f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, so that others may read"
                    f" or write it; run: chmod 600 {path}"
                )
            octets = file.read(MAX_SIZE + 1)
        if len(octets) > MAX_SIZE:
            raise SecretsError(f"{path} has more than {MAX_SIZE} octets")
        return octets.decode("utf-8").splitlines()
    except OSError as exc:
        raise SecretsError(f"cannot read secrets in {path}: {exc.strerror}") from exc
    except ValueError as exc:  # not UTF-8, or a NUL in the name
        raise SecretsError(f"cannot read secrets in {path}: {exc}") from None


@contextmanager
def _changing(path: Path) -> Iterator[list[str]]:
    """The lines of a file, to be changed in place; written when the block ends well. One at a
    time, and whoever reads meanwhile gets the old file or the new one."""
    try:
        path = path.resolve()  # a link stays one
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError, RuntimeError) as exc:
        raise SecretsError(f"cannot use {path.parent}: {exc}; make the directory first") from exc
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        lines = _read(path) if path.exists() else _NEW.splitlines()
        yield lines
        _replace(path, "".join(f"{line}\n" for line in lines))
    except OSError as exc:
        raise SecretsError(f"cannot write {path}: {exc.strerror}") from exc
    finally:
        os.close(directory)


def _replace(path: Path, text: str) -> None:
    """Write a file anew, of mode 0600 and with its owner."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if path.exists() and os.geteuid() == 0:
                status = path.stat()
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
