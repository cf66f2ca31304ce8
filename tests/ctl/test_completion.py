"""Completion at the prompt of real shells, and what it may never do: fail, talk or wait."""

import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctl.completion import SHELLS, script
from ctl.messages import ControlError
from tests.conftest import need
from tests.ctl.conftest import Run
from tests.ctl.fakedaemon import FakeDaemon, Raw

TIMEOUT = 30
ROLES = [{"name": "edge", "kind": "server"}, {"name": "home", "kind": "agent"}]
LABS = [{"name": "demo", "namespaces": [{"name": "public"}, {"name": "private"}]}]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with our programs, as an installation has them."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, module in (("tunnelctl", "ctl"), ("tunneld", "tunneld")):
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m {module} "$@"\n')
        program.chmod(0o755)
    return directory


@pytest.fixture
def known(daemon: FakeDaemon) -> FakeDaemon:
    daemon.answers["role.list"] = {"roles": ROLES}
    daemon.answers["agents"] = {"agents": [{"id": "office"}, {"id": "office"}]}
    daemon.answers["conns"] = {"conns": [{"id": "a1"}, {"id": "b2"}]}
    daemon.answers["ns.list"] = {"labs": LABS}
    return daemon


class Terminal:
    """A shell at a terminal."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        master, slave = pty.openpty()
        self.master = master
        self.shown = ""
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": "/nonexistent", **environment},
            start_new_session=True,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def see(self, text: str) -> None:
        """Wait for ``text`` behind what was seen before."""
        end = time.monotonic() + TIMEOUT
        while text not in self.shown:
            ready = select.select([self.master], [], [], end - time.monotonic())[0]
            assert ready, f"no {text!r} in {self.shown!r}"
            self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
        self.shown = self.shown.partition(text)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


SETTINGS = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
}
BEFORE = {
    "bash": "bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; ",
    "zsh": "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; ",
}


@pytest.fixture(params=sorted(SETTINGS))
def terminal(
    request: pytest.FixtureRequest, programs: Path, known: FakeDaemon
) -> Iterator[Terminal]:
    """A shell that has read both scripts."""
    shell = request.param
    program = shutil.which(shell)
    need(program, f"{shell} (package {shell})")
    terminal = Terminal(
        [str(program), *SETTINGS[shell]],
        {"PATH": f"{programs}:{os.environ['PATH']}", "TUNNELD_CONTROL": str(known.path)},
    )
    both = "; ".join(f"source <({name} completion {shell})" for name in ("tunnelctl", "tunneld"))
    terminal.type(f"{BEFORE[shell]}{both}; echo re''ady\n")
    terminal.see("ready")
    yield terminal
    terminal.close()


def test_commands_and_names_are_completed_at_the_prompt(terminal: Terminal) -> None:
    terminal.type("tunnelctl stat\t")
    terminal.see("status")
    terminal.type("\x15tunnelctl role stop ed\t")
    terminal.see("edge")
    terminal.type("\x15tunnelctl http --server ed\t")
    terminal.see("edge")
    terminal.type("\x15tunneld check-c\t")
    terminal.see("check-config")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tunnelctl stat", {"status"}),
        ("tunnelctl role stop ", {"edge", "home"}),
        ("tunnelctl role stop edge ", {"home"}),
        ("tunnelctl role logs h", {"home"}),
        ("tunnelctl dial --server ", {"edge"}),
        ("tunnelctl ns exec p", {"public", "private"}),
        ("tunnelctl ns check --name ", {"demo"}),
        ("tunnelctl kill agent o", {"office"}),
        ("tunnelctl kill conn a1 ", {"b2"}),
        ("tunnelctl explain no_ag", {"no_agent"}),
        ("tunnelctl agents -o ", {"table", "json"}),
        ("tunnelctl certs is", {"issue"}),
        ("tunnelctl certs issue --for", {"--force"}),
        ("tunneld st", {"start", "stop", "status"}),
        ("tunneld completion ", set(SHELLS)),
    ],
)
def test_fish_completes(programs: Path, known: FakeDaemon, line: str, expected: set[str]) -> None:
    fish = shutil.which("fish")
    need(fish, "fish (package fish)")
    read = "tunnelctl completion fish | source; tunneld completion fish | source"
    done = subprocess.run(
        [str(fish), "--no-config", "-c", f"{read}; complete -C {line!r}"],
        env={
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TUNNELD_CONTROL": str(known.path),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert {each.partition("\t")[0] for each in done.stdout.splitlines()} == expected


def complete(*words: str, control: Path) -> tuple[list[str], str]:
    """What may follow the words, by the protocol of the scripts; and what was said besides."""
    done = subprocess.run(
        [sys.executable, "-m", "ctl"],
        env={
            **os.environ,
            "TUNNELD_CONTROL": str(control),
            "_TUNNELCTL_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line], done.stderr


def test_the_daemon_of_the_command_line_is_asked(known: FakeDaemon, short_tmp: Path) -> None:
    words = ["tunnelctl", "--control", str(known.path), "role", "stop", ""]
    assert complete(*words, control=short_tmp / "none") == (["edge", "home"], "")


def test_without_a_daemon_there_are_no_names(short_tmp: Path) -> None:
    words = ["tunnelctl", "role", "stop", ""]
    assert complete(*words, control=short_tmp / "none") == ([], "")
    assert complete(*words, control=short_tmp / ("x" * 200)) == ([], "")


@pytest.mark.parametrize(
    "answer",
    [
        ControlError("denied", "no"),
        Raw(b"\xff\xff\xff\xff nonsense"),
        {"roles": "nonsense"},
        {"roles": [{"nonsense": 1}, {"name": None}]},
        {},
        None,
    ],
)
def test_whatever_the_daemon_says_nothing_breaks(
    daemon: FakeDaemon, answer: ControlError | Raw | dict[str, object] | None
) -> None:
    daemon.answers["role.list"] = answer
    assert complete("tunnelctl", "role", "stop", "", control=daemon.path) == ([], "")


@pytest.mark.parametrize("accepts", [True, False])
def test_a_daemon_that_says_nothing_is_not_waited_for(short_tmp: Path, accepts: bool) -> None:
    path = short_tmp / "silent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        if not accepts:  # its backlog is full
            waiting = socket.socket(socket.AF_UNIX)
            waiting.connect(str(path))
            listener.setblocking(False)
        assert complete("tunnelctl", "role", "stop", "", control=path) == ([], "")
        if not accepts:
            waiting.close()


@pytest.mark.parametrize("shell", sorted(SHELLS))
@pytest.mark.parametrize("program", ["tunnelctl", "tunneld"])
def test_the_scripts_are_those_of_click(run: Run, program: str, shell: str) -> None:
    text = script(program, shell)
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in text
    if program == "tunnelctl":
        assert run("completion", shell).stdout == text


def test_an_unknown_shell_is_a_usage_error(run: Run) -> None:
    assert run("completion", "cmd.exe").code == 2
