"""{our, konnectivity's} server with {our, konnectivity's} agent, and each kind of client.

A cell's processes serve all tests of that cell; those that end one start it again.
"""

import re
import signal
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import trio

from tests.interop.konnectivity.cell import QUICK, Cell, Kind, make_cell, make_client
from tests.interop.konnectivity.clients import DIAL_ID, DialError
from tests.interop.konnectivity.exchange import (
    IncompleteError,
    Reader,
    body_of,
    get,
    pattern,
    post,
)
from tests.interop.konnectivity.nurseries import open_plain_nursery
from tests.interop.konnectivity.programs import Maker, Mode, Server, World
from tests.interop.konnectivity.steps import (
    ENDLESS,
    answers,
    ask,
    begin,
    gets_all,
    say,
    until,
    until_true,
)
from tests.interop.konnectivity.targets import (
    Unanswering,
    echo,
    endless,
    http,
    open_target,
    refusing,
)
from tunneld.pki import Pki

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1000)]  # the first one builds programs

MIB = 1 << 20
LIMIT = 60.0
"""Seconds for any one test, so that it says where it hangs."""

CELLS = list(product(Maker, Maker, Kind))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    Pki(directory).init(["127.0.0.1"], "demo")
    return directory


@pytest.fixture(
    scope="module",
    params=CELLS,
    ids=[f"{server}-server {agent}-agent {kind}" for server, agent, kind in CELLS],
)
def cell(
    request: pytest.FixtureRequest, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cell]:
    server, agent, kind = request.param
    world = World(tmp_path_factory.mktemp("cell"), certificates, agent_flags=QUICK)
    made = make_cell(world, server, agent, kind)
    try:
        trio.run(made.start)
        yield made
    finally:
        made.stop()


async def test_20_mib_go_both_ways_at_once(cell: Cell) -> None:
    octets = pattern(20 * MIB)
    with trio.fail_after(LIMIT):
        async with open_target(http) as target:
            stream = await cell.client.dial(target.address)
            assert await post(stream, octets) == body_of(octets)
            await stream.aclose()


async def test_ten_answers_of_10_mib_come_in_parallel(cell: Cell) -> None:
    wanted = body_of(pattern(10 * MIB))

    async def one(address: str) -> None:
        stream = await cell.client.dial(address)
        assert await get(stream, 10 * MIB) == wanted
        await stream.aclose()

    with trio.fail_after(LIMIT):
        async with open_target(http) as target, open_plain_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one, target.address)


async def test_a_hundred_posts_go_through_while_other_dials_fail(cell: Cell) -> None:
    """Refused, unknown, and never answered: the last takes the agent's 5 s."""
    failed: dict[str, DialError] = {}

    async def fail(name: str, address: str) -> None:
        with pytest.raises(DialError) as info:
            await cell.client.dial(address)
        failed[name] = info.value

    async def one(address: str, number: int) -> None:
        octets = pattern(10_000 + number)
        stream = await cell.client.dial(address)
        assert await post(stream, octets) == body_of(octets)
        await stream.aclose()

    with trio.fail_after(LIMIT), Unanswering() as unanswering:
        async with open_target(http) as target, open_plain_nursery() as nursery:
            nursery.start_soon(fail, "unanswering", unanswering.address)
            nursery.start_soon(fail, "refused", refusing())
            nursery.start_soon(fail, "unknown", "nosuch.invalid:80")
            for number in range(100):
                nursery.start_soon(one, target.address, number)
    texts = {name: re.sub(rf"{DIAL_ID}\Z", "", str(error)) for name, error in failed.items()}
    assert texts["refused"].endswith("connect: connection refused")
    assert texts["unknown"].startswith("dial tcp: lookup nosuch.invalid")
    assert re.fullmatch(r"dial tcp 127\.0\.0\.1:\d+: i/o timeout", texts["unanswering"])
    reasons = {name: error.reason for name, error in failed.items()}
    assert reasons == expected_reasons(cell.kind)


def expected_reasons(kind: Kind) -> dict[str, str]:
    if kind in (Kind.SINGLE_USE, Kind.REUSABLE):
        return dict.fromkeys(("refused", "unknown", "unanswering"), "endpoint")
    return {"refused": "502", "unknown": "502", "unanswering": "504"}


async def test_an_agent_killed_in_a_transfer_is_no_end_of_a_body(cell: Cell) -> None:
    """And dials succeed once it is there again."""
    with trio.fail_after(LIMIT):
        async with open_target(endless) as target:
            stream = await cell.client.dial(target.address)
            reader = await begin(stream)
            cell.agent.kill()
            with pytest.raises(IncompleteError):
                await reader.exactly(ENDLESS)
            await stream.aclose()
        await cell.server.lonely()
        async with open_target(http) as target:
            with pytest.raises(DialError):
                await cell.client.dial(target.address)
            cell.agent.start()
            await cell.server.ready()
            await ask(cell.client, target.address)


async def test_a_server_that_is_started_again_gets_its_agent_back(cell: Cell) -> None:
    with trio.fail_after(LIMIT):
        async with open_target(endless) as target:
            stream = await cell.client.dial(target.address)
            reader = await begin(stream)
            cell.server.kill()
            with pytest.raises(IncompleteError):
                await reader.exactly(ENDLESS)
            await stream.aclose()
            await until(lambda: not target.open)
        cell.server.start()
        await cell.server.ready()
        async with open_target(http) as target:
            await ask(cell.client, target.address)


async def test_an_agent_that_drains_keeps_what_it_has_and_gets_no_more(cell: Cell) -> None:
    """From the first SIGTERM on others are preferred; the second ends it."""
    other = cell.another_agent("other")
    with trio.fail_after(LIMIT):
        async with open_target(echo) as target:
            kept = await cell.client.dial(target.address)
            await say(kept, b"before")
            other.start()
            await other.ready()
            cell.agent.signal(signal.SIGTERM)
            await until_true(partial(gets_all, cell, target.address, other))
            await say(kept, b"after")
            cell.agent.signal(signal.SIGTERM)
            assert await cell.agent.ended() == 0
            assert not await Reader(kept).some(1)
            await kept.aclose()
            assert await gets_all(cell, target.address, other)
            cell.agent.start()
            await cell.agent.ready()
            other.kill()
            await until_true(partial(answers, cell, target.address))


@pytest.mark.parametrize(
    ("mode", "kind", "reason"),
    [(Mode.GRPC, Kind.CONNECT_TLS, "505"), (Mode.CONNECT, Kind.SINGLE_USE, "unknown")],
)
def test_a_mode_that_our_server_is_given_restricts_it(
    certificates: Path, tmp_path: Path, mode: Mode, kind: Kind, reason: str
) -> None:
    """Without one, as in the cells, it speaks both on one port."""
    world = World(tmp_path, certificates)
    server = Server(world, Maker.OURS, mode)
    client = make_client(world, server, kind)

    async def refused() -> DialError:
        await server.started()
        with pytest.raises(DialError) as info:
            await client.dial("127.0.0.1:1", 1)
        return info.value

    try:
        server.start()
        assert trio.run(refused).reason == reason
    finally:
        client.close()
        server.kill()
