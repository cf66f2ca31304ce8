"""A role that runs in several processes: a worker for each, and one role to look at.

A server's processes are servers of their own, with an id each: the kernel deals TCP connections
out to their listening sockets (SO_REUSEPORT), a UNIX socket and an inherited one they all accept
from, and an agent connects until it has a tunnel to each. An agent's processes are agents of the
same id.
"""

import itertools
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import trio

from ctl.messages import ControlError, Message
from tunneld.accepting import close_listener, listen_unix, shared_address
from tunneld.buffers import default_limit
from tunneld.config import RoleConfig, ServerConfig, processes_of
from tunneld.configcheck import listeners_of
from tunneld.inherited import UNIX
from tunneld.listening import claim_listeners
from tunneld.prepared import FileChange
from tunneld.role import RoleError, RoleState
from tunneld.rolegroup import Row
from tunneld.rolestatus import RoleStatus
from tunneld.workerlink import gone
from tunneld.workplace import ASK_TIMEOUT, Enter, Premises, Workplace

_WORST_FIRST = (
    RoleState.FAILED,
    RoleState.BACKOFF,
    RoleState.STARTING,
    RoleState.DRAINING,
    RoleState.READY,
    RoleState.STOPPED,
)
"""The first of these that a process is in is the state of the role."""


