"""Roles that do as they are told."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from ctl.messages import ControlError
from tunneld.config import RoleConfig
from tunneld.role import Host, Role, RoleError, RoleState


@dataclass
class Script:
    """How the next roles behave, and what became of those before."""

    run: Callable[[], None] = lambda: None
    """Called when a role starts; may raise."""
    construct: Callable[[], None] = lambda: None
    """Called when one is made; may raise."""
    connected: bool = True
    """Whether they become ready."""
    busy: bool = False
    """Whether they go on when told to drain."""
    started: list[float] = field(default_factory=list)
    """Trio times of their starts."""
    drained: int = 0
    cancelled: int = 0
    roles: list["FakeRole"] = field(default_factory=list)
    """Those that run."""

    def factory(self, config: RoleConfig, host: Host) -> Role:
        self.construct()
        return FakeRole(config, host, self)


class FakeRole(Role):
    """Listens nowhere; ends when told to, by the script or by a drain."""

    def __init__(self, config: RoleConfig, host: Host, script: Script) -> None:
        self.config = config
        self.host = host
        self.script = script
        self.broken = trio.Event()
        self.error: Exception | None = None
        self.dialled: list[tuple[str, int]] = []
        self.answer_dial = trio.Event()
        self.given_up = 0

    async def run(self, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED) -> None:
        self.script.started.append(trio.current_time())
        self.script.run()
        self.script.roles.append(self)
        self.script.cancelled += 1  # unless it ends otherwise
        try:
            if self.script.connected:
                task_status.started([f"{self.config.name}:1"])
            await self._wait_for_end()
            self.script.cancelled -= 1
        except Exception:
            self.script.cancelled -= 1
            raise
        finally:
            self.script.roles.remove(self)

    async def _wait_for_end(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_drain, nursery.cancel_scope)
            await self.broken.wait()
            if self.error is not None:
                raise self.error
            nursery.cancel_scope.cancel()

    async def _wait_for_drain(self, scope: trio.CancelScope) -> None:
        await self.host.drain.wait()
        if self.script.busy:
            await trio.sleep_forever()
        self.script.drained += 1
        scope.cancel()

    def end(self, error: Exception | None = None) -> None:
        """Have `run` return, or raise ``error``."""
        self.error = error
        self.broken.set()

    def say(self, state: RoleState, reason: str) -> None:
        self.host.set_state(state, reason)

    def agents(self) -> list[dict[str, Any]]:
        return [{"id": "demo"}]

    def conns(self) -> list[dict[str, Any]]:
        return [
            {"id": number, "destination": f"{h}:{p}"} for number, (h, p) in enumerate(self.dialled)
        ]

    async def dial_local(
        self, sock: socket.socket, host: str, port: int, accept: Callable[[str], bytes]
    ) -> None:
        """``refused`` is refused, ``slow`` takes its time, ``bug`` is one; any other name is
        connected to an endpoint that answers each octet by one more."""
        self.dialled.append((host, port))
        if host == "refused":
            raise ControlError("refused", f"{host}:{port} refused", "try another")
        if host == "slow":
            self.given_up += 1  # unless it is answered
            await self.answer_dial.wait()
            self.given_up -= 1
        if host == "bug":
            raise ZeroDivisionError("division by zero")
        with trio.socket.from_stdlib_socket(sock) as stream:
            await stream.send(accept("demo"))
            while data := await stream.recv(100):
                await stream.send(bytes(octet + 1 for octet in data))
            await stream.send(b"end")


def cannot_start() -> None:
    raise RoleError("cannot read server.crt: No such file or directory")
