"""One run: the schedule, what is watched meanwhile, and what must be true in the end."""

import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.turmoil.faults import FAULTS, Fault
from tests.e2e.turmoil.site import Site, open_site

RECOVERY = 60.0
"""Seconds in which everything must be as it was."""
_SUCCESSES = 3
"""Newcomers in a row that show that they get in again."""
_BREATH = (0.5, 2.0)
"""Seconds of quiet between two events."""
_DESCRIPTORS = 4
"""More than at the beginning that a process may have in the end."""
_MEMORY = 32 << 20
"""Octets likewise: what allocators keep."""
_BAD = re.compile(r"Traceback|internal error|coroutine .* was never awaited")


@dataclass(slots=True)
class Event:
    """What happened, and what came of it."""

    fault: str
    detail: str
    at: float
    """Seconds since the beginning."""
    newcomers: float = 0.0
    """Seconds until they got in again."""
    failed_newcomers: int = 0
    rounds: list[float] = field(default_factory=list)
    """Seconds until each of the surviving connections had completed a round begun since."""
    all_live: float = 0.0
    """Seconds until there were as many connections as before."""
    broken: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """What the newcomers that failed saw."""


@dataclass(slots=True)
class Use:
    """What processes of one kind take, the most of each."""

    descriptors: int
    memory: int
    """Octets, resident."""


