"""What happened to a dial, step by step: for `tunnelctl trace`, and of the last that failed.

A record is cheap as long as nobody reads it: steps are kept as they come and worded when shown.
"""

import itertools
import json
import re
import secrets
import time
from collections import OrderedDict
from typing import Any

from tunneld.caller import Caller
from tunneld.dialing import DialError

KEPT = 256
"""Records of failed dials that a role keeps."""

_MAX_ERROR = 2_000
"""Characters that are kept of why it has failed: an agent may say it in 4 MiB."""
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_process = "".join(secrets.choice(_ALPHABET) for _ in range(5))
"""Tells the dials of this process from those of all others."""
_numbers = itertools.count(1)


def new_dial_id() -> str:
    """An id that no other dial has, in whatever process."""
    return f"{_process}-{next(_numbers)}"


_ID = re.compile(r"[0-9a-z-]{1,32}")


def usable_id(text: str) -> str:
    """An id that somebody else gave, if it is fit for log lines; else "", for one of our own."""
    return text if _ID.fullmatch(text) else ""


class DialRecord:
    """One dial: who wanted what, and how far it came."""

    __slots__ = (
        "_began",
        "_steps",
        "address",
        "agent",
        "agent_steps",
        "caller",
        "destination",
        "entry",
        "error",
        "id",
        "rule",
        "since",
        "wanted",
    )

    def __init__(self, caller: Caller, destination: str, dial_id: str = "") -> None:
        self.id = dial_id or new_dial_id()
        self.caller = caller
        self.destination = destination
        self.since = time.time()
        self.error: tuple[str, str] | None = None
        """Code and text, once it has failed."""
        self.entry = ""
        """What the client speaks."""
        self.rule = ""
        """Of the policy: the one that has decided."""
        self.agent = ""
        """Id of the agent that was asked."""
        self.address = ""
        """``host:port`` that the agent has dialled, as it says."""
        self.wanted = False
        """Whether somebody waits for the record, so that the agent shall tell its steps too."""
        self.agent_steps: list[tuple[float, str, str]] = []
        """Milliseconds on the agent's own clock since it was asked; step; what came of it."""
        self._began = time.perf_counter()
        self._steps: list[tuple[float, str, str, tuple[object, ...]]] = []

    def step(self, name: str, text: str, *args: object) -> None:
        """Note what was done and what came of it, now.

        Args:
          text: a format string over ``args``.
        """
        self._steps.append((time.perf_counter(), name, text, args))

    def failed(self, error: DialError) -> None:
        """The dial has failed."""
        self.error = error.kind.code, str(error)[:_MAX_ERROR]
        self.step("failed", "{}: {}", *self.error)

    def steps(self) -> list[tuple[float, str, str]]:
        """Milliseconds since the dial began, step, and what came of it."""
        who = f"{self.caller} by {self.entry}" if self.entry else str(self.caller)
        return [
            (0.0, "entry", who),
            *(
                ((at - self._began) * 1000, name, text.format(*args) if args else text)
                for at, name, text, args in self._steps
            ),
        ]

    def to_map(self, where: str = "server") -> dict[str, Any]:
        """For the control protocol.

        Args:
          where: who has noted the steps, the agent's aside.
        """
        code, text = self.error or ("", "")
        return {
            "dial": self.id,
            "since": self.since,
            "client": self.caller.address or self.caller.name,
            "identity": self.caller.name,
            "destination": self.destination,
            "agent": self.agent,
            "address": self.address,
            "rule": self.rule,
            "steps": [_step(*each, where=where) for each in self.steps()],
            "agent_steps": [_step(*each, where="agent") for each in self.agent_steps],
            "code": code,
            "error": text,
        }


def write_steps(record: DialRecord, limit: int) -> str:
    """A record's steps for the other end of a tunnel, as ASCII JSON of at most ``limit`` octets:
    ``[[milliseconds, step, text], …]``; the last ones go if there are too many."""
    steps = [[round(ms, 3), name, text] for ms, name, text in record.steps()]
    while len(text := json.dumps(steps, separators=(",", ":"))) > limit:
        steps.pop()
    return text


def read_steps(text: str) -> list[tuple[float, str, str]]:
    """Read what `write_steps` wrote; anything else is one step that says so."""
    try:
        steps = json.loads(text)
        return [(float(ms), _text(name, 40), _text(words, 1000)) for ms, name, words in steps]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return [(0.0, "trace", "the agent sent steps that cannot be read")]


def _text(value: object, length: int) -> str:
    """What can be sent on: JSON may hold halves of surrogate pairs."""
    return str(value)[:length].encode("utf-8", "replace").decode()


def _step(ms: float, name: str, text: str, where: str) -> dict[str, Any]:
    return {"where": where, "ms": round(ms, 3), "step": name, "text": text}


class DialRecords:
    """The last dials that failed, by id."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, DialRecord] = OrderedDict()

    def keep(self, record: DialRecord) -> None:
        """Keep a record, the oldest goes."""
        self._records[record.id] = record
        if len(self._records) > KEPT:
            self._records.popitem(last=False)

    def find(self, dial_id: str) -> DialRecord | None:
        return self._records.get(dial_id)

    def latest(self) -> list[DialRecord]:
        """All, the latest first."""
        return list(reversed(self._records.values()))
