import json
import os
from pathlib import Path

from tests.tunneld.fewdescriptors import few_descriptors
from tunneld.logbook import record
from tunneld.logfile import LogFile, Output, render, render_json


def test_a_line_has_time_level_event_and_values() -> None:
    line = record(0.5, "info", "agent connected", [("agent", "demo"), ("why", "two words")])
    expected = '1970-01-01T00:00:00.500Z info    agent connected role=s agent=demo why="two words"'
    assert render(line, "s") == expected


def test_a_peer_cannot_forge_a_line() -> None:
    line = record(
        0, "info", "a\nb", [("x\n", "1\n2"), ("y", "\x1b[31m"), ("exception", "T\nE\r\x00")]
    )
    assert render(line, None).splitlines() == [
        r'1970-01-01T00:00:00.000Z info    a\nb x\n="1\n2" y="\u001b[31m"',
        r"    | T",
        r"    | E",
        r"    | \x00",
    ]


def test_a_file_that_has_grown_too_large_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "tunneld.log"
    log = LogFile(path, max_size=10)
    log.write("first line")
    log.write("second")
    log.close()
    assert path.read_text() == "second\n"
    assert (tmp_path / "tunneld.log.1").read_text() == "first line\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_put_aside_grows_on(tmp_path: Path) -> None:
    path = tmp_path / "tunneld.log"
    (tmp_path / "tunneld.log.1").mkdir()
    log = LogFile(path, max_size=1)
    log.write("first")
    log.write("second")
    log.close()
    assert path.read_text() == "first\nsecond\n"


def test_a_file_that_was_put_aside_without_a_descriptor_for_another_is_followed_by_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tunneld.log"
    log = LogFile(path, max_size=1)
    with few_descriptors(0):
        log.write("first")
        log.write("second")
    log.write("third")
    log.write("fourth")
    log.close()
    assert (tmp_path / "tunneld.log.1").read_text() == "fourth\n"
    assert path.read_text() == ""


def test_a_log_file_can_stand_in_for_a_descriptor(tmp_path: Path) -> None:
    target = os.open(os.devnull, os.O_WRONLY)
    log = LogFile(tmp_path / "log", max_size=4, descriptor=target)
    log.write("first")
    os.write(target, b"crash\n")
    log.close()
    assert (tmp_path / "log").read_text() == "crash\n"


def test_lines_that_could_not_be_written_are_counted() -> None:
    reader, writer = os.pipe()
    spare = os.dup(reader)
    os.close(reader)
    os.close(spare)
    output = Output(writer)
    output.write("one")  # nobody reads: EPIPE
    output.write("two")
    other_reader, other_writer = os.pipe()
    os.dup2(other_writer, writer)
    output.write("three")
    assert os.read(other_reader, 100) == b"2 log lines could not be written\nthree\n"
    for descriptor in (writer, other_writer, other_reader):
        os.close(descriptor)


def test_json_lines_have_what_text_has() -> None:
    line = record(1.5, "info", "dial failed", [("dial", "a-1"), ("level", 9)], "dial.failed")
    assert json.loads(render_json(line, "edge")) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "info",
        "message": "dial failed",
        "event": "dial.failed",
        "role": "edge",
        "dial": "a-1",
        "level_": 9,
    }
    plain = render_json(record(1.5, "info", "two\nlines", []), None)
    assert "\n" not in plain
    assert set(json.loads(plain)) == {"time", "level", "message"}


def test_a_peer_cannot_steer_a_terminal_that_shows_json() -> None:
    line = render_json(record(0, "info", "a", [("x", "\x1b[2J\x9b2J\x7fü")]), None)
    assert r"\u001b[2J\u009b2J\u007fü" in line
    assert json.loads(line)["x"] == "\x1b[2J\x9b2J\x7fü"
