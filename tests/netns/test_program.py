"""How programs report: one line for each item, one for the end, whatever happens."""

import json
from pathlib import Path

import pytest

from netns import NetnsError, program


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def fail(error: Exception) -> None:
    raise error


def test_step_is_told_before_and_after(capfd: pytest.CaptureFixture[str]) -> None:
    with program.step("link", "a to b"):
        program.skip("other", "not needed")
    assert [line["item"] for line in lines(capfd.readouterr().out)] == [
        {"step": "link", "state": "start", "detail": "a to b"},
        {"step": "other", "state": "skip", "detail": "not needed"},
        {"step": "link", "state": "done", "detail": "a to b"},
    ]


def test_refusal_becomes_the_error_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert program.run(lambda: fail(NetnsError("exists", "it is there", "remove it"))) == 1
    assert lines(capfd.readouterr().out) == [
        {"error": {"code": "exists", "message": "it is there", "hint": "remove it"}}
    ]


def test_error_of_the_system_names_its_file(capfd: pytest.CaptureFixture[str]) -> None:
    assert program.run(lambda: Path("/no/such/file").touch()) == 1
    (line,) = lines(capfd.readouterr().out)
    assert line == {
        "error": {
            "code": "failed",
            "message": "No such file or directory: /no/such/file",
            "hint": "",
        }
    }


def test_bug_is_told_as_one_with_its_trace_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert program.run(lambda: fail(KeyError("x"))) == 1
    captured = capfd.readouterr()
    (line,) = lines(captured.out)
    assert line["error"] == {
        "code": "internal",
        "message": "KeyError: 'x'",
        "hint": "please report this",
    }
    assert "Traceback" in captured.err


def test_success_is_status_zero() -> None:
    assert program.run(lambda: None) == 0


def test_wrong_number_of_arguments_is_status_two(capfd: pytest.CaptureFixture[str]) -> None:
    assert program.main(lambda directory: None, []) == 2
    assert "usage" in capfd.readouterr().err
