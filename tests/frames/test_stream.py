"""The state table of RFC 9113 section 5.1, figure 2."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import ErrorCode, LocalProtocolError, Stream, StreamState
from frames.errors import StreamProtocolError
from frames.stream import TRANSITIONS, StreamInput

I = StreamInput  # noqa: E741
S = StreamState
EVERY_PAIR = list(itertools.product(StreamState, StreamInput))


def stream_in(state: StreamState) -> Stream:
    stream = Stream(1, 65535, 65535)
    for move in PATHS[state]:
        (stream.move_local if move in LOCAL else stream.move_remote)(move)
    assert stream.state is state
    return stream


LOCAL = frozenset({I.SEND_HEADERS, I.SEND_DATA, I.SEND_END, I.SEND_RESET})
PATHS: dict[StreamState, list[StreamInput]] = {
    S.IDLE: [],
    S.OPEN: [I.SEND_HEADERS],
    S.HALF_CLOSED_LOCAL: [I.SEND_HEADERS, I.SEND_END],
    S.HALF_CLOSED_REMOTE: [I.RECV_HEADERS, I.RECV_END],
    S.CLOSED: [I.SEND_HEADERS, I.SEND_RESET],
}


@pytest.mark.parametrize(("state", "move"), EVERY_PAIR)
def test_we_move_as_the_table_says_or_are_told(state: StreamState, move: StreamInput) -> None:
    stream = stream_in(state)
    if (state, move) in TRANSITIONS:
        stream.move_local(move)
        assert stream.state is TRANSITIONS[state, move]
    else:
        with pytest.raises(LocalProtocolError, match="cannot"):
            stream.move_local(move)
        assert stream.state is state


@pytest.mark.parametrize(("state", "move"), EVERY_PAIR)
def test_the_peer_moves_as_the_table_says_or_breaks_its_stream(
    state: StreamState, move: StreamInput
) -> None:
    stream = stream_in(state)
    if (state, move) in TRANSITIONS:
        stream.move_remote(move)
        assert stream.state is TRANSITIONS[state, move]
    else:
        with pytest.raises(StreamProtocolError) as caught:
            stream.move_remote(move)
        assert caught.value.code is ErrorCode.STREAM_CLOSED
        assert stream.state is state


def mirrored(move: StreamInput) -> StreamInput:
    verb, what = move.value.split(" ")
    return StreamInput(f"{'receive' if verb == 'send' else 'send'} {what}")


MIRRORED_STATE = {
    S.HALF_CLOSED_LOCAL: S.HALF_CLOSED_REMOTE,
    S.HALF_CLOSED_REMOTE: S.HALF_CLOSED_LOCAL,
}


@pytest.mark.parametrize(("state", "move"), EVERY_PAIR)
def test_the_table_judges_both_sides_alike(state: StreamState, move: StreamInput) -> None:
    here = TRANSITIONS.get((state, move))
    there = TRANSITIONS.get((MIRRORED_STATE.get(state, state), mirrored(move)))
    assert there == (MIRRORED_STATE.get(here, here) if here else None)


def test_nothing_leaves_closed_and_nothing_returns_to_idle() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] is S.CLOSED]
    assert S.IDLE not in TRANSITIONS.values()


@given(st.lists(st.sampled_from(StreamInput)))
def test_what_may_be_done_follows_from_the_state(moves: list[StreamInput]) -> None:
    stream = Stream(1, 65535, 65535)
    stream.got_head()
    stream.gave_head()
    for move in moves:
        if (stream.state, move) in TRANSITIONS:
            stream.move_local(move)
        assert stream.can_send == ((stream.state, I.SEND_DATA) in TRANSITIONS) == stream.sends_data
        assert (
            stream.can_receive == ((stream.state, I.RECV_DATA) in TRANSITIONS) == stream.takes_data
        )


def test_data_waits_for_the_head_of_its_direction() -> None:
    stream = stream_in(S.OPEN)
    assert (stream.can_send, stream.sends_data) == (True, False)
    assert (stream.can_receive, stream.takes_data) == (True, False)
    stream.gave_head()
    assert (stream.sends_data, stream.takes_data) == (True, False)
    stream.got_head()
    assert (stream.sends_data, stream.takes_data) == (True, True)
    stream.move_local(I.SEND_END)
    assert (stream.sends_data, stream.takes_data) == (False, True)
