"""What `tunnelctl agents` shows of a server, and what `tunnelctl kill` ends."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

from tunneld.conns import DIALLING, MAX_TEXT, Conn, Conns
from tunneld.events import Event, emit
from tunneld.listing import client_names
from tunneld.server.registry import Registry, Tunnel


@dataclass(slots=True)
class _Sum:
    """Of the connections of one tunnel."""

    pending: int = 0
    rate_sent: float = 0.0
    rate_received: float = 0.0
    queue: int = 0
    stalled: int = 0

    def add(self, conn: Conn) -> None:
        fares = conn.fares()
        self.pending += conn.state == DIALLING
        self.rate_sent += fares.rates.sent
        self.rate_received += fares.rates.received
        self.queue += fares.queue
        self.stalled += fares.stall is not None


def agent_rows(server: str, registry: Registry, conns: Conns) -> list[dict[str, Any]]:
    """A row for each tunnel, oldest first."""
    sums: defaultdict[int, _Sum] = defaultdict(_Sum)
    for conn in conns:
        sums[id(conn.link)].add(conn)
    return [_row(server, tunnel, sums[id(tunnel)]) for tunnel in registry.tunnels]


def _row(server: str, tunnel: Tunnel, total: _Sum) -> dict[str, Any]:
    return {
        "server": server,
        "id": tunnel.info.agent_id[:MAX_TEXT],
        "identity": tunnel.identity[:MAX_TEXT],
        "identifiers": tunnel.claims.identifiers,
        "peer": tunnel.peer,
        "protocol": tunnel.protocol,
        "version": tunnel.info.version[:MAX_TEXT],
        "since": tunnel.since,
        "rtt_ms": None if tunnel.rtt is None else tunnel.rtt * 1000,
        "conns": tunnel.conns,
        "pending": total.pending,
        "dials": tunnel.dials,
        "rate_sent": round(total.rate_sent, 1),
        "rate_received": round(total.rate_received, 1),
        "queue": total.queue,
        "stalled": total.stalled,
        "draining": tunnel.draining,
        "state": tunnel.state,
    }


def kill(
    registry: Registry,
    conns: Conns,
    what: Literal["conn", "client", "agent"],
    name: str,
    reason: str,
) -> list[str]:
    """As `tunneld.role.Role.kill`."""
    if what == "agent":
        tunnels = [each for each in registry.tunnels if each.info.agent_id == name]
        for tunnel in tunnels:
            emit(Event.AGENT_KILLED, agent=name, peer=tunnel.peer, reason=reason)
            tunnel.kill(f"killed: {reason}" if reason else "killed")
        return [tunnel.peer for tunnel in tunnels]
    if what == "conn":
        return conns.kill(name, reason)
    caller = [each for each in conns if name in client_names(each.caller.name, each.caller.address)]
    for conn in caller:
        conn.kill(reason)
    return [conn.dial for conn in caller]
