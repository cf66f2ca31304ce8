import pytest

from frames import Role
from frames.streamids import StreamIds


@pytest.mark.parametrize(("role", "ids"), [(Role.CLIENT, [1, 3, 5]), (Role.SERVER, [2, 4, 6])])
def test_clients_count_in_odd_numbers_and_servers_in_even_ones(role: Role, ids: list[int]) -> None:
    mine = StreamIds(role)
    assert [mine.take() for _ in range(3)] == ids
    assert not any(map(mine.is_peers, ids))
    assert all(mine.is_peers(stream_id + 1) for stream_id in ids)


def test_ids_end_at_2_to_the_31() -> None:
    ids = StreamIds(Role.CLIENT)
    ids._next = 2**31 - 1
    assert not ids.used_up
    assert ids.take() == 2**31 - 1
    assert ids.used_up


def test_what_has_not_been_opened_is_idle() -> None:
    ids = StreamIds(Role.SERVER)
    assert ids.is_idle(1)
    assert ids.is_idle(2)
    ids.highest = 5
    assert not ids.is_idle(5)
    assert not ids.is_idle(3)
    assert ids.is_idle(7)
    assert ids.is_idle(2)


def test_a_lower_id_that_was_never_opened_was_skipped() -> None:
    ids = StreamIds(Role.SERVER)
    ids.highest = 5
    ids.remember(1, reset_by_us=False)
    assert not ids.was_skipped(1)
    assert ids.was_skipped(3)


def test_an_id_above_our_goaway_was_not_skipped_but_refused() -> None:
    ids = StreamIds(Role.SERVER)
    ids.highest = ids.refused_above = 5
    ids.highest = 9
    assert ids.is_refused(7)
    assert not ids.was_skipped(7)


def test_only_the_latest_ends_are_remembered() -> None:
    ids = StreamIds(Role.SERVER)
    for stream_id in range(1, 2 * 1001, 2):
        ids.remember(stream_id, reset_by_us=False)
    ids.highest = 2001
    assert not ids.ended_by_peer(1)
    assert not ids.was_skipped(1)
    assert ids.ended_by_peer(3)
    assert len(ids._ended) == 1000


def test_an_end_by_our_own_reset_is_told_from_the_peers() -> None:
    ids = StreamIds(Role.CLIENT)
    ids.remember(1, reset_by_us=True)
    ids.remember(3, reset_by_us=False)
    assert not ids.ended_by_peer(1)
    assert ids.ended_by_peer(3)
