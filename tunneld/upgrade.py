"""Exchanging the running daemon for a new process, which may run newer code: `tunneld.takeover` has
what the two say to each other.

The new process gets the listening sockets, so connections are accepted all the time. Agents open a
tunnel to it before clients are given to it; the old process finishes what it carries and ends.
Whatever goes wrong before that, the old one goes on as if nothing had been.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio
from msgspec import Struct

from ctl.messages import ControlError, Message
from tunneld.accepting import address_of
from tunneld.handover import PATIENCE
from tunneld.inherited import inherited
from tunneld.lockfile import LockFile
from tunneld.notify import Notifier
from tunneld.openlisteners import open_listeners
from tunneld.role import RoleState
from tunneld.supervisor import Supervisor
from tunneld.takeover import MAX_LINE, Inheritance, Order, Way

log = structlog.get_logger(__name__)

START_TIMEOUT = 60.0
"""Seconds for the new process to start its roles."""
DEADLINE = 3600.0
"""Seconds that connections of the old process may last, unless somebody says otherwise."""
PROGRAM = (sys.executable, "-P", "-m", "tunneld")

Tell = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Belongings:
    """What a daemon has besides its roles."""

    control_path: Path
    control: socket.socket
    control_lent: bool
    """Whether the service manager keeps the control socket."""
    locks: Sequence[LockFile]
    state: Path
    file: Path | None
    """Of the configuration."""
    log_format: str
    """As `tunneld start` was told; "" for what the configuration says."""
    detached: bool
    notifier: Notifier


class Upgrade:
    """See the module.

    Args:
      finish: begins the end of this process.
    """

    def __init__(
        self, belongings: Belongings, supervisor: Supervisor, finish: Callable[[], None]
    ) -> None:
        self._belongings = belongings
        self._supervisor = supervisor
        self.finish = finish
        self._running = False
        self.deadline: float | None = None
        """Seconds that connections may still last, once a successor has taken over."""
        self.successor: subprocess.Popen[bytes] | None = None
        """It outlives this process, which never waits for it."""

    async def run(self, deadline: float, program: str | None, tell: Tell) -> Message:
        """Start a successor and hand everything over.

        Args:
          deadline: seconds for the connections that there are.
          program: path of another `tunneld`; None stands for the one that runs.
          tell: is told each step.
        Raises:
          ControlError: it cannot be done, or the new process is not well; all is as before.
          BaseException: of ``tell``, or cancelled. All is as before, unless the new process serves
            already: then this one finishes nevertheless.
        """
        self._refuse_what_cannot_be()
        self._running = True
        ours, its = socket.socketpair()
        try:
            with its:
                child = self._start([program] if program else list(PROGRAM), its)
            await _Negotiation(self._supervisor, child, ours).run(self._order(), tell)
        finally:
            ours.close()
            self._running = False
        self.deadline = deadline
        self.successor = child
        self._pass_on(child.pid)
        try:
            return await self._report(child.pid, deadline, tell)
        except BaseException:  # whoever asked is gone, and there is no way back
            self.finish()
            raise

    async def _report(self, pid: int, deadline: float, tell: Tell) -> Message:
        with trio.CancelScope(shield=True):
            await self._belongings.notifier.succeeded_by(pid)
        await tell({"step": "serving"})
        conns = (await self._supervisor.connections()).total()
        return {"pid": pid, "old_pid": os.getpid(), "conns": conns, "deadline": deadline}

    def _refuse_what_cannot_be(self) -> None:
        if self._running or self.deadline is not None:
            raise ControlError("busy", "an upgrade runs already", "wait for it: tunnelctl status")
        for entry in self._supervisor.roster:
            if entry.config.namespace is not None:
                where = f"the lab {entry.lab!r}" if entry.lab else "the configuration"
                raise ControlError(
                    "failed",
                    f"role {entry.name} of {where} listens in the namespace"
                    f" {entry.config.namespace}, which cannot be handed over",
                    "bring the lab down first (tunnelctl ns down), or stop and start the daemon",
                )

    def _start(self, program: list[str], its: socket.socket) -> "subprocess.Popen[bytes]":
        belongings, order = self._belongings, self._order()
        argv = [*program, "start", "--takeover", str(its.fileno())]
        argv += ["--control", str(belongings.control_path), "--state", str(belongings.state)]
        argv += ["--config", str(belongings.file)] if belongings.file else []
        argv += ["--log-format", belongings.log_format] if belongings.log_format else []
        numbers = [its.fileno(), *order.locks.values(), *(each.fd for each in order.listeners)]
        output = subprocess.DEVNULL if belongings.detached else None
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                cwd="/",
                pass_fds=numbers,
                start_new_session=True,
            )
        except OSError as exc:
            raise ControlError("failed", f"cannot execute {program[0]}: {exc.strerror}") from exc

    def _order(self) -> Order:
        belongings = self._belongings
        return Order(
            locks={str(lock.path): lock.fileno() for lock in belongings.locks},
            listeners=list(self._listeners()),
            ready=[
                entry.name
                for entry in self._supervisor.roster
                if entry.status.state is RoleState.READY
            ],
            detached=belongings.detached,
            notify=belongings.notifier.address,
            watchdog=belongings.notifier.watchdog,
        )

    def _listeners(self) -> Iterable[Inheritance]:
        control = self._belongings.control
        lent = self._belongings.control_lent
        yield Inheritance(control.fileno(), listen=address_of(control), lent=lent)
        for sock, name, listen in inherited:
            if sock.fileno() != control.fileno():
                yield Inheritance(sock.fileno(), listen, name, lent=True)
        for address, descriptor in open_listeners:
            yield Inheritance(descriptor, listen=address)

    def _pass_on(self, pid: int) -> None:
        """From here on files of sockets and locks are the successor's."""
        open_listeners.given_away = True
        log.info("succeeded by another process", pid=pid)


