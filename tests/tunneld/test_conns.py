"""The list of connections."""

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tunneld.caller import Caller
from tunneld.conns import Conns
from tunneld.dialing import FAILED, DialError
from tunneld.relay import RelayError


async def test_a_connection_is_listed_while_it_lasts() -> None:
    conns = Conns()
    with conns.listed(Caller("cert:1.2.3.4:5", "1.2.3.4:5"), "a:80", "demo") as conn:
        (row,) = conns.rows("edge")
        assert row["state"] == "dialling"
        conn.began -= 1
        assert (row["bytes_sent"], row["bytes_received"]) == (0, 0)
        conn.state = "open"
        conn.octets = lambda: (3, 4)
        (row,) = conns.rows("edge")
        assert row.pop("since") > 0
        assert row.pop("rate_sent") > 0 < row.pop("rate_received")
        assert row == {
            "id": conn.dial,
            "role": "edge",
            "client": "1.2.3.4:5",
            "identity": "cert:" + "1.2.3.4:5",
            "destination": "a:80",
            "agent": "demo",
            "dialled": "",
            "state": "open",
            "bytes_sent": 3,
            "bytes_received": 4,
            "queue": 0,
            "stalled_by": "",
            "stalled_seconds": 0.0,
            "rtt_ms": None,
        }
    assert conns.rows("edge") == []


async def test_a_connection_that_breaks_is_listed_no_more() -> None:
    conns = Conns()
    with pytest.raises(ZeroDivisionError), conns.listed(Caller("cert:c", "c"), "d"):
        raise ZeroDivisionError
    assert conns.rows("edge") == []


async def test_ids_are_unique_and_rows_are_oldest_first() -> None:
    conns = Conns()
    with (
        conns.listed(Caller("cert:a", "a"), "x") as first,
        conns.listed(Caller("cert:b", "b"), "x") as second,
    ):
        assert first.dial != second.dial
        assert first.number < second.number
        assert [row["client"] for row in conns.rows("edge")] == ["a", "b"]


async def test_waiting_for_none_returns_when_the_last_has_gone() -> None:
    conns = Conns()
    await conns.wait_empty()
    done = trio.Event()

    async def wait() -> None:
        await conns.wait_empty()
        done.set()

    async with trio.open_nursery() as nursery:
        with conns.listed(Caller("cert:a", "a"), "x"):
            with conns.listed(Caller("cert:b", "b"), "x"):
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            assert not done.is_set()
        with conns.listed(Caller("cert:c", "c"), "x"):  # at once again: not empty after all
            await wait_all_tasks_blocked()
            assert not done.is_set()


async def until_killed(conns: Conns, state: str, reason: str) -> None:
    with conns.listed(Caller("cert:a", "a"), "x") as conn:
        conn.state = state
        conn.kill(reason)
        await trio.sleep_forever()


async def test_killing_a_dial_makes_it_fail_and_killing_an_open_connection_resets_it() -> None:
    ended: list[tuple[str, str]] = []
    conns = Conns(on_end=lambda conn: ended.append((conn.ended, str(conn.error))))
    with pytest.raises(DialError, match="killed: it is late"):
        await until_killed(conns, "dialling", "it is late")
    with pytest.raises(RelayError, match="killed"):
        await until_killed(conns, "open", "")
    assert ended == [("killed", "killed: it is late"), ("killed", "killed")]
    assert not list(conns)


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (DialError(FAILED, "no"), "failed"),
        (RelayError("client: reset"), "reset"),
        (ZeroDivisionError(), "error"),
        (None, "closed"),
    ],
)
async def test_how_a_connection_ended_is_told_once(error: Exception | None, how: str) -> None:
    ended: list[str] = []
    conns = Conns(on_end=lambda conn: ended.append(conn.ended))
    with (
        suppress(type(error) if error else DialError),
        conns.listed(Caller("cert:a", "a"), "x"),
    ):
        if error is not None:
            raise error
    assert ended == [how]


async def test_a_client_that_leaves_while_it_waits_cancels_its_dial() -> None:
    ended: list[str] = []
    conns = Conns(on_end=lambda conn: ended.append(conn.ended))
    with trio.CancelScope() as gone, conns.listed(Caller("cert:a", "a"), "x"):
        gone.cancel()
        await trio.sleep_forever()
    assert ended == ["cancelled"]


async def test_connections_are_looked_at_each_second_while_there_are_any(
    autojump_clock: MockClock,
) -> None:
    conns = Conns()
    looked: list[float] = []

    def octets() -> tuple[int, int]:
        looked.append(trio.current_time())
        return (0, 0)

    async with conns.watched():
        await trio.sleep(10)
        begun = trio.current_time()
        with conns.listed(Caller("cert:a", "a"), "x") as conn:
            conn.octets = octets
            await trio.sleep(3.5)
    assert [round(at - begun) for at in looked] == [0, 1, 2, 3]
