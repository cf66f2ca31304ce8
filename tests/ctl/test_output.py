import json
import time

import pytest

from ctl.output import (
    format_age,
    format_size,
    may_colour,
    print_json,
    print_line,
    print_table,
    printable,
)


def test_a_table_has_columns_as_wide_as_they_need_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("NAME", "N"), [("a", 1), ("longer", None), ("", [1, "b"])])
    assert capsys.readouterr().out == "NAME    N\na       1\nlonger  -\n-       1 b\n"


def test_text_of_other_machines_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("NAME",), [("\x1b[2Jevil\r\nline",)])
    print_line("\x1b]0;title\x07")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert len(out.splitlines()) == 3


def test_json_is_one_versioned_object_a_line(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    print_json({"name": "ü\n", "octets": b"\xff"})
    out = capsysbinary.readouterr().out
    assert out.count(b"\n") == 1
    assert json.loads(out) == {"version": 1, "name": "ü\n", "octets": "\\xff"}


def test_json_cannot_steer_the_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "\x1b[2J\x9b2J\x7fü"})
    out = capsys.readouterr().out
    assert r"\u001b[2J\u009b2J\u007fü" in out
    assert json.loads(out)["name"] == "\x1b[2J\x9b2J\x7fü"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m0s"), (3599, "59m59s"), (3660, "1h1m"), (90000, "1d1h")],
)
def test_ages(seconds: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.5)
    assert format_age(1_000_000.5 - seconds) == text


@pytest.mark.parametrize("since", [None, 0, "yesterday"])
def test_an_unknown_age_is_a_dash(since: object) -> None:
    assert format_age(since) == "-"


def test_a_clock_that_was_set_back_gives_no_negative_age() -> None:
    assert format_age(time.time() + 1000) == "0s"


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes(octets: int, text: str) -> None:
    assert format_size(octets) == text


def test_no_color_and_dumb_terminals_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert may_colour(is_terminal=True)
    assert not may_colour(is_terminal=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not may_colour(is_terminal=True)
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not may_colour(is_terminal=True)


def test_printable_keeps_letters_of_all_scripts() -> None:
    assert printable("Grüße, 世界\n") == "Grüße, 世界\n"