class _Negotiation:
    """The talk with one new process."""

    def __init__(
        self, supervisor: Supervisor, child: "subprocess.Popen[bytes]", line: socket.socket
    ) -> None:
        self._supervisor = supervisor
        self._child = child
        line.setblocking(False)
        self._line = trio.SocketStream(trio.socket.from_stdlib_socket(line.dup()))
        self._kept = bytearray()

    async def run(self, order: Order, tell: Tell) -> None:
        """Return as soon as the new process serves; until then whatever goes wrong is undone."""
        left = False
        try:
            await tell({"step": "started", "pid": self._child.pid})
            await self._say(order)
            await self._expect("listening", START_TIMEOUT)
            await tell({"step": "listening"})
            left = True
            agents = await self._send_agents()
            await self._say(Way(agents))
            number = sum(map(len, agents.values()))
            await tell({"step": "agents", "agents": number})
            await self._expect("serving", PATIENCE + START_TIMEOUT)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._undo(left)
            raise
        finally:
            self._line.socket.close()  # by no checkpoint, which might end in a cancellation

    async def _say(self, message: Struct) -> None:
        try:
            await self._line.send_all(msgspec.json.encode(message) + b"\n")
        except trio.BrokenResourceError:
            pass  # it has ended, as what is read next tells

    async def _send_agents(self) -> dict[str, list[str]]:
        agents: dict[str, set[str]] = {}
        for role, answer in await self._supervisor.ask_all("leave", {}):
            agents.setdefault(role, set()).update(answer["agents"])
        return {role: sorted(ids) for role, ids in agents.items()}

    async def _undo(self, left: bool) -> None:
        self._child.kill()
        await trio.to_thread.run_sync(self._child.wait)
        if left:
            await self._supervisor.ask_all("stay", {})

    async def _expect(self, state: str, timeout: float) -> None:
        """Wait for the new process to come that far.

        Raises:
          ControlError: it does not.
        """
        try:
            with trio.fail_after(timeout):
                line = await self._read_line()
        except trio.TooSlowError:
            raise ControlError(
                "failed", f"the new process is not {state} after {timeout:g} s"
            ) from None
        except trio.BrokenResourceError:
            line = b""
        message: dict[str, Any] = json.loads(line) if line else {}
        if "error" in message:
            error = ControlError.from_map(message["error"])
            text = f"the new process does not start: {error.message}"
            raise ControlError(error.code, text, error.hint)
        if message.get("state") != state:
            raise ControlError(
                "failed", "the new process has ended without a word", "see the daemon's log"
            )

    async def _read_line(self) -> bytes:
        while b"\n" not in self._kept and len(self._kept) < MAX_LINE:
            octets = await self._line.receive_some()
            if not octets:
                return b""
            self._kept += octets
        line, _, rest = bytes(self._kept).partition(b"\n")
        self._kept[:] = rest
        return line
