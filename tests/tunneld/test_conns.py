"""The list of connections."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tunneld.caller import Caller
from tunneld.conns import Conns


def test_a_connection_is_listed_while_it_lasts() -> None:
    conns = Conns()
    with conns.listed(Caller("cert:1.2.3.4:5", "1.2.3.4:5"), "a:80", "demo") as conn:
        (row,) = conns.rows("edge")
        assert row["state"] == "dialling"
        assert (row["bytes_sent"], row["bytes_received"]) == (0, 0)
        conn.state = "open"
        conn.octets = lambda: (3, 4)
        (row,) = conns.rows("edge")
        assert row.pop("since") > 0
        assert row == {
            "id": conn.id,
            "role": "edge",
            "client": "1.2.3.4:5",
            "identity": "cert:" + "1.2.3.4:5",
            "destination": "a:80",
            "agent": "demo",
            "state": "open",
            "bytes_sent": 3,
            "bytes_received": 4,
        }
    assert conns.rows("edge") == []


def test_a_connection_that_breaks_is_listed_no_more() -> None:
    conns = Conns()
    with pytest.raises(ZeroDivisionError), conns.listed(Caller("cert:c", "c"), "d"):
        raise ZeroDivisionError
    assert conns.rows("edge") == []


def test_ids_are_unique_and_rows_are_oldest_first() -> None:
    conns = Conns()
    with (
        conns.listed(Caller("cert:a", "a"), "x") as first,
        conns.listed(Caller("cert:b", "b"), "x") as second,
    ):
        assert first.id < second.id
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
