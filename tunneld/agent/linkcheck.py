"""Whether an agent's tunnels work, and how far away their servers are."""

from collections.abc import Sequence

import trio

from tunneld.agent.link import Link
from tunneld.agent.nativelink import NativeLink
from tunneld.agent.packetlink import PacketLink
from tunneld.rolemetrics import Metrics
from tunneld.samples import metric

TIMEOUT = 2.0
"""Seconds for a server to answer a PING."""


async def readiness(links: Sequence[Link], server: str) -> list[tuple[str, str]]:
    """What was looked at, and what is wrong with it: a PING to each server of ours. A konnectivity
    server ends connections that send more of them than it likes; there, those of the keepalive have
    to do.
    """
    if not links:
        return [(f"tunnel to {server}", "there is none")]
    silent = {id(link) for link in links}

    async def ask(link: Link) -> None:
        if isinstance(link, NativeLink):
            await link.session.pings.answered()
        silent.discard(id(link))

    with trio.move_on_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(ask, link)
    problem = f"no answer to a PING in {TIMEOUT:g} s"
    return [
        (f"tunnel to {link.server_id}", problem if id(link) in silent else "") for link in links
    ]


def tunnel_metrics(links: Sequence[Link]) -> Metrics:
    """Round-trip times."""
    rtts = [
        (link.server_id, link.session.pings.rtt)
        for link in links
        if isinstance(link, NativeLink | PacketLink)
    ]
    text = "Round-trip time of the tunnel to a server, of the last PING."
    values = [({"server": server}, rtt) for server, rtt in rtts if rtt is not None]
    return [metric("tunneld_rtt_seconds", "gauge", text, values)]
