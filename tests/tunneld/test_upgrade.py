"""The old process's half of an upgrade; the new process is a script that says what is asked of it.

What real daemons do is in tests/e2e/test_upgrade.py.
"""

import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from ctl.messages import ControlError, Message
from tunneld.notify import Notifier
from tunneld.openlisteners import open_listeners
from tunneld.supervisor import Supervisor
from tunneld.upgrade import Belongings, Tell, Upgrade

_SUCCESSOR = """#!{python}
import signal, socket, sys
line = socket.socket(fileno=int(sys.argv[sys.argv.index("--takeover") + 1]))
lines = line.makefile("rw")
lines.readline()
for state in {states}:
    lines.write('{{"state":"%s"}}\\n' % state)
    lines.flush()
    if state == "listening":
        lines.readline()
if {lives}:
    signal.pause()
"""


class FakeSupervisor:
    """Two agents, and nothing else."""

    def __init__(self) -> None:
        self.roster: list[Any] = []
        self.asked: list[str] = []

    async def ask_all(self, method: str, params: Message) -> list[tuple[str, Message]]:
        await trio.lowlevel.checkpoint()
        self.asked.append(method)
        return [("edge", {"agents": ["a", "b"]})]

    async def connections(self) -> Counter[str]:
        await trio.lowlevel.checkpoint()
        return Counter(edge=3)


class Case:
    """An upgrade to come."""

    def __init__(self, directory: Path, control: socket.socket) -> None:
        self.directory = directory
        self.supervisor = FakeSupervisor()
        self.finished = 0
        self.told: list[Message] = []
        self.belongings = Belongings(
            directory / "c.sock", control, False, [], directory, None, "", False, Notifier()
        )
        self.upgrade = Upgrade(self.belongings, cast(Supervisor, self.supervisor), self._finish)

    def _finish(self) -> None:
        self.finished += 1

    async def run(self, *states: str, tell: Tell | None = None) -> Message:
        program = self.directory / "successor"
        lives = states[-1:] == ("serving",)
        text = _SUCCESSOR.format(python=sys.executable, states=states, lives=lives)
        program.write_text(text)
        program.chmod(0o755)
        with trio.fail_after(30):
            return await self.upgrade.run(7.0, str(program), tell or self.tell)

    async def tell(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append(message)

    @property
    def steps(self) -> list[str]:
        return [each["step"] for each in self.told]

    def end_successor(self) -> bool:
        """End the new process, if it lives; whether it did."""
        successor = self.upgrade.successor
        if successor is None or successor.poll() is not None:
            return False
        successor.kill()
        successor.wait()
        return True

    def is_gone(self) -> bool:
        """Whether the new process has been killed and waited for."""
        try:
            os.kill(self.told[0]["pid"], 0)
        except ProcessLookupError:
            return True
        return False


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    monkeypatch.setattr(open_listeners, "given_away", False)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(tmp_path / "c.sock"))
        control.listen()
        yield Case(tmp_path, control)


async def test_all_is_handed_over(case: Case) -> None:
    result = await case.run("listening", "serving")
    assert case.steps == ["started", "listening", "agents", "serving"]
    assert case.supervisor.asked == ["leave"]
    assert result == {
        "pid": case.told[0]["pid"],
        "old_pid": os.getpid(),
        "conns": 3,
        "deadline": 7.0,
    }
    assert open_listeners.given_away
    assert case.finished == 0, "the answer comes first"
    with pytest.raises(ControlError, match="an upgrade runs already"):
        await case.run("listening")
    assert case.end_successor()


@pytest.mark.parametrize("states", [(), ("listening",), ("serving",)])
async def test_a_new_process_that_gives_up_leaves_all_as_it_was(
    case: Case, states: tuple[str, ...]
) -> None:
    with pytest.raises(ControlError, match="ended without a word"):
        await case.run(*states)
    assert case.supervisor.asked == (["leave", "stay"] if states == ("listening",) else [])
    assert not open_listeners.given_away
    assert case.upgrade.deadline is None


@pytest.mark.parametrize("step", ["started", "listening", "agents"])
async def test_who_asks_for_an_upgrade_and_goes_away_stops_it(case: Case, step: str) -> None:
    async def tell(message: Message) -> None:
        await case.tell(message)
        if message["step"] == step:
            raise trio.BrokenResourceError

    with pytest.raises(trio.BrokenResourceError):
        await case.run("listening", "serving", tell=tell)
    assert not open_listeners.given_away
    assert case.finished == 0
    assert case.is_gone()


@pytest.mark.parametrize("how", ["broken", "cancelled"])
async def test_once_the_new_process_serves_nobody_can_stop_it(case: Case, how: str) -> None:
    """It has clients already, whose connections would break."""
    with trio.CancelScope() as scope:

        async def tell(message: Message) -> None:
            await case.tell(message)
            if message["step"] == "serving":
                if how == "broken":
                    raise trio.BrokenResourceError
                scope.cancel()

        try:
            await case.run("listening", "serving", tell=tell)
        except trio.BrokenResourceError:
            pass
    assert open_listeners.given_away
    assert case.upgrade.deadline == 7.0
    assert case.finished == 1, "else two processes would serve for ever"
    assert case.supervisor.asked == ["leave"]
    assert case.end_successor()
