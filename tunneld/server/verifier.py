"""Checks what clients show of secrets: tokens at once, passwords in threads, few at a time."""

import hashlib
import hmac
import math
import secrets
from collections import OrderedDict

import trio

from tunneld.attempts import Attempts
from tunneld.secret import PasswordHash
from tunneld.secretsfile import SecretsFile
from tunneld.server.credentials import Basic, Bearer, Credentials

_KEPT = 1024
_KEEP = 60.0
"""Passwords that were right, and the seconds for which they need not be hashed again."""
_THREADS = 2
_MAX_WAITING = 64
"""Passwords that are hashed at a time, and that wait for it."""
_BUSY = 2.0
"""Seconds after which to try again when there are more."""


class UnauthorizedError(Exception):
    """It is not known who the client is. The text is for it and the log, and holds no secret.

    ``retry_after`` is the number of seconds to wait, where it has guessed too often; else 0.
    """

    def __init__(self, text: str, retry_after: int = 0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Guard:
    """What all verifiers of a server share: threads, and who has guessed how often."""

    def __init__(self) -> None:
        self.attempts = Attempts()
        self.threads = trio.CapacityLimiter(_THREADS)


class Verifier:
    """Checks credentials against one file of secrets."""

    def __init__(self, file: SecretsFile, guard: Guard) -> None:
        self.file = file
        self._guard = guard
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, tuple[PasswordHash, float]] = OrderedDict()
        """Digests of names and passwords that were right: for which hash, and until when."""
        self._checking: dict[bytes, trio.Event] = {}
        """Of those that are being hashed: set when that is done."""

    async def verify(self, credentials: Credentials, source: str) -> str:
        """Whose secret it is.

        Args:
          source: where the client is, for `Attempts`.
        Raises:
          UnauthorizedError: nobody's, or it may not guess now.
        """
        if isinstance(credentials, Bearer):
            name = self.file.check_token(credentials.token)
        else:
            owner = self.file.check_token(credentials.password)
            name = owner if owner == credentials.name else None
        # A token is right or cannot be guessed, so that it counts however often others have tried.
        if name is not None:
            return name
        if isinstance(credentials, Basic):
            return await self._verify_password(credentials.name, credentials.password, source)
        self._begin(source)
        raise UnauthorizedError("the token is not known here")

    def _begin(self, source: str) -> None:
        if wait := self._guard.attempts.begin(source, trio.current_time()):
            raise _too_often(wait)

    async def _verify_password(self, name: str, password: str, source: str) -> str:
        found, digest = self.file.password_of(name), self._digest(name, password)
        while (same := self._checking.get(digest)) is not None:
            await same.wait()  # of a connection that came along with this one
        if found is not None and self._was_right(digest, found):
            return name
        self._begin(source)
        if found is None or not await self._matches(digest, found, password):
            raise UnauthorizedError("user name or password is wrong")
        self._guard.attempts.take_back(source, trio.current_time())
        return name

    async def _matches(self, digest: bytes, found: PasswordHash, password: str) -> bool:
        threads = self._guard.threads
        if threads.statistics().tasks_waiting >= _MAX_WAITING:
            raise _too_often(_BUSY)
        done = self._checking[digest] = trio.Event()
        try:
            # Not abandoned when cancelled: whoever comes next has to wait for the processor.
            right = await trio.to_thread.run_sync(found.matches, password, limiter=threads)
        finally:
            del self._checking[digest]
            done.set()
        if right:
            self._right[digest] = found, trio.current_time() + _KEEP
            if len(self._right) > _KEPT:
                self._right.popitem(last=False)
        return right

    def _was_right(self, digest: bytes, found: PasswordHash) -> bool:
        """Whether it was lately, for the secret as it is now."""
        known, until = self._right.get(digest, (None, -math.inf))
        if known is found and trio.current_time() < until:
            return True
        self._right.pop(digest, None)
        return False

    def _digest(self, name: str, password: str) -> bytes:
        text = f"{name}\0{password}".encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, hashlib.sha256(text).digest(), "sha256")


def _too_often(wait: float) -> UnauthorizedError:
    return UnauthorizedError("too many wrong secrets from this address", max(1, math.ceil(wait)))
