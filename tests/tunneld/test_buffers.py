"""What waits in the process is bounded, however many streams are stuck; the others go on."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from frames import WindowBudget
from tests.tunneld.sessionpair import SessionPair, open_pair
from tunneld.buffers import LEAST, Buffers, default_limit, memory_of_machine
from tunneld.quota import LimitedError
from tunneld.session import buffers, window_budget
from tunneld.sharedchannel import queue_budget
from tunneld.streamend import StreamEnd

MIB = 1 << 20
LIMIT = 32 * MIB
STREAMS = 1000
"""With the window that a stream has in the beginning they would hold 250 MiB."""
PIECE = bytes(256 * 1024)


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    before = buffers.limit, window_budget.left, queue_budget.left
    buffers.resize(LIMIT)
    yield
    buffers.resize(before[0])
    buffers.look()
    assert (buffers.limit, window_budget.left, queue_budget.left) == before
    assert buffers.window is None
    assert buffers.used == 0


async def stuck(pair: SessionPair) -> StreamEnd:
    """A stream on which octets come as its window allows, and that nobody takes."""
    front, back = await pair.open()
    back.deliver(memoryview(PIECE), False)
    return front


def waiting(ends: list[StreamEnd]) -> int:
    return sum(len(end._early) for end in ends)


async def settle() -> None:
    """Wait until nothing moves any more."""
    await trio.sleep(10)


async def test_many_stuck_streams_do_not_take_more_than_there_is_and_others_go_on(
    autojump_clock: MockClock,
) -> None:
    octets = bytes(range(256)) * 40_000
    async with open_pair(elastic=True) as pair:
        pair.nursery.start_soon(buffers.watch)
        ends: list[StreamEnd] = []
        most = 0
        for _ in range(STREAMS):
            ends.append(await stuck(pair))
            most = max(most, waiting(ends))
        await settle()
        most = max(most, waiting(ends))
        assert buffers.window is not None
        assert buffers.used == waiting(ends)
        assert most <= LIMIT
        honest = await pair.carry()
        got = hashlib.sha256()

        async def receive() -> None:
            async for data in honest.near:
                got.update(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await honest.far.send_all(octets)
            await honest.far.send_eof()
        assert got.digest() == hashlib.sha256(octets).digest()
        assert waiting(ends) <= LIMIT


async def test_new_dials_are_refused_until_less_waits(autojump_clock: MockClock) -> None:
    async with open_pair(elastic=True) as pair:
        buffers.resize(4 * MIB)
        ends = [await stuck(pair) for _ in range(40)]
        await settle()
        buffers.look()
        assert buffers.used >= 3 * MIB
        with pytest.raises(LimitedError, match="octets wait in this server that nobody takes"):
            buffers.check("this server")
        for end in ends:
            end.abort()
        buffers.look()
        buffers.check("this server")


async def test_windows_are_as_before_when_little_waits(autojump_clock: MockClock) -> None:
    async with open_pair(elastic=True) as pair:
        pair.nursery.start_soon(buffers.watch)
        ends = [await stuck(pair) for _ in range(100)]
        await settle()
        assert buffers.window is not None
        for end in ends:
            end.abort()
        await settle()
        assert buffers.window is None
        front, _ = await pair.open()
        assert front.stream.window_size == pair.client.first_window
        assert not window_budget.is_frozen


async def test_a_session_that_begins_amid_it_has_small_windows_at_once(
    autojump_clock: MockClock,
) -> None:
    async with open_pair(elastic=True) as pair:
        ends = [await stuck(pair) for _ in range(100)]
        await settle()
        buffers.look()
        assert buffers.window is not None
        other = SessionPair(pair.nursery, pair.reactor, elastic=True)
        await other.start()
        await settle()
        front, _ = await other.open()
        assert front.stream.window_size == min(buffers.window, other.client.first_window)
        for end in ends:
            end.abort()


async def test_much_that_comes_at_once_is_not_left_until_the_next_second(
    mock_clock: MockClock,
) -> None:
    async with open_pair(elastic=True) as pair:
        pair.nursery.start_soon(buffers.watch)
        buffers.resize(16 * MIB)
        ends: list[StreamEnd] = []
        while buffers.window is None:
            ends.append(await stuck(pair))
            await trio.lowlevel.checkpoint()
            assert len(ends) < STREAMS, "time stands still: nobody looks by the clock"


def test_a_session_whose_stream_is_shared_is_left_alone() -> None:
    some = Buffers(WindowBudget(MIB), WindowBudget(MIB), 8 * MIB)
    some.look()
    assert some.used == 0


def test_a_quarter_of_the_memory_is_for_buffers_and_64_mib_at_least(tmp_path: Path) -> None:
    assert default_limit() == max(LEAST, memory_of_machine() // 4)
    assert memory_of_machine() > 0
    assert memory_of_machine(tmp_path, tmp_path) == 0


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/", {}, 8_000 * 1024),
        ("0::/a/b", {"fs/cgroup/a/memory.max": "5000000", "fs/cgroup/a/b/memory.max": "max"}, 5e6),
        ("0::/a/b", {"fs/cgroup/a/b/memory.max": "900000000000"}, 8_000 * 1024),
        ("4:cpu,memory:/c", {"fs/cgroup/memory/c/memory.limit_in_bytes": "4000"}, 4000),
        ("1:name=systemd:/c", {}, 8_000 * 1024),
    ],
)
def test_a_control_group_may_have_less_than_the_machine(
    tmp_path: Path, line: str, files: dict[str, str], expected: float
) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:        8000 kB\nMemFree: 1 kB\n")
    (proc / "self/cgroup").write_text(f"{line}\n")
    for name, text in files.items():
        (sys / name).parent.mkdir(parents=True, exist_ok=True)
        (sys / name).write_text(f"{text}\n")
    assert memory_of_machine(proc, sys) == expected
