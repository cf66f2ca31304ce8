"""Mixed load for `soak`: what a client does with one dial, well-behaved or not."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.interop.konnectivity.clients import Client, DialError
from tests.interop.konnectivity.exchange import (
    IncompleteError,
    Reader,
    UnexpectedError,
    body_of,
    get,
    pattern,
    post,
)
from tests.interop.konnectivity.steps import begin, say
from tests.interop.konnectivity.targets import (
    GREETING,
    SMALL_BUFFER,
    Target,
    Unanswering,
    break_off,
    echo,
    endless,
    http,
    open_target,
    refusing,
    speak,
    stall,
)

ACTION_TIMEOUT = 90.0
"""Seconds; more than any of the programs waits for anything."""

PAUSE = 0.2
"""At most that many seconds between two actions of a worker."""


@dataclass
class Targets:
    """One of each kind, for a whole run."""

    http: Target
    speaker: Target
    echo: Target
    endless: Target
    breaking: Target
    stuck: Target
    unanswering: str
    refused: str = field(default_factory=refusing)

    @property
    def open(self) -> int:
        targets = (self.http, self.speaker, self.echo, self.endless, self.breaking, self.stuck)
        return sum(target.open for target in targets)


@asynccontextmanager
async def open_targets() -> AsyncIterator[Targets]:
    with Unanswering() as unanswering:
        async with (
            open_target(http) as plain,
            open_target(speak) as speaker,
            open_target(echo) as back,
            open_target(endless) as source,
            open_target(break_off) as breaking,
            open_target(stall, SMALL_BUFFER) as stuck,
        ):
            yield Targets(plain, speaker, back, source, breaking, stuck, unanswering.address)


async def small_post(client: Client, targets: Targets) -> None:
    octets = pattern(random.choice((1, 100, 10_000)))
    stream = await client.dial(targets.http.address)
    assert await post(stream, octets) == body_of(octets)
    await stream.aclose()


async def large_get(client: Client, targets: Targets) -> None:
    stream = await client.dial(targets.http.address)
    assert await get(stream, 1 << 20) == body_of(pattern(1 << 20))
    await stream.aclose()


async def greeting(client: Client, targets: Targets) -> None:
    stream = await client.dial(targets.speaker.address)
    try:
        assert await Reader(stream).exactly(len(GREETING)) == GREETING
    finally:
        await trio.aclose_forcefully(stream)


async def held(client: Client, targets: Targets) -> None:
    """A connection that is idle for a while."""
    stream = await client.dial(targets.echo.address)
    await say(stream, b"one")
    await trio.sleep(random.uniform(0, 3))
    await say(stream, b"two")
    await stream.aclose()


async def refused(client: Client, targets: Targets) -> None:
    try:
        await client.dial(targets.refused)
    except DialError as exc:
        if "connection refused" not in str(exc):
            raise


async def abandoned(client: Client, targets: Targets) -> None:
    """A dial that its client gives up."""
    with trio.move_on_after(random.uniform(0.01, 1)):
        await client.dial(targets.unanswering)


async def cut_off(client: Client, targets: Targets) -> None:
    """A client that has enough amid an answer."""
    stream = await client.dial(targets.endless.address)
    await begin(stream)
    await trio.aclose_forcefully(stream)


async def broken_off(client: Client, targets: Targets) -> None:
    """A target that resets, maybe before its agent has seen that the dial succeeded."""
    try:
        stream = await client.dial(targets.breaking.address)
    except DialError as exc:
        if "connection reset" not in str(exc).lower():
            raise
        return
    try:
        await Reader(stream).exactly(1 << 30)
    except IncompleteError:
        pass
    finally:
        await trio.aclose_forcefully(stream)


async def unread(client: Client, targets: Targets) -> None:
    """A client that does not read, and goes."""
    stream = await client.dial(targets.endless.address)
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
    await trio.sleep(random.uniform(0.1, 1))
    await trio.aclose_forcefully(stream)


async def untaken(client: Client, targets: Targets) -> None:
    """A target that does not read at first, and a client that goes."""
    stream = await client.dial(targets.stuck.address)
    with trio.move_on_after(random.uniform(0.1, 1)):
        try:
            await stream.send_all(bytes(1 << 20))
        except trio.BrokenResourceError:
            pass
    await trio.aclose_forcefully(stream)


Action = Callable[[Client, Targets], Awaitable[None]]

WEIGHTS: dict[Action, int] = {
    small_post: 30,
    greeting: 15,
    held: 10,
    large_get: 8,
    refused: 8,
    abandoned: 8,
    cut_off: 8,
    broken_off: 8,
    unread: 3,
    untaken: 2,
}


async def work(client: Client, targets: Targets, until: float, outcomes: Counter[str]) -> None:
    """One action after the other, up to a time; counts what came of them."""
    actions, weights = list(WEIGHTS), list(WEIGHTS.values())
    while trio.current_time() < until:
        action = random.choices(actions, weights)[0]
        outcome = await _outcome(action(client, targets))
        outcomes[f"{action.__name__}: {outcome}"] += 1
        await trio.sleep(random.uniform(0, PAUSE))


async def _outcome(action: Awaitable[None]) -> str:
    try:
        with trio.fail_after(ACTION_TIMEOUT):
            await action
    except (DialError, IncompleteError, UnexpectedError, AssertionError) as exc:
        return f"{type(exc).__name__} {exc}"[:120]
    except trio.BrokenResourceError:
        return "broken"
    except trio.TooSlowError:
        return f"not in {ACTION_TIMEOUT:.0f} s"
    return "ok"
