"""Wires for property tests: what a peer may well say, and octets that nobody should."""

import itertools

import hpack
from hypothesis import strategies as st

from frames import Headers, Role
from frames.frame import Flag, FrameType, serialize
from tests.frames.peer import (
    CONNECT,
    GET,
    HEAD,
    OK,
    POST,
    SETTINGS_ACK,
    TRAILERS,
    Peer,
    data,
    padded,
    ping,
    reset,
    settings,
    window_update,
)

OPENED_BY_CLIENT = 3
"""Streams (1, 3, 5) that a client under test opens before it hears a wire of these."""

_small = st.binary(max_size=40)
_FLAGS = [Flag(0), *(Flag(bit) for bit in (0x1, 0x4, 0x5, 0x8, 0x20, 0x2D))]
_HEADS: dict[Role, list[Headers]] = {
    Role.SERVER: [GET, POST, HEAD, CONNECT, [*POST, (b"content-length", b"3")], GET[1:]],
    Role.CLIENT: [OK, OK, [(b":status", b"103")], [*OK, (b"content-length", b"3")], []],
}

any_frames = st.builds(
    serialize,
    st.one_of(st.sampled_from(FrameType), st.sampled_from([0x0A, 0x10, 0xFF])),
    st.sampled_from(_FLAGS),
    st.one_of(st.sampled_from([1, 3, 5, 7]), st.sampled_from([0, 2, 9, 2**31 - 1])),
    _small,
)
"""Any type with any flags on any stream: seldom right."""


def hello(role: Role) -> bytes:
    """What the peer of a connection in ``role`` begins with."""
    return Peer(Role.CLIENT if role is Role.SERVER else Role.SERVER).hello()


def _block(headers: Headers) -> bytes:
    """A header block that needs no table of its own, and leaves none behind."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    block: bytes = encoder.encode(headers)
    return block


@st.composite
def _header_frames(draw: st.DrawFn, stream_id: int, headers: Headers) -> bytes:
    """HEADERS, and a CONTINUATION frame if the block is cut."""
    block = _block(headers)
    flags = Flag.END_STREAM if draw(st.integers(0, 3)) == 0 else Flag(0)
    cut = draw(st.one_of(st.just(len(block)), st.integers(0, len(block))))
    if cut == len(block):
        return serialize(FrameType.HEADERS, flags | Flag.END_HEADERS, stream_id, block)
    return serialize(FrameType.HEADERS, flags, stream_id, block[:cut]) + serialize(
        FrameType.CONTINUATION, Flag.END_HEADERS, stream_id, block[cut:]
    )


@st.composite
def _data_frame(draw: st.DrawFn, stream_id: int) -> bytes:
    payload, end_stream = draw(_small), draw(st.integers(0, 5)) == 0
    if draw(st.booleans()):
        return data(stream_id, payload, end_stream=end_stream)
    return padded(stream_id, payload, draw(st.integers(0, 20)), end_stream=end_stream)


_of_the_connection = st.one_of(
    st.builds(window_update, st.just(0), st.integers(1, 100_000)),
    st.builds(ping, st.binary(min_size=8, max_size=8)),
    st.builds(settings, st.tuples(st.sampled_from([1, 3, 4, 6, 8, 0x99]), st.integers(0, 1))),
    st.builds(serialize, st.just(0x42), st.just(0), st.just(0), _small),
    st.just(SETTINGS_ACK),
)


@st.composite
def _of_a_stream(draw: st.DrawFn, stream_id: int) -> bytes:
    """DATA for the most part."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return reset(stream_id, draw(st.integers(0, 20)))
    if kind == 1:
        return window_update(stream_id, draw(st.integers(1, 100_000)))
    if kind == 2:
        return draw(_header_frames(stream_id, TRAILERS))
    return draw(_data_frame(stream_id))


@st.composite
def conversations(draw: st.DrawFn, role: Role) -> bytes:
    """What the peer of a connection in ``role`` says after its SETTINGS: mostly as it should."""
    begun: list[int] = []
    following = itertools.count(1, 2)
    wire = b""
    for kind in draw(st.lists(st.integers(0, 6), min_size=6, max_size=30)):
        if kind == 0:
            wire += draw(_of_the_connection)
        elif kind == 1 and (role is Role.SERVER or len(begun) < OPENED_BY_CLIENT):
            begun.append(next(following))
            wire += draw(_header_frames(begun[-1], draw(st.sampled_from(_HEADS[role]))))
        elif begun:
            wire += draw(_of_a_stream(draw(st.sampled_from(begun))))
    return wire


def noise() -> st.SearchStrategy[bytes]:
    """Frames of any kind."""
    return st.lists(any_frames, max_size=4).map(b"".join)


@st.composite
def pieces(draw: st.DrawFn, wire: bytes) -> list[bytes]:
    """``wire``, cut anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    return [wire[a:b] for a, b in itertools.pairwise([0, *cuts, len(wire)])]