@dataclass(slots=True)
class Result:
    """All that a run has found."""

    seed: int
    slots: int
    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    at_endpoint: Counter[str] = field(default_factory=Counter)
    octets: int = 0
    """Verified at either end."""
    newcomers: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Of newcomers, by what they saw."""
    errors: Counter[str] = field(default_factory=Counter)
    """Of connections that broke, by what they saw."""
    violations: list[str] = field(default_factory=list)
    before: dict[str, Use] = field(default_factory=dict)
    after: dict[str, Use] = field(default_factory=dict)


class Trial:
    """See the module; `run` plays it."""

    def __init__(self, site: Site, result: Result, say: Callable[[str], None]) -> None:
        self._site = site
        self._result = result
        self._say = say
        self._slots = result.slots
        self._chance = random.Random(result.seed)
        self._earlier_endpoints = 0
        self._seen: Counter[str] = Counter()
        self._endpoint: dict[str, Any] = {}
        self._client_octets = 0

    def run(self, faults: Iterator[Fault], seconds: float) -> None:
        """Strike until the time is over or the faults are."""
        self._warm_up()
        began = time.monotonic()
        for fault in faults:
            if time.monotonic() - began >= seconds:
                break
            self._play(fault, time.monotonic() - began)
        self._result.seconds = time.monotonic() - began
        self._be_quiet()
        self._result.at_endpoint.update(self._endpoint["outcomes"])
        self._result.after = self._use()
        self._compare()
        self._read_logs()

    # -- the beginning and the end ----------------------------------------------------------------

    def _warm_up(self) -> None:
        """Have everything been used once, and note what the processes take after that."""
        self._site.clients.ask("begin")
        self._await("all connections", lambda status: status["live"] == self._slots)
        time.sleep(1)
        self._be_quiet()
        self._result.before = self._use()
        self._site.clients.ask("begin")
        self._await("all connections", lambda status: status["live"] == self._slots)

    def _be_quiet(self) -> None:
        """Have all connections end in order; none may be left anywhere."""
        self._site.clients.ask("end")
        self._await("the clients' end", lambda status: status["running"] == 0)
        end = time.monotonic() + RECOVERY
        while left := self._connections():
            if time.monotonic() > end:
                self._violate(f"connections left: {left}")
                return
            time.sleep(0.2)

    def _connections(self) -> list[str]:
        site = self._site
        self._ask_endpoint()
        found = [f"endpoint: {self._endpoint['active']}"] if self._endpoint["active"] else []
        for name, host in (("edge", site.edge), ("home", site.home)):
            if conns := host.conns():
                found.append(f"{name}: {len(conns)}, {conns[0]}")
        return found

    def _use(self) -> dict[str, Use]:
        self._site.await_agents()
        return {
            name: Use(max(map(_descriptors, pids)), max(map(_memory, pids)))
            for name, pids in self._site.roles().items()
        }

    def _compare(self) -> None:
        for name, before in self._result.before.items():
            after = self._result.after[name]
            if after.descriptors > before.descriptors + _DESCRIPTORS:
                self._violate(
                    f"{name}: {after.descriptors} descriptors, {before.descriptors} before"
                )
            if after.memory > before.memory + _MEMORY:
                self._violate(f"{name}: {after.memory >> 20} MiB, {before.memory >> 20} before")

    def _read_logs(self) -> None:
        site = self._site
        logs = {"edge": site.edge.log(), "home": site.home.log()}
        for name in ("clients", "endpoint"):
            logs[name] = (site.directory / f"{name}.log").read_text()
        for name, text in logs.items():
            lines = text.splitlines()
            for number, line in enumerate(lines):
                if _BAD.search(line):
                    self._violate(
                        f"log of {name}: " + "\n".join(lines[max(0, number - 1) : number + 25])
                    )
                    break

    # -- an event ---------------------------------------------------------------------------------

    def _play(self, fault: Fault, at: float) -> None:
        self._take(self._site.clients.ask("status"), None)
        self._ask_endpoint()
        site, before = self._site, self._seen["broken"]
        begun = self._mark()
        detail, most = fault.strike(site, self._chance)
        if "endpoint" in fault.name and fault.breaks:
            self._endpoint_is_new()
        event = Event(fault.name, detail, at)
        self._recover(event, begun, self._mark())
        event.broken = self._seen["broken"] - before
        self._judge(fault, event, most)
        self._result.events.append(event)
        rounds = sorted(event.rounds) or [0.0]
        self._say(
            f"{at:6.1f} s  {fault.name} ({detail}): newcomers {event.newcomers:.2f} s, "
            f"{event.failed_newcomers} failed; rounds {rounds[len(rounds) // 2]:.2f} s, "
            f"last {rounds[-1]:.2f} s; {event.broken} broken; all live {event.all_live:.2f} s"
            f"{_listed(event.reasons)}"
        )
        time.sleep(self._chance.uniform(*_BREATH))

    def _mark(self) -> float:
        return float(self._site.clients.ask("mark")["now"])

    def _recover(self, event: Event, begun: float, healed: float) -> None:
        """Watch until everything is as it was.

        Args:
          begun: when it struck; newcomers may fail from then on.
          healed: when nothing stood in the way any more.
        """
        end = time.monotonic() + RECOVERY
        came: list[tuple[float, float, str]] = []
        while True:
            status = self._take(self._site.clients.ask("status"), came)
            if status["live"] < self._slots:
                event.all_live = 0.0
            elif not event.all_live:
                event.all_live = max(status["now"] - healed, 0.001)
            since = _since_last_failure(came, begun, healed)
            # Who does not read does not notice either what breaks next.
            settled = event.all_live and not status["waiting"] and not status["stalled"]
            if settled and len(since) >= _SUCCESSES:
                break
            if time.monotonic() > end:
                self._violate(
                    f"{event.fault} ({event.detail}): not as before after {RECOVERY:g} s: "
                    f"{status['live']} connections, {status['waiting']} without a round, "
                    f"{len(since)} newcomers since the last failure"
                )
                break
            time.sleep(0.1)
        event.rounds = status["gaps"]
        event.newcomers = since[0] - healed if since else RECOVERY
        event.reasons = Counter(why for _, _, why in came if why)
        event.failed_newcomers = event.reasons.total()

    def _judge(self, fault: Fault, event: Event, most: int | None) -> None:
        if event.broken and not fault.breaks:
            self._violate(f"{fault.name} ({event.detail}): {event.broken} connections broke")
        if most is not None and event.broken > most:
            self._violate(f"{fault.name} ({event.detail}): {event.broken} connections broke")
        if event.failed_newcomers and not fault.refuses:
            self._violate(
                f"{fault.name} ({event.detail}): {event.failed_newcomers} newcomers failed"
            )

    # -- counting ---------------------------------------------------------------------------------

    def _take(
        self, status: dict[str, Any], came: list[tuple[float, float, str]] | None
    ) -> dict[str, Any]:
        """Count what a status brings."""
        result = self._result
        result.violations += status["violations"]
        result.errors.update(status["errors"])
        result.newcomers += len(status["newcomers"])
        result.failures.update(why for _, _, why in status["newcomers"] if why)
        self._seen = result.outcomes = Counter(status["outcomes"])
        self._client_octets = status["octets"]
        self._count_octets()
        if came is not None:
            came.extend((a, b, why) for a, b, why in status["newcomers"])
        elif not_expected := [why for _, _, why in status["newcomers"] if why]:
            self._violate(f"newcomers failed between events: {not_expected[:3]}")
        return status

    def _ask_endpoint(self) -> None:
        self._endpoint = self._site.endpoint.ask("status")
        self._result.violations += self._endpoint["violations"]
        self._count_octets()

    def _endpoint_is_new(self) -> None:
        """What the one before has counted still counts."""
        self._earlier_endpoints += self._endpoint["octets"]
        self._result.at_endpoint.update(self._endpoint["outcomes"])
        self._ask_endpoint()

    def _count_octets(self) -> None:
        here = self._endpoint.get("octets", 0)
        self._result.octets = self._client_octets + self._earlier_endpoints + here

    def _await(self, what: str, true: Callable[[dict[str, Any]], bool]) -> None:
        end = time.monotonic() + RECOVERY
        while not true(self._take(self._site.clients.ask("status"), [])):
            if time.monotonic() > end:
                raise TimeoutError(what)
            time.sleep(0.1)

    def _violate(self, what: str) -> None:
        self._result.violations.append(what)
        self._say(f"VIOLATION: {what}")


def _since_last_failure(
    came: Sequence[tuple[float, float, str]], begun: float, healed: float
) -> list[float]:
    """When newcomers that came after that, and after the last that failed, were served."""
    failed = max((start for start, _, why in came if why and start >= begun), default=0.0)
    return sorted(end for start, end, why in came if not why and start >= max(failed, healed))


def _listed(reasons: Counter[str]) -> str:
    return "".join(f"\n{'':10}{number} x {why}" for why, number in reasons.most_common(4))


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _memory(pid: int) -> int:
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return resident * 4096


def schedule(seed: int, faults: Sequence[Fault] = FAULTS) -> Iterator[Fault]:
    """Every fault once in each round, in another order each time."""
    chance = random.Random(f"{seed}/schedule")
    while True:
        yield from chance.sample(faults, len(faults))


def run(
    seconds: float,
    seed: int,
    slots: int,
    faults: Iterator[Fault],
    say: Callable[[str], None] = print,
) -> Result:
    """Build a site, play, remove it; what was found."""
    result = Result(seed, slots)
    with tempfile.TemporaryDirectory(prefix="turmoil-") as directory:
        with open_site(Path(directory), slots, seed) as (site, left):
            Trial(site, result, say).run(faults, seconds)
        result.violations += [f"left: {each}" for each in left]
    return result
