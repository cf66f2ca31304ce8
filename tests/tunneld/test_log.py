from collections.abc import Iterator

import pytest
import structlog
import trio

from tunneld import log
from tunneld.logbook import LogRecord

Lines = list[tuple[str | None, LogRecord]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Everything that is logged during the test."""
    seen: Lines = []
    log.configure([lambda role, line: seen.append((role, line))])
    yield seen
    structlog.reset_defaults()


async def test_tasks_of_a_role_log_in_its_name(lines: Lines) -> None:
    logger = structlog.get_logger("test")

    async def task() -> None:
        logger.info("from a task", n=1)

    with log.role_context("edge"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)
    logger.warning("from the daemon")
    assert [(role, line.level, line.event) for role, line in lines] == [
        ("edge", "info", "from a task"),
        (None, "warning", "from the daemon"),
    ]
    assert lines[0][1].fields == {"n": 1}


def test_a_traceback_is_a_field(lines: Lines) -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger("test").exception("failed")
    ((_, line),) = lines
    assert line.level == "error"
    assert str(line.fields["exception"]).endswith("ValueError: bad")


def test_debug_is_for_those_who_ask(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.get_logger("test").debug("detail")
    assert lines == []
    monkeypatch.setenv(log.LEVEL_VARIABLE, "debug")
    log.configure([lambda role, line: lines.append((role, line))])
    structlog.get_logger("test").debug("detail")
    assert [line.event for _, line in lines] == ["detail"]
