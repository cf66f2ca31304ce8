import os
import pty
import subprocess
import sys

import pytest

from ctl.progress import PlainProgress, TerminalProgress, open_progress

_SCRIPT = """
import sys
from ctl.progress import open_progress
with open_progress() as progress:
    progress.begin("namespace [public]")
    progress.finish("namespace [public]", "done", "2.2.2.2/27")
    progress.begin("link")
    progress.finish("link", "failed", "\\x1b[2J")
"""


def run_on_terminal(**variables: str) -> str:
    """What a script shows whose stderr is a terminal."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **variables}
    with subprocess.Popen([sys.executable, "-c", _SCRIPT], stderr=theirs, env=environ):
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:  # EIO: the last one on the terminal has gone
            pass
    os.close(ours)
    return shown.decode()


def test_elsewhere_a_plain_line_says_how_a_step_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress() as progress:
        progress.begin("one")
        progress.finish("one", "done")
        progress.finish("two", "skip", "as it is")
        progress.finish("three", "failed", "why")
    assert capsys.readouterr().err == "ok     one\n--     two  (as it is)\nFAILED three  (why)\n"


def test_a_terminal_shows_the_running_step_and_in_colour_how_it_ended() -> None:
    shown = run_on_terminal(NO_COLOR="")
    assert "namespace [public] …" in shown
    assert "ok     namespace [public]  (2.2.2.2/27)" in shown
    assert "\x1b[32m" in shown
    assert "\x1b[2J" not in shown


def test_no_color_is_honoured_on_a_terminal() -> None:
    shown = run_on_terminal(NO_COLOR="1")
    assert "ok     namespace [public]" in shown
    assert "\x1b[32m" not in shown
    assert "\x1b[31m" not in shown


def test_the_kind_of_progress_follows_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert isinstance(open_progress(), PlainProgress)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(open_progress(), TerminalProgress)
