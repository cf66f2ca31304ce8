from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import transmit
from frames.transmit import DATA_LIMIT, TransmitBuffer
from tests.frames.peer import data


@pytest.fixture(autouse=True)
def _empty_pool() -> Generator[None]:
    transmit._spare.clear()
    yield
    transmit._spare.clear()


def write(tx: TransmitBuffer, stream_id: int, octets: bytes, *, end_stream: bool = False) -> None:
    tx.payload_view(len(octets))[:] = octets
    tx.commit(len(octets), stream_id, end_stream)


def test_octets_leave_in_the_order_they_came() -> None:
    tx = TransmitBuffer()
    tx.append(b"control")
    write(tx, 1, b"payload")
    tx.append(b"more")
    write(tx, 3, b"the end", end_stream=True)
    expected = b"control" + data(1, b"payload") + b"more" + data(3, b"the end", end_stream=True)
    assert bytes(tx.waiting()) == expected
    assert tx.length == len(expected)


def test_a_view_may_be_used_in_part() -> None:
    tx = TransmitBuffer()
    tx.payload_view(100)[:3] = b"abc"
    tx.commit(3, 1, False)
    assert bytes(tx.waiting()) == data(1, b"abc")


def test_what_was_viewed_but_not_committed_is_not_sent() -> None:
    tx = TransmitBuffer()
    tx.payload_view(100)[:3] = b"abc"
    tx.append(b"control")
    assert bytes(tx.waiting()) == b"control"


def test_an_idle_connection_holds_no_buffer() -> None:
    tx = TransmitBuffer()
    assert tx._buffer is None
    tx.append(b"x")
    tx.sent()
    assert tx._buffer is None
    assert bytes(tx.waiting()) == b""


def test_buffers_are_used_again() -> None:
    first, second = TransmitBuffer(), TransmitBuffer()
    first.append(b"x")
    buffer = first._buffer
    first.sent()
    second.append(b"y")
    assert second._buffer is buffer
    assert bytes(second.waiting()) == b"y"


def test_the_pool_keeps_a_few_buffers_only() -> None:
    many = [TransmitBuffer() for _ in range(20)]
    for tx in many:
        tx.append(b"x")
    for tx in many:
        tx.sent()
        tx.sent()
    assert len(transmit._spare) == transmit._MAX_SPARE
    assert len({id(buffer) for buffer in transmit._spare}) == transmit._MAX_SPARE


def test_control_frames_fit_behind_all_the_data_there_may_be() -> None:
    tx = TransmitBuffer()
    write(tx, 1, bytes(tx.room))
    assert tx.room <= 0
    buffer = tx._buffer
    for _ in range(1_000):
        tx.append(bytes(13))
    assert tx._buffer is buffer


def test_it_grows_rather_than_lose_a_control_frame() -> None:
    tx = TransmitBuffer()
    tx.append(b"first")
    outgrown = tx._buffer
    tx.append(bytes(DATA_LIMIT))
    tx.append(bytes(DATA_LIMIT))
    tx.append(b"last")
    assert tx.length == 9 + 2 * DATA_LIMIT
    assert bytes(tx.waiting()[:5]) == b"first"
    assert bytes(tx.waiting()[-4:]) == b"last"
    assert transmit._spare == [outgrown]
    tx.sent()
    assert transmit._spare == [outgrown], "a buffer of unusual size is not kept"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from([1, 13, 9_000, 70_000])),
            st.tuples(st.just("write"), st.sampled_from([1, 100, 16_384, 131_072])),
            st.tuples(st.just("sent"), st.just(0)),
        )
    )
)
def test_it_holds_exactly_what_was_put_in(steps: list[tuple[str, int]]) -> None:
    tx, expected = TransmitBuffer(), b""
    for number, (step, size) in enumerate(steps):
        octets = bytes([number % 256]) * size
        if step == "append":
            tx.append(octets)
            expected += octets
        elif step == "write" and tx.room >= size:
            write(tx, 7, octets)
            expected += data(7, octets)
        elif step == "sent":
            tx.sent()
            expected = b""
        assert bytes(tx.waiting()) == expected
