"""Header blocks; the literal ones are the examples of RFC 7541 appendix C."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import ErrorCode, Headers, Limits, RemoteProtocolError, once
from frames.blocks import BlockReader, BlockWriter
from frames.frame import Flag, FrameType
from tests.frames.peer import GET, error_of, frames_in

CUSTOM = (b"custom-key", b"custom-value")
WWW: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
PLAIN = [  # C.3: requests without Huffman coding, on one connection
    ("828684410f7777772e6578616d706c652e636f6d", WWW),
    ("828684be58086e6f2d6361636865", [*WWW, (b"cache-control", b"no-cache")]),
    (
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        [WWW[0], (b":scheme", b"https"), (b":path", b"/index.html"), WWW[3], CUSTOM],
    ),
]
HUFFMAN = [  # C.4: the same with Huffman coding
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", PLAIN[0][1]),
    ("828684be5886a8eb10649cbf", PLAIN[1][1]),
    ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", PLAIN[2][1]),
]

fields = st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=60)), max_size=8)


def read(reader: BlockReader, block: bytes) -> Headers:
    reader.begin(1, block, end_stream=False)
    return reader.end()


@pytest.mark.parametrize("blocks", [PLAIN, HUFFMAN], ids=["C.3", "C.4"])
def test_requests_of_rfc_7541_are_read(blocks: list[tuple[str, Headers]]) -> None:
    reader = BlockReader(Limits())
    for block, headers in blocks:
        assert read(reader, bytes.fromhex(block)) == headers


def test_literals_of_rfc_7541_are_read() -> None:
    reader = BlockReader(Limits())
    with_indexing = "400a637573746f6d2d6b65790d637573746f6d2d686561646572"  # C.2.1
    never_indexed = "100870617373776f726406736563726574"  # C.2.3
    assert read(reader, bytes.fromhex(with_indexing)) == [(b"custom-key", b"custom-header")]
    assert read(reader, bytes.fromhex(never_indexed)) == [(b"password", b"secret")]
    assert read(reader, b"\xbe") == [(b"custom-key", b"custom-header")]  # index 62: the first


@given(st.lists(fields, max_size=6), st.integers(5, 100))
def test_what_is_written_is_read(sections: list[Headers], max_frame: int) -> None:
    writer = BlockWriter()
    reader = BlockReader(Limits(max_continuations=10_000))
    for headers in sections:
        frames = frames_in(writer.serialize(3, headers, True, max_frame))
        for index, (kind, flags, stream_id, payload) in enumerate(frames):
            first, last = index == 0, index == len(frames) - 1
            assert kind == (FrameType.HEADERS if first else FrameType.CONTINUATION)
            assert stream_id == 3
            assert bool(flags & Flag.END_HEADERS) == last
            assert bool(flags & Flag.END_STREAM) == first
            assert len(payload) == max_frame or last
            if first:
                reader.begin(3, payload, end_stream=True)
            else:
                reader.go_on(payload)
        assert reader.end() == headers
        assert reader.stream_id is None


# -- table sizes --------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.none(), st.integers(0, 10_000))))
def test_our_table_follows_the_peers_settings(steps: list[int | None]) -> None:
    """A number is a HEADER_TABLE_SIZE of the peer's; None a header block of ours. The peer
    refuses a block that does not begin as RFC 7541 section 4.2 says."""
    writer, decoder = BlockWriter(), hpack.Decoder()
    decoder.max_allowed_table_size = 4096
    allowed = smallest = 4096
    for step in [*steps, None]:
        if step is not None:
            writer.limit_table(step)
            allowed = min(step, 4096)
            smallest = min(smallest, allowed)
            continue
        block = frames_in(writer.serialize(1, GET, False, 16384))[0][3]
        shrunk = smallest < decoder.header_table_size
        decoder.max_allowed_table_size = allowed
        assert decoder.decode(block, raw=True) == GET
        assert decoder.header_table_size == allowed
        # The smallest size is signalled with a 3-bit pattern of 001 (section 6.3).
        assert not shrunk or block[0] & 0xE0 == 0x20
        smallest = allowed


def test_a_table_size_set_twice_is_still_announced() -> None:
    writer = BlockWriter()
    writer.limit_table(0)
    writer.limit_table(0)
    block = frames_in(writer.serialize(1, GET, False, 16384))[0][3]
    assert block[:1] == b"\x20"


def test_many_table_sizes_make_two_updates_at_most() -> None:
    writer = BlockWriter()
    for size in [100, 4096, 50, 3000] * 500:
        writer.limit_table(size)
    block = frames_in(writer.serialize(1, [], False, 16384))[0][3]
    assert block == bytes.fromhex("3f13 3f9917")  # 50, then 3000


def test_a_larger_table_is_not_made_use_of() -> None:
    writer = BlockWriter()
    writer.limit_table(2**32 - 1)
    assert frames_in(writer.serialize(1, [], False, 16384))[0][3] == b""


def test_the_peers_table_may_be_as_large_as_we_announced() -> None:
    update_to_8192 = bytes.fromhex("3fe13f")
    reader = BlockReader(Limits())
    with pytest.raises(RemoteProtocolError) as caught:
        read(reader, update_to_8192)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR
    reader = BlockReader(Limits())
    reader.allow_table(8192)
    assert read(reader, update_to_8192 + b"\x82") == [(b":method", b"GET")]


def test_a_peer_that_does_not_shrink_its_table_is_refused() -> None:
    reader = BlockReader(Limits())
    reader.allow_table(100)
    with pytest.raises(RemoteProtocolError) as caught:
        read(reader, b"\x82")
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


# -- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\xbe", b"\x40\x0a", b"\x00\x8fabc"],
    ids=["index 0", "endless integer", "index beyond the table", "cut name", "cut Huffman code"],
)
def test_a_block_that_cannot_be_decoded_breaks_the_connection(block: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="HPACK") as caught:
        read(BlockReader(Limits()), block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_header_bomb_is_refused_while_it_is_decoded() -> None:
    """A field of 4000 octets goes into the table once, then counts for each octet of the block."""
    literal = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000
    with pytest.raises(RemoteProtocolError, match="header list over 32768") as caught:
        read(BlockReader(Limits()), literal + b"\xbe" * 16_000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("update", [b"\x20", b"\x3e", b"\x3f\x00", b"\x3f\xe1\x1f"])
def test_a_block_of_table_size_updates_is_cut_off(update: bytes) -> None:
    """They are no fields, so no header list grows by them; each takes as long as a field."""
    assert read(BlockReader(Limits()), update * 16 + b"\x82") == [(b":method", b"GET")]
    with pytest.raises(RemoteProtocolError, match="table size updates") as caught:
        read(BlockReader(Limits()), update * 17)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_block_is_refused_before_it_is_kept() -> None:
    reader = BlockReader(Limits(max_header_block=100))
    reader.begin(1, bytes(60), end_stream=False)
    with pytest.raises(RemoteProtocolError, match="101 octets or more, allowed: 100") as caught:
        reader.go_on(bytes(41))
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM
    assert len(reader._block) == 60


def test_a_block_in_one_frame_meets_the_same_limit() -> None:
    reader = BlockReader(Limits(max_header_block=100))
    with pytest.raises(RemoteProtocolError, match="101 octets"):
        reader.begin(1, bytes(101), end_stream=False)


def test_continuations_are_counted_however_short() -> None:
    reader = BlockReader(Limits(max_continuations=3))
    reader.begin(1, b"", end_stream=False)
    for _ in range(3):
        reader.go_on(b"")
    with pytest.raises(RemoteProtocolError, match="more than 3 CONTINUATION") as caught:
        reader.go_on(b"")
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@given(st.binary(max_size=300))
def test_any_octets_are_a_section_or_an_error_of_the_connection(block: bytes) -> None:
    reader = BlockReader(Limits())
    error = error_of(lambda: read(reader, block))
    allowed = {None, ErrorCode.COMPRESSION_ERROR, ErrorCode.ENHANCE_YOUR_CALM}
    assert (error and error.code) in allowed


def test_a_field_that_does_not_come_again_stays_out_of_the_table() -> None:
    """So another one, which does come again, is found where it was."""
    writer, decoder = BlockWriter(), hpack.Decoder()
    for number in range(100):
        value = b"%d" % number
        octets = writer.serialize(1, [CUSTOM, once(b"number", value)], False, 1000)
        [(_, _, _, block)] = frames_in(octets)
        assert decoder.decode(block, raw=True) == [CUSTOM, (b"number", value)]
        if number:
            assert block == b"\xbe\x10\x06number" + bytes([len(value)]) + value
