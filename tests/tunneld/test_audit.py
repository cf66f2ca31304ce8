"""The audit: whole lines, whatever becomes of the file and the disk."""

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from tunneld import audit as audit_module
from tunneld import log
from tunneld.audit import Audit, AuditFile, line_of
from tunneld.caller import Caller
from tunneld.conns import Conns
from tunneld.dialing import PROHIBITED, DialError
from tunneld.logbook import LogRecord
from tunneld.role import RoleError

CALLER = Caller("cert:alice", "1.2.3.4:5")


def lines_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def carry(conns: Conns, destination: str = "db:5432") -> None:
    with conns.listed(CALLER, destination, "home", "abcde-1") as conn:
        conn.state = "open"
        conn.dialled = "10.0.0.5:5432"
        conn.octets = lambda: (3, 4)


async def test_a_connection_has_a_line_when_it_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    audit = Audit(path, "edge", "server")
    conns = Conns(on_end=audit.record)
    async with audit.running():
        carry(conns)
    (line,) = lines_in(path)
    assert line.pop("time") >= line.pop("began")
    assert line.pop("seconds") >= 0
    assert line == {
        "v": 1,
        "dial": "abcde-1",
        "role": "edge",
        "kind": "server",
        "client": "cert:alice",
        "address": "1.2.3.4:5",
        "destination": "db:5432",
        "dialled": "10.0.0.5:5432",
        "agent": "home",
        "decision": "allow",
        "rule": "",
        "sent": 3,
        "received": 4,
        "ended": "closed",
        "code": "",
        "reason": "",
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_denied_dial_has_a_line_with_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    audit = Audit(path, "edge", "server")
    conns = Conns(on_end=audit.record)
    async with audit.running():
        with suppress(DialError), conns.listed(CALLER, "db:22") as conn:
            conn.rule = "no-ssh"
            raise DialError(PROHIBITED, "denied by no-ssh")
    (line,) = lines_in(path)
    assert (line["decision"], line["rule"], line["ended"]) == ("deny", "no-ssh", "failed")
    assert (line["code"], line["reason"]) == ("denied", "denied by no-ssh")


async def test_lines_are_short_whatever_agents_and_servers_say() -> None:
    lines: list[bytes] = []
    conns = Conns(on_end=lambda conn: lines.append(line_of(conn, "edge", "server")))
    with suppress(DialError), conns.listed(CALLER, "d" * 4_000_000):
        raise DialError(PROHIBITED, "x" * 4_000_000)
    assert len(lines[0]) < 5_000


async def test_a_file_that_was_moved_is_left_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    file = AuditFile(path)
    file.write([b"one\n"])
    path.rename(tmp_path / "audit.1")
    file.write([b"two\n"])
    path.unlink()
    file.write([b"three\n"])
    file.close()
    assert (tmp_path / "audit.1").read_text() == "one\n"
    assert path.read_text() == "three\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_cannot_be_opened_keeps_the_role_from_starting(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "none" / "audit", "edge", "server")
    with pytest.raises(RoleError, match="cannot open the audit file"):
        async with audit.running():
            raise AssertionError


async def test_a_stalled_disk_costs_lines_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[LogRecord]
) -> None:
    monkeypatch.setattr(audit_module, "MAX_WAITING", 2)
    go_on = threading.Event()

    class Stalled(AuditFile):
        def write(self, lines: list[bytes]) -> None:
            assert go_on.wait(10)
            super().write(lines)

    path = tmp_path / "audit"
    audit = Audit(path, "edge", "server", Stalled)
    conns = Conns(on_end=audit.record)
    async with audit.running():
        carry(conns)
        await wait_all_tasks_blocked()  # it is being written
        for _ in range(5):
            carry(conns)
        assert audit.lost == 3
        go_on.set()
    assert len(lines_in(path)) == 3
    (event,) = [line for line in events if line.name == "audit.lost"]
    assert event.fields["lost"] == 3


async def test_a_disk_that_hangs_for_good_does_not_keep_the_role_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "_LAST", 0.01)
    go_on = threading.Event()
    ended = threading.Event()

    class Hanging(AuditFile):
        def write(self, lines: list[bytes]) -> None:
            assert go_on.wait(10)
            super().write(lines)
            ended.set()

    path = tmp_path / "audit"
    audit = Audit(path, "edge", "server", Hanging)
    conns = Conns(on_end=audit.record)
    async with audit.running():
        carry(conns)
        await wait_all_tasks_blocked()
    go_on.set()
    assert await trio.to_thread.run_sync(ended.wait, 10)
    assert len(lines_in(path)) == 1  # its descriptor was still its own


async def test_a_full_disk_is_an_event_and_lines_go_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[LogRecord]
) -> None:
    monkeypatch.setattr(audit_module, "_RETRY", 0)
    full = True

    class Full(AuditFile):
        def write(self, lines: list[bytes]) -> None:
            self.busy = False
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(lines)

    path = tmp_path / "audit"
    audit = Audit(path, "edge", "server", Full)
    conns = Conns(on_end=audit.record)
    async with audit.running():
        carry(conns)
        while not audit.lost:  # noqa: ASYNC110 - a thread tells nothing
            await trio.sleep(0.01)
        full = False
        carry(conns)
    assert len(lines_in(path)) == 1
    assert [line.fields["error"] for line in events] == ["No space left on device"]


def test_a_line_that_was_torn_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit"
    file = AuditFile(path)
    write, calls = os.write, 0

    def short(descriptor: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "no space")
        return write(descriptor, bytes(data)[:3] if calls == 1 else data)

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="no space"):
        file.write([b"first\n"])
    file.write([b"second\n"])
    file.close()
    assert path.read_text() == "fir\nsecond\n"


@pytest.fixture
def events() -> Iterator[list[LogRecord]]:
    seen: list[LogRecord] = []
    log.configure([lambda _, line: seen.append(line)], quiet_events=True)
    yield seen
    structlog.reset_defaults()
