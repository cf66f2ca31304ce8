"""A server's listeners: who may come in, and when; in an upgrade agents leave by one process and
come in by the next before clients do (`tunneld.upgrade`)."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import trio
from msgspec import Struct

from tunneld.accepting import accept_each, accept_rest, address_of, close_listener, listen
from tunneld.handover import AGENT_WAIT, PATIENCE
from tunneld.inherited import UNIX, LentListener
from tunneld.questions import Answers
from tunneld.request import Nothing
from tunneld.role import Host
from tunneld.server.dialer import Dialer
from tunneld.server.registry import Registry

Handler: TypeAlias = Callable[[socket.socket], Awaitable[None]]
Listener: TypeAlias = tuple[socket.socket, Handler]
"""A listening socket, and what serves its connections."""


class Open(Struct, frozen=True):
    """Parameters of ``open``."""

    agents: list[str]
    """Ids of those that are on their way."""


class Doors:
    """See the module.

    Args:
      reuse_port: whether each process has TCP sockets of its own on the same ports.
    """

    def __init__(self, host: Host, registry: Registry, dialer: Dialer, *, reuse_port: bool) -> None:
        self._host = host
        self._registry = registry
        self._dialer = dialer
        self._reuse_port = reuse_port
        self._leaving = trio.Event()
        self._staying = trio.Event()
        self._serving = trio.Event()

    def answers(self) -> Answers:
        """What the supervisor asks in an upgrade: the old process ``leave`` and ``stay``, a worker
        of the new one ``open``."""
        return {
            "leave": (Nothing, self._leave),
            "stay": (Nothing, self._stay),
            "open": (Open, self._open),
        }

    async def accept(
        self,
        for_clients: list[Listener],
        for_agents: list[Listener],
        clients: trio.Nursery,
        agents: trio.Nursery,
    ) -> None:
        """Accept until the role drains; connections are served in the nurseries, which they
        outlast."""
        async with trio.open_nursery() as accepting:
            accepting.start_soon(self._accept_agents, for_agents, agents)
            accepting.start_soon(self._accept_clients, for_clients, clients)
            await self._host.drain.wait()
            accepting.cancel_scope.cancel()
        _close(for_clients, clients)
        _close(for_agents, agents)

    async def _accept_clients(self, listeners: list[Listener], clients: trio.Nursery) -> None:
        """Accept until cancelled; where we take over from another process, once agents are here."""
        handover, name = self._host.handover, self._host.name
        try:
            if handover is not None:
                handover.arrive(name)
                coming = await handover.wait(name)
                with trio.move_on_after(PATIENCE):
                    await self._registry.wait_for(coming)
                self._dialer.wait_for_agents(AGENT_WAIT)
                handover.leave(name)
            self._serving.set()
            async with trio.open_nursery() as accepting:
                for sock, handler in listeners:
                    accepting.start_soon(accept_each, sock, handler, clients)
        finally:
            if handover is not None:
                handover.leave(name)

    async def _accept_agents(self, listeners: list[Listener], agents: trio.Nursery) -> None:
        """Accept until cancelled, but for the time when agents shall go to another process."""
        while True:
            async with trio.open_nursery() as accepting:
                for sock, handler in listeners:
                    accepting.start_soon(accept_each, sock, handler, agents)
                await self._leaving.wait()
                accepting.cancel_scope.cancel()
            closed = self._close_own(listeners, agents) if self._reuse_port else []
            await self._staying.wait()
            for address, handler in closed:
                socks = await listen(address, reuse_port=True)
                listeners += [(sock, handler) for sock in socks]

    def _close_own(
        self, listeners: list[Listener], agents: trio.Nursery
    ) -> list[tuple[str, Handler]]:
        """Close what the kernel would give agents to that nobody accepts; what that was."""
        own = [each for each in listeners if not isinstance(each[0], LentListener)]
        closed = [(address_of(sock), handler) for sock, handler in own]
        _close(own, agents)
        for each in own:
            listeners.remove(each)
        return closed

    async def _leave(self, _: Nothing) -> dict[str, Any]:
        """Send the agents to the process that takes over, by the same listeners."""
        self._staying = trio.Event()
        self._leaving.set()
        return {"agents": sorted(self._registry.leave())}

    async def _stay(self, _: Nothing) -> dict[str, Any]:
        """Nobody has taken over: take agents again."""
        self._leaving = trio.Event()
        self._staying.set()
        return {}

    async def _open(self, params: Open) -> dict[str, Any]:
        """Open the handover of a worker, which is its own, and answer once clients are served."""
        if self._host.handover is not None:
            self._host.handover.open({self._host.name: set(params.agents)})
        await self._serving.wait()
        return {}


def _close(listeners: list[Listener], connections: trio.Nursery) -> None:
    for sock, handler in listeners:
        accept_rest(sock, handler, connections)
        close_listener(sock)


@asynccontextmanager
async def listening(
    wanted: Sequence[tuple[str, Handler]], path: Callable[[str], str], *, reuse_port: bool
) -> AsyncIterator[list[Listener]]:
    """Listen on each address while the block runs.

    Args:
      path: makes a UNIX socket's path absolute.
    """
    listeners: list[Listener] = []
    try:
        for address, handler in wanted:
            if address.startswith(UNIX):
                address = UNIX + path(address.removeprefix(UNIX))
            listeners += [(sock, handler) for sock in await listen(address, reuse_port=reuse_port)]
        yield listeners
    finally:
        for sock, _ in listeners:
            close_listener(sock)
