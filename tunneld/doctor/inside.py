"""A role in a network namespace: its checks run there, by a program of ours that is started inside.

It takes one JSON object on stdin, `{role, row}`, and prints a finding a line.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ctl.messages import ControlError
from tunneld.config import RoleConfig, parse_roles
from tunneld.doctor.finding import Finding, failed
from tunneld.doctor.roles import role_checks
from tunneld.doctor.running import PATIENCE, Check, run_checks
from tunneld.namespaces import way_into

_MARGIN = 5.0
"""Seconds for what is inside to start, before it has to have ended by itself."""
_PROGRAM = (sys.executable, "-P", "-m", "tunneld.doctor.inside")


def inside_checks(labs: Path, role: RoleConfig, row: dict[str, Any] | None) -> Iterator[Check]:
    """The checks of `role_checks`, as one.

    Args:
      labs: directory with the directories of our labs.
    """
    yield Check("namespace", role.name, partial(_run, labs, role, row))


def _run(labs: Path, role: RoleConfig, row: dict[str, Any] | None) -> Iterator[Finding]:
    try:
        argv = [*way_into(labs, str(role.namespace)), *_PROGRAM]
    except ControlError as exc:
        yield failed("namespace", exc.message, exc.hint)
        return
    question = json.dumps({"role": msgspec.to_builtins(role), "row": row})
    try:
        done = subprocess.run(
            argv, input=question, capture_output=True, text=True, timeout=PATIENCE - _MARGIN
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        yield failed("namespace", f"{role.namespace}: {exc}", "see: tunnelctl ns list")
        return
    for line in done.stdout.splitlines():
        yield Finding.from_map(json.loads(line))
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        yield failed("namespace", f"{role.namespace}: {why}", "see: tunnelctl ns list")


def answer(question: TextIO, answers: TextIO) -> None:
    """Be the program inside."""
    asked = json.load(question)
    (role,) = parse_roles([asked["role"]])
    for finding in run_checks(list(role_checks(role, asked["row"])), PATIENCE - 2 * _MARGIN):
        answers.write(json.dumps(finding.to_map()) + "\n")


if __name__ == "__main__":
    answer(sys.stdin, sys.stdout)
