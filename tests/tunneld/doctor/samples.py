"""Certificates that are wrong in one way each, and what findings look like in tests."""

import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from tunneld.certificate import Kind, Request, issue, load, parse_san, utc_now
from tunneld.doctor.finding import Finding


def verdicts(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(each.check, str(each.verdict)) for each in findings]


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def write_pair(
    pki: Path, into: Path, kind: Kind = Kind.AGENT, *, days: int = 365, age: int = 0
) -> tuple[str, str]:
    """A certificate of the agent CA and its key, made so many days ago, for so many days."""
    authority = load((pki / "agent/ca.crt").read_bytes(), (pki / "agent/ca.key").read_bytes())
    request = Request(kind, "demo", (parse_san("IP:127.0.0.1"),), days)
    made = issue(authority, request, utc_now() - timedelta(days=age))
    cert, key = into / "leaf.crt", into / "leaf.key"
    cert.write_bytes(made.certificate_pem())
    key.touch(0o600)
    key.write_bytes(made.key_pem())
    return os.fspath(cert), os.fspath(key)
