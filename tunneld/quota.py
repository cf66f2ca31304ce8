"""How many connections and dials somebody may have, how many there are, and what is said of one too
many."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import structlog
import trio

from tunneld.dialing import OVERLOADED, DialError
from tunneld.pace import Paces
from tunneld.reactor import Reactor
from tunneld.tokenbucket import TokenBucket

log = structlog.get_logger(__name__)

_RETRY_SOON = 1
_RETRY_LATER = 5
"""Seconds after which a refused client may try again: dials end soon, connections do not."""
_LOG_INTERVAL = 1.0
"""Seconds between log lines about one limit of one client or agent."""
_KEPT = 1024
"""Log lines that are remembered for that, accounts that are kept though nobody uses them."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one client, one agent or everybody may use. 0 is no limit."""

    connections: int = 0
    """At once, dials under way included."""
    pending: int = 0
    """Dials under way."""
    rate: float = 0.0
    """New dials a second."""
    burst: int = 0
    """New dials at once after a quiet time; 0 stands for those of one second."""
    bandwidth: int = 0
    """Octets a second, each way."""

    @property
    def first(self) -> float:
        """How many dials may come at once."""
        return self.burst or max(1.0, math.ceil(self.rate))


class LimitedError(DialError):
    """A dial that was refused for a limit.

    Args:
      limit: its key in the configuration.
      who: whose limit it is.
    """

    def __init__(self, limit: str, who: str, text: str, retry_after: int) -> None:
        super().__init__(OVERLOADED, text)
        self.limit = limit
        self.who = who
        self.retry_after = retry_after


class Account:
    """What somebody uses at this moment.

    Args:
      who: in errors: ``client cert:a``.
      prefix: of the limits' keys in the configuration: ``client-``.
    """

    __slots__ = (
        "_bucket",
        "_paces",
        "_prefix",
        "_reactor",
        "connections",
        "pending",
        "quota",
        "who",
    )

    def __init__(self, who: str, prefix: str, quota: Quota, reactor: Reactor | None = None) -> None:
        self.who = who
        self.connections = 0
        self.pending = 0
        self.quota = Quota()
        self._prefix = prefix
        self._reactor = reactor
        self._bucket: TokenBucket | None = None
        self._paces: Paces | None = None
        self.change(quota)

    def change(self, quota: Quota) -> None:
        """Go by other limits from the next dial on; a bandwidth also changes for the connections
        that have had one."""
        if quota == self.quota:
            return
        now = trio.current_time()
        self.quota = quota
        if not quota.rate:
            self._bucket = None
        elif self._bucket is None:
            self._bucket = TokenBucket(quota.rate, quota.first, now)
        else:
            self._bucket.change(quota.rate, quota.first, now)
        if self._paces is not None:
            self._paces.change(quota.bandwidth)
        elif quota.bandwidth and self._reactor is not None:
            self._paces = Paces(self._reactor, quota.bandwidth)

    @property
    def paces(self) -> Paces | None:
        """What slows its connections down, if anything does."""
        return self._paces if self.quota.bandwidth else None

    def is_unused(self, now: float) -> bool:
        """Whether a new account would be the same."""
        return not self.connections and (self._bucket is None or self._bucket.is_full(now))

    def enter(self) -> None:
        """Count one more dial.

        Raises:
          LimitedError: it is one too many, and has not been counted.
        """
        quota = self.quota
        if 0 < quota.connections <= self.connections:
            raise self._over("connections", self.connections, quota.connections, _RETRY_LATER)
        if 0 < quota.pending <= self.pending:
            raise self._over("pending", self.pending, quota.pending, _RETRY_SOON)
        if self._bucket is not None and (wait := self._bucket.take(trio.current_time())):
            raise self._too_fast(wait)
        self.connections += 1
        self.pending += 1

    def _over(self, what: str, number: int, limit: int, retry_after: int) -> LimitedError:
        key = f"{self._prefix}{what}"
        nouns = "dials under way" if what == "pending" else "connections"
        text = f"limit reached: {self.who} has {number} {nouns} ({key} = {limit})"
        return LimitedError(key, self.who, text, retry_after)

    def _too_fast(self, wait: float) -> LimitedError:
        key, quota = f"{self._prefix}rate", self.quota
        text = (
            f"limit reached: {self.who} dials more than {quota.rate:g} times a second, and more"
            f" than {quota.first:g} times at once ({key} = {quota.rate:g})"
        )
        return LimitedError(key, self.who, text, math.ceil(wait))


class Accounts:
    """Those of many, by name.

    Args:
      kind: ``client``, ``agent``.
      quota: gives the limits of a name.
    """

    def __init__(self, kind: str, quota: Callable[[str], Quota], reactor: Reactor) -> None:
        self._kind = kind
        self._quota = quota
        self._reactor = reactor
        self._accounts: dict[str, Account] = {}
        self._most = _KEPT

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, name: str) -> Account:
        """The account of that name; made, if there is none."""
        account = self._accounts.get(name)
        if account is None:
            self._make_room()
            account = Account(
                f"{self._kind} {name}", f"{self._kind}-", self._quota(name), self._reactor
            )
            self._accounts[name] = account
        return account

    def change(self, quota: Callable[[str], Quota]) -> None:
        """Go by other limits."""
        self._quota = quota
        for name, account in self._accounts.items():
            account.change(quota(name))

    def _make_room(self) -> None:
        if len(self._accounts) < self._most:
            return
        now = trio.current_time()
        used = {k: each for k, each in self._accounts.items() if not each.is_unused(now)}
        self._accounts = used
        self._most = max(_KEPT, 2 * len(used))


class Visit:
    """One dial and its connection, as accounts count it while the block runs."""

    __slots__ = ("_accounts", "_connected")

    def __init__(self) -> None:
        self._accounts: list[Account] = []
        self._connected = False

    def enter(self, account: Account) -> None:
        """Count on this account too.

        Raises:
          LimitedError: it is one too many there.
        """
        account.enter()
        self._accounts.append(account)

    def connected(self) -> None:
        """The dial has succeeded."""
        self._connected = True
        for account in self._accounts:
            account.pending -= 1

    @property
    def paces(self) -> list[Paces]:
        """What slows the connection down."""
        return [paces for each in self._accounts if (paces := each.paces) is not None]

    def __enter__(self) -> "Visit":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for account in self._accounts:
            account.connections -= 1
            if not self._connected:
                account.pending -= 1


class Refusals:
    """Log lines about refused dials, few of them however many dials are refused."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, str], float] = {}
        self._unlogged: dict[tuple[str, str], int] = {}

    def log(self, exc: LimitedError, dial: str, client: str) -> None:
        """Log that a dial was refused, unless one was within the last second for the same limit."""
        key, now = (exc.limit, exc.who), trio.current_time()
        if now < self._logged.get(key, -math.inf) + _LOG_INTERVAL:
            self._unlogged[key] = self._unlogged.get(key, 0) + 1
            return
        if len(self._logged) >= _KEPT:
            self._logged.clear()
            self._unlogged.clear()
        self._logged[key] = now
        log.warning(
            "dial refused",
            client=client,
            limit=exc.limit,
            dial=dial,
            more=self._unlogged.pop(key, 0),
            error=str(exc),
        )
