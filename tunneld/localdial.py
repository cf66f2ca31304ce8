"""One dial that a role makes for a client of the control socket, on a copy of its socket."""

import select
import socket
from collections.abc import Callable
from typing import TypeAlias

import structlog
import trio

from ctl.messages import ControlError, Message, encode
from tunneld.role import Role
from tunneld.rolestatus import reason_of

log = structlog.get_logger(__name__)

Accept: TypeAlias = Callable[[str], bytes]
"""Gives, for the agent's id, the octets to send ahead of the endpoint's."""

HANGUP_INTERVAL = 0.25
"""Seconds between looks whether the client of a pending dial is still there."""


class LocalDial:
    """From the dial to the end of the connection; `decided` is when it stands or has failed."""

    def __init__(self, sock: socket.socket, host: str, port: int) -> None:
        """Take over ``sock``, non-blocking."""
        self.decided = trio.Event()
        self.error: ControlError | None = None
        self.scope = trio.CancelScope()
        self._sock = sock
        self._host = host
        self._port = port

    async def run(self, role: Role, accept: Accept) -> None:
        """Have ``role`` dial and carry the connection to its end. Raises nothing."""

        def accepted(agent: str) -> bytes:
            self.decided.set()
            return accept(agent)

        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    await role.dial_local(self._sock, self._host, self._port, accepted)
                    nursery.cancel_scope.cancel()
        except* ControlError as group:
            self._fail(_first(group))
        except* Exception as group:
            log.exception("dial failed", host=self._host, port=self._port)
            self._fail(ControlError("internal", reason_of(group), "see the daemon's log"))
        finally:
            self._fail(ControlError("failed", "the dial was given up: its role was stopped"))

    def _fail(self, error: ControlError) -> None:
        if not self.decided.is_set():
            self.error = error
            self._sock.close()
            self.decided.set()

    async def _watch(self) -> None:
        """Give up when the client closes its socket before there is anything to carry.

        A client that has ended its sending side only still waits, which epoll shows as readable
        all the time: hence the looks at intervals.
        """
        poll = select.poll()
        poll.register(self._sock, 0)
        while not self.decided.is_set():
            if any(events & select.POLLHUP for _, events in poll.poll(0)):
                self.scope.cancel()
            await trio.sleep(HANGUP_INTERVAL)


def encode_reply(reply: Message, agent: str) -> bytes:
    """The reply to the client of a dial that succeeded, completed by the way it takes."""
    result: Message = reply["result"]
    way = f"{result.get('server')} via agent {agent}"
    return encode({**reply, "result": {**result, "agent": agent, "peer": way}})


def _first(group: BaseExceptionGroup[ControlError]) -> ControlError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
