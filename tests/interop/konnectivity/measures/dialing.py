"""How dials start, and what is left of those that were given up."""

import socket

import trio

from tests.interop.konnectivity.cell import Kind
from tests.interop.konnectivity.clients import Client, Connect, DialError, DirtyStartError
from tests.interop.konnectivity.exchange import IncompleteError, Reader
from tests.interop.konnectivity.measures.bench import Bench, Row
from tests.interop.konnectivity.nurseries import open_plain_nursery
from tests.interop.konnectivity.targets import GREETING, hang_up, open_target, reset, speak

END_DIALS = 200
END_WAIT = 2.0
"""Seconds without an end that count as for ever."""

ABANDONED = 20
GIVEN_UP_AFTER = 0.5
SETTLED_AFTER = 8.0
"""Seconds: an agent dials for 5 s, and the kernel repeats a SYN after 1 s and 3 s."""


async def target_speaks_first(bench: Bench) -> list[Row]:
    """How many dials start with something else than the target's first octets."""
    rows = []
    for kind in Kind:
        async with bench.cell(kind) as cell, open_target(speak) as target:
            wrong = 0
            for _ in range(bench.dials):
                wrong += not await _starts_right(cell.client, target.address)
        rows.append((f"target speaks first, {kind}: wrong starts", f"{wrong} of {bench.dials}"))
    return rows


async def _starts_right(client: Client, address: str) -> bool:
    try:
        stream = await client.dial(address)
    except DirtyStartError:
        return False
    try:
        with trio.move_on_after(5):
            return await Reader(stream).exactly(len(GREETING)) == GREETING
        return False
    except IncompleteError:
        return False
    finally:
        await trio.aclose_forcefully(stream)


async def target_ends_first(bench: Bench) -> list[Row]:
    """How many clients wait for ever for the end of a connection that their target ended at once.

    A dial that fails is no fault here: the agent may see a reset before it knows of success.
    """
    rows = []
    for kind in (Kind.SINGLE_USE, Kind.CONNECT_UNIX):
        async with bench.cell(kind) as cell:
            for name, handler in (("closes", hang_up), ("resets", reset)):
                waiting = 0
                async with open_target(handler) as target:
                    for _ in range(END_DIALS):
                        waiting += not await _ends(cell.client, target.address)
                what = f"target {name} at once, {kind}: clients that never see the end"
                rows.append((what, f"{waiting} of {END_DIALS}"))
    return rows


async def _ends(client: Client, address: str) -> bool:
    try:
        stream = await client.dial(address)
    except DialError:
        return True
    with trio.move_on_after(END_WAIT):
        await Reader(stream).some(1)
        await stream.aclose()
        return True
    await trio.aclose_forcefully(stream)
    return False


async def abandoned_dials(bench: Bench) -> list[Row]:
    """Connections to a target that nobody has any more: their clients went before it answered."""
    rows = []
    for kind in Kind:
        async with bench.cell(kind) as cell:
            rows.append(await _abandoned(kind, cell.client))
            if kind is Kind.CONNECT_TLS and isinstance(cell.client, Connect):
                cell.client.abandons_by_reset = True
                rows.append(await _abandoned(f"{kind} by reset", cell.client))
    return rows


async def _abandoned(name: str, client: Client) -> Row:
    left, connected = await _left_of_abandoned(client)
    return f"dials abandoned while pending, {name}: leaked", f"{left} of {connected} that succeeded"


async def _left_of_abandoned(client: Client) -> tuple[int, int]:
    """A listener with a full backlog holds the dials; their clients give up; then it accepts."""
    with trio.socket.from_stdlib_socket(
        socket.create_server(("127.0.0.1", 0), backlog=0)
    ) as listener:
        host, port = listener.getsockname()
        with socket.create_connection((host, port)):
            async with open_plain_nursery() as nursery:
                for _ in range(ABANDONED):
                    nursery.start_soon(_abandon, client, f"{host}:{port}")
        listener.listen(2 * ABANDONED)
        return await _left_open(trio.SocketListener(listener))


async def _abandon(client: Client, address: str) -> None:
    with trio.move_on_after(GIVEN_UP_AFTER):
        try:
            stream = await client.dial(address)
        except DialError:
            return
        await trio.aclose_forcefully(stream)


async def _left_open(listener: trio.SocketListener) -> tuple[int, int]:
    """How many connections were accepted and not ended by the other side; how many were accepted,
    without the one that filled the backlog."""
    left, accepted = 0, -1

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal left, accepted
        left += 1
        accepted += 1
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        left -= 1

    with trio.move_on_after(SETTLED_AFTER):
        await trio.serve_listeners(serve, [listener])
    return left, accepted
