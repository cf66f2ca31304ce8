"""What a check has found, and how bad that is."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec


class Verdict(StrEnum):
    """From good to bad; `INFO` is neither."""

    PASS = "pass"
    INFO = "info"
    WARN = "warn"
    """It works, and will not, or not well."""
    FAIL = "fail"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    """What was looked at, as in ``dns``."""
    verdict: Verdict
    detail: str
    """What was seen."""
    action: str = ""
    """What to do; "" where there is nothing to."""
    subject: str = "host"
    """Name of the role, or ``host``, ``daemon``."""

    def of(self, subject: str) -> "Finding":
        """The same about another subject."""
        return replace(self, subject=subject)

    def to_map(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_map(cls, value: object) -> "Finding":
        """Raises msgspec.ValidationError if it is none."""
        return msgspec.convert(value, cls)


def passed(check: str, detail: str) -> Finding:
    return Finding(check, Verdict.PASS, detail)


def noted(check: str, detail: str) -> Finding:
    return Finding(check, Verdict.INFO, detail)


def warned(check: str, detail: str, action: str) -> Finding:
    return Finding(check, Verdict.WARN, detail, action)


def failed(check: str, detail: str, action: str) -> Finding:
    return Finding(check, Verdict.FAIL, detail, action)
