"""The agents that are connected, and which of them takes a dial."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tunneld.dialing import NO_AGENT, DialError
from tunneld.server.claims import as_address, normal_name
from tunneld.server.tunnel import Tunnel


class Registry:
    """All tunnels of a server, in order of arrival. One agent id may have several."""

    def __init__(self) -> None:
        self.tunnels: list[Tunnel] = []
        self._empty = trio.Event()

    @contextmanager
    def joined(self, tunnel: Tunnel) -> Iterator[None]:
        """Have ``tunnel`` take dials while the block runs."""
        self.tunnels.append(tunnel)
        try:
            yield
        finally:
            self.tunnels.remove(tunnel)
            if not self.tunnels:
                self._empty.set()

    async def drain(self) -> None:
        """Have every tunnel take no more dials, and return when the last is gone."""
        for tunnel in self.tunnels:
            tunnel.session.drain()
        while self.tunnels:
            self._empty = trio.Event()
            await self._empty.wait()

    def choose(self, host: str) -> Tunnel:
        """The tunnel for a destination: of those whose agent claims it most exactly, the least
        loaded. An exact host or address goes before the longest matching CIDR, that before a
        default route, and that before any agent at all.

        Raises:
          DialError: no agent is connected, or none takes dials now.
        """
        usable = [tunnel for tunnel in self.tunnels if tunnel.usable]
        if not usable:
            state = "those connected are draining" if self.tunnels else "none is connected"
            text = f"currently no tunnels available: No agent available ({state})"
            raise DialError(NO_AGENT, text)
        address, name = as_address(host), normal_name(host)
        ranks = [tunnel.claims.rank(name, address) for tunnel in usable]
        best = max(ranks)
        candidates = [t for t, rank in zip(usable, ranks, strict=True) if rank == best]
        return min(candidates, key=lambda tunnel: tunnel.conns)
