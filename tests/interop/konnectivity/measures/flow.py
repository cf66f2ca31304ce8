"""One connection that stands still, and those beside it; octets in flight when one is closed."""

import trio

from tests.interop.konnectivity.cell import Kind
from tests.interop.konnectivity.exchange import send
from tests.interop.konnectivity.measures.bench import Bench, Row, others_move, standstill
from tests.interop.konnectivity.nurseries import open_plain_nursery
from tests.interop.konnectivity.steps import until
from tests.interop.konnectivity.targets import (
    SMALL_BUFFER,
    Target,
    echo,
    endless,
    never_read,
    open_target,
    read_late,
)

KINDS = (Kind.CONNECT_TLS, Kind.SINGLE_USE)
QUEUED = 160_000
"""Octets that a client sends before it closes."""


async def slow_reader(bench: Bench) -> list[Row]:
    """A client that asks for an endless answer and reads nothing of it."""
    rows = []
    for kind in KINDS:
        async with (
            bench.cell(kind) as cell,
            open_target(endless) as source,
            open_target(echo) as other,
        ):
            witness = await cell.client.dial(other.address)
            slow = await cell.client.dial(source.address)
            await slow.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await standstill(lambda: source.sent)
            rows.append(
                (f"one slow reader, {kind}", await others_move(cell, witness, other.address))
            )
            for stream in (slow, witness):
                await trio.aclose_forcefully(stream)
    return rows


async def stuck_target(bench: Bench) -> list[Row]:
    """A target that reads nothing, and a client that sends to it what it can."""
    rows = []
    for kind in KINDS:
        async with (
            bench.cell(kind) as cell,
            open_target(never_read, SMALL_BUFFER) as stuck,
            open_target(echo) as other,
            open_plain_nursery() as nursery,
        ):
            witness = await cell.client.dial(other.address)
            stream = await cell.client.dial(stuck.address)
            nursery.start_soon(_fill, stream, stuck)
            await standstill(lambda: stuck.sent)
            rows.append(
                (f"one stuck target, {kind}", await others_move(cell, witness, other.address))
            )
            nursery.cancel_scope.cancel()
    return rows


async def _fill(stream: trio.abc.Stream, target: Target) -> None:
    """Send to a target without end, until the connection is over; put down there how much."""

    async def send_all() -> None:
        while True:
            await stream.send_all(bytes(1 << 15))
            target.sent += 1 << 15

    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(send_all)
            await stream.receive_some()
            nursery.cancel_scope.cancel()
    except trio.BrokenResourceError:
        return


async def queued_then_closed(bench: Bench) -> list[Row]:
    """A client that sends and closes at once, and a target that reads only a second later."""
    rows = []
    for kind in KINDS:
        async with bench.cell(kind) as cell, open_target(read_late, SMALL_BUFFER) as target:
            stream = await cell.client.dial(target.address)
            with trio.move_on_after(5):
                await send(stream, bytes(QUEUED))
            await stream.aclose()
            await trio.sleep(1)
            target.go.set()
            with trio.move_on_after(15):
                await until(lambda: not target.open)
            what = f"{QUEUED // 1000} KB queued, then closed, {kind}: octets delivered"
            rows.append((what, f"{target.received} of {QUEUED}"))
    return rows
