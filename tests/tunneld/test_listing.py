"""Pages of long lists: whatever the order, they have every row once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctl.messages import encode
from tunneld.listing import AGENT_SORTS, CONN_SORTS, Query, client_names, cut, joined, page_of

Row = dict[str, Any]


def conn(number: int, **members: Any) -> Row:
    return {
        "id": f"abcde-{number}",
        "role": "edge",
        "client": "1.2.3.4:5",
        "identity": "cert:alice",
        "destination": "db.example:5432",
        "dialled": "10.0.0.5:5432",
        "agent": "home",
        "state": "open",
        "since": 100.0 + number,
        "bytes_sent": number,
        "bytes_received": 0,
        "rate_sent": 1.0,
        "rate_received": 0.5,
        "queue": 0,
        "stalled_by": "",
        "stalled_seconds": 0.0,
        "rtt_ms": None,
        **members,
    }


def ids(rows: list[Row]) -> list[str]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        (Query(), True),
        (Query(role="edge"), True),
        (Query(role="other"), False),
        (Query(agent="ho*"), True),
        (Query(agent="office"), False),
        (Query(client="cert:alice"), True),
        (Query(client="alice"), True),
        (Query(client="1.2.3.4"), True),
        (Query(client="1.2.3.4:5"), True),
        (Query(client="bob"), False),
        (Query(destination="*.example"), True),
        (Query(destination="db.example:5432"), True),
        (Query(destination="10.0.0.5"), True),
        (Query(destination="10.0.0.6"), False),
        (Query(agent="home", client="bob"), False),
    ],
)
def test_rows_are_chosen_by_patterns(query: Query, matches: bool) -> None:
    assert page_of([conn(1)], query, CONN_SORTS)["total"] == int(matches)


def test_numbers_have_the_largest_first_and_ages_the_oldest() -> None:
    rows = [conn(2), conn(1), conn(3)]
    assert ids(cut(rows, Query(), CONN_SORTS)[0]) == ["abcde-1", "abcde-2", "abcde-3"]
    assert ids(cut(rows, Query(sort="sent"), CONN_SORTS)[0]) == ["abcde-3", "abcde-2", "abcde-1"]
    turned = Query(sort="sent", reverse=True)
    assert ids(cut(rows, turned, CONN_SORTS)[0]) == ["abcde-1", "abcde-2", "abcde-3"]


def test_a_page_tells_sums_of_all_that_matches() -> None:
    rows = [conn(1), conn(2, state="stalled"), conn(3, agent="office")]
    page = page_of(rows, Query(agent="home", limit=1), CONN_SORTS)
    assert (len(page["rows"]), page["total"]) == (1, 2)
    assert page["sums"]["bytes_sent"] == 3
    assert page["sums"]["rate_received"] == 1.0
    assert page["sums"]["stalled"] == 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["edge", "home"])), max_size=30),
    st.sampled_from(sorted(CONN_SORTS)),
    st.booleans(),
    st.integers(1, 7),
)
def test_pages_of_several_places_have_every_row_once_and_in_order(
    spread: list[tuple[int, str]], sort: str, reverse: bool, limit: int
) -> None:
    rows = [
        conn(n, role=role, bytes_sent=value, since=float(value), rtt_ms=value or None)
        for n, (value, role) in enumerate(spread)
    ]
    places = [[row for row in rows if row["role"] == role] for role in ("edge", "home")]
    whole = cut(rows, Query(sort=sort, reverse=reverse), CONN_SORTS)[0]
    found: list[Row] = []
    after: Any = ()
    while True:
        query = Query(sort=sort, reverse=reverse, limit=limit, after=tuple(after))
        answers = [page_of(place, query, CONN_SORTS) for place in places]
        page = joined(answers, query, CONN_SORTS)
        assert page["total"] == len(rows)
        found += page["rows"]
        after = page["next"]
        if after is None:
            break
    assert ids(found) == ids(whole)


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="sort: expected one of age, rate"):
        cut([], Query(sort="colour"), CONN_SORTS)


def test_the_page_of_another_question_is_refused() -> None:
    with pytest.raises(ValueError, match="after: not from an answer"):
        cut([conn(1)], Query(sort="client", after=(1,)), CONN_SORTS)


def test_agents_are_rows_as_well() -> None:
    agents = [
        {"id": "a", "server": "edge", "peer": "1:1", "identifiers": {}, "since": 1.0, "conns": 5},
        {"id": "a", "server": "edge", "peer": "1:2", "identifiers": {}, "since": 1.0, "conns": 7},
    ]
    page = page_of(agents, Query(agent="a", role="edge", sort="conns"), AGENT_SORTS)
    assert [row["conns"] for row in page["rows"]] == [7, 5]


@pytest.mark.parametrize(
    ("identity", "address", "names"),
    [
        ("cert:alice", "1.2.3.4:5", ("cert:alice", "alice", "1.2.3.4:5", "1.2.3.4")),
        ("cert:a:b", "[::1]:5", ("cert:a:b", "a:b", "[::1]:5", "::1")),
        ("anonymous", "", ("anonymous", "anonymous", "", "")),
    ],
)
def test_a_client_has_several_names(identity: str, address: str, names: tuple[str, ...]) -> None:
    assert client_names(identity, address) == names


def test_pages_fit_frames_however_large_rows_are() -> None:
    """An agent may claim 64 KiB, and come with as many tunnels as it likes."""
    claims = {"host": ["h" * 60_000]}
    large = [conn(number, identifiers=claims) for number in range(0, 80, 2)]
    small = [conn(number) for number in range(1, 80, 2)]
    found: list[Row] = []
    after: Any = ()
    while after is not None:
        query = Query(after=tuple(after))
        answers = [page_of(place, query, CONN_SORTS) for place in (large, small)]
        page = joined(answers, query, CONN_SORTS)
        for message in (*answers, page):
            encode({"id": 1, "result": message})
        found += page["rows"]
        after = page["next"]
    assert ids(found) == ids(sorted([*large, *small], key=lambda row: row["since"]))
