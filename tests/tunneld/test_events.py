"""Events: log lines with a name, whatever is logged."""

from collections.abc import Iterator

import pytest
import structlog

from tunneld import log
from tunneld.eventlog import EventLog, event_map, lost_events, wanted
from tunneld.events import _LINES, KEPT, Event, emit
from tunneld.logbook import LogRecord, record

Seen = list[tuple[str | None, LogRecord]]


@pytest.fixture
def seen() -> Iterator[Seen]:
    found: Seen = []
    log.configure(
        [lambda role, line: found.append((role, line))], log.number_of("error"), quiet_events=True
    )
    yield found
    structlog.reset_defaults()


def test_an_event_is_told_even_if_its_level_is_not_logged(seen: Seen) -> None:
    structlog.get_logger().info("agent connected")
    with log.role_context("edge"):
        emit(Event.AGENT_CONNECTED, agent="home", peer="1.2.3.4:5")
    ((role, line),) = seen
    assert (role, line.name, line.level) == ("edge", "agent.connected", "info")
    assert line.event == "agent connected"
    assert line.fields == {"agent": "home", "peer": "1.2.3.4:5"}


def test_who_wants_a_log_alone_gets_no_quiet_events() -> None:
    found: Seen = []
    log.configure([lambda role, line: found.append((role, line))], log.number_of("error"))
    emit(Event.AGENT_CONNECTED, agent="home")
    emit(Event.NOT_RELOADED, error="no")
    structlog.reset_defaults()
    assert [line.name for _, line in found] == ["reload.failed"]


def test_text_and_level_may_be_others(seen: Seen) -> None:
    emit(Event.CERTIFICATE_EXPIRES, "certificate has expired", level="error", role="edge")
    ((role, line),) = seen
    assert (role, line.level, line.event) == ("edge", "error", "certificate has expired")


def test_every_event_has_a_line() -> None:
    assert set(_LINES) == set(Event)


def test_the_latest_events_are_kept_with_their_roles() -> None:
    events = EventLog()
    events.take("edge", record(1.0, "info", "no event", []))
    for number in range(KEPT + 2):
        events.take("edge", record(float(number), "info", "text", [("n", number)], "agent.left"))
    lines, lost = events.read(0)
    assert (len(lines), lost) == (KEPT, 2)
    assert lines[0].fields == {"n": 2, "role": "edge"}
    assert event_map(lines[0]) == {
        "time": 2.0,
        "event": "agent.left",
        "level": "info",
        "text": "text",
        "fields": {"n": 2, "role": "edge"},
    }
    assert lost_events(3.0, 2)["fields"] == {"lost": 2}


def test_events_since_a_time_are_found() -> None:
    events = EventLog()
    for number in range(5):
        events.take(None, record(float(number), "info", "text", [], "agent.left"))
    lines, _ = events.read(events.cursor_since(3.0))
    assert [line.time for line in lines] == [3.0, 4.0]
    assert len(events.read(events.cursor_since(0.0))[0]) == 5
    assert events.read(events.cursor_since(9.0)) == ([], 0)


def test_events_are_chosen_by_name_and_role() -> None:
    line = record(1.0, "info", "text", [("role", "edge")], "agent.left")
    assert wanted(line, "", "")
    assert wanted(line, "agent.*", "edge")
    assert not wanted(line, "dial.*", "")
    assert not wanted(line, "", "home")
