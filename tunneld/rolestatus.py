"""What is known of a role from outside: its state, since when, why, and where it listens."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tunneld.role import RoleError, RoleState

SETTLED = frozenset({RoleState.READY, RoleState.BACKOFF, RoleState.STOPPED, RoleState.FAILED})
"""States that last; the others end by themselves."""


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """A role at a time. ``since`` is in unix seconds."""

    state: RoleState
    reason: str = ""
    since: float = field(default_factory=time.time)
    restarts: int = 0
    """Starts after the first, by the daemon itself; a start by hand counts anew."""
    addresses: tuple[str, ...] = ()

    def to_map(self) -> dict[str, Any]:
        """As a worker tells it to its supervisor, and part of what the control protocol says."""
        return {**msgspec.to_builtins(self), "addresses": list(self.addresses)}

    @classmethod
    def from_map(cls, value: object) -> "RoleStatus":
        """Raises msgspec.ValidationError if it is none."""
        return msgspec.convert(value, cls)


def reason_of(exc: BaseException) -> str:
    """Why, in one line for people: the text of an expected error, the type too of any other."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(_unique(reason_of(each) for each in exc.exceptions))
    text = " ".join(str(exc).split())
    if not text:
        return type(exc).__name__
    return text if isinstance(exc, OSError | RoleError) else f"{type(exc).__name__}: {text}"


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
