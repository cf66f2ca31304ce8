"""Where TLS records end."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunneld.transport.records import RecordTracker


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


def between_records(pieces: list[bytes]) -> bool:
    tracker = RecordTracker()
    for piece in pieces:
        tracker.follow(memoryview(piece))
    return tracker.between_records


def test_it_starts_between_records() -> None:
    assert RecordTracker().between_records


@pytest.mark.parametrize("cut", range(1, 15))
def test_each_place_in_a_record_is_known(cut: int) -> None:
    assert between_records([record(9)[:cut]]) == (cut == 14)


@given(st.lists(st.integers(0, 300), max_size=8), st.data())
def test_it_does_not_depend_on_how_octets_are_cut(sizes: list[int], data: st.DataObject) -> None:
    wire = b"".join(map(record, sizes))
    length = data.draw(st.integers(0, len(wire)))
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=20)))
    pieces = [wire[a:b] for a, b in itertools.pairwise([0, *cuts, length])]
    ends = {0, *itertools.accumulate(size + 5 for size in sizes)}
    assert between_records(pieces) == (length in ends)
