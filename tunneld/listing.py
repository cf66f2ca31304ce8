"""Long lists, such as those of connections, a page at a time: filtered, sorted and cut where the
rows are, and put together again where they are asked for."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ctl.messages import MAX_FRAME

PAGE: Final = 500
_PAGE_SIZE: Final = MAX_FRAME * 3 // 4
"""Rows of a page and their octets at most, so that it fits a control frame: what an agent claims
may have 64 KiB."""
_MAX_PATTERN = 512

Row: TypeAlias = dict[str, Any]
Pattern: TypeAlias = Annotated[str, Meta(max_length=_MAX_PATTERN)]

CONN_SORTS: Final = {
    "age": "since",
    "rate": "rate",
    "sent": "bytes_sent",
    "received": "bytes_received",
    "queue": "queue",
    "stalled": "stalled_seconds",
    "rtt": "rtt_ms",
    "client": "client",
    "destination": "destination",
    "agent": "agent",
}
"""Columns by which connections are sorted, by their names."""
AGENT_SORTS: Final = {
    "age": "since",
    "rate": "rate",
    "conns": "conns",
    "rtt": "rtt_ms",
    "agent": "id",
}
_LARGEST_FIRST = frozenset(
    {"rate", "bytes_sent", "bytes_received", "queue", "stalled_seconds", "rtt_ms", "conns"}
)
_TEXTS = frozenset({"client", "destination", "agent", "id"})
_SUMS = ("bytes_sent", "bytes_received", "rate_sent", "rate_received", "queue")


class Query(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rows. Patterns are shell patterns (``*.example``); "" matches everything."""

    role: Pattern = ""
    agent: Pattern = ""
    client: Pattern = ""
    """Matches the identity, with or without its kind, or the address, with or without port."""
    destination: Pattern = ""
    """Matches the destination or the address dialled, with or without port."""
    sort: str = "age"
    reverse: bool = False
    after: tuple[Any, ...] = ()
    """``next`` of the page before."""
    limit: Annotated[int, Meta(ge=0, le=PAGE)] = PAGE


def page_of(rows: Iterable[Row], query: Query, sorts: Mapping[str, str]) -> Row:
    """One page of rows, as a map:

    ``rows``    those of the page
    ``total``   how many match the query, on whatever page
    ``sums``    of octets and rates, over all of them; and how many are ``stalled``
    ``next``    where the page behind it begins: what `Query.after` takes, or None

    Raises:
      ValueError: there is no such order, or it is not one of its pages.
    """
    matching = [row for row in rows if _matches(row, query)]
    sums: dict[str, float] = {
        name: sum(row[name] for row in matching if name in row) for name in _SUMS
    }
    sums["stalled"] = sum(row.get("state") == "stalled" for row in matching)
    page, following = cut(matching, query, sorts)
    return {"rows": page, "total": len(matching), "sums": sums, "next": following}


def joined(answers: Iterable[Row], query: Query, sorts: Mapping[str, str]) -> Row:
    """The page of several places' pages, as `page_of`."""
    whole: Row = {"total": 0, "sums": {}}
    rows: list[Row] = []
    ends: list[tuple[Any, ...]] = []
    for answer in answers:
        rows += answer["rows"]
        if answer["next"] is not None:
            ends.append(tuple(answer["next"]))
        whole["total"] += answer["total"]
        for name, value in answer["sums"].items():
            whole["sums"][name] = whole["sums"].get(name, 0) + value
    page, following = cut(rows, query, sorts, ends)
    return {**whole, "rows": page, "next": following}


def check(query: Query, sorts: Mapping[str, str]) -> None:
    """Raises ValueError: there is no such order, or it is not one of its pages."""
    if query.sort not in sorts:
        raise ValueError(f"sort: expected one of {', '.join(sorts)}, got {query.sort!r}")
    if query.after:
        value, *names = query.after
        kind = str if sorts[query.sort] in _TEXTS else int | float
        if not isinstance(value, kind) or [type(name) for name in names] != [str] * 3:
            raise ValueError("after: not from an answer to the same question")


def cut(
    rows: list[Row],
    query: Query,
    sorts: Mapping[str, str],
    ends: Sequence[tuple[Any, ...]] = (),
) -> tuple[list[Row], list[Any] | None]:
    """Those of the query's page, and where the next one begins if the page is full. Large rows fill
    it before there are as many as the query wants.

    Args:
      ends: of places that have more, the last key that each has told: what is behind the first of
        them is for the next page.
    Raises:
      ValueError: there is no such order, or it is not one of its pages.
    """
    check(query, sorts)
    column = sorts[query.sort]
    descending = (column in _LARGEST_FIRST) != query.reverse
    keyed = sorted(((_key(row, column), row) for row in rows), key=_first, reverse=descending)
    if query.after:
        after = tuple(query.after)
        keyed = [each for each in keyed if (each[0] < after if descending else each[0] > after)]
    if ends:
        end = max(ends) if descending else min(ends)
        keyed = [each for each in keyed if (each[0] >= end if descending else each[0] <= end)]
    page = keyed[: _fitting(keyed[: query.limit])]
    more = bool(page) and (len(page) == query.limit or len(page) < len(keyed) or bool(ends))
    return [row for _, row in page], list(page[-1][0]) if more else None


def _fitting(keyed: list[tuple[tuple[Any, ...], Row]]) -> int:
    """How many of these rows fit a page: one at least."""
    size = 0
    for number, (_, row) in enumerate(keyed):
        size += len(msgspec.msgpack.encode(row))
        if size > _PAGE_SIZE:
            return max(1, number)
    return len(keyed)


def _key(row: Row, column: str) -> tuple[Any, ...]:
    """Unambiguous: pages begin at keys."""
    value = row.get(column)
    if column in _TEXTS:
        value = str(value)
    if column == "rate":
        value = row.get("rate_sent", 0.0) + row.get("rate_received", 0.0)
    if value is None:  # an RTT that is not known yet, say
        value = -1.0
    where = str(row.get("role") or row.get("server") or "")
    return value, where, str(row.get("id")), str(row.get("peer", ""))


def _first(pair: tuple[tuple[Any, ...], Row]) -> tuple[Any, ...]:
    return pair[0]


def _matches(row: Row, query: Query) -> bool:
    return (
        _any(query.role, (row.get("role") or row.get("server") or "",))
        and _any(query.agent, (str(row.get("agent", row.get("id"))),))
        and _any(query.client, client_names(row.get("identity", ""), row.get("client", "")))
        and _any(query.destination, _places(row))
    )


def client_names(identity: str, address: str) -> tuple[str, ...]:
    """What a client may be called."""
    kind, colon, name = identity.partition(":")
    return identity, name if colon else kind, address, _host(address)


def _places(row: Row) -> tuple[str, ...]:
    destination, dialled = row.get("destination", ""), row.get("dialled", "")
    return destination, _host(destination), dialled, _host(dialled)


def _any(pattern: str, names: tuple[str, ...]) -> bool:
    return not pattern or any(fnmatchcase(name, pattern) for name in names)


def _host(address: str) -> str:
    host, colon, _ = address.rpartition(":")
    return host.strip("[]") if colon else address
