"""The clients, run in `public`: `python -m tests.e2e.turmoil.clients PKI SLOTS SEED`.

Each slot has one connection at a time, that lives for some seconds or minutes and is followed by
another at once, whatever ended it; newcomers come beside them all the time. Orders by stdin.
"""

import itertools
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from tests.e2e.conftest import PRIVATE, SERVER
from tests.e2e.turmoil.conversation import Conversation, Mode, Outcome
from tests.e2e.turmoil.line import Frontend, RefusedError
from tests.e2e.turmoil.orders import Answer, obey

ADDRESS = (SERVER, 8090)
PORT = 4100
DESTINATIONS = (f"{PRIVATE}:{PORT}", f"127.0.0.1:{PORT}")
"""Two agents: the one that claims the private address, and the one that claims loopback."""

PACE = 0.4
LIFETIME = (8.0, 90.0)
"""Seconds that a connection of a slot lives, by chance between these."""
NEWCOMERS = 3
NEWCOMER_PACE = 0.15
NEWCOMER_TIMEOUT = 5.0
TIMEOUT = 10.0
AGAIN = (0.1, 0.6)
"""Seconds before a slot that was refused tries again."""


class Clients:
    """All of them."""

    def __init__(self, pki: Path, slots: int, seed: int, nursery: trio.Nursery) -> None:
        self._frontend = Frontend(ADDRESS, pki)
        self._slots = slots
        self._seed = seed
        self._nursery = nursery
        self._numbers = itertools.count(1)
        self._live: dict[int, Conversation] = {}
        self._stop = trio.Event()
        self._running = 0
        self._stalled_until = 0.0
        self._mark = 0.0
        self._outcomes: Counter[str] = Counter()
        self._octets = 0
        self._errors: Counter[str] = Counter()
        self._violations: list[str] = []
        self._newcomers: list[tuple[float, float, str]] = []

    # -- orders -----------------------------------------------------------------------------------

    async def begin(self, _: dict[str, Any]) -> Answer:
        """Fill the slots, and have newcomers come."""
        self._stop = trio.Event()
        for slot in range(self._slots):
            self._nursery.start_soon(self._keep, slot)
        for turn in range(NEWCOMERS):
            self._nursery.start_soon(self._come_and_go, turn)
        return {}

    async def end(self, _: dict[str, Any]) -> Answer:
        """Have all end in order."""
        self._stop.set()
        return {}

    async def status(self, _: dict[str, Any]) -> Answer:
        """What there is now, and what has come since the last such order."""
        marked = [each for each in self._live.values() if each.marked == self._mark]
        answer = {
            "now": trio.current_time(),
            "running": self._running,
            "stalled": trio.current_time() < self._stalled_until,
            "live": len(self._live),
            "waiting": sum(1 for each in marked if each.resumed is None),
            "gaps": [each.resumed - self._mark for each in marked if each.resumed is not None],
            "outcomes": dict(self._outcomes),
            "errors": dict(self._errors),
            "octets": self._octets + sum(each.octets for each in self._live.values()),
            "violations": self._violations,
            "newcomers": self._newcomers,
        }
        self._violations, self._newcomers, self._errors = [], [], Counter()
        return answer

    async def mark(self, _: dict[str, Any]) -> Answer:
        """From now on it counts how long the live ones take to complete a round begun since."""
        self._mark = trio.current_time()
        for each in self._live.values():
            if each.mode is Mode.ROUND:
                each.marked, each.resumed = self._mark, None
        return {"now": self._mark}

    async def stop_reading(self, order: dict[str, Any]) -> Answer:
        """Those that only receive do not, for a while."""
        self._stalled_until = trio.current_time() + order["seconds"]
        return {"readers": sum(1 for each in self._live.values() if each.mode is Mode.DOWN)}

    async def renew(self, _: dict[str, Any]) -> Answer:
        """Use the certificates that there are now."""
        self._frontend.renew()
        return {}

    async def crowd(self, order: dict[str, Any]) -> Answer:
        """So many more connections at once, for some seconds; how many there were."""
        came: list[str] = []
        async with trio.open_nursery() as nursery:
            for _ in range(order["count"]):
                nursery.start_soon(self._visit, order["seconds"], came)
        return {"came": dict(Counter(came))}

    async def knock(self, order: dict[str, Any]) -> Answer:
        """What a dial of ``destination`` comes to: "" or why not."""
        try:
            async with self._frontend.open(order["destination"], TIMEOUT):
                return {"refused": ""}
        except RefusedError as exc:
            return {"refused": str(exc)}

    # -- connections ------------------------------------------------------------------------------

    async def _wait(self) -> None:
        await trio.sleep_until(self._stalled_until)

    async def _keep(self, slot: int) -> None:
        """One slot."""
        chance = random.Random(f"{self._seed}/{slot}")
        mode = {0: Mode.DOWN, 1: Mode.UP}.get(slot % 10, Mode.ROUND)
        self._running += 1
        while not self._stop.is_set():
            destination = DESTINATIONS[slot % 4 == 3]
            try:
                async with self._frontend.open(destination, TIMEOUT, http2=slot % 5 == 2) as peer:
                    talk = Conversation(peer, next(self._numbers), mode, PACE, chance, self._wait)
                    await self._finish(talk, chance.uniform(*LIFETIME))
            except RefusedError:
                await trio.sleep(chance.uniform(*AGAIN))
        self._running -= 1

    async def _finish(self, talk: Conversation, seconds: float) -> None:
        self._live[talk.number] = talk
        outcome = await talk.run(self._stop, seconds)
        self._octets += talk.octets
        del self._live[talk.number]
        self._outcomes[outcome] += 1
        if outcome is Outcome.BROKEN:
            self._errors[talk.error] += 1
        elif outcome is not Outcome.COMPLETE:
            self._violations.append(f"client: {talk.error}")

    async def _come_and_go(self, turn: int) -> None:
        """Newcomers, one after the other."""
        chance = random.Random(f"{self._seed}/newcomer/{turn}")
        self._running += 1
        while not self._stop.is_set():
            begun = trio.current_time()
            why = await self._come(chance)
            self._newcomers.append((begun, trio.current_time(), why))
            await trio.sleep(chance.uniform(0.5, 1.5) * NEWCOMER_PACE)
        self._running -= 1

    async def _come(self, chance: random.Random) -> str:
        """A connection with two rounds; "" or why it failed."""
        destination = chance.choice(DESTINATIONS)
        try:
            async with self._frontend.open(destination, NEWCOMER_TIMEOUT) as peer:
                talk = Conversation(peer, next(self._numbers), Mode.ROUND, 0.02, chance, self._wait)
                outcome = await talk.run(self._stop, 0.01)
        except RefusedError as exc:
            return str(exc)
        self._octets += talk.octets
        if outcome in (Outcome.TRUNCATED, Outcome.WRONG, Outcome.HUNG):
            self._violations.append(f"client: newcomer: {talk.error}")
        return "" if outcome is Outcome.COMPLETE else f"{outcome}: {talk.error}"

    async def _visit(self, seconds: float, came: list[str]) -> None:
        try:
            async with self._frontend.open(DESTINATIONS[0], seconds):
                came.append("")
                await trio.sleep(seconds)
        except RefusedError as exc:
            came.append(str(exc))


async def main(pki: Path, slots: int, seed: int) -> None:
    async with trio.open_nursery() as nursery:
        clients = Clients(pki, slots, seed, nursery)
        await obey(
            {
                "begin": clients.begin,
                "end": clients.end,
                "status": clients.status,
                "mark": clients.mark,
                "stall": clients.stop_reading,
                "renew": clients.renew,
                "crowd": clients.crowd,
                "knock": clients.knock,
            }
        )
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