class Team:
    """See the module. `run` keeps the workers alive while the role runs.

    Args:
      config: of a role with more than one process.
    """

    def __init__(self, config: RoleConfig, enter: Enter, premises: Premises) -> None:
        self._name = config.name
        self._enter = enter
        self._premises = premises
        self._size = processes_of(config)
        self._statuses = [RoleStatus(RoleState.STOPPED)] * self._size
        self._status = RoleStatus(RoleState.STOPPED)
        self._listeners: dict[str, list[socket.socket]] = {}
        """Of what the processes can't open each for itself, by address."""
        self._places: list[Workplace] = []
        self._turns = itertools.count()
        self._hired = trio.Event()
        self._dismissed = trio.Event()
        self._scope: trio.CancelScope | None = None

    @property
    def pid(self) -> int | None:
        """Of the first worker that there is."""
        return next((place.pid for place in self._places if place.pid is not None), None)

    async def run(self) -> None:
        """Employ workers until cancelled, which ends the last ones."""
        while True:
            await self._hired.wait()
            self._hired = trio.Event()
            if not self._places:
                continue
            try:
                async with trio.open_nursery() as nursery:
                    self._scope = nursery.cancel_scope
                    for place in self._places:
                        nursery.start_soon(place.run)
            finally:
                self._scope = None
                self._places = []
                self._close_listeners()
                self._dismissed.set()

    def start(self, config: RoleConfig) -> None:
        """Have the workers run the role."""
        try:
            self._listen(config)
        except RoleError as exc:
            self._close_listeners()
            self._say(RoleStatus(RoleState.FAILED, str(exc)))
            return
        descriptors = [sock.fileno() for each in self._listeners.values() for sock in each]
        self._places = [self._place(number, descriptors) for number in range(self._size)]
        for number, place in enumerate(self._places):
            place.start(self._part(config, number))
        self._dismissed = trio.Event()
        self._hired.set()

    async def stop(self, name: str, timeout: float | None = None) -> None:
        """Drain the role and wait for its end, and that of its workers: they hold the listeners.

        Args:
          timeout: as `RoleRunner.stop`.
        """
        async with trio.open_nursery() as nursery:
            for place in self._places:
                nursery.start_soon(place.stop, name, timeout)
        if self._scope is not None:
            self._scope.cancel()
            await self._dismissed.wait()
        else:  # nobody has been employed yet
            self._places = []
            self._close_listeners()

    async def certificates(self) -> list[Row]:
        """As `RoleRunner.certificates`: all processes have the same."""
        rows = await self._gather(Workplace.certificates)
        return list({(row["file"], row["key"], row["subject"]): row for row in rows}.values())

    async def reload(self, config: RoleConfig, *, apply: bool) -> list[FileChange]:
        """As `Workplace.reload`, in all processes.

        Raises:
          ControlError: a file cannot be used, or one does not answer.
        """
        changes: dict[FileChange, None] = {}
        for number, place in enumerate(self._places):
            part = self._part(config, number)
            changes |= dict.fromkeys(await place.reload(part, apply=apply))
        return list(changes)

    async def ask(
        self, name: str, method: str, params: Message, timeout: float = ASK_TIMEOUT
    ) -> list[Message]:
        """The answers of all processes that do answer, each with the number of its ``process``.

        Raises:
          ControlError: none does; the first one's refusal.
        """
        answers: list[Message] = []
        errors: list[ControlError] = []

        async def ask_one(number: int, place: Workplace) -> None:
            try:
                for each in await place.ask(name, method, params, timeout):
                    answers.append({**each, "process": number})
            except ControlError as exc:
                errors.append(exc)

        async with trio.open_nursery() as nursery:
            for number, place in enumerate(self._places, 1):
                nursery.start_soon(ask_one, number, place)
        if not answers:
            raise errors[0] if errors else gone()
        return answers

    async def dial(
        self, name: str, sock: socket.socket, host: str, port: int, reply: Message
    ) -> None:
        """As `Workplace.dial`, by the processes that are ready in turn.

        Raises:
          ControlError: the dial failed.
        """
        ready = self._ready
        if not ready:
            sock.close()
            raise gone()
        await ready[next(self._turns) % len(ready)].dial(name, sock, host, port, reply)

    @property
    def _ready(self) -> list[Workplace]:
        return [
            place
            for number, place in enumerate(self._places)
            if self._statuses[number].state is RoleState.READY
        ]

    def _place(self, number: int, descriptors: list[int]) -> Workplace:
        memory = self._premises.buffer_memory or default_limit()
        premises = replace(
            self._premises,
            report=lambda _, status: self._told(number, status),
            buffer_memory=memory // self._size,
        )
        return Workplace(f"{self._name}/{number + 1}", self._enter, premises, descriptors)

    def _part(self, config: RoleConfig, number: int) -> RoleConfig:
        """What one of the processes runs."""
        if not isinstance(config, ServerConfig):
            return msgspec.structs.replace(config, processes=1)
        server_id = config.server_id and f"{config.server_id}-{number + 1}"
        frontends = tuple(
            msgspec.structs.replace(each, listen=self._address(each.listen))
            for each in config.frontends
        )
        forwards = tuple(
            msgspec.structs.replace(each, listen=self._address(each.listen))
            for each in config.forwards
        )
        tunnel = msgspec.structs.replace(config.tunnel, listen=self._address(config.tunnel.listen))
        websocket = config.websocket and msgspec.structs.replace(
            config.websocket, listen=self._address(config.websocket.listen)
        )
        return msgspec.structs.replace(
            config,
            processes=1,
            reuse_port=True,
            server_id=server_id,
            server_count=config.server_count * self._size,
            frontends=frontends,
            forwards=forwards,
            tunnel=tunnel,
            websocket=websocket,
        )

    def _address(self, listen: str) -> str:
        """Where one of the processes listens instead."""
        return shared_address(self._listeners[listen]) if listen in self._listeners else listen

    def _listen(self, config: RoleConfig) -> None:
        """On UNIX sockets, which the kernel does not share by itself, and on what this process has
        inherited; that is of its own namespace.

        Raises:
          RoleError: that failed.
        """
        if not isinstance(config, ServerConfig):
            return
        for listen, _ in listeners_of(config, config.name):
            address = listen
            if address.startswith(UNIX):
                address = f"{UNIX}{self._premises.state_dir / address.removeprefix(UNIX)}"
            taken = claim_listeners(address) if config.namespace is None else []
            if taken:
                self._listeners[listen] = taken
            elif address.startswith(UNIX):
                self._listeners[listen] = [listen_unix(address)]

    def _close_listeners(self) -> None:
        while self._listeners:
            for sock in self._listeners.popitem()[1]:
                close_listener(sock)

    async def _gather(self, ask: Callable[[Workplace], Awaitable[list[Row]]]) -> list[Row]:
        rows: list[Row] = []

        async def ask_one(place: Workplace) -> None:
            rows.extend(await ask(place))

        async with trio.open_nursery() as nursery:
            for place in self._places:
                nursery.start_soon(ask_one, place)
        return rows

    def _told(self, number: int, status: RoleStatus) -> None:
        """One process has a new status."""
        self._statuses[number] = status
        states = [each.state for each in self._statuses]
        worst = min(states, key=_WORST_FIRST.index)
        number = states.index(worst)
        status = self._statuses[number]
        reason = status.reason
        if reason and len(set(states)) > 1:
            reason = f"process {number + 1} of {self._size}: {reason}"
        since = self._status.since if worst is self._status.state else status.since
        restarts = sum(each.restarts for each in self._statuses)
        self._say(RoleStatus(worst, reason, since, restarts, status.addresses))

    def _say(self, status: RoleStatus) -> None:
        self._status = status
        self._premises.report(self._name, status)
