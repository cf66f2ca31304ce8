"""What the measurements share."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import trio

from tests.interop.konnectivity.cell import QUICK, Cell, Kind, make_cell
from tests.interop.konnectivity.clients import Client, DialError
from tests.interop.konnectivity.exchange import IncompleteError
from tests.interop.konnectivity.programs import Maker, World
from tests.interop.konnectivity.steps import say

STANDSTILL = 1.0
"""Seconds without progress after which nothing more is expected."""

PATIENCE = 30.0
"""Seconds that anything else may take; longer counts as never."""

Row = tuple[str, str]
"""What was measured, and what came of it."""


@dataclass(frozen=True)
class Pair:
    """Whose server, whose agent."""

    server: Maker
    agent: Maker

    @classmethod
    def parse(cls, text: str) -> "Pair":
        """``ours`` or ``go`` for both, or SERVER-AGENT."""
        server, _, agent = text.partition("-")
        return cls(Maker(server), Maker(agent or server))

    def __str__(self) -> str:
        return f"{self.server} server, {self.agent} agent"


class Bench:
    """Makes cells of one pair."""

    def __init__(self, pair: Pair, directory: Path, pki: Path, dials: int) -> None:
        self.pair = pair
        self.pki = pki
        self.dials = dials
        self._directory = directory
        self._numbers = count(1)

    def world(
        self, server_flags: tuple[str, ...] = (), agent_flags: tuple[str, ...] = QUICK
    ) -> World:
        """A new one, with a directory of its own."""
        directory = self._directory / str(next(self._numbers))
        directory.mkdir(parents=True)
        return World(directory, self.pki, server_flags, agent_flags)

    @asynccontextmanager
    async def cell(
        self,
        kind: Kind,
        server_flags: tuple[str, ...] = (),
        agent_flags: tuple[str, ...] = (),
    ) -> AsyncIterator[Cell]:
        """A cell that runs."""
        world = self.world(server_flags, (*QUICK, *agent_flags))
        made = make_cell(world, self.pair.server, self.pair.agent, kind)
        try:
            await made.start()
            yield made
        finally:
            made.stop()


async def standstill(progress: Callable[[], int]) -> int:
    """Wait until a count does not grow any more, and give it."""
    seen, since = progress(), trio.current_time()
    while trio.current_time() < since + STANDSTILL:
        await trio.sleep(0.05)
        if progress() != seen:
            seen, since = progress(), trio.current_time()
    return seen


async def seconds(action: Callable[[], Awaitable[object]], limit: float = PATIENCE) -> float:
    """How long it takes; infinity if longer than ``limit``, or if the connection breaks."""
    start = trio.current_time()
    with trio.move_on_after(limit):
        try:
            await action()
        except (DialError, IncompleteError, trio.BrokenResourceError):
            return math.inf
        return trio.current_time() - start
    return math.inf


def in_words(duration: float, limit: float = PATIENCE) -> str:
    if math.isinf(duration):
        return f"not in {limit:.0f} s"
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"


async def others_move(cell: Cell, witness: trio.abc.Stream, address: str) -> str:
    """How long a connection and a new dial to a `targets.echo` take, beside what stands still."""
    connection = await seconds(lambda: say(witness, b"does it move?"))
    dial = await seconds(lambda: dial_and_say(cell.client, address))
    return f"connection {in_words(connection)}, new dial {in_words(dial)}"


async def dial_and_say(client: Client, address: str) -> None:
    stream = await client.dial(address)
    try:
        await say(stream, b"is it there?")
    finally:
        await trio.aclose_forcefully(stream)
